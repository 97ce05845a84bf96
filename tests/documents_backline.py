"""Graphs that together hold every kind of layer and every field, as .backline files."""

from __future__ import annotations

from collections.abc import Callable

from graphs import array

from backline.activations import Activation
from backline.formats import backline_file
from backline.graph import Graph, Knob, SelfTest
from backline.layers import (
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
    Mix,
    Multiply,
    Resample,
    Reshape,
    Slice,
    Upsample,
)


def played() -> Graph:
    """A convolution with everything fused in, gates, knobs, metadata and a test of its own."""
    fused = Conv1d(
        "fused",
        "wide",
        array(1, 4, 2, 3),
        array(2, 4),
        groups=2,
        dilation=2,
        mix=Mix("x", array(3, 4, 1)),
        activation=Activation("prelu", (0.1, 0.2, 0.3, 0.4)),
        residual="wide",
        skip="wide",
        skip_output="sum",
    )
    nodes = (
        Conv1d("wide", "x", array(4, 4, 1, 1)),
        fused,
        Concat("all", ("fused", "sum", "drive")),
        Slice("top", "all", 0, 3),
        Slice("bottom", "all", 3, 3),
        Activate("bent", "top", Activation("leaky_hardtanh", (-0.5, 0.6, 0.1, 0.2))),
        Multiply("driven", "bent", "drive"),
        Crossfade("faded", "driven", "bottom", "drive"),
        Add("added", "faded", "driven"),
        Affine("scaled", "added", array(5, 1), array(6, 3)),
        Conv1d("y", "scaled", array(7, 1, 3, 1)),
    )
    return Graph(
        nodes,
        "x",
        1,
        "y",
        knobs=(Knob("drive", 0.5, 0.0, 1.0, 7.5), Knob("unread", 0.0, -1.0, 1.0)),
        sample_rate_hz=44100.0,
        prewarm_frames=12,
        name="née Ünal",
        metadata={"gear": {"make": "x", "year": 1987}, "list": [1, 2.5, None, True], "loudness": -18.0},
        notes=("one", "two"),
        latency_frames=3,
        self_tests=(SelfTest("x", "y", array(8, 1, 9), array(9, 1, 9), {"drive": 0.25}, 2),),
    )


def featured() -> Graph:
    """Over time and features, with the variance of a normalisation squared to be positive."""
    nodes = (
        Reshape("2d", "x", 2, 3),
        Conv2d("conv", "2d", array(1, 4, 1, 2, 2), array(2, 4), groups=2, feature_padding=(1, 0)),
        BatchNorm("norm", "conv", array(3, 4), array(4, 4) ** 2, array(5, 4), array(6, 4), 0.01),
        Activate("bent", "norm", Activation("softmax")),
        Reshape("flat", "bent", 12),
        Gru(
            "gru",
            "flat",
            array(7, 6, 12),
            array(8, 6, 2),
            array(9, 6),
            array(10, 6),
            array(11, 2),
            start_frames=-5,
        ),
        Lstm(
            "y",
            "gru",
            array(12, 8, 2),
            array(13, 8, 2),
            array(14, 8),
            array(15, 2),
            array(16, 2),
            start_frames=-3,
        ),
    )
    return Graph(nodes, "x", 6, "y", prewarm_frames=20)


def resampled() -> Graph:
    """Down and up, with two ways that meet again."""
    nodes = (
        Conv1d("down", "x", array(1, 4, 2, 3), stride=2),
        MaxPool1d("max", "down", 3, 1, 2, -9),
        AvgPool1d("mean", "down", 2, dilation=2),
        Concat("both", ("max", "mean")),
        Delay("late", "both", 2, 1),
        ConvTranspose1d("up", "late", array(2, 8, 2, 3), array(3, 4), groups=2, stride=2),
        Upsample("held", "down", 2),
        Upsample("drawn", "down", 2, "linear", -4),
        Interleave("woven", "both", 2),
        Add("sum", "held", "drawn"),
        Resample("again", "woven", 2, 2, array(4, 2, 5)),
        Concat("y", ("up", "sum", "again")),
    )
    return Graph(nodes, "x", 2, "y", prewarm_frames=7)


GRAPHS: dict[str, Callable[[], Graph]] = {"played": played, "featured": featured, "resampled": resampled}
CONTAINERS: dict[str, bytes] = {name: backline_file.encode(make()) for name, make in GRAPHS.items()}
