"""A picture of what a model does; sole importer of matplotlib, which is optional."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from .engine import Model
from .errors import AudioFileError, MissingDependency
from .measure import frequency_response, harmonics, rate_of, transfer
from .pending import PendingFile, reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .bench import Result

#: Peaks of what goes in, in dBFS.
RESPONSE_LEVELS = (-60.0, -40.0, -20.0, -6.0)
TRANSFER_LEVELS = (0.0, -12.0)
HARMONIC_LEVELS = np.arange(-60.0, 0.1, 2.0)

_FORMATS = ("png", "svg", "pdf")
_NAME_LETTERS = 60
_TITLE_LETTERS = 90
_SILENT_DB = -120.0
_RANGE_DB = 60.0
_TICKS_HZ = {20: "20", 50: "50", 100: "100", 200: "200", 500: "500", 1000: "1k", 2000: "2k", 5000: "5k"}
_TICKS_HZ |= {10000: "10k", 20000: "20k"}


def plot(model: Model, path: str | Path, *, overwrite: bool = False) -> None:
    """Draw frequency response, transfer curve and harmonics into a file.

    Parameters
    ----------
    model : Model
        One channel in, one out, at one rate; with its knobs at their defaults.
    path : str or path
        A name that ends in ``.png``, ``.svg`` or ``.pdf``.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    MissingDependency
        matplotlib is not installed.
    ModelError
        The model has other channels or another rate, or puts out something that is no number.
    AudioFileError, FileExists
        The file cannot be written, is of another kind, or exists.
    """
    target = Path(path)
    _check_kind(target)
    rate_of(model)
    figure = _figure()
    with _saved(figure, target, overwrite):
        _draw(figure, model)


def plot_benchmarks(found: Sequence[Result], path: str | Path, *, overwrite: bool = False) -> None:
    """Draw what share of a core's multiply-adds models make use of, over the size of blocks.

    Parameters
    ----------
    found : sequence of bench.Result
    path, overwrite
        As for `plot`, which also says what is raised.
    """
    target = Path(path)
    _check_kind(target)
    figure = _figure()
    with _saved(figure, target, overwrite):
        _draw_benchmarks(figure.add_subplot(), found)
        figure.suptitle(f"{_short(found[0].machine)}, one thread".replace("$", r"\$"), fontsize=14)


@contextmanager
def picture(path: Path, overwrite: bool) -> Iterator[Any]:
    """A figure for others to draw on; written when they have, whole or not at all.

    Parameters
    ----------
    path, overwrite
        As for `plot`, which also says what is raised.
    """
    _check_kind(path)
    figure = _figure()
    with _saved(figure, path, overwrite):
        yield figure


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise what `plot_benchmarks` would, before the time has been spent on what it draws."""
    _check_kind(path)
    _figure()
    PendingFile(path, overwrite=overwrite).discard()


def _check_kind(path: Path) -> None:
    if path.suffix.lower().removeprefix(".") not in _FORMATS:
        raise AudioFileError(f"{path}: cannot be drawn: expected a name ending in .png, .svg or .pdf")


@contextmanager
def _saved(figure: Any, target: Path, overwrite: bool) -> Iterator[None]:
    """Let a figure be drawn and then write it; a file is there whole or not at all."""
    pending = PendingFile(target, overwrite=overwrite)
    try:
        yield
        try:
            with warnings.catch_warnings():
                # Letters of a name that the font lacks are boxes in the picture, where they can be seen.
                warnings.filterwarnings("ignore", "Glyph .* missing from font")
                figure.savefig(pending.temporary, format=target.suffix.lower().removeprefix("."), dpi=150)
        except OSError as error:
            raise AudioFileError(f"{target}: cannot be written: {reason(error)}") from error
        pending.commit()
    finally:
        pending.discard()


def _figure() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            'a plot needs matplotlib, which is not installed: pip install "backline[plot]"'
        ) from error
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw(figure: Any, model: Model) -> None:
    said = "" if model.sample_rate_hz else " (assumed: the file does not say)"
    knobs = "".join(f", {_short(knob.name)} {knob.default:g}" for knob in model.knobs.values())
    title = f"{_short(model.name)}{knobs}, at {rate_of(model):g} Hz{said}"
    # What stands between two dollar signs would be set as mathematics.
    figure.suptitle("\n".join(wrap(title, _TITLE_LETTERS)).replace("$", r"\$"), fontsize=14)
    grid = figure.add_gridspec(2, 2)
    _draw_response(figure.add_subplot(grid[0, :]), model)
    _draw_transfer(figure.add_subplot(grid[1, 0]), model)
    _draw_harmonics(figure.add_subplot(grid[1, 1]), model)


def _draw_response(axes: Axes, model: Model) -> None:
    top = -np.inf
    shades, widths = _shades(len(RESPONSE_LEVELS)), np.linspace(2.8, 1.2, len(RESPONSE_LEVELS))
    for level, colour, width in zip(RESPONSE_LEVELS, shades, widths, strict=True):
        found = frequency_response(model, level)
        # Where a model does not distort, curves lie on each other: the wider ones below stay visible.
        axes.semilogx(found.hz, found.db, color=colour, linewidth=width, label=f"{_signed(level)} dBFS")
        top = max(top, float(found.db.max()))
    if np.isfinite(top):
        axes.set_ylim(max(axes.get_ylim()[0], top - _RANGE_DB), top + 3.0)
    axes.set_xlim(20.0, 20000.0)
    axes.set_xticks(list(_TICKS_HZ), list(_TICKS_HZ.values()))
    axes.set_xticks([], minor=True)
    _label(axes, "Frequency response, by peak of the sweep that goes in", "frequency in Hz", "gain in dB")
    axes.legend(loc="best", ncols=2)


def _draw_transfer(axes: Axes, model: Model) -> None:
    shades = _shades(len(TRANSFER_LEVELS))[::-1]
    for level, colour in zip(TRANSFER_LEVELS, shades, strict=True):
        found = transfer(model, level)
        x, y = (np.append(each, each[0]) for each in (found.x, found.y))
        late = -found.shift_ms
        when = f", {abs(late):.2f} ms {'late' if late > 0 else 'early'}" if abs(late) >= 0.005 else ""
        axes.plot(x, y, color=colour, label=f"{_signed(level)} dBFS{when}")
        title = f"Transfer curve, one cycle of a {found.hz:.0f} Hz sine, aligned in phase"
    axes.ticklabel_format(useOffset=False)
    # The lines of zero are not worth squeezing a curve for that is far from them.
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.axvline(0.0, color="0.7", linewidth=0.8, zorder=0)
    _label(axes, title, "in (1 is full scale)", "out")
    axes.legend(loc="best", fontsize=8)


def _draw_harmonics(axes: Axes, model: Model) -> None:
    found = harmonics(model, HARMONIC_LEVELS)
    shades = _shades(len(found.dbfs) - 1)
    for number, row in enumerate(found.dbfs, 1):
        heard = np.where(np.isfinite(row), row, np.nan)
        if not np.any(heard > _SILENT_DB):
            continue
        style = "-" if number % 2 else "--"
        colour, width = ("black", 2.0) if number == 1 else (shades[number - 2], 1.2)
        axes.plot(found.levels_dbfs, heard, style, color=colour, linewidth=width, label=str(number))
    heard = found.dbfs[found.dbfs > _SILENT_DB]
    axes.set_ylim(_SILENT_DB, (float(heard.max()) if heard.size else 0.0) + 6.0)
    axes.set_xlim(found.levels_dbfs[0], found.levels_dbfs[-1])
    _label(axes, f"Harmonics of a {found.hz:.0f} Hz tone", "tone in, peak in dBFS", "out, peak in dBFS")
    if axes.lines:
        axes.legend(loc="best", ncols=3, fontsize=8, title="harmonic", title_fontsize=8)


def _draw_benchmarks(axes: Axes, found: Sequence[Result]) -> None:
    by_line: dict[tuple[str, str], list[Result]] = {}
    for each in found:
        by_line.setdefault((each.model, each.isa), []).append(each)
    for ((model, isa), line), colour in zip(by_line.items(), _shades(len(by_line)), strict=True):
        frames = [each.block_frames for each in line]
        low, high = ([getattr(e, f"percent_of_peak_{end}") for e in line] for end in ("low", "high"))
        axes.fill_between(frames, low, high, color=colour, alpha=0.15, linewidth=0)
        label = f"{_short(model)}, {isa}".replace("$", r"\$")
        axes.plot(frames, [e.percent_of_peak for e in line], "o-", color=colour, label=label)
    sizes = sorted({each.block_frames for each in found})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(0.0, max(100.0, *axes.get_ylim()))
    _label(axes, "Multiply-adds done of those possible; shaded: lowest to highest", "frames per block", "%")
    axes.legend(loc="best", fontsize=8)


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color="0.9")


def _signed(level: float) -> str:
    """A number with the minus sign that the axes have."""
    return f"{level:g}".replace("-", "\N{MINUS SIGN}")


def _short(name: str) -> str:
    """A name as it fits into a title, without what does not print."""
    shown = "".join(c if c.isprintable() else " " for c in name)
    return shown if len(shown) <= _NAME_LETTERS else f"{shown[:_NAME_LETTERS]}…"


def _shades(count: int) -> list[Any]:
    """Colours from dark to light."""
    from matplotlib import colormaps

    return [colormaps["viridis"](place) for place in np.linspace(0.0, 0.85, count)]
