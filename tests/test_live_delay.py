"""The delay between a sweep and what comes back of it, against delays and filters made here in float64."""

from __future__ import annotations

import numpy as np
import pytest

from backline.errors import BacklineError
from backline.live.latency import delay_frames, sweep

RATE_HZ = 48000


def delayed(x: np.ndarray, frames: float) -> np.ndarray:
    """A signal later by any number of frames: exact, as all its frequencies turn by what the delay means."""
    size = 2 * len(x)
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) * frames / size)
    return np.fft.irfft(np.fft.rfft(x.astype(np.float64), size) * turn, size)[: len(x)]


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(frames)


def loudspeaker(rate_hz: float) -> np.ndarray:
    """Second-order sections of a closed box with a resonance, a peak of the cone and less treble."""
    signal = pytest.importorskip("scipy.signal")
    w, a = 2 * np.pi * 2600 / rate_hz, np.sin(2 * np.pi * 2600 / rate_hz) / 4
    peak = np.array([1 + 2 * a, -2 * np.cos(w), 1 - 2 * a, 1 + a / 2, -2 * np.cos(w), 1 - a / 2])
    # A shelf that falls by 12 dB above 6 kHz: one pole and one zero on the real axis.
    zero, pole = (np.exp(-2 * np.pi * hz / rate_hz) for hz in (12000, 3000))
    shelf = np.array([1.0, -zero, 0.0, 1.0, -pole, 0.0])
    box = signal.iirfilter(2, 90, btype="high", ftype="cheby1", rp=2, fs=rate_hz, output="sos")
    return np.concatenate([box, [peak / peak[3]], [shelf]])


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000, 96000, 192000])
def test_a_sweep_is_faded_between_silences(rate_hz: int) -> None:
    x = sweep(rate_hz, 0.5, 0.25, 0.125)
    assert x.dtype == np.float32
    assert abs(len(x) - 0.875 * rate_hz) <= 1.5
    assert not x[: rate_hz // 4].any()
    assert not x[-(rate_hz // 8) :].any()
    assert np.abs(x).max() == pytest.approx(0.25, rel=1e-3)
    assert np.abs(np.diff(x[: rate_hz // 4 + 8])).max() < 1e-3
    spectrum = np.abs(np.fft.rfft(x)) ** 2
    hz = np.fft.rfftfreq(len(x), 1 / rate_hz)
    inside = spectrum[(hz > 40) & (hz < min(0.42 * rate_hz, 20000))]
    assert inside.min() > 1e-5 * spectrum.max()  # it falls by 3 dB an octave, and leaves nothing out


@pytest.mark.parametrize("frames", [0.0, 0.3, 1.0, 63.5, 700.25, 40000.77])
@pytest.mark.parametrize("level", [1.0, 0.01])
def test_a_delay_is_found_to_a_fraction_of_a_frame(frames: float, level: float) -> None:
    x = sweep(RATE_HZ)
    y = level * delayed(x, frames) + 1e-5 * noise(len(x))
    found = delay_frames(x, y.astype(np.float32), RATE_HZ)
    assert found.delay_frames == pytest.approx(frames, abs=0.02)
    assert found.level_db == pytest.approx(20 * np.log10(level), abs=0.2)
    assert found.polarity == 1
    assert found.correlation > 0.97


@pytest.mark.parametrize("rate_hz", [8000, 44100, 96000, 192000])
def test_at_any_rate(rate_hz: int) -> None:
    x = sweep(rate_hz)
    found = delay_frames(x, delayed(x, 1234.56).astype(np.float32), rate_hz)
    assert found.delay_frames == pytest.approx(1234.56, abs=0.02)


def test_upside_down_is_said() -> None:
    x = sweep(RATE_HZ)
    found = delay_frames(x, -delayed(x, 99.4).astype(np.float32), RATE_HZ)
    assert found.polarity == -1
    assert found.delay_frames == pytest.approx(99.4, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_in_noise_as_loud_as_it(seed: int) -> None:
    """-18 dBFS of white noise under a sweep of -15 dBFS, as from a room with an air conditioner."""
    x = sweep(RATE_HZ)
    y = delayed(x, 500.5) + 0.03 * noise(len(x), seed)
    assert delay_frames(x, y.astype(np.float32), RATE_HZ).delay_frames == pytest.approx(500.5, abs=0.15)


@pytest.mark.parametrize("rate_hz", [44100, 48000, 96000])
@pytest.mark.parametrize("frames", [0.3, 812.62])
def test_through_a_loudspeaker(rate_hz: int, frames: float) -> None:
    """What it does to the sound is no delay: the phase that belongs to its magnitude is taken away."""
    signal = pytest.importorskip("scipy.signal")
    x = sweep(rate_hz)
    y = signal.sosfilt(loudspeaker(rate_hz), delayed(x, frames)) + 1e-5 * noise(len(x))
    found = delay_frames(x, (0.2 * y).astype(np.float32), rate_hz)
    assert found.delay_frames == pytest.approx(frames, abs=0.1)


def test_an_echo_that_is_weaker_does_not_matter() -> None:
    x = sweep(RATE_HZ)
    y = delayed(x, 300.2) + 0.5 * delayed(x, 1500.9)
    assert delay_frames(x, y.astype(np.float32), RATE_HZ).delay_frames == pytest.approx(300.2, abs=0.1)


def test_what_came_back_twice_is_refused() -> None:
    x = sweep(RATE_HZ)
    y = (delayed(x, 300) + 0.9 * delayed(x, 1500)).astype(np.float32)
    with pytest.raises(BacklineError, match="twice, 1200 frames apart and about as loud: switch the"):
        delay_frames(x, y, RATE_HZ)


def test_nothing_came_back() -> None:
    x = sweep(RATE_HZ)
    for y in (np.zeros_like(x), 1e-5 * np.sign(noise(len(x)))):
        with pytest.raises(BacklineError, match="nothing came back: connect the output to the input"):
            delay_frames(x, y.astype(np.float32), RATE_HZ)


@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_is_no_sweep(seed: int) -> None:
    x = sweep(RATE_HZ)
    with pytest.raises(BacklineError, match="not to be found in what came back"):
        delay_frames(x, (0.01 * noise(len(x), seed)).astype(np.float32), RATE_HZ)


def test_hum_alone_is_no_sweep() -> None:
    x = sweep(RATE_HZ)
    y = 0.1 * np.sin(2 * np.pi * 100 * np.arange(len(x)) / RATE_HZ)
    with pytest.raises(BacklineError, match="not to be found in what came back"):
        delay_frames(x, y.astype(np.float32), RATE_HZ)


def test_too_loud_is_refused() -> None:
    x = sweep(RATE_HZ)
    with pytest.raises(BacklineError, match=r"too loud: \d+ samples at full scale; turn its level down"):
        delay_frames(x, np.clip(6 * x, -1, 1), RATE_HZ)


def test_what_is_no_number_is_refused() -> None:
    x = sweep(RATE_HZ)
    y = x.copy()
    y[500] = np.nan
    with pytest.raises(BacklineError, match="is no sound"):
        delay_frames(x, y, RATE_HZ)
