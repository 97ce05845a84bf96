"""What an exported network computes with: tracks, constants, further inputs, functions of a track."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reference
from ..activations import Activation
from ..errors import ModelError
from ._tracks import Track

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Extra:
    """Entries of inputs besides the audio, which their use tells to be state or knobs.

    Attributes
    ----------
    ids : int64 array of the tensor's shape
        Number of each entry, counted over all such inputs.
    stepped : bool
        Whether these are the values after the block rather than before it: the next state.
    """

    ids: NDArray[np.int64]
    stepped: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.ids.shape


@dataclass(frozen=True)
class Final:
    """Where a recurrent layer that starts anew each time ends up: of no use to a stream."""

    layer: str


@dataclass(frozen=True)
class Curve:
    """A function of single numbers of a track that uses what no op computes by itself (erf, sin).

    Attributes
    ----------
    base : Track
    f : callable
        Takes and returns float64 [rows of base][any].
    alpha : float64 array [rows of base][1]
        What `base` was multiplied by inside the erf or sin.
    """

    base: Track
    f: Callable[[Float64], Float64]
    alpha: Float64

    @property
    def activation(self) -> Activation:
        """The activation that this is.

        Raises
        ------
        ModelError
            It is none.
        """
        rows = self.base.rows
        x = np.broadcast_to(np.linspace(-8.0, 8.0, 161), (rows, 161))
        with np.errstate(all="ignore"):
            y = self.f(x)
        for candidate in self._candidates():
            expected = reference.activate(candidate, x, self.base.size("channels"))
            if np.allclose(y, expected, rtol=1e-5, atol=1e-5):
                return candidate
        raise ModelError("erf and sin are only known in gelu, x Phi(x), and snake, x + sin(a x)^2 / a")

    def _candidates(self) -> list[Activation]:
        found = [Activation("gelu")]
        channels, features = self.base.size("channels"), self.base.size("features")
        by_row = np.broadcast_to(self.alpha, (self.base.rows, 1))
        by_channel = (
            by_row.reshape(features, channels)
            if self.base.features_major
            else by_row.reshape(channels, features).T
        )
        if np.all(by_channel == by_channel[0]) and np.all(np.isfinite(by_channel) & (by_channel != 0)):
            alpha = by_channel[0, :1] if np.all(by_channel == by_channel[0, 0]) else by_channel[0]
            found.append(Activation("snake", tuple(float(value) for value in alpha)))
        return found


#: A tensor of the network.
Value = Track | NDArray[Any] | Extra | Final | Curve


def axis_of(axis: int, axes: int) -> int:
    """An axis counted from the front; raise `ModelError` where there is none of that number."""
    if not -axes <= axis < axes:
        raise ModelError(f"has no axis {axis}, it has {axes}")
    return axis % axes


def broadcast_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that tensors of `shapes` have together; raise `ModelError` where they do not fit."""
    longest = max(len(shape) for shape in shapes)
    padded = [(*[1] * (longest - len(shape)), *shape) for shape in shapes]
    for sizes in zip(*padded, strict=True):
        if len(set(sizes) - {1}) > 1:
            raise ModelError(f"cannot combine tensors of shapes {' and '.join(map(_text, shapes))}")
    return tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*padded, strict=True))


def by_rows(track: Track, constant: NDArray[Any]) -> Float64:
    """A constant that meets a track: one number for all, or a column of one for each row.

    Raises
    ------
    ModelError
        It changes with time, or is larger than the track.
    """
    values = np.asarray(constant, np.float64)
    if values.size == 0:
        raise ModelError("a constant is empty")
    values = values.reshape([1] * max(0, len(track.shape) - values.ndim) + list(values.shape))
    time = track.axis("time")
    if time is not None and values.ndim == len(track.shape) and values.shape[time] > 1:
        first = np.take(values, [0], axis=time)
        if not np.array_equal(np.broadcast_to(first, values.shape), values):
            raise ModelError("a constant differs from frame to frame, which no stream can follow")
        values = first
    if values.size == 1:
        return np.full((1, 1), values.item(), np.float64)
    sizes = [1 if axis == time else size for axis, size in enumerate(track.shape)]
    if values.ndim != len(sizes) or any(v not in (1, s) for v, s in zip(values.shape, sizes, strict=True)):
        raise ModelError(f"cannot combine a constant of shape {_text(constant.shape)} with {track.described}")
    whole = np.broadcast_to(values, sizes)
    order = [a for a in (track.axis("channels"), track.axis("features")) if a is not None]
    order += [axis for axis in range(len(sizes)) if axis not in order]
    table = whole.transpose(order).reshape(track.size("channels"), track.size("features"))
    rows = table.T if track.features_major else table
    return rows.reshape(-1, 1)


def _text(shape: Sequence[int]) -> str:
    return str(list(shape))
