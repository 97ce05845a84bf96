"""What `backline live` prints where there is no screen: a line a second, and one at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def line(status: dict[str, Any]) -> str:
    """A status in one line."""
    levels = (f"{way} {_levels(status[f'{way}put_dbfs'])}" for way in ("in", "out"))
    now = [status["state"]] * (status["state"] != "playing") + ["muted"] * status["muted"]
    return ", ".join([f"{status['seconds']:7.1f} s", *levels, *_vitals(status), *now])


def closing(summary: dict[str, Any]) -> str:
    """How a session went, in one line."""
    counts = {
        "input samples at full scale": summary["input_clips"],
        "output samples over full scale": summary["output_clips"],
        "input samples not finite": summary["input_not_finite"],
        "output samples not finite": summary["output_not_finite"],
        "output samples limited": summary["output_limited"],
        "mutes": summary["mutes"],
        "swaps faded as both models took too long": summary["relieved"],
        "frames not recorded": summary["capture_lost_frames"],
        "times reopened": summary["reopened"],
    }
    parts = [
        f"{summary['model']}: {summary['seconds']:.2f} s on {summary['output_device']} "
        f"at {summary['sample_rate_hz']:g} Hz",
        f"peak in {_levels(summary['input_dbfs'])}",
        f"peak out {_levels(summary['output_dbfs'])}",
        *_vitals(summary),
        *(f"{count} {what}" for what, count in counts.items() if count),
        *(f"wrote {path}" for path in summary["files"]),
    ]
    return ", ".join(parts)


def _levels(levels: Sequence[float | None]) -> str:
    if all(level is None for level in levels):
        return "silent"
    return "/".join("silent" if level is None else f"{level:+.1f}" for level in levels) + " dBFS"


def _vitals(status: dict[str, Any]) -> list[str]:
    mean, p99, worst = (100.0 * status[f"load_{name}"] for name in ("mean", "p99", "worst"))
    parts = [f"load {mean:.1f} % mean {p99:.1f} % p99 {worst:.1f} % worst", f"{status['xruns']} xruns"]
    if status["round_trip_ms"] is not None:
        parts.append(f"round trip {status['round_trip_ms']:.1f} ms")
    return parts
