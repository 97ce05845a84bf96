"""Runs of many jobs: what is rendered, skipped, refused and failed, and that it is what one render makes."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batch_tools import Desk, write_take
from plain_user import open_folder, plain_user

import backline
from backline.audiofile import read
from backline.batch import (
    Done,
    Failed,
    Interrupted,
    Job,
    Journal,
    Loaded,
    ModelChoice,
    Progress,
    RenderOptions,
    Skipped,
    Started,
    Stopped,
    describe,
    run,
)
from backline.batch import work as work_module
from backline.batch.plan import Action
from backline.errors import BacklineError, DiskFull, FileExists


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def figures(summary) -> tuple[int, int, int]:
    return summary.done, summary.skipped, len(summary.failed)


def actions(desk, **options) -> list[str]:
    return [planned.action.value for planned in describe(desk.jobs(), desk.journal, **options)]


def test_outputs_are_what_the_model_makes_of_the_takes(desk):
    events = []
    summary = run(desk.jobs(), journal=desk.journal, on_event=events.append)
    assert figures(summary) == (8, 0, 0)
    assert summary.is_complete
    assert summary.audio_s == pytest.approx(0.8)
    for job in desk.jobs():
        expected = backline.load(job.model.path)(read(job.source)[0][:, 0])
        assert np.array_equal(read(job.target)[0][:, 0], expected)
    assert len([e for e in events if isinstance(e, Loaded)]) == 2
    order = [(type(e), e.job.target) for e in events if not isinstance(e, Loaded | Progress)]
    for job in desk.jobs():
        assert [kind for kind, target in order if target == job.target] == [Started, Done]
    assert {path.name for path in desk.out.iterdir()} == {*desk.files(), desk.journal.name}
    with Journal(desk.journal) as journal:
        assert journal.report(desk.jobs()[0].target)["frames"] == 4800


def test_threads_change_nothing(desk):
    run(desk.jobs(), threads=1, journal=desk.journal)
    one = desk.files()
    run(desk.jobs(), threads=5, overwrite=True)
    assert desk.files() == one


def test_a_second_run_does_nothing_and_reads_nothing(desk, monkeypatch):
    run(desk.jobs(), journal=desk.journal)
    time.sleep(0.1)  # files changed just now are read again, see Journal.note_input
    first = run(desk.jobs(), journal=desk.journal)
    assert figures(first) == (0, 8, 0)

    def unwanted(*_):
        raise AssertionError("read again")

    monkeypatch.setattr("backline.batch.files.hash_of", unwanted)
    monkeypatch.setattr(work_module, "render_file", unwanted)
    events = []
    assert figures(run(desk.jobs(), journal=desk.journal, on_event=events.append)) == (0, 8, 0)
    assert [type(event) for event in events if not isinstance(event, Loaded)] == [Skipped] * 8
    assert actions(desk) == ["skip"] * 8


@pytest.mark.parametrize("what", ["input", "model", "setting", "version", "output"])
def test_only_what_changed_is_rendered_again(desk, what, monkeypatch):
    run(desk.jobs(), journal=desk.journal)
    before = desk.files()
    jobs, expected = desk.jobs(), 8
    if what == "input":
        write_take(desk.takes[1], seed=99, overwrite=True)
        expected = 2
    elif what == "model":
        document = json.loads(desk.models[0].read_text())
        document["weights"][-1] *= 0.5
        desk.models[0].write_text(json.dumps(document))
        expected = 4
    elif what == "setting":
        jobs = desk.jobs(RenderOptions(subtype="PCM_16"))
    elif what == "version":
        monkeypatch.setattr(backline, "__version__", "0.0.0")
    else:
        jobs[3].target.unlink()
        expected = 1
    planned = [plan.action for plan in describe(jobs, desk.journal)]
    assert planned.count(Action.RENDER) == expected
    assert figures(run(jobs, journal=desk.journal)) == (expected, 8 - expected, 0)
    changed = sum(before[name] != content for name, content in desk.files().items())
    assert changed == (0 if what in ("version", "output") else expected)
    assert figures(run(jobs, journal=desk.journal)) == (0, 8, 0)


def test_an_input_that_only_has_another_time_is_not_rendered_again(desk):
    run(desk.jobs(), journal=desk.journal)
    os.utime(desk.takes[0], (1, 1))
    os.utime(desk.jobs()[5].target, (1, 1))
    assert figures(run(desk.jobs(), journal=desk.journal)) == (0, 8, 0)


def test_where_the_model_is_found_does_not_matter(desk):
    run(desk.jobs(), journal=desk.journal)
    jobs = desk.jobs()
    for path in desk.models:
        path.rename(path.with_suffix(".moved"))
    moved = [replace(job, model=ModelChoice(str(Path(job.model.path).with_suffix(".moved")))) for job in jobs]
    assert figures(run(moved, journal=desk.journal)) == (0, 8, 0)


def test_files_the_journal_does_not_know_are_kept(desk):
    job = desk.jobs()[2]
    desk.out.mkdir()
    job.target.write_bytes(b"somebody else's")
    assert actions(desk).count("refuse") == 1
    summary = run(desk.jobs(), journal=desk.journal)
    assert figures(summary) == (7, 0, 1)
    assert isinstance(summary.failed[0].error, FileExists)
    assert job.target.read_bytes() == b"somebody else's"
    assert figures(run(desk.jobs(), journal=desk.journal, overwrite=True)) == (1, 7, 0)


def test_outputs_that_somebody_changed_are_kept_and_verifying_replaces_them(desk):
    run(desk.jobs(), journal=desk.journal)
    whole = desk.files()
    target = desk.jobs()[2].target
    target.write_bytes(target.read_bytes()[:-100])
    assert actions(desk).count("refuse") == 1
    summary = run(desk.jobs(), journal=desk.journal)
    assert figures(summary) == (0, 7, 1)
    assert "somebody changed it" in str(summary.failed[0].error)
    assert actions(desk, verify=True).count("render") == 1
    assert figures(run(desk.jobs(), journal=desk.journal, verify=True)) == (1, 7, 0)
    assert desk.files() == whole


def test_verifying_looks_into_files_whose_size_and_time_are_right(desk):
    run(desk.jobs(), journal=desk.journal)
    whole = desk.files()
    target = desk.jobs()[2].target
    found = target.stat()
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert figures(run(desk.jobs(), journal=desk.journal)) == (0, 8, 0)
    assert figures(run(desk.jobs(), journal=desk.journal, verify=True)) == (1, 7, 0)
    assert desk.files() == whole


def test_one_that_fails_does_not_stop_the_others(desk):
    desk.takes[0].write_bytes(desk.takes[0].read_bytes()[:5000])
    desk.takes[1].unlink()
    summary = run(desk.jobs(), journal=desk.journal)
    assert figures(summary) == (4, 0, 4)
    texts = sorted(str(failed.error) for failed in summary.failed)
    assert all("no such file" in text or "is cut short" in text for text in texts)
    assert {failed.job.source for failed in summary.failed} == set(desk.takes[:2])
    assert all(".part" not in name for name in desk.files())


def test_an_unreadable_input_and_a_folder_that_may_not_be_written():
    with open_folder() as folder:
        desk = Desk(folder)
        for path in folder.rglob("*"):
            path.chmod(0o755)
        desk.takes[0].chmod(0)
        desk.out.mkdir()
        desk.out.chmod(0o777)
        with plain_user():
            summary = run(desk.jobs(), journal=desk.journal)
        assert figures(summary) == (6, 0, 2)
        assert "Permission denied" in str(summary.failed[0].error)
        desk.out.chmod(0o755)
        with plain_user():
            elsewhere = [
                Job(j.model, j.source, folder / "takes" / "deep" / j.target.name) for j in desk.jobs()
            ]
            refused = run(elsewhere)
        assert len(refused.failed) == 8
        assert "cannot make this folder" in str(refused.failed[-1].error)


def test_a_model_that_cannot_be_loaded_is_read_once(desk, monkeypatch):
    loads = []
    load = work_module.load
    monkeypatch.setattr(work_module, "load", lambda choice: (loads.append(choice), load(choice))[1])
    desk.models[0].write_text("{}")
    summary = run(desk.jobs(), journal=desk.journal)
    assert figures(summary) == (4, 0, 4)
    assert len(loads) == 2
    assert {str(failed.error) for failed in summary.failed} == {str(summary.failed[0].error)}


def test_an_input_that_changes_while_it_is_read_is_a_failure(desk, monkeypatch):
    render = work_module.render_file

    def changing(model, source, *rest, **options):
        report = render(model, source, *rest, **options)
        if Path(source) == desk.takes[2]:
            with open(source, "ab") as file:
                file.write(b"more")
        return report

    monkeypatch.setattr(work_module, "render_file", changing)
    summary = run(desk.jobs()[:4], journal=desk.journal)
    assert figures(summary) == (3, 0, 1)
    assert str(summary.failed[0].error) == f"{desk.takes[2]}: changed while it was read"
    assert len(desk.files()) == 3


def test_what_nobody_expected_is_a_sentence_and_the_others_go_on(desk, monkeypatch):
    render = work_module.render_file

    def failing(model, source, *rest, **options):
        if Path(source) == desk.takes[0]:
            raise ZeroDivisionError("oh")
        if Path(source) == desk.takes[1]:
            raise MemoryError
        return render(model, source, *rest, **options)

    monkeypatch.setattr(work_module, "render_file", failing)
    summary = run(desk.jobs()[:4], threads=1, journal=desk.journal)
    assert [str(failed.error) for failed in summary.failed] == [
        f"{desk.takes[0]}: unexpected ZeroDivisionError: oh",
        f"{desk.takes[1]}: not enough memory",
    ]
    assert summary.done == 2


def test_a_dry_run_writes_nothing(desk):
    assert actions(desk) == ["render"] * 8
    assert not desk.out.exists()
    desk.takes[3].unlink()
    refused = [plan for plan in describe(desk.jobs()) if plan.action is Action.REFUSE]
    assert [plan.reason for plan in refused] == [f"{desk.takes[3]}: no such file"] * 2


def test_folders_that_stay_empty_are_removed(desk):
    for take in desk.takes:
        take.write_bytes(b"no audio")
    jobs = [Job(job.model, job.source, desk.out / "a" / "b" / job.target.name) for job in desk.jobs()]
    assert len(run(jobs).failed) == 8
    assert not desk.out.exists()


def test_an_output_that_cannot_be_read_is_named_and_stays(desk):
    run(desk.jobs(), journal=desk.journal)
    target = desk.jobs()[0].target
    target.unlink()
    target.mkdir()
    expected = f"{target}: cannot be read: Is a directory"
    assert [str(each.error) for each in describe(desk.jobs(), desk.journal) if each.error] == [expected]
    assert [str(each.error) for each in run(desk.jobs(), journal=desk.journal).failed] == [expected]
    assert target.is_dir()


def test_tasks_and_results_can_be_sent_elsewhere(desk):
    """A worker that only takes what has been through pickle, as one in another process would."""

    class Elsewhere:
        slots = 2

        def __init__(self, *_):
            self.pool = ThreadPoolExecutor(2)
            self.models = work_module.ModelCache()

        def submit(self, task):
            sent = pickle.dumps(task)
            return self.pool.submit(
                lambda: pickle.loads(pickle.dumps(work_module.perform(pickle.loads(sent), self.models)))
            )

        def stop(self):
            pass

        def close(self):
            self.pool.shutdown()

    run(desk.jobs(), journal=desk.journal)
    here = desk.files()
    for job in desk.jobs():
        job.target.unlink()
    assert figures(run(desk.jobs(), journal=desk.journal, workers=Elsewhere)) == (8, 0, 0)
    assert desk.files() == here


def test_two_runs_on_one_folder(desk):
    desk.out.mkdir()
    with Journal(desk.journal):
        code = (
            "import sys; from backline.batch import Journal\n"
            "try: Journal(sys.argv[1])\n"
            "except Exception as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code, desk.journal], capture_output=True, text=True)
        assert f"{desk.out}: process {os.getpid()} on " in done.stdout
        assert "is at work in this folder" in done.stdout
        with pytest.raises(BacklineError, match="is at work in this folder"):
            run(desk.jobs(), journal=desk.journal)
    assert figures(run(desk.jobs(), journal=desk.journal)) == (8, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_done_and_removes_what_is_open(tmp_path, number):
    desk = Desk(tmp_path, takes=3, frames=48000 * 20)
    events = []
    first = desk.jobs()[0]
    before = signal.signal(number, signal.default_int_handler)

    def on_event(event):
        events.append(event)
        if isinstance(event, Done) and event.job == first:
            threading.Timer(0.02, os.kill, (os.getpid(), number)).start()

    try:
        with pytest.raises(KeyboardInterrupt):
            run(desk.jobs(), threads=1, journal=desk.journal, on_event=on_event)
    finally:
        signal.signal(number, before)
    assert isinstance(events[-1], Interrupted)
    summary = events[-1].summary
    assert 1 <= summary.done < 6
    assert summary.left == 6 - summary.done
    assert len(desk.files()) == summary.done
    assert all(name.endswith(".wav") for name in desk.files())
    assert figures(run(desk.jobs(), journal=desk.journal)) == (6 - summary.done, summary.done, 0)
    with Journal(desk.journal) as journal:
        assert journal.renders() == [1] * 6


def test_a_listener_that_fails_ends_the_run_cleanly(desk):
    def on_event(event):
        if isinstance(event, Done):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(desk.jobs(), threads=1, journal=desk.journal, on_event=on_event)
    assert all(name.endswith(".wav") for name in desk.files())
    done = len(desk.files())
    assert done >= 1
    assert figures(run(desk.jobs(), journal=desk.journal)) == (8 - done, done, 0)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"no right to mount a tmpfs: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_full_disk_is_said_once_and_nothing_is_lost(tmp_path, small_disk, threads):
    desk = Desk(tmp_path, takes=20, frames=12000)  # 40 outputs of 48 kB
    desk.out = small_disk / "out"
    desk.journal = desk.out / desk.journal.name
    events = []
    summary = run(desk.jobs(), threads=threads, journal=desk.journal, on_event=events.append)
    assert "the disk is full" in summary.stopped or "No space left" in summary.stopped
    assert len([event for event in events if isinstance(event, Stopped)]) == 1
    assert 5 <= summary.done <= 21
    assert summary.left > 0
    assert all(isinstance(f.error, DiskFull) or "cannot be written" in str(f.error) for f in summary.failed)
    assert len(desk.files()) == summary.done
    assert all(name.endswith(".wav") for name in desk.files())
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    again = run(desk.jobs(), threads=threads, journal=desk.journal)
    assert (again.skipped, again.done) == (summary.done, 40 - summary.done)
    with Journal(desk.journal) as journal:
        assert max(journal.renders()) == 1


def test_a_disk_without_room_for_the_journal(tmp_path, small_disk):
    desk = Desk(tmp_path)
    (small_disk / "fill").write_bytes(bytes((1 << 20) - 8192))
    with pytest.raises(DiskFull, match="the disk is full"):
        run(desk.jobs(), journal=small_disk / "j.sqlite")
    (small_disk / "fill").unlink()
    assert figures(run(desk.jobs(), journal=small_disk / "j.sqlite")) == (8, 0, 0)


@pytest.mark.parametrize("commits", range(1, 6))
def test_a_journal_that_finds_the_disk_full_loses_nothing_it_named(desk, monkeypatch, commits):
    """The n-th commit and the one after find no room: what could not be noted is not there either."""
    left = [commits, 2]
    execute = Journal._execute

    def full(self, statement, values=()):
        if statement == "COMMIT":
            left[0] -= 1
            if left[0] < 0 and left[1] > 0:
                left[1] -= 1
                raise sqlite3.OperationalError("database or disk is full")
        return execute(self, statement, values)

    monkeypatch.setattr(Journal, "_execute", full)
    try:
        summary = run(desk.jobs(), threads=1, journal=desk.journal)
    except DiskFull:
        summary = None  # while the journal was made, or at once
    monkeypatch.undo()
    if summary is not None:
        assert not [name for name in desk.files() if name.endswith(".part")]
        assert len(desk.files()) == summary.done
    again = run(desk.jobs(), journal=desk.journal)
    assert again.is_complete
    assert summary is None or again.skipped == summary.done
    assert len(desk.files()) == 8


def test_failures_hold_on_to_nothing(desk):
    desk.takes[0].unlink()
    summary = run(desk.jobs(), journal=desk.journal)
    assert all(isinstance(f, Failed) and f.error.__traceback__ is None for f in summary.failed)
