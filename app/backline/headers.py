"""What libsndfile writes into headers that is not the audio's, and makes equal audio unequal files."""

from __future__ import annotations

from pathlib import Path

_HEADER_BYTES = 4096
#: Of a PEAK chunk: its name, size and version, each four bytes; then the time.
_TIME_OFFSET, _TIME_BYTES = 12, 4


def forget_time(path: Path, file_format: str) -> None:
    """Clear the time in the chunk of peaks, where libsndfile cannot be told to leave the chunk out (RF64).

    Raises
    ------
    OSError
        The file cannot be changed.
    """
    if file_format != "RF64":
        return
    with open(path, "rb+") as file:
        header = file.read(_HEADER_BYTES)
        found = header.find(b"PEAK", 0, header.find(b"data"))
        if found >= 0:
            file.seek(found + _TIME_OFFSET)
            file.write(bytes(_TIME_BYTES))
