"""From what a network does to a whole recording to what its stream does, frame by frame.

Importers of exported networks (ONNX, PyTorch) walk theirs once and call one method here for each layer. A
layer that looks ahead is run late: each track knows its delay, branches that meet are brought to the same
one, and the sum is the graph's latency. Zeros that a layer puts in front of its input are what a stream has
before its first frame; where a delayed signal holds something else there, it is muted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np

from ..activations import PER_CHANNEL, Activation
from ..errors import ModelError
from ..graph import Graph, Knob
from ..layers import (
    EARLIEST,
    MAX_NODES,
    Activate,
    Add,
    Affine,
    Array,
    Concat,
    Conv1d,
    Delay,
    Interleave,
    MaxPool1d,
    Multiply,
    Node,
    Reshape,
    Slice,
    Upsample,
)
from ..passes import BYPASS, INPUT_GAIN, OUTPUT_GAIN
from ._tracks import Role, Track, regrouped

#: Most channels times features of a tensor: beyond, lists of rows would fill memory before any layer ran.
MAX_ROWS = 1 << 18
#: Activations that leave zero as it is.
_KEEP_ZERO = frozenset(
    ("identity", "tanh", "fasttanh", "relu", "leaky_relu", "prelu", "silu", "softsign", "leaky_hardtanh")
) | {"hardswish", "elu", "gelu", "gelu_tanh", "snake"}


class Timeline:
    """A graph in the making: signals, and how late each of them is.

    Methods take and return tracks, and raise `ModelError` without the layer's name: the caller knows it.
    `layer` has to be set to a name before each layer; nodes are called after it.
    """

    def __init__(self) -> None:
        self.layer = "layer"
        self.nodes: list[Node] = []
        self.knobs: list[Knob] = []
        #: Lengths in time of all tensors so far.
        self.lengths: set[int] = set()
        #: Rates of all tensors so far that move with time.
        self.rates: set[Fraction] = {Fraction(1)}
        # Names that a live chain gives its own knobs.
        self._taken = {INPUT_GAIN, OUTPUT_GAIN, BYPASS}
        self._numbers: dict[str, int] = {}
        self._leads: list[Fraction] = [Fraction(0)]
        #: After how many frames of the input a steady signal has forgotten how it began, and its rate.
        self._settling: dict[str, tuple[Fraction, Fraction]] = {}
        self._input: tuple[str, int] | None = None
        self._input_frames = 1

    def name(self, what: str = "") -> str:
        """A name for a signal of the current layer, not used before."""
        base = f"{self.layer} {what}" if what else self.layer
        found, number = base, self._numbers.get(base, 2)
        while found in self._taken:
            found, number = f"{base} {number}", number + 1
        self._numbers[base] = number
        self._taken.add(found)
        return found

    def _append(self, node: Node) -> None:
        if len(self.nodes) >= MAX_NODES:
            raise ModelError(f"makes more than {MAX_NODES} layers of the model")
        self.nodes.append(node)

    def check_rows(self, count: int) -> None:
        """Raise `ModelError` where a tensor would have more rows than any model needs."""
        if count > MAX_ROWS:
            raise ModelError(f"makes {count} rows of channels and features, at most {MAX_ROWS} are allowed")

    def emit(self, node: Node, like: Track, **changes: Any) -> Track:
        """Append a node and return the track of its output: `like` with `changes`; quiet if they say so."""
        self._append(node)
        made = replace(like, signal=node.output, **{"quiet": False, **changes})
        self.check_rows(made.rows)
        self.lengths.add(made.size("time"))
        if made.steady:
            self._settle(node, like, made)
            return made
        self.rates.add(made.rate)
        if not made.quiet:
            self._leads.append(-made.delay / made.rate)
        return made

    def _settle(self, node: Node, like: Track, made: Track) -> None:
        """Have a node of steady signals run for as long before the first frame as it looks back."""
        known = [self._settling[name] for name in (like.signal, *node.inputs) if name in self._settling]
        before = max((frames for frames, _ in known), default=Fraction(0))
        rate = min((rate for _, rate in known), default=Fraction(1))
        total = before + (node.lookback_frames or 0) / rate
        self._settling[made.signal] = (total, made.rate)

    def input(self, name: str, roles: Sequence[Role], shape: Sequence[int]) -> Track:
        """The audio input: a track without delay and with silence before it."""
        self._taken.add(name)
        track = Track(name, tuple(roles), tuple(shape), quiet=True)
        self.lengths.add(track.size("time"))
        self._input = (name, track.rows)
        self._input_frames = track.size("time")
        return track

    def parameter(self, knobs: Sequence[Knob], roles: Sequence[Role], shape: Sequence[int]) -> Track:
        """A further input made of knobs, one for each of its channels."""
        for knob in knobs:
            self._taken.add(knob.name)
        self.knobs.extend(knobs)
        names = tuple(knob.name for knob in knobs)
        track = Track(names[0], tuple(roles), tuple(shape), steady=True)
        if len(names) == 1:
            return track
        return self.emit(Concat(self.name(), names), track)

    def graph(self, output: Track, **fields: Any) -> Graph:
        """The finished graph with that output.

        Parameters
        ----------
        output : Track
        **fields
            What else a `Graph` takes: `sample_rate_hz`, `name`, `metadata`, `notes`.
        """
        assert self._input is not None
        self.layer = "output"
        if output.delay < 0:
            output = self.delayed(output, -output.delay)
        settling = max((frames for frames, _ in self._settling.values()), default=Fraction(0))
        prewarm = max(0, ceil(max(self._leads) + settling))
        nodes = tuple(self._without_idle_mutes(prewarm))
        return Graph(
            nodes,
            *self._input,
            output.signal,
            knobs=tuple(self.knobs),
            prewarm_frames=prewarm,
            latency_frames=output.delay,
            **fields,
        )

    def _without_idle_mutes(self, prewarm: int) -> list[Node]:
        """Mutes that silence nothing, because nothing has run by then, become mere names."""
        assert self._input is not None
        signals = Graph(tuple(self.nodes), *self._input, self._input[0], tuple(self.knobs)).signals
        found: list[Node] = []
        for node in self.nodes:
            if isinstance(node, Delay) and node.frames == 0 and node.start_frames != EARLIEST:
                signal = signals[node.output]
                if node.start_frames <= ceil(-prewarm * signal.rate):
                    node = Reshape(node.output, node.input, signal.channels, signal.features)
            found.append(node)
        return found

    # Time.

    def delayed(self, track: Track, frames: int) -> Track:
        """The track, `frames` later."""
        if frames == 0:
            return track
        if track.steady:
            return replace(track, delay=track.delay + frames)
        node = Delay(self.name("delay"), track.signal, frames)
        return self.emit(node, track, delay=track.delay + frames, quiet=track.quiet)

    def begun(self, track: Track) -> Track:
        """The track where its first frame matters: one of knobs alone moves with time from there on.

        Raises
        ------
        ModelError
            It has a single frame, which is before the first of nothing.
        """
        if not track.steady:
            return track
        if track.size("time") == 1:
            raise ModelError(f"runs along time over a single frame, {track.described}")
        return replace(track, delay=0, steady=False)

    def muted(self, track: Track) -> Track:
        """The track with zeros in all frames before the tensor's first."""
        if track.quiet:
            return track
        track = self.begun(track)
        node = Delay(self.name("begin"), track.signal, 0, track.delay)
        return self.emit(node, track, quiet=True)

    def together(self, *tracks: Track) -> list[Track]:
        """The tracks, all as late as the latest; knobs at the rate of the signals."""
        moving = [track for track in tracks if not track.steady]
        rates = {track.rate for track in moving}
        if len(rates) > 1:
            raise ModelError(f"tensors of different rates meet: {', '.join(map(str, sorted(rates)))}")
        lengths = {track.size("time") for track in moving}
        if len(lengths) > 1:
            raise ModelError(f"tensors of different lengths meet: {', '.join(map(str, sorted(lengths)))}")
        if not moving:
            return list(tracks)
        latest = max(track.delay for track in moving)
        return [
            self._at_rate(track, moving[0].rate, latest)
            if track.steady
            else self.delayed(track, latest - track.delay)
            for track in tracks
        ]

    def _at_rate(self, track: Track, rate: Fraction, delay: int) -> Track:
        """A steady track at another rate: every frame of it is as good as any other."""
        up, down = (rate / track.rate).numerator, (rate / track.rate).denominator
        if down > 1:
            node: Node = MaxPool1d(self.name("fewer"), track.signal, 1, down)
            track = self.emit(node, track, rate=track.rate / down)
        if up > 1:
            track = self.emit(Upsample(self.name("more"), track.signal, up), track, rate=track.rate * up)
        return replace(track, delay=delay)

    def held(self, track: Track, axis: int, frames: int) -> Track:
        """A steady track without time, with that many frames along an axis, at the rate that is told by."""
        length = self._input_frames
        rate = min(self.rates, key=lambda rate: (abs(rate * length - frames), rate))
        track = self._at_rate(track, rate, track.delay)
        return track.with_role(axis, "time").with_size("time", frames)

    def aligned(self, track: Track, ahead: int, stride: int) -> tuple[Track, int]:
        """Make room for a layer of stride `stride` that looks `ahead` frames ahead.

        Returns the track, later where frame 0 of the stream would not be one the layer answers at, and the
        delay of the layer's output.
        """
        if not track.steady:
            track = self.delayed(track, -(track.delay + ahead) % stride)
        return track, (track.delay + ahead) // stride

    def padded(self, track: Track, before: int, after: int) -> Track:
        """Zeros in front and behind; negative numbers cut off."""
        length = track.size("time") + before + after
        if length < 1:
            raise ModelError(f"nothing is left of {track.size('time')} frames")
        if before > 0:
            track = self.muted(track)
        quiet = track.quiet and before >= 0
        made = replace(track.with_size("time", length), delay=track.delay - before, quiet=quiet)
        self.lengths.add(length)
        if not quiet:
            self._leads.append(-made.delay / made.rate)
        return made

    def cut_time(self, track: Track, start: int, length: int) -> Track:
        """Frames ``start`` to ``start + length`` of the tensor, as long as that is most of it."""
        whole = track.size("time")
        if start < 0 or length < 1 or start + length > whole:
            raise ModelError(f"cannot take frames {start} to {start + length} of {whole}")
        if 2 * start >= whole or 2 * (whole - start - length) >= whole:
            raise ModelError(
                f"takes frames {start} to {start + length} of {whole}, a stretch of time no stream keeps "
                "(where most of the recording was meant to stay, export it from a longer example)"
            )
        return self.padded(track, -start, start + length - whole)

    # Rows.

    def shaped(self, track: Track) -> Track:
        """The track's signal with a feature axis, features outermost; what is done to it keeps that shape."""
        track = self.ordered(track, features_major=True)
        if track.size("features") == 1:
            return track
        node = Reshape(self.name("features"), track.signal, track.size("channels"), track.size("features"))
        return self.emit(node, track, quiet=track.quiet)

    def flat(self, track: Track) -> Track:
        """The opposite of `shaped`: rows without a feature axis, as tracks are kept."""
        if track.size("features") == 1:
            return track
        node = Reshape(self.name("rows"), track.signal, track.rows)
        return self.emit(node, track, quiet=track.quiet)

    def ordered(self, track: Track, features_major: bool) -> Track:
        """The track with its rows in that order."""
        channels, features = track.size("channels"), track.size("features")
        if track.features_major == features_major or 1 in (channels, features):
            return replace(track, features_major=features_major)
        outer, inner = (channels, features) if features_major else (features, channels)
        order = np.arange(channels * features).reshape(outer, inner).T.ravel()
        return self.picked(track, order.tolist(), features_major=features_major)

    def picked(self, track: Track, rows: Sequence[int], **changes: Any) -> Track:
        """The rows of that number, in that order, runs of them at once."""
        parts: list[str] = []
        begin = 0
        for at in range(1, len(rows) + 1):
            if at == len(rows) or rows[at] != rows[at - 1] + 1:
                parts.append(self.name("row"))
                run = Slice(parts[-1], track.signal, rows[begin], at - begin)
                if at - begin == len(rows):
                    return self.emit(run, track, quiet=track.quiet, **changes)
                self._append(run)
                begin = at
        return self.emit(Concat(self.name("order"), tuple(parts)), track, quiet=track.quiet, **changes)

    def cut_rows(self, track: Track, role: Role, start: int, count: int) -> Track:
        """Channels or features ``start`` to ``start + count``."""
        track = self.ordered(track, features_major=role == "features")
        inner = track.rows // track.size(role)
        node = Slice(self.name("slice"), track.signal, start * inner, count * inner)
        return self.emit(node, track.with_size(role, count), quiet=track.quiet)

    def joined(self, tracks: Sequence[Track], axis: int) -> Track:
        """Concatenation along the channels or features in `axis`."""
        if len(tracks) == 1:
            return tracks[0]
        widest = max(tracks, key=lambda track: track.rows)
        tracks = [track.labelled_like(widest) for track in tracks]
        role: Role = "features" if widest.roles[axis] == "features" else "channels"
        if role == "channels":
            tracks = [track.along_channels(axis) for track in tracks]
        tracks = self.together(*(self.ordered(t, features_major=role == "features") for t in tracks))
        first = next((track for track in tracks if not track.steady), tracks[0])
        for track in tracks:
            if not _fits(track, first, axis):
                raise ModelError(f"cannot join tensors of {first.described} and {track.described}")
        total = sum(track.shape[axis] for track in tracks)
        first = first if first.axis(role) == axis else first.with_role(axis, role)
        node = Concat(self.name(), tuple(track.signal for track in tracks))
        quiet = all(track.quiet for track in tracks)
        return self.emit(node, first.with_size(role, total), quiet=quiet)

    def reshaped(self, track: Track, shape: Sequence[int]) -> Track:
        """The tensor in another shape: axes of one entry come and go, channels and features merge or part.

        Raises
        ------
        ModelError
            Time would be cut up or mixed with anything but the phases of an upsampling.
        """
        if track.size("channels") == 1 and track.axis("features") is not None:
            track = track.along_channels(track.roles.index("features"))
        roles: list[Role] = ["unit"] * len(shape)
        result = track
        for olds, news in regrouped(track.shape, shape):
            heard = [i for i in olds if track.shape[i] != 1]
            told = [j for j in news if shape[j] != 1]
            found = tuple(track.roles[i] for i in heard)
            if len(heard) == 1 and len(told) == 1:
                roles[told[0]] = found[0]
            elif found in (("channels", "features"), ("features", "channels")) and len(told) == 1:
                result = self.ordered(result, features_major=track.roles[heard[0]] == "features")
                roles[told[0]] = "channels"
            elif found == ("channels",) and len(told) == 2:
                roles[told[0]], roles[told[1]] = "channels", "features"
                result = replace(result, features_major=False)
            elif found in (("time", "features"), ("time", "channels")) and len(told) == 1:
                result = self._interleaved(result, found[1])
                roles[told[0]] = "time"
            elif heard:
                raise ModelError(
                    f"reshaping {track.described} to {list(shape)} mixes what a stream keeps apart"
                )
        return replace(result, roles=tuple(roles), shape=tuple(shape))

    def _interleaved(self, track: Track, phases: Role) -> Track:
        """Frames out of the rows of one axis, which follow each other in time."""
        factor = track.size(phases)
        if phases == "features":
            track = self.ordered(track, features_major=False)
        elif track.size("features") != 1:
            track = self.ordered(track, features_major=True)
        node = Interleave(self.name("interleave"), track.signal, factor)
        return self.emit(node, track, rate=track.rate * factor, delay=track.delay * factor, quiet=track.quiet)

    # Arithmetic on single frames.

    def activated(self, track: Track, activation: Activation) -> Track:
        """An activation; those with a parameter per channel, and softmax, go along the channels."""
        by_channel = activation.kind == "softmax" or (
            activation.kind in PER_CHANNEL and len(activation.parameters) > 1
        )
        seen = self.shaped(track) if by_channel else track
        node = Activate(self.name(), seen.signal, activation)
        made = self.emit(node, seen, quiet=track.quiet and activation.kind in _KEEP_ZERO)
        return self.flat(made) if by_channel else made

    def scaled(self, track: Track, scale: Array, shift: Array | None = None) -> Track:
        """``x * scale + shift``, one number for all or one per channel."""
        by_channel = scale.size > 1 or (shift is not None and shift.size > 1)
        seen = self.shaped(track) if by_channel else track
        made = self.emit(
            Affine(self.name(), seen.signal, scale, shift), seen, quiet=track.quiet and shift is None
        )
        return self.flat(made) if by_channel else made

    def summed(self, a: Track, b: Track) -> Track:
        """Sum of two tensors of one shape, or of which one has a single row or is the same in every frame."""
        a, b = self._paired(a, b, widen_first=True)
        return self.emit(Add(self.name(), a.signal, b.signal), a, quiet=a.quiet and b.quiet)

    def multiplied(self, a: Track, b: Track) -> Track:
        """Product of two tensors; shapes as for `summed`."""
        a, b = self._paired(a, b, widen_first=False)
        return self.emit(Multiply(self.name(), a.signal, b.signal), a, quiet=a.quiet or b.quiet)

    def _paired(self, a: Track, b: Track, widen_first: bool) -> tuple[Track, Track]:
        """Both with the same rows and delay, or `b` with a single row where that will do."""
        a, b = self.together(a, b)
        b = b.labelled_like(a)
        if b.rows > a.rows or (a.steady and not b.steady and b.rows == a.rows):
            a, b = b, a
        if a.steady != b.steady and a.steady:
            a, b = replace(a, **_moving(b)), b
        _check_broadcast(a, b)
        if b.rows == a.rows:
            return a, self.ordered(b, a.features_major)
        if b.rows != 1:
            raise ModelError(f"cannot combine {a.described} with {b.described}")
        return a, self._widened(b, a) if widen_first else b

    def _widened(self, track: Track, like: Track) -> Track:
        """One row repeated for all rows of another track."""
        ones = np.ones((like.rows, 1, 1), np.float32)
        return self.emit(Conv1d(self.name("rows"), track.signal, ones), like, quiet=track.quiet)


def _moving(track: Track) -> dict[str, Any]:
    """What a steady track takes on where it meets one that moves."""
    return {"delay": track.delay, "rate": track.rate, "steady": track.steady}


def _fits(track: Track, other: Track, axis: int) -> bool:
    """Whether two tensors have the same axes but for the one along which they are joined."""
    if len(track.shape) != len(other.shape):
        return False
    mine, others = (list(zip(t.roles, t.shape, strict=True)) for t in (track, other))
    return all(
        a == b or (a[1] == b[1] == 1) or (track.steady and b[0] == "time" and a[1] == 1)
        for at, (a, b) in enumerate(zip(mine, others, strict=True))
        if at != axis
    )


def _check_broadcast(a: Track, b: Track) -> None:
    """Raise `ModelError` unless axes that both have agree, aligned at the last one as in NumPy."""
    ends = [list(zip(t.roles, t.shape, strict=True))[::-1] for t in (a, b)]
    agree = all(
        1 in (size_a, size_b) or (role_a, size_a) == (role_b, size_b)
        for (role_a, size_a), (role_b, size_b) in zip(*ends, strict=False)
    )
    # One's time along the other's axis of one entry: every frame would meet every other.
    times = {t.roles[::-1].index("time") for t in (a, b) if t.axis("time") is not None and not t.steady}
    if not agree or len(times) > 1:
        raise ModelError(f"cannot combine {a.described} with {b.described}")
