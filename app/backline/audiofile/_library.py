"""libsndfile: the only module that imports soundfile, and only when a file is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependency
from ..pending import reason

Array = NDArray[np.float32]
PathLike = str | os.PathLike[str]

#: Frames per block where the caller does not say.
BLOCK_FRAMES = 16384
#: SFC_SET_ADD_PEAK_CHUNK of sndfile.h, which soundfile does not name.
_ADD_PEAK_CHUNK = 0x1050


def soundfile() -> Any:
    """The package, imported when it is first asked for."""
    try:
        import soundfile as library
    except (ImportError, OSError) as error:
        raise MissingDependency(f"reading audio files needs the package soundfile: {error}") from error
    return library


def leave_out_peaks(file: Any) -> None:
    """Tell a file not to hold the chunk of peaks, which has the time in it: equal audio, unequal files."""
    library = soundfile()
    library._snd.sf_command(file._file, _ADD_PEAK_CHUNK, library._ffi.NULL, 0)


def close_unflushed(file: Any) -> None:
    """Close a file without having it flushed, as soundfile would: that is done once, before it gets its name.

    Raises
    ------
    soundfile.SoundFileError
    """
    library = soundfile()
    handle, file._file = file._file, None
    if handle is not None:
        library._error_check(library._snd.sf_close(handle))


def reason_of(error: BaseException) -> str:
    """Say in half a sentence what libsndfile or the system complains about."""
    if isinstance(error, OSError):
        return reason(error)
    text = str(getattr(error, "error_string", error))
    return text.removeprefix("Error : ").rstrip(". ") or type(error).__name__


def system_path(path: Path) -> str | bytes:
    """As the system has it: file names of POSIX are bytes, and need not be text."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)
