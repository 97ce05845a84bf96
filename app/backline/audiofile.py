"""Audio files, read and written in blocks through libsndfile.

The only module that imports soundfile, and only when a file is opened. Arrays are float32
``[frames, channels]`` with full scale at ±1, rates are whole hertz.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import AudioFileError, MissingDependency
from .pending import PendingFile, reason

Array = NDArray[np.float32]
PathLike = str | os.PathLike[str]

#: Frames per block where the caller does not say.
BLOCK_FRAMES = 16384
#: Highest rate a header is believed: what is measured per second would outgrow the memory.
MAX_RATE_HZ = 2_000_000

#: Extensions whose format libsndfile names otherwise.
_FORMAT_OF_EXTENSION = {
    "AIF": "AIFF",
    "AIFC": "AIFF",
    "OGA": "OGG",
    "OPUS": "OGG",
    "SF": "IRCAM",
    "SND": "AU",
    "WAVE": "WAV",
}
#: What to write where the caller does not say: the most exact thing that other programs still read.
_BEST_SUBTYPE = {
    "AIFF": "PCM_24",
    "AU": "FLOAT",
    "CAF": "FLOAT",
    "FLAC": "PCM_24",
    "IRCAM": "FLOAT",
    "MAT4": "FLOAT",
    "MAT5": "FLOAT",
    "RF64": "FLOAT",
    "W64": "FLOAT",
    "WAV": "FLOAT",
    "WAVEX": "FLOAT",
}
_SAMPLE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
#: These hold any float; all others cut at full scale. (Vorbis codes floats; it is the player that clips.)
_UNCLIPPED_SUBTYPES = frozenset({"FLOAT", "DOUBLE", "VORBIS"})
_USUAL_FORMATS = ("WAV", "FLAC", "AIFF", "OGG", "MP3", "CAF", "W64")
_COMPRESSED_FORMATS = frozenset({"FLAC", "OGG", "MP3"})
#: Formats whose headers count bytes in 32 bits.
_SHORT_FORMATS = frozenset({"WAV", "WAVEX", "AIFF", "AU"})
_SHORT_FORMAT_BYTES = (1 << 32) - (1 << 16)
#: Sizes from here on are what streaming programs write when they cannot know the length.
_PLACEHOLDER_BYTES = 0x7FFF0000
_TRUNCATED_SIZE = re.compile(r"^\s*(?:data|SSND|riff|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_TRUNCATED_COUNT = re.compile(r"Calculated frame count (\d+) does not match value from 'ds64' chunk of (\d+)")


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MissingDependency(f"reading audio files needs the package soundfile: {error}") from error
    return soundfile


def _reason(error: BaseException) -> str:
    """Say in half a sentence what libsndfile or the system complains about."""
    if isinstance(error, OSError):
        return reason(error)
    text = str(getattr(error, "error_string", error))
    return text.removeprefix("Error : ").rstrip(". ") or type(error).__name__


class AudioReader:
    """An audio file, open for reading from its start to its end.

    Parameters
    ----------
    path : str or path
        A regular file in any format libsndfile reads.

    Attributes
    ----------
    path : Path
    frames, channels, rate_hz : int
    format, subtype : str
        libsndfile's names, e.g. ``"WAV"`` and ``"PCM_24"``.

    Raises
    ------
    AudioFileError
        Missing, a folder, not permitted, empty, cut short, or not audio. A file cut short is told by its
        header where the format has one that says so; CAF and Ogg have none.
    MissingDependency
        No soundfile.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._file: Any = None
        self._check_regular()
        soundfile = _soundfile()
        try:
            self._file = soundfile.SoundFile(_system_path(self.path))
        except TypeError as error:
            raise AudioFileError(f"{self.path}: a raw file does not say what is in it") from error
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioFileError(f"{self.path}: not a readable audio file: {_reason(error)}") from error
        self.frames = int(self._file.frames)
        self.channels = int(self._file.channels)
        self.rate_hz = int(self._file.samplerate)
        self.format = str(self._file.format)
        self.subtype = str(self._file.subtype)
        try:
            self._check_contents()
        except AudioFileError:
            self.close()
            raise

    def _check_regular(self) -> None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError as error:
            raise AudioFileError(f"{self.path}: no such file") from error
        except (OSError, ValueError) as error:
            raise AudioFileError(f"{self.path}: cannot be read: {_reason(error)}") from error
        if stat.S_ISDIR(found.st_mode):
            raise AudioFileError(f"{self.path}: is a folder, expected an audio file")
        if not stat.S_ISREG(found.st_mode):
            raise AudioFileError(f"{self.path}: is not a regular file")
        try:
            # libsndfile would say no more than "System error".
            os.close(os.open(self.path, os.O_RDONLY))
        except OSError as error:
            raise AudioFileError(f"{self.path}: cannot be read: {_reason(error)}") from error
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

    def blocks(self, max_frames: int = BLOCK_FRAMES) -> Iterator[Array]:
        """Yield the rest of the file.

        Parameters
        ----------
        max_frames : int
            Each block but the last has this many frames.

        Yields
        ------
        float32 array [frames, channels]
            A new array each time.

        Raises
        ------
        AudioFileError
            Fewer frames than promised, or a sample that is not a finite number.
        """
        soundfile = _soundfile()
        done = 0
        while done < self.frames:
            wanted = min(max_frames, self.frames - done)
            try:
                block: Array = self._file.read(wanted, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError) as error:
                raise AudioFileError(
                    f"{self.path}: damaged or cut short after {done} frames: {_reason(error)}"
                ) from error
            if not np.isfinite(block).all():
                frame, channel = np.argwhere(~np.isfinite(block))[0]
                raise AudioFileError(
                    f"{self.path}: frame {done + frame}, channel {channel + 1} is not a finite number"
                )
            if len(block):
                yield block
            done += len(block)
            if len(block) < wanted:
                raise AudioFileError(
                    f"{self.path}: is cut short: its header promises {self.frames} frames, found {done}"
                )

    def close(self) -> None:
        """Close the file; more than once is fine."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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


def format_of(path: PathLike) -> str:
    """libsndfile's name of the format that a file name's extension stands for.

    Raises
    ------
    AudioFileError
        No extension, or one that stands for nothing that can be written here.
    """
    extension = Path(path).suffix[1:].upper()
    name = _FORMAT_OF_EXTENSION.get(extension, extension)
    known = _soundfile().available_formats()
    known.pop("SD2", None)  # writes a second file beside, which a rename would lose
    if not extension:
        raise AudioFileError(f"{path}: has no extension to tell the format by, such as .wav or .flac")
    if name == "RAW" or name not in known:
        usual = ", ".join(f".{n.lower()}" for n in _USUAL_FORMATS if n in known)
        raise AudioFileError(f"{path}: cannot write {Path(path).suffix} files; usual formats are {usual}")
    return name


def subtype_for(path: PathLike, subtype: str | None = None) -> str:
    """The subtype a file is written with: `subtype` if its format has it, the format's best if None.

    Raises
    ------
    AudioFileError
        The format of `path` has no such subtype.
    """
    name = format_of(path)
    soundfile = _soundfile()
    known = soundfile.available_subtypes(name)
    if subtype is None:
        opus = Path(path).suffix.lower() == ".opus"
        return "OPUS" if opus else _BEST_SUBTYPE.get(name, str(soundfile.default_subtype(name)))
    if subtype.upper() not in known:
        raise AudioFileError(f"{path}: {name} files have no subtype {subtype}; known are {', '.join(known)}")
    return subtype.upper()


class AudioWriter:
    """An audio file being written: nothing is seen under its name until it is complete.

    Frames go to a hidden temporary file in the same folder. `close` flushes it to the disk and renames it;
    `abort`, an exception inside ``with``, or forgetting the object removes it.

    Parameters
    ----------
    path : str or path
        The extension gives the format.
    rate_hz : int
    channels : int
    subtype : str, optional
        libsndfile's name, e.g. ``"PCM_16"``; the best of the format by default (WAV: 32-bit float, FLAC and
        AIFF: 24 bits).
    overwrite : bool
        Replace an existing file. Without it an existing file is refused now and again at the end.

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
        self._overwrite = overwrite
        self.format = format_of(self.path)
        self.subtype = subtype_for(self.path, subtype)
        try:
            self._open()
        except BaseException:
            self.abort()
            raise

    def _open(self) -> None:
        soundfile = _soundfile()
        self._pending = PendingFile(self.path, overwrite=self._overwrite)
        try:
            self._file = soundfile.SoundFile(
                _system_path(self._pending.temporary),
                "w",
                samplerate=self.rate_hz,
                channels=self.channels,
                format=self.format,
                subtype=self.subtype,
            )
        except (soundfile.SoundFileError, ValueError, TypeError, OverflowError) as error:
            if self._disk_is_full():
                raise self._failed(error) from error
            raise AudioFileError(
                f"{self.path}: cannot write {self.format} {self.subtype} with {self.channels} channels "
                f"at {self.rate_hz} Hz: {_reason(error)}"
            ) from error

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
            if self.subtype not in _UNCLIPPED_SUBTYPES:
                x = np.nan_to_num(x, nan=0.0, posinf=2.0, neginf=-2.0)
        if self.subtype not in _UNCLIPPED_SUBTYPES:
            self.clipped += int(np.count_nonzero(np.abs(x) > 1.0))
        soundfile = _soundfile()
        try:
            self._file.write(np.ascontiguousarray(x, np.float32))
        except (soundfile.SoundFileError, OSError, AssertionError) as error:
            raise self._failed(error) from error
        self.frames += len(x)

    def _check_length(self, more: int) -> None:
        width = _SAMPLE_BYTES.get(self.subtype)
        if width is None or self.format not in _SHORT_FORMATS:
            return
        if (self.frames + more) * self.channels * width > _SHORT_FORMAT_BYTES:
            raise AudioFileError(
                f"{self.path}: {self.format} files end at 4 GiB; write .w64, .rf64 or .flac instead"
            )

    def _disk_is_full(self) -> bool:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(os.path.realpath(self.path.parent)).free < 1 << 16
        return False

    def _failed(self, error: BaseException) -> AudioFileError:
        if self._disk_is_full():
            return AudioFileError(f"{self.path}: cannot be written: the disk is full")
        return AudioFileError(f"{self.path}: cannot be written: {_reason(error)}")

    def close(self) -> None:
        """Finish the file and give it its name; more than once is fine.

        Raises
        ------
        AudioFileError
            The disk is full, or the name has been taken meanwhile. Nothing is left behind.
        """
        if self._pending is None:
            return
        soundfile = _soundfile()
        try:
            file, self._file = self._file, None
            if file is not None:
                file.close()
            self._check_complete(self._pending.temporary)
            self._pending.commit()
            self.committed = True
        except (soundfile.SoundFileError, OSError) as error:
            raise self._failed(error) from error
        finally:
            self.abort()

    def salvage(self) -> bool:
        """Finish a file that a `write` has failed on; returns if its end is whole. Errors as `close`."""
        with contextlib.suppress(Exception):
            self._file.truncate(self.frames)
        self.close()
        return self.format not in _COMPRESSED_FORMATS  # their ends need room, too

    def _check_complete(self, path: Path) -> None:
        """Catch what libsndfile does not report: a last flush that found the disk full."""
        width = _SAMPLE_BYTES.get(self.subtype)
        if self.format in _COMPRESSED_FORMATS:
            frames = int(_soundfile().info(_system_path(path)).frames) if self.frames else 0
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
                file.close()
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


def _system_path(path: Path) -> str | bytes:
    """As the system has it: file names of POSIX are bytes, and need not be text."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)
