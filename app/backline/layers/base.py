"""What all nodes share: signals, the base classes, and the checks of sizes and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError

Array = NDArray[np.float32]

#: Largest value of any single size (channels, taps, dilation, frames of prewarm) a graph may hold.
MAX_SIZE = 1 << 24
#: Most input frames to one frame of any signal: all strides on its way multiplied.
MAX_HOP = 1 << 12
#: Most frames of any signal to one frame of input (``BL_MAX_RATE``).
MAX_RATE = 256
#: A frame before any prewarm: where a layer that may begin late begins unless told otherwise.
EARLIEST = -MAX_SIZE
#: Most layers of a graph, those counted that a layer is taken apart into.
MAX_NODES = 1 << 16
#: Largest number of float32 parameters one array of a graph may hold (256 MiB).
MAX_ELEMENTS = 1 << 26


@dataclass(frozen=True)
class Signal:
    """A named array ``[channels * features][frames]`` inside a graph.

    Attributes
    ----------
    name : str
        Unique in its graph.
    channels : int
        Number of channels, at least 1.
    features : int
        Length of the feature axis (2-D layers); 1 for plain signals. Features are the outer index of a
        row: row ``f * channels + c``.
    rate : Fraction
        Frames of this signal per frame of the graph's input.
    """

    name: str
    channels: int
    features: int = 1
    rate: Fraction = Fraction(1)

    @property
    def rows(self) -> int:
        """Rows of the planar layout: channels times features."""
        return self.channels * self.features

    def frames(self, input_frames: int) -> int:
        """Frames of this signal that exist once the graph has read `input_frames` frames."""
        return ceil(input_frames * self.rate)


Signals = Mapping[str, Signal]


@dataclass(frozen=True)
class Node:
    """Base of all nodes: writes the signal `output`, whose name is also the layer's name in errors."""

    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the signals this node reads."""
        raise TypeError(f"{type(self).__name__} does not say what it reads")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the signals this node writes."""
        return (self.output,)

    @property
    def arrays(self) -> dict[str, Array]:
        """The node's parameters by name, absent ones left out."""
        return {}

    @property
    def lookback_frames(self) -> int | None:
        """Past frames of the first input that have to be kept for an output frame; None if unbounded."""
        return 0

    @property
    def reach_frames(self) -> Fraction | None:
        """How long before an output frame the oldest frame is that it depends on; None if unbounded.

        In frames of the first input. Where the output has a higher rate its frames lie between those.
        """
        return None if self.lookback_frames is None else Fraction(self.lookback_frames)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        """Return the signals written, given those read; raise `ModelError` where shapes disagree."""
        raise TypeError(f"{type(self).__name__} does not say what it writes")

    def multiply_adds(self) -> float:
        """Multiply-adds for one frame of one feature of the output."""
        return 0


@dataclass(frozen=True)
class Unary(Node):
    """A node that reads the signal `input`."""

    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Binary(Node):
    """A node that reads the signals `a` and `b`."""

    a: str
    b: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)


def check_size(layer: str, what: str, value: int) -> None:
    """Raise `ModelError` unless `value` is an integer from 1 to `MAX_SIZE`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= value <= MAX_SIZE:
        raise ModelError(f"{layer}: {what} is {value!r}, expected an integer from 1 to {MAX_SIZE}")


def check_frames(layer: str, what: str, value: int, minimum: int = 0) -> None:
    """Raise `ModelError` unless `value` is an integer from `minimum` to `MAX_SIZE`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not minimum <= value <= MAX_SIZE:
        raise ModelError(f"{layer}: {what} is {value!r}, expected an integer from {minimum} to {MAX_SIZE}")


def checked_rate(layer: str, rate: Fraction) -> Fraction:
    """Return `rate`, frames per frame of input; raise `ModelError` where the engine does not go that far."""
    if rate.denominator > MAX_HOP:
        raise ModelError(
            f"{layer}: its stride makes one frame of {rate.denominator}, expected at most {MAX_HOP}"
        )
    if rate > MAX_RATE or rate.numerator > MAX_HOP:
        raise ModelError(
            f"{layer}: makes {rate} frames of one frame of input, at most {MAX_RATE} are allowed"
        )
    return rate


def check_flat(layer: str, source: Signal) -> None:
    """Raise `ModelError` unless the signal is without feature axis."""
    if source.features != 1:
        raise ModelError(f"{layer}: needs a signal without feature axis, {source.name} has {source.features}")


def check_groups(layer: str, groups: int, in_channels: int, out_channels: int) -> None:
    """Raise `ModelError` unless `groups` is a size that divides both numbers of channels."""
    check_size(layer, "groups", groups)
    for what, channels in (("input", in_channels), ("output", out_channels)):
        if channels % groups:
            raise ModelError(f"{layer}: groups {groups} does not divide the {channels} {what} channels")


def check_same(layer: str, found: Signal, expected: Signal) -> None:
    """Raise `ModelError` unless two signals have the same channels, features and rate."""
    if (found.channels, found.features, found.rate) != (expected.channels, expected.features, expected.rate):
        raise ModelError(
            f"{layer}: {found.name} has {found.channels} channels by {found.features} features at rate "
            f"{found.rate}, expected {expected.channels} by {expected.features} at rate {expected.rate}"
        )


def check_array(layer: str, what: str, values: Array, axes: int, first: int | None = None) -> None:
    """Raise `ModelError` unless `values` are finite float32 with `axes` axes, the first of `first`."""
    if values.dtype != np.float32:
        raise ModelError(f"{layer}: {what} holds {values.dtype}, expected float32")
    if values.ndim != axes or values.size == 0:
        raise ModelError(f"{layer}: {what} has shape {values.shape}, expected {axes} axes, none empty")
    if first is not None and values.shape[0] != first:
        raise ModelError(f"{layer}: {what} has {values.shape[0]} entries, expected {first}")
    if values.size > MAX_ELEMENTS:
        raise ModelError(f"{layer}: {what} has {values.size} numbers, at most {MAX_ELEMENTS} are allowed")
    if not np.all(np.isfinite(values)):
        raise ModelError(f"{layer}: {what} holds a number that is not finite in float32")
