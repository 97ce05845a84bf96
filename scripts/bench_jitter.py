"""Does every block take the same time? A million of them, and the machine told from the engine.

    python scripts/bench_jitter.py [MODEL ...] [--blocks 1000000] [--block 64]

Three answers for each model, among them a stack of convolutions with dilations from 1 to 8192:

1. A million single blocks at real-time priority (SCHED_FIFO, where permitted), their median and worst; and in
   turn with them a million blocks of a constant number of multiply-adds in registers that last as long. What
   the loop's worst block is over its median, the machine has done: interrupts, its host, other threads. So it
   has where it says how long the host had the core ("stolen") and how often another thread ("preem.").
2. The million is the same sequence of blocks over and over, after a reset each time. Of each block of the
   sequence the shortest time is taken: what comes at random falls out, and what the engine does more of in
   some blocks than in others stays ("steady": worst over median). With the loop beside it again.
3. Where valgrind is: instructions of each of some hundred blocks, on AVX2, whatever the machine is doing.

Exit status 1 if 2 or 3 is above 1.5.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backline.activations import Activation
from backline.bench import EngineRun, PeakRun, Times, Work, model_work
from backline.graph import Graph
from backline.layers import Activate, Conv1d, Node
from backline.machine import pinned, processor, real_time
from backline.native import available_isas

LIMIT = 1.5
#: What has the dilations 1, 2, 4... to this.
STACK, LONGEST = "stack", 8192
#: Blocks of the sequence: some times round the longest ring, which holds 16,384 frames and some.
SEQUENCE = 10000
COUNTED = 600
#: Blocks that are not timed after a reset or a pause: caches and clocks are cold.
WARM = 500
#: What others on the core are left of the time: the kernel would take it in pieces of 50 ms, from a block.
LEFT_TO_OTHERS = 0.1
#: What is counted.
PROCESS = "bl_engine_process"


@dataclass
class Jitter:
    """Times of one run's blocks, in microseconds, and what the machine says of them."""

    what: str
    blocks: int
    p50_us: float
    p999_us: float
    p99999_us: float
    max_us: float
    max_over_p50: float
    above_limit: int
    steady_max_over_p50: float
    preemptions: int
    stolen_ms: float


def stack() -> Work:
    """Eight channels through layers of dilation 1 to `LONGEST`, with tanh."""
    rng = np.random.default_rng(0)

    def conv(name: str, below: str, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> Conv1d:
        weight = rng.standard_normal((outputs, inputs, kernel)) / math.sqrt(inputs * kernel)
        return Conv1d(
            name, below, weight.astype(np.float32), np.zeros(outputs, np.float32), dilation=dilation
        )

    nodes: list[Node] = [conv("in", "input", 1, 8, 1)]
    for power in range(LONGEST.bit_length()):
        nodes.append(conv(f"layer {power}", nodes[-1].output, 8, 8, 3, 1 << power))
        nodes.append(Activate(f"tanh {power}", nodes[-1].output, Activation("tanh")))
    nodes.append(conv("out", nodes[-1].output, 8, 1, 1))
    graph = Graph(tuple(nodes), "input", 1, "out", name=STACK)
    return Work(f"dilations to {LONGEST}", graph, 2.0 * graph.parameter_count)


def work_of(name: str) -> Work:
    """The stack, or a model."""
    return stack() if name == STACK else model_work(name)


def summary(what: str, passes: list[Times], disturbed: Disturbance) -> Jitter:
    """All that is said of the passes of one sequence."""
    times: NDArray[np.float64] = np.array(passes) / 1e3
    shortest = times.min(axis=0)
    p50 = float(np.median(times))
    return Jitter(
        what=what,
        blocks=times.size,
        p50_us=p50,
        p999_us=float(np.percentile(times, 99.9)),
        p99999_us=float(np.percentile(times, 99.999)),
        max_us=float(times.max()),
        max_over_p50=float(times.max()) / p50,
        above_limit=int(np.count_nonzero(times > LIMIT * p50)),
        steady_max_over_p50=float(shortest.max() / np.median(shortest)),
        preemptions=disturbed.preemptions,
        stolen_ms=disturbed.stolen_ms,
    )


class Disturbance:
    """How often another thread took this one's core, and how long the machine's host did, while entered."""

    def __init__(self, core: int | None) -> None:
        self._core = core
        self.preemptions = 0
        self.stolen_ms = 0.0

    def _now(self) -> tuple[int, float]:
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
        for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines():
            name, *ticks = line.split()
            if name == f"cpu{self._core}":
                return switches, 1e3 * int(ticks[7]) / os.sysconf("SC_CLK_TCK")
        return switches, 0.0

    def __enter__(self) -> None:
        self._before = self._now()

    def __exit__(self, *_: object) -> None:
        after = self._now()
        self.preemptions += after[0] - self._before[0]
        self.stolen_ms += after[1] - self._before[1]


def measure(
    work: Work, isa: str, block_frames: int, blocks: int, core: int | None
) -> tuple[list[Jitter], bool]:
    """Passes of the engine and of the loop in turn; and whether at real-time priority."""
    run, peak = EngineRun(work, isa, block_frames), PeakRun(isa)
    sequence = min(SEQUENCE, blocks)
    median_s = float(np.median(run.block_times_ns(min(1000, sequence)))) / 1e9
    rounds = peak.rounds_in(median_s)
    engine: list[Times] = []
    loop: list[Times] = []
    of_engine, of_loop = Disturbance(core), Disturbance(core)
    with real_time() as granted:
        for _ in range(max(1, blocks // sequence)):
            run.reset()
            run.block_times_ns(WARM)
            with of_engine:
                engine.append(run.block_times_ns(sequence))
            time.sleep(LEFT_TO_OTHERS * median_s * sequence)
            peak.block_times_ns(rounds, WARM)
            with of_loop:
                loop.append(peak.block_times_ns(rounds, sequence))
            time.sleep(LEFT_TO_OTHERS * median_s * sequence)
    return [
        summary(work.name, engine, of_engine),
        summary("  multiply-adds as long", loop, of_loop),
    ], granted


def instructions(name: str, block_frames: int) -> NDArray[np.int64] | None:
    """Instructions of single blocks on AVX2, by callgrind; None without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None or "avx2" not in available_isas():
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        command += [f"--toggle-collect={PROCESS}", f"--dump-after={PROCESS}", sys.executable, __file__]
        command += [name, "--block", str(block_frames), "--only-run", str(COUNTED)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"callgrind failed: {done.stderr.splitlines()[-1:]}", file=sys.stderr)
            return None
        # One dump for each call, numbered from 1; the engine settling on silence comes first.
        dumps = sorted(Path(folder).glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = (
            re.search(r"^totals: (\d+)", path.read_text(encoding="utf-8"), re.MULTILINE) for path in dumps
        )
        counts = [int(match[1]) for match in totals if match is not None and int(match[1]) > 0]
    return np.array(counts[-COUNTED:])


def only_run(name: str, block_frames: int, blocks: int) -> None:
    """What valgrind is to count: so many blocks last, behind those the model settles on."""
    EngineRun(work_of(name), "avx2", block_frames).block_times_ns(blocks)


def report(name: str, options: argparse.Namespace, core: int | None) -> dict[str, Any]:
    """Measure one model and say what was found."""
    found, granted = measure(work_of(name), options.isa, options.block, options.blocks, core)
    result: dict[str, Any] = {
        "runs": [asdict(each) for each in found],
        "real_time": granted,
        "isa": options.isa,
        "block_frames": options.block,
        "machine": processor(),
    }
    counted = None if options.no_count else instructions(name, options.block)
    if counted is not None:
        result["instructions_p50"] = float(np.median(counted))
        result["instructions_max"] = int(counted.max())
        result["instructions_max_over_p50"] = float(counted.max() / np.median(counted))
    return result


def show(result: dict[str, Any]) -> None:
    """Print one model's figures."""
    for each in result["runs"]:
        print(
            f"{each['what']:24} {each['blocks']:9,} {each['p50_us']:8.2f} {each['p999_us']:8.2f} "
            f"{each['p99999_us']:9.2f} {each['max_us']:9.2f} {each['max_over_p50']:9.2f} "
            f"{each['above_limit']:6,} {each['preemptions']:6} "
            f"{each['stolen_ms']:6.0f} {each['steady_max_over_p50']:9.3f}"
        )
    if "instructions_p50" in result:
        print(
            f"  instructions: median {result['instructions_p50']:,.0f}, most {result['instructions_max']:,}, "
            f"{result['instructions_max_over_p50']:.3f} of it (avx2, {COUNTED} blocks)"
        )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "models", nargs="*", default=[STACK, "overdrive"], help=f"files, shipped models, {STACK}"
    )
    parser.add_argument("--blocks", type=int, default=1000000)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--isa", default=available_isas()[-1])
    parser.add_argument("--core", type=int)
    parser.add_argument("--no-count", action="store_true", help="do not count instructions")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only-run", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_run:
        only_run(options.models[0], options.block, options.only_run)
        return
    with pinned(options.core) as core:
        if not options.json:
            print(f"{processor()}, core {core}, {options.isa}, blocks of {options.block} frames, in us")
            headings = (
                "",
                "blocks",
                "p50",
                "p99.9",
                "p99.999",
                "worst",
                "worst/p50",
                f">{LIMIT}",
                "preem.",
                "stolen",
                "steady",
            )
            print("{:24} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9} {:>6} {:>6} {:>6} {:>9}".format(*headings))
        found = []
        for name in options.models:
            found.append(report(name, options, core))
            if not options.json:
                show(found[-1])
    if options.json:
        print(json.dumps(found, indent=2))
    elif not all(each["real_time"] for each in found):
        print("real-time priority was not permitted")
    steady = [each["runs"][0]["steady_max_over_p50"] for each in found]
    sys.exit(max(*steady, *(each.get("instructions_max_over_p50", 1.0) for each in found)) > LIMIT)


if __name__ == "__main__":
    main()
