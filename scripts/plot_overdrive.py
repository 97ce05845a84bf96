"""Draw docs/overdrive.png, the picture in the README: what the shipped model does, and what it costs live.

From the top of an installed checkout, on a machine with nothing else to do::

    python scripts/plot_overdrive.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import backline
from backline.machine import processor
from backline.pluck import riff

RATE_HZ = 48000
BLOCKS = (16, 32, 64, 128, 256, 512)
SECONDS = 10
DRY, WET, PAPER, INK = "#8d99ae", "#d1495b", "#fbfaf7", "#2b2d42"


def live_load(block_frames: int) -> dict[str, Any]:
    """Summary of a live session with the clock as its device.

    It hears silence; what a block costs does not depend on its signal.
    """
    command = [sys.executable, "-c", "import sys; from backline.cli import main; sys.exit(main())"]
    command += ["live", "overdrive", "--device", "clock", "--json"]
    command += ["--block", str(block_frames), "--seconds", str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def draw_takes(axes: Any, dry: Any, wet: Any) -> None:
    """The whole riff, dry below and overdriven above."""
    at = np.arange(len(dry)) / RATE_HZ
    axes.plot(at, wet + 0.8, color=WET, linewidth=0.3)
    axes.plot(at, dry - 0.8, color=DRY, linewidth=0.3)
    axes.set(xlim=(0, at[-1]), ylim=(-1.5, 1.5), yticks=[], xlabel="seconds")
    axes.text(0.03, 1.22, "through overdrive", color=WET, weight="bold")
    axes.text(0.03, -0.22, "dry", color=DRY, weight="bold")
    axes.set_title("backline demo: a riff, dry and through the shipped model", loc="left")


def draw_wave(axes: Any, dry: Any, wet: Any) -> None:
    """A few periods of one note."""
    start, frames = round(2.55 * RATE_HZ), round(0.024 * RATE_HZ)
    at = np.arange(frames) * 1e3 / RATE_HZ
    for x, colour in ((dry, DRY), (wet, WET)):
        axes.plot(at, x[start : start + frames], color=colour, linewidth=1.4)
    axes.axhline(0, color=INK, linewidth=0.5, alpha=0.3)
    axes.set(xlim=(0, at[-1]), xlabel="milliseconds", ylabel="level")
    axes.set_title("24 ms of it", loc="left")


def draw_load(axes: Any) -> None:
    """Share of each block's time that the callback takes.

    Mean and 99th percentile only: the worst block of a run varies too much from run to run to be a picture.
    """
    found = [live_load(block) for block in BLOCKS]
    places = np.arange(len(BLOCKS))
    for key, label, alpha in (
        ("load_p99", "99th percentile", 0.4),
        ("load_mean", "mean", 1.0),
    ):
        loads = [100 * summary[key] for summary in found]
        axes.bar(places, loads, width=0.62, color=WET, alpha=alpha, label=label)
    axes.set_xticks(places, [f"{block}\n{1e3 * block / RATE_HZ:.1f} ms" for block in BLOCKS])
    axes.set(xlabel="frames per block", ylabel="% of the block's time")
    axes.legend(frameon=False)
    axes.set_title(f"backline live: load, {SECONDS} s each", loc="left")


def main() -> None:
    """Draw everything."""
    model = backline.load("overdrive")
    dry = riff(RATE_HZ)
    wet = model(dry)
    style = {"font.size": 9.5, "axes.edgecolor": INK, "text.color": INK, "axes.labelcolor": INK}
    style |= {"xtick.color": INK, "ytick.color": INK, "axes.titleweight": "bold", "axes.titlesize": 10.5}
    with plt.rc_context({**style, "axes.facecolor": PAPER, "figure.facecolor": PAPER}):
        figure = plt.figure(figsize=(10, 5.6), layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(1.15, 1))
        draw_takes(figure.add_subplot(grid[0, :]), dry, wet)
        draw_wave(figure.add_subplot(grid[1, 0]), dry, wet)
        draw_load(figure.add_subplot(grid[1, 1]))
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        figure.supxlabel(f"{processor()}, {model.isa}, one thread", fontsize=7.5, x=0.99, ha="right")
        Path("docs").mkdir(exist_ok=True)
        figure.savefig("docs/overdrive.png", dpi=110)


if __name__ == "__main__":
    main()
