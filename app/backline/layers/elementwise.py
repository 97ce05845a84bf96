"""Layers that look at one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..activations import PER_CHANNEL, Activation
from ..errors import ModelError
from .base import Array, Binary, Signal, Signals, Unary, check_array, check_same


@dataclass(frozen=True)
class Activate(Unary):
    """Apply an activation to every value of a signal."""

    activation: Activation

    @property
    def arrays(self) -> dict[str, Array]:
        name = PER_CHANNEL.get(self.activation.kind)
        return {} if name is None else {name: np.asarray(self.activation.parameters, np.float32)}

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        self.activation.check(self.output, source.channels)
        return (Signal(self.output, source.channels, source.features, source.rate),)


@dataclass(frozen=True)
class Add(Binary):
    """Sum of two signals of one shape."""

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        a, b = signals[self.a], signals[self.b]
        check_same(self.output, b, a)
        return (Signal(self.output, a.channels, a.features, a.rate),)


@dataclass(frozen=True)
class Multiply(Binary):
    """Product of two signals; `b` has the shape of `a`, or one channel that multiplies all of them."""

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        a, b = signals[self.a], signals[self.b]
        if not (b.rows == 1 and b.rate == a.rate):
            check_same(self.output, b, a)
        return (Signal(self.output, a.channels, a.features, a.rate),)


@dataclass(frozen=True)
class Affine(Unary):
    """``y = x * scale + shift`` with one scale and one shift per channel, or one for all."""

    scale: Array
    shift: Array | None = None

    @property
    def arrays(self) -> dict[str, Array]:
        return {"scale": self.scale} | ({} if self.shift is None else {"shift": self.shift})

    def multiply_adds(self) -> float:
        return int(self.scale.size)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        for what, values in self.arrays.items():
            count = 1 if values.size == 1 else source.channels
            check_array(self.output, what, values, 1, count)
        return (Signal(self.output, source.channels, source.features, source.rate),)


@dataclass(frozen=True)
class BatchNorm(Unary):
    """Batch normalisation with frozen statistics (Ioffe and Szegedy 2015): one value per channel each."""

    mean: Array
    variance: Array
    gamma: Array | None = None
    beta: Array | None = None
    epsilon: float = 1e-5

    @property
    def arrays(self) -> dict[str, Array]:
        found = {"mean": self.mean, "variance": self.variance, "gamma": self.gamma, "beta": self.beta}
        return {name: values for name, values in found.items() if values is not None}

    def multiply_adds(self) -> float:
        return int(self.mean.size)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        for what, values in self.arrays.items():
            check_array(self.output, what, values, 1, source.channels)
        if not (np.isfinite(self.epsilon) and np.all(self.variance + np.float64(self.epsilon) > 0)):
            raise ModelError(f"{self.output}: variance plus epsilon has to be positive")
        return (Signal(self.output, source.channels, source.features, source.rate),)


@dataclass(frozen=True)
class Crossfade(Binary):
    """``a * (1 - t) + b * t``, exactly `a` where t is 0 and exactly `b` where t is 1.

    `position` is the signal t, from 0 to 1: one channel that moves all of them, or the shape of `a`.
    """

    position: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b, self.position)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        a, b, t = (signals[name] for name in self.inputs)
        check_same(self.output, b, a)
        if not (t.rows == 1 and t.rate == a.rate):
            check_same(self.output, t, a)
        return (Signal(self.output, a.channels, a.features, a.rate),)
