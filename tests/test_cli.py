"""The command line: help, exit statuses, one sentence per error, and clean exits."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_tools import on_terminal, start
from nam_files import write_wavenet
from plain_user import open_folder, plain_user

import backline
from backline.audiofile import AudioWriter, read

COMMANDS = ["render", "live", "info", "verify", "plot", "convert", "devices", "demo"]


def contents(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def take(tmp_path: Path) -> Path:
    """A short mono file at 48 kHz, alone in its folder."""
    folder = tmp_path / "takes"
    folder.mkdir()
    x = (0.1 * np.random.default_rng(3).standard_normal((5000, 1))).astype(np.float32)
    with AudioWriter(folder / "take.wav", 48000, 1) as writer:
        writer.write(x)
    return folder / "take.wav"


# ------------------------------------------------------------------------------------------ help and usage


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(cli, command, flag):
    status, out, err = cli(command, flag)
    assert status == 0
    assert f"backline {command}" in out
    assert err == ""


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_top_level_help_lists_the_commands(cli, arguments):
    status, out, _ = cli(*arguments)
    assert status == 0
    for command in COMMANDS:
        assert re.search(rf"^\W*{command} ", out, re.MULTILINE)


def test_version(cli):
    assert cli("--version") == (0, f"backline {backline.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["render"],
        ["render", "MODEL"],
        ["render", "MODEL", "TAKE"],
        ["render", "MODEL", "TAKE", "-o"],
        ["render", "MODEL", "TAKE", "-o", "x.wav", "--quality", "2"],
        ["render", "MODEL", "TAKE", "-o", "x.wav", "--quality", "loud"],
        ["render", "MODEL", "TAKE", "-o", "x.wav", "--prewarm", "-1"],
        ["render", "MODEL", "TAKE", "-o", "x.wav", "--prewarm", "5", "--no-prewarm"],
        ["render", "MODEL", "TAKE", "-o", "x.wav", "--format", "flac"],
        ["render", "MODEL", "TAKE", "-o", "x.wav", "--verify"],
        ["render", "MODEL", "TAKE", "-o", "out/", "--name", "{input}.wav", "--format", "flac"],
        ["render", "MODEL", "TAKE", "TAKE", "--null", "TAKE"],
        ["render", "MODEL", "TAKE", "--null", "TAKE", "--dry-run"],
        ["render", "MODEL", "-", "-o", "-", "--journal", "j.sqlite"],
        ["render", "--matrix", "MODEL", "TAKE"],
        ["render", "--matrix", "MODEL", "-", "-o", "out/"],
        ["render", "--matrix", "MODEL", "TAKE", "-o", "-"],
        ["render", "--jobs", "jobs.toml", "MODEL"],
        ["render", "--jobs", "jobs.toml", "-o", "out/"],
        ["render", "--jobs", "jobs.toml", "--gain", "3"],
        ["render", "--jobs", "jobs.toml", "--quality", "0.5"],
        ["info"],
        ["info", "MODEL", "--nonsense"],
        ["info", "MODEL", "MODEL"],
        ["devices", "too", "many"],
        ["demo", "too-many"],
        ["live"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(cli, take, wavenet_file, arguments):
    known = {"MODEL": wavenet_file, "TAKE": take}
    status, out, err = cli(*(known.get(argument, argument) for argument in arguments))
    assert status == 2
    assert out == ""
    assert "Error" in err
    assert "Traceback" not in err


# ------------------------------------------------------------------------------------------------- render


def test_render_one_file(cli, take, wavenet_file, tmp_path):
    out_file = tmp_path / "out.wav"
    status, out, err = cli("render", wavenet_file, take, "-o", out_file, "--tail", "0")
    assert (status, err) == (0, "")
    assert out.startswith(f"{out_file}: 0.10 s, ")
    assert out.count("\n") == 1
    assert np.array_equal(read(out_file)[0], backline.load(wavenet_file)(read(take)[0]))


def test_render_several_files_into_a_folder(cli, take, wavenet_file, tmp_path):
    other = take.with_name("other.flac")
    with AudioWriter(other, 48000, 2) as writer:
        writer.write(np.zeros((100, 2), np.float32))
    status, out, err = cli("render", wavenet_file, take, other, "-o", tmp_path / "out", "--format", "flac")
    assert (status, err) == (0, "")
    assert contents(tmp_path / "out") == ["other.flac", "take.flac"]
    assert len(out.splitlines()) == 2


def test_render_options_reach_the_model(cli, take, wavenet_file, tmp_path):
    x, _ = read(take)
    for options, expected in (
        (["--no-prewarm"], backline.load(wavenet_file, prewarm=False)),
        (["--prewarm", "7"], backline.load(wavenet_file, prewarm=7)),
        (["--quality", "0.3", "--subtype", "DOUBLE"], backline.load(wavenet_file, quality=0.3)),
    ):
        status, _, _ = cli(
            "render", wavenet_file, take, "-o", tmp_path / "out.wav", "--force", "--tail", "0", *options
        )
        assert status == 0
        assert np.array_equal(read(tmp_path / "out.wav")[0], expected(x))


def test_render_a_state_dict_with_its_layers(cli, take, tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(1, 1, 6)
    (tmp_path / "state.json").write_text(json.dumps({"conv.weight": weight.tolist()}))
    layer = {"type": "conv1d", "prefix": "conv.", "in_channels": 1, "out_channels": 1, "kernel_size": 6}
    (tmp_path / "layers.json").write_text(json.dumps([{**layer, "dilation": 2, "bias": False}]))
    arguments = ["render", tmp_path / "state.json", take, "-o", tmp_path / "out.wav", "--tail", "0"]
    status, _, err = cli(*arguments)
    assert status == 1
    assert "layers" in err
    status, _, err = cli(*arguments, "--layers", tmp_path / "layers.json")
    assert (status, err) == (0, "")
    expected = backline.conv1d(weight, dilation=2)(read(take)[0])
    assert np.array_equal(read(tmp_path / "out.wav")[0], expected)


def test_one_bad_file_of_several(cli, take, wavenet_file, tmp_path):
    status, out, err = cli("render", wavenet_file, take, tmp_path / "missing.wav", "-o", f"{tmp_path}/out/")
    assert status == 1
    assert err == f"backline: error: {tmp_path / 'missing.wav'}: no such file\n"
    assert out.startswith(str(tmp_path / "out" / "take.wav"))
    assert contents(tmp_path / "out") == ["take.wav"]


# ----------------------------------------------------------------------------------------------- failures


#: Name, arguments with {tmp}, {model} and {take}, and what the sentence has to name.
FAILURES = [
    ("missing input", "render {model} {tmp}/no.wav -o {tmp}/o.wav", "{tmp}/no.wav: no such file"),
    ("folder without audio", "render {model} {tmp}/none -o {tmp}/o.wav", "{tmp}/none: holds no audio files"),
    ("input is no audio", "render {model} {tmp}/text.wav -o {tmp}/o.wav", "{tmp}/text.wav: not a readable"),
    ("input is empty", "render {model} {tmp}/empty.wav -o {tmp}/o.wav", "{tmp}/empty.wav: is empty"),
    (
        "output exists",
        "render {model} {take} -o {tmp}/there.wav",
        "{tmp}/there.wav: exists already (--force replaces it)",
    ),
    ("output is the input", "render {model} {take} -o {take} --force", "{take}: is an input"),
    ("output folder below a file", "render {model} {take} -o {tmp}/there.wav/a/", "cannot make this folder"),
    ("output folder is a file", "render {model} {take} -o {tmp}/there.wav/", "{tmp}/there.wav: is a file"),
    ("output has no extension", "render {model} {take} -o {tmp}/out", "{tmp}/out: has no extension"),
    ("output format unknown", "render {model} {take} -o {tmp}/out.doc", "cannot write .doc files"),
    ("subtype unknown", "render {model} {take} -o {tmp}/out.wav --subtype X", "have no subtype X"),
    ("format unknown", "render {model} {take} -o {tmp}/new/ --format doc", "cannot write .doc files"),
    (
        "two inputs, one file",
        "render {model} {take} {tmp}/empty.wav -o {tmp}/out.wav",
        "2 inputs need a folder",
    ),
    ("two inputs, one name", "render {model} {take} {tmp}/take.flac -o {tmp}/new", "would become"),
    ("missing model", "render {tmp}/no.nam {take} -o {tmp}/o.wav", "{tmp}/no.nam: no such file"),
    ("model is a folder", "info {tmp}", "{tmp}: is a folder"),
    ("model is no model", "info {tmp}/text.wav", "{tmp}/text.wav"),
    ("model is audio", "info {take}", "{take}"),
    ("model is empty", "info {tmp}/empty.wav", "{tmp}/empty.wav"),
    ("model cut short", "info {tmp}/cut.nam", "{tmp}/cut.nam"),
    ("model of a mistyped name", "info overdrvie", "overdrvie"),
    ("layers missing", "info {model} --layers {tmp}/no.json", "{tmp}/no.json: cannot be read"),
    ("layers are no JSON", "info {model} --layers {tmp}/text.wav", "{tmp}/text.wav: is no JSON"),
]


@pytest.mark.parametrize(("arguments", "says"), [case[1:] for case in FAILURES], ids=[c[0] for c in FAILURES])
def test_failures_end_with_1_and_one_sentence(cli, take, wavenet_file, tmp_path, arguments, says):
    (tmp_path / "text.wav").write_text("no music in here\n")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "none").mkdir()
    (tmp_path / "there.wav").write_text("precious")
    (tmp_path / "cut.nam").write_text(wavenet_file.read_text()[:-100])
    before = contents(tmp_path)
    names = {"tmp": tmp_path, "model": wavenet_file, "take": take}
    status, out, err = cli(*arguments.format(**names).split(" "))
    assert (status, out) == (1, "")
    assert err.startswith("backline: error: ")
    assert err.count("\n") == 1
    assert says.format(**names) in err
    assert contents(tmp_path) == before
    assert contents(take.parent) == ["take.wav"]
    assert (tmp_path / "there.wav").read_text() == "precious"


@pytest.mark.parametrize("what", ["input", "model", "output folder"])
def test_without_permission(cli, take, wavenet_file, what):
    with open_folder() as folder:
        model, source = Path(shutil.copy(wavenet_file, folder)), Path(shutil.copy(take, folder))
        (folder / "closed").mkdir(mode=0o555)
        # With all rights it works; this also imports what the command needs, which nobody may be able to.
        assert cli("render", model, source, "-o", folder / "o.wav")[0] == 0
        if what != "output folder":
            (model if what == "model" else source).chmod(0)
        target = folder / "closed" / "o.wav" if what == "output folder" else folder / "p.wav"
        with plain_user():
            status, out, err = cli("render", model, source, "-o", target)
        assert (status, out) == (1, "")
        assert "Permission denied" in err
        assert err.count("\n") == 1
        assert not target.exists()


def test_refused_models_are_refused_by_the_cli(cli, golden, golden_manifest):
    refused = [c for c in golden_manifest["cases"] if c["kind"] == "nam_refuse"]
    assert refused
    for case in refused:
        status, out, err = cli("info", golden / case["model"])
        assert (status, out) == (1, ""), case["id"]
        assert Path(case["model"]).name in err
        assert err.count("\n") == 1


def test_no_traceback_for_a_bug(cli, monkeypatch, wavenet_file):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(backline, "load", broken)
    status, _, err = cli("info", wavenet_file)
    assert status == 1
    assert err == "backline: error: unexpected ZeroDivisionError: oh (please report it)\n"
    monkeypatch.setattr(backline, "load", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    assert cli("info", wavenet_file)[2] == "backline: error: not enough memory\n"


# --------------------------------------------------------------------------------------------------- info


def test_info_as_json(cli, wavenet_file):
    status, out, err = cli("info", wavenet_file, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    model = backline.load(wavenet_file)
    assert found["file"] == str(wavenet_file)
    assert found["name"] == model.name
    assert found["parameters"] == model.graph.parameter_count
    assert found["multiply_adds_per_frame"] == model.graph.multiply_adds_per_frame
    assert found["receptive_field_frames"] == model.receptive_field_frames == 161
    assert found["receptive_field_ms"] == pytest.approx(161 / 48)
    assert (found["sample_rate_hz"], found["latency_frames"]) == (48000, 0)
    assert (found["input_channels"], found["output_channels"]) == (1, 1)
    assert found["isa"] == model.isa
    assert found["program_bytes"] > 4 * found["parameters"]
    assert found["stream_bytes"] > 0
    assert 0 < found["engine_bytes"] < found["stream_bytes"]  # what they hold to the byte: native/tests
    assert found["knobs"] == []


def test_info_for_people(cli, wavenet_file):
    status, out, _ = cli("info", wavenet_file)
    assert status == 0
    for what in ("Parameters", "multiply-adds per frame", "161 frames, 3.4 ms", "48000 Hz", "1 in, 1 out"):
        assert what in out
    sizes = backline.load(wavenet_file).program.info
    first = sizes.engine_bytes + sizes.stream_bytes
    assert f"Memory           {sizes.program_bytes:,} bytes, {first:,} for an engine of one stream" in out


@pytest.mark.parametrize(("groups", "parameters"), [(1, 27), (3, 9)])
def test_info_counts_grouped_convolutions(cli, tmp_path, groups, parameters):
    """Issue 114 of RTNeural: Conv1d(9, 3, kernel 1, no bias)."""
    state = {"weight": np.ones((3, 9 // groups, 1)).tolist()}
    layer = {"type": "conv1d", "prefix": "", "in_channels": 9, "out_channels": 3, "kernel_size": 1}
    (tmp_path / "state.json").write_text(json.dumps(state))
    (tmp_path / "layers.json").write_text(json.dumps([{**layer, "groups": groups, "bias": False}]))
    status, out, err = cli("info", tmp_path / "state.json", "--layers", tmp_path / "layers.json", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["parameters"] == parameters
    assert json.loads(out)["multiply_adds_per_frame"] == parameters


def test_info_of_nested_metadata(cli, tmp_path):
    path = write_wavenet(tmp_path / "odd.nam")
    document = json.loads(path.read_text())
    date = {"year": 2026, "month": 1, "day": 2, "hour": 3, "minute": 4, "second": 5}
    document["metadata"] = {
        "date": date,
        "training": {"epochs": 9, "data": {"latency": 0}},
        "tags": ["a", "b"],
    }
    path.write_text(json.dumps(document))
    said = [line.split(maxsplit=1) for line in cli("info", path)[1].splitlines()]
    found = {words[0]: words[1].strip() for words in said if len(words) == 2}
    assert found["date"] == "2026-01-02"
    assert found["training"] == "epochs, data (see --json)"
    assert found["tags"] == '["a", "b"]'


def test_info_is_no_markup(cli, tmp_path):
    """What a file says of itself is printed, not obeyed."""
    path = write_wavenet(tmp_path / "odd.nam")
    document = json.loads(path.read_text())
    document["metadata"] = {"name": "[bold red]loud[/bold red] [/nothing]", "gear_make": "[link=x]y"}
    path.write_text(json.dumps(document))
    status, out, _ = cli("info", path)
    assert status == 0
    assert "[link=x]y" in out


def test_names_that_were_perhaps_meant(cli, tmp_path):
    (tmp_path / "fuzz.nam").touch()
    assert "did you mean fuzz.nam?" in cli("info", tmp_path / "fuz.nam")[2]


# ----------------------------------------------------------------------------------------- ending early


@pytest.fixture
def long_work(tmp_path) -> tuple[Path, Path]:
    """A model and a take that take some seconds."""
    model = write_wavenet(tmp_path / "big.nam", channels=32, dilations=tuple(2**n for n in range(10)) * 3)
    with AudioWriter(tmp_path / "long.flac", 48000, 2) as writer:
        for _ in range(60):
            writer.write(np.zeros((48000, 2), np.float32))
    return model, tmp_path / "long.flac"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.usefixtures("hangup_is_heard")
def test_a_signal_in_the_middle_leaves_nothing(long_work, tmp_path, number, status):
    model, take = long_work
    out = tmp_path / "out"
    process = start("render", model, take, "-o", f"{out}/")
    deadline = time.monotonic() + 60
    while not (out.is_dir() and contents(out)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    assert all(name.endswith(".part") for name in contents(out))
    process.send_signal(number)
    said, complained = process.communicate(timeout=60)
    assert process.returncode == status
    assert (said, complained) == ("", "")
    assert not out.exists()


def test_nohup_is_respected(wavenet_file, take, tmp_path):
    """A signal that was ignored from outside stays ignored."""
    process = start(
        "live",
        wavenet_file,
        "--device",
        "clock",
        "--json",
        "--seconds",
        "2.5",
        preexec_fn=lambda: signal.signal(1, signal.SIG_IGN),
    )
    told = json.loads(process.stdout.readline())  # after a second
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    summary = json.loads(out.splitlines()[-1])
    assert summary["event"] == "summary"
    assert summary["frames"] >= max(2.5 * 48000, told["frames"])


@pytest.mark.parametrize(
    "arguments", [["info", "MODEL"], ["info", "MODEL", "--json"], ["--help"], ["render", "--help"]]
)
def test_a_reader_that_leaves_is_no_error(wavenet_file, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*(wavenet_file if a == "MODEL" else a for a in arguments), stdout=writing)
    os.close(writing)
    _, complained = process.communicate(timeout=60)
    assert complained == ""


def test_progress_only_on_a_terminal(wavenet_file, take, tmp_path):
    """On a pipe nothing but the result; on a terminal a bar, and on stderr."""
    status, out, shown = on_terminal("render", wavenet_file, take, "-o", tmp_path / "o.wav")
    assert status == 0
    assert out.count("\n") == 1
    assert b"take.wav" in shown


def test_commands_import_nothing_heavy(tmp_path):
    """Help comes at once: audio libraries are imported by the commands that need them."""
    code = """
import sys
from backline.cli import main
main(["--help"])
heavy = ("soundfile", "sounddevice", "soxr", "rich.progress", "scipy", "torch")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


# --------------------------------------------------------------------------------------------------- demo


def test_demo(cli, tmp_path):
    status, out, err = cli("demo", "--output-dir", tmp_path / "new", "--no-play")
    assert (status, err) == (0, "")
    dry, wet = tmp_path / "new" / "riff-dry.wav", tmp_path / "new" / "riff-overdrive.wav"
    assert str(dry) in out
    assert str(wet) in out
    x, rate_hz = read(dry)
    y, _ = read(wet)
    assert x.shape == y.shape
    assert len(x) > 4 * rate_hz
    assert np.array_equal(y, backline.load("overdrive")(x))
    status, _, err = cli("demo", "--output-dir", tmp_path / "new", "--no-play")
    assert status == 1
    assert err == f"backline: error: {wet}: exists already (--force replaces it)\n"
    assert cli("demo", "--output-dir", tmp_path / "new", "--no-play", "--force")[0] == 0


def test_demo_plays_if_there_is_a_device(monkeypatch, cli, tmp_path, wavenet_file):
    from backline import demo, library
    from backline.errors import DeviceError
    from backline.live import devices as host

    monkeypatch.setattr(library, "shipped", lambda: {demo.MODEL: wavenet_file})
    played: list[tuple[int, float]] = []
    monkeypatch.setattr(host, "play", lambda x, rate_hz: played.append((len(x), rate_hz)))
    status, out, _ = cli("demo", "--output-dir", tmp_path)
    assert status == 0
    assert len(played) == 2
    assert "played" in out

    def refuse(*_: object) -> None:
        raise DeviceError("no output device")

    monkeypatch.setattr(host, "play", refuse)
    status, out, _ = cli("demo", "--output-dir", tmp_path, "--force")
    assert status == 0
    assert "not played: no output device" in out
    (tmp_path / "file").touch()
    status, _, err = cli("demo", "--output-dir", tmp_path / "file")
    assert status == 1
    assert "file: cannot make this folder" in err
