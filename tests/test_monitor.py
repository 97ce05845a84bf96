"""The monitor: read while audio runs, by another process, and after the one that played has been killed."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from host_tools import WatchedHost, call, call_in_blocks, captured, cuts, entry, knob, make, noise, through

import backline
from backline import native
from backline.engine import Model
from backline.errors import BacklineError, ModelError
from backline.live.monitor import Monitor, new_shared_memory
from backline.live.status import CallbackLog
from backline.passes import INPUT_GAIN

LOG = native.lib.BL_MONITOR_LOG
#: How much of a take frame number n is: exact in float32, so that each frame says which it is.
NUMBER = np.float32(2.0**-24)


def numbers(first: int, end: int) -> np.ndarray:
    return (np.arange(first, end) * NUMBER).astype(np.float32)[:, None]


# ---- another process ----

READER = """
import sys
import numpy as np
from backline.live.monitor import Monitor

monitor = Monitor.attach(int(sys.argv[1]), 48000.0, 1, 1)
total = int(sys.argv[2])
captured, heard, block = [], [], np.zeros((700, 1), np.float32)
print("ready", flush=True)
seen, peak, last = 0, 0.0, None
while seen < total or len(captured) < 1 or sum(map(len, captured)) < total:
    stats = monitor.stats()
    assert stats.frames >= seen
    seen, peak = stats.frames, max(peak, *stats.output_peaks)
    captured.append(block[: monitor.read_capture(block)].copy())
    assert sum(map(len, captured)) >= min(seen, sum(map(len, captured[:-1])) + 700)
    heard.append(block[: monitor.read_heard(block[:, 0])].copy())
    log = monitor.log().callbacks
    ends = log["at_frame"] + log["frames"]
    assert np.array_equal(ends[:-1], log["at_frame"][1:])
    assert len(log) == 0 or ends[-1] >= seen - 1
while frames := monitor.read_heard(block[:, 0]):
    heard.append(block[:frames].copy())
last = monitor.stats()
np.savez(sys.argv[3], captured=np.concatenate(captured), heard=np.concatenate(heard),
         counts=[last.frames, last.callbacks, last.xruns, last.swaps, last.playing_serial],
         peak=peak, loads=monitor.log().load_counts)
"""


def test_another_process_reads_all_of_it_while_audio_runs(tmp_path: Path) -> None:
    total, found = 150_000, tmp_path / "found.npz"
    x = noise(total, 1, seed=3)
    model = backline.conv1d(noise(1, 1, 9, seed=1))
    with make(model, capture_frames=1 << 18, heard_frames=1 << 18) as host:
        descriptor = host.monitor.descriptor
        command = [sys.executable, "-c", READER, str(descriptor), str(total), str(found)]
        with subprocess.Popen(
            command, pass_fds=[descriptor], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdout is not None
            assert reader.stderr is not None
            reader.stdout.readline()
            y, at = [], 0
            for number, frames in enumerate(cuts(total, 1, 100)):
                if number == 700:
                    host.swap(entry(model, serial=5, warm_frames=20, fade_frames=30))
                y.append(call(host, x[at : at + frames], flags=number % 50 == 0))
                at += frames
            errors = reader.stderr.read()
        assert (reader.returncode, errors) == (0, "")
        log = host.monitor.log()
        with np.load(found) as read:
            np.testing.assert_array_equal(read["captured"], np.concatenate(y))
            np.testing.assert_array_equal(read["heard"], x)
            assert read["counts"].tolist() == [total, len(y), -(-len(y) // 50), 1, 5]
            assert read["peak"] == np.max(np.abs(np.concatenate(y)))
            np.testing.assert_array_equal(read["loads"], log.load_counts)
        assert log.load_counts.sum() == len(y)


PLAYER = """
import sys
import numpy as np
from host_tools import WatchedHost, call, entry
from test_monitor import numbers, slow
from backline.live.monitor import Monitor

monitor = Monitor.attach(int(sys.argv[1]), 48000.0, 1, 1)
host = WatchedHost(entry(slow()), monitor, input_map=[None], output_map=[0], input_channels=0,
                   take=numbers(0, 1 << 21).T)
print("ready", flush=True)
while True:
    call(host, None, int(sys.argv[2]))
"""


def slow() -> Model:
    """What comes in, after some thousand multiplications by 0 per frame: callbacks one can be killed in."""
    weight = np.zeros((1, 1, 5000), np.float32)
    weight[0, 0, -1] = 1.0
    return backline.conv1d(weight)


@contextmanager
def worker(monitor: Monitor, frames: int) -> Iterator[subprocess.Popen[str]]:
    """A process that plays the take to the monitor as fast as it can; killed at the end."""
    command = [sys.executable, "-c", PLAYER, str(monitor.descriptor), str(frames)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        command, pass_fds=[monitor.descriptor], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def read_on(monitor: Monitor, made: list[np.ndarray], least: int) -> None:
    """Read the capture until there are so many frames more."""
    end = sum(map(len, made)) + least
    block = np.zeros((1 << 14, 1), np.float32)
    while sum(map(len, made)) < end:
        made.append(block[: monitor.read_capture(block)].copy())


def rest(monitor: Monitor) -> np.ndarray:
    """What the capture still has."""
    block = np.zeros((1 << 20, 1), np.float32)
    return block[: monitor.read_capture(block)].copy()


def test_workers_that_are_killed_leave_counters_and_capture_whole() -> None:
    """Each goes on where the one before was killed, in the middle of a callback mostly: no frame of the take
    is missing from the capture, twice in it, or counted otherwise."""
    made: list[np.ndarray] = []
    joints = {0}
    with Monitor.create(48000.0, 1, 1, capture_frames=1 << 20) as monitor:
        for frames in (2000, 64, 4001, 2000, 500, 8000):
            with worker(monitor, frames):
                read_on(monitor, made, 10_000)
            made.append(rest(monitor))
            joints.add(monitor.stats().frames)
        with WatchedHost(
            entry(slow()),
            monitor,
            input_map=[None],
            output_map=[0],
            input_channels=0,
            take=numbers(0, 1 << 21).T,
        ) as host:
            first = host.stats()
            joints.add(first.frames)
            call(host, None, 1000)
            made.append(captured(host, 1 << 20))
            last, log = host.stats(), host.monitor.log()
    y = np.concatenate(made)
    np.testing.assert_array_equal(y, numbers(0, len(y)))
    assert last.frames == first.frames + 1000 == len(y)
    assert last.capture_lost_frames == 0
    records = log.callbacks
    ends = (records["at_frame"] + records["frames"]).astype(np.int64)
    jumps = np.flatnonzero(records["at_frame"][1:] != ends[:-1])
    # Of a callback in which a worker was killed there is no record.
    assert {int(each) for each in ends[jumps]} <= joints
    assert np.all(np.diff(records["began_ns"]) >= 0)
    assert abs(int(log.load_counts.sum()) - last.callbacks) <= 6


@pytest.mark.parametrize(
    "content",
    [b"", b"backline", bytes(100), bytes(1 << 20), np.random.default_rng(0).bytes(1 << 20)],
    ids=["nothing", "a word", "few zeros", "zeros", "noise"],
)
def test_memory_that_holds_no_monitor_is_refused(content: bytes) -> None:
    descriptor = new_shared_memory(len(content))
    os.pwrite(descriptor, content, 0)
    with pytest.raises(BacklineError, match="attaching to the memory of an audio host") as error:
        Monitor.attach(descriptor, 48000.0, 1, 1)
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, ModelError)
    os.close(descriptor)  # was left to whoever opened it


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, 0.5, -1])
def test_a_monitor_that_was_cut_off_is_refused(keep: float) -> None:
    with Monitor.create(48000.0, 1, 2, capture_frames=1000) as monitor:
        whole = os.pread(monitor.descriptor, 1 << 24, 0)
    bytes_kept = int(keep * len(whole)) if keep == 0.5 else int(keep) % len(whole)
    descriptor = new_shared_memory(bytes_kept)
    os.pwrite(descriptor, whole[:bytes_kept], 0)
    with pytest.raises(BacklineError, match="attaching to the memory"):
        Monitor.attach(descriptor, 48000.0, 1, 2)
    os.close(descriptor)


def test_a_monitor_whose_rings_lie_elsewhere_is_refused() -> None:
    """Rows stand behind a ring's capacity; the offsets of both rings end the constant 48 bytes."""
    with make(
        through(channels=2), inputs=[0, 1], outputs=[0, 1], capture_frames=12345, heard_frames=54321
    ) as h:
        descriptor = h.monitor.descriptor
        size = os.fstat(descriptor).st_size
        whole = os.pread(descriptor, size, 0)
        rows = [whole.index(struct.pack("=q", frames)) + 8 for frames in (12345, 54321)]
        assert [struct.unpack_from("=i", whole, at)[0] for at in rows] == [2, 1]
        rings = struct.unpack_from("=qq", whole, 32)
        assert rings[1] - rings[0] == -(-12345 * 2 * 4 // 64) * 64
        for at, kind, wrong in (
            *((at, "=i", wrong) for at in rows for wrong in (-1, 0, 3, 1 << 30)),
            *((at, "=q", wrong) for at in (32, 40) for wrong in (-64, 0, size, 1 << 40)),
        ):
            value = struct.pack(kind, wrong)
            os.pwrite(descriptor, value, at)
            with pytest.raises(BacklineError, match="attaching to the memory"):
                Monitor.attach(descriptor, 48000.0, 2, 2)
            os.pwrite(descriptor, whole[at : at + len(value)], at)
        Monitor.attach(os.dup(descriptor), 48000.0, 2, 2).close()


def test_what_is_attached_to_is_the_same_memory() -> None:
    with make(through()) as host:
        there = Monitor.attach(os.dup(host.monitor.descriptor), host.monitor.rate_hz, 1, 1)
        call(host, noise(100, 1))
        assert there.stats().frames == 100
        assert host.stats().output_peaks == (0.0,)  # whoever reads takes the peaks
        there.close()
        call(host, noise(100, 1))
        assert host.stats().frames == 200


# ---- the log ----


def assert_in_order(log: CallbackLog) -> None:
    records = log.callbacks
    ends = records["at_frame"] + records["frames"]
    np.testing.assert_array_equal(records["at_frame"][1:], ends[:-1])
    done = records["began_ns"] + records["busy_ns"]
    assert np.all(records["began_ns"][1:] >= done[:-1])


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 10_000])
def test_the_log_holds_the_last_callbacks_in_order(count: int) -> None:
    rng = np.random.default_rng(count)
    frames, flags = rng.integers(0, 20, count), rng.choice([0, 0, 1, 4, 6, 8, 16, 31], count)
    turned = set(rng.integers(0, max(count, 1), 100).tolist())
    number = knob(through(), INPUT_GAIN)
    with make(through()) as host:
        for at in range(count):
            if at in turned:
                host.turn(number, 1.0)
            call(host, None, int(frames[at]), int(flags[at]))
        log = host.monitor.log()
    records, first = log.callbacks, max(0, count - LOG)
    assert len(records) == count - first
    assert_in_order(log)
    np.testing.assert_array_equal(records["frames"], frames[first:])
    np.testing.assert_array_equal(records["flags"], flags[first:])
    np.testing.assert_array_equal(records["at_frame"], (np.cumsum(frames) - frames)[first:])
    commands = native.lib.BL_DOING_COMMANDS
    np.testing.assert_array_equal(
        records["doing"], [commands if at in turned else 0 for at in range(first, count)]
    )


def test_no_record_is_torn_while_the_log_goes_round() -> None:
    logs: list[CallbackLog] = []
    done = threading.Event()
    with make(through()) as host:

        def read() -> None:
            while not done.is_set():
                logs.append(host.monitor.log())

        reader = threading.Thread(target=read)
        reader.start()
        for number in range(20_000):
            call(host, None, number % 7, number % 7)
        done.set()
        reader.join()
    assert logs
    for log in logs:
        assert_in_order(log)
        np.testing.assert_array_equal(log.callbacks["flags"], log.callbacks["frames"])
        assert len(log.callbacks) <= LOG


# ---- loads ----


@pytest.mark.parametrize("rate_hz", [1.0, 48000.0, 768000.0, 1e7])
def test_loads_are_those_of_the_log(rate_hz: float) -> None:
    """By the histogram's definition, by sorting, and by adding up: the log has all of the callbacks."""
    rng = np.random.default_rng(1)
    with make(backline.conv1d(noise(1, 1, 500)), rate_hz=rate_hz) as host:
        for frames in rng.integers(1, 400, 3000):
            call(host, None, int(frames))
        log, stats = host.monitor.log(), host.stats()
    bins = native.lib.BL_MONITOR_LOADS
    steps = np.arange(bins + 1)
    np.testing.assert_array_equal(log.load_edges, np.exp2(steps // 32 - 12) * (1 + steps % 32 / 32))
    busy, frames = (log.callbacks[name].astype(np.float64) for name in ("busy_ns", "frames"))
    loads = (busy / (frames * (1e9 / rate_hz))).astype(np.float32).astype(np.float64)
    inside = np.clip(loads, log.load_edges[0], np.nextafter(log.load_edges[-1], 0))
    np.testing.assert_array_equal(np.histogram(inside, log.load_edges)[0], log.load_counts)
    assert stats.load_worst == stats.load_recent_worst == loads.max()
    np.testing.assert_allclose(stats.load_mean, busy.sum() / (frames.sum() * 1e9 / rate_hz), rtol=1e-12)
    assert stats.load_recent == stats.load_mean
    exact = np.sort(loads)[int(np.ceil(0.99 * len(loads))) - 1]
    low, high = log.load_edges[1], log.load_edges[-2]  # between them bins are narrow
    assert exact <= stats.load_p99 <= max(exact * (1 + 1 / 32), low) or exact > high


def test_recent_loads_and_peaks_are_since_the_reading_before() -> None:
    with make(through()) as host:
        call_in_blocks(host, noise(3000, 1), cuts(3000, 1))
        host.stats()
        silent = host.stats()
        assert (silent.load_recent, silent.load_recent_worst) == (0.0, 0.0)
        assert (silent.input_peaks, silent.output_peaks) == ((0.0,), (0.0,))
        assert silent.load_worst > 0
        before = len(host.monitor.log().callbacks)
        x = noise(500, 1, seed=1)
        call_in_blocks(host, x, cuts(500, 2, 60))
        stats, records = host.stats(), host.monitor.log().callbacks[before:]
    loads = records["busy_ns"] / (records["frames"] * (1e9 / 48000.0))
    np.testing.assert_allclose(stats.load_recent_worst, loads.max(), rtol=2.0**-22)
    np.testing.assert_allclose(stats.load_recent, records["busy_ns"].sum() / (500 * 1e9 / 48000.0))
    assert stats.input_peaks == stats.output_peaks == (np.abs(x).max(),)


# ---- heard ----


def heard(host: WatchedHost, frames: int = 4000) -> np.ndarray:
    block = np.zeros(frames, np.float32)
    return block[: host.monitor.read_heard(block), None]


def test_what_nobody_fetches_in_time_is_missing_and_the_rest_in_order() -> None:
    x = numbers(1, 6001)
    with make(through(0.5), heard_frames=1000) as host:
        call_in_blocks(host, x[:3000], [100] * 30)
        np.testing.assert_array_equal(heard(host, 400), x[:400])
        call_in_blocks(host, x[3000:3500], [100] * 5)
        np.testing.assert_array_equal(heard(host), np.concatenate([x[400:1000], x[3000:3400]]))
        assert len(heard(host)) == 0
        made, at = [], 3500
        for frames in cuts(2500, 4, 300):
            call(host, x[at : at + frames])
            at += frames
            made.append(heard(host))
        np.testing.assert_array_equal(np.concatenate(made), x[3500:])


def test_heard_is_the_first_row_of_the_engine_before_any_gain() -> None:
    x = noise(200, 3)
    with make(through(2.0), streams=2, inputs=[2, 0], outputs=[0, 1], channels=3, heard_frames=500) as host:
        host.turn(knob(through(), INPUT_GAIN), 0.1)
        call(host, x)
        np.testing.assert_array_equal(heard(host), x[:, 2:])


def test_without_memory_for_it_nothing_is_heard() -> None:
    with make(through()) as host:
        call(host, noise(100, 1))
        assert len(heard(host)) == 0
