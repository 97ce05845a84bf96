"""Wheel, sdist and editable install: complete, and working outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

#: What the sources are: these folders, and these files beside them.
FOLDERS = (".ci", "app", "docs", "models", "native", "scripts", "tests")
FILES = (".clang-format", "CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")

#: What makes sound: render the shipped model with the command, and say where the package lies.
USE = """
import sys
import numpy as np
import backline
from backline.audiofile import AudioWriter, read
from backline.cli import main
x = np.linspace(-0.5, 0.5, 1000, dtype=np.float32)[:, np.newaxis]
with AudioWriter("in.wav", 48000, 1) as writer:
    writer.write(x)
assert main(["render", "overdrive", "in.wav", "-o", "out.wav", "--tail", "0"]) == 0
assert np.array_equal(read("out.wav")[0], backline.load("overdrive")(x))
print(backline.__file__)
"""


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command to its good end and return its output."""
    # This process's own way to the package under test must not lead there.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources without anything that was built."""
    for tool in ("build", "setuptools", "cffi"):
        pytest.importorskip(tool)
    place = tmp_path_factory.mktemp("checkout") / "backline"
    place.mkdir()
    built = shutil.ignore_patterns("*.egg-info", "__pycache__", ".*_cache", "*.so")
    for folder in FOLDERS:
        shutil.copytree(TOP / folder, place / folder, ignore=built)
    for file in FILES:
        shutil.copy(TOP / file, place)
    return place


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, cwd=checkout)
    (made,) = out.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made from the unpacked sdist, so that both have to be complete."""
    out = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        # Python 3.11.2, Debian 12's own, has no filters yet.
        options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(out / "unpacked", **options)
    (source,) = (out / "unpacked").iterdir()
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=source)
    (made,) = out.glob("*.whl")
    return made


def test_sdist_is_complete(checkout, sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        path.relative_to(checkout).as_posix()
        for path in checkout.rglob("*")
        if path.is_file() and "egg-info" not in str(path)
    }
    assert {
        ".ci/run",
        "scripts/demo",
        "scripts/overdrive/__init__.py",
        "native/include/backline.h",
    } <= sources
    assert sources - names == set()


def test_wheel_holds_what_it_needs_and_no_more(wheel):
    assert "-cp310-abi3-" in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = {path.relative_to(TOP / "app").as_posix() for path in (TOP / "app").rglob("*.py")}
    models = {f"backline/models/{path.name}" for path in (TOP / "models").iterdir() if path.is_file()}
    assert (packages | models) - names == set()
    assert {"backline/py.typed", "backline/_native.abi3.so"} <= names
    assert [name for name in names if name.endswith((".c", ".h", ".inl"))] == []
    assert {name.split("/")[0] for name in names} == {"backline", "backline-0.1.0.dist-info"}


def test_wheel_works(wheel, tmp_path):
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    out = run(sys.executable, "-c", USE, cwd=tmp_path, PYTHONPATH=str(site))
    assert out.splitlines()[-1] == str(site / "backline" / "__init__.py")
    script = site / "bin" / "backline"
    assert "backline 0.1.0" in run(sys.executable, script, "--version", cwd=tmp_path, PYTHONPATH=str(site))


def test_editable_install_works(checkout, tmp_path):
    place = tmp_path / "venv"
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    (site,) = place.glob("lib/python*/site-packages")
    # The dependencies of this environment, without its own editable installs: a path file is read in site
    # folders only, and a folder named by one is none.
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *inherited_sites()}
    (site / "dependencies.pth").write_text("\n".join(sorted(paths)))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    run(*pip, "--no-build-isolation", "--editable", checkout, cwd=tmp_path)
    out = run(python, "-c", USE, cwd=tmp_path)
    assert out.splitlines()[-1] == str(checkout / "app" / "backline" / "__init__.py")
    assert "backline 0.1.0" in run(place / "bin" / "backline", "--version", cwd=tmp_path)


def inherited_sites() -> set[str]:
    """Where numpy and setuptools come from, should that be elsewhere than this environment's own folder."""
    import numpy
    import setuptools

    return {str(Path(str(module.__file__)).parents[1]) for module in (numpy, setuptools)}
