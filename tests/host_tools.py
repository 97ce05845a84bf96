"""What the tests of the C host share: hosts without a device, whose callback is called from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import backline
from backline import native
from backline.engine import Engine, Model, Program
from backline.live.host import Entry, Host
from backline.live.monitor import Monitor
from backline.live.status import HostStats
from backline.passes import with_levels

RATE_HZ = 48000
CAPTURE = 1 << 16
CALLBACK = native.ffi.cast(
    "int (*)(const void *, void *, unsigned long, const void *, unsigned long, void *)",
    native.ffi.addressof(native.lib, "bl_host_callback"),
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.25 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def mono() -> Model:
    return backline.conv1d(noise(1, 1, 9, seed=1), noise(1, seed=2))


def through(gain: float = 1.0, channels: int = 1) -> Model:
    """A model that only multiplies."""
    return backline.conv1d(np.full((channels, 1, 1), gain, np.float32), groups=channels)


class WatchedHost(Host):
    """A host together with its monitor."""

    def stats(self) -> HostStats:
        return self.monitor.stats()

    def read_capture(self, block: np.ndarray) -> int:
        return self.monitor.read_capture(block)

    def turn(self, knob: int, value: float, at_frame: int = 0) -> None:
        """Turn a knob of the engine the host began with."""
        self.set(0, knob, value, at_frame)

    def close(self) -> None:
        super().close()
        if self._pointer is None:
            self.monitor.close()


def entry(model: Model, streams: int = 1, serial: int = 0, **how: Any) -> Entry:
    """An engine of a levelled model, and how it gets in."""
    return Entry(Engine(Program(with_levels(model.graph)), streams), serial, **how)


def make(
    model: Model,
    *,
    streams: int = 1,
    inputs: Sequence[int | None] = (0,),
    outputs: Sequence[int | None] = (0,),
    channels: int | None = None,
    rate_hz: float = RATE_HZ,
    capture_frames: int = CAPTURE,
    heard_frames: int = 0,
    latency_frames: int = 0,
    **options: Any,
) -> WatchedHost:
    """A host around a levelled model, its device's input as wide as the map needs or as said."""
    wide = 1 + max([entry for entry in inputs if entry is not None], default=-1)
    monitor = Monitor.create(
        rate_hz, streams * model.input_channels, streams * model.output_channels, capture_frames, heard_frames
    )
    return WatchedHost(
        entry(model, streams, latency_frames=latency_frames),
        monitor,
        input_map=inputs,
        output_map=outputs,
        input_channels=wide if channels is None else channels,
        **options,
    )


def knob(model: Model, name: str) -> int:
    return Program(with_levels(model.graph)).knob_index(name)


def call(host: WatchedHost, x: np.ndarray | None, frames: int | None = None, flags: int = 0) -> np.ndarray:
    """One block: [frames, device channels] in and out. Output starts as NaN: all has to be written."""
    frames = len(x) if x is not None else frames or 0
    y = np.full((frames, host.output_channels), np.nan, np.float32)
    source = native.ffi.NULL if x is None else native.ffi.from_buffer(np.ascontiguousarray(x, np.float32))
    target = native.ffi.from_buffer(y) if y.size else native.ffi.NULL
    assert CALLBACK(source, target, frames, native.ffi.NULL, flags, host.pointer) == 0
    return y


def call_in_blocks(host: WatchedHost, x: np.ndarray | None, blocks: Sequence[int]) -> np.ndarray:
    made, at = [], 0
    for frames in blocks:
        made.append(call(host, None if x is None else x[at : at + frames], frames))
        at += frames
    return np.concatenate(made)


def cuts(total: int, seed: int, largest: int = 700) -> list[int]:
    rng, found = np.random.default_rng(seed), []
    while total > 0:
        found.append(min(int(rng.integers(1, largest)), total))
        total -= found[-1]
    return found


def captured(host: WatchedHost, frames: int = CAPTURE) -> np.ndarray:
    block = np.zeros((frames, host.monitor.output_rows), np.float32)
    return block[: host.read_capture(block)]
