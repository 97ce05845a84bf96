"""Graph to tape: op records, one weight blob and a plan of buffers, for the C engine to distrust and run.

No input or output here, and no knowledge of the machine: sizes in vectors and cache lines are the engine's.
The records mirror ``bl_rate``, ``bl_buffer``, ``bl_tensor`` and ``bl_op`` of ``native/include/backline.h``.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from .activations import Activation
from .errors import ModelError
from .graph import Graph, Knob
from .layers import (
    EARLIEST,
    Activate,
    Add,
    Affine,
    Array,
    Concat,
    Conv1d,
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
from .passes import simplify

#: Rate of a knob's ramp where the model does not say its own.
ASSUMED_RATE_HZ = 48000.0


@dataclass
class Buffer:
    """Rows of memory at one rate: a ring where somebody looks back, else a place in the shared scratch."""

    rows: int
    rate: int
    lookback_frames: int
    scratch_row: int = 0

    @property
    def is_ring(self) -> bool:
        """Whether the buffer remembers frames from call to call."""
        return self.lookback_frames > 0


@dataclass(frozen=True)
class Tensor:
    """A run of rows of a buffer."""

    buffer: int
    first_row: int
    channels: int
    features: int


@dataclass
class Op:
    """One step of the tape. `arrays` are laid into one blob when the program is made."""

    kind: str
    layer: str
    inputs: list[int | None]
    outputs: list[int | None]
    arrays: list[Array | None] = field(default_factory=list)
    activation: str = "identity"
    kernel: int = 0
    dilation: int = 0
    stride: int = 0
    groups: int = 0
    mix_groups: int = 0
    ramp_frames: int = 0
    delay_frames: int = 0
    start_frames: int = 0
    factor: int = 0


@dataclass
class Tape:
    """A compiled graph: everything ``bl_spec`` holds."""

    rates: list[Fraction]
    buffers: list[Buffer]
    tensors: list[Tensor]
    ops: list[Op]
    knobs: tuple[Knob, ...]
    scratch_rows: int
    input: int
    output: int
    prewarm_frames: int


def compile_graph(graph: Graph) -> Tape:
    """Return the tape of `graph`, simplified first.

    Raises
    ------
    ModelError
        The graph holds a node the engine does not run.
    """
    # What overflows becomes infinite, and the graph refuses that by the layer's name.
    with np.errstate(all="ignore"):
        return _Compiler(simplify(graph)).tape()


class _Compiler:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rates: list[Fraction] = [Fraction(1)]
        self.buffers: list[Buffer] = []
        self.tensors: list[Tensor] = []
        self.by_name: dict[str, int] = {}
        self.homes: dict[str, tuple[str, int]] = {}
        self.roots: dict[str, tuple[str, int]] = {}

    def tape(self) -> Tape:
        self._place_signals()
        ops = [self._knob(knob) for knob in self.graph.knobs]
        for node in self.graph.nodes:
            ops.extend(_LOWER.get(type(node), _Compiler.unknown)(self, node))
        output = self.by_name[self.graph.output]
        scratch_rows = _ScratchPlan(self, ops, output).rows
        return Tape(
            self.rates,
            self.buffers,
            self.tensors,
            ops,
            self.graph.knobs,
            scratch_rows,
            self.by_name[self.graph.input],
            output,
            self.graph.prewarm_frames,
        )

    def _place_signals(self) -> None:
        """Give every signal a tensor: in the buffer of the signal it lives in, else in its own."""
        self.homes = _homes(self.graph)
        lookback = self._lookbacks()
        buffers: dict[str, int] = {}
        for name, signal in self.graph.signals.items():
            root, offset = self._root(name)
            if root not in buffers:
                owner = self.graph.signals[root]
                buffers[root] = len(self.buffers)
                self.buffers.append(Buffer(owner.rows, self._rate(owner.rate), lookback.get(root, 0)))
            self.by_name[name] = len(self.tensors)
            self.tensors.append(Tensor(buffers[root], offset, signal.channels, signal.features))

    def _root(self, name: str) -> tuple[str, int]:
        """The signal that owns the buffer of this one, and this one's first row there."""
        path = []
        while name in self.homes and name not in self.roots:
            path.append(name)
            name, _ = self.homes[name]
        root, offset = self.roots.get(name, (name, 0))
        for part in reversed(path):
            offset += self.homes[part][1]
            self.roots[part] = (root, offset)
        return root, offset

    def _lookbacks(self) -> dict[str, int]:
        """By signal that owns a buffer: how far back its readers, and those of its parts, look."""
        found: dict[str, int] = {}
        for node in self.graph.nodes:
            if node.lookback_frames:
                root, _ = self._root(node.inputs[0])
                found[root] = max(found.get(root, 0), node.lookback_frames)
        return found

    def _rate(self, rate: Fraction) -> int:
        if rate not in self.rates:
            self.rates.append(rate)
        return self.rates.index(rate)

    def _tensors(self, *names: str | None) -> list[int | None]:
        return [None if name is None else self.by_name[name] for name in names]

    def _op(self, kind: str, node: Node, *arrays: Array | None, **fields: Any) -> Op:
        return Op(
            kind, node.output, self._tensors(*node.inputs), self._tensors(node.output), list(arrays), **fields
        )

    def _knob(self, knob: Knob) -> Op:
        rate_hz = self.graph.sample_rate_hz or ASSUMED_RATE_HZ
        values = np.array([knob.default, knob.minimum, knob.maximum], np.float32)
        frames = round(knob.ramp_ms * rate_hz / 1000)
        return Op("KNOB", knob.name, [], self._tensors(knob.name), [values], ramp_frames=frames)

    def conv1d(self, node: Conv1d) -> list[Op]:
        mix = node.mix
        activation = node.activation or Activation("identity")
        op = self._op(
            "CONV1D",
            node,
            node.weight,
            node.bias,
            mix.weight if mix else None,
            _parameters(activation),
            activation=activation.kind,
            kernel=node.kernel,
            dilation=node.dilation,
            stride=node.stride,
            groups=node.groups,
            mix_groups=mix.groups if mix else 0,
        )
        op.inputs = self._tensors(node.input, mix.input if mix else None, node.residual, node.skip)
        op.outputs = self._tensors(node.output, node.skip_output)
        return [op]

    def activate(self, node: Activate) -> list[Op]:
        parameters = _parameters(node.activation)
        return [self._op("ACTIVATE", node, None, None, None, parameters, activation=node.activation.kind)]

    def add(self, node: Add) -> list[Op]:
        return [self._op("ADD", node)]

    def multiply(self, node: Multiply) -> list[Op]:
        return [self._op("MULTIPLY", node)]

    def affine(self, node: Affine) -> list[Op]:
        return [self._op("AFFINE", node, node.scale, node.shift)]

    def crossfade(self, node: Crossfade) -> list[Op]:
        return [self._op("CROSSFADE", node)]

    def lstm(self, node: Lstm) -> list[Op]:
        arrays = (node.weight_ih, node.weight_hh, node.bias, node.h0, node.c0)
        return [self._op("LSTM", node, *arrays, start_frames=node.start_frames)]

    def gru(self, node: Gru) -> list[Op]:
        arrays = (node.weight_ih, node.weight_hh, node.bias_ih, node.bias_hh, node.h0)
        return [self._op("GRU", node, *arrays, start_frames=node.start_frames)]

    def delay(self, node: Delay) -> list[Op]:
        return [self._op("COPY", node, delay_frames=node.frames, start_frames=node.start_frames)]

    def concat(self, node: Concat) -> list[Op]:
        """A copy of each source that is not written in its place anyway."""
        ops, row = [], 0
        whole = self.tensors[self.by_name[node.output]]
        for name in node.sources:
            channels = self.graph.signals[name].channels
            if self.homes.get(name) != (node.output, row):
                copy = Op("COPY", node.output, self._tensors(name), [len(self.tensors)])
                copy.start_frames = EARLIEST
                ops.append(copy)
                self.tensors.append(Tensor(whole.buffer, whole.first_row + row, channels, 1))
            row += channels
        return ops

    def max_pool1d(self, node: MaxPool1d) -> list[Op]:
        fields = {"kernel": node.kernel, "dilation": node.dilation, "stride": node.stride}
        return [self._op("MAXPOOL", node, start_frames=node.start_frames, **fields)]

    def upsample(self, node: Upsample) -> list[Op]:
        if node.mode == "nearest":
            return [self._op("UPSAMPLE", node, factor=node.factor)]
        return [self._op("INTERPOLATE", node, factor=node.factor, start_frames=node.start_frames)]

    def interleave(self, node: Interleave) -> list[Op]:
        return [self._op("INTERLEAVE", node, factor=node.factor)]

    def resample(self, node: Resample) -> list[Op]:
        fields = {"kernel": node.kernel, "stride": node.down, "factor": node.up}
        return [self._op("RESAMPLE", node, node.taps, **fields)]

    def view(self, node: Node) -> list[Op]:
        """Nothing to do: its rows are those of another signal."""
        return []

    def unknown(self, node: Node) -> list[Op]:
        raise ModelError(f"{node.output}: the engine does not run {type(node).__name__} layers")


_LOWER: dict[type[Node], Callable[[_Compiler, Any], list[Op]]] = {
    Conv1d: _Compiler.conv1d,
    Activate: _Compiler.activate,
    Add: _Compiler.add,
    Multiply: _Compiler.multiply,
    Affine: _Compiler.affine,
    Crossfade: _Compiler.crossfade,
    Lstm: _Compiler.lstm,
    Gru: _Compiler.gru,
    Delay: _Compiler.delay,
    Concat: _Compiler.concat,
    MaxPool1d: _Compiler.max_pool1d,
    Upsample: _Compiler.upsample,
    Interleave: _Compiler.interleave,
    Resample: _Compiler.resample,
    Slice: _Compiler.view,
    Reshape: _Compiler.view,
}


def _homes(graph: Graph) -> dict[str, tuple[str, int]]:
    """Which signals lie in the rows of another one, and from which row on.

    Views do; and what a concatenation joins is written there at once, unless it is a view itself, comes from
    outside, or has its place in an earlier concatenation.
    """
    homes: dict[str, tuple[str, int]] = {}
    for node in graph.nodes:
        if isinstance(node, Slice | Reshape):
            homes[node.output] = (node.input, node.start if isinstance(node, Slice) else 0)
    made = {name for node in graph.nodes for name in node.outputs}
    for node in graph.nodes:
        if isinstance(node, Concat):
            row = 0
            for name in node.sources:
                if name in made and name not in homes:
                    homes[name] = (node.output, row)
                row += graph.signals[name].channels
    return homes


#: Ops whose output may take the rows of an input that nobody reads later: which inputs qualify.
_IN_PLACE = {"ACTIVATE": (0,), "ADD": (0, 1), "MULTIPLY": (0,), "AFFINE": (0,), "CROSSFADE": (0, 1)}


def _parameters(activation: Activation) -> Array | None:
    return np.array(activation.parameters, np.float32) if activation.parameters else None


class _ScratchPlan:
    """Gives scratch buffers rows so that lives that meet do not share any, first fit, in tape order."""

    def __init__(self, compiler: _Compiler, ops: Sequence[Op], output: int) -> None:
        self.buffers = compiler.buffers
        self.tensors = compiler.tensors
        self.rows = 0
        self.live: dict[int, range] = {}  # buffer -> scratch rows
        self.gaps = [range(sys.maxsize)]  # rows between those, in order
        source = self.tensors[0].buffer  # the input is the first signal of every graph
        self.last_read = {source: 0} | self._last_reads(ops, output)
        self.dying: dict[int, list[int]] = {}
        for buffer, index in self.last_read.items():
            self.dying.setdefault(index, []).append(buffer)
        self._place(source)
        for index, op in enumerate(ops):
            self._step(index, op)

    def _last_reads(self, ops: Sequence[Op], output: int) -> dict[int, int]:
        last = {self.tensors[output].buffer: len(ops)}
        for index, op in enumerate(ops):
            for tensor in (*op.inputs, *op.outputs):
                if tensor is not None:
                    buffer = self.tensors[tensor].buffer
                    last[buffer] = max(last.get(buffer, 0), index)
        return last

    def _step(self, index: int, op: Op) -> None:
        for number, tensor in enumerate(op.outputs):
            if tensor is None:
                continue
            buffer = self.tensors[tensor].buffer
            heir = self._heir(index, op, number, buffer)
            if heir is None:
                self._place(buffer)
            else:
                self.live[buffer] = self.live.pop(heir)
                self.buffers[buffer].scratch_row = self.live[buffer].start
        for buffer in self.dying.get(index, ()):
            if buffer in self.live:
                self._release(self.live.pop(buffer))

    def _heir(self, index: int, op: Op, number: int, buffer: int) -> int | None:
        """The buffer of an input that dies here and whose rows the output may overwrite."""
        if self.buffers[buffer].is_ring or buffer in self.live or not self._is_whole(op.outputs[number]):
            return None
        candidates = (3,) if op.kind == "CONV1D" and number == 1 else _IN_PLACE.get(op.kind, ())
        for position in candidates:
            tensor = op.inputs[position]
            if tensor is None:
                continue
            source = self.tensors[tensor].buffer
            same = self.buffers[source].rows == self.buffers[buffer].rows
            others = [t for p, t in enumerate(op.inputs) if p != position and t is not None]
            shared = any(self.tensors[t].buffer == source for t in others)
            dies = source in self.live and self.last_read[source] == index
            if dies and same and self._is_whole(tensor) and not shared:
                return source
        return None

    def _is_whole(self, tensor: int | None) -> bool:
        """Whether a tensor is all of its buffer."""
        if tensor is None:
            return False
        found = self.tensors[tensor]
        return found.channels * found.features == self.buffers[found.buffer].rows

    def _place(self, buffer: int) -> None:
        if self.buffers[buffer].is_ring or buffer in self.live:
            return
        rows = self.buffers[buffer].rows
        index = next(i for i, gap in enumerate(self.gaps) if len(gap) >= rows)
        gap = self.gaps[index]
        self.gaps[index : index + 1] = [gap[rows:]] if len(gap) > rows else []
        self.live[buffer] = gap[:rows]
        self.buffers[buffer].scratch_row = gap.start
        self.rows = max(self.rows, gap.start + rows)

    def _release(self, rows: range) -> None:
        """Give rows back, joined with the gaps at either end."""
        index = bisect_left(self.gaps, rows.start, key=lambda gap: gap.start)
        start, stop, first, last = rows.start, rows.stop, index, index
        if index > 0 and self.gaps[index - 1].stop == start:
            start, first = self.gaps[index - 1].start, index - 1
        if index < len(self.gaps) and self.gaps[index].start == stop:
            stop, last = self.gaps[index].stop, index + 1
        self.gaps[first:last] = [range(start, stop)]
