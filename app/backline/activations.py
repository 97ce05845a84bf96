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
}


@dataclass(frozen=True)
class Activation:
    """An elementwise non-linearity (softmax: over the channels of one frame).

    Attributes
    ----------
    kind : str
        A key of `ACTIVATIONS`. ``fasttanh`` is NAM's rational approximation of tanh, ``hardswish`` is
        ``x * clip(x + 3, 0, 6) / 6``, ``leaky_hardtanh`` has slope `min_slope` below `min_val` and
        `max_slope` above `max_val`.
    parameters : tuple of float
        As `ACTIVATIONS` names them; ``prelu`` has one per channel, or one for all.
    """

    kind: str
    parameters: tuple[float, ...] = ()

    def check(self, layer: str, channels: int) -> None:
        """Raise `ModelError` unless kind and parameters fit a signal of `channels` channels."""
        if self.kind not in ACTIVATIONS:
            raise ModelError(f"{layer}: unknown activation {self.kind!r}; known are {', '.join(ACTIVATIONS)}")
        expected = {len(ACTIVATIONS[self.kind])}
        if self.kind == "prelu":
            expected = {1, channels}
        if len(self.parameters) not in expected:
            wanted = " or ".join(str(n) for n in sorted(expected))
            raise ModelError(
                f"{layer}: activation {self.kind} takes {wanted} parameters, found {len(self.parameters)}"
            )
        if not np.all(np.isfinite(self.parameters)):
            raise ModelError(f"{layer}: activation {self.kind} has a parameter that is not finite")
