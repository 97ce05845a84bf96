"""Graph to Graph: fewer, larger nodes that mean the same; and the level knobs of a live chain.

Every pass keeps what the graph computes (``reference.py`` gives the same answer before and after, to
rounding) and knows only nodes, no format and no machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .errors import ModelError
from .graph import Graph, Knob
from .layers import Activate, Add, Affine, Conv1d, Conv2d, Crossfade, Delay, Mix, Multiply, Node
from .lower import lower, lower_batch_norm

#: Names of the knobs `with_levels` adds. The gains are factors, bypass goes from 0 (model) to 1 (dry).
INPUT_GAIN, OUTPUT_GAIN, BYPASS = "input_gain", "output_gain", "bypass"

#: Most a gain knob can do.
MAX_GAIN_DB = 60.0


def simplify(graph: Graph) -> Graph:
    """Apply all passes in the order in which they help each other."""
    for one in (
        lower_batch_norm,
        fold_affine,
        lower,
        fuse_mix,
        fuse_activation,
        fuse_residual,
        fuse_skip,
        drop_unread,
    ):
        graph = one(graph)
    return graph


def with_levels(graph: Graph) -> Graph:
    """Wrap a model for playing: input gain, the model, output gain, and a bypass where shapes allow it.

    Returns
    -------
    Graph
        With the knobs `INPUT_GAIN` and `OUTPUT_GAIN` (factors, 1 by default) and, if the model has as many
        outputs as inputs at the same rate, `BYPASS` (0 plays the model, 1 the untouched input, as late as
        the model). At their defaults the wrapped graph gives the same bits as the bare one.

    Raises
    ------
    ModelError
        A signal of the model has the name of one of these knobs, or its output is not at its input's rate.
    """
    for name in (INPUT_GAIN, OUTPUT_GAIN, BYPASS):
        if name in graph.signals:
            raise ModelError(
                f"{graph.name}: a layer or knob is called {name!r}, expected a name Backline does not use"
            )
    dry, wet, late, end = (
        _free(name, graph) for name in ("device input", "levelled", "dry in time", "device output")
    )
    knobs = [Knob(name, 1.0, 0.0, 10.0 ** (MAX_GAIN_DB / 20.0)) for name in (INPUT_GAIN, OUTPUT_GAIN)]
    output = graph.signals[graph.output]
    if output.rate != 1:
        raise ModelError(
            f"{graph.name}: puts out {output.rate} frames per frame of input; levels go around models that "
            "keep the rate"
        )
    nodes: list[Node] = [Multiply(graph.input, dry, INPUT_GAIN), *graph.nodes]
    nodes.append(Multiply(wet, graph.output, OUTPUT_GAIN))
    if output.rate == 1 and output.features == 1 and output.channels == graph.input_channels:
        knobs.append(Knob(BYPASS, 0.0, 0.0, 1.0))
        untouched = dry
        if graph.latency_frames:
            untouched = late
            nodes.append(Delay(untouched, dry, graph.latency_frames))
        nodes.append(Crossfade(end, wet, untouched, BYPASS))
    return replace(
        graph, nodes=tuple(nodes), input=dry, output=nodes[-1].output, knobs=(*graph.knobs, *knobs)
    )


def _free(name: str, graph: Graph) -> str:
    """The name, or one like it that no signal of the graph has."""
    while name in graph.signals:
        name += "'"
    return name


def gain_factor(gain_db: float) -> float:
    """A gain in dB as the factor that `INPUT_GAIN` and `OUTPUT_GAIN` take.

    Raises
    ------
    ModelError
        It is outside -200 to `MAX_GAIN_DB` dB, or no number.
    """
    if not -200.0 <= gain_db <= MAX_GAIN_DB:
        raise ModelError(f"a gain of {gain_db:g} dB is outside -200 to {MAX_GAIN_DB:g} dB")
    return float(10.0 ** (gain_db / 20.0))


def fold_affine(graph: Graph) -> Graph:
    """Fold an affine map into the plain convolution, over time or features, whose only reader it is."""

    def merge(node: Node, before: dict[str, Node]) -> Conv1d | Conv2d | None:
        if not isinstance(node, Affine):
            return None
        conv = before.get(node.input)
        if not (isinstance(conv, Conv2d) or (isinstance(conv, Conv1d) and _is_plain(conv))):
            return None
        out = conv.weight.shape[0]
        scale = np.broadcast_to(node.scale.astype(np.float64), (out,))
        weight = conv.weight * scale.reshape(out, *[1] * (conv.weight.ndim - 1))
        bias = np.zeros(out) if conv.bias is None else conv.bias * scale
        if node.shift is not None:
            bias = bias + node.shift
        keeps_no_bias = conv.bias is None and node.shift is None
        return replace(
            conv,
            output=node.output,
            weight=weight.astype(np.float32),
            bias=None if keeps_no_bias else bias.astype(np.float32),
        )

    return _merge_into_last(graph, merge)


def fuse_mix(graph: Graph) -> Graph:
    """Make the sum of a convolution and a one-tap convolution a single node."""

    def merge(node: Node, before: dict[str, Node]) -> Conv1d | None:
        if not isinstance(node, Add) or node.a == node.b:
            return None
        for first, second in ((node.a, node.b), (node.b, node.a)):
            conv, mixin = before.get(first), before.get(second)
            if isinstance(conv, Conv1d) and isinstance(mixin, Conv1d) and _can_mix(conv, mixin):
                bias = mixin.bias if conv.bias is None else conv.bias
                if conv.bias is not None and mixin.bias is not None:
                    bias = conv.bias + mixin.bias
                mix = Mix(mixin.input, np.ascontiguousarray(mixin.weight[:, :, 0]), mixin.groups)
                return replace(conv, output=node.output, bias=bias, mix=mix)
        return None

    return _merge_into_last(graph, merge)


def fuse_activation(graph: Graph) -> Graph:
    """Apply an activation inside the convolution whose only reader it is."""

    def merge(node: Node, before: dict[str, Node]) -> Conv1d | None:
        conv = before.get(node.input) if isinstance(node, Activate) else None
        if not (isinstance(node, Activate) and isinstance(conv, Conv1d)):
            return None
        if conv.activation is not None or conv.residual is not None or conv.skip is not None:
            return None
        return replace(conv, output=node.output, activation=node.activation)

    return _merge_into_last(graph, merge)


def fuse_residual(graph: Graph) -> Graph:
    """Add a residual inside the convolution that is its other half."""

    def merge(node: Node, before: dict[str, Node]) -> Conv1d | None:
        if not isinstance(node, Add) or node.a == node.b:
            return None
        for residual, name in ((node.a, node.b), (node.b, node.a)):
            conv = before.get(name)
            if isinstance(conv, Conv1d) and conv.residual is None and conv.skip is None:
                return replace(conv, output=node.output, residual=residual)
        return None

    return _merge_into_last(graph, merge)


def fuse_skip(graph: Graph) -> Graph:
    """Let a convolution with other readers also add its output to a running sum."""
    position = {node.output: index for index, node in enumerate(graph.nodes)}
    nodes: list[Node | None] = list(graph.nodes)
    for index, node in enumerate(graph.nodes):
        if not isinstance(node, Add) or node.a == node.b:
            continue
        for total, name in ((node.a, node.b), (node.b, node.a)):
            at = position.get(name)
            conv = None if at is None else nodes[at]
            if at is None or not isinstance(conv, Conv1d) or conv.skip is not None or conv.output != name:
                continue
            if position.get(total, -1) < at:  # the sum so far exists when the convolution runs
                nodes[at] = replace(conv, skip=total, skip_output=node.output)
                nodes[index] = None
                position[node.output] = at
                break
    return replace(graph, nodes=tuple(node for node in nodes if node is not None))


def drop_unread(graph: Graph) -> Graph:
    """Remove nodes nothing depends on, like the last residual of a WaveNet."""
    needed = {graph.output}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if isinstance(node, Conv1d) and node.skip_output is not None and node.skip_output not in needed:
            node = replace(node, skip=None, skip_output=None)
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))


def _is_plain(conv: Conv1d) -> bool:
    return conv.mix is None and conv.activation is None and conv.residual is None and conv.skip is None


def _can_mix(conv: Conv1d, mixin: Conv1d) -> bool:
    simple = mixin.kernel == 1 and mixin.stride == 1 and conv.stride == 1
    return simple and _is_plain(conv) and _is_plain(mixin) and conv.groups % mixin.groups == 0


def _merge_into_last(graph: Graph, merge: Callable[[Node, dict[str, Node]], Node | None]) -> Graph:
    """Replace a node by what `merge` makes of it and of earlier nodes that only it reads.

    `merge` gets the node and, by output, the earlier nodes read exactly once; it returns the node that
    stands for the pair (in the later one's place, writing its signal), or None. The earlier nodes so taken
    in are left without a reader, for `drop_unread`; they are dropped at once to keep counts right.
    """
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    reads[graph.output] += 1
    single: dict[str, Node] = {}
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        merged = merge(node, single)
        if merged is not None:
            for name in set(node.inputs) - set(merged.inputs):
                nodes.pop(name, None)
            node = merged
        nodes[node.output] = node
        if reads[node.output] == 1:
            single[node.output] = node
    return replace(graph, nodes=tuple(nodes.values()))
