"""Delay, polarity and gain between takes, against delays made in float64."""

from __future__ import annotations

import numpy as np
import pytest
from compare_tools import INTERPOLATED_DB, RATE_HZ, delayed, noise, quick
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.compare.alignment import LEAST_CORRELATION, align
from backline.compare.takes import ArrayTake


@pytest.mark.parametrize("frames", [0.37, -0.37, 0.5, 0.01, 12.99, -700.25, 48000.63, -100000.1, 150001.5])
@pytest.mark.parametrize("gain", [1.0, -0.2])
def test_a_delay_is_found_to_a_hundredth_of_a_frame(frames, gain):
    x = noise(5 * RATE_HZ)
    found = quick(x, gain * delayed(x, frames))
    assert found.delay_frames == pytest.approx(frames, abs=0.001)
    assert found.delay_ms == pytest.approx(1e3 * frames / RATE_HZ, abs=1e-4)
    assert found.polarity == (1 if gain > 0 else -1)
    assert found.correlation == pytest.approx(1.0, abs=1e-3)
    assert found.aligned is not None
    assert found.aligned.gain_db == pytest.approx(-20 * np.log10(abs(gain)), abs=1e-3)
    assert found.aligned.gain_null_depth_db < INTERPOLATED_DB
    assert found.aligned.esr == pytest.approx((1 - abs(gain)) ** 2, rel=1e-3, abs=1e-8)


@given(
    frames=st.integers(-30000, 30000),
    sign=st.sampled_from([1, -1]),
    seed=st.integers(0, 99),
    channels=st.integers(1, 2),
)
@settings(max_examples=15, deadline=None)
def test_a_whole_delay_is_exact_and_nulls(frames, sign, seed, channels):
    x = np.random.default_rng(seed).uniform(-0.9, 0.9, (70000, channels)).astype(np.float32)
    silence = np.zeros((abs(frames), channels), np.float32)
    y = np.concatenate([silence, x]) if frames >= 0 else x[-frames:]
    found = quick(x, sign * y)
    assert (found.delay_frames, found.polarity) == (frames, sign)
    assert found.aligned is not None
    assert (found.aligned.esr, found.aligned.null_depth_db) == (0.0, None)
    assert found.aligned.frames == min(70000, 70000 + min(frames, 0))


def test_the_delay_is_the_peak_of_scipys_correlation():
    """Where noise is nearly as loud as the signal, the maximum of the plain correlation, which is defined."""
    scipy = pytest.importorskip("scipy.signal")
    x = noise(60000, 1)
    y = np.roll(0.5 * x, 321) + 0.05 * noise(60000, 2) / 0.1
    found = quick(x, y)
    lags = scipy.correlation_lags(60000, 60000)
    at = lags[np.argmax(scipy.correlate(y, x, method="fft"))]
    assert at == 321
    assert found.delay_frames == pytest.approx(321, abs=0.1)
    assert found.correlation == pytest.approx(np.corrcoef(x, np.roll(y, -321))[0, 1], abs=0.01)


@pytest.mark.parametrize("rate_hz", [8000, 44100, 192000])
def test_a_resampled_copy_lies_where_it_did(rate_hz):
    """SciPy's resampler is linear in phase and keeps frame 0 where it was."""
    scipy = pytest.importorskip("scipy.signal")
    x = noise(2 * rate_hz, 7, top=0.3)
    y = scipy.resample_poly(scipy.resample_poly(x, 3, 2, window=("kaiser", 12.0)), 2, 3)
    found = quick(x, y, rate_hz)
    assert found.delay_frames == pytest.approx(0.0, abs=0.01)
    assert found.polarity == 1


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_what_is_constant_does_not_count(offset):
    x = noise(2 * RATE_HZ)
    found = quick(x + offset, delayed(x, 1000.4) - offset)
    assert found.delay_frames == pytest.approx(1000.4, abs=0.01)
    assert found.polarity == 1


def test_the_best_gain_is_that_of_least_squares():
    a, b = noise(50000, 1), noise(50000, 1) + 0.5 * noise(50000, 2)
    a, b = a.astype(np.float32).astype(np.float64), (0.1 * b).astype(np.float32).astype(np.float64)
    found = quick(a, b).aligned
    gain = np.dot(a, b) / np.dot(b, b)
    assert found is not None
    if found.frames == 50000:  # a whole delay
        assert found.gain_db == pytest.approx(20 * np.log10(gain), abs=1e-9)
        assert found.gain_esr == pytest.approx(np.sum((a - gain * b) ** 2) / np.dot(a, a), rel=1e-9)
    assert found.gain_esr == pytest.approx(np.sum((a - gain * b) ** 2) / np.dot(a, a), rel=1e-2)
    assert found.esr > found.gain_esr


def test_both_are_in_the_middle_of_long_silence():
    x = noise(20000)
    a = np.concatenate([np.zeros(300000), x, np.zeros(100000)])
    b = np.concatenate([np.zeros(10), -x, np.zeros(500000)])
    found = quick(a, b)
    assert (found.delay_frames, found.polarity) == (-299990.0, -1)


def test_what_has_nothing_in_common_is_not_aligned():
    for seed in range(3):
        found = quick(noise(3 * RATE_HZ, 2 * seed), noise(3 * RATE_HZ, 2 * seed + 1))
        assert (found.delay_frames, found.polarity, found.correlation) == (None, None, None)
        assert found.aligned is None


def test_beyond_its_reach_nothing_is_found():
    x = noise(4 * RATE_HZ)
    a, b = (ArrayTake(each, RATE_HZ, "x") for each in (x, np.concatenate([np.zeros(2 * RATE_HZ), x])))
    assert align(a, b, max_seconds=1.0) is None
    assert align(a, b, max_seconds=3.0).delay_frames == 2 * RATE_HZ
    assert 0.0 < LEAST_CORRELATION < 1.0


def test_the_polarity_of_a_tone_cannot_be_told():
    at = np.arange(3 * RATE_HZ) / RATE_HZ
    x = 0.5 * np.sin(2 * np.pi * 440 * at)
    found = quick(x, 0.5 * np.sin(2 * np.pi * 440 * (at - 20.25 / RATE_HZ)))
    assert found.polarity is None
    # A period is 109.09 frames: of all delays that fit, the nearest.
    assert found.delay_frames == pytest.approx(20.25, abs=0.01)
