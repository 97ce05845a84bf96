"""The C host, held by Python: what an audio device calls, and what it needs kept alive."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..engine import Engine
from ..errors import BacklineError
from .monitor import Monitor

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """An engine on its way into a host.

    Attributes
    ----------
    engine : backline.engine.Engine
        Owned by the host from then on: touched by nobody else, closed when it is not needed any more.
    serial : int
        Names it in `Host.set`; no other engine of the host has it.
    latency_frames : int
        By which its output lags; a crossfade evens it out.
    warm_frames : int
        Of live input that it runs on before it is heard.
    fade_frames : int
        Of the crossfade, or of each fade.
    alone : bool
        Never run it beside the one that plays: fade out, swap, fade in.
    """

    engine: Engine
    serial: int = 0
    latency_frames: int = 0
    warm_frames: int = 0
    fade_frames: int = 0
    alone: bool = False

    def to_c(self) -> Any:
        """The ``bl_entry *``."""
        made = native.ffi.new("bl_entry *")
        made.engine = self.engine.pointer
        made.serial, made.latency_frames = self.serial, self.latency_frames
        made.warm_frames, made.fade_frames = self.warm_frames, self.fade_frames
        made.alone = self.alone
        return made


class Host:
    """A ``bl_host`` with an engine that plays, and perhaps another on its way in.

    What lets a device call it says so with `begin_use`, before, and `end_use`, once the device has stopped.
    In between nothing is freed: not by `close`, nor by the garbage collector, nor as the interpreter ends.

    Parameters
    ----------
    first : Entry
        What plays at once.
    monitor : Monitor
        Says rows and rate. Borrowed: closed by whoever made it, after the host.
    input_map : sequence of (int or None)
        For each input row the device's channel that feeds it, from 0; None for silence.
    output_map : sequence of (int or None)
        For each channel of the device the output row it carries; None for silence.
    input_channels : int
        Channels of the blocks the device offers, 0 if it has no input.
    take : float32 array [rows, frames], optional
        What the engine hears in place of the device, from the monitor's frame count on.
    fade_in_frames : int
        From silence, at the very beginning.
    calm_frames : int
        Frames without a peak above full scale that end a mute.
    limiter : bool
        Bend what is above -1 dBFS so that it stays below 0.

    Raises
    ------
    BacklineError
        Maps and engine do not agree, or sizes are absurd.
    """

    def __init__(
        self,
        first: Entry,
        monitor: Monitor,
        *,
        input_map: Sequence[int | None],
        output_map: Sequence[int | None],
        input_channels: int,
        take: Array | None = None,
        fade_in_frames: int = 0,
        calm_frames: int = 0,
        limiter: bool = False,
    ) -> None:
        ffi, lib = native.ffi, native.lib
        self._lock = threading.Lock()
        self._engines = {int(ffi.cast("intptr_t", first.engine.pointer)): first.engine}
        self._users = 0
        self._take = None if take is None else np.ascontiguousarray(take, np.float32)
        self.monitor = monitor
        self.input_channels = input_channels
        self.output_channels = len(output_map)
        rows = monitor.input_rows
        if self._take is not None and self._take.shape[0] != rows:
            raise ValueError(f"the take has {self._take.shape[0]} rows, expected {rows}")
        if len(input_map) != rows:
            raise ValueError(f"found a map of {len(input_map)} input rows, expected {rows}")
        maps = [
            ffi.new("int32_t[]", [lib.BL_NONE if entry is None else entry for entry in entries] or 1)
            for entries in (input_map, output_map)
        ]
        config = ffi.new("bl_host_config *")
        config.monitor = monitor.pointer
        config.input_channels = input_channels
        config.output_channels = self.output_channels
        config.input_map, config.output_map = maps
        if self._take is not None:
            config.take = ffi.from_buffer("float[]", self._take)
            config.take_frames = self._take.shape[1]
        config.fade_in_frames, config.calm_frames, config.limiter = fade_in_frames, calm_frames, limiter
        made = ffi.new("bl_host **")
        limits = (
            f"found {rows} rows and {input_channels} channels in, {monitor.output_rows} and "
            f"{self.output_channels} out; expected the engine's rows, and at most {lib.BL_HOST_CHANNELS} "
            "channels each way"
        )
        status = lib.bl_host_new(config, first.to_c(), made)
        native.check(status, "making the audio host", limits, fault=BacklineError)
        self._pointer: Any = made[0]

    @property
    def pointer(self) -> Any:
        """The ``bl_host *``."""
        if self._pointer is None:
            raise ValueError("the host is closed")
        return self._pointer

    @property
    def swapping(self) -> bool:
        """Whether another engine is on its way in, or waits."""
        with self._lock:
            return bool(native.lib.bl_host_swapping(self.pointer))

    def swap(self, entry: Entry) -> None:
        """Let another engine take the place of the one that plays; the latest that has to wait wins.

        Raises
        ------
        BacklineError
            Its rows are not the monitor's.
        """
        self.reclaim()
        with self._lock:
            status = native.lib.bl_host_swap(self.pointer, entry.to_c())
            if status == native.lib.BL_OK:
                address = int(native.ffi.cast("intptr_t", entry.engine.pointer))
                self._engines[address] = entry.engine
        native.check(status, f"{entry.engine.program.graph.name}: swapping it in", fault=BacklineError)

    def reclaim(self) -> None:
        """Close engines that are not needed any more, and let one that waits go in. Many times a second."""
        with self._lock:
            while (engine := native.lib.bl_host_reclaim(self.pointer)) != native.ffi.NULL:
                self._engines.pop(int(native.ffi.cast("intptr_t", engine))).close()

    def set(self, serial: int, knob: int, value: float, at_frame: int = 0) -> None:
        """Turn knob number `knob` of an engine, from its frame `at_frame` on or as soon as possible.

        Nothing happens if the engine has gone.

        Raises
        ------
        BacklineError
            `value` is not finite, or 256 changes wait already: no device is calling.
        """
        with self._lock:
            status = native.lib.bl_host_set(self.pointer, serial, knob, value, at_frame)
        native.check(status, f"turning knob {knob} to {value:g}", fault=BacklineError)

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
        """Free the host and its engines. More than once is fine.

        A device that was not stopped may call at any time: then this does nothing.
        """
        with self._lock:
            if self._pointer is None or self._users:
                return
            pointer, self._pointer = self._pointer, None
            native.lib.bl_host_free(pointer)
            for engine in self._engines.values():
                engine.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
