"""``backline info``"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._common import JsonOption, LayersOption, ModelArgument, QualityOption, read_layers
from ._screen import print_pairs

if TYPE_CHECKING:
    from ..engine import Model


def info(
    model: ModelArgument,
    as_json: JsonOption = False,
    quality: QualityOption = 1.0,
    layers: LayersOption = None,
) -> None:
    """Say what is in a model: size, cost, reach, rate, knobs, and what the file says of itself."""
    from .. import library, load

    path = library.find(model)
    found = summary(load(path, quality=quality, layers=read_layers(layers)), path)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False, default=str))
    else:
        print_pairs(rows(found))


def summary(model: Model, path: Path) -> dict[str, Any]:
    """What `info` prints, as JSON-ready values; None where something does not exist."""
    graph, sizes = model.graph, model.program.info
    reach, rate_hz = model.receptive_field_frames, model.sample_rate_hz
    return {
        "name": model.name,
        "file": str(path),
        "parameters": graph.parameter_count,
        "multiply_adds_per_frame": graph.multiply_adds_per_frame,
        "receptive_field_frames": reach,
        "receptive_field_ms": None if reach is None or rate_hz is None else 1e3 * reach / rate_hz,
        "latency_frames": model.latency_frames,
        "prewarm_frames": graph.prewarm_frames,
        "sample_rate_hz": rate_hz,
        "input_channels": model.input_channels,
        "output_channels": model.output_channels,
        "output_rate": str(graph.signals[graph.output].rate),
        "layers": len(graph.nodes),
        "knobs": [asdict(knob) for knob in graph.knobs],
        "isa": model.isa,
        "program_bytes": int(sizes.program_bytes),
        "stream_bytes": int(sizes.stream_bytes),
        "metadata": dict(graph.metadata),
        "notes": list(graph.notes),
    }


def rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A summary for people: what and value, as text."""
    rate_hz = found["sample_rate_hz"]
    result = [
        ("Model", found["name"]),
        ("File", found["file"]),
        ("Parameters", f"{found['parameters']:,}"),
        ("Cost", f"{found['multiply_adds_per_frame']:,.0f} multiply-adds per frame"),
        ("Receptive field", _reach(found["receptive_field_frames"], found["receptive_field_ms"])),
        ("Latency", f"{found['latency_frames']} frames"),
        ("Sample rate", "the file does not say" if rate_hz is None else f"{rate_hz:g} Hz"),
        ("Channels", f"{found['input_channels']} in, {found['output_channels']} out"),
        ("Settles on", f"{found['prewarm_frames']:,} frames of silence"),
        ("Runs on", found["isa"]),
        ("Memory", f"{found['program_bytes']:,} bytes, and {found['stream_bytes']:,} per stream"),
    ]
    for knob in found["knobs"]:
        result.append(("Knob", "{name}: {minimum:g} to {maximum:g}, at {default:g}".format(**knob)))
    for key, value in found["metadata"].items():
        if value not in (None, "", {}, []):
            result.append((str(key), _said(value)))
    return result + [("Note", note) for note in found["notes"]]


def _said(value: Any) -> str:
    """A model's own words, on one line: what is long is named and left to ``--json``."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        if {"year", "month", "day"} <= value.keys():
            return "{year}-{month:>02}-{day:>02}".format(**value)
        return f"{', '.join(map(str, value))} (see --json)"
    return json.dumps(value, default=str)


def _reach(frames: int | None, ms: float | None) -> str:
    if frames is None:
        return "unbounded (recurrent)"
    return f"{frames:,} frames" + ("" if ms is None else f", {ms:.1f} ms")
