"""Ops that move frames in time and recurrent ones, on every instruction set.

Held against PyTorch in float64; and cut into random blocks, which must change no bit.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from graphs import SEEDS, array, examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from backline import engine, native
from backline.activations import Activation
from backline.compile import Tape, compile_graph
from backline.engine import Engine, Program
from backline.errors import ModelError
from backline.graph import Graph
from backline.layers import (
    Activate,
    Delay,
    Gru,
    Interleave,
    Lstm,
    MaxPool1d,
    Node,
    Resample,
    Upsample,
)

ISAS = native.available_isas()


@pytest.fixture(params=ISAS)
def isa(request):
    return request.param


def run(isa: str, nodes: Node | tuple[Node, ...], x: np.ndarray, sizes=(), **options) -> np.ndarray:
    """Output [rows][frames] of the last node for `x` [rows][frames], in blocks of `sizes`, then the rest."""
    nodes = nodes if isinstance(nodes, tuple) else (nodes,)
    graph = Graph(nodes, "x", len(x), nodes[-1].output, **options)
    edges = np.cumsum([0, *sizes])
    edges = [*edges[edges < x.shape[1]], x.shape[1]]
    with Engine(Program(graph, isa), 1) as made:
        parts = [made.process(np.ascontiguousarray(x[:, a:b])) for a, b in pairwise(edges)]
    return np.concatenate(parts, axis=1)


# Recurrent ops


def gru_node(seed: int, inputs: int, hidden: int, state: bool, start_frames: int = 0) -> Gru:
    return Gru(
        "y",
        "x",
        array(seed, 3 * hidden, inputs),
        array(seed + 1, 3 * hidden, hidden, scale=1 / np.sqrt(hidden)),
        array(seed + 2, 3 * hidden),
        array(seed + 3, 3 * hidden),
        array(seed + 4, hidden) if state else None,
        start_frames=start_frames,
    )


@pytest.mark.parametrize("name", ISAS)
@given(
    seed=SEEDS,
    inputs=st.integers(1, 9),
    hidden=st.integers(1, 40),
    state=st.booleans(),
    frames=st.integers(1, 300),
)
@examples(25)
def test_gru_agrees_with_pytorch(name, seed, inputs, hidden, state, frames):
    torch = pytest.importorskip("torch")
    node = gru_node(seed, inputs, hidden, state)
    module = torch.nn.GRU(inputs, hidden, dtype=torch.float64)
    with torch.no_grad():
        for part, values in zip(("ih", "hh"), ("weight_ih", "weight_hh"), strict=True):
            getattr(module, f"weight_{part}_l0").copy_(torch.from_numpy(getattr(node, values)))
            getattr(module, f"bias_{part}_l0").copy_(torch.from_numpy(getattr(node, f"bias_{part}")))
        x = array(seed + 9, inputs, frames)
        first = np.zeros(hidden) if node.h0 is None else node.h0.astype(np.float64)
        expected = module(torch.from_numpy(x.T.astype(np.float64)), torch.from_numpy(first[None]))[0]
    np.testing.assert_allclose(run(name, node, x), expected.numpy().T, rtol=0, atol=2e-6)


def lstm_node(seed: int, inputs: int, hidden: int, state: bool, start_frames: int = 0) -> Lstm:
    states = [array(seed + k, hidden) for k in (3, 4)] if state else [None, None]
    weights = (array(seed, 4 * hidden, inputs), array(seed + 1, 4 * hidden, hidden))
    return Lstm("y", "x", *weights, array(seed + 2, 4 * hidden), *states, start_frames=start_frames)


@pytest.mark.parametrize("make", [gru_node, lstm_node])
@pytest.mark.parametrize("state", [False, True])
def test_a_late_start_is_an_early_start_later(isa, make, state):
    """And before it the output is the first state, whatever the input was."""
    x = array(3, 2, 400)
    late = run(isa, make(1, 2, 5, state, 150), x, (7, 130, 13, 1, 100))
    node = make(1, 2, 5, state)
    first = np.zeros(5, np.float32) if node.h0 is None else node.h0
    assert np.array_equal(late[:, :150], np.repeat(first[:, None], 150, axis=1))
    assert np.array_equal(late[:, 150:], run(isa, node, x[:, 150:]))


@pytest.mark.parametrize("make", [gru_node, lstm_node])
@pytest.mark.parametrize("start", [20, 0, -30, -100, -1000])
def test_frames_of_the_prewarm_are_before_frame_0(isa, make, start):
    x = array(3, 2, 60)
    late = run(isa, make(1, 2, 5, True, start), x, prewarm_frames=100)
    held = max(start, 0)
    assert np.array_equal(late[:, :held], np.repeat(make(1, 2, 5, True).h0[:, None], held, axis=1))
    silent = min(max(-start, 0), 100)
    heard = np.concatenate([np.zeros((2, silent), np.float32), x[:, held:]], axis=1)
    assert np.array_equal(late[:, held:], run(isa, make(1, 2, 5, True), heard)[:, silent:])


# Frames that move in time


@pytest.mark.parametrize("name", ISAS)
@given(
    seed=SEEDS,
    kernel=st.integers(1, 9),
    dilation=st.sampled_from([1, 2, 7, 64]),
    stride=st.integers(1, 5),
    start=st.sampled_from([None, 0, 3, 200]),
    frames=st.integers(1, 400),
)
@examples(30)
def test_max_pool_agrees_with_pytorch(name, seed, kernel, dilation, stride, start, frames):
    """No start: zeros before the first frame count, as many as the kernel reaches."""
    torch = pytest.importorskip("torch")
    x = array(seed, 3, frames)
    reach = (kernel - 1) * dilation
    padded = torch.nn.functional.pad(torch.from_numpy(x), (reach, 0), value=-np.inf)
    if start is None:
        padded[:, :reach] = 0
    else:
        padded[:, : reach + start] = -np.inf
    expected = torch.nn.functional.max_pool1d(padded[None], kernel, stride, dilation=dilation)[0].numpy()
    expected = np.where(np.isneginf(expected), 0, expected)
    node = MaxPool1d("y", "x", kernel, stride, dilation, -reach if start is None else start)
    assert np.array_equal(run(name, node, x), expected)


@pytest.mark.parametrize("name", ISAS)
@given(seed=SEEDS, factor=st.integers(1, 8), frames=st.integers(1, 300))
@examples(25)
def test_upsampling_agrees_with_pytorch(name, seed, factor, frames):
    torch = pytest.importorskip("torch")
    x = array(seed, 2, frames)
    batch = torch.from_numpy(x.astype(np.float64))[None]
    resize = torch.nn.functional.interpolate
    held = resize(batch, scale_factor=factor, mode="nearest")[0].numpy()
    lines = resize(batch, scale_factor=factor, mode="linear", align_corners=False)[0].numpy()
    late = factor // 2
    assert np.array_equal(run(name, Upsample("y", "x", factor), x), held)
    found = run(name, Upsample("y", "x", factor, "linear", 0), x)
    assert found.shape == lines.shape
    np.testing.assert_allclose(found[:, late:], lines[:, : lines.shape[1] - late], rtol=0, atol=5e-7)
    assert np.array_equal(found[:, :late], np.repeat(x[:, :1], late, axis=1))


def test_interpolation_may_start_later(isa):
    """Frames before the start are as if they had been that one, and are not heard."""
    x = array(2, 2, 90)
    held = x.copy()
    held[:, :17] = x[:, 17:18]
    expected = run(isa, Upsample("y", "x", 3, "linear", 0), held)
    expected[:, : 17 * 3] = 0
    assert np.array_equal(run(isa, Upsample("y", "x", 3, "linear", 17), x, (5, 12, 1, 40)), expected)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_interleaving_is_a_pixel_shuffle(isa, factor):
    x = array(1, 4 * factor, 333)
    expected = x.reshape(4, factor, 333).transpose(0, 2, 1).reshape(4, -1)
    assert np.array_equal(run(isa, Interleave("y", "x", factor), x, (1, 2, 200)), expected)


def phases(h: np.ndarray, up: int) -> np.ndarray:
    """A filter at `up` times the rate as the taps of its phases."""
    kernel = -(-len(h) // up)
    return np.ascontiguousarray(np.pad(h, (0, kernel * up - len(h))).reshape(kernel, up)[::-1].T)


@pytest.mark.parametrize("name", ISAS)
@given(
    seed=SEEDS,
    up=st.integers(1, 12),
    down=st.integers(1, 12),
    taps=st.integers(1, 600),
    rows=st.integers(1, 3),
    sizes=st.lists(st.integers(0, 300), max_size=5),
)
@examples(40)
def test_resampling_agrees_with_scipy(name, seed, up, down, taps, rows, sizes):
    h, x = array(seed, taps, scale=up / np.sqrt(taps)), array(seed + 1, rows, 500)
    expected = signal.upfirdn(h.astype(np.float64), x.astype(np.float64), up, down, axis=1)
    found = run(name, Resample("y", "x", up, down, phases(h, up)), x, sizes)
    assert found.shape == (rows, -(-500 * up // down))
    expected = np.pad(expected, ((0, 0), (0, 600)))[:, : found.shape[1]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, float(np.max(np.abs(h)))))


@pytest.mark.parametrize(
    ("up", "down", "kernel"), [(160, 147, 80), (147, 160, 17), (640, 147, 1), (3, 4096, 4096)]
)
def test_resampling_hears_the_newest_frame_and_not_what_follows(isa, up, down, kernel):
    """In memory, what follows may be anything; and no bit depends on where a block ends."""
    x = array(1, 2, 9000)
    node = Resample("y", "x", up, down, array(2, up, kernel))
    whole = run(isa, node, x)
    assert np.array_equal(run(isa, node, x, (1, 64, 63, 128, 500, 2, 3000)), whole)
    x[:, 5000:] = np.nan
    spoilt = run(isa, node, x)
    heard = -(-5000 * up // down)
    assert np.array_equal(spoilt[:, :heard], whole[:, :heard])
    assert np.isnan(spoilt[:, heard:]).all()


@pytest.mark.parametrize(("delay", "start"), [(0, 0), (0, 130), (1, 0), (300, 0), (300, 301), (5, 1)])
def test_delays(isa, delay, start):
    x = array(1, 3, 500)
    expected = np.concatenate([np.zeros((3, delay), np.float32), x], axis=1)[:, :500]
    expected[:, :start] = 0
    assert np.array_equal(run(isa, Delay("y", "x", delay, start), x), expected)


# What C refuses, whoever compiled it


def refusal(monkeypatch: pytest.MonkeyPatch, node: Node, spoil: Callable[[Tape], None], rows: int = 2) -> str:
    """What the engine says about the tape of one layer once `spoil` has been at it."""

    def spoilt(graph: Graph) -> Tape:
        tape = compile_graph(graph)
        spoil(tape)
        return tape

    monkeypatch.setattr(engine, "compile_graph", spoilt)
    with pytest.raises(ModelError) as caught:
        Program(Graph((node,), "x", rows, "y"))
    return str(caught.value)


def setting(**fields) -> Callable[[Tape], None]:
    def spoil(tape: Tape) -> None:
        for name, value in fields.items():
            setattr(tape.ops[0], name, value)

    return spoil


def forget(tape: Tape) -> None:
    tape.buffers[0].lookback_frames -= 1


THIRDS = Resample("y", "x", 2, 3, array(1, 2, 5))

REFUSED = [
    (Upsample("y", "x", 2), setting(start_frames=-1), "start of an op that has none"),
    (Upsample("y", "x", 2), setting(delay_frames=1), "delay of an op that has none"),
    (Delay("y", "x", 2), setting(factor=1), "factor of an op that has none"),
    (Delay("y", "x", 2), setting(kernel=1), "kernel of an op that has none"),
    (Delay("y", "x", 2), setting(start_frames=2**30), "start"),
    (Delay("y", "x", 2), setting(delay_frames=3), "looked back"),
    (Delay("y", "x", 2), setting(delay_frames=-1), "delay"),
    (MaxPool1d("y", "x", 3, 2), setting(kernel=0), "kernel of a pool"),
    (MaxPool1d("y", "x", 3, 2), setting(stride=3), "rate of an output"),
    (MaxPool1d("y", "x", 3, 2), setting(start_frames=-(2**30)), "start"),
    (MaxPool1d("y", "x", 3, 2), forget, "looked back"),
    (Upsample("y", "x", 2), setting(factor=0), "factor"),
    (Upsample("y", "x", 2), setting(factor=3), "rate of an output"),
    (Upsample("y", "x", 2, "linear"), forget, "looked back"),
    (Interleave("y", "x", 2), setting(factor=1), "rows of the input"),
    (THIRDS, setting(kernel=0), "taps of a resampler"),
    (THIRDS, setting(kernel=4097), "taps of a resampler"),
    (THIRDS, setting(kernel=4), "numbers in an array"),
    (THIRDS, setting(factor=0), "factor"),
    (THIRDS, setting(factor=1), "rate of an output"),
    (THIRDS, setting(stride=4097), "stride"),
    (THIRDS, setting(stride=4), "rate of an output"),
    (THIRDS, setting(dilation=1), "dilation of an op that has none"),
    (THIRDS, forget, "looked back"),
    (gru_node(1, 2, 3, True), setting(start_frames=2**30), "start"),
]


@pytest.mark.parametrize(("node", "spoil", "said"), REFUSED)
def test_a_tape_that_lies_is_refused(monkeypatch, node, spoil, said):
    assert said in refusal(monkeypatch, node, spoil)


@pytest.mark.parametrize(("kind", "value"), [("softplus", 0.0), ("softplus", -1.0), ("snake", 0.0)])
def test_parameters_that_would_be_divided_by(monkeypatch, kind, value):
    def spoil(tape: Tape) -> None:
        tape.ops[0].arrays[3] = np.array([value], np.float32)

    said = refusal(monkeypatch, Activate("y", "x", Activation(kind, (1.0,))), spoil)
    assert f"of a {kind} that is" in said


@pytest.mark.parametrize("rate", [Fraction(257), Fraction(513, 2)])
def test_rates_are_bounded(monkeypatch, rate):
    def spoil(tape: Tape) -> None:
        tape.rates[1] = rate

    assert "frames of a rate" in refusal(monkeypatch, Upsample("y", "x", 2), spoil)


def test_the_highest_rate_runs(isa):
    x = array(1, 1, 700)
    assert np.array_equal(run(isa, Upsample("y", "x", 256), x, (1, 300)), np.repeat(x, 256, axis=1))
