"""What a screen says of a live session, in lines of text, and how its room is shared; no terminal here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..text import one_line
from .gauges import Item, Line, cells, cut, fit, folded, knob_bar, length, percent
from .status import HostStats, LiveStatus, ModelView

#: The ends of a gain's bar, in dB; what is set elsewhere may lie beyond them.
GAIN_DB = 40.0
GAIN_STEP_DB = 0.5
#: Steps from one end of a knob to the other.
KNOB_STEPS = 50
#: How much larger a coarse step is, and smaller a fine one.
COARSE = 5.0

#: What keys do, to be clicked on as well.
ITEMS = (
    Item("n", "next", "do('play_next', 1)"),
    Item("p", "prev", "do('play_next', -1)"),
    Item("↑", "", "do('choose', -1)"),
    Item("↓", "knob", "do('choose', 1)"),
    Item("←", "", "do('turn', -1)"),
    Item("→", "turn", "do('turn', 1)"),
    Item("d", "reset", "do('restore')"),
    Item("b", "bypass", "do('bypass')"),
    Item("r", "record", "do('record')"),
    Item("t", "tuner", "do('tuner')"),
    Item("c", "clips", "do('clear')"),
    Item("?", "help", "help"),
    Item("q", "quit", "leave"),
)

HELP = (
    ("n / p, page down / up", "next or previous model"),
    ("1 to 9", "that model"),
    ("↑ / ↓", "choose a knob, or a level"),
    ("← / →, - / +", "turn it"),
    ("shift + ← / →", "turn it finely"),
    ("< / >", "turn it coarsely"),
    ("0, d", "back to its default"),
    ("b", "bypass: hear the input itself"),
    ("r", "begin or end a recording"),
    ("t", "tuner on or off; mutes nothing"),
    ("c", "put out the clip lights"),
    ("q, escape, ctrl + c", "end the session"),
    ("mouse", "models, bars, wheel, keys below"),
)


@dataclass(frozen=True)
class Control:
    """Something to be turned: the input gain, a knob of the model that plays, or its level.

    Attributes
    ----------
    kind : {"input gain", "knob", "level"}
    name : str
    value, default, minimum, maximum, step : float
    unit : str
    """

    kind: Literal["input gain", "knob", "level"]
    name: str
    value: float
    default: float
    minimum: float
    maximum: float
    step: float
    unit: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others of the same model."""
        return self.kind, self.name

    @property
    def share(self) -> float:
        """How far it is turned, 0 to 1."""
        return self.share_of(self.value)

    def share_of(self, value: float) -> float:
        """How far it would be turned at a value."""
        span = self.maximum - self.minimum
        return min(max((value - self.minimum) / span, 0.0), 1.0) if span > 0.0 else 0.0

    def turned(self, steps: float) -> float:
        """Its value so many steps on."""
        return self._allowed(self.value + steps * self.step)

    def at(self, share: float) -> float:
        """Its value at a share of its way, to a fifth of a step."""
        fine = self.step / COARSE
        value = self.minimum + min(max(share, 0.0), 1.0) * (self.maximum - self.minimum)
        return self._allowed(
            self.minimum + round((value - self.minimum) / fine) * fine if fine > 0 else value
        )

    def _allowed(self, value: float) -> float:
        """Within its range, or where it is beyond that; without the tail that adding of steps leaves."""
        if self.step > 0.0:
            value = round(value, 4 - math.floor(math.log10(self.step)))
        return min(max(value, min(self.minimum, self.value)), max(self.maximum, self.value))

    def shown(self) -> str:
        """Its value as text, to a fine step."""
        if self.unit == "dB":
            return f"{self.value:+.1f} dB"
        span = self.maximum - self.minimum
        places = min(max(2 - math.floor(math.log10(span)), 0), 6) if span > 0.0 else 2
        return f"{self.value:.{places}f}" if abs(self.value) < 1e6 else f"{self.value:.4g}"


def playing(status: LiveStatus) -> ModelView | None:
    """The model that is heard, or about to be."""
    return status.models[status.playing] if 0 <= status.playing < len(status.models) else None


def controls_of(status: LiveStatus) -> list[Control]:
    """Input gain, the playing model's knobs, its level."""
    gain = Control(
        "input gain", "input gain", status.input_gain_db, 0.0, -GAIN_DB, GAIN_DB, GAIN_STEP_DB, "dB"
    )
    model = playing(status)
    if model is None:
        return [gain]
    knobs = [
        Control(
            "knob",
            knob.name,
            model.values.get(knob.name, knob.default),
            knob.default,
            knob.minimum,
            knob.maximum,
            (knob.maximum - knob.minimum) / KNOB_STEPS,
        )
        for knob in model.knobs
    ]
    return [gain, *knobs, replace(gain, kind="level", name="level", value=model.output_gain_db)]


#: Columns of a control's name, and of its value; between them is the bar.
VALUE_COLUMNS = 9


def name_columns(width: int) -> int:
    """How much of a line the name of a control takes."""
    return min(18, max(8, width // 3))


def bar_of(width: int) -> tuple[int, int]:
    """Where the bar of a control begins in its line, and how wide it is."""
    start = 2 + name_columns(width) + 1
    return start, max(0, width - start - VALUE_COLUMNS)


def control_line(control: Control, width: int, chosen: bool) -> Line:
    """Name, bar, value."""
    name_style = "chosen" if chosen else ""
    _, bar = bar_of(width)
    return [
        ("▸ " if chosen else "  ", "accent"),
        (fit(control.name, name_columns(width)), name_style),
        (" ", ""),
        *knob_bar(control.share, control.share_of(control.default), bar, chosen),
        (fit(control.shown(), VALUE_COLUMNS, right=True), "strong" if chosen else ""),
    ]


def model_lines(status: LiveStatus, width: int) -> list[tuple[int, Line]]:
    """The models, and what is the matter with them; with each line the model's index."""
    lines: list[tuple[int, Line]] = []
    for index, model in enumerate(status.models):
        here = index == status.playing
        mark = ("⇄ " if status.swapping else "▶ ") if here else "  "
        style = "bad" if model.problem is not None else "chosen" if here else ""
        said = "" if model.loudness_db is None else f"{model.loudness_db:.1f} LUFS"
        if here and status.swapping:
            said = "swapping"
        room = max(0, width - 5 - (cells(said) + 1 if said else 0))
        number = f"{index + 1:>2} "
        line = [(mark, "good"), (number, "dim"), (fit(model.name, room), style)]
        if said:
            line.append((f" {said}", "warn" if here and status.swapping else "dim"))
        lines.append((index, line))
        if model.problem is not None:
            lines.append((index, [(fit(f"     {model.problem}", width), "bad")]))
    return lines


def session_lines(status: LiveStatus, width: int) -> list[Line]:
    """Latency, xruns, what was guarded against, and devices; the most important first."""
    model = playing(status)
    stats = status.stats
    parts = [("in", status.input_latency_ms), ("out", status.output_latency_ms)]
    if model is not None and model.latency_ms > 0.0:
        parts.append(("model", model.latency_ms))
    made_of = ", ".join(f"{name} {'-' if ms is None else f'{ms:.1f}'}" for name, ms in parts)
    round_trip = status.round_trip_ms
    latency = "-" if round_trip is None else f"{round_trip:.1f} ms"
    xruns = _xrun_kinds(stats)
    guarded = _guarded(stats)
    rows: list[tuple[str, str, str, str]] = [
        ("latency", latency, "strong", f"  {made_of}"),
        ("xruns", f"{stats.xruns}", "bad" if stats.xruns else "good", f"  {xruns}" if xruns else ""),
        (
            "guard",
            guarded or "nothing",
            "warn" if guarded else "good",
            "" if guarded else " limited or replaced",
        ),
        ("audio", audio_of(status), "", ""),
        ("from", status.source or "-", "", ""),
        ("to", status.sink or "-", "", ""),
        ("time", clock(status.seconds), "", f"  {stats.swaps} swaps, {status.reopened} reopened"),
        ("record", status.recording or "-", "bad" if status.recording else "dim", ""),
        (
            "load",
            f"p99 {percent(stats.load_p99)}",
            "",
            f", worst {percent(stats.load_worst)} since the start",
        ),
    ]
    return [
        cut([(fit(label, 8), "dim"), (one_line(value), style), (more, "dim")], width)
        for label, value, style, more in rows
    ]


def _xrun_kinds(stats: HostStats) -> str:
    kinds = {
        "input late": stats.input_underflows,
        "input lost": stats.input_overflows,
        "output late": stats.output_underflows,
        "output lost": stats.output_overflows,
    }
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)


def _guarded(stats: HostStats) -> str:
    counts = {
        "limited": stats.output_limited,
        "NaN in": stats.input_not_finite,
        "NaN out": stats.output_not_finite,
        "mutes": stats.mutes,
        "swaps faded": stats.relieved,
        "clips in": stats.input_clips,
        "out": stats.output_clips,
        "frames lost to the file": stats.capture_lost_frames,
    }
    return ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)


def audio_of(status: LiveStatus) -> str:
    """Rate, block and scheduling."""
    rate = f"{status.rate_hz / 1000.0:g} kHz" if status.rate_hz else "-"
    block = f"{status.block_frames} frames" if status.block_frames else "any block"
    return ", ".join(part for part in (rate, block, status.scheduling) if part)


def clock(seconds: float) -> str:
    """Hours, if any, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def head_line(title: str, status: LiveStatus | None, width: int) -> Line:
    """The title, how it goes, what plays, and at the end what is switched on."""
    if status is None:
        return cut([(f" {title} ", "strong"), (" starting", "dim")], width)
    style = {"playing": "good", "waiting": "alarm", "starting": "warn", "ended": "dim"}[status.state]
    model = playing(status)
    end: Line = []
    if status.stats.muted:
        end += [(" MUTED ", "alarm"), (" ", "")]
    if status.bypass:
        end += [(" BYPASS ", "on"), (" ", "")]
    if status.recording is not None:
        name = one_line(status.recording)
        end += [("● ", "bad"), (fit(name, min(max(20, width // 3), cells(name))), "bad"), (" ", "")]
    end.append((clock(status.seconds) + " ", "dim"))
    start: Line = [(f" {title} ", "strong"), (" ", ""), (f"● {status.state}", style), ("  ", "")]
    room = width - length(start) - length(end)
    if model is not None and room > 6:
        name = f"{model.name}  {model.output_gain_db:+.1f} dB"
        start.append((fit(name, room - 1), "strong"))
    blank = max(0, width - length(start) - length(end))
    return cut([*start, (" " * blank, ""), *end], width)


def alert_of(status: LiveStatus | None, silent_seconds: float) -> str:
    """What a user must not miss; empty if there is nothing."""
    if silent_seconds > 1.0:
        return f"the session has not answered for {silent_seconds:.0f} s"
    if status is None:
        return ""
    if status.state == "waiting":
        devices = dict.fromkeys(name for name in (status.source, status.sink) if name)
        return f"waiting for {' and '.join(devices) or 'the device'}: {status.trouble or 'it has gone'}"
    if status.stats.muted:
        return "muted: the model gave what no loudspeaker should play"
    return ""


def log_lines(log: Sequence[tuple[float, str]], width: int, height: int) -> list[Line]:
    """The last sentences, the newest at the bottom, whole if there is room for more than one line."""
    room = max(1, width - 7)
    lines: list[Line] = []
    for at, text in list(log)[-height:]:
        texts = folded(text, room) if height > 1 else [fit(text, room)]
        starts = [clock(at), *[""] * (len(texts) - 1)]
        lines += [
            cut([(fit(start, 7), "dim"), (fit(each, room), "")], width)
            for start, each in zip(starts, texts, strict=True)
        ]
    return lines[-height:] or [[(fit("no messages", width), "dim")]]


#: How much of a screen an alert may take.
ALERT_LINES = 2


def alert_lines(alert: str, width: int) -> list[str]:
    """An alert in a line or two of so many columns."""
    lines = folded(alert, max(1, width))
    if len(lines) > ALERT_LINES:
        rest = " ".join(lines[ALERT_LINES - 1 :])
        lines[ALERT_LINES - 1 :] = [fit(rest, max(1, width))]
    return lines


@dataclass(frozen=True)
class Plan:
    """Outer heights of panels, 0 for what is not shown, and which of them have borders."""

    heights: Mapping[str, int]
    boxed: frozenset[str]


def plan(
    width: int, height: int, *, rows: int, models: int, controls: int, keys: int, tuner: bool, alert: int
) -> Plan:
    """Share out a terminal: meters, load and session at the left; models, controls and tuner at the right.

    Parameters
    ----------
    width, height : int
    rows : int
        Meters.
    models, controls, keys, alert : int
        Lines that would show all of them.
    tuner : bool
        Whether there is one.
    """
    roomy = height >= 22
    border = 2 if roomy else 0
    keys = min(keys, max(1, height // 6))
    alert = min(alert, max(1, height // 8))
    log = 1 if height < 20 else min(3 + max(0, height - 30) // 4, 10) + (border if height >= 30 else 0)
    body = max(0, height - 1 - alert - keys - log)
    # At the left, the session's lines count more than a tall history, and that more than empty lines.
    # With a scale beneath them where there is room.
    meters = min(max(rows, 1) + (height >= 28) + border, body)
    rest = body - meters
    load = min(rest, max(2 + border, min(rest - 9 - border, 8 + border)))
    # At the right, all models and controls if they fit, then whichever has less to lose.
    tune = min(body, (2 + border) if body - border >= 9 else 1) if tuner else 0
    rest = body - tune
    wanted = max(models, 1) + border
    most = max(min(2, models) + border, rest - controls - border, rest // 3)
    listed = min(wanted, most, rest)
    heights = {
        "alert": alert,
        "meters": meters,
        "load": load,
        "session": body - meters - load,
        "models": listed,
        "controls": rest - listed,
        "tuner": tune,
        "log": log,
        "keys": keys,
    }
    boxed = {"meters", "load", "session", "models", "controls", "tuner"} if roomy else set()
    return Plan(heights, frozenset(boxed | ({"log"} if height >= 30 else set())))
