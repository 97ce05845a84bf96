"""Knobs from the command line and from `load`: GuitarML models with a second input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from graphs import array

import backline
from backline import reference
from backline.cli import main
from backline.errors import ModelError


@pytest.fixture
def conditioned(tmp_path):
    hidden, inputs = 6, 2
    state = {
        "rec.weight_ih_l0": array(1, 4 * hidden, inputs),
        "rec.weight_hh_l0": array(2, 4 * hidden, hidden),
        "rec.bias_ih_l0": array(3, 4 * hidden),
        "rec.bias_hh_l0": array(4, 4 * hidden),
        "lin.weight": array(5, 1, hidden),
        "lin.bias": array(6, 1),
    }
    data = {"model": "SimpleRNN", "input_size": inputs, "skip": 1, "output_size": 1, "unit_type": "LSTM"}
    data |= {"num_layers": 1, "hidden_size": hidden, "bias_fl": True}
    path = tmp_path / "pedal.json"
    path.write_text(json.dumps({"model_data": data, "state_dict": {k: v.tolist() for k, v in state.items()}}))
    soundfile.write(tmp_path / "in.wav", array(7, 4000, scale=0.2), 44100, "FLOAT")
    return path


def torch_answer(path, x: np.ndarray, drive: float) -> np.ndarray:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    state = {k: torch.tensor(v).double() for k, v in json.loads(path.read_text())["state_dict"].items()}
    rec = torch.nn.LSTM(2, 6, batch_first=True).double()
    rec.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("rec.")})
    heard = torch.tensor(np.stack([x, np.full_like(x, drive)], 1)[None]).double()
    with torch.no_grad():
        y = rec(heard)[0] @ state["lin.weight"].T + state["lin.bias"]
    return y[0, :, 0].numpy() + x


def test_the_knob_is_the_second_input(conditioned):
    x = array(8, 900)
    model = backline.load(conditioned)
    assert list(model.knobs) == ["drive"]
    for drive in (0.0, 0.7):
        np.testing.assert_allclose(model(x, drive=drive), torch_answer(conditioned, x, drive), atol=2e-6)
        np.testing.assert_array_equal(
            backline.load(conditioned, knobs={"drive": drive})(x), model(x, drive=drive)
        )


def test_a_turn_while_audio_runs_is_a_ramp_of_20_ms(conditioned):
    x = array(9, 3000)
    model = backline.load(conditioned)
    with model.stream() as stream:
        stream.set(drive=0.2)
        first = stream.process(x[:1000])
        stream.set(drive=0.9)
        second = stream.process(x[1000:])
    ramp = np.clip((np.arange(3000) - 1000) / round(0.02 * 44100), 0.0, 1.0)
    expected = reference.run(model.graph, x[None], {"drive": 0.2 + 0.7 * ramp})[0]
    np.testing.assert_allclose(np.concatenate([first, second]), expected, atol=2e-6)


def test_render_with_a_knob(conditioned, tmp_path):
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    assert main(["render", str(conditioned), str(source), "-o", str(target), "--knob", "drive=0.7"]) == 0
    x, y = (soundfile.read(path, dtype="float32")[0] for path in (source, target))
    np.testing.assert_array_equal(y, backline.load(conditioned)(x, drive=0.7))


def test_live_with_a_knob_equals_the_render(conditioned, tmp_path):
    source, live, offline = (tmp_path / name for name in ("in.wav", "live.wav", "offline.wav"))
    files = ["--from", str(source), "--to", str(live)]
    assert main(["live", str(conditioned), "--device", "clock", *files, "--knob", "drive=0.3"]) == 0
    assert main(["render", str(conditioned), str(source), "-o", str(offline), "--knob", "drive=0.3"]) == 0
    np.testing.assert_array_equal(soundfile.read(live)[0], soundfile.read(offline)[0])


@pytest.mark.parametrize(
    ("settings", "status", "text"),
    [
        (["drive=2"], 1, "goes from 0 to 1, found 2"),
        (["tone=0.5"], 1, "no knob 'tone'; it has drive"),
        (["drive"], 2, "expected NAME=VALUE"),
        (["drive=loud"], 2, "expected NAME=VALUE"),
        (["drive=nan"], 2, "expected NAME=VALUE"),
        (["drive=0.1", "drive=0.2"], 2, "set twice"),
    ],
)
def test_wrong_settings(conditioned, tmp_path, capsys, settings, status, text):
    options = [part for setting in settings for part in ("--knob", setting)]
    files = [str(tmp_path / "in.wav"), "-o", str(tmp_path / "out.wav")]
    assert main(["render", str(conditioned), *files, *options]) == status
    assert text in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "out.wav").exists()


def test_load_refuses_what_is_no_knob(conditioned):
    with pytest.raises(ModelError, match="no knob 'tone'"):
        backline.load(conditioned, knobs={"tone": 0.5})
