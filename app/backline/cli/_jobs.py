"""What ``backline render`` was asked for: which jobs those are, and how they are run and told of."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..library import MODEL_SUFFIXES, is_audio_name
from ._common import fail, say, sentence, tell
from ._screen import JobBars, job_bars
from ._tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..batch import Event, Job, Planned, Summary
    from ..batch.workers import Workers
    from ..choice import ModelChoice
    from ..errors import BacklineError
    from ..render import RenderOptions

_PIPE = "-"
_URL = "://"
_PATTERN = frozenset("*?[")


@dataclass(frozen=True)
class How:
    """How jobs are run, whatever they are."""

    force: bool
    verify: bool
    dry_run: bool
    journal: Path | None
    threads: int | None
    scheduler: str | None
    retries: int


@dataclass(frozen=True)
class What:
    """What is to be rendered, as it was written on the command line."""

    files: list[str]
    output: str | None
    matrix: bool
    jobs_file: Path | None
    name: str | None
    file_format: str | None
    choice: ModelChoice
    options: RenderOptions
    null: Path | None

    def check(self, how: How) -> None:
        """Refuse what makes no sense together; `typer.BadParameter` says what."""
        self._check_jobs_file() if self.jobs_file is not None else self._check_files()
        if how.verify and not (self.has_journal or how.journal):
            raise typer.BadParameter("--verify is for what has a journal: --matrix, --jobs or --journal")
        if how.scheduler is not None and self.null is not None:
            raise typer.BadParameter("--null measures one output here, without --scheduler")

    def _check_files(self) -> None:
        if len(self.files) < 2:
            raise typer.BadParameter("a MODEL and at least one INPUT are needed")
        if self.output is None and self.null is None:
            raise typer.BadParameter("--output / -o is needed")
        if self.name is not None and self.file_format is not None:
            raise typer.BadParameter("--name says the format with its extension, without --format")
        if (self.matrix or self.name is not None) and _PIPE in (self.output, *self.files):
            raise typer.BadParameter("- is for one model, one input and one output")
        if self.null is not None and (self.matrix or len(self.files) > 2):
            raise typer.BadParameter("--null is for one model and one input")
        if self.matrix and self.output is None:
            raise typer.BadParameter("--output / -o is needed, a folder")

    def _check_jobs_file(self) -> None:
        from ..render import RenderOptions

        given = (self.files, self.output, self.name, self.file_format, self.null, self.matrix)
        if any(given):
            raise typer.BadParameter("--jobs names models, inputs and outputs itself")
        if self.options != RenderOptions() or self.choice != type(self.choice)(""):
            raise typer.BadParameter("--jobs: options of rendering are written in the job file")

    @property
    def has_journal(self) -> bool:
        """Whether there is a journal even if nobody asks for one."""
        return self.matrix or self.jobs_file is not None

    def is_single(self, how: How) -> bool:
        """Whether it is one file that is rendered at once, through all cores, with nothing to note."""
        if self.null is not None or _PIPE in (self.output, *self.files[1:]):
            return True
        if self.has_journal or self.name is not None or how.journal is not None or how.dry_run:
            return False
        return how.scheduler is None and len(self.files) == 2 and self._is_plain

    @property
    def _is_plain(self) -> bool:
        """Whether the one input stands for itself, and nothing has to be fetched."""
        name = self.files[1]
        may_be_url = any(_URL in text for text in (*self.files, self.output or ""))
        if may_be_url or os.path.isdir(name):  # batches know what is one; they take a while to import
            return False
        return _PATTERN.isdisjoint(name) or os.path.lexists(name)

    def jobs(self) -> list[Job]:
        """The jobs, checked, with nothing touched."""
        from ..batch import Job, find_models, find_sources, manifest, matrix
        from ..batch.storage import is_url, place
        from ..render import plan_targets

        if self.jobs_file is not None:
            return manifest.read(self.jobs_file)
        models, inputs = self._split()
        folder = self.output or ""
        extension = (self.file_format or "wav").lower().removeprefix(".")
        if self.matrix or self.name is not None:
            name = self.name or f"{{input}}-{{model}}.{extension}"
            choices = [replace(self.choice, path=path) for path in find_models(models)]
            return matrix(choices, inputs, folder, name, self.options)
        choice, sources = replace(self.choice, path=models[0]), find_sources(inputs)
        if not any(map(is_url, (folder, *sources))):
            pairs = plan_targets(sources, folder, file_format=self.file_format)
            return [Job(choice, source, target, self.options) for source, target in pairs]
        if len(sources) == 1 and place(folder).suffix:
            return [Job(choice, sources[0], place(folder), self.options)]
        return matrix([choice], sources, folder, f"{{input}}.{extension}", self.options)

    def _split(self) -> tuple[list[str], list[str]]:
        """Models and inputs: the first is the model, unless there may be several."""
        if not self.matrix:
            return self.files[:1], self.files[1:]
        inputs = [name for name in self.files if _is_input(name)]
        return [name for name in self.files if name not in inputs], inputs


def _is_input(name: str) -> bool:
    """Whether what may be a model or an input is an input: audio, or a folder of it."""
    from ..batch.storage import is_url, place

    if is_url(name):
        return place(name).suffix.lower() not in MODEL_SUFFIXES
    return is_audio_name(name) or os.path.isdir(name)


def _workers(how: How) -> Callable[..., Workers] | None:
    if how.scheduler is None:
        return None
    from ..batch import cluster

    return cluster.workers(how.scheduler, retries=how.retries)


def run_jobs(what: What, how: How) -> None:
    """Run the jobs, or say what they would do; ends with 1 where one of them failed."""
    from ..batch import describe, run

    jobs = what.jobs()
    journal = how.journal or (_journal_of(what, jobs) if what.has_journal else None)
    if how.dry_run:
        _tell_plan(describe(jobs, journal, overwrite=how.force, verify=how.verify))
        return
    with job_bars(len(jobs)) as bars:
        told = _Told(Tally(len(jobs)), bars, has_journal=journal is not None)
        summary = run(
            jobs,
            threads=how.threads,
            journal=journal,
            overwrite=how.force,
            verify=how.verify,
            on_event=told,
            workers=_workers(how),
        )
    _tell_end(summary, has_journal=journal is not None)


def _journal_of(what: What, jobs: list[Job]) -> Path:
    """In the folder that all outputs are in, or below."""
    from ..batch.storage import journal_for, journal_of

    return journal_of([job.target for job in jobs]) if what.output is None else journal_for(what.output)


def _tell_plan(plan: list[Planned]) -> None:
    for each in plan:
        model, job = each.job.model, each.job
        told = f"{each.action.value} {job.target}: {job.source} through {model.path}"
        if each.error is None:
            tell(f"{told} ({each.reason})")
    _tell_failures([each.error for each in plan if each.error is not None])
    counts = Counter(each.action.value for each in plan)
    say(
        [f"dry run: {', '.join(f'{count} to {what}' for what, count in counts.items())}; nothing was written"]
    )
    if any(each.error is not None for each in plan):
        raise typer.Exit(1)


class _Told:
    """Prints what a run tells, and draws how far it is."""

    def __init__(self, tally: Tally, bars: JobBars, *, has_journal: bool) -> None:
        self._tally, self._bars, self._has_journal = tally, bars, has_journal

    def __call__(self, event: Event) -> None:
        from ..batch import Done, Interrupted, Loaded, Stopped

        if isinstance(event, Done):
            tell(event.report)
        elif isinstance(event, Loaded):
            say([f"{event.model.path}: {note}" for note in event.notes])
        elif isinstance(event, Stopped):
            say([f"no more files are begun: {event.reason}"])
        elif isinstance(event, Interrupted) and self._has_journal:
            say([f"interrupted: {event.summary}; the same command goes on"])
        self._tally.count(event)
        self._bars.show(self._tally)


def _tell_failures(errors: list[BacklineError]) -> None:
    """Each once: a model that cannot be loaded fails for every input."""
    for text, count in Counter(map(sentence, errors)).items():
        fail(text if count == 1 else f"{text} ({count} files)")


def _tell_end(summary: Summary, *, has_journal: bool) -> None:
    _tell_failures([each.error for each in summary.failed])
    if has_journal:
        say([str(summary)])
    if not summary.is_complete:
        raise typer.Exit(1)
