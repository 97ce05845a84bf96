"""``backline live``"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import (
    CalibrateOption,
    ForceOption,
    JsonOption,
    KnobOption,
    LayersOption,
    ModelArgument,
    QualityOption,
    calibration_of,
    read_knobs,
    read_layers,
    say,
    tell,
)
from ._screen import Line, live_panel

if TYPE_CHECKING:
    from ..live.devices import Latency
    from ..live.session import LiveSession
    from ..live.status import LiveStatus

_LOWEST_DBFS = -60.0
_METER_CELLS = 24
_PANEL_CELLS = 100


def live(
    model: ModelArgument,
    device: Annotated[
        str | None,
        typer.Option(help="For both ways: index, part of a name (see backline devices), or clock."),
    ] = None,
    input_device: Annotated[str | None, typer.Option(help="Input device, if another.")] = None,
    output_device: Annotated[str | None, typer.Option(help="Output device, if another.")] = None,
    input_channel: Annotated[
        str | None,
        typer.Option("--input-channel", "--input-channels", help="From 1; 1,2 runs a mono model for each."),
    ] = None,
    output_channels: Annotated[
        str | None, typer.Option(help="From 1, as 1,2; a mono model goes to each.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Hertz, if not the model's: it will sound different.")
    ] = None,
    block: Annotated[
        int | None, typer.Option(min=1, max=8192, help="Frames per block; the device's own by default.")
    ] = None,
    latency: Annotated[str, typer.Option(help="low, high, or seconds: what PortAudio is asked for.")] = "low",
    gain_in: Annotated[float, typer.Option(help="dB before the model.")] = 0.0,
    gain_out: Annotated[float, typer.Option(help="dB after the model.")] = 0.0,
    calibrate: CalibrateOption = None,
    bypass: Annotated[bool, typer.Option("--bypass", help="Hear the input itself.")] = False,
    quality: QualityOption = 1.0,
    layers: LayersOption = None,
    knob: KnobOption = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so much audio.")] = None,
    record: Annotated[Path | None, typer.Option(help="File for all that comes out of the model.")] = None,
    take: Annotated[
        Path | None, typer.Option("--from", help="File the model hears in place of the input.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="File for what comes of --from, in time with it.")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Play through a model, until Ctrl-C, or until a take or --seconds is over.

    Files are 32-bit float WAV unless their names end otherwise. Without a sound
    card, or with --device clock, the model runs in real time all the same, and
    nothing is heard.
    """
    from .. import library, load
    from ..live.session import LiveSession

    if to is not None and take is None:
        raise typer.BadParameter("--to keeps what a take becomes: it needs --from")
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter(f"--seconds: expected a number of seconds, found {seconds}")
    loaded = load(library.find(model), quality=quality, layers=read_layers(layers), knobs=read_knobs(knob))
    say(loaded.notes)
    before_db, after_db = calibration_of(loaded, calibrate)
    session = LiveSession(
        loaded,
        device=device,
        input_device=input_device,
        output_device=output_device,
        input_channels=read_channels(input_channel),
        output_channels=read_channels(output_channels),
        rate_hz=rate,
        block_frames=block,
        latency_s=read_latency(latency),
        input_gain_db=gain_in + before_db,
        output_gain_db=gain_out + after_db,
        bypass=bypass,
        take=take,
        record=record,
        to=to,
        overwrite=force,
    )
    play(session, seconds, as_json)


def play(session: LiveSession, seconds: float | None, as_json: bool) -> None:
    """Run a session to its end, Ctrl-C included, and print how it goes and how it went."""
    said = 0
    try:
        with contextlib.suppress(KeyboardInterrupt), session:
            said = say(session.notes)
            with display(as_json) as (show, interval):
                session.run(seconds, show, interval)
    finally:
        say(session.notes[said:])
        if session.started:
            summary = session.summary()
            tell(
                json.dumps({"event": "summary", **summary}, allow_nan=False) if as_json else closing(summary)
            )


@contextlib.contextmanager
def display(as_json: bool) -> Iterator[tuple[Callable[[LiveStatus], None], float]]:
    """What shows a status and how often: JSON or a line per second, or a panel on a terminal."""
    if as_json:
        yield lambda status: print(json.dumps({"event": "status", **status.as_dict()}), flush=True), 1.0
    elif not sys.stdout.isatty():
        yield lambda status: print(line(status.as_dict()), flush=True), 1.0
    else:
        with live_panel("backline live", "Ctrl-C ends", _PANEL_CELLS) as show:
            yield lambda status: show(meters(status.as_dict())), 0.1


def line(status: dict[str, Any]) -> str:
    """A status in one line."""
    levels = (f"{way} {_levels(status[f'{way}put_dbfs'])}" for way in ("in", "out"))
    return ", ".join([f"{status['seconds']:7.1f} s", *levels, *_vitals(status)])


def closing(summary: dict[str, Any]) -> str:
    """How a session went, in one line."""
    counts = {
        "input samples at full scale": summary["input_clips"],
        "output samples over full scale": summary["output_clips"],
        "input samples not finite": summary["input_not_finite"],
        "output samples not finite": summary["output_not_finite"],
        "frames not recorded": summary["capture_lost_frames"],
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


def meters(status: dict[str, Any]) -> list[Line]:
    """A status for the panel: meters over a line of numbers."""
    lines: list[Line] = []
    for way in ("in", "out"):
        for level in status[f"{way}put_dbfs"]:
            lit = (
                0 if level is None else round(_METER_CELLS * (1.0 - max(level, _LOWEST_DBFS) / _LOWEST_DBFS))
            )
            cells = min(lit, _METER_CELLS)
            bar = ("█" * cells, "red" if level is not None and level >= 0.0 else "green")
            rest = ("·" * (_METER_CELLS - cells), "dim")
            lines.append([(f"{way:3} ", ""), bar, rest, (f" {_levels([level])}", "")])
    return [*lines, [(", ".join([f"{status['seconds']:.1f} s", *_vitals(status)]), "")]]


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


def read_channels(text: str | None) -> list[int] | None:
    """Channel numbers from text such as ``1,2``; None for None."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"expected channel numbers such as 1 or 1,2, found {text!r}") from error


def read_latency(text: str) -> Latency:
    """PortAudio's hint, or seconds."""
    if text == "low":
        return "low"
    if text == "high":
        return "high"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds <= 10.0:
        raise typer.BadParameter(f"expected low, high or 0 to 10 seconds, found {text!r}")
    return seconds
