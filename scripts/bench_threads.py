"""Do two engines on two threads take anything from each other that two loops of multiply-adds do not?

    python scripts/bench_threads.py [--cores 0,1] [--block 64] [--only A2]

Two cores may share a clock, caches, or be two halves of one; so the gain from the second thread is compared
with that of two loops that stay in their registers, in the same run and in turn. Each figure is
(both engines' speed / one engine's) / (both loops' speed / one loop's), in percent; each thread's speed is by
its own processor time. `both` is how much of the time on the wall both threads had a core: below 98 % others
were in the way, and the figure is of less worth. Takes about half a minute of both cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench_targets import works

from backline.bench import EngineRun, PeakRun, Work
from backline.machine import cores, processor
from backline.native import available_isas

TARGET = 95.0
#: Slices of 10 ms in which two loops run.
_PEAK_SLICES = 3


class Workers:
    """Two threads, each kept on its core, which begin at the same moment."""

    def __init__(self, places: Sequence[int]) -> None:
        self._places = places
        self._pools = [ThreadPoolExecutor(1) for _ in places]
        for pool, core in zip(self._pools, places, strict=True):
            pool.submit(os.sched_setaffinity, 0, {core}).result()

    def run(self, tasks: Sequence[Callable[[], float]]) -> tuple[float, float]:
        """Run one task on the first core, or one on each; return the sum of their speeds, and `both`."""
        gate = threading.Barrier(len(tasks))

        def timed(task: Callable[[], float]) -> tuple[float, float, float]:
            gate.wait()
            wall, own = time.perf_counter(), time.thread_time()
            speed = task()
            return speed, time.thread_time() - own, time.perf_counter() - wall

        waiting = [pool.submit(timed, task) for pool, task in zip(self._pools, tasks, strict=False)]
        done = [each.result() for each in waiting]
        # A thread that ends early leaves the other alone for the rest: both is what they had together.
        return sum(speed for speed, _, _ in done), min(own for _, own, _ in done) / max(
            wall for *_, wall in done
        )

    def close(self) -> None:
        """End both threads."""
        for pool in self._pools:
            pool.shutdown()


def measure(work: Work, isa: str, block_frames: int, workers: Workers, repeats: int) -> dict[str, Any]:
    """Compare two engines of one model with two loops."""
    engines = [EngineRun(work, isa, block_frames) for _ in range(2)]
    loops = [PeakRun(isa) for _ in range(2)]
    run_engines = [lambda run=run: run.slice()[0] for run in engines]
    run_loops = [lambda run=run: run.gflops(_PEAK_SLICES) for run in loops]
    for run in engines:
        run.slice()  # plans how many blocks make one, which must not happen while the other engine runs
    quotients, of_engines, of_loops, shares = [], [], [], []
    for _ in range(repeats):
        one_loop, _ = workers.run(run_loops[:1])
        one_engine, _ = workers.run(run_engines[:1])
        two_loops, loops_share = workers.run(run_loops)
        two_engines, engines_share = workers.run(run_engines)
        of_engines.append(two_engines / one_engine)
        of_loops.append(two_loops / one_loop)
        quotients.append(100.0 * of_engines[-1] / of_loops[-1])
        shares.append(min(loops_share, engines_share))
    return {
        "model": work.name,
        "isa": isa,
        "block_frames": block_frames,
        "two_engines": statistics.median(of_engines),
        "two_loops": statistics.median(of_loops),
        "percent": statistics.median(quotients),
        "percent_low": min(quotients),
        "percent_high": max(quotients),
        "both": statistics.median(shares),
        "machine": processor(),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cores", help="two of them, with a comma; by default the first and the last")
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--isa", default=available_isas()[-1])
    parser.add_argument("--only", default="", help="what has this in its name")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    allowed = cores()
    places = [int(core) for core in options.cores.split(",")] if options.cores else [allowed[0], allowed[-1]]
    if len(places) != 2 or places[0] == places[1]:
        parser.error(f"two cores are needed, found {places}")
    workers = Workers(places)
    with tempfile.TemporaryDirectory() as folder:
        chosen = [work for work, _ in works(Path(folder)) if options.only.lower() in work.name.lower()]
    found = [measure(work, options.isa, options.block, workers, options.repeats) for work in chosen]
    workers.close()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{processor()}, cores {places[0]} and {places[1]}, {options.isa}, blocks of {options.block} frames"
    )
    print(
        "{:18} {:>12} {:>10} {:>8} {:>16} {:>6}".format(
            "", "two engines", "two loops", "%", "lowest-highest", "both"
        )
    )
    for each in found:
        spread = f"{each['percent_low']:.1f} to {each['percent_high']:.1f}"
        verdict = "ok" if each["percent"] >= TARGET else "MISSED"
        print(
            f"{each['model']:18} {each['two_engines']:12.3f} {each['two_loops']:10.3f} "
            f"{each['percent']:8.1f} {spread:>16} {100 * each['both']:5.0f}%  {verdict}"
        )


if __name__ == "__main__":
    main()
