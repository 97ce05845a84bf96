"""The audio that segments are cut from: any part of a file, at the dataset's rate."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..audiofile import Array, AudioReader, PathLike
from ..errors import AudioFileError
from ..pending import reason
from ..render.options import ChannelMap, channel_map
from ..render.stages import picked
from ..resample import resample, resampled_frames

#: Around a part that is resampled, what the resampler needs of the past and the future, and more.
_RESAMPLER_S = 0.02

#: A file's size, and when it was written last.
Stamp = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """A file of which parts can be read, each by itself.

    A part at another rate than the file's is resampled together with what is around it, to within the
    resampler's rounding of what it would be in the whole file; which frames that is depends on the part
    alone.

    Attributes
    ----------
    path : Path
    frames, rate_hz : int
        Of what is read.
    channels : int
    file_hz, file_frames : int
        Of the file.
    stamp : tuple of int
        Its size and when it was written last.
    picks : ChannelMap or None
        Which channels are made of the file's.
    """

    path: Path
    frames: int
    rate_hz: int
    channels: int
    file_hz: int
    file_frames: int
    stamp: Stamp
    picks: ChannelMap | None = None

    def at_rate(self, rate_hz: int) -> Input:
        """The same file, read at another rate."""
        frames = resampled_frames(self.file_frames, self.file_hz, rate_hz)
        return replace(self, rate_hz=rate_hz, frames=frames)

    def read(self, start: int, stop: int) -> Array:
        """Frames from `start` up to `stop`; what is after the end is silence.

        Returns
        -------
        float32 array [stop - start, channels]

        Raises
        ------
        AudioFileError
            The file cannot be read, or has changed since it was opened first.
        """
        found = self._plain(start, stop) if self.rate_hz == self.file_hz else self._resampled(start, stop)
        missing = stop - start - len(found)
        return found if missing <= 0 else np.pad(found, ((0, missing), (0, 0)))

    def _plain(self, start: int, stop: int) -> Array:
        stop = min(stop, self.file_frames)
        if start >= stop:
            return np.zeros((0, self.channels), np.float32)
        with AudioReader(self.path) as reader:
            if stamp_of(self.path) != self.stamp:
                raise AudioFileError(f"{self.path}: has changed since the dataset was planned")
            x = np.concatenate(list(reader.blocks(1 << 20, start, stop)))
        return x if self.picks is None else picked(x, self.picks)

    def _resampled(self, start: int, stop: int) -> Array:
        # Where a part begins, both rates have to meet.
        step = self.file_hz // math.gcd(self.file_hz, self.rate_hz)
        margin = math.ceil(_RESAMPLER_S * max(1.0, self.file_hz / self.rate_hz) * self.file_hz)
        first = max(0, start * self.file_hz // self.rate_hz - margin) // step * step
        x = self._plain(first, math.ceil(stop * self.file_hz / self.rate_hz) + margin)
        begins = first * self.rate_hz // self.file_hz
        made = resample(x, self.file_hz, self.rate_hz) if len(x) else x
        return made[start - begins : min(stop, self.frames) - begins]


def open_input(path: PathLike, channels: str | None = None) -> Input:
    """Look at a file.

    Parameters
    ----------
    path : str or path
    channels : str, optional
        As in `RenderOptions.channels`; as they are by default.

    Raises
    ------
    AudioFileError
        It cannot be read.
    BacklineError
        It has not these channels.
    """
    with AudioReader(path) as reader:
        picks = None if channels is None else channel_map(channels, reader.channels)
        return Input(
            path=Path(path),
            frames=reader.frames,
            rate_hz=reader.rate_hz,
            channels=reader.channels if picks is None else len(picks),
            file_hz=reader.rate_hz,
            file_frames=reader.frames,
            stamp=stamp_of(Path(path)),
            picks=picks,
        )


def stamp_of(path: Path) -> Stamp:
    """What differs once a file has been written to."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise AudioFileError(f"{path}: went away while it was read: {reason(error)}") from error
    return found.st_size, found.st_mtime_ns
