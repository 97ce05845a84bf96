"""One operator of an ONNX file as it is met: its inputs and attributes, each checked on access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..layers import Array
from ._network import Network, Value
from ._reading import describe

#: Attributes and entries of shapes are compared with sizes, so anything larger is as good as this.
_FAR = 1 << 40


@dataclass(frozen=True)
class Call:
    """What a node is given; `values` holds None for absent inputs. Methods raise `ModelError`."""

    op: str
    values: Sequence[Value | None]
    attributes: Mapping[str, Any]
    output_count: int
    network: Network

    def has(self, index: int) -> bool:
        """Whether there is an input of that number."""
        return index < len(self.values) and self.values[index] is not None

    def value(self, index: int) -> Value:
        """An input that has to be there."""
        found = self.values[index] if index < len(self.values) else None
        if found is None:
            raise ModelError(f"expected an input {index}, found none")
        return found

    def array(self, index: int) -> NDArray[Any]:
        """An input that has to be a constant."""
        found = self.value(index)
        if not isinstance(found, np.ndarray):
            raise ModelError(
                f"expected a constant as input {index}, found what the model computes from its inputs"
            )
        return found

    def arrays(self) -> list[NDArray[Any]]:
        """All inputs, which have to be constants."""
        return [self.array(index) for index in range(len(self.values))]

    def floats(self, index: int) -> Array:
        """A constant in float32."""
        return self.as_floats(self.array(index), index)

    def as_floats(self, values: NDArray[Any], index: int) -> Array:
        """An array in float32, which has to hold it."""
        if values.dtype.kind != "f":
            raise ModelError(f"expected floating-point numbers as input {index}, found {values.dtype}")
        with np.errstate(over="ignore"):
            found = np.ascontiguousarray(values, np.float32)
        if not np.all(np.isfinite(found)):
            raise ModelError(f"input {index} holds a number that is not finite in float32")
        if values.dtype == np.float64 and not np.array_equal(found, values):
            self.network.note("numbers in double precision are rounded to float32")
        return found

    def floats_or_none(self, index: int) -> Array | None:
        """A constant in float32, or None where it is absent."""
        return self.floats(index) if self.has(index) else None

    def number_of(self, index: int) -> float:
        """A constant of one number."""
        found = self.array(index)
        if found.size != 1 or not isfinite(float(found.reshape(()))):
            raise ModelError(f"expected one finite number as input {index}, found shape {list(found.shape)}")
        return float(found.reshape(()))

    def integers_of(self, index: int) -> list[int]:
        """A constant list of integers, such as a shape."""
        found = self.array(index)
        if found.dtype != np.int64 or found.ndim > 1 or found.size > 4096:
            raise ModelError(f"expected a list of integers as input {index}, found shape {list(found.shape)}")
        return [max(-_FAR, min(_FAR, int(value))) for value in found.reshape(-1)]

    def integer(self, name: str, default: int | None = None) -> int:
        """An attribute; without a default it has to be there."""
        found = self.attributes.get(name, default)
        if type(found) is not int:
            raise ModelError(f"attribute {name!r}: expected an integer, found {describe(found)}")
        return max(-_FAR, min(_FAR, found))

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """An attribute that lists integers."""
        found = self.attributes.get(name, default)
        if not isinstance(found, Sequence) or any(type(item) is not int for item in found):
            raise ModelError(f"attribute {name!r}: expected a list of integers, found {describe(found)}")
        return tuple(max(-_FAR, min(_FAR, item)) for item in found)

    def number(self, name: str, default: float) -> float:
        """An attribute that is a finite number."""
        found = self.attributes.get(name, default)
        if type(found) is not float or not isfinite(found):
            raise ModelError(f"attribute {name!r}: expected a finite number, found {describe(found)}")
        return found

    def text(self, name: str, default: str) -> str:
        """An attribute that is text."""
        found = self.attributes.get(name, default)
        if not isinstance(found, str):
            raise ModelError(f"attribute {name!r}: expected a text, found {describe(found)}")
        return found

    def texts(self, name: str, default: Sequence[str]) -> Sequence[str]:
        """An attribute that lists texts."""
        found = self.attributes.get(name, default)
        if not isinstance(found, Sequence) or any(not isinstance(item, str) for item in found):
            raise ModelError(f"attribute {name!r}: expected a list of texts, found {describe(found)}")
        return found

    def constant(self, name: str, default: NDArray[Any]) -> NDArray[Any]:
        """An attribute that is a tensor."""
        found = self.attributes.get(name, default)
        if not isinstance(found, np.ndarray):
            raise ModelError(f"attribute {name!r}: expected a tensor, found {describe(found)}")
        return found

    def expect(self, name: str, *allowed: Any) -> None:
        """Raise `ModelError` unless an attribute is absent or one of `allowed`."""
        found = self.attributes.get(name, allowed[0])
        if isinstance(found, np.ndarray) or found not in allowed:
            raise ModelError(f"attribute {name!r}: expected {_either(allowed)}, found {describe(found)}")


def _either(allowed: Sequence[Any]) -> str:
    return " or ".join(describe(value) for value in allowed)
