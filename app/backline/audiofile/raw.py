"""Samples without a header, decoded and encoded by libsndfile."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dither import BITS as WHOLE_BITS
from ..dither import quantised
from ..errors import AudioFileError
from ._library import Array, reason_of, soundfile
from .formats import SAMPLE_BYTES, UNCLIPPED_SUBTYPES

_BYTES = {**SAMPLE_BYTES, "ULAW": 1, "ALAW": 1}


@dataclass(frozen=True)
class RawFormat:
    """How samples without a header are stored.

    Attributes
    ----------
    rate_hz, channels : int
    subtype : str
        libsndfile's name, e.g. ``"PCM_16"``; only those of a fixed number of bytes.
    endian : str
        ``"LITTLE"`` or ``"BIG"``.

    Raises
    ------
    AudioFileError
        There is no such subtype, or there are no channels.
    """

    rate_hz: int
    channels: int
    subtype: str = "FLOAT"
    endian: str = "LITTLE"

    def __post_init__(self) -> None:
        if self.subtype not in _BYTES:
            raise AudioFileError(f"raw samples: no subtype {self.subtype}; known are {', '.join(_BYTES)}")
        if not 1 <= self.channels <= 1024 or not 1 <= self.rate_hz <= 2_000_000:
            raise AudioFileError(f"raw samples: found {self.channels} channels at {self.rate_hz} Hz")

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return _BYTES[self.subtype] * self.channels

    @property
    def keywords(self) -> dict[str, Any]:
        """What libsndfile has to be told."""
        return {
            "format": "RAW",
            "samplerate": self.rate_hz,
            "channels": self.channels,
            "subtype": self.subtype,
            "endian": self.endian,
        }

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Read ``RATE,CHANNELS[,SUBTYPE[,ENDIAN]]``.

        Raises
        ------
        AudioFileError
            It is none.
        """
        rate, channels, *more = text.upper().split(",")[:5] if "," in text else ("", "")
        try:
            if len(more) > 2 or (more[1:] and more[1] not in ("LITTLE", "BIG")):
                raise ValueError
            return cls(int(rate), int(channels), *more)
        except ValueError:
            raise AudioFileError(
                f"raw samples: expected RATE,CHANNELS[,SUBTYPE[,LITTLE or BIG]], found {text!r}"
            ) from None


def decoded(data: bytes, raw: RawFormat) -> Array:
    """Samples of whole frames: float32 [frames, channels]."""
    with soundfile().SoundFile(io.BytesIO(data), **raw.keywords) as file:
        block: Array = file.read(dtype="float32", always_2d=True)
    return block


def encoded(x: Array, raw: RawFormat, dithered_from: int | None) -> tuple[bytes, int]:
    """Bytes of samples.

    Parameters
    ----------
    x : float32 array [frames, channels]
    raw : RawFormat
    dithered_from : int, optional
        The frame's number that dither is indexed by; without dither by default.

    Returns
    -------
    bytes
    int
        How many samples were beyond full scale and cut there.
    """
    kept = raw.subtype in UNCLIPPED_SUBTYPES
    clipped = 0 if kept else int(np.count_nonzero(np.abs(x) > 1.0))
    bits = WHOLE_BITS.get(raw.subtype)
    samples = x if bits is None else quantised(x, bits, dithered_from)
    library = soundfile()
    buffer = io.BytesIO()
    try:
        with library.SoundFile(buffer, "w", **raw.keywords) as file:
            file.write(samples)
            file.flush()
            data = buffer.getvalue()
    except library.SoundFileError as error:
        raise AudioFileError(f"raw samples: {reason_of(error)}") from error
    return data, clipped
