"""One op of an exported PyTorch module, with its arguments by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..layers import Array
from ._network import Network, Track, Value
from ._values import Curve, Extra, Final, axis_of

#: Values that are no constants.
MOVING = (Track, Extra, Final, Curve)


@dataclass(frozen=True)
class Call:
    """An op that is called with something that moves with time.

    Attributes
    ----------
    net : Network
    op : str
        Its name, without that of the overload.
    arguments : mapping
        By the names of the op's schema, defaults included; constant tensors as NumPy arrays.
    shapes : tuple of shapes
        Those of the tensors it makes, as PyTorch has them.
    """

    net: Network
    op: str
    arguments: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, otherwise: Any = None) -> Any:
        """An argument that only some forms of the op have."""
        return self.arguments.get(name, otherwise)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first tensor it makes."""
        return self.shapes[0]

    def value(self, name: str) -> Value:
        """A tensor or number."""
        return as_value(self.arguments[name], name)

    def track(self, name: str) -> Track:
        """A tensor that moves with time."""
        return self.net.track(self.value(name))

    @property
    def first(self) -> Value:
        """The tensor it works on, whatever the op calls it."""
        return self.value("self" if "self" in self.arguments else "input")

    def array(self, name: str) -> Array:
        """A constant tensor in float32."""
        found = self.arguments[name]
        if not isinstance(found, np.ndarray):
            raise ModelError(f"expected a constant {name}")
        return float32(found)

    def optional_array(self, name: str) -> Array | None:
        """A constant tensor in float32, or None."""
        return None if self.arguments[name] is None else self.array(name)

    def number(self, name: str) -> float:
        """A number, or a constant tensor of one."""
        found = self.arguments[name]
        if isinstance(found, np.ndarray) and found.size == 1:
            return float(found.item())
        if isinstance(found, bool | int | float):
            return float(found)
        raise ModelError(f"expected a number as {name}")

    def integers(self, name: str, count: int) -> list[int]:
        """That many integers, of which PyTorch writes equal ones once."""
        found = self.arguments[name]
        found = list(found) if isinstance(found, list | tuple) else [found]
        return [int(n) for n in (found * count if len(found) == 1 else found)]

    def axis(self, value: Value, name: str = "dim") -> int:
        """An axis of a value, counted from the front."""
        return axis_of(int(self.arguments[name]), len(self.net.shape_of(value)))


#: What an op makes of a call: a value, or several.
Handler = Callable[[Call], Any]


def as_value(found: Any, name: str) -> Value:
    """A tensor as it is, a number as a constant."""
    if isinstance(found, MOVING):
        return found
    if isinstance(found, np.ndarray) and found.dtype.kind in "fiub":
        return found
    if isinstance(found, bool | int | float):
        return np.array(float(found))
    raise ModelError(f"expected a tensor of real numbers as {name}")


def float32(values: NDArray[Any]) -> Array:
    """Weights as the graph holds them; what overflows is infinite, which the graph refuses by name."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float32, order="C")


def moved(net: Network, value: Value, source: int, target: int) -> Value:
    """The tensor with one axis elsewhere, the others in their order."""
    order = [axis for axis in range(len(net.shape_of(value))) if axis != source]
    order.insert(target, source)
    return net.transpose(value, order)


def flag(call: Call, name: str) -> bool:
    """Whether an option is given and true."""
    return bool(call.get(name, False))


def many(names: str, handler: Handler) -> dict[str, Handler]:
    """One handler for ops of several names, between spaces."""
    return dict.fromkeys(names.split(), handler)
