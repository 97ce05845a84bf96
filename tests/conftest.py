"""Fixtures all tests may use.

The golden data lies beside the repository, in ``../shared/golden``; where it is absent, tests that ask
for it are skipped and say so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
WITHOUT_GOLDEN = f"golden data not found at {GOLDEN}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "golden_kinds(*kinds): run once for each case of these kinds in the golden manifest"
    )


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
