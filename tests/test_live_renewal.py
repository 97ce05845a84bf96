"""Models that change while they play: swaps, files written anew, sizes, and models that do not fit."""

from __future__ import annotations

import gc
import os
import signal
import socket
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from live_tools import (
    RATE_HZ,
    ThreadLink,
    backline,
    finish,
    from_file,
    gain,
    wait_for,
    write_gain,
    write_take,
)

import backline as library
from backline import calibration
from backline.audiofile import read
from backline.calibration import Calibration
from backline.engine import Engine, Model, Program
from backline.errors import BacklineError
from backline.graph import Graph
from backline.layers import Conv1d, Conv2d
from backline.live.session import LiveSession
from backline.live.slot import LiveModel

# ---- swaps ----


def test_a_swap_is_a_straight_line_from_one_model_to_the_other(ones: Path, tmp_path: Path) -> None:
    with LiveSession(
        [gain(0.5), gain(0.1)], device="clock", take=ones, record=tmp_path / "out.wav"
    ) as session:
        session.run(0.1)
        session.play(1)
        wait_for("the swap", lambda: not session.status().swapping)
        assert session.status().playing == 1
    y = read(tmp_path / "out.wav")[0][:, 0]
    start = int(np.flatnonzero(y < 0.5)[0]) - 1
    ramp = np.clip((np.arange(len(y)) - start) / 960, 0.0, 1.0)
    np.testing.assert_allclose(y, 0.5 - 0.4 * ramp, atol=1e-6)


def test_the_latest_of_many_wins(ones: Path, tmp_path: Path) -> None:
    models = [gain(0.1 * number) for number in range(1, 9)]
    with LiveSession(models, device="clock", take=ones, record=tmp_path / "out.wav") as session:
        for index in range(8):
            session.play(index)
        session.play(5)
        wait_for("the swap", lambda: not session.status().swapping)
    assert read(tmp_path / "out.wav")[0][-1, 0] == pytest.approx(0.6)


def test_indexes_wrap_around_and_knobs_are_each_models_own(ones: Path) -> None:
    with LiveSession([gain(0.5), gain(0.1)], device="clock", take=ones) as session:
        session.play(-1)
        assert session.status().playing == 1
        session.set_levels(output_gain_db=-6.0)
        session.play(2)
        status = session.status()
        assert (status.playing, status.models[0].output_gain_db, status.models[1].output_gain_db) == (
            0,
            0.0,
            -6.0,
        )


def test_a_model_of_other_channels_cannot_be_played_and_says_why() -> None:
    wide = library.conv1d(np.ones((2, 2, 1), np.float32))
    with LiveSession([gain(0.5), wide], device="clock") as session:
        with pytest.raises(BacklineError, match="takes 2 and gives 2 channels; this session has 1 going in"):
            session.play(1)
        assert session.status().playing == 0
        assert "takes 2" in str(session.status().models[1].problem)


def test_a_stereo_model_takes_the_place_of_two_mono_ones(tmp_path: Path) -> None:
    take = write_take(tmp_path / "ones.wav", np.ones((60 * RATE_HZ, 2), np.float32))
    models = [gain(0.5), library.conv1d(np.array([[[0.1], [0.1]], [[0.2], [0.2]]], np.float32))]
    with LiveSession(models, device="clock", take=take, record=tmp_path / "out.wav") as session:
        session.play(1)
        wait_for("the swap", lambda: not session.status().swapping)
    np.testing.assert_allclose(read(tmp_path / "out.wav")[0][-1], [0.2, 0.4], rtol=1e-6)


def test_a_model_of_another_rate_swaps_in_resampled_and_in_time(ones: Path, golden: Path) -> None:
    other = library.load(golden / "nam" / "models" / "wavenet.nam")
    resampled = LiveSession([gain(0.5), other], device="clock", take=ones, rate_hz=44100)
    with resampled as session:
        session.play(1)
        wait_for("the swap", lambda: not session.status().swapping)
        assert session.status().models[1].latency_ms == pytest.approx(1e3 * 80 / 44100)
    assert any("resampled from and to 44100 Hz: 1.8 ms later" in note for note in session.notes)


def test_knobs_of_a_model_that_is_not_compiled_yet_are_not_turned_on_the_one_that_plays(
    ones: Path, tmp_path: Path
) -> None:
    """What is in front of all models is."""
    with LiveSession(
        [gain(0.5), gain(0.1)], device="clock", take=ones, record=tmp_path / "out.wav"
    ) as session:
        supervisor, number = session._running, session.shelf.slots[1].number
        wait_for("both models", lambda: number in supervisor._compiled)
        supervisor._compiled.discard(number)
        session.play(1)
        session.set_levels(input_gain_db=-6.0, output_gain_db=-20.0)
        session.run((session.status().stats.frames + RATE_HZ // 4) / RATE_HZ)
        supervisor._compiled.add(number)
        session.play(1)
        wait_for("the swap", lambda: session.status().stats.swaps == 1)
    y, quieter = read(tmp_path / "out.wav")[0][:, 0], 10 ** (-6 / 20)
    assert np.min(np.abs(y - 0.5 * quieter)) < 1e-6
    assert y[-1] == pytest.approx(0.01 * quieter, rel=1e-6)


def test_knobs_are_heard_while_a_new_version_is_compiled(ones: Path, tmp_path: Path) -> None:
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)
    model = from_file(path)
    with LiveSession(model, device="clock", take=ones, record=tmp_path / "out.wav") as session:
        with session._running.lock:  # as --watch does it, before a worker has answered
            session.shelf.replace(0, gain(0.25), 1.0)
            session.set_levels(output_gain_db=-20.0)
        session.run((session.status().stats.frames + RATE_HZ // 4) / RATE_HZ)
    assert read(tmp_path / "out.wav")[0][-1, 0] == pytest.approx(0.05, rel=1e-6)


def test_a_model_without_bypass_that_takes_the_place_of_a_bypassed_one_says_so(tmp_path: Path) -> None:
    """Its two rows going out are one channel of two features, which no bypass is made for."""
    take = write_take(tmp_path / "ones.wav", np.ones((60 * RATE_HZ, 2), np.float32))
    mixed = Graph((Conv1d("mix", "x", np.full((1, 2, 1), 0.1, np.float32)),), "x", 2, "mix")
    spread = Conv2d("spread", "mix", np.ones((1, 1, 1, 1), np.float32), feature_padding=(0, 1))
    model = Model(replace(mixed, nodes=(*mixed.nodes, spread), output="spread"))
    with LiveSession(
        [gain(0.5, 2), model],
        device="clock",
        take=take,
        bypass=True,
        limiter=False,
        record=tmp_path / "out.wav",
    ) as session:
        assert session.status().bypass
        session.run(0.1)
        session.play(1)
        wait_for("the swap", lambda: session.status().stats.swaps == 1)
        assert not session.status().bypass
        session.run((session.status().stats.frames + RATE_HZ // 4) / RATE_HZ)
        session.play(0)
        wait_for("the swap", lambda: session.status().stats.swaps == 2)
        assert session.status().bypass
    y = read(tmp_path / "out.wav")[0]
    assert y[0].tolist() == y[-1].tolist() == [1.0, 1.0]
    assert np.min(np.abs(y - np.float32([0.2, 0.0])).sum(axis=1)) < 1e-6
    assert sum("has no bypass: it is heard" in note for note in session.notes) == 1


# ---- files ----


def test_a_file_that_changes_is_heard(ones: Path, tmp_path: Path) -> None:
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)
    model = from_file(path)
    with LiveSession(model, device="clock", take=ones, watch=True, record=tmp_path / "out.wav") as session:
        session.run(0.1)
        for factor, times in ((0.25, 1), (0.75, 2)):
            write_gain(path, factor)
            wait_for("the new version", lambda times=times: session.status().stats.swaps == times)  # type: ignore[misc]
        assert session.status().models[0].problem is None
    y = read(tmp_path / "out.wav")[0][:, 0]
    assert (y[0], y[-1]) == (0.5, 0.75)
    assert 0.25 in y
    assert np.max(np.abs(np.diff(y))) <= 0.5 / 960 + 1e-6


def test_a_new_version_plays_at_its_own_calibration(ones: Path, tmp_path: Path) -> None:
    """20 dB louder by what its file says, and so played 20 dB softer; the next cannot be calibrated."""
    path = tmp_path / "amp.backline"

    def write(**metadata: float) -> None:
        graph = replace(gain(0.5).graph, metadata=metadata)
        library.save(graph, path.with_suffix(".part"), overwrite=True)
        path.with_suffix(".part").replace(path)

    def calibrate(model: Model) -> Calibration:
        return calibration.calibrate(model.metadata, 12.0)

    target = calibration.TARGET_LOUDNESS_DB
    write(loudness=target)
    model = LiveModel(library.load(path), path, partial(library.load, path), calibrate=calibrate)
    with LiveSession(model, device="clock", take=ones, watch=True, record=tmp_path / "out.wav") as session:
        write(loudness=target + 20.0)
        wait_for("the new version", lambda: session.status().stats.swaps == 1)
        write()
        wait_for("the refusal", lambda: session.status().models[0].problem is not None)
        write(input_level_dbu=-100.0)
        wait_for("the refusal", lambda: "-200 to 60 dB" in str(session.status().models[0].problem))
    y = read(tmp_path / "out.wav")[0][:, 0]
    assert (y[0], y[-1]) == (0.5, pytest.approx(0.05))
    assert any("output -20.0 dB" in note for note in session.notes)
    assert any("nor loudness" in note and "goes on as it was" in note for note in session.notes)


def test_a_broken_file_leaves_the_old_sound_and_says_why(ones: Path, tmp_path: Path) -> None:
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)
    model = from_file(path)
    with LiveSession(model, device="clock", take=ones, watch=True, record=tmp_path / "out.wav") as session:
        path.write_bytes(b"half of a mod")
        wait_for("the refusal", lambda: session.status().models[0].problem is not None)
        assert "amp.backline" in str(session.status().models[0].problem)
        write_gain(path, 0.25)
        wait_for("the new version", lambda: session.status().stats.swaps == 1)
        assert session.status().models[0].problem is None
    assert any("goes on as it was" in note for note in session.notes)
    assert set(read(tmp_path / "out.wav")[0][:100, 0]) == {0.5}


def test_a_broken_file_is_no_obstacle_after_its_device_has_been_away(ones: Path, tmp_path: Path) -> None:
    """What a new worker compiles is the model as it was, and why it is no newer still shows."""
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)
    model = from_file(path)
    with LiveSession([gain(0.1), model], device="clock", take=ones, watch=True) as session:
        wait_for("both models", lambda: session.shelf.slots[1].load is not None)
        path.write_bytes(b"half of a mod")
        wait_for("the refusal", lambda: session.status().models[1].problem is not None)
        link = session._running._link
        assert link is not None
        os.kill(link.process.pid, signal.SIGKILL)
        wait_for("another worker", lambda: session.status().reopened == 1)
        session.play(1)
        wait_for("the swap", lambda: not session.status().swapping)
        assert "amp.backline" in str(session.status().models[1].problem)


def test_a_file_that_has_gone_is_told_and_forgotten_when_it_is_back(ones: Path, tmp_path: Path) -> None:
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)
    model = from_file(path)
    with LiveSession(model, device="clock", take=ones, watch=True) as session:
        session.run(0.1)
        path.rename(tmp_path / "elsewhere")
        wait_for("the loss", lambda: session.status().models[0].problem is not None)
        assert session.status().models[0].problem == f"{path}: has gone"
        (tmp_path / "elsewhere").rename(path)
        wait_for("the file", lambda: session.status().models[0].problem is None)
        path.unlink()
        wait_for("the loss", lambda: session.status().models[0].problem is not None)
        write_gain(path, 0.25)
        wait_for("the new version", lambda: session.status().stats.swaps == 1)
        assert session.status().models[0].problem is None
    assert [note for note in session.notes if "has gone" in note] == [
        f"{model.model.name} goes on as it was: {path}: has gone"
    ] * 2


def test_watch_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)
    live = backline("live", path, "--device", "clock", "--watch", "--plain", "--seconds", 4)
    assert live.stdout is not None
    live.stdout.readline()
    write_gain(path, 0.25)
    status, _, err = finish(live)
    assert status == 0, err
    assert "loaded again" in err


def test_a_file_on_which_a_reader_stumbles_leaves_the_old_sound(ones: Path, tmp_path: Path) -> None:
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)

    def stumble(**_: object) -> Model:
        raise KeyError("weights")

    with LiveSession(
        LiveModel(library.load(path), path, stumble), device="clock", take=ones, watch=True
    ) as session:
        write_gain(path, 0.25)
        wait_for("the refusal", lambda: session.status().models[0].problem is not None)
        session.run((session.status().stats.frames + RATE_HZ // 2) / RATE_HZ)
        assert session.status().models[0].problem == f"{path}: unexpected KeyError: 'weights'"


@pytest.mark.usefixtures("worker_in_thread")
def test_a_worker_keeps_no_version_that_is_not_played_any_more(ones: Path, tmp_path: Path) -> None:
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)
    model = from_file(path)
    seen: weakref.WeakSet[Program] = weakref.WeakSet()
    with LiveSession(model, device="clock", take=ones, watch=True) as session:
        link = session._running._link
        assert isinstance(link, ThreadLink)
        programs = link.worker._programs
        wait_for("the first version", lambda: session.status().stats.frames > 0)
        seen.update(program for program, _ in programs.values())
        for times in range(1, 5):
            write_gain(path, 0.1 * times)
            wait_for("the new version", partial(lambda times: session.status().stats.swaps == times, times))
            seen.update(program for program, _ in programs.values())
        del programs

        def kept() -> int:
            gc.collect()
            return len(seen)

        wait_for("those before to be forgotten", lambda: kept() == 1)


@pytest.mark.usefixtures("worker_in_thread")
def test_a_version_that_a_worker_refuses_leaves_the_one_before_also_for_the_next_worker(
    ones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)
    model = from_file(path)

    def compiled(graph: Graph) -> Program:
        (weights,) = (node.weight for node in graph.nodes if isinstance(node, Conv1d))
        if weights.item() == 0.25:
            raise MemoryError("it does not fit")
        return Program(graph)

    monkeypatch.setattr("backline.live.worker.Program", compiled)
    with LiveSession(model, device="clock", take=ones, watch=True, record=tmp_path / "out.wav") as session:
        write_gain(path, 0.25)
        wait_for("the refusal", lambda: session.status().models[0].problem is not None)
        assert session.status().models[0].problem == "it does not fit"
        assert not session.status().swapping
        link = session._running._link
        assert isinstance(link, ThreadLink)
        link.worker._pipe._socket.shutdown(socket.SHUT_RDWR)
        wait_for("another worker", lambda: session.status().reopened == 1)
        write_gain(path, 0.125)
        wait_for("the new version", lambda: session.status().stats.swaps == 1)
        assert session.status().models[0].problem is None
    y = read(tmp_path / "out.wav")[0][:, 0]
    assert (y[0], y[-1]) == (0.5, 0.125)
    assert sum("goes on as it was: it does not fit" in note for note in session.notes) == 1


@pytest.fixture
def no_engine_for(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of models with these factors no worker can make an engine."""
    refused: list[float] = []

    def engine(program: Program, streams: int) -> Engine:
        (weights,) = (node.weight for node in program.graph.nodes if isinstance(node, Conv1d))
        if weights.item() in refused:
            raise MemoryError
        return Engine(program, streams)

    monkeypatch.setattr("backline.live.worker.Engine", engine)
    return refused


@pytest.mark.usefixtures("worker_in_thread")
def test_a_model_that_does_not_get_in_leaves_the_one_that_plays(
    ones: Path, tmp_path: Path, no_engine_for: list[float]
) -> None:
    no_engine_for.append(0.25)
    models = [gain(0.5), gain(0.25)]
    with LiveSession(models, device="clock", take=ones, record=tmp_path / "out.wav") as session:
        wait_for("both models", lambda: session.shelf.slots[1].load is not None)
        session.play(1)
        wait_for("the refusal", lambda: session.status().models[1].problem == "not enough memory")
        assert (session.status().playing, session.status().swapping) == (0, False)
        session.set_levels(output_gain_db=-20.0)
        session.run((session.status().stats.frames + RATE_HZ // 4) / RATE_HZ)
        no_engine_for.clear()
        session.play(1)
        wait_for("the swap", lambda: session.status().stats.swaps == 1)
        status = session.status()
        assert (status.playing, status.swapping, status.models[1].problem) == (1, False, None)
    y = read(tmp_path / "out.wav")[0][:, 0]
    assert np.min(np.abs(y - 0.05)) < 1e-6
    assert y[-1] == 0.25
    assert sum("cannot be played: not enough memory" in note for note in session.notes) == 1


@pytest.mark.usefixtures("worker_in_thread")
def test_a_version_that_does_not_get_in_leaves_the_one_before(
    ones: Path, tmp_path: Path, no_engine_for: list[float]
) -> None:
    path = tmp_path / "amp.backline"
    write_gain(path, 0.5)
    no_engine_for.append(0.25)
    model = from_file(path)
    with LiveSession(model, device="clock", take=ones, watch=True, record=tmp_path / "out.wav") as session:
        write_gain(path, 0.25)
        wait_for("the refusal", lambda: session.status().models[0].problem is not None)
        assert not session.status().swapping
        session.set_levels(output_gain_db=-20.0)
        session.run((session.status().stats.frames + RATE_HZ // 4) / RATE_HZ)
        write_gain(path, 0.125)
        wait_for("the new version", lambda: session.status().stats.swaps == 1)
        status = session.status()
        assert (status.swapping, status.models[0].problem) == (False, None)
    y = read(tmp_path / "out.wav")[0][:, 0]
    assert np.min(np.abs(y - 0.05)) < 1e-6
    assert y[-1] == pytest.approx(0.0125)
    assert sum("goes on as it was: not enough memory" in note for note in session.notes) == 1
