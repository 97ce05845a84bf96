"""A graph in NumPy float64: slow, obvious, and the truth the C engine is held against.

Nothing here is fused, blocked or approximated. Each node is evaluated over the whole signal with the
formula its docstring in ``layers`` gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .activations import Activation
from .graph import Graph
from .layers import (
    Activate,
    Add,
    Affine,
    AvgPool1d,
    BatchNorm,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    Crossfade,
    Delay,
    Gru,
    Interleave,
    Lstm,
    MaxPool1d,
    Multiply,
    Node,
    Resample,
    Reshape,
    Signal,
    Slice,
    Upsample,
)

Float64 = NDArray[np.float64]


@overload
def run(
    graph: Graph, x: ArrayLike, knobs: Mapping[str, ArrayLike] | None = ..., *, layers: Literal[False] = ...
) -> Float64: ...


@overload
def run(
    graph: Graph, x: ArrayLike, knobs: Mapping[str, ArrayLike] | None = ..., *, layers: Literal[True]
) -> dict[str, Float64]: ...


def run(
    graph: Graph, x: ArrayLike, knobs: Mapping[str, ArrayLike] | None = None, *, layers: bool = False
) -> Float64 | dict[str, Float64]:
    """Evaluate a graph over a whole signal.

    Frame 0 is the first of `x`. In the `graph.prewarm_frames` frames before it, which have negative numbers,
    the input is silent and all knobs stand at their defaults; before those, all signals are zero and
    recurrent layers stand at their first states.

    Parameters
    ----------
    graph : Graph
    x : array [channels][frames]
        Taken to float64; as many channels as the graph's input has.
    knobs : mapping of str to float or array [frames], optional
        Values of knobs, constant or one per input frame, taken as they are (no ramp). A knob that is not
        named stands at its default.
    layers : bool
        Return all signals instead of the output alone.

    Returns
    -------
    array [rows][frames_out], or dict of str to such arrays
        The output in float64, `frames_out` being ``graph.signals[graph.output].frames(frames)``; with
        `layers`, every signal of the graph by name.

    Raises
    ------
    ValueError
        `x` or a knob has the wrong shape, or the graph has no such knob.
    """
    audio = np.asarray(x, dtype=np.float64)
    if audio.ndim != 2 or audio.shape[0] != graph.input_channels:
        raise ValueError(f"x has shape {audio.shape}, expected ({graph.input_channels}, frames)")
    prewarm = graph.prewarm_frames
    turned = _knob_signals(graph, dict(knobs or {}), audio.shape[1])
    heard = np.concatenate([np.zeros((graph.input_channels, prewarm)), audio], axis=1)
    signals = _evaluate(graph, heard, turned, keep_all=layers)
    after = {name: y[:, -_first_frame(graph.signals[name], prewarm) :] for name, y in signals.items()}
    return after if layers else after[graph.output]


def _first_frame(signal: Signal, prewarm: int) -> int:
    """Number of the first frame a signal has, at its own rate: not above 0."""
    return ceil(-prewarm * signal.rate)


def _knob_signals(graph: Graph, knobs: dict[str, ArrayLike], frames: int) -> dict[str, Float64]:
    unknown = sorted(set(knobs) - {knob.name for knob in graph.knobs})
    if unknown:
        raise ValueError(f"the graph has no knob {unknown[0]!r}")
    found = {}
    for knob in graph.knobs:
        values = np.asarray(knobs.get(knob.name, knob.default), dtype=np.float64)
        if values.shape not in ((), (frames,)):
            raise ValueError(
                f"knob {knob.name!r} has shape {values.shape}, expected one value or ({frames},)"
            )
        before = np.full(graph.prewarm_frames, knob.default, np.float64)
        found[knob.name] = np.concatenate([before, np.broadcast_to(values, frames)])[None]
    return found


def _evaluate(
    graph: Graph, x: Float64, knobs: Mapping[str, Float64], *, keep_all: bool
) -> dict[str, Float64]:
    signals: dict[str, Float64] = {graph.input: x, **knobs}
    last_reader = {name: node for node in graph.nodes for name in node.inputs}
    input_frames = x.shape[1] - graph.prewarm_frames
    for node in graph.nodes:
        signals.update(_evaluate_node(graph, node, signals, input_frames))
        if not keep_all:
            for name in {*node.inputs} - {graph.output}:
                if last_reader[name] is node:
                    del signals[name]
    return signals


@dataclass(frozen=True)
class _Span:
    """Which frames of its input a layer has, and which of its output it makes."""

    x: range
    y: range

    @classmethod
    def of(cls, graph: Graph, node: Node, input_frames: int) -> _Span:
        read, made = graph.signals[node.inputs[0]], graph.signals[node.output]
        ranges = (range(_first_frame(s, graph.prewarm_frames), s.frames(input_frames)) for s in (read, made))
        return cls(*ranges)


def _evaluate_node(
    graph: Graph, node: Node, signals: Mapping[str, Float64], input_frames: int
) -> dict[str, Float64]:
    span = _Span.of(graph, node, input_frames)
    if isinstance(node, Conv1d):
        return _conv1d(node, graph, signals, span)
    x = signals[node.inputs[0]]
    features = graph.signals[node.inputs[0]].features
    match node:
        case Lstm():
            y = _lstm(node, x, span)
        case Gru():
            y = _gru(node, x, span)
        case Activate():
            y = activate(node.activation, x, graph.signals[node.input].channels)
        case Add():
            y = x + signals[node.b]
        case Multiply():
            y = x * signals[node.b]
        case Affine():
            y = _affine(node, x, features)
        case BatchNorm():
            y = _batch_norm(node, x, features)
        case Crossfade():
            t = signals[node.position]
            y = x * (1.0 - t) + signals[node.b] * t
        case Slice():
            y = x[node.start : node.start + node.count]
        case Concat():
            y = np.concatenate([signals[name] for name in node.sources])
        case Reshape():
            y = x
        case Delay():
            y = np.where(np.array(span.y) >= node.start_frames, _before(node, x)[:, : x.shape[1]], 0.0)
        case _:
            y = _rate_changing(node, x, features, span)
    return {node.output: y}


def _before(node: Node, x: Float64) -> Float64:
    """`x` after as many zeros as the node looks back on."""
    return np.pad(x, ((0, 0), (node.lookback_frames or 0, 0)))


def _rate_changing(node: Node, x: Float64, features: int, span: _Span) -> Float64:
    """Layers whose rate may not be that of `x`. Frame n of x is column ``n - span.x.start + lookback``."""
    padded = _before(node, x)
    frame = np.array(span.y)
    now = (node.lookback_frames or 0) - span.x.start
    match node:
        case ConvTranspose1d():
            return _conv_transpose1d(node, padded, frame + now * node.stride)
        case Conv2d():
            return _conv2d(node, padded, features, frame * node.stride + now)
        case MaxPool1d():
            return _max_pool1d(node, padded, frame * node.stride, now)
        case AvgPool1d():
            at = frame * node.stride + now
            window = [padded[:, at - k * node.dilation] for k in range(node.kernel)]
            y: Float64 = np.mean(window, axis=0)
            return y
        case Upsample(mode="nearest"):
            return padded[:, frame // node.factor + now]
        case Upsample():
            return _interpolate(node, padded, frame, now)
        case Interleave():
            phases = padded.reshape(padded.shape[0] // node.factor, node.factor, -1)
            return phases[:, frame % node.factor, frame // node.factor + now]
        case Resample():
            return _resample(node, padded, frame * node.down, now)
    raise TypeError(f"{node.output}: the reference does not know {type(node).__name__}")


def _conv1d(node: Conv1d, graph: Graph, signals: Mapping[str, Float64], span: _Span) -> dict[str, Float64]:
    y = _convolve(node, signals[node.input], span)
    if node.bias is not None:
        y += node.bias.astype(np.float64)[:, None]
    if node.mix is not None:
        y += _grouped_product(node.mix.weight.astype(np.float64), signals[node.mix.input], node.mix.groups)
    if node.activation is not None:
        y = activate(node.activation, y, graph.signals[node.output].channels)
    if node.residual is not None:
        y = y + signals[node.residual]
    if node.skip is None or node.skip_output is None:
        return {node.output: y}
    return {node.output: y, node.skip_output: signals[node.skip] + y}


def _convolve(node: Conv1d, x: Float64, span: _Span) -> Float64:
    """Sum over taps, the last of which meets the newest frame; output n belongs to frame n * stride."""
    padded = _before(node, x)
    first = span.y.start * node.stride - span.x.start
    weight = node.weight.astype(np.float64)
    y = np.zeros((weight.shape[0], len(span.y)))
    for tap in range(node.kernel):
        heard = padded[:, first + tap * node.dilation :: node.stride][:, : len(span.y)]
        y += _grouped_product(weight[:, :, tap], heard, node.groups)
    return y


def _conv_transpose1d(node: ConvTranspose1d, padded: Float64, at: NDArray[np.int64]) -> Float64:
    """Each frame of x among stride - 1 zeros, then a causal convolution, whose newest frames are `at`."""
    stuffed = np.zeros((padded.shape[0], padded.shape[1] * node.stride))
    stuffed[:, :: node.stride] = padded
    weight = node.weight.astype(np.float64)
    in_channels, per_group, kernel = weight.shape
    by_group = weight.reshape(node.groups, in_channels // node.groups, per_group, kernel)
    by_output = by_group.transpose(0, 2, 1, 3).reshape(-1, in_channels // node.groups, kernel)
    y = np.zeros((by_output.shape[0], at.size))
    for tap in range(kernel):
        y += _grouped_product(by_output[:, :, tap], stuffed[:, at - tap * node.dilation], node.groups)
    return y if node.bias is None else y + node.bias.astype(np.float64)[:, None]


def _conv2d(node: Conv2d, padded: Float64, features: int, at: NDArray[np.int64]) -> Float64:
    """Sum over taps in time, whose newest frames are `at`, and in features."""
    weight = node.weight.astype(np.float64)
    out_channels, _, taps, kernel = weight.shape
    channels = padded.shape[0] // features
    low, high = node.feature_padding
    x = np.pad(padded.reshape(features, channels, -1), ((low, high), (0, 0), (0, 0)))
    out_features = (len(x) - (kernel - 1) * node.feature_dilation - 1) // node.feature_stride + 1
    y = np.zeros((out_features, out_channels, at.size))
    for tap in range(taps):
        heard = x[:, :, at - (taps - 1 - tap) * node.dilation]
        for k in range(kernel):
            for f in range(out_features):
                met = heard[f * node.feature_stride + k * node.feature_dilation]
                y[f] += _grouped_product(weight[:, :, tap, k], met, node.groups)
    if node.bias is not None:
        y += node.bias.astype(np.float64)[:, None]
    return y.reshape(out_features * out_channels, at.size)


def _max_pool1d(node: MaxPool1d, padded: Float64, newest: NDArray[np.int64], now: int) -> Float64:
    y = np.full((padded.shape[0], newest.size), -np.inf)
    for k in range(node.kernel):
        frame = newest - k * node.dilation
        y = np.maximum(y, np.where(frame >= node.start_frames, padded[:, frame + now], -np.inf))
    return np.where(np.isneginf(y), 0.0, y)


def _interpolate(node: Upsample, padded: Float64, frame: NDArray[np.int64], now: int) -> Float64:
    place = (frame - node.factor // 2 + 0.5) / node.factor - 0.5
    before = np.floor(place).astype(np.int64)
    newest = frame // node.factor
    # Where nothing has begun yet the answer is 0, whatever is looked up.
    first, second = (
        padded[:, np.minimum(np.maximum(before + k, node.start_frames), newest) + now] for k in (0, 1)
    )
    y = first + (second - first) * (place - before)
    return np.where(newest >= node.start_frames, y, 0.0)


def _resample(node: Resample, padded: Float64, at: NDArray[np.int64], now: int) -> Float64:
    """Sum over taps; a frame of y lies at frame ``at / node.up`` of x."""
    taps, oldest = node.taps.astype(np.float64), at // node.up - (node.kernel - 1) + now
    y = np.zeros((padded.shape[0], at.size))
    for k in range(node.kernel):
        y += taps[at % node.up, k] * padded[:, oldest + k]
    return y


def _grouped_product(weight: Float64, x: Float64, groups: int) -> Float64:
    """``weight`` [out][in / groups] times ``x`` [in][frames], each group its share of both."""
    out_channels, per_group = weight.shape
    by_group = weight.reshape(groups, out_channels // groups, per_group)
    y: Float64 = np.matmul(by_group, x.reshape(groups, per_group, x.shape[1]))
    return y.reshape(out_channels, x.shape[1])


def _lstm(node: Lstm, x: Float64, span: _Span) -> Float64:
    hidden = node.hidden
    start = tuple(np.zeros(hidden) if s is None else s.astype(np.float64) for s in (node.h0, node.c0))
    h, c = start
    weight_hh = node.weight_hh.astype(np.float64)
    driven = x.T @ node.weight_ih.astype(np.float64).T + node.bias.astype(np.float64)
    y = np.empty((x.shape[1], hidden))
    begin = min(max(node.start_frames - span.x.start, 0), x.shape[1])
    y[:begin] = start[0]
    for frame in range(begin, x.shape[1]):
        gates = driven[frame] + weight_hh @ h
        i, f, g, o = gates.reshape(4, hidden)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        y[frame] = h
    return np.ascontiguousarray(y.T)


def _gru(node: Gru, x: Float64, span: _Span) -> Float64:
    hidden = node.hidden
    start = np.zeros(hidden) if node.h0 is None else node.h0.astype(np.float64)
    h = start
    weight_hh, bias_hh = node.weight_hh.astype(np.float64), node.bias_hh.astype(np.float64)
    driven = x.T @ node.weight_ih.astype(np.float64).T + node.bias_ih.astype(np.float64)
    y = np.empty((x.shape[1], hidden))
    begin = min(max(node.start_frames - span.x.start, 0), x.shape[1])
    y[:begin] = start
    for frame in range(begin, x.shape[1]):
        from_input, from_state = (
            driven[frame].reshape(3, hidden),
            (weight_hh @ h + bias_hh).reshape(3, hidden),
        )
        r, z = (sigmoid(from_input[gate] + from_state[gate]) for gate in (0, 1))
        h = (1.0 - z) * np.tanh(from_input[2] + r * from_state[2]) + z * h
        y[frame] = h
    return np.ascontiguousarray(y.T)


def _affine(node: Affine, x: Float64, features: int) -> Float64:
    y = x * _per_row(node.scale, features)
    return y if node.shift is None else y + _per_row(node.shift, features)


def _batch_norm(node: BatchNorm, x: Float64, features: int) -> Float64:
    deviation = np.sqrt(_per_row(node.variance, features) + node.epsilon)
    y = (x - _per_row(node.mean, features)) / deviation
    if node.gamma is not None:
        y = y * _per_row(node.gamma, features)
    return y if node.beta is None else y + _per_row(node.beta, features)


def _per_row(values: ArrayLike, features: int) -> Float64:
    """One value per channel, repeated for each feature, as a column; one value stays one value."""
    column = np.atleast_1d(np.asarray(values, dtype=np.float64))
    return (column if column.size == 1 else np.tile(column, features))[:, None]


def sigmoid(x: Float64) -> Float64:
    """``1 / (1 + exp(-x))``, accurate to the last bits over the whole range."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def activate(activation: Activation, x: Float64, channels: int) -> Float64:
    """Apply an activation to rows ``[features * channels][frames]``.

    Parameters
    ----------
    activation : Activation
    x : float64 array [rows][frames]
    channels : int
        Channels among the rows; row ``f * channels + c`` is channel c.

    Returns
    -------
    float64 array [rows][frames]
    """
    p = activation.parameters
    match activation.kind:
        case "leaky_relu":
            return np.where(x > 0, x, p[0] * x)
        case "prelu":
            return np.where(x > 0, x, _per_row(p, x.shape[0] // channels) * x)
        case "snake":
            alpha = _per_row(p, x.shape[0] // channels)
            return x + np.sin(alpha * x) ** 2 / alpha
        case "softplus":
            return np.logaddexp(0.0, p[0] * x) / p[0]
        case "hardsigmoid":
            return np.clip(p[0] * x + p[1], 0.0, 1.0)
        case "hardtanh":
            return np.clip(x, p[0], p[1])
        case "leaky_hardtanh":
            below, above = (x - p[0]) * p[2] + p[0], (x - p[1]) * p[3] + p[1]
            return np.where(x < p[0], below, np.where(x > p[1], above, x))
        case "elu":
            return np.where(x > 0, x, p[0] * np.expm1(np.minimum(x, 0.0)))
        case "softmax":
            return _softmax(x, channels)
        case _:
            return _PLAIN[activation.kind](x)


def _softmax(x: Float64, channels: int) -> Float64:
    by_feature = x.reshape(x.shape[0] // channels, channels, x.shape[1])
    raised = np.exp(by_feature - by_feature.max(axis=1, keepdims=True))
    y: Float64 = raised / raised.sum(axis=1, keepdims=True)
    return y.reshape(x.shape)


def _fast_tanh(x: Float64) -> Float64:
    """NeuralAmpModelerCore's rational approximation of tanh, with its float32 constants."""
    a, b, c, d, e = (
        float(np.float32(v))
        for v in (2.45550750702956, 0.893229853513558, 0.821226666969744, 2.44506634652299, 0.814642734961073)
    )
    size, square = np.abs(x), x * x
    return x * (a + a * size + (b + c * size) * square) / (d + (d + square) * np.abs(x + e * x * size))


def _gelu(x: Float64) -> Float64:
    """``x Phi(x)``; Phi by the complementary error function, which keeps its digits far below zero."""
    below = np.fromiter((math.erfc(-v / math.sqrt(2.0)) for v in x.ravel()), np.float64, x.size)
    return 0.5 * x * below.reshape(x.shape)


def _gelu_tanh(x: Float64) -> Float64:
    # 1 + tanh(u) is 2 sigmoid(2 u), without cancellation below zero.
    return x * sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))


_PLAIN: dict[str, Callable[[Float64], Float64]] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "fasttanh": _fast_tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x * sigmoid(x),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "hardswish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
}
