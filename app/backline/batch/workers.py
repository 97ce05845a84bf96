"""Who does the work: threads of this process, or anything else that takes tasks and gives futures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from ..errors import BacklineError
from ..pending import Draft
from .events import Event, Progress, Started
from .staged import perform
from .work import Made, ModelCache, Task, UpToDate

_PROGRESS_SECONDS = 0.1
#: Flushes at a time: file systems make several into one.
_FLUSHERS = 4


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

    A job that is begun while there are fewer of them than threads gets the rest to compute with. What is made
    is flushed to the disk by threads of their own, so that nobody who could compute waits for a disk.

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
        self._flushers = ThreadPoolExecutor(_FLUSHERS, thread_name_prefix="backline-flush")
        self._lock = threading.Lock()
        self._open_jobs = 0

    def submit(self, task: Task) -> Future[Made | UpToDate]:
        """See `Workers`."""
        with self._lock:
            self._open_jobs += 1
        outcome: Future[Made | UpToDate] = Future()
        self._pool.submit(self._run, task, outcome)
        return outcome

    def _run(self, task: Task, outcome: Future[Made | UpToDate]) -> None:
        draft = task.draft
        here = draft if isinstance(draft, Draft) else None
        try:
            if here is not None:
                task = replace(task, draft=replace(here, is_flushed_later=True))
            result = self._perform(task)
        except BaseException as error:
            outcome.set_exception(error)
            return
        finally:
            with self._lock:
                self._open_jobs -= 1
        if here is not None and isinstance(result, Made):
            self._flushers.submit(_flush, here, result, outcome)
        else:
            outcome.set_result(result)

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
        self._flushers.shutdown(wait=True)


def _flush(draft: Draft, made: Made, outcome: Future[Made | UpToDate]) -> None:
    try:
        draft.flush()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(made)
