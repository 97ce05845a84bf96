"""The C engine held against `reference.py` and against the numbers a model's file carries to be checked by.

The test signal is one stretch of each kind after another: silence, an impulse, noise at three levels, a
sweep and a plucked string. Both sides hear it from the settled state on, with every knob at its default and,
where there are knobs, with all of them at either end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import native, reference
from .engine import Engine, Program
from .errors import ModelError
from .graph import Graph, SelfTest
from .layers import Array, Conv1d, Conv2d, ConvTranspose1d, Gru, Lstm, Node
from .pluck import pluck

Float64 = NDArray[np.float64]

#: What passes: an error so many decibels below the stretch it is found in, or never more than so much of the
#: largest output of all. Rounding to float32 stays below one of them: in the quietest stretches of a model
#: with much gain below the second only.
LIMIT_DB = -80.0
LIMIT_OF_PEAK = 1e-5

#: Frames of the test signal: so many, or those of the receptive field and `_BEYOND_REACH_FRAMES` more.
_USUAL_FRAMES = 16384
_BEYOND_REACH_FRAMES = 4096
_FEWEST_FRAMES = 1024
_MOST_FRAMES = 1 << 20
_MOST_BLOCK_FRAMES = 700
#: The reference's cost on an ordinary machine; it only has to be right to a factor of a few.
_NS_PER_MULTIPLY_ADD, _NS_PER_NUMBER, _NS_PER_STEP = 0.5, 6.0, 35e3
_BUDGET_NS = 5e9
_MOST_NUMBERS = 2e8
_DEFAULT_RATE_HZ = 48000.0
_ENDS = ("minimum", "maximum")


@dataclass(frozen=True)
class Comparison:
    """What one stretch of one signal gave.

    Attributes
    ----------
    signal : str
        Its kind, or the number of the file's own test.
    isa : str
    knobs : mapping of str to float
        Values of all the model's knobs.
    frames : int
        Of the output, compared.
    error_db : float or None
        RMS of the error over RMS of the expected output; None where that is silent or nothing is wrong.
    largest : float or None
        Largest absolute error; None where lengths differ or something is not finite.
    passed : bool
    """

    signal: str
    isa: str
    knobs: Mapping[str, float]
    frames: int
    error_db: float | None
    largest: float | None
    passed: bool


@dataclass(frozen=True)
class Verification:
    """All that was compared.

    Attributes
    ----------
    model : str
    frames, settled_on_frames : int
        Of the test signal, and of the silence before it.
    receptive_field_frames : int or None
    comparisons : tuple of Comparison
    same_in_blocks : mapping of str to bool
        By instruction set: whether blocks of random sizes gave, bit for bit, what one call gave.
    self_tests : int
        How many tests the file carries.
    notes : tuple of str
        What could not be tried in full.
    """

    model: str
    frames: int
    settled_on_frames: int
    receptive_field_frames: int | None
    comparisons: tuple[Comparison, ...]
    same_in_blocks: Mapping[str, bool]
    self_tests: int
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything was as it should be."""
        return all(c.passed for c in self.comparisons) and all(self.same_in_blocks.values())

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        limits = {"error_db": LIMIT_DB, "largest_of_peak": LIMIT_OF_PEAK}
        return {**asdict(self), "limits": limits, "passed": self.passed}


def verify(
    graph: Graph,
    isas: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Verification:
    """Run a model in C and in float64 and compare.

    Parameters
    ----------
    graph : Graph
    isas : sequence of str, optional
        Instruction sets; all that this machine runs by default. One that is named twice runs once.
    seed : int
        Chooses noise and block sizes.

    Raises
    ------
    ModelError
        The engine cannot run the model, or a test of the file does not fit it.
    BacklineError
        An instruction set this machine does not run.
    """
    graph, notes = _affordable(graph)
    frames = _frames(graph)
    reach = graph.receptive_field_frames
    if reach is not None and frames < reach:
        notes.append(f"the signal is shorter than the receptive field of {reach} frames, to save time")
    names = [native.isa_name(native.choose_isa(isa)) for isa in isas or native.available_isas()]
    programs = [Program(graph, isa) for isa in dict.fromkeys(names)]
    x, stretches = signal(graph, frames, seed)
    found: list[Comparison] = []
    same = dict.fromkeys((program.isa for program in programs), True)
    for values in _settings(graph):
        with np.errstate(all="ignore"):
            expected = reference.run(graph, x, values)
        for program in programs:
            whole = _run(program, x, values, [frames])
            blocks = _run(program, x, values, _random_sizes(frames, seed))
            same[program.isa] &= whole.tobytes() == blocks.tobytes()
            found += _compared(graph, program.isa, values, stretches, whole, expected)
    for number, test in enumerate(graph.self_tests, 1):
        found += _self_tested(graph, f"the file's test {number}", test, [p.isa for p in programs])
    return Verification(
        graph.name,
        frames,
        graph.prewarm_frames,
        reach,
        tuple(found),
        same,
        len(graph.self_tests),
        tuple(notes),
    )


# ---- the test signal ----


def signal(graph: Graph, frames: int, seed: int = 0) -> tuple[Array, dict[str, range]]:
    """Make the test signal.

    Returns
    -------
    x : float32 array [input channels][frames]
        No two channels are alike.
    stretches : dict of str to range
        Where in it each kind is.
    """
    rate_hz = graph.sample_rate_hz or _DEFAULT_RATE_HZ
    rng = np.random.default_rng(seed)
    kinds = ("silence", "impulse", "noise -60 dB", "noise -20 dB", "noise 0 dB", "sweep", "pluck")
    edges = [frames * k // len(kinds) for k in range(len(kinds) + 1)]
    x = np.zeros((graph.input_channels, frames), np.float32)
    stretches = {}
    for kind, (start, stop) in zip(kinds, pairwise(edges), strict=True):
        stretches[kind] = range(start, stop)
        part, count = x[:, start:stop], stop - start
        if kind.startswith("noise"):
            part[:] = rng.uniform(-1.0, 1.0, part.shape) * 10.0 ** (float(kind.split()[1]) / 20.0)
        elif kind != "silence":
            shape = _SHAPES[kind](count, rate_hz)
            for channel, row in enumerate(part):
                row[:] = np.roll(shape, 37 * channel)
    return x, stretches


def _impulse(frames: int, _: float) -> Float64:
    shape = np.zeros(frames)
    shape[0] = 1.0
    return shape


def _sweep(frames: int, rate_hz: float) -> Float64:
    """From a thousandth of the rate to just below half of it, each octave as long as any other."""
    octaves = math.log(480.0)
    phase = 0.001 * frames / octaves * np.expm1(octaves * np.arange(frames) / frames)
    swept: Float64 = 0.5 * np.sin(2.0 * np.pi * phase)
    return swept


def _pluck(frames: int, rate_hz: float) -> Float64:
    plucked = pluck(min(110.0, rate_hz / 8.0), frames / rate_hz, rate_hz)
    return 0.5 * np.resize(plucked, frames).astype(np.float64)


_SHAPES = {"impulse": _impulse, "sweep": _sweep, "pluck": _pluck}


def _settings(graph: Graph) -> list[dict[str, float]]:
    ends = [{knob.name: float(np.float32(getattr(knob, end))) for knob in graph.knobs} for end in _ENDS]
    settings: list[dict[str, float]] = []
    for values in (_defaults(graph), *ends):
        if values not in settings:
            settings.append(values)
    return settings


def _defaults(graph: Graph) -> dict[str, float]:
    return {knob.name: float(np.float32(knob.default)) for knob in graph.knobs}


# ---- how long ----


def _affordable(graph: Graph) -> tuple[Graph, list[str]]:
    """The graph, from zeros if the reference cannot settle on so much silence."""
    if graph.prewarm_frames + _FEWEST_FRAMES <= _most_frames(graph):
        return graph, []
    note = f"compared from zeros: {graph.prewarm_frames} frames of silence first would take too long"
    return replace(graph, prewarm_frames=0), [note]


def _frames(graph: Graph) -> int:
    reach = graph.receptive_field_frames or 0
    wanted = max(_USUAL_FRAMES, reach + _BEYOND_REACH_FRAMES)
    return max(_FEWEST_FRAMES, min(wanted, _most_frames(graph) - graph.prewarm_frames))


def _most_frames(graph: Graph) -> int:
    """Frames the reference gets through in some seconds and with some memory."""
    numbers = sum(float(each.rows * each.rate) for each in graph.signals.values())
    ns = sum(_ns_per_frame(graph, node) for node in graph.nodes)
    return int(min(_MOST_FRAMES, _MOST_NUMBERS / numbers, _BUDGET_NS / max(ns, 1.0)))


def _ns_per_frame(graph: Graph, node: Node) -> float:
    read, made = graph.signals[node.inputs[0]], graph.signals[node.output]
    numbers = float(made.rows * made.rate)
    if isinstance(node, Conv1d | Conv2d | ConvTranspose1d):
        # Each tap copies what it meets, and adds to what is made.
        numbers = (numbers + float(read.rows * read.rate)) * math.prod(node.weight.shape[2:])
    steps = float(made.rate) if isinstance(node, Lstm | Gru) else 0.0
    work = _NS_PER_MULTIPLY_ADD * graph.node_multiply_adds(node)
    return work + _NS_PER_NUMBER * numbers + _NS_PER_STEP * steps


# ---- running and comparing ----


def _random_sizes(frames: int, seed: int) -> list[int]:
    """Sizes of blocks that add up to `frames`: half of them short, all of them odd or even as it comes."""
    rng = np.random.default_rng(seed)
    sizes: list[int] = []
    while (left := frames - sum(sizes)) > 0:
        sizes.append(min(left, int(rng.integers(1, rng.choice([9, _MOST_BLOCK_FRAMES])))))
    return sizes


def _run(program: Program, x: Array, knobs: Mapping[str, float], sizes: Sequence[int]) -> Array:
    edges = np.cumsum([0, *sizes])
    with Engine(program, 1) as engine:
        for name, value in knobs.items():
            engine.set(name, value)
        made = [engine.process(np.ascontiguousarray(x[:, a:b])) for a, b in pairwise(edges)]
    return np.concatenate(made, axis=1)


def _compared(
    graph: Graph,
    isa: str,
    knobs: Mapping[str, float],
    stretches: Mapping[str, range],
    found: Array,
    expected: Float64,
) -> Iterator[Comparison]:
    output = graph.signals[graph.output]
    peak = float(np.max(np.abs(expected), initial=0.0))
    for name, frames in stretches.items():
        part = slice(output.frames(frames.start), output.frames(frames.stop))
        yield _comparison(name, isa, knobs, found[:, part], expected[:, part], peak)


def _comparison(
    name: str, isa: str, knobs: Mapping[str, float], found: Array, expected: Float64, peak: float
) -> Comparison:
    frames = expected.shape[1]
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return Comparison(name, isa, knobs, frames, None, None, False)
    error = found - expected
    largest = float(np.max(np.abs(error), initial=0.0))
    rms, below = (
        float(np.sqrt(np.mean(np.square(each)))) if each.size else 0.0 for each in (error, expected)
    )
    db = 20.0 * math.log10(rms / below) if rms > 0.0 and below > 0.0 else None
    passed = largest <= LIMIT_OF_PEAK * peak or (db is not None and db <= LIMIT_DB)
    return Comparison(name, isa, knobs, frames, db, largest, passed)


# ---- what the file carries ----


def part_of(graph: Graph, source: str, target: str) -> Graph:
    """The part of a graph that makes one signal of another.

    Parameters
    ----------
    graph : Graph
    source, target : str
        Names of signals; `source` becomes the input, at rate 1.

    Returns
    -------
    Graph
        Without prewarm; with all the knobs.

    Raises
    ------
    ModelError
        There is no such signal, or `target` depends on more than `source` and knobs.
    """
    for name in (source, target):
        if name not in graph.signals:
            raise ModelError(f"{graph.name}: a test of the file names {name!r}, expected one of its signals")
    knobs = {knob.name for knob in graph.knobs}
    needed, nodes = {target} - {source}, []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            nodes.append(node)
            needed = (needed - {*node.outputs}) | ({*node.inputs} - {source} - knobs)
    if needed - knobs:
        raise ModelError(f"{graph.name}: {target!r} depends on more than {source!r}, which its test gives")
    return Graph(
        tuple(reversed(nodes)),
        source,
        graph.signals[source].rows,
        target,
        knobs=graph.knobs,
        sample_rate_hz=graph.sample_rate_hz,
        name=graph.name,
    )


def _self_tested(graph: Graph, name: str, test: SelfTest, isas: Sequence[str]) -> Iterator[Comparison]:
    part = part_of(graph, test.input, test.output)
    for what, values, rows in (
        ("input", test.x, part.input_channels),
        ("output", test.y, part.output_channels),
    ):
        if values.ndim != 2 or len(values) != rows:
            raise ModelError(
                f"{graph.name}: {name} has an {what} of shape {values.shape}, expected {rows} rows"
            )
    knobs = _defaults(graph.with_knobs(test.knobs))
    x = np.ascontiguousarray(test.x, np.float32)
    expected = test.y[:, test.skip_frames :].astype(np.float64)
    peak = float(np.max(np.abs(expected), initial=0.0))
    for isa in isas:
        made = _run(Program(part, isa), x, knobs, [x.shape[1]])[:, test.skip_frames :]
        yield _comparison(name, isa, knobs, made, expected, peak)
