"""``backline live``"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import (
    CalibrateOption,
    ForceOption,
    JsonOption,
    KnobOption,
    LayersOption,
    QualityOption,
    calibrated,
    calibration_of,
    read_knobs,
    read_layers,
    say,
    tell,
)
from ._live_text import closing, line

if TYPE_CHECKING:
    from ..live.devices import Latency
    from ..live.session import LiveSession
    from ..live.slot import LiveModel
    from ..live.status import LiveStatus


def live(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Model files or shipped models; the first plays.")
    ],
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
        float | None, typer.Option(help="Hertz of the device; the model's where it takes that.")
    ] = None,
    oversample: Annotated[
        bool, typer.Option("--oversample", help="Run models at multiples of their rate; no resampling.")
    ] = False,
    resample: Annotated[
        bool, typer.Option(help="Resample around models made for another rate; else they sound different.")
    ] = True,
    block: Annotated[
        int | None, typer.Option(min=1, max=8192, help="Frames per block; the device's own by default.")
    ] = None,
    latency: Annotated[str, typer.Option(help="low, high, or seconds: what PortAudio is asked for.")] = "low",
    gain_in: Annotated[float, typer.Option(help="dB before the model.")] = 0.0,
    gain_out: Annotated[float, typer.Option(help="dB after the model.")] = 0.0,
    calibrate: CalibrateOption = None,
    bypass: Annotated[bool, typer.Option("--bypass", help="Hear the input itself.")] = False,
    limit: Annotated[bool, typer.Option(help="Keep peaks above -1 dBFS below 0.")] = True,
    quality: QualityOption = 1.0,
    auto_quality: Annotated[
        bool, typer.Option("--auto-quality", help="Choose the size that the processor can carry, all along.")
    ] = False,
    layers: LayersOption = None,
    knob: KnobOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Load files again when they change: hear a model train.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so much audio.")] = None,
    record: Annotated[Path | None, typer.Option(help="File for all that comes out of the model.")] = None,
    take: Annotated[
        Path | None, typer.Option("--from", help="File the model hears in place of the input.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="File for what comes of --from, in time with it.")
    ] = None,
    stats: Annotated[
        Path | None, typer.Option(help="JSON file for the last callbacks and the loads; see backline plot.")
    ] = None,
    force: ForceOption = False,
    plain: Annotated[bool, typer.Option("--plain", help="No screen: a line a second.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Play through a model, until q or Ctrl-C, or until a take or --seconds is over.

    On a terminal this is a screen of meters and knobs (? for its keys); elsewhere a line
    a second. Of several models the first plays and the others are kept ready. Files are
    32-bit float WAV unless their names end otherwise. Without a sound card, or with
    --device clock, the model runs in real time all the same, and nothing is heard.
    """
    from ..live.session import LiveSession

    check_usage(take, to, seconds)
    session = LiveSession(
        [live_model(name, read_layers(layers), quality, calibrate) for name in models],
        device=device,
        input_device=input_device,
        output_device=output_device,
        input_channels=read_channels(input_channel),
        output_channels=read_channels(output_channels),
        rate_hz=rate,
        resampled=resample,
        oversample=oversample,
        block_frames=block,
        latency_s=read_latency(latency),
        input_gain_db=gain_in,
        output_gain_db=gain_out,
        bypass=bypass,
        knobs=read_knobs(knob),
        limiter=limit,
        watch=watch,
        auto_quality=auto_quality,
        take=take,
        record=record,
        to=to,
        stats=stats,
        overwrite=force,
    )
    play(session, seconds, "json" if as_json else "plain" if plain else None)


def live_model(name: str, layers: Any, quality: float, calibrate: float | None) -> LiveModel:
    """A model file, the way to load it again, and the gains that belong to it."""
    from .. import library, load
    from ..live.slot import LiveModel

    path = library.find(name)
    loaded = load(path, quality=quality, layers=layers)
    say(loaded.notes)
    before_db, after_db = calibration_of(loaded, calibrate)
    return LiveModel(
        loaded,
        path,
        partial(load, path, layers=layers),
        quality=quality,
        input_trim_db=before_db,
        output_trim_db=after_db,
        calibrate=None if calibrate is None else partial(calibrated, interface_dbu=calibrate),
    )


def play(session: LiveSession, seconds: float | None, how: str | None) -> None:
    """Run a session to its end, Ctrl-C included, and print how it goes and how it went."""
    on_screen = how is None and has_screen()
    try:
        with contextlib.suppress(KeyboardInterrupt), session:
            if on_screen:
                from ..live.screen import run_screen

                run_screen(session, seconds_over=lambda: session.is_over(seconds))
            else:
                say(session.messages())
                session.run(seconds, partial(print_status, session, how == "json"))
    finally:
        # What the screen has shown went with it: all of it once more.
        say(session.notes if on_screen else session.messages())
        if session.started:
            summary = session.summary()
            tell(
                json.dumps({"event": "summary", **summary}, allow_nan=False)
                if how == "json"
                else closing(summary)
            )
            say(session.causes())


def has_screen() -> bool:
    """Whether there is a terminal to draw on, which Textual does by way of stderr, and to read keys from."""
    terminal = all(each.isatty() for each in (sys.stdin, sys.stdout, sys.stderr))
    return terminal and os.environ.get("TERM") != "dumb"


def print_status(session: LiveSession, as_json: bool, status: LiveStatus) -> None:
    """A line a second, and what there is to say."""
    say(session.messages())
    found = status.as_dict()
    print(json.dumps({"event": "status", **found}) if as_json else line(found), flush=True)


def check_usage(take: Path | None, to: Path | None, seconds: float | None) -> None:
    """Refuse what cannot be meant, before anything sounds."""
    if to is not None and take is None:
        raise typer.BadParameter("--to keeps what a take becomes: it needs --from")
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter(f"--seconds: expected a number of seconds, found {seconds}")


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
