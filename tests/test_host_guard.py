"""What stands between a model and a loudspeaker: limiting, and muting what is no number or far too loud."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import array, examples
from host_tools import WatchedHost, call, call_in_blocks, captured, cuts, entry, knob, make, noise, through
from hypothesis import given
from hypothesis import strategies as st
from swap_model import UNHURRIED_HZ

import backline
from backline import native
from backline.engine import Engine, Model, Program
from backline.graph import Graph
from backline.layers import Conv1d, Lstm
from backline.passes import INPUT_GAIN, OUTPUT_GAIN, with_levels

KNEE = np.float32(10.0 ** (-1 / 20))
RUNAWAY = np.float32(10.0 ** (24 / 20))
LARGEST = np.finfo(np.float32).max
MUTED, SETTLE = native.lib.BL_DOING_MUTED, native.lib.BL_DOING_SETTLE


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def bent(x: np.ndarray) -> np.ndarray:
    """The limiter's curve in float64: a hyperbola that leaves the knee with slope 1 and tends to 1."""
    knee, m = 10.0 ** (-1 / 20), np.abs(x.astype(np.float64))
    return np.where(m > knee, np.copysign(1.0 - (1.0 - knee) ** 2 / (m + 1.0 - 2.0 * knee), x), x)


def limited(x: np.ndarray, **options: Any) -> tuple[np.ndarray, int]:
    with make(through(), limiter=True, capture_frames=0, **options) as host:
        return call(host, x[:, None])[:, 0], host.stats().output_limited


def floats(low: np.float32, high: np.float32, count: int) -> np.ndarray:
    """Floats from low to high, evenly by their bits, and all of them close to low."""
    first, last = (int(each.view(np.uint32)) for each in (low, high))
    near = np.arange(first, first + 100_000, dtype=np.uint32)
    return np.union1d(near, np.linspace(first, last, count).astype(np.uint32)).view(np.float32)


# ---- limiter ----


def test_the_limiter_follows_its_curve_and_is_odd_and_monotonic() -> None:
    x = floats(np.nextafter(KNEE, np.float32(2)), RUNAWAY, 400_000)
    y, count = limited(x)
    assert count == len(x)
    np.testing.assert_allclose(y, bent(x), rtol=0, atol=2.0**-23)
    assert np.all(np.diff(y) >= 0)
    assert y[0] >= KNEE
    assert y[-1] < 1.0
    np.testing.assert_array_equal(limited(-x)[0], -y)


def test_the_limiter_leaves_its_knee_with_slope_one() -> None:
    x = (KNEE + np.linspace(-1e-3, 1e-3, 2001)).astype(np.float32)
    y = limited(x)[0].astype(np.float64)
    slopes = (y[10:] - y[:-10]) / (x[10:].astype(np.float64) - x[:-10])
    # The curve's second derivative at the knee is -2 / (1 - knee), about -18.4; rounding adds 2^-24 / 1e-5.
    assert np.all(np.abs(slopes - 1.0) < 1e-3 * 18.5 + 0.013)


@examples(40)
@given(seed=st.integers(0, 999), rows=st.integers(1, 3), peak=st.floats(1e-6, float(KNEE)))
def test_below_the_knee_the_limiter_changes_no_bit(seed: int, rows: int, peak: float) -> None:
    x = np.random.default_rng(seed).uniform(-peak, peak, (500, rows)).astype(np.float32)
    x[7] = np.float32(peak)
    channels = range(rows)
    with make(through(), streams=rows, inputs=channels, outputs=channels, limiter=True) as host:
        np.testing.assert_array_equal(call_in_blocks(host, x, cuts(500, seed)), x)
        assert host.stats().output_limited == 0


def test_the_limiter_is_without_memory_and_counts_rows_and_samples() -> None:
    x = noise(3000, 2, seed=4) * 4
    with make(through(), streams=2, inputs=[0, 1], outputs=[0, 1], limiter=True) as host:
        y = call_in_blocks(host, x, cuts(3000, 9))
        stats = host.stats()
        np.testing.assert_array_equal(captured(host), y)
    np.testing.assert_allclose(y, bent(x), rtol=0, atol=2.0**-23)
    quiet = np.abs(x) <= KNEE
    np.testing.assert_array_equal(y[quiet], x[quiet])
    assert stats.output_limited == np.sum(~quiet) > 100
    assert (stats.output_clips, stats.mutes) == (0, 0)
    assert stats.output_peaks == tuple(np.max(np.abs(y), axis=0))


def test_without_a_limiter_nothing_changes() -> None:
    x = column(-15.8, 15.8, 1.0, np.nextafter(np.float32(1), np.float32(2)), 0.9, -1.5)
    with make(through()) as host:
        np.testing.assert_array_equal(call(host, x), x)
        stats = host.stats()
    assert (stats.output_limited, stats.output_clips) == (0, 4)
    assert (stats.mutes, stats.muted) == (0, False)


@pytest.mark.parametrize("loud", [1.0, 15.8, 16.0, 1e30, LARGEST, np.inf, -LARGEST, np.nan], ids=str)
def test_full_scale_is_never_reached(loud: float) -> None:
    with make(through(), limiter=True, calm_frames=64) as host:
        y = call(host, np.full((300, 1), loud, np.float32))
    assert np.all(np.abs(y) < 1.0)


EXTREMES = st.sampled_from([0.0, 1.0, -1.0, 0.5, 16.0, 1e30, -1e30, LARGEST, -LARGEST, np.inf, np.nan, 1e-40])


@examples(100)
@given(
    values=st.lists(EXTREMES, min_size=1, max_size=30),
    gains=st.lists(st.sampled_from([1.0, -1.0, 3e38, -3e38, 0.0]), min_size=2, max_size=4),
    fade=st.sampled_from([0, 3, 300]),
    alone=st.booleans(),
    calm=st.sampled_from([0, 1, 100]),
)
def test_whatever_comes_the_device_gets_numbers_below_full_scale(
    values: list[float], gains: list[float], fade: int, alone: bool, calm: int
) -> None:
    """Through swaps between models at the ends of what a float holds, where differences are infinite."""
    how = {"fade_frames": fade, "warm_frames": 20, "alone": alone}
    options = {"limiter": True, "calm_frames": calm, "rate_hz": UNHURRIED_HZ}
    with make(through(gains[0]), **options) as host:
        for serial, gain in enumerate(gains[1:], 1):
            host.swap(entry(through(gain), serial=serial, latency_frames=7 * (serial % 2), **how))
            for frames in (1, 40, 200):
                y = call(host, np.resize(np.array(values, np.float32), frames)[:, None])
                assert np.all(np.abs(y) < 1.0)  # which NaN is not
                host.reclaim()
        np.testing.assert_array_less(np.abs(captured(host)), 1.0)


# ---- mute ----


def recurrent() -> Model:
    """An LSTM that holds NaN for ever once its inputs have been inf and -inf, which 3e38 makes them."""
    split = Conv1d("wide", "x", np.array([[[2.0]], [[-2.0]]], np.float32))
    hidden = 3
    lstm = Lstm("h", "wide", array(1, 4 * hidden, 2), array(2, 4 * hidden, hidden), array(3, 4 * hidden))
    head = Conv1d("y", "h", array(4, 1, hidden, 2))
    return Model(Graph((split, lstm, head), "x", 1, "y"))


def filtered() -> Model:
    return backline.conv1d(
        np.concatenate([array(5, 1, 1, 60, scale=0.01), np.full((1, 1, 1), 2.0, np.float32)], axis=2)
    )


def test_the_recurrent_model_does_hold_what_is_not_finite_for_ever() -> None:
    x = noise(300, 1)
    x[100] = 3e38
    y = recurrent()(x)
    assert np.isfinite(y[:100]).all()
    assert np.isnan(y[101:]).all()


@pytest.mark.parametrize("model", [recurrent(), filtered()], ids=["lstm", "conv"])
@pytest.mark.parametrize("block", [16, 50, 128])
def test_an_engine_that_puts_out_no_number_is_settled_again_and_comes_back(model: Model, block: int) -> None:
    calm, at = 300, 10
    x = noise(60 * block, 1)
    blocks = [x[n * block : (n + 1) * block] for n in range(60)]
    blocks[at][5] = 3e38
    with make(model, calm_frames=calm, rate_hz=UNHURRIED_HZ) as host:
        host.turn(knob(model, OUTPUT_GAIN), 0.25)
        host.turn(knob(model, INPUT_GAIN), 1.5)
        made, states = [], []
        for each in blocks:
            made.append(call(host, each))
            stats = host.stats()
            states.append((stats.mutes, stats.muted, bool(np.any(made[-1]))))
        doing = host.monitor.log().callbacks["doing"]
    calm_blocks = -(-calm // block)  # a mute ends with a chunk
    back = at + 1 + calm_blocks
    before, muted = [(0, False, True)] * at, [(1, True, False)] * calm_blocks
    assert states == [*before, *muted, (1, False, False), *[(1, False, True)] * (60 - back)]
    assert [n for n in range(60) if doing[n] & MUTED] == list(range(at, back))
    assert [n for n in range(60) if doing[n] & SETTLE] == [at]

    with Engine(Program(with_levels(model.graph)), 1) as fresh:  # the values of knobs outlive the settling
        fresh.set(OUTPUT_GAIN, 0.25)
        fresh.set(INPUT_GAIN, 1.5)
        rest = fresh.process(np.concatenate(blocks[at + 1 :]).T.copy())[0]
    way = np.minimum(1.0, (1.0 + np.arange(len(blocks[back:]) * block)) / (calm // 4))
    y, expected = np.concatenate(made[back:])[:, 0], rest[calm_blocks * block :]
    np.testing.assert_allclose(y, way * expected, rtol=2.0**-22, atol=0)
    np.testing.assert_array_equal(y[calm // 4 :], expected[calm // 4 :])


def test_knobs_on_their_way_arrive_though_the_engine_is_settled() -> None:
    with make(recurrent(), rate_hz=UNHURRIED_HZ) as host:
        call(host, np.zeros((16, 1), np.float32))
        host.turn(knob(recurrent(), OUTPUT_GAIN), 0.0)
        call(host, column(*[0.1] * 4, 3e38, *[0.1] * 11))
        assert host.stats().mutes == 1
        assert np.any(call(host, noise(500, 1))[100:])  # the way lasts 960 frames
        assert not np.any(call(host, noise(1000, 1))[500:])


def test_all_rows_are_muted_together() -> None:
    x = noise(300, 2)
    x[50, 1] = 16.0
    with make(through(), streams=2, inputs=[0, 1], outputs=[0, 1], calm_frames=64) as host:
        y = call_in_blocks(host, x, [20] * 15)
    np.testing.assert_array_equal(y[:40], x[:40])
    assert not y[40:140].any()  # the chunk itself, then four of twenty
    np.testing.assert_array_equal(y[160:], x[160:])


@pytest.mark.parametrize("level", [1.0, 1.5, 8.0, 15.8, -15.8])
def test_a_loud_level_alone_is_no_reason_to_mute(level: float) -> None:
    with make(through(), calm_frames=100) as host:
        y = call(host, np.full((500, 1), level, np.float32))
        np.testing.assert_array_equal(y, np.float32(level))
        assert (host.stats().mutes, host.stats().muted) == (0, False)


def states(host: WatchedHost, levels: list[float]) -> list[tuple[float, int, bool]]:
    """Of blocks of 50 frames at these levels: what is heard at their ends, mutes, and if it is muted."""
    found = []
    for level in levels:
        y = call(host, np.full((50, 1), level, np.float32))
        stats = host.stats()
        found.append((float(y[-1, 0]), stats.mutes, stats.muted))
    return found


def test_a_level_that_runs_away_mutes_until_it_has_been_calm() -> None:
    with make(through(), calm_frames=100) as host:
        # 2.0 is above full scale, so what was calm until then counts no more; 1.0 is not.
        levels = [1.0, 15.9, 0.5, 2.0, 0.5, 1.0, 0.5, 2.0, 16.0, 0.5, 0.5, 0.5]
        expected = [(1.0, 0, False), *[(0.0, 1, True)] * 4, (0.0, 1, False), (0.5, 1, False), (2.0, 1, False)]
        expected += [(0.0, 2, True)] * 2 + [(0.0, 2, False), (0.5, 2, False)]
        assert states(host, levels) == expected


def test_a_mute_during_the_way_back_begins_anew() -> None:
    with make(through(), calm_frames=400) as host:
        states(host, [16.0] + [0.5] * 8)
        (level, mutes, muted), *_ = states(host, [0.5])
        assert (level, mutes, muted) == (0.25, 1, False)  # half the way of 100 frames
        assert states(host, [16.0]) == [(0.0, 2, True)]
        assert [muted for _, _, muted in states(host, [0.5] * 8)] == [True] * 7 + [False]
        y = call(host, np.full((100, 1), 0.5, np.float32))[:, 0]
        np.testing.assert_allclose(y, 0.5 * (1 + np.arange(100)) / 100, rtol=2.0**-22)


def test_without_calm_frames_one_calm_chunk_ends_a_mute() -> None:
    with make(through()) as host:
        assert states(host, [16.0, 16.0, 0.5, 0.5]) == [
            (0.0, 1, True),
            (0.0, 1, True),
            (0.0, 1, False),
            (0.5, 1, False),
        ]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("latency", [0, 40])
def test_what_is_not_heard_yet_does_not_mute(alone: bool, latency: int) -> None:
    """A model whose first frames are no numbers, as it warms; and one that is far too loud."""
    how: dict[str, Any] = {"fade_frames": 20, "alone": alone, "latency_frames": latency}
    x = np.full((400, 1), 0.25, np.float32)
    x[30] = 1e38
    with make(through(1e-38), rate_hz=UNHURRIED_HZ, calm_frames=5000) as host:
        host.swap(entry(through(1e3), serial=1, warm_frames=100, **how))
        call_in_blocks(host, x, [10] * 40)
        stats = host.stats()
        doing = host.monitor.log().callbacks["doing"]
        assert stats.playing_serial == 1
        assert stats.output_not_finite == 1
        assert [n for n in range(40) if doing[n] & SETTLE] == [3]
        assert (stats.mutes, stats.muted) == (1, True)  # 250 is too loud once it is heard
        first = int(np.flatnonzero(doing & MUTED)[0])
        assert first >= 10


def test_what_is_heard_a_little_mutes_as_all_does() -> None:
    """In a crossfade either engine's NaN is one too many."""
    for at, latency in ((105, 0), (105, 5), (95, 0)):
        x = np.full((300, 1), 0.25, np.float32)
        x[at] = 1e38
        with make(through(1e3), rate_hz=UNHURRIED_HZ) as host:
            host.turn(knob(through(), OUTPUT_GAIN), 1e-3)
            host.swap(entry(through(0.5), serial=1, warm_frames=100, fade_frames=50, latency_frames=latency))
            call_in_blocks(host, x, [10] * 30)
            assert (host.stats().mutes, host.stats().output_not_finite) == (1, 1)


def test_another_host_of_the_same_monitor_is_not_muted() -> None:
    with make(through(), calm_frames=10_000) as host:
        assert states(host, [16.0]) == [(0.0, 1, True)]
        with make(through()) as other:
            other.close()
        again = WatchedHost(entry(through()), host.monitor, input_map=[0], output_map=[0], input_channels=1)
        assert not host.stats().muted
        assert states(again, [0.5]) == [(0.5, 1, False)]
        again.close()
