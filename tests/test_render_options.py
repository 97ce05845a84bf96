"""What can be asked of a render, each against a formula."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import backline
from backline.activations import Activation
from backline.audiofile import AudioWriter, read
from backline.dither import triangular
from backline.errors import AudioFileError, BacklineError
from backline.graph import Graph
from backline.layers import Activate, Conv1d, Lstm, Upsample
from backline.render import RenderOptions, RenderReport, render_file
from backline.resample import resample

RATE_HZ = 48000


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((frames, channels))).astype(np.float32)


def fir(taps: np.ndarray, rate_hz: float | None = None) -> backline.Model:
    """A filter as a model: tap 0 meets the newest frame."""
    weight = np.asarray(taps, np.float32)[np.newaxis, np.newaxis, ::-1]
    node = Conv1d("y", "x", np.ascontiguousarray(weight), None)
    return backline.Model(Graph((node,), "x", 1, "y", name="filter", sample_rate_hz=rate_hz))


def lstm(forget: float) -> backline.Model:
    """One unit whose cell keeps `forget` of itself each frame and takes up a tenth of tanh of the input."""
    logit = math.log(forget / (1.0 - forget))
    w_ih = np.array([[0.0], [0.0], [1.0], [0.0]], np.float32)
    bias = np.array([-2.2, logit, 0.0, 20.0], np.float32)
    node = Lstm("y", "x", w_ih, np.zeros((4, 1), np.float32), bias)
    return backline.Model(Graph((node,), "x", 1, "y", name="lstm"))


class Renders:
    """Renders a signal through files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, model: backline.Model, x: np.ndarray, file_hz: int = RATE_HZ, target: str = "out.wav", **options
    ) -> tuple[np.ndarray, RenderReport]:
        source = self.folder / "in.wav"
        with AudioWriter(source, file_hz, x.shape[1], overwrite=True, subtype="FLOAT") as writer:
            writer.write(x)
        threads = options.pop("threads", 1)
        report = render_file(
            model, source, self.folder / target, RenderOptions(**options), overwrite=True, threads=threads
        )
        y, found_hz = read(self.folder / target)
        assert found_hz == report.rate_hz
        assert len(y) == report.frames
        return y, report


@pytest.fixture
def render(tmp_path) -> Renders:
    return Renders(tmp_path)


IDENTITY = fir([1.0])

# ------------------------------------------------------------------------------------------------- the tail


def test_a_tail_lasts_as_long_as_it_sounds(render):
    """An echo after 0.3 s is waited for, what comes after it is not."""
    taps = np.zeros(30001)
    taps[0], taps[14400] = 1.0, 0.5
    taps[30000] = 1e-6  # -120 dBFS at full scale
    x = noise(20000)
    y, _ = render(fir(taps), x)
    expected = np.concatenate([x[:, 0], np.zeros(14400)]) + np.concatenate([np.zeros(14400), 0.5 * x[:, 0]])
    assert len(expected) <= len(y) < len(expected) + 480
    assert np.allclose(y[: len(expected), 0], expected, atol=1e-6)


def test_a_take_that_ends_in_silence_gets_no_tail(render):
    x = np.concatenate([noise(1000), np.zeros((5000, 1), np.float32)])
    y, _ = render(fir(np.ones(100)), x)
    assert len(y) == 6000


@pytest.mark.parametrize("tail_s", [0.0, 0.01, 1.5])
def test_a_tail_of_a_given_length(render, tail_s):
    model = fir(np.ones(1000))
    x = noise(5000)
    y, _ = render(model, x, tail_s=tail_s)
    padded = np.concatenate([x, np.zeros((round(tail_s * RATE_HZ), 1), np.float32)])
    assert np.array_equal(y, model(padded))


def test_the_tail_of_a_model_with_feedback(render):
    """It falls by the cell's decay until it is below -90 dBFS, and half a second of that is cut off again."""
    model = lstm(0.9998)
    x = np.full((4800, 1), 0.5, np.float32)
    y, _ = render(model, x)
    long = model(np.concatenate([x, np.zeros((20 * RATE_HZ, 1), np.float32)]))
    assert np.array_equal(y, long[: len(y)])
    windows = np.ptp(long[4800:].reshape(-1, 480), axis=1)
    silent = 4800 + 480 * (1 + int(np.flatnonzero(windows > 10 ** (-90 / 20))[-1]))
    assert len(y) == silent


def test_a_model_that_never_falls_silent_is_cut(render):
    """An oscillator: its output is a tone of its own."""
    turn = 0.5
    c, s = math.cos(turn), math.sin(turn)
    from backline.layers import Gru

    # h' = n + z (h - n) with z = 0: n = tanh(w_hh h), a rotation that keeps to a limit cycle.
    w_hh = np.zeros((6, 2), np.float32)
    w_hh[4:] = 1.2 * np.array([[c, -s], [s, c]])
    bias_ih = np.array([20, 20, -20, -20, 0.01, 0], np.float32)
    gru = Gru("h", "x", np.zeros((6, 1), np.float32), w_hh, bias_ih, np.zeros(6, np.float32))
    head = Conv1d("y", "h", np.array([[[0.1], [0.0]]], np.float32), None)
    model = backline.Model(Graph((gru, head), "x", 1, "y", name="hum"))
    y, _ = render(model, noise(1000))
    assert np.ptp(y[-480:]) > 0.01
    assert len(y) == pytest.approx(1000 + 10 * RATE_HZ, abs=480)


# ------------------------------------------------------------------------------------ levels and the mix


@pytest.mark.parametrize("mix", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("threads", [1, 2])
def test_mix(render, mix, threads):
    model = fir([0.0] * 50 + [1.0])
    x = noise(30000, 2)
    y, _ = render(model, x, mix=mix, gain_db=-6.0, tail_s=0.0, threads=threads)
    expected = 10 ** (-6 / 20) * (mix * model(x).astype(np.float64) + (1 - mix) * x)
    assert np.allclose(y, expected, atol=1e-7)


def test_what_is_mixed_is_in_time_through_resamplers(render):
    """An identity at another rate, subtracted from itself, leaves next to nothing."""
    t = np.arange(44100) / 44100
    x = (0.5 * np.sin(2 * np.pi * 1000 * t) * np.hanning(44100)).astype(np.float32)[:, np.newaxis]
    y, _ = render(fir([-1.0], 48000.0), x, 44100, mix=0.5, tail_s=0.0)
    assert np.abs(y).max() < 1e-5
    y, _ = render(fir([1.0], 48000.0), x, 44100, mix=0.5, rate_hz=96000, tail_s=0.0)
    assert np.abs(y - resample(x, 44100, 96000)).max() < 1e-5


@pytest.mark.parametrize("mix", [1.0, 0.5])
def test_latency_is_out_of_the_mix_too(render, monkeypatch, mix):
    model = fir([0.0] * 700 + [1.0])
    monkeypatch.setattr(backline.Model, "latency_frames", 700)
    x = noise(40000)
    y, _ = render(model, x, mix=mix, tail_s=0.0)
    assert np.allclose(y, x, atol=1e-7)


@pytest.mark.parametrize("level", [-1.0, -12.5])
def test_normalize_peak(render, level):
    y, report = render(IDENTITY, noise(20000, 2), normalize=f"peak:{level}")
    assert np.abs(y).max() == pytest.approx(10 ** (level / 20), rel=1e-6)
    assert report.peak_dbfs == pytest.approx(level, abs=1e-4)
    assert "normalised by " in str(report)


def test_normalize_loudness(render):
    y, report = render(IDENTITY, noise(96000, 2), normalize="lufs:-23")
    assert pyloudnorm.Meter(RATE_HZ).integrated_loudness(y.astype(np.float64)) == pytest.approx(-23, abs=0.05)
    assert report.lufs == pytest.approx(-23, abs=0.05)


@pytest.mark.parametrize("kind", ["peak", "lufs"])
def test_silence_cannot_be_normalised(render, kind):
    y, report = render(IDENTITY, np.zeros((96000, 1), np.float32), normalize=kind)
    assert not y.any()
    assert "not normalised: silent" in str(report)


# --------------------------------------------------------------------------- channels, rates and parts


@pytest.mark.parametrize(
    ("channels", "made"),
    [
        ("1", lambda x: x[:, :1]),
        ("3", lambda x: x[:, 2:]),
        ("2,1", lambda x: x[:, [1, 0]]),
        ("2,2", lambda x: x[:, [1, 1]]),
        ("1+3", lambda x: x[:, [0, 2]].mean(axis=1, keepdims=True, dtype=np.float64)),
        ("mono", lambda x: x.mean(axis=1, keepdims=True, dtype=np.float64)),
    ],
)
def test_channels(render, channels, made):
    x = noise(1000, 3)
    y, _ = render(IDENTITY, x, channels=channels, tail_s=0.0)
    assert np.array_equal(y, made(x).astype(np.float32))


@pytest.mark.parametrize(
    ("channels", "says"),
    [
        ("4", "no channel 4, the file has 3"),
        ("0", "no channel 0, they are counted from 1"),
        *((text, "expected a list") for text in ("a", "", "1,,2", "1+")),
    ],
)
def test_channels_that_are_none(render, channels, says):
    with pytest.raises(BacklineError, match=f"channels: .*{says}"):
        render(IDENTITY, noise(10, 3), channels=channels)


@pytest.mark.parametrize("rate_hz", [44100, 96000, 48000])
def test_the_output_at_another_rate(render, rate_hz):
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    x = (0.5 * np.sin(2 * np.pi * 997 * t) * np.hanning(len(t))).astype(np.float32)[:, np.newaxis]
    y, report = render(IDENTITY, x, rate_hz=rate_hz, tail_s=0.0)
    assert report.rate_hz == rate_hz
    assert len(y) == 2 * rate_hz
    again = signal.resample(y[:, 0].astype(np.float64), len(x))
    assert np.abs(again - x[:, 0]).max() < 1e-4


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("start_s", "duration_s"), [(0.0, 0.1), (0.05, None), (0.5, 0.25), (0.999, 5.0)])
def test_a_part_of_a_file_is_that_part_of_the_whole(render, start_s, duration_s, threads):
    model = fir(np.random.default_rng(3).standard_normal(3000) / 50)
    x = noise(RATE_HZ)
    y, _ = render(model, x, start_s=start_s, duration_s=duration_s, tail_s=0.0, threads=threads)
    first = round(start_s * RATE_HZ)
    last = len(x) if duration_s is None else min(len(x), first + round(duration_s * RATE_HZ))
    assert np.array_equal(y, model(x)[first:last])


@pytest.mark.parametrize("start", [1, 7, 100, 6001, 6003])
def test_a_part_of_what_a_model_with_slower_rates_inside_makes(render, start):
    down = Conv1d("a", "x", np.array([[[0.5, -0.25, 1.0, 0.125]]], np.float32), None, stride=6)
    model = backline.Model(Graph((down, Upsample("y", "a", 6)), "x", 1, "y", name="held"))
    x = noise(8000)
    y, _ = render(model, x, start_s=start / RATE_HZ, tail_s=0.0)
    assert np.array_equal(y, model(x)[start:])


@pytest.mark.parametrize("start", [3, 4800, 4801, 4802, 4803])
def test_a_part_begins_anywhere_though_the_model_strides(render, start):
    nodes = (
        Conv1d("h", "x", np.ascontiguousarray(noise(8, 8).T[:, np.newaxis]), None, stride=4),
        Upsample("y", "h", 4),
        Conv1d("z", "y", np.ones((1, 8, 1), np.float32), None),
    )
    model = backline.Model(Graph(nodes, "x", 1, "z", name="strides"))
    x = noise(12000)
    y, _ = render(model, x, start_s=start / RATE_HZ, duration_s=0.1, tail_s=0.0)
    assert np.array_equal(y, model(x)[start : start + len(y)])


@pytest.mark.parametrize("start_s", [0.1, 0.5, 0.300003])
def test_a_part_through_resamplers_is_that_part_of_the_whole(render, start_s):
    """What a model makes of aliases depends on where its frames are: they are where the whole file's are."""
    nodes = (
        Conv1d("h", "x", np.full((1, 1, 1), 30.0, np.float32), None),
        Activate("y", "h", Activation("tanh")),
    )
    model = backline.Model(Graph(nodes, "x", 1, "y", name="loud", sample_rate_hz=RATE_HZ))
    x = noise(44100)
    whole, _ = render(model, x, 44100, tail_s=0.0)
    y, _ = render(model, x, 44100, start_s=start_s, duration_s=0.2, tail_s=0.0)
    first, inner = round(start_s * 44100), slice(0, -1000)  # the end's resampler hears silence
    assert np.abs(y[inner] - whole[first : first + len(y)][inner]).max() < 1e-4


def test_a_model_with_feedback_hears_what_is_before_the_part(render):
    x = noise(12 * RATE_HZ)
    model = lstm(0.999)
    y, report = render(model, x, start_s=9.0, tail_s=0.0)
    assert np.array_equal(y, model(x)[9 * RATE_HZ :])
    assert "before the start" not in str(report)
    y, report = render(model, x, start_s=11.0, tail_s=0.0)
    assert np.array_equal(y, model(x[RATE_HZ:])[10 * RATE_HZ :])
    assert "the model heard 10 s before the start" in str(report)


@pytest.mark.parametrize("start_s", [0.3, 0.70001])
def test_a_part_is_in_time_through_resamplers(render, start_s):
    t = np.arange(RATE_HZ) / RATE_HZ
    x = (0.5 * np.sin(2 * np.pi * 300 * t)).astype(np.float32)[:, np.newaxis]
    y, _ = render(fir([1.0], 44100.0), x, start_s=start_s, duration_s=0.1, rate_hz=96000, tail_s=0.0)
    at = round(start_s * RATE_HZ) / RATE_HZ + np.arange(len(y)) / 96000
    inner = slice(100, -100)
    assert len(y) == 9600
    assert np.abs(y[inner, 0] - 0.5 * np.sin(2 * np.pi * 300 * at[inner])).max() < 1e-3


def test_what_is_said_of_a_model_that_remembers_for_longer_than_a_part(render):
    report = render(backline.conv1d(np.ones((1, 1, 2)), dilation=1 << 18), noise(9), threads=4)[1]
    assert "a model with so long a memory runs on one core for each channel" in report.notes
    report = render(lstm(0.5), noise(9), threads=4, tail_s=0.0)[1]
    assert "a recurrent model runs on one core for each channel" in report.notes


def test_a_start_after_the_end(render):
    with pytest.raises(AudioFileError, match=r"is 1\.00 s long, cannot start at 1 s"):
        render(IDENTITY, noise(RATE_HZ), start_s=1.0)


# ------------------------------------------------------------------------------------- how it is stored


@given(first=st.integers(0, 10**7), frames=st.integers(0, 5000), cut=st.integers(0, 5000))
@settings(max_examples=30, deadline=None)
def test_dither_depends_on_the_place_alone(first, frames, cut):
    whole = triangular(first, frames, 2)
    cut = min(cut, frames)
    assert np.array_equal(
        whole, np.concatenate([triangular(first, cut, 2), triangular(first + cut, frames - cut, 2)])
    )


def test_dither_is_triangular_and_white():
    drawn = triangular(0, 1 << 18, 2)
    # The difference of two uniform numbers: variance 1/6, and what lies beyond 1/2 is a quarter of all.
    assert np.var(drawn) == pytest.approx(1 / 6, rel=0.01)
    assert np.mean(drawn) == pytest.approx(0.0, abs=0.003)
    assert np.mean(np.abs(drawn) > 0.5) == pytest.approx(0.25, abs=0.005)
    assert np.abs(drawn).max() < 1.0
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.01
    assert abs(np.corrcoef(drawn[1:, 0], drawn[:-1, 0])[0, 1]) < 0.01


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24), ("PCM_U8", 8)])
def test_narrower_samples_are_dithered(render, subtype, bits):
    """A tone of a quarter of the last bit survives; without dither it is gone."""
    lsb = 2.0 ** (1 - bits)
    t = np.arange(RATE_HZ)
    tone = np.sin(2 * np.pi * t / 48)
    x = (0.25 * lsb * tone).astype(np.float32)[:, np.newaxis]
    y, report = render(IDENTITY, x, subtype=subtype, tail_s=0.0)
    assert 2 * np.mean(y[:, 0] * tone) == pytest.approx(0.25 * lsb, rel=0.05)
    assert f"written as WAV {subtype}, dithered" in str(report)
    y, report = render(IDENTITY, x, subtype=subtype, dither=False, tail_s=0.0)
    assert not y.any()
    assert "dithered" not in str(report)


def test_tags_are_kept_and_other_losses_named(tmp_path):
    with soundfile.SoundFile(tmp_path / "in.wav", "w", 48000, 1, "PCM_16") as file:
        file.title, file.artist, file.comment = "Riff", "Somebody", "take 3"
        file.write(np.zeros(100))
    data = (tmp_path / "in.wav").read_bytes()
    cue = b"cue " + (28).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(24)
    data = data[:4] + (len(data) - 8 + len(cue)).to_bytes(4, "little") + data[8:] + cue
    (tmp_path / "in.wav").write_bytes(data)
    report = render_file(IDENTITY, tmp_path / "in.wav", tmp_path / "out.flac")
    with soundfile.SoundFile(tmp_path / "out.flac") as file:
        assert (file.title, file.artist, file.comment) == ("Riff", "Somebody", "take 3")
    assert "not kept: cue points" in str(report)
    report = render_file(IDENTITY, tmp_path / "in.wav", tmp_path / "out.w64")
    assert "tag title" in str(report)


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mix": 1.1}, "mix: expected a number from 0 to 1, found 1.1"),
        ({"mix": math.nan}, "mix: "),
        ({"start_s": -1.0}, "start: expected a number of at least 0, found -1"),
        ({"duration_s": 0.0}, "duration: expected a number above 0, found 0"),
        ({"tail_s": -0.1}, "tail: "),
        ({"gain_db": math.inf}, "gain: "),
        ({"rate_hz": 0}, "rate: "),
        ({"normalize": "loud"}, "normalize: expected peak"),
        ({"normalize": "lufs:quiet"}, "normalize: expected peak"),
        ({"normalize": "peak:nan"}, "normalize: expected peak"),
    ],
)
def test_options_out_of_range(options, says):
    with pytest.raises(BacklineError, match=says):
        RenderOptions(**options)


def test_an_input_that_changes_while_it_is_read(tmp_path):
    source = tmp_path / "in.wav"
    with AudioWriter(source, RATE_HZ, 1) as writer:
        writer.write(noise(100000))

    def touch(done: int, _: int) -> None:
        with open(source, "r+b") as file:
            file.seek(50000)
            file.write(b"else")

    with pytest.raises(AudioFileError, match=r"in\.wav: changed while it was read"):
        render_file(IDENTITY, source, tmp_path / "out.wav", on_progress=touch)
    assert not (tmp_path / "out.wav").exists()


def test_a_file_that_would_be_too_long_is_refused_at_once(tmp_path, monkeypatch):
    from backline.audiofile import writer

    monkeypatch.setattr(writer, "SHORT_FORMAT_BYTES", 4000)
    source = tmp_path / "in.w64"
    with AudioWriter(source, RATE_HZ, 1) as file:
        file.write(noise(2000))
    asked: list[int] = []
    with pytest.raises(AudioFileError, match="end at 4 GiB"):
        render_file(IDENTITY, source, tmp_path / "out.wav", on_progress=lambda done, _: asked.append(done))
    assert not asked
