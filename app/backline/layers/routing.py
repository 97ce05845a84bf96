"""Layers that move rows and frames about and compute nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ModelError
from .base import EARLIEST, Node, Signal, Signals, Unary, check_flat, check_frames, check_size


@dataclass(frozen=True)
class Slice(Unary):
    """Channels ``start`` to ``start + count`` of a signal."""

    start: int
    count: int

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_flat(self.output, source)
        if not (self.start >= 0 and self.count >= 1 and self.start + self.count <= source.channels):
            raise ModelError(
                f"{self.output}: cannot take {self.count} channels from {self.start} on, "
                f"{source.name} has {source.channels}"
            )
        return (Signal(self.output, self.count, 1, source.rate),)


@dataclass(frozen=True)
class Reshape(Unary):
    """The same rows with other words for them: row ``f * channels + c`` is channel c of feature f."""

    channels: int
    features: int = 1

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_size(self.output, "channels", self.channels)
        check_size(self.output, "features", self.features)
        if self.channels * self.features != source.rows:
            raise ModelError(
                f"{self.output}: cannot see the {source.rows} rows of {source.name} as {self.channels} "
                f"channels by {self.features} features"
            )
        return (Signal(self.output, self.channels, self.features, source.rate),)


@dataclass(frozen=True)
class Concat(Node):
    """The channels of several signals, one after the other; all at one rate, without feature axis."""

    sources: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.sources

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        if not self.sources:
            raise ModelError(f"{self.output}: expected at least one signal to join, found none")
        found = [signals[name] for name in self.sources]
        for source in found:
            check_flat(self.output, source)
            if source.rate != found[0].rate:
                raise ModelError(
                    f"{self.output}: {source.name} runs at rate {source.rate}, expected {found[0].rate} "
                    f"like {found[0].name}"
                )
        return (Signal(self.output, sum(source.channels for source in found), 1, found[0].rate),)


@dataclass(frozen=True)
class Delay(Unary):
    """``y[n] = x[n - frames]``, and zero where ``n < start_frames``.

    Formats insert it where branches of different delay meet, and where zeros have to stand in front of a
    signal that only begins later. Frames count at this signal's own rate; those of the prewarm are negative.
    """

    frames: int = 0
    start_frames: int = EARLIEST

    @property
    def lookback_frames(self) -> int:
        return self.frames

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_frames(self.output, "delay in frames", self.frames)
        check_frames(self.output, "start_frames", self.start_frames, EARLIEST)
        return (Signal(self.output, source.channels, source.features, source.rate),)
