"""Swaps of a host's engines, sample for sample against offline renders mixed in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from graphs import examples
from host_tools import WatchedHost, call, captured, cuts, entry, knob, make, noise, through
from hypothesis import given
from hypothesis import strategies as st
from swap_model import UNHURRIED_HZ, Part, Timeline, late, late_gain, played

import backline
from backline import native
from backline.engine import Engine, Program
from backline.live.host import Entry
from backline.passes import OUTPUT_GAIN, with_levels

TWO, CROSSFADE, FADE = native.lib.BL_DOING_TWO, native.lib.BL_DOING_CROSSFADE, native.lib.BL_DOING_FADE

Offers = Mapping[int, Sequence[Part]]


def unhurried(first: Part, streams: int = 1, **options: Any) -> WatchedHost:
    """A host whose callbacks are never too slow, so that none of its swaps is cut short."""
    rows = range(streams * first.model.input_channels)
    return make(
        first.model,
        streams=streams,
        inputs=rows,
        outputs=rows,
        rate_hz=UNHURRIED_HZ,
        latency_frames=first.latency,
        **options,
    )


def run(
    host: WatchedHost, x: np.ndarray, blocks: Sequence[int], offers: Offers, streams: int = 1
) -> np.ndarray:
    """Offer before the blocks what is to be offered, tidy up after each, as the session's thread does."""
    made, at, serial = [], 0, 0
    for number, frames in enumerate(blocks):
        for part in offers.get(number, ()):
            serial += 1
            host.swap(entry(part.model, streams, serial, **part.how()))
        made.append(call(host, x[at : at + frames]))
        host.reclaim()
        at += frames
    return np.concatenate(made)


def assert_played(y: np.ndarray, expected: np.ndarray, bits: np.ndarray) -> None:
    """Bits outside of mixtures; in them no more than three roundings of what is mixed."""
    np.testing.assert_array_equal(y[bits], expected[bits].astype(np.float32))
    tolerance = 4 * 2.0**-24 * np.max(np.abs(expected), initial=1e-3)
    np.testing.assert_allclose(y, expected, rtol=0, atol=2 * tolerance)


# ---- sound ----


@st.composite
def parts(draw: st.DrawFn, channels: int = 1) -> Part:
    latency = draw(st.sampled_from([0, 0, 1, 7, 64, 300]))
    return Part(
        late(latency, draw(st.integers(1, 40)), draw(st.integers(0, 999)), channels),
        latency,
        draw(st.sampled_from([0, 1, 5, 127, 128, 129, 400])),
        draw(st.sampled_from([0, 1, 2, 100, 128, 333])),
        draw(st.booleans()),
    )


@examples(120)
@given(
    first=parts(),
    second=parts(),
    third=parts(),
    streams=st.integers(1, 3),
    fade_in=st.sampled_from([0, 0, 1, 77, 200]),
    seed=st.integers(0, 999),
    largest=st.sampled_from([2, 40, 300, 900]),
    at=st.integers(0, 60),
)
def test_swaps_equal_offline_renders_crossfaded(
    first: Part, second: Part, third: Part, streams: int, fade_in: int, seed: int, largest: int, at: int
) -> None:
    blocks = [1] * 30 + cuts(4000, seed, largest)
    x = noise(sum(blocks), streams, seed=seed)
    at = min(at, len(blocks) - 1)
    offers = {at: [second], len(blocks) // 2: [third]} if at != len(blocks) // 2 else {at: [second, third]}
    begun = Timeline.of(blocks, first, offers, fade_in).begun
    with unhurried(first, streams, fade_in_frames=fade_in) as host:
        y = run(host, x, blocks, offers, streams)
        assert_played(y, *played(x, first, begun, fade_in))
        np.testing.assert_array_equal(captured(host), y)


@examples(40)
@given(first=parts(2), second=parts(2), seed=st.integers(0, 999))
def test_engines_of_several_rows_and_streams(first: Part, second: Part, seed: int) -> None:
    blocks = cuts(3000, seed, 500)
    x = noise(3000, 2, seed=seed)
    begun = Timeline.of(blocks, first, {1: [second]}).begun
    with unhurried(first) as host:
        assert_played(run(host, x, blocks, {1: [second]}), *played(x, first, begun))


@examples(40)
@given(first=parts(), second=parts(), seed=st.integers(0, 999), start=st.integers(0, 500))
def test_block_sizes_change_no_bit_of_a_swap(first: Part, second: Part, seed: int, start: int) -> None:
    x, made = noise(3000, 1, seed=seed), []
    for largest in (2, 130, 3000):
        before, after = cuts(start, seed, largest), cuts(3000 - start, seed + 1, largest)
        with unhurried(first) as host:
            made.append(run(host, x, before + after, {len(before): [second]}))
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


@pytest.mark.parametrize("apart", [8192, -8192])
def test_the_longest_delay_that_is_evened_out(apart: int) -> None:
    first, second = (Part(late_gain(1.0, lag), lag, 0, 500) for lag in (max(-apart, 0), max(apart, 0)))
    blocks = [500, *cuts(24000, 3, 1000)]
    x = noise(sum(blocks), 1)
    with unhurried(first) as host:
        y = run(host, x, blocks, {1: [second]})
    assert_played(y, *played(x, first, [(500, second)]))


@pytest.mark.parametrize("sign", [1, -1])
def test_of_a_longer_delay_as_much_as_fits_is_evened_out(sign: int) -> None:
    """Models 16,500 frames apart crossfade 8,192 frames apart: the header's BL_HOST_EVEN_FRAMES."""
    most, fade = native.lib.BL_HOST_EVEN_FRAMES, 400
    lags = (0, 16500) if sign > 0 else (16500, 0)
    first, second = (Part(late_gain(1.0, lag), lag, 17000, fade) for lag in lags)
    # What the host hears is the same as if the difference were `most`.
    as_if = [Part(part.model, min(part.latency, most), part.warm, fade) for part in (first, second)]
    blocks = cuts(40000, 5, 2000)
    x = noise(40000, 1)
    begun = Timeline.of(blocks, as_if[0], {1: [as_if[1]]}).begun
    with unhurried(first) as host:
        y = run(host, x, blocks, {1: [second]})
    assert_played(y, *played(x, as_if[0], begun))


def test_alone_fades_out_is_silent_and_fades_in() -> None:
    with unhurried(Part(through(0.5))) as host:
        ones = np.ones((40, 1), np.float32)
        y = run(host, ones, [10, 30], {1: [Part(through(2.0), 0, 5, 4, True)]})[:, 0]
    np.testing.assert_allclose(y[:10], 0.5)
    np.testing.assert_allclose(y[10:14], [0.375, 0.25, 0.125, 0.0], atol=1e-7)
    assert not y[14:19].any()
    np.testing.assert_allclose(y[19:23], [0.5, 1.0, 1.5, 2.0], atol=1e-6)
    np.testing.assert_array_equal(y[23:], 2.0)


@examples(40)
@given(taps=st.integers(1, 60), fade=st.integers(0, 300), extra=st.integers(0, 50), seed=st.integers(0, 99))
def test_a_model_that_replaces_itself_is_not_heard_to(taps: int, fade: int, extra: int, seed: int) -> None:
    model = late(0, taps, seed)
    assert model.receptive_field_frames == taps
    part, blocks = Part(model, 0, taps + extra, fade), cuts(1500, seed, 200)
    x = noise(1500, 1, seed=seed)
    with unhurried(part) as host:
        np.testing.assert_array_equal(run(host, x, blocks, {0: [part], 1: [part], 4: [part]}), model(x))
        assert host.stats().swaps >= 1


def test_two_engines_that_take_too_long_are_faded_apart_and_counted() -> None:
    """At 10 MHz, blocks of one frame: 100 ns each, for 5,000 multiply-adds."""
    heavy = backline.conv1d(np.full((1, 1, 5000), 1e-4, np.float32))
    with make(heavy, rate_hz=1e7) as host:
        for serial, alone in ((1, True), (2, False)):
            host.swap(entry(heavy, serial=serial, warm_frames=10, fade_frames=5, alone=alone))
            for _ in range(60):
                call(host, np.ones((1, 1), np.float32))
            doing = host.monitor.log().callbacks["doing"][-60:]
            host.reclaim()
            stats = host.stats()
            assert (stats.swaps, stats.relieved) == (serial, serial - 1)
            assert np.any(doing & FADE)
            assert not np.any(doing & CROSSFADE)


# ---- no discontinuity ----


@st.composite
def offers_of_gains(draw: st.DrawFn) -> dict[int, list[Part]]:
    found: dict[int, list[Part]] = {}
    for _ in range(draw(st.integers(1, 12))):
        latency = draw(st.sampled_from([0, 0, 3, 50]))
        part = Part(
            late_gain(draw(st.sampled_from([-1.0, 0.0, 0.25, 1.0, 1.9])), latency),
            latency,
            latency + draw(st.integers(0, 100)),
            draw(st.integers(20, 200)),
            draw(st.booleans()),
        )
        found.setdefault(draw(st.integers(0, 60)), []).append(part)
    return found


@examples(80)
@given(offers=offers_of_gains(), seed=st.integers(0, 999), cycles=st.floats(0.001, 0.02))
def test_no_sequence_of_swaps_makes_a_step(offers: dict[int, list[Part]], seed: int, cycles: float) -> None:
    """Signals within the bound B that move by S a frame at most, mixed over F frames, move by S + 2 B / F."""
    blocks = cuts(8000, seed, 200)
    gain, fade = 1.9, 20
    x = np.sin(2 * np.pi * cycles * np.arange(sum(blocks))).astype(np.float32)[:, None]
    bound = gain * 2 * np.sin(np.pi * cycles) + 2 * gain / fade
    with unhurried(Part(through(1.0))) as host:
        y = run(host, x, blocks, offers)
        assert host.stats().mutes == 0
    assert np.max(np.abs(np.diff(y[:, 0]))) <= bound + 1e-6


@examples(80)
@given(offers=offers_of_gains(), seed=st.integers(0, 999), fade_in=st.sampled_from([0, 500]))
def test_any_sequence_of_offers_is_the_models(offers: dict[int, list[Part]], seed: int, fade_in: int) -> None:
    """Offers faster than swaps last, too: the latest that waits goes in, those before it never play."""
    first, blocks = Part(through(1.0)), cuts(8000, seed, 200)
    x = noise(8000, 1, seed=seed)
    timeline = Timeline.of(blocks, first, offers, fade_in)
    with unhurried(first, fade_in_frames=fade_in) as host:
        y = run(host, x, blocks, offers)
        assert_played(y, *played(x, first, timeline.begun, fade_in))
        assert host.swapping == bool(timeline.left or (timeline.begun and timeline.end > 8000))


# ---- who owns what ----


class CountedEngine(Engine):
    """Counts how often it is closed."""

    closes = 0

    def close(self) -> None:
        self.closes += 1
        super().close()


def counted(model_or_part: Part, serial: int) -> Entry:
    program = Program(with_levels(model_or_part.model.graph))
    return Entry(CountedEngine(program, 1), serial, **model_or_part.how())


def closes(entries: Sequence[Entry]) -> list[int]:
    return [each.engine.closes for each in entries if isinstance(each.engine, CountedEngine)]


def test_the_latest_that_waits_wins_and_each_engine_is_closed_once() -> None:
    x = np.ones((100, 1), np.float32)
    entries = [
        counted(Part(through(gain), 0, 150, 100), serial) for serial, gain in enumerate((2, 3, 4, 5), 1)
    ]
    with unhurried(Part(through(1.0))) as host:
        assert (host.stats().playing_serial, host.swapping) == (0, False)
        for each in entries:
            host.swap(each)
        host.reclaim()
        assert closes(entries) == [0, 1, 1, 0]  # the second and the third waited in vain
        heard = []
        for _ in range(6):
            assert host.swapping
            heard.append((float(call(host, x)[-1, 0]), host.stats().playing_serial))
            host.reclaim()
        assert [serial for _, serial in heard] == [0, 0, 1, 1, 1, 4]
        assert (heard[2][0], heard[5][0], host.swapping) == (2.0, 5.0, False)
    assert closes(entries) == [1, 1, 1, 1]


@examples(40)
@given(offers=offers_of_gains(), seed=st.integers(0, 99), stop=st.integers(0, 80))
def test_engines_are_closed_once_whenever_the_host_ends(
    offers: dict[int, list[Part]], seed: int, stop: int
) -> None:
    blocks = cuts(8000, seed, 200)[:stop]
    entries: list[Entry] = []
    timeline = Timeline.of(blocks, Part(through(1.0)), offers)
    with unhurried(Part(through(1.0))) as host:
        for number, frames in enumerate(blocks):
            for part in offers.get(number, ()):
                entries.append(counted(part, len(entries) + 1))
                host.swap(entries[-1])
            call(host, None, frames)
            host.reclaim()
            assert max(closes(entries), default=0) <= 1
        still = sum(count == 0 for count in closes(entries))
        started = len(timeline.begun)
        assert host.stats().swaps in (started, started - 1)
        # One plays, one may be entering, and those left are handed over or wait.
        assert still <= len(timeline.left) + min(started, 2)
    assert closes(entries) == [1] * len(entries)


def test_a_host_that_is_never_called_again_closes_all() -> None:
    entries = [counted(Part(through()), serial) for serial in range(1, 6)]
    with unhurried(Part(through())) as host:
        for each in entries:
            host.swap(each)
    assert closes(entries) == [1] * 5


def test_swaps_and_serials_are_counted_as_they_end() -> None:
    with unhurried(Part(through())) as host:
        for serial in (7, -3, 1 << 40):
            host.swap(entry(through(), serial=serial, warm_frames=10, fade_frames=10))
            call(host, None, 19)
            before = host.stats()
            call(host, None, 1)
            host.reclaim()
            stats = host.stats()
            assert stats.playing_serial == serial != before.playing_serial
            assert stats.swaps == before.swaps + 1
            assert not host.swapping


# ---- knobs ----


def gain_of(host: WatchedHost, frames: int = 2000) -> float:
    """What an input of 1 is multiplied by once ramps are over."""
    return float(call(host, np.ones((frames, 1), np.float32))[-1, 0])


def test_knobs_reach_the_engine_they_are_meant_for_and_no_other() -> None:
    number = knob(through(), OUTPUT_GAIN)
    how: dict[str, Any] = {"warm_frames": 5000, "fade_frames": 100}
    with unhurried(Part(through())) as host:
        host.set(0, number, 0.5)
        host.set(9, number, 0.001)  # nobody's
        assert gain_of(host) == 0.5
        host.swap(entry(through(2.0), serial=1, **how))
        host.set(1, number, 0.25)  # handed over, not yet taken
        assert gain_of(host) == 0.5
        host.set(1, number, 0.75)  # warming
        host.set(0, number, 0.625)  # still heard
        host.swap(entry(through(3.0), serial=2, **how))
        host.set(2, number, 0.125)  # waiting
        assert gain_of(host) == 0.625
        assert gain_of(host) == 1.5
        host.reclaim()
        host.set(0, number, 0.001)  # gone
        call(host, None, 10)
        host.reclaim()
        assert gain_of(host) == 1.5
        gain_of(host, 4000)
        assert gain_of(host) == 0.375


def test_a_knob_reaches_a_model_offered_while_the_host_fades_in() -> None:
    number = knob(through(), OUTPUT_GAIN)
    with unhurried(Part(through()), fade_in_frames=1000) as host:
        host.swap(entry(through(2.0), serial=1, warm_frames=100, fade_frames=100))
        host.set(1, number, 0.25)
        call(host, None, 500)
        host.set(1, number, 0.5)
        call(host, None, 400)
        assert host.stats().playing_serial == 0
        for _ in range(3):
            gain_of(host)
        assert (gain_of(host), host.stats().playing_serial) == (1.0, 1)


def test_a_knob_of_an_engine_before_its_first_frame_jumps() -> None:
    number = knob(through(), OUTPUT_GAIN)
    ones = np.ones((10, 1), np.float32)
    with unhurried(Part(through())) as host:
        host.swap(entry(through(), serial=1))
        host.set(1, number, 0.25)
        np.testing.assert_array_equal(call(host, ones), 0.25 * ones)


# ---- what the log says, and relief ----


def doing(host: WatchedHost) -> list[int]:
    return [int(each) for each in host.monitor.log().callbacks["doing"]]


def test_the_log_says_what_each_callback_did() -> None:
    with unhurried(Part(through())) as host:
        blocks = [10] * 9
        offers = {1: [Part(late_gain(1.0, 5), 5, 10, 10)], 5: [Part(through(), 0, 10, 10)]}
        run(host, noise(90, 1), blocks, offers)
        found = doing(host)
    # warm, stretch, cross; then warm, cross, relax
    heard = TWO | CROSSFADE
    assert found == [0, TWO, heard, heard, 0, TWO, heard, CROSSFADE, 0]


def test_the_log_of_a_swap_alone_and_of_a_fade_in() -> None:
    with unhurried(Part(through()), fade_in_frames=10) as host:
        run(host, noise(70, 1), [10] * 7, {2: [Part(through(), 0, 20, 10, True)]})
        assert doing(host) == [FADE, 0, FADE, FADE, FADE, FADE, 0]


def test_stages_that_share_a_callback_are_all_in_its_record() -> None:
    with unhurried(Part(through())) as host:
        run(host, noise(200, 1), [100, 100], {0: [Part(through(), 0, 10, 10)]})
        assert doing(host) == [TWO | CROSSFADE, 0]


def test_two_callbacks_in_a_row_that_are_too_slow_end_the_running_beside() -> None:
    """At ten million frames a second every callback is: the second model then goes in alone."""
    weight = np.zeros((1, 1, 20000), np.float32)
    weight[0, 0, -1] = 2.0
    part = Part(through(3.0), 0, 6, 4)
    with make(backline.conv1d(weight), rate_hz=1e7) as host:
        host.swap(entry(part.model, serial=1, **part.how()))
        y = np.concatenate([call(host, np.ones((1, 1), np.float32)) for _ in range(18)])[:, 0]
        found, busy = doing(host), host.monitor.log().callbacks["busy_ns"]
    assert np.all(busy[:2] > 100)
    assert found == [TWO] * 2 + [FADE] * 14 + [0] * 2
    np.testing.assert_allclose(y, [2, 2, 1.5, 1, 0.5, 0, *[0] * 6, 0.75, 1.5, 2.25, 3, 3, 3], atol=1e-6)


def test_callbacks_in_time_end_nothing() -> None:
    with unhurried(Part(through(2.0))) as host:
        run(host, np.ones((100, 1), np.float32), [10] * 10, {0: [Part(through(3.0), 0, 60, 20)]})
        assert doing(host) == [TWO] * 6 + [TWO | CROSSFADE] * 2 + [0] * 2
