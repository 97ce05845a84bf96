"""Typed access to parsed JSON, and the cursor that deals out a flat list of weights.

Every accessor either returns what it says or raises a `ModelError` that names the place, what was
expected and what was found. Nothing is allocated for a size before that size has been compared with
what the file really holds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite, prod
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np

from ..errors import ModelError
from ..layers import MAX_NODES, MAX_SIZE, Array

_LONGEST_SENTENCE = 400


def describe(value: object) -> str:
    """Say in a few words what a JSON value is, for the end of an error message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "...")
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, Sequence):
        return f"a list of {len(value)}"
    if isinstance(value, Integral) and abs(int(value)) > 10**18:
        return "an integer of more than 18 digits"
    return repr(value) if isinstance(value, int | float) else str(value)


def brief(text: str) -> str:
    """A sentence on one line, cut in its middle where names taken from a file make it long."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    if len(shown) <= _LONGEST_SENTENCE:
        return shown
    return f"{shown[: _LONGEST_SENTENCE // 2]} ... {shown[-_LONGEST_SENTENCE // 3 :]}"


def parse_json(text: str) -> Any:
    """Parse strict JSON: no NaN or infinity, no key twice in an object.

    Raises
    ------
    ModelError
        It is something else.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ModelError(f"is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except ValueError:
        raise ModelError("holds an integer with too many digits") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ModelError(f"holds the number {name}, which no model may")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ModelError(f"an object has the key {twice[:40]!r} twice")
    return found


@contextmanager
def within(where: str) -> Iterator[None]:
    """Put `where` in front of the text of any `ModelError` raised inside."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error


def refuse(where: str, expected: str, found: object) -> NoReturn:
    """Raise `ModelError`: at `where` (may be empty) should be `expected`, but there is `found`."""
    text = f"expected {expected}, found {describe(found)}"
    raise ModelError(f"{where}: {text}" if where else text)


def as_integer(value: object, where: str, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
    """Return an integer from `minimum` to `maximum`; raise `ModelError` otherwise."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not minimum <= int(value) <= maximum:
        refuse(where, f"an integer from {minimum} to {maximum}", value)
    return int(value)


def as_number(value: object, where: str) -> float:
    """Return a finite number as a float; raise `ModelError` otherwise."""
    if not isinstance(value, Real) or isinstance(value, bool):
        refuse(where, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        refuse(where, "a finite number", value)
    if not isfinite(number):
        refuse(where, "a finite number", value)
    return number


def as_float32(value: object, where: str) -> float:
    """Return a number rounded to float32; raise `ModelError` where float32 cannot hold it."""
    return float(as_array([value], (1,), where)[0])


def as_text(value: object, where: str) -> str:
    """Return a string; raise `ModelError` otherwise."""
    if not isinstance(value, str):
        refuse(where, "a string", value)
    return value


def as_flag(value: object, where: str) -> bool:
    """Return true or false; raise `ModelError` otherwise."""
    if not isinstance(value, bool):
        refuse(where, "true or false", value)
    return value


def as_list(value: object, where: str, of: str = "") -> Sequence[Any]:
    """Return a list of 1 to `MAX_NODES` entries; raise `ModelError` otherwise."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) == 0:
        refuse(where, f"a list{of} that is not empty", value)
    if len(value) > MAX_NODES:
        refuse(where, f"a list{of} with at most {MAX_NODES} entries", value)
    return value


def as_integers(value: object, where: str, minimum: int = 1) -> tuple[int, ...]:
    """Return a list of integers from `minimum` to `MAX_SIZE`; raise `ModelError` otherwise."""
    items = as_list(value, where, " of integers")
    return tuple(as_integer(item, f"{where}[{i}]", minimum) for i, item in enumerate(items))


class Fields:
    """One JSON object, read field by field; remembers where it stands for error messages.

    Parameters
    ----------
    value : object
        What the JSON parser returned, or a mapping a caller passed.
    where : str
        Place of the object in the file, or an empty string for the outermost.

    Raises
    ------
    ModelError
        `value` is no object.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            refuse(where, "an object", value)
        self.raw: Mapping[str, Any] = value
        self.where = where

    def place(self, name: str) -> str:
        """Name of a field for error messages."""
        return f"{self.where}: field '{name}'" if self.where else f"field '{name}'"

    def has(self, name: str) -> bool:
        """Whether the field exists and is not null."""
        return self.raw.get(name) is not None

    def value(self, name: str) -> Any:
        """Return a field as it is; raise `ModelError` where it is missing."""
        if name not in self.raw:
            raise ModelError(f"{self.place(name)} is missing")
        return self.raw[name]

    def _value_or(self, name: str, default: object | None) -> Any:
        return default if default is not None and name not in self.raw else self.value(name)

    def integer(self, name: str, default: int | None = None, minimum: int = 1) -> int:
        """Integer from `minimum` to `MAX_SIZE`; required where no default is given."""
        return as_integer(self._value_or(name, default), self.place(name), minimum)

    def number(self, name: str, default: float | None = None) -> float:
        """Finite number; required where no default is given."""
        return as_number(self._value_or(name, default), self.place(name))

    def text(self, name: str, default: str | None = None) -> str:
        """String; required where no default is given."""
        return as_text(self._value_or(name, default), self.place(name))

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false; required where no default is given."""
        return as_flag(self._value_or(name, default), self.place(name))

    def integers(self, name: str, minimum: int = 1) -> tuple[int, ...]:
        """Required list of integers, not empty."""
        return as_integers(self.value(name), self.place(name), minimum)

    def fields(self, name: str) -> Fields:
        """Required object."""
        return Fields(self.value(name), self.place(name))

    def items(self, name: str) -> Sequence[Any]:
        """Required list, not empty."""
        return as_list(self.value(name), self.place(name))

    def unknown(self, known: Iterable[str]) -> list[str]:
        """Names of fields that are not in `known`, sorted."""
        return sorted(set(self.raw) - set(known))

    def notes_on_ignored(self, known: Iterable[str]) -> tuple[str, ...]:
        """A sentence for each field that is not in `known`, and so has no effect."""
        return tuple(f"{self.place(name[:40])} was ignored" for name in self.unknown(known))


def as_array(value: object, shape: tuple[int, ...], where: str) -> Array:
    """Return nested lists of numbers as a read-only float32 array of exactly `shape`.

    Raises
    ------
    ModelError
        A list has the wrong length, an entry is no number, or float32 cannot hold it.
    """
    flat = _flatten(value, shape, where)
    if not set(map(type, flat)) <= {int, float}:
        index = next(i for i, item in enumerate(flat) if type(item) not in (int, float))
        refuse(where + _index_text(index, shape), "a number", flat[index])
    try:
        doubles = np.asarray(flat, dtype=np.float64)
    except OverflowError:
        doubles = np.asarray([item if abs(item) < 1e300 else np.inf for item in flat], dtype=np.float64)
    with np.errstate(over="ignore"):
        singles = doubles.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(singles))
    if bad.size:
        index = int(bad[0])
        refuse(where + _index_text(index, shape), "a number that float32 can hold", flat[index])
    singles.flags.writeable = False
    return singles.reshape(shape)


def _flatten(value: object, shape: tuple[int, ...], where: str) -> list[Any]:
    if not isinstance(value, list):
        refuse(where, f"a list of {shape[0]}", value)
    if len(value) != shape[0]:
        raise ModelError(f"{where}: expected a list of {shape[0]}, found {len(value)} entries")
    if len(shape) == 1:
        return value
    flat: list[Any] = []
    for i, item in enumerate(value):
        flat.extend(_flatten(item, shape[1:], f"{where}[{i}]"))
    return flat


def _index_text(index: int, shape: tuple[int, ...]) -> str:
    return "".join(f"[{int(i)}]" for i in np.unravel_index(index, shape))


class WeightCursor:
    """Deals shaped arrays out of a flat list of weights, in order.

    Parameters
    ----------
    value : object
        The file's list of numbers; rounded to float32 at once.
    where : str
        Name of the list for error messages.

    Raises
    ------
    ModelError
        `value` is no list of numbers, or float32 cannot hold one of them.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, list):
            refuse(where, "a list of numbers", value)
        self._weights = as_array(value, (len(value),), where)
        self._next = 0

    def take(self, shape: tuple[int, ...], layer: str) -> Array:
        """Return the next weights as an array; raise `ModelError` where too few are left."""
        end = self._next + prod(shape)
        if end > self._weights.size:
            raise ModelError(
                f"{layer}: expected at least {end} weights up to here, found {self._weights.size}"
            )
        taken = self._weights[self._next : end].reshape(shape)
        self._next = end
        return taken

    def finish(self) -> None:
        """Raise `ModelError` where weights are left over."""
        if self._next != self._weights.size:
            raise ModelError(f"expected {self._next} weights, found {self._weights.size}")
