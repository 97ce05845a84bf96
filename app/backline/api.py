"""The two ways to a Model: a file, or arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import library
from .engine import Model
from .errors import ModelError
from .formats import load_graph
from .graph import Graph
from .layers import MAX_SIZE, Array, Conv1d, check_size

Path = str | os.PathLike[str]


def load(
    path: Path,
    quality: float = 1.0,
    prewarm: bool | int = True,
    layers: Sequence[Mapping[str, Any]] | None = None,
) -> Model:
    """Load a model.

    Parameters
    ----------
    path : str or path
        A model file, or the name of a shipped model such as ``"overdrive"``.
    quality : float
        From 0 to 1: which of the models in a container to take; 1 is the full one.
    prewarm : bool or int
        What state before the first frame settles on: True as the format has it (``.nam`` on silence, others
        start from zeros), False zeros, a number that many frames of silence.
    layers : sequence of mappings, optional
        Only for a PyTorch ``state_dict`` JSON, and needed there: for each layer ``type`` ("conv1d"),
        ``prefix``, ``in_channels``, ``out_channels``, ``kernel_size``, ``dilation``, ``stride``,
        ``groups``, ``bias``.

    Raises
    ------
    ModelError
        One sentence with file, layer, what was expected and what was found.
    """
    graph = load_graph(library.find(path), quality=quality, layers=layers)
    return Model(_prewarmed(graph, prewarm))


def _prewarmed(graph: Graph, prewarm: bool | int) -> Graph:
    if isinstance(prewarm, (bool, np.bool_)):
        return graph if prewarm else replace(graph, prewarm_frames=0)
    if not isinstance(prewarm, Integral) or not 0 <= prewarm <= MAX_SIZE:
        expected = f"True, False or 0 to {MAX_SIZE} frames"
        raise ModelError(f"{graph.name}: prewarm is {prewarm!r}, expected {expected}")
    return replace(graph, prewarm_frames=int(prewarm))


def conv1d(
    weight: ArrayLike, bias: ArrayLike | None = None, *, groups: int = 1, dilation: int = 1, stride: int = 1
) -> Model:
    """Make a model of one causal, grouped 1-D convolution, starting from zeros.

    Parameters
    ----------
    weight : array_like [out][in / groups][kernel]
        PyTorch's layout; the last tap multiplies the newest frame.
    bias : array_like [out], optional
    groups : int
        1 connects all inputs to all outputs; g makes g convolutions side by side, each with its share of the
        input and of the output channels; the number of input channels makes it depthwise.
    dilation, stride : int
        Output n is computed at input frame ``n * stride``.

    Raises
    ------
    ModelError
        Shapes that do not fit together, or numbers that are not finite in float32.

    Examples
    --------
    >>> weight = np.ones((3, 3, 1), np.float32)       # three outputs, nine inputs in three groups
    >>> backline.conv1d(weight, groups=3)(np.ones((1, 9), np.float32))
    array([[3., 3., 3.]], dtype=float32)
    """
    taps = _float32("weight", weight)
    shift = None if bias is None else _float32("bias", bias)
    if taps.ndim != 3:
        raise ModelError(f"conv1d: weight has shape {taps.shape}, expected [out][in / groups][kernel]")
    for what, value in (("groups", groups), ("dilation", dilation), ("stride", stride)):
        check_size("conv1d", what, value)
    # NumPy's integers too, but as Python's: theirs overflow in products.
    groups, dilation, stride = int(groups), int(dilation), int(stride)
    node = Conv1d("conv1d", "input", taps, shift, groups=groups, dilation=dilation, stride=stride)
    return Model(Graph((node,), "input", taps.shape[1] * groups, "conv1d", name="conv1d"))


def _float32(what: str, values: ArrayLike) -> Array:
    """A float32 copy, which later changes of the caller's array do not reach."""
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "fiu":
            raise TypeError(f"found {found.dtype}")
        # What overflows float32 becomes infinite here, and the graph refuses that by name.
        with np.errstate(over="ignore"):
            return np.array(found, np.float32, order="C")
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ModelError(f"conv1d: {what} has to be an array of real numbers: {error}") from None
