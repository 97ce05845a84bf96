"""ONNX's layers on what moves with time: convolutions, recurrences, pools, norms, changes of rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, floor

import numpy as np

from ..errors import ModelError
from ..layers import MAX_SIZE, Array
from ._network import Pads, Track, Value
from ._onnx_call import Call
from ._onnx_ops import OPS, Made
from ._reading import describe
from ._values import axis_of

#: How ONNX orders gates, in terms of PyTorch's order: i, o, f, c to i, f, g, o and z, r, h to r, z, n.
_LSTM_GATES = (0, 2, 3, 1)
_GRU_GATES = (1, 0, 2)


def _sizes(call: Call, name: str, count: int, default: int) -> tuple[int, ...]:
    """An attribute with one size for each axis that a window moves along."""
    found = call.integers(name, (default,) * count)
    if len(found) != count or any(not 1 <= value <= MAX_SIZE for value in found):
        raise ModelError(f"attribute {name!r}: expected {count} sizes, found {list(found)[:8]}")
    return found


def _pads(
    call: Call, spatial: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...]
) -> list[Pads]:
    """What a window pads each axis with, before and after; `kernel` counts what dilation leaves out."""
    count = len(kernel)
    call.expect("auto_pad", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    mode = call.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        found = call.integers("pads", (0,) * (2 * count))
        if len(found) != 2 * count or any(not 0 <= value <= MAX_SIZE for value in found):
            raise ModelError(f"attribute 'pads': expected {2 * count} sizes, found {list(found)[:8]}")
        return list(zip(found[:count], found[count:], strict=True))
    if mode == "VALID":
        return [(0, 0)] * count
    found_pads = []
    for size, length, stride in zip(spatial, kernel, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + length - size)
        less, more = total // 2, total - total // 2
        found_pads.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return found_pads


def _windowed(call: Call, track: Track, kernel: tuple[int, ...]) -> tuple[Track, tuple[int, ...]]:
    """The track and the sizes of the axes that a window of that many axes moves along: the last ones."""
    if len(track.shape) != len(kernel) + 2:
        raise ModelError(f"expected a tensor of {len(kernel) + 2} axes, found {track.described}")
    return track, track.shape[2:]


def _kernel(call: Call, weight: Array) -> tuple[int, ...]:
    """Taps along each axis of a weight [out][in][taps]..., which 'kernel_shape' may only repeat."""
    if weight.ndim not in (3, 4) or weight.size == 0:
        raise ModelError(f"expected a weight of 3 or 4 axes, found shape {list(weight.shape)}")
    kernel = weight.shape[2:]
    stated = call.integers("kernel_shape", kernel)
    if stated != kernel:
        raise ModelError(f"attribute 'kernel_shape': expected {list(kernel)}, found {list(stated)[:8]}")
    return kernel


def _reach(kernel: tuple[int, ...], dilations: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((taps - 1) * step + 1 for taps, step in zip(kernel, dilations, strict=True))


def _conv(call: Call) -> Made:
    weight, bias = call.floats(1), call.floats_or_none(2)
    kernel = _kernel(call, weight)
    track, spatial = _windowed(call, call.network.track(call.value(0)), kernel)
    strides = _sizes(call, "strides", len(kernel), 1)
    dilations = _sizes(call, "dilations", len(kernel), 1)
    return call.network.conv(
        track,
        weight,
        bias,
        stride=strides,
        dilation=dilations,
        groups=call.integer("group", 1),
        pads=_pads(call, spatial, _reach(kernel, dilations), strides),
    )


def _conv_transpose(call: Call) -> Made:
    weight, bias = call.floats(1), call.floats_or_none(2)
    kernel = _kernel(call, weight)
    if len(kernel) != 1:
        raise ModelError("is only supported over one axis")
    track, spatial = _windowed(call, call.network.track(call.value(0)), kernel)
    (stride,), (dilation,) = _sizes(call, "strides", 1, 1), _sizes(call, "dilations", 1, 1)
    extras = call.integers("output_padding", (0,))
    if len(extras) != 1 or not 0 <= extras[0] < max(stride, dilation):
        raise ModelError(
            f"attribute 'output_padding': expected less than the stride, found {list(extras)[:8]}"
        )
    whole = (spatial[0] - 1) * stride + (kernel[0] - 1) * dilation + 1 + extras[0]
    return call.network.conv_transpose(
        track,
        weight,
        bias,
        stride=stride,
        dilation=dilation,
        groups=call.integer("group", 1),
        pads=_cut_off(call, whole, spatial[0] * stride),
        extra=extras[0],
    )


def _cut_off(call: Call, whole: int, same: int) -> Pads:
    """What a transposed convolution leaves away of the `whole` it makes, before and after."""
    mode = call.text("auto_pad", "NOTSET")
    if "output_shape" not in call.attributes and mode in ("NOTSET", "VALID"):
        return _pads(call, (same,), (1,), (1,))[0]
    call.expect("auto_pad", "NOTSET", "SAME_UPPER", "SAME_LOWER")
    wanted = call.integers("output_shape", (same,))
    if len(wanted) != 1 or not 1 <= wanted[0] <= whole:
        raise ModelError(f"attribute 'output_shape': expected 1 to {whole} frames, found {list(wanted)[:8]}")
    total = whole - wanted[0]
    less, more = total // 2, total - total // 2
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def _batch_norm(call: Call) -> Made:
    call.expect("training_mode", 0)
    gamma, beta, mean, variance = (call.floats(index) for index in (1, 2, 3, 4))
    return call.network.batch_norm(call.value(0), mean, variance, gamma, beta, call.number("epsilon", 1e-5))


# Recurrences.


def _check_recurrent(call: Call, gates: int, activations: list[str]) -> tuple[Track, Array, Array, Array]:
    """The input, and the weights of the one direction: [gates][in], [gates][hidden], [2 gates]."""
    call.expect("direction", "forward")
    found = [name.lower() for name in call.texts("activations", activations)]
    if found != activations:
        raise ModelError(f"attribute 'activations': expected {', '.join(activations)}, found {found[:4]}")
    if call.number("clip", 0.0) or call.integer("input_forget", 0):
        raise ModelError("limits or couples its gates, which is not supported")
    weight_ih, weight_hh = call.floats(1), call.floats(2)
    hidden = weight_hh.shape[-1] if weight_hh.ndim else 0
    rows = gates * hidden
    if weight_ih.ndim != 3 or weight_ih.shape[:2] != (1, rows) or weight_hh.shape != (1, rows, hidden):
        raise ModelError(
            f"expected weights of {gates} gates in one direction, found shapes {list(weight_ih.shape)} and "
            f"{list(weight_hh.shape)}"
        )
    if call.integer("hidden_size", hidden) != hidden or hidden == 0:
        raise ModelError(f"attribute 'hidden_size': expected {hidden}")
    bias = call.floats_or_none(3)
    if bias is None:
        bias = np.zeros((1, 2 * rows), np.float32)
    if bias.shape != (1, 2 * rows):
        raise ModelError(f"expected biases of shape [1, {2 * rows}], found {list(bias.shape)}")
    track = call.network.track(call.value(0))
    time = 1 if call.integer("layout", 0) else 0
    if len(track.shape) != 3 or track.axis("time") != time:
        raise ModelError(f"expected a tensor of three axes with time in axis {time}, found {track.described}")
    if call.has(4) and call.integers_of(4) != [track.shape[time]]:
        raise ModelError("expected to run over the whole recording, found other sequence lengths")
    return track, weight_ih[0], weight_hh[0], bias[0]


def _by_gate(values: Array, order: tuple[int, ...]) -> Array:
    """Rows of gates in another order."""
    rows = values.reshape(len(order), -1, *values.shape[1:])
    return np.ascontiguousarray(rows[list(order)].reshape(values.shape))


def _outputs(call: Call, sequence: Track, *states: Value) -> list[Value]:
    """What a recurrent layer gives: its answers and last states, with an axis for the directions."""
    layout = call.integer("layout", 0)
    found = [call.network.unsqueeze(sequence, [2 if layout else 1])]
    shape = (1, 1, sequence.shape[-1])
    return found + [call.network.reshape(state, shape) for state in states]


def _first_state(call: Call, index: int) -> Value | None:
    if not call.has(index):
        return None
    value = call.value(index)
    return call.floats(index) if isinstance(value, np.ndarray) else value


def _lstm(call: Call) -> Made:
    track, weight_ih, weight_hh, bias = _check_recurrent(call, 4, ["sigmoid", "tanh", "tanh"])
    if call.has(7) and np.any(call.floats(7)):
        raise ModelError("has peepholes, which are not supported")
    half = bias.size // 2
    weights = {
        "weight_ih": _by_gate(weight_ih, _LSTM_GATES),
        "weight_hh": _by_gate(weight_hh, _LSTM_GATES),
        "bias": _by_gate(bias[:half] + bias[half:], _LSTM_GATES),
    }
    h, c = _first_state(call, 5), _first_state(call, 6)
    return _outputs(call, *call.network.lstm(track, weights, h, c))


def _gru(call: Call) -> Made:
    track, weight_ih, weight_hh, bias = _check_recurrent(call, 3, ["sigmoid", "tanh"])
    half = bias.size // 2
    bias_ih, bias_hh = bias[:half].copy(), bias[half:].copy()
    if not call.integer("linear_before_reset", 0):
        hidden = half // 3
        last = weight_hh[2 * hidden :]
        if np.any(last != np.diag(np.diag(last))):
            raise ModelError(
                "resets its state before the matrix (linear_before_reset 0), which is not supported"
            )
        # A diagonal matrix and a reset change places; the bias only has to stay outside the reset.
        bias_ih[2 * hidden :] += bias_hh[2 * hidden :]
        bias_hh[2 * hidden :] = 0.0
    weights = {
        "weight_ih": _by_gate(weight_ih, _GRU_GATES),
        "weight_hh": _by_gate(weight_hh, _GRU_GATES),
        "bias_ih": _by_gate(bias_ih, _GRU_GATES),
        "bias_hh": _by_gate(bias_hh, _GRU_GATES),
    }
    return _outputs(call, *call.network.gru(track, weights, _first_state(call, 5)))


# Changes of rate.


def _pool(call: Call) -> tuple[Track, int, int, int, Pads]:
    """The track, kernel, stride, dilation and pads of a pool along time."""
    kernel = call.integers("kernel_shape")
    if len(kernel) != 1:
        raise ModelError(f"is only supported over one axis, found a kernel of {list(kernel)[:8]}")
    _sizes(call, "kernel_shape", 1, 1)
    track, spatial = _windowed(call, call.network.track(call.value(0)), kernel)
    strides, dilations = _sizes(call, "strides", 1, 1), _sizes(call, "dilations", 1, 1)
    reach = _reach(kernel, dilations)
    pads = _pads(call, spatial, reach, strides)[0]
    if min(pads) < 0 or max(pads) >= reach[0]:
        raise ModelError(f"attribute 'pads': expected 0 to {reach[0] - 1}, found {list(pads)}")
    if call.integer("ceil_mode", 0) and (spatial[0] + sum(pads) - reach[0]) % strides[0]:
        raise ModelError("rounds its length up (ceil_mode), which is not supported")
    return track, kernel[0], strides[0], dilations[0], pads


def _max_pool(call: Call) -> Made:
    if call.output_count > 1:
        raise ModelError("hands out indices, which is not supported")
    return call.network.max_pool(*_pool(call))


def _average_pool(call: Call) -> Made:
    track, kernel, stride, dilation, pads = _pool(call)
    if dilation != 1:
        raise ModelError(f"attribute 'dilations': expected 1, found {dilation}")
    counts = bool(call.integer("count_include_pad", 0))
    return call.network.avg_pool(track, kernel, stride, pads, counts)


def _resize(call: Call) -> Made:
    track = call.network.track(call.value(0))
    factors = _factors(call, track)
    time = len(track.shape) - 1
    if track.roles[time] != "time" or any(f != 1 for axis, f in enumerate(factors) if axis != time):
        raise ModelError(
            f"expected to resize time in the last axis, found factors {factors} of {track.described}"
        )
    factor = factors[time]
    if factor == 1:
        return track
    if factor != int(factor) or factor < 1:
        raise ModelError(f"resizes time by {factor:g}, expected a whole number")
    call.expect("antialias", 0)
    call.expect("mode", "nearest", "linear")
    centres = call.text("coordinate_transformation_mode", "half_pixel")
    if call.text("mode", "nearest") == "nearest":
        if any(_nearest(call, centres, int(factor), phase) for phase in range(int(factor))):
            raise ModelError(
                f"expected each frame repeated, found nearest_mode {call.text('nearest_mode', '')!r} with "
                f"{centres!r}"
            )
        return call.network.upsample(track, int(factor), "nearest")
    if centres not in ("half_pixel", "pytorch_half_pixel"):
        raise ModelError(
            f"attribute 'coordinate_transformation_mode': expected 'half_pixel', found {describe(centres)}"
        )
    return call.network.upsample(track, int(factor), "linear")


def _factors(call: Call, track: Track) -> list[float]:
    """By how much a Resize stretches each axis."""
    shape = list(track.shape)
    axes = [axis_of(axis, len(shape)) for axis in call.integers("axes", range(len(shape)))]
    found = [1.0] * len(shape)
    if call.has(3) and call.array(3).size:
        wanted = call.integers_of(3)
        call.expect("keep_aspect_ratio_policy", "stretch")
        scales = [size / shape[axis] for size, axis in zip(wanted, axes, strict=False)]
    elif call.has(2) and call.array(2).size:
        wanted = [1] * call.array(2).size
        scales = [float(value) for value in call.floats(2).reshape(-1)]
    else:
        raise ModelError("expected scales or sizes, found neither")
    if len(wanted) != len(axes):
        raise ModelError(f"expected {len(axes)} scales or sizes, found {len(wanted)}")
    for axis, scale in zip(axes, scales, strict=True):
        found[axis] = scale
    return found


def _nearest(call: Call, centres: str, factor: int, phase: int) -> int:
    """Which frame, counted from that of its own, the `phase`th of `factor` frames is taken from."""
    if centres in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        place = (phase + 0.5) / factor - 0.5
    elif centres == "asymmetric":
        place = phase / factor
    else:
        raise ModelError(
            f"attribute 'coordinate_transformation_mode': expected 'asymmetric' or 'half_pixel', "
            f"found {describe(centres)}"
        )
    call.expect("nearest_mode", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    rounding: Mapping[str, Callable[[float], int]] = {
        "round_prefer_floor": lambda x: ceil(x - 0.5),
        "round_prefer_ceil": lambda x: floor(x + 0.5),
        "floor": floor,
        "ceil": ceil,
    }
    return rounding[call.text("nearest_mode", "round_prefer_floor")](place)


LAYERS: Mapping[str, Callable[[Call], Made]] = {
    **OPS,
    **{"Conv": _conv, "ConvTranspose": _conv_transpose, "BatchNormalization": _batch_norm},
    **{"LSTM": _lstm, "GRU": _gru},
    **{"MaxPool": _max_pool, "AveragePool": _average_pool, "Resize": _resize},
}
