"""GuitarML and CoreAudioML models: one recurrent unit and a linear layer, PyTorch's tensors in JSON.

As GuitarML's Proteus and Wright's CoreAudioML (github.com/GuitarML, github.com/Alec-Wright/CoreAudioML) have
them: ``model_data`` with the sizes, ``state_dict`` with ``rec.*`` of `torch.nn.LSTM` or `torch.nn.GRU` and
``lin.*``; with ``skip`` the audio input is added to the output. Further inputs are knobs. The files hold no
sample rate; GuitarML's players run them all at 44.1 kHz.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Knob
from ..layers import Add, Array, Concat, Conv1d, Gru, Lstm, Node
from ._reading import Fields, as_array, refuse

_RATE_HZ = 44100.0
_MOST_LAYERS, _MOST_KNOBS = 64, 16
_DATA_FIELDS = (
    "model",
    "unit_type",
    "input_size",
    "output_size",
    "hidden_size",
    "num_layers",
    "bias_fl",
    "skip",
)
_GATES = {"LSTM": 4, "GRU": 3}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is one of these files, going by its keys."""
    return "model_data" in document and "state_dict" in document


def read(document: Mapping[str, Any]) -> Graph:
    """Turn a GuitarML file's JSON object into a graph.

    Parameters
    ----------
    document : mapping
        The whole file, parsed.

    Returns
    -------
    Graph
        Mono in, at 44.1 kHz; the second input is the knob ``drive``, or ``param1``, ``param2`` and so on
        where there are more (0 to 1, at 0.5). Starts from zeros (no prewarm).

    Raises
    ------
    ModelError
        The file is broken, or of another kind than ``SimpleRNN`` with an LSTM or GRU.
    """
    fields = Fields(document, "")
    data, state = fields.fields("model_data"), fields.fields("state_dict")
    if data.text("model", "SimpleRNN") != "SimpleRNN":
        refuse(data.place("model"), "SimpleRNN", data.value("model"))
    inputs, outputs = data.integer("input_size", 1), data.integer("output_size", 1)
    layers = data.integer("num_layers", 1)
    if inputs > 1 + _MOST_KNOBS or layers > _MOST_LAYERS:
        raise ModelError(
            f"expected at most {1 + _MOST_KNOBS} inputs and {_MOST_LAYERS} layers, found {inputs} "
            f"and {layers}"
        )
    names = ["drive"] if inputs == 2 else [f"param{i}" for i in range(1, inputs)]
    knobs = tuple(Knob(name, 0.5, 0.0, 1.0) for name in names)
    reader = _Reader(data, state)
    nodes: list[Node] = [Concat("inputs", ("input", *names))]
    for layer in range(layers):
        nodes.append(reader.recurrent(layer, nodes[-1].output, inputs if layer == 0 else reader.hidden))
    nodes.append(reader.linear(nodes[-1].output, outputs))
    nodes += _skip(data, inputs, outputs, nodes[-1].output)
    reader.finish()
    notes = [*fields.notes_on_ignored(("model_data", "state_dict")), *data.notes_on_ignored(_DATA_FIELDS)]
    notes += ["the file does not say its sample rate: 44100 Hz, as GuitarML's players have it"]
    if knobs:
        notes.append(f"the file does not say what its {inputs - 1} further inputs are: knobs from 0 to 1")
    return Graph(
        tuple(nodes), "input", 1, nodes[-1].output, knobs=knobs, sample_rate_hz=_RATE_HZ, notes=tuple(notes)
    )


def _skip(data: Fields, inputs: int, outputs: int, below: str) -> list[Node]:
    """The first `skip` inputs added to as many outputs: with one output, the audio input."""
    skip = data.integer("skip", 0, minimum=0)
    if skip == 0:
        return []
    if skip != 1 or outputs != 1:
        raise ModelError(f"expected skip 0, or 1 with one output, found {skip} with {outputs} outputs")
    return [Add("skip", below, "input")]


class _Reader:
    """The tensors of ``state_dict``, each to be read once."""

    def __init__(self, data: Fields, state: Fields) -> None:
        self.unit = data.text("unit_type", "LSTM")
        if self.unit not in _GATES:
            refuse(data.place("unit_type"), "LSTM or GRU", self.unit)
        self.hidden = data.integer("hidden_size")
        self.biased = data.flag("bias_fl", True)
        self.state = state
        self.used: set[str] = set()

    def tensor(self, key: str, *shape: int) -> Array:
        """The float32 tensor `key` of exactly that shape."""
        self.used.add(key)
        return as_array(self.state.value(key), shape, self.state.place(key))

    def recurrent(self, layer: int, below: str, inputs: int) -> Node:
        """Layer number `layer` of the unit."""
        rows = _GATES[self.unit] * self.hidden
        name = f"layer {layer} {self.unit.lower()}"
        weights = (
            self.tensor(f"rec.weight_ih_l{layer}", rows, inputs),
            self.tensor(f"rec.weight_hh_l{layer}", rows, self.hidden),
        )
        bias_ih, bias_hh = (self.tensor(f"rec.bias_{which}_l{layer}", rows) for which in ("ih", "hh"))
        if self.unit == "GRU":
            return Gru(name, below, *weights, bias_ih, bias_hh)
        return Lstm(name, below, *weights, (bias_ih.astype(np.float64) + bias_hh).astype(np.float32))

    def linear(self, below: str, outputs: int) -> Node:
        """The layer ``lin``."""
        weight = self.tensor("lin.weight", outputs, self.hidden)
        bias = self.tensor("lin.bias", outputs) if self.biased else None
        return Conv1d("linear", below, weight[:, :, None], bias)

    def finish(self) -> None:
        """Raise `ModelError` where a tensor is left over: the file would mean something else."""
        left_over = self.state.unknown(self.used)
        if left_over:
            raise ModelError(f"tensor {left_over[0][:60]!r} belongs to no layer of the {self.unit}")
