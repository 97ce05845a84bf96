"""ONNX files that are broken, lie, or ask for what no stream does: one ModelError, never anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import array

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")

from onnx import TensorProto, helper  # noqa: E402
from onnx_graphs import FRAMES, model, node, save  # noqa: E402

from backline.engine import Model  # noqa: E402
from backline.errors import ModelError  # noqa: E402
from backline.formats import load_graph  # noqa: E402
from backline.graph import Graph  # noqa: E402


def refusal(path: Path, made: Any = None) -> str:
    """Load a file, written first where there is a model, and return what follows the path in the error."""
    if made is not None:
        save(path, made)
    with pytest.raises(ModelError) as caught:
        load_graph(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 600
    return text[len(f"{path}: ") :]


W = array(11, 3, 2, 4)


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([node("Foo", "x", "y", name="n")], "node 'n' (Foo): this operator is not supported"),
        ([node("Foo", "x", "a"), node("Relu", "a", "y")], "node 'a' (Foo): this operator is not supported"),
        ([node("Foo", "w", "a"), node("Conv", "x a", "y")], "node 'a' (Foo): is not supported, not even on"),
        ([node("Gelu", "x", "y", domain="com.microsoft")], "node 'y' (Gelu): operators of 'com.microsoft'"),
        ([node("Conv", "x gone", "y")], "node 'y' (Conv): reads 'gone', which no earlier node writes"),
        ([node("Relu", "x", "a"), node("Tanh", "x", "a")], "node 'a' (Tanh): writes 'a' for a second time"),
        ([node("Relu", "x", "z")], "output 'y' is written by no node"),
        ([node("Identity", "w", "y")], "expected a tensor that moves with time, found a constant"),
        ([node("Conv", "x x", "y")], "node 'y' (Conv): expected a constant as input 1"),
        ([node("Conv", "x w", "y", pads=[1])], "attribute 'pads': expected 2 sizes, found [1]"),
        ([node("Conv", "x w", "y", strides=[0])], "attribute 'strides': expected 1 sizes, found [0]"),
        ([node("Conv", "x w", "y", strides=[2**40])], "attribute 'strides'"),
        ([node("Conv", "x w", "y", strides=["a"])], "attribute 'strides': expected a list of integers"),
        ([node("Conv", "x w", "y", kernel_shape=[3])], "attribute 'kernel_shape': expected [4], found [3]"),
        ([node("Conv", "x w", "y", auto_pad="SAME")], "attribute 'auto_pad': expected 'NOTSET'"),
        ([node("Conv", "x w", "y", group=3)], "groups 3 does not divide"),
        ([node("ConvTranspose", "x w4", "y")], "is only supported over one axis"),
        ([node("Pad", "x pads", "y", mode="reflect")], "node 'y' (Pad): attribute 'mode'"),
        ([node("Pad", "x pads one", "y")], "node 'y' (Pad): pads with 1, expected zeros"),
        ([node("Softmax", "x", "y")], "node 'y' (Softmax): goes along time"),
        ([node("ReduceMean", "x", "y")], "node 'y' (ReduceMean): goes over all of time"),
        ([node("GlobalAveragePool", "x", "y")], "node 'y' (GlobalAveragePool)"),
        ([node("AveragePool", "x", "y", kernel_shape=[4], pads=[1, 1])], "does not count its padding"),
        ([node("MaxPool", "x", "y", kernel_shape=[3], strides=[2], ceil_mode=1)], "ceil_mode"),
        ([node("MaxPool", "x", "y i", kernel_shape=[2])], "hands out indices"),
        ([node("Resize", "x - half", "y")], "resizes time by 0.5"),
        ([node("Resize", "x - two", "y", mode="cubic")], "attribute 'mode'"),
        (
            [node("Resize", "x - two", "y", mode="linear", coordinate_transformation_mode="align_corners")],
            "expected 'half_pixel', found 'align_corners'",
        ),
        ([node("Cast", "x", "y", to=7)], "node 'y' (Cast): casts audio to type 7"),
        ([node("Div", "one x", "y")], "node 'y' (Div): divides by a tensor that moves with time"),
        ([node("Pow", "x half1", "y")], "node 'y' (Pow)"),
        ([node("Reshape", "x flat", "y")], "node 'y' (Reshape): reshaping"),
        ([node("Slice", "x minus zero last back", "y")], "node 'y' (Slice): turns time round"),
        ([node("Transpose", "x", "y", perm=[0, 0, 1])], "node 'y' (Transpose): expected an order of 3 axes"),
        ([node("Mul", "x ramp", "y")], "node 'y' (Mul): a constant differs from frame to frame"),
        ([node("ConstantOfShape", "huge", "y")], "node 'y' (ConstantOfShape): makes a constant of"),
        ([node("Expand", "one huge", "y")], "node 'y' (Expand): makes a constant of"),
        ([node("Tile", "x many", "y")], "node 'y' (Tile)"),
        ([node("Where", "x one one", "y")], "node 'y' (Where): this operator is not supported"),
        ([node("Erf", "x", "y")], "erf and sin are only known in gelu"),
        (
            [node("LSTM", "x w w", "y", direction="bidirectional")],
            "attribute 'direction': expected 'forward', found 'bidirectional'",
        ),
        ([node("LSTM", "x w w", "y", hidden_size=4)], "node 'y' (LSTM): expected weights of 4 gates"),
        ([node("GRU", "t gw gr", "y")], "linear_before_reset 0"),
        ([node("BatchNormalization", "x one one one one", "y", training_mode=1)], "'training_mode'"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_refused_names_the_node(tmp_path: Path, nodes: list[Any], text: str) -> None:
    constants = {
        **{"w": W, "w4": array(1, 2, 1, 2, 2), "pads": np.array([0, 0, 3, 0, 0, 0]), "one": np.float32(1)},
        **{"half": np.array([1, 1, 0.5], np.float32), "two": np.array([1, 1, 2], np.float32)},
        **{
            "half1": np.float32(0.5),
            "flat": np.array([1, -1]),
            "minus": np.array([-1]),
            "last": np.array([2]),
        },
        **{"zero": np.array([0]), "back": np.array([-1]), "ramp": np.arange(FRAMES, dtype=np.float32)},
        **{"huge": np.array([1 << 20, 1 << 20]), "many": np.array([1, 1 << 40, 1])},
        **{"gw": array(1, 1, 12, 2), "gr": array(2, 1, 12, 4)},
    }
    if any("t" in each.input for each in nodes):
        nodes = [node("Transpose", "x", "t", perm=[2, 0, 1]), *nodes]
    assert text in refusal(tmp_path / "m.onnx", model(nodes, constants))


def changed(change: Callable[[Any], Any]) -> Any:
    made = model(
        [node("Conv", "x w b", "a", pads=[3, 0]), node("Tanh", "a", "y")], {"w": W, "b": array(1, 3)}
    )
    change(made)
    return made


def tensor(made: Any) -> Any:
    return made.graph.initializer[0]


BROKEN: list[tuple[Callable[[Any], Any], str]] = [
    (lambda m: m.opset_import.pop(), "does not say which version"),
    (lambda m: setattr(m.opset_import[0], "version", 12), "uses opset 12, expected 13 to"),
    (lambda m: setattr(m.opset_import[0], "version", 999), "uses opset 999, expected 13 to"),
    (lambda m: m.graph.input.pop(), "has no inputs"),
    (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "input 'x': expected a shape"),
    (lambda m: m.graph.input[0].ClearField("type"), "input 'x': expected a tensor"),
    (lambda m: m.graph.output.pop(), "no output follows the audio"),
    (lambda m: m.graph.input.append(m.graph.input[0]), "input 'x': expected a name of its own"),
    (lambda m: m.graph.initializer.append(tensor(m)), "initializer 'w': expected a name of its own"),
    (lambda m: m.graph.sparse_initializer.add(), "sparse"),
    (lambda m: tensor(m).dims.append(2), "initializer 'w': expected 192 bytes, found 96"),
    (lambda m: tensor(m).dims.append(-1), "initializer 'w': has shape"),
    (lambda m: tensor(m).dims.append(1 << 62), "initializer 'w': has shape"),
    (lambda m: tensor(m).dims.extend([1 << 20] * 3), "elements, at most"),
    (lambda m: tensor(m).dims.extend([1] * 20), "initializer 'w': has shape of 23 axes"),
    (lambda m: setattr(tensor(m), "data_type", 8), "initializer 'w': holds elements of type 8"),
    (lambda m: setattr(tensor(m), "data_type", 0), "initializer 'w': holds elements of type 0"),
    (lambda m: setattr(tensor(m), "data_type", 6), "expected floating-point numbers as input 1"),
    (lambda m: tensor(m).ClearField("raw_data"), "initializer 'w': expected 24 numbers, found 0"),
    (lambda m: setattr(tensor(m), "raw_data", b"\xff" * 96), "not finite in float32"),
    (lambda m: helper.set_model_props(m, {"sample_rate": "fast"}), "metadata 'sample_rate'"),
    (lambda m: helper.set_model_props(m, {"sample_rate": "nan"}), "metadata 'sample_rate'"),
    (lambda m: helper.set_model_props(m, {"sample_rate": "-3"}), "sample rate"),
    (lambda m: helper.set_model_props(m, {"knobs": "{"}), "metadata 'knobs'"),
    (lambda m: helper.set_model_props(m, {"knobs": "[]"}), "metadata 'knobs'"),
    (lambda m: helper.set_model_props(m, {"knobs": '{"gain": {}}'}), "there is no input 'gain'"),
]


@pytest.mark.parametrize(("change", "text"), BROKEN, ids=[text[:40] for _, text in BROKEN])
def test_broken_files(tmp_path: Path, change: Callable[[Any], Any], text: str) -> None:
    assert text in refusal(tmp_path / "m.onnx", changed(change))


def test_what_depends_on_the_length_of_the_recording(tmp_path: Path) -> None:
    """Refused where the length is open; a length that only says what shape something has is no matter."""
    start = [node("Shape", "x", "s"), node("Slice", "s last end", "t"), node("Cast", "t", "f", to=1)]
    constants = {"last": np.array([2]), "end": np.array([3]), "zero": np.array([0, 0, 0, 0, 0])}
    scaled = model([*start, node("Div", "x f", "y")], constants, (1, 2, "time"))
    assert "something else for each length" in refusal(tmp_path / "m.onnx", scaled)
    assert isinstance(
        load_graph(save(tmp_path / "m.onnx", model([*start, node("Div", "x f", "y")], constants))), Graph
    )
    nodes = [*start, node("Concat", "zero t", "p", axis=0), node("Reshape", "x s", "y")]
    assert isinstance(load_graph(save(tmp_path / "m.onnx", model(nodes, constants, (1, 2, "time")))), Graph)


def test_truncated_files(tmp_path: Path) -> None:
    whole = changed(lambda m: None).SerializeToString()
    path = tmp_path / "m.onnx"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        refusal(path)
    path.write_bytes(whole)
    assert isinstance(load_graph(path), Graph)


def test_functions_without_end(tmp_path: Path) -> None:
    """Ones that call themselves, and thirty that call the next one twice."""
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("here", 1)]

    def function(name: str, below: str) -> Any:
        nodes = [node(below, "a", "t", domain="here"), node(below, "t", "b", domain="here")]
        return helper.make_function("here", name, ["a"], ["b"], nodes, domains)

    call = [node("F0", "x", "y", domain="here")]
    for functions in ([function("F0", "F0")], [function(f"F{i}", f"F{i + 1}") for i in range(30)]):
        last = helper.make_function("here", "F30", ["a"], ["b"], [node("Relu", "a", "b")], domains)
        made = model(call, functions=[*functions, last])
        assert "function" in refusal(tmp_path / "m.onnx", made)


def outside(location: str, **entries: str) -> Any:
    """A model whose weights lie in another file."""

    def change(made: Any) -> None:
        found = tensor(made)
        found.ClearField("raw_data")
        found.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            found.external_data.add(key=key, value=value)

    return changed(change)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, with a good file of weights in it, and one beside the folder."""
    found = tmp_path / "model"
    (found / "inside").mkdir(parents=True)
    (found / "inside" / "w.bin").write_bytes(b"\0\0\0\0" + W.tobytes())
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    (found / "link.bin").symlink_to(tmp_path / "w.bin")
    (found / "up").symlink_to(tmp_path)
    (found / "loop").symlink_to(found / "loop")
    (found / "within.bin").symlink_to(found / "inside" / "w.bin")
    os.mkfifo(found / "pipe")
    return found


@pytest.mark.parametrize("location", ["inside/w.bin", "within.bin", "./inside//w.bin"])
def test_external_data_in_the_folder(folder: Path, location: str) -> None:
    path = save(folder / "m.onnx", outside(location, offset="4", length="96"))
    plain = save(folder / "plain.onnx", changed(lambda m: None))
    x = array(2, FRAMES, 2)
    np.testing.assert_array_equal(Model(load_graph(path))(x), Model(load_graph(plain))(x))


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("../w.bin", "no plain path"),
        ("inside/../../w.bin", "no plain path"),
        ("/etc/hostname", "outside the model's folder"),
        ("link.bin", "outside the model's folder"),
        ("up/w.bin", "outside the model's folder"),
        ("loop", "cannot be"),
        ("", "no plain path"),
        (".", "outside the model's folder"),
        ("C:\\w.bin", "no plain path"),
        ("a\0b", "no plain path"),
        ("x" * 5000, "external data"),
        ("pipe", "is no regular file"),
        ("inside", "is no regular file"),
        ("gone.bin", "cannot be read"),
    ],
)
def test_external_data_elsewhere_is_refused(folder: Path, location: str, text: str) -> None:
    found = refusal(folder / "m.onnx", outside(location))
    assert found.startswith("initializer 'w': external data: ")
    assert text in found


@pytest.mark.parametrize(
    "entries",
    [
        *({"offset": offset} for offset in ("8", "-4", "1e3", "9" * 30, "\u0663", "")),
        *({"length": length} for length in ("92", "0", "x", "1" * 30)),
        {"offset": str(2**62)},
    ],
)
def test_external_data_is_all_there(folder: Path, entries: dict[str, str]) -> None:
    assert "external data" in refusal(folder / "m.onnx", outside("inside/w.bin", **entries))


def test_without_the_package(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", changed(lambda m: None))
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "import backline\n"
        "try: backline.load(sys.argv[1])\n"
        "except backline.ModelError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert 'pip install "backline[onnx]"' in done.stdout


def test_other_formats_do_not_need_it(wavenet_file: Path) -> None:
    code = "import sys, backline; backline.load(sys.argv[1]); print('onnx' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, wavenet_file], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_layers_belong_to_a_state_dict_only(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", changed(lambda m: None))
    with pytest.raises(ModelError, match="layers describe a PyTorch state_dict"):
        load_graph(path, layers=[{"type": "dense"}])
