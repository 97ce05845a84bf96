"""PyTorch's layers over time on a `Network`: convolutions, norms, recurrences, pools, interpolation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..errors import ModelError
from ..layers import Array
from ._network import Network, Pads, Value
from ._torch_call import Call, Handler, as_value, flag, float32, moved
from ._values import Extra, Final

#: A layer of a recurrent stack: input, weights and first states to output and last states.
_Step = Callable[[Network, Value, Mapping[str, Array], Sequence[Value]], Sequence[Value]]


def _conv(call: Call) -> Value:
    weight = call.array("weight")
    over = weight.ndim - 2
    dilation = call.integers("dilation", over)
    padding = call["padding"]
    pads: list[Pads]
    if padding == "valid":
        pads = [(0, 0)] * over
    elif padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pads = [(total // 2, total - total // 2) for total in reach]
    else:
        pads = [(amount, amount) for amount in call.integers("padding", over)]
    return call.net.conv(
        call.first,
        weight,
        call.optional_array("bias"),
        stride=call.integers("stride", over),
        dilation=dilation,
        groups=int(call["groups"]),
        pads=pads,
    )


def _conv_transpose(call: Call) -> Value:
    weight = call.array("weight")
    if weight.ndim != 3:
        raise ModelError(f"expected a transposed convolution over one axis, found a weight of {weight.shape}")
    (stride,), (dilation,) = call.integers("stride", 1), call.integers("dilation", 1)
    (pad,), (extra,) = call.integers("padding", 1), call.integers("output_padding", 1)
    return call.net.conv_transpose(
        call.first,
        weight,
        call.optional_array("bias"),
        stride=stride,
        dilation=dilation,
        groups=int(call["groups"]),
        pads=(pad, pad),
        extra=extra,
    )


def _convolution(call: Call) -> Value:
    return _conv_transpose(call) if call["transposed"] else _conv(call)


def _batch_norm(call: Call) -> Value:
    if flag(call, "training") or call.get("running_mean") is None:
        raise ModelError("normalises by the statistics of what it is given, which no stream knows")
    return call.net.batch_norm(
        call.first,
        call.array("running_mean"),
        call.array("running_var"),
        call.optional_array("weight"),
        call.optional_array("bias"),
        float(call["eps"]),
    )


def _batch_norm_and_statistics(call: Call) -> list[Any]:
    return [_batch_norm(call), None, None]


def _gru(call: Call) -> list[Value]:
    def step(net: Network, x: Value, weights: Mapping[str, Array], first: Sequence[Value]) -> Sequence[Value]:
        return net.gru(x, weights, first[0])

    return _stack(call, [as_value(call["hx"], "hx")], step)


def _lstm(call: Call) -> list[Value]:
    def step(net: Network, x: Value, weights: Mapping[str, Array], first: Sequence[Value]) -> Sequence[Value]:
        # Summed as wide as PyTorch adds them: rounding twice would cost a bit.
        bias = weights["bias_ih"].astype(np.float64) + weights["bias_hh"]
        arrays = {"weight_ih": weights["weight_ih"], "weight_hh": weights["weight_hh"], "bias": float32(bias)}
        return net.lstm(x, arrays, first[0], first[1])

    return _stack(call, [as_value(state, "hx") for state in call["hx"]], step)


def _stack(call: Call, states: Sequence[Value], step: _Step) -> list[Value]:
    """The output of recurrent layers one after the other, then the last states of all."""
    if flag(call, "bidirectional"):
        raise ModelError("is bidirectional, which needs the end of the recording first")
    net, count = call.net, int(call["num_layers"])
    x: Value = _timed(call)
    for state in states:
        if net.shape_of(state)[0] != count:
            raise ModelError(f"expected states of {count} layers, found {list(net.shape_of(state))}")
    title = net.line.layer
    ends: list[list[Value]] = []
    for layer, weights in enumerate(_weights(call, count)):
        first = [state if count == 1 else net.cut(state, 0, layer, layer + 1) for state in states]
        net.line.layer = title if count == 1 else f"{title} {layer}"
        x, *last = step(net, x, weights, first)
        ends.append([_shaped(net, end, state) for end, state in zip(last, first, strict=True)])
    net.line.layer = title
    return [x, *(_joined(net, title, list(each)) for each in zip(*ends, strict=True))]


def _timed(call: Call) -> Value:
    """A recurrent stack's input, which runs along time and holds one example."""
    track = call.track("input")
    time = 1 if call["batch_first"] else 0
    if track.axis("time") != time:
        raise ModelError(
            f"runs along axis {time} of a tensor of {track.described}, which is not time; see batch_first"
        )
    if track.shape[1 - time] != 1:
        raise ModelError(f"expected one example in axis {1 - time}, found {track.shape[1 - time]}")
    return track


def _weights(call: Call, count: int) -> list[dict[str, Array]]:
    """Arrays of each layer by their names, zeros for biases it does not have."""
    parameters = call["params"]
    each = 4 if call["has_biases"] else 2
    if len(parameters) != each * count:
        raise ModelError("has projections (proj_size), which are not supported")
    if not all(isinstance(values, np.ndarray) for values in parameters):
        raise ModelError("expected constant weights")
    found = []
    for layer in range(count):
        arrays = [float32(values) for values in parameters[layer * each : (layer + 1) * each]]
        if each == 2:
            arrays += [np.zeros(arrays[0].shape[0], np.float32)] * 2
        found.append(dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), arrays, strict=True)))
    return found


def _shaped(net: Network, end: Value, state: Value) -> Value:
    """A last state in the shape of the first one."""
    return net.reshape(end, net.shape_of(state)) if isinstance(end, Extra) else end


def _joined(net: Network, title: str, ends: list[Value]) -> Value:
    """Last states of all layers of a stack."""
    if all(isinstance(end, Extra) for end in ends):
        return ends[0] if len(ends) == 1 else net.concat(ends, 0)
    return Final(title)


def _window(call: Call) -> tuple[int, int, int, Pads]:
    """Kernel, stride, dilation and padding along time of a pool over one or two axes."""
    over = 2 if "2d" in call.op else 1
    kernel = call.integers("kernel_size", over)
    stride = call.integers("stride", over) or kernel
    dilation = call.integers("dilation", over) if "dilation" in call.arguments else [1] * over
    padding = call.integers("padding", over)
    track = call.net.track(call.first)
    at = 0
    if over == 2:
        if track.axis("time") not in (2, 3):
            raise ModelError(f"expected time in one of the last two axes, found {track.described}")
        at = track.roles.index("time") - 2
        if (kernel[1 - at], stride[1 - at], padding[1 - at]) != (1, 1, 0):
            raise ModelError("pools features; only pools over time are supported")
    return kernel[at], stride[at], dilation[at], (padding[at], padding[at])


def _along_time(call: Call, pool: Callable[[Value], Value]) -> Value:
    """Run a layer that wants time in the last axis on a tensor that has it elsewhere."""
    track = call.net.track(call.first)
    time = track.axis("time")
    if time is None or "1d" in call.op:
        return pool(track)
    last = len(track.shape) - 1
    return moved(call.net, pool(moved(call.net, track, time, last)), last, time)


def _max_pool(call: Call) -> Value:
    kernel, stride, dilation, pads = _window(call)
    return _along_time(call, lambda x: call.net.max_pool(x, kernel, stride, dilation, pads))


def _avg_pool(call: Call) -> Value:
    if call.get("divisor_override") is not None:
        raise ModelError("divides by a number of its own (divisor_override), which is not supported")
    kernel, stride, _, pads = _window(call)
    counts = flag(call, "count_include_pad")
    return _along_time(call, lambda x: call.net.avg_pool(x, kernel, stride, pads, counts))


def _upsample(call: Call) -> Value:
    mode: Literal["nearest", "linear"] = "linear" if "linear" in call.op else "nearest"
    if flag(call, "align_corners"):
        raise ModelError("aligns corners, so that its factor is no whole number")
    track = call.net.track(call.first)
    time = track.axis("time")
    if time is None:
        raise ModelError(f"expected a time axis, found {track.described}")
    old, new = track.shape[time], call.shape[time]
    others = [(a, b) for axis, (a, b) in enumerate(zip(track.shape, call.shape, strict=True)) if axis != time]
    if new % old or any(a != b for a, b in others):
        raise ModelError(
            f"resizes {list(track.shape)} to {list(call.shape)}; only whole multiples in time are supported"
        )
    scales = call.get("scale_factors")
    if scales is not None and float(scales[time - 2]) != new // old:
        raise ModelError(f"upsamples {scales[time - 2]:g} times; only whole factors are supported")
    if new == old:
        return track
    return _along_time(call, lambda x: call.net.upsample(x, new // old, mode))


LAYERS: Mapping[str, Handler] = {
    **dict.fromkeys(("conv1d", "conv2d"), _conv),
    "conv_transpose1d": _conv_transpose,
    "convolution": _convolution,
    "batch_norm": _batch_norm,
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
        _batch_norm_and_statistics,
    ),
    "gru": _gru,
    "lstm": _lstm,
    **dict.fromkeys(("max_pool1d", "max_pool2d"), _max_pool),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), _avg_pool),
    **dict.fromkeys(
        ("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact1d", "upsample_linear1d"),
        _upsample,
    ),
}
