"""ONNX files: a network over a whole recording, or over a block with explicit state, as a stream.

The nodes are walked once, in order. What depends on constants alone is folded; the rest goes to a
`Network`, op by op, which knows what each tensor is in a stream and how late. Sizes that the file leaves
open become numbers for that: a batch has one entry, time a length that all usual strides divide.

Metadata of the file that Backline reads: ``sample_rate`` (or ``sample_rate_hz``), and ``knobs``, a JSON
object with an entry for each input that is a parameter, such as
``{"drive": {"default": 0.5, "minimum": 0, "maximum": 1}}``; for an input of several numbers a list of such
objects, each with its ``name``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Knob
from ..layers import Node
from ._network import Network, Track, Value
from ._onnx_call import Call
from ._onnx_fold import Budget, fold
from ._onnx_layers import LAYERS
from ._onnx_pending import Pending, completed
from ._onnx_proto import FLOATS, OnnxBranch, OnnxInput, OnnxModel, OnnxNode, parse, printable
from ._reading import Fields, as_list, as_number, describe, parse_json, refuse, within

__all__ = ["read"]

#: Frames that an open time axis gets: many, and all usual strides divide them.
_FRAMES = 2**10 * 3**2 * 5 * 7
#: How exporters call the axis of a batch, in lower case.
_BATCHES = ("batch", "batch_size", "batchsize", "n", "b", "bs")


def read(data: bytes, path: Path) -> Graph:
    """Return the graph of an ONNX file.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : path
        Where it lies: tensors it keeps outside are read from its folder, and from nowhere else.

    Raises
    ------
    ModelError
        The bytes are no model, or a node cannot be run as a stream; the message names the node.
    """
    model = parse(data, path.parent)
    with np.errstate(all="ignore"):
        walk = _Walk(model, _FRAMES)
        try:
            graph = walk.graph()
        except ModelError:
            if not walk.guessed:
                raise
            # As long as the audio by chance: rather a state or single parameters.
            with contextlib.suppress(ModelError):
                return _Walk(model, _FRAMES, guesses=False).graph()
            raise
        if walk.asked_length and not _same(graph, _Walk(model, 2 * _FRAMES).graph()):
            raise ModelError("computes something else for each length of recording, which no stream can do")
    return graph


def _same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are the same but for their notes."""
    return (
        len(a.nodes) == len(b.nodes)
        and all(map(_same_node, a.nodes, b.nodes))
        and (a.output, a.latency_frames, a.prewarm_frames) == (b.output, b.latency_frames, b.prewarm_frames)
    )


def _same_node(a: Node, b: Node) -> bool:
    if type(a) is not type(b):
        return False
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
    return all(np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y for x, y in pairs)


@dataclass
class _Walk:
    """The nodes of a model, met one after the other; an open time axis has `frames`."""

    model: OnnxModel
    frames: int
    #: Whether an input of fixed size, as long as the audio, has a value for each frame; and such inputs.
    guesses: bool = True
    guessed: list[str] = field(default_factory=list)
    network: Network = field(default_factory=Network)
    values: dict[str, Value | Pending] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    #: Whether a constant may depend on how long an open time axis is.
    asked_length: bool = False
    _ahead: list[str] = field(default_factory=list)

    def graph(self) -> Graph:
        """The whole model as a graph."""
        self.values.update(self.model.constants)
        is_open = self._add_inputs()
        self._add_all(self.model.nodes, is_open)
        metadata = self.model.metadata
        rate = _sample_rate(metadata)
        graph = self.network.finish(self._outputs(), metadata=metadata, sample_rate_hz=rate)
        if graph.latency_frames == 0:
            return graph
        ahead = ", ".join(self._ahead[:4]) + (", ..." if len(self._ahead) > 4 else "")
        note = f"latency of {graph.latency_frames} frames: layers look ahead ({ahead})"
        return replace(graph, notes=(*graph.notes, note))

    def _outputs(self) -> list[tuple[str, Value]]:
        found = []
        for name in self.model.outputs:
            if name not in self.values:
                raise ModelError(f"output {printable(name)!r} is written by no node")
            value = self.values[name]
            if isinstance(value, Pending):
                value.refuse()
            else:
                found.append((printable(name), value))
        return found

    def _add_inputs(self) -> bool:
        """Take in the inputs; whether the time axis is open."""
        if not self.model.inputs:
            raise ModelError("has no inputs, expected one of audio")
        audio = _audio(self.model.inputs)
        axis = _time_axis(audio)
        if axis is None:
            raise ModelError(f"input {printable(audio.name)!r} has no axes, expected one of time")
        period, knobs = audio.shape[axis], _knobs(self.model.metadata)
        for found in self.model.inputs:
            name = printable(found.name)
            with within(f"input {name!r}"):
                if found.name in self.values:
                    raise ModelError("expected a name of its own")
                time = axis if found is audio else _open_axis(found, period)
                if time is None and self.guesses and _is_like(found, audio, axis):
                    self.guessed.append(name)
                    time = axis
                shape = [
                    size if isinstance(size, int) else self.frames if at == time else 1
                    for at, size in enumerate(found.shape)
                ]
                if found is audio:
                    self.values[found.name] = self.network.audio(name, shape, axis)
                    continue
                count = prod(size for at, size in enumerate(shape) if at != time)
                chosen = _knobs_of(name, knobs[found.name], count) if found.name in knobs else ()
                self.values[found.name] = self.network.extra(name, shape, time, chosen)
        if unknown := sorted(knobs.keys() - {found.name for found in self.model.inputs}):
            raise ModelError(f"metadata 'knobs': there is no input {describe(unknown[0])}")
        return not isinstance(period, int)

    def _add_all(self, nodes: Sequence[OnnxNode], is_open: bool) -> None:
        for node in nodes:
            if node.op == "If":
                self._add_branch(node, is_open)
                continue
            with within(node.where):
                self._add(node)
                self.asked_length |= is_open and node.op in ("Shape", "Size")

    def _add_branch(self, node: OnnxNode, is_open: bool) -> None:
        """The nodes that an If chooses, which has to be known: exporters write one where they do not know."""
        with within(node.where):
            condition = self._read(node)[0] if node.inputs else None
            if not isinstance(condition, np.ndarray) or condition.dtype != np.bool_ or condition.size != 1:
                raise ModelError("chooses by what the model computes from its inputs, which is not supported")
            name = "then_branch" if condition.item() else "else_branch"
            branch = node.attributes.get(name)
            if not isinstance(branch, OnnxBranch) or len(branch.outputs) != len(node.outputs):
                raise ModelError(f"attribute {name!r}: expected a graph of {len(node.outputs)} outputs")
            for key, value in branch.constants.items():
                self._write(key, value)
        self._add_all(branch.nodes, is_open)
        with within(node.where):
            for inside, outside in zip(branch.outputs, node.outputs, strict=True):
                if inside not in self.values:
                    raise ModelError(f"output {printable(inside)!r} of its branch is written by no node")
                self._write(outside, self.values[inside])

    def _read(self, node: OnnxNode) -> list[Value | Pending | None]:
        for name in node.inputs:
            if name and name not in self.values:
                raise ModelError(f"reads {printable(name)!r}, which no earlier node writes")
        return [self.values[name] if name else None for name in node.inputs]

    def _write(self, name: str, value: Value | Pending) -> None:
        if name in self.values:
            raise ModelError(f"writes {printable(name)!r} for a second time")
        self.values[name] = value

    def _add(self, node: OnnxNode) -> None:
        made = self._made(node, self._read(node))
        results = made if isinstance(made, list) else [made]
        if isinstance(made, Pending):
            results = [made] * len(node.outputs)
        for place, name in enumerate(node.outputs):
            if name and place < len(results):
                self._write(name, results[place])

    def _made(self, node: OnnxNode, values: Sequence[Value | Pending | None]) -> Any:
        """What a node makes: one value, or a list with one for each output."""
        self.network.line.layer = node.title
        known = [value for value in values if not isinstance(value, Pending)]
        call = Call(node.op, known, node.attributes, len(node.outputs), self.network)
        maker = LAYERS.get(node.op)
        if len(known) < len(values):
            made: Any = completed(Pending(node, tuple(values)), self.network)
        elif all(value is None or isinstance(value, np.ndarray) for value in values):
            return fold(call, self.budget)
        else:
            made = Pending(node, tuple(values)) if maker is None else maker(call)
        self._note_delay(node, known, made)
        return made

    def _note_delay(self, node: OnnxNode, values: Sequence[Value | None], made: Any) -> None:
        """Remember which layers look ahead."""
        before = [v.delay / v.rate for v in values if isinstance(v, Track) and not v.steady]
        if before and isinstance(made, Track) and made.delay / made.rate > max(before):
            self._ahead.append(node.title)


# Inputs.


def _audio(inputs: Sequence[OnnxInput]) -> OnnxInput:
    """The first input with an open time axis, or else the first; inputs of floats before others."""
    floats = [found for found in inputs if found.element in FLOATS and found.shape]
    moving = [found for found in floats if _open_axis(found, "") is not None]
    return (moving or floats or [*inputs])[0]


def _time_axis(found: OnnxInput) -> int | None:
    """The open axis that is no batch, or the largest."""
    axis = _open_axis(found, "")
    if axis is not None or not found.shape:
        return axis
    sizes = [size if isinstance(size, int) else 1 for size in found.shape]
    return max(range(len(sizes)), key=lambda at: (sizes[at], at))


def _open_axis(found: OnnxInput, period: int | str) -> int | None:
    """The axis whose size is open and that is no batch; `period` is how time is called elsewhere."""
    opened = [axis for axis, size in enumerate(found.shape) if isinstance(size, str)]
    if period and (same := [axis for axis in opened if found.shape[axis] == period]):
        return same[0]
    if isinstance(period, int):
        return None
    rest = [axis for axis in opened if str(found.shape[axis]).lower() not in _BATCHES]
    if len(rest) > 1 and len(rest) == len(opened):
        rest = [axis for axis in rest if axis != 0]
    return rest[-1] if rest else None


def _is_like(found: OnnxInput, audio: OnnxInput, axis: int) -> bool:
    """Whether an input of fixed size seems to have a value for each frame: as long as the audio there."""
    length = audio.shape[axis]
    same = len(found.shape) == len(audio.shape) and found.shape[axis] == length
    return same and isinstance(length, int) and length > 1


# Metadata.


def _sample_rate(metadata: Mapping[str, Any]) -> float | None:
    for key in ("sample_rate", "sample_rate_hz"):
        if key in metadata:
            try:
                return as_number(float(metadata[key]), f"metadata {key!r}")
            except ValueError:
                refuse(f"metadata {key!r}", "a number", metadata[key])
    return None


def _knobs(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the file says of its parameters, by the names of inputs."""
    if "knobs" not in metadata:
        return {}
    with within("metadata 'knobs'"):
        return Fields(parse_json(metadata["knobs"]), "").raw


def _knobs_of(name: str, value: Any, count: int) -> tuple[Knob, ...]:
    """The knobs that an input's entries are."""
    where = f"metadata 'knobs': {name!r}"
    items = as_list(value, where) if isinstance(value, list) else [value]
    if len(items) != count:
        raise ModelError(f"{where}: expected {count} entries, found {len(items)}")
    found = []
    for index, item in enumerate(items):
        entry = Fields(item, where if count == 1 else f"{where}[{index}]")
        if unknown := entry.unknown(("name", "default", "minimum", "maximum")):
            raise ModelError(f"{entry.where}: unknown field {describe(unknown[0])}")
        title = entry.text("name", name if count == 1 else f"{name}_{index}")
        low, high = entry.number("minimum", 0.0), entry.number("maximum", 1.0)
        found.append(Knob(title, entry.number("default", low), low, high))
    return tuple(found)
