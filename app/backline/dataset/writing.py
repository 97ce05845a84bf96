"""A whole dataset written to a folder: several shards side by side, and none twice."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..audiofile import PathLike, subtype_for
from ..engine import Model
from ..errors import AudioFileError, BacklineError
from ..formats.backline_file import encode
from .failures import InputAway, Judge, ReadablePlan, plan_readable, sentences
from .journal import MANIFEST, Journal
from .manifest import pyarrow, write_manifest
from .options import PairChoices, check_number
from .plan import Plan
from .rows import key_of
from .shards import Shard, Storage, Written, is_whole, rows_of, write_shard

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Formats of a shard's audio: what the readers of WebDataset know, and is exact.
FORMATS = ("wav", "flac")
SHARD_MB = 100.0
_MOST_ITEMS = 10**9
_MOST_HOURS = 1e6
_MOST_SHARD_MB = 1e6
_BYTES_PER_SAMPLE = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "DOUBLE": 8}

#: Called with items done and items in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Summary:
    """What has been written.

    Attributes
    ----------
    folder : Path
    items, shards : int
        Pairs that are there, and the files they are in.
    kept : int
        Shards that were there already.
    duration_s : float
        Of the audio of all items, one half of each.
    elapsed_s : float
    rendered_s : float
        Of the audio that this run rendered.
    clipped : int
        Samples cut at full scale by the file format.
    notes : tuple of str
        Further things a user should know.
    left_out : int
        Pairs that were drawn, and cannot be made.
    errors : tuple of str
        Why, and which inputs could not be read at all; the same each time, and empty where all is well.
    """

    folder: Path
    items: int
    shards: int
    kept: int
    duration_s: float
    elapsed_s: float
    rendered_s: float
    clipped: int
    notes: tuple[str, ...]
    left_out: int = 0
    errors: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [
            f"{_counted(self.items, 'pair')} in {_counted(self.shards, 'shard')}",
            f"{self.duration_s / 3600.0:.3g} hours",
        ]
        if self.left_out:
            parts.append(f"{_counted(self.left_out, 'pair')} left out")
        if self.kept:
            parts.append(f"{_counted(self.kept, 'shard')} already there")
        if self.rendered_s and self.elapsed_s:
            parts.append(f"{self.rendered_s / self.elapsed_s:.0f} times real time")
        if self.clipped:
            parts.append(f"{self.clipped} samples clipped")
        return f"{self.folder}: {', '.join([*parts, *self.notes])}"


def write_dataset(
    models: Sequence[Model | PathLike],
    inputs: Sequence[PathLike],
    folder: PathLike,
    *,
    items: int | None = None,
    hours: float | None = None,
    shard_items: int | None = None,
    shard_mb: float | None = None,
    file_format: str = "wav",
    subtype: str | None = None,
    threads: int = 1,
    overwrite: bool = False,
    on_progress: Progress | None = None,
    **how: Unpack[PairChoices],
) -> Summary:
    """Write pairs of dry and wet segments, in tar shards that WebDataset reads, with a manifest in Parquet.

    The same arguments make the same bytes, whatever the threads. A run that was killed is taken up again:
    shards that are whole are kept, also if there are to be more items. An input that cannot be read, and a
    pair that cannot be made of it, are left out; `Summary.errors` says so.

    Parameters
    ----------
    models, inputs, **how
        As for `plan`: what pairs are made of, and what `PairOptions` has.
    folder : str or path
    items, hours : int or float
        How many pairs, or how much audio: one of the two.
    shard_items, shard_mb : int or float, optional
        How many pairs are in a shard, or how many megabytes they have uncompressed: 100 by default.
    file_format, subtype : str, optional
        ``"wav"`` or ``"flac"``, and libsndfile's name of how samples are stored: 32-bit float in WAV, 24
        bits in FLAC by default. Whole numbers are dithered, and cut at full scale.
    threads : int
        Shards that are rendered side by side.
    overwrite : bool
        Remove a dataset that is in the folder and is another one.
    on_progress : callable, optional
        Called with items done and in all.

    Raises
    ------
    MissingDependency
        pyarrow is not installed.
    FileExists
        The folder holds another dataset.
    BacklineError
        What does not fit together or cannot be written, or an input has changed. What is finished stays.
    """
    pyarrow()  # rather now than after a night
    _check_one_of(items, hours, shard_items, shard_mb)
    storage = Storage(*_checked_format(file_format, subtype))
    readable = plan_readable(models, inputs, **how)
    total = _items(items, hours, readable.plan)
    each = _items_of_shard(shard_items, shard_mb, readable.plan, storage)
    shards = [Shard(n, range(at, min(at + each, total))) for n, at in enumerate(range(0, total, each))]
    settings = _settings(readable, storage) | {"shard_items": each, "items": total}
    with Journal(Path(folder), settings, overwrite=overwrite) as journal:
        return _Run(readable, storage, journal, threads).whole(shards, on_progress)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


class _Count:
    """Counts clipped samples of rows that go by."""

    def __init__(self) -> None:
        self.samples = 0

    def counted(self, row: dict[str, Any]) -> dict[str, Any]:
        self.samples += row["dry_clipped"] + row["wet_clipped"]
        return row


@contextlib.contextmanager
def _noted(away: list[InputAway]) -> Iterator[None]:
    try:
        yield
    except InputAway as error:
        away.append(error)


class _Ended(Exception):
    """Another shard has failed, or the user has had enough."""


class _Run:
    """Shards on their way through a pool of threads."""

    def __init__(self, readable: ReadablePlan, storage: Storage, journal: Journal, threads: int) -> None:
        self._plan, self._unread, self._judge = readable.plan, readable.errors, Judge(readable)
        self._storage, self._journal = storage, journal
        self._threads = max(1, threads)
        self._ending = Event()
        self._done: queue.SimpleQueue[int | Future[tuple[Written, bool]]] = queue.SimpleQueue()

    def whole(self, shards: Sequence[Shard], on_progress: Progress | None) -> Summary:
        """Render what is missing, and put manifest and index beside it."""
        start = time.perf_counter()
        folder, segment_s = self._journal.folder, self._plan.frames / self._plan.rate_hz
        written, kept = self._all(shards, on_progress or (lambda done, total: None))
        clipped = _Count()
        rows = (clipped.counted(row) for shard in written for row in rows_of(folder / shard.name))
        write_manifest(folder / MANIFEST, rows, self._plan.knob_names)
        self._journal.finish(written)
        total = sum(shard.pairs for shard in written)
        left_out = [each for shard in written for each in shard.left_out]
        return Summary(
            folder=folder,
            items=total,
            shards=len(written),
            kept=len(kept),
            duration_s=total * segment_s,
            elapsed_s=time.perf_counter() - start,
            rendered_s=(total - sum(shard.pairs for shard in kept)) * segment_s,
            clipped=clipped.samples,
            notes=self._plan.notes,
            left_out=len(left_out),
            errors=(*self._unread, *sentences(left_out)),
        )

    def _all(self, shards: Sequence[Shard], on_progress: Progress) -> tuple[list[Written], list[Written]]:
        """Render what is missing; returns what is there in order, and which of it was there before."""
        total, items = sum(len(shard.items) for shard in shards), 0
        away: list[InputAway] = []
        on_progress(0, total)
        with ThreadPoolExecutor(self._threads, "backline shard") as pool:
            try:
                futures = [pool.submit(self._one, shard) for shard in shards]
                for future in futures:
                    future.add_done_callback(self._done.put)
                waiting = len(futures)
                while waiting:
                    # In this thread, where Ctrl-C arrives, and so does what the caller does about progress.
                    news = self._done.get()
                    if isinstance(news, Future):
                        waiting -= 1
                        with _noted(away):
                            news.result()
                    else:
                        items += news
                        on_progress(items, total)
            except BaseException:
                self._ending.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if away:
            unwritten = f"{_counted(len(away), 'shard')} of {len(shards)} not written"
            raise AudioFileError(f"{away[0]}; {unwritten}, the same command goes on with them") from away[0]
        found = [future.result() for future in futures]
        return [written for written, _ in found], [written for written, was_there in found if was_there]

    def _one(self, shard: Shard) -> tuple[Written, bool]:
        known = self._journal.known.get(shard.name)
        if known and known.items == len(shard.items) and is_whole(self._journal.folder, known):
            self._done.put(known.items)
            return known, True
        return write_shard(
            self._journal.folder,
            shard,
            self._plan,
            self._storage,
            self._judge,
            finished=self._journal.add,
            on_item=self._on_item,
        ), False

    def _on_item(self) -> None:
        if self._ending.is_set():
            raise _Ended
        self._done.put(1)


def _check_one_of(
    items: int | None, hours: float | None, shard_items: int | None, shard_mb: float | None
) -> None:
    if (items is None) == (hours is None):
        raise BacklineError("how large a dataset is to be is said by either items or hours")
    if shard_items is not None and shard_mb is not None:
        raise BacklineError("how large a shard is to be is said by items or megabytes, not both")


def _checked_format(file_format: str, subtype: str | None) -> tuple[str, str]:
    name = file_format.lower().removeprefix(".")
    if name not in FORMATS:
        raise BacklineError(f"format: expected {' or '.join(FORMATS)}, found {file_format!r}")
    return name, subtype_for(f"{key_of(0)}.{name}", subtype)


def _items(items: int | None, hours: float | None, planned: Plan) -> int:
    if items is None and hours is not None:
        check_number("hours", hours, 0.0, _MOST_HOURS, open_below=True)
        items = math.ceil(hours * 3600.0 * planned.rate_hz / planned.frames)
    check_number("items", items, 1, _MOST_ITEMS, whole=True)
    return int(items or 0)


def _items_of_shard(items: int | None, megabytes: float | None, planned: Plan, storage: Storage) -> int:
    if items is not None:
        check_number("items of a shard", items, 1, _MOST_ITEMS, whole=True)
        return int(items)
    size = SHARD_MB if megabytes is None else megabytes
    check_number("megabytes of a shard", size, 0.0, _MOST_SHARD_MB, open_below=True)
    model = planned.models[0]
    rows = planned.channels + model.streams_for(planned.channels) * model.output_channels
    return max(1, int(size * 1e6 / (planned.frames * rows * _BYTES_PER_SAMPLE.get(storage.subtype, 4))))


def _settings(readable: ReadablePlan, storage: Storage) -> dict[str, Any]:
    """All that a dataset's bytes follow from, by names that a user would use."""
    planned = readable.plan
    drawn = planned.distribution
    models = [
        {"name": model.name, "isa": model.isa, "sha256": hashlib.sha256(encode(model.graph)).hexdigest()}
        for model in planned.models
    ]
    inputs = [
        {"path": os.fspath(each.path), "sha256": sha256, "channels": each.picks}
        for each, sha256 in zip(planned.inputs, readable.hashes, strict=True)
    ]
    return {
        "version": __version__,
        "models": models,
        "inputs": inputs,
        "rate_hz": planned.rate_hz,
        "seed": drawn.seed,
        "segment_frames": planned.frames,
        "gain_db": drawn.gain_db,
        "knobs": [dict(knobs) for knobs in drawn.knobs],
        "flip": drawn.flip,
        "warm_up_frames": planned.warm_up_frames,
        "format": storage.file_format,
        "subtype": storage.subtype,
    }
