"""The two ends of an exported network: what goes in, audio, state or knobs, and what comes out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..graph import Graph, Knob
from ..layers import MAX_SIZE
from ..passes import drop_unread
from ._timeline import Timeline
from ._tracks import Role, Track
from ._values import Curve, Extra, Final, Value

_MOST_KNOBS = 4096


@dataclass
class _Input:
    """An input besides the audio; `track` as soon as it turns out to be knobs."""

    name: str
    shape: tuple[int, ...]
    first_id: int
    knobs: tuple[Knob, ...]
    track: Track | None = None
    is_state: bool = False
    is_carried: bool = False

    @property
    def ids(self) -> NDArray[np.int64]:
        """Numbers of all its entries."""
        return np.arange(self.first_id, self.first_id + prod(self.shape)).reshape(self.shape)


class Base:
    """Inputs, outputs, and what is known of them."""

    def __init__(self) -> None:
        self.line = Timeline()
        self.notes: list[str] = []
        self._extras: list[_Input] = []
        self._id_count = 0
        #: Tensors that end in what a cache holds next: the cache's entries, by signal, delay and length.
        self._caches: dict[tuple[str, int, Fraction], tuple[tuple[Role, ...], NDArray[np.int64]]] = {}
        self._pads = False
        #: What keeps each entry of a state: the layer, or the frames that a cache lies in front of.
        self._keepers: dict[int, Hashable] = {}
        self._block_frames = 1

    def note(self, text: str) -> None:
        """Keep a sentence for the user, once."""
        if text not in self.notes:
            self.notes.append(text)

    def audio(self, name: str, shape: Sequence[int], time_axis: int) -> Track:
        """The audio input.

        Parameters
        ----------
        name : str
        shape : sequence of int
            With the length of an example in `time_axis`; a batch is the first of three axes or more.
        time_axis : int

        Raises
        ------
        ModelError
            It holds several examples, or more axes than a recording has.
        """
        track = self.line.input(name, _roles(shape, time_axis, is_audio=True), shape)
        self._block_frames = track.size("time")
        return track

    def extra(
        self, name: str, shape: Sequence[int], time_axis: int | None = None, knobs: Sequence[Knob] = ()
    ) -> Value:
        """An input besides the audio: with a time axis knobs with one value a frame, else what its use tells.

        Parameters
        ----------
        name : str
        shape : sequence of int
        time_axis : int, optional
        knobs : sequence of Knob, optional
            What its entries are called, in order, with their ranges; numbered names and 0 to 1 otherwise.
        """
        count = prod(size for axis, size in enumerate(shape) if axis != time_axis)
        if not 1 <= count <= MAX_SIZE:
            raise ModelError(f"input {name!r}: found {count} entries, expected 1 to {MAX_SIZE}")
        found = _Input(name, tuple(shape), self._id_count, tuple(knobs))
        self._extras.append(found)
        if time_axis is not None:
            return self._knobs(found, count, _roles(shape, time_axis))
        self._id_count += count
        return Extra(found.ids)

    def track(self, value: Value) -> Track:
        """The track of a value that has to move with time; entries of inputs become knobs here.

        Raises
        ------
        ModelError
            It is a constant, or a state that is used for something else.
        """
        if isinstance(value, Track):
            return value
        if isinstance(value, Curve):
            return self.line.activated(value.base, value.activation)
        if isinstance(value, Extra):
            return self._steady(value)
        if isinstance(value, Final):
            raise ModelError(f"reads where {value.layer} ends up, which no stream ever knows")
        raise ModelError("expected a tensor that moves with time, found a constant")

    def _steady(self, value: Extra) -> Track:
        found = self._input_of(value)
        if value.stepped or found.is_state:
            raise ModelError(f"computes with input {found.name!r}, which is a state of another layer")
        if found.track is None:
            self._knobs(found, prod(found.shape), _roles(found.shape, None))
        assert found.track is not None
        if np.array_equal(value.ids, found.ids):
            return found.track
        rows = (value.ids.ravel() - found.first_id).tolist()
        picked = self.line.picked(found.track, rows)
        return replace(picked, roles=_roles(value.shape, None), shape=value.shape)

    def _knobs(self, found: _Input, count: int, roles: tuple[Role, ...]) -> Track:
        if count > _MOST_KNOBS:
            raise ModelError(
                f"input {found.name!r}: expected at most {_MOST_KNOBS} parameters, found {count}"
            )
        if not found.knobs:
            names = [found.name] if count == 1 else [f"{found.name}_{i}" for i in range(count)]
            found.knobs = tuple(Knob(name, 0.0, 0.0, 1.0) for name in names)
            self.notes.append(f"the file does not say what input {found.name!r} takes: knobs from 0 to 1")
        if len(found.knobs) != count:
            raise ModelError(f"input {found.name!r}: expected {count} knobs, found {len(found.knobs)}")
        layer, self.line.layer = self.line.layer, found.name
        found.track = self.line.parameter(found.knobs, roles, found.shape)
        self.line.layer = layer
        return found.track

    def _input_of(self, value: Extra) -> _Input:
        """The one input whose entries these are."""
        low, high = int(value.ids.min(initial=self._id_count)), int(value.ids.max(initial=-1))
        for found in self._extras:
            last = found.first_id + prod(found.shape) - 1
            if found.first_id <= low and high <= last:
                return found
        raise ModelError("mixes entries of several inputs")

    def keep(self, value: Extra, keeper: Hashable) -> None:
        """Note that these entries are a state, and what keeps it.

        Raises
        ------
        ModelError
            They are used already, as knobs or by another layer.
        """
        found = self._input_of(value)
        if value.stepped:
            raise ModelError(f"reads the next value of state {found.name!r}")
        if found.track is not None:
            raise ModelError(f"keeps input {found.name!r} as a state, which other layers compute with")
        entries = value.ids.ravel().tolist()
        if len(set(entries)) < len(entries) or any(self._keepers.get(i, keeper) != keeper for i in entries):
            raise ModelError(f"keeps input {found.name!r} as a state, which is that of another layer too")
        self._keepers.update(dict.fromkeys(entries, keeper))
        found.is_state = True

    def finish(self, outputs: Sequence[tuple[str, Value]], notes: Sequence[str] = (), **fields: Any) -> Graph:
        """The graph of the network.

        Parameters
        ----------
        outputs : sequence of (name, value)
            The network's, in order: one is the audio, the others are next states. Of two axes besides time
            the first is the channels', whatever was done to them; rows lie feature by feature.
        notes : sequence of str
        **fields
            What else a `Graph` takes: `sample_rate_hz`, `name`, `metadata`.

        Raises
        ------
        ModelError
            There is no audio among the outputs, or one that is neither audio nor a next state, or a state
            that no output carries on.
        """
        self.line.layer = "output"
        audio: Track | None = None
        for name, value in outputs:
            if isinstance(value, Extra) and value.stepped:
                self._carry(name, value)
            elif isinstance(value, Final):
                self.notes.append(f"output {name!r} is left out: it is where {value.layer} ends up")
            else:
                found = self.track(value)
                if found.steady or found.axis("time") is None:
                    raise ModelError(f"output {name!r} does not follow the audio")
                if audio is not None:
                    raise ModelError(f"output {name!r}: expected one output of audio, this is the second")
                audio = found
        if audio is None:
            raise ModelError("no output follows the audio")
        self._check_states([value for _, value in outputs])
        self._check_length(audio)
        self.line.knobs = [knob for found in self._extras if found.track for knob in found.knobs]
        channels, features = audio.axis("channels"), audio.axis("features")
        if channels is not None and features is not None and features < channels:
            audio = audio.relabelled
        audio = self.line.ordered(audio, features_major=True)
        graph = self.line.graph(audio, notes=(*notes, *self._state_notes()), **fields)
        return drop_unread(graph)

    def _carry(self, name: str, value: Extra) -> None:
        for found in self._extras:
            if np.array_equal(value.ids, found.ids):
                found.is_carried = True
                return
        raise ModelError(f"output {name!r} mixes next states; expected those of one input, in its order")

    def _check_length(self, audio: Track) -> None:
        """Blocks with states have to follow each other without gaps."""
        expected = self._block_frames * audio.rate
        if audio.size("time") == expected or not any(found.is_state for found in self._extras):
            return
        told = (
            f"{self._block_frames} frames come out as {audio.size('time')}, where {expected} would follow on"
        )
        if self._caches:
            raise ModelError(f"{told}: caches of past frames are too long or too short")
        self.notes.append(f"{told}: what a player leaves out between blocks is not left out here")

    def _check_states(self, outputs: Sequence[Value]) -> None:
        firsts = [int(v.ids.min()) for v in outputs if isinstance(v, Extra) and v.stepped]
        if firsts != sorted(firsts):
            self.notes.append(
                "next states come out in another order than states go in; each goes back to its own layer"
            )
        for found in self._extras:
            if found.is_state and not found.is_carried:
                raise ModelError(f"input {found.name!r} is a state that no output of its shape carries on")
            if found.track is None and not found.is_state:
                self.notes.append(f"input {found.name!r} is used by nothing")

    def _state_notes(self) -> list[str]:
        states = [repr(found.name) for found in self._extras if found.is_state]
        notes = list(self.notes)
        if states:
            notes.append(
                f"state, kept from block to block and starting from zeros: input {', '.join(states)}"
            )
        if states and self._pads:
            notes.append(
                "some layers pad with zeros, which happens once here, before the first frame; a player that "
                "runs the file block by block pads each block"
            )
        return notes


def _roles(shape: Sequence[int], time_axis: int | None, is_audio: bool = False) -> tuple[Role, ...]:
    """What the axes of an input are."""
    others = [axis for axis, size in enumerate(shape) if axis != time_axis and size != 1]
    roles: list[Role] = ["unit"] * len(shape)
    if time_axis is not None:
        roles[time_axis] = "time"
    if is_audio and len(shape) >= 3 and time_axis != 0 and shape[0] != 1:
        raise ModelError(f"expected one example in the first axis of {list(shape)}")
    names: tuple[Role, ...] = ("channels",)
    if is_audio and len(shape) == 4:
        names = ("channels", "features") if 1 in others else ("features",)
    if len(others) > len(names):
        raise ModelError(f"cannot tell what the axes of {list(shape)} are")
    for axis, role in zip(others, names, strict=False):
        roles[axis] = role
    return tuple(roles)
