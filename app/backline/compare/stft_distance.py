"""How different two signals sound, as distances of their spectrograms: the multi-resolution STFT distance.

After R. Yamamoto, E. Song and J.-M. Kim, "Parallel WaveGAN: A fast waveform generation model based on
generative adversarial networks with multi-resolution spectrogram" (ICASSP 2020), equations 6 to 9, and with
the sizes, padding and limits that auraloss has by default (C. J. Steinmetz and J. D. Reiss, "auraloss: Audio
focused loss functions in PyTorch", DMRN+15, 2020):

- transforms of 512, 1024 and 2048 frames, every 50, 120 and 240 frames, under a periodic Hann window of
  240, 600 and 1200 frames; columns of the spectrogram are centred on the multiples of the hop, from frame 0
  on, the signal mirrored at both ends (without repeating the first and last frame of it);
- magnitude: the root of the power, which is at least 1e-8;
- spectral convergence: the root of the sum of squares of (magnitude of A less magnitude of B), over the root
  of the sum of squares of the magnitude of A, which is the reference;
- log magnitude: the mean of the absolute value of ln(magnitude of A / magnitude of B);
- distance: both added, and the mean of that over the three resolutions.

Sums and means go over all frequencies, frames and channels together. The distance is 0 for equal signals; it
says nothing about phase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]
Real = NDArray[np.float64]

#: Frames of transform, hop and window.
RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))
_LEAST_POWER = 1e-8
#: Columns of the spectrogram at a time: what they take stays in the processor's cache.
_COLUMNS = 64


@dataclass(frozen=True)
class StftDistance:
    """How far apart two spectrograms are; see the module.

    Attributes
    ----------
    distance : float
    spectral_convergence, log_magnitude : float
        Their means over the resolutions, of which the distance is the sum.
    """

    distance: float
    spectral_convergence: float
    log_magnitude: float


class StftMeter:
    """Measures the distance of two streams, block by block.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        self._each = [_Resolution(channels, *sizes) for sizes in RESOLUTIONS]

    def add(self, a: Array, b: Array) -> None:
        """Measure the next blocks, equally long: float32 [frames, channels]."""
        both = np.concatenate([a.T, b.T]).astype(np.float64)
        for resolution in self._each:
            resolution.add(both)

    def result(self) -> StftDistance | None:
        """Return the distance; nothing may be added after.

        None where the signals are no longer than half a transform, or A has no level.
        """
        found = [resolution.result() for resolution in self._each]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        convergence, log_magnitude = (math.fsum(each) / len(known) for each in zip(*known, strict=True))
        return StftDistance(convergence + log_magnitude, convergence, log_magnitude)


class _Resolution:
    def __init__(self, channels: int, size: int, hop: int, window: int) -> None:
        self._channels, self._size, self._hop = channels, size, hop
        self._window = 0.5 - 0.5 * np.cos(2.0 * math.pi * np.arange(window) / window)
        self._half = window // 2
        self._held = np.zeros((2 * channels, 0))
        self._frames = 0
        self._energy = self._difference = self._logs = 0.0
        self._has_level = False
        self._bins = 0

    def add(self, both: Real) -> None:
        """Take the next frames: [A's channels then B's, frames]."""
        begins = self._frames <= self._half
        self._frames += both.shape[1]
        self._has_level = self._has_level or bool(both[: self._channels].any())
        self._held = np.concatenate([self._held, both], axis=1)
        if self._frames <= self._half:
            return
        if begins:
            self._held = np.concatenate([self._held[:, self._half : 0 : -1], self._held], axis=1)
        self._measure()

    def result(self) -> tuple[float, float] | None:
        """Spectral convergence and log magnitude."""
        # What can be mirrored is what PyTorch mirrors: half a transform.
        if self._frames <= self._size // 2 or not self._has_level:
            return None
        mirrored = self._held[:, -2 : -self._half - 2 : -1]
        self._held = np.concatenate([self._held, mirrored], axis=1)
        self._measure()
        return math.sqrt(self._difference / self._energy), self._logs / self._bins

    def _measure(self) -> None:
        window, hop = len(self._window), self._hop
        count = (self._held.shape[1] - window) // hop + 1
        if count < 1:
            return
        columns = sliding_window_view(self._held, window, axis=1)[:, : count * hop : hop]
        for at in range(0, count, _COLUMNS):
            self._count(columns[:, at : at + _COLUMNS])
        self._held = self._held[:, count * hop :].copy()

    def _count(self, columns: Real) -> None:
        # Where in the transform the window lies turns phases only.
        spectra = np.fft.rfft(columns * self._window, self._size, axis=2)
        power = np.maximum(np.square(spectra.real) + np.square(spectra.imag), _LEAST_POWER)
        a, b = power[: self._channels], power[self._channels :]
        self._energy += float(np.sum(a))
        self._difference += float(np.sum(np.square(np.sqrt(a) - np.sqrt(b))))
        self._logs += 0.5 * float(np.sum(np.abs(np.log(a / b))))
        self._bins += a.size
