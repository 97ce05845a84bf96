"""Graph to Graph: a model run at a rate other than its own, resampled around it or stretched in time.

`at_rate` takes any whole rate: a polyphase filter in, the model at its own rate, a polyphase filter out.
`oversampled` takes whole multiples of the model's rate and puts that many times as many frames between the
taps of its convolutions: no filters, no delay, and less of what its activations make folds back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import numpy as np

from .errors import ModelError
from .graph import Graph
from .layers import (
    EARLIEST,
    MAX_HOP,
    Activate,
    Add,
    Affine,
    Array,
    AvgPool1d,
    BatchNorm,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    Crossfade,
    Delay,
    MaxPool1d,
    Multiply,
    Node,
    Resample,
    Reshape,
    Slice,
    check_size,
)

#: Where the passband ends, as a part of the lower of two rates: 20 kHz of 44.1 kHz. The stopband begins as
#: far above half that rate as this lies below, so that what folds back comes to lie above the passband.
PASSBAND = 0.4535
#: What the window is made for. Filters come to lie within 1 dB of it.
STOPBAND_DB = 115.0
#: Frames of the lower rate from the middle of a filter to either end: as many as Kaiser's formula asks for,
#: ``(115 - 7.95) / (2.285 * 2 * pi * (1 - 2 * 0.4535)) / 2``.
HALF_WIDTH_FRAMES = 40
#: Most times that one rate may be the other: beyond, a filter has more taps than the engine takes.
MAX_RATIO = 50


@dataclass(frozen=True)
class _Ratio:
    """Two whole rates, and their grid: the lowest rate that is a multiple of both."""

    from_hz: int
    to_hz: int

    @property
    def up(self) -> int:
        """Frames of the grid to one at `from_hz`."""
        return self.to_hz // gcd(self.from_hz, self.to_hz)

    @property
    def down(self) -> int:
        """Frames of the grid to one at `to_hz`."""
        return self.from_hz // gcd(self.from_hz, self.to_hz)

    @property
    def half_width(self) -> int:
        """Frames of the grid from the middle of the filter to where it has ended: its least delay."""
        return HALF_WIDTH_FRAMES * max(self.up, self.down)

    def check(self) -> None:
        """Raise `ModelError` where the engine does not go from one rate to the other."""
        for rate_hz in (self.from_hz, self.to_hz):
            if rate_hz < 1:
                raise ModelError(f"a rate of {rate_hz} Hz cannot be resampled, expected a positive one")
        said = f"{self.from_hz} Hz cannot be resampled to {self.to_hz} Hz"
        if max(self.up, self.down) > MAX_HOP:
            raise ModelError(f"{said}: as a fraction that is {self.up}/{self.down}, at most {MAX_HOP} go")
        if max(self.up, self.down) > MAX_RATIO * min(self.up, self.down):
            raise ModelError(f"{said}: one is more than {MAX_RATIO} times the other")


def design(from_hz: int, to_hz: int, delay: int | None = None) -> Array:
    """Return the taps of a `Resample` from one rate to another: a sinc in a Kaiser window (Kaiser 1974).

    At the grid, the lowest rate P that is a multiple of both, for the lower rate R of the two,
    ``h[j] = sinc(n R / P) i0(beta sqrt(1 - (n / H)^2)) / i0(beta)`` with ``n = j - delay`` and
    ``|n| < H = HALF_WIDTH_FRAMES * P / R``; scaled so that it keeps the level of what does not change. Flat
    to `PASSBAND` times R, and at least 110 dB down from ``1 - PASSBAND`` times R on.

    Parameters
    ----------
    from_hz, to_hz : int
    delay : int, optional
        Of the filter, in frames of the grid; by default H, the least that needs no future.

    Returns
    -------
    float32 array [up][kernel]
        ``up / down`` being ``to_hz / from_hz`` in lowest terms.

    Raises
    ------
    ModelError
        The fraction has terms above `MAX_HOP`, or one rate is more than `MAX_RATIO` times the other.
    ValueError
        A delay below H.
    """
    ratio = _Ratio(from_hz, to_hz)
    ratio.check()
    half = ratio.half_width
    delay = half if delay is None else delay
    if delay < half:
        raise ValueError(f"a delay of {delay} frames is too short, expected at least {half}")
    n = np.arange(1 - half, half)
    beta = 0.1102 * (STOPBAND_DB - 8.7)
    h = np.sinc(n / max(ratio.up, ratio.down)) * np.kaiser(2 * half + 1, beta)[1:-1]
    kernel = -(-(delay + half) // ratio.up)
    spread = np.zeros(kernel * ratio.up)
    spread[delay - half + 1 : delay + half] = h * (ratio.up / np.sum(h))
    return np.ascontiguousarray(spread.reshape(kernel, ratio.up)[::-1].T, np.float32)


def at_rate(graph: Graph, rate_hz: float) -> Graph:
    """Wrap a model so that it runs at a rate other than its own, with resamplers around it.

    The model's layers run at their own rate, and hear silence until the first filter has let something
    through. Knobs reach them held from one frame to the next.

    Parameters
    ----------
    graph : Graph
        Puts out a frame for each frame it reads.
    rate_hz : float
        A whole number.

    Returns
    -------
    Graph
        At `rate_hz`, as many frames out as in. `latency_frames` is the delay of both filters and the model's
        own latency: always a whole number of frames, as one of the filters waits for what is missing. Without
        self-tests, which are for the model's own rate. `graph` itself if that is its rate, or it has none.

    Raises
    ------
    ModelError
        Rates that are not whole, or too far apart; or a model that puts out another number of frames.
    """
    if graph.sample_rate_hz is None or graph.sample_rate_hz == rate_hz:
        return graph
    outer_hz, inner_hz = (_whole(graph, hz) for hz in (rate_hz, graph.sample_rate_hz))
    rate = graph.signals[graph.output].rate
    if rate != 1:
        raise ModelError(
            f"{graph.name}: puts out {rate} frames per frame of input; only models that keep the rate are "
            "resampled"
        )
    into = _Ratio(outer_hz, inner_hz)
    taps_in, taps_out, late = _both_filters(into, graph.latency_frames)
    start, end = (_free(f"{which} at {outer_hz} Hz", graph) for which in ("input", "output"))
    held, names = _held_knobs(graph, into)
    nodes = (
        Resample(graph.input, start, into.up, into.down, taps_in),
        *held,
        *(_reading(node, names) for node in graph.nodes),
        Resample(end, names.get(graph.output, graph.output), into.down, into.up, taps_out),
    )
    # The last filter's past has to settle on what the model gives once it has settled.
    settling = graph.prewarm_frames + taps_out.shape[1] if graph.prewarm_frames else 0
    return replace(
        graph,
        nodes=nodes,
        input=start,
        output=end,
        sample_rate_hz=float(outer_hz),
        prewarm_frames=-(-settling * into.down // into.up),
        latency_frames=late,
        notes=(*graph.notes, _note(into, late, graph.latency_frames)),
        self_tests=(),
    )


def _whole(graph: Graph, rate_hz: float) -> int:
    if not float(rate_hz).is_integer():
        raise ModelError(f"{graph.name}: a rate of {rate_hz} Hz cannot be resampled, expected a whole number")
    return int(rate_hz)


def _both_filters(into: _Ratio, latency_frames: int) -> tuple[Array, Array, int]:
    """Taps into and out of a model of that latency, and the frames that all three together come late."""
    into.check()
    # In frames of the grid, `into.up` to one of the device and `into.down` to one of the model.
    least = 2 * into.half_width + latency_frames * into.down
    missing = -least % into.up
    # The filter that goes down has more taps anyway.
    waits = (missing, 0) if into.down > into.up else (0, missing)
    taps_in = design(into.from_hz, into.to_hz, into.half_width + waits[0])
    taps_out = design(into.to_hz, into.from_hz, into.half_width + waits[1])
    return taps_in, taps_out, (least + missing) // into.up


def _note(into: _Ratio, late: int, own: int) -> str:
    included = ", the model's own latency included" if own else ""
    return (
        f"runs at {into.to_hz} Hz inside; resampled from and to {into.from_hz} Hz, {late} frames "
        f"({1000 * late / into.from_hz:.1f} ms) later{included}"
    )


def _free(name: str, graph: Graph) -> str:
    """The name, or one like it that no signal of the graph has."""
    while name in graph.signals:
        name += "'"
    return name


def _held_knobs(graph: Graph, into: _Ratio) -> tuple[list[Node], dict[str, str]]:
    """Knobs that are read, held at the model's rate; and what they are called there."""
    read = {graph.output, *(name for node in graph.nodes for name in node.inputs)}
    taps = np.ones((into.up, 1), np.float32)
    names = {
        knob.name: _free(f"{knob.name} at {into.to_hz} Hz", graph)
        for knob in graph.knobs
        if knob.name in read
    }
    return [Resample(held, name, into.up, into.down, taps) for name, held in names.items()], names


#: Fields of nodes that hold the name of a signal that is read.
_READ_FIELDS = ("input", "a", "b", "position", "residual", "skip")


def _reading(node: Node, names: Mapping[str, str]) -> Node:
    """The node with other names for some of the signals it reads."""
    if not names.keys() & set(node.inputs):
        return node
    found: dict[str, Any] = {
        field: names.get(name, name)
        for field in _READ_FIELDS
        if (name := getattr(node, field, None)) is not None
    }
    if isinstance(node, Concat):
        found["sources"] = tuple(names.get(name, name) for name in node.sources)
    if isinstance(node, Conv1d) and node.mix is not None:
        found["mix"] = replace(node.mix, input=names.get(node.mix.input, node.mix.input))
    changed = replace(node, **found)
    assert changed.inputs == tuple(names.get(name, name) for name in node.inputs), type(node).__name__
    return changed


def oversampled(graph: Graph, factor: int) -> Graph:
    """Stretch a model to a multiple of its rate: dilations and delays become `factor` times as long.

    Every `factor`-th frame then goes its own way through the model, as if there were `factor` of them taking
    turns. What is linear in it answers frequencies up to half of its own rate as it does there, and those
    above in mirror image; what its activations make has `factor` times the room before it folds back.

    Parameters
    ----------
    graph : Graph
        Of layers that look at single frames, at frames a fixed time apart, or back by a fixed time.
    factor : int
        1 changes nothing.

    Returns
    -------
    Graph
        At `factor` times the rate, with `factor` times the latency and prewarm in frames. Without self-tests.

    Raises
    ------
    ModelError
        A layer that goes from frame to frame (LSTM, GRU) or changes the rate; the message names it.
    """
    check_size(graph.name, "factor", factor)
    if factor == 1:
        return graph
    nodes = tuple(_stretched(node, factor) for node in graph.nodes)
    rate_hz, notes = graph.sample_rate_hz, graph.notes
    if rate_hz is not None:
        notes = (*notes, f"runs at {factor * rate_hz:g} Hz, {factor} times its own rate, stretched in time")
        rate_hz *= factor
    return replace(
        graph,
        nodes=nodes,
        sample_rate_hz=rate_hz,
        prewarm_frames=graph.prewarm_frames * factor,
        latency_frames=graph.latency_frames * factor,
        notes=notes,
        self_tests=(),
    )


#: Layers that look at one frame at a time.
_TIMELESS = (Activate, Add, Affine, BatchNorm, Concat, Crossfade, Multiply, Reshape, Slice)


def _stretched(node: Node, factor: int) -> Node:
    """The node with times `factor` as long."""
    if isinstance(node, _TIMELESS):
        return node
    if isinstance(node, Delay):
        return replace(node, frames=node.frames * factor, start_frames=_later(node.start_frames, factor))
    if isinstance(node, Conv1d | Conv2d | ConvTranspose1d | AvgPool1d | MaxPool1d):
        if node.stride != 1:
            raise ModelError(f"{node.output}: a stride of {node.stride} cannot be stretched in time")
        stretched = replace(node, dilation=node.dilation * factor)
        if isinstance(stretched, MaxPool1d):
            return replace(stretched, start_frames=_later(stretched.start_frames, factor))
        return stretched
    raise ModelError(f"{node.output}: {type(node).__name__} layers cannot be stretched in time")


def _later(start_frames: int, factor: int) -> int:
    return start_frames if start_frames == EARLIEST else max(EARLIEST, start_frames * factor)
