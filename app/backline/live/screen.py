"""The full-screen terminal interface of a live session; the sole importer of textual.

All that is drawn, and what keys do, is in `view`; a `DeskHand` speaks with the session, so that neither keys
nor pictures wait for it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType, MappingProxyType
from typing import ClassVar

from ..errors import MissingDependency
from ..text import one_line
from .deskhand import DeskHand
from .gauges import Line
from .panels import COARSE, HELP, Plan
from .status import Desk
from .view import Hand, View

try:
    from textual import events
    from textual.app import App, ComposeResult
    from textual.binding import Binding, BindingType
    from textual.containers import Horizontal, Vertical
    from textual.content import Content
    from textual.screen import ModalScreen
    from textual.widget import Widget
except ImportError as error:
    raise MissingDependency(
        "the screen needs textual, which is not installed: pip install textual (or use --plain)"
    ) from error

FRAMES_PER_SECOND = 20

_GROUND, _TRACK = "#12151a", "#262c36"
_COLOURS = {"good": "#57c27a", "warn": "#e8b339", "bad": "#f0605d", "accent": "#f0a04b", "dim": "#7f8a9b"}
#: How the styles of `gauges.STYLES` look; terminals with fewer colours show the nearest.
LOOKS = MappingProxyType(
    {
        **_COLOURS,
        **{f"bar-{name}": f"{colour} on {_TRACK}" for name, colour in _COLOURS.items()},
        "": "",
        "bar": f"on {_TRACK}",
        "strong": "bold #eef1f5",
        "alarm": "bold #ffffff on #c8372f",
        "chosen": f"bold {_COLOURS['accent']}",
        "on": f"bold {_GROUND} on {_COLOURS['accent']}",
    }
)

PANELS = ("head", "alert", "meters", "load", "session", "models", "controls", "tuner", "log", "keys")


class Panel(Widget):
    """Lines of text that are drawn again only when they have changed."""

    def __init__(self, name: str, draw: Callable[[int, int], Sequence[Line]]) -> None:
        super().__init__(id=name)
        self._draw = draw
        self._title = ""
        self.lines: list[Line] = []

    def name_it(self, title: str) -> None:
        """Have a title in the border; to set one is to draw the panel again, even if it is the same."""
        if title != self._title:
            self.border_title = self._title = title

    def redraw(self) -> None:
        """Look whether there is something new to show."""
        lines = list(self._draw(self.size.width, self.size.height)) if self.size.area else []
        if lines != self.lines:
            self.lines = lines
            self.refresh()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.redraw()

    def render(self) -> Content:
        """Textual asks for what `redraw` has prepared."""
        return Content("\n").join(
            Content.assemble(*((text, LOOKS[style]) for text, style in line)) for line in self.lines
        )

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A button goes down: what is dragged from here on belongs to this panel."""
        self.capture_mouse()
        self._point(event, "press")

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Only dragging is of interest."""
        if self.app.mouse_captured is self:
            self._point(event, "drag")

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Let go."""
        self.release_mouse()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel turns what is below it up."""
        self._point(event, "more")

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel turns what is below it down."""
        self._point(event, "less")

    def _point(self, event: events.MouseEvent, how: str) -> None:
        at = event.get_content_offset_capture(self)
        app = self.app
        if isinstance(app, LiveScreen):
            app.pointed(self.id or "", how, (at.x, at.y), (self.size.width, self.size.height))


class Help(ModalScreen[None]):
    """The keys; any key closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "app.leave", priority=True, show=False)]
    CSS = """
    Help { align: center middle; }
    #help { width: 64; max-width: 100%; height: 15; max-height: 100%; border: round #f0a04b; padding: 0 1;
            background: #1a1f27; border-title-color: #f0a04b; border-subtitle-color: #7f8a9b; }
    """

    def compose(self) -> ComposeResult:
        """One panel."""
        panel = Panel("help", lambda width, height: [self._line(*row) for row in HELP])
        panel.border_title = "keys"
        panel.border_subtitle = "any key closes"
        yield panel

    @staticmethod
    def _line(keys: str, meaning: str) -> Line:
        return [(f"{keys:<23}", "accent"), (meaning, "")]

    def on_key(self, event: events.Key) -> None:
        """Close, whatever the key; it does nothing else."""
        event.stop()
        self.dismiss()

    def on_click(self) -> None:
        """Close."""
        self.dismiss()


class LiveScreen(App[None]):
    """The screen of a session; see `run_screen`."""

    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n,pagedown", "do('play_next', 1)", "next model"),
        Binding("p,pageup", "do('play_next', -1)", "previous model"),
        *(Binding(str(number), f"do('play', {number - 1})", f"model {number}") for number in range(1, 10)),
        Binding("up", "do('choose', -1)", "knob above"),
        Binding("down", "do('choose', 1)", "knob below"),
        Binding("left,minus", "do('turn', -1)", "less"),
        Binding("right,plus,equals_sign", "do('turn', 1)", "more"),
        Binding("shift+left", f"do('turn', {-1 / COARSE})", "a little less"),
        Binding("shift+right", f"do('turn', {1 / COARSE})", "a little more"),
        Binding("less_than_sign,underscore", f"do('turn', {-COARSE})", "much less"),
        Binding("greater_than_sign", f"do('turn', {COARSE})", "much more"),
        Binding("0,d", "do('restore')", "default"),
        Binding("b", "do('bypass')", "bypass"),
        Binding("r", "do('record')", "record"),
        Binding("t", "do('tuner')", "tuner"),
        Binding("c", "do('clear')", "put out clip lights"),
        Binding("question_mark", "help", "help"),
        Binding("q,escape", "leave", "quit"),
        Binding("ctrl+c,ctrl+q", "leave", "quit", priority=True, show=False),
    ]
    CSS = """
    Screen { background: #12151a; color: #c9d0da; layout: vertical; overflow: hidden; }
    Panel { text-wrap: nowrap; text-overflow: clip; height: 0; }
    #head { height: 1; }
    #head, #keys { background: #1d232c; }
    #alert { background: #c8372f; color: #ffffff; text-style: bold; padding: 0 1; }
    #body, #left, #right { height: auto; }
    #left { width: 50%; }
    #right { width: 1fr; }
    #left Panel { padding: 0 1 0 0; }
    #left .boxed, .boxed { padding: 0 1; border: round #3b4554; border-title-color: #f0a04b; }
    Toast { max-width: 90%; }
    """

    def __init__(self, hand: Hand, seconds_over: Callable[[], bool] = lambda: False, title: str = "") -> None:
        super().__init__()
        self.view = View(hand, title)
        self.seconds_over = seconds_over
        #: What asking whether it is over has raised; ends the screen.
        self.failure: Exception | None = None
        self._plan: Plan | None = None
        self.panels = {name: Panel(name, partial(self.view.draw, name)) for name in PANELS}

    def compose(self) -> ComposeResult:
        """Two columns between a head and the log."""
        yield from (self.panels[name] for name in ("head", "alert"))
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield from (self.panels[name] for name in ("meters", "load", "session"))
            with Vertical(id="right"):
                yield from (self.panels[name] for name in ("models", "controls", "tuner"))
        yield from (self.panels[name] for name in ("log", "keys"))

    def on_mount(self) -> None:
        """Begin to look."""
        self.tick()
        self.set_interval(1.0 / FRAMES_PER_SECOND, self.tick)

    def on_resize(self) -> None:
        """Share out the new room."""
        self.show()

    def tick(self) -> None:
        """Take in what has been seen since the last call, and show what is new."""
        for text in self.view.take_in():
            self.notify(one_line(text), severity="error", markup=False)
        if self.view.over or self._is_over():
            self.exit()
        else:
            self.show()

    def _is_over(self) -> bool:
        try:
            return self.seconds_over()
        except Exception as error:  # raised again where the screen was called, once the terminal is restored
            self.failure = error
            return True

    def show(self) -> None:
        """Give each panel its height, and draw what has changed."""
        wanted = self.view.arranged(*self.size)
        if wanted != self._plan:
            self._plan = wanted
            for name, rows in wanted.heights.items():
                panel = self.panels[name]
                panel.display = rows > 0
                panel.styles.height = rows
                panel.set_class(name in wanted.boxed, "boxed")
        for name, panel in self.panels.items():
            panel.name_it(self.view.title_of(name, panel.size.width))
            panel.redraw()

    def pointed(self, panel: str, how: str, at: tuple[int, int], size: tuple[int, int]) -> None:
        """The mouse does something at a place in a panel."""
        action = self.view.point(panel, how, at, size)
        if action is not None:
            self.call_later(self.run_action, action)
        self.show()

    def action_do(self, what: str, *values: float) -> None:
        """Have the view do something, and show it."""
        getattr(self.view, what)(*values)
        self.show()

    def action_help(self) -> None:
        """Show what the keys do."""
        self.push_screen(Help())

    def action_leave(self) -> None:
        """End the screen."""
        self.exit()


def run_screen(
    desk: Desk,
    *,
    seconds_over: Callable[[], bool] = lambda: False,
    title: str = "backline live",
    a4_hz: float = 440.0,
) -> None:
    """Show a session full-screen until the user leaves, it ends, or `seconds_over` says so.

    The terminal is as it was when this returns or raises. A signal that would end the process does so after
    that, through the handler that was there before.

    Parameters
    ----------
    desk : Desk
        Called from two threads of the screen's own.
    seconds_over : callable
        Asked 20 times a second; what it raises ends the screen.
    title : str
    a4_hz : float
        What the tuner takes for the A above middle C.

    Raises
    ------
    Exception
        Whatever but a `BacklineError` a method of the desk raised, for those are shown; what `seconds_over`
        raised.
    """
    hand = DeskHand(desk, a4_hz=a4_hz)
    screen = LiveScreen(hand, seconds_over, title)
    hand.start()
    try:
        with _signals_leave(screen):
            screen.run()
    finally:
        hand.stop()
    for error in (screen.failure, hand.broken):
        if error is not None:
            raise error
    if screen.return_code:
        raise RuntimeError("the screen has failed")


@contextmanager
def _signals_leave(screen: LiveScreen) -> Iterator[None]:
    """Let signals end the screen first, and only then do what they do."""
    came: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        came.append(number)
        screen.call_later(screen.exit)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in came[:1]:
        signal.raise_signal(number)
