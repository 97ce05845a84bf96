"""What .nam files can say that no golden file in scope says, against formulas written out with PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import lstm, wavenet
from documents_nam import NAM_DOCUMENTS, linear, nam, numbers, sequential, slimmable

from backline import reference
from backline.activations import Activation
from backline.formats import load_graph
from backline.graph import Graph
from backline.layers import Activate

A0 = ("config", "layers", 0)


def load(tmp_path: Path, document: dict[str, Any], **options: Any) -> Graph:
    path = tmp_path / "model.nam"
    path.write_text(json.dumps(document))
    return load_graph(path, **options)


def wavenet_by_hand(x: np.ndarray, weights: list[float]) -> np.ndarray:
    """`documents.wavenet` in PyTorch float64, from an infinite past of silence; written out, no loops."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    left = list(np.float32(weights).astype(np.float64))
    functional = torch.nn.functional
    condition = torch.from_numpy(np.pad(x, ((0, 0), (64, 0))))

    def take(*shape: int) -> Any:
        count = int(np.prod(shape))
        taken = np.array(left[:count]).reshape(shape)
        del left[:count]
        return torch.from_numpy(taken)

    def conv(
        source: Any, shape: tuple[int, ...], bias: bool = True, groups: int = 1, dilation: int = 1
    ) -> Any:
        weight = take(*shape)
        offset = take(shape[0]) if bias else None
        padded = functional.pad(source, ((shape[2] - 1) * dilation, 0))
        return functional.conv1d(padded, weight, offset, dilation=dilation, groups=groups)

    stream = conv(condition, (4, 1, 1), bias=False)
    z = conv(stream, (4, 2, 3), groups=2) + conv(condition, (4, 1, 1), bias=False)
    active = torch.tanh(z[:2]) * torch.sigmoid(z[2:])
    stream = stream + conv(active, (4, 1, 1), groups=2)
    head = conv(active, (6, 1, 1), groups=2)
    z = conv(stream, (4, 2, 2), groups=2, dilation=2) + conv(condition, (4, 1, 1), bias=False)
    slopes = torch.from_numpy(np.float32([0.1, 0.2]).astype(np.float64))[:, None]
    top, bottom = z[:2], z[2:]
    gate = torch.where(bottom < 0, bottom * float(np.float32(0.01)), bottom)
    gate = torch.where(bottom > 1, (bottom - 1) * 0.5 + 1, gate)
    active = gate * torch.where(top > 0, top, slopes * top) + (1 - gate) * top
    stream = stream + conv(active, (4, 1, 1), groups=2)
    head = head + conv(active, (6, 1, 1), groups=2)
    head = conv(head, (3, 6, 2), bias=False)

    stream = conv(stream, (3, 4, 1), bias=False)
    z = conv(stream, (3, 3, 2), dilation=4) + conv(condition, (3, 1, 1), bias=False)
    active = torch.relu(z)
    conv(active, (3, 3, 1))
    head = conv(head + active, (1, 3, 1))

    scale = left[-1]
    y = conv(torch.relu(scale * head), (2, 1, 2))
    y = conv(torch.relu(y), (1, 2, 1))
    assert len(left) == 1
    return y.numpy()[:, 64:]


def test_wavenet_with_everything_supported(tmp_path: Path) -> None:
    document = wavenet()
    rng = np.random.default_rng(3)
    document["weights"] = [float(w) for w in rng.standard_normal(198)]
    graph = load(tmp_path, document)
    x = rng.standard_normal((1, 100))
    assert graph.receptive_field_frames == graph.prewarm_frames == 1 + 2 + 2 + 4 + 1
    assert graph.parameter_count == 198 + 2  # the two slopes of the PReLU are not among the weights
    assert np.allclose(
        reference.run(graph, x), wavenet_by_hand(x, document["weights"]), rtol=1e-11, atol=1e-11
    )


def test_inactive_layer1x1_is_loaded_as_trained(tmp_path: Path) -> None:
    """The trainer: residual = x + activation. NeuralAmpModelerCore: residual = x."""
    array = {
        **{"input_size": 1, "condition_size": 1, "channels": 1, "kernel_size": 1, "dilations": [1, 1]},
        **{"activation": "ReLU", "head_size": 1, "head_bias": False, "layer1x1": {"active": False}},
    }
    document = nam("WaveNet", {"layers": [array], "head": None, "head_scale": 1.0}, 0)
    # rechannel; conv, bias, mixin of each layer; head; head scale
    document["weights"] = [1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 1.0, 1.0]
    graph = load(tmp_path, document)
    assert np.array_equal(reference.run(graph, np.ones((1, 1))), [[2.0 + 3.0 * (1.0 + 2.0)]])
    assert any("layer1x1 is inactive" in note and "array 0" in note for note in graph.notes)


def test_hardtanh_keeps_its_limits_and_says_so(tmp_path: Path) -> None:
    document = wavenet()
    document["config"]["layers"][1]["activation"] = {"type": "Hardtanh", "min_val": -2.0, "max_val": 0.5}
    graph = load(tmp_path, document)
    (node,) = [node for node in graph.nodes if node.output == "array 1 layer 0 activation"]
    assert isinstance(node, Activate)
    assert node.activation == Activation("hardtanh", (-2.0, 0.5))
    assert any("-2 and 0.5" in note for note in graph.notes)
    document["config"]["layers"][1]["activation"] = "Hardtanh"
    assert not load(tmp_path, document).notes


def test_slopes_are_rounded_to_float32_and_default_to_a_hundredth(tmp_path: Path) -> None:
    for written in ("LeakyReLU", {"type": "LeakyReLU"}, {"type": "LeakyReLU", "negative_slope": 0.01}):
        document = wavenet()
        document["config"]["layers"][1]["activation"] = written
        activations = [
            node.activation for node in load(tmp_path, document).nodes if isinstance(node, Activate)
        ]
        assert Activation("leaky_relu", (float(np.float32(0.01)),)) in activations


def test_slopes_that_are_not_in_the_file_are_noted(tmp_path: Path) -> None:
    """The trainer writes no slopes for a ConvNet or a post-stack head, whatever they have become."""
    document = NAM_DOCUMENTS["conv_net"]()
    for written, said in (("PReLU", True), ({"type": "PReLU", "negative_slope": 0.01}, False)):
        document["config"]["activation"] = written
        notes = load(tmp_path, document).notes
        assert any("does not say the slope of PReLU; 0.01 is taken" in note for note in notes) == said


def test_a_post_stack_head_says_name_where_layers_say_type(tmp_path: Path) -> None:
    document = wavenet()
    x = np.random.default_rng(5).standard_normal((1, 50))
    played = []
    for key in ("type", "name"):
        document["config"]["head"]["activation"] = {key: "LeakyReLU", "negative_slope": 0.25}
        graph = load(tmp_path, document)
        assert not graph.notes
        slopes = [node.activation.parameters for node in graph.nodes if isinstance(node, Activate)]
        assert (0.25,) in slopes
        played.append(reference.run(graph, x))
    assert np.array_equal(played[0], played[1])


def test_both_spellings_of_the_head_are_one(tmp_path: Path) -> None:
    document = wavenet()
    second = document["config"]["layers"][1]
    x = np.random.default_rng(4).standard_normal((1, 50))
    old = reference.run(load(tmp_path, document), x)
    del second["head_size"], second["head_bias"]
    second["head"] = {"out_channels": 1, "kernel_size": 1, "bias": True}
    assert np.array_equal(reference.run(load(tmp_path, document), x), old)


def test_head_dilation_reaches_further_back(tmp_path: Path) -> None:
    document = wavenet()
    near = load(tmp_path, document)
    document["config"]["layers"][0]["head"]["head_dilation"] = 5
    far = load(tmp_path, document)
    assert far.signals.keys() == near.signals.keys()
    assert near.receptive_field_frames == 1 + (2 + 2 + 4) + 1  # through the residual stream
    assert far.receptive_field_frames == 1 + (2 + 2 + 5) + 1  # through the first array's head


def test_multichannel_lstm_has_one_row_per_output(tmp_path: Path) -> None:
    document = lstm()
    document["config"].update(input_size=3, num_layers=1, out_channels=2)
    document["weights"] = numbers(8 * (3 + 2) + 8 + 4 + 2 * 2 + 2)
    graph = load(tmp_path, document)
    assert (graph.input_channels, graph.output_channels) == (3, 2)
    assert graph.prewarm_frames == 24000


@pytest.mark.parametrize(("rate", "prewarm"), [(44100, 22050), (96000.0, 48000), (None, 24000)])
def test_lstm_prewarms_for_half_a_second(tmp_path: Path, rate: float | None, prewarm: int) -> None:
    document = lstm()
    document["sample_rate"] = rate
    graph = load(tmp_path, document)
    assert graph.prewarm_frames == prewarm
    assert graph.sample_rate_hz == (rate or 48000)
    assert len(graph.notes) == (rate is None)


def test_submodel_takes_the_containers_rate_and_metadata(tmp_path: Path) -> None:
    child = lstm()
    del child["sample_rate"]
    child["metadata"] = {"loudness": -20.0}
    document = nam("SlimmableContainer", {"submodels": [{"max_value": 1.0, "model": child}]}, 0)
    document["sample_rate"] = 44100
    graph = load(tmp_path, document, quality=0.2)
    assert graph.sample_rate_hz == 44100
    assert graph.prewarm_frames == 22050
    assert graph.metadata == {"name": "Loud", "loudness": -20.0}


@pytest.mark.parametrize(("version", "notes"), [("0.5.0", 0), ("0.5.99", 0), ("0.7.0", 0), ("0.7.12", 1)])
def test_newer_patches_are_noted(tmp_path: Path, version: str, notes: int) -> None:
    document = lstm()
    document["version"] = version
    assert len(load(tmp_path, document).notes) == notes


def test_unknown_fields_are_noted_not_dropped_in_silence(tmp_path: Path) -> None:
    document = wavenet()
    document["config"]["layers"][0]["reverb"] = True
    document["config"]["flavour"] = 3
    notes = load(tmp_path, document).notes
    assert any("'reverb'" in note and "array 0" in note for note in notes)
    assert any("'flavour'" in note for note in notes)


def test_linear_says_which_way_round_it_reads(tmp_path: Path) -> None:
    document = linear()
    document["weights"] = [1.0, 2.0, 3.0, 0.5]
    graph = load(tmp_path, document)
    assert graph.prewarm_frames == 0
    assert np.array_equal(reference.run(graph, [[1.0, 0.0, 0.0, 0.0]]), [[1.5, 2.5, 3.5, 0.5]])
    assert any("696" in note for note in graph.notes)
    document["config"]["receptive_field"], document["weights"] = 1, [1.0, 0.5]
    assert not load(tmp_path, document).notes


@pytest.mark.parametrize(("quality", "channels"), [(0.0, 1), (0.49, 1), (0.5, 3), (1.0, 3)])
def test_quality_reaches_a_slimmable_wavenet_wherever_it_is(
    tmp_path: Path, quality: float, channels: int
) -> None:
    for document, prefix in ((slimmable(), ""), (sequential(), "model 0 ")):
        graph = load(tmp_path, document, quality=quality)
        assert graph.signals[f"{prefix}array 0 rechannel"].channels == channels
        assert not graph.notes or "696" in graph.notes[0]


@pytest.mark.parametrize("name", ["linear", "conv_net", "modulated"])
def test_quality_changes_nothing_elsewhere(tmp_path: Path, name: str) -> None:
    assert "quality 0.5 changes nothing" in load(tmp_path, NAM_DOCUMENTS[name](), quality=0.5).notes[-1]


def test_one_size_is_no_choice(tmp_path: Path) -> None:
    document = slimmable()
    document["config"]["layers"][0]["slimmable"]["kwargs"]["allowed_channels"] = [2]
    graph = load(tmp_path, document, quality=0.9)
    assert graph.signals["array 0 rechannel"].channels == 2
    assert "changes nothing" in graph.notes[-1]
    single = nam("SlimmableContainer", {"submodels": [{"max_value": 1, "model": slimmable()}]}, 0)
    graph = load(tmp_path, single, quality=0.1)
    assert graph.signals["array 0 rechannel"].channels == 3
    assert "changes nothing" in graph.notes[-1]


def test_metadata_of_a_container_fills_what_its_model_leaves_open(tmp_path: Path) -> None:
    child = lstm()
    child["metadata"] = {"loudness": -20.0, "input_level_dbu": None, "output_level_dbu": 3.0}
    document = nam("SlimmableContainer", {"submodels": [{"max_value": 1.0, "model": child}]}, 0)
    document["metadata"] = {
        "loudness": -18.0,
        "input_level_dbu": 12.0,
        "output_level_dbu": None,
        "gain": None,
    }
    metadata = load(tmp_path, document).metadata
    expected = {"loudness": -20.0, "input_level_dbu": 12.0, "output_level_dbu": 3.0, "gain": None}
    assert metadata == expected


def test_a_chain_has_the_levels_of_its_ends(tmp_path: Path) -> None:
    document = sequential()
    for i, model in enumerate(document["config"]["models"]):
        model["metadata"] = {"loudness": -1.0, "input_level_dbu": 10.0 + i, "output_level_dbu": 20.0 + i}
    document["metadata"] = {"name": "chain", "output_level_dbu": None}
    metadata = load(tmp_path, document).metadata
    assert metadata == {"name": "chain", "input_level_dbu": 10.0, "output_level_dbu": 21.0}
    document["metadata"]["output_level_dbu"] = 5.0
    assert load(tmp_path, document).metadata["output_level_dbu"] == 5.0


def test_models_inside_share_one_rate(tmp_path: Path) -> None:
    """The outer one's, or the first that is stated inside; an LSTM's prewarm follows it."""
    document = NAM_DOCUMENTS["modulated"]()
    document["config"]["condition_dsp"] = {**lstm(), "sample_rate": 44100}
    del document["sample_rate"]
    graph = load(tmp_path, document)
    assert graph.sample_rate_hz == 44100
    assert graph.prewarm_frames == 22050 + 1  # and one frame of the WaveNet's own past
    chain = nam("Sequential", {"models": [linear(), lstm(), lstm()]}, 0)
    for model in (chain, *chain["config"]["models"]):
        del model["sample_rate"]
    graph = load(tmp_path, chain)
    assert (graph.sample_rate_hz, graph.prewarm_frames) == (48000, 3 + 24000 + 24000)
    assert [note for note in graph.notes if "sample rate" in note] == [graph.notes[0]]
    chain["config"]["models"][2]["sample_rate"] = 96000
    graph = load(tmp_path, chain)
    assert (graph.sample_rate_hz, graph.prewarm_frames) == (96000, 3 + 48000 + 48000)
