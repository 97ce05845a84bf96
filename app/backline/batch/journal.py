"""What is done and what was begun: a SQLite file in the folder of the outputs, so that no work is lost.

How an output comes to be, and what a run finds that comes after one that was killed there:

1. The temporary's name is committed. Killed: the temporary, if there is one, is removed.
2. The temporary is written, flushed and hashed. Killed: the same.
3. The hash is committed. Killed: the temporary, if its hash is right, is given its name.
4. It is renamed. Killed: the output is there and has that hash; this is noted.
5. With the next commit, the output is noted as done.

Nothing else is ever removed or renamed. SQLite writes ahead (WAL) and flushes with every commit: a kill or a
power cut at any moment loses only commits that were not over. The WAL's index stays in memory, because this
process is the only one (`FolderLock` sees to it), so nothing is mapped that a full disk could take away.
Names are relative to the journal's folder, which may be moved as a whole; URLs are what they are.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audiofile import PathLike
from ..errors import AudioFileError, BacklineError, DiskFull
from ..pending import Draft, reason, sync_folder
from . import drafts
from .drafts import AnyDraft, discard_all
from .files import Fingerprint, Known
from .lock import FolderLock
from .storage import Place, Url, is_url, stat_of

#: Its usual name in the folder of the outputs.
JOURNAL_NAME = ".backline-journal.sqlite"

_APPLICATION_ID = 0x626B6C6E  # "bkln"
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE outputs (target PRIMARY KEY, key TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, report TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE temporaries (temporary PRIMARY KEY, target NOT NULL, overwrite INTEGER NOT NULL,
    state TEXT NOT NULL, key TEXT, sha256 TEXT, size INTEGER, mtime_ns INTEGER, report TEXT) WITHOUT ROWID;
CREATE TABLE inputs (path PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE renders (target, key TEXT, finished INTEGER NOT NULL, PRIMARY KEY (target, key)) WITHOUT ROWID;
"""
#: A file changed this shortly before it was hashed may change again without its time showing it.
_RACY_NS = 50_000_000
#: Servers count whole seconds.
_RACY_URL_NS = 2_000_000_000
_FULL_BYTES = 1 << 16


def key_of(source_sha256: str, model_sha256: str, settings: dict[str, Any]) -> str:
    """What an output depends on, as one hash: input, model, settings, and the version of what renders."""
    from .. import __version__, native

    document = {
        "input": source_sha256,
        "model": model_sha256,
        "settings": settings,
        "version": __version__,
        "abi": int(native.lib.bl_abi_version()),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Recovered:
    """What a killed run had left: outputs that were given their names, and temporaries that were removed."""

    published: int
    removed: int


class Journal:
    """An open journal; one process at a time, and one thread.

    Parameters
    ----------
    path : str or path
        Made where there is none. Its folder has to be there.
    is_copy : bool
        Open a copy of it as it is now, for looking only: nothing in its folder is touched, and another
        process may have it.

    Raises
    ------
    BacklineError
        Another process has it, it is damaged, of a newer version, or no journal. Nothing is deleted.
    DiskFull
        There is no room for it.
    """

    def __init__(self, path: PathLike, *, is_copy: bool = False) -> None:
        self.path = Path(path)
        self.folder = Path(os.path.realpath(self.path.parent))
        # Asked for several times for each output, and most outputs share a folder.
        self._folder_name = functools.lru_cache(maxsize=1024)(self._relative)
        self._connection: sqlite3.Connection | None = None
        self._held = contextlib.ExitStack()
        try:
            file = self._copied() if is_copy else self._locked()
            with self._guarded():
                self._open(file)
        except BaseException:
            self.close()
            raise

    def _locked(self) -> Path:
        lock = FolderLock(self.path.with_name(f"{self.path.name}.lock"))
        self._held.callback(lock.close)
        return self.path

    def _copied(self) -> Path:
        copy = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="backline-")), self.path.name)
        try:
            for end in ("", "-wal"):  # what is committed may be in either
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(f"{self.path}{end}", f"{copy}{end}")
        except OSError as error:
            raise BacklineError(f"{self.path}: the journal cannot be read: {reason(error)}") from error
        return copy

    def _open(self, file: Path) -> None:
        # Commits are asked for, see `transaction`.
        self._connection = sqlite3.connect(file, isolation_level=None, timeout=0.0)
        execute = self._connection.execute
        # Before anything is read, so that the WAL's index is never in shared memory.
        execute("PRAGMA locking_mode = EXCLUSIVE")
        application, version = self._pragma("application_id"), self._pragma("user_version")
        is_new = not application and not version and not execute("SELECT 1 FROM sqlite_master").fetchone()
        if not is_new and application != _APPLICATION_ID:
            raise BacklineError(f"{self.path}: is a database of another program, expected a journal")
        if version > _SCHEMA_VERSION:
            raise BacklineError(
                f"{self.path}: is a journal of version {version}, made by a newer Backline; "
                f"this one knows {_SCHEMA_VERSION}"
            )
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        if is_new:
            with self.transaction():
                for statement in _SCHEMA.split(";"):
                    execute(statement)
                execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            return
        damage = execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)

    def _pragma(self, name: str) -> int:
        return int(self._execute(f"PRAGMA {name}").fetchone()[0])

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        if self._connection is None:
            raise ValueError(f"{self.path}: is closed")
        return self._connection.execute(statement, values)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Make what SQLite complains about one sentence."""
        try:
            yield
        except sqlite3.Error as error:
            text = " ".join(str(error).split())
            if "full" in text or self._is_full():
                raise DiskFull(f"{self.path}: cannot be written: the disk is full") from error
            if "locked" in text:
                raise BacklineError(f"{self.path}: another program has this journal open") from error
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in text:
                raise BacklineError(f"{self.path}: the journal cannot be used: {text}") from error
            raise BacklineError(
                f"{self.path}: the journal is damaged ({text}); move it away to begin anew, "
                f"and have outputs replaced; nothing was deleted"
            ) from error

    def _is_full(self) -> bool:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self.folder).free < _FULL_BYTES
        return False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is noted inside all at once, or, if that cannot be, nothing.

        Raises
        ------
        DiskFull
            There is no room. Nothing was noted.
        """
        with self._guarded():
            self._execute("BEGIN IMMEDIATE")
            try:
                yield
                self._execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have done so itself
                    self._execute("ROLLBACK")
                raise

    def note_started(self, draft: AnyDraft) -> None:
        """A temporary is about to be made."""
        values = (self.name_of(draft.temporary), self.name_of(draft.target), int(draft.overwrite))
        self._execute(
            "INSERT INTO temporaries (temporary, target, overwrite, state) VALUES (?, ?, ?, 'started')",
            values,
        )

    def note_finished(self, draft: AnyDraft, output: Known, report: str) -> None:
        """A temporary is whole and has this content."""
        target = self.name_of(draft.target)
        values = (
            output.key,
            output.sha256,
            output.size,
            output.mtime_ns,
            report,
            self.name_of(draft.temporary),
        )
        self._execute(
            "UPDATE temporaries SET state = 'finished', key = ?, sha256 = ?, size = ?, mtime_ns = ?, "
            "report = ? WHERE temporary = ?",
            values,
        )
        self._execute(
            "INSERT INTO renders VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET finished = finished + 1",
            (target, output.key),
        )

    def note_published(self, draft: AnyDraft) -> None:
        """A finished temporary has its target's name."""
        temporary = self.name_of(draft.temporary)
        self._execute(
            "INSERT OR REPLACE INTO outputs SELECT target, key, sha256, size, mtime_ns, report "
            "FROM temporaries WHERE temporary = ? AND state = 'finished'",
            (temporary,),
        )
        self._forget(temporary)

    def note_removed(self, draft: AnyDraft) -> None:
        """A temporary is no more, or was never made."""
        self._forget(self.name_of(draft.temporary))

    def _forget(self, temporary: str | bytes) -> None:
        self._execute("DELETE FROM temporaries WHERE temporary = ?", (temporary,))

    def note_time(self, target: Place, mtime_ns: int) -> None:
        """An output's content is what it was, though its time is not."""
        self._execute("UPDATE outputs SET mtime_ns = ? WHERE target = ?", (mtime_ns, self.name_of(target)))

    def note_input(self, source: Place, found: Fingerprint) -> None:
        """An input's content, unless it was changed so shortly before that it may change again unseen."""
        racy_ns = _RACY_URL_NS if isinstance(source, Url) else _RACY_NS
        if abs(time.time_ns() - max(found.mtime_ns, found.ctime_ns)) > racy_ns:
            values = (found.size, found.mtime_ns, found.ctime_ns, found.inode, found.sha256)
            name = _stored(_absolute(source))
            self._execute("INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?, ?, ?)", (name, *values))

    def input(self, source: Place) -> Fingerprint | None:
        """An input's content as it was last seen, if its size, times and inode are still the same.

        Of a URL, whether they are is not asked here: that takes a while, which a worker has.
        """
        with self._guarded():
            name = _stored(_absolute(source))
            row = self._execute("SELECT * FROM inputs WHERE path = ?", (name,)).fetchone()
        found = None if row is None else Fingerprint(*row[1:])
        if isinstance(source, Url):
            return found
        try:
            return found if found is not None and found.is_of(os.stat(source)) else None
        except (OSError, ValueError):
            return None

    def output(self, target: Place) -> Known | None:
        """What is known of an output that was done."""
        with self._guarded():
            row = self._execute(
                "SELECT key, sha256, size, mtime_ns FROM outputs WHERE target = ?", (self.name_of(target),)
            ).fetchone()
        return None if row is None else Known(*row)

    def report(self, target: Place) -> dict[str, Any] | None:
        """What was reported of an output when it was rendered."""
        with self._guarded():
            name = self.name_of(target)
            row = self._execute("SELECT report FROM outputs WHERE target = ?", (name,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def renders(self) -> list[int]:
        """How often each output was rendered to its end, for each state of its input, model and settings."""
        with self._guarded():
            return [count for (count,) in self._execute("SELECT finished FROM renders")]

    def finished(self) -> dict[str | bytes, str]:
        """Targets that a killed run had finished, which `recover` gives their names, and their keys."""
        with self._guarded():
            found = self._execute("SELECT target, key FROM temporaries WHERE state = 'finished'")
            return dict(found.fetchall())

    def recover(self) -> Recovered:
        """Give finished temporaries of a killed run their names, and remove those that were not finished."""
        published: list[AnyDraft] = []
        removed: list[AnyDraft] = []
        with self._guarded():
            rows = self._execute(
                "SELECT temporary, target, overwrite, state, key, sha256, size, mtime_ns FROM temporaries"
            ).fetchall()
        for temporary, target, overwrite, state, *known in rows:
            draft = drafts.draft(self._path(target), self._path(temporary), bool(overwrite))
            if not drafts.is_temporary(draft):
                raise BacklineError(
                    f"{self.path}: the journal is damaged ({draft.temporary} is no temporary of ours); "
                    f"move it away to begin anew, and have outputs replaced; nothing was deleted"
                )
            is_whole = state == "finished" and drafts.is_beside(draft)
            if is_whole and drafts.resumed(draft, Known(*known).sha256):
                published.append(draft)
            else:
                discard_all(draft)
                removed.append(draft)
        for folder in {draft.temporary.parent for draft in published if isinstance(draft, Draft)}:
            sync_folder(folder)
        if rows:
            with self.transaction():
                for draft in published:
                    self.note_published(draft)
                    if isinstance(draft, drafts.UrlDraft):
                        self.note_time(draft.target, stat_of(draft.target).st_mtime_ns)
                for draft in removed:
                    self.note_removed(draft)
        return Recovered(len(published), len(removed))

    def name_of(self, path: Place) -> str | bytes:
        """What the journal calls a file."""
        if isinstance(path, Url):
            return str(path)
        folder, name = os.path.split(path)
        return _stored(os.path.join(self._folder_name(folder), name))

    def _relative(self, folder: str) -> str:
        """A folder as seen from the journal's, links followed; empty if it is that."""
        found = os.path.relpath(os.path.realpath(os.path.abspath(folder)), self.folder)
        return "" if found == os.curdir else found

    def _path(self, stored: str | bytes) -> Place:
        if isinstance(stored, str) and is_url(stored):  # a relative path has no slash twice
            return Url(stored)
        return Path(os.path.normpath(self.folder / os.fsdecode(stored)))

    def close(self) -> None:
        """Close it and let others have it; more than once is fine."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(
                sqlite3.Error
            ):  # on a full disk the WAL stays, and is read the next time
                connection.close()
        self._held.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _absolute(source: Place) -> str:
    return str(source) if isinstance(source, Url) else os.path.abspath(source)


def _stored(path: str) -> str | bytes:
    """File names of POSIX are bytes: those that are no text are kept as such."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


@contextlib.contextmanager
def opened(journal: Journal | PathLike | None) -> Iterator[Journal | None]:
    """An open journal as it is, or one that is opened here, in a folder made where needed, and closed."""
    if journal is None or isinstance(journal, Journal):
        yield journal
        return
    folder = Path(journal).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioFileError(f"{folder}: cannot make this folder: {reason(error)}") from error
    with Journal(journal) as found:
        yield found
