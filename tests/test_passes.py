"""Passes keep the answer and do merge what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import array, examples, graphs
from hypothesis import given

import backline
from backline import passes, reference
from backline.activations import Activation
from backline.compile import compile_graph
from backline.errors import ModelError
from backline.graph import Graph, Knob
from backline.layers import (
    Activate,
    Add,
    Affine,
    AvgPool1d,
    BatchNorm,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    Multiply,
    Node,
    Reshape,
)


@given(graph=graphs())
@examples(80)
def test_the_answer_stays(graph):
    x = array(0, graph.input_channels, 300).astype(np.float64)
    before = reference.run(graph, x)
    after = reference.run(passes.simplify(graph), x)
    # Folding rounds the folded weights to float32 once more.
    np.testing.assert_allclose(after, before, atol=2e-5 * max(1.0, float(np.abs(before).max())))


def test_a_wavenet_layer_becomes_two_ops(wavenet_file):
    """Conv, mixin, activation and skip in one, layer1x1 and residual in the other."""
    graph = backline.load(wavenet_file).graph
    layers = sum("1x1" in node.output for node in graph.nodes if isinstance(node, Conv1d))
    kinds = [op.kind for op in compile_graph(graph).ops]
    assert kinds.count("CONV1D") <= 2 * layers + 2
    assert set(kinds) == {"CONV1D"}


def test_batch_norm_disappears_into_the_convolution():
    conv = Conv1d("c", "x", array(0, 4, 2, 3))
    norm = BatchNorm("n", "c", array(1, 4), np.ones(4, np.float32), array(2, 4), array(3, 4))
    relu = Activate("y", "n", Activation("relu"))
    (node,) = passes.simplify(Graph((conv, norm, relu), "x", 2, "y")).nodes
    assert isinstance(node, Conv1d)
    assert node.activation == Activation("relu")
    assert node.bias is not None


def test_a_signal_with_two_readers_is_not_swallowed():
    conv = Conv1d("c", "x", array(0, 1, 1, 3))
    nodes = (conv, Affine("a", "c", array(1, 1)), Activate("y", "c", Activation("tanh")))
    graph = Graph(nodes, "x", 1, "a")
    x = array(0, 1, 50).astype(np.float64)
    np.testing.assert_allclose(reference.run(passes.simplify(graph), x), reference.run(graph, x), atol=1e-7)


def test_unread_nodes_do_not_run():
    nodes = (Conv1d("y", "x", array(0, 1, 1, 1)), Conv1d("z", "y", array(0, 1, 1, 1)))
    assert [node.output for node in passes.simplify(Graph(nodes, "x", 1, "y")).nodes] == ["y"]


def test_a_graph_without_nodes_is_a_wire():
    x = array(0, 100)
    np.testing.assert_array_equal(backline.engine.Model(Graph((), "x", 1, "x"))(x), x)


@pytest.mark.parametrize("after", [Activate("y", "c", Activation("tanh")), Add("y", "c", "x")])
@pytest.mark.parametrize("output", ["y", "sum"])
def test_what_follows_a_convolution_with_a_skip_stays_out_of_the_sum(after, output):
    """A file may hold such a node: its sum is of what the convolution itself wrote."""
    conv = Conv1d("c", "x", array(0, 2, 2, 3), skip="x", skip_output="so far")
    graph = Graph((conv, after, Add("sum", "y", "so far")), "x", 2, output)
    x = array(1, 2, 50).astype(np.float64)
    np.testing.assert_allclose(reference.run(passes.simplify(graph), x), reference.run(graph, x), atol=1e-12)


def test_layers_may_have_names_that_lowering_would_use():
    """A layer that is lowered writes signals on the way; whoever has their names keeps them."""
    names = ("y rows", "y mean", "y' phases", "y phases", "z features", "z window 0")
    knobs = tuple(Knob(name, 1.0, 0.0, 2.0) for name in names)
    nodes: list[Node] = [
        AvgPool1d("y", "x", 3),
        ConvTranspose1d("y'", "y", array(0, 2, 2, 4), stride=2),
        Reshape("z in", "y'", 1, 2),
        Conv2d("z", "z in", array(1, 1, 1, 2, 2)),
    ]
    graph = Graph(tuple(nodes), "x", 2, "z", knobs=knobs)
    bare = Graph(tuple(nodes), "x", 2, "z")
    x = array(2, 60, 2)
    np.testing.assert_array_equal(backline.engine.Model(graph)(x), backline.engine.Model(bare)(x))


def test_levels_keep_the_names_of_a_model():
    nodes = (Multiply("levelled", "device input", "device output"),)
    knobs = (Knob("device output", 0.5, 0.0, 1.0),)
    graph = passes.with_levels(Graph(nodes, "device input", 1, "levelled", knobs=knobs))
    np.testing.assert_array_equal(backline.engine.Model(graph)(np.ones(5, np.float32)), 0.5)


@pytest.mark.parametrize("name", [passes.INPUT_GAIN, passes.OUTPUT_GAIN, passes.BYPASS])
def test_levels_want_their_own_names(name):
    graph = Graph((Multiply("y", "x", name),), "x", 1, "y", knobs=(Knob(name, 0.5, 0.0, 1.0),))
    with pytest.raises(ModelError, match=f"called '{name}', expected a name Backline does not use"):
        passes.with_levels(graph)


ONE = np.ones((1, 1, 1, 3), np.float32)


@pytest.mark.parametrize(
    ("nodes", "channels", "says"),
    [
        ((Reshape("r", "x", 1, 1 << 20), Conv2d("y", "r", ONE)), 1 << 20, "y: writes 1048574 features"),
        ((Conv2d("y", "x", ONE, feature_padding=(1 << 23, 1 << 22)),), 1, "convolutions in time, at most"),
        ((ConvTranspose1d("y", "x", array(0, 64, 64, 2), None, 1, 1 << 22, 2),), 64, "numbers when written"),
        ((AvgPool1d("y", "x", 1 << 24),), 1000, "y: takes 16777216000 numbers"),
    ],
)
def test_layers_that_would_grow_beyond_memory_are_refused(nodes, channels, says):
    with pytest.raises(ModelError, match=says):
        compile_graph(Graph(nodes, "x", channels, "y"))


def test_a_long_dilation_costs_nothing_where_nothing_is_strided():
    node = ConvTranspose1d("y", "x", array(0, 1, 1, 3), dilation=1 << 18)
    (op,) = compile_graph(Graph((node,), "x", 1, "y")).ops
    assert (op.kernel, op.dilation) == (3, 1 << 18)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("spread", [1, 3])
def test_a_convolution_over_features_costs_what_it_says(groups, spread):
    """Groups, and features that a dilation skips, cost nothing when it is written in time either."""
    weight = array(1, 8, 8 // groups, 2, 3)
    node = Conv2d("y", "r", weight, groups=groups, feature_dilation=spread)
    graph = Graph((Reshape("r", "x", 8, 10), node), "x", 80, "y")
    lowered = passes.simplify(graph)
    assert lowered.multiply_adds_per_frame == graph.multiply_adds_per_frame
    assert graph.multiply_adds_per_frame == weight.size * (10 - 2 * spread)
    x = array(2, 80, 50)
    np.testing.assert_allclose(reference.run(lowered, x), reference.run(graph, x), atol=1e-12)


def test_convolutions_over_features_share_their_weights():
    """Memory for a hundred features is not a hundred times that for one."""
    weight = array(0, 16, 16, 3, 3)

    def program_bytes(features: int) -> int:
        nodes = (Reshape("r", "x", 16, features), Conv2d("y", "r", weight, feature_padding=(1, 1)))
        return backline.engine.Model(Graph(nodes, "x", 16 * features, "y")).program.info.program_bytes

    assert program_bytes(100) - program_bytes(10) < 90 * 0.1 * weight.nbytes
