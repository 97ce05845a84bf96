"""What a file of a few kilobytes may ask for: layers, names, settling, memory; counted, not timed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from documents import DOCUMENTS
from graphs import array
from mutations import Worker
from test_formats_bad_input import refusal

from backline.activations import Activation
from backline.compile import compile_graph
from backline.engine import Model
from backline.errors import ModelError
from backline.formats import backline_file
from backline.graph import MAX_PREWARM_WORK, Graph
from backline.layers import (
    MAX_NODES,
    Activate,
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Conv2d,
    MaxPool1d,
    Node,
    Reshape,
    Slice,
    Upsample,
)

TANH = Activation("tanh")


def graph_of(*nodes: Node, **options: Any) -> Graph:
    return Graph(nodes, "x", 1, nodes[-1].output, **options)


# ---- work that grows with the size of a graph, and no faster ----


def side_by_side(count: int) -> list[Node]:
    """All alive at once."""
    names = tuple(f"a{i}" for i in range(count))
    sums: list[Node] = [Add(f"s{i}", f"s{i - 1}" if i else "x", name) for i, name in enumerate(names)]
    return [*(Activate(name, "x", TANH) for name in names), *sums]


def one_by_one(count: int) -> list[Node]:
    return [Activate(f"a{i}", f"a{i - 1}" if i else "x", TANH) for i in range(count)]


def views_of_views(count: int) -> list[Node]:
    views = [Slice(f"a{i}", f"a{i - 1}" if i else "x", 0, 1) for i in range(count)]
    return [*views, Activate("y", views[-1].output, TANH)]


def joins_of_joins(count: int) -> list[Node]:
    return [Concat(f"a{i}", (f"a{i - 1}", "x") if i else ("x",)) for i in range(count)]


def remembering(count: int) -> list[Node]:
    taps = array(1, 1, 1, 2)
    return [Conv1d(f"a{i}", f"a{i - 1}" if i else "x", taps) for i in range(count)]


def steps_of(action: Callable[[], object]) -> int:
    """Lines and calls of Python that an action takes."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        steps += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize("make", [side_by_side, one_by_one, views_of_views, joins_of_joins, remembering])
def test_twice_the_layers_take_twice_the_steps(make: Callable[[int], list[Node]]) -> None:
    few, many = (graph_of(*make(count)) for count in (200, 400))
    assert steps_of(lambda: compile_graph(many)) < 2.2 * steps_of(lambda: compile_graph(few))


def test_names_of_spaces_take_no_more_steps_than_others() -> None:
    names = ("y" * 500, " " * 500)
    plain, spaced = (graph_of(AvgPool1d(a, "x", 2), Activate(f"{a}{a}", a, TANH)) for a in names)
    assert steps_of(lambda: compile_graph(spaced)) < 1.1 * steps_of(lambda: compile_graph(plain))


# ---- limits ----


def test_most_layers() -> None:
    views = tuple(Slice(f"a{i}", "x", 0, 1) for i in range(MAX_NODES))
    assert len(graph_of(*views).nodes) == MAX_NODES
    with pytest.raises(ModelError, match=f"has {MAX_NODES + 1} layers, at most {MAX_NODES} are allowed"):
        graph_of(*views, Slice("y", "x", 0, 1))


def test_most_layers_that_layers_are_taken_apart_into() -> None:
    nodes: list[Node] = [Concat("wide", ("x",) * 4096), Reshape("0", "wide", 1, 4096)]
    taps = array(1, 1, 1, 1, 3)
    nodes += [Conv2d(f"{i + 1}", f"{i}", taps, feature_padding=(1, 1)) for i in range(40)]
    with pytest.raises(ModelError, match=f"layers, at most {MAX_NODES} are allowed"):
        Model(graph_of(*nodes))


@pytest.mark.parametrize(
    ("node", "frames", "fits"),
    [
        # 4096 multiply-adds a frame, and 8 for each of two numbers: 2^24 / 4112 of 2^36 / 2^24 fit.
        (Conv1d("y", "x", np.ones((1, 1, 4096), np.float32)), 16_712_000, False),
        (Conv1d("y", "x", np.ones((1, 1, 4096), np.float32)), 16_711_000, True),
        (MaxPool1d("y", "x", 4096), 16_712_000, False),
        (MaxPool1d("y", "x", 4096), 16_711_000, True),
        # 256 numbers made of each frame: 8 (1 + 256) multiply-adds.
        (Upsample("y", "x", 256), 1 << 24, True),
    ],
)
def test_most_work_of_settling(node: Node, frames: int, fits: bool) -> None:
    if fits:
        assert graph_of(node, prewarm_frames=frames).prewarm_frames == frames
    else:
        with pytest.raises(ModelError, match=f"prewarm of {frames} frames takes about 6.9e.10 multiply-adds"):
            graph_of(node, prewarm_frames=frames)
    assert 4112 * 16_711_000 < MAX_PREWARM_WORK < 4112 * 16_712_000


def test_lists_are_no_longer_than_a_graph(tmp_path: Path) -> None:
    document = DOCUMENTS["conv_net"]()
    document["config"]["dilations"] = [1] * (MAX_NODES + 1)
    path = tmp_path / "long.nam"
    path.write_text(json.dumps(document))
    assert f"a list of integers with at most {MAX_NODES} entries, found a list of 65537" in refusal(path)


# ---- memory ----


@pytest.fixture(scope="module")
def poor() -> Iterator[Worker]:
    """A process that may take 128 MB."""
    process = Worker(128 << 20)
    yield process
    process.close()


def doubled(times: int) -> list[Node]:
    """The input in 2^times channels, called "wide"."""
    joins: list[Node] = [Concat(f"{i}", (f"{i - 1}",) * 2 if i else ("x", "x")) for i in range(times - 1)]
    return [*joins, Concat("wide", (f"{times - 2}",) * 2)]


def graphs_that_are_large() -> dict[str, Graph]:
    """Little on disk, too much in memory while they settle."""
    taps = array(1, 1, 16, 2)
    return {
        "long history": graph_of(*doubled(4), Conv1d("y", "wide", taps, dilation=(1 << 24) - 1)),
        "many channels": graph_of(*doubled(19), Activate("y", "wide", TANH), prewarm_frames=1),
        "high rate": graph_of(*doubled(12), Upsample("y", "wide", 256), prewarm_frames=1),
        "long mean": graph_of(AvgPool1d("y", "x", 1 << 24), Activate("z", "y", TANH)),
    }


@pytest.mark.parametrize("name", graphs_that_are_large())
def test_what_does_not_fit_into_memory_is_refused(poor: Worker, tmp_path: Path, name: str) -> None:
    path = tmp_path / "large.backline"
    path.write_bytes(backline_file.encode(graphs_that_are_large()[name]))
    assert path.stat().st_size < 10_000
    assert poor.ask(path) == "the model does not fit into memory"
    path.write_bytes(backline_file.encode(replace(graph_of(Activate("y", "x", TANH)), prewarm_frames=9)))
    assert poor.ask(path) is None


def test_json_that_does_not_fit_into_memory_is_refused(poor: Worker, tmp_path: Path) -> None:
    path = tmp_path / "large.nam"
    path.write_text('{"weights": [' + "[]," * 3_000_000 + "[]]}")
    assert poor.ask(path) == "the model does not fit into memory"
