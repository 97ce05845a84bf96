"""Jobs any of whose places is a URL: `work.perform` by way of copies here.

An input is fetched, block by block, into a folder for temporary files; an output is rendered there and then
stored under its draft's temporary name. Jobs of files here go straight through.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ..errors import FileExists
from ..pending import Draft
from . import storage, work
from .drafts import UrlDraft
from .files import Fingerprint, Known
from .storage import Place, Url
from .work import Made, ModelCache, Task, UpToDate


def is_staged(task: Task) -> bool:
    """Whether a task takes copies."""
    return isinstance(task.job.source, Url) or isinstance(task.job.target, Url)


def examine(task: Task, models: ModelCache) -> UpToDate | tuple[Fingerprint, str, str]:
    """As `work.examine`, and looks at what nobody has looked at yet, where there are URLs."""
    return work.examine(_looked_at(task), models) if is_staged(task) else work.examine(task, models)


def _looked_at(task: Task) -> Task:
    """The task, without what was known of an input that is not as it was; `FileExists` if it may not be."""
    source, target = task.job.source, task.job.target
    if task.output is None and not task.draft.overwrite and storage.exists(target):
        raise FileExists(f"{target}: exists already")
    if task.source is None or not isinstance(source, Url):
        return task
    with contextlib.suppress(FileNotFoundError):  # said when it is read
        if task.source.is_of(storage.stat_of(source)):
            return task
    return replace(task, source=None)


def perform(
    task: Task,
    models: ModelCache,
    on_progress: Callable[[float, float | None], None] | None = None,
    threads: int = 1,
) -> Made | UpToDate:
    """Do a job unless it is done; see `work.perform`."""
    if not is_staged(task):
        return work.perform(task, models, on_progress, threads)
    task = _looked_at(task)
    with storage.folder_for_copies() as folder:
        copies = _Copies(folder, task, on_progress)
        task = copies.hashed()
        found = work.examine(task, models)
        if isinstance(found, UpToDate):
            return found
        with copies.local() as inner:
            made = work.perform(inner, models, on_progress, threads)
            assert isinstance(made, Made)  # nothing is known of its output
            output = copies.stored(inner, made.output)
        report = replace(made.report, source=cast(Path, task.job.source), target=cast(Path, task.job.target))
        return Made(found[0], output, report)


@dataclass
class _Copies:
    """Copies of one task's places."""

    folder: Path
    task: Task
    on_progress: Callable[[float, float | None], None] | None
    source: Path | None = None

    def hashed(self) -> Task:
        """The task with the content of its input, which is fetched if it has to be read for that."""
        if self.task.source is None and isinstance(self.task.job.source, Url):
            self.task = replace(self.task, source=self._fetched(self.task.job.source))
        return self.task

    def _fetched(self, source: Url) -> Fingerprint:
        folder = self.folder / "in"
        folder.mkdir()
        self.source = folder / source.name
        return storage.fetch(source, self.source, self._still_wanted)

    def _still_wanted(self) -> None:
        if self.on_progress is not None:
            self.on_progress(0.0, None)  # which raises if it is not

    @contextlib.contextmanager
    def local(self) -> Iterator[Task]:
        """The same task with paths only, of whose output nothing is known."""
        job, names = self.task.job, dict[Path, Place]()
        source, print_ = job.source, self.task.source
        if isinstance(source, Url):
            if self.source is None:
                print_ = self._fetched(source)
            assert self.source is not None
            assert print_ is not None
            names[self.source] = source
            # Of the copy, so that it can be seen not to change; the content is the same.
            here = os.stat(self.source)
            print_ = Fingerprint(here.st_size, here.st_mtime_ns, here.st_ctime_ns, here.st_ino, print_.sha256)
            source = self.source
        target, draft = job.target, self.task.draft
        if isinstance(target, Url):
            folder = self.folder / "out"
            folder.mkdir()
            names[folder / target.name] = target
            target = folder / target.name
            draft = Draft.of(target)
        with storage.renamed(names):
            yield Task(replace(job, source=source, target=target), draft, print_, overwrite=True)

    def stored(self, inner: Task, output: Known) -> Known:
        """What is known of an output, once it is where the task's draft wants it."""
        draft = self.task.draft
        if not isinstance(draft, UrlDraft):
            return output
        self._still_wanted()
        assert isinstance(inner.draft, Draft)
        found = storage.store(inner.draft.temporary, draft.temporary)
        return replace(output, mtime_ns=found.st_mtime_ns)
