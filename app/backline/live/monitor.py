"""The monitor: what a host shows of itself, in memory that another process may share.

The process that supervises a session makes it and keeps it; the worker, in which the audio thread runs, maps
the same memory. What has been counted and captured is still there when a worker has died.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..errors import BacklineError
from .status import CALLBACK, CallbackLog, HostStats

Array = NDArray[np.float32]


def new_shared_memory(size_bytes: int) -> int:
    """A file descriptor of `size_bytes` zeros that lie in memory and in no folder."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("backline")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size_bytes)
    return descriptor


class Monitor:
    """A ``bl_monitor`` in shared memory. Threads may call; readings wait for each other.

    Made by `create` or `attach`.

    Attributes
    ----------
    descriptor : int
        Of the memory: what another process needs to attach. Closed with the monitor.
    rate_hz : float
    input_rows, output_rows : int
    """

    def __init__(self, descriptor: int, rate_hz: float, input_rows: int, output_rows: int) -> None:
        self.descriptor = descriptor
        self.rate_hz = rate_hz
        self.input_rows = input_rows
        self.output_rows = output_rows
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = mmap.mmap(descriptor, 0)
        self._pointer: Any = native.ffi.cast("bl_monitor *", native.ffi.from_buffer(self._map))

    @classmethod
    def create(
        cls, rate_hz: float, input_rows: int, output_rows: int, capture_frames: int = 0, heard_frames: int = 0
    ) -> Monitor:
        """Make a new one.

        Parameters
        ----------
        rate_hz : float
        input_rows, output_rows : int
            Of the engines that will be played, all streams together.
        capture_frames : int
            Frames of output kept for a reader; 0 for none.
        heard_frames : int
            The same for the first row of the input.

        Raises
        ------
        BacklineError
            Sizes are absurd.
        """
        ffi, lib = native.ffi, native.lib
        config = ffi.new("bl_monitor_config *")
        config.rate_hz = rate_hz
        config.input_rows, config.output_rows = input_rows, output_rows
        config.capture_frames, config.heard_frames = capture_frames, heard_frames
        size = ffi.new("int64_t *")
        doing = "making the memory of an audio host"
        limits = (
            f"found {input_rows} rows in and {output_rows} out, at {rate_hz:g} Hz; expected at most "
            f"{lib.BL_HOST_ROWS} rows each way"
        )
        native.check(lib.bl_monitor_size(config, size), doing, limits, fault=BacklineError)
        made = cls(new_shared_memory(size[0]), rate_hz, input_rows, output_rows)
        native.check(lib.bl_monitor_init(made.pointer, config), doing, fault=BacklineError)
        return made

    @classmethod
    def attach(cls, descriptor: int, rate_hz: float, input_rows: int, output_rows: int) -> Monitor:
        """Map one that another process has made.

        Raises
        ------
        BacklineError
            The memory holds none, or one of another version. The descriptor is left open then.
        """
        doing = "attaching to the memory of an audio host"
        expected = "found no monitor of this version of Backline there"
        if os.fstat(descriptor).st_size == 0:  # which cannot be mapped
            native.check(native.lib.BL_ERROR_VALUE, doing, expected, fault=BacklineError)
        found = cls(descriptor, rate_hz, input_rows, output_rows)
        assert found._map is not None
        status = native.lib.bl_monitor_check(found.pointer, len(found._map))
        if status != native.lib.BL_OK:
            found._unmap()
        native.check(status, doing, expected, fault=BacklineError)
        return found

    @property
    def pointer(self) -> Any:
        """The ``bl_monitor *``."""
        if self._pointer is None:
            raise ValueError("the monitor is closed")
        return self._pointer

    def stats(self) -> HostStats:
        """Counters so far; peaks and recent loads since the last call."""
        found = native.ffi.new("bl_stats *")
        with self._lock:
            native.lib.bl_monitor_stats(self.pointer, found)
        names = [name for name in HostStats.__annotations__ if not name.endswith("peaks")]
        values = {name: getattr(found, name) for name in names}
        return HostStats(
            input_peaks=tuple(found.input_peaks[0 : self.input_rows]),
            output_peaks=tuple(found.output_peaks[0 : self.output_rows]),
            **{**values, "muted": bool(found.muted)},
        )

    def read_capture(self, block: Array) -> int:
        """Fill `block` [frames, output rows] from its start; returns the frames there were. One thread."""
        return self._read(native.lib.bl_monitor_capture_read, block)

    def read_heard(self, block: Array) -> int:
        """Fill `block` [frames] with what the first input row has heard; returns the frames there were."""
        return self._read(native.lib.bl_monitor_heard_read, block)

    def _read(self, read: Any, block: Array) -> int:
        into = native.ffi.from_buffer("float[]", block, require_writable=True)
        with self._lock:  # C runs without the GIL: nobody may unmap it meanwhile
            return int(read(self.pointer, into, len(block)))

    def log(self) -> CallbackLog:
        """The last callbacks, and the histogram of all loads."""
        lib, ffi = native.lib, native.ffi
        records = np.zeros(lib.BL_MONITOR_LOG, CALLBACK)
        counts = np.zeros(lib.BL_MONITOR_LOADS, np.int64)
        with self._lock:
            found = lib.bl_monitor_log(self.pointer, ffi.from_buffer("bl_record[]", records))
            lib.bl_monitor_loads(self.pointer, ffi.from_buffer("int64_t[]", counts))
        edges = np.array([lib.bl_monitor_load_edge(bin) for bin in range(lib.BL_MONITOR_LOADS + 1)])
        return CallbackLog(self.rate_hz, records[:found], edges, counts)

    def close(self) -> None:
        """Unmap the memory and close its descriptor; more than once is fine. No host may use it any more."""
        with self._lock:
            if self._map is not None:
                self._unmap()
                os.close(self.descriptor)

    def _unmap(self) -> None:
        assert self._map is not None
        self._pointer = None
        with_map, self._map = self._map, None
        with_map.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
