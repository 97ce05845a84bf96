"""Keras models as RTNeural's exporter writes them to JSON.

Layouts as RTNeural reads them (github.com/jatinchowdhury18/RTNeural, ``model_loader.h``): dense
``[in][out]``, conv1d ``[kernel][in / groups][out]`` with the last tap newest, lstm ``[in][4 * hidden]``
with gates i, f, c, o, gru ``[in][3 * hidden]`` with gates z, r, h and both biases (Keras's "reset after"),
conv2d ``[time][feature][in][out]``, causal in time, with features and filters flattened to channels, filters
fastest. All state starts from zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..activations import Activation
from ..errors import ModelError
from ..graph import Graph
from ..layers import Activate, Array, BatchNorm, Conv1d, Conv2d, Gru, Lstm, Node, Reshape, check_groups
from ._reading import Fields, as_array, as_integer, as_list, describe, refuse, within

_ACTIVATIONS = {
    "tanh": Activation("tanh"),
    "relu": Activation("relu"),
    "sigmoid": Activation("sigmoid"),
    "softmax": Activation("softmax"),
    "elu": Activation("elu", (1.0,)),
}
#: What a file says of its layers.
FILE_FIELDS = ("in_shape", "layers")
#: What a layer may say, and what only some kinds may say besides.
_FIELDS = {"type", "activation", "shape", "weights", "strides", "stride"}
_OWN_FIELDS = {
    "conv1d": {"kernel_size", "dilation", "groups", "padding"},
    "batchnorm": {"epsilon"},
    "batchnorm2d": {"epsilon", "num_filters_in", "num_features_in"},
    "conv2d": {
        *("kernel_size_time", "kernel_size_feature", "num_filters_in", "num_features_in", "num_filters_out"),
        *("dilation", "padding"),
    },
}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is one of RTNeural's Keras files, going by its keys."""
    return "layers" in document and ("in_shape" in document or "architecture" not in document)


def read(document: Mapping[str, Any]) -> Graph:
    """Turn RTNeural's JSON of a Keras model into a graph.

    Parameters
    ----------
    document : mapping
        The whole file, parsed.

    Returns
    -------
    Graph
        Starts from zeros (no prewarm). Notes say which fields were ignored.

    Raises
    ------
    ModelError
        The file is broken, shapes disagree, or a layer is of no known type.
    """
    fields = Fields(document, "")
    stack = read_layers(fields, "input")
    notes = (*fields.notes_on_ignored(FILE_FIELDS), *stack.notes)
    return Graph(stack.nodes, "input", stack.inputs, stack.output, notes=notes)


@dataclass(frozen=True)
class Stack:
    """The layers of a file: what they are, how many channels they take, and the signal they end in."""

    nodes: tuple[Node, ...]
    inputs: int
    output: str
    notes: tuple[str, ...]


def read_layers(fields: Fields, source: str) -> Stack:
    """Read ``in_shape`` and ``layers`` of a file, the first layer reading the signal `source`.

    Raises
    ------
    ModelError
        As for `read`.
    """
    channels = inputs = _size(fields, "in_shape")
    nodes: list[Node] = []
    notes: list[str] = []
    below = source
    for i, raw in enumerate(fields.items("layers")):
        with within(f"layer {i}"):
            layer = Fields(raw, "")
            kind = layer.text("type")
            if kind not in _READERS:
                refuse("field 'type'", f"one of {', '.join(_READERS)}", kind)
            if kind != "conv2d":
                _refuse_stride(layer)
            added = _READERS[kind](layer, f"layer {i} {kind}", below, channels)
            nodes += added
            notes += _notes(layer, f"layer {i} {kind}", kind)
            below = added[-1].output if added else below
            channels = _size(layer, "shape")
    if not nodes:
        raise ModelError("no layer does anything")
    return Stack(tuple(nodes), inputs, below, tuple(notes))


def _size(fields: Fields, name: str) -> int:
    """Channels of a shape: its last entry, or the product of the last two of four."""
    shape = fields.items(name)
    sizes = [as_integer(size, fields.place(name)) for size in shape[-2 if len(shape) == 4 else -1 :]]
    return prod(sizes)


def _refuse_stride(layer: Fields) -> None:
    for key in ("strides", "stride"):
        if layer.has(key) and _single(layer, key) != 1:
            raise ModelError(f"{layer.place(key)}: RTNeural's format knows no stride, expected 1")


def _notes(layer: Fields, name: str, kind: str) -> Iterator[str]:
    """What a layer says that is not done as it says."""
    known = _FIELDS | _OWN_FIELDS.get(kind, set())
    for field in layer.unknown(known):
        yield f"{name}: field {field[:40]!r} was ignored"
    if not layer.has("padding") or layer.raw["padding"] in ("causal", "valid"):
        return
    padding = describe(layer.raw["padding"])
    if kind == "conv1d":
        yield f"{name}: runs causal, as RTNeural runs it, not with padding {padding}"
    elif kind == "conv2d" and layer.integer("kernel_size_time") > 1:
        yield f"{name}: runs causal in time, as RTNeural runs it, with padding {padding} over features alone"


def _weights(layer: Fields, *counts: int) -> list[Any]:
    weights = layer.value("weights")
    if not isinstance(weights, list) or len(weights) not in counts:
        refuse(layer.place("weights"), f"a list of {' or '.join(map(str, counts))} arrays", weights)
    return weights


def _with_activation(layer: Fields, name: str, nodes: list[Node]) -> list[Node]:
    """Append the activation a layer's field asks for, if any."""
    kind = layer.text("activation", "")
    if kind in ("", "linear"):
        return nodes
    if kind not in _ACTIVATIONS:
        refuse(layer.place("activation"), f"one of {', '.join(_ACTIVATIONS)}", kind)
    return [*nodes, Activate(f"{name} {kind}", nodes[-1].output, _ACTIVATIONS[kind])]


def _dense(layer: Fields, name: str, below: str, channels: int) -> list[Node]:
    outputs = _size(layer, "shape")
    arrays = _weights(layer, 1, 2)
    weight = as_array(arrays[0], (channels, outputs), "weights[0]")
    bias = as_array(arrays[1], (outputs,), "weights[1]") if len(arrays) == 2 else None
    kernel = np.ascontiguousarray(weight.T)[:, :, None]
    return _with_activation(layer, name, [Conv1d(name, below, kernel, bias)])


def _conv1d(layer: Fields, name: str, below: str, channels: int) -> list[Node]:
    outputs = _size(layer, "shape")
    kernel, dilation = _single(layer, "kernel_size"), _single(layer, "dilation", 1)
    groups = layer.integer("groups", 1)
    check_groups("conv1d", groups, channels, outputs)
    arrays = _weights(layer, 1, 2)
    weight = as_array(arrays[0], (kernel, channels // groups, outputs), "weights[0]")
    bias = as_array(arrays[1], (outputs,), "weights[1]") if len(arrays) == 2 else None
    taps = np.ascontiguousarray(weight.transpose(2, 1, 0))
    return _with_activation(layer, name, [Conv1d(name, below, taps, bias, groups, dilation)])


def _single(layer: Fields, name: str, default: int | None = None) -> int:
    """An integer, or a list of one."""
    value = layer.raw.get(name, default) if default is not None else layer.value(name)
    if isinstance(value, list):
        if len(value) != 1:
            refuse(layer.place(name), "an integer or a list of one", value)
        value = value[0]
    return as_integer(value, layer.place(name))


def _lstm(layer: Fields, name: str, below: str, channels: int) -> list[Node]:
    hidden = _size(layer, "shape")
    arrays = _weights(layer, 3)
    if layer.text("activation", "") not in ("", "tanh"):
        refuse(layer.place("activation"), "tanh, RTNeural knows no other LSTM", layer.value("activation"))
    weight_ih = as_array(arrays[0], (channels, 4 * hidden), "weights[0]")
    weight_hh = as_array(arrays[1], (hidden, 4 * hidden), "weights[1]")
    bias = as_array(arrays[2], (4 * hidden,), "weights[2]")
    return [Lstm(name, below, np.ascontiguousarray(weight_ih.T), np.ascontiguousarray(weight_hh.T), bias)]


def _gru(layer: Fields, name: str, below: str, channels: int) -> list[Node]:
    hidden = _size(layer, "shape")
    arrays = _weights(layer, 3)
    if layer.text("activation", "") not in ("", "tanh"):
        refuse(layer.place("activation"), "tanh, RTNeural knows no other GRU", layer.value("activation"))
    weight_ih = as_array(arrays[0], (channels, 3 * hidden), "weights[0]")
    weight_hh = as_array(arrays[1], (hidden, 3 * hidden), "weights[1]")
    bias = as_array(arrays[2], (2, 3 * hidden), "weights[2]")
    ih, hh = (_reset_first(weight.T, hidden) for weight in (weight_ih, weight_hh))
    return [Gru(name, below, ih, hh, _reset_first(bias[0], hidden), _reset_first(bias[1], hidden))]


def _reset_first(rows: Array, hidden: int) -> Array:
    """Gates z, r, h in the order r, z, h."""
    update, reset, new = np.split(rows, [hidden, 2 * hidden])
    return np.concatenate([reset, update, new])


def _conv2d(layer: Fields, name: str, below: str, channels: int) -> list[Node]:
    filters, features = layer.integer("num_filters_in"), layer.integer("num_features_in")
    if filters * features != channels:
        raise ModelError(
            f"expected {channels} channels as before, found {features} features of {filters} filters"
        )
    kernel = (layer.integer("kernel_size_time"), layer.integer("kernel_size_feature"))
    outputs, stride = layer.integer("num_filters_out"), _single(layer, "strides", 1)
    arrays = _weights(layer, 1, 2)
    weight = as_array(arrays[0], (*kernel, filters, outputs), "weights[0]")
    bias = as_array(arrays[1], (outputs,), "weights[1]") if len(arrays) == 2 else None
    pads = _feature_padding(layer, features, kernel[1], stride)
    made_features = max(0, (features + sum(pads) - kernel[1]) // stride + 1)
    if made_features * outputs != _size(layer, "shape"):
        raise ModelError(
            f"{layer.place('shape')}: expected {made_features} features of {outputs} filters, "
            f"found {_size(layer, 'shape')} channels"
        )
    shaped, made = f"{name} features", f"{name} 2d"
    node = Conv2d(
        made,
        shaped,
        np.ascontiguousarray(weight.transpose(3, 2, 0, 1)),
        bias,
        dilation=_single(layer, "dilation", 1),
        feature_stride=stride,
        feature_padding=pads,
    )
    rows = Reshape(name, made, made_features * outputs)
    nodes: list[Node] = [Reshape(shaped, below, filters, features), node, rows]
    return _with_activation(layer, name, nodes)


def _feature_padding(layer: Fields, features: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros below and above, as Keras shares them out."""
    padding = layer.text("padding", "valid")
    if padding not in ("same", "valid"):
        refuse(layer.place("padding"), "same or valid", padding)
    if padding == "valid":
        return 0, 0
    outputs = -(-features // stride)
    total = max((outputs - 1) * stride + kernel - features, 0)
    return total // 2, total - total // 2


def _batchnorm2d(layer: Fields, name: str, below: str, channels: int) -> list[Node]:
    _expect_channels(layer, channels)
    filters, features = layer.integer("num_filters_in"), layer.integer("num_features_in")
    if filters * features != channels:
        raise ModelError(
            f"expected {channels} channels as before, found {features} features of {filters} filters"
        )
    shaped, made = f"{name} features", f"{name} 2d"
    nodes: list[Node] = [
        Reshape(shaped, below, filters, features),
        _normalised(layer, made, shaped, filters),
        Reshape(name, made, channels),
    ]
    return _with_activation(layer, name, nodes)


def _activation(layer: Fields, name: str, below: str, channels: int) -> list[Node]:
    _expect_channels(layer, channels)
    kind = layer.text("activation")
    if kind in ("", "linear"):
        return []
    if kind not in _ACTIVATIONS:
        refuse(layer.place("activation"), f"one of {', '.join(_ACTIVATIONS)}", kind)
    return [Activate(f"{name} {kind}", below, _ACTIVATIONS[kind])]


def _batchnorm(layer: Fields, name: str, below: str, channels: int) -> list[Node]:
    _expect_channels(layer, channels)
    return _with_activation(layer, name, [_normalised(layer, name, below, channels)])


def _normalised(layer: Fields, name: str, below: str, channels: int) -> BatchNorm:
    arrays = _weights(layer, 2, 4)
    read = [as_array(array, (channels,), f"weights[{i}]") for i, array in enumerate(arrays)]
    gamma, beta = (read[0], read[1]) if len(read) == 4 else (None, None)
    return BatchNorm(name, below, read[-2], read[-1], gamma, beta, layer.number("epsilon"))


def _prelu(layer: Fields, name: str, below: str, channels: int) -> list[Node]:
    _expect_channels(layer, channels)
    if layer.text("activation", "") not in ("", "linear"):
        refuse(layer.place("activation"), "none on a prelu", layer.value("activation"))
    (alpha,) = _weights(layer, 1)
    rows = as_list(alpha, "weights[0]")
    if len(rows) != 1:
        refuse("weights[0]", "a list of one list: one slope per channel, or one for all", rows)
    slopes = as_list(rows[0], "weights[0][0]")
    if len(slopes) not in (1, channels):
        refuse("weights[0][0]", f"a list of 1 or {channels} slopes", slopes)
    values = as_array(slopes, (len(slopes),), "weights[0][0]")
    return [Activate(name, below, Activation("prelu", tuple(float(value) for value in values)))]


def _expect_channels(layer: Fields, channels: int) -> None:
    """A layer that keeps the channels has to say so in its shape."""
    found = _size(layer, "shape")
    if found != channels:
        raise ModelError(f"{layer.place('shape')}: expected {channels} channels as before, found {found}")


_READERS: dict[str, Callable[[Fields, str, str, int], list[Node]]] = {
    "dense": _dense,
    "time-distributed-dense": _dense,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "lstm": _lstm,
    "gru": _gru,
    "activation": _activation,
    "batchnorm": _batchnorm,
    "batchnorm2d": _batchnorm2d,
    "prelu": _prelu,
}
