"""Causes of xruns, on logs from a small model of a device that knows what it does wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.live.forensics import Collector, causes, summary
from backline.live.status import CALLBACK, CallbackLog

RATE_HZ = 48000.0
BLOCK = 64
BLOCK_NS = round(1e9 * BLOCK / RATE_HZ)
LOST = 2 | 4  # input overflow and output underflow


@dataclass
class Device:
    """Wakes its callback at every period; one that is not done when the next is due is an xrun, of which the
    `delay`-th callback after it tells."""

    usual: float = 0.1
    delay: int = 1
    now_ns: int = 1_000_000
    rows: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    frames: int = 0

    def call(self, load: float | None = None, late: float = 0.0, doing: int = 0, fault: bool = False) -> None:
        """One block: what it takes, and how late it begins, in blocks; `fault`: the device itself fails."""
        load = self.usual if load is None else load
        began = self.now_ns + round(late * BLOCK_NS)
        busy = round(load * BLOCK_NS)
        self.pending = [count - 1 for count in self.pending]
        flags = LOST if 0 in self.pending else 0
        self.pending = [count for count in self.pending if count > 0]
        self.rows.append((began, busy, BLOCK, flags, doing, self.frames))
        self.frames += BLOCK
        done = began + busy
        self.now_ns += BLOCK_NS
        if done > self.now_ns or fault:
            self.pending.append(self.delay)
            self.now_ns = max(self.now_ns, done)

    def log(self) -> CallbackLog:
        edges = np.linspace(0.0, 2.0, 21)
        return CallbackLog(RATE_HZ, np.array(self.rows, CALLBACK), edges, np.zeros(20, np.int64))


def run(device: Device, blocks: int = 50) -> None:
    for _ in range(blocks):
        device.call()


@pytest.mark.parametrize("delay", [1, 2])
def test_a_heavy_model_is_its_own_fault(delay: int) -> None:
    device = Device(usual=0.8, delay=delay)
    run(device)
    device.call(1.2)
    run(device)
    (xrun,) = causes(device.log())
    assert (xrun.cause, xrun.flags) == ("own load", LOST)
    assert xrun.load == pytest.approx(1.2, rel=1e-4)
    assert xrun.at_frame == (50 + delay) * BLOCK


@pytest.mark.parametrize("delay", [1, 2])
def test_two_models_are_their_own_fault_and_it_is_said(delay: int) -> None:
    device = Device(usual=0.2, delay=delay)
    run(device)
    device.call(1.1, doing=1)
    run(device)
    (xrun,) = causes(device.log())
    assert (xrun.cause, xrun.doing) == ("own load", ("a second model running",))
    assert "a second model running" in summary(causes(device.log()))[0]


@pytest.mark.parametrize("delay", [1, 2])
def test_a_light_model_that_takes_long_was_held_up(delay: int) -> None:
    device = Device(usual=0.05, delay=delay)
    run(device)
    device.call(15.0)
    run(device)
    assert [each.cause for each in causes(device.log())] == ["held up"]


@pytest.mark.parametrize("delay", [1, 2])
def test_a_thread_that_is_woken_late(delay: int) -> None:
    device = Device(usual=0.3, delay=delay)
    run(device)
    device.call(late=2.5)
    run(device)
    (xrun,) = causes(device.log())
    assert xrun.cause == "late wake-up"
    assert xrun.lateness_ms == pytest.approx(2.5 * BLOCK_NS / 1e6, rel=0.01)


def test_a_device_that_fails_by_itself() -> None:
    device = Device()
    run(device)
    device.call(fault=True)
    run(device)
    assert [each.cause for each in causes(device.log())] == ["the device"]


def test_all_kinds_are_summed_up_with_what_helps() -> None:
    device = Device(usual=0.05)
    for what in ({"load": 3.0}, {"late": 3.0}, {"fault": True}, {"load": 1.5, "doing": 1}):
        run(device)
        device.call(**what)
    run(device)
    lines = summary(causes(device.log()))
    assert lines[0].startswith("4 xruns: 1 own load (up to 150 % of a block")
    assert "1 held up (up to 300 % of a block)" in lines[0]
    assert "1 late wake-up (up to 4.0 ms)" in lines[0]
    assert "1 the device" in lines[0]
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "own load",
        "held up",
        "late wake-up",
        "the device",
    ]


def test_a_collector_has_each_xrun_once_also_those_that_logs_forget() -> None:
    device, collector = Device(usual=0.05), Collector()
    for number in range(20):
        run(device, 30)
        device.call(2.0 + number)
        run(device, 3)
        whole = device.log()
        collector.collect(CallbackLog(RATE_HZ, whole.callbacks[-50:], whole.load_edges, whole.load_counts))
    assert [each.load for each in collector.found] == pytest.approx(np.arange(2.0, 22.0), rel=1e-3)


def test_a_pause_is_no_lateness() -> None:
    device = Device()
    run(device)
    device.now_ns += 5_000_000_000  # it was opened again
    device.call(fault=True)
    run(device)
    assert [each.cause for each in causes(device.log())] == ["the device"]


def test_without_xruns_there_is_nothing_to_say() -> None:
    device = Device()
    assert summary(causes(device.log())) == []
    run(device)
    assert causes(device.log()) == []


def test_priming_is_no_xrun_and_the_first_callback_may_be_one() -> None:
    device = Device()
    device.rows.append((0, 100, BLOCK, 16, 0, 0))
    assert causes(device.log()) == []
    device.rows[0] = (0, 100, BLOCK, 1, 0, 0)
    assert [each.cause for each in causes(device.log())] == ["the device"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1 << 62),
            st.integers(0, (1 << 32) - 1),
            st.integers(0, 8192),
            st.integers(0, 63),
            st.integers(0, 255),
            st.integers(0, 1 << 40),
        ),
        max_size=40,
    )
)
def test_any_log_is_read(rows: list[tuple[int, ...]]) -> None:
    log = CallbackLog(RATE_HZ, np.array(rows, CALLBACK), np.linspace(0, 1, 3), np.zeros(2, np.int64))
    flagged = sum(1 for row in rows if row[3] & ~16)
    assert len(causes(log)) == flagged
    assert bool(summary(causes(log))) == bool(flagged)
