"""Graph to tape: op records, one weight blob and a plan of buffers, for the C engine to distrust and run.

No input or output here, and no knowledge of the machine: sizes in vectors and cache lines are the engine's.
The records mirror ``bl_rate``, ``bl_buffer``, ``bl_tensor`` and ``bl_op`` of ``native/include/backline.h``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from .activations import Activation
from .errors import ModelError
from .graph import Graph, Knob
from .layers import Activate, Add, Affine, Array, Conv1d, Crossfade, Lstm, Multiply, Node, Slice
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
    """One step of the tape. `arrays` are kept here as they are and laid into the blob by `Tape.blob`."""

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
    return _Compiler(simplify(graph)).tape()


class _Compiler:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rates: list[Fraction] = [Fraction(1)]
        self.buffers: list[Buffer] = []
        self.tensors: list[Tensor] = []
        self.by_name: dict[str, int] = {}

    def tape(self) -> Tape:
        self._place_signals()
        knobs = [self._knob(knob) for knob in self.graph.knobs]
        nodes = [
            _LOWER.get(type(node), _Compiler.unknown)(self, node)
            for node in self.graph.nodes
            if not isinstance(node, Slice)
        ]
        output = self.by_name[self.graph.output]
        scratch_rows = _ScratchPlan(self, [*knobs, *nodes], output).rows
        return Tape(
            self.rates,
            self.buffers,
            self.tensors,
            [*knobs, *nodes],
            self.graph.knobs,
            scratch_rows,
            self.by_name[self.graph.input],
            output,
            self.graph.prewarm_frames,
        )

    def _place_signals(self) -> None:
        """Give every signal a tensor: a slice views the buffer it is cut from, others get their own."""
        slices = {node.output: node for node in self.graph.nodes if isinstance(node, Slice)}
        lookback = self._lookbacks(slices)
        for name, signal in self.graph.signals.items():
            if name in slices:
                base = self.tensors[self.by_name[slices[name].input]]
                tensor = Tensor(base.buffer, base.first_row + slices[name].start, signal.channels, 1)
            else:
                tensor = Tensor(len(self.buffers), 0, signal.channels, signal.features)
                self.buffers.append(Buffer(signal.rows, self._rate(signal.rate), lookback.get(name, 0)))
            self.by_name[name] = len(self.tensors)
            self.tensors.append(tensor)

    def _lookbacks(self, slices: dict[str, Slice]) -> dict[str, int]:
        found: dict[str, int] = {}
        for node in self.graph.nodes:
            if isinstance(node, Conv1d):
                name = node.input
                while name in slices:
                    name = slices[name].input
                found[name] = max(found.get(name, 0), node.lookback_frames)
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

    def conv1d(self, node: Conv1d) -> Op:
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
        return op

    def activate(self, node: Activate) -> Op:
        parameters = _parameters(node.activation)
        return self._op("ACTIVATE", node, None, None, None, parameters, activation=node.activation.kind)

    def add(self, node: Add) -> Op:
        return self._op("ADD", node)

    def multiply(self, node: Multiply) -> Op:
        return self._op("MULTIPLY", node)

    def affine(self, node: Affine) -> Op:
        return self._op("AFFINE", node, node.scale, node.shift)

    def crossfade(self, node: Crossfade) -> Op:
        return self._op("CROSSFADE", node)

    def lstm(self, node: Lstm) -> Op:
        return self._op("LSTM", node, node.weight_ih, node.weight_hh, node.bias, node.h0, node.c0)

    def unknown(self, node: Node) -> Op:
        raise ModelError(f"{node.output}: the engine does not run {type(node).__name__} layers yet")


_LOWER: dict[type[Node], Callable[[_Compiler, Any], Op]] = {
    Conv1d: _Compiler.conv1d,
    Activate: _Compiler.activate,
    Add: _Compiler.add,
    Multiply: _Compiler.multiply,
    Affine: _Compiler.affine,
    Crossfade: _Compiler.crossfade,
    Lstm: _Compiler.lstm,
}

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
        self.last_read = self._last_reads(ops, output)
        self._place(self.tensors[0].buffer)  # the input is the first signal of every graph
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
        for buffer in [b for b in self.live if self.last_read.get(b, -1) <= index]:
            del self.live[buffer]

    def _heir(self, index: int, op: Op, number: int, buffer: int) -> int | None:
        """The buffer of an input that dies here and whose rows the output may overwrite."""
        if self.buffers[buffer].is_ring or buffer in self.live:
            return None
        candidates = (3,) if op.kind == "CONV1D" and number == 1 else _IN_PLACE.get(op.kind, ())
        for position in candidates:
            tensor = op.inputs[position]
            if tensor is None:
                continue
            source = self.tensors[tensor].buffer
            same = self.buffers[source].rows == self.buffers[buffer].rows
            whole = self.tensors[tensor].channels * self.tensors[tensor].features == self.buffers[source].rows
            others = [t for p, t in enumerate(op.inputs) if p != position and t is not None]
            shared = any(self.tensors[t].buffer == source for t in others)
            if source in self.live and self.last_read[source] == index and same and whole and not shared:
                return source
        return None

    def _place(self, buffer: int) -> None:
        if self.buffers[buffer].is_ring or buffer in self.live:
            return
        first, rows = 0, self.buffers[buffer].rows
        for taken in sorted(self.live.values(), key=lambda rows: rows.start):
            if taken.start - first >= rows:
                break
            first = max(first, taken.stop)
        self.live[buffer] = range(first, first + rows)
        self.buffers[buffer].scratch_row = first
        self.rows = max(self.rows, first + rows)
