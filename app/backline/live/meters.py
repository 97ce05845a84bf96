"""Readings of a monitor for several readers: reading peaks takes them, so one place reads for all."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import zip_longest

from .monitor import Monitor
from .status import HostStats

Peaks = tuple[tuple[float, ...], tuple[float, ...]]  # of the input rows and of the output rows
_NO_PEAKS: Peaks = ((), ())


class Meters:
    """The counters of a monitor; peaks and recent loads since `take`, and the loudest since the beginning.

    Any thread may call.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._lock = threading.Lock()
        self._pending = _NO_PEAKS  # that no `take` has had yet
        self._pending_load = 0.0
        self._loudest = _NO_PEAKS
        self._last = HostStats()

    def poll(self) -> HostStats:
        """The counters, with the loudest peaks of the session."""
        with self._lock:
            return self._read()

    def take(self) -> HostStats:
        """The counters, with peaks and the worst load since this was called before."""
        with self._lock:
            found = self._read()
            (inputs, outputs), worst = self._pending, self._pending_load
            self._pending, self._pending_load = _NO_PEAKS, 0.0
            return replace(found, input_peaks=inputs, output_peaks=outputs, load_recent_worst=worst)

    @property
    def last(self) -> HostStats:
        """What `poll` said last; also when the monitor is closed."""
        return self._last

    def _read(self) -> HostStats:
        stats = self._monitor.stats()
        now = (stats.input_peaks, stats.output_peaks)
        self._pending = (_louder(self._pending[0], now[0]), _louder(self._pending[1], now[1]))
        self._loudest = (_louder(self._loudest[0], now[0]), _louder(self._loudest[1], now[1]))
        self._pending_load = max(self._pending_load, stats.load_recent_worst)
        recent = stats.load_recent or self._last.load_recent  # no frames since: what was true still is
        self._last = replace(
            stats, input_peaks=self._loudest[0], output_peaks=self._loudest[1], load_recent=recent
        )
        return self._last


def _louder(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(max(pair) for pair in zip_longest(a, b, fillvalue=0.0))
