"""Runs on a Dask cluster of processes on loopback: the same bits, and nothing lost when one of them dies."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from batch_tools import Desk
from loopback import Loopback, wait_until

from backline.batch import (
    Done,
    Interrupted,
    Job,
    Journal,
    Loaded,
    ModelChoice,
    Started,
    Stopped,
    cluster,
    matrix,
    run,
)
from backline.batch.storage import Url
from backline.errors import BacklineError, MissingDependency
from backline.pending import Draft

distributed = pytest.importorskip("distributed", reason="needs distributed, which is not installed")
fsspec = pytest.importorskip("fsspec", reason="needs fsspec, which is not installed")

LONG = 48000 * 20


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two workers that nobody kills."""
    with Loopback(tmp_path_factory.mktemp("two")) as loopback:
        yield loopback


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def figures(summary) -> tuple[int, int, int]:
    return summary.done, summary.skipped, len(summary.failed)


def rendered_here(desk) -> dict[str, bytes]:
    """What threads make of the same jobs."""
    here = desk.folder / "here"
    jobs = [replace(job, target=here / job.target.name) for job in desk.jobs()]
    assert run(jobs).is_complete
    return {path.name: path.read_bytes() for path in here.iterdir()}


def renders(journal: Path) -> list[int]:
    with Journal(journal) as found:
        return found.renders()


def test_the_bits_are_those_of_threads(two, desk):
    events, workers = [], cluster.workers(two.address)
    summary = run(desk.jobs(), journal=desk.journal, workers=workers, on_event=events.append)
    assert figures(summary) == (8, 0, 0)
    assert desk.files() == rendered_here(desk)
    assert renders(desk.journal) == [1] * 8
    for job in desk.jobs():
        told = [e for e in events if isinstance(e, Started | Done) and e.job == job]
        assert isinstance(told[-1], Done)
        assert told[-1].report.target == job.target
    assert {e.model for e in events if isinstance(e, Loaded)} == {job.model for job in desk.jobs()}
    assert figures(run(desk.jobs(), journal=desk.journal, workers=cluster.workers(two.address))) == (0, 8, 0)


def test_relative_paths_mean_the_same_there(two, desk, monkeypatch):
    monkeypatch.chdir(desk.folder)
    there = desk.folder
    jobs = [
        Job(
            replace(job.model, path=os.path.relpath(job.model.path, there)),
            job.source.relative_to(there),
            job.target.relative_to(there),
            job.options,
        )
        for job in desk.jobs()
    ]
    journal = Path("out") / desk.journal.name
    assert figures(run(jobs, journal=journal, workers=cluster.workers(two.address))) == (8, 0, 0)
    assert desk.files() == rendered_here(desk)
    shipped = Job(ModelChoice("overdrive"), jobs[0].source, Path("out/shipped.wav"), jobs[0].options)
    assert figures(run([shipped], workers=cluster.workers(two.address))) == (1, 0, 0)


def test_one_that_fails_does_not_stop_the_others(two, desk):
    desk.takes[0].write_bytes(desk.takes[0].read_bytes()[:5000])
    desk.takes[1].unlink()
    summary = run(desk.jobs(), journal=desk.journal, workers=cluster.workers(two.address))
    assert figures(summary) == (4, 0, 4)
    texts = sorted(str(failed.error) for failed in summary.failed)
    assert all("(worker tcp://127.0.0.1:" in text for text in texts if "cut short" in text)
    missing = [text for text in texts if "cut short" not in text]
    assert len(missing) == 2
    assert all(
        text.startswith(f"{desk.takes[1]}: is not there for the worker tcp://127.0.0.1:") for text in missing
    )
    assert all(name.endswith(".wav") for name in desk.files())


def test_urls_in_and_out(two, desk):
    """`local` goes through fsspec like any other protocol, and the workers see the same files."""
    jobs = [
        Job(
            replace(job.model, path=f"local://{job.model.path}"),
            Url(f"local://{job.source}"),
            Url(f"local://{desk.out}/deep/{job.target.name}"),
            job.options,
        )
        for job in desk.jobs()
    ]
    journal = desk.folder / "remote.sqlite"
    assert figures(run(jobs, journal=journal, workers=cluster.workers(two.address))) == (8, 0, 0)
    assert {Path(name).name: data for name, data in desk.files().items()} == rendered_here(desk)
    assert all(name.endswith(".wav") for name in desk.files())
    assert renders(journal) == [1] * 8
    assert figures(run(jobs, journal=journal, workers=cluster.workers(two.address))) == (0, 8, 0)
    assert not list((two.folder / "space").rglob("backline-*"))


def test_workers_that_are_threads_of_this_process(desk, monkeypatch):
    """They share its memory, and so files that are there."""
    monkeypatch.setattr("backline.batch.storage._copies", None)
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for take in desk.takes:
        memory.pipe(f"/bucket/{take.name}", take.read_bytes())
    models = [ModelChoice(str(path)) for path in desk.models]
    jobs = matrix(models, ["memory://bucket/*.wav"], "memory://out", options=desk.jobs()[0].options)
    expected = rendered_here(desk)
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address="127.0.0.1:0",
        local_directory=str(desk.folder / "space"),
    ) as here:
        workers = cluster.workers(here.scheduler_address)
        assert figures(run(jobs, journal=desk.journal, workers=workers)) == (8, 0, 0)
    assert {name.removeprefix("/out/"): memory.cat(name) for name in memory.find("/out")} == expected
    memory.rm("/out", recursive=True)
    assert figures(run(jobs, journal=desk.journal)) == (8, 0, 0)  # with copies where there is still a folder
    memory.store.clear()


@pytest.mark.parametrize(("kind", "nanny"), [("paths", False), ("paths", True), ("urls", False)])
def test_a_worker_killed_in_the_middle(tmp_path, kind, nanny):
    desk = Desk(tmp_path, takes=2, frames=LONG)
    jobs = desk.jobs()
    if kind == "urls":
        jobs = [replace(job, target=Url(f"local://{job.target}")) for job in jobs]
    journal, events = desk.folder / "journal.sqlite", []
    with Loopback(tmp_path / "cluster", 1, nanny=nanny) as loopback:

        def kill():
            # Outputs of URLs grow in the worker's own folder first.
            wait_until(lambda: written(tmp_path), "a worker to be in the middle of a file")
            kill_workers(loopback)
            if not nanny:
                loopback.add()

        thread = threading.Thread(target=kill)
        thread.start()
        summary = run(
            jobs, journal=journal, workers=cluster.workers(loopback.address), on_event=events.append
        )
        thread.join()
    assert figures(summary) == (4, 0, 0)
    assert desk.files() == rendered_here(desk)
    assert renders(journal) == [1] * 4
    started = [event.job for event in events if isinstance(event, Started)]
    assert len(started) == len(set(started))


def written(folder: Path) -> bool:
    return any(path.stat().st_size > 100_000 for path in list(folder.rglob("*.part")) if path.exists())


def kill_workers(loopback: Loopback) -> None:
    """SIGKILL to the processes that render: children of nannies, where there are such."""
    for worker in loopback.processes[1:]:
        if worker.poll() is None:
            listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(worker.pid)], capture_output=True)
            for pid in listed.stdout.split() if loopback.has_nannies else [worker.pid]:
                os.kill(int(pid), signal.SIGKILL)


def test_one_whose_workers_die_too_often_fails_and_the_others_go_on(tmp_path):
    desk = Desk(tmp_path, takes=1, frames=LONG)
    events = []
    with Loopback(tmp_path / "cluster", 1) as loopback:

        def kill():
            wait_until(lambda: written(tmp_path), "a worker to be in the middle of a file")
            kill_workers(loopback)
            loopback.add()

        thread = threading.Thread(target=kill)
        thread.start()
        workers = cluster.workers(loopback.address, retries=0)
        summary = run(desk.jobs(), journal=desk.journal, workers=workers, on_event=events.append)
        thread.join()
    assert figures(summary) == (1, 0, 1)
    assert str(summary.failed[0].error) == f"{desk.takes[0]}: its worker died, 1 time"
    assert [Path(name).suffix for name in desk.files()] == [".wav"]
    assert figures(run(desk.jobs(), journal=desk.journal)) == (1, 1, 0)
    assert renders(desk.journal) == [1, 1]


def test_what_a_dead_worker_left_is_in_nobodys_way(two, desk, monkeypatch):
    expected, of = rendered_here(desk), Draft.of

    def with_leftovers(target, *, overwrite=False):
        draft = of(target, overwrite=overwrite)
        for attempt in draft.attempts[:2]:
            attempt.temporary.parent.mkdir(exist_ok=True)
            attempt.temporary.write_bytes(b"half")
        return draft

    monkeypatch.setattr(Draft, "of", with_leftovers)
    assert figures(run(desk.jobs(), journal=desk.journal, workers=cluster.workers(two.address))) == (8, 0, 0)
    assert desk.files() == expected


def test_an_interrupt_ends_what_workers_are_at(two, tmp_path):
    desk = Desk(tmp_path, takes=3, frames=LONG)
    events = []

    def on_event(event):
        events.append(event)
        if isinstance(event, Done) and not any(isinstance(e, Done) for e in events[:-1]):
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()

    workers = cluster.workers(two.address)
    with pytest.raises(KeyboardInterrupt):
        run(desk.jobs(), journal=desk.journal, workers=workers, on_event=on_event)
    assert isinstance(events[-1], Interrupted)
    done = events[-1].summary.done
    assert 1 <= done < 6
    assert len(desk.files()) == done
    assert all(name.endswith(".wav") for name in desk.files())
    assert figures(run(desk.jobs(), journal=desk.journal, workers=workers)) == (6 - done, done, 0)
    assert renders(desk.journal) == [1] * 6


def test_a_client_that_is_killed(two, tmp_path):
    """Workers see that nobody waits any more, and the next run goes on where it was."""
    desk = Desk(tmp_path, takes=3, frames=LONG)
    jobs = tmp_path / "jobs"
    jobs.write_bytes(pickle.dumps(desk.jobs()))
    code = (
        "import pickle, sys\nfrom backline.batch import cluster, run\n"
        "with open(sys.argv[1], 'rb') as file: jobs = pickle.load(file)\n"
        "run(jobs, journal=sys.argv[2], workers=cluster.workers(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, str(jobs), str(desk.journal), two.address]
    with subprocess.Popen(command) as client:
        wait_until(lambda: written(desk.out), "a worker to be in the middle of a file")
        client.kill()
    workers = cluster.workers(two.address)
    summary = run(desk.jobs(), journal=desk.journal, workers=workers)
    assert summary.is_complete
    assert desk.files() == rendered_here(desk)
    assert renders(desk.journal) == [1] * 6


def test_a_scheduler_that_goes_away(tmp_path):
    desk = Desk(tmp_path, takes=3, frames=LONG)
    events = []

    def on_event(event):
        events.append(event)
        if isinstance(event, Done) and loopback.scheduler.poll() is None:
            loopback.scheduler.kill()

    with Loopback(tmp_path / "cluster") as loopback:
        workers = cluster.workers(loopback.address)
        summary = run(desk.jobs(), journal=desk.journal, workers=workers, on_event=on_event)
    assert summary.stopped == f"{loopback.address}: the scheduler is gone; what was finished is kept"
    assert len([event for event in events if isinstance(event, Stopped)]) == 1
    assert summary.done >= 1
    assert (summary.left, summary.failed) == (6 - summary.done, [])
    again = run(desk.jobs(), journal=desk.journal)
    assert (again.done, again.skipped) == (6 - summary.done, summary.done)
    assert desk.files() == rendered_here(desk)
    assert renders(desk.journal) == [1] * 6


def test_nobody_answers(desk):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        for wrong in (address, "nothing://there:1", "tcp://host.invalid:1"):
            with pytest.raises(BacklineError, match=f"^{wrong}: no Dask scheduler answers there") as caught:
                run(desk.jobs(), workers=cluster.workers(wrong))
            assert "\n" not in str(caught.value)
    for wrong in ("nonsense", "tcp://nowhere", "127.0.0.1:8786"):
        with pytest.raises(BacklineError, match=f"^{wrong}: expected a scheduler's address such as tcp://"):
            cluster.workers(wrong)
    assert not desk.out.exists()


def test_the_command_line_hands_jobs_over(cli, two, desk):
    arguments = ["render", "--matrix", *desk.models, *desk.takes, "-o", f"{desk.out}/", "--tail", "0"]
    status, out, err = cli(*arguments, "--scheduler", two.address, "--retries", "1")
    assert status == 0
    assert len(out.splitlines()) == 8
    assert err.splitlines()[-1].startswith("backline: 8 of 8 rendered, 0.8 s of audio")
    assert desk.files() == rendered_here(desk)
    assert cli(*arguments)[2] == "backline: 0 of 8 rendered, 8 up to date\n"


def test_a_scheduler_without_workers(tmp_path, desk, monkeypatch):
    monkeypatch.setattr(cluster, "_WORKER_SECONDS", 0.2)
    refused = pytest.raises(BacklineError, match=r"^tcp://127\.0\.0\.1:\d+: the scheduler has no workers$")
    with Loopback(tmp_path / "cluster", 0) as loopback, refused:
        run(desk.jobs(), workers=cluster.workers(loopback.address))


@pytest.mark.parametrize("joins", ["before", "later"])
def test_another_version_is_refused(tmp_path, desk, joins):
    old = tmp_path / "old.py"
    old.write_text("import backline\nbackline.__version__ = '0.0.1'\n")
    with Loopback(tmp_path / "cluster", 0) as loopback:
        if joins == "before":
            loopback.add("--preload", str(old))
            with pytest.raises(
                BacklineError, match=r"^tcp://.*: has Backline 0\.0\.1 .* results would differ"
            ):
                run(desk.jobs(), workers=cluster.workers(loopback.address))
            return
        first = loopback.add()

        def workers(*given):
            made = cluster.workers(loopback.address)(*given)
            first.terminate()
            first.wait()
            loopback.add("--preload", str(old))
            return made

        summary = run(desk.jobs(), workers=workers)
    assert figures(summary) == (0, 0, 8)
    assert all("results would differ" in str(failed.error) for failed in summary.failed)


def test_what_can_be_asked_for(monkeypatch):
    with pytest.raises(BacklineError, match="retries is -1, expected 0 or more"):
        cluster.workers("tcp://127.0.0.1:1", retries=-1)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependency, match=r'pip install "backline\[cluster\]"'):
        cluster.workers("tcp://127.0.0.1:1")
