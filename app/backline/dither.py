"""Dither: the noise that keeps what is below the last bit, where samples are stored in fewer bits.

Triangular, two least significant bits wide and white: the error that is left has a mean and a power which
do not depend on the signal (Lipshitz, Wannamaker and Vanderkooy, "Quantization and Dither: A Theoretical
Survey", Journal of the Audio Engineering Society 40, 1992). Its numbers depend on the frame's place in the
file alone, so that equal renders are equal files, however they were cut into blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Bits of subtypes that hold whole numbers, by libsndfile's name.
BITS = {
    "PCM_S8": 8,
    "PCM_U8": 8,
    "PCM_16": 16,
    "PCM_24": 24,
    "ALAC_16": 16,
    "ALAC_20": 20,
    "ALAC_24": 24,
}

_SEED = 0x6261636B6C696E65
_BLOCK_FRAMES = 4096


def triangular(first_frame: int, frames: int, channels: int) -> NDArray[np.float64]:
    """Noise for some frames of a file.

    Parameters
    ----------
    first_frame, frames, channels : int

    Returns
    -------
    float64 array [frames, channels]
        Between -1 and 1, in units of the least significant bit.
    """
    found = []
    first, last = first_frame // _BLOCK_FRAMES, -(-(first_frame + frames) // _BLOCK_FRAMES)
    for block in range(first, last):
        drawn = np.random.Generator(np.random.Philox(key=_SEED, counter=[0, block, 0, 0]))
        found.append(drawn.random((_BLOCK_FRAMES, channels)) - drawn.random((_BLOCK_FRAMES, channels)))
    if not found:
        return np.zeros((0, channels))
    start = first_frame - first * _BLOCK_FRAMES
    return np.concatenate(found)[start : start + frames]


def quantised(x: NDArray[np.float32], bits: int, dithered_from: int | None) -> NDArray[np.float64]:
    """Round samples to what whole numbers of that many bits can hold.

    libsndfile, told to clip, would round down instead: half a bit of offset.

    Parameters
    ----------
    x : float32 array [frames, channels]
    bits : int
    dithered_from : int, optional
        The first frame's place in the file; without dither by default.

    Returns
    -------
    float64 array [frames, channels]
    """
    full = float(1 << (bits - 1))
    scaled = x.astype(np.float64) * full
    if dithered_from is not None:
        scaled += triangular(dithered_from, *x.shape)
    return np.asarray(np.clip(np.rint(scaled), -full, full - 1.0) / full)
