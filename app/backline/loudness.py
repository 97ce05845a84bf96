"""Loudness and peak of a signal, measured while it goes by.

Integrated loudness after Recommendation ITU-R BS.1770-4 (2015), annex 1: K-weighting, mean square over
blocks of 400 ms with 75 % overlap, an absolute gate at -70 LKFS and a relative one 10 LU below what passes
it. The recommendation gives the filters as coefficients at 48 kHz; other rates use the analogue prototypes
behind them (as in libebur128), which give those very coefficients at 48 kHz.

There is no recursive filter in NumPy, so the K-weighting runs by fast convolution: its response falls below
1e-12 within 150 ms, and what wraps around in a block that keeps that much of the past is below rounding.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GATES_PER_BLOCK = 4  # 400 ms in steps of 100 ms
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_OFFSET_LU = -0.691
_MEMORY_SECONDS = 0.15
#: Below this rate the shelf of the K-weighting does not fit under half the rate.
LOWEST_RATE_HZ = 4000.0

#: BS.1770-4, table 1 and table 2, as analogue prototypes.
_SHELF_HZ, _SHELF_DB, _SHELF_Q, _SHELF_EXPONENT = (
    1681.974450955533,
    3.999843853973347,
    0.7071752369554196,
    0.4996667741545416,
)
_HIGHPASS_HZ, _HIGHPASS_Q = 38.13547087602444, 0.5003270373238773


def k_weighting(rate_hz: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two second-order sections of the K-weighting.

    Returns
    -------
    b, a : float64 arrays [2, 3]
        Numerators and denominators in powers of 1/z: the shelf, then the high-pass; ``a[:, 0]`` is 1.
    """
    k = math.tan(math.pi * _SHELF_HZ / rate_hz)
    high = 10.0 ** (_SHELF_DB / 20.0)
    band = high**_SHELF_EXPONENT
    a0 = 1.0 + k / _SHELF_Q + k * k
    shelf_b = [high + band * k / _SHELF_Q + k * k, 2.0 * (k * k - high), high - band * k / _SHELF_Q + k * k]
    shelf_a = [a0, 2.0 * (k * k - 1.0), 1.0 - k / _SHELF_Q + k * k]
    k = math.tan(math.pi * _HIGHPASS_HZ / rate_hz)
    pass0 = 1.0 + k / _HIGHPASS_Q + k * k
    # The recommendation leaves the high-pass's numerator at 1, -2, 1, unscaled.
    pass_a = [1.0, 2.0 * (k * k - 1.0) / pass0, (1.0 - k / _HIGHPASS_Q + k * k) / pass0]
    b = np.array([np.array(shelf_b) / a0, [1.0, -2.0, 1.0]])
    return b, np.array([np.array(shelf_a) / a0, pass_a])


@functools.lru_cache(maxsize=4)
def _k_response(rate_hz: float, size: int) -> NDArray[np.complex128]:
    """Kept, because it takes longer than measuring a second."""
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    powers = np.stack([np.ones_like(z), z, z * z])
    b, a = k_weighting(rate_hz)
    response = np.asarray(np.prod((b @ powers) / (a @ powers), axis=0)[:, np.newaxis])
    response.setflags(write=False)
    return response


class LoudnessMeter:
    """Measures a stream of blocks; the figures do not depend on how it is cut.

    Memory grows by ten numbers per second of audio.

    Parameters
    ----------
    rate_hz : float
    channels : int
    weights : array_like [channels], optional
        Weight of each channel's power: 1 for all by default. The recommendation has 1.41 for left and right
        surround and 0 for the low-frequency channel; a file does not say which channel is what.

    Attributes
    ----------
    frames : int
        Seen so far.
    peak : float
        Largest absolute sample so far (of samples, not between them).
    """

    def __init__(self, rate_hz: float, channels: int, weights: ArrayLike | None = None) -> None:
        self.rate_hz = float(rate_hz)
        self.channels = channels
        self.frames = 0
        self.peak = 0.0
        self._weights = np.ones(channels) if weights is None else np.asarray(weights, np.float64)
        if self._weights.shape != (channels,):
            raise ValueError(f"weights: expected [{channels}], found shape {list(self._weights.shape)}")
        self._measurable = self.rate_hz >= LOWEST_RATE_HZ
        self._memory = math.ceil(_MEMORY_SECONDS * self.rate_hz)
        self._size = 1 << (4 * self._memory).bit_length()
        self._hop = self._size - self._memory
        self._held = np.zeros((self._size, channels))
        self._fill = self._memory
        self._powers: list[float] = []  # one per finished 100 ms, summed over channels
        self._step_power = 0.0
        self._weighted_frames = 0
        none = np.zeros(0, np.complex128)
        self._response = _k_response(self.rate_hz, self._size) if self._measurable else none

    def add(self, block: ArrayLike) -> None:
        """Measure the next block: float ``[frames, channels]``, or ``[frames]`` for one channel."""
        x = np.asarray(block)
        x = x.reshape(-1, 1) if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise ValueError(f"expected [frames, {self.channels}], found shape {list(x.shape)}")
        if len(x) == 0:
            return
        self.frames += len(x)
        self.peak = max(self.peak, float(np.max(x)), -float(np.min(x)))
        while self._measurable and len(x):
            taken = min(len(x), self._size - self._fill)
            self._held[self._fill : self._fill + taken] = x[:taken]
            self._fill += taken
            x = x[taken:]
            if self._fill == self._size:
                powers = self._weigh(self._hop)
                self._weighted_frames, self._step_power = self._count(powers, self._powers)
                self._held[: self._memory] = self._held[self._hop :].copy()
                self._fill = self._memory

    def _weigh(self, frames: int) -> NDArray[np.float64]:
        """Power of each of the first `frames` frames after the remembered past, K-weighted: [frames]."""
        spectrum = np.fft.rfft(self._held, axis=0)
        spectrum *= self._response
        y = np.fft.irfft(spectrum, self._size, axis=0)[self._memory : self._memory + frames]
        # Not by BLAS, whose threads would spin on the cores that other files are rendered on.
        return np.asarray(np.einsum("fc,fc,c->f", y, y, self._weights), np.float64)

    def _count(self, powers: NDArray[np.float64], steps: list[float]) -> tuple[int, float]:
        """Sum powers up to each 100 ms border into `steps`; return frames counted and what is left over."""
        start, stop = self._weighted_frames, self._weighted_frames + len(powers)
        borders = np.arange(len(steps) + 1, math.ceil(10.0 * stop / self.rate_hz) + 2)
        ends = np.floor(borders * self.rate_hz / 10.0 + 0.5).astype(np.int64)
        at, left = 0, self._step_power
        for end in ends[ends <= stop] - start:
            steps.append(left + float(np.sum(powers[at:end])))
            at, left = int(end), 0.0
        return stop, left + float(np.sum(powers[at:]))

    @property
    def peak_dbfs(self) -> float | None:
        """Sample peak in dB, 0 at full scale; None for digital silence."""
        return 20.0 * math.log10(self.peak) if self.peak > 0.0 else None

    @property
    def integrated_lufs(self) -> float | None:
        """Integrated loudness in LUFS (which is LKFS) of everything so far.

        None where it is not measurable: shorter than 400 ms, silent (all below the absolute gate), or a rate
        below `LOWEST_RATE_HZ`.
        """
        steps = list(self._powers)
        pending = self._fill - self._memory
        if self._measurable and pending:
            held = self._held.copy()
            self._held[self._fill :] = 0.0
            self._count(self._weigh(pending), steps)
            self._held = held
        return _gated_lufs(np.array(steps), self.rate_hz)


def _gated_lufs(steps: NDArray[np.float64], rate_hz: float) -> float | None:
    count = len(steps) - _GATES_PER_BLOCK + 1
    if count < 1:
        return None
    borders = np.floor(np.arange(len(steps) + 1) * rate_hz / 10.0 + 0.5)
    lengths = borders[_GATES_PER_BLOCK:] - borders[:-_GATES_PER_BLOCK]
    powers = sum(steps[i : i + count] for i in range(_GATES_PER_BLOCK)) / lengths
    powers = powers[powers > _power(_ABSOLUTE_GATE_LUFS)]
    if powers.size == 0:
        return None
    gate = float(np.mean(powers)) * 10.0 ** (_RELATIVE_GATE_LU / 10.0)
    return _OFFSET_LU + 10.0 * math.log10(float(np.mean(powers[powers > gate])))


def _power(lufs: float) -> float:
    return float(10.0 ** ((lufs - _OFFSET_LU) / 10.0))


def integrated_lufs(x: ArrayLike, rate_hz: float) -> float | None:
    """Integrated loudness of a whole signal ``[frames]`` or ``[frames, channels]``; see `LoudnessMeter`."""
    signal = np.asarray(x)
    meter = LoudnessMeter(rate_hz, 1 if signal.ndim == 1 else signal.shape[1])
    meter.add(signal)
    return meter.integrated_lufs
