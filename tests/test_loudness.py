"""The loudness meter against BS.1770-4's own numbers, scipy and pyloudnorm."""

from __future__ import annotations

import numpy as np
import pytest

from backline.loudness import LoudnessMeter, integrated_lufs, k_weighting
from backline.native import ffi, lib


def tone(hz: float, rate_hz: float, seconds: float, level_dbfs: float = 0.0) -> np.ndarray:
    at = np.arange(round(rate_hz * seconds)) / rate_hz
    return 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * hz * at)


def swelling_noise(rate_hz: int, channels: int, seconds: float = 8.0) -> np.ndarray:
    frames = round(rate_hz * seconds)
    swell = np.linspace(0.0, 0.3, frames)[:, np.newaxis]
    return (np.random.default_rng(1).standard_normal((frames, channels)) * swell).astype(np.float32)


def by_recursion(x: np.ndarray, rate_hz: float) -> float:
    """BS.1770-4 as it is written, with scipy's recursive filters in place of ours."""
    lfilter = pytest.importorskip("scipy.signal").lfilter
    b, a = k_weighting(rate_hz)
    y = lfilter(b[1], a[1], lfilter(b[0], a[0], x.astype(np.float64), axis=0), axis=0)
    powers = []
    step = 0
    while (stop := int(np.floor((step + 4) * rate_hz / 10 + 0.5))) <= len(y):
        start = int(np.floor(step * rate_hz / 10 + 0.5))
        powers.append((y[start:stop] ** 2).mean(axis=0).sum())
        step += 1
    loud = np.array([p for p in powers if -0.691 + 10 * np.log10(p + 1e-30) > -70])
    return -0.691 + 10 * np.log10(loud[loud > 0.1 * loud.mean()].mean())


def test_coefficients_are_those_of_the_recommendation():
    """BS.1770-4, tables 1 and 2, at 48 kHz."""
    b, a = k_weighting(48000)
    assert b[0] == pytest.approx([1.53512485958697, -2.69169618940638, 1.19839281085285], abs=1e-13)
    assert a[0] == pytest.approx([1.0, -1.69065929318241, 0.73248077421585], abs=1e-13)
    assert b[1] == pytest.approx([1.0, -2.0, 1.0], abs=0)
    assert a[1] == pytest.approx([1.0, -1.99004745483398, 0.99007225036621], abs=1e-13)


def test_full_scale_997_hz_is_minus_3_01():
    assert integrated_lufs(tone(997, 48000, 20), 48000) == pytest.approx(-3.01, abs=0.005)


def test_the_same_tone_in_two_channels_is_3_01_louder():
    stereo = np.stack([tone(997, 48000, 5)] * 2, axis=1)
    assert integrated_lufs(stereo, 48000) == pytest.approx(0.0, abs=0.005)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_against_recursive_filters(rate_hz, channels):
    x = swelling_noise(rate_hz, channels, 4.0)
    assert integrated_lufs(x, rate_hz) == pytest.approx(by_recursion(x, rate_hz), abs=1e-9)


@pytest.mark.parametrize("rate_hz", [22050, 44100, 48000, 96000])
def test_against_pyloudnorm(rate_hz):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    x = swelling_noise(rate_hz, 2)
    theirs = pyloudnorm.Meter(rate_hz, filter_class="DeMan").integrated_loudness(x.astype(np.float64))
    assert integrated_lufs(x, rate_hz) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(
    ("levels_dbfs", "expected_lufs"),
    [
        # EBU Tech 3341, table 1: minimum-requirement cases 3 and 4, stereo 1 kHz tones, (level, seconds).
        ([(-36, 10), (-23, 60), (-36, 10)], -23.0),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),
    ],
)
def test_ebu_gating_cases(levels_dbfs, expected_lufs):
    rate_hz = 8000
    mono = np.concatenate([tone(1000, rate_hz, seconds, level) for level, seconds in levels_dbfs])
    assert integrated_lufs(np.stack([mono, mono], axis=1), rate_hz) == pytest.approx(expected_lufs, abs=0.1)


def test_any_cut_gives_the_same_figure():
    x = swelling_noise(44100, 2, 3.21)
    meter, rng, at = LoudnessMeter(44100, 2), np.random.default_rng(0), 0
    while at < len(x):
        size = int(rng.integers(1, 9000))
        meter.add(x[at : at + size])
        at += size
        if rng.random() < 0.2:
            assert meter.integrated_lufs is None or meter.integrated_lufs < 0  # looking changes nothing
    assert meter.integrated_lufs == integrated_lufs(x, 44100)
    assert meter.frames == len(x)
    assert meter.peak == np.max(np.abs(x))


def powers(x: np.ndarray, b: np.ndarray, a: np.ndarray, ends: list[int], state: np.ndarray) -> np.ndarray:
    """`bl_sections_power` on an array [frames, channels]: [ends, channels]."""
    sections = ffi.new("bl_section[2]", [(list(b[i]), list(a[i, 1:])) for i in range(2)])
    found = np.zeros((len(ends), x.shape[1]))
    lib.bl_sections_power(
        sections,
        ffi.from_buffer("double[]", state, require_writable=True),
        ffi.from_buffer("double[]", np.ascontiguousarray(x, np.float64)),
        x.shape[1],
        ffi.new("int64_t[]", ends),
        len(ends),
        ffi.from_buffer("double[]", found, require_writable=True),
    )
    return found


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_powers_of_two_sections_against_scipy(channels):
    signal = pytest.importorskip("scipy.signal")
    # Sections that have nothing in common with the K-weighting, nor with each other.
    sos = signal.ellip(4, 1.0, 60.0, 0.05, output="sos")
    x = np.random.default_rng(channels).standard_normal((5000, channels))
    ends = [0, 1, 1000, 1000, 4999, 5000]
    expected = [part.sum(axis=0) for part in np.split(signal.sosfilt(sos, x, axis=0) ** 2, ends[:-1])]
    state = np.zeros((channels, lib.BL_SECTION_STATE))
    found = powers(x, sos[:, :3], sos[:, 3:], ends, state)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_powers_do_not_depend_on_cuts_or_neighbours():
    x = swelling_noise(44100, 3, 0.5).astype(np.float64)
    b, a = k_weighting(44100)
    state = np.zeros((3, lib.BL_SECTION_STATE))
    whole = powers(x, b, a, [len(x)], state)
    for channel in range(3):
        alone = np.zeros((1, lib.BL_SECTION_STATE))
        assert powers(x[:, channel : channel + 1], b, a, [len(x)], alone) == whole[0, channel]
        assert np.array_equal(alone[0], state[channel])
    again, rng, at = np.zeros_like(state), np.random.default_rng(0), 0
    while at < len(x):
        size = min(len(x) - at, int(rng.integers(1, 900)))
        powers(x[at : at + size], b, a, [size // 2, size], again)
        at += size
    assert np.array_equal(again, state)


def test_silence_does_not_end_in_denormals():
    b, a = k_weighting(8000)
    x = np.zeros((8000 * 5, 2))
    x[0] = 1.0
    state = np.zeros((2, lib.BL_SECTION_STATE))
    powers(x, b, a, [len(x)], state)
    assert np.all((state == 0.0) | (np.abs(state) >= np.finfo(np.float64).tiny))


@pytest.mark.parametrize(
    ("x", "rate_hz"),
    [
        (np.zeros(48000), 48000),
        (np.zeros(0), 48000),
        (1e-5 * tone(997, 48000, 2), 48000),
        (tone(997, 48000, 0.4)[:-1], 48000),
        (tone(500, 3000, 2), 3000),
    ],
    ids=["silence", "nothing", "below the gate", "shorter than 400 ms", "rate too low"],
)
def test_not_measurable_is_none(x, rate_hz):
    assert integrated_lufs(x, rate_hz) is None


def test_400_ms_are_enough():
    assert integrated_lufs(tone(997, 48000, 0.4), 48000) is not None


def test_peak():
    meter = LoudnessMeter(48000, 1)
    assert meter.peak_dbfs is None
    meter.add(np.array([0.1, -0.5, 0.2], np.float32))
    assert meter.peak_dbfs == pytest.approx(-6.0206, abs=1e-3)


def test_channel_weights():
    x = np.stack([tone(997, 48000, 1), tone(997, 48000, 1)], axis=1)
    meter = LoudnessMeter(48000, 2, weights=[1.0, 0.0])
    meter.add(x)
    assert meter.integrated_lufs == pytest.approx(-3.01, abs=0.01)
    with pytest.raises(ValueError, match="weights"):
        LoudnessMeter(48000, 2, weights=[1.0])
    with pytest.raises(ValueError, match="expected \\[frames, 2\\]"):
        meter.add(x[:, 0])
