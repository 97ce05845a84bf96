"""ONNX's If, which exporters write where they do not know a shape: the branch that is taken, or a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import array

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime, which is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_graphs import model, node, save  # noqa: E402

from backline.engine import Model  # noqa: E402
from backline.errors import ModelError  # noqa: E402
from backline.formats import _onnx_proto, load_graph  # noqa: E402


def branch(nodes: list[Any], output: str, **constants: Any) -> Any:
    """A graph without inputs."""
    made = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return helper.make_graph(nodes, output, [], made, held)


def choice(condition: str, then: Any, otherwise: Any, output: str = "y") -> Any:
    return node("If", condition, output, then_branch=then, else_branch=otherwise)


LOUDER = branch([node("Mul", "x two", "louder")], "louder", two=np.float32(2.0))
CURVED = branch([node("Tanh", "x", "inner"), node("Neg", "inner", "curved")], "curved")


def agree(path: Path, made: Any) -> None:
    """Backline plays what ONNX Runtime computes."""
    save(path, made)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = array(5, *session.get_inputs()[0].shape)
    (expected,) = session.run(None, {"x": x})
    np.testing.assert_allclose(Model(load_graph(path))(x[0].T), expected[0].T, atol=1e-6)


@pytest.mark.parametrize("taken", [True, False])
def test_the_branch_that_is_taken(tmp_path, taken):
    agree(tmp_path / "m.onnx", model([choice("c", LOUDER, CURVED)], {"c": np.array(taken)}))


@pytest.mark.parametrize("channels", [2, 3])
def test_a_branch_by_the_shape(tmp_path, channels):
    nodes = [
        node("Shape", "x", "s", start=1, end=2),
        node("Equal", "s n", "c"),
        choice("c", branch([choice("no", LOUDER, CURVED, "z")], "z", no=np.array(False)), LOUDER),
    ]
    agree(tmp_path / "m.onnx", model(nodes, {"n": np.array([2])}, (1, channels, 240)))


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (choice("x", LOUDER, CURVED), "node 'y' (If): chooses by what the model computes"),
        (choice("w", LOUDER, CURVED), "node 'y' (If): chooses by what the model computes"),
        (node("If", "c", "y", else_branch=LOUDER), "'then_branch': expected a graph of 1 outputs"),
        (node("If", "c", "y", then_branch=1, else_branch=LOUDER), "'then_branch': expected a graph"),
        (node("If", "", "y", then_branch=LOUDER), "node 'y' (If)"),
        (node("If", "c", "y z", then_branch=LOUDER), "expected a graph of 2 outputs"),
        (choice("c", branch([], "gone"), LOUDER), "output 'gone' of its branch is written by no node"),
        (choice("c", branch([node("Foo", "x", "a")], "a"), LOUDER), "node 'y/a' (Foo): this operator"),
        (choice("c", branch([node("Tanh", "x", "x")], "x"), LOUDER), "writes 'x' for a second time"),
        (choice("c", branch([], "w", w=np.zeros(1)), LOUDER), "writes 'w' for a second time"),
    ],
)
def test_branches_that_are_refused(tmp_path, made, text):
    path = tmp_path / "m.onnx"
    save(path, model([made], {"c": np.array(True), "w": np.float32(1.0)}))
    with pytest.raises(ModelError) as caught:
        load_graph(path)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_branches_count_as_nodes(tmp_path, monkeypatch):
    """Nodes of branches are bounded all together, whether taken or not."""
    many = [branch([node("Tanh", "x", f"{name}{i}") for i in range(30)], f"{name}0") for name in "ab"]
    save(tmp_path / "m.onnx", model([choice("c", *many)], {"c": np.array(True)}))
    assert len(load_graph(tmp_path / "m.onnx").nodes) == 1
    monkeypatch.setattr(_onnx_proto, "MOST_NODES", 50)
    with pytest.raises(ModelError, match="nodes are not supported"):
        load_graph(tmp_path / "m.onnx")
