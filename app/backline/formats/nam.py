"""Neural Amp Modeler's .nam: the envelope, LSTM and SlimmableContainer; WaveNet has a file of its own.

Format and order of weights as NeuralAmpModelerCore reads them (github.com/sdatkinson/NeuralAmpModelerCore),
versions 0.5.0 to 0.7.x.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from ..errors import ModelError
from ..graph import Graph
from ..layers import Conv1d, Lstm, Node
from ._nam_wavenet import read_wavenet
from ._reading import Fields, WeightCursor, refuse, within

_EARLIEST, _LATEST = (0, 5, 0), (0, 7, 0)
_DEFAULT_RATE_HZ = 48000.0
_NOT_YET = ("Linear", "ConvNet", "Sequential")


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a .nam file, going by its keys."""
    return "architecture" in document or {"version", "config", "weights"} <= set(document)


def has_sizes(document: Mapping[str, Any]) -> bool:
    """Whether the file holds models of several sizes to choose from."""
    return document.get("architecture") == "SlimmableContainer"


def read(document: Mapping[str, Any], *, quality: float) -> Graph:
    """Turn a .nam file's JSON object into a graph.

    Parameters
    ----------
    document : mapping
        The whole file, parsed.
    quality : float
        From 0 to 1; which of a container's models to take.

    Returns
    -------
    Graph
        Mono unless the file says otherwise. `prewarm_frames` is the receptive field of a WaveNet, whose
        histories then hold what an infinite past of silence leaves, and half a second for an LSTM.

    Raises
    ------
    ModelError
        The file is broken, or uses what is not supported yet.
    """
    return _read_model(Fields(document, ""), quality)


@dataclass(frozen=True)
class _Envelope:
    """What every .nam object says, whatever its architecture."""

    architecture: str
    config: Fields
    sample_rate_hz: float | None
    metadata: dict[str, Any]
    notes: tuple[str, ...]


def _read_model(fields: Fields, quality: float) -> Graph:
    envelope = _read_envelope(fields)
    if envelope.architecture == "SlimmableContainer":
        return _read_container(envelope, quality)
    weights = WeightCursor(fields.value("weights"), fields.place("weights"))
    if envelope.architecture == "WaveNet":
        graph = _read_wavenet(envelope, weights)
    elif envelope.architecture == "LSTM":
        graph = _read_lstm(envelope, weights)
    else:
        _refuse_architecture(envelope.architecture)
    weights.finish()
    return graph


def _refuse_architecture(architecture: str) -> NoReturn:
    if architecture in _NOT_YET:
        raise ModelError(f"architecture {architecture!r} is not supported yet")
    refuse("field 'architecture'", "WaveNet, LSTM or SlimmableContainer", architecture)


def _read_envelope(fields: Fields) -> _Envelope:
    notes = _check_version(fields)
    architecture = fields.text("architecture")
    config = Fields(fields.value("config"), "config")
    if not isinstance(fields.value("weights"), list):
        refuse(fields.place("weights"), "a list of numbers", fields.value("weights"))
    rate = None
    if fields.has("sample_rate"):
        rate = fields.number("sample_rate")
        if not rate > 0:
            refuse(fields.place("sample_rate"), "a positive number", rate)
    metadata = dict(fields.fields("metadata").raw) if fields.has("metadata") else {}
    return _Envelope(architecture, config, rate, metadata, notes)


def _check_version(fields: Fields) -> tuple[str, ...]:
    text = fields.text("version")
    match = re.fullmatch(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", text, re.ASCII)
    if match is None:
        refuse(fields.place("version"), "a version such as 0.5.4", text)
    version = tuple(int(part) for part in match.groups())
    if version < _EARLIEST or version[:2] > _LATEST[:2]:
        raise ModelError(f"{fields.place('version')}: expected 0.5.0 to 0.7.x, found {text}")
    if version > _LATEST:
        return (f"file version {text} is newer than 0.7.0, the newest one known here",)
    return ()


def _rate(envelope: _Envelope) -> tuple[float, tuple[str, ...]]:
    if envelope.sample_rate_hz is not None:
        return envelope.sample_rate_hz, envelope.notes
    return _DEFAULT_RATE_HZ, (*envelope.notes, "the file states no sample rate; 48000 Hz is assumed")


def _read_wavenet(envelope: _Envelope, weights: WeightCursor) -> Graph:
    parts = read_wavenet(envelope.config, weights)
    rate, notes = _rate(envelope)
    graph = Graph(
        nodes=parts.nodes,
        input="input",
        input_channels=parts.input_channels,
        output=parts.nodes[-1].output,
        sample_rate_hz=rate,
        metadata=envelope.metadata,
        notes=(*notes, *parts.notes),
    )
    return replace(graph, prewarm_frames=graph.receptive_field_frames or 0)


def _read_lstm(envelope: _Envelope, weights: WeightCursor) -> Graph:
    """Layers of LSTM, then a weighted sum of the last one's state.

    Per layer the file has one matrix [4 * hidden][input + hidden], one bias, then the initial h and c;
    gates in the order i, f, g, o.
    """
    config = envelope.config
    inputs = config.integer("input_size")
    hidden = config.integer("hidden_size")
    outputs = config.integer("out_channels", 1)
    if config.integer("in_channels", inputs) != inputs:
        raise ModelError(
            f"{config.place('in_channels')}: expected {inputs} as input_size says, "
            f"found {config.integer('in_channels')}"
        )
    nodes: list[Node] = []
    below, width = "input", inputs
    for i in range(config.integer("num_layers")):
        name = f"lstm {i}"
        matrix = weights.take((4 * hidden, width + hidden), name)
        bias, h0, c0 = (weights.take((size,), name) for size in (4 * hidden, hidden, hidden))
        nodes.append(Lstm(name, below, matrix[:, :width], matrix[:, width:], bias, h0, c0))
        below, width = name, hidden
    weight = weights.take((outputs, hidden, 1), "head")
    nodes.append(Conv1d("head", below, weight, weights.take((outputs,), "head")))
    rate, notes = _rate(envelope)
    return Graph(
        nodes=tuple(nodes),
        input="input",
        input_channels=inputs,
        output="head",
        sample_rate_hz=rate,
        prewarm_frames=max(1, int(0.5 * rate)),
        metadata=envelope.metadata,
        notes=notes,
    )


def _read_container(envelope: _Envelope, quality: float) -> Graph:
    """Models of several sizes: the first whose max_value is above `quality`, else the last."""
    models: list[tuple[float, Fields]] = []
    for i, raw in enumerate(envelope.config.items("submodels")):
        with within(f"submodel {i}"):
            entry = Fields(raw, "")
            limit = entry.number("max_value")
            if models and limit <= models[-1][0]:
                raise ModelError(
                    f"expected max_value above the {models[-1][0]:g} of the submodel before, found {limit:g}"
                )
            models.append((limit, _checked_submodel(envelope, entry.fields("model"))))
    if models[-1][0] < 1.0:
        raise ModelError(f"submodels: expected the last max_value to be at least 1, found {models[-1][0]:g}")
    chosen = next((i for i, (limit, _) in enumerate(models) if quality < limit), len(models) - 1)
    with within(f"submodel {chosen}"):
        graph = _read_model(models[chosen][1], 1.0)
    meant = f"for a quality below {models[chosen][0]:g}" if chosen < len(models) - 1 else "the largest"
    note = f"model {chosen + 1} of the {len(models)} in the file, {meant}"
    return replace(
        graph,
        metadata={**envelope.metadata, **graph.metadata},
        notes=(*envelope.notes, note, *graph.notes),
    )


def _checked_submodel(container: _Envelope, model: Fields) -> Fields:
    """Check a submodel's envelope, chosen or not; give it the container's sample rate if it has none."""
    model = Fields(model.raw, "")
    envelope = _read_envelope(model)
    if envelope.architecture not in ("WaveNet", "LSTM", "SlimmableContainer", *_NOT_YET):
        _refuse_architecture(envelope.architecture)
    if container.sample_rate_hz is None:
        return model
    if envelope.sample_rate_hz not in (None, container.sample_rate_hz):
        raise ModelError(
            f"expected the container's sample rate, {container.sample_rate_hz:g} Hz, "
            f"found {envelope.sample_rate_hz:g} Hz"
        )
    return Fields({**model.raw, "sample_rate": container.sample_rate_hz}, "")
