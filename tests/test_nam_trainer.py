"""Models built, trained and exported by the `neural-amp-modeler` package against its own PyTorch output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nam_trainer
import pytest
from nam_trainer import HEAD, RATE, assert_agrees, export, layers, torch, train, trainer, wavenet

import backline
from backline.errors import ModelError


@pytest.fixture(autouse=True)
def short_loudness(monkeypatch: pytest.MonkeyPatch) -> None:
    nam_trainer.shorten_loudness(monkeypatch)


def two_arrays() -> Any:
    first = layers(channels=6, head={**HEAD, "out_channels": 3, "bias": False})
    return wavenet(first, layers(input_size=6, channels=3, dilations=[64, 2]))


def gated() -> Any:
    gate = {"name": "PairMultiply", "primary": "Tanh", "secondary": "Sigmoid"}
    return wavenet(layers(activation=gate, groups_input=2, bottleneck=3, groups_input_mixin=1))


def every_activation() -> Any:
    blend = {"name": "PairBlend", "primary": "SiLU", "secondary": "Sigmoid"}
    leaky = {"name": "LeakyHardtanh", "min_val": -0.2, "max_val": 0.3, "min_slope": 0.1}
    plain = ["ReLU", "LeakyReLU", "PReLU", "Hardswish", "Softsign", {"name": "PReLU", "num_parameters": 4}]
    hard = {"name": "Hardtanh", "min_val": -0.5, "max_val": 0.2}
    used = [blend, leaky, hard, *plain, {**blend, "name": "PairMultiply", "secondary": "Hardtanh"}]
    return wavenet(layers(activation=used, dilations=[1] * len(used), kernel_size=[1, 2] * (len(used) // 2)))


def modulated() -> Any:
    gate = {"name": "PairBlend", "primary": "SiLU", "secondary": "Sigmoid"}
    places = ["conv_pre", "conv_post", "input_mixin_pre", "input_mixin_post", "activation_pre"]
    places += ["activation_post", "layer1x1_post", "head1x1_post"]
    films = {f"{p}_film": {"active": True, "shift": i % 3 != 1, "groups": 2} for i, p in enumerate(places)}
    array = layers(
        condition_size=4,
        activation=gate,
        groups_input=2,
        groups_input_mixin=4,
        film_params=films,
        head_1x1_config={"active": True, "out_channels": 2, "groups": 2},
        layer_1x1_config={"active": True, "groups": 2},
        head={"out_channels": 3, "kernel_size": 4, "bias": True},
    )
    condition = {"layers_configs": [layers(head={**HEAD, "out_channels": 4})], "head": None}
    post = {"channels": 5, "activation": "ReLU", "out_channels": 1, "kernel_sizes": [3, 2]}
    return wavenet(array, head=post, condition_dsp={"name": "WaveNet", "config": condition})


def without_layer1x1() -> Any:
    return wavenet(layers(layer_1x1_config={"active": False}))


def conv_net(batchnorm: bool) -> Any:
    config = {"channels": 5, "dilations": [1, 2, 4, 8], "batchnorm": batchnorm, "activation": "Tanh"}
    return trainer.ConvNet.init_from_config({**config, "sample_rate": RATE})


MODELS = {
    "two arrays": two_arrays,
    "gated": gated,
    "every activation": every_activation,
    "modulated": modulated,
    "without layer1x1": without_layer1x1,
    "ConvNet": lambda: conv_net(False),
    "ConvNet with batchnorm": lambda: conv_net(True),
}


@pytest.mark.parametrize("name", MODELS)
def test_convolutions(tmp_path: Path, name: str) -> None:
    torch.manual_seed(3)
    model = MODELS[name]()
    train(model)
    loaded = assert_agrees(export(model, tmp_path), model)
    assert loaded.graph.receptive_field_frames == model.receptive_field
    assert loaded.graph.sample_rate_hz == RATE
    assert loaded.graph.metadata["input_level_dbu"] == 12.5
    assert "loudness" in loaded.graph.metadata


@pytest.mark.parametrize("num_layers", [1, 2])
def test_lstm(tmp_path: Path, num_layers: int) -> None:
    """The package starts from a state it has learned, players from silence: so silence comes first."""
    torch.manual_seed(4)
    config = {"hidden_size": 5, "num_layers": num_layers, "sample_rate": RATE}
    model = trainer.LSTM.init_from_config(config)
    train(model, steps=40)  # fewer leave an output that is all but constant
    assert_agrees(export(model, tmp_path), model, silence=48000)


@pytest.mark.parametrize("bias", [False, True])
def test_linear(tmp_path: Path, bias: bool) -> None:
    """The package exports taps oldest first, players read them newest first (its issue 696).

    Backline reads them as players do and says so; with the kernel turned round the package agrees.
    """
    torch.manual_seed(5)
    model = trainer.Linear(receptive_field=40, bias=bias, sample_rate=RATE)
    train(model)
    path = export(model, tmp_path)
    with torch.no_grad():
        model._net.weight.copy_(torch.flip(model._net.weight, [2]))
    loaded = assert_agrees(path, model)
    assert any("issue 696" in note for note in loaded.graph.notes)


@pytest.mark.parametrize("allowed", [None, [2, 3, 6]])
def test_slimmable_wavenet(tmp_path: Path, allowed: list[int] | None) -> None:
    torch.manual_seed(6)
    gate = {"name": "PairMultiply", "primary": "Tanh", "secondary": "Sigmoid"}
    kwargs = {} if allowed is None else {"allowed_channels": allowed}
    slimmable = {"method": "slice_channels_uniform", "kwargs": kwargs}
    model = wavenet(layers(channels=6, activation=gate, slimmable=slimmable))
    train(model)
    path = export(model, tmp_path)
    for quality in (0.0, 0.3, 0.5, 0.99, 1.0):
        model._net.set_slimming(quality)
        assert_agrees(path, model, quality=quality)


@pytest.mark.parametrize(
    ("bottleneck", "allowed"), [(3, None), (4, None), (8, None), (4, [1, 3]), (8, [2, 6])]
)
def test_slimmable_bottleneck(tmp_path: Path, bottleneck: int, allowed: list[int] | None) -> None:
    """The package slims a bottleneck by its own share, or to the very channels that were allowed."""
    torch.manual_seed(9)
    kwargs = {} if allowed is None else {"allowed_channels": allowed}
    slimmable = {"method": "slice_channels_uniform", "kwargs": kwargs}
    model = wavenet(layers(channels=6, bottleneck=bottleneck, slimmable=slimmable)).eval()
    path = export(model, tmp_path)
    differ = 0
    for quality in (0.0, 0.15, 0.5, 0.7, 1.0):
        model._net.set_slimming(quality)
        graph = assert_agrees(path, model, quality=quality).graph
        kept, found = (graph.signals[f"array 0 {at}"].channels for at in ("rechannel", "layer 0 activation"))
        # NeuralAmpModelerCore keeps the bottleneck's proportion to the channels.
        differs = found != max(1, bottleneck * kept // 6)
        assert any("NeuralAmpModelerCore keeps" in note for note in graph.notes) == differs
        differ += differs
    assert differ > 0


@pytest.mark.parametrize("activation", ["Softsign", "LeakyHardtanh", "Softsigmoid"])
def test_conv_net_of_an_activation_of_the_packages_own(tmp_path: Path, activation: str) -> None:
    """Their names leave the package with an underscore in front."""
    torch.manual_seed(10)
    config = {"channels": 3, "dilations": [1, 2], "batchnorm": False, "activation": activation}
    model = trainer.ConvNet.init_from_config({**config, "sample_rate": RATE})
    train(model)
    path = export(model, tmp_path)
    assert json.loads(path.read_text())["config"]["activation"] == f"_{activation}"
    loaded = assert_agrees(path, model)
    assert any("refuses it" in note for note in loaded.graph.notes) == (activation == "Softsigmoid")


def test_packed_wavenet_is_a_container(tmp_path: Path) -> None:
    torch.manual_seed(8)
    submodels = [
        {"name": name, "config": {"layers_configs": [layers(channels=channels)], "head_scale": 0.5}}
        for name, channels in (("small", 2), ("large", 5))
    ]
    model = trainer.wavenet.PackedWaveNet.init_from_config({"submodels": submodels, "sample_rate": RATE})
    train(model)
    path = export(model, tmp_path)
    for quality, chosen in ((0.0, 0), (0.49, 0), (0.5, 1), (1.0, 1)):
        loaded = assert_agrees(path, model.extract_submodel(chosen), quality=quality)
        assert loaded.graph.metadata["input_level_dbu"] == 12.5


def test_sequential_in_its_old_form_is_refused(tmp_path: Path) -> None:
    models = [trainer.Linear(receptive_field=3, sample_rate=RATE), conv_net(False)]
    path = export(trainer.sequential.Sequential(models=models), tmp_path)
    with pytest.raises(ModelError, match="expected none beside a Sequential's models"):
        backline.load(path)
