"""Every golden case through load_graph and the float64 reference, or refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from golden_layers import layers_of_case

from backline import reference
from backline.errors import ModelError
from backline.formats import load_graph
from backline.graph import Graph
from backline.layers import Conv1d


def read_input(golden: Path, case: dict[str, Any]) -> np.ndarray:
    audio, _ = soundfile.read(golden / case["input"], dtype="float64", always_2d=True)
    return audio.T


def read_expected(golden: Path, case: dict[str, Any]) -> np.ndarray:
    file, key = case["expected"]
    return np.load(golden / file)[key].astype(np.float64)


def assert_refused(path: Path, word: str, **options: Any) -> None:
    with pytest.raises(ModelError) as caught:
        load_graph(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    assert word in str(caught.value)


def assert_is_stored_float64(y: np.ndarray, stored: np.ndarray) -> None:
    """`stored` is a float64 result rounded to float32: half a unit of its last place, and a breath."""
    allowed = 0.5 * np.spacing(np.abs(stored).astype(np.float32)).astype(np.float64) + 2e-9
    assert np.all(np.abs(y - stored) <= allowed)


@pytest.mark.golden_kinds("nam")
def test_nam(golden: Path, golden_case: dict[str, Any]) -> None:
    path = golden / golden_case["model"]
    quality = 1.0 if golden_case["slim"] is None else golden_case["slim"]
    graph = load_graph(path, quality=quality)
    if golden_case["state"] == "no_prewarm":
        graph = replace(graph, prewarm_frames=0)
    elif path.name == "slimmable_wavenet.nam":
        # Its manifest counts 0, but the stored audio is settled: NAM Core's wrapper around the cut-down
        # network reports none and lets that one settle itself.
        assert graph.prewarm_frames == 1 + 2 * 1023
    else:
        assert graph.prewarm_frames == golden_case["prewarm_samples"]
    expected = read_expected(golden, golden_case)
    y = reference.run(graph, read_input(golden, golden_case)[:, : expected.size])
    assert y.shape == (1, expected.size)
    assert np.max(np.abs(y[0] - expected)) <= golden_case["suggested_atol_float32"]

    file, key = golden_case["expected"]
    arrays = np.load(golden / file)
    if key == "b" and "b_ref" in arrays:
        assert_is_stored_float64(y[0], arrays["b_ref"])
    elif path.parent.parent.name == "random_nam":
        assert_is_stored_float64(y[0], arrays[key])


@pytest.mark.golden_kinds("nam_refuse")
def test_refused_files(golden: Path, golden_case: dict[str, Any]) -> None:
    word = {
        "version_0_8_0.nam": "0.8.0",
        "no_weights.nam": "weights",
        "wavenet_one_weight_too_many.nam": "expected 131 weights, found 132",
        "unknown_activation.nam": "Wobble",
        "container_unsorted.nam": "max_value",
        "truncated_json.nam": "no JSON",
    }
    path = golden / golden_case["model"]
    assert_refused(path, word.get(path.name, ""))


@pytest.mark.golden_kinds("layer_stack")
def test_rtneural(golden: Path, golden_case: dict[str, Any]) -> None:
    path = golden / golden_case["models"][0]
    layers = layers_of_case(golden_case)
    graph = load_graph(path, layers=layers)
    assert graph.prewarm_frames == 0
    data = np.load(golden / golden_case["data"])
    x, start, step = data["x"].T, golden_case["y_start"], golden_case["y_step"]
    # Output m of a strided layer belongs to input frame m * step. Where y[0] belongs to frame `start`,
    # silence in front shifts the phase: RTNeural's stride 3 answers at frames 4, 7, 10, ..., so with two
    # frames of silence those are frames 6, 9, 12, ... and y[n] is output n + 2.
    silence = -start % step
    y = reference.run(graph, np.pad(x, ((0, 0), (silence, 0))))
    y = y[:, (start + silence) // step :].T[: data["y"].shape[0]]
    assert y.shape == data["y"].shape
    assert np.max(np.abs(y - data["y"])) <= golden_case["rtneural_threshold"]
    # Same formulas, same precision, but the recomputation kept weights in float64.
    assert np.max(np.abs(y - data["y_float64"])) <= 2e-7


def conv1d_of_case(golden: Path, case: dict[str, Any]) -> tuple[Conv1d, np.ndarray, np.ndarray]:
    data = np.load(golden / case["data"])
    bias = data["b"] if case["bias"] else None
    node = Conv1d("conv", "input", data["w"], bias, case["groups"], case["dilation"], case["stride"])
    return node, data["x"].T, data["y"].T


@pytest.mark.golden_kinds("conv1d")
def test_conv1d(golden: Path, golden_case: dict[str, Any]) -> None:
    node, x, expected = conv1d_of_case(golden, golden_case)
    y = reference.run(Graph((node,), "input", golden_case["in_channels"], "conv"), x)
    assert y.shape == expected.shape == (golden_case["out_channels"], golden_case["frames_out"])
    assert np.max(np.abs(y - expected)) <= 1e-13 * golden_case["peak"] * node.weight[0].size


@pytest.mark.golden_kinds("conv1d")
def test_conv1d_as_state_dict(golden: Path, golden_case: dict[str, Any], tmp_path: Path) -> None:
    node, x, expected = conv1d_of_case(golden, golden_case)
    tensors = {f"net.0.{key}": values.tolist() for key, values in node.arrays.items()}
    path = tmp_path / "state.json"
    path.write_text(json.dumps(tensors))
    fields = ("in_channels", "out_channels", "kernel_size", "dilation", "stride", "groups", "bias")
    layer = {"type": "conv1d", "prefix": "net.0.", **{name: golden_case[name] for name in fields}}
    graph = load_graph(path, layers=[layer])
    assert graph.parameter_count == sum(values.size for values in node.arrays.values())
    assert (
        np.max(np.abs(reference.run(graph, x) - expected))
        <= 1e-13 * golden_case["peak"] * node.weight[0].size
    )


@pytest.mark.golden_kinds("recurrent_json")
def test_recurrent_json(golden: Path, golden_case: dict[str, Any]) -> None:
    path = golden / golden_case["model"]
    graph = load_graph(path)
    # GuitarML files say no rate; Proteus plays them all at 44.1 kHz.
    assert graph.sample_rate_hz == (44100 if golden_case["format"] == "guitarml_json" else 48000)
    assert graph.prewarm_frames == 0
    if golden_case["id"].endswith("_prewarm2048"):
        graph = replace(graph, prewarm_frames=2048)
    y = reference.run(graph, read_input(golden, golden_case))
    expected = read_expected(golden, golden_case)
    assert np.max(np.abs(y[0] - expected)) <= golden_case["suggested_atol_float32"]


def test_a1_standard_has_all_weights_and_readable_layers(golden: Path) -> None:
    graph = load_graph(golden / "nam/models/wavenet_a1_standard.nam")
    assert graph.parameter_count == 13802
    assert graph.receptive_field_frames == graph.prewarm_frames == 4093
    assert {"array 0 layer 3 conv", "array 1 layer 9 activation", "array 1 head"} <= set(graph.signals)
    assert graph.sample_rate_hz == 48000
    assert any("sample rate" in note for note in graph.notes)


@pytest.mark.parametrize(("quality", "weights"), [(0.0, 1871), (0.49, 1871), (0.5, 12146), (1.0, 12146)])
def test_a2_quality(golden: Path, quality: float, weights: int) -> None:
    graph = load_graph(golden / "nam/models/A2.nam", quality=quality)
    assert graph.parameter_count == weights
    assert any("of the 2 in the file" in note for note in graph.notes)
    assert "loudness" in graph.metadata
