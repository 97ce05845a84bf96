"""Interrupts while a session closes: nothing is freed under a running device, no recording is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import backline
from backline import audiofile
from backline.live.monitor import Monitor
from backline.live.recorder import Recorder
from backline.live.session import LiveSession
from backline.live.supervisor import Supervisor
from backline.pluck import pluck
from backline.signals import deferred


@pytest.fixture
def take(tmp_path):
    x = pluck(220.0, 0.3, 48000)
    with audiofile.AudioWriter(tmp_path / "take.wav", 48000, 1) as writer:
        writer.write(x)
    return tmp_path / "take.wav"


def session(take, **options) -> LiveSession:
    return LiveSession(backline.load("overdrive"), device="clock", take=take, **options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_the_recording_is_finished_waits(take, tmp_path, monkeypatch, number):
    finish = Recorder.finish

    def interrupted(self, total_frames):
        os.kill(os.getpid(), number)
        finish(self, total_frames)

    class Heard(Exception):
        pass

    def hear(*_):
        raise Heard

    monkeypatch.setattr(Recorder, "finish", interrupted)
    before = signal.signal(number, hear)
    try:
        with pytest.raises(Heard), session(take, to=tmp_path / "to.wav") as live:
            live.run()
    finally:
        signal.signal(number, before)
    x, _ = audiofile.read(take)
    np.testing.assert_array_equal(audiofile.read(tmp_path / "to.wav")[0], backline.load("overdrive")(x))


def test_signals_wait_in_order_and_the_handlers_come_back():
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            assert heard == []
        assert heard == [signal.SIGINT]
        os.kill(os.getpid(), signal.SIGINT)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_recording_and_a_take_need_two_files(take, tmp_path):
    path = tmp_path / "same.wav"
    with pytest.raises(backline.AudioFileError, match="two names"), session(take, record=path, to=path):
        pass
    assert not path.exists()


@pytest.mark.parametrize("place", [(Supervisor, "start"), (Supervisor, "stop")], ids=["start", "stop"])
def test_an_interrupt_beside_the_device_waits(take, tmp_path, monkeypatch, place):
    owner, name = place
    whole = getattr(owner, name)
    called: list[str] = []

    def interrupted(self, *arguments):
        first = not called
        called.append(name)
        if first:
            os.kill(os.getpid(), signal.SIGINT)
        whole(self, *arguments)
        if first:
            os.kill(os.getpid(), signal.SIGINT)

    live = session(take, to=tmp_path / "to.wav")
    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt), live:
        live.run()
    assert live.status().state == "ended"
    written = audiofile.read(tmp_path / "to.wav")[0] if name == "stop" else np.zeros((0, 1), np.float32)
    x, _ = audiofile.read(take)
    np.testing.assert_array_equal(written, backline.load("overdrive")(x)[: len(written)])
    assert len(written) == (len(x) if name == "stop" else 0)


def test_an_error_counts_before_the_signals_that_waited():
    def fail():
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError("the error")

    with pytest.raises(ValueError, match="the error"):
        fail()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_ignored_stays_ignored_and_other_threads_have_no_signals():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with deferred():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    def elsewhere():
        with deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    seen = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_the_third_signal_does_not_wait():
    code = """
import os, signal
from backline.signals import deferred
with deferred():
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("where", ["the capture", "a file"])
def test_any_error_of_the_recorder_ends_the_session(take, tmp_path, monkeypatch, where):
    """Not only those that a file system makes: a thread's own would go unseen."""

    def fail(*_):
        raise RuntimeError(f"{where} is broken")

    broken = (Monitor, "read_capture") if where == "the capture" else (audiofile.AudioWriter, "write")
    monkeypatch.setattr(*broken, fail)
    live = session(take, record=tmp_path / "record.wav")
    with pytest.raises(RuntimeError, match="is broken"), live:
        live.run(seconds=60.0)
    assert live.status().state == "ended"
    assert not list(tmp_path.glob(".backline*"))
