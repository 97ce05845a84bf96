"""Programs, engines, models and streams: a Graph made runnable.

A `Program` is immutable and may be shared between threads; an `Engine` is the state of one or more
streams of it. `Model` and `Stream` are what users hold.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import native
from .compile import Op, Tape, compile_graph
from .errors import ModelError
from .graph import Graph, Knob
from .native import ffi, lib
from .passes import INPUT_GAIN, OUTPUT_GAIN, gain_factor, with_levels

Audio = NDArray[np.float32]

#: Most streams one engine runs.
MAX_STREAMS = 4096
#: Frames a stream is laid out for unless told otherwise; longer blocks are cut up inside.
DEFAULT_MAX_FRAMES = 128


class Program:
    """A graph compiled for one instruction set.

    Parameters
    ----------
    graph : Graph
    isa : str, optional
        ``scalar``, ``sse2``, ``avx2``, ``avx512`` or ``neon``; by default ``BACKLINE_ISA``, else the best.

    Raises
    ------
    ModelError
        The engine cannot run the graph; names the layer.
    """

    def __init__(self, graph: Graph, isa: str | None = None) -> None:
        self.graph = graph
        tape = compile_graph(graph)
        self.knobs: tuple[Knob, ...] = tape.knobs
        out, error = ffi.new("bl_program **"), ffi.new("bl_error *")
        spec, alive = _spec(tape, graph)
        status = lib.bl_program_new(spec, native.choose_isa(isa), out, error)
        del alive
        native.check(status, graph.name, "" if status == lib.BL_OK else _explain(tape, error))
        self.pointer: Any = ffi.gc(out[0], lib.bl_program_free)
        self.info: Any = lib.bl_program_info(self.pointer)

    @property
    def isa(self) -> str:
        """Name of the instruction set the program was packed for."""
        return native.isa_name(self.info.isa)

    @property
    def latency_frames(self) -> int:
        """Frames of output by which it lags behind what the model's author computes over whole files."""
        return int(self.info.latency_frames)

    @property
    def receptive_field_frames(self) -> int | None:
        """Input frames that one output frame depends on; None if unbounded (recurrent)."""
        found = int(self.info.receptive_field_frames)
        return None if found == lib.BL_NONE else found

    def knob_index(self, name: str) -> int:
        """Return a knob's number in the tape; raise `ModelError` if there is none of that name."""
        for index, knob in enumerate(self.knobs):
            if knob.name == name:
                return index
        known = ", ".join(knob.name for knob in self.knobs) or "none"
        raise ModelError(f"{self.graph.name}: no knob {name!r}; it has {known}")


class Engine:
    """State of `streams` independent streams of a program; one thread at a time.

    Frees its memory on `close`, at the end of a ``with`` block, or with the last reference.
    """

    def __init__(self, program: Program, streams: int, max_frames: int = DEFAULT_MAX_FRAMES) -> None:
        if not 1 <= streams <= MAX_STREAMS:
            raise ValueError(f"{program.graph.name}: found {streams} streams, expected 1 to {MAX_STREAMS}")
        self.program = program
        self.streams = streams
        max_frames = min(max_frames, lib.BL_CHUNK_FRAMES)  # more makes no difference
        out = ffi.new("bl_engine **")
        doing = f"{program.graph.name}: making an engine of {streams} streams for {max_frames} frames"
        native.check(lib.bl_engine_new(program.pointer, streams, max_frames, out), doing)
        self._pointer = ffi.gc(out[0], lib.bl_engine_free)

    @property
    def pointer(self) -> Any:
        """The ``bl_engine *``; raises `ValueError` once closed."""
        if self._pointer is None:
            raise ValueError("the engine is closed")
        return self._pointer

    @property
    def position_frames(self) -> int:
        """Input frames read since the last reset."""
        return int(lib.bl_engine_position_frames(self.pointer))

    def process(self, x: Audio) -> Audio:
        """Run planar audio through all streams, without the GIL.

        Parameters
        ----------
        x : float32 array [streams * input rows][frames], C-contiguous

        Returns
        -------
        float32 array [streams * output rows][frames written]

        Raises
        ------
        ValueError
            An array of another type, shape or layout: C would read beyond it.
        """
        rows = self.streams * self.program.info.input_rows
        if x.dtype != np.float32 or x.ndim != 2 or len(x) != rows or not x.flags.c_contiguous:
            raise ValueError(f"expected contiguous float32 [{rows}][frames], found {x.dtype} {x.shape}")
        frames = x.shape[1]
        written = lib.bl_engine_output_frames(self.pointer, frames)
        y = np.empty((self.streams * self.program.info.output_rows, written), np.float32)
        source, target = ffi.from_buffer("float[]", x), ffi.from_buffer("float[]", y, require_writable=True)
        lib.bl_engine_process(self.pointer, source, frames, target, written, frames)
        return y

    def set(self, name: str, value: float, at_frame: int = 0) -> None:
        """Let a knob ramp to `value` from absolute frame `at_frame` on; before the first frame it jumps."""
        lib.bl_engine_set(self.pointer, self.program.knob_index(name), value, at_frame)

    def reset(self) -> None:
        """Back to frame 0: the settled state, knobs at their defaults."""
        lib.bl_engine_reset(self.pointer)

    def close(self) -> None:
        """Free the memory now; a second call does nothing."""
        if self._pointer is not None:
            ffi.release(self._pointer)
            self._pointer = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Model:
    """A loaded model: call it on whole signals, or open streams.

    Attributes
    ----------
    graph : Graph
        What was loaded.
    program : Program
        The same, ready to run.
    """

    def __init__(self, graph: Graph, isa: str | None = None) -> None:
        self.graph = graph
        self.program = Program(graph, isa)

    @property
    def name(self) -> str:
        """What the file calls the model, or the file's own name."""
        return self.graph.name

    @property
    def sample_rate_hz(self) -> float | None:
        """Rate the model was made for; None where its file does not say."""
        return self.graph.sample_rate_hz

    @property
    def input_channels(self) -> int:
        """Channels of one stream's input."""
        return self.graph.input_channels

    @property
    def output_channels(self) -> int:
        """Channels of one stream's output."""
        return self.graph.output_channels

    @property
    def latency_frames(self) -> int:
        """As `Program.latency_frames`."""
        return self.program.latency_frames

    @property
    def receptive_field_frames(self) -> int | None:
        """As `Program.receptive_field_frames`."""
        return self.program.receptive_field_frames

    @functools.cached_property
    def step_frames(self) -> int:
        """The frames in which all rates inside the model meet: what a part of a signal has to begin at."""
        return math.lcm(*(signal.rate.denominator for signal in self.graph.signals.values()))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the file says of itself."""
        return self.graph.metadata

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences a user should see about how the file was read."""
        return self.graph.notes

    @property
    def knobs(self) -> dict[str, Knob]:
        """The model's own parameters by name, in the file's order."""
        return {knob.name: knob for knob in self.graph.knobs}

    @property
    def isa(self) -> str:
        """Instruction set in use."""
        return self.program.isa

    def streams_for(self, channels: int) -> int:
        """Return how many streams a signal of `channels` channels makes.

        One if the model takes that many channels; else a mono model runs once per channel.

        Raises
        ------
        ValueError
            The model can take no such signal.
        """
        if channels == self.input_channels:
            return 1
        if self.input_channels == 1 and self.output_channels == 1 and channels > 0:
            return channels
        raise ValueError(f"{self.name} takes {self.input_channels} channels, found {channels}")

    def stream(self, max_frames: int = DEFAULT_MAX_FRAMES, channels: int | None = None) -> Stream:
        """Open a stream, starting from the settled state.

        Parameters
        ----------
        max_frames : int
            The block size to lay memory out for; larger blocks work too.
        channels : int, optional
            Channels of the signal; by default those of the first block.
        """
        return Stream(self, max_frames, channels)

    def __call__(self, x: ArrayLike, /, **knobs: float) -> Audio:
        """Run a whole signal.

        Parameters
        ----------
        x : array_like [frames] or [frames, channels]
            Floating point, as in soundfile; computed in float32. A mono model treats each channel alike.
        **knobs : float
            Values of the model's knobs from the first frame on; state that settles, settles on them.

        Returns
        -------
        float32 array
            [frames] if `x` is one-dimensional and the model has one output, else [frames, channels].
        """
        with self.stream() as stream:
            stream.set(**knobs)
            if not knobs or self.graph.prewarm_frames == 0:
                return stream.process(x)
        with Model(self.graph.with_knobs(knobs), self.isa).stream() as stream:
            return stream.process(x)


def levelled(model: Model, input_gain_db: float, output_gain_db: float) -> Model:
    """Return a model with gains around it; at 0 dB both, the model itself.

    Raises
    ------
    ModelError
        A gain outside -200 to `passes.MAX_GAIN_DB` dB.
    """
    if input_gain_db == output_gain_db == 0.0:
        return model
    gains = {INPUT_GAIN: gain_factor(input_gain_db), OUTPUT_GAIN: gain_factor(output_gain_db)}
    return Model(with_levels(model.graph).with_knobs(gains))


class Stream:
    """A signal on its way through a model, block by block: the blocks' sizes do not change the result.

    Thread-safe in that calls wait for each other. Close it, or use it in a ``with`` block, to free its
    memory early.
    """

    def __init__(self, model: Model, max_frames: int, channels: int | None) -> None:
        if max_frames < 1:
            raise ValueError(f"max_frames is {max_frames}, expected at least 1")
        self.model = model
        self._max_frames = max_frames
        self._channels = channels
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._early: dict[str, float] = {}
        self._closed = False
        if channels is not None:
            self._open(channels)

    def _open(self, channels: int) -> Engine:
        engine = Engine(self.model.program, self.model.streams_for(channels), self._max_frames)
        for name, value in self._early.items():
            engine.set(name, value)
        self._engine, self._channels = engine, channels
        return engine

    @property
    def position_frames(self) -> int:
        """Input frames read since the start or the last reset."""
        return 0 if self._engine is None else self._engine.position_frames

    def process(self, block: ArrayLike) -> Audio:
        """Run one block of any length, also none, and return what it gives.

        Parameters
        ----------
        block : array_like [frames] or [frames, channels]
            The same number of channels in every call.

        Returns
        -------
        float32 array
            [frames] if `block` is one-dimensional and the model has one output, else [frames, channels].
            Fewer or more frames than went in if the model has strides. What is not finite is passed on: a
            convolution forgets it after its receptive field, a recurrent layer only on `reset`.

        Raises
        ------
        TypeError
            Samples that are not floating point (integers have no agreed full scale).
        ValueError
            Another number of channels than before, or than the model takes; or a closed stream.
        """
        x = _audio(block)
        planar = np.ascontiguousarray(x.T if x.ndim == 2 else x[None])
        with self._lock:
            if self._closed:
                raise ValueError("the stream is closed")
            if self._channels is not None and len(planar) != self._channels:
                raise ValueError(f"the stream has {self._channels} channels, found {len(planar)}")
            engine = self._engine or self._open(len(planar))
            y = engine.process(planar)
        return y[0] if x.ndim == 1 and len(y) == 1 else np.ascontiguousarray(y.T)

    def set(self, /, **knobs: float) -> None:
        """Turn knobs: before the first frame they jump, later they ramp (20 ms unless the model says other).

        Raises
        ------
        ModelError
            No knob of that name.
        ValueError
            A value that is no number or outside the knob's range, with which none is turned; a closed stream.
        """
        program = self.model.program
        values = {name: program.knobs[program.knob_index(name)].checked(knobs[name]) for name in knobs}
        with self._lock:
            if self._closed:
                raise ValueError("the stream is closed")
            if self._engine is None:
                self._early.update(values)
                return
            for name, value in values.items():
                self._engine.set(name, value)

    def reset(self) -> None:
        """Back to the settled state of frame 0, knobs at their defaults."""
        with self._lock:
            self._early.clear()
            if self._engine is not None:
                self._engine.reset()

    def close(self) -> None:
        """Free the memory now; a second call does nothing."""
        with self._lock:
            self._closed = True
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _audio(block: ArrayLike) -> Audio:
    x = np.asarray(block)
    if x.dtype.kind != "f":
        raise TypeError(f"audio has to be floating point, found {x.dtype}")
    if x.ndim not in (1, 2):
        raise ValueError(f"audio has to be [frames] or [frames, channels], found shape {x.shape}")
    return x.astype(np.float32, copy=False)


def _spec(tape: Tape, graph: Graph) -> tuple[Any, list[Any]]:
    """Return the ``bl_spec`` of a graph's tape, and what has to stay alive while it is used."""
    rates = ffi.new("bl_rate[]", [(r.numerator, r.denominator, 0) for r in tape.rates])
    kinds = (lib.BL_BUFFER_SCRATCH, lib.BL_BUFFER_RING)
    buffers = ffi.new(
        "bl_buffer[]",
        [(kinds[b.is_ring], b.rate, b.rows, b.lookback_frames, b.scratch_row) for b in tape.buffers],
    )
    tensors = ffi.new("bl_tensor[]", [(t.buffer, t.first_row, t.channels, t.features) for t in tape.tensors])
    blob = _Blob()
    ops = ffi.new("bl_op[]", max(1, len(tape.ops)))
    for record, op in zip(ops, tape.ops, strict=False):
        _fill(record, op, blob)
    flat = blob.joined()
    numbers = ffi.from_buffer("float[]", flat)
    spec = ffi.new("bl_spec *")
    spec.rates, spec.buffers, spec.tensors, spec.ops, spec.blob = rates, buffers, tensors, ops, numbers
    spec.blob_count = len(flat)
    spec.rate_count, spec.buffer_count = len(tape.rates), len(tape.buffers)
    spec.tensor_count, spec.op_count = len(tape.tensors), len(tape.ops)
    spec.scratch_rows, spec.prewarm_frames = tape.scratch_rows, tape.prewarm_frames
    spec.input, spec.output = tape.input, tape.output
    reach = graph.receptive_field_frames
    spec.latency_frames = graph.latency_frames
    spec.receptive_field_frames = lib.BL_NONE if reach is None else reach
    return spec, [rates, buffers, tensors, ops, flat, numbers]


#: Fields of an op that the tape and the record call alike.
_FIELDS = (
    *("kernel", "dilation", "stride", "groups", "mix_groups"),
    *("ramp_frames", "delay_frames", "start_frames", "factor"),
)


class _Blob:
    """Arrays one after the other; one that several ops share is laid down once."""

    def __init__(self) -> None:
        self._arrays: list[Audio] = []
        self._offsets: dict[int, int] = {}
        self._filled = 0

    def offset(self, values: Audio) -> int:
        """Where an array begins. The array has to outlive the blob."""
        if id(values) not in self._offsets:
            self._offsets[id(values)] = self._filled
            self._arrays.append(values.ravel())
            self._filled += values.size
        return self._offsets[id(values)]

    def joined(self) -> Audio:
        """All numbers, and one more so that there is always something to point at."""
        return np.concatenate([*self._arrays, np.zeros(1, np.float32)])


def _fill(record: Any, op: Op, blob: _Blob) -> None:
    record.kind = getattr(lib, f"BL_OP_{op.kind}")
    record.activation = getattr(lib, f"BL_ACT_{op.activation.upper()}")
    for field in _FIELDS:
        setattr(record, field, getattr(op, field))
    for row, tensors in ((record.inputs, op.inputs), (record.outputs, op.outputs)):
        for index in range(len(row)):
            tensor = tensors[index] if index < len(tensors) else None
            row[index] = lib.BL_NONE if tensor is None else tensor
    for index, values in enumerate(op.arrays):
        if values is not None:
            record.arrays[index].offset = blob.offset(values)
            record.arrays[index].count = values.size


def _explain(tape: Tape, error: Any) -> str:
    what = ffi.string(error.what).decode() if error.what else ""
    layer = f"layer {tape.ops[error.op].layer}: " if 0 <= error.op < len(tape.ops) else ""
    return f"{layer}{what} is {error.found}, against {error.expected}" if what else ""
