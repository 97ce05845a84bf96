"""A picture of two takes: their shapes, levels over time, and spectra, and what is left between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audiofile import PathLike
from ..plot import picture
from .measuring import Comparison
from .profiles import Profile

Real = NDArray[np.float64]

_LEAST_DB, _RANGE_DB = -180.0, 120.0
_COLUMNS = 2000
_NAME_LETTERS = 50
_COLOURS = ("C0", "C1", "C3", "C2")
_TICKS_HZ = {20: "20", 50: "50", 100: "100", 200: "200", 500: "500", 1000: "1k", 2000: "2k", 5000: "5k"}
_TICKS_HZ |= {10000: "10k", 20000: "20k", 50000: "50k"}


def plot_comparison(found: Comparison, path: PathLike, *, overwrite: bool = False) -> None:
    """Draw a comparison.

    Parameters
    ----------
    found : Comparison
        Made with ``with_profile=True``.
    path : str or path
        A name that ends in ``.png``, ``.svg`` or ``.pdf``.
    overwrite : bool

    Raises
    ------
    MissingDependency
        matplotlib is not installed.
    AudioFileError, FileExists
        The file cannot be written, is of another kind, or exists.
    ValueError
        The comparison has no profile.
    """
    if found.profile is None:
        raise ValueError("the comparison was made without a profile")
    with picture(Path(path), overwrite) as figure:
        draw(figure, found, found.profile)


def draw(figure: Any, found: Comparison, profile: Profile) -> None:
    """Draw on a figure of matplotlib's."""
    names = [_shown(name) for name in (found.a_name, found.b_name)]
    figure.suptitle(f"A: {names[0]}\nB: {names[1]}", fontsize=12)
    aligned = None if found.aligned is None else found.aligned.profile
    # The same picture twice over would say nothing.
    aligned = None if found.delay_frames == 0.0 and found.polarity != -1 else aligned
    shapes, levels, spectra = (figure.add_subplot(3, 1, row) for row in (1, 2, 3))
    _draw_shapes(shapes, profile)
    _draw_levels(levels, profile, aligned)
    _draw_spectra(spectra, profile, aligned)


def _shown(name: str) -> str:
    """A name as it fits into a title: its end says most. Dollar signs would be set as mathematics."""
    shown = "".join(c if c.isprintable() else " " for c in name)
    shown = shown if len(shown) <= _NAME_LETTERS else f"…{shown[-_NAME_LETTERS:]}"
    return shown.replace("$", r"\$")


def _draw_shapes(axes: Any, profile: Profile) -> None:
    group = _group(profile)
    seconds = _seconds(profile, group)
    for row, name in enumerate("AB"):
        low, high = (
            _grouped(profile.lowest[row], group, np.min),
            _grouped(profile.highest[row], group, np.max),
        )
        # One bin is a line as wide as it is long.
        axes.fill_between(
            seconds, low, high, color=_COLOURS[row], alpha=0.55, linewidth=0.3, step="mid", label=name
        )
    axes.set_xlim(*_span(profile))
    _label(axes, "Samples, from the lowest to the highest", "seconds", "1 is full scale")


def _draw_levels(axes: Any, profile: Profile, aligned: Profile | None) -> None:
    span = f"{1e3 * profile.bin_seconds * _group(profile):g} ms"
    top = _draw_lines(axes, profile, aligned, over_time=True)
    axes.set_ylim(max(_LEAST_DB, top - _RANGE_DB), top + 6.0)
    axes.set_xlim(*_span(profile))
    _label(axes, f"Level over {span} at a time", "seconds", "dBFS (RMS)")


def _draw_spectra(axes: Any, profile: Profile, aligned: Profile | None) -> None:
    top = _draw_lines(axes, profile, aligned, over_time=False)
    axes.set_ylim(max(_LEAST_DB, top - _RANGE_DB), top + 6.0)
    axes.set_xscale("log")
    highest = float(profile.hz[-1])
    axes.set_xlim(min(20.0, highest / 2.0), highest)
    ticks = {hz: text for hz, text in _TICKS_HZ.items() if hz <= highest}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xticks([], minor=True)
    _label(
        axes, "Spectrum, mean of the take", "frequency in Hz", "dB (a sine at full scale: \N{MINUS SIGN}3)"
    )


def _draw_lines(axes: Any, profile: Profile, aligned: Profile | None, *, over_time: bool) -> float:
    """Draw A, B and what is left; return the highest level."""
    lines = list(zip("AB", (profile, profile), (0, 1), strict=True))
    lines.append(("A less B" + (", as they are" if aligned is not None else ""), profile, 2))
    if aligned is not None:
        lines.append(("A less B, aligned", aligned, 2))
    top = _LEAST_DB + _RANGE_DB
    for (name, source, row), colour in zip(lines, _COLOURS, strict=False):
        if over_time:
            group = _group(source)
            x, powers = _seconds(source, group), _grouped(source.powers[row], group, np.mean)
        else:
            x, powers = source.hz[1:], source.spectra[row][1:]
        shown = _db(powers)
        axes.plot(x, shown, color=colour, linewidth=1.0, label=name)
        top = max(top, float(np.max(shown, initial=_LEAST_DB)))
    return top


def _db(powers: Real) -> Real:
    """In dB; what is silent lies below the frame."""
    return np.asarray(10.0 * np.log10(np.maximum(powers, 1e-40)))


def _group(profile: Profile) -> int:
    """Bins that share a column of the picture."""
    return max(1, -(-len(profile.powers[0]) // _COLUMNS))


def _grouped(values: Real, group: int, how: Any) -> Real:
    edges = range(0, len(values), group)
    return np.array([how(values[at : at + group]) for at in edges])


def _seconds(profile: Profile, group: int) -> Real:
    """The middle of each group."""
    count = -(-len(profile.powers[0]) // group)
    return np.asarray(profile.start_seconds + (np.arange(count) + 0.5) * (profile.bin_seconds * group))


def _span(profile: Profile) -> tuple[float, float]:
    return profile.start_seconds, profile.start_seconds + len(profile.powers[0]) * profile.bin_seconds


def _label(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="upper right", fontsize=8, ncols=2)
