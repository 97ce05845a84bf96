"""How the time of a grouped convolution falls with the number of groups, as a table and a picture.

    python scripts/bench_groups.py [--channels 64] [--block 64] [--isa avx512] [-o docs/groups.png]

The arithmetic of `groups = g` is 1/g of that of one group. Two more lines are bounds: what the arithmetic
takes at the core's peak of multiply-adds, measured in between, and what an engine takes that only takes the
same rows in and hands them out again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from backline.bench import Result, Work, conv_work, measure
from backline.graph import Graph
from backline.native import available_isas


def divisors(channels: int) -> list[int]:
    """1, 2, 4... up to `channels`."""
    return [1 << n for n in range(channels.bit_length()) if channels % (1 << n) == 0]


def nothing(channels: int) -> Work:
    """Takes rows in and hands them out. Its operations are one, so that its time can be told from them."""
    return Work("in and out", Graph((), "input", channels, "input", name="in and out"), 1.0)


def block_us(result: Result) -> float:
    """Time of a block by the median speed."""
    return 1e6 * result.block_frames / (result.times_real_time * result.sample_rate_hz)


def draw(axes: Any, groups: Sequence[int], found: Sequence[Result], floor: Result) -> None:
    """Time over groups, both in powers of two."""
    first, times = found[0], [block_us(each) for each in found]
    bound = [each.flops_per_frame * each.block_frames / each.peak_gflops / 1e3 for each in found]
    axes.plot(groups, times, "o-", color="#d1495b", label="measured")
    axes.plot(groups, [times[0] / g for g in groups], "--", color="#2b2d42", label="1/g of one group")
    axes.plot(groups, bound, ":", color="#2b2d42", label="at the core's peak of multiply-adds")
    axes.axhline(block_us(floor), color="#8d99ae", label="rows in and out, nothing else")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(groups, [str(g) for g in groups])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="groups", ylabel=f"microseconds for a block of {first.block_frames} frames")
    axes.grid(True, color="0.9")
    axes.legend(frameon=False)


def main() -> None:
    """Parse, measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--kernel", type=int, default=3)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--isa", default=available_isas()[-1])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--core", type=int)
    parser.add_argument("-o", "--output", type=Path, help="a picture")
    options = parser.parse_args()
    channels, groups = options.channels, divisors(options.channels)
    works = [conv_work(channels, channels, options.kernel, 1, g) for g in groups]
    settings = ([options.isa], [options.block], options.repeats, 100, options.core)
    *found, floor = measure([*works, nothing(channels)], *settings)
    title = f"Conv1d {channels} to {channels}, {options.kernel} taps"
    print(f"{title}; {found[0].machine}, {options.isa}, blocks of {options.block} frames")
    print(f"{'groups':>6} {'us a block':>10} {'of one group':>12} {'% of peak':>9}")
    for g, each in zip(groups, found, strict=True):
        share = block_us(found[0]) / block_us(each)
        print(f"{g:6} {block_us(each):10.3f} {f'1/{share:.1f}':>12} {each.percent_of_peak:9.1f}")
    print(f"in and out alone: {block_us(floor):.3f} us")
    if options.output is not None:
        figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
        draw(axes, groups, found, floor)
        axes.set_title(f"{title}: {found[0].machine}, {options.isa}, one thread", fontsize=10)
        figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
