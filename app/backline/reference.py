"""A graph in NumPy float64: slow, obvious, and the truth the C engine is held against.

Nothing here is fused, blocked or approximated. Each node is evaluated over the whole signal with the
formula its docstring in ``graph.py`` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .activations import Activation
from .graph import Graph
from .layers import Activate, Add, Affine, BatchNorm, Conv1d, Crossfade, Lstm, Multiply, Node, Slice

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

    First `graph.prewarm_frames` frames of silence are fed with all knobs at their default, which settles
    the state: before them, histories of convolutions are zero and each LSTM stands at its h0 and c0. Then
    the frame counter, and with it the phase of strided layers, starts anew, and `x` is fed.

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
    turned = _knob_signals(graph, dict(knobs or {}), audio.shape[1])
    state = _State()
    if graph.prewarm_frames:
        silence = np.zeros((graph.input_channels, graph.prewarm_frames))
        _evaluate(graph, silence, _knob_signals(graph, {}, graph.prewarm_frames), state, keep_all=False)
    signals = _evaluate(graph, audio, turned, state, keep_all=layers)
    return signals if layers else signals[graph.output]


@dataclass
class _State:
    """What layers remember from one stretch of signal to the next, by the layer's name."""

    histories: dict[str, Float64] = field(default_factory=dict)
    cells: dict[str, tuple[Float64, Float64]] = field(default_factory=dict)


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
        found[knob.name] = np.broadcast_to(values, (1, frames))
    return found


def _evaluate(
    graph: Graph, x: Float64, knobs: Mapping[str, Float64], state: _State, *, keep_all: bool
) -> dict[str, Float64]:
    signals: dict[str, Float64] = {graph.input: x, **knobs}
    last_reader = {name: node for node in graph.nodes for name in node.inputs}
    for node in graph.nodes:
        signals.update(_evaluate_node(graph, node, signals, state))
        if not keep_all:
            for name in {*node.inputs} - {graph.output}:
                if last_reader[name] is node:
                    del signals[name]
    return signals


def _evaluate_node(
    graph: Graph, node: Node, signals: Mapping[str, Float64], state: _State
) -> dict[str, Float64]:
    match node:
        case Conv1d():
            return _conv1d(node, graph, signals, state)
        case Lstm():
            y = _lstm(node, signals[node.input], state)
        case Activate():
            y = activate(node.activation, signals[node.input], graph.signals[node.input].channels)
        case Add():
            y = signals[node.a] + signals[node.b]
        case Multiply():
            y = signals[node.a] * signals[node.b]
        case Affine():
            y = _affine(node, signals[node.input], graph.signals[node.input].features)
        case BatchNorm():
            y = _batch_norm(node, signals[node.input], graph.signals[node.input].features)
        case Slice():
            y = signals[node.input][node.start : node.start + node.count]
        case Crossfade():
            t = signals[node.position]
            y = signals[node.a] * (1.0 - t) + signals[node.b] * t
        case _:
            raise TypeError(f"{node.output}: the reference does not know {type(node).__name__}")
    return {node.output: y}


def _conv1d(node: Conv1d, graph: Graph, signals: Mapping[str, Float64], state: _State) -> dict[str, Float64]:
    y = _convolve(node, signals[node.input], state)
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


def _convolve(node: Conv1d, x: Float64, state: _State) -> Float64:
    """Sum over taps, the last of which meets the newest frame; output n belongs to frame n * stride."""
    lookback, frames = node.lookback_frames, x.shape[1]
    history = state.histories.get(node.output, np.zeros((x.shape[0], lookback)))
    padded = np.concatenate([history, x], axis=1)
    state.histories[node.output] = padded[:, padded.shape[1] - lookback :]
    weight = node.weight.astype(np.float64)
    y = np.zeros((weight.shape[0], -(-frames // node.stride)))
    for tap in range(node.kernel):
        begin = tap * node.dilation
        heard = padded[:, begin : begin + frames : node.stride]
        y += _grouped_product(weight[:, :, tap], heard, node.groups)
    return y


def _grouped_product(weight: Float64, x: Float64, groups: int) -> Float64:
    """``weight`` [out][in / groups] times ``x`` [in][frames], each group its share of both."""
    out_channels, per_group = weight.shape
    by_group = weight.reshape(groups, out_channels // groups, per_group)
    y: Float64 = np.matmul(by_group, x.reshape(groups, per_group, x.shape[1]))
    return y.reshape(out_channels, x.shape[1])


def _lstm(node: Lstm, x: Float64, state: _State) -> Float64:
    hidden = node.hidden
    start = [np.zeros(hidden) if s is None else s.astype(np.float64) for s in (node.h0, node.c0)]
    h, c = state.cells.get(node.output, (start[0], start[1]))
    weight_hh = node.weight_hh.astype(np.float64)
    driven = x.T @ node.weight_ih.astype(np.float64).T + node.bias.astype(np.float64)
    y = np.empty((x.shape[1], hidden))
    for frame, drive in enumerate(driven):
        gates = drive + weight_hh @ h
        i, f, g, o = gates.reshape(4, hidden)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        y[frame] = h
    state.cells[node.output] = (h, c)
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


_PLAIN: dict[str, Callable[[Float64], Float64]] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "fasttanh": _fast_tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x * sigmoid(x),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "hardswish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
}
