"""ONNX files that are almost good, changed in structure or in bytes: a Model or one ModelError."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import array, examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import Worker, mutated_bytes

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")

from onnx import TensorProto, helper  # noqa: E402
from onnx_graphs import model, node, save  # noqa: E402

from backline.formats import load_graph  # noqa: E402
from backline.formats._onnx_fold import MAKERS as FOLDED  # noqa: E402
from backline.formats._onnx_layers import LAYERS  # noqa: E402


def rich() -> Any:
    """A model with shape arithmetic, folded weights, strides, a recurrence, a state and a knob."""
    nodes = [
        *(node("Shape", "x", "s"), node("Gather", "s two0", "t"), node("Unsqueeze", "t zero1", "t1")),
        *(node("Concat", "ones t1", "shape", axis=0), node("Expand", "knob shape", "k")),
        *(node("ReduceL2", "v", "norm", axes=[1, 2]), node("Div", "v norm", "d"), node("Mul", "d g", "w")),
        *(node("Conv", "x w b", "c", strides=[2], pads=[2, 2]), node("Split", "c", "p q", axis=1)),
        *(node("Sigmoid", "q", "e"), node("Mul", "p e", "f"), node("PRelu", "f slope", "h")),
        node("Transpose", "h", "j", perm=[2, 0, 1]),
        node("GRU", "j gw gr gb - state", "l next", hidden_size=3, linear_before_reset=1),
        *(node("Squeeze", "l one1", "m"), node("Transpose", "m", "n", perm=[1, 2, 0])),
        *(node("ConvTranspose", "n u", "o", strides=[2], pads=[1, 1]), node("Add", "o k", "a4")),
        *(node("Pad", "a4 pads", "a2"), node("MaxPool", "a2", "a3", kernel_shape=[4])),
        *(node("Slice", "a3 zero1 end two1", "r"), node("Clip", "r low high", "a1")),
        *(node("Concat", "a1 a1", "a5", axis=1), node("Resize", "a5 - scale", "a6")),
        *(node("AveragePool", "a6", "a7", kernel_shape=[2], strides=[2]), node("ReduceSum", "a7 one1", "y")),
    ]
    constants = {
        **{"two0": np.array(2), "zero1": np.array([0]), "one1": np.array([1]), "two1": np.array([2])},
        **{"ones": np.array([1, 1]), "end": np.array([-2]), "pads": np.array([0, 0, 5, 0, 0, 0])},
        **{"v": array(1, 4, 2, 6), "g": array(2, 4, 1, 1), "b": array(3, 4), "slope": array(4, 2, 1)},
        **{"gw": array(5, 1, 9, 2), "gr": array(6, 1, 9, 3), "gb": array(7, 1, 18), "u": array(8, 3, 2, 4)},
        **{"low": np.float32(-1), "high": np.float32(1), "scale": np.array([1, 1, 2], np.float32)},
    }
    made = model(
        nodes,
        constants,
        (1, 2, "time"),
        inputs={"knob": (1, 1, 1), "state": (1, 1, 3)},
        outputs=("y", "next"),
        opset=17,
    )
    helper.set_model_props(made, {"knobs": '{"knob": {"default": 0.5}}', "sample_rate": "48000"})
    return made


def plain() -> Any:
    """Layers of two dimensions, activations, a function of the file's own and numbers one by one."""
    nodes = [
        node("Conv", "x w", "a", pads=[2, 1, 0, 1], strides=[1, 2], auto_pad="NOTSET"),
        node("BatchNormalization", "a g g g v", "n", epsilon=0.01),
        *(
            node("Elu", "n", "e", alpha=0.7),
            node("Softmax", "e", "s", axis=1),
            node("Own", "s", "o", domain="here"),
        ),
        *(node("Transpose", "o", "t", perm=[0, 2, 1, 3]), node("Reshape", "t shape", "r")),
        *(node("MatMul", "r m", "q"), node("HardSigmoid", "q", "h", alpha=0.3), node("LSTM", "h i k", "l")),
        *(node("Squeeze", "l axis", "y"),),
    ]
    nodes[-2].attribute.append(helper.make_attribute("layout", 1))
    own = helper.make_function(
        "here",
        "Own",
        ["a"],
        ["b"],
        [node("Mul", "a a", "t"), node("Sub", "t a", "b")],
        [helper.make_opsetid("", 18)],
    )
    constants = {
        **{"w": array(1, 3, 1, 3, 3), "g": np.ones(3, np.float32), "shape": np.array([1, 0, -1])},
        **{"m": array(2, 9, 4), "i": array(3, 1, 8, 4), "k": array(4, 1, 8, 2), "axis": np.array([2])},
    }
    made = model(nodes, constants, (1, 1, 64, 6), functions=[own])
    made.graph.initializer.append(helper.make_tensor("v", TensorProto.FLOAT16, [3], [1.0, 2.0, 0.5]))
    return made


def newer() -> Any:
    """Softplus and linear interpolation in several operators, as newer exporters write them."""
    taken = np.clip((np.arange(128) + 0.5) / 2 - 0.5, 0, 63)
    first = np.floor(taken).astype(np.int64)
    nodes = [
        *(node("Mul", "x beta", "b"), node("Softplus", "b", "s"), node("Div", "s beta", "d")),
        *(
            node("Greater", "b limit", "g"),
            node("Where", "g x d", "p"),
            node("Transpose", "p", "t", perm=[2, 0, 1]),
        ),
        *(node("GatherND", "t i", "u"), node("Transpose", "u", "a", perm=[1, 2, 0])),
        *(node("GatherND", "t j", "v"), node("Transpose", "v", "c", perm=[1, 2, 0])),
        *(node("Sub", "c a", "e"), node("Mul", "e w", "f"), node("Add", "a f", "y")),
    ]
    constants = {
        **{"beta": np.float32(2), "limit": np.float32(20), "i": first[:, None]},
        **{"j": np.minimum(first + 1, 63)[:, None], "w": (taken - first).astype(np.float32)},
    }
    return model(nodes, constants, (1, 2, 64))


MODELS = {"rich": rich, "plain": plain, "newer": newer}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_mutated_is_good(tmp_path: Path, name: str) -> None:
    graph = load_graph(save(tmp_path / "m.onnx", MODELS[name]()))
    assert graph.output_channels == {"rich": 1, "plain": 2, "newer": 2}[name]
    assert [knob.name for knob in graph.knobs] == (["knob"] if name == "rich" else [])


NUMBERS = [
    *(-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 4, 5, 16, 63, 255, 4096, 2**16, 2**20, 2**24, 2**26 + 1),
    *(2**31 - 1, 2**32, 2**40, 2**62, 2**63 - 1),
]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, 1e30, 3e38, float("inf"), float("nan")]
WORDS = [
    *("", "x", "y", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "linear", "nearest", "forward", "reverse"),
    *("\0", "line\nend", "z" * 5000, "é", "Tanh", "constant", "reflect", "half_pixel", "asymmetric", "tanh"),
]
OPS = sorted({*LAYERS, *FOLDED, "Foo", "If", "Loop", "GatherND", "Greater", "Where", "LayerNormalization"})


def mutate_node(draw: st.DrawFn, made: Any, names: list[str]) -> None:
    """Another operator, other inputs or outputs, another place, or other attributes."""
    nodes = made.graph.node
    at = draw(st.integers(0, len(nodes) - 1))
    each = nodes[at]
    what = draw(
        st.sampled_from(["op", "input", "input", "output", "drop", "copy", "swap", "more", "attribute"] * 2)
    )
    if what == "op":
        each.op_type = draw(st.sampled_from(OPS))
    elif what == "input" and each.input:
        each.input[draw(st.integers(0, len(each.input) - 1))] = draw(st.sampled_from(names))
    elif what == "output":
        each.output[draw(st.integers(0, len(each.output) - 1))] = draw(st.sampled_from(names))
    elif what == "more":
        each.input.append(draw(st.sampled_from(names)))
    elif what == "drop":
        del nodes[at]
    elif what == "copy":
        nodes.add().CopyFrom(each)
    elif what == "swap":
        other = draw(st.integers(0, len(nodes) - 1))
        copy = type(each)()
        copy.CopyFrom(each)
        each.CopyFrom(nodes[other])
        nodes[other].CopyFrom(copy)
    else:
        mutate_attribute(draw, each)


def mutate_attribute(draw: st.DrawFn, each: Any) -> None:
    """An attribute of another value or type; a new one where there is none."""
    if not each.attribute or draw(st.integers(0, 3)) == 0:
        each.attribute.add(name=draw(st.sampled_from(ATTRIBUTES)), type=2, i=draw(st.sampled_from(NUMBERS)))
        return
    found = each.attribute[draw(st.integers(0, len(each.attribute) - 1))]
    name = found.name
    what = draw(st.sampled_from(["drop", "int", "ints", "one", "float", "text", "type"]))
    if what == "drop":
        each.attribute.remove(found)
    elif what == "one" and found.ints:
        found.ints[draw(st.integers(0, len(found.ints) - 1))] = draw(st.sampled_from(NUMBERS))
    elif what == "type":
        found.type = draw(st.integers(0, 14))
    else:
        values = {"int": st.sampled_from(NUMBERS), "ints": st.lists(st.sampled_from(NUMBERS), max_size=9)}
        values |= {"float": st.sampled_from(FLOATS), "text": st.sampled_from(WORDS), "one": values["int"]}
        value = draw(values[what])
        attribute_type = onnx.AttributeProto.INTS if what == "ints" else None
        found.CopyFrom(helper.make_attribute(name, value, attr_type=attribute_type))


def mutate_constant(draw: st.DrawFn, made: Any) -> None:
    """An initializer of other sizes, another type or other numbers."""
    found = made.graph.initializer[draw(st.integers(0, len(made.graph.initializer) - 1))]
    what = draw(st.sampled_from(["sizes", "type", "bytes", "name", "new", "new", "where"]))
    if what == "sizes":
        found.dims[:] = draw(st.lists(st.sampled_from(NUMBERS), max_size=5))
    elif what == "type":
        found.data_type = draw(st.integers(0, 24))
    elif what == "bytes" and found.raw_data:
        found.raw_data = draw(mutated_bytes(found.raw_data))
    elif what == "name":
        found.name = draw(st.sampled_from(WORDS))
    elif what == "where":
        found.data_location = TensorProto.EXTERNAL
        found.external_data.add(
            key="location", value=draw(st.sampled_from(["m.onnx", "../m", "/etc/passwd"]))
        )
    else:
        sizes = draw(st.lists(st.integers(0, 4), max_size=4))
        kind = draw(st.sampled_from([np.int64, np.int64, np.float32, np.bool_]))
        numbers = draw(st.sampled_from(NUMBERS if kind is not np.float32 else FLOATS))
        found.CopyFrom(onnx.numpy_helper.from_array(np.full(sizes, numbers).astype(kind), found.name))


def mutate_ends(draw: st.DrawFn, made: Any, names: list[str]) -> None:
    """Other inputs, outputs, versions or metadata."""
    what = draw(st.sampled_from(["size", "size", "drop", "copy", "output", "opset", "type", "props"]))
    value = made.graph.input[draw(st.integers(0, len(made.graph.input) - 1))]
    if what == "size":
        dims = value.type.tensor_type.shape.dim
        dim = dims[draw(st.integers(0, len(dims) - 1))] if dims else dims.add()
        if draw(st.booleans()):
            dim.dim_value = draw(st.sampled_from(NUMBERS))
        else:
            dim.dim_param = draw(st.sampled_from(["", "batch", "time", "n"]))
    elif what == "drop":
        made.graph.input.remove(value)
    elif what == "copy":
        made.graph.input.add().CopyFrom(value)
        made.graph.input[-1].name = draw(st.sampled_from(names))
    elif what == "output":
        made.graph.output[0].name = draw(st.sampled_from(names))
    elif what == "opset":
        made.opset_import[0].version = draw(st.sampled_from([1, 13, 18, 24, 99]))
    elif what == "type":
        value.type.tensor_type.elem_type = draw(st.integers(0, 24))
    else:
        props = {
            "knobs": draw(st.sampled_from(KNOBS)),
            "sample_rate": draw(st.sampled_from(["nan", "1e999", "5"])),
        }
        del made.metadata_props[:]
        helper.set_model_props(made, props)


KNOBS = [
    *("", "{}", "[", '{"knob": 3}', '{"knob": {"default": NaN}}', '{"knob": {"minimum": 9}}', '{"x": {}}'),
    *('{"knob": [{"name": "y"}]}', '{"knob": {"name": "\\n"}}', '{"state": [{}, {}, {}]}', "[" * 100_000),
]
ATTRIBUTES = [
    *("axis", "strides", "pads", "dilations", "group", "kernel_shape", "auto_pad", "layout", "direction"),
    *("hidden_size", "linear_before_reset", "perm", "to", "mode", "alpha", "keepdims", "value", "ceil_mode"),
    *(
        "num_outputs",
        "axes",
        "activations",
        "clip",
        "output_padding",
        "output_shape",
        "start",
        "end",
        "epsilon",
    ),
]


@st.composite
def mutated_model(draw: st.DrawFn, name: str) -> bytes:
    """A good model with one to three things changed."""
    made = MODELS[name]()
    names = [*{n for each in made.graph.node for n in (*each.input, *each.output)}, "gone"]
    names.sort()
    for _ in range(draw(st.integers(1, 3))):
        what = draw(st.sampled_from(["node", "node", "node", "constant", "constant", "ends"]))
        if what == "node" and made.graph.node:
            mutate_node(draw, made, names)
        elif what == "constant" and made.graph.initializer:
            mutate_constant(draw, made)
        elif made.graph.input and made.graph.output and made.opset_import:
            mutate_ends(draw, made, names)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """A process that loads and plays; prints what became of the files."""
    found = Worker()
    yield found
    found.close()
    for name, tally in found.tallies.items():
        print(f"{name}: {tally}")


FUZZ = settings(examples(250), suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
@FUZZ
def test_mutated_models(tmp_path: Path, worker: Worker, name: str, data: st.DataObject) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data.draw(mutated_model(name)))
    worker.ask(path, tally=f"{name}, structure")


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
@FUZZ
def test_mutated_bytes(tmp_path: Path, worker: Worker, name: str, data: st.DataObject) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data.draw(mutated_bytes(MODELS[name]().SerializeToString())))
    worker.ask(path, tally=f"{name}, bytes")
