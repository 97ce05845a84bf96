"""Models at rates other than their own: the filters, what they cost in time, and models stretched instead.

Held against the filters' Fourier transform, SciPy and libsoxr, and sines whose answer is known.
"""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from documents_nam import nam
from graphs import SEEDS, array, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from test_combinations import assert_runs, every_isa, in_pieces

import backline
from backline import passes, rates, reference
from backline.activations import Activation
from backline.engine import Engine, Model, Program
from backline.errors import ModelError
from backline.formats import backline_file
from backline.graph import Graph, Knob, SelfTest
from backline.layers import (
    Add,
    Affine,
    AvgPool1d,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    Crossfade,
    Delay,
    Gru,
    Interleave,
    Lstm,
    MaxPool1d,
    Mix,
    Multiply,
    Node,
    Resample,
    Reshape,
    Upsample,
)
from backline.resample import resample

#: Device and model, and the other way round.
PAIRS = [
    *((44100, 48000), (48000, 96000), (44100, 96000), (44100, 192000), (48000, 22050), (32000, 44100)),
    *((88200, 48000), (192000, 48000), (8000, 192000), (1000, 50000), (11025, 16000), (44100, 88200)),
]
PAIRS += [(b, a) for a, b in PAIRS]
every_pair = pytest.mark.parametrize(("device_hz", "model_hz"), PAIRS)


def wire(model_hz: float = 48000.0, **options) -> Graph:
    return Graph((Affine("y", "x", np.ones(1, np.float32)),), "x", 1, "y", sample_rate_hz=model_hz, **options)


def rms_db(x: np.ndarray) -> float:
    """Against a sine of 1."""
    return float(10 * np.log10(2 * np.mean(np.square(x.astype(np.float64))) + 1e-30))


# The filters


def prototype(taps: np.ndarray) -> np.ndarray:
    """The filter at the grid that a layer's docstring makes phases of."""
    return taps.astype(np.float64)[:, ::-1].T.ravel() / len(taps)


@every_pair
@pytest.mark.parametrize("late", [0, 7])
def test_filters_let_the_band_through_and_nothing_else(device_hz, model_hz, late):
    grid_hz, low_hz = np.lcm(device_hz, model_hz), min(device_hz, model_hz)
    delay = rates.HALF_WIDTH_FRAMES * grid_hz // low_hz + late
    taps = rates.design(device_hz, model_hz, delay)
    assert taps.dtype == np.float32
    assert len(taps) == grid_hz // device_hz
    h = prototype(taps)
    size = 1 << int(np.ceil(np.log2(16 * len(h))))
    magnitudes = np.abs(np.fft.rfft(h, size))
    hz = np.arange(len(magnitudes)) * grid_hz / size
    edge_hz = rates.PASSBAND * low_hz
    passed, stopped = magnitudes[hz <= edge_hz], magnitudes[hz >= low_hz - edge_hz]
    assert np.max(np.abs(20 * np.log10(passed))) < 0.0001  # dB
    assert 20 * np.log10(np.max(stopped)) < -113
    # Linear phase: symmetric about the delay.
    full = np.pad(h, (0, 2 * delay + 1))[: 2 * delay + 1]
    np.testing.assert_array_equal(full, full[::-1])
    assert np.sum(h) == pytest.approx(1, abs=1e-6)


def test_the_delay_is_at_least_half_the_filter():
    np.testing.assert_array_equal(rates.design(44100, 48000), rates.design(44100, 48000, 40 * 160))
    with pytest.raises(ValueError, match="a delay of 6399 frames is too short, expected at least 6400"):
        rates.design(44100, 48000, 40 * 160 - 1)


@pytest.mark.parametrize(
    ("from_hz", "to_hz", "said"),
    [
        (
            48000,
            44056,
            "48000 Hz cannot be resampled to 44056 Hz: as a fraction that is 5507/6000, at most 4096",
        ),
        (96000, 1000, "96000 Hz cannot be resampled to 1000 Hz: one is more than 50 times the other"),
        (1000, 51000, "one is more than 50 times the other"),
        (0, 48000, "a rate of 0 Hz cannot be resampled"),
    ],
)
def test_rates_too_far_apart(from_hz, to_hz, said):
    with pytest.raises(ModelError, match=said):
        rates.design(from_hz, to_hz)
    if from_hz:
        with pytest.raises(ModelError, match=said):
            rates.at_rate(wire(to_hz), from_hz)


# Wrapped


@every_pair
def test_a_sine_comes_back_as_late_as_stated(device_hz, model_hz):
    graph = rates.at_rate(wire(model_hz), device_hz)
    model = Model(graph)
    low_hz = min(device_hz, model_hz)
    # Twice half a filter, of 40 frames of the lower rate, rounded up to whole frames of the device.
    assert model.latency_frames == graph.latency_frames == -(-80 * device_hz // low_hz)
    seconds = np.arange(1000 * device_hz // low_hz) / device_hz
    for part in (0.001, 0.02, 0.25, rates.PASSBAND):
        x = np.sin(2 * np.pi * part * low_hz * seconds)
        y = model(x.astype(np.float32))
        assert y.shape == x.shape
        error = y[graph.latency_frames :] - x[: -graph.latency_frames]
        assert rms_db(error[2 * graph.latency_frames :]) < -100, part


@pytest.mark.parametrize(("device_hz", "model_hz"), [(a, b) for a, b in PAIRS if a > b])
def test_nothing_folds_back(device_hz, model_hz):
    """What the model's rate cannot hold is gone, in every alias, once it is outside the band between."""
    model = Model(rates.at_rate(wire(model_hz), device_hz))
    seconds = np.arange(1000 * device_hz // model_hz) / device_hz
    for hz in ((1 - rates.PASSBAND) * model_hz, 0.7 * model_hz, 0.97 * model_hz):
        if hz < device_hz / 2:
            y = model(np.sin(2 * np.pi * hz * seconds).astype(np.float32))
            assert rms_db(y[2 * model.latency_frames :]) < -110


def test_the_model_in_the_middle_hears_what_scipy_makes():
    """And a linear one's answer goes back as SciPy has it: both filters in float64, taps as designed."""
    x, h = array(1, 1, 900), array(2, 1, 1, 9)
    graph = Graph((Conv1d("y", "x", h),), "x", 1, "y", sample_rate_hz=48000.0)
    found = Model(rates.at_rate(graph, 44100))(x[0])
    into, out_of = prototype(rates.design(44100, 48000)), prototype(rates.design(48000, 44100))
    inside = signal.upfirdn(into * 160, x[0], 160, 147)
    answer = np.convolve(inside, h[0, 0, ::-1].astype(np.float64))
    expected = signal.upfirdn(out_of * 147, answer, 147, 160)[:900]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("device_hz", "model_hz"), [(44100, 48000), (48000, 44100), (96000, 44100)])
@pytest.mark.parametrize("own", [1, 7, 160, 147])
def test_a_model_that_is_late_itself_makes_a_whole_delay(device_hz, model_hz, own):
    """Its own delay, no whole number of the device's frames, is rounded up by a filter that waits."""
    graph = rates.at_rate(
        Graph((Delay("y", "x", own),), "x", 1, "y", sample_rate_hz=model_hz, latency_frames=own), device_hz
    )
    late = Fraction(80 * device_hz, min(device_hz, model_hz)) + Fraction(own * device_hz, model_hz)
    assert graph.latency_frames == -(-late // 1)
    assert f"{graph.latency_frames} frames" in graph.notes[-1]
    assert graph.notes[-1].endswith("later, the model's own latency included")
    x = np.sin(0.9 * np.arange(3000)).astype(np.float32)
    error = Model(graph)(x)[graph.latency_frames :] - x[: -graph.latency_frames]
    assert rms_db(error[2 * graph.latency_frames :]) < -100


@st.composite
def models(draw) -> Graph:
    """Two channels, a knob that is read in every way there is, a stride and its undoing, what recurs."""
    seed, inputs = draw(SEEDS), draw(st.integers(1, 2))
    gru = (array(seed, 6, 2), array(seed + 1, 6, 2), array(seed + 2, 6), array(seed + 3, 6))
    conv = Conv1d(
        "mixed",
        "wide",
        array(seed + 4, 1, 2, 3),
        array(seed + 5, 1),
        dilation=draw(st.integers(1, 9)),
        mix=Mix("k", array(seed + 6, 1, 1)),
        activation=Activation("tanh"),
        residual="k",
        skip="k",
        skip_output="sum",
    )
    nodes: tuple[Node, ...] = (
        Conv1d("wide", "x", array(seed + 7, 2, inputs, 2), array(seed + 8, 2)),
        conv,
        Add("steered", "k", "mixed"),
        Crossfade("faded", "steered", "sum", "k"),
        Concat("both", ("k", "faded")),
        MaxPool1d("low", "both", 2, 2),
        Upsample("held", "low", 2),
        Multiply("gained", "held", "k"),
        Gru("y", "gained", *gru),
    )
    return Graph(
        nodes,
        "x",
        inputs,
        draw(st.sampled_from(["y", "k", "both", "x"])),
        knobs=(Knob("unread", 0.0, 0.0, 1.0), Knob("k", 0.25, -1.0, 1.0, 5.0)),
        sample_rate_hz=draw(st.sampled_from([44100.0, 48000.0, 96000.0])),
        prewarm_frames=draw(st.sampled_from([0, 33])),
        latency_frames=draw(st.sampled_from([0, 5])),
    )


DEVICE_RATES = st.sampled_from([22050, 44100, 48000, 88200, 96000])


@every_isa
@given(graph=models(), device_hz=DEVICE_RATES, levels=st.booleans(), data=st.data())
@examples(20)
def test_wrapped_models_run_as_the_reference_does_in_any_blocks(isa, graph, device_hz, levels, data):
    wrapped = rates.at_rate(graph, device_hz)
    assert wrapped.signals[wrapped.output].rate == 1
    assert_runs(passes.with_levels(wrapped) if levels else wrapped, isa, data)


@every_isa
@given(model_hz=DEVICE_RATES, device_hz=DEVICE_RATES, seed=SEEDS, data=st.data())
@examples(10)
def test_blocks_change_no_bit(isa, model_hz, device_hz, seed, data):
    graph = Graph(
        (
            Conv1d("c", "x", array(1, 3, 1, 3), array(2, 3), dilation=40, activation=Activation("tanh")),
            Lstm("y", "c", array(3, 8, 3), array(4, 8, 2), array(5, 8)),
        ),
        "x",
        1,
        "y",
        sample_rate_hz=float(model_hz),
        prewarm_frames=500,
    )
    program = Program(passes.with_levels(rates.at_rate(graph, device_hz)), isa)
    x = array(seed, 1, 5000)
    sizes = data.draw(st.lists(st.integers(1, 700), min_size=3, max_size=30))
    edges = [edge for edge in np.cumsum([0, *sizes]).tolist() if edge < 5000]
    with Engine(program, 1) as engine:
        whole = engine.process(x)
        engine.reset()
        pieces = in_pieces(engine, x, [b - a for a, b in pairwise([*edges, 5000])])
    np.testing.assert_array_equal(pieces, whole)


@given(graph=models(), device_hz=DEVICE_RATES, seed=SEEDS)
@examples(20)
def test_every_block_is_about_the_same_work(graph, device_hz, seed):
    """Frames of each signal in blocks of 64 differ by one at most."""
    wrapped = rates.at_rate(graph, device_hz)
    for made in wrapped.signals.values():
        counts = {made.frames(64 * b + 64) - made.frames(64 * b) for b in range(400)}
        assert max(counts) - min(counts) <= 1


def test_knobs_go_at_the_devices_rate():
    """A knob ramps in the device's frames and is held at the model's."""
    nodes = (Multiply("y", "x", "gain"),)
    graph = Graph(nodes, "x", 1, "y", (Knob("gain", 1.0, 0.0, 2.0, 10.0),), sample_rate_hz=48000.0)
    wrapped = rates.at_rate(graph, 44100)
    assert [knob.name for knob in wrapped.knobs] == ["gain"]
    x = np.ones((1, 3000), np.float32)
    with Engine(Program(wrapped), 1) as engine:
        engine.process(x[:, :1000])
        engine.set("gain", 0.0)
        found = engine.process(np.ascontiguousarray(x[:, 1000:]))[0]
    turned = np.ones(3000)
    turned[1000:] = np.clip(1 - np.arange(2000) / 441, 0, 1)
    # The ramp, held from frame to frame of the model and late by half of the filter behind it.
    np.testing.assert_allclose(found[80:400], turned[1040:1360], rtol=0, atol=0.003)
    np.testing.assert_allclose(found, reference.run(wrapped, x, {"gain": turned})[0, 1000:], atol=2e-6)
    np.testing.assert_allclose(found[441 + 90 :], 0, atol=1e-6)


def test_the_bypass_is_as_late_as_model_and_filters():
    model = Model(passes.with_levels(rates.at_rate(wire(latency_frames=3), 44100)))
    x = array(3, 900)
    late = model.latency_frames
    np.testing.assert_array_equal(model(x, bypass=1.0)[late:], x[:-late])
    assert not model(x, bypass=1.0)[:late].any()


def test_levels_at_their_defaults_change_no_bit(wavenet_file):
    wrapped = rates.at_rate(backline.load(wavenet_file).graph, 44100)
    x = array(4, 2000)
    np.testing.assert_array_equal(Model(passes.with_levels(wrapped))(x), Model(wrapped)(x))


def test_a_file_can_hold_a_wrapped_model(wavenet_file):
    wrapped = rates.at_rate(backline.load(wavenet_file).graph, 44100)
    again = backline_file.decode(backline_file.encode(wrapped))
    x = array(4, 2000)
    np.testing.assert_array_equal(Model(again)(x), Model(wrapped)(x))
    assert again.notes == wrapped.notes


@pytest.mark.parametrize("device_hz", [22050, 44100, 96000])
def test_silence_is_settled_from_the_first_frame(wavenet_file, device_hz):
    """The last filter has heard nothing but the settled model by then."""
    graph = backline.load(wavenet_file).graph
    assert graph.prewarm_frames > 0
    y = Model(rates.at_rate(graph, device_hz))(np.zeros(1000, np.float32))
    settled = Model(graph)(np.zeros(10, np.float32))[-1]
    assert abs(settled) > 1e-3
    np.testing.assert_allclose(y, settled, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("device_hz", "model_hz"), [(44100, 48000), (48000, 44100), (96000, 48000)])
def test_the_receptive_field_is_in_the_devices_frames(device_hz, model_hz):
    """One frame is heard until so many have been read since, itself included."""
    graph = Graph((Conv1d("y", "x", np.ones((1, 1, 301), np.float32)),), "x", 1, "y", sample_rate_hz=model_hz)
    wrapped = rates.at_rate(graph, device_hz)
    field = wrapped.receptive_field_frames
    program, heard = Program(wrapped), 0
    for late in range(100, 260):
        pulse = np.zeros((1, late + field + 10), np.float32)
        pulse[0, late] = 1e30  # the ends of the filters are small
        with Engine(program, 1) as engine:
            heard = max(heard, int(np.flatnonzero(engine.process(pulse)[0]).max()) - late + 1)
    assert field - 3 <= heard <= field
    lower_hz = min(device_hz, model_hz)
    assert field == pytest.approx(300 * device_hz / model_hz + 160 * device_hz / lower_hz, abs=4)


@pytest.fixture
def lstm_file(tmp_path: Path) -> Path:
    """A seeded LSTM of two layers of eight, large enough to bend what it hears."""
    weights = array(7, 4 * 8 * (10 + 17) + 2 * 2 * 8 + 9).tolist()
    config = {"input_size": 1, "hidden_size": 8, "num_layers": 2}
    path = tmp_path / "lstm.nam"
    path.write_text(json.dumps(nam("LSTM", config, 0) | {"weights": weights, "sample_rate": 48000}))
    return path


@pytest.mark.parametrize("device_hz", [44100, 96000])
@pytest.mark.parametrize("name", ["wavenet_file", "lstm_file"])
def test_live_is_as_offline(request, name, device_hz):
    """Resampled by libsoxr over the whole signal, run, and resampled back: below 18 kHz the same.

    Both hear the signal half a filter, a whole number of the device's frames, later: the model's frames are
    then at the same instants, on which it depends what it folds back.
    """
    graph = backline.load(request.getfixturevalue(name)).graph
    noise = np.random.default_rng(5).standard_normal(device_hz)
    x = signal.sosfilt(signal.butter(8, [60, 6000], "bandpass", fs=device_hz, output="sos"), noise)
    x = (x * np.hanning(len(x))).astype(np.float32)
    half = 40 * device_hz // min(device_hz, 48000)
    offline = resample(Model(graph)(resample(np.pad(x, (half, 0)), device_hz, 48000)), 48000, device_hz)
    found = Model(rates.at_rate(graph, device_hz))(x)[half:]
    low = signal.firwin(1001, 18000, fs=device_hz, window=("kaiser", 14.0))
    heard, error = (np.convolve(v, low, "valid") for v in (found, found - offline[: len(found)]))
    level_db = rms_db(heard - np.mean(heard))
    assert level_db > -40
    assert rms_db(error) - level_db < -90


def test_what_is_wrapped_says_so():
    test = SelfTest("x", "y", array(1, 1, 4), array(2, 1, 4))
    graph = wire(notes=("one",), self_tests=(test,), prewarm_frames=100, metadata={"a": 1}, name="amp")
    wrapped = rates.at_rate(graph, 44100.0)
    note = "runs at 48000 Hz inside; resampled from and to 44100 Hz, 80 frames (1.8 ms) later"
    assert wrapped.notes == ("one", note)
    assert (wrapped.sample_rate_hz, wrapped.self_tests, wrapped.name) == (44100.0, (), "amp")
    # 100 frames, and 88 that the last filter looks back on, in frames of the device.
    assert wrapped.prewarm_frames == -(-188 * 147 // 160)
    # 160 phases of 80 taps, 147 of 88.
    assert wrapped.multiply_adds_per_frame == pytest.approx(80 * 160 / 147 + 160 / 147 + 88)


def test_a_model_at_its_own_rate_or_at_none_stays_as_it_is():
    graph, rateless = wire(), Graph((), "x", 1, "x")
    assert rates.at_rate(graph, 48000) is graph
    assert rates.at_rate(rateless, 44100) is rateless
    assert rates.oversampled(graph, 1) is graph


@pytest.mark.parametrize(
    ("graph", "rate_hz", "said"),
    [
        (wire(), 44100.5, "a rate of 44100.5 Hz cannot be resampled, expected a whole number"),
        (wire(), float("nan"), "a rate of nan Hz cannot be resampled"),
        (wire(47999.5), 44100, "a rate of 47999.5 Hz cannot be resampled"),
        (Graph((Upsample("y", "x", 2),), "x", 1, "y", (), 48000.0), 44100, "puts out 2 frames per frame of"),
    ],
)
def test_what_cannot_be_wrapped(graph, rate_hz, said):
    with pytest.raises(ModelError, match=said):
        rates.at_rate(graph, rate_hz)


# Stretched


@given(graph=graphs(), factor=st.integers(2, 5), seed=SEEDS, held=st.booleans())
@examples(80)
def test_every_nth_frame_goes_its_own_way(graph, factor, seed, held):
    """Of frames held, the answers are held; of frames among silence, they are among answers to silence."""
    kept = (Lstm, Gru, Upsample, Interleave, Resample)
    stuck = [n for n in graph.nodes if isinstance(n, kept) or getattr(n, "stride", 1) != 1]
    if stuck:
        with pytest.raises(ModelError, match=r"cannot be stretched in time") as caught:
            rates.oversampled(graph, factor)
        assert str(caught.value).startswith(f"{stuck[0].output}: ")
        return
    stretched = rates.oversampled(graph, factor)
    assert stretched.prewarm_frames == factor * graph.prewarm_frames
    x = array(seed, graph.input_channels, 120)
    own, silent = (Model(graph)(np.ascontiguousarray(v.T)) for v in (x, np.zeros_like(x)))
    fast = np.repeat(x, factor, axis=1)
    expected = np.repeat(own, factor, axis=0)
    if not held:
        fast[:, np.arange(fast.shape[1]) % factor > 0] = 0
        expected = np.where(
            (np.arange(len(expected)) % factor > 0).reshape(-1, *[1] * (own.ndim - 1)),
            np.repeat(silent, factor, axis=0),
            expected,
        )
    np.testing.assert_array_equal(Model(stretched)(np.ascontiguousarray(fast.T)), expected)


@st.composite
def timed(draw) -> Graph:
    """What counts frames: pools, delays and what begins late, of one feature and of several."""
    seed, start = draw(SEEDS), draw(st.integers(-9, 30))
    kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    nodes: tuple[Node, ...] = (
        Delay("late", "x", draw(st.integers(0, 40)), start),
        MaxPool1d("most", "late", kernel, 1, dilation, start),
        AvgPool1d("mean", "most", kernel, dilation=dilation),
        ConvTranspose1d("turned", "mean", array(seed, 2, 1, kernel), array(seed + 1, 2), 2, dilation),
        Reshape("spectrum", "turned", 1, 2),
        Conv2d("y", "spectrum", array(seed + 2, 2, 1, kernel, 2), dilation=dilation),
    )
    prewarm = draw(st.sampled_from([0, 50]))
    return Graph(nodes, "x", 2, "y", sample_rate_hz=48000.0, prewarm_frames=prewarm, latency_frames=3)


@given(graph=timed(), factor=st.integers(2, 4), seed=SEEDS)
@examples(30)
def test_times_are_stretched(graph, factor, seed):
    stretched = rates.oversampled(graph, factor)
    assert (stretched.latency_frames, stretched.sample_rate_hz) == (3 * factor, 48000.0 * factor)
    note = f"runs at {48000 * factor} Hz, {factor} times its own rate, stretched in time"
    assert stretched.notes == (note,)
    x = array(seed, 2, 100)
    found = reference.run(stretched, np.repeat(x, factor, axis=1))
    np.testing.assert_array_equal(found, np.repeat(reference.run(graph, x), factor, axis=1))
    assert stretched.receptive_field_frames == (graph.receptive_field_frames - 1) * factor + 1


def test_a_stretched_filter_answers_frequencies_as_it_does_at_its_own_rate():
    h = signal.firwin(31, 6000, fs=48000).astype(np.float32)
    graph = Graph((Conv1d("y", "x", h[None, None]),), "x", 1, "y", sample_rate_hz=48000.0)
    pulse = np.zeros(31 * 3, np.float32)
    pulse[0] = 1
    fast = np.fft.rfft(Model(rates.oversampled(graph, 3))(pulse).astype(np.float64), 3 * 4096)
    own = np.fft.rfft(Model(graph)(pulse).astype(np.float64), 4096)
    np.testing.assert_allclose(fast[: len(own)], own, atol=1e-6)


def test_a_stretched_amp_folds_less_back(wavenet_file):
    """A loud sine of 7 kHz: its fifth harmonic, 35 kHz, is heard at 13 kHz only where the rate is 48 kHz."""
    graph = backline.load(wavenet_file).graph
    levels = []
    for factor in (1, 2):
        x = 0.8 * np.sin(2 * np.pi * 7000 / (48000 * factor) * np.arange(48000 * factor))
        y = Model(rates.oversampled(graph, factor))(x.astype(np.float32))[24000 * factor :]
        lines = np.abs(np.fft.rfft(y * np.blackman(len(y)))) / np.sum(np.blackman(len(y)) / 2)
        levels.append(20 * np.log10(lines[[7000 // 2, 13000 // 2]]))
    own, stretched = levels
    assert stretched[0] == pytest.approx(own[0], abs=0.05)
    assert stretched[1] < own[1] - 30


def test_a_stretched_amp_is_the_same_amp(wavenet_file):
    """Sines that it bends little, at twice the rate, and what it makes of them at its own rate: the same."""
    graph = backline.load(wavenet_file).graph
    seconds = np.arange(2 * 48000) / 96000
    fast = 0.1 * sum(np.sin(2 * np.pi * hz * seconds + hz) for hz in (110.0, 440.0, 1319.0))
    found = Model(rates.oversampled(graph, 2))(fast.astype(np.float32))
    own = Model(graph)(fast[::2].astype(np.float32))
    np.testing.assert_array_equal(found[::2], own)
    # And in between, below 10 kHz, it is what lies between those, but for what folds back at the lower rate.
    low = signal.firwin(1001, 10000, fs=96000, window=("kaiser", 14.0))
    between = resample(own, 48000, 96000)[2000:-2000]
    error = np.convolve(found[2000:-2000] - between, low, "valid")
    assert rms_db(error) - rms_db(between - np.mean(between)) < -55


def test_oversampling_at_the_models_own_rate(wavenet_file):
    """Both together: up by two, stretched, down by two."""
    graph = rates.oversampled(backline.load(wavenet_file).graph, 2)
    wrapped = rates.at_rate(graph, 48000)
    x = (0.1 * np.sin(2 * np.pi * 440 / 48000 * np.arange(9600))).astype(np.float32)
    found = Model(wrapped)(x)[wrapped.latency_frames :]
    own = Model(backline.load(wavenet_file).graph)(x)[: len(found)]
    assert rms_db(found[500:] - own[500:]) - rms_db(own - np.mean(own)) < -60


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (Conv1d("a", "x", np.ones((1, 1, 2), np.float32), stride=2), "a: a stride of 2 cannot be stretched"),
        (MaxPool1d("a", "x", 2, 2), "a: a stride of 2 cannot"),
        (Upsample("a", "x", 2), "a: Upsample layers cannot"),
        (Lstm("a", "x", array(1, 4, 1), array(2, 4, 1), array(3, 4)), "a: Lstm layers cannot"),
        (Delay("a", "x", 1 << 23), "a: delay in frames is 33554432"),
    ],
)
def test_what_cannot_be_stretched(node, said):
    with pytest.raises(ModelError, match=said):
        rates.oversampled(Graph((node,), "x", 1, "a"), 4)


@pytest.mark.parametrize("factor", [0, -1, 1.5])
def test_factors_are_whole(factor):
    with pytest.raises(ModelError, match="factor is"):
        rates.oversampled(wire(), factor)
