"""What a host has to play while models replace one another, computed anew: offline renders, mixed in float64.

Nothing here calls the host. A timeline says at which frame each swap begins and what is heard from there on;
it follows backline_host.h, not the code that the header describes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from host_tools import noise

import backline
from backline.engine import Model

#: Rate of monitors whose callbacks are never too slow, however busy the machine: a frame lasts a second.
UNHURRIED_HZ = 1.0


@dataclass(frozen=True)
class Part:
    """A model and how it gets in."""

    model: Model
    latency: int = 0
    warm: int = 0
    fade: int = 0
    alone: bool = False

    def how(self) -> dict[str, Any]:
        """The same as arguments of `host_tools.entry`."""
        return {
            "latency_frames": self.latency,
            "warm_frames": self.warm,
            "fade_frames": self.fade,
            "alone": self.alone,
        }


def late(latency: int, taps: int = 5, seed: int = 0, channels: int = 1) -> Model:
    """Some filter whose output lags by `latency` frames."""
    weight = np.zeros((channels, 1, taps + latency), np.float32)
    weight[:, :, :taps] = noise(channels, 1, taps, seed=seed)  # the last tap is the newest frame
    return backline.conv1d(weight, noise(channels, seed=seed + 1), groups=channels)


def late_gain(gain: float, latency: int) -> Model:
    """A gain whose output lags by `latency` frames."""
    weight = np.zeros((1, 1, 1 + latency), np.float32)
    weight[0, 0, 0] = gain
    return backline.conv1d(weight)


def lengths(before: Part, part: Part) -> list[tuple[str, int]]:
    """The stages of a swap from `before` to `part`, and how long each lasts."""
    if part.alone:
        return [("out", part.fade), ("silent", part.warm), ("in", part.fade)]
    apart = part.latency - before.latency
    return [
        ("warm", max(part.warm, abs(apart))),
        ("stretch", part.fade if apart > 0 else 0),
        ("cross", part.fade),
        ("relax", part.fade if apart < 0 else 0),
    ]


@dataclass
class Timeline:
    """Which swaps begin at which frames, worked out from blocks and offers."""

    begun: list[tuple[int, Part]] = field(default_factory=list)
    unplayed: list[Part] = field(default_factory=list)
    left: list[Part] = field(default_factory=list)
    end: int = 0

    @classmethod
    def of(
        cls, blocks: Sequence[int], first: Part, offers: Mapping[int, Sequence[Part]], fade_in: int = 0
    ) -> Timeline:
        """The host's main thread offers before block number k what `offers[k]` lists, and tidies up after
        each block. An offer goes in with the next block, or waits for a swap; of those that wait the latest
        stays."""
        made = cls(end=fade_in)
        at, playing, running = 0, first, False
        handed: Part | None = None
        waiting: Part | None = None
        for number, frames in enumerate(blocks):
            for offer in offers.get(number, ()):
                if handed is None and not running:
                    handed = offer
                    continue
                if waiting is not None:
                    made.unplayed.append(waiting)
                waiting = offer
            if handed is not None and at >= made.end:
                made.begun.append((at, handed))
                made.end = at + sum(length for _, length in lengths(playing, handed))
                playing, handed, running = handed, None, True
            at += frames
            if running and at >= made.end:
                running = False
            if waiting is not None and handed is None and not running:
                handed, waiting = waiting, None
        made.left = [part for part in (handed, waiting) if part is not None]
        return made


def played(
    x: np.ndarray, first: Part, begun: Sequence[tuple[int, Part]], fade_in: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """What is heard, in float64 [frames, rows], and which frames are bits of one render alone."""
    y = np.asarray(first.model(x), np.float64)
    bits = np.ones(len(y), bool)
    ramp = np.minimum(1.0, (1.0 + np.arange(len(y))) / fade_in) if fade_in else np.ones(len(y))
    y *= ramp[:, None]
    bits[:fade_in] = False
    before, heard = first, np.asarray(first.model(x), np.float64)
    for start, part in begun:
        at, own = start, _from(x, part, start + (part.fade if part.alone else 0))
        apart = part.latency - before.latency
        for stage, length in lengths(before, part):
            now = slice(at, min(at + length, len(x)))
            way = ((1.0 + np.arange(now.stop - now.start)) / length)[:, None] if length else 0.0
            old, new = _late(heard, apart)[now], _late(own, -apart)[now]
            if stage == "stretch":
                y[now] = (1.0 - way) * heard[now] + way * old
            elif stage == "cross":
                y[now] = (1.0 - way) * old + way * new
            elif stage == "relax":
                y[now] = (1.0 - way) * new + way * own[now]
            elif stage == "out":
                y[now] = (1.0 - way) * heard[now]
            elif stage == "silent":
                y[now] = 0.0
            elif stage == "in":
                y[now] = way * own[now]
            bits[now] = stage in ("warm", "silent")
            at = now.stop
        y[at:] = own[at:]
        bits[at:] = True
        before, heard = part, own
    return y, bits


def _from(x: np.ndarray, part: Part, start: int) -> np.ndarray:
    """A render that begins to hear at frame `start`; silence before."""
    start = min(start, len(x))
    rows = part.model.output_channels * (x.shape[1] // part.model.input_channels)
    made = np.zeros((len(x), rows))
    if start < len(x):
        made[start:] = part.model(x[start:])
    return made


def _late(y: np.ndarray, frames: int) -> np.ndarray:
    """Delayed by that many frames; as it is if they are not positive."""
    if frames <= 0:
        return y
    return np.concatenate([np.zeros((min(frames, len(y)), y.shape[1])), y])[: len(y)]
