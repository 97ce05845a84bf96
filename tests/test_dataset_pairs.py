"""Pairs of dry and wet: what a render of the whole input would hold, to the bit."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import pyloudnorm
import pytest
from graphs import array, examples, graphs
from hypothesis import assume, given
from hypothesis import strategies as st

import backline
from backline.activations import Activation
from backline.audiofile import AudioWriter
from backline.dataset import plan
from backline.dataset.draws import Draw
from backline.dataset.inputs import open_input
from backline.dataset.pairs import level_of
from backline.errors import AudioFileError, ModelError
from backline.graph import Graph, Knob
from backline.layers import Activate, Add, Conv1d, Lstm
from backline.resample import resample


def write(path, x, rate_hz=48000):
    with AudioWriter(path, rate_hz, x.shape[1], overwrite=True) as writer:
        writer.write(x)
    return path


def whole(model: backline.Model, x: np.ndarray, draw: Draw, frames: int) -> np.ndarray:
    """The segment cut out of one call on the whole input with silence behind it."""
    late = model.latency_frames
    heard = np.pad(x * draw.factor, ((0, late), (0, 0)))
    y = model(heard, **draw.knobs).reshape(len(heard), -1)
    return y[draw.start_frame + late :][:frames]


@pytest.fixture(scope="module")
def lstm() -> backline.Model:
    cells = Lstm("cells", "input", array(1, 16, 1), array(2, 16, 4), array(3, 16))
    head = Conv1d("out", "cells", array(4, 1, 4, 1), None)
    return backline.Model(Graph((cells, head), "input", 1, "out", name="lstm"))


@examples(80)
@given(graph=graphs(), seed=st.integers(0, 999), total=st.integers(1, 1500), data=st.data())
def test_wet_is_the_whole_render_cut(tmp_path_factory, graph, seed, total, data):
    assume(graph.signals[graph.output].rate == 1)
    model = backline.Model(graph)
    frames = data.draw(st.integers(1, total))
    x = array(seed, total, model.input_channels)
    path = write(tmp_path_factory.mktemp("pairs") / "dry.wav", x)
    planned = plan(
        [model], [path], seed=seed, segment_s=frames / 48000, gain_db=(-6, 6), flip=True, warm_up_s=1.0
    )
    assert planned.frames == frames
    with planned.maker() as maker:
        for item in range(3):
            draw = planned.distribution.draw(item)
            pair = maker.make(draw)
            start = draw.start_frame
            assert np.array_equal(pair.dry, x[start : start + frames] * draw.factor)
            assert np.array_equal(pair.wet, whole(model, x, draw, frames))
            field = model.receptive_field_frames
            if field is None or start < field:
                assert pair.heard_frames == start
            else:
                assert pair.heard_frames >= field - 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shipped_model_and_latency(tmp_path, monkeypatch, wavenet_file, channels):
    model = backline.Model(replace(backline.load(wavenet_file).graph))
    monkeypatch.setattr(type(model.program), "latency_frames", property(lambda _: 37))
    x = array(3, 9000, channels)
    planned = plan([model], [write(tmp_path / "dry.wav", x)], segment_s=0.05)
    with planned.maker() as maker:
        for item in range(10):
            draw = planned.distribution.draw(item)
            assert np.array_equal(maker.make(draw).wet, whole(model, x, draw, 2400))


def knobbed(prewarm_frames: int, recurrent: bool = False) -> backline.Model:
    """tanh(conv(x) + drive): settles on something else for each value of the knob."""
    nodes = [
        Conv1d("conv", "x", array(1, 1, 1, 9), array(2, 1)),
        Add("sum", "conv", "drive"),
        Activate("bent", "sum", Activation("tanh")),
    ]
    if recurrent:
        nodes.append(Lstm("out", "bent", array(1, 4, 1), array(2, 4, 1), array(3, 4)))
    else:
        nodes.append(Conv1d("out", "bent", array(4, 1, 1, 50), None))
    knobs = (Knob("drive", 0.5, 0.0, 1.0),)
    graph = Graph(
        tuple(nodes), "x", 1, "out", prewarm_frames=prewarm_frames, knobs=knobs, sample_rate_hz=48000.0
    )
    return backline.Model(graph)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("prewarm_frames", [0, 200])
def test_knobs_are_where_they_were_drawn_also_before_the_first_frame(tmp_path, prewarm_frames, recurrent):
    model = knobbed(prewarm_frames, recurrent)
    x = array(5, 300, 1)
    planned = plan([model], [write(tmp_path / "dry.wav", x)], segment_s=100 / 48000)
    seen = set()
    with planned.maker() as maker:
        for item in range(30):
            draw = planned.distribution.draw(item)
            seen.add(draw.knobs["drive"])
            assert np.array_equal(maker.make(draw).wet, whole(model, x, draw, 100))
    assert len(seen) == 30


def test_a_recurrent_model_hears_as_much_as_asked(tmp_path, lstm):
    x = array(5, 48000, 1)
    planned = plan([lstm], [write(tmp_path / "dry.wav", x)], segment_s=0.1, warm_up_s=0.05)
    draw = Draw(0, 0, 0, 30000, 0.0, False, {})
    with planned.maker() as maker:
        pair = maker.make(draw)
    assert pair.heard_frames == 2400
    assert np.array_equal(pair.wet, lstm(x[27600:34800])[2400:])
    assert "recurrent models hear 0.05 s before each segment" in planned.notes


@pytest.mark.parametrize(
    ("file_hz", "rate_hz"), [(44100, 48000), (96000, 48000), (22050, 48000), (48000, 44100)]
)
def test_another_rate_is_resampled_as_in_the_whole_file(tmp_path, file_hz, rate_hz):
    x = array(5, file_hz, 2)
    expected = resample(x, file_hz, rate_hz)
    source = open_input(write(tmp_path / "dry.wav", x, file_hz)).at_rate(rate_hz)
    assert source.frames == len(expected)
    for start, stop in [(0, 100), (1, 5000), (17001, 20000), (len(expected) - 3000, len(expected) + 50)]:
        found = source.read(start, stop)
        assert found.shape == (stop - start, 2)
        inside = min(stop, len(expected)) - start
        assert np.abs(found[:inside] - expected[start:stop]).max() < 1e-6
        assert not found[inside:].any()


def test_models_hear_the_dataset_s_rate(tmp_path, wavenet_file):
    model = backline.load(wavenet_file)  # at 48 kHz
    x = array(5, 30000, 1)
    planned = plan([model], [write(tmp_path / "dry.wav", x, 44100)], segment_s=0.1)
    assert (planned.rate_hz, planned.frames) == (48000, 4800)
    assert "1 of 1 inputs are resampled to 48000 Hz" in planned.notes
    draw = planned.distribution.draw(0)
    with planned.maker() as maker:
        pair = maker.make(draw)
    expected = whole(model, resample(x, 44100, 48000), draw, 4800)
    assert np.abs(pair.wet - expected).max() < 1e-4


def test_channels_are_chosen(tmp_path, wavenet_file):
    model = backline.load(wavenet_file)
    x = array(5, 9000, 3)
    path = write(tmp_path / "dry.wav", x)
    mono = write(tmp_path / "mono.wav", x[:, :1])
    with pytest.raises(AudioFileError, match=r"mono.wav: has 1 channels, .*dry.wav has 3"):
        plan([model], [path, mono], segment_s=0.1)
    planned = plan([model], [path, mono], segment_s=0.1, channels="1")
    draw = Draw(0, 0, 0, 1000, 0.0, False, {})
    with planned.maker() as maker:
        assert np.array_equal(maker.make(draw).dry, x[1000:5800, :1])


def test_a_file_that_changes_is_noticed(tmp_path, wavenet_file):
    path = write(tmp_path / "dry.wav", array(5, 9000, 1))
    planned = plan([wavenet_file], [path], segment_s=0.1)
    os.utime(path, ns=(1, 1))
    with planned.maker() as maker, pytest.raises(AudioFileError, match="has changed since"):
        maker.make(planned.distribution.draw(0))


def test_what_is_no_number_is_refused(tmp_path):
    model = backline.conv1d(np.full((1, 1, 1), 3e38))
    planned = plan([model], [write(tmp_path / "dry.wav", 9 + array(5, 9000, 1))], segment_s=0.1)
    with planned.maker() as maker, pytest.raises(ModelError, match=r"no finite number .*item 4"):
        maker.make(planned.distribution.draw(4))


def test_levels_are_those_of_their_definitions():
    x = array(5, 48000, 2)
    level = level_of(x, 48000)
    wide = x.astype(np.float64)
    assert level.peak_dbfs == pytest.approx(20 * math.log10(np.abs(wide).max()))
    assert level.rms_dbfs == pytest.approx(10 * math.log10(np.mean(wide**2)))
    assert level.lufs == pytest.approx(pyloudnorm.Meter(48000).integrated_loudness(wide), abs=0.05)
    silent = level_of(np.zeros((100, 1), np.float32), 48000)
    assert (silent.peak_dbfs, silent.rms_dbfs, silent.lufs) == (None, None, None)


def test_short_inputs_are_left_out_and_said(tmp_path, wavenet_file):
    long, short = (write(tmp_path / f"{n}.wav", array(1, n, 1)) for n in (9000, 100))
    planned = plan([wavenet_file], [short, long], segment_s=0.1)
    assert [each.path for each in planned.inputs] == [long]
    assert planned.notes == (f"1 of 2 inputs are shorter than a segment and left out: {short}",)
    with pytest.raises(AudioFileError, match=r"shorter than a segment of 0.1 s, and no input is longer"):
        plan([wavenet_file], [short], segment_s=0.1)


def test_what_has_other_rates_does_not_go_together(tmp_path, wavenet_file):
    graph = backline.load(wavenet_file).graph
    models = [backline.Model(replace(graph, sample_rate_hz=rate)) for rate in (48000.0, 44100.0)]
    path = write(tmp_path / "dry.wav", array(1, 9000, 1))
    with pytest.raises(backline.BacklineError, match=r"one rate: .* is at 48000 Hz, .* at 44100 Hz"):
        plan(models, [path])
    free = backline.conv1d(np.ones((1, 1, 1)))
    other = write(tmp_path / "other.wav", array(1, 9000, 1), 44100)
    with pytest.raises(backline.BacklineError, match=r"one rate: .*dry.wav is at 48000 Hz"):
        plan([free], [path, other])
    assert plan([free], [other], segment_s=0.1).rate_hz == 44100
    assert plan([free, models[0]], [other], segment_s=0.1).rate_hz == 48000
