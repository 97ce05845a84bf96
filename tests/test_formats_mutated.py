"""Mutated files of every format: each becomes a Model that plays, or is refused in a sentence.

They are loaded in a process of its own, so that a crash has a name and memory has a limit. In scripts/soak
more than 10,000 of each format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import DOCUMENTS, layers_for, state_dict, torch_layers
from documents_backline import CONTAINERS, GRAPHS
from documents_nam import numbers
from graphs import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import Worker, mutated, mutated_bytes, mutated_container, take_apart
from test_formats_bad_input import refusal

from backline.formats import backline_file

FUZZ = settings(
    examples(170), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TRIES, MOST_WEIGHTS = 5, 100_000


@pytest.fixture(scope="module")
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """The process, whose figures are printed in the end."""
    process = Worker()
    yield process
    process.close()
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    if request.config.get_verbosity() > 0 and capture is not None:
        with capture.global_and_fixture_disabled():
            print(*(f"\n{name}: {tally}" for name, tally in sorted(process.tallies.items())))


@pytest.mark.parametrize("name", DOCUMENTS)
@given(data=st.data(), quality=st.floats(0, 1))
@FUZZ
def test_documents(worker: Worker, tmp_path: Path, name: str, data: st.DataObject, quality: float) -> None:
    path = tmp_path / "mutated.json"
    document = data.draw(mutated(DOCUMENTS[name]))
    layers = torch_layers() if name == "state_dict" else None
    for _ in range(TRIES):
        path.write_text(json.dumps(document), encoding="utf-8")
        sentence = worker.ask(path, quality, layers, f"{name}, values") or ""
        wanted = re.match(r"[^']*expected (?:at least )?(\d+) weights", sentence)
        if wanted is None or int(wanted[1]) > MOST_WEIGHTS or not isinstance(document.get("weights"), list):
            break
        # What a .nam says of itself fits again, so that what it says is built.
        document["weights"] = numbers(int(wanted[1]))


@given(data=st.data())
@FUZZ
def test_layers_of_a_state_dict(worker: Worker, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state_dict()), encoding="utf-8")
    worker.ask(path, layers=data.draw(mutated(torch_layers)), tally="state_dict, layers")


@pytest.mark.parametrize("name", DOCUMENTS)
@given(data=st.data())
@FUZZ
def test_bytes_of_documents(worker: Worker, tmp_path: Path, name: str, data: st.DataObject) -> None:
    document = DOCUMENTS[name]()
    path = tmp_path / "mutated.bin"
    path.write_bytes(data.draw(mutated_bytes(json.dumps(document).encode())))
    worker.ask(path, layers=layers_for(document), tally=f"{name}, bytes")


@pytest.mark.parametrize("name", CONTAINERS)
@given(data=st.data())
@FUZZ
def test_containers(worker: Worker, tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = tmp_path / "mutated.backline"
    path.write_bytes(data.draw(mutated_container(CONTAINERS[name])))
    worker.ask(path, tally=f".backline {name}, values")


@pytest.mark.parametrize("name", CONTAINERS)
@given(data=st.data())
@FUZZ
def test_bytes_of_containers(worker: Worker, tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = tmp_path / "mutated.backline"
    path.write_bytes(data.draw(mutated_bytes(CONTAINERS[name])))
    worker.ask(path, tally=f".backline {name}, bytes")


def test_the_containers_hold_every_kind_of_layer() -> None:
    found = {type(node) for make in GRAPHS.values() for node in make().nodes}
    assert found == set(backline_file.KINDS.values())


@pytest.mark.parametrize("name", [*DOCUMENTS, *CONTAINERS])
def test_what_is_mutated_is_good(worker: Worker, tmp_path: Path, name: str) -> None:
    path = tmp_path / "good"
    document: Any = DOCUMENTS[name]() if name in DOCUMENTS else None
    path.write_bytes(CONTAINERS[name] if document is None else json.dumps(document).encode())
    assert worker.ask(path, layers=layers_for(document)) is None


def graph_text(change: str, to: str) -> bytes:
    """The first .backline file with a piece of its graph's text, which JSON holds as text, replaced."""
    header, _, numbers = take_apart(CONTAINERS["played"])
    said = header["__metadata__"]
    assert change in said["graph"]
    said["graph"] = said["graph"].replace(change, to)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + numbers


@pytest.mark.parametrize(
    ("change", "to", "text"),
    [
        ("1987", "NaN", "its graph: holds the number NaN"),
        ("1987", "-Infinity", "its graph: holds the number -Infinity"),
        ('"make": "x"', '"year": 1', "its graph: an object has the key 'year' twice"),
        ('"output": "wide"', f'"output": "{"w" * 9999}"', "reads 'wide', which no earlier layer writes"),
        ('"output": "wide"', '"output": "a\\nb"', "reads 'wide', which no earlier layer writes"),
        ('"leaky_hardtanh"', '"' + "w" * 99999 + '"', "unknown activation 'www"),
        ('"leaky_hardtanh"', "[" * 99999 + "1" + "]" * 99999, "nested too deeply"),
    ],
    ids=lambda value: value[:12],
)
def test_texts_in_containers(tmp_path: Path, change: str, to: str, text: str) -> None:
    path = tmp_path / "odd.backline"
    path.write_bytes(graph_text(change, to))
    assert text in refusal(path)
