"""What keeps a worker at work: it opens the device, hands models over, and begins again when it has gone."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import BacklineError, DeviceError
from ..native import lib
from ..passes import BYPASS
from .devices import Device
from .forensics import Collector
from .headroom import MEASURED_BLOCK_FRAMES
from .link import Link
from .messages import (
    Compiled,
    Failed,
    Forget,
    Message,
    Open,
    Opened,
    Play,
    Refused,
    Start,
    Started,
    Stopped,
    Turn,
)
from .meters import Meters
from .monitor import Monitor
from .opening import same_again
from .shelf import Shelf
from .slot import FADE_SECONDS, Sent, Slot, streams_for
from .status import HostStats, State

_POLL_SECONDS = 0.02
_OPEN_SECONDS = 12.0  # a sound server that is starting takes its time
_COMPILE_SECONDS = 60.0
_RETRY_SECONDS = 0.3
_REOPEN_SECONDS = 6.0
_SPARE_SECONDS = 1.0
_COLLECT_SECONDS = 0.5  # the log holds some seconds of callbacks
_GONE_SECONDS = 1.0
_LEAVE_SECONDS = 2.0
_PATIENCE_BLOCKS = 4  # at least so many blocks, where they are longer than that
_CALM_SECONDS = 0.1
_MOST_LOAD = 0.85
_STEADY_READINGS = 2
_SENT_KEPT = 20


@dataclass(frozen=True)
class Running:
    """What is known of the device that runs, or ran last."""

    opened: Opened
    started: Started


class Supervisor:
    """A worker, and the thread that looks after it.

    Parameters
    ----------
    wish : Open
        What to open.
    shelf : Shelf
        The models; touched with `lock` held only.
    limiter : bool
    say : callable
        Given sentences a user should see.
    check : callable
        Given the first model once it has been measured, before the device is opened.

    Attributes
    ----------
    lock : threading.RLock
    state : {"starting", "playing", "waiting", "ended"}
    trouble : str or None
        Why it is waiting.
    reopened : int
        Times the device came back.
    failure : Exception or None
        What ended the thread before its time.
    xruns : forensics.Collector
    """

    def __init__(
        self,
        wish: Open,
        shelf: Shelf,
        limiter: bool,
        say: Callable[[str], None],
        check: Callable[[Slot], None],
    ) -> None:
        self.lock = threading.RLock()
        self.state: State = "starting"
        self.trouble: str | None = None
        self.reopened = 0
        self.failure: Exception | None = None
        self.running: Running | None = None
        self.xruns = Collector()
        self._wish = wish
        self._shelf = shelf
        self._limiter = limiter
        self._say = say
        self._check = check
        self._own_block = 0  # of the device, where it was known before it was opened
        self._link: Link | None = None
        self._opening: Link | None = None  # by the thread, to be ended if the session is
        self._spare: Link | None = None
        self._spare_at = 0.0
        self._serials = itertools.count(1)
        self._sent = [Sent(0, 0, 0, 0.0)]  # since the worker began; the last is what plays, or is about to
        self._seen = (0, 0.0)  # serial of what was seen to run by itself, and its load then
        self._steady = (0, 0)  # serial that played, and in how many readings on end
        self._compiled: set[int] = set()
        self._moved = (-1, 0.0)  # frames, and when they were seen to change
        self._before = (0, 0)  # frames and callbacks, when the device was opened
        self._seen_block = 0
        self._retry_at = 0.0
        self._xruns_seen, self._collect_at = 0, 0.0
        self._relieved = 0  # swaps that were said to be so
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    # -- opening --

    def open(self) -> Opened:
        """Find the devices for the first time.

        Raises
        ------
        BacklineError
            They are not there, or cannot do what is wished for.
        """
        link = self._link = Link()
        link.send(self._wish)
        opened: Opened = link.wait(Opened, _OPEN_SECONDS, "looking for the devices")
        self._own_block = opened.block_frames
        return opened

    def start(self, opened: Opened, monitor: Monitor, meters: Meters, take: tuple[int, int] | None) -> None:
        """Begin to play what has been opened, and to look after it; `take` is a descriptor and frames.

        Raises
        ------
        BacklineError
            The device does not start, or the model cannot be played.
        """
        assert self._link is not None
        self._monitor, self._meters, self._take = monitor, meters, take
        self.running = Running(opened, self._start(self._link, opened))
        self._begin_playing(self._link)
        self._wish = same_again(self._wish, opened)
        self._thread = threading.Thread(target=self._run, name="backline-supervisor", daemon=True)
        self._thread.start()

    def _start(self, link: Link, opened: Opened) -> Started:
        """Let a worker compile the model that is wanted, and play it."""
        with self.lock:
            slot = self._shelf.current
            link.send(self._compile_message(slot))
        answer = link.wait((Compiled, Refused), _COMPILE_SECONDS, f"{slot.model.name}: getting ready")
        if isinstance(answer, Refused):
            with self.lock:
                self._shelf.put_back(slot, answer.why)  # for the next try
            raise BacklineError(f"{slot.model.name}: {answer.why}")
        with self.lock:
            slot.load, slot.older, slot.problem = answer.load, None, None
            self._compiled = {slot.number}
            self._sent = [self._next(slot)]
            first = slot.entrance(self._serial, self._shelf.levels, opened.rate_hz)
        again = self.state != "starting"
        if not again:
            self._check(slot)
        message = Start(
            first,
            self._shelf.rows,
            0 if self._take is None else self._take[1],
            fade_in_frames=round(FADE_SECONDS * opened.rate_hz) if again else 0,
            calm_frames=round(_CALM_SECONDS * opened.rate_hz),
            limiter=self._limiter,
        )
        descriptors = [self._monitor.descriptor] + ([] if self._take is None else [self._take[0]])
        link.send(message, descriptors)
        started: Started = link.wait(Started, _OPEN_SECONDS, f"{opened.sink}: starting")
        return started

    def _compile_message(self, slot: Slot) -> Message:
        streams = streams_for(slot.model, self._shelf.rows)
        block = self.block_frames or MEASURED_BLOCK_FRAMES
        return slot.compile_message(streams, block, self._shelf.rate_hz)

    def _begin_playing(self, link: Link) -> None:
        with self.lock:
            self._link = link
            self.state, self.trouble = "playing", None
            stats = self._meters.poll()
            self._moved, self._before = (-1, time.monotonic()), (stats.frames, stats.callbacks)
            self._spare_at = time.monotonic() + _SPARE_SECONDS
            for slot in self._shelf.slots:
                if slot.number not in self._compiled and slot.problem is None:
                    link.send(self._compile_message(slot))
            started = self._shelf.find(self._played)  # None if a newer version has taken its place meanwhile
            if started is not None:  # what was turned while it started
                self._turn({**started.level_values(self._shelf.levels), **started.values})

    @property
    def block_frames(self) -> int:
        """Of the device: what it was asked for, is seen to take, or says it will; 0 where none is known."""
        if self._wish.block_frames:
            return self._wish.block_frames
        if self.running:
            stats, (frames, callbacks) = self._meters.last, self._before
            if stats.callbacks > callbacks:  # a device may come back with another block
                self._seen_block = round((stats.frames - frames) / (stats.callbacks - callbacks))
        return self._seen_block or self._own_block

    # -- what others ask for --

    def play(self, index: int) -> None:
        """Want another model; see `Shelf.choose`."""
        with self.lock:
            slot = self._shelf.choose(index)
            if slot.problem is not None:  # so far; this is another try
                slot.problem = None
                if slot.number not in self._compiled:
                    self.renew(slot)
            self._settle()

    def turn(self, values: Mapping[str, float]) -> None:
        """Turn knobs of the model that is wanted; of the one that plays what is meant for all of them."""
        with self.lock:
            self._turn(self._shelf.values_for(self._played, values))

    def renew(self, slot: Slot) -> None:
        """Get a new version of a model ready; it plays as soon as it is, where it is wanted."""
        with self.lock, contextlib.suppress(DeviceError):
            if self._link is not None and self.state == "playing":
                self._link.send(self._compile_message(slot))

    @property
    def swapping(self) -> bool:
        """Whether the model that is wanted is not yet the one that is heard."""
        slot = self._shelf.current
        if self._meters.last.playing_serial != self._serial:
            return True
        return slot.number != self._played and slot.problem is None

    @property
    def _played(self) -> int:
        return self._sent[-1].number

    @property
    def _serial(self) -> int:
        return self._sent[-1].serial

    def _next(self, slot: Slot) -> Sent:
        return Sent(slot.number, next(self._serials), slot.graph.latency_frames, slot.load or 0.0)

    def _turn(self, values: Mapping[str, float]) -> None:
        # A worker that has gone is noticed by the thread; the shelf remembers the values.
        with contextlib.suppress(DeviceError):
            if self._link is not None and self.state == "playing":
                for name, value in values.items():
                    self._link.send(Turn(self._serial, name, value))

    def _settle(self) -> None:
        """Send the model that is wanted, once it is compiled, if another was sent last."""
        slot = self._shelf.current
        if self._link is None or self.state != "playing":
            return
        if slot.number == self._played or slot.number not in self._compiled or slot.problem is not None:
            return
        why = self._why_alone(slot)
        if why is not None:
            self._say(f"{slot.model.name}: {why}: fading out and in")
        if self._shelf.levels[BYPASS] and not slot.has_bypass:
            self._say(f"{slot.model.name}: has no bypass: it is heard, though bypass is on")
        self._sent = [*self._sent[-_SENT_KEPT:], self._next(slot)]
        entrance = slot.entrance(self._serial, self._shelf.levels, self._shelf.rate_hz, alone=why is not None)
        with contextlib.suppress(DeviceError):
            self._link.send(Play(entrance))

    def _why_alone(self, slot: Slot) -> str | None:
        """Why a model cannot run beside the one that plays; None if it can."""
        serial, seen = self._seen
        both = (slot.load or 0.0) + (seen if serial == self._serial else self._sent[-1].load)
        if both > _MOST_LOAD:
            return f"does not fit beside the one that plays ({100 * both:.0f} % of the time there is)"
        apart = abs(slot.graph.latency_frames - self._sent[-1].latency_frames)
        if apart > lib.BL_HOST_EVEN_FRAMES:
            return f"is {apart} frames away from the one that plays, too far to be crossfaded in time"
        return None

    # -- the thread --

    def _run(self) -> None:
        while not self._ending.wait(_POLL_SECONDS):
            try:
                self._tick()
            except BacklineError as error:
                if not self._ending.is_set():
                    self._lose(str(error))
            except Exception as error:  # nobody sees what a thread raises: whoever runs the session asks
                self.failure = error
                return

    def _tick(self) -> None:
        now = time.monotonic()
        if self._link is None:
            if now >= self._retry_at:
                self._reopen()
            return
        while (message := self._link.poll()) is not None:
            self._hear(message)
        self._check_health(now)
        self._tidy()
        if self._spare is None and now >= self._spare_at:
            self._spare_at = now + _SPARE_SECONDS
            with contextlib.suppress(BacklineError):  # what plays needs none
                self._spare = Link()

    def _hear(self, message: Message) -> None:
        with self.lock:
            slot = self._shelf.find(message.number) if isinstance(message, Compiled | Refused) else None
            if isinstance(message, Compiled):
                self._compiled.add(message.number)
                if slot is None:
                    self._forget(message.number)  # a newer version has taken its place
                else:
                    slot.load, slot.problem = message.load, None
                    if all(older.number != self._played for older in slot.versions_before):
                        self._forget_before(slot)
                self._settle()
            elif isinstance(message, Refused) and message.serial:
                self._take_back(message, slot)
            elif isinstance(message, Refused) and slot is not None:
                self._refuse(slot, message.why)
                self._settle()
            elif isinstance(message, Stopped):
                raise DeviceError(message.why or "the device has stopped")
            elif isinstance(message, Failed):
                self._say(message.text)

    def _refuse(self, slot: Slot, why: str) -> None:
        older = self._shelf.put_back(slot, why)
        if older is None:
            slot.problem = why
            self._say(f"{slot.model.name} cannot be played: {why}")
            return
        self._say(f"{slot.model.name} goes on as it was: {why}")
        if older.number not in self._compiled and self._link is not None:
            self._link.send(self._compile_message(older))

    def _take_back(self, refused: Refused, slot: Slot | None) -> None:
        """A model that was sent does not get in: what was sent before it goes on."""
        self._sent = [each for each in self._sent if each.serial != refused.serial]
        if slot is None:
            return  # a newer version has taken its place
        self._refuse(slot, refused.why)
        if slot is self._shelf.current:
            for index, other in enumerate(self._shelf.slots):
                if other.number == self._played:
                    self._shelf.playing = index

    def _forget_before(self, slot: Slot) -> None:
        for older in slot.versions_before:
            self._forget(older.number)
        slot.older = None

    def _tidy(self) -> None:
        """Forget the versions before the one that plays by now; not now if the lock is taken."""
        if self._meters.last.playing_serial == self._serial and self.lock.acquire(blocking=False):
            try:
                slot = self._shelf.find(self._played)
                if slot is not None and slot.older is not None:
                    self._forget_before(slot)
            finally:
                self.lock.release()

    def _forget(self, number: int) -> None:
        self._compiled.discard(number)
        if self._link is not None:
            self._link.send(Forget(number))

    def _check_health(self, now: float) -> None:
        stats = self._meters.poll()
        if stats.xruns != self._xruns_seen and now >= self._collect_at:
            self._xruns_seen, self._collect_at = stats.xruns, now + _COLLECT_SECONDS
            self.xruns.collect(self._monitor.log())
        if stats.relieved != self._relieved:
            self._relieved = stats.relieved
            self._say("two models at once took longer than there is time: faded out and in, not crossfaded")
        if stats.frames != self._moved[0]:
            self._moved = (stats.frames, now)
            self._note_load(stats)
        elif now - self._moved[1] > self.patience(_GONE_SECONDS):
            raise DeviceError(f"{self._sink}: has asked for no audio for {now - self._moved[1]:.1f} s")

    def _note_load(self, stats: HostStats) -> None:
        """Keep what the model that plays takes by itself; in the first readings a swap's end may lie."""
        serial, times = self._steady
        times = times + 1 if serial == stats.playing_serial == self._serial else 0
        self._steady = (stats.playing_serial, times)
        if times >= _STEADY_READINGS:
            self._seen = (stats.playing_serial, stats.load_recent)

    @property
    def _sink(self) -> Device:
        assert self.running is not None
        return self.running.opened.sink

    def patience(self, seconds: float) -> float:
        """How long to wait for a device that calls as rarely as this one."""
        return max(seconds, _PATIENCE_BLOCKS * self.block_frames / self._shelf.rate_hz)

    def _lose(self, why: str) -> None:
        """The device or the worker has gone: begin again with a new worker."""
        if self._link is not None:
            # Before the lock: whoever holds it may be sending to a worker that does not read any more.
            self._link.end()
        with self.lock:
            link, self._link = self._link, None
            if self.state == "playing":
                self._say(f"{why}; waiting for {self._sink} to come back")
                self._retry_at = time.monotonic()
            else:
                self._retry_at = time.monotonic() + _RETRY_SECONDS
            self.state, self.trouble = "waiting", self.trouble if self._ending.is_set() else why
        if link is not None:
            link.kill()

    def _reopen(self) -> None:
        assert self.running is not None
        link, self._spare = self._spare or Link(), None
        self._opening = link
        try:
            if self._ending.is_set():  # then nobody else ends this link
                raise DeviceError("the session has ended")
            link.send(self._wish)
            opened = link.wait(Opened, _REOPEN_SECONDS, f"{self._sink}: opening")
            expected = self.running.opened
            if (opened.rate_hz, len(opened.input_map)) != (expected.rate_hz, len(expected.input_map)):
                raise DeviceError(f"{opened.sink}: came back at another rate or with other channels")
            started = self._start(link, opened)
            self.running = Running(opened, started)
            self.reopened += 1
            self._begin_playing(link)
        except BaseException:
            link.kill()
            if not self._ending.is_set():
                self._spare = Link()  # so that the next try has not to wait for its start
            raise
        finally:
            self._opening = None
        self._say(f"{opened.sink}: is back")

    # -- closing --

    def stop(self) -> None:
        """Stop the device and the worker; more than once is fine."""
        self._ending.set()
        self._end_waiting()
        with self.lock:
            link, self._link = self._link, None
            spare, self._spare = self._spare, None
            was, self.state = self.state, "ended"
        if spare is not None:
            spare.kill()
        if link is None:
            return
        if was == "playing":
            link.stop()
        link.kill()

    def _end_waiting(self) -> None:
        """End the thread, and whoever holds the lock: they may wait for a worker that never answers."""
        if (opening := self._opening) is not None:
            opening.end()
        if self._thread is not None:
            self._thread.join(_LEAVE_SECONDS)
        stuck = self._thread is not None and self._thread.is_alive()
        if stuck or not self.lock.acquire(timeout=_LEAVE_SECONDS):
            if (link := self._link) is not None:
                link.end()
        else:
            self.lock.release()
        if self._thread is not None:
            self._thread.join()
