"""What a live session shows of itself: plain values, made for screens, lines and JSON.

Nothing here knows a process, a device or a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..graph import Knob

Array = NDArray[np.float32]

#: Of one callback in `CallbackLog.callbacks`. `began_ns` is of the system's monotonic clock; `flags` are
#: PortAudio's (1 input underflow, 2 input overflow, 4 output underflow, 8 output overflow, 16 priming);
#: `doing` are those of `DOING`; `at_frame` is the session's frame that the callback began with.
CALLBACK = np.dtype(
    [
        ("began_ns", np.int64),
        ("busy_ns", np.uint32),
        ("frames", np.uint32),
        ("flags", np.uint32),
        ("doing", np.uint32),
        ("at_frame", np.int64),
    ]
)

#: What a callback was doing besides playing, by bit.
DOING = {
    1: "a second model running",
    2: "crossfading",
    4: "fading out or in",
    8: "muted",
    16: "turning knobs",
    32: "settling a model again",
}

State = Literal["starting", "playing", "waiting", "ended"]


@dataclass(frozen=True)
class HostStats:
    """What the host has counted since the session began; peaks and recent loads since the stats before.

    Attributes
    ----------
    callbacks, frames : int
    xruns : int
        Callbacks that the device called late or incomplete in any way.
    input_underflows, input_overflows, output_underflows, output_overflows : int
        The same by kind; one callback may count in several.
    input_clips, output_clips : int
        Samples at the converters' full scale, and above 1.
    input_not_finite, output_not_finite : int
        Samples that were NaN or infinite and have been replaced by 0.
    output_limited : int
        Samples above -1 dBFS that the limiter has made smaller.
    mutes : int
        Times the output was muted: on a model's NaN, or a level above +24 dBFS.
    muted : bool
        Whether it is now.
    swaps : int
        Models that have come to play after the first.
    relieved : int
        Swaps that were faded out and in, as two models at once took longer than there was time.
    playing_serial : int
        Of the engine that is heard.
    capture_lost_frames : int
        Frames replaced by silence in the capture because nobody emptied it.
    load_mean, load_p99, load_worst : float
        Share of the time a block lasts that its callback took; p99 at most 1/32 too high.
    load_recent, load_recent_worst : float
        Mean and worst since the stats before.
    input_peaks, output_peaks : tuple of float
        Largest magnitude of each row of the engine, 1 being full scale, since the stats before.
    """

    callbacks: int = 0
    frames: int = 0
    xruns: int = 0
    input_underflows: int = 0
    input_overflows: int = 0
    output_underflows: int = 0
    output_overflows: int = 0
    input_clips: int = 0
    output_clips: int = 0
    input_not_finite: int = 0
    output_not_finite: int = 0
    output_limited: int = 0
    mutes: int = 0
    muted: bool = False
    swaps: int = 0
    relieved: int = 0
    playing_serial: int = 0
    capture_lost_frames: int = 0
    load_mean: float = 0.0
    load_p99: float = 0.0
    load_worst: float = 0.0
    load_recent: float = 0.0
    load_recent_worst: float = 0.0
    input_peaks: tuple[float, ...] = ()
    output_peaks: tuple[float, ...] = ()


@dataclass(frozen=True)
class ModelView:
    """One of a session's models.

    Attributes
    ----------
    name : str
    knobs : tuple of Knob
        The model's own.
    values : mapping of str to float
        Where they stand.
    output_gain_db : float
        The level it is played at: the gain behind it.
    loudness_db : float or None
        What its file says of its loudness.
    latency_ms : float
        What it adds, resampling around it included.
    problem : str or None
        Why it cannot be played, or why a newer file of it was not taken; None if all is well.
    """

    name: str
    knobs: tuple[Knob, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    output_gain_db: float = 0.0
    loudness_db: float | None = None
    latency_ms: float = 0.0
    problem: str | None = None


@dataclass(frozen=True)
class LiveStatus:
    """How a session is doing.

    Attributes
    ----------
    seconds : float
        Of audio, so far.
    stats : HostStats
    state : {"starting", "playing", "waiting", "ended"}
        Waiting for a device that has gone.
    trouble : str or None
        Why it is waiting.
    input_latency_ms, output_latency_ms : float or None
        As PortAudio reports them; None where there is no such device.
    rate_hz : float
    block_frames : int
        Of the device; 0 until it is known.
    source, sink : str or None
        Names of the devices.
    models : tuple of ModelView
    playing : int
        Index of the model that is heard, or about to be.
    swapping : bool
        Whether another model is on its way in.
    input_gain_db : float
    bypass : bool
        Whether the input itself is heard.
    recording : str or None
        Name of the file that is being recorded.
    reopened : int
        Times the device came back.
    scheduling : str or None
        How the system runs the audio thread, such as ``SCHED_FIFO 60``.
    """

    seconds: float
    stats: HostStats
    state: State = "playing"
    trouble: str | None = None
    input_latency_ms: float | None = None
    output_latency_ms: float | None = None
    rate_hz: float = 0.0
    block_frames: int = 0
    source: str | None = None
    sink: str | None = None
    models: tuple[ModelView, ...] = ()
    playing: int = 0
    swapping: bool = False
    input_gain_db: float = 0.0
    bypass: bool = False
    recording: str | None = None
    reopened: int = 0
    scheduling: str | None = None

    @property
    def round_trip_ms(self) -> float | None:
        """From the input socket to the output socket: PortAudio's latencies and what the model adds."""
        if self.input_latency_ms is None or self.output_latency_ms is None:
            return None
        own = self.models[self.playing].latency_ms if self.models else 0.0
        return self.input_latency_ms + self.output_latency_ms + own

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: levels in dBFS, None for silence; loads as fractions."""
        found = asdict(self.stats)
        del found["playing_serial"]  # of interest to the session alone
        levels = {
            f"{way}_dbfs": [dbfs(peak) if peak > 0 else None for peak in found.pop(f"{way}_peaks")]
            for way in ("input", "output")
        }
        shown = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in ("seconds", "stats", "models", "playing")
        }
        playing = self.models[self.playing].name if self.models else None
        return {
            "seconds": self.seconds,
            **levels,
            **found,
            **shown,
            "playing": playing,
            "round_trip_ms": self.round_trip_ms,
        }


@dataclass(frozen=True)
class CallbackLog:
    """How long callbacks took, and what the last of them were doing.

    Attributes
    ----------
    rate_hz : float
    callbacks : array of `CALLBACK`
        The last 4,096 at most, oldest first.
    load_edges : float64 array [bins + 1]
        Edges of the histogram's bins, in shares of the time a block lasts.
    load_counts : int64 array [bins]
        Callbacks in each bin since the session began.
    """

    rate_hz: float
    callbacks: NDArray[np.void]
    load_edges: NDArray[np.float64]
    load_counts: NDArray[np.int64]


class Desk(Protocol):
    """What a screen, or whatever else turns knobs, needs of a session. Any thread may call."""

    def status(self) -> LiveStatus:
        """How it goes; peaks and recent loads are since the last call."""

    def play(self, index: int) -> None:
        """Swap to the model of this index; wraps around at both ends."""

    def set(self, /, **knobs: float) -> None:
        """Turn knobs of the model that plays; refuses with a BacklineError what is out of range."""

    def set_levels(
        self,
        *,
        input_gain_db: float | None = None,
        output_gain_db: float | None = None,
        bypass: bool | None = None,
    ) -> None:
        """Set the gain before all models, that behind the playing one, and if the input itself is heard."""

    def record(self, on: bool) -> str | None:
        """Begin a recording under a new name, which is returned, or end the one that runs."""

    def heard(self) -> Array:
        """Input frames [frames] of the first channel since the last call, in order; a second at most."""

    def messages(self) -> Sequence[str]:
        """Sentences a user should see, since the last call."""


def dbfs(peak: float) -> float:
    """A magnitude in decibels relative to full scale; silence is minus infinity."""
    return 20.0 * math.log10(peak) if peak > 0.0 else -math.inf
