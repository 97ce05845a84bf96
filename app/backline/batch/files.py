"""What is in a file, and how to see that it has not changed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..audiofile import AudioReader, PathLike
from ..errors import AudioFileError
from ..pending import reason

_BLOCK_BYTES = 1 << 18


class Stat(Protocol):
    """What is asked of `os.stat_result`."""

    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_ctime_ns(self) -> int: ...
    @property
    def st_ino(self) -> int: ...


@dataclass(frozen=True)
class Fingerprint:
    """An input's content (SHA-256), and what the system said of the file then."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str

    def is_of(self, found: Stat) -> bool:
        """Whether the file is, as far as the system can tell, the one that was hashed."""
        now = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        return now == (self.size, self.mtime_ns, self.ctime_ns, self.inode)

    def check(self, source: PathLike) -> None:
        """Raise `AudioFileError` unless the file is still what it was."""
        try:
            now = os.stat(source)
        except OSError as error:
            raise AudioFileError(f"{source}: went away while it was read: {reason(error)}") from error
        # Not the time of the last change of mode or links, which says nothing of the content.
        if (now.st_size, now.st_mtime_ns, now.st_ino) != (self.size, self.mtime_ns, self.inode):
            raise AudioFileError(f"{source}: changed while it was read")


@dataclass(frozen=True)
class Known:
    """An output that was rendered: what it was made from, and what is in it."""

    key: str
    sha256: str
    size: int
    mtime_ns: int

    def is_of(self, found: Stat) -> bool:
        """Whether the file is, as far as the system can tell, that output."""
        return (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)


def hash_of(path: Path) -> str:
    """SHA-256 of a file's content; lets other threads run."""
    digest = hashlib.sha256()
    buffer = bytearray(_BLOCK_BYTES)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def fingerprint(source: Path) -> Fingerprint:
    """Hash an input.

    Raises
    ------
    AudioFileError
        It cannot be read, or changed meanwhile.
    """
    try:
        found = os.stat(source)
        if stat.S_ISREG(found.st_mode):
            print_ = Fingerprint(
                found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, hash_of(source)
            )
            print_.check(source)
            return print_
    except (OSError, ValueError):
        pass
    AudioReader(source).close()  # which says why
    raise AudioFileError(f"{source}: cannot be read")
