"""Layers that change the rate of a signal: pooling, upsampling, interleaving, resampling.

All are causal. A signal at rate r has frame n once the graph has read more than ``n / r`` frames of input.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Literal

from ..errors import ModelError
from .base import (
    EARLIEST,
    MAX_HOP,
    Array,
    Signal,
    Signals,
    Unary,
    check_array,
    check_flat,
    check_frames,
    check_size,
    checked_rate,
)

#: Most taps that one frame of a `Resample` is made of.
MAX_RESAMPLE_TAPS = 1 << 12


@dataclass(frozen=True)
class _Pool(Unary):
    kernel: int
    stride: int = 1
    dilation: int = 1

    @property
    def lookback_frames(self) -> int:
        return (self.kernel - 1) * self.dilation

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_size(self.output, "kernel", self.kernel)
        check_size(self.output, "stride", self.stride)
        check_size(self.output, "dilation", self.dilation)
        check_size(self.output, "reach of the kernel in frames", self.lookback_frames + 1)
        rate = checked_rate(self.output, source.rate / self.stride)
        return (Signal(self.output, source.channels, source.features, rate),)


@dataclass(frozen=True)
class MaxPool1d(_Pool):
    """The largest of `kernel` frames `dilation` apart, the newest being frame ``n * stride``.

    Frames before `start_frames` do not count, as PyTorch's padding does not; where none is left, 0. By
    default all do, also the zeros before the first.
    """

    start_frames: int = EARLIEST

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        check_frames(self.output, "start_frames", self.start_frames, EARLIEST)
        return super().infer(signals)


@dataclass(frozen=True)
class AvgPool1d(_Pool):
    """The mean of `kernel` frames `dilation` apart, the newest being frame ``n * stride``.

    Frames before the first are 0.
    """


@dataclass(frozen=True)
class Upsample(Unary):
    """`factor` frames out of one.

    Attributes
    ----------
    factor : int
    mode : str
        ``nearest`` holds: ``y[n] = x[n // factor]``. ``linear`` draws straight lines between frames of x,
        each in the middle of its `factor` frames (PyTorch's ``align_corners=False``, ONNX's ``half_pixel``),
        late by ``factor // 2`` frames of y, so that it needs no future.
    start_frames : int
        Linear only, in frames of x: earlier ones are replaced by this one, and y is 0 until it has come.
    """

    factor: int
    mode: Literal["nearest", "linear"] = "nearest"
    start_frames: int = EARLIEST

    @property
    def lookback_frames(self) -> int:
        return 1 if self.mode == "nearest" else 2

    @property
    def reach_frames(self) -> Fraction:
        # The last of the frames that one frame of x is held for, or drawn to.
        return Fraction(self.factor - 1, self.factor) + (self.mode == "linear")

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_size(self.output, "factor", self.factor)
        check_frames(self.output, "start_frames", self.start_frames, EARLIEST)
        if self.mode not in ("nearest", "linear"):
            raise ModelError(f"{self.output}: mode is {self.mode!r}, expected nearest or linear")
        if self.mode == "nearest" and self.start_frames != EARLIEST:
            raise ModelError(
                f"{self.output}: start_frames is {self.start_frames}, which nearest does not have"
            )
        rate = checked_rate(self.output, source.rate * self.factor)
        return (Signal(self.output, source.channels, source.features, rate),)


@dataclass(frozen=True)
class Interleave(Unary):
    """`factor` rows become one row of `factor` times the rate.

    ``y[c][n] = x[c * factor + n % factor][n // factor]``. The last step of a sub-pixel convolution (Shi et
    al. 2016), and how a transposed one is computed here.
    """

    factor: int

    @property
    def lookback_frames(self) -> int:
        return 1

    @property
    def reach_frames(self) -> Fraction:
        return Fraction(self.factor - 1, self.factor)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_flat(self.output, source)
        check_size(self.output, "factor", self.factor)
        if source.channels % self.factor:
            raise ModelError(
                f"{self.output}: factor {self.factor} does not divide the {source.channels} channels of "
                f"{source.name}"
            )
        rate = checked_rate(self.output, source.rate * self.factor)
        return (Signal(self.output, source.channels // self.factor, 1, rate),)


@dataclass(frozen=True)
class Resample(Unary):
    """`up` frames out of `down`, each made by one phase of a filter (polyphase; Crochiere and Rabiner 1983).

    ``y[n]`` is the sum over k of ``taps[n * down % up][k] * x[n * down // up - (kernel - 1) + k]``: a filter
    at `up` times the rate of x, of whose output every `down`-th frame is made. All rows alike; frames before
    the first are 0.

    Attributes
    ----------
    up, down : int
        The output's rate is the input's times ``up / down``.
    taps : float32 array [up][kernel]
        Phase by phase, the last tap multiplies the newest frame. Of a filter h at `up` times the rate of x,
        ``taps[phase][k] = h[phase + (kernel - 1 - k) * up]``, times `up` where it is to keep the level.
    """

    up: int
    down: int
    taps: Array

    @property
    def arrays(self) -> dict[str, Array]:
        return {"taps": self.taps}

    @property
    def kernel(self) -> int:
        """Number of taps of a phase."""
        return int(self.taps.shape[1])

    @property
    def lookback_frames(self) -> int:
        # One more than is heard: a first frame of y may belong to a frame of x that an earlier block brought.
        return self.kernel

    @property
    def reach_frames(self) -> Fraction:
        # Frames of y lie between those of x, the latest by so much.
        return self.kernel - Fraction(gcd(self.up, self.down), self.up)

    def multiply_adds(self) -> float:
        """Multiply-adds for one frame of one row of the output."""
        return self.kernel

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_array(self.output, "taps", self.taps, 2)
        for what, value, most in (
            ("up", self.up, MAX_HOP),
            ("down", self.down, MAX_HOP),
            ("number of taps", self.kernel, MAX_RESAMPLE_TAPS),
        ):
            check_size(self.output, what, value)
            if value > most:
                raise ModelError(f"{self.output}: {what} is {value}, expected at most {most}")
        check_array(self.output, "taps", self.taps, 2, self.up)
        rate = checked_rate(self.output, source.rate * self.up / self.down)
        return (Signal(self.output, source.channels, source.features, rate),)
