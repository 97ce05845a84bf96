"""Loudness and peak of a signal, measured while it goes by.

Integrated loudness after Recommendation ITU-R BS.1770-4 (2015), annex 1: K-weighting, mean square over
blocks of 400 ms with 75 % overlap, an absolute gate at -70 LKFS and a relative one 10 LU below what passes
it. The recommendation gives the filters as coefficients at 48 kHz; other rates use the analogue prototypes
behind them (as in libebur128), which give those very coefficients at 48 kHz.

There is no recursive filter in NumPy: the K-weighting runs in C, in float64.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .native import ffi, lib

_GATES_PER_BLOCK = 4  # 400 ms in steps of 100 ms
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_OFFSET_LU = -0.691
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


class LoudnessMeter:
    """Measures a stream of blocks; the figures do not depend, to the bit, on how it is cut.

    Memory grows by ten numbers per second of audio. What is not finite makes the loudness so from there on.

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
        self._sections = _sections(self.rate_hz) if self._measurable else None
        self._state = np.zeros((channels, lib.BL_SECTION_STATE))
        self._powers: list[float] = []  # one per finished 100 ms, summed over channels
        self._power = np.zeros(channels)  # of the unfinished one

    def add(self, block: ArrayLike) -> None:
        """Measure the next block: float ``[frames, channels]``, or ``[frames]`` for one channel."""
        x = np.asarray(block)
        x = x.reshape(-1, 1) if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise ValueError(f"expected [frames, {self.channels}], found shape {list(x.shape)}")
        if len(x) == 0:
            return
        if self._measurable:
            self._weigh(np.ascontiguousarray(x, np.float64))
        self.frames += len(x)
        self.peak = max(self.peak, float(np.max(x)), -float(np.min(x)))

    def _weigh(self, x: NDArray[np.float64]) -> None:
        """Add up the power of frames [frames, channels], K-weighted, from one 100 ms border to the next."""
        start, stop = self.frames, self.frames + len(x)
        last = len(self._powers) + 1 + math.ceil(10.0 * len(x) / self.rate_hz)
        ends = _border(np.arange(len(self._powers) + 1, last + 1), self.rate_hz)
        finished = int(np.count_nonzero(ends <= stop))
        ends = np.minimum(ends[: finished + 1], stop) - start
        powers = np.zeros((finished + 1, self.channels))
        powers[0] = self._power
        lib.bl_sections_power(
            self._sections,
            ffi.from_buffer("double[]", self._state, require_writable=True),
            ffi.from_buffer("double[]", x),
            self.channels,
            ffi.from_buffer("int64_t[]", ends),
            len(ends),
            ffi.from_buffer("double[]", powers, require_writable=True),
        )
        # Not by BLAS, whose threads would spin on the cores that other files are rendered on.
        self._powers += (powers[:-1] * self._weights).sum(axis=1).tolist()
        self._power = powers[-1]

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
        return _gated_lufs(np.array(self._powers), self.rate_hz)


@functools.lru_cache(maxsize=4)
def _sections(rate_hz: float) -> Any:
    """The K-weighting as C has it; only read."""
    b, a = k_weighting(rate_hz)
    return ffi.new("bl_section[2]", [(list(b[i]), list(a[i, 1:])) for i in range(2)])


def _border(number: NDArray[np.int64], rate_hz: float) -> NDArray[np.int64]:
    """Frame at which so many times 100 ms have gone by."""
    return np.asarray(np.floor(number * rate_hz / 10.0 + 0.5), np.int64)


def _gated_lufs(steps: NDArray[np.float64], rate_hz: float) -> float | None:
    count = len(steps) - _GATES_PER_BLOCK + 1
    if count < 1:
        return None
    borders = _border(np.arange(len(steps) + 1), rate_hz)
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
