"""``backline info``"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import JsonOption, LayersOption, ModelArgument, QualityOption, read_layers, tell
from ._screen import print_pairs, print_table

if TYPE_CHECKING:
    from ..engine import Model
    from ..graph import Graph
    from ..layers import Node


def info(
    model: ModelArgument,
    as_json: JsonOption = False,
    quality: QualityOption = 1.0,
    layers: LayersOption = None,
    all_layers: Annotated[
        bool, typer.Option("--all-layers", help="List layers without parameters in long models too.")
    ] = False,
) -> None:
    """Say what is in a model: size, cost, reach, rate, knobs, layers, and what the file says of itself."""
    from .. import library, load

    path = library.find(model)
    found = summary(load(path, quality=quality, layers=read_layers(layers)), path)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False, default=str))
    else:
        print_pairs(rows(found))
        print()
        show_layers(found["layers"], every=all_layers)


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
        "latency_ms": None if rate_hz is None else 1e3 * model.latency_frames / rate_hz,
        "prewarm_frames": graph.prewarm_frames,
        "sample_rate_hz": rate_hz,
        "input_channels": model.input_channels,
        "output_channels": model.output_channels,
        "output_rate": str(graph.signals[graph.output].rate),
        "layers": [describe(graph, node) for node in graph.nodes],
        "knobs": [asdict(knob) for knob in graph.knobs],
        "isa": model.isa,
        "program_bytes": int(sizes.program_bytes),
        "engine_bytes": int(sizes.engine_bytes),
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
        ("Latency", _span(found["latency_frames"], found["latency_ms"])),
        ("Sample rate", "the file does not say" if rate_hz is None else f"{rate_hz:g} Hz"),
        ("Channels", f"{found['input_channels']} in, {found['output_channels']} out"),
        ("Settles on", f"{found['prewarm_frames']:,} frames of silence"),
        ("Runs on", found["isa"]),
        ("Memory", _memory(found)),
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
        date = [value.get(part) for part in ("year", "month", "day")]
        if all(isinstance(part, int) for part in date):
            return "-".join(str(part).zfill(2) for part in date)
        return f"{', '.join(map(str, value))} (see --json)"
    return json.dumps(value, default=str)


def _memory(found: Mapping[str, Any]) -> str:
    first = found["engine_bytes"] + found["stream_bytes"]
    return (
        f"{found['program_bytes']:,} bytes, {first:,} for an engine of one stream, "
        f"{found['stream_bytes']:,} for each more"
    )


def _reach(frames: int | None, ms: float | None) -> str:
    if frames is None:
        return "unbounded (recurrent)"
    return _span(frames, ms)


def _span(frames: int, ms: float | None) -> str:
    return f"{frames:,} frame{'s' * (frames != 1)}" + ("" if ms is None else f", {ms:.1f} ms")


def describe(graph: Graph, node: Node) -> dict[str, Any]:
    """A layer as JSON-ready values; None where it has no such thing."""
    read, made = (graph.signals[name] for name in (node.inputs[0], node.output))
    weight = node.arrays.get("weight")
    return {
        "name": node.output,
        "kind": type(node).__name__,
        "input_channels": sum(graph.signals[name].channels for name in node.inputs)
        if type(node).__name__ == "Concat"
        else read.channels,
        "input_features": read.features,
        "output_channels": made.channels,
        "features": made.features,
        "kernel": getattr(node, "kernel", None if weight is None else list(weight.shape[2:])),
        "dilation": _over_time_and_features(node, "dilation"),
        "stride": _over_time_and_features(node, "stride") or getattr(node, "factor", None),
        "delay_frames": getattr(node, "frames", None),
        "groups": getattr(node, "groups", None),
        "activation": getattr(getattr(node, "activation", None), "kind", None),
        "parameters": sum(int(values.size) for values in node.arrays.values()),
        "multiply_adds_per_frame": graph.node_multiply_adds(node),
        "rate": str(made.rate),
    }


def _over_time_and_features(node: Node, what: str) -> Any:
    """A number, or two where a node has one for either axis; None where it has none."""
    over_features = getattr(node, f"feature_{what}", None)
    over_time = getattr(node, what, None)
    return over_time if over_features is None else [over_time, over_features]


_HEADINGS = (
    *("layer", "kind", "shape", "kernel", "dilation", "stride", "groups", "parameters"),
    *("multiply-adds", "rate"),
)

#: For terminals that are too narrow for the table.
_SHORT_HEADINGS = {
    **{"kernel": "ker", "dilation": "dil", "stride": "str", "groups": "grp"},
    **{"parameters": "params", "multiply-adds": "mul-adds"},
}
_ABBREVIATIONS = {"Lstm": "LSTM", "Gru": "GRU"}

#: A model of so many layers is listed in full.
_SHORT_LAYERS = 40


def show_layers(layers: Sequence[Mapping[str, Any]], every: bool) -> None:
    """Print the table of layers, without columns that are empty, and of a long model what has parameters."""
    few = every or len(layers) <= _SHORT_LAYERS
    listed = [layer for layer in layers if few or layer["parameters"]]
    table = [layer_row(layer) for layer in listed]
    used = [index for index in range(len(_HEADINGS)) if any(row[index] for row in table)]
    headings = [_HEADINGS[index] for index in used]
    cells = [[row[index] for index in used] for row in table]
    print_table(headings, cells, left=_HEADINGS[:2], short=_SHORT_HEADINGS)
    rest = Counter(layer["activation"] or layer["kind"] for layer in layers if layer not in listed)
    if rest:
        kinds = ", ".join(f"{count} {kind}" for kind, count in rest.most_common())
        tell(f"and {rest.total()} without parameters: {kinds} (--all-layers lists them)")


def layer_row(layer: Mapping[str, Any]) -> list[str]:
    """A layer's row in the table; what is usual is left out, so that the rest is seen."""
    given, made = (
        _by(layer[channels], layer[features] if layer[features] != 1 else None)
        for channels, features in (("input_channels", "input_features"), ("output_channels", "features"))
    )
    return [
        layer["name"],
        layer["activation"] or _ABBREVIATIONS.get(layer["kind"], layer["kind"]),
        f"{given} → {made}",
        _by(layer["kernel"]),
        *("" if layer[key] in (1, [1, 1]) else _by(layer[key]) for key in ("dilation", "stride", "groups")),
        f"{layer['parameters']:,}" if layer["parameters"] else "",
        f"{layer['multiply_adds_per_frame']:,.5g}" if layer["multiply_adds_per_frame"] else "",
        "" if layer["rate"] == "1" else layer["rate"],
    ]


def _by(*sizes: Any) -> str:
    """Sizes as "2 by 3", without those that are None."""
    flat = [one for size in sizes for one in (size if isinstance(size, list) else [size])]
    return " by ".join(str(one) for one in flat if one is not None)
