"""Runs jobs: hands them to workers, notes in the journal what they made, and gives it its names."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

from ..audiofile import PathLike
from ..errors import AudioFileError, BacklineError, DiskFull
from ..machine import cores
from ..pending import reason, sync_folder
from ..signals import deferred
from .drafts import AnyDraft, discard_all, publish_all
from .events import Done, Event, Failed, Interrupted, Loaded, Skipped, Stopped, Summary
from .jobs import Job, check
from .journal import Journal, opened
from .plan import Action, Planned, decide
from .storage import Place, Url
from .work import Made, ModelCache, Task, UpToDate
from .workers import UNHEARD, Cancelled, Threads, Workers, WorkersLost

#: Tasks handed over beforehand, for each that is worked on: so many can be finished between two commits.
_AHEAD = 8
#: Least time between two commits while enough work waits.
_COMMIT_SECONDS = 0.05


def run(
    jobs: Sequence[Job],
    *,
    threads: int | None = None,
    journal: Journal | PathLike | None = None,
    overwrite: bool = False,
    verify: bool = False,
    on_event: Callable[[Event], None] | None = None,
    workers: Callable[[ModelCache, Callable[[Event], None]], Workers] | None = None,
) -> Summary:
    """Render jobs, each once; one that fails does not stop the others.

    Parameters
    ----------
    jobs : sequence of Job
    threads : int, optional
        Files rendered at a time; one for each core by default.
    journal : Journal, path or None
        Usually `JOURNAL_NAME` in the folder of the outputs; made where there is none. With it a run does only
        what is missing or changed, goes on where a killed one was, and keeps others out of the folder.
        Without it every job is rendered.
    overwrite : bool
        Replace files that no run with this journal has made. Those it has made are replaced when their
        input, model or settings change.
    verify : bool
        Read the contents of all inputs and outputs rather than believe sizes and times; an output that is not
        what was rendered is rendered again.
    on_event : callable, optional
        Told what goes on, in the thread that called `run`.
    workers : callable, optional
        Makes what the work is handed to in place of threads.

    Returns
    -------
    Summary

    Raises
    ------
    BacklineError
        The jobs get in each other's way, or the journal cannot be used; nothing was touched.
    KeyboardInterrupt
        Passed on, after what was finished has got its name and what was open is removed; `Interrupted`
        tells how far it went.
    """
    check(jobs)
    with opened(journal) as found:
        return _Run(jobs, found, threads, overwrite, verify, on_event, workers).go()


@dataclass(frozen=True)
class _Finished:
    task: Task
    made: Made

    @property
    def draft(self) -> AnyDraft:
        """The draft whose temporary it is."""
        return self.made.draft or self.task.draft


class _Run:
    def __init__(
        self,
        jobs: Sequence[Job],
        journal: Journal | None,
        threads: int | None,
        overwrite: bool,
        verify: bool,
        on_event: Callable[[Event], None] | None,
        workers: Callable[[ModelCache, Callable[[Event], None]], Workers] | None,
    ) -> None:
        self._jobs = iter(jobs)
        self._has_more = True
        self._journal = journal
        self._overwrite = overwrite
        self._verify = verify
        self._on_event = on_event
        self._summary = Summary(len(jobs))
        # What workers say, and None when one of them is done.
        self._said: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._models = ModelCache(lambda model, notes: self._said.put(Loaded(model, notes)))
        slots = threads if threads is not None else len(cores()) or os.cpu_count() or 1
        self._workers: Workers = (
            workers(self._models, self._said.put)
            if workers is not None
            else Threads(slots, self._models, self._said.put)
        )
        self._running: dict[Future[Made | UpToDate], Task] = {}
        # What the next commit notes.
        self._up_to_date: list[tuple[Task, UpToDate]] = []
        self._finished: list[_Finished] = []
        # With the output's time, if it is not that of the temporary.
        self._published: list[tuple[Task, int]] = []
        self._removed: list[Task] = []
        self._folders: list[Path] = []
        self._last_commit = 0.0

    def go(self) -> Summary:
        """Everything, from what a killed run has left to the last commit."""
        start = time.monotonic()
        try:
            if self._journal is not None:
                with deferred():
                    self._summary.resumed = self._journal.recover().published
            while True:
                batch = list(self._next_tasks())
                with deferred():
                    events = self._settle(batch)
                self._tell(events)
                if not self._running and not self._finished:
                    # Of no tasks at all there may have been no room for any, until these were settled.
                    if not self._has_more or self._summary.stopped is not None:
                        break
                    continue
                self._wait()
        except BaseException as error:
            with deferred():
                events = self._break_off()
                self._summary.elapsed_s = time.monotonic() - start
                self._end(is_broken_off=True)
            if isinstance(error, KeyboardInterrupt):
                self._tell([*events, Interrupted(self._summary)])
            raise
        with deferred():
            self._end()
        self._summary.elapsed_s = time.monotonic() - start
        return self._summary

    def _next_tasks(self) -> Iterator[Task]:
        """As many tasks as there is room for; jobs with nothing to do are told on the way."""
        room = _AHEAD * self._workers.slots - len(self._running)
        while room > 0 and self._summary.stopped is None:
            job = next(self._jobs, None)
            if job is None:
                self._has_more = False
                return
            try:
                task = decide(
                    job, self._journal, self._models, overwrite=self._overwrite, verify=self._verify
                )
                if isinstance(task, Task):
                    self._make_folder(job.target.parent)
                    yield task
                    room -= 1
                    continue
            except AudioFileError as error:
                self._tell([self._failed(job, error)])
                continue
            self._tell([self._without_task(task)])

    def _without_task(self, planned: Planned) -> Event:
        if planned.action is Action.SKIP or planned.error is None:
            self._summary.skipped += 1
            return Skipped(planned.job, planned.reason)
        return self._failed(planned.job, planned.error)

    def _make_folder(self, folder: Place) -> None:
        if isinstance(folder, Url):
            return  # whoever writes there makes it, where there is such a thing
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            for path in reversed(missing):
                path.mkdir()
                self._folders.append(path)
        except OSError as error:
            raise AudioFileError(f"{folder}: cannot make this folder: {reason(error)}") from error

    def _settle(self, batch: Sequence[Task]) -> list[Event]:
        """Take what is done, commit it together with what is begun now, give names, hand over the new."""
        events = self._collect()
        try:
            self._commit(batch)
        except DiskFull as error:
            events += self._stop(error)
            events += self._without_room()
        else:
            for task in batch:
                future = self._workers.submit(task)
                self._running[future] = task
                future.add_done_callback(lambda _: self._said.put(None))
        return [*events, *self._publish()]

    def _collect(self) -> list[Event]:
        """Sort what workers have ended; nothing is written."""
        events: list[Event] = []
        for future in [future for future in self._running if future.done()]:
            task = self._running.pop(future)
            error = future.exception()
            if error is not None:
                discard_all(task.draft)
                if not isinstance(error, UNHEARD):
                    self._removed.append(task)
                if not isinstance(error, Cancelled | WorkersLost):
                    events.append(self._failed(task.job, _sentence(task.job, error)))
                if isinstance(error, DiskFull | WorkersLost):
                    events += self._stop(error)
                continue
            result = future.result()
            if isinstance(result, Made):
                self._finished.append(_Finished(task, result))
            else:
                self._up_to_date.append((task, result))
                self._summary.skipped += 1
                events.append(Skipped(task.job, "up to date"))
        return events

    def _commit(self, batch: Sequence[Task]) -> None:
        """Note everything there is to note, or raise `DiskFull` having noted nothing."""
        journal = self._journal
        if journal is None:
            return
        if not (batch or self._finished or self._published or self._removed or self._up_to_date):
            return
        with journal.transaction():
            for task, mtime_ns in self._published:
                journal.note_published(task.draft)
                if mtime_ns:
                    journal.note_time(task.job.target, mtime_ns)
            for task in self._removed:
                journal.note_removed(task.draft)
            for task, found in self._up_to_date:
                journal.note_removed(task.draft)
                journal.note_input(task.job.source, found.source)
                journal.note_time(task.job.target, found.output.mtime_ns)
            for each in self._finished:
                journal.note_input(each.task.job.source, each.made.source)
                report = json.dumps(vars(each.made.report), default=str)
                journal.note_finished(each.task.draft, each.made.output, report)
            for task in batch:
                journal.note_started(task.draft)
        self._published, self._removed, self._up_to_date = [], [], []
        self._last_commit = time.monotonic()

    def _publish(self) -> list[Event]:
        """Give what is finished, and noted as such, its names."""
        finished, self._finished = self._finished, []
        events: list[Event] = []
        folders = set()
        for each, became in zip(finished, publish_all([each.draft for each in finished]), strict=True):
            draft, report = each.draft, each.made.report
            if isinstance(became, BacklineError):
                draft.discard()
                self._removed.append(each.task)
                events.append(self._failed(each.task.job, became))
                continue
            if not isinstance(draft.temporary, Url):
                folders.add(draft.temporary.parent)
            self._published.append((each.task, became))
            self._summary.done += 1
            self._summary.frames += report.frames
            self._summary.audio_s += report.duration_s
            events.append(Done(each.task.job, report))
        for folder in folders:
            sync_folder(folder)
        if self._journal is None:
            self._published, self._removed, self._up_to_date = [], [], []
        return events

    def _without_room(self) -> list[Event]:
        """The journal has no room: what is open goes first, and then, if it must be, what is finished."""
        self._workers.stop()
        wait(self._running)
        events = self._collect()
        while True:
            try:
                self._commit(())
                return events
            except DiskFull as error:
                if not self._finished:
                    return events  # the next run finds out about what is not noted
                last = self._finished.pop()
                last.draft.discard()
                self._removed.append(last.task)
                events.append(self._failed(last.task.job, error))

    def _stop(self, error: BacklineError) -> list[Event]:
        if self._summary.stopped is not None:
            return []
        self._summary.stopped = str(error)
        return [Stopped(str(error))]

    def _break_off(self) -> list[Event]:
        """End everything that is open, and keep everything that is finished."""
        self._workers.stop()
        wait(self._running)
        with contextlib.suppress(BacklineError):  # there is an error already
            return self._settle(())
        return []

    def _end(self, *, is_broken_off: bool = False) -> None:
        self._workers.close()
        # What cannot be noted the next run finds out, and there may be an error already.
        with contextlib.suppress(BacklineError if is_broken_off else DiskFull):
            self._commit(())
        for folder in reversed(self._folders):
            with contextlib.suppress(OSError):
                folder.rmdir()  # which refuses unless it is empty

    def _wait(self) -> None:
        """Pass on what workers say until there is enough to settle."""
        while True:
            done = sum(future.done() for future in self._running)
            timeout = None
            if done:
                waiting = len(self._running) - done - self._workers.slots
                timeout = self._last_commit + _COMMIT_SECONDS - time.monotonic()
                if waiting <= 0 or timeout <= 0.0:
                    break
            try:
                event = self._said.get(timeout=timeout)
            except queue.Empty:
                break
            self._tell([event])
        while not self._said.empty():  # what is said of a job comes before its end
            self._tell([self._said.get()])

    def _tell(self, events: Sequence[Event | None]) -> None:
        for event in events:
            if event is not None and self._on_event is not None:
                self._on_event(event)

    def _failed(self, job: Job, error: BacklineError) -> Failed:
        # Kept to the end of the run, without the frames it came through and the audio in them.
        error.__cause__ = error.__context__ = None
        failed = Failed(job, error.with_traceback(None))
        self._summary.failed.append(failed)
        return failed


def _sentence(job: Job, error: BaseException) -> BacklineError:
    """What went wrong with a job, as one of our own errors, without what it held on to."""
    if isinstance(error, BacklineError):
        return error
    if isinstance(error, MemoryError):
        return BacklineError(f"{job.source}: not enough memory")
    if isinstance(error, OSError):
        return AudioFileError(f"{job.source}: {reason(error)}")
    return BacklineError(f"{job.source}: unexpected {type(error).__name__}: {error}")
