"""Which jobs there is anything to do for, as far as that can be told without reading much."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ..audiofile import PathLike
from ..errors import BacklineError, FileExists
from .drafts import draft_of
from .files import Fingerprint, Known
from .jobs import Job, check
from .journal import Journal, key_of
from .staged import examine
from .storage import Url
from .work import ModelCache, Task, UpToDate, settings_of


class Action(Enum):
    """What is to be done for a job."""

    RENDER = "render"
    SKIP = "skip"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Planned:
    """What is to be done for a job, and why, in a few words; `error` where it is refused."""

    job: Job
    action: Action
    reason: str
    error: BacklineError | None = None


def decide(
    job: Job, journal: Journal | None, models: ModelCache, *, overwrite: bool, verify: bool
) -> Task | Planned:
    """A task for a worker, unless it is clear already that there is nothing to do or it may not be done."""
    known = None if journal is None else journal.output(job.target)
    # Of URLs workers find out for themselves, several at a time.
    is_here = not isinstance(job.source, Url) and not isinstance(job.target, Url)
    if is_here and known is None and not overwrite and os.path.lexists(job.target):
        error = FileExists(f"{job.target}: exists already")
        return Planned(job, Action.REFUSE, "exists, and was not rendered by a run in this folder", error)
    source = None if journal is None or verify else journal.input(job.source)
    if is_here and known and source and not verify and _is_up_to_date(job, known, source, models):
        return Planned(job, Action.SKIP, "up to date")
    draft = draft_of(job.target, overwrite=overwrite or known is not None)
    return Task(job, draft, source, known, overwrite, verify)


def _is_up_to_date(job: Job, known: Known, source: Fingerprint, models: ModelCache) -> bool:
    try:
        if not known.is_of(os.stat(job.target)):
            return False
        return known.key == key_of(source.sha256, models.sha256(job.model), settings_of(job))
    except (OSError, BacklineError):
        return False  # the worker says what is wrong


def describe(
    jobs: Sequence[Job],
    journal: Journal | PathLike | None = None,
    *,
    overwrite: bool = False,
    verify: bool = False,
) -> list[Planned]:
    """Say what `run` would do; writes nothing.

    Parameters
    ----------
    jobs : sequence of Job
    journal : Journal, path or None
        As for `run`; a path where nothing is counts as an empty journal.
    overwrite, verify : bool
        As for `run`.

    Raises
    ------
    BacklineError
        The jobs get in each other's way, or the journal cannot be read.
    """
    check(jobs)
    if journal is not None and not isinstance(journal, Journal) and not os.path.exists(journal):
        journal = None
    models = ModelCache()
    with contextlib.ExitStack() as stack:
        found = journal
        if found is not None and not isinstance(found, Journal):
            found = stack.enter_context(Journal(found, is_copy=True))
        waiting = {} if found is None else found.finished()
        return [_described(job, found, models, waiting, overwrite, verify) for job in jobs]


def _described(
    job: Job,
    journal: Journal | None,
    models: ModelCache,
    waiting: Mapping[str | bytes, str],
    overwrite: bool,
    verify: bool,
) -> Planned:
    task = decide(job, journal, models, overwrite=overwrite, verify=verify)
    if isinstance(task, Planned):
        return task
    try:
        found = examine(task, models)
    except BacklineError as error:
        return Planned(job, Action.REFUSE, str(error), error)
    if isinstance(found, UpToDate):
        return Planned(job, Action.SKIP, "up to date")
    _, key, reason = found
    if journal is not None and waiting.get(journal.name_of(job.target)) == key:
        return Planned(job, Action.SKIP, "rendered, and only to be given its name")
    return Planned(job, Action.RENDER, reason)
