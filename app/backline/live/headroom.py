"""Whether a model fits into the time there is, what would fit if not, and which of its sizes to play."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..engine import Engine, Model, Program
from ..native import ffi, lib

#: At which loads are measured where the device's own block is not known yet.
MEASURED_BLOCK_FRAMES = 64
ASSUMED_BLOCK = f"blocks of {MEASURED_BLOCK_FRAMES} frames are assumed, as the device's own are not known yet"
#: Share of the time a block lasts above which there is no room for anything else to happen.
TIGHT_LOAD = 0.85
#: What a size may be expected to take for it to be chosen.
_COMFORTABLE_LOAD = 0.6
_CALM_SECONDS = 10.0
_LONGEST_CALM_SECONDS = 320.0
_LARGEST_BLOCK_FRAMES = 2048
_AMPLITUDE = 0.1
_WARM_BLOCKS = 4
_QUALITY_STEPS = 16
#: Where sizes differ from one step to the next, others may lie between: how often the step is halved.
_HALVINGS = 2


@dataclass(frozen=True)
class Load:
    """What an engine takes of the time its blocks last.

    Attributes
    ----------
    mean : float
        By the processor time of its thread: what others take of the core does not count.
    p99 : float
        What 99 % of blocks stay below, by the clock on the wall.
    """

    mean: float
    p99: float


def measure(program: Program, streams: int, block_frames: int, rate_hz: float, seconds: float = 0.05) -> Load:
    """Run a program on noise, block by block.

    Parameters
    ----------
    program : Program
    streams : int
    block_frames : int
    rate_hz : float
        At which blocks come.
    seconds : float
        About how long to measure.
    """
    info = program.info
    rows_in, rows_out = streams * info.input_rows, streams * info.output_rows
    noise = np.random.default_rng(0).standard_normal((rows_in, block_frames))
    x = (_AMPLITUDE * noise).astype(np.float32)
    y = np.zeros((rows_out, block_frames), np.float32)
    bench = ffi.new("bl_bench *")
    setattr(bench, "in", ffi.from_buffer("float[]", x))
    bench.out = ffi.from_buffer("float[]", y, require_writable=True)
    bench.in_frames = bench.out_frames = bench.block_frames = block_frames
    block_ns = 1e9 * block_frames / rate_hz
    with Engine(program, streams) as engine:
        first = lib.bl_bench_engine(engine.pointer, bench, _WARM_BLOCKS, ffi.NULL)
        one_ns = max(first.thread_ns / _WARM_BLOCKS, 1.0)
        blocks = int(min(max(1e9 * seconds / one_ns, 3), 10_000))
        times = np.zeros(blocks, np.uint32)
        total = lib.bl_bench_engine(engine.pointer, bench, blocks, ffi.from_buffer("uint32_t[]", times))
    return Load(total.thread_ns / blocks / block_ns, float(np.percentile(times, 99)) / block_ns)


@dataclass(frozen=True)
class Size:
    """One of the sizes a model comes in: the quality that stands for it, and the model."""

    quality: float
    model: Model


def sizes(load: Callable[..., Model]) -> list[Size]:
    """The different sizes of a model, the smallest first.

    Parameters
    ----------
    load : callable
        Loads it; takes ``quality``.
    """
    steps = []
    for step in range(_QUALITY_STEPS + 1):
        quality = step / _QUALITY_STEPS
        steps.append(Size(quality, load(quality=quality)))
    found = {_weights(size): size for size in steps}
    for below, above in pairwise(steps):
        for between in _between(load, below, above, _HALVINGS):
            found.setdefault(_weights(between), between)
    return sorted(found.values(), key=lambda size: size.model.graph.multiply_adds_per_frame)


def _weights(size: Size) -> int:
    return size.model.graph.parameter_count


def _between(load: Callable[..., Model], below: Size, above: Size, halvings: int) -> list[Size]:
    """Sizes between two neighbours; none are looked for where these are the same."""
    if halvings == 0 or _weights(below) == _weights(above):
        return []
    quality = (below.quality + above.quality) / 2.0
    middle = Size(quality, load(quality=quality))
    lower, upper = (_between(load, *pair, halvings - 1) for pair in ((below, middle), (middle, above)))
    return [*lower, middle, *upper]


def verdict(name: str, load: float) -> str | None:
    """A sentence on a model that takes all the time there is, or nearly; None if it fits."""
    if load <= TIGHT_LOAD:
        return None
    how = "does not fit into the time there is" if load > 1.0 else "leaves hardly any time"
    return f"{name}: {how}: it takes {100 * load:.0f} % of each block"


def advice(
    load: float,
    *,
    at_block: Mapping[int, float],
    at_quality: Mapping[float, float],
    others: Mapping[str, float],
) -> str:
    """What would fit in place of a load that does not, in a sentence.

    Parameters
    ----------
    load : float
        What does not fit.
    at_block, at_quality, others : mapping to float
        Loads measured at larger blocks, at lower qualities, and of other models by name.
    """
    fits = []
    for block, found in sorted(at_block.items()):
        if found <= TIGHT_LOAD:
            fits.append(f"--block {block} ({100 * found:.0f} %)")
            break
    for quality, found in sorted(at_quality.items(), reverse=True):
        if found <= TIGHT_LOAD:
            fits.append(f"--quality {quality:g} ({100 * found:.0f} %)")
            break
    for name, found in sorted(others.items(), key=lambda other: other[1]):
        if found <= TIGHT_LOAD:
            fits.append(f"the model {name} ({100 * found:.0f} %)")
            break
    if not fits:
        return f"nothing here fits: a faster core is needed, {load / TIGHT_LOAD:.1f} times as fast"
    return "what would fit: " + ", ".join(fits)


def larger_blocks(block_frames: int) -> list[int]:
    """Sizes of blocks worth a try in place of one."""
    found = []
    while (block_frames := 2 * block_frames) <= _LARGEST_BLOCK_FRAMES:
        found.append(block_frames)
    return found


class QualityGovernor:
    """Which of a model's sizes to play, from what they were measured to take and what is seen.

    It steps down at once and up only after a calm; a step up that had to be taken back doubles the calm the
    next one needs, so that it does not go to and fro.

    Parameters
    ----------
    loads : sequence of float
        What each size takes of the time a block lasts, the smallest first.
    """

    def __init__(self, loads: Sequence[float]) -> None:
        self._loads = list(loads)
        self._calm_s = _CALM_SECONDS
        self._calm_since: float | None = None
        self._stepped_up = False
        fitting = [index for index, load in enumerate(loads) if load <= _COMFORTABLE_LOAD]
        self.size = fitting[-1] if fitting else 0

    def observe(self, now_s: float, load: float, overloads: int = 0) -> int:
        """Take a look, and return the size to play.

        Parameters
        ----------
        now_s : float
            Of a monotonic clock.
        load : float
            What callbacks took lately of the time their blocks last.
        overloads : int
            Callbacks since the last look that took longer than their block.
        """
        if load > TIGHT_LOAD or overloads:
            if self.size > 0:
                self.size -= 1
                if self._stepped_up:
                    self._calm_s = min(2.0 * self._calm_s, _LONGEST_CALM_SECONDS)
                self._stepped_up = False
            self._calm_since = None
            return self.size
        if self.size + 1 < len(self._loads) and self._expected(load) <= _COMFORTABLE_LOAD:
            self._calm_since = now_s if self._calm_since is None else self._calm_since
            if now_s - self._calm_since >= self._calm_s:
                self.size += 1
                self._stepped_up, self._calm_since = True, None
        else:
            self._calm_since = None
        return self.size

    def _expected(self, load: float) -> float:
        """What the next size would take, scaled by what this one is seen to take over what was measured."""
        here, above = self._loads[self.size], self._loads[self.size + 1]
        return above * max(load / here if here > 0 else 1.0, 1.0)
