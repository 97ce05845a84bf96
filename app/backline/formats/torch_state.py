"""A PyTorch ``state_dict`` written to JSON: one tensor per key, as nested lists.

The tensors alone say nothing of groups, stride or dilation, nor of the order of layers, so the caller
has to. Conv1d weights are ``[out][in / groups][kernel]`` (``torch.nn.Conv1d``), the last tap newest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ModelError
from ..graph import Graph
from ..layers import Array, Conv1d, Node, check_groups
from ._reading import Fields, as_array, as_list, refuse, within

_EXAMPLE = (
    "{'type': 'conv1d', 'prefix': '', 'in_channels': 1, 'out_channels': 8, 'kernel_size': 3, "
    "'dilation': 1, 'stride': 1, 'groups': 1, 'bias': True}"
)
_KNOWN = {
    *("type", "prefix", "in_channels", "out_channels", "kernel_size"),
    *("dilation", "stride", "groups", "bias"),
}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a state_dict: values are tensors, one of them called weight."""
    tensors = all(isinstance(value, list | int | float) for value in document.values())
    return tensors and any(key == "weight" or key.endswith(".weight") for key in document)


def read(document: Mapping[str, Any], *, layers: Sequence[Mapping[str, Any]] | None) -> Graph:
    """Turn a state_dict and a list of its layers into a graph.

    Parameters
    ----------
    document : mapping
        The whole file, parsed: ``prefix + "weight"`` and ``prefix + "bias"`` of each layer.
    layers : sequence of mappings
        One per layer, in running order: ``type`` (only ``"conv1d"`` so far), ``in_channels``,
        ``out_channels``, ``kernel_size``, and where they differ from PyTorch's defaults ``prefix`` (""),
        ``dilation`` (1), ``stride`` (1), ``groups`` (1) and ``bias`` (True).

    Returns
    -------
    Graph
        Starts from zeros (no prewarm); output n belongs to input frame n times the product of strides.

    Raises
    ------
    ModelError
        `layers` is missing or does not fit the tensors.
    """
    if layers is None:
        raise ModelError(
            "a state_dict does not hold groups, stride or dilation; pass layers, a list with an entry "
            f"such as {_EXAMPLE} for each layer"
        )
    nodes: list[Node] = []
    used: set[str] = set()
    below, channels = "input", 0
    for i, raw in enumerate(as_list(layers, "layers")):
        with within(f"layers[{i}]"):
            fields = Fields(raw, "")
            kind = fields.text("type")
            if kind != "conv1d":
                raise ModelError(f"type {kind[:40]!r} is not supported yet, only 'conv1d' is")
            for name in fields.unknown(_KNOWN):
                raise ModelError(f"unknown field {str(name)[:40]!r}; known are {', '.join(sorted(_KNOWN))}")
            if nodes and fields.integer("in_channels") != channels:
                raise ModelError(
                    f"expected in_channels {channels} like the layer before puts out, "
                    f"found {fields.integer('in_channels')}"
                )
            channels = fields.integer("out_channels")
            nodes.append(_conv1d(document, fields, f"layer {i} conv1d", below, used))
            below = nodes[-1].output
    left_over = sorted(set(document) - used)
    if left_over:
        raise ModelError(f"tensor {left_over[0][:60]!r} belongs to none of the {len(nodes)} layers given")
    first = nodes[0]
    assert isinstance(first, Conv1d)
    return Graph(tuple(nodes), "input", first.weight.shape[1] * first.groups, below)


def _conv1d(document: Mapping[str, Any], fields: Fields, name: str, below: str, used: set[str]) -> Conv1d:
    prefix = fields.text("prefix", "")
    in_channels, out_channels = fields.integer("in_channels"), fields.integer("out_channels")
    groups = fields.integer("groups", 1)
    check_groups("conv1d", groups, in_channels, out_channels)
    shape = (out_channels, in_channels // groups, fields.integer("kernel_size"))
    weight = _tensor(document, prefix + "weight", shape, used)
    bias = None
    if fields.flag("bias", True):
        bias = _tensor(document, prefix + "bias", (out_channels,), used)
    dilation, stride = fields.integer("dilation", 1), fields.integer("stride", 1)
    return Conv1d(name, below, weight, bias, groups, dilation, stride)


def _tensor(document: Mapping[str, Any], key: str, shape: tuple[int, ...], used: set[str]) -> Array:
    if key not in document:
        refuse(f"tensor {key[:60]!r}", f"an array of shape {list(shape)}", None)
    used.add(key)
    return as_array(document[key], shape, f"tensor {key[:60]!r}")
