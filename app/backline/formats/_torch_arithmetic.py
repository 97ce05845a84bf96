"""PyTorch's arithmetic, matrix products and activations on a `Network`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from ..activations import Activation
from ..errors import ModelError
from ._network import Network, Value
from ._torch_call import Call, Handler, as_value, flag, float32, many, moved

#: From Klambauer et al. 2017, as PyTorch has them.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
#: Below it PyTorch's softplus computes what its name says; the line it becomes there is 2e-9 off.
_SOFTPLUS_THRESHOLD = 20.0


def _scaled(net: Network, value: Value, factor: float) -> Value:
    return value if factor == 1.0 else net.multiply(value, np.array(factor))


def _other(call: Call) -> Value:
    """The second operand, times alpha."""
    alpha = call.number("alpha") if call.get("alpha") is not None else 1.0
    return _scaled(call.net, call.value("other"), alpha)


def _add(call: Call) -> Value:
    return call.net.add(call.first, _other(call))


def _sub(call: Call) -> Value:
    return call.net.subtract(call.first, _other(call))


def _rsub(call: Call) -> Value:
    alpha = call.number("alpha")
    return call.net.subtract(call.value("other"), _scaled(call.net, call.first, alpha))


def _mul(call: Call) -> Value:
    return call.net.multiply(call.first, call.value("other"))


def _div(call: Call) -> Value:
    if call.get("rounding_mode") is not None:
        raise ModelError("rounds what it divides, which is not supported")
    return call.net.divide(call.first, call.value("other"))


def _neg(call: Call) -> Value:
    return call.net.multiply(call.first, np.array(-1.0))


def _pow(call: Call) -> Value:
    return call.net.power(call.first, call.number("exponent"))


def _square(call: Call) -> Value:
    return call.net.power(call.first, 2.0)


def _addcmul(call: Call) -> Value:
    net = call.net
    product = net.multiply(call.value("tensor1"), call.value("tensor2"))
    return net.add(call.first, _scaled(net, product, call.number("value")))


def _lerp(call: Call) -> Value:
    net, start = call.net, call.first
    return net.add(start, net.multiply(call.value("weight"), net.subtract(call.value("end"), start)))


def _sin(call: Call) -> Value:
    return call.net.sin(call.first)


def _cos(call: Call) -> Value:
    return call.net.sin(call.net.add(call.first, np.array(math.pi / 2)))


def _erf(call: Call) -> Value:
    return call.net.erf(call.first)


# Matrices.


def _linear(call: Call) -> Value:
    return call.net.linear(call.first, call.array("weight"), call.optional_array("bias"))


def _product(net: Network, a: Value, b: Value) -> Value:
    if isinstance(b, np.ndarray) and b.ndim == 1:
        made = net.matmul(a, b[:, None])
        return net.squeeze(made, [-1])
    return net.matmul(a, b)


def _matmul(call: Call) -> Value:
    second = "mat2" if "mat2" in call.arguments else "other" if "other" in call.arguments else "vec"
    return _product(call.net, call.first, call.value(second))


def _addmm(call: Call) -> Value:
    net = call.net
    names = ("batch1", "batch2") if "batch1" in call.arguments else ("mat1", "mat2")
    product = _product(net, call.value(names[0]), call.value(names[1]))
    added = _scaled(net, call.first, call.number("beta"))
    return net.add(_scaled(net, product, call.number("alpha")), added)


def _einsum(call: Call) -> Value:
    """A contraction of one axis of a tensor with a constant matrix, as in ``bct,dc->bdt``."""
    equation = call["equation"].replace(" ", "")
    inputs, _, made = equation.partition("->")
    names, operands = inputs.split(","), list(call["tensors"])
    if len(operands) == 2 and isinstance(operands[0], np.ndarray):
        names, operands = names[::-1], operands[::-1]
    if len(operands) != 2 or not isinstance(operands[1], np.ndarray):
        raise ModelError(f"einsum {equation}: expected a tensor and a constant")
    moving, fixed = names
    gone = [label for label in fixed if label in moving and label not in made]
    new = [label for label in fixed if label not in moving]
    if (
        len(fixed) != 2
        or len(gone) != 1
        or len(new) != 1
        or sorted(made) != sorted(moving.replace(gone[0], new[0]))
    ):
        raise ModelError(f"einsum {equation}: only a product with a matrix, as in bct,dc->bdt, is supported")
    net, at = call.net, moving.index(gone[0])
    weight = operands[1] if fixed[0] == new[0] else operands[1].T
    last = len(moving) - 1
    product = net.linear(moved(net, as_value(operands[0], "tensors"), at, last), float32(weight), None)
    order = [*moving[:at], *moving[at + 1 :], new[0]]
    return net.transpose(product, [order.index(label) for label in made])


def _sum(call: Call, mean: bool) -> Value:
    """Sum or mean over axes other than time."""
    net, value = call.net, call.first
    track = net.track(value)
    dims = call.get("dim")
    axes = range(len(track.shape)) if dims is None else dims if isinstance(dims, list | tuple) else [dims]
    chosen = sorted(axis % len(track.shape) for axis in axes)
    result = net.reduce(track, chosen, mean=mean)
    return result if flag(call, "keepdim") else net.squeeze(result, chosen)


# Activations.


def _activation(kind: str, *parameters: float) -> Handler:
    return lambda call: call.net.activate(call.first, Activation(kind, parameters))


def _with_parameters(kind: str, *names: str) -> Handler:
    def handler(call: Call) -> Value:
        return call.net.activate(call.first, Activation(kind, tuple(call.number(name) for name in names)))

    return handler


def _elu(call: Call) -> Value:
    if call.number("input_scale") != 1.0:
        raise ModelError("scales its input, which is not supported")
    made = call.net.activate(call.first, Activation("elu", (call.number("alpha"),)))
    return _scaled(call.net, made, call.number("scale"))


def _selu(call: Call) -> Value:
    made = call.net.activate(call.first, Activation("elu", (_SELU_ALPHA,)))
    return _scaled(call.net, made, _SELU_SCALE)


def _celu(call: Call) -> Value:
    net, alpha = call.net, call.number("alpha")
    inner = _scaled(net, call.first, 1.0 / alpha)
    return _scaled(net, net.activate(inner, Activation("elu", (1.0,))), alpha)


def _prelu(call: Call) -> Value:
    slopes = call.array("weight").ravel()
    value = call.first
    if slopes.size > 1:
        track = call.net.track(value)
        if len(track.shape) < 2:
            raise ModelError(f"expected channels in axis 1, found {track.described}")
        value = track.along_channels(1)
    return call.net.activate(value, Activation("prelu", tuple(float(slope) for slope in slopes)))


def _rrelu(call: Call) -> Value:
    if flag(call, "training"):
        raise ModelError("draws random numbers")
    slope = (call.number("lower") + call.number("upper")) / 2
    return call.net.activate(call.first, Activation("leaky_relu", (slope,)))


def _gelu(call: Call) -> Value:
    kind = "gelu_tanh" if call["approximate"] == "tanh" else "gelu"
    return call.net.activate(call.first, Activation(kind))


def _softplus(call: Call) -> Value:
    if call.number("threshold") < _SOFTPLUS_THRESHOLD:
        raise ModelError(
            f"turns into a line at {call.number('threshold'):g}; expected {_SOFTPLUS_THRESHOLD:g} or more"
        )
    return call.net.activate(call.first, Activation("softplus", (call.number("beta"),)))


def _log_sigmoid(call: Call) -> Value:
    net = call.net
    return _scaled(net, net.activate(_scaled(net, call.first, -1.0), Activation("softplus", (1.0,))), -1.0)


def _mish(call: Call) -> Value:
    net, x = call.net, call.first
    return net.multiply(x, net.activate(net.activate(x, Activation("softplus", (1.0,))), Activation("tanh")))


def _abs(call: Call) -> Value:
    return call.net.absolute(call.first)


def _softmax(call: Call) -> Value:
    track = call.net.track(call.first)
    axis = call.axis(track)
    if track.roles[axis] == "time":
        raise ModelError("takes a softmax along time, which has no end")
    return call.net.activate(track.along_channels(axis), Activation("softmax"))


def _glu(call: Call) -> Value:
    net, x = call.net, call.first
    axis = call.axis(x)
    half = net.shape_of(x)[axis] // 2
    gate = net.activate(net.cut(x, axis, half, 2 * half), Activation("sigmoid"))
    return net.multiply(net.cut(x, axis, 0, half), gate)


def _clip(low: str | float | None, high: str | float | None) -> Handler:
    """Limits by number, or by the name of an argument that may be None."""

    def handler(call: Call) -> Value:
        def limit(given: str | float | None) -> float | None:
            if isinstance(given, str):
                return None if call.get(given) is None else call.number(given)
            return given

        return call.net.clip(call.first, limit(low), limit(high))

    return handler


ARITHMETIC: Mapping[str, Handler] = {
    "add": _add,
    "rsub": _rsub,
    "mul": _mul,
    "neg": _neg,
    "pow": _pow,
    "square": _square,
    "addcmul": _addcmul,
    "lerp": _lerp,
    "sin": _sin,
    "cos": _cos,
    "erf": _erf,
    **many("sub subtract", _sub),
    **many("div true_divide divide", _div),
    "multiply": _mul,
    "linear": _linear,
    **many("mm bmm matmul mv", _matmul),
    **many("addmm baddbmm", _addmm),
    "einsum": _einsum,
    "sum": partial(_sum, mean=False),
    "mean": partial(_sum, mean=True),
    **{kind: _activation(kind) for kind in ("tanh", "relu", "sigmoid", "silu", "hardswish", "softsign")},
    "hardsigmoid": _activation("hardsigmoid", 1.0 / 6.0, 0.5),
    "leaky_relu": _with_parameters("leaky_relu", "negative_slope"),
    "hardtanh": _clip("min_val", "max_val"),
    "relu6": _clip(0.0, 6.0),
    "clamp": _clip("min", "max"),
    "clip": _clip("min", "max"),
    "clamp_min": _clip("min", None),
    "clamp_max": _clip(None, "max"),
    "elu": _elu,
    "selu": _selu,
    "celu": _celu,
    "prelu": _prelu,
    "rrelu": _rrelu,
    "gelu": _gelu,
    "softplus": _softplus,
    "log_sigmoid": _log_sigmoid,
    "mish": _mish,
    "abs": _abs,
    **many("softmax _softmax", _softmax),
    "glu": _glu,
}
