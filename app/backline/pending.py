"""A file that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from .errors import AudioFileError, FileExists


def reason(error: OSError) -> str:
    """What the system complains about, without its number."""
    return error.strerror or str(error)


class PendingFile:
    """An empty temporary file beside its target, to be filled, then renamed or removed.

    Parameters
    ----------
    target : Path
    overwrite : bool
        Replace an existing target. Without it, one that exists is refused now, and again by `commit`.

    Attributes
    ----------
    temporary : Path
        The file to fill: hidden, in the target's folder, made with the permissions of any new file.

    Raises
    ------
    FileExists
        The target exists.
    AudioFileError
        The target is no regular file, or its folder is missing or may not be written.
    """

    def __init__(self, target: Path, *, overwrite: bool = False) -> None:
        self._asked = target
        self._overwrite = overwrite
        self._check_target()
        # Behind a link, so that overwriting replaces the file it points to and not the link.
        self._target = Path(os.path.realpath(target)) if overwrite else target
        self.temporary = self._target.parent / f".backline-{secrets.token_hex(6)}.part"
        self._open = True
        try:
            os.close(os.open(self.temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            missing = isinstance(error, FileNotFoundError) and not self._target.parent.exists()
            why = f"the folder {self._target.parent} does not exist" if missing else reason(error)
            raise AudioFileError(f"{target}: cannot be written: {why}") from error
        except BaseException:
            self.discard()
            raise

    def _check_target(self) -> None:
        target = self._asked
        try:
            found = os.stat(target)
        except (FileNotFoundError, NotADirectoryError):
            # A dangling link has a name too, and renaming would replace it.
            if target.is_symlink() and not self._overwrite:
                raise self._exists() from None
            return
        except OSError as error:
            raise AudioFileError(f"{target}: cannot be written: {reason(error)}") from error
        except ValueError as error:
            raise AudioFileError(f"{target!s}: cannot be written: {error}") from error
        if stat.S_ISDIR(found.st_mode):
            raise AudioFileError(f"{target}: is a folder, expected a file to write")
        if not stat.S_ISREG(found.st_mode):
            raise AudioFileError(f"{target}: exists and is not a regular file")
        if not self._overwrite:
            raise self._exists()

    def _exists(self) -> FileExists:
        return FileExists(f"{self._asked}: exists already")

    def commit(self) -> None:
        """Flush the temporary file to the disk and give it its name.

        Raises
        ------
        FileExists
            The name has been taken meanwhile. The temporary file is removed.
        AudioFileError
            The system refuses. The temporary file is removed.
        """
        try:
            with open(self.temporary, "rb+") as file:
                os.fsync(file.fileno())
            self._rename()
        except FileExistsError:
            raise self._exists() from None
        except OSError as error:
            raise AudioFileError(f"{self._asked}: cannot be written: {reason(error)}") from error
        finally:
            self.discard()
        # The name is safe only once the folder is; where a system cannot do that, nothing can be done.
        with contextlib.suppress(OSError):
            folder = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _rename(self) -> None:
        if self._overwrite:
            os.replace(self.temporary, self._target)
            return
        try:
            # A link never replaces anything, so nobody's file is lost even if it appeared this instant.
            os.link(self.temporary, self._target)
        except FileExistsError:
            raise
        except OSError:
            # No links on this file system: take the name first, then rename onto the own empty file.
            os.close(os.open(self._target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            os.replace(self.temporary, self._target)

    def discard(self) -> None:
        """Remove the temporary file; fine at any time, and after `commit` does nothing."""
        if self._open:
            self._open = False
            with contextlib.suppress(OSError):
                self.temporary.unlink(missing_ok=True)
