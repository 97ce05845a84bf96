"""ONNX's operators that compute number by number or move axes about, on what moves with time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..activations import Activation
from ..errors import ModelError
from ._network import Network, Track, Value
from ._onnx_call import Call
from ._onnx_fold import flattened, reshaped, shape_of, sliced, split_sizes
from ._onnx_proto import FLOATS
from ._values import axis_of, broadcast_shape

Made = Value | list[Value]

#: Self-normalising networks (Klambauer et al. 2017), as ONNX rounds them.
_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


# Arithmetic.


def _sum(call: Call) -> Value:
    made = call.value(0)
    for index in range(1, len(call.values)):
        made = call.network.add(made, call.value(index))
    return made


def _pow(call: Call) -> Made:
    return call.network.power(call.value(0), call.number_of(1))


def _neg(call: Call) -> Made:
    return call.network.multiply(call.value(0), np.array(-1.0))


def _extreme(low: bool) -> Callable[[Call], Made]:
    """The larger of a tensor and numbers (`low`), or the smaller: a limit."""

    def maker(call: Call) -> Made:
        moving = [v for v in call.values if not isinstance(v, np.ndarray)]
        if len(moving) != 1 or moving[0] is None:
            raise ModelError("compares two tensors that move with time, which is not supported")
        x: Value = moving[0]
        for index, value in enumerate(call.values):
            if isinstance(value, np.ndarray):
                limit = call.number_of(index)
                x = call.network.clip(x, limit if low else None, None if low else limit)
        return x

    return maker


def _clip(call: Call) -> Made:
    low, high = (call.number_of(index) if call.has(index) else None for index in (1, 2))
    if low is not None and high is not None and low > high:
        raise ModelError(f"expected limits in order, found {low:g} and {high:g}")
    return call.network.clip(call.value(0), low, high)


def _gemm(call: Call) -> Made:
    call.expect("transA", 0)
    weight = call.floats(1)
    if weight.ndim != 2:
        raise ModelError(f"expected a matrix, found shape {list(weight.shape)}")
    if not call.integer("transB", 0):
        weight = weight.T
    weight = weight * np.float32(call.number("alpha", 1.0))
    bias = call.floats_or_none(2)
    if bias is not None:
        if bias.size not in (1, weight.shape[0]) or (bias.size > 1 and bias.shape[-1] != bias.size):
            raise ModelError(f"expected {weight.shape[0]} numbers to add, found shape {list(bias.shape)}")
        bias = np.broadcast_to(bias.reshape(-1), (weight.shape[0],)) * np.float32(call.number("beta", 1.0))
    track = call.network.track(call.value(0))
    if len(track.shape) != 2:
        raise ModelError(f"expected a tensor of two axes, found {track.described}")
    return call.network.linear(track, np.ascontiguousarray(weight), bias)


def _matmul(call: Call) -> Made:
    for index, value in enumerate(call.values):
        if isinstance(value, np.ndarray):
            call.floats(index)
    return call.network.matmul(call.value(0), call.value(1))


# Activations.


def _act(kind: str, *parameters: float) -> Callable[[Call], Made]:
    return lambda call: call.network.activate(call.value(0), Activation(kind, parameters))


def _act_with(kind: str, **defaults: float) -> Callable[[Call], Made]:
    """An activation with attributes as its parameters, in order."""
    return lambda call: call.network.activate(
        call.value(0), Activation(kind, tuple(call.number(n, d) for n, d in defaults.items()))
    )


def _times(network: Network, value: Value, factor: float) -> Value:
    return network.multiply(value, np.array(factor))


def _selu(call: Call) -> Made:
    alpha, gamma = call.number("alpha", _SELU_ALPHA), call.number("gamma", _SELU_GAMMA)
    elu = call.network.activate(call.value(0), Activation("elu", (alpha,)))
    return _times(call.network, elu, gamma)


def _celu(call: Call) -> Made:
    alpha = call.number("alpha", 1.0)
    if alpha <= 0:
        raise ModelError(f"attribute 'alpha': expected more than 0, found {alpha:g}")
    scaled = _times(call.network, call.value(0), 1.0 / alpha)
    return _times(call.network, call.network.activate(scaled, Activation("elu", (1.0,))), alpha)


def _swish(call: Call) -> Made:
    alpha = call.number("alpha", 1.0)
    x = call.value(0)
    if alpha == 1.0:
        return call.network.activate(x, Activation("silu"))
    gate = call.network.activate(_times(call.network, x, alpha), Activation("sigmoid"))
    return call.network.multiply(x, gate)


def _mish(call: Call) -> Made:
    soft = call.network.activate(call.value(0), Activation("softplus", (1.0,)))
    return call.network.multiply(call.value(0), call.network.activate(soft, Activation("tanh")))


def _gelu(call: Call) -> Made:
    call.expect("approximate", "none", "tanh")
    kind = "gelu" if call.text("approximate", "none") == "none" else "gelu_tanh"
    return call.network.activate(call.value(0), Activation(kind))


def _prelu(call: Call) -> Made:
    track = call.network.track(call.value(0))
    slope = call.floats(1)
    if slope.size != 1:
        track, slope = _per_channel(track, slope)
    parameters = tuple(float(value) for value in slope.reshape(-1))
    return call.network.activate(track, Activation("prelu", parameters))


def _per_channel(track: Track, values: NDArray[np.float32]) -> tuple[Track, NDArray[np.float32]]:
    """The track with its channels where an array that is to broadcast has more than one entry."""
    axes = [axis - values.ndim for axis, size in enumerate(values.shape) if size != 1]
    if len(axes) != 1 or len(track.shape) + axes[0] < 0 or track.shape[axes[0]] != values.size:
        raise ModelError(f"expected one number for each channel of {track.described}, found {values.shape}")
    return track.along_channels(len(track.shape) + axes[0]), values


def _softmax(call: Call) -> Made:
    track = call.network.track(call.value(0))
    axis = axis_of(call.integer("axis", -1), len(track.shape))
    if track.roles[axis] == "time":
        raise ModelError("goes along time, which no stream can do")
    return call.network.activate(track.along_channels(axis), Activation("softmax"))


# Axes.


def _shape(call: Call) -> Made:
    return shape_of(call, call.network.shape_of(call.value(0)))


def _size(call: Call) -> Made:
    return np.array(prod(call.network.shape_of(call.value(0))), np.int64)


def _same(call: Call) -> Made:
    return call.value(0)


def _cast(call: Call) -> Made:
    if call.integer("to") not in FLOATS:
        raise ModelError(f"casts audio to type {call.integer('to')}, expected floating point")
    return call.value(0)


def _cast_like(call: Call) -> Made:
    like = call.value(1)
    if isinstance(like, np.ndarray) and like.dtype.kind != "f":
        raise ModelError(f"casts audio to {like.dtype}, expected floating point")
    return call.value(0)


def _dropout(call: Call) -> Made:
    if call.has(2) and np.any(call.array(2)):
        raise ModelError("is in training; export the model in its evaluation mode")
    return call.value(0)


def _transpose(call: Call) -> Made:
    axes = len(call.network.shape_of(call.value(0)))
    return call.network.transpose(call.value(0), call.integers("perm", range(axes)[::-1]))


def _reshape(call: Call) -> Made:
    return call.network.reshape(call.value(0), reshaped(call, call.network.shape_of(call.value(0))))


def _flatten(call: Call) -> Made:
    return call.network.reshape(call.value(0), flattened(call, call.network.shape_of(call.value(0))))


def _squeeze(call: Call) -> Made:
    return call.network.squeeze(call.value(0), call.integers_of(1) if call.has(1) else None)


def _unsqueeze(call: Call) -> Made:
    return call.network.unsqueeze(call.value(0), call.integers_of(1))


def _expand(call: Call) -> Made:
    shape = call.network.shape_of(call.value(0))
    return call.network.expand(call.value(0), broadcast_shape(shape, call.integers_of(1)))


def _tile(call: Call) -> Made:
    shape, repeats = call.network.shape_of(call.value(0)), call.integers_of(1)
    if len(repeats) != len(shape):
        raise ModelError(f"expected {len(shape)} numbers of repeats, found {len(repeats)}")
    made = call.value(0)
    for axis, (size, count) in enumerate(zip(shape, repeats, strict=True)):
        if count < 1:
            raise ModelError(f"repeats axis {axis} {count} times")
        if size == 1:
            wider = [*call.network.shape_of(made)]
            wider[axis] = count
            made = call.network.expand(made, wider)
        elif count > 1:
            if size * count > 1 << 16:
                raise ModelError(f"repeats {size} entries of axis {axis} {count} times")
            made = call.network.concat([made] * count, axis)
    return made


def _concat(call: Call) -> Made:
    values = [call.value(index) for index in range(len(call.values))]
    return call.network.concat(values, call.integer("axis"))


def _slice(call: Call) -> Made:
    x = call.value(0)
    shape = call.network.shape_of(x)
    for axis, part in enumerate(sliced(call, shape)):
        stop = part.stop
        if stop is None:  # backwards to the first entry
            stop = -shape[axis] - 1
        elif part.step > 0:
            stop = max(part.start, stop)
        x = call.network.cut(x, axis, part.start, stop, part.step)
    return x


def _split(call: Call) -> Made:
    x = call.value(0)
    shape = call.network.shape_of(x)
    axis = axis_of(call.integer("axis", 0), len(shape))
    edges = [0, *np.cumsum(split_sizes(call, shape[axis])).tolist()]
    return [call.network.cut(x, axis, a, b) for a, b in pairwise(edges)]


def _gather(call: Call) -> Made:
    x, indices = call.value(0), call.array(1)
    shape = call.network.shape_of(x)
    axis = axis_of(call.integer("axis", 0), len(shape))
    if indices.dtype != np.int64 or indices.ndim > 1 or not 1 <= indices.size <= 1 << 16:
        raise ModelError(f"expected a list of integers as input 1, found shape {list(indices.shape)}")
    if np.any((indices < -shape[axis]) | (indices >= shape[axis])):
        raise ModelError(f"takes entries that axis {axis} of {shape[axis]} does not have")
    chosen: list[int] = (indices.reshape(-1) % shape[axis]).tolist()
    parts = [call.network.cut(x, axis, first, last) for first, last in _runs(chosen)]
    made = parts[0] if len(parts) == 1 else call.network.concat(parts, axis)
    return call.network.squeeze(made, [axis]) if indices.ndim == 0 else made


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers as stretches of such that follow each other, each with its end."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def _pad(call: Call) -> Made:
    call.expect("mode", "constant")
    if call.has(2) and call.number_of(2) != 0:
        raise ModelError(f"pads with {call.number_of(2):g}, expected zeros")
    x = call.value(0)
    axes_count = len(call.network.shape_of(x))
    pads = call.integers_of(1)
    axes = call.integers_of(3) if call.has(3) else list(range(axes_count))
    if len(pads) != 2 * len(axes):
        raise ModelError(f"expected {2 * len(axes)} pads, found {len(pads)}")
    found = [(0, 0)] * axes_count
    for place, axis in enumerate(axes):
        found[axis_of(axis, axes_count)] = (pads[place], pads[place + len(axes)])
    return call.network.pad(x, found)


def _depth_to_space(call: Call) -> Made:
    x, block = call.value(0), call.integer("blocksize")
    shape = call.network.shape_of(x)
    if len(shape) != 4 or block < 1 or shape[1] % (block * block):
        raise ModelError(f"cannot make blocks of {block} by {block} of shape {list(shape)}")
    batch, channels, height, width = shape
    call.expect("mode", "DCR", "CRD")
    if call.text("mode", "DCR") == "DCR":
        parted, order = (batch, block, block, channels // block**2, height, width), (0, 3, 4, 1, 5, 2)
    else:
        parted, order = (batch, channels // block**2, block, block, height, width), (0, 1, 4, 2, 5, 3)
    moved = call.network.transpose(call.network.reshape(x, parted), order)
    return call.network.reshape(moved, (batch, channels // block**2, height * block, width * block))


def _mean(call: Call) -> Made:
    return _times(call.network, _sum(call), 1.0 / len(call.values))


def _reduce(mean: bool) -> Callable[[Call], Made]:
    """The sum or mean over some axes; over all where none is given."""

    def maker(call: Call) -> Made:
        track = call.network.track(call.value(0))
        axes = call.integers_of(1) if call.has(1) else list(call.integers("axes", ()))
        if not axes and call.integer("noop_with_empty_axes", 0):
            return track
        found = {axis_of(axis, len(track.shape)) for axis in axes} or set(range(len(track.shape)))
        made = call.network.reduce(track, sorted(found), mean=mean)
        return made if call.integer("keepdims", 1) else call.network.squeeze(made, sorted(found))

    return maker


OPS: Mapping[str, Callable[[Call], Made]] = {
    "Add": lambda call: call.network.add(call.value(0), call.value(1)),
    "Sub": lambda call: call.network.subtract(call.value(0), call.value(1)),
    "Mul": lambda call: call.network.multiply(call.value(0), call.value(1)),
    "Div": lambda call: call.network.divide(call.value(0), call.value(1)),
    **{"Sum": _sum, "Mean": _mean, "Pow": _pow, "Neg": _neg, "Gemm": _gemm, "MatMul": _matmul},
    **{"Max": _extreme(low=True), "Min": _extreme(low=False), "Clip": _clip},
    **{"ReduceSum": _reduce(mean=False), "ReduceMean": _reduce(mean=True)},
    "Erf": lambda call: call.network.erf(call.value(0)),
    "Abs": lambda call: call.network.absolute(call.value(0)),
    "Sin": lambda call: call.network.sin(call.value(0)),
    **{"Relu": _act("relu"), "Sigmoid": _act("sigmoid"), "Tanh": _act("tanh"), "Softsign": _act("softsign")},
    **{"Softplus": _act("softplus", 1.0), "HardSwish": _act("hardswish"), "Mish": _mish, "Gelu": _gelu},
    **{"LeakyRelu": _act_with("leaky_relu", alpha=0.01), "Elu": _act_with("elu", alpha=1.0)},
    **{"HardSigmoid": _act_with("hardsigmoid", alpha=0.2, beta=0.5), "Selu": _selu, "Celu": _celu},
    **{"Swish": _swish, "PRelu": _prelu, "Softmax": _softmax},
    **{"Shape": _shape, "Size": _size, "Identity": _same, "Cast": _cast, "CastLike": _cast_like},
    **{"Dropout": _dropout, "Transpose": _transpose, "Reshape": _reshape, "Flatten": _flatten},
    **{"Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Expand": _expand, "Tile": _tile, "Concat": _concat},
    **{"Slice": _slice, "Split": _split, "Gather": _gather, "Pad": _pad, "DepthToSpace": _depth_to_space},
}
