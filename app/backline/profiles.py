"""What a picture of two takes shows, gathered while they go by: shapes, levels, spectra; in flat memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Real = NDArray[np.float64]

_BIN_SECONDS = 0.01
#: Twice as many as a picture has columns; beyond, two bins become one.
_MAX_BINS = 8192
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
        self._bin_frames = max(1, round(_BIN_SECONDS * rate_hz))
        self._merged = 1
        self._bins = np.zeros((0, 7))  # lowest and highest of A and B, then three sums of squares
        self._sizes = np.zeros(0)
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
        frames = self._bin_frames * self._merged
        whole = self._waiting.shape[1] // frames
        if whole:
            split = self._waiting[:, : whole * frames].reshape(3, whole, -1)
            self._append(split, float(split.shape[2]))
            self._waiting = self._waiting[:, whole * frames :]
        if last and self._waiting.shape[1]:
            rest = self._waiting.reshape(3, 1, -1)
            self._append(rest, float(rest.shape[2]))
            self._waiting = self._waiting[:, :0]

    def _append(self, split: Real, size: float) -> None:
        """Take whole bins: [A, B and difference; bins; samples]."""
        x, y = split[0], split[1]
        extremes = [x.min(axis=1), x.max(axis=1), y.min(axis=1), y.max(axis=1)]
        sums = np.square(split).sum(axis=2)
        self._bins = np.concatenate([self._bins, np.stack([*extremes, *sums], axis=1)])
        self._sizes = np.append(self._sizes, np.full(len(x), size))
        while len(self._bins) > _MAX_BINS:
            self._merge()

    def _merge(self) -> None:
        """Make one bin of two; an odd last one stays, and what fills it up is a bin of its own."""
        even = len(self._bins) // 2 * 2
        pairs = self._bins[:even].reshape(-1, 2, 7)
        merged = np.stack(
            [
                (np.min, np.max, np.min, np.max, np.sum, np.sum, np.sum)[n](pairs[:, :, n], axis=1)
                for n in range(7)
            ],
            axis=1,
        )
        sizes = self._sizes[:even].reshape(-1, 2).sum(axis=1)
        self._bins = np.concatenate([merged, self._bins[even:]])
        self._sizes = np.concatenate([sizes, self._sizes[even:]])
        self._merged *= 2

    def _transform(self, piece: Real) -> None:
        # A sine of amplitude 1 becomes a peak of the sum of the window over two.
        spectrum = np.fft.rfft(piece * self._window[:, np.newaxis], axis=1) / self._window.sum()
        self._spectra += 2.0 * np.mean(np.square(np.abs(spectrum)), axis=2)
        self._windows += 1

    def profile(self) -> Profile:
        """Return what has been gathered; nothing may be added after."""
        self._shape(last=True)
        if not self._windows and self._held.shape[1]:
            padded = np.zeros((3, _SPECTRUM_FRAMES, self._held.shape[2]))
            padded[:, : self._held.shape[1]] = self._held
            self._transform(padded)
        return Profile(
            self._start_frame / self._rate_hz,
            self._merged * self._bin_frames / self._rate_hz,
            self._bins[:, 0:4:2].T,
            self._bins[:, 1:4:2].T,
            (self._bins[:, 4:] / np.maximum(self._sizes, 1.0)[:, np.newaxis]).T,
            np.arange(_SPECTRUM_FRAMES // 2 + 1, dtype=np.float64) * (self._rate_hz / _SPECTRUM_FRAMES),
            self._spectra / max(1, self._windows),
        )


def _joined(held: Real, more: Real) -> Real:
    return np.concatenate([held, more], axis=1) if held.shape[1] else more
