"""Shards: tar files as WebDataset reads them, and what is in them.

An item is three members that follow one another, ``KEY.dry.wav``, ``KEY.json`` and ``KEY.wet.wav`` (or
``.flac``), its key nine digits; one that cannot be rendered is not there. Headers hold no time and no owner,
so that equal items are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from ..audiofile import file_bytes
from ..errors import AudioFileError
from ..pending import PendingFile, reason, refused
from .failures import Judge, LeftOut
from .pairs import Pair
from .plan import Plan
from .rows import key_of, row_of

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Shard:
    """A shard to be written: its number and its items."""

    number: int
    items: range

    @property
    def name(self) -> str:
        """Of its file."""
        return f"shard-{self.number:06d}.tar"


@dataclass(frozen=True)
class Written:
    """What a shard's file holds.

    Attributes
    ----------
    name : str
    items : int
        How many were drawn for it.
    bytes : int
    sha256 : str
    left_out : tuple of LeftOut
        Items that are not in it.
    """

    name: str
    items: int
    bytes: int
    sha256: str
    left_out: tuple[LeftOut, ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Written:
        """The same, from what `asdict` made of it and JSON holds."""
        left_out = tuple(LeftOut(**each) for each in record.get("left_out", ()))
        return cls(**{**record, "left_out": left_out})

    @property
    def pairs(self) -> int:
        """How many are in it."""
        return self.items - len(self.left_out)


@dataclass(frozen=True)
class Storage:
    """How audio is stored: ``wav`` or ``flac``, and libsndfile's name of how samples are."""

    file_format: str
    subtype: str


class _Hashed:
    """A file that is written from its start to its end, and its hash on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.bytes += len(data)
        return self._file.write(data)


def write_shard(
    folder: Path,
    shard: Shard,
    plan: Plan,
    storage: Storage,
    judge: Judge,
    *,
    finished: Callable[[Written], None],
    on_item: Callable[[], None],
) -> Written:
    """Render a shard's items into its file, which has its name only when it is complete.

    Parameters
    ----------
    folder : Path
    shard : Shard
    plan : Plan
    storage : Storage
    judge : Judge
        Says which pairs are left out.
    finished : callable
        Told what the file holds just before it gets its name: what it notes is true of a file of that name.
    on_item : callable
        Called after each item; what it raises ends the shard.

    Raises
    ------
    BacklineError
        Whether an item can be rendered is not known, or the file cannot be written; nothing is left of it.
    """
    target, left_out = folder / shard.name, []
    pending = PendingFile(target, overwrite=True)
    try:
        with open(pending.temporary, "wb") as file, plan.maker() as maker:
            out = _Hashed(file)
            with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
                for item in shard.items:
                    pair = judge.made(maker, plan.distribution.draw(item))
                    if isinstance(pair, LeftOut):
                        left_out.append(pair)
                    else:
                        _add(tar, pair, plan, storage)
                    on_item()
        written = Written(shard.name, len(shard.items), out.bytes, out.hash.hexdigest(), tuple(left_out))
        finished(written)
        pending.commit()
    except OSError as error:
        raise refused(target, error) from error
    finally:
        pending.discard()
    return written


def _add(tar: tarfile.TarFile, pair: Pair, plan: Plan, storage: Storage) -> None:
    dry, dry_clipped = _stored(pair, plan, storage, 0)
    wet, wet_clipped = _stored(pair, plan, storage, 1)
    row = row_of(pair, plan, dry_clipped, wet_clipped)
    text = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    members = {f"dry.{storage.file_format}": dry, "json": text, f"wet.{storage.file_format}": wet}
    for extension, data in members.items():
        header = tarfile.TarInfo(f"{key_of(pair.draw.item)}.{extension}")
        header.size = len(data)
        tar.addfile(header, BytesIO(data))


def _stored(pair: Pair, plan: Plan, storage: Storage, half: int) -> tuple[bytes, int]:
    """A half as a file. Its dither is another for each half of each item."""
    return file_bytes(
        (pair.dry, pair.wet)[half],
        plan.rate_hz,
        f"{key_of(pair.draw.item)}.{storage.file_format}",
        storage.subtype,
        dithered_from=(2 * pair.draw.item + half) * plan.frames,
    )


def is_whole(folder: Path, written: Written) -> bool:
    """Whether a shard's file is there and holds what it held when it was finished."""
    path = folder / written.name
    found = hashlib.sha256()
    try:
        if path.stat().st_size != written.bytes:
            return False
        with open(path, "rb") as file:
            while data := file.read(_READ_BYTES):
                found.update(data)
    except OSError:
        return False
    return found.hexdigest() == written.sha256


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a shard's items, in order, with its name.

    Raises
    ------
    AudioFileError
        It cannot be read.
    """
    try:
        with tarfile.open(path) as tar:
            while (member := tar.next()) is not None:
                if member.name.endswith(".json"):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield {**json.loads(file.read()), "shard": path.name}
                # tarfile would keep the header of every member.
                setattr(tar, "members", [])  # noqa: B010
    except (OSError, tarfile.TarError, ValueError) as error:
        said = reason(error) if isinstance(error, OSError) else str(error)
        raise AudioFileError(f"{path}: cannot be read as a shard: {said}") from error
