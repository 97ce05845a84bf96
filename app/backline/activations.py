"""Elementwise non-linearities by name, with their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .errors import ModelError

#: Activation kinds and the names of their parameters, in the order of `Activation.parameters`.
ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "identity": (),
    "tanh": (),
    "fasttanh": (),
    "sigmoid": (),
    "relu": (),
    "leaky_relu": ("negative_slope",),
    "prelu": ("negative_slope per channel",),
    "silu": (),
    "softsign": (),
    "hardtanh": ("min_val", "max_val"),
    "leaky_hardtanh": ("min_val", "max_val", "min_slope", "max_slope"),
    "hardswish": (),
    "elu": ("alpha",),
    "softmax": (),
    "gelu": (),
    "gelu_tanh": (),
    "softplus": ("beta",),
    "hardsigmoid": ("slope", "offset"),
    "snake": ("alpha per channel",),
}

#: Kinds with one parameter per channel, or one for all, and what a model's parameters are called then.
PER_CHANNEL: Mapping[str, str] = {"prelu": "negative_slope", "snake": "alpha"}


@dataclass(frozen=True)
class Activation:
    """An elementwise non-linearity (softmax: over the channels of one frame).

    Attributes
    ----------
    kind : str
        A key of `ACTIVATIONS`. ``fasttanh`` is NAM's rational approximation of tanh, ``hardswish`` is
        ``x * clip(x + 3, 0, 6) / 6``, ``leaky_hardtanh`` has slope `min_slope` below `min_val` and
        `max_slope` above `max_val`. ``gelu`` is ``x Phi(x)`` with the error function and ``gelu_tanh`` its
        approximation (Hendrycks and Gimpel 2016), ``softplus`` is ``log(1 + exp(beta x)) / beta``,
        ``hardsigmoid`` is ``clip(slope x + offset, 0, 1)``, ``snake`` is ``x + sin(alpha x)^2 / alpha``
        (Ziyin, Hartwig and Ueda 2020).
    parameters : tuple of float
        As `ACTIVATIONS` names them; those of `PER_CHANNEL` have one per channel, or one for all.
    """

    kind: str
    parameters: tuple[float, ...] = ()

    def check(self, layer: str, channels: int) -> None:
        """Raise `ModelError` unless kind and parameters fit a signal of `channels` channels."""
        if self.kind not in ACTIVATIONS:
            raise ModelError(f"{layer}: unknown activation {self.kind!r}; known are {', '.join(ACTIVATIONS)}")
        expected = {len(ACTIVATIONS[self.kind])}
        if self.kind in PER_CHANNEL:
            expected = {1, channels}
        if len(self.parameters) not in expected:
            wanted = " or ".join(str(n) for n in sorted(expected))
            raise ModelError(
                f"{layer}: activation {self.kind} takes {wanted} parameters, found {len(self.parameters)}"
            )
        if not np.all(np.isfinite(self.parameters)):
            raise ModelError(f"{layer}: activation {self.kind} has a parameter that is not finite")
        if self.kind == "softplus" and not self.parameters[0] > 0:
            raise ModelError(f"{layer}: beta of softplus is {self.parameters[0]}, expected more than 0")
        if self.kind == "snake" and np.any(np.asarray(self.parameters, np.float32) == 0):
            raise ModelError(f"{layer}: an alpha of snake is 0, expected anything else")
