"""What a live session shows of itself, drawn as text: meters, bars, a needle; nothing here knows a terminal.

A line is made of pieces, which are text and the name of a style; `STYLES` lists the names. What models and
devices say of themselves is taken literally.
"""

from __future__ import annotations

import math
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..text import one_line
from .status import HostStats, dbfs
from .tuner import Pitch

Piece = tuple[str, str]
Line = list[Piece]

#: Names of styles: plain, less and more conspicuous, three grades of warning, those on the ground of a bar,
#: what is chosen, and what is switched on.
STYLES = (
    *("", "dim", "strong", "accent", "good", "warn", "bad", "alarm"),
    *("bar", "bar-good", "bar-warn", "bar-bad", "bar-accent", "bar-dim", "chosen", "on"),
)

#: Range of a level meter, and from where on a level is high, and very high.
LOWEST_DB, HIGH_DB, VERY_HIGH_DB = -60.0, -12.0, -3.0
#: How fast a meter falls, and how long the mark of a peak stays.
FALL_DB_PER_SECOND, HOLD_SECONDS = 30.0, 2.0
#: From this load on there is little time left, and hardly any.
HIGH_LOAD, VERY_HIGH_LOAD = 0.5, 0.8
#: Within so many cents a string is in tune.
IN_TUNE_CENTS = 3.0
#: What is so close below full scale counts as having reached it, where the host has counted a clip.
_NEARLY_FULL = 0.99

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTHS = " ▁▂▃▄▅▆▇█"


def cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Text as one line of exactly so many columns: cut, with an ellipsis, or filled up."""
    text = one_line(text)
    if cells(text) > width:
        kept, used = [], 0
        for character in text:
            used += _cells_of(character)
            if used > width - 1:
                break
            kept.append(character)
        text = "".join(kept) + "…" * min(width, 1)
    blank = " " * (width - cells(text))
    return blank + text if right else text + blank


def folded(text: str, width: int) -> list[str]:
    """Text in as many lines of at most so many columns as it needs, broken between words where it can be."""
    lines, line = [], ""
    for word in one_line(text).split():
        if line and cells(line) + 1 + cells(word) <= width:
            line += " " + word
            continue
        lines += [line] if line else []
        line = ""
        for character in word:  # of which few are longer than a line
            if line and cells(line + character) > width:
                lines.append(line)
                line = ""
            line += character
    return [*lines, line] if line else lines


def length(line: Iterable[Piece]) -> int:
    """Columns of a line."""
    return sum(cells(text) for text, _ in line)


def cut(line: Iterable[Piece], width: int) -> Line:
    """A line, at most so many columns of it."""
    kept: Line = []
    for text, style in line:
        room = width - length(kept)
        if cells(text) > room:
            return [*kept, (fit(text, room), style)] if room > 0 else kept
        kept.append((text, style))
    return kept


def window(count: int, chosen: int, height: int) -> range:
    """Which of so many rows to show, so that the chosen one is among them, in the middle if it can be."""
    first = max(0, min(chosen - height // 2, count - height))
    return range(first, min(count, first + height))


class Meter:
    """A level that jumps up and falls slowly, the highest of the last two seconds, and a clip light."""

    def __init__(self) -> None:
        self.level_db = self.held_db = -math.inf
        self.clipped = False
        self._held_at = self._at = -math.inf

    def update(self, peak: float, at_seconds: float) -> None:
        """Take the largest magnitude since the last update."""
        level_db = dbfs(peak)
        fallen_db = FALL_DB_PER_SECOND * (at_seconds - self._at)
        self.level_db = max(level_db, self.level_db - fallen_db) if math.isfinite(self.level_db) else level_db
        if self.level_db < LOWEST_DB:
            self.level_db = -math.inf
        if level_db >= self.held_db or at_seconds - self._held_at > HOLD_SECONDS:
            self.held_db, self._held_at = self.level_db, at_seconds
        self._at = at_seconds


class Meters:
    """All meters of a session, by row of the engine."""

    def __init__(self) -> None:
        self.inputs: list[Meter] = []
        self.outputs: list[Meter] = []
        self._clips = [0, 0]

    def update(self, stats: HostStats, at_seconds: float) -> None:
        """Take what the host has seen since the last update."""
        self.inputs = _as_many(self.inputs, len(stats.input_peaks))
        self.outputs = _as_many(self.outputs, len(stats.output_peaks))
        ways = (
            (self.inputs, stats.input_peaks, stats.input_clips),
            (self.outputs, stats.output_peaks, stats.output_clips),
        )
        for way, (meters, peaks, clips) in enumerate(ways):
            # The host says that something has clipped; which row it was, its peak must tell.
            loudest = max(peaks, default=0.0)
            full = min(_NEARLY_FULL, loudest) if clips > self._clips[way] else math.inf
            self._clips[way] = clips
            for meter, peak in zip(meters, peaks, strict=True):
                meter.update(peak, at_seconds)
                meter.clipped |= peak > 1.0 or peak >= full

    def clear(self) -> None:
        """Put out all clip lights."""
        for meter in (*self.inputs, *self.outputs):
            meter.clipped = False


def _as_many(meters: list[Meter], count: int) -> list[Meter]:
    return [*meters[:count], *(Meter() for _ in range(count - len(meters)))]


def place(level_db: float) -> float:
    """Where a level is on a meter, 0 to 1."""
    return min(max((level_db - LOWEST_DB) / -LOWEST_DB, 0.0), 1.0)


def filled(share: float, width: int, bounds: Sequence[tuple[float, str]]) -> Line:
    """A bar that is filled to a share, in eighths of a cell.

    Parameters
    ----------
    share : float
    width : int
    bounds : sequence of (float, str)
        Up to which share of the width which style is used, ascending; the last is 1.
    """
    eighths = round(8 * width * min(max(share, 0.0), 1.0))
    drawn: Line = []
    start = 0
    for bound, style in bounds:
        stop = max(start, round(bound * width))
        text = "".join(_EIGHTHS[min(max(eighths - 8 * cell, 0), 8)] for cell in range(start, stop))
        if text:
            drawn.append((text, style))
        start = stop
    return drawn


def marked(bar: Line, cell: int, mark: Piece) -> Line:
    """A bar with one of its cells replaced."""
    drawn: Line = []
    start = 0
    for text, style in bar:
        at = cell - start
        if 0 <= at < len(text):
            pieces = ((text[:at], style), mark, (text[at + 1 :], style))
            drawn += [piece for piece in pieces if piece[0]]
        else:
            drawn.append((text, style))
        start += len(text)
    return drawn


def meter_bar(level_db: float, held_db: float, width: int) -> Line:
    """A level, green to red, and the mark of the last peak."""
    zones = ((place(HIGH_DB), "bar-good"), (place(VERY_HIGH_DB), "bar-warn"), (1.0, "bar-bad"))
    bar = filled(place(level_db), width, zones)
    if place(held_db) <= 0.0 or width < 1:
        return bar
    style = "bar-good" if held_db < HIGH_DB else "bar-warn" if held_db < VERY_HIGH_DB else "bar-bad"
    return marked(bar, min(int(place(held_db) * width), width - 1), ("▐", style))


def meter_line(label: str, meter: Meter, width: int) -> Line:
    """A labelled meter with its peak in dBFS, and its clip light."""
    number = f"{meter.held_db:.1f}" if meter.held_db >= LOWEST_DB else "-∞"
    light = ("CLIP", "alarm") if meter.clipped else ("clip", "dim")
    bar = meter_bar(meter.level_db, meter.held_db, max(0, width - 17))
    return [(fit(label, 5) + " ", "dim"), *bar, (fit(number, 6, right=True), "strong"), (" ", ""), light]


def meter_scale(width: int) -> Line:
    """Levels beneath meters of a width."""
    bar = max(0, width - 17)
    scale = [" "] * bar
    for level_db in (-60, -48, -36, -24, -12, -6, 0):
        text = f"{level_db}"
        # The label's last digit is where the level is; the first begins there, for want of room.
        start = min(max(round(place(level_db) * bar) - len(text), 0), max(bar - len(text), 0))
        if bar >= len(text) and all(
            scale[max(start - 1, 0) : start + len(text)][at] == " " for at in range(len(text))
        ):
            scale[start : start + len(text)] = text
    return [(" " * 6 + "".join(scale), "dim")]


class LoadHistory:
    """The worst load of every quarter of a second for some minutes, and a calm mean for reading."""

    SLOT_SECONDS = 0.25

    def __init__(self) -> None:
        self.mean = self.worst = 0.0
        self._slots: deque[tuple[int, float]] = deque(maxlen=2000)
        self._at: float | None = None

    def update(self, mean: float, worst: float, at_seconds: float) -> None:
        """Take mean and worst load since the last update."""
        passed = 1.0 if self._at is None else max(0.0, at_seconds - self._at)
        self._at = at_seconds
        self.mean += (mean - self.mean) * min(1.0, 2.0 * passed)
        slot = int(at_seconds / self.SLOT_SECONDS)
        if self._slots and self._slots[-1][0] == slot:
            self._slots[-1] = (slot, max(worst, self._slots[-1][1]))
        else:
            self._slots.append((slot, worst))
        self.worst = max(load for at, load in list(self._slots)[-8:] if at > slot - 8)

    def last(self, width: int) -> tuple[list[float | None], float]:
        """The worst loads of at least the last minute, a cell each, None where unknown; seconds of a cell."""
        step = 1
        while step * self.SLOT_SECONDS * max(width, 1) < 60.0:
            step *= 2
        found: list[float | None] = [None] * width
        if not self._slots:
            return found, step * self.SLOT_SECONDS
        # Cells begin at whole multiples of their length: what has been drawn moves, but keeps its height.
        newest = self._slots[-1][0] // step
        for slot, load in self._slots:
            cell = width - 1 - (newest - slot // step)
            if 0 <= cell < width:
                found[cell] = max(load, found[cell] or 0.0)
        return found, step * self.SLOT_SECONDS


def load_style(load: float) -> str:
    """Green, amber or red."""
    return "good" if load < HIGH_LOAD else "warn" if load < VERY_HIGH_LOAD else "bad"


def sparkline(loads: Sequence[float | None], height: int) -> list[Line]:
    """Columns from 0 to 1, in eighths of a cell, the topmost line first."""
    lines: list[Line] = []
    for row in reversed(range(height)):
        line: Line = []
        for load in loads:
            # What has been measured shows, be it ever so small.
            eighths = 0 if load is None else max(1, round(8 * height * min(load, 1.0)))
            piece = _HEIGHTHS[min(max(eighths - 8 * row, 0), 8)]
            style = "" if load is None else load_style(load)
            if line and line[-1][1] == style:
                line[-1] = (line[-1][0] + piece, style)
            else:
                line.append((piece, style))
        lines.append(line)
    return lines


def load_line(history: LoadHistory, width: int) -> Line:
    """The load as number and bar, and the worst of the last two seconds."""
    bounds = ((HIGH_LOAD, "bar-good"), (VERY_HIGH_LOAD, "bar-warn"), (1.0, "bar-bad"))
    size = max(0, width - 18)
    bar = filled(history.mean, size, bounds)
    if size:
        worst = min(int(history.worst * size), size - 1)
        bar = marked(bar, worst, ("▐", f"bar-{load_style(history.worst)}"))
    after = (fit(f"worst {percent(history.worst)}", 12, right=True), load_style(history.worst))
    return [(fit(percent(history.mean), 5, right=True), "strong"), (" ", ""), *bar, after]


def percent(share: float) -> str:
    """Such as ``12 %``."""
    return f"{100.0 * share:.0f} %"


def knob_bar(share: float, default: float, width: int, chosen: bool) -> Line:
    """A slider at a share of its way, with a mark at its default."""
    if width < 1:
        return []
    at, rest = (min(max(round(each * (width - 1)), 0), width - 1) for each in (share, default))
    drawn = marked(
        [("━" * at, "accent"), ("─" * (width - at), "dim")], rest, ("┷" if rest < at else "┴", "dim")
    )
    return marked(drawn, at, ("●", "accent" if chosen else "strong"))


def needle(cents: float | None, width: int) -> Line:
    """Where between a quarter tone flat and sharp a string is."""
    width -= 1 - width % 2  # a middle
    if width < 3:
        return []
    middle = width // 2
    scale = "".join("┼" if at % max(1, middle // 2) == 0 else "─" for at in range(middle + 1))
    line: Line = [(scale[:0:-1] + "┼" + scale[1:], "dim")]
    line = marked(line, middle, ("╋", "strong"))
    if cents is None:
        return line
    at = min(max(round(middle + cents / 50.0 * middle), 0), width - 1)
    return marked(line, at, ("█", tune_style(cents)))


def tune_style(cents: float) -> str:
    """Green in tune, amber not far from it, red elsewhere."""
    return "good" if abs(cents) <= IN_TUNE_CENTS else "warn" if abs(cents) <= 15.0 else "bad"


def tuner_lines(pitch: Pitch | None, width: int, height: int) -> list[Line]:
    """Note, cents, frequency and needle, on one line or two."""
    if pitch is None:
        said: Line = [(fit("--", 4), "dim"), (fit("play a note", 22), "dim")]
    else:
        style = tune_style(pitch.cents)
        hint = "in tune" if style == "good" else "too low" if pitch.cents < 0 else "too high"
        said = [
            (fit(pitch.note, 4), style if style == "good" else "strong"),
            (fit(f"{pitch.cents:+.0f} ct", 7, right=True), style),
            (" " + fit(hint, 9), style),
            (fit(f"{pitch.hz:.1f} Hz", 9, right=True), "dim"),
        ]
    cents = pitch.cents if pitch else None
    if height >= 2:
        return [said, [("♭ ", "dim"), *needle(cents, width - 4), (" ♯", "dim")]]
    return [[*said[:2], (" ", ""), *needle(cents, width - length(said[:2]) - 1)]]


@dataclass(frozen=True)
class Item:
    """What a key does: shown at the bottom, to be clicked on."""

    key: str
    text: str
    action: str

    @property
    def shown(self) -> str:
        """Key and text, with spaces around."""
        return f" {self.key} {self.text} " if self.text else f" {self.key} "

    @property
    def size(self) -> int:
        """Columns."""
        return cells(self.shown)


def wrapped(items: Iterable[Item], width: int) -> list[list[tuple[int, Item]]]:
    """Items in as many lines as they need, with the column that each begins at."""
    lines: list[list[tuple[int, Item]]] = [[]]
    column = 0
    for item in items:
        if column and column + item.size > width:
            lines.append([])
            column = 0
        lines[-1].append((column, item))
        column += item.size
    return lines


def keys_line(line: Iterable[tuple[int, Item]], lit: Iterable[str]) -> Iterator[Piece]:
    """Pieces of one line of `wrapped`; what is switched on is lit."""
    lit = set(lit)
    for _, item in line:
        if item.key in lit:
            # Nothing but its name is lit: neighbours stay apart.
            yield " ", ""
            yield item.shown[1:-1], "on"
            yield " ", ""
        else:
            yield f" {item.key}", "accent"
            yield item.shown[1 + len(item.key) :], ""
