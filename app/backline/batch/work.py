"""One job: read, render, hash. Plain values in and out, so that it may run in another process.

The one place that renders.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from .. import choice as choices
from ..choice import ModelChoice
from ..engine import Model
from ..errors import AudioFileError, BacklineError, FileExists
from ..formats import naming
from ..formats.backline_file import encode
from ..pending import Draft, reason
from ..render import RenderReport, render_file
from .drafts import AnyDraft
from .files import Fingerprint, Known
from .jobs import Job
from .journal import key_of
from .storage import Place, Url, fetched, fingerprint, hash_of, is_url, stat_of

#: Models kept loaded.
MAX_MODELS = 8


@dataclass(frozen=True)
class Task:
    """A job, and what is known of it beforehand.

    Attributes
    ----------
    job : Job
    draft : Draft or UrlDraft
        Where to; may replace what was rendered before.
    source : Fingerprint or None
        The input's content, if it need not be read for that.
    output : Known or None
        What was rendered before.
    overwrite : bool
        Replace also what was not rendered before.
    verify : bool
        Look into what was rendered before, and render again what is not as it was.
    """

    job: Job
    draft: AnyDraft
    source: Fingerprint | None = None
    output: Known | None = None
    overwrite: bool = False
    verify: bool = False


@dataclass(frozen=True)
class Made:
    """A finished temporary; `draft` is the one whose it is, if that is not the task's."""

    source: Fingerprint
    output: Known
    report: RenderReport
    draft: AnyDraft | None = None


@dataclass(frozen=True)
class UpToDate:
    """Nothing to do; the output as it is now."""

    source: Fingerprint
    output: Known


@dataclass(frozen=True)
class LoadedModel:
    """A model as chosen, ready to render."""

    model: Model
    sha256: str
    notes: tuple[str, ...]


class ModelCache:
    """Models loaded once each, the last few kept; used by many threads.

    Two choices that come to the same graph share one model.
    """

    def __init__(self, on_load: Callable[[ModelChoice, tuple[str, ...]], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._on_load = on_load
        self._hashes: dict[ModelChoice, str] = {}
        self._failures: dict[ModelChoice, BacklineError] = {}
        self._kept: OrderedDict[str, LoadedModel] = OrderedDict()

    def sha256(self, choice: ModelChoice) -> str:
        """Hash of all that a choice computes: weights, sizes, knobs, gains, prewarm, whatever the file.

        Raises
        ------
        BacklineError
            It cannot be loaded.
        """
        found = self._hashes.get(choice)
        return self.get(choice).sha256 if found is None else found

    def get(self, choice: ModelChoice) -> LoadedModel:
        """The model, loaded if it is not; raises as `sha256`."""
        with self._lock:
            if choice in self._failures:
                failure = self._failures[choice]
                raise type(failure)(str(failure))
            found = self._kept.get(self._hashes.get(choice, ""))
            if found is None:
                found = self._load(choice)
            self._kept.move_to_end(found.sha256)
            return found

    def _load(self, choice: ModelChoice) -> LoadedModel:
        try:
            found = load(choice)
        except BacklineError as error:
            self._failures[choice] = error
            raise
        if choice not in self._hashes and self._on_load is not None:
            self._on_load(choice, found.notes)
        self._hashes[choice] = found.sha256
        found = self._kept.setdefault(found.sha256, found)
        while len(self._kept) > MAX_MODELS:
            self._kept.popitem(last=False)
        return found


def load(choice: ModelChoice) -> LoadedModel:
    """Load a model as chosen.

    Raises
    ------
    BacklineError
        See `backline.load`.
    """
    if is_url(choice.path):
        with fetched(Url(choice.path)) as path:
            return load(replace(choice, path=str(path)))
    chosen = choices.load(choice)
    with naming(choice.path):
        content = encode(replace(chosen.model.graph, name=""))
    return LoadedModel(chosen.model, sha256(content).hexdigest(), chosen.notes)


def settings_of(job: Job) -> dict[str, object]:
    """A job's options as plain values; what the model is and does is in the model's hash."""
    return dict(vars(job.options))


def examine(task: Task, models: ModelCache) -> UpToDate | tuple[Fingerprint, str, str]:
    """Find out whether there is anything to do.

    Returns
    -------
    UpToDate, or (Fingerprint, str, str)
        Else the input's content, the key of what is to be rendered, and why.

    Raises
    ------
    FileExists
        The output is not what was rendered, and nobody said that it may be replaced.
    BacklineError
        The input or the model cannot be read.
    """
    source = task.source or fingerprint(task.job.source)
    key = key_of(source.sha256, models.sha256(task.job.model), settings_of(task.job))
    known, target = task.output, task.job.target
    if known is None:
        return source, key, "new"
    try:
        found = stat_of(target)
    except OSError:
        return source, key, "missing"
    is_whole = known.is_of(found) if not task.verify else False
    if is_whole or _content_of(target) == known.sha256:
        if key != known.key:
            return source, key, "input, model, settings or version changed"
        return UpToDate(source, replace(known, mtime_ns=found.st_mtime_ns))
    if not (task.verify or task.overwrite):
        raise FileExists(f"{target}: is not what was rendered, somebody changed it")
    return source, key, "damaged"


def _content_of(target: Place) -> str:
    try:
        return hash_of(target)
    except OSError as error:
        raise AudioFileError(f"{target}: cannot be read: {reason(error)}") from error


def perform(
    task: Task,
    models: ModelCache,
    on_progress: Callable[[float, float | None], None] | None = None,
    threads: int = 1,
) -> Made | UpToDate:
    """Do a job unless it is done: leaves a finished temporary, or nothing.

    Parameters
    ----------
    task : Task
    models : ModelCache
    on_progress : callable, optional
        See `render_file`.
    threads : int
        That may compute for this job.

    Raises
    ------
    BacklineError
        The job comes to nothing.
    """
    found = examine(task, models)
    if isinstance(found, UpToDate):
        return found
    source, _, _ = found
    job, draft = task.job, task.draft
    if not isinstance(draft, Draft):
        raise TypeError(f"{draft.target}: is a URL, see `staged.perform`")
    loaded = models.get(job.model)
    # Another than a moment ago, if it had to be loaded again and its file has changed.
    key = key_of(source.sha256, loaded.sha256, settings_of(job))
    report = render_file(
        loaded.model,
        job.source,
        draft,
        job.options,
        overwrite=draft.overwrite,
        threads=threads,
        on_progress=on_progress,
    )
    try:
        source.check(job.source)
        made = os.stat(draft.temporary)
        output = Known(key, hash_of(draft.temporary), made.st_size, made.st_mtime_ns)
    except BaseException:
        draft.discard()
        raise
    return Made(source, output, report)
