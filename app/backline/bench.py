"""How fast the engine is, beside the multiply-adds a core can do at most, measured in the same run.

The figure that travels between machines is the percentage: what a model needs by its arithmetic, over what
the core does of multiply-adds that never leave its registers (`bl_bench_fma`). Both are measured in turn, in
slices of some milliseconds, each of the engine between two of the other; all is repeated and medians are what
counts. Slices count the thread's processor time, so that others on the core take less of the figure
away than they take of the core; times of single blocks are by the clock on the wall.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import library, native
from .api import conv1d, load
from .engine import Engine, Model
from .errors import ModelError
from .graph import Graph
from .layers import MAX_ELEMENTS, MAX_SIZE
from .machine import pinned, processor, real_time
from .native import ffi, lib

BLOCKS = (16, 32, 64, 128, 256, 1024)
REPEATS = 7
#: Blocks timed one by one, over all repeats.
TIMED_BLOCKS = 5000
#: Taken for the rate of what does not say any.
DEFAULT_RATE_HZ = 48000.0

_SLICE_S, _PEAK_SLICE_S = 0.03, 0.01
#: A run whose slices are planned by is at least so long.
_PLANNED_S = 0.004
#: Blocks that do not count before those that are timed one by one.
_WARM_BLOCKS = 20
#: What the signal may take of the first-level cache: a live host's block would be there too.
_SIGNAL_BYTES = 8192
_AMPLITUDE = 0.1

Times = NDArray[np.uint32]


@dataclass(frozen=True)
class Work:
    """What is to be measured.

    Attributes
    ----------
    name : str
    graph : Graph
    flops_per_frame : float
        Floating point operations for a frame of input that `gflops` counts.
    """

    name: str
    graph: Graph
    flops_per_frame: float


@dataclass(frozen=True)
class Result:
    """One model or layer on one instruction set in blocks of one size; medians over the repeats.

    Attributes
    ----------
    model : str
    isa : str
    block_frames : int
    times_real_time : float
        Seconds of audio per second of the thread's processor time; lowest and highest in `_low` and `_high`.
    gflops : float
        `flops_per_frame` times frames per second, in 10^9 per second.
    peak_gflops : float
        The same of multiply-adds in registers, before and after.
    percent_of_peak : float
        Of each slice's own peak: the median of quotients, which may differ from the quotient of medians.
    p50_us, p999_us, max_us : float
        Times of single blocks, the first few left out: the median, what 99.9 % do not surpass, the longest.
    max_over_p50 : float
    weights : int
        Numbers in the parameter arrays of the part of the model in use, biases and taps alike.
    flops_per_frame : float
        Twice the weights; of a bare layer twice its multiply-adds.
    sample_rate_hz : float
    repeats, timed_blocks : int
    core_share : float
        Processor time over time on the wall, in all slices: less than 1 if others used the core too.
    real_time : bool
        Whether single blocks were timed at real-time priority.
    core : int or None
        Where the thread was kept.
    machine : str
    engine : str
        Whose figures these are.
    """

    model: str
    isa: str
    block_frames: int
    times_real_time: float
    times_real_time_low: float
    times_real_time_high: float
    gflops: float
    gflops_low: float
    gflops_high: float
    peak_gflops: float
    peak_gflops_low: float
    peak_gflops_high: float
    percent_of_peak: float
    percent_of_peak_low: float
    percent_of_peak_high: float
    p50_us: float
    p999_us: float
    max_us: float
    max_over_p50: float
    weights: int
    flops_per_frame: float
    sample_rate_hz: float
    repeats: int
    timed_blocks: int
    core_share: float
    real_time: bool
    core: int | None
    machine: str
    engine: str = "backline"

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return asdict(self)


def model_work(path: str | Path, quality: float = 1.0, name: str | None = None) -> Work:
    """A model file, or a shipped model by its name.

    Its operations are twice its weights: `Graph.parameter_count`, all numbers of all parameter arrays of the
    layers in use. Of a ``.nam`` file those are the numbers in its list of weights, be they taps, biases,
    first states or the head's scale (but for a batch norm's epsilon); in a container those of the one model
    that `quality` chooses, of a slimmed model those that are kept.

    Raises
    ------
    ModelError
        As `backline.load`.
    """
    found = library.find(path)
    graph = load(found, quality=quality).graph
    size = "" if quality == 1.0 else f" (quality {quality:g})"
    return Work(name or f"{found.stem}{size}", graph, 2.0 * graph.parameter_count)


def conv_work(in_channels: int, out_channels: int, kernel: int, dilation: int, groups: int) -> Work:
    """A bare convolution without bias, with seeded weights; its operations are twice its multiply-adds.

    Raises
    ------
    ModelError
        Sizes that are none, or do not fit together.
    """
    sizes = (in_channels, out_channels, kernel, dilation, groups)
    name = f"conv {','.join(map(str, sizes))}"
    if not all(1 <= size <= MAX_SIZE for size in sizes):
        raise ModelError(f"{name}: sizes have to be from 1 to {MAX_SIZE}")
    if in_channels % groups or out_channels % groups:
        inputs_and_outputs = f"{in_channels} inputs and {out_channels} outputs"
        raise ModelError(f"{name}: groups {groups} does not divide {inputs_and_outputs}")
    count = in_channels // groups * out_channels * kernel
    if count > MAX_ELEMENTS:
        raise ModelError(f"{name}: has {count} weights, at most {MAX_ELEMENTS} are allowed")
    weight = np.random.default_rng(0).standard_normal((out_channels, in_channels // groups, kernel))
    weight /= math.sqrt(in_channels // groups * kernel)
    graph = conv1d(weight, groups=groups, dilation=dilation).graph
    return Work(name, graph, 2.0 * graph.multiply_adds_per_frame)


def parse_conv(text: str) -> Work:
    """`conv_work` of ``IN,OUT,KERNEL,DILATION,GROUPS``.

    Raises
    ------
    ModelError
        The text is something else.
    """
    parts = text.split(",")
    if len(parts) != 5 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise ModelError(f"conv {text!r}: expected IN,OUT,KERNEL,DILATION,GROUPS, five whole numbers")
    return conv_work(*(int(part) for part in parts))


class Run(Protocol):
    """Something that runs blocks and can be measured: an engine of Backline's, or another one.

    Attributes
    ----------
    work : Work
    engine : str
    isa : str
        The instruction set whose peak it is held against.
    block_frames : int
    sample_rate_hz : float
    """

    work: Work
    engine: str
    isa: str
    block_frames: int
    sample_rate_hz: float

    def slice(self) -> tuple[float, float]:
        """Run for about 30 ms; return frames per second of processor time, and that time's share."""

    def block_times_ns(self, blocks: int) -> Times:
        """Time `blocks` blocks, each by itself."""


class PeakRun:
    """Multiply-adds in registers of one instruction set: what no kernel of it can surpass.

    Where it has no fused ones, multiplications and additions.
    """

    def __init__(self, isa: str) -> None:
        self._isa = native.choose_isa(isa)
        self._flops = int(lib.bl_bench_fma_flops(self._isa))
        self._rounds = 1024
        while self._time(self._rounds) < 1e9 * _PLANNED_S:
            self._rounds *= 2
        self._rounds = self.rounds_in(_PEAK_SLICE_S)

    def _time(self, rounds: int) -> int:
        return int(lib.bl_bench_fma(self._isa, rounds, 1, ffi.NULL).thread_ns)

    def rounds_in(self, seconds: float) -> int:
        """How many rounds last about so long."""
        took_ns = min(self._time(self._rounds) for _ in range(3))
        return max(1, round(self._rounds * 1e9 * seconds / max(took_ns, 1)))

    def gflops(self, slices: int = 1) -> float:
        """Measure some slices of 10 ms."""
        found = lib.bl_bench_fma(self._isa, self._rounds, slices, ffi.NULL)
        return float(slices * self._rounds * self._flops / max(found.thread_ns, 1))

    def block_times_ns(self, rounds: int, blocks: int) -> Times:
        """Time `blocks` blocks of so many rounds, each by itself."""
        times = _times(blocks)
        lib.bl_bench_fma(self._isa, rounds, blocks, ffi.from_buffer("uint32_t[]", times))
        return times


class EngineRun:
    """An engine of one stream and what it is given: a signal of seeded noise, walked through block by block.

    The signal is as many different blocks as 8 KB hold, but at least one; all answers go to the same place.
    Both are in the core's cache then, as a live host's block is.
    """

    def __init__(self, work: Work, isa: str | None, block_frames: int) -> None:
        self.work = work
        self.engine = "backline"
        self.block_frames = block_frames
        model = Model(work.graph, isa)
        self.isa = model.isa
        self.sample_rate_hz = work.graph.sample_rate_hz or DEFAULT_RATE_HZ
        info = model.program.info
        frames = block_frames * max(1, _SIGNAL_BYTES // (4 * info.input_rows * block_frames))
        noise = np.random.default_rng(0).standard_normal((info.input_rows, frames))
        self._in = _aligned(noise.shape)
        self._in[:] = _AMPLITUDE * noise
        rate = info.output_rate
        # Whole cache lines, as the rows of a host's buffers are.
        out_frames = -(-math.ceil(block_frames * rate.num / rate.den) // 16) * 16
        self._out = _aligned((info.output_rows, out_frames))
        self._engine = Engine(model.program, 1, block_frames)
        source, target = (ffi.from_buffer("float[]", each) for each in (self._in, self._out))
        self._bench = ffi.new("bl_bench *", (source, target, frames, out_frames, block_frames))
        self._alive = source, target

    def _time(self, blocks: int) -> Any:
        return lib.bl_bench_engine(self._engine.pointer, self._bench, blocks, ffi.NULL)

    @cached_property
    def _blocks(self) -> int:
        """How many make a slice."""
        blocks = 1
        while (took := int(self._time(blocks).thread_ns)) < 1e9 * _PLANNED_S:
            blocks *= 2
        return max(1, round(blocks * 1e9 * _SLICE_S / took))

    def reset(self) -> None:
        """Back to frame 0: what follows is the same blocks in the same state as before."""
        self._engine.reset()

    def slice(self) -> tuple[float, float]:
        """Run for about 30 ms; return frames per second of processor time, and that time's share."""
        blocks = self._blocks
        found = self._time(blocks)
        frames = blocks * self.block_frames
        return frames / max(found.thread_ns, 1) * 1e9, found.thread_ns / max(found.wall_ns, 1)

    def block_times_ns(self, blocks: int) -> Times:
        """Time `blocks` blocks, each by itself."""
        times = _times(blocks)
        lib.bl_bench_engine(self._engine.pointer, self._bench, blocks, ffi.from_buffer("uint32_t[]", times))
        return times


def _aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros that begin with a cache line."""
    count = math.prod(shape)
    flat = np.zeros(count + 16, np.float32)
    start = -flat.ctypes.data % 64 // 4
    return flat[start : start + count].reshape(shape)


def _times(blocks: int) -> Times:
    """Room for times, whose memory the system has been made to give: to touch it first takes time."""
    times = np.empty(blocks, np.uint32)
    times.fill(0)
    return times


@dataclass
class _Found:
    """What was measured of one engine, repeat by repeat."""

    frames_per_s: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    times: list[Times] = field(default_factory=list)


def measure(
    works: Iterable[Work],
    isas: Sequence[str] | None = None,
    block_frames: Sequence[int] = BLOCKS,
    repeats: int = REPEATS,
    timed_blocks: int = TIMED_BLOCKS,
    core: int | None = None,
    prefer_real_time: bool = False,
) -> list[Result]:
    """Measure works in blocks of each size on each instruction set, in turn, with one pinned thread.

    Parameters
    ----------
    works : iterable of Work
    isas : sequence of str, optional
        By default what engines run on: ``BACKLINE_ISA``, or the machine's best.
    block_frames : sequence of int
    repeats : int
        How often everything is measured in turn: slices of 30 ms, with multiply-adds between.
    timed_blocks : int
        Blocks to time one by one, over all repeats.
    core : int, optional
        See `machine.pinned`.
    prefer_real_time : bool
        Time single blocks at real-time priority where the system permits it; `Result.real_time` says so.

    Returns
    -------
    list of Result
        In the order of works, then instruction sets, then sizes.

    Raises
    ------
    BacklineError
        There is no such instruction set or core here.
    """
    names = [native.isa_name(native.choose_isa(isa)) for isa in (isas if isas is not None else (None,))]
    with pinned(core) as kept_on:
        runs = [
            EngineRun(work, isa, frames)
            for work in works
            for isa in dict.fromkeys(names)
            for frames in block_frames
        ]
        return measure_runs(runs, repeats, timed_blocks, kept_on, prefer_real_time)


def measure_runs(
    runs: Sequence[Run],
    repeats: int = REPEATS,
    timed_blocks: int = TIMED_BLOCKS,
    core: int | None = None,
    prefer_real_time: bool = False,
) -> list[Result]:
    """`measure` for runs made already, on the core this thread has been kept on; results in their order."""
    peaks = {run.isa: PeakRun(run.isa) for run in runs}
    found = [_Found() for _ in runs]
    at_priority = []
    for _ in range(repeats):
        _measure_slices(runs, peaks, found)
        with real_time(prefer_real_time) as granted:
            at_priority.append(granted)
            for run, each in zip(runs, found, strict=True):
                run.block_times_ns(_WARM_BLOCKS)  # others have had the cache
                each.times.append(run.block_times_ns(math.ceil(timed_blocks / repeats)))
    about = {"core": core, "real_time": all(at_priority), "machine": processor(), "repeats": repeats}
    return [_result(run, each, about) for run, each in zip(runs, found, strict=True)]


def _measure_slices(runs: Sequence[Run], peaks: Mapping[str, PeakRun], found: Sequence[_Found]) -> None:
    """One slice of each engine, judged by the mean of the peaks right before and right after it."""
    for isa, peak in peaks.items():
        before = peak.gflops()
        for run, each in zip(runs, found, strict=True):
            if run.isa == isa:
                frames_per_s, share = run.slice()
                after = peak.gflops()
                each.frames_per_s.append(frames_per_s)
                each.peaks.append((before + after) / 2.0)
                each.shares.append(share)
                before = after


def _result(run: Run, found: _Found, about: Mapping[str, Any]) -> Result:
    work, times = run.work, np.concatenate(found.times) / 1e3
    gflops = [work.flops_per_frame * frames_per_s / 1e9 for frames_per_s in found.frames_per_s]
    percents = [100.0 * each / peak for each, peak in zip(gflops, found.peaks, strict=True)]
    p50 = float(np.median(times))
    return Result(
        model=work.name,
        isa=run.isa,
        block_frames=run.block_frames,
        **spread("times_real_time", [each / run.sample_rate_hz for each in found.frames_per_s]),
        **spread("gflops", gflops),
        **spread("peak_gflops", found.peaks),
        **spread("percent_of_peak", percents),
        p50_us=p50,
        p999_us=float(np.percentile(times, 99.9, method="higher")),
        max_us=float(times.max()),
        max_over_p50=float(times.max()) / max(p50, 1e-3),
        weights=work.graph.parameter_count,
        flops_per_frame=work.flops_per_frame,
        sample_rate_hz=run.sample_rate_hz,
        timed_blocks=times.size,
        core_share=statistics.mean(found.shares),
        engine=run.engine,
        **about,
    )


def spread(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest and highest, as fields of a `Result`."""
    return {name: statistics.median(values), f"{name}_low": min(values), f"{name}_high": max(values)}
