"""A picture of a session's callbacks: loads over time, how often which, and how late they began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..plot import picture
from .forensics import Xrun, causes, lateness
from .stats_file import Saved
from .status import CallbackLog

_COLOURS = {"own load": "C3", "held up": "C1", "late wake-up": "C4", "the device": "C5"}
_TITLE_LETTERS = 60
_SWAPPING = 1 | 2 | 4
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def plot_callbacks(saved: Saved, path: str | Path, *, overwrite: bool = False) -> None:
    """Draw what a file of statistics holds.

    Parameters
    ----------
    saved : Saved
    path : str or path
        A name that ends in ``.png``, ``.svg`` or ``.pdf``.
    overwrite : bool

    Raises
    ------
    MissingDependency
        matplotlib is not installed.
    AudioFileError, FileExists
        The file cannot be written, is of another kind, or exists.
    """
    xruns = causes(saved.log)
    with picture(Path(path), overwrite) as figure:
        figure.suptitle(_title(saved, xruns), fontsize=13)
        grid = figure.add_gridspec(3, 1)
        seconds = _seconds(saved.log)
        _draw_loads(figure.add_subplot(grid[0]), saved.log, seconds, xruns)
        _draw_lateness(figure.add_subplot(grid[1]), saved.log, seconds, xruns)
        _draw_histogram(figure.add_subplot(grid[2]), saved.log)


def _title(saved: Saved, xruns: list[Xrun]) -> str:
    name = "".join(c if c.isprintable() else " " for c in str(saved.summary.get("model", "a session")))
    total = saved.summary.get("xruns")
    known = f", {total} in the session" if isinstance(total, int) else ""
    shown = name[:_TITLE_LETTERS].replace("$", r"\$")
    return f"{shown}: the last {len(saved.log.callbacks)} callbacks, {len(xruns)} xruns among them{known}"


def _seconds(log: CallbackLog) -> np.ndarray:
    """When each callback began, from the end backwards."""
    began = log.callbacks["began_ns"].astype(np.float64)
    return (began - began[-1]) / 1e9 if len(began) else began


def _loads(log: CallbackLog) -> np.ndarray:
    block_ns = 1e9 * log.callbacks["frames"] / log.rate_hz
    return np.where(block_ns > 0, 100.0 * log.callbacks["busy_ns"] / np.maximum(block_ns, 1.0), 0.0)


def _mark(axes: Any, log: CallbackLog, seconds: np.ndarray, xruns: list[Xrun], labelled: bool) -> None:
    seen: set[str] = set()
    places = dict(zip(log.callbacks["at_frame"].tolist(), seconds.tolist(), strict=True))
    for xrun in xruns:
        label = f"xrun: {xrun.cause}" if labelled and xrun.cause not in seen else None
        seen.add(xrun.cause)
        axes.axvline(places[xrun.at_frame], color=_COLOURS[xrun.cause], alpha=0.7, linewidth=1, label=label)


def _draw_loads(axes: Any, log: CallbackLog, seconds: np.ndarray, xruns: list[Xrun]) -> None:
    loads = _loads(log)
    top = max(110.0, 1.1 * float(loads.max())) if len(loads) else 110.0
    swapping = (log.callbacks["doing"] & _SWAPPING) != 0
    axes.fill_between(
        seconds, 0, top, where=swapping, color="0.85", step="post", linewidth=0, label="models swapping"
    )
    axes.plot(seconds, loads, linewidth=0.6, color="C0")
    axes.axhline(100.0, color="0.4", linewidth=0.8, linestyle="--")
    _mark(axes, log, seconds, xruns, labelled=True)
    axes.set_ylim(0, top)
    _label(axes, "Time in the callback", "seconds before the end", "% of the block")
    axes.legend(loc="upper left", fontsize=8)


def _draw_lateness(axes: Any, log: CallbackLog, seconds: np.ndarray, xruns: list[Xrun]) -> None:
    block_ns = 1e9 * log.callbacks["frames"].astype(np.float64) / log.rate_hz
    axes.plot(seconds, lateness(log.callbacks, block_ns) / 1e6, linewidth=0.6, color="C0")
    _mark(axes, log, seconds, xruns, labelled=False)
    axes.set_ylim(bottom=0)
    _label(axes, "How much later than a block after the one before it began", "seconds before the end", "ms")


def _draw_histogram(axes: Any, log: CallbackLog) -> None:
    used = np.flatnonzero(log.load_counts)
    if len(used):
        first, last = used[0], used[-1] + 1
        edges = 100.0 * log.load_edges[first : last + 1]
        axes.stairs(log.load_counts[first:last], edges, fill=True, color="C0")
        axes.set_xscale("log")
        ticks = [tick for tick in _TICKS if edges[0] <= tick <= max(edges[-1], 100.0)]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    axes.axvline(100.0, color="0.4", linewidth=0.8, linestyle="--")
    _label(axes, "All callbacks of the session", "% of the block", "callbacks")


def _label(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)
