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
from backline.engine import Model
from backline.errors import ModelError
from backline.graph import Graph, Knob
from backline.layers import Multiply
from backline.live.session import LiveSession


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
    how = ["-o", str(target), "--tail", "0", "--knob", "drive=0.7"]
    assert main(["render", str(conditioned), str(source), *how]) == 0
    x, y = (soundfile.read(path, dtype="float32")[0] for path in (source, target))
    np.testing.assert_array_equal(y, backline.load(conditioned)(x, drive=0.7))


def test_live_with_a_knob_equals_the_render(conditioned, tmp_path):
    source, live, offline = (tmp_path / name for name in ("in.wav", "live.wav", "offline.wav"))
    how = ["--device", "clock", "--no-limit", "--from", str(source), "--to", str(live), "--knob", "drive=0.3"]
    assert main(["live", str(conditioned), *how]) == 0
    how = ["-o", str(offline), "--tail", "0", "--knob", "drive=0.3"]
    assert main(["render", str(conditioned), str(source), *how]) == 0
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


def turned_by_hand(
    blocks: int, frames: int, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A sine and a gain that is turned before each block, as somebody's hand does: sine, answer, gain."""
    knob = Knob("gain", 0.0, 0.0, 1.0)
    graph = Graph((Multiply("y", "x", "gain"),), "x", 2, "y", knobs=(knob,), sample_rate_hz=48000.0)
    sine = np.sin(2 * np.pi * 440 / 48000 * np.arange(blocks * frames)).astype(np.float32)
    x = np.stack([sine, np.ones_like(sine)], 1)  # the second channel shows the gain itself
    with Model(graph).stream() as stream:
        made = [stream.process(x[:1])]
        for block, target in enumerate(targets):
            stream.set(gain=float(target))
            made.append(stream.process(x[1 + block * frames : 1 + (block + 1) * frames]))
    y, gain = np.concatenate(made).T.astype(np.float64)
    return sine[: len(y)].astype(np.float64), y, gain


@pytest.mark.parametrize("frames", [64, 480, 3000])
def test_no_turn_makes_a_step(frames):
    """Between two frames the gain goes at most the whole range's 960th part, 20 ms at 48 kHz."""
    targets = np.random.default_rng(frames).integers(0, 2, 20).astype(np.float64)
    sine, y, gain = turned_by_hand(20, frames, targets)
    slope = 1.0 / 960
    assert np.max(np.abs(np.diff(gain))) <= slope * (1 + 1e-4)
    # y = gain x, so from frame to frame it moves by what the sine moves and by the ramp's slope, no more.
    assert np.all(np.abs(np.diff(y)) <= np.abs(np.diff(sine)) + slope * np.abs(sine[1:]) + 1e-6)
    assert gain.max() > 0.05


def test_a_turn_is_not_heard_as_a_click():
    """A ramp of N frames has at most ``2 / (N w)`` of the spectrum a step has, w off the tone's frequency."""
    sine, y, gain = turned_by_hand(2, 4000, np.array([0.0, 1.0]))
    step = sine * (np.arange(len(sine)) > 4000)
    window = np.hanning(len(sine))
    heard, click = (np.abs(np.fft.rfft(each * window)) for each in (y, step))
    high = np.fft.rfftfreq(len(sine), 1 / 48000) > 8000
    off_the_tone = 2 * np.pi * (8000 - 440) / 48000
    assert np.max(heard[high]) <= 2 / (960 * off_the_tone) * np.max(click[high])  # 53 dB less
    assert gain[-1] == 1.0


def test_a_turn_in_a_live_session_is_that_ramp_too(tmp_path):
    """A take of ones through a gain that is turned from Python while it plays: the recording is the gain."""
    knob = Knob("drive", 0.2, 0.0, 1.0)
    graph = Graph((Multiply("y", "x", "drive"),), "x", 1, "y", knobs=(knob,), sample_rate_hz=48000.0)
    soundfile.write(tmp_path / "ones.wav", np.ones(96000, np.float32), 48000, "FLOAT")
    files = {"take": tmp_path / "ones.wav", "to": tmp_path / "gain.wav"}
    with LiveSession(Model(graph), device="clock", block_frames=64, limiter=False, **files) as session:
        session.run(0.2)
        session.set(drive=0.9)
        session.run(None)
    gain = soundfile.read(tmp_path / "gain.wav")[0]
    start = int(np.flatnonzero(gain > 0.2 + 1e-6)[0]) - 1  # the ramp's first frame still has the old value
    assert start >= 0.2 * 48000
    assert start % 64 == 0  # where a block begins
    ramp = np.clip((np.arange(96000) - start) / 960, 0.0, 1.0)
    np.testing.assert_allclose(gain, 0.2 + 0.7 * ramp, atol=1e-6)


def test_any_name_may_be_a_knobs():
    for name in ("x", "self", "knobs", "two words"):
        nodes = (Multiply("y", "audio", name),)
        model = Model(Graph(nodes, "audio", 1, "y", knobs=(Knob(name, 0.5, 0.0, 1.0),)))
        x = array(10, 50)
        np.testing.assert_array_equal(model(x, **{name: 0.25}), x * np.float32(0.25))
        with model.stream() as stream:
            stream.set(**{name: 0.75})
            np.testing.assert_array_equal(stream.process(x), x * np.float32(0.75))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        *(("0.5", "type str"), (None, "type NoneType"), ([0.5], "type list"), (1j, "type complex")),
        *((float("nan"), "nan"), (10**400, "a number too large"), (-0.1, "-0.1"), (np.float32(2), "2")),
    ],
    ids=["text", "None", "list", "complex", "nan", "huge", "below", "above"],
)
def test_what_is_no_value_of_a_knob(conditioned, value, found):
    says = f"knob drive goes from 0 to 1, found {found}$"
    model = backline.load(conditioned)
    with pytest.raises(ModelError, match=f"^{conditioned}: pedal: {says}"):
        backline.load(conditioned, knobs={"drive": value})
    with pytest.raises(ValueError, match=f"^{says}"):
        model(array(11, 5), drive=value)


def test_of_several_knobs_none_is_turned_if_one_cannot_be():
    nodes = (Multiply("a", "x", "p"), Multiply("y", "a", "q"))
    knobs = (Knob("p", 1.0, 0.0, 1.0), Knob("q", 1.0, 0.0, 1.0))
    model = Model(Graph(nodes, "x", 1, "y", knobs=knobs))
    assert list(model.knobs) == ["p", "q"]
    x = array(12, 2000)
    with model.stream() as stream:
        head = stream.process(x[:10])
        with pytest.raises(ValueError, match="knob q goes from 0 to 1, found 2"):
            stream.set(p=0.0, q=2.0)
        np.testing.assert_array_equal(np.concatenate([head, stream.process(x[10:])]), x)
    with pytest.raises(ValueError, match="the stream is closed"):
        stream.set(p=0.0)


def test_load_refuses_what_is_no_knob(conditioned):
    with pytest.raises(ModelError, match="no knob 'tone'"):
        backline.load(conditioned, knobs={"tone": 0.5})
