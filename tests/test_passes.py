"""Passes keep the answer and do merge what they are for."""

from __future__ import annotations

import numpy as np
from graphs import array, examples, graphs
from hypothesis import given

import backline
from backline import passes, reference
from backline.activations import Activation
from backline.compile import compile_graph
from backline.graph import Graph
from backline.layers import Activate, Affine, BatchNorm, Conv1d


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
