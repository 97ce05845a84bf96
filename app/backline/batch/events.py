"""What a run tells while it goes on, and what it was in the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..choice import ModelChoice
from ..errors import BacklineError
from ..render import RenderReport
from .jobs import Job


@dataclass(frozen=True)
class Loaded:
    """A model has been loaded; `notes` is what a user should know of it."""

    model: ModelChoice
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Started:
    """A job is being rendered."""

    job: Job


@dataclass(frozen=True)
class Progress:
    """Seconds of a job's input that are done and, where they are known, in all; a few times a second."""

    job: Job
    seconds: float
    total_seconds: float | None


@dataclass(frozen=True)
class Done:
    """A job's output has its name."""

    job: Job
    report: RenderReport


@dataclass(frozen=True)
class Skipped:
    """There was nothing to do for a job."""

    job: Job
    reason: str


@dataclass(frozen=True)
class Failed:
    """A job that came to nothing; what was there before is still there."""

    job: Job
    error: BacklineError


@dataclass(frozen=True)
class Stopped:
    """No further jobs are begun: they would fail as well. Said once."""

    reason: str


@dataclass
class Summary:
    """What became of all jobs.

    Attributes
    ----------
    total, done, skipped : int
        Jobs in all, rendered, and with nothing to do for.
    failed : list of Failed
    frames : int
        Rendered.
    audio_s, elapsed_s : float
        Seconds rendered, and that the run took.
    resumed : int
        Outputs that an earlier run had finished and that only had to be given their names.
    stopped : str or None
        Why no more jobs were begun, if they were not.
    """

    total: int
    done: int = 0
    skipped: int = 0
    failed: list[Failed] = field(default_factory=list)
    frames: int = 0
    audio_s: float = 0.0
    elapsed_s: float = 0.0
    resumed: int = 0
    stopped: str | None = None

    @property
    def left(self) -> int:
        """Jobs that were not begun, or not ended."""
        return self.total - self.done - self.skipped - len(self.failed)

    @property
    def is_complete(self) -> bool:
        """Whether every job has its output."""
        return self.done + self.skipped == self.total

    @property
    def times_real_time(self) -> float:
        """Seconds of audio per second."""
        return self.audio_s / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.total} rendered"]
        if self.skipped:
            parts.append(f"{self.skipped} up to date")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.left:
            parts.append(f"{self.left} not begun" if self.stopped else f"{self.left} left")
        if self.done:
            parts.append(f"{self.audio_s:.1f} s of audio, {self.times_real_time:.0f} times real time")
        return ", ".join(parts)


@dataclass(frozen=True)
class Interrupted:
    """The run was asked to end: what was finished has its name, what was open is removed."""

    summary: Summary


Event = Loaded | Started | Progress | Done | Skipped | Failed | Stopped | Interrupted
