"""The C host, held by Python: what an audio device calls, what it counts, and what it needs kept alive."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..engine import Engine
from ..errors import BacklineError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class HostStats:
    """What the host has counted since it was made; peaks since they were last asked for.

    Attributes
    ----------
    callbacks, frames : int
    xruns : int
        Callbacks that the device called late or incomplete in any way.
    input_underflows, input_overflows, output_underflows, output_overflows : int
        The same by kind; one callback may count in several.
    input_clips, output_clips : int
        Samples at the converters' full scale, and above 1.
    input_not_finite, output_not_finite : int
        Samples that were NaN or infinite and have been replaced by 0.
    capture_lost_frames : int
        Frames replaced by silence in the capture because nobody emptied it.
    load_mean, load_p99, load_worst : float
        Share of the time a block lasts that its callback took; p99 at most 1/32 too high.
    input_peaks, output_peaks : tuple of float
        Largest magnitude of each row of the engine, 1 being full scale.
    """

    callbacks: int
    frames: int
    xruns: int
    input_underflows: int
    input_overflows: int
    output_underflows: int
    output_overflows: int
    input_clips: int
    output_clips: int
    input_not_finite: int
    output_not_finite: int
    capture_lost_frames: int
    load_mean: float
    load_p99: float
    load_worst: float
    input_peaks: tuple[float, ...]
    output_peaks: tuple[float, ...]


@dataclass(frozen=True)
class LiveStatus:
    """How a session is doing.

    Attributes
    ----------
    seconds : float
        Of audio, so far.
    stats : HostStats
        Counts since the start; peaks since the status before.
    input_latency_ms, output_latency_ms : float or None
        As PortAudio reports them; None where there is no such device.
    """

    seconds: float
    stats: HostStats
    input_latency_ms: float | None
    output_latency_ms: float | None

    @property
    def round_trip_ms(self) -> float | None:
        """From the input socket to the output socket, as PortAudio reports it."""
        if self.input_latency_ms is None or self.output_latency_ms is None:
            return None
        return self.input_latency_ms + self.output_latency_ms

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: levels in dBFS, None for silence; loads as fractions."""
        found = asdict(self.stats)
        levels = {
            f"{way}_dbfs": [dbfs(peak) if peak > 0 else None for peak in found.pop(f"{way}_peaks")]
            for way in ("input", "output")
        }
        return {"seconds": self.seconds, **levels, **found, "round_trip_ms": self.round_trip_ms}


class Host:
    """A ``bl_host`` around an engine.

    What lets a device call it says so with `begin_use`, before, and `end_use`, once the device has stopped.
    In between nothing is freed: not by `close`, nor by the garbage collector, nor as the interpreter ends.

    Parameters
    ----------
    engine : backline.engine.Engine
        Owned from here on: touched by nobody else, closed with the host.
    rate_hz : float
    input_map : sequence of (int or None)
        For each input row of the engine the device's channel that feeds it, from 0; None for silence.
    output_map : sequence of (int or None)
        For each channel of the device the engine's output row it carries; None for silence.
    output_rows : int
        Output rows of the engine, all streams together.
    input_channels : int
        Channels of the blocks the device offers, 0 if it has no input.
    take : float32 array [rows, frames], optional
        What the engine hears in place of the device.
    capture_frames : int
        Size of the capture ring; 0 for none.

    Raises
    ------
    BacklineError
        Maps and engine do not agree, or sizes are absurd.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        rate_hz: float,
        input_map: Sequence[int | None],
        output_map: Sequence[int | None],
        output_rows: int,
        input_channels: int,
        take: Array | None = None,
        capture_frames: int = 0,
    ) -> None:
        ffi, lib = native.ffi, native.lib
        self._lock = threading.Lock()
        self._engine = engine
        self._users = 0
        self._take = None if take is None else np.ascontiguousarray(take, np.float32)
        self.rate_hz = rate_hz
        self.input_rows = len(input_map)
        self.output_rows = output_rows
        self.input_channels = input_channels
        self.output_channels = len(output_map)
        if self._take is not None and self._take.shape[0] != self.input_rows:
            raise ValueError(f"the take has {self._take.shape[0]} rows, expected {self.input_rows}")
        maps = [
            ffi.new("int32_t[]", [lib.BL_NONE if entry is None else entry for entry in entries] or 1)
            for entries in (input_map, output_map)
        ]
        config = ffi.new("bl_host_config *")
        config.rate_hz = rate_hz
        config.input_rows = self.input_rows
        config.output_rows = output_rows
        config.input_channels = input_channels
        config.output_channels = self.output_channels
        config.input_map, config.output_map = maps
        if self._take is not None:
            config.take = ffi.from_buffer("float[]", self._take)
            config.take_frames = self._take.shape[1]
        config.capture_frames = capture_frames
        made = ffi.new("bl_host **")
        limits = (
            f"found {self.input_rows} rows and {input_channels} channels in, {output_rows} and "
            f"{self.output_channels} out, at {rate_hz:g} Hz; expected at most {lib.BL_HOST_ROWS} rows and "
            f"{lib.BL_HOST_CHANNELS} channels each way"
        )
        status = lib.bl_host_new(engine.pointer, config, made)
        native.check(status, "making the audio host", limits, fault=BacklineError)
        self._pointer: Any = made[0]

    @property
    def pointer(self) -> Any:
        """The ``bl_host *``."""
        if self._pointer is None:
            raise ValueError("the host is closed")
        return self._pointer

    def set(self, knob: int, value: float, at_frame: int = 0) -> None:
        """Turn knob number `knob`, from frame `at_frame` of the session on or as soon as possible.

        Raises
        ------
        BacklineError
            `value` is not finite, or 256 changes wait already: no device is calling.
        """
        with self._lock:
            status = native.lib.bl_host_set(self.pointer, knob, value, at_frame)
        native.check(status, f"turning knob {knob} to {value:g}", fault=BacklineError)

    def stats(self) -> HostStats:
        """Counters so far, and peaks since the last call."""
        found = native.ffi.new("bl_stats *")
        with self._lock:
            native.lib.bl_host_stats(self.pointer, found)
        names = [name for name in HostStats.__annotations__ if not name.endswith("peaks")]
        return HostStats(
            input_peaks=tuple(found.input_peaks[0 : self.input_rows]),
            output_peaks=tuple(found.output_peaks[0 : self.output_rows]),
            **{name: getattr(found, name) for name in names},
        )

    def read_capture(self, block: Array) -> int:
        """Fill `block` [frames, output rows] from its start; returns the frames there were. One thread."""
        into = native.ffi.from_buffer("float[]", block, require_writable=True)
        with self._lock:  # C runs without the GIL: nobody may free the capture meanwhile
            return int(native.lib.bl_host_capture_read(self.pointer, into, len(block)))

    def begin_use(self) -> None:
        """Say, before a device is started, that it is going to call the host."""
        with self._lock:
            # A reference that no object holds, so that none of what there is to collect objects takes it.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
            self._users += 1

    def end_use(self) -> None:
        """Say, once a device has been stopped, that it will not call the host again."""
        with self._lock:
            self._users -= 1
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(self))

    def close(self) -> None:
        """Free the host and its engine. More than once is fine.

        A device that was not stopped may call at any time: then this does nothing.
        """
        with self._lock:
            if self._pointer is None or self._users:
                return
            pointer, self._pointer = self._pointer, None
            native.lib.bl_host_free(pointer)
            self._engine.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def dbfs(peak: float) -> float:
    """A magnitude in decibels relative to full scale; silence is minus infinity."""
    return 20.0 * math.log10(peak) if peak > 0.0 else -math.inf
