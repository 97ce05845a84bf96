"""What formats there are to write, and how their samples are stored."""

from __future__ import annotations

import functools
from pathlib import Path

from ..errors import AudioFileError
from ._library import PathLike, soundfile

#: Extensions whose format libsndfile names otherwise.
_FORMAT_OF_EXTENSION = {
    "AIF": "AIFF",
    "AIFC": "AIFF",
    "OGA": "OGG",
    "OPUS": "OGG",
    "SF": "IRCAM",
    "SND": "AU",
    "WAVE": "WAV",
}
#: What to write where the caller does not say: the most exact thing that other programs still read.
_BEST_SUBTYPE = {
    "AIFF": "PCM_24",
    "AU": "FLOAT",
    "CAF": "FLOAT",
    "FLAC": "PCM_24",
    "IRCAM": "FLOAT",
    "MAT4": "FLOAT",
    "MAT5": "FLOAT",
    "RAW": "FLOAT",
    "RF64": "FLOAT",
    "W64": "FLOAT",
    "WAV": "FLOAT",
    "WAVEX": "FLOAT",
}
SAMPLE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
#: These hold any float; all others cut at full scale. (Vorbis codes floats; it is the player that clips.)
UNCLIPPED_SUBTYPES = frozenset({"FLOAT", "DOUBLE", "VORBIS"})
_USUAL_FORMATS = ("WAV", "FLAC", "AIFF", "OGG", "MP3", "CAF", "W64")
#: libsndfile 1.2.2 writes these, and then fails to read them (DWVW) or reads noise (ALAC_20 in stereo).
_UNREADABLE_SUBTYPES = ("DWVW_", "ALAC_20")
COMPRESSED_FORMATS = frozenset({"FLAC", "OGG", "MP3"})
#: Formats whose headers count bytes in 32 bits.
SHORT_FORMATS = frozenset({"WAV", "WAVEX", "AIFF", "AU"})
SHORT_FORMAT_BYTES = (1 << 32) - (1 << 16)


@functools.cache
def _writable_formats() -> tuple[str, ...]:
    # All but SD2, which writes a second file beside that a rename would lose.
    return tuple(name for name in soundfile().available_formats() if name != "SD2")


@functools.cache
def _subtypes(format_name: str) -> tuple[str, ...]:
    known = soundfile().available_subtypes(format_name)
    return tuple(subtype for subtype in known if not subtype.startswith(_UNREADABLE_SUBTYPES))


def format_of(path: PathLike) -> str:
    """libsndfile's name of the format that a file name's extension stands for.

    Raises
    ------
    AudioFileError
        No extension, or one that stands for nothing that can be written here.
    """
    extension = Path(path).suffix[1:].upper()
    name = _FORMAT_OF_EXTENSION.get(extension, extension)
    known = _writable_formats()
    if not extension:
        raise AudioFileError(f"{path}: has no extension to tell the format by, such as .wav or .flac")
    if name not in known:
        usual = ", ".join(f".{n.lower()}" for n in _USUAL_FORMATS if n in known)
        raise AudioFileError(f"{path}: cannot write {Path(path).suffix} files; usual formats are {usual}")
    return name


def subtype_for(path: PathLike, subtype: str | None = None) -> str:
    """The subtype a file is written with: `subtype` if its format has it, the format's best if None.

    Raises
    ------
    AudioFileError
        The format of `path` has no such subtype.
    """
    name = format_of(path)
    if subtype is None:
        opus = Path(path).suffix.lower() == ".opus"
        return "OPUS" if opus else _BEST_SUBTYPE.get(name, str(soundfile().default_subtype(name)))
    known = _subtypes(name)
    if subtype.upper() not in known:
        raise AudioFileError(f"{path}: {name} files have no subtype {subtype}; known are {', '.join(known)}")
    return subtype.upper()
