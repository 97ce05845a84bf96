"""Causes of xruns as two devices would show them: the clock of native/src/timer.c, and JACK's cycles.

Written from how these devices work, not from how blame is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from backline.live.forensics import causes
from backline.live.status import CALLBACK, CallbackLog

RATE_HZ = 48000.0
BLOCK = 64
BLOCK_NS = 1e9 * BLOCK / RATE_HZ
LOST = 2 | 4
EVERY = 60
Row = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Block:
    """What happens to one: the share of it that is worked, blocks it is woken late, and what is done."""

    load: float
    late: float = 0.0
    doing: int = 0


def clock(usual: float, event: Block, count: int = 600) -> list[Row]:
    """A block that is not done when the next is due moves the origin of all that follow."""
    rows: list[Row] = []
    origin, blocks, flags, now = 1e9, 1, 0, 1e9
    for number in range(count):
        block = event if number % EVERY == EVERY // 2 else Block(usual)
        woken = max(origin + blocks * BLOCK_NS, now) + block.late * BLOCK_NS
        rows.append((int(woken), int(block.load * BLOCK_NS), BLOCK, flags, block.doing, number * BLOCK))
        now, blocks, flags = woken + block.load * BLOCK_NS, blocks + 1, 0
        if now > origin + blocks * BLOCK_NS:
            origin, blocks, flags = now, 1, LOST
    return rows


def jack(delay: int) -> Callable[..., list[Row]]:
    """Cycles stay where they are: those that are missed are gone, and it is told `delay` callbacks later."""

    def run(usual: float, event: Block, count: int = 600) -> list[Row]:
        rows: list[Row] = []
        cycle, told = 1000, set()
        for number in range(count):
            block = event if number % EVERY == EVERY // 2 else Block(usual)
            woken = (cycle + block.late) * BLOCK_NS
            flags = LOST if number in told else 0
            rows.append((int(woken), int(block.load * BLOCK_NS), BLOCK, flags, block.doing, number * BLOCK))
            done = woken + block.load * BLOCK_NS
            cycle += 1
            if done > cycle * BLOCK_NS:
                told.add(number + delay)
                cycle = math.ceil(done / BLOCK_NS)
        return rows

    return run


def log(rows: list[Row]) -> CallbackLog:
    return CallbackLog(RATE_HZ, np.array(rows, CALLBACK), np.linspace(0, 2, 21), np.zeros(20, np.int64))


@pytest.mark.parametrize("device", [clock, jack(1), jack(2)], ids=["clock", "jack", "late jack"])
@pytest.mark.parametrize(
    ("usual", "event", "cause"),
    [
        (0.8, Block(1.3), "own load"),
        (0.2, Block(1.2, doing=1), "own load"),
        (0.2, Block(1.2, doing=2), "own load"),
        (0.2, Block(1.2, doing=16), "own load"),
        (0.2, Block(1.2, doing=32), "own load"),
        (0.1, Block(9.0), "held up"),
        (0.1, Block(9.0, doing=8), "held up"),
        (0.1, Block(9.0, doing=4), "held up"),
        (0.3, Block(0.3, late=2.0), "late wake-up"),
        (0.3, Block(0.3, late=0.75), "late wake-up"),
    ],
    ids=str,
)
def test_who_is_to_blame(device: Callable[..., list[Row]], usual: float, event: Block, cause: str) -> None:
    found = causes(log(device(usual, event)))
    assert [each.cause for each in found] == [cause] * 10


@pytest.mark.parametrize(
    ("first", "second", "late_frames", "cause"),
    [(1024, 64, 40, "the device"), (64, 1024, 200, "late wake-up"), (1024, 64, 600, "late wake-up")],
)
def test_lateness_counts_in_blocks_of_the_one_that_was_waited_for(
    first: int, second: int, late_frames: int, cause: str
) -> None:
    rows: list[Row] = []
    frames = 0
    for number in range(40):
        block = second if number % 2 else first
        late = late_frames if number > 20 else 0
        began = 10**9 + int(1e9 * (frames + late) / RATE_HZ)
        rows.append((began, 10_000, block, LOST if number == 21 else 0, 0, frames))
        frames += block
    assert [each.cause for each in causes(log(rows))] == [cause]


def test_what_was_before_the_device_opened_again_is_not_blamed() -> None:
    rows: list[Row] = []
    for number in range(40):
        away = 5_000_000_000 if number >= 20 else 0
        busy = 9.0 if number == 19 else 0.1
        began = 10**9 + int(number * BLOCK_NS) + away
        flags = LOST if number in (20, 21) else 0
        rows.append((began, int(busy * BLOCK_NS), BLOCK, flags, 0, number * BLOCK))
    assert [each.cause for each in causes(log(rows))] == ["the device", "the device"]
