"""Audio files, read in blocks."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AudioFileError
from ..library import AUDIO_BEGINNINGS
from ._library import BLOCK_FRAMES, Array, PathLike, reason_of, soundfile, system_path
from .raw import RawFormat

#: Highest rate a header is believed: what is measured per second would outgrow the memory.
MAX_RATE_HZ = 2_000_000
#: What libsndfile's log of a file shows that python-soundfile gives no way to, and what to call it.
_UNREAD = {
    r"^ *bext : ": "broadcast extension (bext)",
    r"^ *(cue  |MARK) ?: ": "cue points",
    r"^ *(smpl|inst|INST|acid) : ": "loops and instrument data",
    r"^ *(iXML|_PMX|cart|APPL) : ": "production metadata (iXML, XMP, cart)",
    r"^ *(ID3|id3|ID3 |id3 ) ?: ": "ID3 tags",
    r"^ *(Cuesheet|Picture) Metadata": "cue sheet or picture",
}
#: Sizes from here on are what streaming programs write when they cannot know the length.
_PLACEHOLDER_BYTES = 0x7FFF0000
_TRUNCATED_SIZE = re.compile(r"^\s*(?:data|SSND|riff|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_TRUNCATED_COUNT = re.compile(r"Calculated frame count (\d+) does not match value from 'ds64' chunk of (\d+)")


class AudioReader:
    """An audio file, open for reading from its start to its end.

    Parameters
    ----------
    path : str or path
        A regular file in any format libsndfile reads.
    raw : RawFormat, optional
        How samples are stored in a file without a header.
    called : str, optional
        What the user knows a copy by; its path by default.

    Attributes
    ----------
    path : Path
        What errors name the file by.
    frames, channels, rate_hz : int
    format, subtype : str
        libsndfile's names, e.g. ``"WAV"`` and ``"PCM_24"``.
    tags : dict of str to str
        What the file says of itself: title, artist and so on.
    losses : tuple of str
        What else is in the file and cannot be read here, such as cue points.

    Raises
    ------
    AudioFileError
        Missing, a folder, not permitted, empty, cut short, or not audio. A file cut short is told by its
        header where the format has one that says so; CAF and Ogg have none.
    MissingDependency
        No soundfile.
    """

    def __init__(self, path: PathLike, raw: RawFormat | None = None, *, called: str | None = None) -> None:
        self.path, self._place = Path(called or path), Path(path)
        self._file: Any = None
        self._check_regular(is_raw=raw is not None)
        self._over_bytes = 0 if raw is None else self._stamp[2] % raw.frame_bytes
        library = soundfile()
        try:
            self._file = library.SoundFile(system_path(self._place), **({} if raw is None else raw.keywords))
        except TypeError as error:
            raise AudioFileError(
                f"{self.path}: a raw file does not say what is in it; --raw RATE,CHANNELS,SUBTYPE does"
            ) from error
        except (library.SoundFileError, OSError) as error:
            raise AudioFileError(f"{self.path}: not a readable audio file: {reason_of(error)}") from error
        self.frames = int(self._file.frames)
        self.channels = int(self._file.channels)
        self.rate_hz = int(self._file.samplerate)
        self.format = str(self._file.format)
        self.subtype = str(self._file.subtype)
        self.tags: dict[str, str] = dict(self._file.copy_metadata())
        log = str(self._file.extra_info)
        self.losses = tuple(what for chunk, what in _UNREAD.items() if re.search(chunk, log, re.MULTILINE))
        try:
            self._check_contents()
        except AudioFileError:
            self.close()
            raise

    def _check_regular(self, *, is_raw: bool) -> None:
        try:
            found = os.stat(self._place)
        except FileNotFoundError as error:
            raise AudioFileError(f"{self.path}: no such file") from error
        except (OSError, ValueError) as error:
            raise AudioFileError(f"{self.path}: cannot be read: {reason_of(error)}") from error
        self._stamp = _stamp(found)
        if stat.S_ISDIR(found.st_mode):
            raise AudioFileError(f"{self.path}: is a folder, expected an audio file")
        if not stat.S_ISREG(found.st_mode):
            raise AudioFileError(f"{self.path}: is not a regular file")
        try:
            # libsndfile would say no more than "System error".
            with open(self._place, "rb", buffering=0) as file:
                beginning = file.read(4)
        except OSError as error:
            raise AudioFileError(f"{self.path}: cannot be read: {reason_of(error)}") from error
        if is_raw and beginning in AUDIO_BEGINNINGS:
            raise AudioFileError(
                f"{self.path}: begins with a header, which would be heard as noise; leave out --raw"
            )
        if found.st_size == 0:
            raise AudioFileError(f"{self.path}: is empty (0 bytes), expected an audio file")

    def _check_contents(self) -> None:
        log = str(self._file.extra_info)
        sizes = [(int(should), int(says)) for says, should in _TRUNCATED_SIZE.findall(log)]
        counts = [(int(is_), int(says)) for is_, says in _TRUNCATED_COUNT.findall(log)]
        for found, expected in sizes:
            if found < expected < _PLACEHOLDER_BYTES:
                raise AudioFileError(
                    f"{self.path}: is cut short: its header promises {expected} bytes, found {found}"
                )
        for found, expected in counts:
            if found < expected:
                raise AudioFileError(
                    f"{self.path}: is cut short: its header promises {expected} frames, found {found}"
                )
        if self._over_bytes:
            raise AudioFileError(f"{self.path}: is cut short in the middle of frame {self.frames}")
        if self.rate_hz > MAX_RATE_HZ:
            raise AudioFileError(
                f"{self.path}: says its rate is {self.rate_hz} Hz, at most {MAX_RATE_HZ} is read"
            )
        if self.channels < 1 or self.rate_hz < 1:
            raise AudioFileError(
                f"{self.path}: says it has {self.channels} channels at {self.rate_hz} Hz, expected at least 1"
            )
        if self.frames < 1:
            raise AudioFileError(f"{self.path}: holds no audio (0 frames)")

    def blocks(
        self, max_frames: int = BLOCK_FRAMES, start: int = 0, stop: int | None = None
    ) -> Iterator[Array]:
        """Yield the file's frames, or those from `start` up to `stop`.

        Parameters
        ----------
        max_frames : int
            Each block but the last has this many frames.
        start, stop : int, optional

        Yields
        ------
        float32 array [frames, channels]
            A new array each time.

        Raises
        ------
        AudioFileError
            Fewer frames than promised, a sample that is not a finite number, or a file that has changed
            meanwhile.
        """
        library = soundfile()
        done = self._sought(start)
        last = self.frames if stop is None else min(stop, self.frames)
        while done < last:
            wanted = min(max_frames, last - done)
            try:
                block: Array = self._file.read(wanted, dtype="float32", always_2d=True)
            except (library.SoundFileError, OSError) as error:
                raise AudioFileError(
                    f"{self.path}: damaged or cut short after {done} frames: {reason_of(error)}"
                ) from error
            if not np.isfinite(block).all():
                frame, channel = np.argwhere(~np.isfinite(block))[0]
                raise AudioFileError(
                    f"{self.path}: frame {done + frame}, channel {channel + 1} is not a finite number"
                )
            done += len(block)
            if done == last:
                self._check_unchanged()
            if len(block):
                yield block
            if len(block) < wanted:
                raise AudioFileError(
                    f"{self.path}: is cut short: its header promises {self.frames} frames, found {done}"
                )

    def _sought(self, frame: int) -> int:
        if frame != self._file.tell():
            try:
                return int(self._file.seek(frame))
            except (soundfile().SoundFileError, OSError) as error:
                raise AudioFileError(
                    f"{self.path}: cannot go to frame {frame}: {reason_of(error)}"
                ) from error
        return frame

    def _check_unchanged(self) -> None:
        """Refuse a file that changed while it was read: parts of it would be of either version."""
        try:
            found = os.stat(self._place)
        except OSError as error:
            raise AudioFileError(f"{self.path}: went away while it was read: {reason_of(error)}") from error
        if _stamp(found) != self._stamp:
            raise AudioFileError(f"{self.path}: changed while it was read")

    def close(self) -> None:
        """Close the file; more than once is fine."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    """What differs once a file has been written to or replaced."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read(path: PathLike) -> tuple[Array, int]:
    """Read a whole audio file.

    Returns
    -------
    x : float32 array [frames, channels]
    rate_hz : int

    Raises
    ------
    AudioFileError
        See :class:`AudioReader`.
    """
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.blocks(1 << 20))), reader.rate_hz
