"""What supervisor and worker say to each other, and processes that do not answer."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import numpy as np
import pytest

import backline
from backline.errors import BacklineError, DeviceError, MissingDependency, ModelError
from backline.formats import backline_file
from backline.live.devices import CLOCK_DEVICE, Device
from backline.live.link import Link, error_of
from backline.live.messages import (
    Closed,
    Compile,
    Compiled,
    Entrance,
    Failed,
    Forget,
    Message,
    Open,
    Opened,
    Pipe,
    Play,
    Refused,
    Start,
    Started,
    Stop,
    Stopped,
    Turn,
)

TURN = Turn(9, "knob", 0.5)
CARD = Device(3, "Scarlett 2i2", "ALSA", 2, 2, 44100.0, (1.0, 2.0), None, True, False)
WISH = Open("clock", 3, (48000.0, 44100.0), False, 64, "low", (1, 2), None, 1, 1, None)
ENTRANCE = Entrance(7, 9, {"drive": 0.5, "input gain": 1.0}, 4, 100, 960, True)
EVERY: list[Message] = [
    WISH,
    Opened(None, CLOCK_DEVICE, 48000.0, 2, (0, None), (1, None, 0), 2, ("a note",)),
    Opened(CARD, CARD, 44100.0, 1, (0,), (0,), 1),
    Compile(7, 2, 64, 48000.0, bytes(range(256)) * 5000),
    Compiled(7, 0.25),
    Refused(7, "it is \u2028 not\n a model"),
    Start(ENTRANCE, (2, 2), 0, 960, 4800, True),
    Started(1.5, None, "SCHED_FIFO 60", "all"),
    Play(ENTRANCE),
    Turn(9, "knob", -0.0),
    Forget(7),
    Stop(),
    Stopped(None),
    Failed("DeviceError", "gone"),
]


def both() -> tuple[Pipe, Pipe]:
    here, there = Pipe.pair()
    return here, Pipe(there)


@pytest.mark.parametrize("message", EVERY, ids=lambda each: type(each).__name__)
def test_a_message_arrives_as_it_was(message: Message) -> None:
    here, there = both()
    sender = threading.Thread(target=here.send, args=(message,))
    sender.start()
    got = there.receive(5.0)
    sender.join()
    assert got == (message, [])


def test_messages_keep_their_order_and_their_descriptors() -> None:
    here, there = both()
    read, write = os.pipe()
    here.send(Turn(1, "a", 0.5))
    here.send(Play(ENTRANCE), [read, write])
    here.send(Stop())
    assert there.receive(1.0) == (Turn(1, "a", 0.5), [])
    got = there.receive(1.0)
    assert got is not None
    os.write(got[1][1], b"through")
    assert os.read(read, 10) == b"through"
    assert there.receive(1.0) == (Stop(), [])
    for descriptor in (read, write, *got[1]):
        os.close(descriptor)


def test_nothing_there_is_none_and_a_closed_end_says_so() -> None:
    here, there = both()
    assert there.receive(0.0) is None
    here.close()
    with pytest.raises(Closed):
        there.receive(1.0)
    with pytest.raises(Closed):
        there.send(Compile(1, 1, 64, 48000.0, bytes(1 << 22)))


@pytest.mark.parametrize("kind", [DeviceError, ModelError, MissingDependency, BacklineError])
def test_an_error_of_the_worker_is_the_same_here(kind: type[BacklineError]) -> None:
    assert type(error_of(Failed(kind.__name__, "text"))) is kind


# ---- a real process ----


@pytest.fixture
def link() -> Any:
    made = Link()
    yield made
    made.kill()


def test_a_worker_opens_compiles_and_refuses(link: Link) -> None:
    link.send(Open("clock", "clock", (), False, 0, "low", None, None, 1, 1, None))
    opened = link.wait(Opened, 20.0, "opening")
    assert (opened.sink, opened.rate_hz, opened.input_map) == (CLOCK_DEVICE, 48000.0, (0,))
    model = backline.conv1d(np.ones((1, 1, 1), np.float32))
    link.send(Compile(1, 1, 64, 48000.0, backline_file.encode(model.graph)))
    compiled = link.wait(Compiled, 20.0, "compiling")
    assert compiled.number == 1
    assert compiled.load > 0.0
    link.send(Compile(2, 1, 64, 48000.0, b"no model"))
    assert "no" in link.wait(Refused, 20.0, "compiling").why
    link.stop()
    assert link.process.returncode == 0


def test_what_cannot_be_opened_is_raised_here(link: Link) -> None:
    link.send(Open("clock", "clock", (), False, 0, "low", (1, 1), None, 1, 1, None))
    with pytest.raises(BacklineError, match="expected different input channels"):
        link.wait(Opened, 20.0, "opening")
    link.send(Open("clock", "clock", (48000.5,), False, 0, "low", None, None, 1, 1, None))
    with pytest.raises(BacklineError, match=r"found a rate of 48000\.5 Hz"):
        link.wait(Opened, 20.0, "opening")


def test_a_worker_that_does_not_answer_is_not_waited_for(link: Link) -> None:
    with pytest.raises(DeviceError, match=r"thinking: no answer for 0.2 s"):
        link.wait(Opened, 0.2, "thinking")


def test_a_worker_that_was_killed_says_so(link: Link) -> None:
    link.process.kill()
    with pytest.raises(DeviceError, match="was killed by signal 9"):
        link.wait(Opened, 20.0, "opening")


def test_a_worker_that_crashes_leaves_its_last_words(link: Link) -> None:
    link.send(Play(ENTRANCE))  # before anything is open: no answer, no harm
    link.send(Turn(1, "x", 0.0))
    link.pipe._socket.sendall(b"\x05\x00\x00\x00\x00\x00\x00\x00!!!!!")
    with pytest.raises(DeviceError, match=r"ended with status 1 .*JSON"):
        link.wait(Opened, 20.0, "opening")


def test_killing_twice_is_fine_and_the_pipe_ends_the_worker() -> None:
    link = Link()
    link.pipe.close()
    deadline = time.monotonic() + 20.0
    while link.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert link.process.returncode == 0
    link.kill()
    link.kill()


# ---- a reader that takes nothing ----


def fill(pipe: Pipe, seen: list[str], message: Message = TURN) -> None:
    try:
        while True:
            pipe.send(message)
    except Closed:
        seen.append("closed")


def read_all(pipe: Pipe) -> None:
    while pipe.receive(1.0) is not None:
        pass


@pytest.mark.parametrize(
    "message", [TURN, Compile(1, 1, 64, 48000.0, bytes(1 << 22))], ids=["small", "large"]
)
def test_a_reader_that_takes_nothing_is_not_waited_for_for_ever(message: Message) -> None:
    here, there = both()
    here.set_patience(0.1)
    seen: list[str] = []
    fill(here, seen, message)
    assert seen == ["closed"]
    # Half a message may be in it, so the whole pipe is over, on both sides.
    with pytest.raises(Closed):
        here.send(Stop())
    with pytest.raises(Closed):
        here.receive(0.0)
    with pytest.raises(Closed):
        read_all(there)


def test_hanging_up_frees_who_waits_in_a_full_pipe() -> None:
    here, _there = both()
    seen: list[str] = []
    thread = threading.Thread(target=fill, args=(here, seen), daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    here.hang_up()
    thread.join(30.0)
    assert seen == ["closed"]
