"""Activations as a .nam file writes them: a name, or an object with a type and parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..activations import Activation
from ..errors import ModelError
from ..layers import Activate, Affine, Node
from ._reading import Fields, as_array, as_float32, as_list, refuse

_KINDS = {
    "Tanh": "tanh",
    "Hardtanh": "hardtanh",
    "Fasttanh": "fasttanh",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "PReLU": "prelu",
    "Sigmoid": "sigmoid",
    "SiLU": "silu",
    "Hardswish": "hardswish",
    "LeakyHardtanh": "leaky_hardtanh",
    "LeakyHardTanh": "leaky_hardtanh",
    "Softsign": "softsign",
    "Softsigmoid": "softsign",
}

#: Parameters by kind, in the graph's order, with NeuralAmpModelerCore's defaults.
_DEFAULTS = {
    "leaky_relu": {"negative_slope": 0.01},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_hardtanh": {"min_val": -1.0, "max_val": 1.0, "min_slope": 0.01, "max_slope": 0.01},
}


@dataclass(frozen=True)
class Curve:
    """A .nam activation in the graph's terms: one of these, for Softsigmoid halved and raised by a half."""

    activation: Activation
    is_halved: bool = False

    def nodes(self, output: str, source: str) -> tuple[Node, ...]:
        """Nodes that apply it to the signal `source` and call the answer `output`."""
        if not self.is_halved:
            return (Activate(output, source, self.activation),)
        half = np.full(1, 0.5, np.float32)
        half.flags.writeable = False
        between = f"{output} softsign"
        return (Activate(between, source, self.activation), Affine(output, between, half, half))

    def lead(self, channels: int, full: int) -> Curve:
        """The same for the leading `channels` of `full`: slopes per channel, where it has them, are cut."""
        slopes = self.activation.parameters
        if self.activation.kind != "prelu" or len(slopes) != full:
            return self
        return replace(self, activation=Activation("prelu", slopes[:channels]))


SIGMOID = Curve(Activation("sigmoid"))


def read_activation(value: object, where: str, notes: dict[str, None]) -> Curve:
    """Read one activation.

    Parameters
    ----------
    value : object
        A name, or an object with ``type`` and parameters, as parsed from JSON. The trainer says ``name`` for
        ``type`` in a post-stack head, and a ConvNet's names may begin with an underscore.
    where : str
        Layer for error messages.
    notes : dict of str to None
        Gains a sentence where another player would do otherwise.

    Raises
    ------
    ModelError
        The activation is unknown or one of its parameters is mistyped.
    """
    if isinstance(value, str):
        value = {"type": value}
    if not isinstance(value, dict):
        refuse(where, "an activation's name or an object with its type", value)
    fields = Fields(value, where)
    name = fields.text("type" if "type" in value or "name" not in value else "name")
    name = name.removeprefix("_")
    if name not in _KINDS:
        raise ModelError(f"{where}: expected an activation out of {', '.join(_KINDS)}, found {name[:40]!r}")
    kind = _KINDS[name]
    known = {"type", "name", "inplace"}
    if kind == "prelu":
        known |= {"negative_slope", "negative_slopes"}
        parameters = _slopes(fields)
    else:
        defaults = _DEFAULTS.get(kind, {})
        known |= set(defaults)
        parameters = tuple(
            as_float32(fields.raw.get(parameter, default), fields.place(parameter))
            for parameter, default in defaults.items()
        )
    if kind == "softsign" and fields.number("alpha", 1.0) != 1.0:
        raise ModelError(f"{where}: Softsign with an alpha other than 1 is not supported yet")
    for unknown in fields.unknown(known | {"alpha"}):
        notes[f"{where}: parameter {unknown[:40]!r} of activation {name} was ignored"] = None
    if kind == "prelu" and not {"negative_slope", "negative_slopes"} & set(value):
        notes[f"{where}: the file does not say the slope of PReLU; 0.01 is taken"] = None
    if kind == "hardtanh" and parameters != (-1.0, 1.0):
        limits = f"{parameters[0]:g} and {parameters[1]:g}"
        notes[
            f"{where}: Hardtanh is limited at {limits} as it was trained; "
            "NeuralAmpModelerCore limits at -1 and 1"
        ] = None
    if name == "Softsigmoid":
        notes[f"{where}: Softsigmoid is played as it was trained; NeuralAmpModelerCore refuses it"] = None
    return Curve(Activation(kind, parameters), name == "Softsigmoid")


def _slopes(fields: Fields) -> tuple[float, ...]:
    if "negative_slope" not in fields.raw and "negative_slopes" in fields.raw:
        where = fields.place("negative_slopes")
        slopes = as_list(fields.value("negative_slopes"), where, " of numbers")
        return tuple(float(slope) for slope in as_array(slopes, (len(slopes),), where))
    return (as_float32(fields.raw.get("negative_slope", 0.01), fields.place("negative_slope")),)
