"""A file that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import AudioFileError, DiskFull, FileExists

#: Names for temporaries of one draft, where work that broke off unheard of is begun again elsewhere.
MAX_ATTEMPTS = 8


def reason(error: OSError) -> str:
    """What the system complains about, without its number."""
    return error.strerror or str(error)


def refused(target: Path, error: OSError) -> AudioFileError:
    """What to raise where the system does not let `target` be written."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else AudioFileError
    return kind(f"{target}: cannot be written: {reason(error)}")


@dataclass(frozen=True)
class Draft:
    """A target whose temporary file is named beforehand; whoever asks for it gives it the target's name.

    It stands for its target wherever a path does. What is written to it lies, whole and flushed, under the
    temporary's name once it is closed; between that and `publish` somebody may look at it and take notes.

    Attributes
    ----------
    target, temporary : Path
    overwrite : bool
        Replace an existing target.
    is_flushed_later : bool
        Whether what was written is not flushed when it is closed, but when `flush` is called.
    """

    target: Path
    temporary: Path
    overwrite: bool = False
    is_flushed_later: bool = False

    @classmethod
    def of(cls, target: Path, *, overwrite: bool = False) -> Draft:
        """A draft for a target, with a new name beside it for the temporary; touches nothing."""
        folder = _behind_links(target, overwrite).parent
        return cls(target, folder / f".backline-{secrets.token_hex(6)}.part", overwrite)

    @property
    def attempts(self) -> tuple[Draft, ...]:
        """The same with other temporaries, whose names follow from its own.

        Whoever cannot know that nobody is writing to the temporary any more takes one that is not there.
        """
        names = (f"{self.temporary.stem}.{number}.part" for number in range(MAX_ATTEMPTS))
        return tuple(replace(self, temporary=self.temporary.with_name(name)) for name in names)

    def __fspath__(self) -> str:
        return os.fspath(self.target)

    def flush(self) -> None:
        """Have the temporary written to the disk; others may run meanwhile.

        Raises
        ------
        AudioFileError
            The system refuses. The temporary stays.
        """
        try:
            with open(self.temporary, "rb+") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise refused(self.target, error) from error

    def publish(self) -> None:
        """Give the finished temporary its target's name; `sync_folder` makes that last.

        Raises
        ------
        FileExists
            The name is taken. The temporary stays.
        AudioFileError
            The system refuses. The temporary stays.
        """
        try:
            _rename(self.temporary, _behind_links(self.target, self.overwrite), self.overwrite)
        except FileExistsError:
            raise FileExists(f"{self.target}: exists already") from None
        except OSError as error:
            raise refused(self.target, error) from error

    def discard(self) -> None:
        """Remove the temporary, if it is there."""
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)


def _behind_links(target: Path, overwrite: bool) -> Path:
    """Behind a link, so that overwriting replaces the file it points to and not the link."""
    return Path(os.path.realpath(target)) if overwrite else target


def _rename(temporary: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        # A link never replaces anything, so nobody's file is lost even if it appeared this instant.
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # No links on this file system: take the name first, then rename onto the own empty file.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(temporary, target)
    else:
        os.unlink(temporary)


def sync_folder(folder: Path) -> None:
    """Make names in a folder last; where a system cannot do that, nothing can be done."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


class PendingFile:
    """An empty temporary file beside its target, to be filled, then renamed or removed.

    Parameters
    ----------
    target : Path or Draft
        A draft names its temporary file itself, and `commit` leaves it under that name.
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

    def __init__(self, target: Path | Draft, *, overwrite: bool = False) -> None:
        self._is_draft = isinstance(target, Draft)
        self._draft = target if isinstance(target, Draft) else Draft.of(target, overwrite=overwrite)
        self._asked = self._draft.target
        self._overwrite = self._draft.overwrite
        self._check_target()
        self.temporary = self._draft.temporary
        self._open = True
        try:
            os.close(os.open(self.temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            folder = self.temporary.parent
            if isinstance(error, FileNotFoundError) and not folder.exists():
                text = f"{self._asked}: cannot be written: the folder {folder} does not exist"
                raise AudioFileError(text) from error
            raise refused(self._asked, error) from error
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
        """Flush the temporary file to the disk and give it its name, unless it is a draft's.

        Raises
        ------
        FileExists
            The name has been taken meanwhile. The temporary file is removed.
        AudioFileError
            The system refuses. The temporary file is removed.
        """
        try:
            if not self._draft.is_flushed_later:
                self._draft.flush()
            if self._is_draft:
                self._open = False
                return
            self._draft.publish()
        finally:
            self.discard()
        sync_folder(self.temporary.parent)

    def discard(self) -> None:
        """Remove the temporary file; fine at any time, and after `commit` does nothing."""
        if self._open:
            self._open = False
            with contextlib.suppress(OSError):
                self.temporary.unlink(missing_ok=True)
