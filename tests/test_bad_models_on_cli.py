"""Commands on files that are no models, or odd ones: one clear line and status 1, or what they promise."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import DOCUMENTS
from documents_backline import CONTAINERS
from graphs import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import drop, mutated, mutated_container, put
from plain_user import open_folder, plain_user

from backline.audiofile import AudioWriter
from backline.cli import main

Cli = Callable[..., tuple[int, str, str]]
#: What each command is told besides the model; {} is a folder.
COMMANDS = {
    "info": [],
    "info --json": [],
    "verify": ["--isa", "scalar"],
    "convert": ["{}/out.backline"],
    "render": ["{}/in.wav", "-o", "{}/out.wav"],
    "plot": ["-o", "{}/out.png"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where there is a short recording."""
    with AudioWriter(tmp_path / "in.wav", 48000, 1) as writer:
        writer.write((0.1 * np.random.default_rng(3).standard_normal((500, 1))).astype(np.float32))
    return tmp_path


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], folder: Path) -> Cli:
    """Run a command on a model: status, stdout, stderr. Warnings are errors: a user would see them."""

    def run(command: str, model: Path) -> tuple[int, str, str]:
        name, *flags = command.split()
        more = [text.format(folder) for text in COMMANDS[command]]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            status = main([name, str(model), *more, *flags])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def refused(cli: Cli, command: str, model: Path) -> str:
    """The one line that a command says."""
    before = sorted(os.listdir(model.parent))
    status, out, err = cli(command, model)
    assert (status, out) == (1, "")
    assert err.startswith(f"backline: error: {model}: "), err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    assert "unexpected" not in err
    assert sorted(os.listdir(model.parent)) == before
    return err


def broken(name: str, change: Callable[[Any], None]) -> bytes:
    document = DOCUMENTS[name]()
    change(document)
    return json.dumps(document).encode()


BAD: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "text": b"a model, truly",
    "cut off": json.dumps(DOCUMENTS["wavenet"]()).encode()[:300],
    "nested": b"[" * 100_000,
    "pickle": b"\x80\x04\x95",
    "nothing known": b'{"hello": 1}',
    "without layers": json.dumps(DOCUMENTS["state_dict"]()).encode(),
    "weights missing": broken("lstm", drop("weights", 0)),
    "not finite": broken("lstm", put("weights", 0, value=float("nan"))),
    "too large a number": broken("linear", put("weights", 0, value=10**400)),
    "huge": broken("wavenet", put("config", "layers", 0, "channels", value=2**24)),
    "odd rate": broken("linear", put("sample_rate", value=1)),
    "odd layer": broken("keras", put("layers", 0, "type", value="a\n\x1b[31m\ud800")),
    "folds to infinity": broken("slimmable", put("weights", value=[1e30] * 34)),
    "container cut off": CONTAINERS["played"][:-4],
    "container of something else": CONTAINERS["played"].replace(b'"backline"', b'"blackline"'[:10]),
    "long names": CONTAINERS["played"].replace(b"prelu", b"w" * 5),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", BAD)
def test_bad_files_end_with_one_line(cli: Cli, folder: Path, name: str, command: str) -> None:
    path = folder / "model.nam"
    path.write_bytes(BAD[name])
    refused(cli, command, path)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_file_ends_with_one_line(cli: Cli, folder: Path, command: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "subfolder").mkdir()
    assert "no regular file" in refused(cli, command, folder / "pipe")
    assert "is a folder" in refused(cli, command, folder / "subfolder")
    assert "no such file" in refused(cli, command, folder / "absent.nam")
    loop = folder / "loop"
    loop.symlink_to(loop)
    refused(cli, command, loop)


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_file_that_may_not_be_read_ends_with_one_line(cli: Cli, command: str) -> None:
    with open_folder() as place, plain_user():
        path = place / "secret.nam"
        path.write_text(json.dumps(DOCUMENTS["linear"]()))
        path.chmod(0)
        assert "Permission denied" in refused(cli, command, path)


ODD_TEXTS = ["\ud800", "\x1b[31mred", "a\nb", "$x_{", "$\\frac{$", "[bold]", "𝄞", "", "\0", "x" * 100_000]


@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: ascii(text[:12]))
def test_odd_texts(cli: Cli, folder: Path, text: str) -> None:
    """Shown, not obeyed: no code that moves the cursor, no line that is not ours."""
    document = DOCUMENTS["linear"]()
    document["metadata"] = {"name": text, "date": {"year": text, "month": None, "day": [text]}, "k": text}
    path = folder / "model.nam"
    path.write_text(json.dumps(document))
    # Plotting takes seconds: only what has no letters, and what looks like mathematics.
    for command in [each for each in COMMANDS if each != "plot" or text in ODD_TEXTS[:5:4]]:
        status, out, err = cli(command, path)
        assert status == 0
        assert "\x1b" not in out + err
        assert "\0" not in out + err
        assert all(line.startswith("backline: ") for line in err.splitlines())


def judge(status: int, err: str) -> None:
    """Notes, and one error where there was one."""
    lines = err.splitlines()
    assert all(line.startswith("backline: ") for line in lines), err
    errors = [line for line in lines if line.startswith("backline: error: ")]
    assert len(errors) == (status != 0), err
    assert status in (0, 1)
    assert "unexpected" not in err


MUTATED = settings(
    examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(data=st.data())
@MUTATED
def test_mutated_documents(cli: Cli, folder: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(DOCUMENTS)))
    path = folder / "mutated.nam"
    path.write_text(json.dumps(data.draw(mutated(DOCUMENTS[name], 2))))
    run_all(cli, folder, path)


@given(data=st.data())
@MUTATED
def test_mutated_containers(cli: Cli, folder: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(CONTAINERS)))
    path = folder / "mutated.backline"
    path.write_bytes(data.draw(mutated_container(CONTAINERS[name])))
    run_all(cli, folder, path)


def run_all(cli: Cli, folder: Path, path: Path) -> None:
    """All commands but plot, which takes seconds; what one of them loads, all do."""
    loaded = set()
    for command in ("info", "info --json", "convert", "render"):
        for old in ("out.backline", "out.wav"):
            (folder / old).unlink(missing_ok=True)
        status, out, err = cli(command, path)
        judge(status, err)
        loaded.add(f"error: {path}: " not in err)
        if status == 0 and command == "info --json":
            json.loads(out)
    assert len(loaded) == 1
