"""What the live screen is made of: meters, bars, folded text, controls, and how the room is shared."""

from __future__ import annotations

import math

import pytest
from fake_desk import status_of
from hypothesis import given
from hypothesis import strategies as st

from backline.graph import Knob
from backline.live import gauges
from backline.live.gauges import Item, LoadHistory, Meter, Meters
from backline.live.panels import (
    ITEMS,
    Control,
    alert_lines,
    alert_of,
    bar_of,
    clock,
    control_line,
    controls_of,
    head_line,
    log_lines,
    model_lines,
    plan,
    session_lines,
)
from backline.live.status import HostStats, ModelView
from backline.live.tuner import pitch_of

NO_ACCENTS = st.text(st.characters(exclude_categories=("M",)))


def text_of(line) -> str:
    return "".join(text for text, _ in line)


def filled_cells(line) -> float:
    """How much of a bar is filled, in cells."""
    return sum(" ▏▎▍▌▋▊▉█".index(character) / 8 for character in text_of(line))


# ---- text ----


def test_cells_are_columns():
    assert gauges.cells("amp") == 3
    assert gauges.cells("アンプ") == 6
    assert gauges.cells("e\u0301") == 1


@given(NO_ACCENTS, st.integers(0, 40), st.booleans())
def test_fitted_text_takes_exactly_its_room(text, width, right):
    # A wide character that is cut in half leaves a blank.
    assert gauges.cells(gauges.fit(text, width, right=right)) == width


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("amp", 5, "amp  "),
        ("amplifier", 5, "ampl…"),
        ("a\nb", 4, r"a\nb"),
        ("amp", 0, ""),
        ("アンプ", 4, "ア… "),
    ],
)
def test_fitted_text(text, width, shown):
    assert gauges.fit(text, width) == shown


def test_fitted_to_the_right():
    assert gauges.fit("-6.0", 6, right=True) == "  -6.0"


@given(NO_ACCENTS, st.integers(2, 40))
def test_folded_text_keeps_its_characters(text, width):
    lines = gauges.folded(text, width)
    assert all(0 < gauges.cells(line) <= width for line in lines)
    shown = gauges.one_line(text)
    assert "".join(lines).replace(" ", "") == "".join(shown.split()).replace(" ", "")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("one two", ["one two"]),
        ("one two three", ["one two", "three"]),
        ("incomprehensible", ["incompreh", "ensible"]),
        ("an incomprehensible", ["an", "incompreh", "ensible"]),
        ("アンプアンプ", ["アンプア", "ンプ"]),
    ],
)
def test_folded_text(text, lines):
    assert gauges.folded(text, 9) == lines


def test_a_line_is_cut_within_a_piece():
    line = [("abc", "dim"), ("defgh", "good"), ("i", "")]
    assert gauges.cut(line, 9) == line
    assert gauges.cut(line, 6) == [("abc", "dim"), ("de…", "good")]
    assert gauges.cut(line, 3) == [("abc", "dim")]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 20))
def test_a_window_shows_what_is_chosen(count, chosen, height):
    shown = gauges.window(count, chosen, height)
    assert len(shown) == min(count, height)
    assert not shown or (shown[0] >= 0 and shown[-1] < count)
    if chosen < count and height:
        assert chosen in shown


# ---- meters ----


def test_a_meter_rises_at_once_falls_30_db_a_second_and_holds_two():
    meter = Meter()
    meter.update(0.5, 10.0)
    assert meter.level_db == pytest.approx(20 * math.log10(0.5))
    meter.update(0.0, 10.5)
    assert meter.level_db == pytest.approx(20 * math.log10(0.5) - 15.0)
    assert meter.held_db == pytest.approx(20 * math.log10(0.5))
    meter.update(0.25, 11.0)  # between what has fallen and what is held
    assert meter.level_db == pytest.approx(20 * math.log10(0.25))
    assert meter.held_db == pytest.approx(20 * math.log10(0.5))
    meter.update(0.1, 12.5)
    assert meter.held_db == pytest.approx(20 * math.log10(0.1))
    meter.update(0.0, 20.0)
    assert meter.level_db == meter.held_db == -math.inf


def test_a_clip_light_is_that_of_the_row_and_stays_until_it_is_cleared():
    meters = Meters()
    meters.update(HostStats(input_peaks=(0.2, 1.2), output_peaks=(0.5,)), 0.0)
    assert [meter.clipped for meter in meters.inputs] == [False, True]
    meters.update(HostStats(input_peaks=(0.2, 0.1), output_peaks=(1.0,)), 0.1)
    assert [meter.clipped for meter in (*meters.inputs, *meters.outputs)] == [False, True, False]
    meters.clear()
    # At full scale by the converter's count: the row that is there.
    meters.update(HostStats(input_peaks=(0.3, 0.9999), output_peaks=(0.5,), input_clips=1), 0.2)
    assert [meter.clipped for meter in (*meters.inputs, *meters.outputs)] == [False, True, False]
    meters.clear()
    meters.update(HostStats(input_peaks=(0.3, 0.9999), output_peaks=(0.5,), input_clips=1), 0.3)
    assert not any(meter.clipped for meter in (*meters.inputs, *meters.outputs))


def test_meters_come_and_go_with_rows():
    meters = Meters()
    meters.update(HostStats(input_peaks=(0.5,), output_peaks=(0.5,)), 0.0)
    kept = meters.inputs[0]
    meters.update(HostStats(input_peaks=(0.1, 0.1), output_peaks=()), 0.1)
    assert meters.inputs[0] is kept
    assert (len(meters.inputs), len(meters.outputs)) == (2, 0)


@given(st.floats(-90.0, 6.0), st.integers(1, 60))
def test_a_meters_bar_is_linear_in_db(level_db, width):
    bar = gauges.meter_bar(level_db, -math.inf, width)
    assert gauges.length(bar) == width
    share = min(max((level_db + 60.0) / 60.0, 0.0), 1.0)
    assert filled_cells(bar) == pytest.approx(share * width, abs=1 / 16 + 1e-9)


def test_a_meters_colours_change_where_levels_get_high():
    bar = gauges.meter_bar(0.0, -math.inf, 60)
    assert [(len(text), style) for text, style in bar] == [(48, "bar-good"), (9, "bar-warn"), (3, "bar-bad")]


@pytest.mark.parametrize(
    ("held_db", "cell", "style"),
    [(-30.0, 30, "bar-good"), (-6.0, 54, "bar-warn"), (-1.0, 59, "bar-bad"), (6.0, 59, "bar-bad")],
)
def test_a_peak_is_marked_where_it_was(held_db, cell, style):
    bar = gauges.meter_bar(-60.0, held_db, 60)
    assert text_of(bar).index("▐") == cell
    assert next(each for text, each in bar if "▐" in text) == style


def test_a_meter_line_says_its_peak():
    meter = Meter()
    assert text_of(gauges.meter_line("in", meter, 40)).endswith("-∞ clip")
    meter.update(1.25, 0.0)
    meter.clipped = True
    line = gauges.meter_line("in", meter, 40)
    assert text_of(line).endswith("1.9 CLIP")
    assert line[-1][1] == "alarm"
    assert gauges.length(line) == 40


@pytest.mark.parametrize("width", [20, 40, 60, 120])
def test_a_scale_stands_below_its_levels(width):
    scale = text_of(gauges.meter_scale(width))
    assert len(scale) <= width
    bar = width - 17
    for label in scale.split():
        # The last digit is in the cell where a bar of that level ends, but for the first, at the left.
        end = scale.index(f" {label}") + len(label) + 1 - 6
        assert end == pytest.approx((float(label) + 60.0) / 60.0 * bar, abs=0.5) or end == len(label)


# ---- load ----


def test_a_history_keeps_the_worst_of_each_moment_for_a_minute():
    history = LoadHistory()
    for tick in range(20 * 90):
        history.update(0.1, 0.9 if tick == 20 * 60 else 0.2, tick / 20)
    loads, seconds = history.last(60)
    assert seconds * 60 >= 60.0
    assert None not in loads
    assert [load for load in loads if load != 0.2] == [0.9]
    assert loads.index(0.9) == pytest.approx(60 - 30 / seconds, abs=1)
    assert history.mean == pytest.approx(0.1)
    assert history.worst == 0.2


def test_a_history_knows_what_it_does_not_know():
    history = LoadHistory()
    assert history.last(10)[0] == [None] * 10
    history.update(0.1, 0.2, 5.0)
    assert history.last(10)[0] == [None] * 9 + [0.2]
    assert history.last(0)[0] == []


@given(st.lists(st.one_of(st.none(), st.floats(0.0, 1.5)), max_size=30), st.integers(1, 8))
def test_a_sparkline_is_as_high_as_the_load(loads, height):
    lines = gauges.sparkline(loads, height)
    assert len(lines) == height
    rows = [text_of(line) for line in lines]
    assert {len(row) for row in rows} <= {len(loads)}
    for column, load in enumerate(loads):
        eighths = sum(" ▁▂▃▄▅▆▇█".index(row[column]) for row in rows)
        if load is None:
            assert eighths == 0
        else:
            assert eighths >= 1
            assert eighths == pytest.approx(8 * height * min(load, 1.0), abs=1.0)


def test_load_has_grades():
    assert [gauges.load_style(load) for load in (0.49, 0.5, 0.79, 0.8, 2.0)] == [
        *("good", "warn", "warn", "bad", "bad")
    ]


@given(st.integers(0, 100), st.floats(0.0, 3.0))
def test_a_load_line_fits(width, load):
    history = LoadHistory()
    history.update(load, load, 0.0)
    line = gauges.load_line(history, width)
    assert gauges.length(line) == max(width, 18)
    assert f"worst {100 * load:.0f} %" in text_of(line)


# ---- knobs, needle, keys ----


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(0, 50), st.booleans())
def test_a_slider_stands_where_its_knob_does(share, default, width, chosen):
    bar = text_of(gauges.knob_bar(share, default, width, chosen))
    assert len(bar) == width
    if width:
        assert bar.index("●") == pytest.approx(share * (width - 1), abs=0.5)
        for mark in set("┷┴") & set(bar):
            assert bar.index(mark) == pytest.approx(default * (width - 1), abs=0.5)


@given(st.one_of(st.none(), st.floats(-60.0, 60.0)), st.integers(0, 61))
def test_a_needle_is_in_the_middle_in_tune(cents, width):
    line = text_of(gauges.needle(cents, width))
    assert len(line) == (0 if width < 3 else width - 1 + width % 2)
    if line:
        middle = len(line) // 2
        assert line[middle] in "╋█"
        assert line.count("█") == (cents is not None)
        if cents is not None:
            wanted = middle + min(max(cents / 50.0, -1.0), 1.0) * middle
            assert line.index("█") == pytest.approx(wanted, abs=0.5)


@pytest.mark.parametrize(("cents", "hint"), [(-4.0, "too low"), (2.0, "in tune"), (20.0, "too high")])
def test_a_tuner_says_which_way(cents, hint):
    pitch = pitch_of(110.0 * 2.0 ** (cents / 1200.0), 1.0)
    said, below = gauges.tuner_lines(pitch, 50, 2)
    assert text_of(said).split()[:3] == ["A2", f"{cents:+.0f}", "ct"]
    assert hint in text_of(said)
    assert text_of(below)[0] == "♭"
    (line,) = gauges.tuner_lines(pitch, 40, 1)
    assert gauges.length(line) <= 40
    assert "█" in text_of(line)


@given(st.integers(0, 150))
def test_keys_are_drawn_where_they_are_clicked_on(width):
    lines = gauges.wrapped(ITEMS, width)
    assert [item for line in lines for _, item in line] == list(ITEMS)
    for line in lines:
        shown = text_of(gauges.keys_line(line, {"b", "q"}))
        assert len(shown) <= width or len(line) == 1
        for column, item in line:
            assert shown[column : column + item.size] == item.shown


def test_what_is_on_is_lit():
    line = list(gauges.keys_line([(0, Item("b", "bypass", "")), (10, Item("t", "tuner", ""))], {"b"}))
    assert ("b bypass", "on") in line
    assert all(style != "on" for text, style in line if "tuner" in text or "t" in text.split())


# ---- controls ----


def knob_control(value=0.5, minimum=0.0, maximum=1.0, default=0.5) -> Control:
    step = (maximum - minimum) / 50
    return Control("knob", "drive", value, default, minimum, maximum, step)


@given(st.floats(-100.0, 100.0), st.floats(0.001, 200.0), st.floats(0.0, 1.0), st.integers(-70, 70))
def test_a_turned_knob_stays_in_its_range(minimum, span, share, steps):
    maximum = minimum + span
    control = knob_control(minimum + share * span, minimum, maximum, minimum)
    assert minimum <= control.turned(steps) <= maximum
    wanted = min(max(control.value + steps * span / 50, minimum), maximum)
    assert control.turned(steps) == pytest.approx(wanted, abs=span / 1000)
    assert minimum <= control.at(share) <= maximum
    assert control.at(share) == pytest.approx(minimum + share * span, abs=span / 450)


def test_a_hundred_steps_there_and_back_leave_nothing_behind():
    control = knob_control()
    values = []
    for steps in [0.2] * 50 + [-0.2] * 50:
        control = knob_control(control.turned(steps))
        values.append(control.value)
    assert values[49] == 0.7
    assert control.value == 0.5


def test_what_was_set_beyond_a_range_can_be_turned_back():
    gain = Control("level", "level", 45.0, 0.0, -40.0, 40.0, 0.5, "dB")
    assert gain.share == 1.0
    assert gain.turned(1) == 45.0
    assert gain.turned(-2) == 44.0


def test_a_knob_of_no_range_stays():
    control = knob_control(1.0, 1.0, 1.0, 1.0)
    assert (control.share, control.turned(3), control.at(0.7)) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("control", "shown"),
    [
        (knob_control(0.5), "0.50"),
        (knob_control(-3.0, -5.0, 5.0), "-3.0"),
        (knob_control(440.0, 20.0, 20000.0), "440"),
        (knob_control(0.0123, 0.0, 0.1), "0.012"),
        (knob_control(2e6, 0.0, 4e6), "2e+06"),
        (Control("level", "level", -3.5, 0.0, -40.0, 40.0, 0.5, "dB"), "-3.5 dB"),
    ],
)
def test_a_value_is_shown_to_a_fine_step(control, shown):
    assert control.shown() == shown


def test_controls_are_gain_knobs_level():
    assert [each.key for each in controls_of(status_of())] == [
        *(("input gain", "input gain"), ("knob", "drive"), ("knob", "tone"), ("level", "level"))
    ]
    assert [each.value for each in controls_of(status_of())] == [0.0, 0.5, 1.0, 0.0]
    assert [each.kind for each in controls_of(status_of(models=()))] == ["input gain"]


@given(st.integers(20, 120))
def test_a_slider_is_where_the_mouse_looks_for_it(width):
    line = text_of(control_line(knob_control(0.0), width, True))
    start, bar = bar_of(width)
    assert len(line) == width
    if bar:
        assert line.index("●") == start
        assert text_of(control_line(knob_control(1.0), width, False)).index("●") == start + bar - 1


# ---- sentences ----


@pytest.mark.parametrize(("seconds", "shown"), [(0.9, "0:00"), (83.0, "1:23"), (3600.0, "1:00:00")])
def test_clock(seconds, shown):
    assert clock(seconds) == shown


def test_what_needs_attention():
    status = status_of()
    assert alert_of(status, 0.0) == ""
    assert alert_of(None, 0.0) == ""
    assert "answered for 3 s" in alert_of(status, 3.2)
    waiting = status_of(state="waiting", source="one", sink="one", trouble=None)
    assert alert_of(waiting, 0.0) == "waiting for one: it has gone"
    assert alert_of(status_of(state="waiting", source=None, sink="", trouble="oh"), 0.0).startswith(
        "waiting for the device: oh"
    )
    assert alert_of(status_of(stats=HostStats(muted=True)), 0.0).startswith("muted")


def test_an_alert_takes_two_lines_at_most():
    words = "waiting for a device with a name of many words: and much to be said of it"
    assert alert_lines(words, 200) == [words]
    assert alert_lines(words, 40) == [
        "waiting for a device with a name of many",
        "words: and much to be said of it",
    ]
    first, second = alert_lines(words, 24)
    assert (first, second) == ("waiting for a device", "with a name of many wor…")
    assert alert_lines("", 40) == []


def test_messages_are_whole_if_there_is_room():
    log = [(1.0, "first"), (62.0, "a sentence of quite a few words"), (63.0, "last")]
    assert [text_of(line).rstrip() for line in log_lines(log, 23, 4)] == [
        *("1:02   a sentence of", "       quite a few", "       words", "1:03   last")
    ]
    assert [text_of(line).rstrip() for line in log_lines(log[:2], 23, 1)] == ["1:02   a sentence of q…"]
    assert text_of(log_lines([], 20, 3)[0]).strip() == "no messages"


def test_a_model_that_is_wrong_says_so_below_itself():
    models = (ModelView("good", loudness_db=-18.0), ModelView("bad", problem="it has no layers"))
    lines = model_lines(status_of(models=models, playing=0), 40)
    assert [index for index, _ in lines] == [0, 1, 1]
    assert [text_of(line) for _, line in lines][2].strip() == "it has no layers"
    assert all(gauges.length(line) == 40 for _, line in lines)
    swapping = model_lines(status_of(models=models, playing=0, swapping=True), 40)
    assert text_of(swapping[0][1]).startswith("⇄")
    assert text_of(swapping[0][1]).endswith("swapping")


@given(st.integers(0, 150))
def test_a_head_and_the_session_fit(width):
    model = ModelView("a model of a long name", knobs=(Knob("drive", 0.0, 0.0, 1.0),))
    status = status_of(
        models=(model,),
        playing=0,
        bypass=True,
        recording="backline-20250101-120000.wav",
        stats=HostStats(muted=True, xruns=9, input_overflows=9),
    )
    assert gauges.length(head_line("backline live", status, width)) <= width
    assert gauges.length(head_line("backline live", None, width)) <= width
    assert all(gauges.length(line) <= width for line in session_lines(status, width))


# ---- room ----


@given(
    width=st.integers(1, 250),
    height=st.integers(1, 100),
    rows=st.integers(0, 16),
    models=st.integers(0, 60),
    controls=st.integers(1, 60),
    keys=st.integers(1, 13),
    tuner=st.booleans(),
    alert=st.integers(0, 2),
)
def test_the_room_is_shared_and_all_of_it(width, height, rows, models, controls, keys, tuner, alert):
    found = plan(
        width, height, rows=rows, models=models, controls=controls, keys=keys, tuner=tuner, alert=alert
    )
    high = found.heights
    assert all(rows >= 0 for rows in high.values())
    if height < 8:
        return  # too small for anything but not to fail
    outside = 1 + high["alert"] + high["log"] + high["keys"]
    assert high["meters"] + high["load"] + high["session"] == height - outside
    assert high["models"] + high["controls"] + high["tuner"] == height - outside
    if alert:
        assert high["alert"] >= 1
    if height >= 16:
        # One line at least of each, within a border if there is one.
        for name in ("controls", *(["models"] if models else []), *(["tuner"] if tuner else [])):
            assert high[name] >= 1 + 2 * (name in found.boxed), name
