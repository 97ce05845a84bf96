"""The Graph: what every model file becomes and the only thing the rest of Backline knows of a model.

A graph is a tuple of nodes (``layers.py``) in the order they run. Each reads named signals and writes named
signals; a signal is a planar array ``[channel][frame]`` at a rate relative to the graph's input. All
shapes are checked on construction. ``passes.py`` may fuse nodes, ``reference.py`` evaluates them in float64
and ``compile.py`` lowers them for the C engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

from .errors import ModelError
from .layers import MAX_SIZE, Node, Signal, Signals, check_size


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

    Raises
    ------
    ModelError
        A node reads what nobody wrote, a name is used twice, or shapes disagree.
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
    signals: Signals = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        signals: dict[str, Signal] = {}
        for signal in self._signals_in_order(signals):
            check_size(signal.name, "channel count", signal.rows)
            if signal.name in signals:
                raise ModelError(f"{signal.name}: two layers write the same signal")
            signals[signal.name] = signal
        if self.output not in signals:
            raise ModelError(f"output {self.output!r} is written by no layer")
        if not 0 <= self.prewarm_frames <= MAX_SIZE:
            raise ModelError(f"prewarm of {self.prewarm_frames} frames is outside 0 to {MAX_SIZE}")
        if self.sample_rate_hz is not None and not 1.0 <= self.sample_rate_hz <= 10e6:
            raise ModelError(f"sample rate {self.sample_rate_hz} Hz is outside 1 Hz to 10 MHz")
        object.__setattr__(self, "signals", signals)

    def _signals_in_order(self, known: Signals) -> Iterator[Signal]:
        yield Signal(self.input, self.input_channels)
        for knob in self.knobs:
            yield Signal(knob.name, 1)
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise ModelError(f"{node.output}: reads {name!r}, which no earlier layer writes")
            yield from node.infer(known)

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
        return float(sum(node.multiply_adds() * self.signals[node.output].rate for node in self.nodes))

    @property
    def receptive_field_frames(self) -> int | None:
        """Input frames, the newest included, that one output frame depends on; None if unbounded."""
        reach: dict[str, Fraction | None] = {self.input: Fraction(0)}
        reach.update({knob.name: Fraction(0) for knob in self.knobs})
        for node in self.nodes:
            below = [reach[name] for name in node.inputs]
            own = node.lookback_frames
            total: Fraction | None = None
            if own is not None and None not in below:
                direct = below[0] if below[0] is not None else Fraction(0)
                through = direct + own / self.signals[node.inputs[0]].rate
                total = max([through, *(r for r in below[1:] if r is not None)])
            reach.update(dict.fromkeys(node.outputs, total))
        found = reach[self.output]
        return None if found is None else ceil(found) + 1
