"""Layers in combination: whole and in blocks, one stream and several, again after a reset, at any rate.

Each drawn graph runs on every instruction set, in an engine of drawn streams and block length, and is held
against the reference; what it gives may not depend on blocks, neighbours or the past by a single bit.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import floor, gcd

import numpy as np
import pytest
from graphs import SEEDS, activations, array, cuts, divisors, examples, graphs
from hypothesis import assume, given
from hypothesis import strategies as st

from backline import native, reference
from backline.activations import Activation
from backline.engine import Engine, Program
from backline.graph import Graph, Knob
from backline.layers import (
    Activate,
    Add,
    Affine,
    AvgPool1d,
    BatchNorm,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    Crossfade,
    Delay,
    Gru,
    Interleave,
    Lstm,
    MaxPool1d,
    Mix,
    Multiply,
    Node,
    Resample,
    Reshape,
    Slice,
    Upsample,
)

ISAS = native.available_isas()
every_isa = pytest.mark.parametrize("isa", ISAS)


def in_pieces(engine: Engine, x: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Run planar `x` in blocks and join what comes out."""
    edges = np.cumsum([0, *(sizes or [0])])
    return np.concatenate(
        [engine.process(np.ascontiguousarray(x[:, a:b])) for a, b in pairwise(edges)], axis=1
    )


def assert_runs(graph: Graph, isa: str, data: st.DataObject, error: float = 2e-5) -> None:
    """Hold the engine against the reference and itself; `error` is of the largest output, at least 1."""
    streams, frames = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 250))
    rows = graph.input_channels
    x = array(data.draw(SEEDS), streams * rows, frames)
    program = Program(graph, isa)
    with Engine(program, streams, data.draw(st.integers(1, 128))) as engine:
        whole = engine.process(x)
        engine.reset()
        half = frames // 2
        in_pieces(engine, x[:, :half] * np.float32(9), data.draw(cuts(half, 40)))
        engine.reset()
        np.testing.assert_array_equal(in_pieces(engine, x, data.draw(cuts(frames, 150))), whole)
    own = whole.reshape(streams, -1, whole.shape[1])
    for stream, alone in enumerate(x.reshape(streams, rows, frames)):
        with Engine(program, 1) as engine:
            np.testing.assert_array_equal(engine.process(np.ascontiguousarray(alone)), own[stream])
        expected = reference.run(graph, alone)
        peak = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(own[stream], expected, rtol=0, atol=error * peak)


@st.composite
def fused_convolutions(draw) -> Graph:
    """A convolution with any of stride, groups, mix, activation, residual and skip: all that passes make."""
    inputs, mixed = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    groups = draw(st.sampled_from(divisors(inputs)))
    out = groups * draw(st.integers(1, 10))
    mix_groups = draw(st.sampled_from(divisors(gcd(groups, mixed))))
    kernel, dilation = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 7, 130]))
    stride, seed = draw(st.integers(1, 5)), draw(SEEDS)
    has = {name: draw(st.booleans()) for name in ("bias", "mix", "activation", "residual", "skip")}
    nodes: list[Node] = []
    at = 0
    for name, rows in (("a", inputs), ("mix", mixed), ("residual", out), ("skip", out)):
        nodes.append(Slice(f"{name} now", "x", at, rows))
        # What is added at the output's rate is decimated first.
        nodes.append(MaxPool1d(name, f"{name} now", 1, 1 if name == "a" else stride))
        at += rows
    conv = Conv1d(
        "y",
        "a",
        array(seed, out, inputs // groups, kernel),
        array(seed + 1, out) if has["bias"] else None,
        groups,
        dilation,
        stride,
        Mix("mix", array(seed + 2, out, mixed // mix_groups), mix_groups) if has["mix"] else None,
        draw(activations(out)) if has["activation"] else None,
        "residual" if has["residual"] else None,
        "skip" if has["skip"] else None,
        "sum" if has["skip"] else None,
    )
    nodes += [conv, Concat("both", ("y", "sum") if has["skip"] else ("y",))]
    return Graph(tuple(nodes), "x", at, "both", prewarm_frames=draw(st.sampled_from([0, 1, 300])))


@every_isa
@given(graph=fused_convolutions(), data=st.data())
@examples(40)
def test_fused_convolutions(isa, graph, data):
    assert_runs(graph, isa, data, 5e-6)


@every_isa
@given(graph=graphs(), data=st.data())
@examples(20)
def test_drawn_graphs(isa, graph, data):
    assert_runs(graph, isa, data, 1e-4)


def gru_arrays(seed: int, inputs: int, hidden: int, state: bool) -> list[np.ndarray]:
    shapes = [(3 * hidden, inputs), (3 * hidden, hidden), (3 * hidden,), (3 * hidden,), (hidden,)]
    return [array(seed + k, *shape) for k, shape in enumerate(shapes[: 5 if state else 4])]


def lstm_arrays(seed: int, inputs: int, hidden: int, state: bool) -> list[np.ndarray]:
    shapes = [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,), (hidden,), (hidden,)]
    return [array(seed + k, *shape) for k, shape in enumerate(shapes[: 5 if state else 3])]


@st.composite
def moving_graphs(draw) -> Graph:
    """Down by one ratio, up by another and down again, with everything that looks back on the way."""
    seed, down, up, end = (
        draw(SEEDS),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 3)),
    )
    kernel, dilation = draw(st.integers(1, 4)), draw(st.sampled_from([1, 3, 150]))
    start = draw(st.integers(-3, 40))
    gru = gru_arrays(seed, 2, 3, draw(st.booleans()))
    lstm = lstm_arrays(seed, 3, 2, draw(st.booleans()))
    parts = draw(st.integers(1, 7))
    lstm_start = {"start_frames": abs(start)}
    nodes = (
        Gru("y", "x", *gru, **lstm_start),
        Delay("late", "y", draw(st.sampled_from([0, 1, 200])), abs(start)),
        Concat("both", ("late", "x")),
        MaxPool1d("low", "both", kernel, down, dilation, start),
        Upsample("held", "low", up),
        Upsample("lines", "low", up, "linear", start),
        Add("sum", "held", "lines"),
        Conv1d("wide", "sum", array(seed, 6, 5, 2), dilation=draw(st.integers(1, 9))),
        Activate("bent", "wide", Activation("snake", (0.5, 1.0, 2.0, -1.0, 3.0, 0.1))),
        Interleave("high", "bent", 2),
        ConvTranspose1d("higher", "high", array(seed, 3, 1, 5), groups=3, stride=draw(st.integers(1, 3))),
        Lstm("end", "higher", *lstm, **lstm_start),
        AvgPool1d("fewer", "end", draw(st.integers(1, 3)), end),
        Resample(
            "less", "fewer", parts, draw(st.integers(1, 7)), array(seed + 1, parts, draw(st.integers(1, 90)))
        ),
    )
    return Graph(nodes, "x", 2, "less", prewarm_frames=draw(st.sampled_from([0, 77])))


@every_isa
@given(graph=moving_graphs(), data=st.data())
@examples(25)
def test_rates_up_and_down(isa, graph, data):
    assert_runs(graph, isa, data)


@st.composite
def spectra(draw) -> Graph:
    """Layers on a signal with features: one after the other, at changing rates."""
    channels, features, seed = draw(st.integers(1, 3)), draw(st.integers(2, 5)), draw(SEEDS)
    groups = draw(st.sampled_from(divisors(channels)))
    gate = Activation("snake", tuple(float(a) for a in np.linspace(0.5, 2, channels)))
    variance = np.abs(array(seed, channels)) + np.float32(0.1)
    made = [
        Reshape("in", "x", channels, features),
        Affine("scaled", "in", array(seed, channels), array(seed + 1, 1)),
        Activate("bent", "scaled", draw(st.sampled_from([gate, Activation("softmax")]))),
        Delay("late", "bent", draw(st.integers(0, 9)), draw(st.integers(-2, 9))),
        BatchNorm("norm", "late", array(seed + 2, channels), variance, array(seed + 3, channels)),
        MaxPool1d("most", "norm", draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        Upsample("more", "most", draw(st.integers(1, 3)), draw(st.sampled_from(["nearest", "linear"]))),
        Conv2d(
            "conv",
            "more",
            array(seed + 4, channels, channels // groups, draw(st.integers(1, 3)), 2),
            array(seed + 5, channels) if draw(st.booleans()) else None,
            groups,
            draw(st.integers(1, 3)),
            draw(st.integers(1, 2)),
            draw(st.integers(1, 2)),
            draw(st.integers(1, 2)),
            (draw(st.integers(0, 3)), 1),
        ),
        AvgPool1d("mean", "conv", draw(st.integers(1, 3)), draw(st.integers(1, 2))),
    ]
    return Graph(tuple(made), "x", channels * features, "mean", prewarm_frames=draw(st.sampled_from([0, 20])))


@every_isa
@given(graph=spectra(), data=st.data())
@examples(20)
def test_features(isa, graph, data):
    assert_runs(graph, isa, data)


@every_isa
@given(seed=SEEDS, rows=st.integers(1, 5), scale=st.sampled_from([0.5, 3.0]), data=st.data())
@examples(20)
def test_blends_by_gates_of_any_value(isa, seed, rows, scale, data):
    """A blended WaveNet layer's gate may be any activation, so any value; and one row may serve all."""
    gates = data.draw(st.sampled_from([1, rows]))
    nodes = (
        Slice("a", "x", 0, rows),
        Slice("b", "x", rows, rows),
        Slice("t", "x", 2 * rows, gates),
        Affine("gate", "t", np.full(1, scale, np.float32)),
        Crossfade("y", "a", "b", "gate"),
    )
    assert_runs(Graph(nodes, "x", 2 * rows + gates, "y"), isa, data, 1e-6)


@every_isa
def test_a_blend_at_its_ends_hears_one_side_only(isa):
    nodes = (
        Slice("a", "x", 0, 1),
        Slice("b", "x", 1, 1),
        Slice("t", "x", 2, 1),
        Crossfade("y", "a", "b", "t"),
    )
    nan, inf = np.nan, np.inf
    x = np.array([[1, nan, inf, 2, 1], [nan, 2, 3, inf, 2], [0, 1, 1, 0, nan]], np.float32)
    with Engine(Program(Graph(nodes, "x", 3, "y"), isa), 1) as engine:
        np.testing.assert_array_equal(engine.process(x), [[1, 2, 3, 2, nan]])


@every_isa
@given(kernel=st.integers(1, 6), stride=st.integers(1, 3), start=st.integers(-9, 30), seed=SEEDS)
@examples(25)
def test_max_pool_passes_nan_on_as_pytorch_does(isa, kernel, stride, start, seed):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    x = array(seed, 2, 120)
    x[np.random.default_rng(seed).random(x.shape) < 0.1] = np.nan
    heard = np.pad(x, ((0, 0), (kernel - 1, 0)), constant_values=-np.inf if start >= 0 else 0)
    heard[:, : max(0, start + kernel - 1)] = -np.inf
    if start < 0:
        heard[:, : max(0, kernel - 1 + start)] = -np.inf
    expected = torch.nn.functional.max_pool1d(torch.from_numpy(heard)[None], kernel, stride)[0].numpy()
    graph = Graph((MaxPool1d("y", "x", kernel, stride, 1, start),), "x", 2, "y")
    with Engine(Program(graph, isa), 1) as engine:
        np.testing.assert_array_equal(engine.process(x), np.where(np.isneginf(expected), 0, expected))


# Knobs


def turned(default: float, turns: list[tuple[int, float]], frames: int, ramp: int) -> np.ndarray:
    """Values of a knob that leaves for another at each turn, on a straight line of `ramp` frames."""
    values = np.full(frames, default, np.float64)
    for at, to in turns:
        line = np.clip(np.arange(frames - at) / ramp, 0, 1) if ramp else np.ones(frames - at)
        values[at:] = values[at] + (to - values[at]) * line
    return values


@st.composite
def knob_graphs(draw) -> tuple[Graph, int]:
    """A knob read at its own rate, a lower and a higher one; and its ramp in frames."""
    down, up, seed, ramp = (
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        draw(SEEDS),
        draw(st.integers(0, 60)),
    )
    nodes = (
        Multiply("gained", "x", "k"),
        MaxPool1d("low", "gained", 1, down),
        Conv1d("k low", "k", array(seed, 1, 1, 3), stride=down),
        Multiply("b", "low", "k low"),
        Upsample("high", "b", up, draw(st.sampled_from(["nearest", "linear"]))),
        Upsample("k high", "k low", up),
        Multiply("c", "high", "k high"),
        Crossfade("d", "c", "high", "k high"),
        Concat("e", ("d", "k high")),
        Gru("y", "e", *gru_arrays(seed + 1, 3, 4, True)),
    )
    knob = Knob("k", draw(st.sampled_from([0.0, 0.75])), -2.0, 2.0, ramp_ms=float(ramp))
    prewarm = draw(st.sampled_from([0, 7, 200]))
    return Graph(nodes, "x", 2, "y", knobs=(knob,), sample_rate_hz=1000.0, prewarm_frames=prewarm), ramp


@every_isa
@given(drawn=knob_graphs(), data=st.data())
@examples(30)
def test_knobs_at_other_rates(isa, drawn, data):
    graph, ramp = drawn
    frames, streams = 300, data.draw(st.integers(1, 3))
    x = array(data.draw(SEEDS), 2 * streams, frames)
    places = sorted(data.draw(st.sets(st.integers(0, frames - 1), max_size=4)))
    turns = [(at, data.draw(st.floats(-2, 2, width=16))) for at in places]
    default = graph.knobs[0].default
    if places and places[0] == 0:  # before the first frame it jumps
        default = turns[0][1]
    values = turned(default, turns, frames, ramp)
    results = []
    with Engine(Program(graph, isa), streams, data.draw(st.integers(1, 128))) as engine:
        for _ in range(2):
            parts = []
            for begin, end in pairwise([0, *places, frames]):
                for at, to in turns:
                    if at == begin:
                        engine.set("k", to, at_frame=begin)
                parts.append(in_pieces(engine, x[:, begin:end], data.draw(cuts(end - begin, 90))))
            results.append(np.concatenate(parts, axis=1))
            engine.reset()
    np.testing.assert_array_equal(*results)
    own = results[0].reshape(streams, 4, -1)
    for stream, alone in enumerate(x.reshape(streams, 2, frames)):
        np.testing.assert_allclose(own[stream], reference.run(graph, alone, {"k": values}), atol=2e-5)


@every_isa
def test_a_knob_may_go_from_end_to_end_of_all_floats(isa):
    most = float(np.finfo(np.float32).max)
    graph = Graph((Multiply("y", "x", "k"),), "x", 1, "y", (Knob("k", -most, -most, most, 4.0),), 1000.0)
    with Engine(Program(graph, isa), 1) as engine:
        engine.process(np.ones((1, 1), np.float32))
        engine.set("k", most)
        found = engine.process(np.ones((1, 5), np.float32))[0]
    np.testing.assert_allclose(found, np.linspace(-most, most, 5), rtol=1e-6, atol=most * 1e-7)


# What the program states


@given(graph=st.one_of(graphs(), spectra()), seed=SEEDS, changed=st.integers(1, 150))
@examples(80)
def test_no_frame_depends_on_more_than_the_receptive_field(graph, seed, changed):
    """Frames before `changed` are others; whatever is a receptive field later is the same to the last bit."""
    program = Program(graph)
    assert program.latency_frames == graph.latency_frames
    field = program.receptive_field_frames
    assume(field is not None and field < 2000)
    frames = changed + field + 60
    x = array(seed, graph.input_channels, frames)
    other = x.copy()
    other[:, :changed] = array(seed + 1, graph.input_channels, changed)
    results = []
    for signal in (x, other):
        with Engine(program, 1) as engine:
            results.append(engine.process(signal))
    rate = graph.signals[graph.output].rate
    newest = [floor(n / rate) for n in range(results[0].shape[1])]
    same = np.array(newest) - (field - 1) >= changed
    assert np.any(same)
    np.testing.assert_array_equal(results[0][:, same], results[1][:, same])


CHANGES_OF_RATE = {
    "held": ((Conv1d("low", "x", np.ones((1, 1, 4), np.float32), stride=4), Upsample("y", "low", 4)), 7),
    "lines": ((Upsample("y", "x", 4, "linear"),), 2),
    "transposed": ((ConvTranspose1d("y", "x", np.ones((1, 1, 8), np.float32), stride=4),), 2),
    "there and back": (
        (
            Conv1d("low", "x", np.ones((1, 1, 4), np.float32), stride=4),
            ConvTranspose1d("y", "low", np.ones((1, 1, 8), np.float32), stride=4),
        ),
        11,
    ),
    "phases": ((Conv1d("wide", "x", np.ones((3, 1, 2), np.float32)), Interleave("y", "wide", 3)), 2),
    "three for two": ((Resample("y", "x", 3, 2, np.ones((3, 4), np.float32)),), 4),
    "two for three": ((Resample("y", "x", 2, 3, np.ones((2, 4), np.float32)),), 4),
    "to a fraction and back": (
        (
            Resample("fast", "x", 3, 2, np.ones((3, 4), np.float32)),
            Resample("y", "fast", 2, 3, np.ones((2, 4), np.float32)),
        ),
        7,
    ),
}


@pytest.mark.parametrize("name", CHANGES_OF_RATE)
def test_receptive_field_of_changes_of_rate_is_exact(name):
    """One frame is heard until so many have been read since, itself included, and no longer."""
    nodes, expected = CHANGES_OF_RATE[name]
    graph = Graph(nodes, "x", 1, "y")
    program = Program(graph)
    rate, heard = graph.signals["y"].rate, 0
    for late in range(100, 112):
        pulse = np.zeros((1, 200), np.float32)
        pulse[0, late] = 1
        with Engine(program, 1) as engine:
            last = np.flatnonzero(engine.process(pulse)[0]).max()
        heard = max(heard, floor(last / rate) - late + 1)
    assert program.receptive_field_frames == heard == expected


@pytest.mark.parametrize(
    ("kernels", "dilations", "strides"), [((3, 5), (1, 7), (1, 1)), ((2, 4), (3, 2), (3, 2))]
)
def test_receptive_field_of_convolutions_is_exact(kernels, dilations, strides):
    nodes, name, expected, hop = [], "x", 1, Fraction(1)
    for kernel, dilation, stride in zip(kernels, dilations, strides, strict=True):
        nodes.append(Conv1d(f"{name}'", name, np.ones((1, 1, kernel), np.float32), None, 1, dilation, stride))
        expected += (kernel - 1) * dilation * hop
        name, hop = f"{name}'", hop * stride
    program = Program(Graph(tuple(nodes), "x", 1, name))
    assert program.receptive_field_frames == expected
    # One frame is heard as long as that, and no longer.
    frames = int(4 * expected)
    heard = 0
    for late in range(int(hop)):
        with Engine(program, 1) as engine:
            pulse = np.zeros((1, frames), np.float32)
            pulse[0, late] = 1
            answer = np.flatnonzero(engine.process(pulse)[0]) * int(hop) - late
        heard = max(heard, int(answer.max(initial=0)) + 1)
    assert heard == expected
