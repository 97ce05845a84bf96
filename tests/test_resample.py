"""The resampler: lengths, cuts, quality."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.errors import BacklineError
from backline.resample import Resampler, resample, resampled_frames

RATES = [8000, 11025, 22050, 44100, 48000, 88200, 96000, 192000, 44100.5, 47999]


def noise(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, channels)).astype(np.float32)


def in_blocks(x: np.ndarray, cuts: list[int], from_hz: float, to_hz: float) -> np.ndarray:
    stream = Resampler(from_hz, to_hz, x.shape[1])
    borders = [0, *sorted(min(cut, len(x)) for cut in cuts), len(x)]
    made = [stream.process(x[a:b]) for a, b in itertools.pairwise(borders)]
    return np.concatenate([*made, stream.finish()])


@pytest.mark.parametrize(("from_hz", "to_hz"), list(itertools.permutations(RATES, 2)))
def test_length_and_whole_equals_blocks(from_hz, to_hz):
    for frames in (0, 1, 2, 63, 5000):
        x = noise(frames)
        whole = resample(x, from_hz, to_hz)
        assert whole.dtype == np.float32
        assert whole.shape == (resampled_frames(frames, from_hz, to_hz), 2)
        assert np.array_equal(in_blocks(x, list(range(0, frames, 61)), from_hz, to_hz), whole)


@settings(max_examples=30, deadline=None)
@given(
    from_hz=st.sampled_from(RATES),
    to_hz=st.sampled_from(RATES),
    frames=st.integers(0, 20000),
    cuts=st.lists(st.integers(0, 20000), max_size=20),
)
def test_any_cut_gives_the_same_bits(from_hz, to_hz, frames, cuts):
    x = noise(frames, 1)
    if from_hz == to_hz:
        assert resample(x, from_hz, to_hz) is x
    else:
        assert np.array_equal(in_blocks(x, cuts, from_hz, to_hz), resample(x, from_hz, to_hz))


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(44100, 48000), (48000, 44100), (96000, 48000), (44100.5, 48000)]
)
def test_a_tone_stays_where_it_was(from_hz, to_hz):
    """No delay, no loss: 1 kHz at the new rate to within 24 bits, away from the ends."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(20000) / from_hz).astype(np.float32)
    made = resample(tone, from_hz, to_hz)
    assert made.ndim == 1
    expected = np.sin(2 * np.pi * 1000 * np.arange(len(made)) / to_hz)
    inner = slice(2000, -2000)
    assert np.max(np.abs(made[inner] - expected[inner])) < 3e-7


@pytest.mark.parametrize("rate_hz", [0, -1, float("nan"), float("inf")])
def test_rates_that_are_none_are_refused(rate_hz):
    with pytest.raises(BacklineError, match="expected a rate above 0"):
        Resampler(48000, rate_hz, 1)


def test_misuse():
    stream = Resampler(48000, 44100, 2)
    with pytest.raises(ValueError, match="expected \\[frames, 2\\]"):
        stream.process(noise(10, 1))
    stream.finish()
    with pytest.raises(ValueError, match="finished"):
        stream.process(noise(10, 2))
