"""Takes to be compared: files or arrays behind one face, each read from its start as often as one likes.

What makes two takes comparable (a part of a file, another rate, one channel for several) is a take around
a take, so that none of it needs the whole signal in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..audiofile import BLOCK_FRAMES, AudioReader, PathLike
from ..errors import AudioFileError, BacklineError
from ..resample import Resampler, resampled_frames

Array = NDArray[np.float32]
#: Streams that are closed when nobody wants the rest, and the file behind them with them.
Blocks = Generator[Array, None, None]

_WIDER_THAN_FLOAT32 = frozenset({"PCM_32", "DOUBLE", "ALAC_32"})


class Take(Protocol):
    """A signal of known length.

    Attributes
    ----------
    name : str
    rate_hz : float
    channels, frames : int
    """

    name: str
    rate_hz: float
    channels: int
    frames: int

    def blocks(self) -> Blocks:
        """Yield the signal from its start, as float32 arrays [frames, channels] of any length."""
        ...


class ArrayTake:
    """A signal in memory.

    Parameters
    ----------
    x : array_like [frames] or [frames, channels]
        Finite numbers, taken as float32.
    rate_hz : float
    name : str

    Raises
    ------
    BacklineError
        No frames, or samples that are not finite.
    """

    def __init__(self, x: ArrayLike, rate_hz: float, name: str) -> None:
        signal = np.asarray(x, np.float32)
        self._x: Array = signal.reshape(-1, 1) if signal.ndim == 1 else signal
        if self._x.ndim != 2:
            raise BacklineError(f"{name}: expected [frames, channels], found shape {list(signal.shape)}")
        self.name, self.rate_hz = name, float(rate_hz)
        self.frames, self.channels = self._x.shape
        if not self._x.size:
            raise BacklineError(f"{name}: holds no audio (shape {list(signal.shape)})")
        if not np.isfinite(self._x).all():
            raise BacklineError(f"{name}: holds samples that are not finite numbers")

    def blocks(self) -> Blocks:
        """Yield it; see `Take`."""
        for at in range(0, self.frames, BLOCK_FRAMES):
            yield self._x[at : at + BLOCK_FRAMES]


class FileTake:
    """A file, or a part of it.

    Parameters
    ----------
    path : str or path
    start_seconds : float
    duration_seconds : float, optional
        To the end by default, and wherever the file ends sooner.

    Attributes
    ----------
    start_frame : int
    is_whole : bool
        Whether it is all of the file.
    is_narrowed : bool
        Whether the file's samples are wider than the 32-bit floats they are read as.

    Raises
    ------
    AudioFileError
        A file that cannot be read, or ends before the start.
    """

    def __init__(
        self, path: PathLike, start_seconds: float = 0.0, duration_seconds: float | None = None
    ) -> None:
        with AudioReader(path) as reader:
            self._path, self._file_frames = reader.path, reader.frames
            self.name, self.rate_hz, self.channels = str(path), float(reader.rate_hz), reader.channels
            self.is_narrowed = reader.subtype in _WIDER_THAN_FLOAT32
        self.start_frame = round(min(start_seconds * self.rate_hz, 2.0**62))
        if self.start_frame >= self._file_frames:
            raise AudioFileError(
                f"{path}: ends after {self._file_frames / self.rate_hz:g} s, "
                f"before the start at {start_seconds:g} s"
            )
        self.frames = self._file_frames - self.start_frame
        if duration_seconds is not None:
            self.frames = min(self.frames, max(1, round(min(duration_seconds * self.rate_hz, 2.0**62))))
        self.is_whole = self.frames == self._file_frames

    def blocks(self) -> Blocks:
        """Yield it; see `Take`.

        Raises
        ------
        AudioFileError
            Damaged, or another file than it was.
        """
        with AudioReader(self._path) as reader:
            found = (reader.frames, float(reader.rate_hz), reader.channels)
            if found != (self._file_frames, self.rate_hz, self.channels):
                raise AudioFileError(f"{self._path}: has changed while it was read")
            yield from part((block for block in reader.blocks()), self.start_frame, self.frames)


class ResampledTake:
    """A take at another rate, by `Resampler`."""

    def __init__(self, take: Take, rate_hz: float) -> None:
        self._take = take
        self.name, self.rate_hz, self.channels = take.name, rate_hz, take.channels
        self.frames = resampled_frames(take.frames, take.rate_hz, rate_hz)

    def blocks(self) -> Blocks:
        """Yield it; see `Take`."""
        resampler = Resampler(self._take.rate_hz, self.rate_hz, self.channels)
        with contextlib.closing(self._take.blocks()) as blocks:
            for block in blocks:
                yield resampler.process(block)
        yield resampler.finish()


class SpreadTake:
    """A take of one channel, the same in several."""

    def __init__(self, take: Take, channels: int) -> None:
        self._take = take
        self.name, self.rate_hz, self.frames = take.name, take.rate_hz, take.frames
        self.channels = channels

    def blocks(self) -> Blocks:
        """Yield it; see `Take`."""
        with contextlib.closing(self._take.blocks()) as blocks:
            for block in blocks:
                yield np.repeat(block, self.channels, axis=1)


class Described:
    """What is known of a take that has no blocks to read: they come from elsewhere."""

    def __init__(self, name: str, rate_hz: float, channels: int) -> None:
        self.name, self.rate_hz, self.channels, self.frames = name, float(rate_hz), channels, 0

    def blocks(self) -> Blocks:
        """Yield nothing."""
        yield from ()


def matched(a: Take, b: Take) -> tuple[Take, Take, list[str]]:
    """Make two takes comparable: at the rate of `a`, with as many channels each.

    Returns
    -------
    a, b : Take
        Their lengths may differ still.
    notes : list of str
        What was done.

    Raises
    ------
    BacklineError
        Channels that cannot be paired, or a take that is too short for the other's rate.
    """
    notes = []
    if a.rate_hz != b.rate_hz:
        notes.append(f"{b.name}: resampled from {b.rate_hz:g} to {a.rate_hz:g} Hz, the rate of {a.name}")
        b = ResampledTake(b, a.rate_hz)
        if not b.frames:
            raise BacklineError(f"{b.name}: is shorter than a frame at {a.rate_hz:g} Hz")
    if a.channels != b.channels:
        one, several = (a, b) if a.channels == 1 else (b, a)
        if one.channels != 1:
            raise BacklineError(
                f"{a.name} has {a.channels} channels and {b.name} {b.channels}: expected as many, or one"
            )
        spread = SpreadTake(one, several.channels)
        notes.append(f"{one.name}: is mono, compared with each channel of {several.name}")
        a, b = (spread, b) if one is a else (a, spread)
    return a, b, notes


def length_notes(a: Take, b: Take) -> list[str]:
    """Say that lengths differ, if they do."""
    if a.frames == b.frames:
        return []
    longer, shorter = (a, b) if a.frames > b.frames else (b, a)
    more = longer.frames - shorter.frames
    return [
        f"{longer.name}: is longer by {more} frame{'s' * (more != 1)} ({more / a.rate_hz:.4g} s); "
        "compared is what both have"
    ]


def paired(a: Blocks, b: Blocks) -> Iterator[tuple[Array, Array]]:
    """Yield blocks of two streams side by side, equally long, until either ends."""
    left = right = np.zeros((0, 1), np.float32)
    with contextlib.closing(a) as first, contextlib.closing(b) as second:
        while True:
            # Resamplers may return nothing for a while.
            while not len(left):
                if (block := next(first, None)) is None:
                    return
                left = block
            while not len(right):
                if (block := next(second, None)) is None:
                    return
                right = block
            frames = min(len(left), len(right))
            yield left[:frames], right[:frames]
            left, right = left[frames:], right[frames:]


def part(blocks: Blocks, start: int, frames: int) -> Blocks:
    """Yield frames `start` to ``start + frames`` of a stream; fewer if it ends sooner."""
    at, stop = 0, start + frames
    with contextlib.closing(blocks) as every:
        for block in every:
            piece = block[max(0, start - at) : max(0, stop - at)]
            if len(piece):
                yield piece
            at += len(block)
            if at >= stop:
                return


def pieces(blocks: Blocks, starts: list[int], frames: int, channels: int) -> Iterator[tuple[int, Array]]:
    """Yield, for each of `starts` in rising order, its index and `frames` frames from there on.

    Pieces may overlap, and have zeros where they reach beyond either end of the stream. Memory is that of
    the frames between the start of the oldest piece that is not complete and the newest block.
    """
    order = sorted(range(len(starts)), key=starts.__getitem__)
    held: list[Array] = []
    first, at = 0, 0  # frames of the stream that `held` begins and ends with
    waiting = 0
    with contextlib.closing(blocks) as every:
        while waiting < len(order):
            start = starts[order[waiting]]
            block = None if at >= start + frames else next(every, None)
            if block is not None:
                held.append(block)
                at += len(block)
                while held and first + len(held[0]) <= start:
                    first += len(held.pop(0))
                continue
            yield order[waiting], _cut(held, start - first, frames, channels)
            waiting += 1


def _cut(held: list[Array], start: int, frames: int, channels: int) -> Array:
    piece = np.zeros((frames, channels), np.float32)
    at = -start  # of the next block, in the piece
    for block in held:
        low, high = max(0, at), min(frames, at + len(block))
        if low < high:
            piece[low:high] = block[low - at : high - at]
        at += len(block)
    return piece
