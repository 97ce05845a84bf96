"""What exported networks compute number by number: sums, products, powers, activations, matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..activations import Activation
from ..errors import ModelError
from ..layers import MAX_ELEMENTS, Affine, Array
from . import _timeline_layers as layers
from ._network_shapes import Shapes
from ._tracks import Role, Track
from ._values import Curve, Float64, Value, broadcast_shape, by_rows

_MOST_FACTORS = 16


class Arithmetic(Shapes):
    """Ops on numbers. Two constants give a constant; where shapes differ NumPy's rules hold."""

    def __init__(self) -> None:
        super().__init__()
        #: Signals made of another track by a scale and a shift for each of its rows.
        self._affine: dict[str, tuple[Track, Float64, Float64]] = {}
        #: Signals that are the absolute values of a track.
        self._absolute: dict[str, Track] = {}

    def add(self, a: Value, b: Value) -> Value:
        """``a + b``."""
        return self._combined(a, b, np.add, self._add_constant, self.line.summed)

    def subtract(self, a: Value, b: Value) -> Value:
        """``a - b``."""
        return self.add(a, self.multiply(b, np.array(-1.0)))

    def multiply(self, a: Value, b: Value) -> Value:
        """``a * b``, number by number."""
        return self._combined(a, b, np.multiply, self._multiply_constant, self.line.multiplied)

    def divide(self, a: Value, b: Value) -> Value:
        """``a / b``, b being a constant, or ``1 + abs(a)``: softsign, which exporters write out."""
        if not isinstance(b, np.ndarray):
            if self._is_softsign(a, b):
                return self.activate(a, Activation("softsign"))
            raise ModelError("divides by a tensor that moves with time")
        divisor = np.asarray(b, np.float64)
        if np.any(divisor == 0):
            raise ModelError("divides by 0")
        return self.multiply(a, np.asarray(1.0 / divisor))

    def _is_softsign(self, a: Value, b: Value) -> bool:
        """Whether one is divided by 1 and its own absolute value."""
        if not isinstance(a, Track) or not isinstance(b, Track):
            return False
        base, scale, shift = self._affine.get(b.signal, (b, np.zeros(1), np.zeros(1)))
        of = self._absolute.get(base.signal)
        is_same = of is not None and (of.signal, of.delay) == (a.signal, a.delay)
        return is_same and bool(np.all(scale == 1.0) and np.all(shift == 1.0))

    def absolute(self, x: Value) -> Value:
        """``abs(x)``."""
        track = self.track(x)
        turned = self.multiply(track, np.array(-1.0))
        made = self.track(self.add(self.activate(track, _RELU), self.activate(turned, _RELU)))
        self._absolute[made.signal] = track
        return made

    def power(self, a: Value, exponent: float) -> Value:
        """``a ** exponent``, the exponent being a small whole number."""
        if isinstance(a, np.ndarray):
            return np.power(np.asarray(a, np.float64), exponent)
        if exponent != int(exponent) or not 1 <= exponent <= _MOST_FACTORS:
            raise ModelError(f"expected a power of 1 to {_MOST_FACTORS}, found {exponent:g}")
        result: Value = a
        for _ in range(int(exponent) - 1):
            result = self.multiply(result, a)
        return result

    def matmul(self, a: Value, b: Value) -> Value:
        """Matrix product of a tensor and a constant, on either side."""
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return np.asarray(np.matmul(a, b))
        if isinstance(b, np.ndarray):
            return self.linear(a, np.asarray(_matrix(b), np.float32).T, None)
        if isinstance(a, np.ndarray):
            x = self.track(b)
            order = [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2]
            if len(order) < 2:
                raise ModelError(f"expected a tensor of two axes or more, found {x.described}")
            return self.transpose(
                self.linear(x.transposed(order), np.asarray(_matrix(a), np.float32), None), order
            )
        raise ModelError("multiplies two matrices that move with time")

    def linear(self, x: Value, weight: Array, bias: Array | None) -> Value:
        """Fully connected layer along the last axis; weight [out][in]."""
        track = self.track(x)
        if weight.size * track.size("features") > MAX_ELEMENTS:
            raise ModelError(
                f"a matrix of {weight.shape} over {track.size('features')} features is too large"
            )
        if weight.ndim != 2 or not track.shape or weight.shape[1] != track.shape[-1]:
            raise ModelError(f"expected a weight for {track.described}, found shape {weight.shape}")
        return layers.linear(self.line, track, np.ascontiguousarray(weight), bias)

    def reduce(self, x: Value, axes: Iterable[int], *, mean: bool) -> Value:
        """Sum or mean over some axes, counted from the front, of which one entry each is kept.

        Raises
        ------
        ModelError
            One of them is time.
        """
        made: Value = self.track(x)
        for axis in axes:
            track = self.track(made)
            if track.roles[axis] == "time":
                raise ModelError("goes over all of time, which no stream can do")
            size = track.shape[axis]
            if size == 1:
                continue
            order = [other for other in range(len(track.shape)) if other != axis] + [axis]
            row = np.full((1, size), 1.0 / size if mean else 1.0, np.float32)
            reduced = self.linear(self.transpose(track, order), row, None)
            made = self.transpose(reduced, [order.index(other) for other in range(len(order))])
        return made

    def activate(self, x: Value, activation: Activation) -> Value:
        """An activation; softmax, and parameters for each channel, go along the channels."""
        return self.line.activated(self.track(x), activation)

    def clip(self, x: Value, low: float | None, high: float | None) -> Value:
        """`x`, but not below `low` nor above `high`."""
        if low is not None and high is not None:
            return self.activate(x, Activation("hardtanh", (low, high)))
        if low is not None:
            limit = np.array(low)
            return self.add(self.activate(self.subtract(x, limit), _RELU), limit)
        if high is not None:
            limit = np.array(high)
            return self.subtract(limit, self.activate(self.subtract(limit, x), _RELU))
        return x

    def sin(self, x: Value) -> Value:
        """Sine, as part of a known activation."""
        return self._curve(x, np.sin)

    def erf(self, x: Value) -> Value:
        """The error function, as part of a known activation."""

        return self._curve(x, np.vectorize(math.erf, otypes=[np.float64]))

    def _curve(self, x: Value, f: Callable[[Float64], Float64]) -> Curve:
        track = self.track(x)
        base, scale, shift = self._affine.get(track.signal, (track, np.ones((1, 1)), np.zeros((1, 1))))
        return Curve(base, lambda values: f(values * scale + shift), scale)

    # Two values of any kind.

    def _combined(
        self,
        a: Value,
        b: Value,
        f: Callable[[Any, Any], Any],
        with_constant: Callable[[Track, Float64], Track],
        with_track: Callable[[Track, Track], Track],
    ) -> Value:
        # What NumPy computes with arrays without axes are no arrays.
        a, b = (np.asarray(v) if isinstance(v, np.generic) else v for v in (a, b))
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return np.asarray(f(a, b))
        for curve in (a, b):
            if isinstance(curve, Curve):
                both = self._composed(f, self._on_curve(a, curve), self._on_curve(b, curve))
                if both is not None:
                    return Curve(curve.base, both, curve.alpha)
        if isinstance(a, np.ndarray):
            a, b = b, a
        track = self.track(a)
        if isinstance(b, np.ndarray):
            shape = broadcast_shape(track.shape, _without_time(b, track))
            if shape != track.shape:
                widened = self.expand(track, shape)
                assert isinstance(widened, Track)
                track = widened
            return with_constant(track, by_rows(track, b))
        return self._of_tracks(track, self.track(b), with_track)

    def _of_tracks(self, a: Track, b: Track, with_track: Callable[[Track, Track], Track]) -> Track:
        """Two tracks, of which either is repeated along what only the other one has."""
        wanted = broadcast_shape(_rows_only(a), _rows_only(b))
        a, b = (t if t.rows in (1, math.prod(wanted)) else self._repeated(t, wanted) for t in (a, b))
        return _with_all_axes(with_track(a, b), a, b)

    def _repeated(self, track: Track, wanted: tuple[int, ...]) -> Track:
        """The track with all rows that the axes of `wanted` have; its time stays."""
        front: list[Role] = ["unit"] * (len(wanted) - len(track.shape))
        track = replace(track, roles=(*front, *track.roles), shape=(*[1] * len(front), *track.shape))
        shape = [
            old if role == "time" else new
            for role, old, new in zip(track.roles, track.shape, wanted, strict=True)
        ]
        return self._grown(track, shape, None)

    @staticmethod
    def _composed(
        f: Callable[[Any, Any], Any],
        a: Callable[[Float64], Float64] | None,
        b: Callable[[Float64], Float64] | None,
    ) -> Callable[[Float64], Float64] | None:
        """``f(a(x), b(x))``, where both are known."""
        if a is None or b is None:
            return None
        return lambda x: np.asarray(f(a(x), b(x)))

    def _on_curve(self, value: Value, curve: Curve) -> Callable[[Float64], Float64] | None:
        """A value as a function of the curve's base, if it is one."""
        if isinstance(value, Curve):
            return value.f if value.base.signal == curve.base.signal else None
        if isinstance(value, np.ndarray):
            column = by_rows(curve.base, value)
            return lambda x: column + np.zeros_like(x)
        if isinstance(value, Track):
            base, scale, shift = self._affine.get(value.signal, (value, np.ones((1, 1)), np.zeros((1, 1))))
            if base.signal == curve.base.signal:
                return lambda x: x * scale + shift
        return None

    def _multiply_constant(self, track: Track, scale: Float64) -> Track:
        if np.all(scale == 1.0):
            return track
        return self._scaled(track, scale, None)

    def _add_constant(self, track: Track, shift: Float64) -> Track:
        if not np.any(shift):
            return track
        return self._scaled(track, np.ones((1, 1)), shift)

    def _scaled(self, track: Track, scale: Float64, shift: Float64 | None) -> Track:
        """A track times one number for each row or for all, plus another."""
        arrays = [None if v is None else v.ravel().astype(np.float32) for v in (scale, shift)]
        assert arrays[0] is not None
        node = Affine(self.line.name(), track.signal, arrays[0], arrays[1])
        made = self.line.emit(node, track, quiet=track.quiet and shift is None)
        base, a, b = self._affine.get(track.signal, (track, np.ones((1, 1)), np.zeros((1, 1))))
        if base.features_major == track.features_major and base.rows == track.rows:
            self._affine[made.signal] = (base, a * scale, b * scale + (0.0 if shift is None else shift))
        return made


_RELU = Activation("relu")


def _matrix(values: NDArray[Any]) -> NDArray[Any]:
    """A constant of two axes, without axes of one entry in front."""
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2:
        raise ModelError(f"expected a matrix, found a constant of shape {list(values.shape)}")
    return values


def _without_time(constant: NDArray[Any], track: Track) -> tuple[int, ...]:
    """A constant's shape; one that is as long as the track in time, or has one entry there, fits as it is."""
    time = track.axis("time")
    shape = list(constant.shape)
    at = None if time is None else time - len(track.shape) + len(shape)
    if at is not None and at >= 0:
        if shape[at] not in (1, track.size("time")):
            raise ModelError(f"cannot combine a constant of shape {shape} with {track.described}")
        shape[at] = 1
    return tuple(shape)


def _with_all_axes(made: Track, a: Track, b: Track) -> Track:
    """What two tracks make, with the axes of both: parameters may have rows that the audio has not."""
    shape = broadcast_shape(a.shape, b.shape)
    if made.shape == shape:
        return made
    roles: list[Role] = ["unit"] * len(shape)
    for track in (a, b):
        for axis, (role, size) in enumerate(zip(track.roles, track.shape, strict=True), -len(track.shape)):
            if role == "time" or (size > 1 and roles[axis] != "time"):
                roles[axis] = role
    return replace(made, roles=tuple(roles), shape=shape)


def _rows_only(track: Track) -> tuple[int, ...]:
    """The shape with one entry in time."""
    return tuple(1 if role == "time" else size for role, size in zip(track.roles, track.shape, strict=True))
