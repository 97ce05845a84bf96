"""AIDA-X models: RTNeural's Keras JSON with levels, a skip, parameters, metadata and a self-test.

As the AIDA-X plugin plays them (github.com/AidaDSP/AIDA-X): the audio input times ``in_gain`` goes into the
layers, beside it up to two parameters; with ``in_skip`` the same gained input is added to what comes out; the
sum times ``out_gain`` is the answer. Gains are in dB, and silence below -90 dB. ``input_batch`` and
``output_batch`` are what goes in and comes out, skip included, from a zero state with gains left out and
parameters at 0. ``samplerate`` stands in the metadata or at the top, as a number or, in most files, as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Knob, SelfTest
from ..layers import Add, Affine, Array, Concat, Node
from . import keras_json
from ._reading import Fields, as_array, as_number, refuse

_KEYS = ("in_skip", "in_gain", "out_gain", "input_batch", "output_batch", "samplerate", "metadata")
_SILENT_DB, _LOUDEST_DB = -90.0, 120.0
_MOST_INPUTS = 3
_USUAL_RATE_HZ = 48000.0
_DIGITS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a Keras model with anything that only AIDA-X writes."""
    return keras_json.recognises(document) and any(key in document for key in _KEYS)


def read(document: Mapping[str, Any]) -> Graph:
    """Turn an AIDA-X file's JSON object into a graph.

    Parameters
    ----------
    document : mapping
        The whole file, parsed.

    Returns
    -------
    Graph
        Mono, with the knobs ``param1`` and ``param2`` (0 to 1, at 0) where the file has them. Starts from
        zeros (no prewarm). `self_tests` holds the file's own. Notes say where the sample rate comes from if
        not from a number in the file; without any it is 48 kHz, as AIDA-X has it.

    Raises
    ------
    ModelError
        The file is broken, or takes or gives more channels than AIDA-X plays.
    """
    fields = Fields(document, "")
    stack = keras_json.read_layers(fields, "model input")
    if stack.inputs > _MOST_INPUTS:
        refuse(fields.place("in_shape"), "1 to 3 inputs: audio and two parameters", stack.inputs)
    rate_hz, rate_notes = _sample_rate_hz(fields)
    knobs = tuple(Knob(f"param{i}", 0.0, 0.0, 1.0) for i in range(1, stack.inputs))
    before: list[Node] = [
        Affine("input gain", "input", _gain(fields, "in_gain")),
        Concat("model input", ("input gain", *(knob.name for knob in knobs))),
    ]
    after: list[Node] = []
    wet = stack.output
    if _skips(fields):
        after.append(Add("skip", wet, "input gain"))
        wet = "skip"
    after.append(Affine("output gain", wet, _gain(fields, "out_gain")))
    graph = Graph(
        (*before, *stack.nodes, *after),
        "input",
        1,
        "output gain",
        knobs=knobs,
        sample_rate_hz=rate_hz,
        metadata=dict(fields.fields("metadata").raw) if fields.has("metadata") else {},
        notes=(*fields.notes_on_ignored((*keras_json.FILE_FIELDS, *_KEYS)), *stack.notes, *rate_notes),
        self_tests=_self_tests(fields, wet, knobs),
    )
    if graph.output_channels != 1:
        raise ModelError(f"expected one output channel, found {graph.output_channels}")
    return graph


def _gain(fields: Fields, name: str) -> Array:
    db = fields.number(name) if fields.has(name) else 0.0
    if db > _LOUDEST_DB:
        refuse(fields.place(name), f"at most {_LOUDEST_DB:g} dB", db)
    return np.array([0.0 if db < _SILENT_DB else 10.0 ** (db / 20.0)], np.float32)


def _skips(fields: Fields) -> bool:
    """0 or 1, or false or true; others would be played otherwise by somebody."""
    if not fields.has("in_skip"):
        return False
    value = fields.value("in_skip")
    if value not in (0, 1):
        refuse(fields.place("in_skip"), "0 or 1", value)
    return bool(value)


def _sample_rate_hz(fields: Fields) -> tuple[float, tuple[str, ...]]:
    """The rate, and what a user should know of where it was found."""
    holders = [*([fields.fields("metadata")] if fields.has("metadata") else []), fields]
    for holder in holders:
        if not holder.has("samplerate"):
            continue
        value, where = holder.value("samplerate"), holder.place("samplerate")
        if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
            rate_hz = as_number(float(value), where)
            return rate_hz, (f"the file gives its sample rate as text: read as {rate_hz:g} Hz",)
        return as_number(value, where), ()
    return _USUAL_RATE_HZ, ("the file does not say its sample rate: 48000 Hz, as AIDA-X has it",)


def _self_tests(fields: Fields, output: str, knobs: tuple[Knob, ...]) -> tuple[SelfTest, ...]:
    if not (fields.has("input_batch") and fields.has("output_batch")):
        return ()
    x, y = (_numbers(fields.value(name), fields.place(name)) for name in ("input_batch", "output_batch"))
    if x.shape != y.shape:
        raise ModelError(f"input_batch has {x.shape[1]} numbers, output_batch {y.shape[1]}")
    return (SelfTest("input gain", output, x, y, {knob.name: 0.0 for knob in knobs}),)


def _numbers(value: object, where: str) -> Array:
    """A list of numbers, or of lists of single ones, as one row."""
    while isinstance(value, list) and value and all(isinstance(v, list) and len(v) == 1 for v in value):
        value = [item[0] for item in value]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return _numbers(value[0], where)
    if not isinstance(value, list) or not value:
        refuse(where, "a list of numbers", value)
    return as_array(value, (len(value),), where)[None]
