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
from typing import Any, BinaryIO, cast

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
from ..dither import BITS as WHOLE_BITS
from ..errors import AudioFileError, DiskFull
from ..pending import reason, refused

#: What stands for standard input and output.
PIPE = "-"
_INPUT, _OUTPUT = "standard input", "standard output"
#: Formats that go to a pipe as they are made.
_STREAMED = ("au", "raw")
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
_COPY_BYTES = 1 << 18
#: Sizes from here on are what streaming programs write when they cannot know the length.
_PLACEHOLDER_BYTES = 0x7FFF0000


class PipeReader:
    """Samples that come through a pipe, of unknown number; see `AudioReader` for what it offers.

    Parameters
    ----------
    pipe : buffered binary file
    raw : RawFormat
        How samples are stored.
    size_bytes : int, optional
        Where they end; the pipe's end by default.
    """

    def __init__(self, pipe: io.BufferedReader, raw: RawFormat, size_bytes: int | None = None) -> None:
        self.path = Path(_INPUT)
        self.frames: int | None = None
        self.channels, self.rate_hz, self.subtype = raw.channels, raw.rate_hz, raw.subtype
        self.tags: dict[str, str] = {}
        self.losses: tuple[str, ...] = ()
        self._pipe, self._raw, self._held, self._left = pipe, raw, b"", size_bytes

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
                raise AudioFileError(f"{self.path}: a sample after frame {at} is not a finite number")
            last = None if stop is None else stop - at
            wanted = block[max(0, start - at) : last]
            at += len(block)
            if len(wanted):
                yield wanted
        if at == 0:
            raise AudioFileError(f"{self.path}: holds no audio (0 frames)")
        if at <= start:
            raise AudioFileError(f"{self.path}: is {at / self.rate_hz:.2f} s long, shorter than the start")
        if stop is None or at < stop:
            self._check_end(at)

    def _check_end(self, frames: int) -> None:
        if self._left:
            raise AudioFileError(
                f"{self.path}: is cut short after frame {frames}: {self._left} bytes that its header "
                f"promises are missing"
            )
        if self._held and self._left is None:
            raise AudioFileError(f"{self.path}: is cut short in the middle of frame {frames}")

    def _read(self, size: int) -> bytes:
        data = self._held
        while len(data) < self._raw.frame_bytes:
            wanted = size if self._left is None else min(size, self._left)
            # What is there now, not a whole block: a stream may be listened to.
            try:
                more = self._pipe.read1(wanted)
            except OSError as error:
                raise AudioFileError(f"{self.path}: cannot be read: {reason(error)}") from error
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
        self.dithered = dither and raw.subtype in WHOLE_BITS
        self.losses: tuple[str, ...] = ()
        self._pipe, self._raw = pipe, raw
        if header:
            code = next(code for code, name in _AU_SUBTYPES.items() if name == raw.subtype)
            self._send(
                _AU_HEADER.pack(_AU_MAGIC, _AU_HEADER.size, _AU_ENDLESS, code, raw.rate_hz, raw.channels)
            )

    def write(self, x: Array) -> None:
        """Send frames on."""
        data, clipped = encoded(x, self._raw, self.frames if self.dithered else None)
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
            raise refused(Path(_OUTPUT), error) from error

    def __enter__(self) -> PipeWriter:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class SpooledWriter:
    """A temporary file that is sent to standard output once it is complete; see `AudioWriter`."""

    def __init__(self, file: Path, rate_hz: int, channels: int, **options: Any) -> None:
        self.path, self._file = Path(PIPE), file
        self.frames = self.clipped = 0
        with self._as_output():
            self._writer = AudioWriter(self._file, rate_hz, channels, **options)
        self.format, self.subtype = self._writer.format, self._writer.subtype
        self.losses, self.dithered = self._writer.losses, self._writer.dithered

    def write(self, x: Array) -> None:
        """Append frames."""
        with self._as_output():
            self._writer.write(x)
        self.frames, self.clipped = self._writer.frames, self._writer.clipped

    @contextlib.contextmanager
    def _as_output(self) -> Iterator[None]:
        """Name what the user asked for, in place of a file that is gone by the time it is read of."""
        try:
            yield
        except DiskFull as error:
            raise DiskFull(
                f"{_OUTPUT}: goes through a temporary file, for which {self._file.parent.parent} has no room"
            ) from error
        except AudioFileError as error:
            raise AudioFileError(str(error).replace(str(self._file), _OUTPUT)) from error

    def __enter__(self) -> SpooledWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._as_output():
            self._writer.__exit__(kind, error, trace)
        if kind is None:
            self._send()

    def _send(self) -> None:
        try:
            with open(self._file, "rb") as made:
                shutil.copyfileobj(made, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise refused(Path(_OUTPUT), error) from error


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
    pipe = _input()
    if raw is not None:
        yield PipeReader(pipe, raw)
        return
    try:
        start = pipe.read(_AU_HEADER.size)
    except OSError as error:
        raise AudioFileError(f"{_INPUT}: cannot be read: {reason(error)}") from error
    if start.startswith(_AU_MAGIC) and len(start) == _AU_HEADER.size:
        yield _au(pipe, start)
        return
    with tempfile.TemporaryDirectory(prefix="backline-") as folder:
        copy = Path(folder) / "input"
        _keep(start, pipe, copy)
        with AudioReader(copy, called=_INPUT) as reader:
            yield reader


def check_pipes(source: PathLike, target: PathLike | None) -> None:
    """Refuse to read audio that somebody types, or to show it as text.

    Raises
    ------
    AudioFileError
        Standard input is asked for and is a terminal or closed, or standard output and is a terminal.
    """
    if is_pipe(source) and _input().isatty():
        raise AudioFileError(f"{_INPUT}: is a terminal; pipe audio into this command, or name a file")
    if is_pipe(target) and sys.stdout.buffer.isatty():
        raise AudioFileError(f"{_OUTPUT}: is a terminal; pipe it into another command, or give -o a file")


def flows(reader: object, target: PathLike | None, file_format: str | None) -> bool:
    """Whether output is to come while input comes: both are streams."""
    return isinstance(reader, PipeReader) and is_pipe(target) and _kind(file_format) in _STREAMED


def _kind(file_format: str | None) -> str:
    return (file_format or _STREAMED[0]).lower().removeprefix(".")


def _input() -> io.BufferedReader:
    if sys.stdin is None:
        raise AudioFileError(f"{_INPUT}: is closed")
    return cast(io.BufferedReader, sys.stdin.buffer)


def _keep(start: bytes, pipe: io.BufferedReader, copy: Path) -> None:
    """Copy what has come and what is to come into a file."""
    with open(copy, "wb") as file:
        data = start
        while data:
            try:
                file.write(data)
            except OSError as error:
                raise refused(Path(f"{_INPUT}: its copy in {copy.parent.parent}"), error) from error
            try:
                data = pipe.read(_COPY_BYTES)
            except OSError as error:
                raise AudioFileError(f"{_INPUT}: cannot be read: {reason(error)}") from error


def _au(pipe: io.BufferedReader, start: bytes) -> PipeReader:
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
    return PipeReader(pipe, raw, size_bytes=size if size < _PLACEHOLDER_BYTES else None)


@contextlib.contextmanager
def writer_to_output(
    rate_hz: int,
    channels: int,
    *,
    file_format: str | None,
    subtype: str | None,
    dither: bool,
    tags: Mapping[str, str],
) -> Iterator[PipeWriter | SpooledWriter]:
    """Write to standard output: AU unless told otherwise."""
    kind = _kind(file_format)
    if kind in _STREAMED:
        raw = RawFormat(rate_hz, channels, (subtype or "FLOAT").upper(), "BIG" if kind == "au" else "LITTLE")
        if kind == "au" and raw.subtype not in _AU_SUBTYPES.values():
            known = ", ".join(_AU_SUBTYPES.values())
            raise AudioFileError(f"{_OUTPUT}: AU has no subtype {subtype}; known are {known}")
        with PipeWriter(sys.stdout.buffer, raw, header=kind == "au", dither=dither) as writer:
            yield writer
        return
    with tempfile.TemporaryDirectory(prefix="backline-") as folder:
        options: dict[str, Any] = {"subtype": subtype, "dither": dither, "tags": tags}
        with SpooledWriter(Path(folder) / f"output.{kind}", rate_hz, channels, **options) as spooled:
            yield spooled


def is_pipe(path: object) -> bool:
    """Whether a path stands for standard input or output."""
    return str(path) == PIPE


def folder_for_copies(target: PathLike | None) -> Path | None:
    """Where a copy of an output may lie for a while; None for the system's own place."""
    return None if target is None or is_pipe(target) else Path(target).parent
