"""LSTM and GRU layers behind each other and streams beside each other: each has the bits it has alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from graphs import array

from backline import native, reference
from backline.activations import Activation
from backline.engine import Engine, Model
from backline.graph import Graph
from backline.layers import Activate, Gru, Lstm, Node

ISAS = native.available_isas()
FRAMES = 150
#: Units of each layer: cells, pairs of vectors and wider ones on every instruction set, more layers than run
#: at once, layers that do not go together.
STACKS = [(1,), (3, 1), (8, 8), (4, 7, 8), (1, 1, 1, 1, 1, 1), (16, 16), (8, 16, 8), (5, 24, 3, 2), (33,)]


@pytest.fixture(params=ISAS)
def isa(request):
    return request.param


@pytest.fixture(params=["lstm", "gru"])
def kind(request):
    return request.param


def layer(kind: str, output: str, source: str, shape: tuple[int, int], seed: int, start_frames: int) -> Node:
    """One layer with a first state of its own."""
    inputs, hidden = shape
    gates = 4 if kind == "lstm" else 3
    draw = partial(array, scale=1 / np.sqrt(hidden))
    ih, hh = draw(seed, gates * hidden, inputs), draw(seed + 1, gates * hidden, hidden)
    bias, other, h0, c0 = (
        draw(seed + k, size)
        for k, size in ((2, gates * hidden), (3, gates * hidden), (4, hidden), (5, hidden))
    )
    if kind == "lstm":
        return Lstm(output, source, ih, hh, bias, h0, c0, start_frames=start_frames)
    return Gru(output, source, ih, hh, bias, other, h0, start_frames=start_frames)


def stack(kind: str, units: tuple[int, ...], apart: bool = False, starts: tuple[int, ...] = ()) -> Graph:
    """Layers of so many units over two inputs; `apart` has a layer that changes nothing between them."""
    nodes: list[Node] = []
    source, inputs = "x", 2
    for index, hidden in enumerate(units):
        start = starts[index] if starts else 0
        nodes.append(layer(kind, f"layer {index}", source, (inputs, hidden), 100 * index + hidden, start))
        source, inputs = f"layer {index}", hidden
        if apart:
            nodes.append(Activate(f"same {index}", source, Activation("leaky_relu", (1.0,))))
            source = f"same {index}"
    return Graph(tuple(nodes), "x", 2, source)


def signal(channels: int = 2) -> np.ndarray:
    return array(9, channels, FRAMES, scale=1.5)


def in_blocks(model: Model, x: np.ndarray, streams: int, sizes: list[int]) -> np.ndarray:
    """What an engine makes of `x` in blocks of these sizes, over and over."""
    with Engine(model.program, streams) as engine:
        parts, begin, index = [], 0, 0
        while begin < x.shape[1]:
            end = begin + sizes[index % len(sizes)]
            parts.append(engine.process(np.ascontiguousarray(x[:, begin:end])))
            begin, index = end, index + 1
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("units", STACKS, ids=str)
def test_stack_agrees_with_the_reference(isa, kind, units):
    graph = stack(kind, units)
    found = in_blocks(Model(graph, isa), signal(), 1, [FRAMES])
    np.testing.assert_allclose(found, reference.run(graph, signal()), rtol=0, atol=2e-6)


@pytest.mark.parametrize("units", STACKS, ids=str)
def test_stack_is_bit_for_bit_its_layers_one_by_one(isa, kind, units):
    together, apart = Model(stack(kind, units), isa), Model(stack(kind, units, apart=True), isa)
    whole = in_blocks(together, signal(), 1, [FRAMES])
    assert np.array_equal(whole, in_blocks(apart, signal(), 1, [FRAMES]))
    for sizes in ([1], [2, 1, 3], [16], [17, 5], [64]):
        assert np.array_equal(whole, in_blocks(together, signal(), 1, sizes)), sizes


#: With as many units as inputs a layer may write where the one before it reads.
LATER = [
    *[((4, 6), starts) for starts in ((5, 5), (0, 20), (40, 3))],
    *[((2, 2), starts) for starts in ((0, 50), (50, 0), (30, 30))],
    ((1, 1), (0, 50)),
    ((2, 2, 1), (50, 0, 70)),
]


@pytest.mark.parametrize(("units", "starts"), LATER, ids=str)
def test_layers_that_begin_later(isa, kind, units, starts):
    together = Model(stack(kind, units, starts=starts), isa)
    apart = Model(stack(kind, units, apart=True, starts=starts), isa)
    whole = in_blocks(together, signal(), 1, [FRAMES])
    assert np.array_equal(whole, in_blocks(apart, signal(), 1, [FRAMES]))
    assert np.array_equal(whole, in_blocks(together, signal(), 1, [7]))
    expected = reference.run(stack(kind, units, starts=starts), signal())
    np.testing.assert_allclose(whole, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("units", [(8,), (7, 3), (2, 2, 2), (16,), (24, 8)], ids=str)
@pytest.mark.parametrize("streams", [2, 3, 4, 5, 9])
def test_streams_do_not_depend_on_their_neighbours(isa, kind, units, streams):
    model = Model(stack(kind, units), isa)
    x = signal(2 * streams)
    x[2:4] *= 1e30  # one that saturates every gate
    found = in_blocks(model, x, streams, [64, 13])
    alone = [in_blocks(model, x[2 * s : 2 * s + 2], 1, [FRAMES]) for s in range(streams)]
    assert np.array_equal(found, np.concatenate(alone))


def test_nan_stays_in_its_stream(isa, kind):
    model = Model(stack(kind, (6, 6)), isa)
    x = signal(6)
    clean = in_blocks(model, x, 3, [FRAMES])
    x[2, 10] = np.nan
    found = in_blocks(model, x, 3, [FRAMES])
    assert np.array_equal(found[:6], clean[:6])
    assert np.array_equal(found[12:], clean[12:])
    assert np.all(np.isnan(found[6:12, 10:]))


@pytest.mark.parametrize("hidden", [5, 8, 12, 20, 33])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_input_is_over_when_it_is_over(isa, kind, hidden, value):
    graph = stack(kind, (hidden,))
    x = signal()
    x[0, 10] = value
    found = in_blocks(Model(graph, isa), x, 1, [FRAMES])
    np.testing.assert_allclose(found, reference.run(graph, x), rtol=0, atol=2e-6)
