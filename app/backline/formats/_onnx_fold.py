"""ONNX's operators on constants: shapes worked out by the file, and arithmetic on weights, in NumPy.

What an operator makes is bounded before it is made, by `Budget`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..layers import MAX_ELEMENTS
from ._onnx_call import Call
from ._values import axis_of, broadcast_shape

Constant = NDArray[Any]


class Budget:
    """How much may still be made of constants: entries, and products of matrices."""

    def __init__(self) -> None:
        self._entries = MAX_ELEMENTS
        self._products = 1 << 32

    def spend(self, shape: Sequence[int], products: int = 0) -> None:
        """Take what an array of `shape` needs; raise `ModelError` where it is too much."""
        if any(size < 0 for size in shape):
            raise ModelError(f"makes a constant of shape {list(shape)}")
        count = prod(int(size) for size in shape)
        self._entries -= count
        self._products -= products
        if self._entries < 0 or self._products < 0:
            raise ModelError(
                f"makes a constant of {count} entries, at most {MAX_ELEMENTS} are allowed in all"
            )


def fold(call: Call, budget: Budget) -> list[Constant]:
    """What an operator makes of constants alone.

    Raises
    ------
    ModelError
        The operator is not known, the constants do not fit it, or the result would be too large.
    """
    maker = MAKERS.get(call.op)
    if maker is None:
        raise ModelError("is not supported, not even on constants")
    try:
        with np.errstate(all="ignore"):
            made = maker(call, budget)
    except (TypeError, ValueError, IndexError, OverflowError, ArithmeticError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"cannot be worked out on its constants: {text[:120]}") from None
    return made if isinstance(made, list) else [np.asarray(made)]


Maker = Callable[[Call, Budget], "Constant | list[Constant]"]


def _plain(f: Callable[..., Any]) -> Maker:
    """An operator that works number by number, shapes broadcast."""

    def maker(call: Call, budget: Budget) -> Constant:
        arrays = call.arrays()
        if not arrays:
            raise ModelError("has no inputs")
        budget.spend(broadcast_shape(*(array.shape for array in arrays)))
        return _like(f(*arrays), arrays)

    return maker


def _like(made: Any, arrays: Sequence[Constant]) -> Constant:
    """A result in float32 where all its floats were; NumPy would go to float64 beside integers."""
    found: Constant = np.asarray(made)
    if found.dtype == np.float64 and not any(array.dtype == np.float64 for array in arrays):
        return found.astype(np.float32)
    return found


def _over_all(f: Callable[[Any, Any], Any]) -> Maker:
    """An operator of any number of inputs."""

    def many(*arrays: Constant) -> Any:
        made = arrays[0]
        for array in arrays[1:]:
            made = f(made, array)
        return made

    return _plain(many)


def _divide(a: Constant, b: Constant) -> Any:
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        if np.any(b == 0):
            raise ModelError("divides by 0")
        # Towards zero, where NumPy goes down.
        return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
    return a / b


def _power(a: Constant, b: Constant) -> Any:
    if a.dtype.kind in "iu":
        return np.power(a.astype(np.float64), b).astype(np.int64)
    return np.power(a, b.astype(a.dtype))


def _remainder(call: Call, budget: Budget) -> Constant:
    return np.asarray(_plain(np.fmod if call.integer("fmod", 0) else np.mod)(call, budget))


def _where(condition: Constant, a: Constant, b: Constant) -> Any:
    return np.where(condition.astype(np.bool_), a, b)


def _clip(call: Call, budget: Budget) -> Constant:
    x = call.array(0)
    budget.spend(x.shape)
    for index, f in ((1, np.maximum), (2, np.minimum)):
        if call.has(index):
            x = f(x, call.array(index).reshape(()).astype(x.dtype))
    return x


def _erf(call: Call, budget: Budget) -> Constant:
    x = call.array(0)
    # One Python number each, which takes more room and time than an entry of an array.
    budget.spend((x.size * 32,))
    return np.array([math.erf(value) for value in x.ravel().tolist()], x.dtype).reshape(x.shape)


def _reciprocal(x: Constant) -> Any:
    return 1 / x


def _relu(x: Constant) -> Any:
    return np.maximum(x, 0)


def _sigmoid(x: Constant) -> Any:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Constant) -> Any:
    return np.logaddexp(np.zeros_like(x), x)


def _cast(call: Call, budget: Budget) -> Constant:
    x = call.array(0)
    budget.spend(x.shape)
    kind = call.integer("to")
    if kind == 10:
        return x.astype(np.float16).astype(np.float32)
    if kind == 16:
        bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
        # To the nearest, ties to even.
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16
        return np.asarray(rounded.astype(np.uint32).view(np.float32))
    wanted = {1: np.float32, 11: np.float64, 6: np.int64, 7: np.int64, 9: np.bool_}.get(kind)
    if wanted is None:
        raise ModelError(f"casts to type {kind}, which is not supported")
    if wanted is np.int64 and x.dtype.kind == "f" and not np.all(np.abs(x) < 2**62):
        raise ModelError("casts numbers to integers that cannot hold them")
    return x.astype(wanted)


def _cast_like(call: Call, budget: Budget) -> Constant:
    x = call.array(0)
    budget.spend(x.shape)
    return x.astype(call.array(1).dtype)


# Shapes.


def reshaped(call: Call, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that a Reshape asks for: 0 keeps a size, -1 takes what is left."""
    wanted = [int(size) for size in call.integers_of(1)]
    if not call.integer("allowzero", 0):
        if any(size == 0 and axis >= len(shape) for axis, size in enumerate(wanted)):
            raise ModelError(f"cannot reshape {list(shape)} to {wanted}")
        wanted = [shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    total, known = prod(shape), prod(size for size in wanted if size != -1)
    if wanted.count(-1) > 1 or min(wanted, default=0) < -1:
        raise ModelError(f"cannot reshape {list(shape)} to {wanted}")
    if -1 in wanted:
        if known == 0 or total % known:
            raise ModelError(f"cannot reshape {list(shape)} to {wanted}")
        wanted[wanted.index(-1)] = total // known
    return tuple(wanted)


def sliced(call: Call, shape: Sequence[int]) -> list[slice]:
    """What a Slice takes of each axis, with no number below 0 but steps; those backwards may end in None."""
    starts, ends = call.integers_of(1), call.integers_of(2)
    axes = call.integers_of(3) if call.has(3) else list(range(len(starts)))
    steps = call.integers_of(4) if call.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ModelError("expected as many starts as ends, axes and steps")
    found = [slice(0, size, 1) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            raise ModelError("takes steps of 0")
        at = axis_of(axis, len(shape))
        first, last, step = slice(start, end, step).indices(shape[at])
        found[at] = slice(first, None if last < 0 else last, step)
    return found


def split_sizes(call: Call, size: int) -> list[int]:
    """How many entries each output of a Split takes of an axis of `size`."""
    if call.has(1):
        sizes = call.integers_of(1)
    else:
        count = call.integer("num_outputs", call.output_count)
        if not 1 <= count <= max(1, size):
            raise ModelError(f"splits {size} entries in {count}")
        each = -(-size // count)
        sizes = [each] * (count - 1) + [size - each * (count - 1)]
    if sum(sizes) != size or min(sizes, default=0) < 0 or len(sizes) != call.output_count:
        raise ModelError(f"splits {size} entries into {call.output_count} of {sizes[:8]}")
    return sizes


def flattened(call: Call, shape: Sequence[int]) -> tuple[int, int]:
    """The two sizes that a Flatten makes."""
    axis = call.integer("axis", 1)
    if axis != len(shape):
        axis = axis_of(axis, len(shape))
    return prod(shape[:axis]), prod(shape[axis:])


def _size(call: Call, budget: Budget) -> Constant:
    return np.array(call.array(0).size, np.int64)


def _reshape(call: Call, budget: Budget) -> Constant:
    return call.array(0).reshape(reshaped(call, call.array(0).shape))


def _flatten(call: Call, budget: Budget) -> Constant:
    return call.array(0).reshape(flattened(call, call.array(0).shape))


def _unsqueeze(call: Call, budget: Budget) -> Constant:
    return np.expand_dims(call.array(0), tuple(call.integers_of(1)))


def _transpose(call: Call, budget: Budget) -> Constant:
    x = call.array(0)
    return x.transpose(call.integers("perm", range(x.ndim)[::-1]))


def _gather(call: Call, budget: Budget) -> Constant:
    x, indices = call.array(0), call.array(1)
    axis = axis_of(call.integer("axis", 0), x.ndim)
    budget.spend((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    return np.take(x, indices.astype(np.int64), axis=axis)


def _squeeze(call: Call, budget: Budget) -> Constant:
    x = call.array(0)
    axes = call.integers_of(1) if call.has(1) else [a for a, size in enumerate(x.shape) if size == 1]
    return x.squeeze(tuple(axes))


def _concat(call: Call, budget: Budget) -> Constant:
    arrays = call.arrays()
    budget.spend((sum(array.size for array in arrays),))
    return np.concatenate(arrays, call.integer("axis"))


def _slice(call: Call, budget: Budget) -> Constant:
    x = call.array(0)
    return x[tuple(sliced(call, x.shape))]


def _split(call: Call, budget: Budget) -> list[Constant]:
    x = call.array(0)
    axis = axis_of(call.integer("axis", 0), x.ndim)
    edges = np.cumsum(split_sizes(call, x.shape[axis]))[:-1]
    return list(np.split(x, edges, axis))


def _filled(call: Call, budget: Budget) -> Constant:
    shape = call.integers_of(0)
    budget.spend(shape)
    value = call.constant("value", np.zeros(1, np.float32))
    if value.size != 1:
        raise ModelError(f"expected one number to fill with, found {value.size}")
    return np.full(shape, value.reshape(()), value.dtype)


def _expand(call: Call, budget: Budget) -> Constant:
    x = call.array(0)
    shape = broadcast_shape(x.shape, call.integers_of(1))
    budget.spend(shape)
    return np.broadcast_to(x, shape)


def _tile(call: Call, budget: Budget) -> Constant:
    x, repeats = call.array(0), call.integers_of(1)
    if len(repeats) != x.ndim:
        raise ModelError(f"expected {x.ndim} numbers of repeats, found {len(repeats)}")
    budget.spend([size * count for size, count in zip(x.shape, repeats, strict=True)])
    return np.tile(x, repeats)


def _range(call: Call, budget: Budget) -> Constant:
    start, limit, delta = (call.array(i).reshape(()).item() for i in range(3))
    if delta == 0:
        raise ModelError("takes steps of 0")
    count = max(0, math.ceil((limit - start) / delta))
    budget.spend((count,))
    return np.asarray((start + np.arange(count) * delta).astype(call.array(0).dtype))


def _shape(call: Call, budget: Budget) -> Constant:
    return shape_of(call, call.array(0).shape)


def shape_of(call: Call, shape: Sequence[int]) -> Constant:
    """What Shape makes of a tensor."""
    end = call.integer("end") if "end" in call.attributes else None
    return np.array(shape[call.integer("start", 0) : end], np.int64)


def _constant(call: Call, budget: Budget) -> Constant:
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32)):
        if name in call.attributes:
            return np.asarray(call.attributes[name], kind)
    for name in ("value_int", "value_ints"):
        if name in call.attributes:
            return np.asarray(call.attributes[name], np.int64)
    value = call.attributes.get("value")
    if not isinstance(value, np.ndarray):
        raise ModelError("expected numbers as its value")
    return value


def _reduce(f: Callable[..., Any]) -> Maker:
    def maker(call: Call, budget: Budget) -> Constant:
        x = call.array(0)
        axes = call.integers_of(1) if call.has(1) else call.integers("axes", ())
        budget.spend(x.shape)
        if not axes and call.integer("noop_with_empty_axes", 0):
            return x
        chosen = tuple(axis_of(axis, x.ndim) for axis in axes) or None
        return _like(f(x, axis=chosen, keepdims=bool(call.integer("keepdims", 1))), [x])

    return maker


def _norm1(x: Constant, **options: Any) -> Any:
    return np.sum(np.abs(x), **options)


def _square_sum(x: Constant, **options: Any) -> Any:
    return np.sum(np.square(x), **options)


def _norm2(x: Constant, **options: Any) -> Any:
    return np.sqrt(np.sum(np.square(x.astype(np.float64)), **options)).astype(x.dtype)


def _matmul(call: Call, budget: Budget) -> Constant:
    a, b = call.array(0), call.array(1)
    if min(a.ndim, b.ndim) < 1:
        raise ModelError("expected two matrices")
    outer = broadcast_shape(a.shape[:-2], b.shape[:-2])
    made = (*outer, *a.shape[-2:-1], *b.shape[-1:]) if b.ndim > 1 else (*outer, *a.shape[:-1])
    budget.spend(made, prod(made) * a.shape[-1])
    return np.asarray(np.matmul(a, b))


def _identity(call: Call, budget: Budget) -> Constant:
    return call.array(0)


_BY_NUMBER: Mapping[str, Callable[..., Any]] = {
    **{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide, "Pow": _power},
    **{"Neg": np.negative, "Abs": np.abs, "Sign": np.sign, "Sqrt": np.sqrt, "Exp": np.exp, "Log": np.log},
    **{"Floor": np.floor, "Ceil": np.ceil, "Round": np.round, "Reciprocal": _reciprocal},
    **{"Sin": np.sin, "Cos": np.cos, "Tanh": np.tanh, "Relu": _relu, "Sigmoid": _sigmoid},
    **{"Equal": np.equal, "Less": np.less, "Greater": np.greater, "LessOrEqual": np.less_equal},
    **{"GreaterOrEqual": np.greater_equal, "Not": np.logical_not, "And": np.logical_and},
    **{"Or": np.logical_or, "Xor": np.logical_xor, "Where": _where, "Softplus": _softplus},
}
_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    **{"ReduceProd": np.prod, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min},
    **{"ReduceMean": np.mean, "ReduceL1": _norm1, "ReduceL2": _norm2, "ReduceSumSquare": _square_sum},
}
#: Operators that are known on constants.
MAKERS: Mapping[str, Maker] = {
    "Constant": _constant,
    "Identity": _identity,
    "Dropout": _identity,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Shape": _shape,
    "Size": _size,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Tile": _tile,
    "Range": _range,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Gather": _gather,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "MatMul": _matmul,
    "Erf": _erf,
    "Clip": _clip,
    "Mod": _remainder,
    **{name: _over_all(f) for name, f in {"Sum": np.add, "Max": np.maximum, "Min": np.minimum}.items()},
    **{name: _plain(f) for name, f in _BY_NUMBER.items()},
    **{name: _reduce(f) for name, f in _REDUCTIONS.items()},
}
