"""``backline latency``"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import JsonOption, say
from ._screen import print_table
from .live import read_channels, read_latency

if TYPE_CHECKING:
    from ..engine import Model
    from ..live.latency import Stage
    from ..live.probe import Measurement, RoundTrip

_BASES = {
    "claimed": "PortAudio's claim",
    "contained": "contained in the above",
    "known": "",
    "unknown": "nobody knows",
}


def latency(
    device: Annotated[
        str | None, typer.Option(help="For both ways: index, or part of a name (see backline devices).")
    ] = None,
    input_device: Annotated[str | None, typer.Option(help="Input device, if another.")] = None,
    output_device: Annotated[str | None, typer.Option(help="Output device, if another.")] = None,
    input_channel: Annotated[int, typer.Option(min=1, help="Where the cable ends, from 1.")] = 1,
    output_channel: Annotated[
        str, typer.Option("--output-channel", "--output-channels", help="Where it begins, from 1; or 1,2.")
    ] = "1",
    rate: Annotated[
        float | None,
        typer.Option(min=1000, max=768000, help="Hertz; the model's or the output device's own by default."),
    ] = None,
    block: Annotated[
        int | None, typer.Option(min=1, max=8192, help="Frames per block; the device's own by default.")
    ] = None,
    latency: Annotated[str, typer.Option(help="low, high, or seconds: what PortAudio is asked for.")] = "low",
    rounds: Annotated[
        int, typer.Option(min=1, max=100, help="Times to measure, each with a new stream.")
    ] = 3,
    wait: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds before each sweep, to connect ports in.")
    ] = 0.5,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Add what this model is late by itself.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the round trip from an output to an input, to a fraction of a frame.

    Connect the output to the input with a cable (or JACK loopback), and turn the
    monitor volume down: a sweep at -12 dBFS is played three times. What is found
    stands beside what PortAudio claims, and what each stage adds.
    """
    from .. import library, load
    from ..live import probe

    if not math.isfinite(rate or 0.0) or not math.isfinite(wait):
        raise typer.BadParameter("--rate and --wait: expected numbers")
    loaded = None if model is None else load(library.find(model))
    found = probe.measure(
        device if input_device is None else input_device,
        device if output_device is None else output_device,
        input_channel=input_channel,
        output_channels=read_channels(output_channel) or [1],
        rate_hz=rate or (loaded.sample_rate_hz if loaded else None),
        block_frames=block,
        latency=read_latency(latency),
        rounds=rounds,
        wait_s=wait,
    )
    say(doubts(found))
    summary = summed_up(found, loaded)
    if as_json:
        print(json.dumps(summary, indent=2, allow_nan=False))
    else:
        print_table(("", "Frames", "ms", "What"), rows(summary), left=("", "What"))


def doubts(found: Measurement) -> list[str]:
    """What a user should know of how the measurement went."""
    notes = []
    if spoilt := sum(trip.xruns > 0 for trip in found.rounds):
        notes.append(
            f"{spoilt} of {len(found.rounds)} rounds had xruns, however often they were repeated: "
            "what they measured is doubtful"
        )
    if any(trip.measured.polarity < 0 for trip in found.rounds):
        notes.append("the sound comes back upside down: something on the way inverts its polarity")
    if found.spread_frames >= 1.0:
        notes.append("the device is not late by the same each time it is opened")
    return notes


def summed_up(found: Measurement, model: Model | None) -> dict[str, Any]:
    """Everything that was found, JSON-ready."""
    from ..live.latency import stages

    rate, last = found.rate_hz, found.rounds[-1]
    added = stages(
        rate,
        last.input_latency_ms,
        last.output_latency_ms,
        last.block_frames,
        *(() if model is None else (model.latency_frames, model.sample_rate_hz)),
    )
    claims = (last.input_latency_ms, last.output_latency_ms)
    claimed = None if claims[0] is None or claims[1] is None else claims[0] + claims[1]
    measured = 1e3 * found.delay_frames / rate
    return {
        "input_device": str(found.source),
        "output_device": str(found.sink),
        "sample_rate_hz": rate,
        "block_frames": last.block_frames,
        "round_trip_frames": found.delay_frames,
        "round_trip_ms": measured,
        "spread_frames": found.spread_frames,
        "claimed_ms": claimed,
        "measured_minus_claimed_ms": None if claimed is None else measured - claimed,
        "stages": [_stage(stage, rate) for stage in added],
        "model": None if model is None else model.name,
        "with_model_ms": _with_model(measured, added, rate),
        "rounds": [_round(trip) for trip in found.rounds],
    }


def _stage(stage: Stage, rate_hz: float) -> dict[str, Any]:
    ms = None if stage.frames is None else 1e3 * stage.frames / rate_hz
    return {"name": stage.name, "frames": stage.frames, "ms": ms, "basis": stage.basis}


def _round(trip: RoundTrip) -> dict[str, Any]:
    found = asdict(trip)
    return {**found.pop("measured"), **found}


def _with_model(measured_ms: float, added: Sequence[Stage], rate_hz: float) -> float | None:
    """The round trip and what a model adds; None without one, or where that is unknown."""
    own = [stage.frames for stage in added if stage.name in ("model", "resampling")]
    if not own or None in own:
        return None
    return measured_ms + sum(1e3 * frames / rate_hz for frames in own if frames is not None)


def rows(summary: dict[str, Any]) -> list[list[str]]:
    """What was found, as lines of the table."""
    rate = summary["sample_rate_hz"]
    last, times = summary["rounds"][-1], len(summary["rounds"])
    how = f"{times} times, spread {summary['spread_frames']:.2f} frames, {last['level_db']:+.1f} dB"
    where = f"{summary['input_device']} from {summary['output_device']} at {rate:g} Hz"
    found = [
        _row("round trip, measured", summary["round_trip_ms"], rate, f"{how}: {where}"),
        _row("claimed by PortAudio", summary["claimed_ms"], rate, "in and out"),
        _row("measured less claimed", summary["measured_minus_claimed_ms"], rate, ""),
    ]
    for stage in summary["stages"]:
        basis = stage["basis"]
        said = summary["model"] if stage["name"] == "model" else _BASES[basis]
        found.append(_row(stage["name"], stage["ms"], rate, said))
    if summary["with_model_ms"] is not None:
        found.append(_row("round trip with the model", summary["with_model_ms"], rate, ""))
    return found


def _row(name: str, ms: float | None, rate_hz: float, what: str) -> list[str]:
    numbers = ["?", "?"] if ms is None else [f"{1e-3 * ms * rate_hz:.2f}", f"{ms:.3f}"]
    return [name, *numbers, what]
