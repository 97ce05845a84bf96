"""How far a run of many renders is: counts, speed, and how long it will take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..batch import Event, Job

#: Before that nothing is said of the time left.
_LEAST_SECONDS = 1.0


class Tally:
    """Counts what a run tells.

    Parameters
    ----------
    total : int
        Jobs.
    clock : callable
        Seconds.

    Attributes
    ----------
    total, done, skipped, failed : int
        Jobs.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = self.skipped = self.failed = 0
        self._clock = clock
        self._start = clock()
        self._audio_s = 0.0
        #: Of jobs that are open: seconds done, and in all where that is known.
        self._open: dict[Job, tuple[float, float | None]] = {}

    def count(self, event: Event) -> None:
        """Take note of what was told."""
        from ..batch import Done, Failed, Progress, Skipped

        if isinstance(event, Progress):
            self._open[event.job] = (event.seconds, event.total_seconds)
        elif isinstance(event, Done):
            self._open.pop(event.job, None)
            self._audio_s += event.report.duration_s
            self.done += 1
        elif isinstance(event, Failed):
            self._open.pop(event.job, None)
            self.failed += 1
        elif isinstance(event, Skipped):
            self._open.pop(event.job, None)  # of a URL, which was fetched to find out
            self.skipped += 1

    @property
    def ended(self) -> float:
        """Jobs that are over, and what is done of those that are open."""
        parts = sum(min(done / total, 1.0) for done, total in self._open.values() if total)
        return self.done + self.failed + self.skipped + parts

    @property
    def files_per_second(self) -> float:
        """Files rendered per second so far."""
        elapsed = self._clock() - self._start
        return self.done / elapsed if elapsed else 0.0

    @property
    def times_real_time(self) -> float:
        """Seconds of audio per second so far."""
        elapsed = self._clock() - self._start
        return (self._audio_s + sum(done for done, _ in self._open.values())) / elapsed if elapsed else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes if it goes on like this; None where that cannot be told."""
        elapsed, worked = self._clock() - self._start, self.ended - self.skipped
        if elapsed < _LEAST_SECONDS or worked <= 0.0:
            return None
        return elapsed / worked * (self.total - self.ended)

    def __str__(self) -> str:
        parts = [f"{self.done + self.failed + self.skipped} of {self.total}"]
        if self.done:
            parts.append(f"{self.files_per_second:.3g} a second")
        parts.append(f"{self.times_real_time:.0f} times real time")
        if self.seconds_left is not None:
            parts.append(f"{clock_text(self.seconds_left)} left")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)


def clock_text(seconds: float) -> str:
    """Hours, minutes and seconds, as a clock shows them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
