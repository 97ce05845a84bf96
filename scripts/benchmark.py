#!/usr/bin/env python3
"""How many times faster than real time the C engine runs models, on one core.

    scripts/benchmark.py [MODEL ...] [--block 64] [--quality 1.0] [--isa avx512] [--repeats 7]

Runs the engine (no files, no device; one call from Python per block, whose cost is in the figure) on seeded
noise and prints, per model and block size, the median over the repeats of seconds of audio per second of this
thread's processor time, with the lowest and highest. Processor time is what a shared machine leaves to
measure; a real-time figure on a quiet one is the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from machine import processor

import backline
from backline.engine import Engine, Model

SECONDS = 3.0


def times_real_time(model: Model, block_frames: int, repeats: int) -> list[float]:
    """Return the factor of each repeat, all blocks of one size, after one repeat that does not count."""
    rate_hz = model.sample_rate_hz or 48000.0
    blocks = max(1, round(SECONDS * rate_hz / block_frames))
    noise = np.random.default_rng(0).standard_normal((model.input_channels, block_frames))
    x = (0.1 * noise).astype(np.float32)
    found = []
    with Engine(model.program, 1, block_frames) as engine:
        for _ in range(repeats + 1):
            start = time.thread_time()
            for _ in range(blocks):
                engine.process(x)
            found.append(blocks * block_frames / rate_hz / (time.thread_time() - start))
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", default=["overdrive"], help="files, or names of shipped models")
    parser.add_argument("--block", default="16,64,128,1024", help="block sizes in frames, with commas")
    parser.add_argument("--quality", type=float, default=1.0)
    parser.add_argument("--isa", help="instruction set; by default the machine's best")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"{processor()}, one core, {options.repeats} repeats of {SECONDS:g} s")
    print(f"{'model':32} {'isa':8} {'block':>6} {'x real time':>12}   lowest to highest")
    for name in options.models:
        model = Model(backline.load(name, quality=options.quality).graph, options.isa)
        for block in map(int, options.block.split(",")):
            found = times_real_time(model, block, options.repeats)
            row = f"{Path(name).stem:32} {model.isa:8} {block:6} {statistics.median(found):12.1f}"
            print(f"{row}   {min(found):.1f} to {max(found):.1f}")


if __name__ == "__main__":
    main()
