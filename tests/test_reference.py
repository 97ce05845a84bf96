"""The float64 reference against PyTorch and Keras in float64, and its semantics by hand."""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pytest
from graphs import examples
from hypothesis import given
from hypothesis import strategies as st

from backline import reference
from backline.activations import Activation
from backline.errors import ModelError
from backline.graph import Graph, Knob
from backline.layers import (
    Activate,
    Add,
    Affine,
    BatchNorm,
    Conv1d,
    Crossfade,
    Lstm,
    Mix,
    Multiply,
    Node,
    Slice,
)

NEEDS_TORCH = "compares with PyTorch, which is not installed"


def graph_of(*nodes: Node, channels: int = 1, **options: object) -> Graph:
    return Graph(nodes, "input", channels, nodes[-1].output, **options)  # type: ignore[arg-type]


def draw_array(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Conv1d, np.ndarray]:
    """A convolution with groups out of all divisors of its channels, and an input for it."""
    groups = draw(st.integers(1, 8))
    in_channels, out_channels = (groups * draw(st.integers(1, 4)) for _ in range(2))
    kernel, dilation, stride = (draw(st.integers(1, top)) for top in (7, 9, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bias = draw_array(rng, out_channels) if draw(st.booleans()) else None
    weight = draw_array(rng, out_channels, in_channels // groups, kernel)
    node = Conv1d("conv", "input", weight, bias, groups, dilation, stride)
    return node, rng.standard_normal((in_channels, draw(st.integers(1, 70))))


@given(convolutions())
@examples(200)
def test_conv1d_equals_torch(drawn: tuple[Conv1d, np.ndarray]) -> None:
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    node, x = drawn
    weight = torch.from_numpy(node.weight.astype(np.float64))
    bias = None if node.bias is None else torch.from_numpy(node.bias.astype(np.float64))
    padded = torch.nn.functional.pad(torch.from_numpy(x), (node.lookback_frames, 0))
    expected = torch.nn.functional.conv1d(
        padded, weight, bias, stride=node.stride, dilation=node.dilation, groups=node.groups
    ).numpy()
    graph = graph_of(node, channels=x.shape[0])
    y = reference.run(graph, x)
    assert y.shape == expected.shape == (weight.shape[0], graph.signals["conv"].frames(x.shape[1]))
    assert np.allclose(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("channels", "outputs"), [(12, 12), (12, 24), (6, 3), (8, 4)])
def test_conv1d_equals_keras_for_every_divisor(channels: int, outputs: int) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    keras = pytest.importorskip("keras", reason="compares with Keras, which is not installed")
    rng = np.random.default_rng(channels * outputs)
    for groups in (g for g in range(1, channels + 1) if channels % g == 0 and outputs % g == 0):
        layer = keras.layers.Conv1D(
            outputs, 5, dilation_rate=3, groups=groups, padding="causal", dtype="float64"
        )
        x = rng.standard_normal((1, 40, channels))
        layer.build(x.shape)
        kernel, bias = draw_array(rng, 5, channels // groups, outputs), draw_array(rng, outputs)
        layer.set_weights([kernel.astype(np.float64), bias.astype(np.float64)])
        expected = np.asarray(layer(x).detach())[0].T
        node = Conv1d("conv", "input", kernel.transpose(2, 1, 0), bias, groups, 3)
        assert np.allclose(reference.run(graph_of(node, channels=channels), x[0].T), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("groups", "parameters", "expected"), [(1, 27, (9, 8.1, 7.2)), (3, 9, (3, 2.7, 2.4))]
)
def test_rtneural_issue_114(groups: int, parameters: int, expected: tuple[float, ...]) -> None:
    """Conv1d(9, 3, kernel 1, no bias), weights 1.0, 0.9, 0.8 per output, ones for input."""
    weight = np.broadcast_to(np.float32([1.0, 0.9, 0.8])[:, None, None], (3, 9 // groups, 1))
    graph = graph_of(Conv1d("conv", "input", weight, groups=groups), channels=9)
    assert graph.parameter_count == parameters
    y = reference.run(graph, np.ones((9, 4)))
    assert np.allclose(y, np.float64(expected)[:, None], rtol=1e-7)


@given(st.integers(1, 3), st.integers(1, 6), st.booleans(), st.integers(0, 2**32))
@examples(25)
def test_lstm_equals_torch(inputs: int, hidden: int, stated: bool, seed: int) -> None:
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    rng = np.random.default_rng(seed)
    arrays = [draw_array(rng, 4 * hidden, size) for size in (inputs, hidden)]
    bias, h0, c0 = (draw_array(rng, size) for size in (4 * hidden, hidden, hidden))
    layer = torch.nn.LSTM(inputs, hidden, batch_first=True).double()
    with torch.no_grad():
        layer.weight_ih_l0[:] = torch.from_numpy(arrays[0])
        layer.weight_hh_l0[:] = torch.from_numpy(arrays[1])
        layer.bias_ih_l0[:] = torch.from_numpy(bias)
        layer.bias_hh_l0[:] = 0
    x = 3.0 * rng.standard_normal((inputs, 50))
    state = tuple(torch.from_numpy(s.astype(np.float64))[None, None] for s in (h0, c0)) if stated else None
    expected = layer(torch.from_numpy(x.T.copy())[None], state)[0].detach().numpy()[0].T
    node = Lstm("lstm", "input", *arrays, bias, *((h0, c0) if stated else ()))
    assert np.allclose(reference.run(graph_of(node, channels=inputs), x), expected, rtol=1e-12, atol=1e-12)


ACTIVATIONS = {
    "identity": (Activation("identity"), "Identity", {}),
    "tanh": (Activation("tanh"), "Tanh", {}),
    "sigmoid": (Activation("sigmoid"), "Sigmoid", {}),
    "relu": (Activation("relu"), "ReLU", {}),
    "leaky_relu": (Activation("leaky_relu", (0.25,)), "LeakyReLU", {"negative_slope": 0.25}),
    "silu": (Activation("silu"), "SiLU", {}),
    "softsign": (Activation("softsign"), "Softsign", {}),
    "hardtanh": (Activation("hardtanh", (-0.5, 2.0)), "Hardtanh", {"min_val": -0.5, "max_val": 2.0}),
    "hardswish": (Activation("hardswish"), "Hardswish", {}),
    "elu": (Activation("elu", (1.0,)), "ELU", {}),
    "softmax": (Activation("softmax"), "Softmax", {"dim": 0}),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activation_equals_torch(kind: str) -> None:
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    activation, name, options = ACTIVATIONS[kind]
    x = np.concatenate([np.linspace(-80, 80, 900), np.linspace(-4, 4, 900), [0.0, -0.0, 1.0]]).reshape(3, -1)
    expected = getattr(torch.nn, name)(**options)(torch.from_numpy(x)).numpy()
    y = reference.run(graph_of(Activate("a", "input", activation), channels=3), x)
    assert np.allclose(y, expected, rtol=1e-13, atol=0)


def test_prelu_has_one_slope_or_one_per_channel() -> None:
    x = np.array([[-2.0, 3.0], [-4.0, 5.0]])
    for slopes, expected in (((0.5,), [[-1, 3], [-2, 5]]), ((0.5, 0.25), [[-1, 3], [-1, 5]])):
        node = Activate("a", "input", Activation("prelu", slopes))
        assert np.array_equal(reference.run(graph_of(node, channels=2), x), expected)


def test_leaky_hardtanh_and_fasttanh() -> None:
    """NeuralAmpModelerCore's formulas, ``NAM/activations.h``, at chosen points."""
    x = np.array([[-3.0, -1.0, 0.25, 2.0, 4.0]])
    node = Activate("a", "input", Activation("leaky_hardtanh", (-1.0, 2.0, 0.5, 0.25)))
    assert np.array_equal(reference.run(graph_of(node), x), [[-2.0, -1.0, 0.25, 2.0, 2.5]])
    fast = reference.run(graph_of(Activate("a", "input", Activation("fasttanh"))), x)
    assert 1e-5 < np.max(np.abs(fast - np.tanh(x))) < 3e-3
    assert np.allclose(fast, -reference.run(graph_of(Activate("a", "input", Activation("fasttanh"))), -x))


def test_batch_norm_equals_torch() -> None:
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    rng = np.random.default_rng(5)
    mean, gamma, beta = (draw_array(rng, 4) for _ in range(3))
    variance = np.abs(draw_array(rng, 4))
    x = rng.standard_normal((4, 30))
    for weights in ((gamma, beta), (None, None)):
        doubles = [None if w is None else torch.from_numpy(w.astype(np.float64)) for w in weights]
        expected = torch.nn.functional.batch_norm(
            torch.from_numpy(x)[None],
            torch.from_numpy(mean.astype(np.float64)),
            torch.from_numpy(variance.astype(np.float64)),
            *doubles,
            eps=0.01,
        ).numpy()[0]
        node = BatchNorm("bn", "input", mean, variance, *weights, epsilon=0.01)
        assert np.allclose(reference.run(graph_of(node, channels=4), x), expected, rtol=1e-12, atol=1e-13)


def test_fused_conv_equals_its_parts() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((4, 50))
    weight, bias = draw_array(rng, 4, 2, 3), draw_array(rng, 4)
    mix, tanh = draw_array(rng, 4, 1), Activation("tanh")
    plain = graph_of(
        Slice("some", "input", 1, 2),
        Conv1d("conv", "input", weight, bias, groups=2, dilation=4),
        Conv1d("mixin", "some", mix[:, :, None], groups=2),
        Add("sum", "conv", "mixin"),
        Activate("active", "sum", tanh),
        Add("residual", "active", "input"),
        Add("head", "conv", "residual"),
        channels=4,
    )
    fused = graph_of(
        Slice("some", "input", 1, 2),
        Conv1d("conv", "input", weight, bias, groups=2, dilation=4),
        Conv1d(
            "residual",
            "input",
            weight,
            bias,
            groups=2,
            dilation=4,
            mix=Mix("some", mix, groups=2),
            activation=tanh,
            residual="input",
            skip="conv",
            skip_output="head",
        ),
        channels=4,
    )
    parts, whole = (reference.run(graph, x, layers=True) for graph in (plain, fused))
    for name in ("residual", "head"):
        assert np.allclose(parts[name], whole[name], rtol=1e-14, atol=1e-14)


def test_crossfade_by_one_channel_or_by_each() -> None:
    x = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.5, 1.0], [1.0, 0.25, 0.0]])
    nodes = (Slice("ab", "input", 0, 2), Affine("b", "ab", np.float32([3]), np.float32([1])))
    one = (*nodes, Slice("t", "input", 2, 1), Crossfade("y", "ab", "b", "t"))
    each = (*nodes, Slice("t", "input", 2, 2), Crossfade("y", "ab", "b", "t"))
    assert np.array_equal(reference.run(graph_of(*one, channels=4), x), [[1, 2.5, 4], [2, 4.5, 7]])
    assert np.array_equal(reference.run(graph_of(*each, channels=4), x), [[1, 2.5, 4], [7, 3.25, 2]])
    with pytest.raises(ModelError, match="y: t has 3 channels"):
        graph_of(*nodes, Slice("t", "input", 0, 3), Crossfade("y", "ab", "b", "t"), channels=4)


def test_knobs_are_constants_or_one_value_per_frame() -> None:
    graph = graph_of(Multiply("y", "input", "gain"), knobs=(Knob("gain", 0.5, 0.0, 2.0),))
    x = np.array([[2.0, 4.0, 6.0]])
    assert np.array_equal(reference.run(graph, x), x / 2)
    assert np.array_equal(reference.run(graph, x, {"gain": 2.0}), 2 * x)
    assert np.array_equal(reference.run(graph, x, {"gain": np.array([0.0, 1.0, 2.0])}), [[0, 4, 12]])
    with pytest.raises(ValueError, match="tone"):
        reference.run(graph, x, {"tone": 1.0})
    with pytest.raises(ValueError, match="gain"):
        reference.run(graph, x, {"gain": np.zeros(2)})
    with pytest.raises(ValueError, match="shape"):
        reference.run(graph, x[0])


def test_prewarm_settles_on_silence() -> None:
    """A bias of 1 makes silence heard as ones: without prewarm the second layer first hears zeros."""
    ones = np.ones((1, 1, 3), np.float32)
    nodes = (Conv1d("a", "input", ones, np.ones(1, np.float32)), Conv1d("b", "a", ones))
    x = np.zeros((1, 4))
    assert np.array_equal(reference.run(graph_of(*nodes), x), [[1, 2, 3, 3]])
    for frames, first in ((1, 2), (2, 3), (100, 3)):
        y = reference.run(graph_of(*nodes, prewarm_frames=frames), x)
        assert np.array_equal(y, [[first, 3, 3, 3]])


def test_prewarm_holds_knobs_at_their_default() -> None:
    weight = np.ones((1, 1, 2), np.float32)
    nodes = (Add("sum", "input", "offset"), Conv1d("y", "sum", weight))
    graph = graph_of(*nodes, knobs=(Knob("offset", 10.0, 0.0, 10.0),), prewarm_frames=5)
    assert np.array_equal(reference.run(graph, np.zeros((1, 3)), {"offset": 1.0}), [[11, 2, 2]])


@pytest.mark.parametrize("prewarm_frames", range(7))
def test_stride_phase_starts_anew_after_the_prewarm(prewarm_frames: int) -> None:
    weight = np.float32([[[1, 10, 100]]])
    node = Conv1d("y", "input", weight, stride=3)
    graph = graph_of(node, prewarm_frames=prewarm_frames)
    assert graph.signals["y"].rate == Fraction(1, 3)
    y = reference.run(graph, np.arange(1.0, 8.0)[None])
    assert np.array_equal(y, [[100, 432, 765]])


def test_lstm_prewarm_goes_on_from_the_initial_state() -> None:
    rng = np.random.default_rng(9)
    arrays = [draw_array(rng, *shape) for shape in ((12, 1), (12, 3), (12,), (3,), (3,))]
    x = rng.standard_normal((1, 20))
    cold, warm = (graph_of(Lstm("y", "input", *arrays), prewarm_frames=n) for n in (0, 30))
    whole = reference.run(cold, np.concatenate([np.zeros((1, 30)), x], axis=1))
    assert np.allclose(reference.run(warm, x), whole[:, 30:], rtol=1e-14)
    assert not np.allclose(reference.run(cold, x), whole[:, 30:])


def test_no_frames_give_no_frames() -> None:
    rng = np.random.default_rng(10)
    nodes = (
        Conv1d("conv", "input", draw_array(rng, 4, 2, 3), groups=1, stride=2),
        Lstm("lstm", "conv", draw_array(rng, 12, 4), draw_array(rng, 12, 3), draw_array(rng, 12)),
        Activate("y", "lstm", Activation("softmax")),
    )
    assert reference.run(graph_of(*nodes, channels=2), np.zeros((2, 0))).shape == (3, 0)
