"""Live sound: a model running on an audio device.

Channels are counted from 1, as on the front of the hardware and in sounddevice's ``mapping``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audiofile import AudioWriter, PathLike, read
from ..engine import Engine, Model, Program
from ..errors import AudioFileError, BacklineError, DeviceError, ModelError
from ..passes import BYPASS, INPUT_GAIN, OUTPUT_GAIN, gain_factor, with_levels
from ..resample import resample
from ..signals import deferred
from .devices import CLOCK, CLOCK_DEVICE, Device, Direction, Latency, find_device, why_no_device
from .host import Host, HostStats, LiveStatus
from .recorder import Recorder, Sink
from .streams import ClockStream, PortAudioStream, check_rate

Array = NDArray[np.float32]

_CLOCK_BLOCK_FRAMES = 64
_LOWEST_HZ, _HIGHEST_HZ = 1000, 768000
_CAPTURE_SECONDS = 10.0
_POLL_SECONDS = 0.05
_STALL_SECONDS = 5.0
_GONE_SECONDS = 2.0
_PATIENCE_BLOCKS = 4  # at least so many blocks, where they are longer than that
_SHORT_POLL_SECONDS = 0.005

Peaks = tuple[tuple[float, ...], tuple[float, ...]]  # of the input rows and of the output rows
_NO_PEAKS: Peaks = ((), ())


class LiveSession:
    """A model on an audio device, from ``with`` to the end of its block.

    Parameters
    ----------
    model : Model
    device : int or str, optional
        For input and output, unless one is given for a direction: see :func:`find_device`. Where none is
        named and the machine has none, or no PortAudio, the clock is used; `notes` then says so.
    input_device, output_device : int or str, optional
    input_channels : sequence of int, optional
        From 1. As many as the model has, or for a mono model any number: each is a stream of its own. With a
        take, its channels are meant. By default the device's first, or all of the take's.
    output_channels : sequence of int, optional
        From 1. One for each channel the session puts out; a single one goes to all of these. By default the
        first two for one, and the first so many for more.
    rate_hz : float, optional
        Another rate than the model's; changes how the model sounds. Whole hertz: files hold no others.
    block_frames : int, optional
        Of the device; left to PortAudio by default, 64 for the clock.
    latency_s : {"low", "high"} or float
        PortAudio's hint, or what to ask it for. The clock has none.
    input_gain_db, output_gain_db : float
        Before and after the model.
    bypass : bool
        Hear the input itself.
    knobs : mapping of str to float, optional
        Values of the model's own knobs from the first frame on.
    take : str or path, optional
        Audio file the model hears in place of the device's input. The session ends with it.
    record : str or path, optional
        Audio file for all that comes out of the model, in the model's channels.
    to : str or path, optional
        Audio file for what the take becomes: as long as the take, in time with it.
    overwrite : bool
        Let `record` and `to` replace existing files.

    Attributes
    ----------
    rate_hz : float
    source : Device or None
        Where sound comes from; None with a take or the clock.
    sink : Device
    started : bool
        Whether the device has been set going: there is something to sum up.
    notes : list of str
        Sentences a user should see; complete once the session is over.

    Raises
    ------
    DeviceError, MissingDependency, AudioFileError, ModelError, BacklineError
        On entering, before anything sounds.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: int | str | None = None,
        input_device: int | str | None = None,
        output_device: int | str | None = None,
        input_channels: Sequence[int] | None = None,
        output_channels: Sequence[int] | None = None,
        rate_hz: float | None = None,
        block_frames: int | None = None,
        latency_s: Latency = "low",
        input_gain_db: float = 0.0,
        output_gain_db: float = 0.0,
        bypass: bool = False,
        knobs: Mapping[str, float] | None = None,
        take: PathLike | None = None,
        record: PathLike | None = None,
        to: PathLike | None = None,
        overwrite: bool = False,
    ) -> None:
        self.model = model
        self.notes: list[str] = []
        self.started = False
        self.rate_hz = 0.0
        self.source: Device | None = None
        self.sink: Device = CLOCK_DEVICE
        self._wanted = (
            device if input_device is None else input_device,
            device if output_device is None else output_device,
        )
        self._input_channels = input_channels
        self._output_channels = output_channels
        self._wanted_rate_hz = rate_hz
        self._block_frames = block_frames
        self._latency_s: Latency = latency_s
        self._levels = {
            INPUT_GAIN: gain_factor(input_gain_db),
            OUTPUT_GAIN: gain_factor(output_gain_db),
            BYPASS: float(bypass),
        }
        self._knobs = dict(knobs or {})
        model.graph.with_knobs(self._knobs)  # refuses what it cannot do
        self._paths = {"take": take, "record": record, "to": to}
        self._overwrite = overwrite
        self._take_frames: int | None = None
        self._end_frames: int | None = None
        self._status: LiveStatus | None = None
        self._pending = _NO_PEAKS  # that no status has shown yet
        self._loudest = _NO_PEAKS
        self._stack = contextlib.ExitStack()

    # -- opening --

    def __enter__(self) -> LiveSession:
        try:
            self._check()
            self._program = Program(with_levels(self.model.graph))
            self._check_levels()
            self._choose_devices()
            self._choose_rate()
            self._open_host(self._stack, self._read_take())
            self._open_files(self._stack)
            with deferred():
                self._open_stream(self._stack)
        except BaseException:
            self.close()
            raise
        return self

    def _check(self) -> None:
        graph = self.model.graph
        rate = graph.signals[graph.output].rate
        if rate != 1:
            raise ModelError(
                f"{self.model.name}: puts out {rate} frames per frame of input; live needs as many"
            )
        if self._paths["to"] is not None and self._paths["take"] is None:
            raise BacklineError("the output of a take can only be kept if a take is played")
        record, to = self._paths["record"], self._paths["to"]
        if record is not None and to is not None and Path(record).resolve() == Path(to).resolve():
            raise AudioFileError(f"{record}: is to hold both the recording and the take; give two names")
        for path in (record, to):
            with contextlib.suppress(OSError):
                if path is not None and self._paths["take"] is not None:
                    same = Path(path).samefile(self._paths["take"])
                    if same:
                        raise AudioFileError(f"{path}: is the take itself; give another output")

    def _check_levels(self) -> None:
        knobs = {knob.name: knob for knob in self._program.knobs}
        if BYPASS not in knobs and self._levels.pop(BYPASS):
            raise BacklineError(
                f"{self.model.name}: has no bypass: {self.model.input_channels} channels go in, "
                f"{self.model.output_channels} come out"
            )
        for name, value in self._levels.items():
            if not knobs[name].minimum <= value <= knobs[name].maximum:
                raise BacklineError(f"{name}: a factor of {value:g} is above {knobs[name].maximum:g}")

    def _choose_devices(self) -> None:
        source, sink = self._wanted
        clocks = [isinstance(w, str) and w.lower() == CLOCK for w in (source, sink)]
        if any(clocks):
            if not all(clocks) and source is not None and sink is not None:
                raise DeviceError(f"the {CLOCK} device stands alone: it cannot be one of two")
            return
        if source is None and sink is None:
            reason = why_no_device()
            if reason is not None:
                self.notes.append(f"{reason}; running on the {CLOCK} device instead: nothing is heard")
                return
        self.sink = find_device(sink, "output")
        if self._paths["take"] is None:
            self.source = find_device(source, "input")

    def _choose_rate(self) -> None:
        own = self.model.sample_rate_hz
        wanted = self._wanted_rate_hz if self._wanted_rate_hz is not None else own
        self.rate_hz = float(self.sink.default_rate_hz if wanted is None else wanted)
        if not (self.rate_hz.is_integer() and _LOWEST_HZ <= self.rate_hz <= _HIGHEST_HZ):
            raise BacklineError(
                f"{self.sink}: found a rate of {self.rate_hz} Hz, expected a whole number from "
                f"{_LOWEST_HZ} to {_HIGHEST_HZ}"
            )
        if wanted is None:
            self.notes.append(f"the model does not say its sample rate: running at {self.rate_hz:g} Hz")
        if own is not None and own != self.rate_hz:
            self.notes.append(
                f"running at {self.rate_hz:g} Hz a model made for {own:g} Hz: it sounds different"
            )

    def _read_take(self) -> Array | None:
        path = self._paths["take"]
        if path is None:
            return None
        x, file_hz = read(path)
        if file_hz != self.rate_hz:
            self.notes.append(f"{path}: resampled from {file_hz} to {self.rate_hz:g} Hz")
            x = resample(x, file_hz, self.rate_hz)
        chosen = self._pick_inputs(str(path), x.shape[1], range(1, x.shape[1] + 1))
        self._take_frames = len(x)
        self._end_frames = len(x) + self.model.latency_frames
        return np.ascontiguousarray(x.T[[channel - 1 for channel in chosen]], np.float32)

    def _pick_inputs(self, what: str, there: int, default: Sequence[int]) -> Sequence[int]:
        chosen = self._input_channels if self._input_channels is not None else default
        _check_channels(what, "input", chosen, there)
        own = self.model.input_channels
        if len(chosen) != own and own != 1:
            raise ModelError(f"{self.model.name}: takes {own} channels, found {len(chosen)} ({what})")
        return chosen

    def _pick_outputs(self, rows: int) -> list[int | None]:
        there = self.sink.output_channels
        default = range(1, min(2, there) + 1) if rows == 1 else range(1, rows + 1)
        chosen = self._output_channels if self._output_channels is not None else default
        _check_channels(str(self.sink), "output", chosen, there)
        if rows not in (1, len(chosen)):
            raise BacklineError(f"{rows} channels come out, but {len(chosen)} output channels were named")
        carried: list[int | None] = [None] * max(chosen)
        for number, channel in enumerate(chosen):
            carried[channel - 1] = 0 if rows == 1 else number
        return carried

    def _open_host(self, stack: contextlib.ExitStack, take: Array | None) -> None:
        model, own = self.model, self.model.input_channels
        if take is None:
            device = self.source or CLOCK_DEVICE
            chosen = self._pick_inputs(str(device), device.input_channels, range(1, own + 1))
            input_map: list[int | None] = [channel - 1 for channel in chosen]
            input_channels = max(chosen)
        else:
            input_map, input_channels = [None] * len(take), 0
        streams = len(input_map) // own
        rows = streams * model.output_channels
        engine = Engine(self._program, streams)
        for name, value in {**self._levels, **self._knobs}.items():
            engine.set(name, value)
        keeps = self._paths["record"] is not None or self._paths["to"] is not None
        self._host = stack.enter_context(
            Host(
                engine,
                rate_hz=self.rate_hz,
                input_map=input_map,
                output_map=self._pick_outputs(rows),
                output_rows=rows,
                input_channels=input_channels,
                take=take,
                capture_frames=int(_CAPTURE_SECONDS * self.rate_hz) if keeps else 0,
            )
        )

    def _open_files(self, stack: contextlib.ExitStack) -> None:
        rows = self._host.output_rows
        spans: dict[str, tuple[int, int | None]] = {
            "record": (0, None),
            "to": (self.model.latency_frames, self._take_frames),
        }
        sinks: list[Sink] = []
        with contextlib.ExitStack() as opened:
            for name, (first, frames) in spans.items():
                path = self._paths[name]
                if path is not None:
                    writer = AudioWriter(path, int(self.rate_hz), rows, overwrite=self._overwrite)
                    opened.callback(writer.abort)
                    sinks.append(Sink(writer, first, frames))
            opened.pop_all()
        self._sinks = sinks
        self._recorder = Recorder(self._host.read_capture, rows, sinks) if sinks else None
        stack.callback(self._finish)

    def _open_stream(self, stack: contextlib.ExitStack) -> None:
        if self.sink.index is None:
            self.stream: ClockStream | PortAudioStream = ClockStream(
                self._host, self._block_frames or _CLOCK_BLOCK_FRAMES
            )
        else:
            check_rate(self.source, self.sink, self._host)
            self.stream = PortAudioStream(
                self._host, self.source, self.sink, self._block_frames or 0, self._latency_s
            )
        stack.callback(self._stop_stream)
        self.stream.start()
        self.started = True

    # -- running --

    def set(self, /, **knobs: float) -> None:
        """Turn knobs: the model's own, and ``input_gain``, ``output_gain`` (factors) and ``bypass`` (0 to 1).

        Each gets where it is told within 20 ms.

        Raises
        ------
        BacklineError
            No such knob, or a value outside its range.
        """
        self._program.graph.with_knobs(knobs)  # refuses what it cannot do
        for name, value in knobs.items():
            self._host.set(self._program.knob_index(name), value)

    def status(self) -> LiveStatus:
        """How it goes; peaks are since the last call."""
        found = self._poll()
        inputs, outputs = self._pending
        self._pending = _NO_PEAKS
        return replace(found, stats=replace(found.stats, input_peaks=inputs, output_peaks=outputs))

    def _poll(self) -> LiveStatus:
        """The status with the loudest peaks of the session; those since `status` was called are put by."""
        stats = self._host.stats()
        now = (stats.input_peaks, stats.output_peaks)
        self._pending = (_louder(self._pending[0], now[0]), _louder(self._pending[1], now[1]))
        self._loudest = (_louder(self._loudest[0], now[0]), _louder(self._loudest[1], now[1]))
        stats = replace(stats, input_peaks=self._loudest[0], output_peaks=self._loudest[1])
        self._status = LiveStatus(stats.frames / self.rate_hz, stats, *self.stream.latency_ms)
        return self._status

    def run(
        self,
        seconds: float | None = None,
        report: Callable[[LiveStatus], None] | None = None,
        interval_s: float = 1.0,
    ) -> None:
        """Wait until the take has been played, `seconds` of audio are over, or an exception ends it.

        Parameters
        ----------
        seconds : float, optional
            Counted in frames the device has asked for.
        report : callable, optional
            Given a status every `interval_s` seconds.

        Raises
        ------
        DeviceError
            The device stopped, or asked for nothing for five seconds and four blocks.
        AudioFileError
            A file cannot be written.
        """
        ends = [] if seconds is None else [round(seconds * self.rate_hz)]
        ends += [] if self._end_frames is None else [self._end_frames]
        frames, moved, reported = -1, time.monotonic(), time.monotonic()
        while True:
            now = time.monotonic()
            status = self._poll()
            if status.stats.frames != frames:
                frames, moved = status.stats.frames, now
            if any(frames >= end for end in ends):
                return
            if report is not None and now - reported >= interval_s:
                reported += interval_s
                report(self.status())
            self._check_health(status, now - moved)
            time.sleep(_POLL_SECONDS)

    def _check_health(self, status: LiveStatus, still_seconds: float) -> None:
        if self._recorder is not None and self._recorder.error is not None:
            raise self._recorder.error
        if not self.stream.active:
            raise DeviceError(f"{self.sink}: stopped by itself")
        if still_seconds > self._patience(status.stats, _STALL_SECONDS):
            raise DeviceError(f"{self.sink}: has asked for no audio for {still_seconds:.0f} s")

    # -- closing --

    def _stop_stream(self) -> None:
        if isinstance(self.stream, ClockStream) or not self.started or self._is_called():
            self.stream.stop()
        else:
            self.stream.abandon()
            self.notes.append(f"{self.sink}: does not answer any more, and was left as it is")

    def _is_called(self) -> bool:
        """Whether the device still calls the host; two seconds and four blocks without a call mean no."""
        stats = self._poll().stats
        for _ in range(round(self._patience(stats, _GONE_SECONDS) / _SHORT_POLL_SECONDS)):
            if self._poll().stats.callbacks != stats.callbacks:
                return True
            time.sleep(_SHORT_POLL_SECONDS)
        return False

    def _patience(self, stats: HostStats, seconds: float) -> float:
        """How long to wait for a device that calls as rarely as this one."""
        block_frames = stats.frames / stats.callbacks if stats.callbacks else self._block_frames or 0
        return max(seconds, _PATIENCE_BLOCKS * block_frames / self.rate_hz)

    def _finish(self) -> None:
        stats = self._poll().stats if self.started else None
        if self._recorder is None:
            return
        if stats is None:
            self._recorder.abort()
            return
        if stats.capture_lost_frames:
            self.notes.append(
                f"{stats.capture_lost_frames} frames were not recorded: silence stands for them"
            )
        try:
            self._recorder.finish(stats.frames)
        finally:
            for sink in self._sinks:
                if sink.missing_frames > 0:
                    self.notes.append(
                        f"{sink.writer.path}: ends {sink.missing_frames} frames before the take does"
                    )

    def close(self) -> None:
        """Stop the device and finish the files; more than once is fine. `status` keeps its last answer.

        Raises
        ------
        AudioFileError
            A file could not be finished.
        """
        with deferred():
            self._stack.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What has been recorded is worth keeping, whatever ended the session.
        self.close()

    def summary(self) -> dict[str, Any]:
        """What the session was, JSON-ready."""
        status = self._status
        return {
            "model": self.model.name,
            "input_device": None if self.source is None else str(self.source),
            "output_device": str(self.sink),
            "sample_rate_hz": self.rate_hz,
            "files": [str(sink.writer.path) for sink in self._sinks if sink.writer.committed],
            "notes": list(self.notes),
            **({} if status is None else status.as_dict()),
        }


def _louder(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(max(pair) for pair in zip_longest(a, b, fillvalue=0.0))


def _check_channels(what: str, direction: Direction, chosen: Sequence[int], there: int) -> None:
    if not chosen or len(set(chosen)) != len(chosen):
        raise BacklineError(f"{what}: expected different {direction} channels, found {list(chosen)}")
    for channel in chosen:
        if not 1 <= channel <= there:
            raise DeviceError(f"{what}: has {there} {direction} channels, found no channel {channel}")
