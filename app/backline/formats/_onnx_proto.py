"""ONNX files as plain values: nodes with functions written out, constants as arrays, inputs with shapes.

The sole importer of ``onnx``, which only takes the bytes apart. Tensors are unpacked here, with every size
compared with what is really there before anything is allocated, and a file beside the model's is only read
where it lies in the model's own folder.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..layers import MAX_ELEMENTS, MAX_SIZE
from ._reading import describe, within

#: Operators before this version of the standard mean something else.
FIRST_OPSET = 13
#: Most nodes of a file, those of its functions counted as often as they are called.
MOST_NODES = 100_000
#: Most bytes of all tensors of a file together.
MOST_TENSOR_BYTES = 512 << 20
_MOST_DEPTH = 32
_MOST_AXES = 16

#: Types of elements: what their bytes are, what they become; bfloat16 (16) is the upper half of a float32.
_TYPES: Mapping[int, tuple[str, Any]] = {
    1: ("<f4", np.float32),
    2: ("<u1", np.int64),
    3: ("<i1", np.int64),
    4: ("<u2", np.int64),
    5: ("<i2", np.int64),
    6: ("<i4", np.int64),
    7: ("<i8", np.int64),
    9: ("<u1", np.bool_),
    10: ("<f2", np.float32),
    11: ("<f8", np.float64),
    12: ("<u4", np.int64),
    13: ("<u8", np.int64),
    16: ("<u2", np.float32),
}
_BFLOAT16 = 16
#: Which field holds the numbers of a type where the bytes do not.
_FIELDS: Mapping[int, str] = {
    **dict.fromkeys((2, 3, 4, 5, 6, 9, 10, 16), "int32_data"),
    **{1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data", 13: "uint64_data"},
}
FLOATS = frozenset((1, 10, 11, 16))

#: The fields of a ModelProto and their wire types: 0 a number, 2 anything with a length.
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}


@dataclass(frozen=True)
class OnnxNode:
    """One operator; names of absent inputs and outputs are empty. `title` is its name, fit to print."""

    op: str
    title: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def where(self) -> str:
        """The node in error messages."""
        return f"node {self.title!r} ({self.op})"


@dataclass(frozen=True)
class OnnxBranch:
    """One of the two graphs of an If: it has no inputs, and reads what was made before it."""

    nodes: tuple[OnnxNode, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class OnnxInput:
    """An input of the model: a size that is not fixed is a name, or empty where it has none."""

    name: str
    element: int
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxModel:
    """What a file holds. `constants` are the initializers: integers as int64, floats as float32 or 64."""

    nodes: tuple[OnnxNode, ...]
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, NDArray[Any]]
    opset: int
    metadata: Mapping[str, Any]


def recognises(data: bytes) -> bool:
    """Whether bytes look like a ModelProto: its fields, of their types, up to the graph or the end."""
    at, seen = 0, 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if _MODEL_FIELDS.get(number) != wire:
            return False
        seen += 1
        if number == 7:
            return True
        size, at = _varint(data, at)
        if size < 0:
            return False
        at += size if wire == 2 else 0
    return seen >= 2


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends; -1 where the bytes hold none."""
    value = 0
    for place, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    return -1, len(data)


def parse(data: bytes, folder: Path) -> OnnxModel:
    """Take a file apart.

    Parameters
    ----------
    data : bytes
        The whole file.
    folder : path
        Where tensors that the file keeps beside itself have to lie.

    Raises
    ------
    ModelError
        The package is missing, the bytes are no model, or hold what no model may.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ModelError('ONNX models need the package onnx: pip install "backline[onnx]"') from None
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError:
        raise ModelError("is a broken or truncated ONNX model") from None
    opset = _opset(proto, onnx.defs.onnx_opset_version())
    graph = proto.graph
    if graph.sparse_initializer:
        raise ModelError("holds sparse tensors, which are not supported")
    tensors = _Tensors(folder)
    constants = tensors.named(graph.initializer)
    writer = _Nodes(tensors, _functions(proto))
    writer.add(graph.node, {}, "", 0)
    return OnnxModel(
        tuple(writer.nodes),
        tuple(_input(value) for value in graph.input if _text(value.name) not in constants),
        tuple(_text(value.name) for value in graph.output),
        constants,
        opset,
        _metadata(proto, opset),
    )


def _text(value: str | bytes) -> str:
    """Text of a file; protobuf leaves what is no UTF-8 as bytes."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def printable(name: str) -> str:
    """A name of a file, short and on one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:80])


def _opset(proto: Any, newest: int) -> int:
    versions = {_text(entry.domain): int(entry.version) for entry in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx"))
    if opset is None:
        raise ModelError("does not say which version of ONNX's operators it uses")
    if not FIRST_OPSET <= opset <= newest:
        raise ModelError(f"uses opset {opset}, expected {FIRST_OPSET} to {newest}")
    return opset


def _metadata(proto: Any, opset: int) -> dict[str, Any]:
    """What the file says of itself."""
    found: dict[str, Any] = {_text(entry.key): _text(entry.value) for entry in proto.metadata_props}
    producer = f"{_text(proto.producer_name)} {_text(proto.producer_version)}".strip()
    title = _text(proto.graph.name)
    for key, text in (("graph", title), ("producer", producer), ("description", _text(proto.doc_string))):
        if text:
            found.setdefault(key, text)
    return {**found, "opset": opset}


def _input(value: Any) -> OnnxInput:
    name = _text(value.name)
    with within(f"input {printable(name)!r}"):
        if value.type.WhichOneof("value") != "tensor_type":
            raise ModelError("expected a tensor")
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            raise ModelError("expected a shape, the file gives none")
        if len(tensor.shape.dim) > _MOST_AXES:
            raise ModelError(f"has {len(tensor.shape.dim)} axes, expected at most {_MOST_AXES}")
        shape: list[int | str] = []
        for dim in tensor.shape.dim:
            if dim.WhichOneof("value") == "dim_value":
                if not 1 <= dim.dim_value <= MAX_SIZE:
                    raise ModelError(f"has an axis of {dim.dim_value}, expected 1 to {MAX_SIZE}")
                shape.append(int(dim.dim_value))
            else:
                shape.append(_text(dim.dim_param))
        return OnnxInput(name, int(tensor.elem_type), tuple(shape))


def _functions(proto: Any) -> dict[tuple[str, str, str], Any]:
    return {(_text(f.domain), _text(f.name), _text(getattr(f, "overload", ""))): f for f in proto.functions}


class _Tensors:
    """Unpacks tensors, at most so many bytes of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = MOST_TENSOR_BYTES

    def named(self, initializers: Iterable[Any]) -> dict[str, NDArray[Any]]:
        """The arrays of a graph by their names."""
        found: dict[str, NDArray[Any]] = {}
        for tensor in initializers:
            name = _text(tensor.name)
            with within(f"initializer {printable(name)!r}"):
                if name in found or not name:
                    raise ModelError("expected a name of its own")
                found[name] = self.array(tensor)
        return found

    def array(self, tensor: Any) -> NDArray[Any]:
        """The array of a TensorProto; raise `ModelError` where its numbers are not all there."""
        if tensor.data_type not in _TYPES:
            raise ModelError(f"holds elements of type {tensor.data_type}, expected numbers or truth values")
        shape = tuple(int(size) for size in tensor.dims)
        if len(shape) > _MOST_AXES or any(not 0 <= size <= MAX_SIZE for size in shape):
            raise ModelError(f"has shape {_short(shape)}, expected sizes up to {MAX_SIZE}")
        count = prod(shape)
        if count > MAX_ELEMENTS:
            raise ModelError(f"has {count} elements, at most {MAX_ELEMENTS} are allowed")
        stored, wanted = _TYPES[tensor.data_type]
        size = count * np.dtype(stored).itemsize
        self._left -= count * max(np.dtype(wanted).itemsize, np.dtype(stored).itemsize)
        if self._left < 0:
            raise ModelError(f"all tensors together have more than {MOST_TENSOR_BYTES} bytes")
        if tensor.data_location == tensor.EXTERNAL:
            raw = np.frombuffer(self._beside(tensor, size), stored)
        elif tensor.HasField("raw_data"):
            if len(tensor.raw_data) != size:
                raise ModelError(f"expected {size} bytes, found {len(tensor.raw_data)}")
            raw = np.frombuffer(tensor.raw_data, stored)
        else:
            raw = self._listed(tensor, count, stored)
        if tensor.data_type == _BFLOAT16:
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        if tensor.data_type == 13 and raw.size and raw.max() > np.iinfo(np.int64).max:
            raise ModelError("holds an integer beyond 64 bits with a sign")
        return raw.astype(wanted).reshape(shape)

    def _listed(self, tensor: Any, count: int, stored: str) -> NDArray[Any]:
        """Numbers that stand in the file one by one; halves as the integers that their bits are."""
        values = getattr(tensor, _FIELDS[tensor.data_type])
        if len(values) != count:
            raise ModelError(f"expected {count} numbers, found {len(values)}")
        if stored in ("<f4", "<f8", "<i8"):
            return np.array(values, stored)
        wide = np.array(values, np.uint64 if stored in ("<u4", "<u8") else np.int64)
        if stored == "<f2":
            return wide.astype(np.uint16).view(np.float16)
        return wide.astype(stored)

    def _beside(self, tensor: Any, size: int) -> bytes:
        """Bytes of a file in the model's own folder."""
        entries = {_text(entry.key): _text(entry.value) for entry in tensor.external_data}
        path = self._inside(entries.get("location", ""))
        offset = _count(entries.get("offset", "0"), "offset")
        length = _count(entries.get("length", str(size)), "length")
        if length != size:
            raise ModelError(f"expected {size} bytes of external data, found a length of {length}")
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"external data: {path.name!r} is no regular file")
            if offset + size > status.st_size:
                raise ModelError(
                    f"external data: expected {size} bytes from {offset} on, {path.name!r} has "
                    f"{status.st_size}"
                )
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            reason = error.strerror or error
            raise ModelError(f"external data: {path.name!r} cannot be read: {reason}") from error
        if len(data) != size:
            raise ModelError(f"external data: expected {size} bytes, found {len(data)}")
        return data

    def _inside(self, location: str) -> Path:
        """The path a location stands for, links followed."""
        parts = location.split("/")
        if not location or "\0" in location or "\\" in location or ":" in location or ".." in parts:
            raise ModelError(f"external data: {describe(location)} is no plain path in the model's folder")
        try:
            folder = self._folder.resolve()
            path = (folder / location).resolve()
        except (OSError, RuntimeError) as error:
            raise ModelError(f"external data: {describe(location)} cannot be followed: {error}") from None
        if not path.is_relative_to(folder) or path == folder:
            raise ModelError(f"external data: {describe(location)} lies outside the model's folder")
        return path


def _count(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ModelError(f"external data: expected a number as its {what}, found {describe(text)}")
    return int(text)


def _short(shape: tuple[int, ...]) -> str:
    return f"{list(shape[:8])}" if len(shape) <= 8 else f"of {len(shape)} axes"


@dataclass
class _Nodes:
    """Collects nodes; a call of one of the file's own functions becomes the nodes of that function."""

    tensors: _Tensors
    functions: Mapping[tuple[str, str, str], Any]
    nodes: list[OnnxNode] = field(default_factory=list)
    calls: int = 0
    #: Of all nodes, also of those in branches.
    count: int = 0

    def add(self, nodes: Iterable[Any], given: Mapping[str, Any], above: str, depth: int) -> None:
        """Append nodes whose names of values are as they stand."""
        self._add(nodes, lambda name: name, given, above, depth)

    def _add(
        self,
        nodes: Iterable[Any],
        renamed: Callable[[str], str],
        given: Mapping[str, Any],
        above: str,
        depth: int,
    ) -> None:
        for node in nodes:
            op, domain = _text(node.op_type), _text(node.domain)
            outputs = [_text(name) for name in node.output]
            title = printable(_text(node.name) or next((name for name in outputs if name), "unnamed"))
            with within(f"node {above + title!r} ({printable(op)})"):
                attributes = self._attributes(node, given)
                if op == "If":
                    attributes |= self._branches(node, renamed, given, f"{above}{title}/", depth)
                inputs = tuple(renamed(_text(name)) for name in node.input)
                made = tuple(renamed(name) for name in outputs)
                function = self.functions.get((domain, op, _text(getattr(node, "overload", ""))))
                if function is not None:
                    self._call(function, inputs, made, attributes, f"{above}{title}/", depth)
                    continue
                if domain not in ("", "ai.onnx"):
                    raise ModelError(f"operators of {describe(domain)} are not supported")
                self.count += 1
                if self.count > MOST_NODES:
                    raise ModelError(f"more than {MOST_NODES} nodes are not supported")
                self.nodes.append(OnnxNode(op, above + title, inputs, made, attributes))

    def _call(
        self,
        function: Any,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        attributes: dict[str, Any],
        above: str,
        depth: int,
    ) -> None:
        if depth >= _MOST_DEPTH:
            raise ModelError(f"functions call each other more than {_MOST_DEPTH} deep")
        self.calls += 1
        if self.calls > MOST_NODES:
            raise ModelError(f"more than {MOST_NODES} calls of functions are not supported")
        if len(inputs) > len(function.input) or len(outputs) > len(function.output):
            raise ModelError(
                f"expected at most {len(function.input)} inputs and {len(function.output)} outputs, "
                f"found {len(inputs)} and {len(outputs)}"
            )
        # Absent inputs stay absent; what is inside gets a name no other call uses.
        names = {_text(name): "" for name in function.input}
        names |= dict(zip(map(_text, function.input), inputs, strict=False))
        results = {_text(name): made for name, made in zip(function.output, outputs, strict=False) if made}
        if taken := names.keys() & results.keys():
            raise ModelError(f"hands on input {sorted(taken)[0][:40]!r} unchanged, which is not supported")
        names |= results
        call = self.calls

        def renamed(name: str) -> str:
            return names.get(name, f"{name} in call {call}") if name else ""

        defaults = {_text(a.name): self._value(a) for a in getattr(function, "attribute_proto", ())}
        self._add(function.node, renamed, {**defaults, **attributes}, above, depth + 1)

    def _branches(
        self, node: Any, renamed: Callable[[str], str], given: Mapping[str, Any], above: str, depth: int
    ) -> dict[str, OnnxBranch]:
        """The graphs that a node chooses from, by the names of its attributes."""
        if depth >= _MOST_DEPTH:
            raise ModelError(f"branches lie in each other more than {_MOST_DEPTH} deep")
        found = {}
        for attribute in node.attribute:
            if attribute.type == attribute.GRAPH:
                graph = attribute.g
                if graph.sparse_initializer or graph.input:
                    raise ModelError("has a branch with inputs or sparse tensors, which are not supported")
                constants = {renamed(k): v for k, v in self.tensors.named(graph.initializer).items()}
                around, self.nodes = self.nodes, []
                self._add(graph.node, renamed, given, above, depth + 1)
                nodes, self.nodes = tuple(self.nodes), around
                outputs = tuple(renamed(_text(value.name)) for value in graph.output)
                found[_text(attribute.name)] = OnnxBranch(nodes, outputs, constants)
        return found

    def _attributes(self, node: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for attribute in node.attribute:
            name = _text(attribute.name)
            reference = _text(attribute.ref_attr_name)
            if reference:
                if reference in given:
                    found[name] = given[reference]
                continue
            found[name] = self._value(attribute)
        return found

    def _value(self, attribute: Any) -> Any:
        """What an attribute holds: a number, text, an array, a tuple; None for what has no use here."""
        kind = attribute.type
        if kind == attribute.FLOAT:
            return float(attribute.f)
        if kind == attribute.INT:
            return int(attribute.i)
        if kind == attribute.STRING:
            return _text(attribute.s)
        if kind == attribute.TENSOR:
            with within(f"attribute {_text(attribute.name)[:40]!r}"):
                return self.tensors.array(attribute.t)
        if kind == attribute.FLOATS:
            return tuple(float(value) for value in attribute.floats)
        if kind == attribute.INTS:
            return tuple(int(value) for value in attribute.ints)
        if kind == attribute.STRINGS:
            return tuple(_text(value) for value in attribute.strings)
        return None
