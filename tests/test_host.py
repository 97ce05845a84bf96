"""The C host without any device: its callback is called from here, as a sound card's driver would."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from host_tools import (
    CALLBACK,
    CAPTURE,
    RATE_HZ,
    WatchedHost,
    call,
    call_in_blocks,
    captured,
    cuts,
    knob,
    make,
    mono,
    noise,
    through,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import backline
from backline import native
from backline.engine import Engine, Program
from backline.errors import BacklineError, ModelError
from backline.live.host import Entry, Host
from backline.live.monitor import Monitor
from backline.live.status import dbfs
from backline.live.streams import ClockStream
from backline.passes import BYPASS, INPUT_GAIN, OUTPUT_GAIN, with_levels

# ---- sound ----


@settings(max_examples=40, deadline=None)
@given(blocks=st.lists(st.integers(1, 2000), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_blocks_of_any_size_give_the_bits_of_the_offline_render(blocks: list[int], seed: int) -> None:
    x, model = noise(sum(blocks), 1, seed=seed), mono()
    with make(model) as host:
        y = call_in_blocks(host, x, blocks)
        np.testing.assert_array_equal(y, model(x))
        np.testing.assert_array_equal(captured(host), model(x))


def test_a_take_replaces_the_input_and_is_followed_by_silence() -> None:
    take, model = noise(1000, 1), mono()
    with make(model, take=take.T, channels=3) as host:
        y = call_in_blocks(host, np.full((1500, 3), 9.0, np.float32), cuts(1500, 3))
        expected = model(np.concatenate([take, np.zeros((500, 1), np.float32)]))
        np.testing.assert_array_equal(y, expected)


def test_a_take_needs_no_input() -> None:
    take, model = noise(300, 1), mono()
    with make(model, inputs=[None], take=take.T) as host:
        np.testing.assert_array_equal(call(host, None, 300), model(take))


def test_input_map_picks_channels_and_silence() -> None:
    x = noise(200, 4)
    with make(through(), streams=3, inputs=[3, None, 1], outputs=[0, 1, 2], channels=4) as host:
        y = call(host, x)
        np.testing.assert_array_equal(y, np.stack([x[:, 3], 0 * x[:, 0], x[:, 1]], axis=1))


def test_one_row_goes_to_all_chosen_channels_and_the_others_are_silent() -> None:
    x = noise(300, 1)
    with make(through(2.0), outputs=[None, 0, None, 0]) as host:
        y = call(host, x)
        np.testing.assert_array_equal(y[:, [1, 3]], np.repeat(2 * x, 2, axis=1))
        assert not y[:, [0, 2]].any()


def test_dual_mono_keeps_streams_apart() -> None:
    x, model = noise(500, 2), mono()
    with make(model, streams=2, inputs=[0, 1], outputs=[1, 0]) as host:
        y = call_in_blocks(host, x, cuts(500, 5))
        np.testing.assert_array_equal(y[:, ::-1], model(x))


def test_several_channels_of_one_stream() -> None:
    model = backline.conv1d(noise(6, 2, 5), groups=2)
    x = noise(400, 4)
    with make(model, inputs=[2, 3, 0, 1], outputs=range(6)) as host:
        np.testing.assert_array_equal(call_in_blocks(host, x, cuts(400, 1)), model(x[:, [2, 3, 0, 1]]))


def test_absent_input_is_silence_and_absent_output_is_not_written() -> None:
    with make(through(), outputs=[]) as host:
        call(host, None, 100)
        call(host, np.ones((100, 1), np.float32))
        np.testing.assert_array_equal(captured(host)[:, 0], [0.0] * 100 + [1.0] * 100)


def test_no_frames_are_no_harm() -> None:
    with make(through()) as host:
        call(host, None, 0)
        stats = host.stats()
        assert (stats.callbacks, stats.frames, stats.load_worst) == (1, 0, 0.0)


# ---- knobs ----


def test_knobs_through_the_mailbox_equal_the_engine_with_the_same_frames() -> None:
    x, model = noise(6000, 1), mono()
    program = Program(with_levels(model.graph))
    turns = [(INPUT_GAIN, 0.5, 0), (OUTPUT_GAIN, 2.0, 1000), (BYPASS, 1.0, 3500), (INPUT_GAIN, 1.5, 700)]
    with Engine(program, 1) as engine:
        pieces, at = [], 0
        for name, value, frame in sorted(turns, key=lambda turn: turn[2]):
            pieces.append(engine.process(np.ascontiguousarray(x[at:frame].T)))
            engine.set(name, value, frame)
            at = frame
        pieces.append(engine.process(np.ascontiguousarray(x[at:].T)))
    expected = np.concatenate(pieces, axis=1).T
    with make(model) as host:
        at, made = 0, []
        for frames in cuts(6000, 7, 200):
            for name, value, frame in turns:
                if at <= frame < at + frames:
                    host.turn(program.knob_index(name), value, frame)
            made.append(call(host, x[at : at + frames]))
            at += frames
        np.testing.assert_array_equal(np.concatenate(made), expected)


def test_a_knob_set_before_the_first_frame_jumps() -> None:
    x, model = noise(500, 1), through()
    with make(model) as host:
        host.turn(knob(model, INPUT_GAIN), 0.25)
        np.testing.assert_array_equal(call(host, x), np.float32(0.25) * x)


def test_a_knob_turned_later_gets_there_without_a_step() -> None:
    model = through()
    with make(model) as host:
        ones = np.ones((2000, 1), np.float32)
        call(host, ones)
        host.turn(knob(model, OUTPUT_GAIN), 3.0)
        y = call(host, ones)[:, 0]
        assert y[-1] == 3.0
        assert np.all(np.diff(y) >= 0)
        assert np.max(np.diff(y)) <= 1.01 * 2.0 / (0.02 * RATE_HZ)


def test_bypass_is_the_input_itself() -> None:
    x, model = noise(500, 1), mono()
    with make(model) as host:
        host.turn(knob(model, BYPASS), 1.0)
        np.testing.assert_array_equal(call(host, x), x)


def test_a_full_mailbox_says_so_and_is_empty_after_a_block() -> None:
    model = through()
    with make(model) as host:
        for number in range(native.lib.BL_HOST_COMMANDS):
            host.turn(0, float(number))
        with pytest.raises(BacklineError, match="turning knob 0"):
            host.turn(0, 1.0)
        call(host, None, 1)
        host.turn(0, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_knob_that_is_not_finite_is_refused(value: float) -> None:
    with make(through()) as host, pytest.raises(BacklineError):
        host.turn(0, value)


def test_a_knob_that_is_none_changes_nothing() -> None:
    x = noise(100, 1)
    with make(through()) as host:
        for number in (-1, 99, 1 << 30):
            host.turn(number, 0.5)
        np.testing.assert_array_equal(call(host, x), x)


# ---- counting ----


def test_peaks_are_of_each_row_and_are_taken_by_reading() -> None:
    x = np.zeros((600, 2), np.float32)
    x[100, 0], x[599, 1] = -0.5, 0.25
    with make(through(2.0), streams=2, inputs=[0, 1], outputs=[0, 1]) as host:
        call_in_blocks(host, x, [64] * 9 + [24])
        stats = host.stats()
        assert stats.input_peaks == (0.5, 0.25)
        assert stats.output_peaks == (1.0, 0.5)
        assert host.stats().input_peaks == (0.0, 0.0)


def test_clips_are_counted_in_and_out() -> None:
    full = 1.0 - 2.0**-15
    x = np.array([[0.5], [full], [-1.0], [np.nextafter(np.float32(full), np.float32(0))], [0.51]], np.float32)
    with make(through(2.0)) as host:
        call(host, x)
        stats = host.stats()
        assert stats.input_clips == 2
        assert stats.output_clips == 4  # the first is 1 exactly, which is not over


def test_what_is_not_finite_becomes_zero_and_is_counted() -> None:
    x = np.array([[np.nan], [0.5], [np.inf], [-np.inf], [0.25]], np.float32)
    with make(through()) as host:
        y = call(host, x)
        np.testing.assert_array_equal(y[:, 0], [0.0, 0.5, 0.0, 0.0, 0.25])
        stats = host.stats()
        assert (stats.input_not_finite, stats.output_not_finite) == (3, 0)
        assert stats.input_peaks == (0.5,)


def test_what_the_model_makes_infinite_becomes_zero_and_is_counted() -> None:
    x = np.array([[1.0], [0.0], [1e9]], np.float32)
    with make(through(3e38)) as host:
        host.turn(knob(through(), OUTPUT_GAIN), 1000.0)
        y = call(host, x)
        np.testing.assert_array_equal(y[:, 0], [0.0, 0.0, 0.0])
        np.testing.assert_array_equal(captured(host), y)
        assert host.stats().output_not_finite == 2


def test_xruns_are_counted_by_flag_and_priming_is_none() -> None:
    lib = native.lib
    with make(through()) as host:
        for flags in (
            lib.BL_HOST_INPUT_UNDERFLOW,
            lib.BL_HOST_INPUT_OVERFLOW | lib.BL_HOST_OUTPUT_UNDERFLOW,
            lib.BL_HOST_OUTPUT_UNDERFLOW,
            lib.BL_HOST_OUTPUT_OVERFLOW,
            lib.BL_HOST_OUTPUT_PRIMING,
            1 << 20,
            0,
        ):
            call(host, None, 16, flags)
        stats = host.stats()
    assert (stats.input_underflows, stats.input_overflows) == (1, 1)
    assert (stats.output_underflows, stats.output_overflows) == (2, 1)
    assert (stats.xruns, stats.callbacks, stats.frames) == (4, 7, 112)


def test_loads_agree_with_each_other() -> None:
    with make(mono()) as host:
        for _ in range(200):
            call(host, None, 64)
        stats = host.stats()
    assert 0.0 < stats.load_mean <= stats.load_worst
    assert 0.0 < stats.load_p99 <= stats.load_worst


# ---- capture ----


def test_a_full_capture_loses_frames_counts_them_and_keeps_time() -> None:
    x = noise(4000, 1)
    with make(through(), capture_frames=1000) as host:
        call_in_blocks(host, x[:1500], [100] * 15)
        assert host.stats().capture_lost_frames == 500
        first = captured(host)
        call_in_blocks(host, x[1500:2000], [100] * 5)
        second = captured(host)
    np.testing.assert_array_equal(first, x[:1000])
    np.testing.assert_array_equal(second[:500], np.zeros((500, 1)))
    np.testing.assert_array_equal(second[500:], x[1500:2000])


def test_a_long_outage_is_paid_back_in_bounded_steps_and_still_keeps_time() -> None:
    x = noise(20000, 1)
    made = []
    with make(through(), capture_frames=4000) as host:
        call_in_blocks(host, x[:12000], [100] * 120)
        for start in range(12000, 20000, 100):
            made.append(captured(host))
            call(host, x[start : start + 100])
        made.append(captured(host))
        lost = host.stats().capture_lost_frames
    y = np.concatenate(made)
    assert y.shape == x.shape
    silent = np.flatnonzero(y[:, 0] == 0.0)
    assert len(silent) == lost >= 8000
    np.testing.assert_array_equal(np.delete(y, silent, axis=0), np.delete(x, silent, axis=0))


def test_the_capture_wraps_at_any_size() -> None:
    x, made, at = noise(5000, 2), [], 0
    with make(through(), streams=2, inputs=[0, 1], outputs=[0, 1], capture_frames=777) as host:
        for frames in cuts(5000, 11, 300):
            call(host, x[at : at + frames])
            at += frames
            made.append(captured(host, 400))
            made.append(captured(host, 400))
        assert host.stats().capture_lost_frames == 0
    np.testing.assert_array_equal(np.concatenate(made), x)


def test_without_a_capture_there_is_nothing_to_read() -> None:
    with make(through(), capture_frames=0) as host:
        call(host, noise(100, 1))
        assert len(captured(host)) == 0
        assert host.stats().capture_lost_frames == 0


def test_threads_may_read_and_turn_while_audio_runs() -> None:
    """The writer gets every frame once, in order, while the main thread turns knobs and reads counters."""
    x, model = noise(200_000, 1), through()
    made: list[np.ndarray] = []
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            made.append(captured(host, 512))
        while len(rest := captured(host, 512)):
            made.append(rest)

    def turn() -> None:
        while not done.is_set():
            host.turn(knob_number, 1.0)
            host.stats()
            done.wait(1e-3)

    knob_number = knob(model, INPUT_GAIN)
    with make(model, capture_frames=1 << 18) as host:
        threads = [threading.Thread(target=write), threading.Thread(target=turn)]
        for thread in threads:
            thread.start()
        call_in_blocks(host, x, cuts(len(x), 13, 256))
        done.set()
        for thread in threads:
            thread.join()
        assert host.stats().capture_lost_frames == 0
    np.testing.assert_array_equal(np.concatenate(made), x)


# ---- refusing ----


@pytest.mark.parametrize(
    "wrong",
    [
        {"inputs": [1], "channels": 1},
        {"inputs": [-2], "channels": 1},
        {"inputs": [0], "channels": 257},
        {"outputs": [1]},
        {"outputs": [0] * 257},
        {"outputs": [-7]},
        {"capture_frames": -1},
        {"capture_frames": 1 << 40},
    ],
    ids=str,
)
def test_maps_and_sizes_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BacklineError, match=r"expected .*at most") as error:
        make(through(), **wrong)
    assert not isinstance(error.value, ModelError)


def test_a_map_of_other_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="2 input rows, expected 1"):
        make(through(), inputs=[0, 0])


@pytest.mark.parametrize("rate_hz", [0.0, -48000.0, math.nan, math.inf])
def test_absurd_rates_are_refused(rate_hz: float) -> None:
    with pytest.raises(BacklineError):
        make(through(), rate_hz=rate_hz)


def test_a_program_that_changes_the_rate_is_refused() -> None:
    engine = Engine(Program(backline.conv1d(np.ones((1, 1, 2), np.float32), stride=2).graph), 1)
    with Monitor.create(RATE_HZ, 1, 1) as monitor, pytest.raises(BacklineError):
        Host(Entry(engine), monitor, input_map=[0], output_map=[0], input_channels=1)


def test_closing_twice_is_fine_and_a_closed_host_says_so() -> None:
    host = make(through())
    host.close()
    host.close()
    native.lib.bl_host_free(native.ffi.NULL)
    native.lib.bl_timer_free(native.ffi.NULL)
    with pytest.raises(ValueError, match="closed"):
        host.stats()


@pytest.mark.parametrize("frames", [0, -1, 8193])
def test_a_timer_of_an_absurd_block_is_refused(frames: int) -> None:
    with make(through()) as host:
        out = native.ffi.new("bl_timer **")
        assert native.lib.bl_timer_new(host.pointer, frames, 0, out) == native.lib.BL_ERROR_SIZE
        assert out[0] == native.ffi.NULL


# ---- devices that have not stopped ----


def test_a_host_that_may_be_called_is_not_freed() -> None:
    x, host = noise(100, 1), make(through())
    host.begin_use()
    host.close()
    np.testing.assert_array_equal(call(host, x), x)
    host.end_use()
    host.close()
    with pytest.raises(ValueError, match="closed"):
        host.stats()


def test_a_host_that_may_be_called_is_not_collected() -> None:
    host = make(through())
    pointer, gone = host.pointer, weakref.ref(host)
    host.begin_use()
    del host
    gc.collect()
    assert CALLBACK(native.ffi.NULL, native.ffi.NULL, 64, native.ffi.NULL, 0, pointer) == 0
    kept = gone()
    assert kept is not None
    assert kept.stats().frames == 64
    kept.end_use()
    kept.close()
    del kept
    assert gone() is None


def test_the_process_may_end_while_a_clock_calls() -> None:
    code = """
import numpy as np, time
import backline
from backline.engine import Engine, Program
from backline.live.streams import ClockStream
from backline.live.host import Entry, Host
from backline.live.monitor import Monitor
entry = Entry(Engine(Program(backline.conv1d(np.ones((1, 1, 1), np.float32)).graph), 1))
host = Host(entry, Monitor.create(768000, 1, 1), input_map=[0], output_map=[0], input_channels=1)
ClockStream(host, 1).start()
del entry, host
time.sleep(0.2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_closing_waits_for_whoever_reads_the_capture() -> None:
    for _ in range(20):
        host = make(through(), capture_frames=CAPTURE)
        call(host, noise(60_000, 1))
        ends: list[str] = []

        def read(host: WatchedHost = host, ends: list[str] = ends) -> None:
            block = np.zeros((512, 1), np.float32)
            try:
                while True:
                    host.read_capture(block)
            except ValueError as error:
                ends.append(str(error))

        thread = threading.Thread(target=read)
        thread.start()
        host.close()
        thread.join()
        assert ends == ["the monitor is closed"]


def test_a_slow_clock_stops_within_its_block() -> None:
    host = make(through(), rate_hz=1.0)
    stream = ClockStream(host, 8192)
    stream.start()
    stopping = threading.Thread(target=stream.stop, daemon=True)
    stopping.start()
    stopping.join(60.0)  # the block lasts more than two hours
    assert not stopping.is_alive()
    assert not stream.active
    host.close()


def test_dbfs() -> None:
    assert dbfs(1.0) == 0.0
    assert dbfs(0.5) == pytest.approx(-6.0206, abs=1e-4)
    assert dbfs(0.0) == -math.inf
