"""What PyTorch does to shapes, on a `Network`: views, cuts, joins, pads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ModelError
from ._network import Network, Track, Value
from ._torch_call import Call, Handler, as_value, flag, many, moved


def _same(call: Call) -> Value:
    """Copies, and what only training changes."""
    if flag(call, "train"):
        raise ModelError("draws random numbers")
    return call.first


def _converted(call: Call) -> Value:
    """Another precision, which a stream does not have."""
    kind = call.get("dtype")
    if kind is not None and not kind.is_floating_point:
        raise ModelError(f"converts to {str(kind).removeprefix('torch.')}, which is not supported")
    return call.first


def _copied(call: Call) -> Value:
    """What overwrites another tensor of the same shape."""
    return _expanded(call.net, call.value("src"), call.shape)


def _expanded(net: Network, value: Value, shape: tuple[int, ...]) -> Value:
    return value if net.shape_of(value) == shape else net.expand(value, shape)


def _reshape(call: Call) -> Value:
    return call.net.reshape(call.first, call.shape)


def _expand(call: Call) -> Value:
    return _expanded(call.net, call.first, call.shape)


def _permute(call: Call) -> Value:
    return call.net.transpose(call.first, call["dims"])


def _swapped(net: Network, value: Value, a: int, b: int) -> Value:
    order = list(range(len(net.shape_of(value))))
    order[a], order[b] = order[b], order[a]
    return net.transpose(value, order)


def _transpose(call: Call) -> Value:
    value = call.first
    return _swapped(call.net, value, call.axis(value, "dim0"), call.axis(value, "dim1"))


def _t(call: Call) -> Value:
    value = call.first
    return value if len(call.shape) < 2 else _swapped(call.net, value, -2, -1)


def _squeeze(call: Call) -> Value:
    value = call.first
    shape, dims = call.net.shape_of(value), call.get("dim")
    if dims is None:
        return call.net.squeeze(value, [axis for axis, size in enumerate(shape) if size == 1])
    # PyTorch keeps axes of more than one entry without a word.
    axes = [axis % len(shape) for axis in (dims if isinstance(dims, list | tuple) else [dims])]
    return call.net.squeeze(value, [axis for axis in axes if shape[axis] == 1])


def _unsqueeze(call: Call) -> Value:
    return call.net.unsqueeze(call.first, [int(call["dim"])])


def _repeated(net: Network, value: Value, shape: tuple[int, ...]) -> Value:
    """The tensor laid side by side with itself until it has that shape."""
    front = len(shape) - len(net.shape_of(value))
    if front:
        value = net.unsqueeze(value, list(range(front)))
    for axis, size in enumerate(shape):
        old = net.shape_of(value)[axis]
        times = size // old if old else 1
        if times > 1 and old == 1:
            value = net.expand(value, [size if i == axis else -1 for i in range(len(shape))])
        elif times > 1:
            value = net.concat([value] * times, axis)
    return value


def _repeat(call: Call) -> Value:
    return _repeated(call.net, call.first, call.shape)


def _repeat_interleave(call: Call) -> Value:
    net, track = call.net, call.net.track(call.first)
    if call.get("dim") is None:
        raise ModelError("flattens what it repeats, which is not supported")
    axis, times = call.axis(track), int(call.number("repeats"))
    if track.roles[axis] == "time":
        last = len(track.shape) - 1
        return moved(net, net.upsample(moved(net, track, axis, last), times, "nearest"), last, axis)
    shape = net.shape_of(track)
    spread = net.expand(net.unsqueeze(track, [axis + 1]), [*shape[: axis + 1], times, *shape[axis + 1 :]])
    return net.reshape(spread, call.shape)


# Cuts.


def _slice(call: Call) -> Value:
    value = call.first
    axis = call.axis(value)
    start, stop = call.get("start"), call.get("end")
    size = call.net.shape_of(value)[axis]
    chosen = range(size)[slice(start, stop, int(call["step"]))]
    return call.net.cut(value, axis, chosen.start, chosen.stop, chosen.step)


def _narrow(call: Call) -> Value:
    value = call.first
    axis = call.axis(value)
    start = int(call.number("start")) % call.net.shape_of(value)[axis]
    return call.net.cut(value, axis, start, start + int(call["length"]))


def _one(net: Network, value: Value, axis: int, index: int) -> Value:
    return net.squeeze(net.cut(value, axis, index, index + 1), [axis])


def _select(call: Call) -> Value:
    value = call.first
    axis = call.axis(value)
    return _one(call.net, value, axis, int(call["index"]) % call.net.shape_of(value)[axis])


def _unbind(call: Call) -> list[Value]:
    value = call.first
    axis = call.axis(value)
    return [_one(call.net, value, axis, i) for i in range(call.net.shape_of(value)[axis])]


def _split(call: Call) -> list[Value]:
    """Pieces of the sizes PyTorch found."""
    value = call.first
    axis = call.axis(value)
    pieces, start = [], 0
    for shape in call.shapes:
        pieces.append(call.net.cut(value, axis, start, start + shape[axis]))
        start += shape[axis]
    return pieces


def _picked(net: Network, value: Value, axis: int, entries: list[int]) -> Value:
    """Entries of an axis in any order."""
    if not entries or (isinstance(value, Track) and value.roles[axis] == "time"):
        raise ModelError("picks single frames out of time")
    cuts = [net.cut(value, axis, entry, entry + 1) for entry in entries]
    return cuts[0] if len(cuts) == 1 else net.concat(cuts, axis)


def _index_select(call: Call) -> Value:
    value = call.first
    axis = call.axis(value)
    return _picked(call.net, value, axis, _entries(call["index"], call.net.shape_of(value)[axis]))


def _index(call: Call) -> Value:
    value = call.first
    given = [(axis, index) for axis, index in enumerate(call["indices"]) if index is not None]
    if len(given) != 1:
        raise ModelError("picks entries along several axes, which is not supported")
    axis, index = given[0]
    return _picked(call.net, value, axis, _entries(index, call.net.shape_of(value)[axis]))


def _entries(index: Any, size: int) -> list[int]:
    """Numbers of entries out of a constant of integers or booleans."""
    if not isinstance(index, np.ndarray) or index.ndim != 1 or index.dtype.kind not in "iub":
        raise ModelError("expected a constant list of entries to pick")
    if index.dtype.kind == "b":
        index = np.flatnonzero(index)
    return [int(entry) % size for entry in index]


def _flip(call: Call) -> Value:
    value = call.first
    for dim in call["dims"]:
        value = call.net.cut(value, int(dim), call.shape[dim] - 1, -call.shape[dim] - 1, -1)
    return value


# Joins and pads.


def _cat(call: Call) -> Value:
    values = [as_value(value, "tensors") for value in call["tensors"]]
    # An empty tensor joins anything, whatever its shape.
    values = [v for v in values if not (isinstance(v, np.ndarray) and v.shape == (0,))]
    return values[0] if len(values) == 1 else call.net.concat(values, int(call["dim"]))


def _stack(call: Call) -> Value:
    values = [call.net.unsqueeze(as_value(v, "tensors"), [int(call["dim"])]) for v in call["tensors"]]
    return values[0] if len(values) == 1 else call.net.concat(values, int(call["dim"]))


def _hstack(call: Call) -> Value:
    values = [as_value(value, "tensors") for value in call["tensors"]]
    return values[0] if len(values) == 1 else call.net.concat(values, 1 if len(call.shape) > 1 else 0)


def _pad(call: Call) -> Value:
    mode = call.get("mode", "constant")
    if mode != "constant":
        raise ModelError(f"pads with mode {mode!r}; only zeros are supported")
    value = call.first
    pads = list(call["pad"])
    axes = len(call.net.shape_of(value))
    pairs = [(int(a), int(b)) for a, b in zip(pads[::2], pads[1::2], strict=True)][::-1]
    filler = call.get("value")
    if filler is not None and call.number("value") != 0 and any(n > 0 for pair in pairs for n in pair):
        raise ModelError(f"pads with {call.number('value'):g}; only zeros are supported")
    return call.net.pad(value, [(0, 0)] * (axes - len(pairs)) + pairs)


def _scattered(call: Call, value: Value, axis: int, start: int, stop: int) -> Value:
    """A tensor of which the entries ``start`` to ``stop`` of an axis are replaced."""
    net, whole = call.net, call.first
    size = call.shape[axis]
    value = _expanded(net, value, (*call.shape[:axis], stop - start, *call.shape[axis + 1 :]))
    if stop - start == size:
        return value
    if isinstance(whole, np.ndarray) and not np.any(whole):
        return net.pad(value, [(start, size - stop) if i == axis else (0, 0) for i in range(len(call.shape))])
    before = [net.cut(whole, axis, 0, start)] if start else []
    after = [net.cut(whole, axis, stop, size)] if stop < size else []
    return net.concat([*before, value, *after], axis)


def _slice_scatter(call: Call) -> Value:
    axis = int(call["dim"]) % len(call.shape)
    chosen = range(call.shape[axis])[slice(call.get("start"), call.get("end"), int(call["step"]))]
    if chosen.step != 1:
        raise ModelError("writes to every other entry, which is not supported")
    return _scattered(call, call.value("src"), axis, chosen.start, chosen.stop)


def _select_scatter(call: Call) -> Value:
    axis = int(call["dim"]) % len(call.shape)
    index = int(call["index"]) % call.shape[axis]
    source = call.net.unsqueeze(call.value("src"), [axis])
    return _scattered(call, source, axis, index, index + 1)


def _channel_shuffle(call: Call) -> Value:
    net, value = call.net, call.first
    batch, channels, *rest = net.shape_of(value)
    groups = int(call["groups"])
    apart = net.reshape(value, [batch, groups, channels // groups, *rest])
    return net.reshape(_swapped(net, apart, 1, 2), call.shape)


SHAPES: Mapping[str, Handler] = {
    **many("clone contiguous detach alias lift_fresh_copy dropout feature_dropout alpha_dropout", _same),
    **many("feature_alpha_dropout detach_ lift_fresh lift", _same),
    **many("_to_copy to type_as", _converted),
    "copy": _copied,
    **many("view reshape _unsafe_view flatten unflatten view_as reshape_as _reshape_alias", _reshape),
    **many("expand expand_as broadcast_to", _expand),
    "permute": _permute,
    **many("transpose swapaxes swapdims", _transpose),
    **many("t mT numpy_T", _t),
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    **many("repeat tile", _repeat),
    "repeat_interleave": _repeat_interleave,
    "slice": _slice,
    "narrow": _narrow,
    "select": _select,
    "unbind": _unbind,
    **many("split split_with_sizes chunk unsafe_split unsafe_chunk unsafe_split_with_sizes", _split),
    **many("tensor_split", _split),
    "index_select": _index_select,
    "index": _index,
    "flip": _flip,
    **many("cat concat concatenate", _cat),
    "stack": _stack,
    "hstack": _hstack,
    **many("pad constant_pad_nd", _pad),
    "slice_scatter": _slice_scatter,
    "select_scatter": _select_scatter,
    "channel_shuffle": _channel_shuffle,
}
