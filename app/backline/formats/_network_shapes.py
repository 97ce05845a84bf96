"""What exported networks do to the shapes of tensors: cutting, joining, padding, turning, merging axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..layers import MAX_ELEMENTS, Conv1d
from . import _timeline_layers as layers
from ._network_base import Base
from ._tracks import Role, Track
from ._values import Extra, Final, Value, axis_of, broadcast_shape, by_rows


class Shapes(Base):
    """Ops that compute nothing. Axes may be negative; constants go through as constants."""

    def shape_of(self, value: Value) -> tuple[int, ...]:
        """Shape of any value."""
        if isinstance(value, np.ndarray | Extra | Track):
            return tuple(value.shape)
        return self.track(value).shape

    def _settled(self, value: Value) -> Track | Extra | NDArray[Any]:
        """A value with axes of its own."""
        return value if isinstance(value, np.ndarray | Extra) else self.track(value)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """The tensor whose axis i is axis ``order[i]`` of `x`."""
        if isinstance(x, Final):
            return x
        found = self._settled(x)
        axes = [axis_of(axis, len(found.shape)) for axis in order]
        if sorted(axes) != list(range(len(found.shape))):
            raise ModelError(f"expected an order of {len(found.shape)} axes, found {list(order)}")
        if isinstance(found, Extra):
            return replace(found, ids=found.ids.transpose(axes))
        return found.transposed(axes) if isinstance(found, Track) else found.transpose(axes)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """The tensor in another shape, all sizes given."""
        if isinstance(x, Final):
            return x
        found = self._settled(x)
        if isinstance(found, Track):
            return self.line.reshaped(found, tuple(shape))
        values = found.ids if isinstance(found, Extra) else found
        if values.size != np.prod(np.array(shape, np.float64)) or min(shape, default=1) < 0:
            raise ModelError(f"cannot reshape {list(values.shape)} to {list(shape)}")
        values = values.reshape(tuple(shape))
        return replace(found, ids=values) if isinstance(found, Extra) else values

    def squeeze(self, x: Value, axes: Sequence[int] | None) -> Value:
        """The tensor without these axes of one entry, or without all such axes."""
        if isinstance(x, Final):
            return x
        shape = self.shape_of(x)
        dropped = [axis_of(axis, len(shape)) for axis in axes] if axes is not None else None
        if dropped is None:
            dropped = [axis for axis, size in enumerate(shape) if size == 1]
        for axis in dropped:
            if shape[axis] != 1:
                raise ModelError(f"expected one entry in axis {axis}, found {shape[axis]}")
        found = self._settled(x)
        kept = [axis for axis in range(len(shape)) if axis not in dropped]
        if not isinstance(found, Track):
            return self.reshape(found, [shape[axis] for axis in kept])
        if found.axis("time") in dropped and not found.steady:
            raise ModelError("drops the time axis")
        return replace(
            found, roles=tuple(found.roles[a] for a in kept), shape=tuple(found.shape[a] for a in kept)
        )

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        """The tensor with new axes of one entry, numbered as in the result."""
        if isinstance(x, Final):
            return x
        found = self._settled(x)
        count = len(found.shape) + len(axes)
        new = {axis_of(axis, count) for axis in axes}
        if len(new) != len(axes):
            raise ModelError(f"expected different axes, found {list(axes)}")
        old = iter(range(len(found.shape)))
        source = [None if axis in new else next(old) for axis in range(count)]
        shape = tuple(1 if a is None else found.shape[a] for a in source)
        if not isinstance(found, Track):
            return self.reshape(found, shape)
        roles: list[Role] = ["unit" if a is None else found.roles[a] for a in source]
        return replace(found, roles=tuple(roles), shape=shape)

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        """The tensor repeated along axes of one entry, NumPy's broadcasting; -1 keeps a size."""
        found = self._settled(x)
        front = len(shape) - len(found.shape)
        if front < 0:
            raise ModelError(f"cannot expand {list(found.shape)} to {list(shape)}")
        sizes = (*[1] * front, *found.shape)
        wanted = broadcast_shape(
            sizes, tuple(old if new == -1 else new for old, new in zip(sizes, shape, strict=True))
        )
        if isinstance(found, Track):
            new: list[Role] = ["unit"] * front
            found = replace(found, roles=(*new, *found.roles), shape=sizes)
            return self._grown(found, wanted, self._new_time(found, wanted))
        if np.prod(np.array(wanted, np.float64)) > MAX_ELEMENTS:
            raise ModelError(f"expands to {list(wanted)}, at most {MAX_ELEMENTS} entries are allowed")
        if isinstance(found, Extra):
            # One entry in several places is no state any more; its knobs are what is repeated.
            return self.expand(self.track(found), shape)
        return np.broadcast_to(found, wanted)

    def _grown(self, track: Track, shape: Sequence[int], time: int | None) -> Track:
        """The track with its one entry repeated along all axes that grow, of which `time` is that of time."""
        for axis, (old, new) in enumerate(zip(track.shape, shape, strict=True)):
            if axis == time:
                track = self.line.held(track, axis, new)
            elif old != new:
                track = self._spread(track, axis, new)
        return track

    def _new_time(self, track: Track, shape: Sequence[int]) -> int | None:
        """The axis of a steady track that becomes that of time as it grows, None if all are rows."""
        if not track.steady or track.axis("time") is not None:
            return None
        known = self.line.lengths
        likely = [
            axis
            for axis, (old, new) in enumerate(zip(track.shape, shape, strict=True))
            if old != new and (new in known or (track.rows > 1 and 2 * new > max(known)))
        ]
        return max(likely, key=lambda axis: (shape[axis], axis), default=None)

    def _spread(self, track: Track, axis: int, size: int) -> Track:
        """The track with its one entry along an axis repeated."""
        if track.roles[axis] == "time":
            if not track.steady:
                raise ModelError("repeats a single frame along time")
            return track.with_size("time", size)
        if track.roles[axis] == "unit":
            role: Role = "channels" if track.axis("channels") is None else "features"
            if role == "features" and track.axis("features") is not None:
                raise ModelError(f"repeats axis {axis} of {track.described}")
            track = track.with_role(axis, role)
        role = track.roles[axis]
        self.line.check_rows(track.rows * size)
        # The new entries are the outer ones: all rows, once for each.
        rows = list(range(track.rows)) * size
        return self.line.picked(track.with_size(role, size), rows, features_major=role == "features")

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Tensors joined along an axis; along time what is joined to a track is padding or a cache."""
        if len(values) == 0:
            raise ModelError("joins nothing")
        settled = [self._settled(value) for value in values]
        axis = axis_of(axis, len(settled[0].shape))
        if all(isinstance(value, Extra) for value in settled):
            extras = [value for value in settled if isinstance(value, Extra)]
            if len({extra.stepped for extra in extras}) == 1 and self._fit(extras, axis):
                ids = np.concatenate([extra.ids for extra in extras], axis)
                return Extra(ids, extras[0].stepped)
        if all(isinstance(value, np.ndarray) for value in settled):
            return np.concatenate([np.asarray(value) for value in settled], axis)
        tracks = [value for value in settled if isinstance(value, Track)]
        if any(t.roles[axis] == "time" for t in tracks if axis < len(t.shape)):
            return self._joined_in_time(settled, axis)
        moving = [None if isinstance(value, np.ndarray) else self.track(value) for value in settled]
        like = next(track for track in moving if track is not None)
        return self.line.joined(
            [
                self._constant(np.asarray(value), like, axis) if track is None else track
                for value, track in zip(settled, moving, strict=True)
            ],
            axis,
        )

    def _constant(self, values: NDArray[Any], like: Track, axis: int) -> Track:
        """A constant as rows that can be joined to those of a track along an axis."""
        expected = [size for at, size in enumerate(like.shape) if at != axis]
        if [size for at, size in enumerate(values.shape) if at != axis] != expected:
            raise ModelError(f"cannot join a constant of shape {list(values.shape)} to {like.described}")
        if like.roles[axis] == "unit":
            like = like.along_channels(axis)
        rows = replace(like, shape=values.shape, delay=0, quiet=False, steady=True)
        bias = np.broadcast_to(by_rows(rows, values), (rows.rows, 1)).ravel().astype(np.float32)
        one = self.line.cut_rows(like, "channels", 0, 1) if like.axis("channels") is not None else like
        node = Conv1d(
            self.line.name("constant"), one.signal, np.zeros((rows.rows, one.rows, 1), np.float32), bias
        )
        return self.line.emit(node, rows)

    @staticmethod
    def _fit(values: Sequence[Extra], axis: int) -> bool:
        shapes = [list(value.shape) for value in values]
        return all(len(s) == len(shapes[0]) for s in shapes) and all(
            s[:axis] + s[axis + 1 :] == shapes[0][:axis] + shapes[0][axis + 1 :] for s in shapes
        )

    def _joined_in_time(self, values: Sequence[Track | Extra | NDArray[Any]], axis: int) -> Track:
        """A track with zeros around it, or behind a cache of past frames."""
        moving = [i for i, value in enumerate(values) if isinstance(value, Track)]
        if len(moving) != 1:
            raise ModelError("joins several stretches of time")
        track = values[moving[0]]
        assert isinstance(track, Track)
        sizes = [0, 0]
        cache: Extra | None = None
        for i, value in enumerate(values):
            if isinstance(value, Track):
                continue
            others = [s for a, s in enumerate(value.shape) if a != axis]
            if others != [s for a, s in enumerate(track.shape) if a != axis]:
                raise ModelError(f"cannot join {list(value.shape)} to {track.described}")
            if isinstance(value, Extra):
                if i > 0 or len(values) != 2:
                    raise ModelError("expected a cache of past frames in front of the frames that follow")
                cache = value
            elif np.any(value):
                raise ModelError("joins a constant other than zeros to a stretch of time")
            sizes[i > moving[0]] += value.shape[axis]
        if cache is None:
            return self._padded(track, *sizes)
        self.keep(cache, (track.signal, track.delay, cache.ids.tobytes()))
        whole = self.line.padded(track, *sizes)
        # What a cache holds next are the last frames of the block, whether or not all of them follow it here.
        block = self._block_frames * track.rate
        self._caches[track.signal, track.delay, block] = (track.roles, cache.ids)
        if track.size("time") == block:
            self._caches[whole.signal, whole.delay, block + sizes[0]] = (whole.roles, cache.ids)
        return whole

    def _padded(self, track: Track, before: int, after: int) -> Track:
        self._pads |= before > 0 or after > 0
        return self.line.padded(track, before, after)

    def cut(self, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        """Entries ``start`` to ``stop`` of an axis, as slicing in Python takes them."""
        found = self._settled(x)
        axis = axis_of(axis, len(found.shape))
        chosen = range(found.shape[axis])[start:stop:step]
        if len(chosen) == 0:
            raise ModelError(f"takes nothing of the {found.shape[axis]} entries of axis {axis}")
        if not isinstance(found, Track):
            index = (*[slice(None)] * axis, slice(start, stop, step))
            return replace(found, ids=found.ids[index]) if isinstance(found, Extra) else found[index]
        if chosen == range(found.shape[axis]):
            return found
        if found.roles[axis] == "time":
            return self._cut_time(found, chosen)
        if chosen.step == 1:
            return self.line.cut_rows(found, found.roles[axis], chosen.start, len(chosen))
        return self._picked(found, found.roles[axis], list(chosen))

    def _picked(self, track: Track, role: Role, chosen: list[int]) -> Track:
        """Single entries of the channels or features, in any order."""
        track = self.line.ordered(track, features_major=role == "features")
        inner = track.rows // track.size(role)
        rows = [entry * inner + i for entry in chosen for i in range(inner)]
        return self.line.picked(track.with_size(role, len(chosen)), rows)

    def _cut_time(self, track: Track, chosen: range) -> Value:
        length = track.size("time")
        cache = self._caches.get((track.signal, track.delay, Fraction(length)))
        if cache is not None and chosen.step == 1:
            roles, ids = cache
            is_next = roles == track.roles and ids.shape[roles.index("time")] == len(chosen)
            if is_next and chosen.stop == length:
                return Extra(ids, stepped=True)
            if len(chosen) == self._block_frames * track.rate:
                # A tap of a convolution that is written out: the block, some frames ago.
                return self.line.padded(track, -chosen.start, chosen.stop - length)
        if chosen.step < 1:
            raise ModelError("turns time round")
        if chosen.step == 1:
            return self.line.cut_time(track, chosen.start, len(chosen))
        cut = self.line.cut_time(track, chosen.start, length - chosen.start) if chosen.start else track
        axis = track.roles.index("time")
        last = len(track.shape) - 1
        order = [a for a in range(last + 1) if a != axis] + [axis]
        thinned = layers.max_pool1d(self.line, cut.transposed(order), 1, chosen.step)
        thinned = thinned.with_size("time", len(chosen))
        return thinned.transposed([order.index(a) for a in range(last + 1)])

    def pad(self, x: Value, pads: Sequence[tuple[int, int]]) -> Value:
        """Zeros before and after each axis; negative numbers cut off."""
        found = self._settled(x)
        if len(pads) != len(found.shape):
            raise ModelError(f"expected pads for {len(found.shape)} axes, found {len(pads)}")
        for axis, (before, after) in enumerate(pads):
            if before == after == 0:
                continue
            if not isinstance(found, Track):
                raise ModelError("pads what does not move with time")
            if found.roles[axis] == "time":
                found = self._padded(found, before, after)
            else:
                found = self._pad_rows(found, axis, before, after)
        return found

    def _pad_rows(self, track: Track, axis: int, before: int, after: int) -> Track:
        """Silent channels or features around those of the track."""
        if track.roles[axis] == "unit":
            role: Role = "channels" if track.axis("channels") is None else "features"
            if role == "features" and track.axis("features") is not None:
                raise ModelError(f"pads axis {axis} of {track.described}")
            track = track.with_role(axis, role)
        role = track.roles[axis]
        cut = [max(0, -before), max(0, -after)]
        if any(cut):
            if sum(cut) >= track.size(role):
                raise ModelError(f"nothing is left of {track.size(role)} {role}")
            track = self.line.cut_rows(track, role, cut[0], track.size(role) - sum(cut))
        track = self.line.ordered(track, features_major=role == "features")
        inner = track.rows // track.size(role)
        first, total = max(0, before) * inner, track.rows + (max(0, before) + max(0, after)) * inner
        if total == track.rows:
            return track
        if total * track.rows > MAX_ELEMENTS:
            raise ModelError(f"pads {track.rows} rows to {total}, which is too many")
        weight = np.zeros((total, track.rows, 1), np.float32)
        weight[np.arange(first, first + track.rows), np.arange(track.rows), 0] = 1.0
        node = Conv1d(self.line.name("rows"), track.signal, weight)
        return self.line.emit(node, track.with_size(role, total // inner), quiet=track.quiet)
