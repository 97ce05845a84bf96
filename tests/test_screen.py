"""The live screen under Textual's pilot: a desk that keeps what is done to it, keys, mouse, sizes, names."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import screenshot
from fake_desk import FakeDesk, status_of

from backline.graph import Knob
from backline.live.deskhand import DeskHand
from backline.live.screen import LiveScreen
from backline.live.status import HostStats, ModelView
from backline.live.view import View
from backline.pluck import pluck

HOSTILE = "[red]x[/red] \x1b[31m\n\t‮[@click=app.bell]y"
SHOWN = r"[red]x[/red] \x1b[31m\n\t\u202e[@click=app.bell]y"


class Driven:
    """A screen, what drives it, and its desk."""

    def __init__(self, screen: LiveScreen, pilot, desk: FakeDesk, hand: DeskHand) -> None:
        self.screen, self.pilot, self.desk, self.hand = screen, pilot, desk, hand

    @property
    def view(self) -> View:
        return self.screen.view

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for something that takes the desk's threads; the limit is only for what never comes."""
        for _ in range(2000):
            if holds():
                return
            await self.pilot.pause(0.005)
        raise AssertionError(f"never came; calls {self.desk.calls}\n{self.text()}")

    async def press(self, *keys: str) -> list[tuple]:
        """Press keys; the calls they lead to, once all have been made."""
        before = len(self.desk.calls)
        await self.pilot.press(*keys)
        await self.until(lambda: self.hand._asked == self.hand._done)
        return self.desk.calls[before:]

    def text(self, panel: str | None = None) -> str:
        """What is shown, of a panel or all."""
        if panel is not None:
            return "\n".join("".join(text for text, _ in line) for line in self.screen.panels[panel].lines)
        strips = self.screen.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    def style(self, panel: str, text: str) -> str:
        """The name of the style of a piece of text."""
        return next(
            style for line in self.screen.panels[panel].lines for piece, style in line if text in piece
        )


@asynccontextmanager
async def driven(desk: FakeDesk, size=(100, 30), **more):
    hand = DeskHand(desk)
    screen = LiveScreen(hand, title="backline live", **more)
    hand.start()
    try:
        async with screen.run_test(size=size, notifications=True) as pilot:
            it = Driven(screen, pilot, desk, hand)
            await it.until(lambda: screen.return_value is not None or it.view.status or hand.broken)
            yield it
    finally:
        desk.answering.set()
        desk.obeying.set()
        hand.stop()


def with_screen(
    test: Callable[[Driven], Awaitable[None]], desk: FakeDesk | None = None, size=(100, 30), **more
):
    """Run a test's inside against a screen."""

    async def run() -> None:
        async with driven(desk or FakeDesk(), size, **more) as it:
            await test(it)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("keys", "calls"),
    [
        (["n"], [("play", 2)]),
        (["n", "n"], [("play", 2), ("play", 0)]),
        (["pagedown"], [("play", 2)]),
        (["p"], [("play", 0)]),
        (["pageup", "pageup"], [("play", 0), ("play", 2)]),
        (["1"], [("play", 0)]),
        (["3"], [("play", 2)]),
        (["9"], []),
        (["right"], [("set_levels", {"input_gain_db": 0.5})]),
        (
            ["left", "left"],
            [("set_levels", {"input_gain_db": -0.5}), ("set_levels", {"input_gain_db": -1.0})],
        ),
        (["minus"], [("set_levels", {"input_gain_db": -0.5})]),
        (["plus"], [("set_levels", {"input_gain_db": 0.5})]),
        (["equals_sign"], [("set_levels", {"input_gain_db": 0.5})]),
        (["shift+right"], [("set_levels", {"input_gain_db": 0.1})]),
        (["shift+left"], [("set_levels", {"input_gain_db": -0.1})]),
        (["greater_than_sign"], [("set_levels", {"input_gain_db": 2.5})]),
        (["less_than_sign"], [("set_levels", {"input_gain_db": -2.5})]),
        (["down", "right"], [("set", {"drive": 0.52})]),
        (["down", "right", "right"], [("set", {"drive": 0.52}), ("set", {"drive": 0.54})]),
        (["down", "shift+left"], [("set", {"drive": 0.496})]),
        (["down", "down", "left"], [("set", {"tone": 0.8})]),
        (["down", "down", "0"], [("set", {"tone": 0.0})]),
        (["down", "down", "d"], [("set", {"tone": 0.0})]),
        (["down", "d"], []),
        (["down", "down", "up", "right"], [("set", {"drive": 0.52})]),
        (["up", "down", "down", "down", "down", "down", "left"], [("set_levels", {"output_gain_db": -0.5})]),
        (["b"], [("set_levels", {"bypass": True})]),
        (["b", "b"], [("set_levels", {"bypass": True}), ("set_levels", {"bypass": False})]),
        (["r"], [("record", True)]),
        (["r", "r"], [("record", True), ("record", False)]),
        (["t", "c", "x", "tab", "enter"], []),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else "",
)
def test_keys(keys, calls):
    async def test(it: Driven) -> None:
        assert await it.press(*keys) == calls

    with_screen(test)


def test_a_knob_stops_at_its_ends():
    async def test(it: Driven) -> None:
        calls = await it.press("down", *["greater_than_sign"] * 9)
        assert [call[1]["drive"] for call in calls] == [0.6, 0.7, 0.8, 0.9, 1.0]
        calls = await it.press(*["less_than_sign"] * 20)
        assert calls[-1] == ("set", {"drive": 0.0})
        assert len(calls) == 10

    with_screen(test)


def test_turning_does_not_wait_for_the_desk():
    async def test(it: Driven) -> None:
        it.desk.obeying.clear()
        it.desk.answering.clear()
        await it.pilot.press("right", "right", "right", "b", "n", "down", "right")
        assert "+1.5 dB" in it.text("controls")
        assert "BYPASS" in it.text("head")
        assert "Lead" in it.text("head")
        assert "0.92" in it.text("controls")
        assert it.desk.calls == []
        it.desk.obeying.set()
        it.desk.answering.set()
        await it.until(lambda: len(it.desk.calls) == 6)
        assert it.desk.calls[2:] == [
            ("set_levels", {"input_gain_db": 1.5}),
            ("set_levels", {"bypass": True}),
            ("play", 2),
            ("set", {"drive": 0.92}),
        ]

    with_screen(test)


def test_a_desk_that_stalls_is_told_of(monkeypatch):
    async def test(it: Driven) -> None:
        it.desk.answering.clear()
        # As if the last look had been long ago, however long this test takes.
        clock = it.hand.clock
        monkeypatch.setattr(it.hand, "clock", lambda: it.view._looked_at + 30.0)
        await it.until(lambda: "the session has not answered for 30 s" in it.text())
        monkeypatch.setattr(it.hand, "clock", clock)
        it.desk.answering.set()
        await it.until(lambda: not it.screen.panels["alert"].display)

    with_screen(test)


def test_it_shows_how_it_goes():
    stats = HostStats(
        xruns=3,
        input_overflows=2,
        output_underflows=1,
        output_limited=7,
        input_not_finite=1,
        load_recent=0.2,
        load_recent_worst=0.3,
        input_peaks=(0.1,),
        output_peaks=(0.5,),
    )

    async def test(it: Driven) -> None:
        await it.until(lambda: "20 %" in it.text("load"))
        assert "worst 30 %" in it.text("load")
        assert "-20.0" in it.text("meters").splitlines()[0]
        assert "-6.0" in it.text("meters").splitlines()[1]
        session = it.text("session")
        assert re.search(r"latency +6\.0 ms  in 2\.0, out 3\.0, model 1\.0", session)
        assert re.search(r"xruns +3  2 input lost, 1 output late", session)
        assert re.search(r"guard +limited 7, NaN in 1", session)
        assert "48 kHz, 64 frames, SCHED_FIFO 60" in session
        assert "Guitar In" in session
        assert "Amp Out" in session
        assert "Crunch" in it.text("head")
        assert "playing" in it.text("head")
        assert "1:23" in it.text("head")
        assert "-18.0 LUFS" in it.text("models")
        assert "tone" in it.text("controls")
        await it.press("r")
        await it.until(lambda: "take-1.wav" in it.text("head"))

    with_screen(test, FakeDesk(stats=stats))


def test_what_is_not_known_is_a_dash():
    async def test(it: Driven) -> None:
        assert re.search(r"latency +-  in -, out 3\.0", it.text("session"))
        assert re.search(r"from +-", it.text("session"))
        assert await it.press("n", "right", "1", "down") == [("set_levels", {"input_gain_db": 0.5})]

    with_screen(test, FakeDesk(input_latency_ms=None, source=None, models=(), playing=0))


def test_waiting_is_conspicuous():
    async def test(it: Driven) -> None:
        assert it.text("alert") == "waiting for Guitar In and Amp Out: the server has gone"
        assert it.style("head", "waiting") == "alarm"
        it.desk.shown = status_of()
        await it.until(lambda: not it.screen.panels["alert"].display)
        assert it.style("head", "playing") == "good"

    with_screen(test, FakeDesk(state="waiting", trouble="the server has gone"))


def test_muted_swapping_and_problems_show():
    broken = ModelView("Broken", problem="layer 3 is no layer")
    desk = FakeDesk(swapping=True, models=(*status_of().models, broken), stats=HostStats(muted=True, mutes=1))

    async def test(it: Driven) -> None:
        assert "swapping" in it.text("models")
        assert it.style("models", "layer 3 is no layer") == "bad"
        assert it.style("models", "Broken") == "bad"
        assert "MUTED" in it.text("head")
        assert it.text("alert").startswith("muted")
        # The line below a model is its own.
        region = it.screen.panels["models"].content_region
        await it.pilot.click(offset=(region.x + 8, region.y + 4))
        await it.until(lambda: it.desk.calls == [("play", 3)])

    with_screen(test, desk)


def test_names_are_taken_literally():
    model = ModelView(HOSTILE, knobs=(Knob(HOSTILE, 0.0, 0.0, 1.0),), problem=HOSTILE)
    desk = FakeDesk(
        **{
            "source": HOSTILE,
            "sink": HOSTILE,
            "trouble": HOSTILE,
            "recording": HOSTILE,
            "scheduling": HOSTILE,
        },
        **{"models": (model,), "playing": 0, "state": "waiting"},
    )
    desk.said = [HOSTILE]
    desk.refusal = HOSTILE

    async def test(it: Driven) -> None:
        await it.pilot.press("down", "right", "b")
        await it.until(lambda: len(it.screen._notifications) == 2)
        await it.until(lambda: len(it.view._log) == 3)
        for panel in ("head", "alert", "session", "models", "controls", "log"):
            assert r"[red]x[/red] \x1b[31m\n\t\u202e"[: 20 if panel == "head" else 27] in it.text(panel) or (
                panel in ("head", "controls") and "[red]x[/red] \\x1b" in it.text(panel)
            )
            assert it.text(panel).replace("\n", "").isprintable()
        assert SHOWN in it.text("log")
        await it.pilot.pause(0.1)
        whole = it.text()
        assert "\x1b" not in whole
        assert "[red]x[/red]" in whole.splitlines()[0]
        # In notifications, too, with those that were folded.
        assert all(note.message == SHOWN and not note.markup for note in it.screen._notifications)

    with_screen(test, desk, size=(200, 40))


def test_errors_are_shown_and_change_nothing():
    async def test(it: Driven) -> None:
        it.desk.refusal = "drive: no such knob"
        await it.pilot.press("right", "n", "r", "b")
        await it.until(lambda: len(it.screen._notifications) == 4)
        assert {(note.message, note.severity) for note in it.screen._notifications} == {
            ("drive: no such knob", "error")
        }
        await it.until(lambda: not it.view._wanted)
        assert "+0.0 dB" in it.text("controls")
        assert "BYPASS" not in it.text("head")
        assert "drive: no such knob" in it.text("log")
        it.desk.refusal = None
        assert await it.press("b") == [("set_levels", {"bypass": True})]

    with_screen(test)


def test_a_status_that_fails_is_told_once():
    from backline.errors import DeviceError

    async def test(it: Driven) -> None:
        it.desk.broken = DeviceError("no status now")
        await it.until(lambda: len(it.screen._notifications) == 1)
        await it.pilot.pause(0.3)
        assert len(it.screen._notifications) == 1
        it.desk.broken = None
        it.desk.shown = status_of(bypass=True)
        await it.until(lambda: "BYPASS" in it.text("head"))

    with_screen(test)


def test_peaks_are_held_and_clips_stay():
    async def test(it: Driven) -> None:
        it.desk.shown = status_of(stats=HostStats(input_peaks=(1.5,), output_peaks=(0.3, 0.2)))
        await it.until(lambda: "CLIP" in it.text("meters"))
        it.desk.shown = status_of(stats=HostStats(input_peaks=(0.0,), output_peaks=(0.0, 0.0)))
        # It falls 30 dB a second, but its mark stays for two.
        await it.until(lambda: it.view.meters.inputs[0].level_db < -10.0)
        assert "3.5 CLIP" in it.text("meters").splitlines()[0]
        assert it.text("meters").count("CLIP") == 1
        await it.until(lambda: "-∞ CLIP" in it.text("meters"))
        await it.press("c")
        assert "CLIP" not in it.text("meters")
        it.desk.shown = status_of(
            stats=HostStats(input_peaks=(0.995,), output_peaks=(0.1, 0.1), input_clips=1)
        )
        await it.until(lambda: "CLIP" in it.text("meters"))
        it.desk.shown = status_of()
        await it.until(lambda: "-20" in it.text("meters"))
        await it.pilot.click(it.screen.panels["meters"])
        await it.pilot.pause(0.1)
        assert "CLIP" not in it.text("meters")

    with_screen(test)


def test_the_tuner_tells_the_note_and_may_go():
    desk = FakeDesk()
    desk.sound = 0.5 * pluck(110.0 * 2.0 ** (-20.0 / 1200.0), 0.5, 48000)[-12000:]

    async def test(it: Driven) -> None:
        await it.until(lambda: "A2" in it.text("tuner"))
        assert "-20 ct" in it.text("tuner")
        assert "too low" in it.text("tuner")
        assert it.style("keys", "tuner") == "on"
        assert await it.press("t") == []
        assert not it.screen.panels["tuner"].display
        await it.until(lambda: it.hand.pitch is None)
        await it.press("t")
        await it.until(lambda: "A2" in it.text("tuner"))
        it.desk.sound = np.zeros(12000, np.float32)
        await it.until(lambda: "play a note" in it.text("tuner"))

    with_screen(test, desk)


def test_the_mouse_plays_models_and_presses_keys():
    async def test(it: Driven) -> None:
        region = it.screen.panels["models"].content_region
        await it.pilot.click(offset=(region.x + 8, region.y + 2))
        await it.until(lambda: it.desk.calls == [("play", 2)])
        region = it.screen.panels["keys"].content_region
        for key, text, call in (
            ("b", "bypass", ("set_levels", {"bypass": True})),
            ("r", "record", ("record", True)),
            ("n", "next", ("play", 0)),
        ):
            rows = it.text("keys").splitlines()
            row = next(row for row, line in enumerate(rows) if f" {key} {text}" in line)
            await it.pilot.click(offset=(region.x + rows[row].index(f"{key} {text}") + 3, region.y + row))
            await it.until(lambda call=call: it.desk.calls[-1] == call)

    with_screen(test)


def test_the_mouse_turns_knobs():
    async def test(it: Driven) -> None:
        panel = it.screen.panels["controls"]
        region = panel.content_region
        row = it.text("controls").splitlines()[1]
        start = next(at for at, character in enumerate(row) if character in "━●")
        stop = max(at for at, character in enumerate(row) if character in "─●")
        end = (region.x + stop, region.y + 1)
        await it.pilot.click(offset=end)
        await it.until(lambda: it.desk.calls == [("set", {"drive": 1.0})])
        assert it.style("controls", "drive") == "chosen"
        # What is dragged may leave the panel.
        await it.pilot.mouse_down(offset=end)
        await it.pilot.hover(offset=(region.x + (start + stop) // 2, region.y + 1))
        await it.until(lambda: 0.4 < it.desk.calls[-1][1]["drive"] < 0.6)
        await it.pilot.hover(offset=(region.x + 1, region.y + 4))
        await it.until(lambda: it.desk.calls[-1] == ("set", {"drive": 0.0}))
        await it.pilot.mouse_up(offset=(region.x + 1, region.y + 4))
        count = len(it.desk.calls)
        await it.pilot.hover(offset=end)
        await it.pilot.pause(0.1)
        assert len(it.desk.calls) == count
        # A name is chosen, not turned; the wheel turns what is below it.
        await it.pilot.click(offset=(region.x + 4, region.y + 2))
        assert it.style("controls", "tone") == "chosen"
        assert len(it.desk.calls) == count
        from textual import events

        for kind, value in ((events.MouseScrollUp, 1.2), (events.MouseScrollDown, 1.0)):
            await it.pilot._post_mouse_events([kind], panel, (10, 3))
            await it.until(lambda value=value: it.desk.calls[-1] == ("set", {"tone": value}))

    with_screen(test)


def test_many_models_and_knobs_scroll():
    knobs = tuple(Knob(f"knob {number}", 0.5, 0.0, 1.0) for number in range(40))
    models = tuple(ModelView(f"model {number}", knobs=knobs) for number in range(40))

    async def test(it: Driven) -> None:
        assert "model 20" in it.text("models")
        assert "input gain" in it.text("controls")
        calls = await it.press(*["down"] * 40, "right")
        assert calls == [("set", {"knob 39": 0.52})]
        assert "knob 39" in it.text("controls")
        await it.press("n")
        assert "model 21" in it.text("models")

    with_screen(test, FakeDesk(models=models, playing=20), size=(60, 16))


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (100, 30), (200, 60)])
def test_all_that_matters_is_shown_at_every_size(size):
    async def test(it: Driven) -> None:
        await it.until(lambda: "%" in it.text("load"))
        whole = it.text()
        lines = whole.splitlines()
        assert len(lines) == size[1]
        for text in (
            "playing",
            "Crunch",
            "in  ",
            "out 1",
            "out 2",
            "clip",
            "20 %",
            "latency",
            "xruns",
            "input gain",
        ):
            assert text in whole
        for text in (
            "drive",
            "tone",
            "level",
            "Clean",
            "Lead",
            "--",
            "bypass",
            "record",
            "tuner",
            "? help",
            "q quit",
        ):
            assert text in whole
        # Nothing runs into its neighbour or out of the screen.
        for panel in it.screen.panels.values():
            inside = panel.content_region
            assert all(sum(len(text) for text, _ in line) <= inside.width for line in panel.lines)
            assert len(panel.lines) <= inside.height or not panel.display

    with_screen(test, size=size)


def test_it_follows_its_terminal():
    async def test(it: Driven) -> None:
        for size in ((200, 60), (60, 16), (30, 8), (10, 3), (1, 1), (80, 24)):
            await it.pilot.resize_terminal(*size)
            await it.pilot.pause(0.05)
            await it.press("right")
            assert len(it.text().splitlines()) == size[1]
        assert "drive" in it.text()
        assert "q quit" in it.text()

    with_screen(test)


def test_help_shows_the_keys_and_any_key_closes_it():
    async def test(it: Driven) -> None:
        assert await it.press("question_mark") == []
        assert "begin or end a recording" in it.text()
        assert await it.press("b") == []
        assert "begin or end a recording" not in it.text()
        assert await it.press("question_mark", "escape", "b") == [("set_levels", {"bypass": True})]

    with_screen(test, size=(60, 16))


def test_nothing_is_drawn_again_that_has_not_changed(monkeypatch):
    quiet = HostStats(input_peaks=(0.0,), output_peaks=(0.0,))

    async def test(it: Driven) -> None:
        ticks: list[None] = []

        async def some_ticks() -> None:
            until = len(ticks) + 6
            await it.until(lambda: len(ticks) >= until)

        # The history of the load moves with time: there is none.
        now, take_in = it.hand.clock(), it.view.take_in
        monkeypatch.setattr(it.hand, "clock", lambda: now)
        monkeypatch.setattr(it.view, "take_in", lambda: (ticks.append(None), take_in())[1])
        await some_ticks()
        drawn: list[str] = []
        for name, panel in it.screen.panels.items():
            monkeypatch.setattr(panel, "refresh", lambda *_, name=name, **__: drawn.append(name))
        await some_ticks()
        assert drawn == []
        it.desk.shown = status_of(stats=quiet, bypass=True)
        await it.until(lambda: "BYPASS" in it.text("head"))
        await some_ticks()
        assert sorted(drawn) == ["head", "keys"]

    with_screen(test, FakeDesk(stats=quiet))


@pytest.mark.parametrize(
    "keys",
    [
        *(["q"], ["escape"], ["ctrl+c"], ["ctrl+q"]),
        # While the help is shown, those that close it take two.
        *(["question_mark", "ctrl+c"], ["question_mark", "ctrl+q"]),
        *(["question_mark", "q", "q"], ["question_mark", "escape", "escape"]),
    ],
    ids=" ".join,
)
def test_keys_that_leave(keys):
    async def test(it: Driven) -> None:
        await it.pilot.press(*keys[:-1])
        assert it.screen.is_running
        await it.pilot.press(keys[-1])
        await it.until(lambda: not it.screen.is_running)

    with_screen(test)


def test_it_leaves_when_the_session_has_ended():
    async def test(it: Driven) -> None:
        assert it.screen.is_running
        it.desk.shown = replace(it.desk.shown, state="ended")
        await it.until(lambda: not it.screen.is_running)

    with_screen(test)


def test_it_leaves_when_its_time_is_over():
    over: list[bool] = []

    async def test(it: Driven) -> None:
        await it.pilot.pause(0.1)
        assert it.screen.is_running
        over.append(True)
        await it.until(lambda: not it.screen.is_running)

    with_screen(test, seconds_over=lambda: bool(over))


def test_what_nobody_foresaw_ends_it():
    async def test(it: Driven) -> None:
        it.desk.broken = ZeroDivisionError("oh")
        await it.until(lambda: not it.screen.is_running)
        assert it.hand.broken is it.desk.broken

    with_screen(test)


def test_without_textual_a_sentence_says_what_to_install():
    code = (
        "import sys; sys.modules['textual'] = None\n"
        "from backline.errors import MissingDependency\n"
        "try: import backline.live.screen\n"
        "except MissingDependency as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install textual" in done.stdout


def test_the_picture_is_well_formed_and_fetches_nothing(tmp_path):
    target = tmp_path / "screen.svg"
    subprocess.run([sys.executable, screenshot.__file__, "--output", str(target)], check=True)
    svg = target.read_text(encoding="utf-8")
    root = xml.etree.ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    shown = "".join(root.itertext()).replace("\xa0", " ")
    for text in ("backline live", "Plexi, dimed", "A2", "take-07.wav", "input gain"):
        assert text in shown
    assert len(svg) < 150_000
    assert "@font-face" not in svg
    assert "url(http" not in svg
    assert "href" not in svg


def test_the_picture_in_the_documents_is_of_this_screen():
    def texts(svg: str) -> list[str]:
        # Another Textual may draw another frame, and name its classes otherwise.
        return [
            each.text or ""
            for each in xml.etree.ElementTree.fromstring(svg).iter()
            if each.tag.endswith("text")
        ]

    shown = Path(screenshot.__file__).parents[1] / "docs" / "screen.svg"
    drawn = asyncio.run(screenshot.drawn(*screenshot.SIZE))
    assert texts(shown.read_text(encoding="utf-8")) == texts(drawn)
