"""The files of a session: what is asked for from the start, and recordings that come and go while it runs."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ..audiofile import AudioWriter, PathLike
from ..errors import AudioFileError, BacklineError
from ..pending import PendingFile
from .monitor import Monitor
from .options import Options
from .recorder import Recorder, Sink
from .status import HostStats


def check_paths(options: Options) -> None:
    """Refuse files that cannot be what they are to be, before anything is opened.

    Raises
    ------
    BacklineError, AudioFileError
        One sentence.
    """
    take, record, to = options.take, options.record, options.to
    if to is not None and take is None:
        raise BacklineError("the output of a take can only be kept if a take is played")
    if record is not None and to is not None and Path(record).resolve() == Path(to).resolve():
        raise AudioFileError(f"{record}: is to hold both the recording and the take; give two names")
    for path in (record, to):
        with contextlib.suppress(OSError):
            if path is not None and take is not None and Path(path).samefile(take):
                raise AudioFileError(f"{path}: is the take itself; give another output")
    if options.stats is not None:
        PendingFile(Path(options.stats), overwrite=options.overwrite).discard()


class Recordings:
    """Files of what is played, in the engine's channels.

    Parameters
    ----------
    monitor : Monitor
    record : str or path, optional
        For all there is.
    to : (path, int, int), optional
        For a part: the path, the first frame and how many.
    overwrite : bool
    say : callable
        Given sentences a user should see.

    Raises
    ------
    AudioFileError
        A file cannot be made; none is left then.
    """

    def __init__(
        self,
        monitor: Monitor,
        record: PathLike | None,
        to: tuple[PathLike, int, int] | None,
        overwrite: bool,
        say: Callable[[str], None],
    ) -> None:
        self._rate_hz, self._rows, self._say = int(monitor.rate_hz), monitor.output_rows, say
        self._sinks: list[Sink] = []
        with contextlib.ExitStack() as opened:
            for path, first, frames in ([(record, 0, None)] if record is not None else []) + (
                [to] if to is not None else []
            ):
                writer = AudioWriter(path, self._rate_hz, self._rows, overwrite=overwrite)
                opened.callback(writer.abort)
                self._sinks.append(Sink(writer, first, frames))
            opened.pop_all()
        self._current = self._sinks[0] if record is not None else None
        self._recorder = Recorder(monitor.read_capture, self._rows, self._sinks, say)

    @property
    def failure(self) -> Exception | None:
        """The first thing that went wrong with a file that was asked for from the start."""
        return self._recorder.error

    @property
    def current(self) -> str | None:
        """Name of the recording that runs."""
        running = self._current
        return None if running is None or running.failure is not None else str(running.writer.path)

    @property
    def written(self) -> list[str]:
        """Files that are complete."""
        return [str(sink.writer.path) for sink in self._sinks if sink.writer.committed]

    def begin(self) -> None:
        """Begin a recording under a new name in the working folder, unless one runs.

        Raises
        ------
        AudioFileError
            The file cannot be made.
        """
        if self.current is None:
            self._current = self._recorder.add(AudioWriter(_fresh_name(), self._rate_hz, self._rows))
            self._sinks.append(self._current)

    def end(self) -> None:
        """End the recording that runs, if any.

        Raises
        ------
        AudioFileError
            It cannot be finished.
        """
        if self._current is not None:
            sink, self._current = self._current, None
            self._recorder.end(sink)

    def abort(self) -> None:
        """Leave no file."""
        self._recorder.abort()

    def finish(self, stats: HostStats) -> None:
        """Complete all files, now that nothing is played any more.

        Raises
        ------
        Exception
            The first that went wrong, once all other files are complete.
        """
        if stats.capture_lost_frames:
            self._say(f"{stats.capture_lost_frames} frames were not recorded: silence stands for them")
        self._current = None
        try:
            self._recorder.finish(stats.frames)
        finally:
            for sink in self._sinks:
                if sink.missing_frames > 0:
                    self._say(f"{sink.writer.path}: ends {sink.missing_frames} frames before the take does")


def _fresh_name() -> Path:
    """A name by the clock; with a number behind it for one more recording in the same second."""
    stem = datetime.now().strftime("backline-%Y%m%d-%H%M%S")
    names = itertools.chain([f"{stem}.wav"], (f"{stem}-{number}.wav" for number in itertools.count(2)))
    return next(path for path in map(Path, names) if not os.path.lexists(path))
