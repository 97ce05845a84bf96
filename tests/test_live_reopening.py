"""Devices that go and come back: servers that die, are held up, or start anew, and workers that are killed.

The session goes on with the same models, knobs and levels, and no recording is cut short or lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jack_server import NoServer, Server, jack_server
from live_tools import PATIENCE_SECONDS, RATE_HZ, noise, wait_for, write_model, write_take

import backline
from backline.audiofile import read
from backline.live.link import Link
from backline.live.messages import Compile, Message, Open, Start, Turn
from backline.live.session import LiveSession
from backline.passes import OUTPUT_GAIN

PERIOD = 64


def wait_until_it_plays(session: LiveSession, reopened: int) -> None:
    wait_for("the stream to come back", lambda: session.status().reopened >= reopened)
    frames = session.status().stats.frames
    wait_for("a callback", lambda: session.status().stats.frames > frames)


def kill_worker(session: LiveSession) -> None:
    link = session._running._link
    assert link is not None
    os.kill(link.process.pid, signal.SIGKILL)


@contextlib.contextmanager
def a_server(period: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    pytest.importorskip("jack", exc_type=ImportError, reason="the JACK-Client package is not installed")
    if shutil.which("jackd") is None:
        pytest.skip("jackd is not installed")
    try:
        with jack_server(RATE_HZ, period) as started:
            monkeypatch.setenv("JACK_DEFAULT_SERVER", started.name)
            yield started
    except NoServer as error:
        pytest.skip(str(error))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with a_server(PERIOD, monkeypatch) as started:
        yield started


@pytest.fixture
def model(tmp_path: Path) -> backline.Model:
    return backline.load(write_model(tmp_path / "model.json"))


# ---- servers ----


def test_a_server_that_is_killed_and_restarted_brings_the_stream_back(
    server: Server, model: backline.Model, tmp_path: Path
) -> None:
    record = tmp_path / "record.wav"
    with LiveSession(model, device="system", record=record) as session:
        session.set_levels(input_gain_db=-3.0, output_gain_db=2.0)
        for time_around in (1, 2):
            session.run((session.status().stats.frames + RATE_HZ // 4) / RATE_HZ)
            server.kill()
            wait_for("the loss to be seen", lambda: session.status().state == "waiting")
            assert session.status().trouble
            server.restart()
            wait_until_it_plays(session, time_around)
        status = session.status()
        assert (status.state, status.trouble, status.sink) == (
            "playing",
            None,
            "0 system (JACK Audio Connection Kit)",
        )
        assert (status.input_gain_db, status.models[0].output_gain_db) == (-3.0, 2.0)
    assert sum("is back" in note for note in session.notes) == 2
    assert sum("waiting for 0 system" in note for note in session.notes) == 2
    assert len(read(record)[0]) == session.summary()["frames"] > RATE_HZ // 2


def test_a_server_that_is_held_up_is_left_and_found_again(
    server: Server, model: backline.Model, tmp_path: Path
) -> None:
    """PortAudio hangs with it, so the worker is killed; the new one waits until the server goes on."""
    with LiveSession(model, device="system", record=tmp_path / "record.wav") as session:
        session.run(0.1)
        server.process.send_signal(signal.SIGSTOP)
        try:
            wait_for("the loss to be seen", lambda: session.status().state == "waiting")
            assert any("has asked for no audio" in note for note in session.notes)
        finally:
            server.process.send_signal(signal.SIGCONT)
        wait_until_it_plays(session, 1)
    assert len(read(tmp_path / "record.wav")[0]) == session.summary()["frames"]


def test_a_session_that_waits_ends_at_once_and_keeps_its_recording(
    server: Server, model: backline.Model, tmp_path: Path
) -> None:
    with LiveSession(model, device="system", record=tmp_path / "record.wav") as session:
        session.run(0.1)
        server.kill()
        wait_for("the loss to be seen", lambda: session.status().state == "waiting")
        frames = session.status().stats.frames
    assert len(read(tmp_path / "record.wav")[0]) == frames == session.summary()["frames"]


def test_loads_are_measured_at_the_servers_own_period(
    model: backline.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Compile] = []
    send = Link.send

    def keep(link: Link, message: Message, descriptors: Sequence[int] = ()) -> None:
        if isinstance(message, Compile):
            sent.append(message)
        send(link, message, descriptors)

    monkeypatch.setattr(Link, "send", keep)
    with a_server(1024, monkeypatch), LiveSession(model, device="system") as session:
        assert session.status().block_frames == 1024
    assert [message.block_frames for message in sent] == [1024]


def test_a_server_that_comes_back_with_another_period_has_that_block(
    server: Server, model: backline.Model
) -> None:
    with LiveSession(model, device="system") as session:
        session.run(0.5)
        assert session.status().block_frames == PERIOD
        server.kill()
        wait_for("the loss to be seen", lambda: session.status().state == "waiting")
        server.driver = [*server.driver[:-1], str(4 * PERIOD)]
        server.restart()
        wait_until_it_plays(session, 1)
        session.run(session.status().seconds + 0.5)
        # Counted between two looks, of which each may be a block early or late.
        assert session.status().block_frames == pytest.approx(4 * PERIOD, rel=0.05)


# ---- workers ----


def test_a_session_that_waits_for_a_worker_that_hangs_ends(
    model: backline.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that has asked PortAudio for a device of a server that is held up."""
    monkeypatch.setattr("backline.live.supervisor._REOPEN_SECONDS", 3600.0)
    session = LiveSession(model, device="clock")
    with session:
        running = session._running
        wait_for("a spare", lambda: running._spare is not None)
        spare = running._spare
        assert spare is not None
        os.kill(spare.process.pid, signal.SIGSTOP)
        kill_worker(session)
        wait_for("the spare's turn", lambda: running._opening is spare)
        trouble = session.status().trouble
        closing = threading.Thread(target=session.close, daemon=True)
        closing.start()
        closing.join(PATIENCE_SECONDS)
        ended = not closing.is_alive()
        if not ended:
            spare.process.kill()
    assert ended
    assert spare.process.returncode is not None
    assert running._spare is None
    assert session.status().trouble == trouble


def test_a_worker_that_is_killed_is_replaced_and_the_take_goes_on(
    model: backline.Model, tmp_path: Path
) -> None:
    """The take goes on at the frame it had come to, and every frame of it has been recorded."""
    x = noise(2 * RATE_HZ)
    take, to, record = (tmp_path / name for name in ("take.wav", "to.wav", "record.wav"))
    write_take(take, x)
    with LiveSession(model, device="clock", take=take, to=to, record=record) as session:
        for time_around in (1, 2):
            session.run(0.4 * time_around)
            kill_worker(session)
            wait_until_it_plays(session, time_around)
        session.run()
    y, expected = read(to)[0], model(x)
    assert y.shape == expected.shape
    # A new worker begins at zero, fades in, and its model has forgotten what came before.
    reach = model.receptive_field_frames
    assert reach is not None
    wrong = np.flatnonzero((y != expected).any(axis=1))
    assert 0 < len(wrong) <= 2 * (reach + round(0.02 * RATE_HZ))
    np.testing.assert_array_equal(read(record)[0][: len(y)], y)


def test_knobs_levels_and_the_model_that_played_survive(tmp_path: Path) -> None:
    half = backline.conv1d(np.full((1, 1, 1), 0.5, np.float32))
    tenth = backline.conv1d(np.full((1, 1, 1), 0.1, np.float32))
    take, to = write_take(tmp_path / "ones.wav", np.ones((3 * RATE_HZ, 1), np.float32)), tmp_path / "to.wav"
    with LiveSession([half, tenth], device="clock", take=take, to=to) as session:
        session.play(1)
        session.set_levels(input_gain_db=-6.0)
        wait_for("the swap", lambda: not session.status().swapping)
        kill_worker(session)
        wait_until_it_plays(session, 1)
        session.run()
    assert read(to)[0][-1, 0] == pytest.approx(0.1 * 10 ** (-6 / 20), rel=1e-6)


def test_a_worker_that_dies_again_and_again_is_replaced_each_time(model: backline.Model) -> None:
    with LiveSession(model, device="clock") as session:
        for time_around in range(1, 6):
            kill_worker(session)
            wait_until_it_plays(session, time_around)
    assert session.summary()["reopened"] == 5


def test_no_process_outlives_a_session(model: backline.Model) -> None:
    with LiveSession(model, device="clock") as session:
        session.run(1.5)  # long enough for a spare
        running = session._running
        links = [running._link, running._spare]
        assert all(link is not None for link in links)
    assert all(link.process.returncode is not None for link in links if link is not None)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_a_worker_ends_with_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, backline, time\n"
        "from backline.live.session import LiveSession\n"
        "with LiveSession(backline.load('overdrive'), device='clock') as session:\n"
        "    print(session._running._link.process.pid, flush=True)\n"
        "    time.sleep(60)"
    )
    import subprocess
    import sys

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        worker = int(supervisor.stdout.readline())
        supervisor.kill()

    def gone() -> bool:
        try:
            return Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_for("the worker to end", gone)


def test_a_worker_that_does_not_read_any_more_is_replaced_whoever_waits_to_send(
    model: backline.Model,
) -> None:
    """A knob is turned until the pipe to the worker is full and the turn waits, with the lock held."""
    with LiveSession(model, device="clock") as session:
        supervisor = session._running
        link = supervisor._link
        assert link is not None
        os.kill(link.process.pid, signal.SIGSTOP)

        def turn() -> None:
            number = 0
            while supervisor.reopened == 0:
                session.set_levels(input_gain_db=-float(number % 7))
                number += 1
            session.set_levels(input_gain_db=-5.0)

        turning = threading.Thread(target=turn, daemon=True)
        turning.start()
        wait_for("another worker", lambda: supervisor.reopened == 1)  # not `status`: that takes the lock
        turning.join()
        assert session.status().state == "playing"
        assert session.status().input_gain_db == -5.0


def test_a_worker_that_stops_reading_as_it_starts_to_play_is_replaced(
    model: backline.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor has the other models to send then, more than the pipe holds."""
    large = backline.conv1d(np.ones((1, 1, 1 << 20), np.float32))
    monkeypatch.setattr("backline.live.link._SEND_SECONDS", 1)
    with LiveSession([model, large], device="clock") as session:
        supervisor = session._running
        begin = supervisor._begin_playing
        hung: list[Link] = []

        def begin_hung(link: Link) -> None:
            if not hung:
                hung.append(link)
                os.kill(link.process.pid, signal.SIGSTOP)
            begin(link)

        wait_for("the other model", lambda: session.shelf.slots[1].load is not None)
        monkeypatch.setattr(supervisor, "_begin_playing", begin_hung)
        kill_worker(session)
        wait_for("a third worker", lambda: bool(hung) and supervisor._link not in (None, *hung))
        wait_until_it_plays(session, 1)


@pytest.mark.parametrize("where", ["_REOPEN_SECONDS", "_COMPILE_SECONDS"])
def test_a_session_that_ends_waits_for_no_worker_that_does_not_answer(
    model: backline.Model, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(f"backline.live.supervisor.{where}", 3600.0)
    session = LiveSession(model, device="clock")
    with session:
        supervisor, send = session._running, Link.send
        hung: list[Link] = []

        def send_and_hang(link: Link, message: Message, descriptors: Sequence[int] = ()) -> None:
            if isinstance(message, Open if where == "_REOPEN_SECONDS" else Compile):
                os.kill(link.process.pid, signal.SIGSTOP)
                hung.append(link)
            send(link, message, descriptors)

        monkeypatch.setattr(Link, "send", send_and_hang)
        kill_worker(session)
        wait_for("a worker that hangs", lambda: bool(hung))
        closing = threading.Thread(target=session.close, daemon=True)
        closing.start()
        closing.join(PATIENCE_SECONDS)
        assert not closing.is_alive()
    assert supervisor.failure is None
    assert all(link.process.returncode is not None for link in hung)


def test_a_session_that_ends_does_not_wait_for_who_sends_to_a_worker_that_hangs(
    model: backline.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backline.live.supervisor._GONE_SECONDS", 3600.0)  # nobody else ends the worker
    with LiveSession(model, device="clock") as session:
        link = session._running._link
        assert link is not None
        os.kill(link.process.pid, signal.SIGSTOP)
        turns = 0

        def turn() -> None:
            nonlocal turns
            with contextlib.suppress(backline.BacklineError):
                while True:
                    session.set_levels(input_gain_db=-3.0)
                    turns += 1

        turning = threading.Thread(target=turn, daemon=True)
        turning.start()
        seen = -1
        while seen != turns:  # the pipe is full
            seen = turns
            time.sleep(0.3)
        closing = threading.Thread(target=session.close, daemon=True)
        closing.start()
        closing.join(PATIENCE_SECONDS)
        assert not closing.is_alive()
    turning.join()


def test_a_spare_worker_that_cannot_be_started_costs_nothing(
    model: backline.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def refuse(*_: object, **__: object) -> None:
        tried.set()
        raise OSError(errno.EAGAIN, "no more processes")

    with LiveSession(model, device="clock") as session:
        monkeypatch.setattr("backline.live.link.subprocess.Popen", refuse)
        assert tried.wait(PATIENCE_SECONDS)
        session.run((session.status().stats.frames + RATE_HZ // 4) / RATE_HZ)
        assert (session.status().state, session.status().reopened) == ("playing", 0)


def test_a_model_that_is_chosen_while_a_device_comes_back_keeps_its_knobs_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = backline.conv1d(np.full((1, 1, 1), 0.5, np.float32))
    tenth = backline.conv1d(np.full((1, 1, 1), 0.1, np.float32))
    sent: list[Message] = []
    with LiveSession([half, tenth], device="clock") as session:
        session.play(1)
        session.set_levels(output_gain_db=-20.0)
        session.play(0)
        wait_for("the swap", lambda: not session.status().swapping)
        supervisor, start, send = session._running, session._running._start, Link.send

        def start_and_choose(*arguments: Any) -> Any:
            started = start(*arguments)
            session.play(1)
            return started

        def keep(link: Link, message: Message, descriptors: Sequence[int] = ()) -> None:
            sent.append(message)
            send(link, message, descriptors)

        monkeypatch.setattr(supervisor, "_start", start_and_choose)
        monkeypatch.setattr(Link, "send", keep)
        kill_worker(session)
        wait_until_it_plays(session, 1)
        wait_for("the swap", lambda: not session.status().swapping)
    (started,) = [each for each in sent if isinstance(each, Start)]
    gains = [
        each.value
        for each in sent
        if isinstance(each, Turn) and each.serial == started.first.serial and each.knob == OUTPUT_GAIN
    ]
    assert gains == [1.0]
