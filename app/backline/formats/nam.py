"""Neural Amp Modeler's .nam: the envelope, and models made of models; the rest has files of its own.

Format and order of weights as NeuralAmpModelerCore reads them (github.com/sdatkinson/NeuralAmpModelerCore),
versions 0.5.0 to 0.7.x.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ModelError
from ..graph import Graph
from ..layers import Node
from ._nam_parts import nodes_inside, settling_frames
from ._nam_stacks import read_conv_net, read_linear, read_lstm
from ._nam_wavenet import read_wavenet
from ._nam_wavenet_config import slim_channels
from ._reading import Fields, WeightCursor, refuse, within

_EARLIEST, _LATEST = (0, 5, 0), (0, 7, 0)
_DEFAULT_RATE_HZ = 48000.0
_ARCHITECTURES = ("WaveNet", "ConvNet", "LSTM", "Linear", "SlimmableContainer", "Sequential")
_ENVELOPE_FIELDS = ("version", "architecture", "config", "weights", "sample_rate", "metadata")
#: Most models inside one another; real files have one or two.
_DEEPEST = 16


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a .nam file, going by its keys."""
    return "architecture" in document or {"version", "config", "weights"} <= set(document)


def has_sizes(document: Mapping[str, Any]) -> bool:
    """Whether a file that `read` has taken holds models of several sizes to choose from."""
    if not recognises(document):
        return False
    config = document["config"]
    if document["architecture"] == "SlimmableContainer":
        return len(config["submodels"]) > 1
    if document["architecture"] == "Sequential":
        return any(has_sizes(model) for model in config["models"])
    if document["architecture"] == "WaveNet":
        return any(len(slim_channels(Fields(array, "")) or ()) > 1 for array in config["layers"])
    return False


def read(document: Mapping[str, Any], *, quality: float) -> Graph:
    """Turn a .nam file's JSON object into a graph.

    Parameters
    ----------
    document : mapping
        The whole file, parsed.
    quality : float
        From 0 to 1: which of a container's models to take, and how many channels of a slimmable WaveNet
        to keep. A container's model is taken whole, as NeuralAmpModelerCore plays it.

    Returns
    -------
    Graph
        Mono unless the file says otherwise. `prewarm_frames` is the receptive field of a WaveNet or
        ConvNet, whose histories then hold what an infinite past of silence leaves, half a second for an
        LSTM and 0 for a Linear; what models inside one another need is added up.

    Raises
    ------
    ModelError
        The file is broken, or no player of these versions could run it.
    """
    return _read_model(Fields(document, ""), quality, 0)


@dataclass(frozen=True)
class _Envelope:
    """What every .nam object says, whatever its architecture."""

    architecture: str
    config: Fields
    sample_rate_hz: float | None
    metadata: dict[str, Any]
    notes: tuple[str, ...]


def _read_model(fields: Fields, quality: float, depth: int) -> Graph:
    if depth > _DEEPEST:
        raise ModelError(f"expected at most {_DEEPEST} models inside one another")
    envelope = _read_envelope(fields)
    if envelope.architecture == "SlimmableContainer":
        return _read_container(envelope, quality, depth)
    if envelope.architecture == "Sequential":
        return _read_sequential(envelope, fields, quality, depth)
    weights = WeightCursor(fields.value("weights"), fields.place("weights"))
    rate, notes = _rate(envelope)
    if envelope.architecture == "WaveNet":
        condition = None
        if envelope.config.has("condition_dsp"):
            raw = envelope.config.value("condition_dsp")
            rate, notes = _rate(envelope, _inner("condition_dsp", raw))
            with within("condition_dsp"):
                # Always whole, as NeuralAmpModelerCore plays it.
                condition = _read_model(_with_rate(Fields(raw, ""), rate), 1.0, depth + 1)
        parts = read_wavenet(envelope.config, weights, quality, condition)
    elif envelope.architecture == "ConvNet":
        parts = read_conv_net(envelope.config, weights)
    elif envelope.architecture == "LSTM":
        parts = read_lstm(envelope.config, weights, rate)
    else:
        parts = read_linear(envelope.config, weights)
    weights.finish()
    return Graph(
        nodes=parts.nodes,
        input="input",
        input_channels=parts.input_channels,
        output=parts.nodes[-1].output,
        sample_rate_hz=rate,
        prewarm_frames=parts.prewarm_frames,
        metadata=envelope.metadata,
        notes=(*notes, *parts.notes),
    )


def _read_envelope(fields: Fields) -> _Envelope:
    notes = (*_check_version(fields), *fields.notes_on_ignored(_ENVELOPE_FIELDS))
    architecture = fields.text("architecture")
    if architecture not in _ARCHITECTURES:
        refuse(fields.place("architecture"), f"one of {', '.join(_ARCHITECTURES)}", architecture)
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


def _rate(envelope: _Envelope, *inside: _Envelope) -> tuple[float, tuple[str, ...]]:
    """Return the sample rate that a model, or else the first of those inside it, states, and notes."""
    if envelope.sample_rate_hz is not None:
        return envelope.sample_rate_hz, envelope.notes
    for model in inside:
        if model.sample_rate_hz is not None:
            return model.sample_rate_hz, envelope.notes
    return _DEFAULT_RATE_HZ, (*envelope.notes, "the file states no sample rate; 48000 Hz is assumed")


def _with_rate(model: Fields, rate_hz: float | None) -> Fields:
    """Check the envelope of a model inside another one; give it the outer one's rate if it has none."""
    model = Fields(model.raw, "")
    envelope = _read_envelope(model)
    if rate_hz is None:
        return model
    if envelope.sample_rate_hz not in (None, rate_hz):
        raise ModelError(
            f"expected the sample rate of the model around it, {rate_hz:g} Hz, "
            f"found {envelope.sample_rate_hz:g} Hz"
        )
    return Fields({**model.raw, "sample_rate": rate_hz}, "")


def _inner(place: str, raw: object) -> _Envelope:
    """Check the envelope of a model inside another one."""
    with within(place):
        return _read_envelope(Fields(raw, ""))


def _read_sequential(envelope: _Envelope, fields: Fields, quality: float, depth: int) -> Graph:
    """Complete models that run one after another."""
    if len(fields.value("weights")) > 0:
        raise ModelError(
            f"{fields.place('weights')}: expected none beside a Sequential's models, found "
            f"{len(fields.value('weights'))}; the older form with one list for all is not supported"
        )
    config = envelope.config
    if config.integer("weights_version", 2) != 2:
        raise ModelError(
            f"{config.place('weights_version')}: expected 2, each model with its own weights, "
            f"found {config.integer('weights_version')}"
        )
    models = config.items("models")
    rate, notes = _rate(envelope, *(_inner(f"model {i}", raw) for i, raw in enumerate(models)))
    graphs: list[Graph] = []
    nodes: list[Node] = []
    source = "input"
    for i, raw in enumerate(models):
        with within(f"model {i}"):
            graph = _read_model(_with_rate(Fields(raw, ""), rate), quality, depth + 1)
            if graphs and graph.input_channels != graphs[-1].output_channels:
                raise ModelError(
                    f"expected {graphs[-1].output_channels} input channels like the model before gives, "
                    f"found {graph.input_channels}"
                )
        inside, source = nodes_inside(graph, f"model {i} ", source)
        nodes += inside
        graphs.append(graph)
    return Graph(
        nodes=tuple(nodes),
        input="input",
        input_channels=graphs[0].input_channels,
        output=source,
        sample_rate_hz=rate,
        prewarm_frames=sum(settling_frames(graph) for graph in graphs),
        metadata=_merged(_levels_of_ends(graphs), envelope.metadata),
        notes=(*notes, *(f"model {i}: {note}" for i, graph in enumerate(graphs) for note in graph.notes)),
    )


def _levels_of_ends(graphs: list[Graph]) -> dict[str, Any]:
    """The level at a chain's input is its first model's, that at its output its last one's."""
    ends = (("input_level_dbu", graphs[0]), ("output_level_dbu", graphs[-1]))
    return {name: graph.metadata[name] for name, graph in ends if name in graph.metadata}


def _merged(general: Mapping[str, Any], specific: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of both; where both say something, and not null, the more specific wins."""
    said = {name: value for name, value in specific.items() if value is not None or name not in general}
    return {**general, **said}


def _read_container(envelope: _Envelope, quality: float, depth: int) -> Graph:
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
            models.append((limit, _with_rate(entry.fields("model"), envelope.sample_rate_hz)))
    if models[-1][0] < 1.0:
        raise ModelError(f"submodels: expected the last max_value to be at least 1, found {models[-1][0]:g}")
    chosen = next((i for i, (limit, _) in enumerate(models) if quality < limit), len(models) - 1)
    with within(f"submodel {chosen}"):
        graph = _read_model(models[chosen][1], 1.0, depth + 1)
    meant = f"for a quality below {models[chosen][0]:g}" if chosen < len(models) - 1 else "the largest"
    note = f"model {chosen + 1} of the {len(models)} in the file, {meant}"
    return replace(
        graph,
        metadata=_merged(envelope.metadata, graph.metadata),
        notes=(*envelope.notes, note, *graph.notes),
    )
