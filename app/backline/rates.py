"""shim"""

from .graph import Graph


def at_rate(graph: Graph, rate_hz: float) -> Graph:
    raise NotImplementedError


def oversampled(graph: Graph, factor: int) -> Graph:
    raise NotImplementedError
