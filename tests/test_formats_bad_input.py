"""Whatever is in a file: a Graph, or one ModelError that begins with the path. Never anything else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import DOCUMENTS, layers_for, nested, numbers, state_dict, torch_layers, wavenet
from mutations import drop, put

from backline import formats
from backline.errors import ModelError
from backline.formats import load_graph
from backline.graph import Graph


def refusal(path: Path, **options: Any) -> str:
    """Load and return what follows the path in the error."""
    with pytest.raises(ModelError) as caught:
        load_graph(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 500
    return text[len(f"{path}: ") :]


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("suffix", ["model", "model.wav", "model.nam.json"])
def test_the_documents_are_good_whatever_they_are_called(tmp_path: Path, name: str, suffix: str) -> None:
    document = DOCUMENTS[name]()
    path = tmp_path / suffix
    path.write_text(json.dumps(document), encoding="utf-8")
    graph = load_graph(path, layers=layers_for(document))
    assert isinstance(graph, Graph)
    assert graph.name == ("Loud" if "metadata" in document else path.stem)


A0 = ("config", "layers", 0)
BROKEN = [
    ("wavenet", put("version", value="0.4.9"), "expected 0.5.0 to 0.7.x, found 0.4.9"),
    ("wavenet", put("version", value="1.0.0"), "found 1.0.0"),
    ("wavenet", put("version", value="0.5"), "such as 0.5.4, found '0.5'"),
    ("wavenet", put("version", value=0.5), "field 'version': expected a string, found 0.5"),
    ("wavenet", put("architecture", value="Perceiver"), "found 'Perceiver'"),
    ("wavenet", put("architecture", value="Linear"), "field 'receptive_field' is missing"),
    ("wavenet", put("architecture", value="ConvNet"), "field 'channels' is missing"),
    (
        "wavenet",
        put("architecture", value="Sequential"),
        "expected none beside a Sequential's models, found 198",
    ),
    ("wavenet", drop("config"), "field 'config' is missing"),
    ("wavenet", put("config", value=[1]), "config: expected an object, found a list of 1"),
    ("wavenet", drop("weights"), "field 'weights' is missing"),
    ("wavenet", put("weights", value={}), "field 'weights': expected a list of numbers, found an object"),
    ("wavenet", put("weights", value=[]), "array 0 rechannel: expected at least 4 weights"),
    ("wavenet", drop("weights", 0), "head scale: expected at least 198 weights up to here, found 197"),
    ("wavenet", put("weights", value=numbers(200)), "expected 198 weights, found 200"),
    ("wavenet", put("weights", 7, value="1.0"), "field 'weights'[7]: expected a number, found '1.0'"),
    ("wavenet", put("weights", 7, value=True), "'weights'[7]: expected a number, found true"),
    ("wavenet", put("weights", 7, value=[1.0]), "'weights'[7]: expected a number, found a list of 1"),
    ("wavenet", put("weights", 7, value=None), "'weights'[7]: expected a number, found null"),
    ("wavenet", put("weights", 7, value=1e39), "'weights'[7]: expected a number that float32 can hold"),
    ("wavenet", put("weights", 7, value=-(10**400)), "'weights'[7]: expected a number that float32 can hold"),
    ("wavenet", put("weights", 7, value=float("nan")), "NaN"),
    ("wavenet", put("weights", 7, value=float("-inf")), "-Infinity"),
    ("wavenet", put("sample_rate", value="48k"), "field 'sample_rate': expected a number, found '48k'"),
    ("wavenet", put("sample_rate", value=-1), "expected a positive number, found -1"),
    ("wavenet", put("sample_rate", value=1e300), "sample rate"),
    ("wavenet", put("metadata", value=[1]), "metadata"),
    ("wavenet", put(*A0, "channels", value=True), "array 0: field 'channels': expected an integer"),
    ("wavenet", put(*A0, "channels", value=4.0), "expected an integer from 1 to 16777216, found 4.0"),
    ("wavenet", put(*A0, "channels", value="4"), "found '4'"),
    ("wavenet", put(*A0, "channels", value=0), "expected an integer from 1 to 16777216, found 0"),
    ("wavenet", put(*A0, "channels", value=-4), "found -4"),
    ("wavenet", put(*A0, "channels", value=10**9), "found 1000000000"),
    ("wavenet", put(*A0, "channels", value=10**300), "an integer of more than 18 digits"),
    ("wavenet", put(*A0, "channels", value=5), "groups 2 does not divide the 5 input channels"),
    ("wavenet", put(*A0, "groups_input_mixin", value=3), "groups 3 does not divide the 1 input channels"),
    ("wavenet", put(*A0, "kernel_sizes", 0, value=2**31), "array 0 layer 0: field 'kernel_sizes'"),
    ("wavenet", put(*A0, "kernel_sizes", 0, value=2**24), "array 0 layer 0 conv: expected at least"),
    ("wavenet", put(*A0, "kernel_sizes", value=[3]), "expected 2 entries, one per dilation, found 1"),
    ("wavenet", put(*A0, "kernel_size", value=3), "one of the fields 'kernel_size' and 'kernel_sizes'"),
    ("wavenet", put(*A0, "dilations", value=[]), "expected a list of integers that is not empty"),
    ("wavenet", put(*A0, "dilations", 1, value=2**24), "reach of the kernel"),
    ("wavenet", put(*A0, "dilations", 1, value=2**24 - 2), "prewarm"),
    ("wavenet", put(*A0, "activation", 0, value="Wobble"), "found 'Wobble'"),
    ("wavenet", put(*A0, "activation", 0, value={"type": "Tanh", "x": [1]}), None),
    ("wavenet", put(*A0, "activation", 0, value={"kind": "Tanh"}), "field 'type' is missing"),
    ("wavenet", put(*A0, "activation", 1, "negative_slopes", value=[1, 2, 3]), "takes 1 or 2 parameters"),
    ("wavenet", put(*A0, "activation", 1, "negative_slopes", value=[1, "2"]), "expected a number, found '2'"),
    ("wavenet", put(*A0, "gating_mode", 0, value="fenced"), "none, gated, blended, found 'fenced'"),
    ("wavenet", put(*A0, "layer1x1", "active", value=False), "needs a bottleneck of 4"),
    ("wavenet", put(*A0, "condition_size", value=2), "expected condition_size 1"),
    ("wavenet", put(*A0, "head", "out_channels", value=4), "array 1: expected 4 channels into the head"),
    ("wavenet", put("config", "layers", value=[]), "'layers': expected a list that is not empty"),
    ("wavenet", put("config", "head", value="x"), "field 'head': expected an object, found 'x'"),
    ("lstm", put("config", "num_layers", value=2**24), "lstm 2: expected at least"),
    ("lstm", put("config", "hidden_size", value=2**24), "lstm 0: expected at least"),
    ("lstm", put("config", "num_layers", value=0), "field 'num_layers': expected an integer from 1"),
    ("lstm", put("config", "in_channels", value=2), "expected 1 as input_size says, found 2"),
    ("container", put("config", "submodels", value=[]), "submodels"),
    (
        "container",
        put("config", "submodels", 1, "max_value", value=0.5),
        "submodel 1: expected max_value above",
    ),
    ("container", put("config", "submodels", 1, "max_value", value=0.9), "at least 1, found 0.9"),
    ("container", put("config", "submodels", 0, "max_value", value="x"), "submodel 0: field 'max_value'"),
    ("container", put("config", "submodels", 0, "model", value=3), "submodel 0: field 'model'"),
    (
        "container",
        drop("config", "submodels", 0, "model", "version"),
        "submodel 0: field 'version' is missing",
    ),
    ("container", put("config", "submodels", 0, "model", "sample_rate", value=44100), "found 44100 Hz"),
    ("container", drop("config", "submodels", 1, "model", "weights", 0), "submodel 1: head scale"),
    ("keras", drop("in_shape"), "field 'in_shape' is missing"),
    ("keras", put("in_shape", value=[None, None]), "field 'in_shape': expected an integer from 1"),
    ("keras", put("in_shape", value=[None, None, 3]), "layer 0: weights[0]: expected a list of 3, found 2"),
    ("keras", put("layers", value=[]), "field 'layers': expected a list that is not empty"),
    ("keras", put("layers", 3, "type", value="gru2"), "layer 3: field 'type': expected one of"),
    ("keras", put("layers", 3, "type", value="conv2d"), "layer 3: field 'num_filters_in' is missing"),
    ("keras", put("layers", 3, "type", value="batchnorm2d"), "field 'num_filters_in' is missing"),
    ("keras", put("layers", 3, "type", value="attention"), "layer 3: field 'type': expected one of dense"),
    ("keras", put("layers", 0, "activation", value="gelu"), "found 'gelu'"),
    (
        "keras",
        put("layers", 0, "shape", value=[None, None, 5]),
        "layer 0: weights[0][0]: expected a list of 5",
    ),
    (
        "keras",
        put("layers", 0, "weights", 0, 1, 2, value=False),
        "weights[0][1][2]: expected a number, found",
    ),
    ("keras", put("layers", 0, "weights", 0, 1, 2, value=1e200), "weights[0][1][2]: expected a number that"),
    (
        "keras",
        put("layers", 1, "groups", value=3),
        "layer 1: conv1d: groups 3 does not divide the 4 input channels",
    ),
    ("keras", put("layers", 1, "kernel_size", value=[2**31]), "layer 1: field 'kernel_size'"),
    (
        "keras",
        put("layers", 1, "kernel_size", value=[3, 3]),
        "an integer or a list of one, found a list of 2",
    ),
    ("keras", put("layers", 1, "strides", value=[2]), "RTNeural's format knows no stride"),
    ("keras", put("layers", 0, "strides", value=2), "layer 0: field 'strides': RTNeural's format knows no"),
    ("keras", put("layers", 2, "weights", 3, value=[-1.0, 1.0]), "variance plus epsilon has to be positive"),
    ("keras", put("layers", 2, "shape", value=[None, None, 3]), "expected 2 channels as before, found 3"),
    ("keras", put("layers", 3, "weights", 0, value=[[1, 2, 3]]), "a list of 1 or 2 slopes"),
    ("keras", put("layers", 4, "activation", value="relu"), "RTNeural knows no other LSTM"),
    ("keras", put("in_skip", value=2), "field 'in_skip': expected 0 or 1, found 2"),
    ("keras", put("out_gain", value=1e9), "field 'out_gain': expected at most 120 dB"),
    ("keras", put("samplerate", value="high"), "field 'samplerate': expected a number"),
    ("state_dict", drop("a.weight"), "tensor 'a.weight': expected an array of shape [4, 1, 3], found null"),
    ("state_dict", put("a.weight", value=nested(4, 2, 3)), "'a.weight'[0]: expected a list of 1, found 2"),
    ("state_dict", put("a.weight", 1, 0, 2, value="x"), "'a.weight'[1][0][2]: expected a number, found 'x'"),
    ("state_dict", put("c.weight", value=[1.0]), "tensor 'c.weight' belongs to none of the 2 layers given"),
]


@pytest.mark.parametrize(("name", "mutate", "text"), BROKEN)
def test_broken_documents(
    tmp_path: Path, name: str, mutate: Callable[[dict[str, Any]], None], text: str | None
) -> None:
    document = DOCUMENTS[name]()
    mutate(document)
    path = tmp_path / "broken.nam"
    path.write_text(json.dumps(document), encoding="utf-8")
    if text is None:
        assert load_graph(path).notes
    else:
        assert text in refusal(path, layers=layers_for(document))


KERAS_NOTES = [
    (put("layers", 1, "padding", value="causal"), []),
    (put("layers", 1, "padding", value="valid"), []),
    (put("layers", 1, "strides", value=[1]), []),
    (
        put("layers", 1, "padding", value="same"),
        ["layer 1 conv1d: runs causal, as RTNeural runs it, not with padding 'same'"],
    ),
    (
        put("layers", 1, "padding", value=3),
        ["layer 1 conv1d: runs causal, as RTNeural runs it, not with padding 3"],
    ),
    (put("layers", 0, "padding", value="same"), ["layer 0 dense: field 'padding' was ignored"]),
    (put("layers", 4, "go_backwards", value=True), ["layer 4 lstm: field 'go_backwards' was ignored"]),
]


@pytest.mark.parametrize(("mutate", "notes"), KERAS_NOTES)
def test_keras_says_what_it_does_not_do(
    tmp_path: Path, mutate: Callable[[dict[str, Any]], None], notes: list[str]
) -> None:
    document = DOCUMENTS["keras"]()
    mutate(document)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert list(load_graph(path).notes) == notes


def test_a_causal_convolution_over_features_says_so(tmp_path: Path) -> None:
    document = DOCUMENTS["keras_2d"]()
    (place,) = (i for i, layer in enumerate(document["layers"]) if layer["type"] == "conv2d")
    layer = document["layers"][place]
    assert (layer["padding"], layer["kernel_size_time"] > 1) == ("same", True)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    said = "runs causal in time, as RTNeural runs it, with padding 'same' over features alone"
    assert list(load_graph(path).notes) == [f"layer {place} conv2d: {said}"]


@pytest.mark.parametrize("name", ["keras", "aidax", "guitarml", "wavenet", "lstm"])
def test_fields_of_a_file_that_do_nothing_are_named(tmp_path: Path, name: str) -> None:
    document = DOCUMENTS[name]()
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    before = load_graph(path).notes
    document["oversampling"] = 4
    said = {"field 'oversampling' was ignored"}
    if name in ("guitarml", "lstm"):
        inside, where = ("model_data", "field 'model_data'") if name == "guitarml" else ("config", "config")
        document[inside]["dropout"] = 0.5
        said.add(f"{where}: field 'dropout' was ignored")
    path.write_text(json.dumps(document), encoding="utf-8")
    assert set(load_graph(path).notes) == {*before, *said}


FILES = [
    (b"", "is empty"),
    (b" \n", "is empty"),
    (b"{", "is no JSON"),
    (b"[]", "expected a JSON object, found a list of 0"),
    (b"3", "expected a JSON object, found 3"),
    (b"null", "expected a JSON object, found null"),
    (b"{}", "found an object with no keys"),
    (b'{"hello": 1}', "found an object with 'hello'"),
    (b"\xff\xfe{}", "UTF-8"),
    ('{"a": "é"}'.encode("latin-1"), "UTF-8"),
    (b"\x00\x01\x02", "binary"),
    (b"PK\x03\x04" + b"x" * 64, "never opened here"),
    (b"\x80\x02}q\x00.", "pickle"),
    (b"\x08\x08\x12\x07pytorch", "ONNX"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"RIFF\x00\x00\x00\x00WAVE", "RIFF"),
    (b"[" * 200_000, "nested too deeply"),
    (b'{"a":' * 200_000, "nested too deeply"),
    (b'{"version": NaN}', "NaN"),
    (b'{"weights": [1e400]}', "found an object with 'weights'"),
    (b'{"a": 1' + b"0" * 5000 + b"}", "too many digits"),
    (b'{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice"),
    (b'{"model_data": {}, "state_dict": {}}', "hidden_size"),
    (b'{"weight": [[[1.0]]]}', "pass layers"),
]


@pytest.mark.parametrize(("data", "text"), FILES)
def test_broken_files(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "model.nam"
    path.write_bytes(data)
    assert text in refusal(path)


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "model.nam"
    path.write_text(json.dumps(wavenet()), encoding="utf-8-sig")
    assert load_graph(path).name == "Loud"


def test_infinity_that_only_float64_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "model.nam"
    path.write_text(json.dumps(wavenet()).replace("[-0.08, ", "[1e400, ", 1))
    assert "'weights'[0]: expected a number that float32 can hold, found inf" in refusal(path)


def test_unreadable_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "folder" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "absent.nam")
    assert "path" in refusal(Path("a\0b"))
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refusal(tmp_path / "pipe")
    big = tmp_path / "big.nam"
    with big.open("wb") as file:
        file.truncate(formats.MAX_FILE_BYTES + 1)
    assert "at most" in refusal(big)
    secret = tmp_path / "secret.nam"
    secret.touch(mode=0)
    if not os.access(secret, os.R_OK):
        assert "Permission denied" in refusal(secret)

    def starve(data: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(formats, "_parse", starve)
    small = tmp_path / "small.nam"
    small.write_text("{}")
    assert "memory" in refusal(small)


def test_a_pipe_that_takes_the_place_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    regular, path = tmp_path / "regular", tmp_path / "pipe"
    regular.touch()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda self: os.stat(regular))
    assert "no regular file" in refusal(path)


@pytest.mark.parametrize("change", ["grow", "shrink"])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "model.nam"
    text = json.dumps(wavenet())
    path.write_text(text)
    stat_of = os.fstat

    def change_after(file: int) -> os.stat_result:
        found = stat_of(file)
        path.write_text(text + " " if change == "grow" else text[:-1])
        return found

    monkeypatch.setattr(formats.os, "fstat", change_after)
    assert refusal(path) == f"had {len(text)} bytes and changed while it was read"


@pytest.mark.parametrize("quality", [-0.1, 1.1, float("nan"), float("inf"), "1", None, True])
def test_quality_is_a_number_from_0_to_1(tmp_path: Path, quality: Any) -> None:
    path = tmp_path / "model.nam"
    path.write_text(json.dumps(wavenet()))
    assert "quality" in refusal(path, quality=quality)


def test_quality_without_effect_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "model.nam"
    path.write_text(json.dumps(wavenet()))
    assert any("quality 0.5" in note for note in load_graph(path, quality=0.5).notes)
    assert not any("quality" in note for note in load_graph(path).notes)


def test_layers_belong_to_a_state_dict_only(tmp_path: Path) -> None:
    path = tmp_path / "model.nam"
    path.write_text(json.dumps(wavenet()))
    assert "layers" in refusal(path, layers=torch_layers())


@pytest.mark.parametrize(
    ("mutate", "text"),
    [
        (put(0, "type", value="gru2"), "layers[0]: field 'type': expected one of"),
        (drop(0, "type"), "layers[0]: field 'type' is missing"),
        (drop(1, "in_channels"), "layers[1]: field 'in_channels' is missing"),
        (put(1, "in_channels", value=6), "layers[1]: expected in_channels 4"),
        (put(0, "groups", value=4), "layers[0]: conv1d: groups 4 does not divide the 2 input channels"),
        (put(0, "kernel_size", value=2**31), "layers[0]: field 'kernel_size'"),
        (put(0, "bias", value=1), "layers[0]: field 'bias': expected true or false, found 1"),
        (put(0, "padding", value=1), "layers[0]: unknown field 'padding'"),
        (put(0, "stride", value=0), "layers[0]: field 'stride': expected an integer from 1"),
        (put(0, value=None), "layers[0]: expected an object, found null"),
        (put(0, "bias", value=False), "tensor 'a.bias' belongs to none of the 2 layers given"),
    ],
)
def test_broken_layers(tmp_path: Path, mutate: Callable[[Any], None], text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state_dict()))
    layers = torch_layers()
    mutate(layers)
    assert text in refusal(path, layers=layers)


def test_layers_may_hold_numpy_integers(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state_dict()))
    layers = tuple({**layer, "groups": np.int64(2)} for layer in torch_layers())
    assert load_graph(path, layers=layers).input_channels == 2
