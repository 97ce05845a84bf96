"""``backline devices``"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ._common import JsonOption
from ._screen import print_table

if TYPE_CHECKING:
    from ..live.devices import Device

_HEADINGS = ("", "Name", "Host API", "In", "Out", "Rate", "Latency in", "Latency out")


def devices(as_json: JsonOption = False) -> None:
    """List the audio devices, as `backline live` names them.

    The clock at the end needs no sound card: it runs the model in real time, and nothing is heard.
    """
    from ..live import devices as host

    found = host.devices()
    if as_json:
        print(json.dumps([asdict(device) for device in found], indent=2))
    else:
        print_table(_HEADINGS, map(row, found), left=("Name", "Host API"))
        if len(found) == 1:
            print("no audio device was found; only the clock is there")


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
