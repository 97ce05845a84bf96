"""Live sound: models on an audio device, one of which is heard.

The session owns what is loaded, where knobs and levels stand, and the recordings. The device lives in a
worker process (see `worker`), which `supervisor` replaces when it dies or the device stops calling.

Channels are counted from 1, as on the front of the hardware and in sounddevice's ``mapping``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audiofile import read
from ..engine import Model
from ..errors import BacklineError
from ..resample import resample
from ..signals import deferred
from . import forensics, stats_file
from .devices import CLOCK_DEVICE
from .fitting import warning
from .headroom import ASSUMED_BLOCK, MEASURED_BLOCK_FRAMES
from .hygiene import feedback_warning
from .messages import Opened
from .meters import Meters
from .monitor import Monitor, new_shared_memory
from .options import Options
from .recordings import Recordings, check_paths
from .renewal import Renewal
from .shelf import Shelf
from .slot import LiveModel, Slot
from .status import CallbackLog, HostStats, LiveStatus
from .supervisor import Supervisor

Array = NDArray[np.float32]

_CAPTURE_SECONDS = 10.0
_HEARD_SECONDS = 1.0
_POLL_SECONDS = 0.05


class LiveSession:
    """Models on an audio device, from ``with`` to the end of its block. Any thread may call.

    Parameters
    ----------
    models : Model, LiveModel or a sequence of them
        All are kept ready; the first plays.
    **options
        See `options.Options`: devices, channels, rates, levels, files and so on.

    Attributes
    ----------
    started : bool
        Whether the device has been set going: there is something to sum up.
    notes : list of str
        Sentences a user should see; complete once the session is over.

    Raises
    ------
    DeviceError, MissingDependency, AudioFileError, ModelError, BacklineError
        On entering, before anything sounds; a session is entered once.
    """

    def __init__(self, models: Model | LiveModel | Sequence[Model | LiveModel], **options: Any) -> None:
        listed = [models] if isinstance(models, Model | LiveModel) else list(models)
        sources = [LiveModel(each) if isinstance(each, Model) else each for each in listed]
        self._options = wanted = Options(**options)
        self.shelf = Shelf(
            sources,
            input_gain_db=wanted.input_gain_db,
            output_gain_db=wanted.output_gain_db,
            bypass=wanted.bypass,
            knobs=wanted.knobs,
            resampled=wanted.resampled,
            oversample=wanted.oversample,
        )
        self.notes: list[str] = []
        self.started = False
        self._wish = wanted.wish(sources[0])
        self._said = 0
        self._say_lock = threading.Lock()
        self._opened: Opened | None = None
        self._supervisor: Supervisor | None = None
        self._monitor: Monitor | None = None
        self._meters: Meters | None = None
        self._files: Recordings | None = None
        self._renewal: Renewal | None = None
        self._take_frames: int | None = None
        self._end_frames: int | None = None
        self._log: CallbackLog | None = None
        self._kept = False  # in a file
        self._entered = False
        self._stack = contextlib.ExitStack()

    # -- opening --

    def __enter__(self) -> LiveSession:
        if self._entered:
            raise BacklineError("a session is for one `with` only: make another")
        self._entered = True
        try:
            self.shelf.check_rate()
            check_paths(self._options)
            take = self._read_take()
            supervisor = self._supervisor = Supervisor(
                self._wish, self.shelf, self._options.limiter, self._say, self._check_load
            )
            self._stack.callback(supervisor.stop)
            opened = self._opened = supervisor.open()
            howl = feedback_warning(opened.source, opened.sink)
            for note in (*opened.notes, *([howl] if howl else [])):
                self._say(note)
            self._lay_out(opened)
            handed = None if take is None else self._hand_take(opened, *take)
            self._open_files()
            assert self._monitor is not None
            assert self._meters is not None
            renewal = self._renewal = Renewal(self.shelf, supervisor, self._meters, self._say, self._options)
            self._stack.callback(renewal.stop)
            renewal.choose_size()
            with deferred():
                supervisor.start(opened, self._monitor, self._meters, handed)
                self.started = True
            renewal.start()
        except BaseException:
            self.close()
            raise
        return self

    def _read_take(self) -> tuple[Array, int] | None:
        """The recording that is heard, at its own rate."""
        if self._options.take is None:
            return None
        x, file_hz = read(self._options.take)
        self._wish = replace(self._wish, take_channels=x.shape[1])
        return x, file_hz

    def _lay_out(self, opened: Opened) -> None:
        """Make the models and the monitor for what will be opened."""
        first = self.shelf.current.model
        rows = (opened.streams * first.input_channels, opened.streams * first.output_channels)
        if not self._wish.rates_hz:
            self._say(f"the model does not say its sample rate: running at {opened.rate_hz:g} Hz")
        for note in self.shelf.lay_out(opened.rate_hz, rows):
            self._say(note)
        frames = (round(_CAPTURE_SECONDS * opened.rate_hz), round(_HEARD_SECONDS * opened.rate_hz))
        self._monitor = self._stack.enter_context(Monitor.create(opened.rate_hz, *rows, *frames))
        self._meters = Meters(self._monitor)
        self._stack.callback(self._read_last)

    def _hand_take(self, opened: Opened, x: Array, file_hz: int) -> tuple[int, int]:
        """Put the take, at the session's rate, where the worker finds it; a descriptor, and its frames."""
        if file_hz != opened.rate_hz:
            self._say(f"{self._options.take}: resampled from {file_hz} to {opened.rate_hz:g} Hz")
            x = resample(x, file_hz, opened.rate_hz)
        rows = [channel for channel in opened.input_map if channel is not None]
        self._take_frames = len(x)
        self._end_frames = len(x) + self.shelf.current.graph.latency_frames
        planar = np.ascontiguousarray(x.T[rows], np.float32)
        descriptor = new_shared_memory(max(planar.nbytes, 1))
        self._stack.callback(os.close, descriptor)
        if planar.size:
            with mmap.mmap(descriptor, planar.nbytes) as mapped:
                mapped[:] = planar.tobytes()
        return descriptor, len(x)

    def _open_files(self) -> None:
        assert self._monitor is not None
        to = None
        if self._options.to is not None and self._take_frames is not None:
            to = (self._options.to, self.shelf.current.graph.latency_frames, self._take_frames)
        self._files = Recordings(self._monitor, self._options.record, to, self._options.overwrite, self._say)
        # It stops the device itself: on the stack that comes later, but files are complete only then.
        self._stack.callback(self._finish)

    def _check_load(self, slot: Slot) -> None:
        """Say that a model does not fit, and what would, before the device is opened."""
        assert self._supervisor is not None
        block = self._supervisor.block_frames
        found = warning(self.shelf, slot, block or MEASURED_BLOCK_FRAMES)
        if found is not None:
            self._say(found if block else f"{found}; {ASSUMED_BLOCK}")

    # -- running --

    def status(self) -> LiveStatus:
        """How it goes; peaks and the worst load are since the last call. Once closed, the last answer."""
        meters = self._meters
        stats = HostStats() if meters is None else meters.last if self._log is not None else meters.take()
        return self._status(stats)

    def _status(self, stats: HostStats) -> LiveStatus:
        supervisor, opened = self._supervisor, self._opened
        if supervisor is None or opened is None or supervisor.running is None:
            return LiveStatus(0.0, stats, state="starting")
        started = supervisor.running.started
        with supervisor.lock:
            return LiveStatus(
                stats.frames / opened.rate_hz,
                stats,
                state=supervisor.state,
                trouble=supervisor.trouble,
                input_latency_ms=started.input_latency_ms,
                output_latency_ms=started.output_latency_ms,
                rate_hz=opened.rate_hz,
                block_frames=supervisor.block_frames,
                source=None if opened.source is None else str(opened.source),
                sink=str(opened.sink),
                models=self.shelf.views(),
                playing=self.shelf.playing,
                swapping=supervisor.swapping,
                input_gain_db=self.shelf.input_gain_db,
                bypass=self.shelf.bypass,
                recording=None if self._files is None else self._files.current,
                reopened=supervisor.reopened,
                scheduling=started.scheduling,
            )

    def play(self, index: int) -> None:
        """Swap to the model of this index, which wraps around; it is crossfaded in once it is warm.

        Raises
        ------
        BacklineError
            It cannot be played.
        """
        self._running.play(index)

    def set(self, /, **knobs: float) -> None:
        """Turn knobs of the model that plays: each gets where it is told within 20 ms.

        Raises
        ------
        BacklineError
            No such knob, or a value outside its range.
        """
        with self._running.lock:
            self._running.turn(self.shelf.set(knobs))

    def set_levels(
        self,
        *,
        input_gain_db: float | None = None,
        output_gain_db: float | None = None,
        bypass: bool | None = None,
    ) -> None:
        """Set the gain before all models, that behind the one that plays, and if the input itself is heard.

        Raises
        ------
        BacklineError
            A gain out of range, or a bypass of a model that has none.
        """
        with self._running.lock:
            self._running.turn(self.shelf.set_levels(input_gain_db, output_gain_db, bypass))

    def record(self, on: bool) -> str | None:
        """Begin a recording under a new name in the working folder, and return it; or end the one that runs.

        Raises
        ------
        AudioFileError
            The file cannot be made, or finished.
        """
        with self._running.lock:
            assert self._files is not None
            if on:
                self._files.begin()
            else:
                self._files.end()
            return self._files.current

    def heard(self) -> Array:
        """Input frames [frames] of the first row since the last call, in order; a second at most."""
        if self._monitor is None or self._log is not None:
            return np.zeros(0, np.float32)
        block = np.zeros(round(_HEARD_SECONDS * self._monitor.rate_hz), np.float32)
        return block[: self._monitor.read_heard(block)]

    def messages(self) -> list[str]:
        """Notes since the last call."""
        with self._say_lock:
            fresh = self.notes[self._said :]
            self._said = len(self.notes)
        return fresh

    def _say(self, note: str) -> None:
        with self._say_lock:
            self.notes.append(note)

    @property
    def _running(self) -> Supervisor:
        if self._supervisor is None or self._log is not None:
            raise BacklineError("the session is not running")
        return self._supervisor

    def run(
        self,
        seconds: float | None = None,
        report: Callable[[LiveStatus], None] | None = None,
        interval_s: float = 1.0,
    ) -> None:
        """Wait until the take has been played, `seconds` of audio are over, or an exception ends it.

        A device that goes does not end it: see `status`.

        Parameters
        ----------
        seconds : float, optional
            Counted in frames the device has asked for.
        report : callable, optional
            Given a status every `interval_s` seconds.

        Raises
        ------
        AudioFileError
            A file cannot be written.
        """
        reported = time.monotonic()
        while not self.is_over(seconds):
            if report is not None and time.monotonic() - reported >= interval_s:
                reported += interval_s
                report(self.status())
            time.sleep(_POLL_SECONDS)

    def is_over(self, seconds: float | None = None) -> bool:
        """Whether the take, or so many seconds of audio, have been played.

        Raises
        ------
        Exception
            What makes going on impossible: a file that cannot be written, say.
        """
        supervisor = self._running
        files, renewal = self._files, self._renewal
        failures = [each.failure for each in (supervisor, files, renewal) if each is not None]
        for failure in failures:
            if failure is not None:
                raise failure
        assert self._meters is not None
        assert self._opened is not None
        frames = self._meters.poll().frames
        ends = [] if seconds is None else [round(seconds * self._opened.rate_hz)]
        ends += [] if self._end_frames is None else [self._end_frames]
        return any(frames >= end for end in ends)

    # -- closing --

    def _finish(self) -> None:
        assert self._supervisor is not None
        assert self._files is not None
        assert self._meters is not None
        self._supervisor.stop()
        if self.started:
            self._files.finish(self._meters.poll())
        else:
            self._files.abort()

    def _read_last(self) -> None:
        """What is asked for when the monitor is no more."""
        assert self._monitor is not None
        assert self._meters is not None
        self._meters.poll()
        self._log = self._monitor.log()
        if self._supervisor is not None:
            self._supervisor.xruns.collect(self._log)

    def close(self) -> None:
        """Stop the device and finish the files; more than once is fine. `status` keeps its last answer.

        Raises
        ------
        AudioFileError
            A file could not be finished.
        """
        with deferred():
            try:
                self._stack.close()
            finally:
                self._keep_stats()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What has been recorded is worth keeping, whatever ended the session.
        self.close()

    def _keep_stats(self) -> None:
        path, log = self._options.stats, self._log
        if path is not None and log is not None and self.started and not self._kept:
            self._kept = True
            found = [] if self._supervisor is None else self._supervisor.xruns.found
            stats_file.save(Path(path), log, self.summary(), found, overwrite=self._options.overwrite)

    def log(self) -> CallbackLog:
        """How long callbacks took, and what the last of them were doing."""
        if self._log is not None:
            return self._log
        if self._monitor is None:
            raise BacklineError("the session has not begun")
        return self._monitor.log()

    def causes(self) -> list[str]:
        """Sentences on what callbacks were doing when there were xruns."""
        return [] if self._supervisor is None else forensics.summary(self._supervisor.xruns.found)

    def summary(self) -> dict[str, Any]:
        """What the session was, JSON-ready."""
        opened = self._opened
        running = None if self._supervisor is None else self._supervisor.running
        status = self._status(HostStats() if self._meters is None else self._meters.last)
        return {
            "model": self.shelf.current.model.name,
            "input_device": None if opened is None or opened.source is None else str(opened.source),
            "output_device": str(CLOCK_DEVICE if opened is None else opened.sink),
            "sample_rate_hz": 0.0 if opened is None else opened.rate_hz,
            "files": [] if self._files is None else self._files.written,
            "notes": list(self.notes),
            "xrun_causes": {} if self._supervisor is None else self._supervisor.xruns.counts(),
            "memory_locked": None if running is None else running.started.memory_locked,
            **status.as_dict(),
        }
