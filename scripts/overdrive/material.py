"""Make the audio that the overdrive is trained on and judged by; no recording is among it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import chirp, lfilter

from backline.pluck import pluck, riff

from . import RATE_HZ, Signal

CLIP_FRAMES = RATE_HZ  # one second


def _note(rng: np.random.Generator) -> Signal:
    frequency_hz = 73.4 * 2.0 ** rng.uniform(0.0, 3.8)
    start = int(rng.integers(0, RATE_HZ // 2))
    sound = np.zeros(CLIP_FRAMES)
    sound[start:] = _random_pluck(frequency_hz, CLIP_FRAMES - start, rng)
    return sound


def _chord(rng: np.random.Generator) -> Signal:
    root_hz = 73.4 * 2.0 ** rng.uniform(0.0, 1.6)
    shape = ((0, 7, 12), (0, 7, 12, 16, 19), (0, 7, 12, 15, 19, 24), (0, 5), (0, 4, 10))[rng.integers(5)]
    sound = np.zeros(CLIP_FRAMES)
    start = int(rng.integers(0, RATE_HZ // 4))
    for semitones in shape:
        sound[start:] += _random_pluck(root_hz * 2.0 ** (semitones / 12.0), CLIP_FRAMES - start, rng)
        start += int(rng.integers(100, 1500))
    return sound


def _random_pluck(frequency_hz: float, frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
    seed = int(rng.integers(2**31))
    return pluck(frequency_hz, frames / RATE_HZ, RATE_HZ, brightness=rng.uniform(), seed=seed)


def _riff_slice(rng: np.random.Generator) -> Signal:
    # A riff made for another rate and played at ours is another key and tempo.
    other_hz = RATE_HZ * 2.0 ** rng.uniform(-0.4, 0.4)
    whole = riff(other_hz, seed=int(rng.integers(1, 2**31)))  # 0 is held back
    start = int(rng.integers(0, whole.size - CLIP_FRAMES))
    return whole[start : start + CLIP_FRAMES].astype(np.float64)


def _noise(rng: np.random.Generator) -> Signal:
    # White noise hardly occurs at a guitar's jack and is mostly aliasing to a network at 48 kHz; darker noise
    # fills the band that matters. Bursts teach it attacks.
    corner = np.exp(-2.0 * np.pi * 200.0 * 2.0 ** rng.uniform(0.0, 5.5) / RATE_HZ)
    dark = lfilter([1.0 - corner], [1.0, -corner], rng.standard_normal(CLIP_FRAMES))
    steps = rng.uniform(0.0, 1.0, int(rng.integers(3, 30))) ** 2
    return dark * np.repeat(steps, -(-CLIP_FRAMES // steps.size))[:CLIP_FRAMES]


def _sweep(rng: np.random.Generator) -> Signal:
    t = np.arange(CLIP_FRAMES) / RATE_HZ
    ends = 25.0 * 2.0 ** rng.uniform(0.0, 9.0, 2)
    return chirp(t, ends[0], t[-1], ends[1] + 1.0, method="logarithmic", phi=-90.0) * rng.uniform(
        0.1, 1.0 - 0.9 * t
    )


def _tones(rng: np.random.Generator) -> Signal:
    t = np.arange(CLIP_FRAMES) / RATE_HZ
    pitches = 60.0 * 2.0 ** rng.uniform(0.0, 5.0, int(rng.integers(1, 4)))
    swell = np.exp(-rng.uniform(0.0, 5.0) * t)
    return swell * sum(np.sin(2.0 * np.pi * hz * t + rng.uniform(0.0, 6.0)) for hz in pitches)


def _clicks(rng: np.random.Generator) -> Signal:
    sound = np.zeros(CLIP_FRAMES)
    at = rng.integers(0, CLIP_FRAMES - 2000, 8)
    for start in at:
        sound[start : start + int(rng.integers(10, 2000))] = rng.uniform(-1.0, 1.0)
    return lfilter([0.3], [1.0, -0.7], sound)


def _bend(rng: np.random.Generator) -> Signal:
    # Held back from training altogether: a bowed, bending note, to see how far the network generalises.
    t = np.arange(CLIP_FRAMES) / RATE_HZ
    hz = rng.uniform(100.0, 500.0) * 2.0 ** (
        rng.uniform(-1.0, 1.0) * t + 0.02 * np.sin(2.0 * np.pi * 5.5 * t)
    )
    phase = 2.0 * np.pi * np.cumsum(hz) / RATE_HZ
    return np.minimum(1.0, 8.0 * t) * sum(np.sin(k * phase) / k for k in range(1, 9))


Maker = Callable[[np.random.Generator], Signal]
TRAINING: tuple[tuple[Maker, int], ...] = (
    (_note, 90),
    (_chord, 60),
    (_riff_slice, 60),
    (_noise, 40),
    (_sweep, 25),
    (_tones, 30),
    (_clicks, 15),
)
HELD_BACK: tuple[tuple[Maker, int], ...] = (
    (_note, 8),
    (_chord, 8),
    (_noise, 5),
    (_sweep, 5),
    (_tones, 3),
    (_bend, 6),
)


def make_clips(recipe: tuple[tuple[Maker, int], ...], rng: np.random.Generator) -> tuple[Signal, list[str]]:
    """Make one-second clips at many levels.

    Returns
    -------
    x : ndarray of float64, shape [clips, frames]
    kinds : list of str
        What each clip is.
    """
    fade = np.minimum(1.0, np.arange(CLIP_FRAMES) / 200.0)
    clips, kinds = [], []
    for maker, count in recipe:
        for _ in range(count):
            sound = maker(rng) * fade
            # Half the clips are played as people play; the other half reach down to where the diodes sleep.
            peak_db = rng.uniform(-15.0, 0.0) if rng.uniform() < 0.5 else rng.uniform(-45.0, -6.0)
            clips.append(sound * (10.0 ** (peak_db / 20.0) / np.max(np.abs(sound))))
            kinds.append(maker.__name__.strip("_"))
    return np.stack(clips), kinds


def held_back_riff() -> Signal:
    """Cut the demo's own performance of the riff, peak 0.5, into seconds: shape [8, frames]."""
    return riff(RATE_HZ, seed=0).astype(np.float64).reshape(-1, CLIP_FRAMES)


def golden_input(seed: int) -> Signal:
    """Under a second of silence, a low note, a high one, a sweep and silence; shape [frames]."""
    x = np.zeros(round(0.9 * RATE_HZ))
    low, high = round(0.1 * RATE_HZ), round(0.35 * RATE_HZ)
    sweep, end = round(0.6 * RATE_HZ), round(0.85 * RATE_HZ)
    x[low:sweep] += 0.45 * pluck(82.4, (sweep - low) / RATE_HZ, RATE_HZ, brightness=0.6, seed=seed)
    x[high:sweep] += 0.2 * pluck(493.9, (sweep - high) / RATE_HZ, RATE_HZ, brightness=0.9, seed=seed + 1)
    t = np.arange(end - sweep) / RATE_HZ
    x[sweep:end] = 0.5 * chirp(t, 40.0, t[-1], 12000.0, method="logarithmic", phi=-90.0)
    return x
