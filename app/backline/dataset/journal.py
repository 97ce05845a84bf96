"""What is finished of a dataset, kept in its folder, so that a run that was killed is taken up again.

While a dataset is written, ``.backline-dataset.jsonl`` has a line with all that makes its bytes and then
one for each shard, with the hash of its file, flushed to the disk before the file gets its name: a shard
that is there under its name is known. In the end ``dataset.json`` says the same in order, and the journal
goes."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from ..errors import AudioFileError, FileExists
from ..pending import PendingFile, reason, refused, sync_folder
from .shards import Written

INDEX, MANIFEST = "dataset.json", "manifest.parquet"
_JOURNAL = ".backline-dataset.jsonl"
_OWN = re.compile(r"shard-\d{6,}\.tar|manifest\.parquet|dataset\.json|\.backline-dataset\.jsonl")
_TEMPORARY = re.compile(r"\.backline-[0-9a-f]+\.part")


class Journal:
    """A dataset's folder while one run writes to it; used in a ``with`` block.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    settings : mapping
        All that makes the bytes of a dataset, as JSON holds it; ``items`` may grow from run to run.
    overwrite : bool
        Remove a dataset of other settings.

    Attributes
    ----------
    known : dict of str to Written
        What is noted of shards, by the names of their files.

    Raises
    ------
    FileExists
        The folder holds another dataset, or files by the names of one.
    AudioFileError
        Another run is writing there, or the system refuses.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        self.known: dict[str, Written] = {}
        self._settings = json.loads(json.dumps(settings))
        self._writing = Lock()
        self._stack = contextlib.ExitStack()
        if folder.exists() and not folder.is_dir():
            raise AudioFileError(f"{folder}: is a file, expected a folder to write into")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stack.enter_context(_locked(folder))
            self._take_up(overwrite)
        except OSError as error:
            self._stack.close()
            raise refused(folder, error) from error
        except BaseException:
            self._stack.close()
            raise

    def _take_up(self, overwrite: bool) -> None:
        names = [entry.name for entry in self.folder.iterdir()]
        for name in names:
            if _TEMPORARY.fullmatch(name):  # nobody else writes here: left by a run that was killed
                (self.folder / name).unlink()
        own = [name for name in names if _OWN.fullmatch(name)]
        found, shards = _noted(self.folder)
        difference = self._difference(found) if own else None
        if difference and not overwrite:
            raise FileExists(f"{self.folder}: {difference}")
        if difference:
            for name in own:
                (self.folder / name).unlink()
            shards = []
        self.known = {each.name: each for each in shards}
        self._begin()

    def _begin(self) -> None:
        """A journal with what is known, in place of the one that is there; then open for more."""
        path = self.folder / _JOURNAL
        pending = PendingFile(path, overwrite=True)
        try:
            records = [{"settings": self._settings}, *(asdict(each) for each in self.known.values())]
            pending.temporary.write_text("".join(map(_line, records)), encoding="utf-8")
            pending.commit()
        finally:
            pending.discard()
        self._file = path.open("a", encoding="utf-8")
        self._stack.callback(self._file.close)

    def _difference(self, found: Mapping[str, Any] | None) -> str | None:
        """What is in the way of going on with what is there."""
        if found is None:
            return "holds files named like a dataset's, and nothing that says of which"
        keys = [*self._settings, *(key for key in found if key not in self._settings)]
        other = [key for key in keys if key != "items" and found.get(key) != self._settings.get(key)]
        if other:
            return f"holds another dataset, with other {', '.join(other)}"
        if found["items"] > self._settings["items"]:
            return f"holds {found['items']} items, more than {self._settings['items']}"
        return None

    def add(self, written: Written) -> None:
        """Note a shard that is about to get its name; from any thread."""
        with self._writing:
            self._file.write(_line(asdict(written)))
            self._file.flush()
            os.fsync(self._file.fileno())

    def finish(self, shards: Iterable[Written]) -> None:
        """Say that the dataset is whole: these are its shards, in order."""
        path = self.folder / INDEX
        pending = PendingFile(path, overwrite=True)
        try:
            document = {"settings": self._settings, "shards": [asdict(each) for each in shards]}
            pending.temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            pending.commit()
            self._file.close()
            (self.folder / _JOURNAL).unlink()
        except OSError as error:
            raise refused(path, error) from error
        finally:
            pending.discard()
        sync_folder(self.folder)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _noted(folder: Path) -> tuple[dict[str, Any] | None, list[Written]]:
    """Settings and shards: the journal's, which has all that the index has, or else the index's."""
    unusable = (OSError, ValueError, KeyError, TypeError, AttributeError)
    with contextlib.suppress(*unusable):
        head, *lines = (folder / _JOURNAL).read_text(encoding="utf-8").splitlines()
        settings = dict(json.loads(head)["settings"])
        shards = []
        for line in lines:
            with contextlib.suppress(*unusable):  # the last one, torn where a run was killed
                shards.append(Written.of(json.loads(line)))
        return settings, shards
    with contextlib.suppress(*unusable):
        document = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return dict(document["settings"]), [Written.of(each) for each in document["shards"]]
    return None, []


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, where the system has locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AudioFileError(f"{folder}: another run is writing this dataset") from None
        except OSError as error:
            raise AudioFileError(f"{folder}: cannot be locked: {reason(error)}") from error
        yield
    finally:
        os.close(opened)
