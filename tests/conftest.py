"""Fixtures all tests may use.

The golden data lies beside the repository, in ``../shared/golden``; where it is absent, tests that ask
for it are skipped and say so. So are tests that need a program or package that is not there, unless the
variable BACKLINE_REQUIRE names it (``torch jackd golden``): then nothing runs and the run fails.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Helpers that scripts and tests share.
sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
WITHOUT_GOLDEN = f"golden data not found at {GOLDEN}"
#: What BACKLINE_REQUIRE may name and is a program; the rest are packages, but for the golden data.
PROGRAMS = {"clang", "gcc", "jackd", "nm"}
PACKAGES = {"jack", "keras", "matplotlib", "nam", "onnx", "onnxruntime", "onnxscript", "pyarrow", "torch"}
PACKAGES |= {"distributed", "fsspec", "webdataset"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "golden_kinds(*kinds): run once for each case of these kinds in the golden manifest"
    )
    wanted = os.environ.get("BACKLINE_REQUIRE", "").split()
    if absent := [name for name in wanted if not _is_there(name)]:
        raise pytest.UsageError(f"BACKLINE_REQUIRE names what is not here: {', '.join(absent)}")


def _is_there(name: str) -> bool:
    if name == "golden":
        return (GOLDEN / "manifest.json").is_file()
    if name in PROGRAMS:
        return shutil.which(name) is not None
    if name in PACKAGES:
        return importlib.util.find_spec(name) is not None
    raise pytest.UsageError(f"BACKLINE_REQUIRE: {name!r} is none of golden, {sorted(PROGRAMS | PACKAGES)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that takes `golden_case` the manifest's cases of the kinds it is marked with."""
    if "golden_case" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("golden_kinds")
    assert marker is not None, "a test that takes golden_case says which with @pytest.mark.golden_kinds"
    if not GOLDEN.is_dir():
        absent = pytest.param(None, marks=pytest.mark.skip(reason=WITHOUT_GOLDEN), id="absent")
        metafunc.parametrize("golden_case", [absent])
        return
    cases = [case for case in _manifest()["cases"] if case["kind"] in marker.args]
    without = set(marker.args) - {case["kind"] for case in cases}
    assert not without, f"{metafunc.definition.nodeid}: the golden manifest has no case of kind {without}"
    metafunc.parametrize("golden_case", [pytest.param(case, id=case["id"]) for case in cases])


def _manifest() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))
    return manifest


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden data; skips the test where there is none."""
    if not GOLDEN.is_dir():
        pytest.skip(WITHOUT_GOLDEN)
    return GOLDEN


@pytest.fixture(scope="session")
def golden_manifest(golden: Path) -> dict[str, Any]:
    """The golden manifest, parsed."""
    return _manifest()


@pytest.fixture(scope="session")
def wavenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small seeded WaveNet with grouped convolutions, as a ``.nam`` file."""
    from nam_files import write_wavenet

    return write_wavenet(tmp_path_factory.mktemp("models") / "small.nam")


@pytest.fixture
def hangup_is_heard() -> Iterator[None]:
    """SIGHUP as a terminal gives it, here and in processes started here, also where nohup runs the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: status, stdout, stderr."""
    from backline.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def worker_in_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions whose worker is a thread here, where what stands in for PortAudio can reach it."""
    from live_tools import ThreadLink

    monkeypatch.setattr("backline.live.supervisor.Link", ThreadLink)


@pytest.fixture
def ones(tmp_path: Path) -> Path:
    """A take of a minute at full scale."""
    import numpy as np
    from live_tools import RATE_HZ, write_take

    return write_take(tmp_path / "ones.wav", np.ones((60 * RATE_HZ, 1), np.float32))
