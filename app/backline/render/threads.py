"""A model over a long signal, on several cores, to the same bits as on one.

What a model without feedback puts out depends on its receptive field and nothing before, so that parts of a
signal can be rendered side by side, each beginning a receptive field early. A recurrent model remembers for
ever: only its channels, which are streams of their own, run side by side."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction

import numpy as np

from ..engine import Audio, Model, Stream
from ..graph import Graph

#: Frames of all channels of a part, at most: several parts are in memory at a time.
_MOST_FRAMES = 1 << 20
#: A part is at least so many times as long as what is computed twice.
_LEAST_FIELDS = 8
#: Parts that each thread should get of a signal whose length is known, so that all end together.
_PARTS = 4
#: Frames at a time where channels run side by side.
_BLOCK_FRAMES = 1 << 16


def processed(
    blocks: Iterable[Audio], model: Model, channels: int, threads: int = 1, frames: int | None = None
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

    Yields
    ------
    float32 array [frames, output channels]
    """
    part = part_frames(model, channels, threads, frames)
    if threads > 1 and part:
        return _side_by_side(blocks, model, channels, threads, part)
    if threads > 1 and min(threads, model.streams_for(channels)) > 1:
        return _each_channel(blocks, model, channels, threads)
    return _one_after_the_other(blocks, model, channels)


def uses(model: Model, channels: int, threads: int) -> int:
    """How many of `threads` a model can use over one signal."""
    if part_frames(model, channels, threads, None):
        return threads
    return min(threads, model.streams_for(channels))


def part_frames(model: Model, channels: int, threads: int, frames: int | None) -> int:
    """Frames of a part that can be rendered by itself; 0 where there are none such."""
    again = again_frames(model)
    most = _MOST_FRAMES // channels
    if again is None or again * _LEAST_FIELDS > most:
        return 0
    wanted = most if frames is None else frames // (_PARTS * threads)
    step = step_frames(model)
    return max(step, min(most, max(wanted, again * _LEAST_FIELDS)) // step * step)


def step_frames(model: Model) -> int:
    """What a part has to begin at multiples of: the frames in which all rates inside the model meet."""
    return math.lcm(*(signal.rate.denominator for signal in model.graph.signals.values()))


def again_frames(model: Model) -> int | None:
    """Frames before a part that its engine has to hear; None where that would be all."""
    field = model.receptive_field_frames
    if field is None:
        return None
    step = step_frames(model)
    return -(-max(field, _begun_frames(model.graph)) // step) * step


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


def cut(blocks: Iterable[Audio], frames: int) -> Iterator[Audio]:
    """Cut blocks anew: all but the last get that many frames."""
    held: list[Audio] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= frames:
            whole = np.concatenate(held)
            for start in range(0, count - frames + 1, frames):
                yield whole[start : start + frames]
            rest = whole[count // frames * frames :].copy()
            held, count = [rest], len(rest)
    if count:
        yield np.concatenate(held)


def _side_by_side(
    blocks: Iterable[Audio], model: Model, channels: int, threads: int, part: int
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

    before = np.zeros((0, channels), np.float32)
    keep = again_frames(model) or 0
    with _ended(ThreadPoolExecutor(threads, "backline part"), streams) as pool:
        waiting: deque[Future[Audio]] = deque()
        for block in cut(blocks, part):
            heard = np.concatenate([before, block])
            waiting.append(pool.submit(run, heard, len(before)))
            before = heard[max(0, len(heard) - keep) :]
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _each_channel(blocks: Iterable[Audio], model: Model, channels: int, threads: int) -> Iterator[Audio]:
    groups = np.array_split(np.arange(channels), min(threads, channels))
    streams = [model.stream(channels=len(group)) for group in groups]
    pools = [ThreadPoolExecutor(1, "backline channel") for _ in groups]
    try:
        waiting: deque[list[Future[Audio]]] = deque()
        for block in cut(blocks, _BLOCK_FRAMES):
            shares = [np.ascontiguousarray(block[:, group]) for group in groups]
            # A pool of one thread keeps the order of a stream's blocks.
            waiting.append(
                [pool.submit(each.process, x) for pool, each, x in zip(pools, streams, shares, strict=True)]
            )
            if len(waiting) > 1:
                yield np.concatenate([_columns(done.result()) for done in waiting.popleft()], axis=1)
        while waiting:
            yield np.concatenate([_columns(done.result()) for done in waiting.popleft()], axis=1)
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)
        for stream in streams:
            stream.close()


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
