"""Standard input and output in place of files.

Raw samples and AU, whose header may leave the length open, are streams: they are rendered while they come.
Any other format needs to be jumped around in, by libsndfile, and so goes through a temporary file."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from ..audiofile import (
    BLOCK_FRAMES,
    Array,
    AudioReader,
    AudioWriter,
    PathLike,
    RawFormat,
    decoded,
    encoded,
)
from ..errors import AudioFileError

#: What stands for standard input and output.
PIPE = "-"
_AU_MAGIC = b".snd"
_AU_HEADER = struct.Struct(">4s5I")
_AU_ENDLESS = 0xFFFFFFFF
#: Encodings of the AU header that libsndfile decodes sample by sample, and its names for them.
_AU_SUBTYPES = {
    1: "ULAW",
    2: "PCM_S8",
    3: "PCM_16",
    4: "PCM_24",
    5: "PCM_32",
    6: "FLOAT",
    7: "DOUBLE",
    27: "ALAW",
}
_MOST_ANNOTATION_BYTES = 1 << 20


class PipeReader:
    """Samples that come through a pipe, of unknown number; see `AudioReader` for what it offers.

    Parameters
    ----------
    pipe : binary file
    raw : RawFormat
        How samples are stored.
    start : bytes
        What has been read of them already.
    size_bytes : int, optional
        Where they end; the pipe's end by default.
    """

    def __init__(
        self, pipe: BinaryIO, raw: RawFormat, start: bytes = b"", size_bytes: int | None = None
    ) -> None:
        self.path = Path(PIPE)
        self.frames: int | None = None
        self.channels, self.rate_hz, self.subtype = raw.channels, raw.rate_hz, raw.subtype
        self.tags: dict[str, str] = {}
        self.losses: tuple[str, ...] = ()
        self._pipe, self._raw, self._held, self._left = pipe, raw, start, size_bytes

    def blocks(
        self, max_frames: int = BLOCK_FRAMES, start: int = 0, stop: int | None = None
    ) -> Iterator[Array]:
        """Yield frames as they come, those from `start` up to `stop`."""
        width = self._raw.frame_bytes
        at = 0
        while stop is None or at < stop:
            data = self._read(max_frames * width)
            if len(data) < width:
                break
            whole = len(data) // width * width
            self._held = data[whole:]
            block = decoded(data[:whole], self._raw)
            if not np.isfinite(block).all():
                raise AudioFileError(f"standard input: a sample after frame {at} is not a finite number")
            last = None if stop is None else stop - at
            wanted = block[max(0, start - at) : last]
            at += len(block)
            if len(wanted):
                yield wanted
        if at == 0:
            raise AudioFileError("standard input: holds no audio (0 frames)")
        if at <= start:
            raise AudioFileError(f"standard input: is {at / self.rate_hz:.2f} s long, shorter than the start")
        if self._held and self._left != 0:
            raise AudioFileError(f"standard input: is cut short in the middle of frame {at}")

    def _read(self, size: int) -> bytes:
        data = self._held
        while len(data) < self._raw.frame_bytes:
            wanted = size if self._left is None else min(size, self._left)
            # What is there now, not a whole block: a stream may be listened to.
            more = self._pipe.read1(wanted) if isinstance(self._pipe, io.BufferedReader) else b""
            if self._left is not None:
                self._left -= len(more)
            if not more:
                break
            data += more
        self._held = data
        return data

    def close(self) -> None:
        """Nothing is left open."""

    def __enter__(self) -> PipeReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PipeWriter:
    """Samples that go to a pipe as they are made; see `AudioWriter` for what it offers."""

    def __init__(self, pipe: BinaryIO, raw: RawFormat, *, header: bool, dither: bool) -> None:
        self.path = Path(PIPE)
        self.frames = self.clipped = 0
        self.format, self.subtype = "AU" if header else "RAW", raw.subtype
        self.losses: tuple[str, ...] = ()
        self._pipe, self._raw, self._dither = pipe, raw, dither
        if header:
            code = next(code for code, name in _AU_SUBTYPES.items() if name == raw.subtype)
            self._send(
                _AU_HEADER.pack(_AU_MAGIC, _AU_HEADER.size, _AU_ENDLESS, code, raw.rate_hz, raw.channels)
            )

    def write(self, x: Array) -> None:
        """Send frames on."""
        data, clipped = encoded(x, self._raw, self.frames if self._dither else None)
        self.frames += len(x)
        self.clipped += clipped
        self._send(data)

    def _send(self, data: bytes) -> None:
        try:
            self._pipe.write(data)
            self._pipe.flush()
        except BrokenPipeError:
            raise  # whoever listened has gone: that is no error of ours
        except OSError as error:
            raise AudioFileError(f"standard output: cannot be written: {error.strerror}") from error

    def __enter__(self) -> PipeWriter:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class _SpooledWriter(AudioWriter):
    """A file that is sent to standard output once it is complete."""

    def __init__(self, folder: str, extension: str, *given: Any, **options: Any) -> None:
        self._folder = folder
        super().__init__(Path(folder) / f"output.{extension}", *given, **options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is None:
            with open(self.path, "rb") as made:
                shutil.copyfileobj(made, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@contextlib.contextmanager
def reader_of(source: PathLike, raw: RawFormat | None = None) -> Iterator[AudioReader | PipeReader]:
    """Open a file, or standard input where `source` is ``-``.

    Raises
    ------
    AudioFileError
        See `AudioReader`.
    """
    if str(source) != PIPE:
        with AudioReader(source, raw) as reader:
            yield reader
        return
    pipe = sys.stdin.buffer
    if raw is not None:
        yield PipeReader(pipe, raw)
        return
    start = pipe.read(_AU_HEADER.size)
    if start.startswith(_AU_MAGIC) and len(start) == _AU_HEADER.size:
        yield _au(pipe, start)
        return
    with tempfile.NamedTemporaryFile(prefix="backline-") as copy:
        copy.write(start)
        shutil.copyfileobj(pipe, copy)
        copy.flush()
        with _told_as_input(), AudioReader(copy.name) as reader:
            reader.path = Path(PIPE)
            yield reader


@contextlib.contextmanager
def _told_as_input() -> Iterator[None]:
    try:
        yield
    except AudioFileError as error:
        found = str(error)
        raise AudioFileError(f"standard input:{found.partition(':')[2]}") from error


def _au(pipe: BinaryIO, start: bytes) -> PipeReader:
    _, offset, size, code, rate_hz, channels = _AU_HEADER.unpack(start)
    if code not in _AU_SUBTYPES:
        raise AudioFileError(f"standard input: AU encoding {code} cannot be streamed; give it as a file")
    annotation = offset - _AU_HEADER.size
    if (
        not 0 <= annotation <= _MOST_ANNOTATION_BYTES
        or not 1 <= channels <= 1024
        or not 1 <= rate_hz <= 2_000_000
    ):
        raise AudioFileError(
            f"standard input: its AU header says {channels} channels at {rate_hz} Hz from byte {offset} on"
        )
    pipe.read(annotation)
    raw = RawFormat(rate_hz, channels, _AU_SUBTYPES[code], "BIG")
    return PipeReader(pipe, raw, size_bytes=None if size == _AU_ENDLESS else size)


@contextlib.contextmanager
def writer_to_output(
    rate_hz: int,
    channels: int,
    *,
    file_format: str | None,
    subtype: str | None,
    dither: bool,
    tags: Mapping[str, str],
) -> Iterator[AudioWriter | PipeWriter]:
    """Write to standard output: AU unless told otherwise."""
    kind = (file_format or "au").lower().removeprefix(".")
    if kind in ("au", "raw"):
        raw = RawFormat(rate_hz, channels, (subtype or "FLOAT").upper(), "BIG" if kind == "au" else "LITTLE")
        if kind == "au" and raw.subtype not in _AU_SUBTYPES.values():
            known = ", ".join(_AU_SUBTYPES.values())
            raise AudioFileError(f"standard output: AU has no subtype {subtype}; known are {known}")
        with PipeWriter(sys.stdout.buffer, raw, header=kind == "au", dither=dither) as writer:
            yield writer
        return
    with (
        tempfile.TemporaryDirectory(prefix="backline-") as folder,
        _SpooledWriter(folder, kind, rate_hz, channels, subtype=subtype, dither=dither, tags=tags) as spooled,
    ):
        yield spooled


def is_pipe(path: object) -> bool:
    """Whether a path stands for standard input or output."""
    return str(path) == PIPE


def folder_for_copies(target: PathLike | None) -> Path | None:
    """Where a copy of an output may lie for a while; None for the system's own place."""
    return None if target is None or is_pipe(target) else Path(target).parent
