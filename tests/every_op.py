"""One graph that has an op of every kind and every activation, one frame out for each frame in."""

from __future__ import annotations

from graphs import array

from backline.activations import ACTIVATIONS, Activation
from backline.graph import Graph, Knob
from backline.layers import (
    Activate,
    Add,
    Affine,
    AvgPool1d,
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
    Slice,
    Upsample,
)

_PARAMETERS = {
    "leaky_relu": (0.1,),
    "prelu": (0.2, 0.3),
    "hardtanh": (-1.0, 1.0),
    "leaky_hardtanh": (-1.0, 1.0, 0.1, 0.1),
    "elu": (1.0,),
    "softplus": (1.0,),
    "hardsigmoid": (0.2, 0.5),
    "snake": (1.0, 2.0),
}


def every_op() -> Graph:
    """Mono in, mono out, with one knob."""
    nodes: list[Node] = [
        Conv1d("wide", "x", array(1, 2, 1, 3), array(2, 2)),
        Multiply("gained", "wide", "drive"),
        Affine("shifted", "gained", array(3, 2), array(4, 2)),
        Gru("gru", "shifted", array(5, 6, 2), array(6, 6, 2), array(7, 6), array(8, 6)),
        Lstm("lstm", "gru", array(9, 8, 2), array(10, 8, 2), array(11, 8), start_frames=9),
        Delay("late", "lstm", 33, 40),
    ]
    at = "late"
    for kind in sorted(ACTIVATIONS):
        nodes.append(Activate(kind, at, Activation(kind, _PARAMETERS.get(kind, ()))))
        nodes.append(Add(f"{kind} sum", kind, "late"))
        at = f"{kind} sum"
    nodes += [
        MaxPool1d("most", at, 3, 2, 2, 50),
        Upsample("held", "most", 2),
        Upsample("lines", "most", 2, "linear", 3),
        Crossfade("blend", "held", "lines", "drive"),
        Conv1d("low", "blend", array(12, 4, 1, 5), groups=2, stride=4),
        ConvTranspose1d("high", "low", array(13, 4, 2, 5), groups=2, stride=2),
        Interleave("shuffled", "high", 2),
        Concat("both", ("shuffled", "held")),
        Reshape("spectrum", "both", 2, 2),
        Conv2d("folded", "spectrum", array(14, 1, 2, 2, 2)),
        AvgPool1d("mean", "folded", 4),
        Reshape("flat", "mean", 1),
        Resample("faster", "flat", 3, 2, array(15, 3, 20)),
        Resample("back", "faster", 2, 3, array(16, 2, 9)),
        Slice("y", "back", 0, 1),
    ]
    knob = Knob("drive", 0.5, 0.0, 1.0)
    return Graph(tuple(nodes), "x", 1, "y", knobs=(knob,), sample_rate_hz=48000.0, prewarm_frames=64)
