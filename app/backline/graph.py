"""The Graph: what every model file becomes and the only thing the rest of Backline knows of a model.

A graph is a tuple of nodes (``layers``) in the order they run. Each reads named signals and writes named
signals; a signal is a planar array ``[channel][frame]`` at a rate relative to the graph's input. All
shapes are checked on construction. ``passes.py`` may fuse nodes, ``reference.py`` evaluates them in float64
and ``compile.py`` lowers them for the C engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor, inf, nan
from numbers import Real
from typing import Any

import numpy as np

from .errors import ModelError
from .layers import MAX_NODES, MAX_SIZE, Array, MaxPool1d, Node, Resample, Signal, Signals, check_size

#: Most multiply-adds that settling may take: a second of a model with a million weights, and some more.
MAX_PREWARM_WORK = 2.0**36
#: What a number of a signal costs besides.
_WORK_OF_A_NUMBER = 8
#: Longest way of a knob from one value to another.
MAX_RAMP_MS = 60000.0


@dataclass(frozen=True)
class Knob:
    """A named parameter that may turn while audio runs; a one-channel input of the graph.

    Attributes
    ----------
    name : str
        Also the name of its signal.
    default, minimum, maximum : float
        In the unit the graph uses (a plain factor for gains).
    ramp_ms : float
        A change is reached on a straight line of this many milliseconds.
    """

    name: str
    default: float
    minimum: float
    maximum: float
    ramp_ms: float = 20.0

    def check(self) -> None:
        """Raise `ModelError` unless the numbers are finite in float32 and in order."""
        values = np.array([self.minimum, self.default, self.maximum], np.float64)
        if not (np.all(np.abs(values) <= np.finfo(np.float32).max) and np.all(np.diff(values) >= 0)):
            raise ModelError(
                f"knob {self.name}: goes from {self.minimum:g} to {self.maximum:g}, at {self.default:g}; "
                "expected numbers that float32 holds, in that order"
            )
        if not 0.0 <= self.ramp_ms <= MAX_RAMP_MS:
            raise ModelError(f"knob {self.name}: ramp of {self.ramp_ms:g} ms is outside 0 to {MAX_RAMP_MS:g}")

    def checked(self, value: Any) -> float:
        """Return what the knob is to be turned to as a number.

        Raises
        ------
        ValueError
            It is no number, or outside the knob's range.
        """
        shown = f"type {type(value).__name__}"
        try:
            # Text is no number here, though Python would read it as one.
            number = nan if isinstance(value, str | bytes | bytearray) else float(value)
            shown = f"{number:g}" if isinstance(value, Real) else shown
        except (TypeError, ValueError):
            number = nan
        except OverflowError:
            number, shown = inf, "a number too large"
        if not self.minimum <= number <= self.maximum:
            raise ValueError(
                f"knob {self.name} goes from {self.minimum:g} to {self.maximum:g}, found {shown}"
            )
        return number


@dataclass(frozen=True, eq=False)
class SelfTest:
    """Numbers a file holds to prove that it is understood: what comes out where for what goes in.

    Attributes
    ----------
    input, output : str
        Names of the signals: not always the whole model's, as some files leave gains out of their test.
    x, y : float32 array [rows][frames]
        From the state before the first frame, without prewarm, with all knobs at `knobs`.
    knobs : mapping of str to float
        Values of the model's knobs; those not named stand at their defaults.
    skip_frames : int
        First frames of `y` that are not to be compared.
    """

    input: str
    output: str
    x: Array
    y: Array
    knobs: Mapping[str, float] = field(default_factory=dict)
    skip_frames: int = 0


@dataclass(frozen=True)
class Graph:
    """A whole model.

    Attributes
    ----------
    nodes : tuple of Node
        In running order: a node reads only what earlier nodes, the input or a knob have written.
    input : str
        Name of the audio input's signal.
    input_channels : int
    output : str
        Name of the signal that is the model's answer.
    knobs : tuple of Knob
        Further inputs, one channel each, named in the file's order.
    sample_rate_hz : float, optional
        The rate the model was made for; None where the format does not say.
    prewarm_frames : int
        Frames of silence the state settles on before the first frame, as the format has it; 0 starts
        from zeros.
    name : str
    metadata : mapping
        What the file says of itself, as it says it.
    notes : tuple of str
        Sentences a user should see: rulings, doubts, what another player does otherwise.
    latency_frames : int
        Frames of the output by which it lags behind what the model's author computes over whole files,
        because layers that look ahead can only be run late.
    self_tests : tuple of SelfTest
        What ``backline verify`` holds the model against besides the reference.

    Raises
    ------
    ModelError
        A node reads what nobody wrote, a name is used twice, shapes disagree, or there is more of something
        than anybody needs.
    """

    nodes: tuple[Node, ...]
    input: str
    input_channels: int
    output: str
    knobs: tuple[Knob, ...] = ()
    sample_rate_hz: float | None = None
    prewarm_frames: int = 0
    name: str = "model"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    latency_frames: int = 0
    self_tests: tuple[SelfTest, ...] = ()
    signals: Signals = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.nodes) > MAX_NODES:
            raise ModelError(f"has {len(self.nodes)} layers, at most {MAX_NODES} are allowed")
        signals: dict[str, Signal] = {}
        for signal in self._signals_in_order(signals):
            check_size(signal.name, "channel count", signal.rows)
            if signal.name in signals:
                raise ModelError(f"{signal.name}: two layers write the same signal")
            signals[signal.name] = signal
        if self.output not in signals:
            raise ModelError(f"output {self.output!r} is written by no layer")
        for knob in self.knobs:
            knob.check()
        if not 0 <= self.latency_frames <= MAX_SIZE:
            raise ModelError(f"latency of {self.latency_frames} frames is outside 0 to {MAX_SIZE}")
        if self.sample_rate_hz is not None and not 1e3 <= self.sample_rate_hz <= 1e6:
            raise ModelError(f"sample rate {self.sample_rate_hz:g} Hz is outside 1 kHz to 1 MHz")
        object.__setattr__(self, "signals", signals)
        self._check_prewarm()

    def _check_prewarm(self) -> None:
        """Raise `ModelError` where settling would take minutes."""
        if not 0 <= self.prewarm_frames <= MAX_SIZE:
            raise ModelError(f"prewarm of {self.prewarm_frames} frames is outside 0 to {MAX_SIZE}")
        rows = sum(signal.rows * signal.rate for signal in self.signals.values())
        pooled = sum(
            node.kernel * self.signals[node.output].rows * self.signals[node.output].rate
            for node in self.nodes
            if isinstance(node, MaxPool1d)
        )
        work = self.prewarm_frames * (self.multiply_adds_per_frame + _WORK_OF_A_NUMBER * rows + pooled)
        if work > MAX_PREWARM_WORK:
            raise ModelError(
                f"prewarm of {self.prewarm_frames} frames takes about {float(work):.1e} multiply-adds, "
                f"at most {MAX_PREWARM_WORK:.1e} are allowed"
            )

    def _signals_in_order(self, known: Signals) -> Iterator[Signal]:
        yield Signal(self.input, self.input_channels)
        for knob in self.knobs:
            yield Signal(knob.name, 1)
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise ModelError(f"{node.output}: reads {name!r}, which no earlier layer writes")
            yield from node.infer(known)

    def with_knobs(self, values: Mapping[str, float]) -> Graph:
        """Return the graph with other defaults for some of its knobs; its state settles on them too.

        Raises
        ------
        ModelError
            There is no knob of that name, or the value is outside its range.
        """
        known = {knob.name: knob for knob in self.knobs}
        for name, value in values.items():
            if name not in known:
                raise ModelError(f"{self.name}: no knob {name!r}; it has {', '.join(known) or 'none'}")
            try:
                known[name] = replace(known[name], default=known[name].checked(value))
            except ValueError as error:
                raise ModelError(f"{self.name}: {error}") from None
        return replace(self, knobs=tuple(known.values()))

    @property
    def output_channels(self) -> int:
        """Rows of the output signal."""
        return self.signals[self.output].rows

    @property
    def parameter_count(self) -> int:
        """Numbers in all parameter arrays of all nodes."""
        return sum(int(values.size) for node in self.nodes for values in node.arrays.values())

    @property
    def multiply_adds_per_frame(self) -> float:
        """Multiply-adds for one frame of input."""
        return float(sum(self.node_multiply_adds(node) for node in self.nodes))

    def node_multiply_adds(self, node: Node) -> float:
        """Multiply-adds of one node for one frame of input."""
        made = self.signals[node.output]
        parts = made.rows if isinstance(node, Resample) else made.features
        return float(node.multiply_adds() * parts * made.rate)

    @property
    def receptive_field_frames(self) -> int | None:
        """Input frames, the newest included, that one output frame depends on; None if unbounded."""
        reach: dict[str, Fraction | None] = {self.input: Fraction(0)}
        reach.update({knob.name: Fraction(0) for knob in self.knobs})
        for node in self.nodes:
            below = [reach[name] for name in node.inputs]
            own = node.reach_frames
            total: Fraction | None = None
            known = [r for r in below if r is not None]
            if own is not None and len(known) == len(below):
                through = known[0] + own / self.signals[node.inputs[0]].rate
                total = max([through, *known[1:]])
            reach.update(dict.fromkeys(node.outputs, total))
        found = reach[self.output]
        return None if found is None else floor(found) + 1
