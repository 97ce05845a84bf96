"""Layers that the engine has no op for, written as layers it has: more nodes that mean the same.

A transposed convolution is one convolution for each of its phases, interleaved; one over features is
convolutions in time for each feature; the mean over a window is a depthwise convolution. All then run on the
same kernel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import ModelError
from .graph import Graph
from .layers import (
    MAX_ELEMENTS,
    MAX_NODES,
    Add,
    Affine,
    Array,
    AvgPool1d,
    BatchNorm,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    Interleave,
    Node,
    Reshape,
    Signal,
    Signals,
    Slice,
)

#: Most convolutions in time that one over features may become, at least one for each feature it writes.
MAX_FEATURES = 1 << 14


def lower_batch_norm(graph: Graph) -> Graph:
    """Write batch normalisation as the affine map it is at run time."""
    return _replaced(graph, {BatchNorm: _batch_norm})


def lower(graph: Graph) -> Graph:
    """Write pooling by the mean, transposed convolutions and those over features as convolutions in time."""
    table: _Table = {AvgPool1d: _avg_pool1d, ConvTranspose1d: _conv_transpose1d, Conv2d: _conv2d}
    return _replaced(graph, table)


#: By kind of node: what makes others of it. Signals on the way are called after the text given.
_Table = Mapping[type[Node], Callable[[Any, Signals, str], list[Node]]]


def _replaced(graph: Graph, table: _Table) -> Graph:
    nodes: list[Node] = []
    names = sorted(graph.signals)
    taken: set[str] = set()

    def is_taken(stem: str) -> bool:
        at = bisect_left(names, f"{stem} ")
        return stem in taken or (at < len(names) and names[at].startswith(f"{stem} "))

    for node in graph.nodes:
        if len(nodes) > MAX_NODES:
            break  # more than a graph may have, as it will say
        lowered = table.get(type(node))
        if lowered is None:
            nodes.append(node)
            continue
        stem = node.output
        while is_taken(stem):
            stem += "'"
        taken.add(stem)
        nodes.extend(lowered(node, graph.signals, stem))
    return replace(graph, nodes=tuple(nodes))


def _batch_norm(node: BatchNorm, signals: Signals, stem: str) -> list[Node]:
    scale = 1.0 / np.sqrt(node.variance.astype(np.float64) + node.epsilon)
    if node.gamma is not None:
        scale = scale * node.gamma
    shift = -node.mean * scale
    if node.beta is not None:
        shift = shift + node.beta
    return [Affine(node.output, node.input, scale.astype(np.float32), shift.astype(np.float32))]


def _avg_pool1d(node: AvgPool1d, signals: Signals, stem: str) -> list[Node]:
    """The mean over a window: one depthwise convolution, the same for each row."""
    source = signals[node.input]
    _check_size(node, source.rows * node.kernel)
    weight = np.full((source.rows, 1, node.kernel), 1.0 / node.kernel, np.float32)
    rows, pooled = f"{stem} rows", f"{stem} mean"
    return [
        Reshape(rows, node.input, source.rows),
        Conv1d(pooled, rows, weight, None, source.rows, node.dilation, node.stride),
        Reshape(node.output, pooled, source.channels, source.features),
    ]


def _conv_transpose1d(node: ConvTranspose1d, signals: Signals, stem: str) -> list[Node]:
    """One convolution at the input's rate, whose channels are the phases of the output, then interleaved.

    Frame ``m * stride + phase`` of the output hears tap k through frame ``m - j`` of the input where
    ``k * dilation = j * stride + phase``.
    """
    by_output = _by_output(node)
    out_channels, in_per_group, kernel = by_output.shape
    if node.stride == 1:
        newest_last = np.ascontiguousarray(by_output[:, :, ::-1])
        return [Conv1d(node.output, node.input, newest_last, node.bias, node.groups, node.dilation)]
    taps = (node.kernel - 1) * node.dilation // node.stride + 1
    _check_size(node, out_channels * node.stride * in_per_group * taps)
    weight = np.zeros((out_channels, node.stride, in_per_group, taps), np.float32)
    for k in range(kernel):
        j, phase = divmod(k * node.dilation, node.stride)
        weight[:, phase, :, taps - 1 - j] = by_output[:, :, k]
    bias = None if node.bias is None else np.repeat(node.bias, node.stride)
    phases = f"{stem} phases"
    flat = weight.reshape(out_channels * node.stride, in_per_group, taps)
    return [
        Conv1d(phases, node.input, flat, bias, groups=node.groups),
        Interleave(node.output, phases, node.stride),
    ]


def _by_output(node: ConvTranspose1d) -> Array:
    """The weights ``[group][in of group][out of group][tap]`` as ``[out][in of group][tap]``."""
    in_channels, per_group, kernel = node.weight.shape
    by_group = node.weight.reshape(node.groups, in_channels // node.groups, per_group, kernel)
    return by_group.transpose(0, 2, 1, 3).reshape(-1, in_channels // node.groups, kernel)


def _check_size(node: Node, numbers: int) -> None:
    """Raise `ModelError` where weights, written out with their zeros, would grow beyond all use."""
    if numbers > MAX_ELEMENTS:
        raise ModelError(
            f"{node.output}: takes {numbers} numbers when written as a convolution in time, at most "
            f"{MAX_ELEMENTS} are allowed"
        )


def _conv2d(node: Conv2d, signals: Signals, stem: str) -> list[Node]:
    """Convolutions in time for each feature of the output, over the features its kernel meets.

    Rows lie feature by feature, so that those the kernel meets are a run of rows, for one convolution. The
    rows of a group do not lie in one run, nor do features that a dilation skips: there it is one convolution
    for each feature met, and their sum.
    """
    source, made = signals[node.input], node.infer(signals)[0]
    met = 1 if _meets_runs(node) else min(node.weight.shape[3], source.features)
    if made.features * met > MAX_FEATURES:
        raise ModelError(
            f"{node.output}: writes {made.features} features by {made.features * met} convolutions in time, "
            f"at most {MAX_FEATURES} are allowed"
        )
    rows = f"{stem} rows"
    nodes: list[Node] = [Reshape(rows, node.input, source.rows)]
    weights = _FeatureWeights(node)
    parts: list[str] = []
    for feature in range(made.features):
        for number, window in enumerate(_windows(node, source, feature)):
            name = f"{stem} feature {feature} window {number}"
            part = f"{stem} feature {feature} part {number}"
            nodes.append(Slice(name, rows, window.first * source.channels, window.count * source.channels))
            nodes.append(
                Conv1d(
                    part,
                    name,
                    weights.of(window),
                    node.bias if number == 0 else None,
                    groups=node.groups,
                    dilation=node.dilation,
                    stride=node.stride,
                )
            )
            if number > 0:
                total = f"{stem} feature {feature} sum {number}"
                nodes.append(Add(total, parts.pop(), part))
                part = total
            parts.append(part)
    joined = f"{stem} features"
    return [*nodes, Concat(joined, tuple(parts)), Reshape(node.output, joined, made.channels, made.features)]


def _meets_runs(node: Conv2d) -> bool:
    """Whether one convolution in time may span all features that the kernel meets."""
    return node.groups == node.feature_dilation == 1


@dataclass(frozen=True)
class _Window:
    """A run of `count` features of the input from `first` on, which the kernel meets from `offset` on."""

    first: int
    offset: int
    count: int


def _windows(node: Conv2d, source: Signal, feature: int) -> list[_Window]:
    """What the kernel meets of the input for one feature of the output; where that is nothing, with zeros."""
    begin = feature * node.feature_stride - node.feature_padding[0]
    end = begin + (node.weight.shape[3] - 1) * node.feature_dilation + 1
    first = min(max(begin, 0), source.features - 1)
    last = max(min(end, source.features), first + 1)
    if _meets_runs(node):
        return [_Window(first, first - begin, last - first)]
    step = node.feature_dilation
    met = range(begin + -(-(first - begin) // step) * step, last, step)
    return [_Window(at, at - begin, 1) for at in met] or [_Window(first, first - begin, 1)]


class _FeatureWeights:
    """Weights of a `Conv2d` for windows of features; windows that see the same ones share an array."""

    def __init__(self, node: Conv2d) -> None:
        self._node = node
        self._numbers = 0
        self._shared: dict[tuple[int, int], Array] = {}

    def of(self, window: _Window) -> Array:
        """``[out][feature of the window, in / groups][tap]``."""
        key = (window.offset, window.count)
        if key not in self._shared:
            out_channels, per_group, taps, kernel = self._node.weight.shape
            self._numbers += out_channels * window.count * per_group * taps
            _check_size(self._node, self._numbers)
            found = np.zeros((out_channels, window.count, per_group, taps), np.float32)
            for k in range(kernel):
                at = k * self._node.feature_dilation - window.offset
                if 0 <= at < window.count:
                    found[:, at] = self._node.weight[:, :, :, k]
            self._shared[key] = found.reshape(out_channels, window.count * per_group, taps)
        return self._shared[key]
