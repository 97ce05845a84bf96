"""Runs in which every task has ended before the runner looks: what depends on the order things happen in."""

from __future__ import annotations

from concurrent.futures import wait

import numpy as np
import pytest
from batch_tools import Desk, write_take

import backline
from backline.audiofile import read
from backline.batch import Job, ModelChoice, describe, run
from backline.batch import work as work_module
from backline.batch.plan import Action
from backline.batch.workers import Threads


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def figures(summary) -> tuple[int, int, int]:
    return summary.done, summary.skipped, len(summary.failed)


class OneByOne(Threads):
    """Each task has ended, well or badly, before the next one is handed over."""

    def __init__(self, *given, after=lambda task: None):
        super().__init__(*given)
        self._after = after

    def submit(self, task):
        future = super().submit(task)
        wait([future])
        self._after(task)
        return future


def test_many_that_fail_at_once_do_not_end_the_run(desk):
    """More than are handed over beforehand, all of which have failed when they are looked at."""
    model = ModelChoice(str(desk.models[0]))
    missing = [Job(model, desk.folder / f"{n}.wav", desk.out / f"missing-{n}.wav") for n in range(40)]
    summary = run([*missing, *desk.jobs()], workers=lambda *given: OneByOne(2, *given))
    assert figures(summary) == (8, 0, 40)
    for failed in summary.failed:  # nor do they hold on to what they were at
        error = failed.error
        assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


def test_many_that_are_up_to_date_at_once_do_not_end_the_run(desk):
    takes = [write_take(desk.folder / "more" / f"{n}.wav", n, 10) for n in range(20)]
    model = ModelChoice(str(desk.models[0]))
    jobs = [Job(model, take, desk.out / take.name) for take in takes]
    run(jobs, journal=desk.journal)
    summary = run(jobs, journal=desk.journal, verify=True, workers=lambda *given: OneByOne(1, *given))
    assert figures(summary) == (0, 20, 0)


def test_a_model_that_changes_before_it_is_loaded_again_has_a_key_of_its_own(desk, monkeypatch):
    """With room for one, each render loads its model again: what it notes is what it rendered with."""
    monkeypatch.setattr(work_module, "MAX_MODELS", 1)
    first, second = desk.models
    jobs = [Job(ModelChoice(str(first)), take, desk.out / take.name) for take in desk.takes[:2]]
    other = Job(ModelChoice(str(second)), desk.takes[0], desk.out / "other.wav")

    def after(task):
        if task.job is other:
            first.write_bytes(second.read_bytes())

    run(
        [jobs[0], other, jobs[1]],
        journal=desk.journal,
        workers=lambda *given: OneByOne(1, *given, after=after),
    )
    expected = backline.load(second)(read(jobs[1].source)[0][:, 0])
    assert np.array_equal(read(jobs[1].target)[0][: len(expected), 0], expected)
    assert [each.action for each in describe([jobs[1]], desk.journal)] == [Action.SKIP]
    assert [each.action for each in describe([jobs[0]], desk.journal)] == [Action.RENDER]
