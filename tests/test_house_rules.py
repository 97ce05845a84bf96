"""What the house rules in DESIGN ask for and a program can see: sizes, imports, and which way they point."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
APP = TOP / "app" / "backline"
PYTHON = sorted([*APP.rglob("*.py"), *(TOP / "scripts").rglob("*.py")])
C = sorted(path for path in (TOP / "native").rglob("*") if path.suffix in (".c", ".h", ".inl"))
COMMANDS = (
    *("render", "dataset", "live", "info", "verify", "compare", "plot", "convert"),
    *("bench", "devices", "latency", "doctor", "demo"),
)

FILE_LINES = 500
FUNCTION_LINES = 60
CALLBACK_LINES = 40
COMMAND_LINES = 30

#: From the top down; nothing imports from above itself, not even through a module that is not named here.
CHAIN = (
    ("cli",),
    ("live", "demo", "batch", "dataset"),
    ("render", "api", "verify", "compare", "plot", "bench"),
    ("engine",),
    ("compile",),
    ("passes", "rates", "formats", "reference"),
    ("graph",),
    ("layers",),
)
#: Each is imported in one module.
WRAPPED = (
    *("sounddevice", "soundfile", "soxr", "rich", "matplotlib", "onnx", "safetensors", "textual"),
    *("pyarrow", "distributed", "fsspec", "backline._native"),
)
#: PyTorch is two things: what reads modules of it into graphs, and what feeds pairs to it as tensors.
TORCH = {"formats/_torch_export.py", "dataset/torch_dataset.py"}


def name_of(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def c_functions(path: Path) -> Iterator[tuple[str, int]]:
    """First line and number of lines of each function: clang-format starts and ends it at the margin."""
    first, start = "", 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        if re.match(r"\w.*[^;]$", line):
            first, start = line, number
        elif line == "}":
            yield first, number - start + 1


def imported(path: Path) -> set[str]:
    """Full names of the modules a file of the package imports, lazily or not."""
    package = ["backline", *path.relative_to(APP).parts[:-1]]
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            # What is imported from a package may be a module of it.
            found |= {module, module.partition(".")[0], *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def imports() -> dict[str, set[str]]:
    """Which modules of the package, by the first part of their name, each of them imports."""
    graph: dict[str, set[str]] = {}
    for path in APP.rglob("*.py"):
        module = path.relative_to(APP).with_suffix("").parts[0]
        names = {name.split(".")[1] for name in imported(path) if name.startswith("backline.")}
        graph.setdefault(module, set()).update(names - {module})
    return {module: names & graph.keys() for module, names in graph.items()}


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """All modules that importing one may lead to."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


@pytest.mark.parametrize("path", [*PYTHON, *C], ids=name_of)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_functions_fit_a_screen(path):
    is_cli = path.parent.name == "cli"
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # The parameters of a command are a table of its options.
            start = node.body[0].lineno if is_cli and node.name in COMMANDS else node.lineno
            assert node.end_lineno - start + 1 <= FUNCTION_LINES, node.name


@pytest.mark.parametrize("path", C, ids=name_of)
def test_c_functions_fit_a_screen(path):
    for first, lines in c_functions(path):
        assert lines <= FUNCTION_LINES, first


def test_the_callback_is_shorter():
    (lines,) = (n for first, n in c_functions(TOP / "native/src/host.c") if "bl_host_callback(" in first)
    assert 10 <= lines <= CALLBACK_LINES


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_short(command):
    (function,) = (
        node
        for node in parsed(APP / "cli" / f"{command}.py").body
        if isinstance(node, ast.FunctionDef) and node.name == command
    )
    assert ast.get_docstring(function)
    body = function.body[1:]
    assert body[-1].end_lineno - body[0].lineno + 1 < COMMAND_LINES


@pytest.mark.parametrize("package", WRAPPED)
def test_each_package_is_imported_in_one_module(package):
    assert len([path for path in APP.rglob("*.py") if package in imported(path)]) == 1


def test_torch_is_imported_in_two():
    assert {
        path.relative_to(APP).as_posix() for path in APP.rglob("*.py") if "torch" in imported(path)
    } == TORCH


def test_imports_never_point_upward():
    graph = imports()
    above: set[str] = set()
    for layer in CHAIN:
        for module in layer:
            assert not reached(graph, module) & above, module
        above |= set(layer)


def test_imports_make_no_circle():
    graph = imports()
    assert [module for module in graph if module in reached(graph, module)] == []


def test_importing_opens_nothing():
    # Typer has brought rich along.
    lazily = {"torch", *WRAPPED} - {"rich", "backline._native"}
    code = f"import sys, backline, backline.cli, backline.dataset; print(sorted({lazily} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
