"""Sample-rate conversion by libsoxr at its best quality.

The only module that imports soxr, and only when it is used. The quality is libsoxr's "very high": linear
phase, 28 bits, arithmetic in float64 with float32 at both ends, no delay (output 0 is at the time of
input 0).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BacklineError, MissingDependency

Array = NDArray[np.float32]


def _soxr() -> Any:
    try:
        import soxr
    except (ImportError, OSError) as error:
        raise MissingDependency(f"resampling needs the package soxr: {error}") from error
    return soxr


def resampled_frames(frames: int, from_hz: float, to_hz: float) -> int:
    """Frames that `frames` frames at `from_hz` become at `to_hz`: the nearest whole number, halves up."""
    return math.floor(frames * to_hz / from_hz + 0.5)


class Resampler:
    """Convert a stream from one rate to another, block by block.

    All outputs in a row are, bit for bit, what `resample` makes of all inputs in a row: the cut into blocks
    does not matter. In all, n frames in give ``resampled_frames(n, from_hz, to_hz)`` frames out; how many a
    single call returns is libsoxr's affair, and may be none.

    Parameters
    ----------
    from_hz, to_hz : float
        Rates, whole or not.
    channels : int

    Raises
    ------
    BacklineError
        A rate that is not a positive finite number.
    MissingDependency
        No soxr.
    """

    def __init__(self, from_hz: float, to_hz: float, channels: int) -> None:
        for what, rate_hz in (("from", from_hz), ("to", to_hz)):
            if not (math.isfinite(rate_hz) and rate_hz > 0):
                raise BacklineError(f"cannot resample {what} {rate_hz} Hz: expected a rate above 0")
        soxr = _soxr()
        self.from_hz = float(from_hz)
        self.to_hz = float(to_hz)
        self.channels = channels
        self._stream: Any = soxr.ResampleStream(self.from_hz, self.to_hz, channels, np.float32, soxr.VHQ)
        self._finished = False

    def process(self, block: Array) -> Array:
        """Convert the next block.

        Parameters
        ----------
        block : float32 array [frames, channels]

        Returns
        -------
        float32 array [frames, channels]
            What is ready: from nothing up to a little more than the block's share.
        """
        return self._convert(block, last=False)

    def finish(self) -> Array:
        """Return what is left, the signal being followed by silence; nothing may come after.

        Returns
        -------
        float32 array [frames, channels]
        """
        return self._convert(np.zeros((0, self.channels), np.float32), last=True)

    def _convert(self, block: Array, *, last: bool) -> Array:
        if self._finished:
            raise ValueError("the resampler has been finished")
        if block.ndim != 2 or block.shape[1] != self.channels:
            raise ValueError(f"expected [frames, {self.channels}], found shape {list(block.shape)}")
        self._finished = last
        made: Array = self._stream.resample_chunk(np.ascontiguousarray(block, np.float32), last=last)
        return made


def resample(x: Array, from_hz: float, to_hz: float) -> Array:
    """Convert a whole signal.

    Parameters
    ----------
    x : float32 array [frames] or [frames, channels]
    from_hz, to_hz : float

    Returns
    -------
    float32 array
        Of the same axes, ``resampled_frames(len(x), from_hz, to_hz)`` frames; `x` itself for equal rates.

    Raises
    ------
    BacklineError, MissingDependency
        See :class:`Resampler`.
    """
    if from_hz == to_hz:
        return x
    planes = x[:, np.newaxis] if x.ndim == 1 else x
    stream = Resampler(from_hz, to_hz, planes.shape[1])
    made = np.concatenate([stream.process(planes), stream.finish()])
    return made[:, 0] if x.ndim == 1 else made
