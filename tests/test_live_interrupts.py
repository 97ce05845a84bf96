"""Interrupts while a session closes: nothing is freed under a running device, no recording is lost."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import backline
from backline import audiofile
from backline.host import ClockStream
from backline.pluck import pluck
from backline.recorder import Recorder
from backline.session import LiveSession
from backline.signals import deferred


@pytest.fixture
def take(tmp_path):
    x = pluck(220.0, 0.3, 48000)
    with audiofile.AudioWriter(tmp_path / "take.wav", 48000, 1) as writer:
        writer.write(x)
    return tmp_path / "take.wav"


def session(take, **options) -> LiveSession:
    return LiveSession(backline.load("overdrive"), device="clock", take=take, **options)


def test_a_host_in_use_is_not_freed(take, monkeypatch):
    stop = ClockStream.stop

    def interrupted(self):
        raise KeyboardInterrupt

    live = session(take)
    with live:
        live.run()
        monkeypatch.setattr(ClockStream, "stop", interrupted)
        with pytest.raises(KeyboardInterrupt):
            live.close()
        assert live.stream.active
        frames = live._host.stats().frames  # raises if the host has been freed
        while live._host.stats().frames == frames:
            pass  # the clock's thread goes on calling it
        stop(live.stream)


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
