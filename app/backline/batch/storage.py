"""Where inputs, models and outputs lie: files here, or what fsspec has a URL for (s3, gs, ssh, memory ...).

The sole importer of fsspec, which is imported where a URL is first used. A ``file://`` URL is a path from the
start: what is said of paths holds for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, Protocol
from urllib.parse import unquote

from ..audiofile import PathLike
from ..errors import AudioFileError, BacklineError, MissingDependency
from . import files
from .files import Fingerprint, Stat

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z][A-Za-z0-9+.-]+)*://")
_BLOCK_BYTES = 1 << 20
#: What file systems call a time of change, and what they call that which changes with a content.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_IDENTITIES = ("ETag", "etag", "md5Hash", "content_md5", "generation", "VersionId", "version_id", "ino")
#: Where copies lie, below the system's folder for temporary files if it is None; see `copies_in`.
_copies: Path | None = None


class Url(str):
    """A place that fsspec knows; has of a path's properties those that are used of places."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """What comes after the last slash."""
        return self.rstrip("/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePath(self.name).stem

    @property
    def suffix(self) -> str:
        """The name's suffix with its dot."""
        return PurePath(self.name).suffix

    @property
    def parent(self) -> Url:
        """The folder that this is in."""
        start = self.index("://") + 3
        return Url(self[:start] + self[start:].rstrip("/").rpartition("/")[0])

    def __truediv__(self, below: PathLike) -> Url:
        # A bucket's or host's root, "memory://", ends in slashes that are the scheme's.
        return Url((self if self.endswith("/") else f"{self}/") + PurePath(below).as_posix())


#: A file here, or somewhere else.
Place = Path | Url


def is_url(text: PathLike) -> bool:
    """Whether a user's word for a place is a URL."""
    return isinstance(text, Url) or (isinstance(text, str) and _SCHEME.match(text) is not None)


def place(text: PathLike) -> Place:
    """What a user wrote, as a path where it is one; so is a ``file://`` URL."""
    if not is_url(text):
        return Path(text)
    url = os.fspath(text)
    if url.startswith("file://"):
        return Path(unquote(url.removeprefix("file://")))
    return Url(url)


def identity(where: Place) -> str:
    """A name that is the same for what is the same."""
    if isinstance(where, Url):
        return str(where)
    return os.path.realpath(where)


class _FileSystem(Protocol):
    """What is used of ``fsspec.AbstractFileSystem``."""

    def info(self, path: str) -> dict[str, Any]: ...
    def invalidate_cache(self, path: str | None = None) -> None: ...
    def isdir(self, path: str) -> bool: ...
    def find(self, path: str) -> list[str]: ...
    def glob(self, path: str) -> list[str]: ...
    def open(self, path: str, mode: str) -> Any: ...
    def put_file(self, lpath: str, rpath: str) -> None: ...
    def makedirs(self, path: str, exist_ok: bool = False) -> None: ...
    def mv(self, path1: str, path2: str) -> None: ...
    def rm_file(self, path: str) -> None: ...
    def _parent(self, path: str) -> str: ...
    def _strip_protocol(self, path: str) -> str: ...


def opened(url: str) -> tuple[_FileSystem, str]:
    """The file system of a URL, and its path there."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        text = f'{url}: URLs need fsspec, which is not installed: pip install "backline[cluster]"'
        raise MissingDependency(text) from error
    try:
        found: tuple[_FileSystem, str] = url_to_fs(url)
        return found
    except ImportError as error:  # such as "Install s3fs to access S3"
        raise MissingDependency(f"{url}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """The first line of what a library says."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0]


@contextlib.contextmanager
def guarded(url: str, doing: str = "read") -> Iterator[None]:
    """One sentence for whatever a library of some protocol raises."""
    try:
        yield
    except (BacklineError, MemoryError):
        raise
    except FileNotFoundError:
        raise AudioFileError(f"{url}: no such file") from None
    except Exception as error:
        raise AudioFileError(f"{url}: cannot be {doing}: {_line(error)}") from error


# ---- what is there ----


@dataclass(frozen=True)
class _UrlStat:
    """What can be said of a URL's content without reading it, under the names of `os.stat_result`."""

    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_ino: int


def stat_of(where: Place) -> Stat:
    """What can be said of a content without reading it; `OSError` if there is none.

    Raises
    ------
    AudioFileError
        A URL's server refuses.
    """
    if not isinstance(where, Url):
        return os.stat(where)
    with guarded(where):
        system, path = opened(where)
        system.invalidate_cache(system._parent(path))
        try:
            info = system.info(path)
        except FileNotFoundError:
            info = {"type": "none"}
    if info.get("type") != "file":
        raise FileNotFoundError(2, "no such file", str(where))
    marks = [f"{name}={info[name]}" for name in _IDENTITIES if info.get(name) is not None]
    number = int.from_bytes(hashlib.sha256("\n".join(marks).encode()).digest()[:7], "big") if marks else 0
    times = [info[name] for name in _TIMES if info.get(name) is not None]
    mtime_ns = _nanoseconds(times[0]) if times else 0
    # Some have only the one, some only the other.
    return _UrlStat(int(info.get("size") or 0), mtime_ns or number, mtime_ns, number or mtime_ns)


def _nanoseconds(time: Any) -> int:
    if isinstance(time, datetime):
        return int(time.timestamp() * 1e9)
    if isinstance(time, int | float):
        return int(time * 1e9)
    return int.from_bytes(hashlib.sha256(str(time).encode()).digest()[:7], "big")


def exists(where: Place) -> bool:
    """Whether a name is taken; links that lead nowhere take theirs too."""
    if not isinstance(where, Url):
        return os.path.lexists(where)
    try:
        stat_of(where)
    except FileNotFoundError:
        return False
    return True


def hash_of(where: Place) -> str:
    """SHA-256 of a content."""
    if not isinstance(where, Url):
        return files.hash_of(where)
    digest = hashlib.sha256()
    with guarded(where):
        for block in _blocks(where):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(source: Place) -> Fingerprint:
    """Hash an input; raises as `files.fingerprint`."""
    if not isinstance(source, Url):
        return files.fingerprint(source)
    before = _there(source)
    return _printed(source, before, hash_of(source))


def _there(source: Url) -> Stat:
    try:
        return stat_of(source)
    except FileNotFoundError:
        raise AudioFileError(f"{source}: no such file") from None


def _printed(source: Url, before: Stat, sha256: str) -> Fingerprint:
    found = Fingerprint(before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino, sha256)
    if not found.is_of(_there(source)):
        raise AudioFileError(f"{source}: changed while it was read")
    return found


def _blocks(url: Url) -> Iterator[bytes]:
    system, path = opened(url)
    with system.open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def fetch(source: Url, target: Path, on_block: Callable[[], None] = lambda: None) -> Fingerprint:
    """Copy a URL's content to a file here, block by block, and hash it on the way.

    Parameters
    ----------
    source : Url
    target : Path
    on_block : callable
        Called now and then; what it raises ends the copying.

    Raises
    ------
    AudioFileError
        It cannot be read, or changes meanwhile.
    DiskFull
    """
    before = _there(source)
    digest = hashlib.sha256()
    blocks = _blocks(source)
    with open(target, "wb") as file:
        while True:
            with guarded(source):
                block = next(blocks, b"")
            if not block:
                break
            digest.update(block)
            file.write(block)
            on_block()
    return _printed(source, before, digest.hexdigest())


def copies_in(folder: Path) -> None:
    """Have this process keep its copies below a folder; of a worker that dies, somebody empties its own."""
    global _copies
    _copies = folder


@contextlib.contextmanager
def folder_for_copies() -> Iterator[Path]:
    """A folder for copies of what is elsewhere, removed in the end."""
    # That of a worker that was a thread of this process is gone with it.
    place = _copies if _copies is not None and _copies.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="backline-", dir=place) as folder:
        yield Path(folder)


@contextlib.contextmanager
def renamed(names: Mapping[Path, Place]) -> Iterator[None]:
    """Have errors speak of places and not of the copies that stood for them."""
    try:
        yield
    except BacklineError as error:
        text = str(error)
        for local, where in names.items():
            text = text.replace(str(local), str(where))
        raise type(error)(text) from None


@contextlib.contextmanager
def fetched(source: Url) -> Iterator[Path]:
    """A copy of a URL's content here, under its own name, for as long as it is needed."""
    with folder_for_copies() as folder:
        copy = folder / source.name
        fetch(source, copy)
        with renamed({copy: source}):
            yield copy


def store(source: Path, target: Url) -> Stat:
    """Copy a file here to a URL, making folders where there are such; what is there then."""
    size = source.stat().st_size
    with guarded(target, "written"):
        system, path = opened(target)
        system.makedirs(system._parent(path), exist_ok=True)
        system.put_file(os.fspath(source), path)
        found = stat_of(target)
    if found.st_size != size:
        raise AudioFileError(f"{target}: cannot be written: {found.st_size} of {size} bytes have arrived")
    return found


# ---- what is meant ----


def matches(url: Url) -> list[Url] | None:
    """URLs that match a pattern, sorted; None if it is none."""
    scheme, _, rest = url.partition("://")
    # Addresses of pages have question marks.
    magic = re.search(r"\*" if scheme.startswith("http") else r"[*?\[]", rest)
    if magic is None:
        return None
    base = f"{scheme}://{rest[: rest.rfind('/', 0, magic.start()) + 1]}"
    with guarded(url):
        system, pattern = opened(url)
        return _under(system, base, system.glob(pattern))


def audio_below(url: Url, suffixes: frozenset[str]) -> list[Url] | None:
    """Files with these extensions in a folder and below, but for hidden ones; None if it is no folder."""
    with guarded(url):
        system, path = opened(url)
        if not system.isdir(path):
            return None
        found = _under(system, url, system.find(path))
    start = len(url.rstrip("/"))
    return [each for each in found if each.suffix.lower() in suffixes and "/." not in each[start:]]


def _under(system: _FileSystem, base: str, names: Sequence[str]) -> list[Url]:
    """URLs of a file system's names; the protocol and the host are those of the base."""
    start = system._strip_protocol(base).rstrip("/")
    return sorted(Url(base) / name[len(start) :].strip("/") for name in map(str, names))


def journal_for(folder: PathLike) -> Path:
    """Where the journal of a folder of outputs lies if nobody says where.

    In the folder itself; for a URL in the user's folder of programs' states (``XDG_STATE_HOME``), under a
    name that is made from the URL.
    """
    from .journal import JOURNAL_NAME

    where = place(folder)
    if not isinstance(where, Url):
        return where / JOURNAL_NAME
    return _states() / f"{hashlib.sha256(where.rstrip('/').encode()).hexdigest()[:24]}.sqlite"


def journal_of(targets: Sequence[Place]) -> Path:
    """Where the journal of such outputs lies if nobody says where: of the folder they are all in or below.

    Raises
    ------
    BacklineError
        There is no such folder, some being paths and some URLs, or of other hosts.
    """
    folders = [
        str(each.parent) if isinstance(each, Url) else os.path.abspath(each.parent) for each in targets
    ]
    if not any(isinstance(each, Url) for each in targets):
        return journal_for(os.path.commonpath(folders))
    parts = [folder.split("/") for folder in folders]
    shared = [names[0] for names in zip(*parts, strict=False) if len(set(names)) == 1]
    if len(shared) < 3 or not all(names[: len(shared)] == shared for names in parts):
        raise BacklineError(
            "the outputs have no folder in common to keep the journal of: --journal names one"
        )
    return journal_for("/".join(shared))


def _states() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "backline"
