"""What a render reads from and writes to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ..audiofile import Array

#: What a report calls the target of an output that is only measured.
NOWHERE = Path("nothing written")


class Reader(Protocol):
    """What a render reads from: `AudioReader` and what stands in for one."""

    path: Path
    channels: int
    rate_hz: int
    subtype: str
    losses: tuple[str, ...]
    tags: dict[str, str]

    @property
    def frames(self) -> int | None:
        """How many there are; None where that is not known before the end."""

    def blocks(self, max_frames: int = ..., start: int = ..., stop: int | None = ...) -> Iterator[Array]:
        """Frames from `start` up to `stop`."""


class Writer(Protocol):
    """What a render writes to: `AudioWriter` and what stands in for one."""

    path: Path
    frames: int
    clipped: int
    format: str
    subtype: str
    losses: tuple[str, ...]

    def write(self, x: Array) -> None:
        """Append frames."""


class Unwritten:
    """A writer of nothing, for an output that is only measured."""

    path = NOWHERE
    format = "no file"
    subtype = "FLOAT"
    losses: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.frames = self.clipped = 0

    def write(self, x: Array) -> None:
        """Count frames."""
        self.frames += len(x)
