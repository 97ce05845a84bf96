"""What a picture of two takes shows, gathered while they go by: shapes, levels, spectra; in flat memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Real = NDArray[np.float64]

_BIN_SECONDS = 0.01
#: A few times as many as a picture has columns, and even; beyond, two bins become one.
_MAX_BINS = 8192
_ROW = 7
_SPECTRUM_FRAMES = 4096


@dataclass(frozen=True)
class Profile:
    """Two signals and their difference over time and frequency, channels together.

    Attributes
    ----------
    start_seconds : float
        Where it begins, on A's time line.
    bin_seconds : float
        10 ms, or that times a power of two in long takes.
    lowest, highest : float64 arrays [2, bins]
        Of A and B, the extremes of the samples.
    powers : float64 array [3, bins]
        Mean squares of A, B and A less B.
    hz : float64 array [frequencies]
    spectra : float64 array [3, frequencies]
        Powers of sines that make up A, B and A less B: a sine of amplitude 1 is a peak of 0.5. The mean of
        Hann windows of 4096 frames, half of them overlapping (P. D. Welch, IEEE Trans. AU 15(2), 1967).
    """

    start_seconds: float
    bin_seconds: float
    lowest: Real
    highest: Real
    powers: Real
    hz: Real
    spectra: Real


class Profiler:
    """Gathers a profile, block by block.

    Parameters
    ----------
    rate_hz : float
    start_frame : int
        Of A, that the first block begins with.
    """

    def __init__(self, rate_hz: float, start_frame: int = 0) -> None:
        self._rate_hz = rate_hz
        self._start_frame = start_frame
        self._step_frames = max(1, round(_BIN_SECONDS * rate_hz))
        self._bin_frames = self._step_frames
        # Rows: lowest and highest of A and B, then three sums of squares.
        self._bins: list[Real] = []
        self._open, self._open_frames = np.zeros(_ROW), 0
        self._held: Real = np.zeros((3, 0, 1))
        self._waiting: Real = np.zeros((3, 0, 1))
        self._window = np.hanning(_SPECTRUM_FRAMES + 1)[:-1]
        self._spectra = np.zeros((3, _SPECTRUM_FRAMES // 2 + 1))
        self._windows = 0

    def add(self, a: Array, b: Array) -> None:
        """Take the next blocks: [frames, channels]."""
        x = np.stack([a, b]).astype(np.float64)
        all_three = np.concatenate([x, (x[0] - x[1])[np.newaxis]])
        self._waiting = _joined(self._waiting, all_three)
        self._shape(last=False)
        self._held = _joined(self._held, all_three)
        hop = _SPECTRUM_FRAMES // 2
        while self._held.shape[1] >= _SPECTRUM_FRAMES:
            self._transform(self._held[:, :_SPECTRUM_FRAMES])
            self._held = self._held[:, hop:]

    def _shape(self, last: bool) -> None:
        frames = self._step_frames
        whole = self._waiting.shape[1] // frames
        if whole:
            steps = self._waiting[:, : whole * frames].reshape(3, whole, -1)
            self._waiting = self._waiting[:, whole * frames :]
            for row in _rows(steps):
                self._count(row, frames)
        if last and self._waiting.shape[1]:
            rest = self._waiting.shape[1]
            self._count(_rows(self._waiting.reshape(3, 1, -1))[0], rest)
            self._waiting = self._waiting[:, :0]

    def _count(self, row: Real, frames: int) -> None:
        """Add 10 ms to the bin that is open; close it when it is full."""
        self._open = _merged(self._open, row) if self._open_frames else row
        self._open_frames += frames
        if self._open_frames < self._bin_frames:
            return
        self._bins.append(self._open)
        self._open_frames = 0
        if len(self._bins) > _MAX_BINS:
            # An odd one at the end is half of the next.
            self._open, self._open_frames = self._bins.pop(), self._bin_frames
            self._bins = [_merged(*pair) for pair in zip(self._bins[::2], self._bins[1::2], strict=True)]
            self._bin_frames *= 2

    def _transform(self, piece: Real) -> None:
        # A sine of amplitude 1 becomes a peak of the sum of the window over two.
        spectrum = np.fft.rfft(piece * self._window[:, np.newaxis], axis=1) / self._window.sum()
        self._spectra += 2.0 * np.mean(np.square(np.abs(spectrum)), axis=2)
        self._windows += 1

    def profile(self) -> Profile:
        """Return what has been gathered; nothing may be added after."""
        self._shape(last=True)
        bins, sizes = list(self._bins), [self._bin_frames] * len(self._bins)
        if self._open_frames:
            bins, sizes = [*bins, self._open], [*sizes, self._open_frames]
        table = np.array(bins).reshape(-1, _ROW)
        samples = np.array(sizes, np.float64)[:, np.newaxis] * self._held.shape[2]
        if not self._windows and self._held.shape[1]:
            padded = np.zeros((3, _SPECTRUM_FRAMES, self._held.shape[2]))
            padded[:, : self._held.shape[1]] = self._held
            self._transform(padded)
        return Profile(
            self._start_frame / self._rate_hz,
            self._bin_frames / self._rate_hz,
            table[:, 0:4:2].T,
            table[:, 1:4:2].T,
            (table[:, 4:] / samples).T,
            np.arange(_SPECTRUM_FRAMES // 2 + 1, dtype=np.float64) * (self._rate_hz / _SPECTRUM_FRAMES),
            self._spectra / max(1, self._windows),
        )


def _rows(split: Real) -> Real:
    """Rows of bins, given as [A, B and difference; bins; samples]."""
    x, y = split[0], split[1]
    extremes = [x.min(axis=1), x.max(axis=1), y.min(axis=1), y.max(axis=1)]
    return np.stack([*extremes, *np.square(split).sum(axis=2)], axis=1)


def _merged(one: Real, other: Real) -> Real:
    made = one + other
    made[0:4:2] = np.minimum(one[0:4:2], other[0:4:2])
    made[1:4:2] = np.maximum(one[1:4:2], other[1:4:2])
    return made


def _joined(held: Real, more: Real) -> Real:
    return np.concatenate([held, more], axis=1) if held.shape[1] else more
