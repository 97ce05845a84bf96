"""A live screen's state: what it shows where, and what keys and the mouse do to it; no terminal here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from .deskhand import Look, Message, What, as_wanted
from .gauges import (
    Line,
    LoadHistory,
    Meters,
    keys_line,
    load_line,
    meter_line,
    meter_scale,
    sparkline,
    tuner_lines,
    window,
    wrapped,
)
from .panels import (
    ITEMS,
    Control,
    Plan,
    alert_lines,
    alert_of,
    bar_of,
    control_line,
    controls_of,
    head_line,
    log_lines,
    model_lines,
    plan,
    session_lines,
)
from .status import Desk, LiveStatus
from .tuner import Pitch

#: Columns of the alert that hold no text.
_ALERT_MARGINS = 2


class Hand(Protocol):
    """What a view needs of a `DeskHand`."""

    desk: Desk
    tuning: bool
    pitch: Pitch | None
    broken: BaseException | None

    def clock(self) -> float:
        """Seconds, as looks are stamped with."""

    def order(self, what: Callable[[], object]) -> int:
        """Have something done to the desk."""

    def looks(self) -> list[Look]:
        """What has been seen since the last call."""

    def messages(self) -> list[Message]:
        """Sentences since the last call."""


class View:
    """What a screen shows of a session.

    Parameters
    ----------
    hand : Hand
    title : str
    """

    def __init__(self, hand: Hand, title: str) -> None:
        self.hand = hand
        self.title = title
        self.status: LiveStatus | None = None
        self.meters = Meters()
        self.load = LoadHistory()
        self.chosen = 0
        self._log: deque[tuple[float, str]] = deque(maxlen=100)
        #: What has been ordered and the session does not show yet: the order's number, and the value.
        self._wanted: dict[What, tuple[int, float]] = {}
        self._looked_at = hand.clock()
        self._dragged: int | None = None
        self._draw: dict[str, Callable[[int, int], list[Line]]] = {
            "head": self._draw_head,
            "alert": self._draw_alert,
            "meters": self._draw_meters,
            "load": self._draw_load,
            "session": self._draw_session,
            "models": self._draw_models,
            "controls": self._draw_controls,
            "tuner": self._draw_tuner,
            "log": self._draw_log,
            "keys": self._draw_keys,
        }

    @property
    def over(self) -> bool:
        """Whether there is nothing more to show."""
        return self.hand.broken is not None or (self.status is not None and self.status.state == "ended")

    @property
    def controls(self) -> list[Control]:
        """What may be turned now."""
        return controls_of(self.status) if self.status else []

    def take_in(self) -> list[str]:
        """Take in what has been seen since the last call; returns what went wrong."""
        looks = self.hand.looks()
        for look in looks:
            stats = look.status.stats
            self.meters.update(stats, look.at_seconds)
            self.load.update(stats.load_recent, stats.load_recent_worst, look.at_seconds)
        if looks:
            last = looks[-1]
            self._looked_at = self.hand.clock()
            self._wanted = {what: order for what, order in self._wanted.items() if order[0] > last.done}
            self.status = as_wanted(last.status, self._wanted)
            self.chosen = min(self.chosen, len(self.controls) - 1)
        messages = self.hand.messages()
        self._log += [(message.seconds, message.text) for message in messages]
        return [message.text for message in messages if message.failed]

    def arranged(self, width: int, height: int) -> Plan:
        """How the panels share a terminal now."""
        return plan(
            width,
            height,
            rows=len(self.meters.inputs) + len(self.meters.outputs),
            models=len(model_lines(self.status, width)) if self.status else 1,
            controls=len(self.controls),
            keys=len(wrapped(ITEMS, width)),
            tuner=self.hand.tuning,
            alert=len(self._alert(width - _ALERT_MARGINS)),
        )

    def draw(self, panel: str, width: int, height: int) -> list[Line]:
        """The lines of a panel."""
        return self._draw[panel](width, height) if width > 0 and height > 0 else []

    def title_of(self, panel: str, width: int) -> str:
        """What stands in a panel's border."""
        if panel == "load":
            return f"DSP load, {round(self.load.last(width)[1] * width)} s"
        return {"meters": "level, dBFS", "controls": "knobs", "log": "messages"}.get(panel, panel)

    def _alert(self, width: int) -> list[str]:
        return alert_lines(alert_of(self.status, self.hand.clock() - self._looked_at), width)

    def _draw_head(self, width: int, height: int) -> list[Line]:
        return [head_line(self.title, self.status, width)]

    def _draw_alert(self, width: int, height: int) -> list[Line]:
        return [[(line, "")] for line in self._alert(width)[:height]]

    def _draw_meters(self, width: int, height: int) -> list[Line]:
        lines = [
            meter_line(f"{way} {row}" if len(meters) > 1 else way, meter, width)
            for way, meters in (("in", self.meters.inputs), ("out", self.meters.outputs))
            for row, meter in enumerate(meters, 1)
        ]
        return [*lines, meter_scale(width)] if len(lines) < height else lines

    def _draw_load(self, width: int, height: int) -> list[Line]:
        loads, _ = self.load.last(width)
        return [load_line(self.load, width), *sparkline(loads, max(0, height - 1))]

    def _draw_session(self, width: int, height: int) -> list[Line]:
        return session_lines(self.status, width)[:height] if self.status else []

    def _draw_models(self, width: int, height: int) -> list[Line]:
        return [line for _, line in self._models_shown(width, height)]

    def _models_shown(self, width: int, height: int) -> list[tuple[int, Line]]:
        if self.status is None:
            return []
        lines = model_lines(self.status, width)
        here = [at for at, (index, _) in enumerate(lines) if index == self.status.playing]
        return [lines[at] for at in window(len(lines), here[0] if here else 0, height)]

    def _draw_controls(self, width: int, height: int) -> list[Line]:
        controls = self.controls
        shown = window(len(controls), self.chosen, height)
        return [control_line(controls[at], width, at == self.chosen) for at in shown]

    def _draw_tuner(self, width: int, height: int) -> list[Line]:
        return tuner_lines(self.hand.pitch, width, height)

    def _draw_log(self, width: int, height: int) -> list[Line]:
        return log_lines(self._log, width, height)

    def _draw_keys(self, width: int, height: int) -> list[Line]:
        lit = {"t"} if self.hand.tuning else set()
        if self.status is not None:
            lit |= {"b"} if self.status.bypass else set()
            lit |= {"r"} if self.status.recording is not None else set()
        return [list(keys_line(line, lit)) for line in wrapped(ITEMS, width)]

    def point(self, panel: str, how: str, at: tuple[int, int], size: tuple[int, int]) -> str | None:
        """Obey the mouse.

        Parameters
        ----------
        panel : str
        how : str
            ``"press"``, ``"drag"``, or for the wheel ``"more"`` and ``"less"``.
        at, size : (int, int)
            Column and line; width and height.

        Returns
        -------
        str or None
            The action of the key that was clicked on.
        """
        (x, y), (width, height) = at, size
        if how == "drag":
            if self._dragged is not None:
                self._slide(self._dragged, x, width)
            return None
        self._dragged = None
        if panel == "controls":
            shown = window(len(self.controls), self.chosen, height)
            if 0 <= y < len(shown):
                self._point_at_control(shown[y], how, x, width)
        elif how == "press" and panel == "models":
            for index, _ in self._models_shown(width, height)[max(y, 0) : max(y, 0) + 1]:
                self.play(index)
        elif how == "press" and panel == "meters":
            self.clear()
        elif how == "press" and panel == "keys":
            for column, item in [
                part for line in wrapped(ITEMS, width)[max(y, 0) : max(y, 0) + 1] for part in line
            ]:
                if column <= x < column + item.size:
                    return item.action
        return None

    def _point_at_control(self, index: int, how: str, x: int, width: int) -> None:
        self.chosen = index
        if how != "press":
            self.turn(1.0 if how == "more" else -1.0)
            return
        start, bar = bar_of(width)
        if start <= x < start + bar:
            self._dragged = index
            self._slide(index, x, width)

    def _slide(self, index: int, x: int, width: int) -> None:
        """Turn a control to where the mouse is on its bar."""
        start, bar = bar_of(width)
        for control in self.controls[index : index + 1]:
            self._turn(control, control.at((x - start) / max(bar - 1, 1)))

    def _order(self, what: What, value: float, do: Callable[[], object]) -> None:
        """Have the desk do something, and show it as done."""
        self._wanted[what] = (self.hand.order(do), value)
        if self.status is not None:
            self.status = as_wanted(self.status, self._wanted)

    def _turn(self, control: Control, value: float) -> None:
        desk = self.hand.desk
        if self.status is None or value == control.value:
            return
        if control.kind == "knob":
            do = partial(desk.set, **{control.name: value})
        elif control.kind == "level":
            do = partial(desk.set_levels, output_gain_db=value)
        else:
            do = partial(desk.set_levels, input_gain_db=value)
        self._order((control.kind, self.status.playing, control.name), value, do)

    def play(self, index: int) -> None:
        """Play a model, if there is one of this number."""
        if self.status is not None and index < len(self.status.models):
            self._order(("playing", 0, ""), index, partial(self.hand.desk.play, index))

    def play_next(self, by: int) -> None:
        """Play a neighbour of the model that plays."""
        if self.status is not None and self.status.models:
            self.play((self.status.playing + by) % len(self.status.models))

    def choose(self, by: int) -> None:
        """Choose the control below, or above."""
        self.chosen = min(max(self.chosen + by, 0), max(len(self.controls) - 1, 0))

    def turn(self, steps: float) -> None:
        """Turn the chosen control."""
        for control in self.controls[self.chosen : self.chosen + 1]:
            self._turn(control, control.turned(steps))

    def restore(self) -> None:
        """Turn the chosen control back to its default."""
        for control in self.controls[self.chosen : self.chosen + 1]:
            self._turn(control, control.default)

    def bypass(self) -> None:
        """Let the input itself be heard, or the model again."""
        if self.status is not None:
            on = not self.status.bypass
            self._order(("bypass", 0, ""), on, partial(self.hand.desk.set_levels, bypass=on))

    def record(self) -> None:
        """Begin a recording, or end it."""
        if self.status is not None:
            on = self.status.recording is None
            self._order(("record", 0, ""), on, partial(self.hand.desk.record, on))

    def tuner(self) -> None:
        """Show the tuner, or give its room to the knobs."""
        self.hand.tuning = not self.hand.tuning

    def clear(self) -> None:
        """Put out the clip lights."""
        self.meters.clear()
