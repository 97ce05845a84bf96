"""What callbacks were doing when there was an xrun.

A device says of a block that something went wrong *before* it, and JACK, through PortAudio, a block later
still. So the blame is looked for in the callbacks before the one that carries the flag:

own load
    A callback took longer than its block lasts, and the model usually takes much of it, or there was more to
    do than to play: a second model, a crossfade, knobs that turned, a model to settle again.
held up
    A callback took longer than its block lasts although the model usually takes little: the system took the
    core away while it ran.
late wake-up
    Two callbacks in a row began further apart than the first one's block lasts, by half of it or more, though
    it was done in time: the thread was woken late.
the device
    None of that: callbacks came and went in time.

Nothing from before a pause, in which the device was opened again, is blamed for what came after it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .status import DOING, CallbackLog

Cause = Literal["own load", "held up", "late wake-up", "the device"]

#: Callbacks before the one that carries the flag that may be to blame.
_LOOKED_BACK = 3
_MOST_COLLECTED = 10_000
_PRIMING = 16
#: A block's worth of waiting that is late, in blocks beyond the one that is due.
_LATE_BLOCKS = 0.5
#: Of the median load: above it a model that takes more than its block is itself to blame.
_HIGH_LOAD = 0.5
#: Bits of `DOING` that are work beyond playing. To be muted or to fade is next to none.
_WORK = 1 | 2 | 16 | 32
#: A pause that is no lateness: the device was closed and opened again.
_PAUSE_NS = 1_000_000_000

_REMEDIES: dict[Cause, str] = {
    "own load": "a larger --block, a lower --quality or another model needs less",
    "held up": "something else had the core: see backline doctor about real-time priority",
    "late wake-up": "the system woke the audio thread late: see backline doctor about priority and governor",
    "the device": "the callbacks were in time: the device, its cable or the sound server was not",
}


@dataclass(frozen=True)
class Xrun:
    """An xrun and what it came from.

    Attributes
    ----------
    at_frame : int
        The session's frame that the callback which carries the flag began with.
    began_ns : int
    flags : int
        PortAudio's.
    cause : {"own load", "held up", "late wake-up", "the device"}
    load : float
        The highest of the callbacks that are looked at, 1 being all the time there is.
    lateness_ms : float
        The latest of their beginnings.
    doing : tuple of str
        What the one to blame was doing besides playing.
    """

    at_frame: int
    began_ns: int
    flags: int
    cause: Cause
    load: float
    lateness_ms: float
    doing: tuple[str, ...] = ()


def causes(log: CallbackLog) -> list[Xrun]:
    """Every xrun in the log, oldest first, and its cause."""
    found = log.callbacks
    block_ns = 1e9 * found["frames"].astype(np.float64) / log.rate_hz
    with np.errstate(divide="ignore", invalid="ignore"):
        load = np.where(block_ns > 0, found["busy_ns"] / block_ns, 0.0)
    median = float(np.median(load)) if len(load) else 0.0
    late_ns = lateness(found, block_ns)
    since = _beginnings(found["began_ns"], block_ns)
    flagged = np.flatnonzero(found["flags"] & ~np.uint32(_PRIMING))
    return [_cause(found, load, late_ns, block_ns, median, int(at), int(since[at])) for at in flagged]


def lateness(callbacks: np.ndarray, block_ns: np.ndarray) -> np.ndarray:
    """How much later than it could each callback began, in nanoseconds; 0 for the first and after pauses.

    It is due when the block before is over, or that block's callback, whichever takes longer.
    """
    late = np.zeros(len(callbacks))
    if len(callbacks) > 1:
        gaps = np.diff(callbacks["began_ns"]).astype(np.float64)
        due = np.maximum(block_ns[:-1], callbacks["busy_ns"][:-1])
        late[1:] = np.where(gaps < _PAUSE_NS + block_ns[:-1], np.maximum(gaps - due, 0.0), 0.0)
    return late


def _beginnings(began_ns: np.ndarray, block_ns: np.ndarray) -> np.ndarray:
    """For each callback, the first one after the last pause before it."""
    first = np.zeros(len(began_ns), np.int64)
    if len(began_ns) > 1:
        paused = np.diff(began_ns).astype(np.float64) >= _PAUSE_NS + block_ns[:-1]
        first[1:] = np.where(paused, np.arange(1, len(began_ns)), 0)
    return np.maximum.accumulate(first)


def _cause(
    found: np.ndarray,
    load: np.ndarray,
    late_ns: np.ndarray,
    block_ns: np.ndarray,
    median: float,
    at: int,
    since: int,
) -> Xrun:
    before = slice(max(at - _LOOKED_BACK, since), max(at, since + 1))
    worst = before.start + int(np.argmax(load[before]))
    # A callback is late because the one before took too long, or because nobody woke it.
    woken = slice(max(at - _LOOKED_BACK + 1, since), at + 1)
    latest = woken.start + int(np.argmax(late_ns[woken]))
    doing = int(found["doing"][worst])
    cause: Cause = "the device"
    if load[worst] >= 1.0:
        cause = "own load" if median >= _HIGH_LOAD or doing & _WORK else "held up"
    elif late_ns[latest] >= _LATE_BLOCKS * max(float(block_ns[max(latest - 1, 0)]), 1.0):
        cause, doing = "late wake-up", int(found["doing"][latest])
    return Xrun(
        int(found["at_frame"][at]),
        int(found["began_ns"][at]),
        int(found["flags"][at]),
        cause,
        float(load[worst]),
        float(late_ns[latest]) / 1e6,
        tuple(text for bit, text in DOING.items() if doing & bit),
    )


class Collector:
    """The xruns of a whole session, put together from logs that each know the last callbacks only.

    Any thread may call.

    Attributes
    ----------
    found : list of Xrun
        Oldest first; at most 10,000, the first of them.
    """

    def __init__(self) -> None:
        self.found: list[Xrun] = []
        self._lock = threading.Lock()
        self._until_frame = -1

    def collect(self, log: CallbackLog) -> None:
        """Take what is new in a log."""
        with self._lock:
            new = [each for each in causes(log) if each.at_frame > self._until_frame]
            if new:
                self._until_frame = new[-1].at_frame
                self.found += new[: _MOST_COLLECTED - len(self.found)]

    def counts(self) -> dict[str, int]:
        """How many of each cause."""
        with self._lock:
            return dict(Counter(each.cause for each in self.found))


def summary(found: Sequence[Xrun]) -> list[str]:
    """Sentences on xruns and what helps against each kind; none if there was none."""
    if not found:
        return []
    counts = Counter(each.cause for each in found)
    known: Sequence[Cause] = get_args(Cause)
    parts = [f"{counts[cause]} {cause} ({_worst(cause, found)})" for cause in known if counts[cause]]
    plural = "xruns" if len(found) > 1 else "xrun"
    lines = [f"{len(found)} {plural}: {', '.join(parts)}"]
    return lines + [f"{cause}: {_REMEDIES[cause]}" for cause in known if counts[cause]]


def _worst(cause: Cause, found: Sequence[Xrun]) -> str:
    own = [each for each in found if each.cause == cause]
    if cause == "late wake-up":
        return f"up to {max(each.lateness_ms for each in own):.1f} ms"
    heaviest = max(own, key=lambda each: each.load)
    with_what = f", {' and '.join(heaviest.doing)}" if heaviest.doing else ""
    return f"up to {100 * heaviest.load:.0f} % of a block{with_what}"
