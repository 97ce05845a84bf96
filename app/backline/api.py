"""The ways to a Model, a file or arrays, and from it to a file."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import library
from .engine import Model
from .errors import BacklineError, ModelError
from .formats import load_graph, naming
from .formats.backline_file import encode
from .graph import Graph, Knob
from .layers import MAX_SIZE, Array, Conv1d, check_size
from .pending import PendingFile, reason

Path = str | os.PathLike[str]


def load(
    path: Path,
    quality: float = 1.0,
    prewarm: bool | int = True,
    layers: Sequence[Mapping[str, Any]] | None = None,
    knobs: Mapping[str, float] | None = None,
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
        Only for a PyTorch ``state_dict`` JSON, and needed there: what each layer is, see
        :func:`backline.formats.torch_state.read`.
    knobs : mapping of str to float, optional
        Where knobs stand from the start, in place of the model's own defaults.

    Raises
    ------
    ModelError
        One sentence with file, layer, what was expected and what was found.
    """
    found = library.find(path)
    graph = load_graph(found, quality=quality, layers=layers)
    with naming(found):
        return Model(_prewarmed(graph, prewarm).with_knobs(knobs or {}))


def from_torch(
    module: Any,
    example: Any,
    *,
    sample_rate_hz: float | None = None,
    name: str | None = None,
    knobs: Mapping[str, Knob | Sequence[float]] | None = None,
    time_axis: int | None = None,
) -> Model:
    """Make a model of a PyTorch module, which stays as it is; it runs as after ``module.eval()``.

    The module is traced by ``torch.export`` and each of its ops becomes a node in float32, whatever precision
    it is in. Layers that look ahead run late, by `model.latency_frames`. Needs ``pip install
    'backline[torch]'``; what `save` makes of the model does not.

    Parameters
    ----------
    module : torch.nn.Module
    example : tensor or tuple of tensors
        What its forward takes, one example (batch 1) of any values: the audio first, then parameters and
        states. An input that is cached or starts a recurrent layer, and comes out again as the next such
        state, is a state; so is a buffer the module changes. Any other is a parameter: a knob for each entry.
    sample_rate_hz : float, optional
    name : str, optional
        The class's name otherwise.
    knobs : mapping of str to Knob or (default, minimum, maximum), optional
        Ranges by the name of the input in the module's forward, with ``_0``, ``_1``... where it has several
        entries; 0, 0 and 1 otherwise.
    time_axis : int, optional
        That of the audio; its longest axis otherwise.

    Raises
    ------
    ModelError
        The module cannot be traced, or does what no stream can, or holds an op that is not supported: one
        sentence with the path of the layer and the op.
    MissingDependency
        PyTorch is not installed.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Conv1d(1, 8, 9, padding="same"), torch.nn.Tanh(),
    ...                           torch.nn.Conv1d(8, 1, 1))
    >>> model = backline.from_torch(net, torch.zeros(1, 1, 1024), sample_rate_hz=48000)
    >>> model.latency_frames
    4
    >>> backline.save(model, "net.backline")
    """
    from .formats import torch_module  # takes a while to import, and only this function needs it

    title = type(module).__name__ if name is None else str(name)
    with naming(title):
        graph = torch_module.read(
            module, example, sample_rate_hz=sample_rate_hz, name=title, knobs=knobs, time_axis=time_axis
        )
        return Model(graph)


def save(model: Model | Graph, path: Path, *, overwrite: bool = False) -> None:
    """Save a model in Backline's own format, which `load` reads without what the model came from.

    What was chosen on loading (quality, prewarm, layers) is what is saved.

    Parameters
    ----------
    model : Model or Graph
    path : str or path
        Where to; usually ``*.backline``. Written beside it and renamed, so that it is never half there.
    overwrite : bool
        Replace a file that exists.

    Raises
    ------
    FileExists
        There is one, and `overwrite` is false.
    BacklineError
        It cannot be written.
    """
    data = encode(model.graph if isinstance(model, Model) else model)
    pending = PendingFile(pathlib.Path(path), overwrite=overwrite)
    try:
        pending.temporary.write_bytes(data)
        pending.commit()
    except OSError as error:
        raise BacklineError(f"{os.fspath(path)}: cannot be written: {reason(error)}") from error
    finally:
        pending.discard()


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
        Output n is computed at input frame ``n * stride``: of F frames come ``ceil(F / stride)``, whatever
        the blocks.

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
