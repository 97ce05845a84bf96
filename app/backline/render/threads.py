"""A model over a long signal, on several cores, to the same bits as on one.

What a model without feedback puts out depends on its receptive field and nothing before, so that parts of a
signal can be rendered side by side, each beginning a receptive field early. A recurrent model remembers for
ever: only its channels, which are streams of their own, run side by side."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from weakref import WeakKeyDictionary

import numpy as np

from ..engine import Audio, Model, Stream
from ..graph import Graph

#: Frames of all channels of all parts that are in memory at a time.
_MOST_FRAMES = 1 << 22
#: A part is at least so many times as long as what is computed twice, and so long in any case.
_LEAST_FIELDS, _LEAST_FRAMES = 8, 1 << 14
#: What each thread should still get, in parts, of a signal whose length is known: so that all end together.
_PARTS = 2
#: Frames of all channels at a time where channels run side by side, and where parts are handed on.
_BLOCK_FRAMES = 1 << 17
#: Blocks that are handed over there beforehand.
_AHEAD = 2

#: `_begun_frames` of models in use: finding out takes as long as rendering a tenth of a second.
_begun: WeakKeyDictionary[Model, int] = WeakKeyDictionary()


def processed(
    blocks: Iterable[Audio],
    model: Model,
    channels: int,
    threads: int = 1,
    frames: int | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> Iterator[Audio]:
    """Run a model over blocks, from its settled state.

    Parameters
    ----------
    blocks : iterable of float32 arrays [frames, channels]
    model : Model
        One that keeps the rate.
    channels : int
        As many streams as `Model.streams_for` says.
    threads : int
        How many may compute; the result does not depend on it.
    frames : int, optional
        Of all blocks together, if that is known.
    ended : callable, optional
        Whether the signal has ended by the last block that was taken, and what is still to come is asked for
        one by one.

    Yields
    ------
    float32 array [frames, output channels]
    """
    streams = model.streams_for(channels)
    has_parts = threads > 1 and most_part_frames(model, channels, threads) > 0
    if min(threads, streams) > 1 and (streams % threads == 0 or not has_parts):
        parts = cut(blocks, max(1, _BLOCK_FRAMES // channels), ended)
        return _each_channel(parts, model, channels, threads, ended)
    if has_parts:
        sizes = part_sizes(model, channels, threads, frames)
        heard = overlapping(blocks, channels, sizes, again_frames(model) or 0, ended, model.step_frames)
        return _side_by_side(heard, model, channels, threads, ended)
    return _one_after_the_other(blocks, model, channels)


def uses(model: Model, channels: int, threads: int) -> int:
    """How many of `threads` a model can use over one signal."""
    return (
        threads if most_part_frames(model, channels, threads) else min(threads, model.streams_for(channels))
    )


def most_part_frames(model: Model, channels: int, threads: int) -> int:
    """Frames of the longest part that can be rendered by itself; 0 where there are none such."""
    again, step = again_frames(model), model.step_frames
    most = _MOST_FRAMES // (channels * (threads + 2)) // step * step
    return 0 if again is None or again * _LEAST_FIELDS > most else most


def part_sizes(model: Model, channels: int, threads: int, frames: int | None) -> Iterator[int]:
    """Frames of one part after the other, without end: all but the first and last few as long as can be.

    Short ones at the beginning let all threads begin at once, and at the end of a signal of `frames` frames
    end at once.
    """
    most, step = most_part_frames(model, channels, threads), model.step_frames
    least = max(_LEAST_FRAMES, _LEAST_FIELDS * (again_frames(model) or 0))
    done, longest = 0, least
    while True:
        wanted = longest if frames is None else min(longest, (frames - done) // (_PARTS * threads))
        size = max(step, min(most, max(least, wanted)) // step * step)
        yield size
        done += size
        longest = min(most, 2 * longest)


def again_frames(model: Model) -> int | None:
    """Frames before a part that its engine has to hear; None where that would be all."""
    field = model.receptive_field_frames
    if field is None:
        return None
    if model not in _begun:
        _begun[model] = _begun_frames(model.graph)
    step = model.step_frames
    return -(-max(field, _begun[model]) // step) * step


def _begun_frames(graph: Graph) -> int:
    """Frames after its start in which an engine puts out what it would not put out later.

    Zeros that stand in front of a signal until its `start_frames` count from the engine's start, and are
    heard for as long as the layers after it remember."""
    begun = {name: Fraction(0) for name in (graph.input, *(knob.name for knob in graph.knobs))}
    for node in graph.nodes:
        rate = graph.signals[node.inputs[0]].rate
        until = max([getattr(node, "start_frames", 0) / rate, *(begun[name] for name in node.inputs)])
        begun.update(dict.fromkeys(node.outputs, until + (node.reach_frames or 0) / rate))
    return math.ceil(begun[graph.output])


def _columns(made: Audio) -> Audio:
    return made[:, np.newaxis] if made.ndim == 1 else made


def _one_after_the_other(blocks: Iterable[Audio], model: Model, channels: int) -> Iterator[Audio]:
    with model.stream(channels=channels) as stream:
        for block in blocks:
            yield _columns(stream.process(block))


def cut(blocks: Iterable[Audio], frames: int, ended: Callable[[], bool] = lambda: False) -> Iterator[Audio]:
    """Cut blocks anew: all but the last get that many frames, or less once `ended` says so.

    Who waits for a little more would then have to wait for all of a block.
    """
    held: list[Audio] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= frames or (ended() and count):
            whole = np.concatenate(held)
            used = count if ended() else count // frames * frames
            for start in range(0, used, frames):
                yield whole[start : min(start + frames, used)]
            held, count = [whole[used:].copy()], count - used
    if count:
        yield np.concatenate(held)


def overlapping(
    blocks: Iterable[Audio],
    channels: int,
    sizes: Iterator[int],
    again: int,
    ended: Callable[[], bool],
    step: int,
) -> Iterator[tuple[Audio, int]]:
    """Cut blocks into parts of `sizes`, multiples of `step` all; once it has ended, into shorter ones.

    Yields
    ------
    float32 array [frames, channels]
        The frames of a part, after `again` frames before it or as many as there are.
    int
        How many these are.
    """
    before = np.zeros((0, channels), np.float32)
    held: list[Audio] = []
    count, size = 0, next(sizes)
    for block in blocks:
        held.append(block)
        count += len(block)
        while count >= size or (ended() and count >= step):
            length = min(size, count // step * step)
            last, count = held.pop(), count - length  # what is left over is of the last block
            heard = np.concatenate([before, *held, last[: len(last) - count]])
            held = [last[len(last) - count :]] if count else []
            yield heard, len(before)
            before = heard[max(0, len(heard) - again) :].copy()
            size = next(sizes)
    if count:
        yield np.concatenate([before, *held]), len(before)


def _side_by_side(
    parts: Iterable[tuple[Audio, int]], model: Model, channels: int, threads: int, ended: Callable[[], bool]
) -> Iterator[Audio]:
    own = threading.local()
    streams: list[Stream] = []

    def run(heard: Audio, again: int) -> Audio:
        if not hasattr(own, "stream"):
            own.stream = model.stream(channels=channels)
            streams.append(own.stream)
        own.stream.reset()
        made = _columns(own.stream.process(heard))
        return made[again:]

    with _ended(ThreadPoolExecutor(threads, "backline part"), streams) as pool:
        waiting: deque[Future[Audio]] = deque()
        for heard, again in parts:
            waiting.append(pool.submit(run, heard, again))
            while len(waiting) > (0 if ended() else threads):
                yield from _pieces(waiting.popleft().result(), channels)
        while waiting:
            yield from _pieces(waiting.popleft().result(), channels)


def _pieces(made: Audio, channels: int) -> Iterator[Audio]:
    """In pieces, so that the copies that are made of them on their way are small."""
    frames = max(1, _BLOCK_FRAMES // channels)
    for start in range(0, len(made), frames):
        yield made[start : start + frames]


def _each_channel(
    parts: Iterable[Audio], model: Model, channels: int, threads: int, ended: Callable[[], bool]
) -> Iterator[Audio]:
    groups = np.array_split(np.arange(channels), min(threads, channels))
    streams = [model.stream(channels=len(group)) for group in groups]
    pools = [ThreadPoolExecutor(1, "backline channel") for _ in groups]
    try:
        waiting: deque[list[Future[Audio]]] = deque()
        for block in parts:
            shares = [np.ascontiguousarray(block[:, group]) for group in groups]
            # A pool of one thread keeps the order of a stream's blocks.
            waiting.append(
                [pool.submit(each.process, x) for pool, each, x in zip(pools, streams, shares, strict=True)]
            )
            while len(waiting) > (0 if ended() else _AHEAD):
                yield _joined(waiting.popleft())
        while waiting:
            yield _joined(waiting.popleft())
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)
        for stream in streams:
            stream.close()


def _joined(shares: Iterable[Future[Audio]]) -> Audio:
    return np.concatenate([_columns(share.result()) for share in shares], axis=1)


class _ended:
    """A pool that is left with nothing running and its streams closed."""

    def __init__(self, pool: ThreadPoolExecutor, streams: list[Stream]) -> None:
        self._pool, self._streams = pool, streams

    def __enter__(self) -> ThreadPoolExecutor:
        return self._pool

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for stream in self._streams:
            stream.close()
