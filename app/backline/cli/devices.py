"""``backline devices``"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ._common import JsonOption, tell
from ._screen import print_table

if TYPE_CHECKING:
    from ..live.devices import Device

_HEADINGS = ("", "Name", "Host API", "In", "Out", "Rate", "Latency in", "Latency out")


_WATCH_SECONDS = 1.0


def devices(
    watch: Annotated[bool, typer.Option("--watch", help="Say what comes and goes, until Ctrl-C.")] = False,
    seconds: Annotated[float | None, typer.Option(min=0, help="End --watch after so long.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the audio devices, as `backline live` names them.

    The clock at the end needs no sound card: it runs the model in real time, and nothing is heard.
    """
    from ..live import devices as host

    if watch:
        watch_devices(seconds, as_json)
        return
    found = host.devices()
    if as_json:
        print(json.dumps([asdict(device) for device in found], indent=2))
    else:
        print_table(_HEADINGS, map(row, found), left=("Name", "Host API"))
        if len(found) == 1:
            print("no audio device was found; only the clock is there")


def watch_devices(seconds: float | None, as_json: bool) -> None:
    """Print a line for each device that is there, comes, or goes.

    PortAudio sees only what was there when it started, so it is started anew for each look.
    """
    from ..live.probe import listed_devices

    before: dict[tuple[str, str], Device] = {}
    end = None if seconds is None else time.monotonic() + seconds
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            now = {(each.name, each.host_api): each for each in listed_devices()}
            changes = [("+", now[key]) for key in now if key not in before]
            changes += [("-", before[key]) for key in before if key not in now]
            for sign, device in changes:
                tell(json.dumps({"event": sign, **asdict(device)}) if as_json else f"{sign} {device}")
            before = now
            if end is not None and time.monotonic() >= end:
                return
            time.sleep(_WATCH_SECONDS)


def row(device: Device) -> list[str]:
    """A device's line in the table; ``<`` marks the default input, ``>`` the default output."""
    latencies = (device.input_latency_ms, device.output_latency_ms)
    default = "<" * device.default_input + ">" * device.default_output
    return [
        f"{default} {'' if device.index is None else device.index}".strip(),
        device.name,
        device.host_api,
        str(device.input_channels),
        str(device.output_channels),
        f"{device.default_rate_hz:g} Hz",
        *(f"{x[0]:.1f} to {x[1]:.1f} ms" if x else "" for x in latencies),
    ]
