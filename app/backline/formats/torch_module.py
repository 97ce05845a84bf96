"""PyTorch modules, by way of torch.export: what its ops do to the audio becomes nodes of a graph.

What depends on weights alone (weight norm, other parametrisations, zeros for first states) is computed by
PyTorch while importing. A buffer that the module changes as it runs is a state, like an input that comes out
again as an output.
"""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from ..errors import ModelError
from ..graph import Graph, Knob
from ._network import Network, Track, Value
from ._reading import as_number, refuse, within
from ._torch_arithmetic import ARITHMETIC
from ._torch_call import MOVING, Call, Handler, as_value
from ._torch_export import Exported, Input, export, filled, folded, is_random, is_tensor, to_numpy
from ._torch_layers import LAYERS
from ._torch_shapes import SHAPES
from ._values import Extra, Final

_HANDLERS: Mapping[str, Handler] = {**LAYERS, **ARITHMETIC, **SHAPES}
#: Ops that take from a tensor nothing but its shape, and what they fill it with: a number or an argument.
_FILLERS: Mapping[str, float | str] = {
    "zeros_like": 0.0,
    "new_zeros": 0.0,
    "ones_like": 1.0,
    "new_ones": 1.0,
    "full_like": "fill_value",
    "new_full": "fill_value",
}
#: Where PyTorch's own layers live: each of them is one op, or reads like one.
_LAYERS_OF_TORCH = "torch.nn.modules."

_MOST_KNOBS = 4096

#: A knob, or its default, minimum and maximum.
KnobRange = Knob | Sequence[float]


def read(
    module: Any,
    example: Any,
    *,
    name: str,
    sample_rate_hz: float | None = None,
    knobs: Mapping[str, KnobRange] | None = None,
    time_axis: int | None = None,
) -> Graph:
    """Turn a module into a graph; see :func:`backline.from_torch`.

    Raises
    ------
    ModelError
        The module cannot be traced, or holds an op that is not supported: named with its path in the module.
    MissingDependency
        PyTorch is not installed.
    """
    fields: dict[str, Any] = {"name": name}
    if sample_rate_hz is not None:
        fields["sample_rate_hz"] = as_number(sample_rate_hz, "sample_rate_hz")
    if knobs is not None and not isinstance(knobs, Mapping):
        refuse("knobs", "a mapping from names to ranges", knobs)
    given = dict(knobs or {})
    exported = export(module, example)
    audio = _audio_of(exported.inputs, given)
    time = _time_axis(audio, time_axis)
    moving = _like_audio(exported, audio, time)
    try:
        return _Walk(exported, audio, time, moving, given).graph(fields)
    except ModelError:
        if not moving:
            raise
        # As long as the audio by chance: rather a state or single parameters.
        with contextlib.suppress(ModelError):
            return _Walk(exported, audio, time, set(), given).graph(fields)
        raise


def _audio_of(inputs: Sequence[Input], knobs: Mapping[str, KnobRange]) -> Input:
    """The first input of the call that is no knob and has a time axis."""
    called = [given for given in inputs if not given.is_buffer]
    named = {re.sub(r"_\d+$", "", key) for key in knobs} | set(knobs)
    free = [given for given in called if given.name not in named]
    found = next((given for given in free if max(given.shape, default=1) > 1), None)
    if found is None:
        found = next((given for given in free if given.shape), None)
    if found is None:
        raise ModelError("expected an input of audio with a time axis, found none")
    return found


def _time_axis(audio: Input, wanted: int | None) -> int:
    """The axis that is asked for, else the longest; the last one of several."""
    axes = len(audio.shape)
    if wanted is None:
        return max(range(axes), key=lambda axis: (audio.shape[axis], axis))
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not -axes <= wanted < axes:
        refuse("time_axis", f"an axis of input {audio.name!r}, which has {axes}", wanted)
    return wanted % axes


def _like_audio(exported: Exported, audio: Input, time: int) -> set[str]:
    """Further inputs that seem to have a value for each frame: as long as the audio in its time axis."""
    length = audio.shape[time]
    kept = {of for _, _, of in exported.outputs}
    return {
        given.node
        for given in exported.inputs
        if given is not audio
        and given.node not in kept
        and len(given.shape) == len(audio.shape)
        and given.shape[time] == length > 1
    }


@dataclass
class _Walk:
    """One way through the ops.

    Attributes
    ----------
    exported : Exported
    audio : Input
    time : int
        Its time axis.
    moving : set of str
        Nodes of further inputs that have a value for each frame.
    knobs : mapping
        Ranges by name.
    """

    exported: Exported
    audio: Input
    time: int
    moving: set[str]
    knobs: Mapping[str, KnobRange]
    net: Network = field(default_factory=Network)
    values: dict[str, Any] = field(default_factory=dict)
    #: Names of inputs and knobs, which no layer may bear too.
    taken: set[str] = field(default_factory=set)
    #: Names of the knobs whose range was given, by what they were given for.
    given: dict[str, str] = field(default_factory=dict)
    #: Knobs whose range nobody gave, by input.
    guessed: dict[str, list[str]] = field(default_factory=dict)

    def graph(self, fields: Mapping[str, Any]) -> Graph:
        """The whole module as a graph."""
        needed = self._needed()
        self.values.update(self.exported.constants)
        self._inputs(needed)
        for node in self.exported.nodes:
            if node.name in needed:
                self.values[node.name] = self._run(node)
        graph = self.net.finish(self._outputs(needed), self.exported.notes, **fields)
        return self._annotated(graph, needed)

    def _needed(self) -> set[str]:
        """Names of nodes that what the module returns depends on, over all calls."""
        nodes = {node.name: node for node in self.exported.nodes}
        found: set[str] = set()

        def add(name: str) -> None:
            waiting = [name]
            while waiting:
                current = waiting.pop()
                if current not in found:
                    found.add(current)
                    waiting += [n.name for n in nodes[current].all_input_nodes] if current in nodes else []

        for _, node, of in self.exported.outputs:
            if of is None:
                add(node)
        count = -1
        while count != len(found):
            count = len(found)
            for _, node, of in self.exported.outputs:
                if of in found:
                    add(node)
        return found

    def _inputs(self, needed: set[str]) -> None:
        """Tell the network of the audio, of further inputs, and of buffers that are states."""
        given, known = self.audio, []
        self.taken.add(given.name)
        with within(f"input {given.name!r}"):
            self.values[given.node] = self.net.audio(given.name, given.shape, self.time)
        for given in self.exported.inputs:
            if given is self.audio or (given.is_buffer and given.node not in needed):
                continue
            time = self.time if given.node in self.moving else None
            count = prod(size for axis, size in enumerate(given.shape) if axis != time)
            ranges = self._ranges(given.name, count)
            self.taken.update([given.name, *(knob.name for knob in ranges)])
            self.values[given.node] = self.net.extra(given.name, given.shape, time, ranges)
            if not given.is_buffer:
                known.append(given.name if count == 1 else f"{given.name}_0 to {given.name}_{count - 1}")
        for entry in self.knobs:
            if entry not in self.given:
                raise ModelError(f"knobs name {entry!r}; parameters are {', '.join(known) or 'none'}")

    def _ranges(self, name: str, count: int) -> tuple[Knob, ...]:
        """Knobs for the entries of an input, as given or from 0 to 1."""
        if count > _MOST_KNOBS:
            return ()  # a state; as parameters the network refuses them
        found = []
        for entry in [name] if count == 1 else [f"{name}_{i}" for i in range(count)]:
            if entry not in self.knobs:
                self.guessed.setdefault(name, []).append(entry)
            found.append(_knob(entry, self.knobs.get(entry, (0.0, 0.0, 1.0))))
            if entry in self.knobs:
                self.given[entry] = found[-1].name
        return tuple(found)

    def _outputs(self, needed: set[str]) -> list[tuple[str, Value]]:
        """What the module returns, and next values of states."""
        found = []
        for name, node, of in self.exported.outputs:
            if of is not None and (of not in needed or of == self.audio.node):
                continue  # what the caller's tensor holds afterwards is no concern of a stream
            value = self._argument(self.values[node])
            if of is not None and not (isinstance(value, Extra) and value.stepped):
                raise ModelError(
                    f"state {name!r}: only caches of past frames and states of GRU and LSTM are supported"
                )
            found.append((name, as_value(value, f"output {name!r}")))
        return found

    def _annotated(self, graph: Graph, needed: set[str]) -> Graph:
        """The graph with notes on what a user might take for granted."""
        notes = list(graph.notes)
        used = {knob.name for knob in graph.knobs}
        for entry, knob in self.given.items():
            if knob not in used:
                raise ModelError(f"knobs name {entry!r}, which is a state or used by nothing")
        for name, entries in self.guessed.items():
            if used & set(entries):
                notes.append(f"the module does not say what input {name!r} takes: knobs from 0 to 1")
        for given in self.exported.inputs:
            if given.is_buffer and given.node in needed and not given.begins_silent:
                notes.append(f"buffer {given.name!r} holds other numbers now; its state starts from zeros")
        if graph.latency_frames:
            notes.append(f"latency of {graph.latency_frames} frames: layers look ahead")
        return replace(graph, notes=tuple(notes))

    # Ops.

    def _run(self, node: Any) -> Any:
        """What a node makes: a constant tensor, a value of the network, or several."""
        if node.target is operator.getitem:
            return self.values[node.args[0].name][node.args[1]]
        layer, op = self._layer(node), _op(node)
        with within(f"{layer} ({op})"):
            arguments = _mapped(node.args, self._resolved)
            options = _mapped(node.kwargs, self._resolved)
            if not any(isinstance(value, MOVING) for value in _flat([arguments, options])):
                return folded(node, arguments, options)
            self.net.line.layer = layer
            made = self._called(node, op, arguments, options)
            self._check(node, made)
            return made

    def _resolved(self, value: Any) -> Any:
        return self.values[value.name] if hasattr(value, "all_input_nodes") else value

    def _argument(self, value: Any) -> Any:
        """A constant as an array."""
        return to_numpy(value) if is_tensor(value) else value

    def _called(self, node: Any, op: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        name = op.removeprefix("aten.")
        if not op.startswith("aten.") or name not in {**_HANDLERS, **_FILLERS}:
            is_noise = is_random(node) and not name.startswith("rnn_")  # which draws only where it drops out
            raise ModelError("draws random numbers" if is_noise else "is not supported")
        bound = {a.name: a.default_value for a in node.target._schema.arguments if a.has_default_value()}
        bound.update(zip((a.name for a in node.target._schema.arguments), arguments, strict=False))
        bound.update(options)
        call = Call(self.net, name, _mapped(bound, self._argument), _shapes(node))
        ends = [value for value in _flat(call.arguments) if isinstance(value, Final)]
        if ends and name in SHAPES:
            return ends * len(call.shapes) if isinstance(node.meta["val"], list | tuple) else ends[0]
        if name in _FILLERS:
            number = _FILLERS[name]
            return filled(call.shape, call.number(number) if isinstance(number, str) else number)
        return _HANDLERS[name](call)

    def _check(self, node: Any, made: Any) -> None:
        """Both sides have to agree on the shapes."""
        values = made if isinstance(made, list | tuple) else [made]
        for value, shape in zip(values, _shapes(node), strict=False):
            if isinstance(value, Track) and value.shape != shape and not value.steady:
                raise ModelError(f"comes out as {list(value.shape)}, in PyTorch as {list(shape)}")

    def _layer(self, node: Any) -> str:
        """What a node is called: the path of its layer, and the op's name unless that is a layer of torch."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", "")
        path = re.sub(r"@\d+", "", str(path))
        name = path if path and str(kind).startswith(_LAYERS_OF_TORCH) else f"{path}.{node.name}".strip(".")
        return f"{name} layer" if name in self.taken else name


def _knob(name: str, given: object) -> Knob:
    """A knob, as it is or from default, minimum and maximum."""
    if isinstance(given, Knob):
        return given
    if not isinstance(given, list | tuple) or len(given) != 3:
        refuse(f"knob {name!r}", "a Knob or (default, minimum, maximum)", given)
    return Knob(name, *(as_number(number, f"knob {name!r}") for number in given))


def _op(node: Any) -> str:
    """Name of a node's op, without that of the overload."""
    schema = getattr(node.target, "_schema", None)
    return schema.name.replace("::", ".") if schema is not None else str(node.target)


def _shapes(node: Any) -> tuple[tuple[int, ...], ...]:
    made = node.meta.get("val")
    values = made if isinstance(made, list | tuple) else [made]
    return tuple(tuple(value.shape) if hasattr(value, "shape") else () for value in values)


def _mapped(value: Any, f: Any) -> Any:
    """The same lists and mappings with `f` applied to what they hold."""
    if isinstance(value, Mapping):
        return {key: _mapped(each, f) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(each, f) for each in value]
    return f(value)


def _flat(value: Any) -> Iterator[Any]:
    """All that lists and mappings hold."""
    if isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _flat(each)
    else:
        yield value
