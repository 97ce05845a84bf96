"""Audio files, written in blocks: nothing is seen under a file's name until it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dither import BITS as WHOLE_BITS
from ..dither import quantised
from ..errors import AudioFileError, DiskFull
from ..headers import forget_time
from ..pending import Draft, PendingFile
from ._library import Array, PathLike, close_unflushed, leave_out_peaks, reason_of, soundfile, system_path
from .formats import (
    COMPRESSED_FORMATS,
    SAMPLE_BYTES,
    SHORT_FORMAT_BYTES,
    SHORT_FORMATS,
    UNCLIPPED_SUBTYPES,
    format_of,
    subtype_for,
)


class AudioWriter:
    """An audio file being written: nothing is seen under its name until it is complete.

    Frames go to a hidden temporary file in the same folder. `close` flushes it to the disk and renames it;
    `abort`, an exception inside ``with``, or forgetting the object removes it.

    Parameters
    ----------
    path : str, path or Draft
        The extension gives the format. A draft is finished under its temporary's name and left there.
    rate_hz : int
    channels : int
    subtype : str, optional
        libsndfile's name, e.g. ``"PCM_16"``; the best of the format by default (WAV: 32-bit float, FLAC and
        AIFF: 24 bits).
    overwrite : bool
        Replace an existing file. Without it an existing file is refused now and again at the end.
    dither : bool
        Dither where samples are stored as whole numbers of at most 24 bits; see `backline.dither`.
    tags : mapping of str to str, optional
        Title, artist and so on, as `AudioReader.tags` has them.
    expected_frames : int, optional
        How many frames are to come at least, so that a format that cannot hold them is refused now.

    Attributes
    ----------
    path : Path
    rate_hz, channels : int
    format, subtype : str
    frames : int
        Written so far.
    clipped : int
        Samples beyond ±1 so far, where the subtype cuts them there; 0 for float subtypes.
    committed : bool
        Whether the file has got its name.
    not_finite : int
        Samples so far that were no finite numbers; integer subtypes store 0 for NaN.
    dithered : bool
    losses : tuple of str
        Tags that the format does not hold.

    Raises
    ------
    AudioFileError
        The file exists, cannot be made, the disk is full, or the format cannot hold what was asked.
    """

    def __init__(
        self,
        path: PathLike,
        rate_hz: int,
        channels: int,
        *,
        subtype: str | None = None,
        overwrite: bool = False,
        dither: bool = False,
        tags: Mapping[str, str] | None = None,
        expected_frames: int | None = None,
    ) -> None:
        self._file: Any = None
        self._pending: PendingFile | None = None
        self.path = Path(path)
        self.rate_hz = rate_hz
        self.channels = channels
        self.frames = 0
        self.clipped = 0
        self.not_finite = 0
        self.committed = False
        self._draft = path if isinstance(path, Draft) else None
        self._overwrite = overwrite
        self.format = format_of(self.path)
        self.subtype = subtype_for(self.path, subtype)
        self.dithered = dither and self.subtype in WHOLE_BITS
        self.losses: tuple[str, ...] = ()
        self._check_length(expected_frames or 0)
        try:
            self._open()
            self._tag(tags or {})
        except BaseException:
            self.abort()
            raise

    def _open(self) -> None:
        library = soundfile()
        self._pending = PendingFile(self._draft or self.path, overwrite=self._overwrite)
        try:
            self._file = library.SoundFile(
                system_path(self._pending.temporary),
                "w",
                samplerate=self.rate_hz,
                channels=self.channels,
                format=self.format,
                subtype=self.subtype,
                endian="LITTLE" if self.format == "RAW" else "FILE",
            )
        except (library.SoundFileError, ValueError, TypeError, OverflowError) as error:
            what = f"{self.format} {self.subtype} with {self.channels} channels at {self.rate_hz} Hz"
            raise self._failed(error, f"cannot write {what}") from error
        leave_out_peaks(self._file)

    def _tag(self, tags: Mapping[str, str]) -> None:
        lost = []
        for name, value in tags.items():
            try:
                setattr(self._file, name, value)
                kept = getattr(self._file, name) == value
            except (soundfile().SoundFileError, ValueError, AttributeError):
                kept = False
            if not kept:
                lost.append(f"tag {name}")
        self.losses = tuple(lost)

    def write(self, x: Array) -> None:
        """Append frames.

        Parameters
        ----------
        x : float32 array [frames, channels], or [frames] for one channel

        Raises
        ------
        AudioFileError
            The disk is full, or the format can hold no more.
        ValueError
            Another number of channels, or the file is closed.
        """
        if self._file is None:
            raise ValueError(f"{self.path}: is closed")
        if x.ndim == 1:
            x = x[:, np.newaxis]
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise ValueError(f"{self.path}: expected [frames, {self.channels}], found shape {list(x.shape)}")
        self._check_length(len(x))
        finite = np.isfinite(x)
        if not finite.all():
            self.not_finite += int(finite.size - np.count_nonzero(finite))
            if self.subtype not in UNCLIPPED_SUBTYPES:
                x = np.nan_to_num(x, nan=0.0, posinf=2.0, neginf=-2.0)
        if self.subtype not in UNCLIPPED_SUBTYPES:
            self.clipped += int(np.count_nonzero(np.abs(x) > 1.0))
        library = soundfile()
        try:
            self._file.write(self._stored(x))
        except (library.SoundFileError, OSError, AssertionError) as error:
            raise self._failed(error) from error
        self.frames += len(x)

    def _stored(self, x: Array) -> NDArray[np.floating[Any]]:
        bits = WHOLE_BITS.get(self.subtype)
        if bits is None:
            return np.ascontiguousarray(x, np.float32)
        return quantised(x, bits, self.frames if self.dithered else None)

    def _check_length(self, more: int) -> None:
        width = SAMPLE_BYTES.get(self.subtype)
        if width is None or self.format not in SHORT_FORMATS:
            return
        if (self.frames + more) * self.channels * width > SHORT_FORMAT_BYTES:
            raise AudioFileError(
                f"{self.path}: {self.format} files end at 4 GiB; write .w64, .rf64 or .flac instead"
            )

    def _failed(self, error: BaseException, doing: str = "cannot be written") -> AudioFileError:
        # Whoever else wrote there may have made room since.
        is_full = os.strerror(errno.ENOSPC).lower() in str(error).lower()
        with contextlib.suppress(OSError):
            if is_full or shutil.disk_usage(os.path.realpath(self.path.parent)).free < 1 << 16:
                return DiskFull(f"{self.path}: cannot be written: the disk is full")
        return AudioFileError(f"{self.path}: {doing}: {reason_of(error)}")

    def close(self) -> None:
        """Finish the file and give it its name; more than once is fine.

        Raises
        ------
        AudioFileError
            The disk is full, or the name has been taken meanwhile. Nothing is left behind.
        """
        if self._pending is None:
            return
        library = soundfile()
        try:
            file, self._file = self._file, None
            if file is not None:
                close_unflushed(file)
            self._check_complete(self._pending.temporary)
            forget_time(self._pending.temporary, self.format)
            self._pending.commit()
            self.committed = self._draft is None
        except (library.SoundFileError, OSError) as error:
            raise self._failed(error) from error
        finally:
            self.abort()

    def salvage(self) -> bool:
        """Finish a file that a `write` has failed on; returns if its end is whole. Errors as `close`."""
        with contextlib.suppress(Exception):
            self._file.truncate(self.frames)
        self.close()
        return self.format not in COMPRESSED_FORMATS  # their ends need room, too

    def _check_complete(self, path: Path) -> None:
        """Catch what libsndfile does not report: a last flush that found the disk full."""
        width = SAMPLE_BYTES.get(self.subtype)
        if self.format in COMPRESSED_FORMATS:
            frames = int(soundfile().info(system_path(path)).frames) if self.frames else 0
        elif width is not None:
            frames = os.path.getsize(path) // (width * self.channels)
        else:
            return
        if frames < self.frames:
            raise OSError(f"{self.frames} frames were written, {frames} arrived")

    def abort(self) -> None:
        """Forget what was written and remove the temporary file; fine at any time, also after `close`."""
        file, self._file = self._file, None
        pending, self._pending = self._pending, None
        if file is not None:
            with contextlib.suppress(Exception):
                close_unflushed(file)
        if pending is not None:
            pending.discard()

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # An interrupt between construction and `with` would otherwise leave the temporary file.
        with contextlib.suppress(AttributeError):
            self.abort()
