"""ONNX's operators one by one, in graphs written by hand, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import array

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime, which is not installed")

from onnx import helper  # noqa: E402
from onnx_graphs import FRAMES, model, node, save  # noqa: E402

from backline.engine import Model  # noqa: E402
from backline.errors import ModelError  # noqa: E402
from backline.formats import load_graph  # noqa: E402
from backline.graph import Graph  # noqa: E402


def runtime(path: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def agree(path: Path, made: Any, latency: int = 0, axes: tuple[int, int] = (-1, -1)) -> Graph:
    """Compare all frames that Backline has played in the end; `axes` are those of time in x and y."""
    save(path, made)
    run = runtime(path)
    x = array(5, *run.get_inputs()[0].shape)
    y = run.run(None, {"x": x})[0]
    graph = load_graph(path)
    assert graph.latency_frames == latency
    rows = [np.moveaxis(v, time, 0).reshape(v.shape[time], -1) for v, time in zip((x, y), axes, strict=True)]
    found = Model(graph)(np.ascontiguousarray(rows[0])).reshape(-1, rows[1].shape[1])[latency:]
    count = min(len(found), len(rows[1]))
    assert count >= min(len(rows[0]), len(rows[1])) - latency
    assert np.ptp(rows[1]) > 1e-2
    peak = np.max(np.abs(rows[1]))
    np.testing.assert_allclose(found[:count] / peak, rows[1][:count] / peak, rtol=0, atol=1e-5)
    return graph


def refusal(path: Path, made: Any) -> str:
    """What follows the path in the error."""
    with pytest.raises(ModelError) as caught:
        load_graph(save(path, made))
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text[len(f"{path}: ") :]


W = array(11, 3, 2, 4)
LIST = np.array([0.3, -0.2, 0.1], np.float32)


@pytest.mark.parametrize(
    ("attributes", "latency"),
    [
        # One zero less in front than behind, or one more: 2 or 1 of the 4 taps are ahead.
        ({"auto_pad": "SAME_UPPER"}, 2),
        ({"auto_pad": "SAME_LOWER"}, 1),
        ({"auto_pad": "VALID"}, 3),
        ({"pads": [3, 0]}, 0),
        ({"pads": [9, 0], "dilations": [3]}, 0),
        ({"pads": [2, 1]}, 1),
        ({"pads": [1, 1], "kernel_shape": [4]}, 2),
        ({"group": 1, "pads": [3, 3]}, 0),
    ],
)
def test_conv(tmp_path, attributes, latency):
    made = model([node("Conv", "x w b", "y", **attributes)], {"w": W, "b": LIST})
    agree(tmp_path / "m.onnx", made, latency)


@pytest.mark.parametrize(("mode", "ahead"), [("SAME_UPPER", 2), ("SAME_LOWER", 2), ("NOTSET", 3)])
def test_strided_conv_and_back(tmp_path, mode, ahead):
    """Frames ahead of the window, up to a multiple of the stride; what is cut off in front comes on top."""
    up = "SAME_UPPER" if mode == "NOTSET" else mode
    nodes = [
        node("Conv", "x w", "a", strides=[2], auto_pad=mode),
        node("ConvTranspose", "a v", "y", strides=[2], auto_pad=up),
    ]
    made = model(nodes, {"w": W, "v": array(12, 3, 1, 4)})
    # The transposed one makes 2 frames more than twice its input, of which one in front is cut off.
    agree(tmp_path / "m.onnx", made, -(-ahead // 2) * 2 + 1)


@pytest.mark.parametrize(
    ("attributes", "latency"),
    [
        ({"pads": [0, 2]}, 0),
        ({"pads": [1, 1]}, 1),
        ({"pads": [0, 3], "output_padding": [1]}, 0),
        ({"output_shape": [2 * FRAMES]}, 1),
        ({"output_shape": [2 * FRAMES + 1], "auto_pad": "SAME_UPPER"}, 0),
        ({"output_shape": [2 * FRAMES + 1], "auto_pad": "SAME_LOWER"}, 1),
    ],
)
def test_conv_transpose(tmp_path, attributes, latency):
    """Twice as many frames; half of them, so that the output is at the input's rate again."""
    nodes = [
        node("ConvTranspose", "x v", "a", strides=[2], group=2, **attributes),
        node("MaxPool", "a", "y", kernel_shape=[1], strides=[2]),
    ]
    # A frame later where what the pool takes would fall between the stream's.
    made = model(nodes, {"v": array(12, 2, 2, 4)})
    agree(tmp_path / "m.onnx", made, -(-latency // 2))


def test_conv_over_time_and_features(tmp_path):
    nodes = [
        node("Conv", "x w", "a", pads=[2, 1, 0, 1], strides=[1, 2], dilations=[1, 1]),
        node("BatchNormalization", "a g b m v", "n"),
        node("Transpose", "n", "t", perm=[0, 2, 1, 3]),
        node("Reshape", "t s", "y"),
    ]
    constants = {"w": array(1, 3, 1, 3, 3), **{n: array(i, 3) for i, n in enumerate("gbm")}}
    constants |= {"v": np.abs(array(9, 3)) + 1, "s": np.array([1, 0, -1])}
    agree(tmp_path / "m.onnx", model(nodes, constants, (1, 1, FRAMES, 6)), axes=(2, 1))


ELEMENTWISE = {
    **{
        op: {}
        for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Neg", "Abs", "Identity")
    },
    "LeakyRelu": {"alpha": 0.3},
    "Elu": {"alpha": 0.7},
    "Selu": {},
    "Celu": {"alpha": 1.7},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "Softmax": {"axis": 1},
    "Mish": {},
    "Dropout": {},
}


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise(tmp_path, op):
    agree(tmp_path / "m.onnx", model([node(op, "x", "y", **ELEMENTWISE[op])]))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(tmp_path, approximate):
    agree(tmp_path / "m.onnx", model([node("Gelu", "x", "y", approximate=approximate)], opset=20))


@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_swish(tmp_path, alpha):
    """Opset 24 has it; here against the formula, as it is what others have written out."""
    path = save(tmp_path / "m.onnx", model([node("Swish", "x", "y", alpha=alpha)], opset=24))
    x = array(3, FRAMES, 2)
    expected = x / (1 + np.exp(-alpha * x.astype(np.float64)))
    np.testing.assert_allclose(Model(load_graph(path))(x), expected, atol=1e-6)


PER_CHANNEL = np.array([[0.5], [-1.5]], np.float32)


@pytest.mark.parametrize(
    ("op", "inputs", "value"),
    [
        *(
            (op, order, value)
            for op in ("Add", "Sub", "Mul")
            for order in ("x c", "c x")
            for value in (2.0, 0)
        ),
        ("Div", "x c", 1.0),
        ("PRelu", "x c", 1.0),
        ("Sum", "x c x", 1.0),
        ("Mean", "x c x", 1.0),
    ],
)
def test_arithmetic_with_constants(tmp_path, op, inputs, value):
    for constant in (np.float32(value + 0.5), PER_CHANNEL + np.float32(value), PER_CHANNEL[None] * 3):
        agree(tmp_path / "m.onnx", model([node(op, inputs, "y")], {"c": constant}))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Clip", "x lo hi", "y")],
        [node("Clip", "x lo", "y")],
        [node("Clip", "x - hi", "y")],
        [node("Max", "x lo", "y")],
        [node("Min", "hi x", "y")],
        [node("Pow", "x two", "y")],
        [node("Mul", "x x", "a"), node("Sub", "x a", "y")],
        [node("ReduceSum", "x axis", "y")],
        [node("ReduceMean", "x axis", "y")],
        [node("ReduceMean", "x axis", "a", keepdims=0), node("Unsqueeze", "a axis", "y")],
        [node("Split", "x", "a b", axis=1, num_outputs=2), node("Mul", "a b", "y")],
        [node("Split", "x ones", "a b", axis=1), node("Concat", "b a b", "y", axis=1)],
        [node("Gather", "x zero", "a", axis=1), node("Unsqueeze", "a axis", "y")],
        [node("Gather", "x swap", "y", axis=1)],
        [node("Slice", "x minus far axis", "y")],
        [node("Slice", "x minus back axis minus", "y")],
        [node("Slice", "x minus zero1 axis minus", "y")],
        [node("Slice", "x zero1 far axis two1", "y")],
        [node("Squeeze", "x zero1", "a"), node("Unsqueeze", "a zero1", "y")],
        [node("Shape", "x", "s"), node("Reshape", "x s", "a"), node("Mul", "a hi", "y")],
        [node("ReduceSum", "x axis", "a"), node("Expand", "a shape", "y")],
        [node("ReduceSum", "x axis", "a"), node("Tile", "a repeats", "y")],
        [node("Cast", "x", "a", to=11), node("CastLike", "a x", "y")],
        [node("Pad", "x pads", "a"), node("Slice", "a zero1 end time", "y")],
        [node("Pad", "x front - time", "a"), node("Slice", "a zero1 end time", "y")],
        [node("MatMul", "square x", "y")],
        [node("Transpose", "x", "t"), node("Transpose", "t", "y")],
        [
            node("Transpose", "x", "t", perm=[0, 2, 1]),
            node("MatMul", "t square", "m"),
            node("Transpose", "m", "y", perm=[0, 2, 1]),
        ],
        *(
            [
                node("Squeeze", "x zero1", "a"),
                node("Transpose", "a", "t"),
                node("Gemm", "t g c", "m", **attributes),
                node("Transpose", "m", "y"),
            ]
            for attributes in ({"alpha": 0.5, "beta": 2.0}, {"transB": 1})
        ),
    ],
    ids=lambda nodes: " ".join(n.op_type for n in nodes),
)
def test_axes_and_sums(tmp_path, nodes):
    constants = {
        **{"lo": np.float32(-0.2), "hi": np.float32(0.3), "two": np.float32(2), "ones": np.array([1, 1])},
        **{"axis": np.array([1]), "zero": np.array(0), "swap": np.array([1, 0, 1]), "zero1": np.array([0])},
        **{"minus": np.array([-1]), "far": np.array([2**62]), "two1": np.array([2]), "time": np.array([2])},
        **{"shape": np.array([1, 3, 1]), "repeats": np.array([1, 3, 1]), "end": np.array([-5])},
        **{"back": np.array([-(2**62)])},
        **{"pads": np.array([0, 0, 5, 0, 0, 0]), "front": np.array([5, 0]), "square": array(8, 2, 2)},
        **{"g": array(7, 2, 2), "c": array(6, 2)},
    }
    used = {name for each in nodes for name in each.input}
    made = model(nodes, {name: value for name, value in constants.items() if name in used})
    agree(tmp_path / "m.onnx", made)


@pytest.mark.parametrize(
    ("node_", "latency"),
    [
        (node("MaxPool", "x", "a", kernel_shape=[3], strides=[2], pads=[1, 1]), 2),
        (node("MaxPool", "x", "a", kernel_shape=[2], strides=[2], dilations=[3]), 4),
        (node("MaxPool", "x", "a", kernel_shape=[2], strides=[2], ceil_mode=1), 2),
        (node("AveragePool", "x", "a", kernel_shape=[4], strides=[2]), 4),
        (node("AveragePool", "x", "a", kernel_shape=[4], strides=[2], pads=[1, 1], count_include_pad=1), 2),
        (node("AveragePool", "x", "a", kernel_shape=[2], strides=[2], auto_pad="SAME_UPPER"), 2),
    ],
)
def test_pools(tmp_path, node_, latency):
    """The frames of its window that are ahead, up to a multiple of the stride; held, to be at one rate."""
    up = node("Resize", "a - f", "y", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    made = model([node_, up], {"f": np.array([1, 1, 2], np.float32)})
    agree(tmp_path / "m.onnx", made, latency)


@pytest.mark.parametrize(
    ("inputs", "attributes", "late"),
    [
        ("a - f", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, 0),
        ("a - f", {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}, 0),
        ("a - f", {}, 0),
        ("a - - sizes", {}, 0),
        ("a - f1", {"axes": [2]}, 0),
        # Half of a frame, at three times the rate.
        ("a - f", {"mode": "linear"}, 1),
        ("a - f", {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}, 1),
    ],
)
def test_resize(tmp_path, inputs, attributes, late):
    nodes = [
        node("AveragePool", "x", "a", kernel_shape=[3], strides=[3]),
        node("Resize", inputs, "y", **attributes),
    ]
    constants = {"f": np.array([1, 1, 3], np.float32), "f1": np.array([3], np.float32)}
    constants["sizes"] = np.array([1, 2, FRAMES])
    used = {name for each in nodes for name in each.input}
    agree(tmp_path / "m.onnx", model(nodes, {n: v for n, v in constants.items() if n in used}), 3 + late)


def gru_weights(hidden: int = 4, inputs: int = 2) -> dict[str, np.ndarray]:
    return {
        "w": array(1, 1, 3 * hidden, inputs),
        "r": array(2, 1, 3 * hidden, hidden),
        "b": array(3, 1, 6 * hidden),
        "h": array(4, 1, 1, hidden),
    }


def of_layer(nodes: list[Any]) -> list[Any]:
    """What brings [batch][channels][time] to [time][batch][channels] and the answers back."""
    return [
        node("Transpose", "x", "t", perm=[2, 0, 1]),
        *nodes,
        node("Squeeze", "z one", "q"),
        node("Transpose", "q", "y", perm=[1, 2, 0]),
    ]


@pytest.mark.parametrize("inputs", ["t w r b", "t w r", "t w r b - h", "t w r b n"])
def test_gru(tmp_path, inputs):
    constants = {**gru_weights(), "one": np.array([1]), "n": np.array([FRAMES], np.int32)}
    nodes = of_layer([node("GRU", inputs, "z", hidden_size=4, linear_before_reset=1)])
    used = {name for each in nodes for name in each.input}
    agree(tmp_path / "m.onnx", model(nodes, {n: v for n, v in constants.items() if n in used}))


def test_gru_that_resets_first_where_that_is_the_same(tmp_path):
    constants = {**gru_weights(), "one": np.array([1])}
    constants["r"][0, 8:] *= np.eye(4, dtype=np.float32)
    nodes = of_layer([node("GRU", "t w r b", "z", hidden_size=4)])
    del constants["h"]
    agree(tmp_path / "m.onnx", model(nodes, constants))


@pytest.mark.parametrize("inputs", ["t w r b", "t w r", "t w r b - h c", "t w r b - h c p"])
def test_lstm(tmp_path, inputs):
    hidden = 3
    constants = {
        **{"w": array(1, 1, 4 * hidden, 2), "r": array(2, 1, 4 * hidden, hidden), "one": np.array([1])},
        **{"b": array(3, 1, 8 * hidden), "h": array(4, 1, 1, hidden), "c": array(5, 1, 1, hidden)},
        "p": np.zeros((1, 3 * hidden), np.float32),
    }
    nodes = of_layer(
        [node("LSTM", inputs, "z last", hidden_size=hidden, activations=["Sigmoid", "Tanh", "Tanh"])]
    )
    used = {name for each in nodes for name in each.input}
    graph = agree(tmp_path / "m.onnx", model(nodes, {n: v for n, v in constants.items() if n in used}))
    assert not graph.notes


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_recurrences_with_the_batch_first(tmp_path, op):
    """ONNX Runtime does not know this layout: against its own with what it needs turned round."""
    gates = 3 if op == "GRU" else 4
    attributes = {"hidden_size": 4, **({"linear_before_reset": 1} if op == "GRU" else {})}
    constants = {"w": array(1, 1, gates * 4, 2), "r": array(2, 1, gates * 4, 4), "b": array(3, 1, gates * 8)}
    usual = model(of_layer([node(op, "t w r b", "z", **attributes)]), {**constants, "one": np.array([1])})
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node(op, "t w r b", "z", layout=1, **attributes),
        node("Squeeze", "z two", "q"),
        node("Transpose", "q", "y", perm=[0, 2, 1]),
    ]
    path = save(tmp_path / "m.onnx", model(nodes, {**constants, "two": np.array([2])}))
    agree(tmp_path / "usual.onnx", usual)
    x = array(5, FRAMES, 2)
    np.testing.assert_array_equal(Model(load_graph(path))(x), Model(load_graph(tmp_path / "usual.onnx"))(x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "double"])
def test_weights_of_other_types(tmp_path, dtype):
    """They are taken to float32, which holds them."""
    kind = getattr(onnx.TensorProto, dtype.upper())
    rounded = (array(1, 3, 2, 1) * 4).round() / 4
    tensor = helper.make_tensor("w", kind, rounded.shape, rounded.ravel().tolist())
    plain = model([node("Conv", "x w", "y")], {"w": rounded})
    other = model([node("Conv", "x w", "y")])
    other.graph.initializer.append(tensor)
    agree(tmp_path / "plain.onnx", plain)
    x = array(5, FRAMES, 2)
    save(tmp_path / "other.onnx", other)
    np.testing.assert_array_equal(
        Model(load_graph(tmp_path / "other.onnx"))(x), Model(load_graph(tmp_path / "plain.onnx"))(x)
    )


def test_initializers_that_are_inputs_too_are_constants(tmp_path):
    graph = agree(
        tmp_path / "m.onnx",
        model([node("Conv", "x w", "y")], {"w": array(1, 3, 2, 1)}, inputs={"w": (3, 2, 1)}),
    )
    assert not graph.knobs


def test_a_cache_as_long_as_the_block_is_a_state(tmp_path):
    """By its shape it might be a parameter for each frame; what is done with it tells."""
    weight = array(2, 1, 2, 4)
    nodes = [
        node("Concat", "cache x", "long", axis=2),
        node("Conv", "long w", "y"),
        node("Slice", "long from to axis", "next"),
    ]
    constants = {"w": weight, "from": np.array([3]), "to": np.array([6]), "axis": np.array([2])}
    made = model(nodes, constants, (1, 2, 3), inputs={"cache": (1, 2, 3)}, outputs=("y", "next"))
    path = save(tmp_path / "m.onnx", made)
    graph, run = load_graph(path), runtime(path)
    assert not graph.knobs
    x, cache, expected = array(5, 1, 2, 60), np.zeros((1, 2, 3), np.float32), []
    for begin in range(0, 60, 3):
        y, cache = run.run(None, {"x": x[:, :, begin : begin + 3], "cache": cache})
        expected.append(y[0, 0])
    found = Model(graph)(np.ascontiguousarray(x[0].T))
    np.testing.assert_allclose(found[:, 0], np.concatenate(expected), atol=1e-5)


def test_open_batch_and_time(tmp_path):
    made = model([node("Conv", "x w", "y", pads=[3, 0])], {"w": W}, ("batch", 2, "time"))
    save(tmp_path / "m.onnx", made)
    x = array(5, 1, 2, FRAMES)
    (y,) = runtime(tmp_path / "m.onnx").run(None, {"x": x})
    found = Model(load_graph(tmp_path / "m.onnx"))(np.ascontiguousarray(x[0].T))
    np.testing.assert_allclose(found.T, y[0], atol=1e-5)


def test_functions_of_the_file_are_written_out(tmp_path):
    """One function calls another; both are called twice, with attributes handed down."""
    scaled = helper.make_function(
        "here",
        "Scaled",
        ["a"],
        ["b"],
        [node("Elu", "a", "t"), node("Add", "t a", "b")],
        [helper.make_opsetid("", 18)],
        ["alpha"],
    )
    scaled.node[0].attribute.append(onnx.AttributeProto(name="alpha", type=1, ref_attr_name="alpha"))
    inner = node("Scaled", "a", "t", domain="here")
    inner.attribute.append(onnx.AttributeProto(name="alpha", type=1, ref_attr_name="beta"))
    outer = helper.make_function(
        "here",
        "Twice",
        ["a"],
        ["b"],
        [inner, node("Scaled", "t", "b", domain="here", alpha=0.25)],
        [helper.make_opsetid("", 18), helper.make_opsetid("here", 1)],
        ["beta"],
    )
    nodes = [
        node("Twice", "x", "m", domain="here", beta=0.75),
        node("Twice", "m", "y", domain="here", beta=0.5),
    ]
    made = model(nodes, functions=[scaled, outer])
    del made.opset_import[-1]
    agree(tmp_path / "m.onnx", made)
