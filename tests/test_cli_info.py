"""`backline info`: what the table and the JSON say of layers, counted by hand."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from documents import keras_2d
from graphs import array

import backline
from backline.activations import Activation
from backline.cli import main
from backline.graph import Graph, Knob
from backline.layers import Activate, Concat, Conv1d, Delay, Gru, Upsample

#: Four inputs in two groups become six at half the rate, five taps three frames apart, then a GRU of three.
NODES = (
    Conv1d("down", "x", array(0, 6, 2, 5), array(1, 6), groups=2, dilation=3, stride=2),
    Activate("bent", "down", Activation("tanh")),
    Gru("state", "bent", array(2, 9, 6), array(3, 9, 3), array(4, 9), array(5, 9)),
    Delay("late", "state", 7),
    Upsample("up", "late", 2),
    Concat("y", ("up", "drive")),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    knob = Knob("drive", 0.5, 0.0, 1.0)
    graph = Graph(
        NODES, "x", 4, "y", knobs=(knob,), sample_rate_hz=48000.0, name="by hand", latency_frames=24
    )
    backline.save(graph, tmp_path / "by hand.backline")
    return tmp_path / "by hand.backline"


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["info", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_layers_as_json(model, capsys):
    found = json.loads(told(capsys, model, "--json"))
    down, bent, state, late, up, y = found["layers"]
    assert (down["name"], down["kind"]) == ("down", "Conv1d")
    assert (down["input_channels"], down["output_channels"]) == (4, 6)
    assert (down["kernel"], down["dilation"], down["stride"], down["groups"]) == (5, 3, 2, 2)
    assert down["parameters"] == 6 * 2 * 5 + 6
    assert down["multiply_adds_per_frame"] == 6 * 2 * 5 / 2  # it runs for every second frame
    assert (down["rate"], up["rate"]) == ("1/2", "1")
    assert (bent["activation"], bent["parameters"]) == ("tanh", 0)
    assert state["parameters"] == 9 * 6 + 9 * 3 + 9 + 9
    assert state["multiply_adds_per_frame"] == (9 * 6 + 9 * 3) / 2
    assert (late["delay_frames"], up["stride"]) == (7, 2)
    assert (y["input_channels"], y["output_channels"]) == (4, 4)
    assert found["parameters"] == down["parameters"] + state["parameters"]
    assert found["multiply_adds_per_frame"] == 30 + 40.5
    assert found["knobs"] == [
        {"name": "drive", "default": 0.5, "minimum": 0.0, "maximum": 1.0, "ramp_ms": 20.0}
    ]
    assert (found["latency_frames"], found["latency_ms"]) == (24, 0.5)
    assert (found["receptive_field_frames"], found["receptive_field_ms"]) == (None, None)


def test_layers_as_a_table(model, capsys):
    text = told(capsys, model)
    lines = text.split("\n\n")[1].split("\n")
    assert lines[0].split() == [
        *("layer", "kind", "shape", "kernel", "dilation", "stride", "groups", "parameters"),
        *("multiply-adds", "rate"),
    ]
    assert " ".join(lines[1].split()) == "down Conv1d 4 → 6 5 3 2 2 66 30 1/2"
    assert " ".join(lines[3].split()) == "state GRU 6 → 3 99 40.5 1/2"
    # A number stands under its heading, to the right.
    for heading, number in (
        ("kernel", "5"),
        ("dilation", "3"),
        ("parameters", "66"),
        ("multiply-adds", "30"),
    ):
        end = lines[0].index(heading) + len(heading)
        assert lines[1][:end].endswith(f" {number}")
    assert "Latency          24 frames, 0.5 ms" in text
    assert "Knob             drive: 0 to 1, at 0.5" in text
    assert "Receptive field  unbounded (recurrent)" in text


def test_what_no_layer_has_is_no_column(tmp_path, capsys):
    backline.save(backline.conv1d(np.ones((1, 1, 1))), tmp_path / "one.backline")
    text = told(capsys, tmp_path / "one.backline")
    assert text.split("\n\n")[1].split("\n")[0].split() == [
        *("layer", "kind", "shape", "kernel", "parameters", "multiply-adds"),
    ]
    assert "Receptive field  1 frame\n" in text


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_narrow_terminal_costs_no_digit(monkeypatch, capsys, columns):
    """Columns get short headings and names are folded, but what is counted is there in full."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    text = re.sub(r"\x1b\[[0-9;]*m", "", told(capsys, "overdrive"))
    lines = text.split("\n\n")[1].split("\nand ")[0].split("\n")
    assert ("params" in lines[0]) == (columns < 100)
    assert columns < 80 or max(map(len, lines)) <= columns
    numbers = [line.split()[-2:] for line in lines[1:] if " Conv1d " in line]
    convolutions = [node for node in backline.load("overdrive").graph.nodes if isinstance(node, Conv1d)]
    sizes = [sum(values.size for values in node.arrays.values()) for node in convolutions]
    assert numbers == [
        [f"{size:,}", f"{node.weight.size:,}"] for size, node in zip(sizes, convolutions, strict=True)
    ]


def test_convolutions_over_features(tmp_path, capsys):
    """Three features of two filters: two taps two frames apart, three features wide."""
    (tmp_path / "flat.json").write_text(json.dumps(keras_2d()))
    found = json.loads(told(capsys, tmp_path / "flat.json", "--json"))
    (flat,) = (layer for layer in found["layers"] if layer["kind"] == "Conv2d")
    assert (flat["kernel"], flat["dilation"], flat["stride"]) == ([2, 3], [2, 1], [1, 1])
    assert (flat["input_channels"], flat["input_features"]) == (2, 3)
    assert (flat["output_channels"], flat["features"]) == (2, 3)
    assert flat["parameters"] == 2 * 2 * 2 * 3 + 2
    row = next(line for line in told(capsys, tmp_path / "flat.json").split("\n") if " Conv2d " in line)
    assert " ".join(row.split()).endswith(" Conv2d 2 by 3 → 2 by 3 2 by 3 2 by 1 26 72")


def test_long_models_list_what_has_parameters(capsys):
    text = told(capsys, "overdrive")
    assert " tanh " not in text.split("\n\n")[1].split("\nand ")[0]
    assert "and 39 without parameters: 29 Add, 10 tanh (--all-layers lists them)" in text
    every = told(capsys, "overdrive", "--all-layers").split("\n\n")[1].rstrip("\n").split("\n")
    assert len(every) == 1 + len(backline.load("overdrive").graph.nodes)
