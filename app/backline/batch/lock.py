"""One process at a time for one folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path

from ..errors import BacklineError
from ..pending import reason

_MOST_BYTES = 200


class FolderLock:
    """A lock that the system lets go of when its process ends, however it ends.

    Parameters
    ----------
    path : Path
        A file of its own, which says who holds the lock, and is removed by `close`.

    Raises
    ------
    BacklineError
        Another process holds it, which is named; or the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        while self._file is None:
            self._file = self._taken()

    def _taken(self) -> int | None:
        """The locked file; None if it was removed meanwhile by who held it before."""
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise BacklineError(f"{self._path}: cannot be made: {reason(error)}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(self._path)):
                    self._sign(file)
                    return file
        except BlockingIOError:
            holder = os.read(file, _MOST_BYTES).decode(errors="replace").strip() or "another process"
            os.close(file)
            text = f"{self._path.parent}: {holder} is at work in this folder; wait for it, or end it"
            raise BacklineError(text) from None
        except OSError as error:
            os.close(file)
            raise BacklineError(f"{self._path}: cannot be locked: {reason(error)}") from error
        os.close(file)
        return None

    @staticmethod
    def _sign(file: int) -> None:
        with contextlib.suppress(OSError):  # on a full disk it is locked all the same
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def close(self) -> None:
        """Let go; more than once is fine."""
        file, self._file = self._file, None
        if file is not None:
            # Removed before it is let go, so that nobody locks a file that has lost its name unawares.
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(file)
