#!/usr/bin/env python3
"""What Python threads do to live sound: Backline's C callback against a Python callback in the same place.

Starts a JACK server of its own (dummy driver, 48 kHz, periods of 64 frames; real-time priority where allowed)
and runs two sessions in it, each in a process of its own: the model behind ``bl_host_callback``, and behind a
sounddevice stream whose callback is Python and calls the very same engine. In each, slices of a few seconds
alternate in which nothing else runs, and in which two threads do nothing but compute in Python and so compete
for the GIL; what else the machine is busy with then falls on both alike.

A block is lost if the time of a period went by without the callback having run. Prints a table, with the
machine named, and exits 1 if the C callback lost one block in a hundred more with the threads than without.

    scripts/gil_comparison.py [--seconds 30] [--model overdrive]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from jack_server import NoServer, jack_server

from backline.machine import processor

RATE_HZ = 48000
PERIOD = 64
BURNERS = 2
SLICE_SECONDS = 3.0


@contextlib.contextmanager
def burning(threads: int) -> Iterator[None]:
    """Threads that hold the GIL as much as they can, until the end of the block."""
    stop = threading.Event()

    def burn() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number = (number * 1103515245 + 12345) % 2147483648

    running = [threading.Thread(target=burn) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join()


def in_slices(seconds: float, count: Callable[[], tuple[int, int]]) -> list[dict[str, float]]:
    """Run `seconds` without and as much with burning threads; `count` says blocks and xruns so far."""
    time.sleep(1.0)  # the first blocks are slow, whatever calls them
    totals = [{"burners": burners, "due": 0.0, "blocks": 0, "xruns": 0} for burners in (0, BURNERS)]
    slices = max(1, round(seconds / SLICE_SECONDS))
    for _ in range(slices):
        for total in totals:
            # Read while nothing competes: else count and time would be read far apart.
            before, begun = count(), time.perf_counter()
            with burning(int(total["burners"])):
                time.sleep(seconds / slices)
            after, ended = count(), time.perf_counter()
            total["due"] += (ended - begun) * RATE_HZ / PERIOD
            total["blocks"] += after[0] - before[0]
            total["xruns"] += after[1] - before[1]
    return totals


def measure_ours(model: Any, seconds: float) -> list[dict[str, float]]:
    """The C callback."""
    from backline.live.session import LiveSession

    def count() -> tuple[int, int]:
        stats = session.status().stats
        return stats.callbacks, stats.xruns

    with LiveSession(model, device="system", block_frames=PERIOD) as session:
        return in_slices(seconds, count)


def measure_python(model: Any, seconds: float) -> list[dict[str, float]]:
    """A callback as sounddevice's manual has it, around the same engine."""
    import sounddevice

    engine = model.stream(PERIOD, channels=1)
    blocks = xruns = 0

    def callback(indata: Any, outdata: Any, frames: int, when: Any, status: Any) -> None:
        nonlocal blocks, xruns
        outdata[:] = engine.process(indata)
        blocks += 1
        xruns += bool(status)

    options = {"channels": (1, 2), "dtype": "float32", "latency": "low", "callback": callback}
    with sounddevice.Stream(RATE_HZ, PERIOD, **options):
        return in_slices(seconds, lambda: (blocks, xruns))


def worker(which: str, model: str, seconds: float) -> None:
    """One session, and its counts as JSON."""
    import backline

    measure = {"c": measure_ours, "python": measure_python}[which]
    print(json.dumps(measure(backline.load(model), seconds)))


def machine(real_time: bool) -> str:
    """The machine in a line."""
    load = f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    priority = "at real-time priority" if real_time else "without real-time priority"
    return (
        f"{processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}{load}; jackd -d dummy, {RATE_HZ} Hz, {PERIOD} frames, {priority}"
    )


def compare(server: str, model: str, seconds: float) -> int:
    """Run both and print a line for each of their halves; returns the exit status."""
    lost: dict[tuple[str, float], float] = {}
    print(f"{'callback':<10}{'busy threads':>14}{'blocks due':>12}{'lost':>8}{'':>9}{'xruns':>8}", flush=True)
    for which in ("c", "python"):
        command = [sys.executable, __file__, "--worker", which, "--model", model, "--seconds", str(seconds)]
        environment = {**os.environ, "JACK_DEFAULT_SERVER": server}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        for row in json.loads(done.stdout.splitlines()[-1]):
            missing = max(0, round(row["due"] - row["blocks"]))
            share = lost[which, row["burners"]] = missing / row["due"]
            print(
                f"{which:<10}{row['burners']:>14}{row['due']:>12.0f}{missing:>8}{share:>9.2%}{row['xruns']:>8}",
                flush=True,
            )
    return int(lost["c", BURNERS] > lost["c", 0] + 0.01)


def main() -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="with, and as much without, busy threads")
    parser.add_argument("--model", default="overdrive", help="a model file, or the name of a shipped model")
    parser.add_argument("--worker", choices=["c", "python"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.model, options.seconds)
        return 0
    try:
        with jack_server(RATE_HZ, PERIOD) as server:
            print(machine(server.real_time), flush=True)
            return compare(server.name, options.model, options.seconds)
    except NoServer as error:
        sys.exit(f"gil_comparison: {error}")


if __name__ == "__main__":
    sys.exit(main())
