"""Sizes that are chosen by what they take, and models that do not fit into the time there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from live_tools import RATE_HZ, from_file, gain, wait_for, write_model

from backline.audiofile import read
from backline.engine import Model, Program
from backline.graph import Graph
from backline.layers import Conv1d, Delay
from backline.live import fitting, headroom
from backline.live.monitor import Monitor
from backline.live.session import LiveSession
from backline.live.slot import LiveModel
from backline.live.status import HostStats


@pytest.fixture
def two_sizes(golden: Path, monkeypatch: pytest.MonkeyPatch) -> LiveModel:
    """The A2, whose full size is made to seem too much and whose lite one to fit; calm comes soon."""
    measured = iter([0.1, 0.7])  # of the lite and of the full one
    monkeypatch.setattr(headroom, "_CALM_SECONDS", 0.5)
    monkeypatch.setattr(fitting, "measure", lambda *_: headroom.Load(next(measured), 0.0))
    return from_file(golden / "nam" / "models" / "A2.nam")


def let_the_larger_fit(session: LiveSession) -> None:
    """As if the other core had come back."""
    assert session._renewal is not None
    governed = session._renewal._governed[0]
    assert governed is not None
    governed.governor._loads[1] = 0.5


def test_a_size_is_chosen_by_what_it_takes(two_sizes: LiveModel) -> None:
    """The full A2 is made to seem too much, then little: the lite one plays first, the full after a calm."""
    with LiveSession(two_sizes, device="clock", auto_quality=True) as session:
        weights = [session.shelf.current.model.graph.parameter_count]
        let_the_larger_fit(session)
        wait_for("the larger size", lambda: session.status().stats.swaps == 1)
        weights.append(session.shelf.current.model.graph.parameter_count)
    assert weights[0] < weights[1]
    assert any("quality 1" in note for note in session.notes)


def test_one_size_is_said(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.json")
    model = from_file(path)
    with LiveSession(model, device="clock", auto_quality=True) as session:
        session.run(0.3)
    assert any("comes in one size" in note for note in session.notes)


@pytest.mark.parametrize("auto_quality", [False, True])
def test_a_model_that_does_not_fit_is_warned_of_before_it_plays(auto_quality: bool) -> None:
    """256 by 256 channels at 768 kHz, 450 thousand million multiply-adds a second: no core does that."""
    shapes = {"in": (256, 1), "middle": (256, 256), "out": (1, 256)}
    nodes, before = [], "x"
    for name, (outputs, inputs) in shapes.items():
        nodes.append(Conv1d(name, before, np.full((outputs, inputs, 9), 1e-3, np.float32)))
        before = name
    model = Model(Graph(tuple(nodes), "x", 1, "out", sample_rate_hz=768000.0))
    with LiveSession(model, device="clock", block_frames=64, auto_quality=auto_quality) as session:
        session.run(0.01)
    (note,) = (note for note in session.notes if "does not fit into the time there is" in note)
    assert "of each block of 64 frames" in note
    assert "what would fit: the model overdrive" in note or "faster core" in note


@pytest.mark.usefixtures("worker_in_thread")
def test_a_block_that_is_not_known_before_is_assumed_and_said(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on ALSA; the clock's own is known and is not assumed."""
    path = golden / "nam" / "models" / "A2.nam"
    model = from_file(path)
    monkeypatch.setattr("backline.live.session.warning", lambda shelf, slot, block: f"too much of {block}")
    assumed = "blocks of 64 frames are assumed, as the device's own are not known yet"
    with LiveSession(model, device="clock", auto_quality=True) as session:
        pass
    assert "too much of 64" in session.notes
    assert not [note for note in session.notes if "assumed" in note]
    monkeypatch.setattr("backline.live.opening.CLOCK_BLOCK_FRAMES", 0)
    with LiveSession(model, device="clock", auto_quality=True) as session:
        pass
    assert f"too much of 64; {assumed}" in session.notes
    assert f"choosing a size: {assumed}" in session.notes


def test_models_that_do_not_fit_side_by_side_are_faded_out_and_in(
    ones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backline.live.supervisor._MOST_LOAD", 0.0)
    with LiveSession([gain(0.5), gain(0.1)], device="clock", take=ones, record=tmp_path / "x.wav") as session:
        session.run(0.1)
        session.play(1)
        wait_for("the swap", lambda: session.status().stats.swaps == 1)
        session.run((session.status().stats.frames + RATE_HZ // 2) / RATE_HZ)
    y = read(tmp_path / "x.wav")[0][:, 0]
    assert (y[0], y.min(), y[-1]) == (0.5, 0.0, np.float32(0.1))
    assert np.max(np.abs(np.diff(y))) <= 0.5 / 960 + 1e-6
    assert any("does not fit beside the one that plays" in note for note in session.notes)


def test_a_third_model_is_measured_against_the_second_alone(
    ones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While both run, what callbacks take is no model's own; here the second is still on its way."""
    stats = Monitor.stats
    with LiveSession([gain(0.5), gain(0.1), gain(0.2)], device="clock", take=ones) as session:
        supervisor = session._running

        def on_its_way(monitor: Monitor) -> HostStats:
            both = supervisor._serial > 1
            return replace(stats(monitor), playing_serial=1, load_recent=0.9 if both else 0.1)

        monkeypatch.setattr(Monitor, "stats", on_its_way)
        session.play(1)
        wait_for("the second model", lambda: supervisor._serial == 2)
        wait_for("a reading", lambda: supervisor._meters.last.load_recent == 0.9)
        session.play(2)
        wait_for("the third model", lambda: supervisor._serial == 3)
    assert not [note for note in session.notes if "does not fit beside" in note]


def test_a_model_is_measured_against_what_the_one_before_is_seen_to_take(
    ones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = Monitor.stats
    monkeypatch.setattr(Monitor, "stats", lambda monitor: replace(stats(monitor), load_recent=0.9))
    with LiveSession([gain(0.5), gain(0.1)], device="clock", take=ones) as session:
        wait_for("a steady load", lambda: session._running._seen == (1, 0.9))
        session.play(1)
        wait_for("the swap", lambda: session.status().stats.swaps == 1)
    assert any("does not fit beside the one that plays (9" in note for note in session.notes)


def test_a_crossfade_that_the_audio_thread_gave_up_is_said(
    ones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = Monitor.stats
    monkeypatch.setattr(Monitor, "stats", lambda monitor: replace(stats(monitor), relieved=1))
    with LiveSession(gain(0.5), device="clock", take=ones) as session:
        wait_for("a sentence", lambda: "faded out and in, not crossfaded" in " ".join(session.messages()))
        session.run((session.status().stats.frames + RATE_HZ // 4) / RATE_HZ)
    assert sum("not crossfaded" in note for note in session.notes) == 1


def test_a_model_far_behind_the_one_that_plays_is_not_crossfaded(ones: Path) -> None:
    graph = gain(0.5).graph
    late = Graph(
        (*graph.nodes, Delay("late", graph.output, 9000)), graph.input, 1, "late", latency_frames=9000
    )
    with LiveSession([gain(0.5), Model(late)], device="clock", take=ones) as session:
        session.play(1)
        wait_for("the swap", lambda: session.status().stats.swaps == 1)
    assert any("9000 frames away from the one that plays" in note for note in session.notes)


def test_a_broken_file_is_no_end_where_sizes_are_chosen(ones: Path, tmp_path: Path, golden: Path) -> None:
    """The sizes of what plays are known until a newer version has been taken."""
    path = tmp_path / "amp.nam"
    path.write_bytes((golden / "nam" / "models" / "A2.nam").read_bytes())
    model = from_file(path)
    with LiveSession(model, device="clock", take=ones, watch=True, auto_quality=True) as session:
        path.write_bytes(b"half of a mod")
        wait_for("the refusal", lambda: session.status().models[0].problem is not None)
        session.run((session.status().stats.frames + RATE_HZ) / RATE_HZ)
    assert any("goes on as it was" in note for note in session.notes)


def test_sizes_that_cannot_be_looked_at_leave_what_plays_as_it_is(
    ones: Path, tmp_path: Path, golden: Path
) -> None:
    path = tmp_path / "amp.nam"
    path.write_bytes((golden / "nam" / "models" / "A2.nam").read_bytes())
    model = from_file(path)
    with LiveSession([gain(0.5), model], device="clock", take=ones, auto_quality=True) as session:
        path.unlink()
        session.play(1)
        wait_for("the note", lambda: any("stays at the size it has" in note for note in session.notes))
        session.run((session.status().stats.frames + RATE_HZ // 2) / RATE_HZ)
        assert session.status().playing == 1


@pytest.mark.usefixtures("worker_in_thread")
def test_a_size_that_a_worker_refuses_is_told_once(
    two_sizes: LiveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LiveSession(two_sizes, device="clock", auto_quality=True) as session:
        lite = session.shelf.current
        wait_for("the lite one", lambda: session.status().stats.frames > 0)

        def refused(graph: Graph) -> Program:
            raise MemoryError("it does not fit")

        monkeypatch.setattr("backline.live.worker.Program", refused)
        let_the_larger_fit(session)
        wait_for("the refusal", lambda: session.status().models[0].problem is not None)
        session.run((session.status().stats.frames + 2 * RATE_HZ) / RATE_HZ)
        assert session.shelf.current is lite
    assert sum("goes on as it was" in note for note in session.notes) == 1
