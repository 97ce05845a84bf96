"""Audio files, read and written in blocks through libsndfile.

Arrays are float32 ``[frames, channels]`` with full scale at ±1, rates are whole hertz. Nothing here imports
soundfile before a file is opened.
"""

from ._library import BLOCK_FRAMES, Array, PathLike
from .formats import format_of, subtype_for
from .memory import file_bytes
from .raw import RawFormat, decoded, encoded
from .reader import AudioReader, read
from .writer import AudioWriter

__all__ = [
    "BLOCK_FRAMES",
    "Array",
    "AudioReader",
    "AudioWriter",
    "PathLike",
    "RawFormat",
    "decoded",
    "encoded",
    "file_bytes",
    "format_of",
    "read",
    "subtype_for",
]
