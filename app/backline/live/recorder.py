"""Files written while audio runs: a thread empties the host's capture ring into them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..audiofile import AudioWriter

Array = NDArray[np.float32]

_BLOCK_FRAMES = 8192
_POLL_SECONDS = 0.02


@dataclass
class Sink:
    """One file and the part of the session it holds.

    Attributes
    ----------
    writer : AudioWriter
    first_frame : int
        The session's frame that becomes the file's first.
    frames : int, optional
        Length of the file; None for all there is.
    failure : Exception or None
        Why nothing is written any more.
    """

    writer: AudioWriter
    first_frame: int = 0
    frames: int | None = None
    failure: Exception | None = None

    @property
    def missing_frames(self) -> int:
        """Frames the file has not got yet, out of the length it was to have."""
        return 0 if self.frames is None else self.frames - self.writer.frames

    def write(self, block: Array, at_frame: int) -> None:
        """Write what of `block` [frames, rows], whose first frame is frame `at_frame`, belongs here."""
        start = max(self.first_frame - at_frame, 0)
        stop = len(block) if self.frames is None else self.first_frame + self.frames - at_frame
        if start < min(stop, len(block)):
            self.writer.write(block[start:stop])


class Recorder:
    """A thread between the capture ring, which must not fill up, and files, which may be slow.

    Parameters
    ----------
    read : callable
        Fills a float32 array ``[frames, rows]`` from its start and returns how many frames there were.
    rows : int
    sinks : sequence of Sink
        Owned from here on: finished by `finish`, also when some of them fail. `add` brings more.
    say : callable
        Given a sentence on each file that cannot be written any more, and what became of what it had.

    Attributes
    ----------
    error : Exception or None
        The first thing that went wrong, but for files that `add` has brought; other files go on.
    """

    def __init__(
        self, read: Callable[[Array], int], rows: int, sinks: list[Sink], say: Callable[[str], None]
    ) -> None:
        self.error: Exception | None = None
        self._say = say
        self._needed = tuple(sinks)
        self._read = read
        self._block = np.zeros((_BLOCK_FRAMES, rows), np.float32)
        self._sinks = list(sinks)
        self._frames = 0
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backline-recorder", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.wait(_POLL_SECONDS):
                self._drain()
        except Exception as error:  # nobody sees what a thread raises: whoever runs the session asks for it
            self.error = self.error or error

    def _drain(self) -> None:
        with self._lock:
            while count := self._read(self._block):
                self._give(self._block[:count])

    def _give(self, block: Array) -> None:
        for sink in list(self._sinks):
            try:
                sink.write(block, self._frames)
            except Exception as error:
                self._drop(sink, error)
        self._frames += len(block)

    def _drop(self, sink: Sink, error: Exception) -> None:
        sink.failure = error
        self._sinks.remove(sink)
        kept = self._save(sink.writer)
        if sink in self._needed:
            self.error = self.error or error
            if kept:
                self._say(kept)
        else:
            self._say(f"the recording has ended: {error}" + (f"; {kept}" if kept else ""))

    def _save(self, writer: AudioWriter) -> str:
        """Finish a file that can take no more, with what it has; a sentence on that, or nothing."""
        if writer.frames == 0:
            writer.abort()
            return ""
        frames = writer.frames
        try:
            whole = writer.salvage()
        except Exception as error:
            return f"{writer.path}: the {frames / writer.rate_hz:.1f} s before are lost too: {error}"
        end = ", and may be damaged at its end" if not whole else ""
        return f"{writer.path}: holds the {frames / writer.rate_hz:.1f} s before{end}"

    def add(self, writer: AudioWriter) -> Sink:
        """Let a file have all frames from now on; it is this recorder's from then on.

        If it fails, that is said, and no reason to end a session.
        """
        with self._lock:
            sink = Sink(writer, self._frames)
            self._sinks.append(sink)
            return sink

    def end(self, sink: Sink) -> None:
        """Give a file what there is for it, and its name.

        Raises
        ------
        AudioFileError
            It cannot be finished.
        """
        self._drain()
        with self._lock:
            if sink in self._sinks:
                self._sinks.remove(sink)
                sink.writer.close()

    def abort(self) -> None:
        """End without leaving any file."""
        self._stop.set()
        self._thread.join()
        for sink in self._sinks:
            sink.writer.abort()

    def finish(self, total_frames: int) -> None:
        """Write what is left and give the files their names. The audio thread has to be still by now.

        Parameters
        ----------
        total_frames : int
            Frames the session had. Those at its end that found the ring full become silence here, so that
            a file is as long as what was heard.

        Raises
        ------
        AudioFileError
            The first error of any file, once all others are complete.
        Exception
            Anything else that went wrong first. The files have what was recorded until then.
        """
        self._stop.set()
        self._thread.join()
        try:
            self._drain()
            while self._frames < total_frames:
                self._block[:] = 0.0
                self._give(self._block[: min(len(self._block), total_frames - self._frames)])
        except Exception as error:
            self.error = self.error or error
        for sink in list(self._sinks):
            try:
                sink.writer.close()
            except Exception as error:  # nothing is left to be saved
                self._drop(sink, error)
        if self.error is not None:
            raise self.error
