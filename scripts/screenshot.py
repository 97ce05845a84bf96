"""Draw the live screen, as it looks in the middle of a session, into docs/screen.svg.

Nothing sounds and nothing is measured here: the session is made up, and equal programs draw equal pictures.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from backline.graph import Knob
from backline.live.deskhand import Look, Message
from backline.live.status import HostStats, LiveStatus, ModelView
from backline.live.tuner import detect
from backline.pluck import pluck

RATE_HZ = 48000.0
SIZE = (108, 30)
SECONDS, LOOKS_PER_SECOND = 75, 20
#: Of the session, when that begins.
START_SECONDS = 1768.0

DEVICE = "4 Scarlett 2i2 USB (ALSA)"
MODELS = (
    ModelView("Clean Twin", loudness_db=-19.2, latency_ms=0.0),
    ModelView(
        "Plexi, dimed",
        knobs=(
            Knob("drive", 0.5, 0.0, 1.0),
            Knob("bass", 0.5, 0.0, 1.0),
            Knob("middle", 0.5, 0.0, 1.0),
            Knob("treble", 0.5, 0.0, 1.0),
            Knob("presence", 0.3, 0.0, 1.0),
        ),
        values={"drive": 0.72, "bass": 0.44, "middle": 0.66, "treble": 0.58, "presence": 0.3},
        output_gain_db=-3.5,
        loudness_db=-14.8,
    ),
    ModelView("Rectified, training", loudness_db=-13.1),
)
MESSAGES = (
    (31.0, f"{DEVICE}: stopped by itself; waiting for {DEVICE} to come back"),
    (33.5, f"{DEVICE}: is back"),
    (52.0, "Rectified, training: loaded again"),
)


class StillHand:
    """A session in the middle of a note: what `DeskHand` would have seen of it, all at once."""

    desk: Any = None
    broken: BaseException | None = None
    tuning = True

    def __init__(self) -> None:
        # Two cents sharp of the A string: nobody's strings are exact.
        sound = pluck(110.0 * 2.0 ** (2.0 / 1200.0), 1.0, RATE_HZ, seed=3)
        self.pitch = detect(0.5 * sound[-9600:], RATE_HZ)
        self._looks = [self._look(number) for number in range(SECONDS * LOOKS_PER_SECOND)]
        self._messages = [Message(START_SECONDS + at, text) for at, text in MESSAGES]

    def clock(self) -> float:
        return float(SECONDS)

    def order(self, what: Callable[[], object]) -> int:
        return 0

    def looks(self) -> list[Look]:
        seen, self._looks = self._looks, []
        return seen

    def messages(self) -> list[Message]:
        said, self._messages = self._messages, []
        return said

    def _look(self, number: int) -> Look:
        at = number / LOOKS_PER_SECOND
        rng = np.random.default_rng(number)
        # A heavier model since the swap, both at once while it enters; the cable was pulled before.
        load = 0.0 if 31.0 < at < 33.5 else 0.13 if at < 58.0 else 0.24
        load += 0.13 if 58.0 < at < 58.5 else 0.0
        worst = load * (1.12 + 0.5 * rng.random() ** 6)
        swell = 0.5 * math.exp(-1.1 * ((at + 0.7) % 2.5)) * (0.9 + 0.2 * rng.random())
        stats = HostStats(
            callbacks=int(at * RATE_HZ / 64),
            xruns=1,
            input_overflows=1,
            output_limited=214,
            swaps=3,
            load_mean=0.16,
            load_p99=0.27,
            load_worst=0.41,
            load_recent=load,
            load_recent_worst=worst,
            input_peaks=(swell,),
            output_peaks=(1.7 * swell, 1.55 * swell),
        )
        return Look(at, self._status(START_SECONDS + at, stats), 0)

    def _status(self, seconds: float, stats: HostStats) -> LiveStatus:
        return LiveStatus(
            seconds,
            stats,
            input_latency_ms=2.0,
            output_latency_ms=3.4,
            rate_hz=RATE_HZ,
            block_frames=64,
            source=DEVICE,
            sink=DEVICE,
            models=MODELS,
            playing=1,
            input_gain_db=4.5,
            recording="take-07.wav",
            reopened=1,
            scheduling="SCHED_FIFO 60",
        )


async def drawn(width: int, height: int) -> str:
    """The screen at a size, as SVG."""
    from backline.live.screen import LiveScreen

    screen = LiveScreen(StillHand(), title="backline live")
    async with screen.run_test(size=(width, height)) as pilot:
        await pilot.press("down", "down")
        await pilot.pause()
        return without_urls(screen.export_screenshot(title="backline live *.nam"))


def without_urls(svg: str) -> str:
    """A picture that fetches nothing: in the viewer's own fonts, of which all have the same widths."""
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    fonts = "font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
    svg = re.sub(r"font-family: (Fira Code|arial)[^;]*", fonts, svg)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("COLUMNS", "LINES"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "screen.svg")
    arguments = parser.parse_args()
    arguments.output.write_text(asyncio.run(drawn(*arguments.size)), encoding="utf-8")


if __name__ == "__main__":
    main()
