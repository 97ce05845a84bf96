"""What the readers of .nam architectures hand back, and how one model is put inside another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from ..graph import Graph
from ..layers import Node

#: Fields of the plain nodes a .nam reader writes that hold a signal's name.
_SIGNAL_FIELDS = {"output", "input", "a", "b", "position"}


@dataclass(frozen=True)
class Parts:
    """One architecture, read.

    Attributes
    ----------
    nodes : tuple of Node
        They read the signal ``input``; the last one's signal is the answer.
    input_channels : int
    prewarm_frames : int
        Frames of silence that settle the state, as the format has it.
    notes : tuple of str
        Sentences for the user.
    """

    nodes: tuple[Node, ...]
    input_channels: int
    prewarm_frames: int
    notes: tuple[str, ...] = ()


def settling_frames(graph: Graph) -> int:
    """Frames of silence after which a model inside another one answers as after an infinite past."""
    return max(graph.prewarm_frames, graph.receptive_field_frames or 0)


def nodes_inside(graph: Graph, prefix: str, source: str) -> tuple[tuple[Node, ...], str]:
    """Return a model's nodes, names prefixed and reading `source`, and the name of its answer."""

    def renamed(name: str) -> str:
        return source if name == graph.input else prefix + name

    return tuple(_rename(node, renamed) for node in graph.nodes), renamed(graph.output)


def _rename(node: Node, renamed: Callable[[str], str]) -> Node:
    names = [field.name for field in fields(node) if field.name in _SIGNAL_FIELDS]
    return replace(node, **{name: renamed(getattr(node, name)) for name in names})
