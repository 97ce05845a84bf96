"""What users read on a pipe and of odd names; --layers, --calibrate, --isa and convert as they use them."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from graphs import array
from nam_files import write_wavenet

import backline
from backline import native
from backline.cli import _common

Cli = Callable[..., tuple[int, str, str]]
ODD = "two\nlines \x1b[31mred [bold]"
SHOWN = r"two\nlines \x1b[31mred [bold]"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A model whose name moves cursors, in a folder with a space and letters beyond ASCII."""
    folder = tmp_path / "mein Ordner 名"
    folder.mkdir()
    return named(folder / "o d d.nam", ODD)


def named(path: Path, name: str) -> Path:
    document = json.loads(write_wavenet(path).read_text())
    document["metadata"] = {"name": name, "gear_make": "long " * 60}
    path.write_text(json.dumps(document))
    return path


def state_dict(folder: Path) -> tuple[Path, np.ndarray]:
    weight = array(1, 1, 1, 3)
    path = folder / "state.json"
    path.write_text(json.dumps({"weight": weight.tolist()}))
    return path, weight


LAYER = {"type": "conv1d", "prefix": "", "in_channels": 1, "out_channels": 1, "kernel_size": 3, "bias": False}


# ---- on a pipe ----


def test_info_on_a_pipe_is_a_line_for_each_thing(cli, odd):
    lines = cli("info", odd)[1].split("\n")
    found = {line.split("  ")[0]: line for line in lines}
    assert found["File"].endswith(str(odd))
    assert found["gear_make"].endswith("long " * 59 + "long")
    assert all(line == line.rstrip() for line in lines)


def test_names_are_shown_and_not_obeyed(cli, odd, tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib, which is not installed")
    for arguments in (
        ["info", odd],
        ["verify", odd, "--isa", "scalar"],
        ["convert", odd, tmp_path / "odd.backline"],
        ["plot", odd, "-o", tmp_path / "odd.png"],
        ["live", odd, "--device", "clock", "--seconds", "0"],
    ):
        status, out, err = cli(*arguments)
        assert (status, err) == (0, ""), arguments
        assert SHOWN in out
        assert "\x1b" not in out
    soundfile.write(tmp_path / "take\x1b[2J.wav", array(2, 100), 48000)
    status, out, _ = cli("render", odd, tmp_path / "take\x1b[2J.wav", "-o", f"{tmp_path}/out/")
    assert status == 0
    assert r"take\x1b[2J.wav: " in out


def test_help_keeps_its_brackets(cli):
    assert 'pip install "backline[plot]"' in cli("plot", "--help")[1]


def test_a_link_that_leads_nowhere(cli, tmp_path):
    (tmp_path / "amp.nam").symlink_to("gone.nam")
    status, _, err = cli("info", tmp_path / "amp.nam")
    assert (status, err) == (
        1,
        f"backline: error: {tmp_path / 'amp.nam'}: is a link to gone.nam, which leads to no file\n",
    )
    assert cli("info", "")[2] == (
        "backline: error: expected a path or the name of a shipped model, found an empty text\n"
    )


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="writes where only Linux has a folder")
def test_a_folder_that_takes_no_files_is_not_said_to_be_missing(cli, wavenet_file):
    status, _, err = cli("convert", wavenet_file, "/proc/x.backline")
    assert status == 1
    assert err.startswith("backline: error: /proc/x.backline: cannot be written: ")
    assert "does not exist" not in err


# ---- --layers ----


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"type": "conv1d", "type": "gru"}]', "an object has the key 'type' twice"),
        (b"\xff\xfe[]", "no text in UTF-8 (byte 0)"),
        (b"[" * 100_000, "lists in lists"),
        (b'[{"kernel_size": NaN}]', "the number NaN"),
        (b"[" + b" " * (1 << 24) + b"]", "more than 16777216 bytes"),
    ],
    ids=["key twice", "no text", "deep", "NaN", "long"],
)
def test_layers_that_are_none(cli, tmp_path, content, says):
    state, _ = state_dict(tmp_path)
    path = tmp_path / "layers.json"
    path.write_bytes(content)
    status, out, err = cli("info", state, "--layers", path)
    assert (status, out) == (1, "")
    assert err.startswith(f"backline: error: {path}: ")
    assert says in err


@pytest.mark.skipif(
    not Path("/dev/zero").exists(), reason="reads what never ends, where there is such a thing"
)
def test_layers_that_never_end(cli, tmp_path):
    assert cli("info", state_dict(tmp_path)[0], "--layers", "/dev/zero")[0] == 1


def test_layers_from_a_pipe(cli, tmp_path):
    """As a shell's ``<(...)`` gives them."""
    state, weight = state_dict(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(json.dumps([LAYER]),))
    writer.start()
    out = tmp_path / "conv.backline"
    assert cli("convert", state, out, "--layers", pipe)[0] == 0
    writer.join()
    x = array(3, 200)
    assert np.array_equal(backline.load(out)(x), backline.conv1d(weight)(x))


# ---- --calibrate ----


def test_calibration_fails_by_the_models_name(cli, tmp_path):
    model = write_wavenet(tmp_path / "amp.nam")
    soundfile.write(tmp_path / "in.wav", array(4, 100), 48000)
    for command in (["render", model, tmp_path / "in.wav", "-o", tmp_path / "out.wav"], ["live", model]):
        status, _, err = cli(*command, "--calibrate", "12")
        assert status == 1
        assert re.match(r"backline: error: .*(amp|small grouped).*calibrate: the model says neither ", err)
        assert cli(*command, "--calibrate", "nan")[0] == 1


def test_live_plays_at_the_models_level_as_render_does(cli, tmp_path):
    """The same bits, and by hand: the model hears 6 dB less and what it gives loses 3 dB."""
    path = write_wavenet(tmp_path / "amp.nam")
    document = json.loads(path.read_text())
    document["metadata"] = {"input_level_dbu": 18.0, "output_level_dbu": 9.0}
    path.write_text(json.dumps(document))
    take, live, offline = (tmp_path / name for name in ("in.wav", "live.wav", "offline.wav"))
    soundfile.write(take, array(5, 4000, scale=0.1), 48000, "FLOAT")
    level = ["--calibrate", "12"]
    status, _, err = cli("live", path, "--device", "clock", "--from", take, "--to", live, *level)
    assert status == 0
    assert "input -6.0 dB" in err
    assert "output -3.0 dB" in err
    # Live ends with its input; without more ado a render goes on for as long as it sounds.
    assert cli("render", path, take, "-o", offline, *level, "--tail", "0")[0] == 0
    x, y, z = (soundfile.read(file, dtype="float32")[0] for file in (take, live, offline))
    assert np.array_equal(y, z)
    before, after = (np.float32(10 ** (db / 20)) for db in (-6.0, -3.0))
    np.testing.assert_allclose(y, backline.load(path)(x * before) * after, rtol=1e-5, atol=1e-7)


# ---- --isa ----


def test_an_instruction_set_named_twice_runs_once(cli, wavenet_file):
    status, out, _ = cli("verify", wavenet_file, "--isa", "scalar", "--isa", "SCALAR")
    assert status == 0
    assert out.split("\n")[1].split() == ["signal", "scalar", "largest", "error"]


def test_no_instruction_set_is_none(cli, wavenet_file):
    assert "instruction set '' is not available" in cli("verify", wavenet_file, "--isa", "")[2]
    with pytest.raises(backline.BacklineError, match="''"):
        native.choose_isa("")


# ---- convert ----


@pytest.mark.golden_kinds("nam", "recurrent_json")
def test_what_is_converted_is_the_same(cli, golden, golden_case, tmp_path):
    model, out = golden / golden_case["model"], tmp_path / "out.backline"
    quality = ["--quality", golden_case["slim"]] if golden_case.get("slim") is not None else []
    assert cli("convert", model, out, *quality)[0] == 0
    x = array(6, 3000, scale=0.3)
    expected = backline.load(model, *map(float, quality[1:]))
    found = backline.load(out)
    assert np.array_equal(found(x), expected(x))
    told = [json.loads(cli("info", *of, "--json")[1]) for of in ([model, *quality], [out])]
    same = (
        "name",
        "parameters",
        "receptive_field_frames",
        "latency_frames",
        "sample_rate_hz",
        "metadata",
        "layers",
    )
    assert [told[0][key] for key in same] == [told[1][key] for key in same]


def test_the_same_model_makes_the_same_file(cli, wavenet_file, tmp_path):
    """All weights are there for safetensors' own reader, and the bytes are the same each time."""
    numpy_reader = pytest.importorskip("safetensors.numpy", reason="reads with safetensors")
    made = set()
    for count in range(6):
        out = tmp_path / f"{count}.backline"
        assert cli("convert", wavenet_file, out)[0] == 0
        made.add(out.read_bytes())
    (data,) = made
    arrays = {name: values for name, values in numpy_reader.load(data).items()}
    weights = json.loads(wavenet_file.read_text())["weights"]
    found = np.sort(np.concatenate([values.ravel() for values in arrays.values()]))
    assert np.array_equal(found, np.sort(np.float32(weights)))


def test_convert_keeps_where_knobs_stand(cli, golden, tmp_path):
    out = tmp_path / "turned.backline"
    document = json.loads((golden / "recurrent_json" / "models" / "gml_lstm20_skip.json").read_text())
    hidden = document["model_data"]["hidden_size"]
    document["model_data"]["input_size"] = 2
    document["state_dict"]["rec.weight_ih_l0"] = array(7, 4 * hidden, 2).tolist()
    path = tmp_path / "pedal.json"
    path.write_text(json.dumps(document))
    assert cli("convert", path, out, "--knob", "drive=0.25")[0] == 0
    x = array(8, 500)
    assert np.array_equal(backline.load(out)(x), backline.load(path)(x, drive=0.25))
    status, _, err = cli("convert", path, out, "--force", "--knob", "tone=1")
    assert (status, err) == (1, f"backline: error: {path}: pedal: no knob 'tone'; it has drive\n")


# ---- ending early ----


@pytest.mark.usefixtures("hangup_is_heard")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_between_commands_has_its_status_too(name):
    """Typer answers any interrupt with 130; the shell is to learn which signal it was."""
    app = typer.Typer()
    number = getattr(signal, name)

    @app.command()
    def command() -> None:
        signal.raise_signal(number)

    assert _common.run(app, []) == 128 + number
