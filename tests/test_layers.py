"""Each layer that changes rates, moves rows or remembers: drawn shapes against PyTorch, and the engine on
every instruction set against the reference, in drawn blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from graphs import SEEDS, array, cuts, divisors, examples, in_blocks
from hypothesis import given
from hypothesis import strategies as st

from backline import native, reference
from backline.engine import Model
from backline.graph import Graph
from backline.layers import (
    AvgPool1d,
    BatchNorm,
    Concat,
    Conv2d,
    ConvTranspose1d,
    Delay,
    Gru,
    Interleave,
    Lstm,
    MaxPool1d,
    Node,
    Resample,
    Reshape,
    Slice,
    Upsample,
)

ISAS = native.available_isas()
FRAMES = 150


@dataclass
class Drawn:
    """A layer in a graph of its own, and what PyTorch makes of its input in float64."""

    nodes: tuple[Node, ...]
    rows: int
    seed: int
    expected: Callable
    late: int = 0  # frames by which the layer's first answer comes after PyTorch's

    @property
    def graph(self) -> Graph:
        return Graph(self.nodes, "x", self.rows, self.nodes[-1].output)

    @property
    def x(self) -> np.ndarray:
        return array(self.seed, self.rows, FRAMES)


def torch_of(values: np.ndarray | None):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    return None if values is None else torch.tensor(np.asarray(values, np.float64))


def functional():
    return pytest.importorskip("torch", reason="compares with PyTorch, which is not installed").nn.functional


@st.composite
def conv_transpose1d(draw) -> Drawn:
    inputs = draw(st.integers(1, 8))
    groups = draw(st.sampled_from(divisors(inputs)))
    per_group, kernel = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    stride, dilation, seed = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(SEEDS)
    weight = array(seed, inputs, per_group, kernel)
    bias = array(seed + 1, per_group * groups) if draw(st.booleans()) else None
    node = ConvTranspose1d("y", "x", weight, bias, groups, dilation, stride)

    def expected(x):
        y = functional().conv_transpose1d(
            torch_of(x)[None],
            torch_of(weight),
            torch_of(bias),
            stride=stride,
            groups=groups,
            dilation=dilation,
        )
        return y[0].numpy()

    return Drawn((node,), inputs, seed + 2, expected)


@st.composite
def conv2d(draw) -> Drawn:
    channels, features = draw(st.integers(1, 4)), draw(st.integers(3, 9))
    groups = draw(st.sampled_from(divisors(channels)))
    out, seed = groups * draw(st.integers(1, 3)), draw(SEEDS)
    taps, dilation, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel = draw(st.integers(1, 3))
    spread = draw(st.integers(1, 2 if features > 4 else 1))
    feature_stride, pads = draw(st.integers(1, 3)), (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    weight = array(seed, out, channels // groups, taps, kernel)
    bias = array(seed + 1, out) if draw(st.booleans()) else None
    node = Conv2d("y", "shaped", weight, bias, groups, dilation, stride, feature_stride, spread, pads)
    reshape = Reshape("shaped", "x", channels, features)

    def expected(x):
        spectrum = torch_of(x.reshape(features, channels, -1).transpose(1, 2, 0))[None]
        padded = functional().pad(spectrum, (*pads, (taps - 1) * dilation, 0))
        y = functional().conv2d(
            padded,
            torch_of(weight),
            torch_of(bias),
            stride=(stride, feature_stride),
            dilation=(dilation, spread),
            groups=groups,
        )
        return y[0].numpy().transpose(2, 0, 1).reshape(-1, y.shape[2])

    return Drawn((reshape, node), channels * features, seed + 2, expected)


@st.composite
def batch_norm2d(draw) -> Drawn:
    channels, features, seed = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(SEEDS)
    mean, gamma, beta = (array(seed + k, channels) for k in range(3))
    variance = np.abs(array(seed + 3, channels)) + np.float32(0.1)
    nodes = (
        Reshape("shaped", "x", channels, features),
        BatchNorm("y", "shaped", mean, variance, gamma, beta, 1e-3),
    )

    def expected(x):
        spectrum = torch_of(x.reshape(features, channels, -1).transpose(1, 2, 0))[None]
        arrays = [torch_of(values) for values in (mean, variance, gamma, beta)]
        y = functional().batch_norm(spectrum, *arrays, eps=1e-3)
        return y[0].numpy().transpose(2, 0, 1).reshape(-1, y.shape[2])

    return Drawn(nodes, channels * features, seed + 4, expected)


def stacked(draw, gates: int, layer: Callable, name: str) -> Drawn:
    """One to three recurrent layers after each other."""
    inputs, hidden, count, seed = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 20)),
        draw(st.integers(1, 3)),
        draw(SEEDS),
    )
    nodes: list[Node] = []
    weights: dict[str, np.ndarray] = {}
    for k in range(count):
        width = inputs if k == 0 else hidden
        shapes = {"weight_ih": (width,), "weight_hh": (hidden,), "bias_ih": (), "bias_hh": ()}
        arrays = {
            key: array(seed + 10 * k + i, gates * hidden, *shape, scale=0.4)
            for i, (key, shape) in enumerate(shapes.items())
        }
        weights |= {f"{key}_l{k}": values for key, values in arrays.items()}
        nodes.append(layer(f"layer {k}", "x" if k == 0 else f"layer {k - 1}", arrays))

    def expected(x):
        torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
        module = getattr(torch.nn, name)(inputs, hidden, count).double()
        module.load_state_dict({key: torch_of(values) for key, values in weights.items()})
        return module(torch_of(x.T))[0].detach().numpy().T

    return Drawn(tuple(nodes), inputs, seed + 99, expected)


@st.composite
def gru(draw) -> Drawn:
    return stacked(draw, 3, lambda output, source, arrays: Gru(output, source, **arrays), "GRU")


@st.composite
def lstm(draw) -> Drawn:
    def layer(output, source, arrays):
        bias = (arrays["bias_ih"].astype(np.float64) + arrays["bias_hh"]).astype(np.float32)
        arrays["bias_ih"][:], arrays["bias_hh"][:] = bias, 0  # so that PyTorch adds up to the same
        return Lstm(output, source, arrays["weight_ih"], arrays["weight_hh"], bias)

    return stacked(draw, 4, layer, "LSTM")


@st.composite
def max_pool1d(draw) -> Drawn:
    rows, kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 7)), draw(st.integers(1, 5))
    dilation, zeros, seed = draw(st.integers(1, 4)), draw(st.booleans()), draw(SEEDS)
    start = {} if zeros else {"start_frames": 0}

    def expected(x):
        reach = (kernel - 1) * dilation
        padded = functional().pad(torch_of(x)[None], (reach, 0), value=0.0 if zeros else -np.inf)
        return functional().max_pool1d(padded, kernel, stride, dilation=dilation)[0].numpy()

    return Drawn((MaxPool1d("y", "x", kernel, stride, dilation, **start),), rows, seed, expected)


@st.composite
def avg_pool1d(draw) -> Drawn:
    rows, kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 5))

    def expected(x):
        padded = functional().pad(torch_of(x)[None], (kernel - 1, 0))
        return functional().avg_pool1d(padded, kernel, stride)[0].numpy()

    return Drawn((AvgPool1d("y", "x", kernel, stride),), rows, draw(SEEDS), expected)


@st.composite
def upsample(draw) -> Drawn:
    rows, factor, mode = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 7)),
        draw(st.sampled_from(["nearest", "linear"])),
    )
    begin = {"start_frames": 0} if mode == "linear" else {}

    def expected(x):
        return functional().interpolate(torch_of(x)[None], scale_factor=factor, mode=mode)[0].numpy()

    late = factor // 2 if mode == "linear" else 0
    return Drawn((Upsample("y", "x", factor, mode, **begin),), rows, draw(SEEDS), expected, late)


@st.composite
def resample(draw) -> Drawn:
    """A filter over zero-stuffed frames, of whose output some are kept."""
    rows, up, down = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    kernel, seed = draw(st.integers(1, 40)), draw(SEEDS)
    h = array(seed + 5, kernel * up, scale=1 / np.sqrt(kernel))

    def expected(x):
        stuffed = np.zeros((rows, 1, x.shape[1] * up))
        stuffed[:, 0, ::up] = x
        padded = functional().pad(torch_of(stuffed), (kernel * up - 1, 0))
        newest_last = torch_of(np.ascontiguousarray(h[::-1]))[None, None]
        return functional().conv1d(padded, newest_last)[:, 0, ::down].numpy()

    taps = np.ascontiguousarray(h.reshape(kernel, up)[::-1].T)
    return Drawn((Resample("y", "x", up, down, taps),), rows, seed, expected)


@st.composite
def pixel_shuffle(draw) -> Drawn:
    rows, factor = draw(st.integers(1, 4)), draw(st.integers(1, 5))

    def expected(x):
        return x.reshape(rows, factor, -1).transpose(0, 2, 1).reshape(rows, -1)

    return Drawn((Interleave("y", "x", factor),), rows * factor, draw(SEEDS), expected)


@st.composite
def down_and_up(draw) -> Drawn:
    """A rate below 1 on the way: what is held comes from earlier chunks."""
    rows, factor, seed = draw(st.integers(1, 3)), draw(st.integers(2, 7)), draw(SEEDS)
    nodes = (MaxPool1d("low", "x", 1, factor), Upsample("y", "low", factor))
    return Drawn(nodes, rows, seed, lambda x: np.repeat(x[:, ::factor], factor, axis=1))


@st.composite
def concat_and_delay(draw) -> Drawn:
    rows, seed, frames, start = (
        draw(st.integers(2, 6)),
        draw(SEEDS),
        draw(st.integers(0, 90)),
        draw(st.integers(0, 40)),
    )
    at = draw(st.integers(1, rows - 1))
    nodes = (
        Slice("top", "x", 0, at),
        Slice("bottom", "x", at, rows - at),
        Delay("late", "top", frames, start),
        Concat("y", ("bottom", "late", "top", "late")),
    )

    def expected(x):
        late = np.pad(x[:at], ((0, 0), (frames, 0)))[:, : x.shape[1]]
        late[:, :start] = 0
        return np.concatenate([x[at:], late, x[:at], late])

    return Drawn(nodes, rows, seed, expected)


LAYERS = [conv_transpose1d, conv2d, batch_norm2d, gru, lstm, max_pool1d, avg_pool1d, upsample]
LAYERS += [resample, pixel_shuffle, down_and_up, concat_and_delay]
by_layer = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)


@by_layer
@given(data=st.data())
@examples(25)
def test_reference_agrees_with_pytorch(layer, data):
    drawn = data.draw(layer())
    x = drawn.x.astype(np.float64)
    found = reference.run(drawn.graph, x)[:, drawn.late :]
    expected = drawn.expected(x)[:, : found.shape[1]]
    # PyTorch's may end earlier or later: nobody pads the end of a stream.
    assert expected.shape[1] >= found.shape[1] - drawn.late - 20
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, rtol=1e-9, atol=1e-12)


@by_layer
@pytest.mark.parametrize("isa", ISAS)
@given(data=st.data())
@examples(15)
def test_engine_agrees_with_the_reference_in_any_blocks(layer, isa, data):
    drawn = data.draw(layer())
    model = Model(drawn.graph, isa)
    expected = reference.run(drawn.graph, drawn.x)
    x = np.ascontiguousarray(drawn.x.T)
    with model.stream() as stream:
        whole = stream.process(x)
    with model.stream() as stream:
        pieces = in_blocks(stream, x, data.draw(cuts(FRAMES, 40)))
    assert np.array_equal(whole, pieces)
    peak = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(whole.reshape(-1, expected.shape[0]).T, expected, rtol=0, atol=4e-6 * peak)
