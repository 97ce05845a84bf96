"""Work handed to a Dask cluster. The sole importer of distributed, imported when a scheduler is first asked.

A worker does what a thread does here, by `staged.perform`, and answers in plain values; the journal and the
names stay with the client. What else there is to it:

- Dask begins a task anew when its worker dies, or when the worker dies that still held the answer. Nobody can
  know that the first one writes no more, so each beginning takes a temporary of its own (`Draft.attempts`),
  and says in its answer which. What the others left is removed when the answer is there.
- A task that nobody wants any more, because the run was broken off or its client died, sees so on the worker
  after each block, removes what it has written and ends.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import pickle
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from ..choice import ModelChoice
from ..errors import AudioFileError, BacklineError, MissingDependency
from . import drafts, staged, storage
from .drafts import AnyDraft
from .events import Event, Loaded, Progress, Started
from .storage import Place, Url, is_url
from .work import Made, ModelCache, Task, UpToDate
from .workers import Cancelled, CancelledUnheard, WorkerDied, Workers, WorkersLost

#: How often a task is begun again whose worker died.
RETRIES = 3
#: A protocol, a host and a port; or workers that are threads of this process.
_ADDRESS = re.compile(r"[a-z]+://\S+:\d{1,5}|inproc://\S+")
_CONNECT_SECONDS = 5.0
_WORKER_SECONDS = 10.0
_STOP_SECONDS = 10.0
_SLOTS_SECONDS = 2.0
_PROGRESS_SECONDS = 0.5
_ASK_SECONDS = 0.05
_RUNS_KEPT = 2


def workers(
    address: str, *, retries: int = RETRIES
) -> Callable[[ModelCache, Callable[[Event], None]], Workers]:
    """What `run` takes as `workers`, so that a Dask cluster does the work.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``"tcp://127.0.0.1:8786"``.
    retries : int
        How often a task is begun again whose worker died. One that fails for a reason is not.

    Raises
    ------
    MissingDependency
        distributed is not installed.
    BacklineError
        From `run`: nobody answers there, there are no workers, or they have another version.
    """
    if _ADDRESS.fullmatch(address) is None:
        raise BacklineError(f"{address}: expected a scheduler's address such as tcp://127.0.0.1:8786")
    if retries < 0:
        raise BacklineError(f"retries is {retries}, expected 0 or more")
    _distributed(address)
    return lambda models, say: Cluster(address, say, retries=retries)


def _distributed(address: str) -> Any:
    try:
        import distributed
    except ImportError as error:
        text = f'{address}: needs distributed, which is not installed: pip install "backline[cluster]"'
        raise MissingDependency(text) from error
    return distributed


# ---- on a worker ----

_lock = threading.Lock()
_models: OrderedDict[str, ModelCache] = OrderedDict()
_open: Counter[str] = Counter()
_thread = threading.local()


def _about() -> tuple[str, int]:
    """What equal results need to be equal: the version of the package and of the engine."""
    from .. import __version__, native

    return __version__, int(native.lib.bl_abi_version())


def _open_here(run: str) -> int:
    """Tasks of a run that this process is at."""
    with _lock:
        return _open[run]


class _Here:
    """The task that this thread is at, as Dask sees it."""

    def __init__(self, run: str, number: int, topic: str) -> None:
        self._worker = _distributed("worker").get_worker()
        self._key = self._worker.get_current_task()
        self.run, self._number, self._topic = run, number, topic
        self._asked = self._told = time.monotonic()
        # Emptied by whoever starts the next worker there, if this one dies.
        storage.copies_in(Path(self._worker.local_directory))
        _thread.here = self

    @property
    def address(self) -> str:
        return str(self._worker.address)

    def say(self, kind: str, *rest: Any) -> None:
        """Tell the client; for people, so that it does no harm if it is lost."""
        self._worker.log_event(self._topic, [self._number, kind, *rest])

    def models(self) -> ModelCache:
        """Those of this run: by the next one, files may have changed."""
        with _lock:
            found = _models.get(self.run)
            if found is None:
                found = _models[self.run] = ModelCache(_loaded)
                while len(_models) > _RUNS_KEPT:
                    _models.popitem(last=False)
            return found

    def check(self) -> None:
        """Raise `Cancelled` if nobody waits for this task any more."""
        state = self._worker.state.tasks.get(self._key)
        if state is None or state.state not in ("executing", "long-running"):
            raise Cancelled

    def on_progress(self, seconds: float, total_seconds: float | None) -> None:
        """See `render_file`."""
        now = time.monotonic()
        if now - self._asked >= _ASK_SECONDS:
            self._asked = now
            self.check()
        if now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            self.say("progress", seconds, total_seconds)


def _loaded(_: ModelChoice, notes: tuple[str, ...]) -> None:
    """A model has been loaded, in the thread of the task that asked for it."""
    _thread.here.say("loaded", list(notes))


def _perform(run: str, number: int, topic: str, about: tuple[str, int], packed: bytes) -> Any:
    """A task on a worker: its result, or the error that is the job's own."""
    here = _Here(run, number, topic)
    if _about() != about:  # before anything of it is unpacked
        return BacklineError(_mismatch(here.address, _about(), about))
    task: Task = pickle.loads(packed)
    with _lock:
        _open[run] += 1
    try:
        here.say("started")
        return _performed(here, task)
    except Cancelled as error:
        return error
    except BacklineError as error:
        return _seen_from(here.address, task, error)
    finally:
        with _lock:
            _open[run] -= 1


def _performed(here: _Here, task: Task) -> Made | UpToDate:
    here.check()
    draft = next((each for each in task.draft.attempts if not storage.exists(each.temporary)), None)
    if draft is None:
        raise BacklineError(f"{task.job.source}: was begun too often by workers that died")
    found = staged.perform(replace(task, draft=draft), here.models(), here.on_progress)
    if isinstance(found, UpToDate):
        return found
    try:
        here.check()
    except Cancelled:
        draft.discard()
        raise
    return replace(found, draft=draft)


def _seen_from(address: str, task: Task, error: BacklineError) -> BacklineError:
    """An error that says where, if files may be others there."""
    paths = [where for where in (task.job.source, task.job.target.parent) if not isinstance(where, Url)]
    missing = [where for where in paths if not os.path.lexists(where)]
    if missing:
        text = f"{missing[0]}: is not there for the worker {address}; it needs the same folders, or URLs"
        return AudioFileError(text)
    return type(error)(f"{error} (worker {address})")


def _mismatch(address: str, there: tuple[str, int], here: tuple[str, int]) -> str:
    return (
        f"{address}: has Backline {there[0]} (engine {there[1]}), this is {here[0]} (engine {here[1]}): "
        f"results would differ"
    )


# ---- on the client ----


class _DaskFuture(Protocol):
    """What is used of ``distributed.Future``."""

    status: str

    def result(self) -> Any: ...
    def exception(self) -> BaseException | None: ...
    def release(self) -> None: ...
    def add_done_callback(self, callback: Callable[[_DaskFuture], None]) -> None: ...


@dataclass
class _Sent:
    """A task that a cluster has, and what became of it so far."""

    number: int
    task: Task
    future: Future[Made | UpToDate] = field(default_factory=Future)
    remote: _DaskFuture | None = None
    begun: int = 0
    handed: int = 0


class Cluster:
    """Workers of a Dask cluster.

    Parameters
    ----------
    address : str
    say : callable
        Told of what goes on, from any thread.
    retries : int
        See `workers`.

    Raises
    ------
    MissingDependency, BacklineError
        See `workers`.
    """

    def __init__(self, address: str, say: Callable[[Event], None], *, retries: int = RETRIES) -> None:
        self._address = address
        self._say = say
        self._retries = retries
        self._run = os.urandom(8).hex()
        self._topic = f"backline-{self._run}"
        self._about = _about()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._sent: dict[int, _Sent] = {}
        self._said: set[ModelChoice] = set()
        self._is_stopping = self._have_ended = False
        self._client = self._connected()
        try:
            self._check_workers()
            self._slots, self._counted = 1, -_SLOTS_SECONDS
            self._client.subscribe_topic(self._topic, self._heard)
        except BaseException:
            self.close()
            raise

    def _connected(self) -> Any:
        distributed = _distributed(self._address)
        # What it warns of is either seen to here or said in a sentence.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            return distributed.Client(
                self._address, timeout=_CONNECT_SECONDS, set_as_default=False, name="backline"
            )
        except Exception as error:  # of sockets, names, certificates, protocols
            raise BacklineError(
                f"{self._address}: no Dask scheduler answers there ({_short(error)})"
            ) from None

    def _check_workers(self) -> None:
        with contextlib.suppress(Exception):  # asyncio's TimeoutError has more than one class
            self._client.wait_for_workers(1, timeout=_WORKER_SECONDS)
        found = self._client.run(_about, on_error="return")
        if not found:
            raise BacklineError(f"{self._address}: the scheduler has no workers")
        for address, about in found.items():
            if isinstance(about, BaseException):
                raise BacklineError(f"{address}: this worker cannot use Backline ({_short(about)})")
            if tuple(about) != self._about:
                raise BacklineError(_mismatch(address, tuple(about), self._about))

    @property
    def slots(self) -> int:
        """See `Workers`; workers may come and go."""
        now = time.monotonic()
        if now - self._counted >= _SLOTS_SECONDS and not self._is_stopping:
            self._counted = now
            with contextlib.suppress(Exception):  # a scheduler that is gone is noticed elsewhere
                self._slots = sum(self._client.nthreads().values()) or self._slots
        return self._slots

    def submit(self, task: Task) -> Future[Made | UpToDate]:
        """See `Workers`."""
        sent = _Sent(next(self._numbers), task)
        with self._lock:
            self._sent[sent.number] = sent
        self._hand_over(sent)
        return sent.future

    def _hand_over(self, sent: _Sent) -> None:
        try:
            sent.remote = self._client.submit(
                _perform,
                *(self._run, sent.number, self._topic, self._about, pickle.dumps(_absolute(sent.task))),
                key=f"{self._topic}-{sent.number}-{sent.handed}",
                pure=False,
            )
            sent.handed += 1
            sent.remote.add_done_callback(functools.partial(self._ended, sent))
        except Exception:  # whatever its connection raises
            self._settle(sent, self._lost())

    def _lost(self) -> WorkersLost:
        return WorkersLost(f"{self._address}: the scheduler is gone; what was finished is kept")

    def _heard(self, event: tuple[float, list[Any]]) -> None:
        """What a worker says, in the client's own thread."""
        number, kind, *rest = event[1]
        with self._lock:
            sent = self._sent.get(number)
        if sent is None:  # it has ended meanwhile
            return
        job = sent.task.job
        if kind == "loaded" and job.model not in self._said:
            self._said.add(job.model)
            self._say(Loaded(job.model, tuple(rest[0])))
        elif kind == "progress":
            self._say(Progress(job, rest[0], rest[1]))
        elif kind == "started":
            sent.begun += 1
            if sent.begun == 1:
                self._say(Started(job))
            elif sent.begun > self._retries + 1:
                # Not in this thread, which cancelling waits for.
                threading.Thread(target=self._give_up, args=(sent,), daemon=True).start()

    def _give_up(self, sent: _Sent) -> None:
        times = f"{self._retries + 1} time{'s' if self._retries else ''}"
        error = WorkerDied(f"{sent.task.job.source}: its worker died, {times}")
        if self._settle(sent, error) and sent.remote is not None:
            self._client.cancel([sent.remote])

    def _ended(self, sent: _Sent, remote: _DaskFuture) -> None:
        """A task has come to something; in a thread of distributed's for that."""
        try:
            found = remote.result()
        except BaseException as error:
            self._broke(sent, remote, error)
            return
        remote.release()
        if isinstance(found, Cancelled) and not self._is_stopping:
            self._again(sent)  # it was taken from that worker, and now nobody has it
        else:
            self._settle(sent, found)

    def _broke(self, sent: _Sent, remote: _DaskFuture, error: BaseException) -> None:
        if sent.future.done():
            return
        if self._is_stopping:
            return  # `stop` says so, once they have ended
        if type(error).__name__ == "KilledWorker":
            # The scheduler has had enough of it: it counts for all its clients alike.
            self._again(sent)
        elif remote.status == "error":
            self._settle(sent, error)
        else:
            self._settle(sent, self._lost())

    def _again(self, sent: _Sent) -> None:
        if max(sent.begun, sent.handed) <= self._retries:
            self._hand_over(sent)
        else:
            self._give_up(sent)

    def _settle(self, sent: _Sent, found: Any) -> bool:
        """Say once what became of a task, and remove what attempts left whose worker died."""
        with self._lock:
            if self._sent.pop(sent.number, None) is None:
                return False
        if isinstance(found, BaseException):
            sent.future.set_exception(found)
            return True
        if isinstance(found, Made) and found.draft is not None:
            found = replace(found, draft=_own(sent.task.draft, found.draft))
            if sent.begun > 1 or found.draft != sent.task.draft.attempts[0]:
                for each in sent.task.draft.attempts:
                    if each != found.draft:
                        each.discard()
        sent.future.set_result(_named(found, sent.task))
        return True

    def stop(self) -> None:
        """See `Workers`: nothing new begins, and what is being rendered ends after its next block."""
        self._is_stopping = True
        with self._lock:
            waiting = list(self._sent.values())
        stopping = threading.Thread(target=self._stop, args=(waiting,), daemon=True)
        stopping.start()
        stopping.join(_STOP_SECONDS)
        for sent in waiting:
            self._settle(sent, Cancelled() if self._have_ended else CancelledUnheard())

    def _stop(self, waiting: list[_Sent]) -> None:
        with contextlib.suppress(Exception):  # there may be no cluster any more
            self._client.cancel([sent.remote for sent in waiting if sent.remote is not None])
            while sum(self._client.run(_open_here, self._run, on_error="ignore").values()):
                time.sleep(_ASK_SECONDS)
            self._have_ended = True

    def close(self) -> None:
        """See `Workers`."""
        self._is_stopping = True
        with contextlib.suppress(Exception):
            self._client.close(timeout=_CONNECT_SECONDS)


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _absolute(task: Task) -> Task:
    """The task with paths that mean the same in another folder."""
    job = task.job
    model = job.model
    if not is_url(model.path) and os.path.exists(model.path):  # else it is a shipped one
        model = replace(model, path=os.path.abspath(model.path))
    job = replace(job, model=model, source=_from_root(job.source), target=_from_root(job.target))
    draft = drafts.draft(job.target, _from_root(task.draft.temporary), task.draft.overwrite)
    return replace(task, job=job, draft=draft)


def _from_root(where: Place) -> Place:
    return where if isinstance(where, Url) else Path(os.path.abspath(where))


def _own(draft: AnyDraft, absolute: AnyDraft) -> AnyDraft:
    """The attempt of a draft that a worker calls by its absolute name."""
    return next(each for each in draft.attempts if each.temporary.name == absolute.temporary.name)


def _named(found: Made | UpToDate, task: Task) -> Made | UpToDate:
    """With the names that the job has here."""
    if isinstance(found, UpToDate):
        return found
    source, target = (cast(Path, where) for where in (task.job.source, task.job.target))
    return replace(found, report=replace(found.report, source=source, target=target))
