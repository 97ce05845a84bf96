"""Whole audio files as bytes in memory, equal for equal audio."""

from __future__ import annotations

import io

import numpy as np

from ..dither import BITS as WHOLE_BITS
from ..dither import quantised
from ..errors import AudioFileError
from ._library import Array, PathLike, leave_out_peaks, reason_of, soundfile
from .formats import UNCLIPPED_SUBTYPES, format_of, subtype_for


def file_bytes(
    x: Array, rate_hz: int, name: PathLike, subtype: str | None = None, dithered_from: int = 0
) -> tuple[bytes, int]:
    """The file that a signal becomes.

    Parameters
    ----------
    x : float32 array [frames, channels]
    rate_hz : int
    name : str or path
        Its extension gives the format; nothing is made under that name.
    subtype : str, optional
        libsndfile's name of how samples are stored; the format's best by default.
    dithered_from : int
        The frame's number that dither begins at, where samples are stored as whole numbers of at most 24
        bits.

    Returns
    -------
    bytes
    int
        How many samples were beyond full scale and cut there.

    Raises
    ------
    AudioFileError
        The format cannot hold the signal.
    """
    kind, stored = format_of(name), subtype_for(name, subtype)
    clipped = 0 if stored in UNCLIPPED_SUBTYPES else int(np.count_nonzero(np.abs(x) > 1.0))
    bits = WHOLE_BITS.get(stored)
    samples = x if bits is None else quantised(x, bits, dithered_from)
    library = soundfile()
    buffer = io.BytesIO()
    try:
        with library.SoundFile(
            buffer, "w", samplerate=rate_hz, channels=x.shape[1], format=kind, subtype=stored
        ) as file:
            leave_out_peaks(file)
            file.write(samples)
    except (library.SoundFileError, ValueError, TypeError, OverflowError) as error:
        what = f"{kind} {stored} with {x.shape[1]} channels at {rate_hz} Hz"
        raise AudioFileError(f"{name}: cannot write {what}: {reason_of(error)}") from error
    return buffer.getvalue(), clipped
