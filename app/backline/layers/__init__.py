"""The kinds of layers a graph is made of, each a node.

Nodes describe plain mathematics in the layout PyTorch uses for weights; they hold float32 arrays, are
frozen, and share nothing with any file format. Each says what it reads, what it writes and what it costs,
and checks its shapes; a :class:`~backline.errors.ModelError` names the layer.
"""

from .base import (
    EARLIEST,
    MAX_ELEMENTS,
    MAX_HOP,
    MAX_NODES,
    MAX_RATE,
    MAX_SIZE,
    Array,
    Node,
    Signal,
    Signals,
    check_frames,
    check_groups,
    check_size,
)
from .conv import Conv1d, Conv2d, ConvTranspose1d, Mix
from .elementwise import Activate, Add, Affine, BatchNorm, Crossfade, Multiply
from .recurrent import Gru, Lstm
from .resampling import MAX_RESAMPLE_TAPS, AvgPool1d, Interleave, MaxPool1d, Resample, Upsample
from .routing import Concat, Delay, Reshape, Slice

__all__ = [
    "EARLIEST",
    "MAX_ELEMENTS",
    "MAX_HOP",
    "MAX_NODES",
    "MAX_RATE",
    "MAX_RESAMPLE_TAPS",
    "MAX_SIZE",
    "Activate",
    "Add",
    "Affine",
    "Array",
    "AvgPool1d",
    "BatchNorm",
    "Concat",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "Crossfade",
    "Delay",
    "Gru",
    "Interleave",
    "Lstm",
    "MaxPool1d",
    "Mix",
    "Multiply",
    "Node",
    "Resample",
    "Reshape",
    "Signal",
    "Signals",
    "Slice",
    "Upsample",
    "check_frames",
    "check_groups",
    "check_size",
]
