"""ONNX graphs written by hand, node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FRAMES = 240


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; names apart by spaces, absent ones written as a dash."""
    names = [["" if name == "-" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, name=attributes.pop("name", outputs.split()[0]), **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any] | None = None,
    shape: Sequence[int | str] = (1, 2, FRAMES),
    *,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of float32 with the input ``x``, and what else is given."""
    shapes = {"x": shape, **(inputs or {})}
    domains = [helper.make_opsetid("", opset), *(helper.make_opsetid(f.domain, 1) for f in functions)]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=domains, functions=list(functions))
    made.ir_version = 9
    return made


def save(path: Path, made: onnx.ModelProto) -> Path:
    """Write a model as it is, valid or not."""
    path.write_bytes(made.SerializeToString())
    return path
