"""Backline's own file: any graph, with all its arrays, in one file that needs nothing but Backline to load.

A ``.backline`` file is a safetensors file (github.com/huggingface/safetensors) of float32 tensors, whose
metadata hold ``format`` "backline", ``version`` "1" and ``graph``, a JSON object:

- ``nodes``: one object per node in running order, ``kind`` and the node's fields; where a field is an array
  there stands the tensor's name, arrays that nodes share being one tensor;
- ``input``, ``input_channels``, ``output``, ``knobs``, ``sample_rate_hz``, ``prewarm_frames``, ``name``,
  ``metadata``, ``notes``, ``latency_frames``, ``self_tests``.

Fields that stand at their default are left out. Nothing in the file is executed, and nothing unknown is
skipped.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import numpy as np

from .. import layers
from ..activations import Activation
from ..errors import ModelError
from ..graph import Graph, Knob, SelfTest
from ..layers import MAX_NODES, Array, Mix, Node
from ._reading import (
    Fields,
    as_flag,
    as_integer,
    as_list,
    as_number,
    as_text,
    describe,
    parse_json,
    refuse,
    within,
)

VERSION = "1"
_FORMAT = "backline"
_LOWEST = -(1 << 24)

#: What nodes are called in files: for ever.
KINDS: Mapping[str, type[Node]] = {
    "conv1d": layers.Conv1d,
    "conv_transpose1d": layers.ConvTranspose1d,
    "conv2d": layers.Conv2d,
    "activate": layers.Activate,
    "add": layers.Add,
    "multiply": layers.Multiply,
    "affine": layers.Affine,
    "batch_norm": layers.BatchNorm,
    "crossfade": layers.Crossfade,
    "slice": layers.Slice,
    "concat": layers.Concat,
    "reshape": layers.Reshape,
    "delay": layers.Delay,
    "lstm": layers.Lstm,
    "gru": layers.Gru,
    "max_pool1d": layers.MaxPool1d,
    "avg_pool1d": layers.AvgPool1d,
    "upsample": layers.Upsample,
    "interleave": layers.Interleave,
    "resample": layers.Resample,
}
_NAMES = {kind: name for name, kind in KINDS.items()}
_GRAPH_FIELDS = tuple(field.name for field in fields(Graph) if field.init and field.name != "nodes")


def recognises(data: bytes) -> bool:
    """Whether a file is a safetensors file: eight bytes of length, then a JSON object."""
    return data[8:9] == b"{" and data[5:8] == b"\0\0\0"


def encode(graph: Graph) -> bytes:
    """Return the whole file for a graph.

    Raises
    ------
    ModelError
        The graph's metadata are nothing that JSON can hold.
    """
    from safetensors.numpy import save

    writer = _Writer()
    document = {"nodes": [{"kind": _NAMES[type(n)], **writer.fields_of(n)} for n in graph.nodes]}
    document |= {name: writer.value(getattr(graph, name)) for name in _GRAPH_FIELDS}
    try:
        text = json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{graph.name}: metadata that JSON cannot hold: {error}") from None
    metadata = {"format": _FORMAT, "version": VERSION, "graph": text}
    return _in_order(bytes(save(writer.tensors, metadata)), metadata)


def _in_order(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """A file whose metadata stand in their order: safetensors writes them in another each time."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = metadata  # which keeps its place
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


class _Writer:
    """Turns values to JSON; arrays go to `tensors`, one that is met again only once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}
        self._names: dict[int, str] = {}
        self._alive: list[Array] = []

    def fields_of(self, value: Any) -> dict[str, Any]:
        """The fields of a dataclass that do not stand at their default."""
        found = {}
        for field in fields(value):
            content = getattr(value, field.name)
            default = field.default
            at_default = type(content) is type(default) and bool(content == default)
            if field.init and not at_default:
                found[field.name] = self.value(content)
        return found

    def value(self, content: Any) -> Any:
        """One value."""
        if isinstance(content, np.ndarray):
            return self._tensor(content)
        if is_dataclass(content) and not isinstance(content, type):
            return self.fields_of(content)
        if isinstance(content, Mapping):
            return {str(key): self.value(item) for key, item in content.items()}
        if isinstance(content, list | tuple):
            return [self.value(item) for item in content]
        return content.item() if isinstance(content, np.generic) else content

    def _tensor(self, array: Array) -> str:
        if id(array) not in self._names:
            self._names[id(array)] = f"array {len(self.tensors)}"
            self.tensors[self._names[id(array)]] = np.ascontiguousarray(array, "<f4")
            self._alive.append(array)
        return self._names[id(array)]


def decode(data: bytes) -> Graph:
    """Read a whole file.

    Raises
    ------
    ModelError
        It is a safetensors file of something else, of a later version, or broken.
    """
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ModelError(f"is no whole safetensors file: {error}") from None
    # The library hands out tensors only; it has checked the header by now.
    with within("its header"):
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")].decode("utf-8"))
    said = header.get("__metadata__") or {}
    if said.get("format") != _FORMAT:
        raise ModelError(
            "is a safetensors file without a Backline graph; write its tensors to a state_dict JSON and load "
            "that with its layers described"
        )
    if said.get("version") != VERSION:
        raise ModelError(f"has version {describe(said.get('version'))}, expected {VERSION!r}")
    tensors: dict[str, Array] = {}
    for name, tensor in found:
        if tensor["dtype"] != "F32":
            raise ModelError(f"tensor {name[:60]!r} holds {tensor['dtype']}, expected F32")
        values = np.frombuffer(tensor["data"], "<f4").reshape(tensor["shape"])
        tensors[name] = values.astype(np.float32, copy=False)
    with within("its graph"):
        document = parse_json(said.get("graph", ""))
    return _Reader(tensors).graph(Fields(document, "graph"))


class _Reader:
    """Turns JSON to values of the types that the dataclasses say."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.tensors = tensors

    def graph(self, document: Fields) -> Graph:
        """The graph of a whole document."""
        raw_nodes = document.value("nodes")
        if not isinstance(raw_nodes, list) or len(raw_nodes) > MAX_NODES:
            refuse(document.place("nodes"), f"a list of at most {MAX_NODES} nodes", raw_nodes)
        nodes = []
        for index, raw in enumerate(raw_nodes):
            with within(f"node {index}"):
                nodes.append(self.node(Fields(raw, "")))
        unknown = document.unknown((*_GRAPH_FIELDS, "nodes"))
        if unknown:
            raise ModelError(f"unknown field {unknown[0][:40]!r}")
        hints = typing.get_type_hints(Graph)
        found = {
            name: self.value(document.raw[name], hints[name], document.place(name))
            for name in _GRAPH_FIELDS
            if name in document.raw
        }
        for name in ("input", "input_channels", "output"):
            document.value(name)
        graph = Graph(tuple(nodes), **found)
        for test in graph.self_tests:
            _check_self_test(graph, test)
        return graph

    def node(self, document: Fields) -> Node:
        """One node."""
        kind = document.text("kind")
        if kind not in KINDS:
            refuse(document.place("kind"), f"one of {', '.join(KINDS)}", kind)
        node: Node = self.dataclass(KINDS[kind], document, ("kind",))
        return node

    def dataclass(self, kind: Any, document: Fields, ignored: Sequence[str] = ()) -> Any:
        """An instance of a dataclass from an object with its fields."""
        known = {field.name: field for field in fields(kind) if field.init}
        unknown = document.unknown((*known, *ignored))
        if unknown:
            raise ModelError(f"{document.place(unknown[0][:40])} is not known to {kind.__name__}")
        hints = typing.get_type_hints(kind)
        found = {}
        for name, field in known.items():
            required = field.default is MISSING and field.default_factory is MISSING
            if name in document.raw or required:
                found[name] = self.value(document.value(name), hints[name], document.place(name))
        return kind(**found)

    def value(self, raw: Any, hint: Any, where: str) -> Any:
        """`raw` as what a type says; `ModelError` where it is something else."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            (inner,) = (argument for argument in arguments if argument is not type(None))
            return None if raw is None else self.value(raw, inner, where)
        if origin is tuple:
            return self._tuple(raw, arguments, where)
        if origin is np.ndarray:
            return self._array(raw, where)
        if origin is typing.Literal or hint is str:
            return as_text(raw, where)
        if hint is bool:
            return as_flag(raw, where)
        if hint is int:
            return as_integer(raw, where, _LOWEST)
        if hint is float:
            return as_number(raw, where)
        if hint in (Activation, Mix, Knob, SelfTest):
            return self.dataclass(hint, Fields(raw, where))
        assert getattr(origin, "__name__", "") == "Mapping", hint
        mapping = dict(Fields(raw, where).raw)
        if arguments[1] is float:
            return {key: as_number(item, where) for key, item in mapping.items()}
        return mapping

    def _tuple(self, raw: Any, arguments: tuple[Any, ...], where: str) -> tuple[Any, ...]:
        items = as_list(raw, where) if raw != [] else []
        if arguments[-1] is not Ellipsis and len(items) != len(arguments):
            refuse(where, f"a list of {len(arguments)}", raw)
        return tuple(self.value(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(items))

    def _array(self, raw: Any, where: str) -> Array:
        name = as_text(raw, where)
        if name not in self.tensors:
            raise ModelError(f"{where}: the file has no tensor {name[:60]!r}")
        return self.tensors[name]


def _check_self_test(graph: Graph, test: SelfTest) -> None:
    for name, values in ((test.input, test.x), (test.output, test.y)):
        if name not in graph.signals:
            raise ModelError(f"self-test of a signal {name[:40]!r} that does not exist")
        if values.ndim != 2 or values.shape[0] != graph.signals[name].rows:
            raise ModelError(f"self-test of {name[:40]!r} has shape {values.shape}")
