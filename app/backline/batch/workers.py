"""Who does the work: threads of this process, or anything else that takes tasks and gives futures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from ..errors import BacklineError
from .events import Event, Progress, Started
from .staged import perform
from .work import Made, ModelCache, Task, UpToDate

_PROGRESS_SECONDS = 0.1


class Cancelled(Exception):
    """A job was broken off because the run ends."""


class CancelledUnheard(Cancelled):
    """The same, but whether it has ended yet is not known."""


class WorkersLost(BacklineError):
    """There is nobody left to do the work, nor will there be."""


class WorkerDied(BacklineError):
    """Whoever was at a job is gone, too often."""


#: Whoever does such a job may still write, unheard of: what it leaves then, the next run removes.
UNHEARD = (CancelledUnheard, WorkersLost, WorkerDied)


class Workers(Protocol):
    """What `runner.run` hands tasks to."""

    @property
    def slots(self) -> int:
        """Tasks that are worked on at a time."""

    def submit(self, task: Task) -> Future[Made | UpToDate]:
        """Have a task done; breaking off is the exception `Cancelled`."""

    def stop(self) -> None:
        """Break off what is being done and forget what waits; the futures end soon."""

    def close(self) -> None:
        """Wait for the end of everything."""


class Threads:
    """Workers that are threads; the engine lets them run side by side.

    A job that is begun while there are fewer of them than threads gets the rest to compute with.

    Parameters
    ----------
    slots : int
    models : ModelCache
    say : callable
        Told of what goes on, from any thread.
    """

    def __init__(self, slots: int, models: ModelCache, say: Callable[[Event], None]) -> None:
        self.slots = slots
        self._models = models
        self._say = say
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="backline-render")
        self._lock = threading.Lock()
        self._open_jobs = 0

    def submit(self, task: Task) -> Future[Made | UpToDate]:
        """See `Workers`."""
        with self._lock:
            self._open_jobs += 1
        future = self._pool.submit(self._perform, task)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: Future[Made | UpToDate]) -> None:
        with self._lock:
            self._open_jobs -= 1

    def _perform(self, task: Task) -> Made | UpToDate:
        if self._stop.is_set():
            raise Cancelled
        self._say(Started(task.job))
        due = time.monotonic() + _PROGRESS_SECONDS

        def on_progress(seconds: float, total_seconds: float | None) -> None:
            nonlocal due
            if self._stop.is_set():
                raise Cancelled
            now = time.monotonic()
            if now >= due:
                due = now + _PROGRESS_SECONDS
                self._say(Progress(task.job, seconds, total_seconds))

        with self._lock:
            threads = max(1, self.slots // self._open_jobs)
        return perform(task, self._models, on_progress, threads)

    def stop(self) -> None:
        """See `Workers`."""
        self._stop.set()

    def close(self) -> None:
        """See `Workers`."""
        self._pool.shutdown(wait=True)
