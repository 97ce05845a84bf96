"""Backline's own file: what is saved comes back, and nothing else is taken for it."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import array, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from test_layers import LAYERS

import backline
from backline import layers as layer_kinds
from backline.cli import main
from backline.engine import Model
from backline.errors import FileExists, ModelError
from backline.formats import backline_file
from backline.graph import Graph, Knob, SelfTest
from backline.layers import Affine, Concat


def assert_same(a: Any, b: Any) -> None:
    """Equal in type and value all the way down, arrays bit for bit."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    elif is_dataclass(a):
        for field in fields(a):
            if field.init:
                assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, tuple | list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.fixture
def rich() -> Graph:
    """A graph with something in every field."""
    nodes = (Concat("both", ("x", "drive")), Affine("y", "both", array(1, 2), array(2, 2)))
    return Graph(
        nodes,
        "x",
        1,
        "y",
        knobs=(Knob("drive", 0.5, 0.0, 1.0, 7.5),),
        sample_rate_hz=44100.0,
        prewarm_frames=12,
        name="née Ünal",
        metadata={"gear": {"make": "x", "year": 1987}, "list": [1, 2.5, None, True]},
        notes=("one", "two"),
        latency_frames=3,
        self_tests=(SelfTest("x", "y", array(3, 1, 9), array(4, 2, 9), {"drive": 0.25}, 2),),
    )


@given(graph=graphs())
@examples(40)
def test_drawn_graphs_come_back(graph):
    assert_same(backline_file.decode(backline_file.encode(graph)), graph)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
@given(data=st.data())
@examples(5)
def test_every_layer_comes_back(layer, data):
    graph = data.draw(layer()).graph
    assert_same(backline_file.decode(backline_file.encode(graph)), graph)


def test_everything_a_graph_says_comes_back(rich):
    assert_same(backline_file.decode(backline_file.encode(rich)), rich)


def test_every_kind_of_node_has_a_name():
    nodes = {
        kind
        for kind in vars(layer_kinds).values()
        if isinstance(kind, type) and issubclass(kind, layer_kinds.Node) and kind is not layer_kinds.Node
    }
    assert nodes == set(backline_file.KINDS.values())


def test_a_saved_model_sounds_the_same_and_opens_in_other_programs(wavenet_file, tmp_path):
    model = backline.load(wavenet_file)
    path = tmp_path / "model.backline"
    backline.save(model, path)
    x = array(5, 3000)
    assert np.array_equal(backline.load(path)(x), model(x))
    with safe_open(path, framework="numpy") as file:
        assert file.metadata()["format"] == "backline"
        total = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert total == model.graph.parameter_count


def test_saving_replaces_only_when_told(rich, tmp_path):
    path = tmp_path / "model.backline"
    backline.save(Model(rich), path)
    before = path.read_bytes()
    with pytest.raises(FileExists):
        backline.save(Model(replace(rich, name="other")), path)
    assert path.read_bytes() == before
    backline.save(replace(rich, name="other"), path, overwrite=True)
    assert backline.load(path).name == "other"
    assert [child.name for child in tmp_path.iterdir()] == ["model.backline"]


def test_golden_models_convert(golden: Path, tmp_path):
    cases = json.loads((golden / "manifest.json").read_text())["cases"]
    found = {
        (case["model"], case.get("slim") or 1.0)
        for case in cases
        if case["kind"] in ("nam", "recurrent_json")
    }
    x = array(6, 2000)
    for number, (name, quality) in enumerate(sorted(found)):
        model = backline.load(golden / name, quality=quality)
        path = tmp_path / f"{number}.backline"
        backline.save(model, path)
        assert np.array_equal(backline.load(path)(x), model(x))


def test_convert_command(wavenet_file, tmp_path, capsys):
    out = tmp_path / "out.backline"
    assert main(["convert", str(wavenet_file), str(out)]) == 0
    assert "parameters" in capsys.readouterr().out
    assert main(["convert", str(wavenet_file), str(out)]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["convert", str(out), str(out), "--force"]) == 0
    assert main(["convert", str(wavenet_file), str(tmp_path / "out.nam")]) == 2
    assert sorted(child.name for child in tmp_path.glob("out*")) == ["out.backline"]


def with_graph(data: bytes, change) -> bytes:
    """The file with another graph in its header."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    document = json.loads(header["__metadata__"]["graph"])
    change(document, header)
    header["__metadata__"]["graph"] = json.dumps(document)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def set_version(document, header):
    header["__metadata__"]["version"] = "2"


def set_format(document, header):
    header["__metadata__"]["format"] = "other"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (set_version, "version '2'"),
        (set_format, "without a Backline graph"),
        (lambda d, h: d["nodes"][0].update(kind="Conv1d"), "expected one of"),
        (lambda d, h: d["nodes"][0].update(colour=1), "colour"),
        (lambda d, h: d["nodes"][1].update(scale="array 99"), "no tensor 'array 99'"),
        (lambda d, h: d["nodes"][1].pop("scale"), "'scale' is missing"),
        (lambda d, h: d["nodes"][0].update(sources=[1]), "expected a string"),
        (lambda d, h: d.update(prewarm_frames=1.5), "expected an integer"),
        (lambda d, h: d.update(prewarm_frames=-1), "outside 0"),
        (lambda d, h: d.update(extra=1), "unknown field 'extra'"),
        (lambda d, h: d.pop("input"), "'input' is missing"),
        (lambda d, h: d.update(nodes={}), "a list of at most"),
        (lambda d, h: d.update(output="nowhere"), "written by no layer"),
        (lambda d, h: d["self_tests"][0].update(input="nowhere"), "does not exist"),
    ],
)
def test_broken_files_are_refused(rich, tmp_path, change, text):
    path = tmp_path / "broken.backline"
    path.write_bytes(with_graph(backline_file.encode(rich), change))
    with pytest.raises(ModelError, match=text) as caught:
        backline.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@given(data=st.data())
@examples(300)
def test_mutated_files_end_in_a_model_or_an_error(data, tmp_path_factory):
    nodes = (Concat("both", ("x", "drive")), Affine("y", "both", array(1, 2), array(2, 2)))
    content = bytearray(
        backline_file.encode(Graph(nodes, "x", 1, "y", knobs=(Knob("drive", 0.5, 0.0, 1.0),)))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        what = data.draw(st.sampled_from(["flip", "cut", "insert", "digit"]))
        if what == "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif what == "cut":
            del content[at : at + data.draw(st.integers(1, 30))]
        elif what == "insert":
            content[at:at] = data.draw(st.binary(max_size=9))
        else:
            content[at : at + 1] = b"9"
        if not content:
            break
    path = tmp_path_factory.getbasetemp() / "mutated.backline"
    path.write_bytes(content)
    try:
        backline.load(path)
    except ModelError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 - it may also load
