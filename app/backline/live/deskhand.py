"""Asks a desk how it goes, and does to it what a screen was asked for, in threads of its own.

A desk may take its time, when a model is being compiled or a worker process replaced; keys and pictures do
not wait for it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..errors import BacklineError
from .status import Desk, LiveStatus
from .tuner import Pitch, Tuner

#: How often a desk is asked, and how seldom a pitch is looked for.
POLL_SECONDS = 0.05
_PITCH_SECONDS = 0.1
#: How long a thread is waited for that may hang in its desk.
_LEAVE_SECONDS = 1.0


#: What an order is of: its kind, for a model's own the model's index, and a knob's name.
What = tuple[str, int, str]


@dataclass(frozen=True)
class Look:
    """One look at a desk.

    Attributes
    ----------
    at_seconds : float
        On `DeskHand`'s clock.
    status : LiveStatus
    done : int
        How many orders had been carried out before.
    """

    at_seconds: float
    status: LiveStatus
    done: int


@dataclass(frozen=True)
class Message:
    """A sentence that a user should see.

    Attributes
    ----------
    seconds : float
        Of the session's audio, when it came.
    text : str
    failed : bool
        Whether it says that something could not be done.
    """

    seconds: float
    text: str
    failed: bool = False


class DeskHand:
    """Looks at a desk and takes orders for it.

    Parameters
    ----------
    desk : Desk
    a4_hz : float, optional
        What its tuner takes for the A above middle C. Default 440.
    """

    def __init__(self, desk: Desk, *, a4_hz: float = 440.0) -> None:
        self.desk = desk
        self.tuning = True
        #: What is sounding; None is silence, or a tuner that is off.
        self.pitch: Pitch | None = None
        #: What went wrong and was not foreseen; ends the screen.
        self.broken: BaseException | None = None
        self._a4_hz = a4_hz
        self._tuner: Tuner | None = None
        self._pitch_at = 0.0
        self._looks: deque[Look] = deque(maxlen=1000)
        self._messages: deque[Message] = deque(maxlen=1000)
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._asked = self._done = 0
        self._seconds = 0.0
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
            for work, name in ((self._look, "backline looks"), (self._obey, "backline obeys"))
        ]

    def clock(self) -> float:
        """Seconds, as looks are stamped with."""
        return time.monotonic()

    def start(self) -> None:
        """Begin to look and to obey."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Carry out what has been ordered and end; what hangs is left behind."""
        self._stopping.set()
        self._orders.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_LEAVE_SECONDS)

    def order(self, what: Callable[[], object]) -> int:
        """Have something done to the desk, after all before it; returns its number."""
        self._asked += 1
        self._orders.put(what)
        return self._asked

    def looks(self) -> list[Look]:
        """What has been seen since the last call, in order."""
        return [self._looks.popleft() for _ in range(len(self._looks))]

    def messages(self) -> list[Message]:
        """Sentences since the last call."""
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # raised again where the screen was called
            self.broken = error

    def _complain(self, text: str) -> None:
        self._messages.append(Message(self._seconds, text, failed=True))

    def _look(self) -> None:
        said = ""
        while not self._stopping.is_set():
            done = self._done
            try:
                status = self.desk.status()
                self._looks.append(Look(self.clock(), status, done))
                self._seconds = status.seconds
                self._messages += [Message(status.seconds, text) for text in self.desk.messages()]
                self._listen(status)
                said = ""
            except BacklineError as error:
                # A desk that fails goes on failing: one sentence is enough.
                if str(error) != said:
                    said = str(error)
                    self._complain(said)
            self._stopping.wait(POLL_SECONDS)

    def _listen(self, status: LiveStatus) -> None:
        if not self.tuning or status.rate_hz <= 0.0:
            self._tuner = self.pitch = None
            return
        if self._tuner is None or self._tuner.rate_hz != status.rate_hz:
            self._tuner = Tuner(status.rate_hz, self._a4_hz)
        self._tuner.feed(self.desk.heard())
        if self.clock() - self._pitch_at >= _PITCH_SECONDS:
            self._pitch_at = self.clock()
            self.pitch = self._tuner.pitch()

    def _obey(self) -> None:
        while (what := self._orders.get()) is not None:
            try:
                what()
            except BacklineError as error:
                self._complain(str(error))
            finally:
                self._done += 1


def as_wanted(status: LiveStatus, orders: Mapping[What, tuple[int, float]]) -> LiveStatus:
    """A status as it will be when orders are carried out: their numbers and values by what they are of."""
    for (kind, index, name), (_, value) in orders.items():
        if kind == "playing":
            status = replace(status, playing=int(value))
        elif kind == "bypass":
            status = replace(status, bypass=bool(value))
        elif kind == "record":
            status = replace(status, recording=(status.recording or "…") if value else None)
        elif kind == "input gain":
            status = replace(status, input_gain_db=value)
        elif index < len(status.models):
            model = status.models[index]
            if kind == "level":
                model = replace(model, output_gain_db=value)
            else:
                model = replace(model, values={**model.values, name: value})
            status = replace(status, models=(*status.models[:index], model, *status.models[index + 1 :]))
    return status
