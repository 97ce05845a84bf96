"""Several of ONNX's operators that only together are something a stream can do, as exporters write them.

An operator that is not supported by itself makes a `Pending`, and so does what reads one, until the last
operator of a known whole turns it into a layer. One that reaches an output is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ..activations import Activation
from ..errors import ModelError
from ..layers import Activate, Affine
from ._network import Network, Track, Value
from ._onnx_proto import OnnxNode

#: Above this softplus is its argument, within 1e-6.
_LIKE_LINE = 14.0


@dataclass(frozen=True, eq=False)
class Pending:
    """What a node would make of `values` if its operator were supported."""

    node: OnnxNode
    values: tuple[Value | Pending | None, ...]

    def first(self, count: int) -> tuple[Value | Pending | None, ...]:
        """The first `count` values, absent ones as None."""
        return (*self.values, *[None] * count)[:count]

    def refuse(self) -> NoReturn:
        """Raise `ModelError` in the name of the first node that is not supported."""
        first = self
        while below := [value for value in first.values if isinstance(value, Pending)]:
            first = below[0]
        raise ModelError(f"{first.node.where}: this operator is not supported")


def completed(pending: Pending, network: Network) -> Value | Pending:
    """The layer that ends with this node, or the pending value itself where it ends none."""
    made: Value | None = None
    if pending.node.op == "Where":
        made = _softplus(pending, network)
    elif pending.node.op == "Add":
        made = _interpolation(pending, network)
    return pending if made is None else made


def _softplus(pending: Pending, network: Network) -> Track | None:
    """PyTorch's softplus, ``Where(beta x > limit, x, Softplus(beta x) / beta)``: the last of these."""
    condition, x, soft = pending.first(3)
    if not (isinstance(condition, Pending) and condition.node.op == "Greater"):
        return None
    scaled, limit = condition.first(2)
    if not (isinstance(x, Track) and isinstance(soft, Track) and isinstance(scaled, Track)):
        return None
    if not isinstance(limit, np.ndarray) or limit.size != 1 or not limit.reshape(()) >= _LIKE_LINE:
        return None
    if not x.delay == soft.delay == scaled.delay:
        return None
    made = {node.output: node for node in network.line.nodes}

    def unscaled(signal: str) -> Iterator[tuple[str, float]]:
        """A signal as one times a number: itself times 1, and what it was made of."""
        yield signal, 1.0
        node = made.get(signal)
        if isinstance(node, Affine) and node.shift is None and node.scale.size == 1:
            yield node.input, float(node.scale.reshape(()))

    for activated, over in unscaled(soft.signal):
        node = made.get(activated)
        if not isinstance(node, Activate) or node.activation != Activation("softplus", (1.0,)):
            continue
        for base, beta in unscaled(scaled.signal):
            if (node.input, base) == (scaled.signal, x.signal) and abs(over * beta - 1.0) < 1e-6:
                return soft
    return None


def _interpolation(pending: Pending, network: Network) -> Track | None:
    """``first + (second - first) * weight``, frames taken by number: PyTorch's linear interpolation."""
    for first, product in (pending.first(2), pending.first(2)[::-1]):
        if not (isinstance(product, Pending) and product.node.op == "Mul"):
            continue
        for difference, weight in (product.first(2), product.first(2)[::-1]):
            if not (isinstance(difference, Pending) and difference.node.op == "Sub"):
                continue
            second, again = difference.first(2)
            if again is first and isinstance(weight, np.ndarray):
                return _linear(_taken(first), _taken(second), weight, network)
    return None


def _taken(value: Value | Pending | None) -> tuple[Track, NDArray[np.float64]] | None:
    """A tensor with time last and the numbers of the frames that a GatherND takes of it."""
    if not (isinstance(value, Pending) and value.node.op == "Transpose"):
        return None
    gather, order = value.first(1)[0], value.node.attributes.get("perm")
    if not (isinstance(gather, Pending) and gather.node.op == "GatherND" and isinstance(order, tuple)):
        return None
    if any(type(number) is not int for number in (gather.node.attributes.get("batch_dims", 0), *order)):
        return None
    track, numbers = gather.first(2)
    if not isinstance(track, Track) or not isinstance(numbers, np.ndarray):
        return None
    if gather.node.attributes.get("batch_dims", 0) != 0 or track.axis("time") != 0:
        return None
    if numbers.ndim != 2 or numbers.shape[1] != 1 or sorted(order) != list(range(len(track.shape))):
        return None
    back = track.transposed(order)
    return (back, numbers[:, 0].astype(np.float64)) if back.roles[-1] == "time" else None


def _linear(
    first: tuple[Track, NDArray[np.float64]] | None,
    second: tuple[Track, NDArray[np.float64]] | None,
    weight: NDArray[np.float64],
    network: Network,
) -> Track | None:
    """The layer, if the places between frames are those of a whole number of frames for each."""
    if first is None or second is None or first[0] != second[0]:
        return None
    track, count = first[0], first[1].size
    length = track.size("time")
    factor = count // length
    if factor < 1 or count != factor * length or second[1].size != count:
        return None
    if weight.size != count or weight.shape[-1] != count:
        return None
    place = first[1] + (second[1] - first[1]) * weight.reshape(-1)
    expected = np.clip((np.arange(count) + 0.5) / factor - 0.5, 0, length - 1)
    # Exporters compute places in float32.
    if np.any(np.abs(place - expected) > 1e-5 + 1e-6 * expected):
        return None
    return network.upsample(track, factor, "linear")
