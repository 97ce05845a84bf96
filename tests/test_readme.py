"""Every command and every piece of Python in the README runs, in the order it stands there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nam_files import write_wavenet

from backline.audiofile import AudioWriter
from backline.cli import main

TOP = Path(__file__).resolve().parents[1]
TEXT = (TOP / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
#: Where the README's cluster listens.
PORT = "8786"
#: These set up an environment; CI runs them themselves, and this test runs inside what they made.
SETTING_UP = {"scripts/demo", "scripts/test", ". .venv/bin/activate"}

#: `backline` as the shell finds it. A session that would wait for Ctrl-C gets a clock and an end.
SHIM = f"""#!{sys.executable}
import sys
from backline.cli import main

arguments = sys.argv[1:]
if arguments[0] == "live" and "--device" not in arguments:
    arguments += ["--device", "clock"]
if arguments[0] == "live" and not {{"--seconds", "--from"}} & set(arguments):
    arguments += ["--seconds", "1"]
sys.exit(main(arguments))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README takes for granted: what `scripts/demo` has made, and some takes."""
    place = tmp_path_factory.mktemp("readme")
    assert main(["demo", "--output-dir", str(place / "demo"), "--no-play"]) == 0
    (place / "amps").mkdir()
    write_wavenet(place / "amps" / "clean.nam")
    write_wavenet(place / "amps" / "lead.nam", channels=4, dilations=(1, 2, 4))
    (place / "takes").mkdir()
    for number in (1, 2):
        x = np.random.default_rng(number).uniform(-0.2, 0.2, (20000, 1)).astype(np.float32)
        with AudioWriter(place / "takes" / f"take {number}.wav", 44100, 1) as writer:
            writer.write(x)
    (place / "bin").mkdir()
    (place / "bin" / "backline").write_text(SHIM)
    (place / "bin" / "backline").chmod(0o755)
    return place


def commands() -> list[str]:
    """Lines of all shell blocks, without comments."""
    lines = [
        line.partition(" #")[0].strip()
        for language, text in BLOCKS
        if language == "sh"
        for line in text.splitlines()
    ]
    return [line for line in lines if line]


def test_there_is_something_to_run():
    assert {language for language, _ in BLOCKS} == {"sh", "python", "text"}
    assert len(commands()) > 10


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[str]:
    """What the README's servers are, on a port that is free; yields the port."""
    pytest.importorskip(
        "distributed", reason="the README's cluster needs distributed, which is not installed"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    running = []
    try:
        for command in filter(is_server, commands()):
            words = [sys.executable, "-m", *command.replace(PORT, port).split()]
            running.append(subprocess.Popen(words, cwd=folder, stderr=subprocess.DEVNULL))
        yield port
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(60)


def is_server(command: str) -> bool:
    return command.startswith("dask ")


@pytest.mark.parametrize(
    "command", [line for line in commands() if line not in SETTING_UP and not is_server(line)]
)
def test_command(folder, command, request):
    if PORT in command:
        command = command.replace(PORT, request.getfixturevalue("cluster"))
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stderr.splitlines():
        assert line.startswith("backline: "), done.stderr
        assert "error" not in line
    assert done.stdout + done.stderr  # a run with nothing to do has no result, and says so


@pytest.mark.parametrize("command", sorted(SETTING_UP - {". .venv/bin/activate"}))
def test_scripts_that_set_up_are_there_and_run_in_ci(command):
    assert command in commands()
    assert os.access(TOP / command, os.X_OK)
    assert command in (TOP / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", [text for language, text in BLOCKS if language == "python"])
def test_python(folder, code):
    if "import torch" in code:
        pytest.importorskip("torch", reason="a part of the README that needs PyTorch")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    for printed in re.findall(r"print\(.*\)\s+# (.*)$", code, re.MULTILINE):
        assert printed in done.stdout


def test_files_it_speaks_of_exist():
    for path in re.findall(r"\]\((?!http)([^)]+)\)", TEXT):
        assert (TOP / path).is_file(), path
    for path in re.findall(r"`((?:scripts|models|native|docs)/[\w./-]+)`", TEXT):
        assert (TOP / path).exists(), path


def test_every_command_is_mentioned():
    for command in (
        "render",
        "dataset",
        "live",
        "info",
        "verify",
        "compare",
        "plot",
        "convert",
        "bench",
        "devices",
        "latency",
        "doctor",
        "demo",
    ):
        assert f"`backline {command}" in TEXT
