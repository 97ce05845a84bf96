"""What a graph is made of: signals, and the kinds of layers, each a node.

Nodes describe plain mathematics in the layout PyTorch uses for weights; they hold float32 arrays, are
frozen, and share nothing with any file format. Each says what it reads, what it writes and what it costs,
and checks its shapes; a :class:`~backline.errors.ModelError` names the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from .activations import Activation
from .errors import ModelError

Array = NDArray[np.float32]

#: Largest value of any single size (channels, taps, dilation, frames of prewarm) a graph may hold.
MAX_SIZE = 1 << 24
#: Most input frames to one frame of any signal: all strides on its way multiplied.
MAX_HOP = 1 << 12
#: Largest number of float32 parameters one array of a graph may hold (256 MiB).
MAX_ELEMENTS = 1 << 26


@dataclass(frozen=True)
class Signal:
    """A named array ``[channels * features][frames]`` inside a graph.

    Attributes
    ----------
    name : str
        Unique in its graph.
    channels : int
        Number of channels, at least 1.
    features : int
        Length of the feature axis (2-D layers); 1 for plain signals. Features are the outer index of a
        row: row ``f * channels + c``.
    rate : Fraction
        Frames of this signal per frame of the graph's input.
    """

    name: str
    channels: int
    features: int = 1
    rate: Fraction = Fraction(1)

    @property
    def rows(self) -> int:
        """Rows of the planar layout: channels times features."""
        return self.channels * self.features

    def frames(self, input_frames: int) -> int:
        """Frames of this signal that exist once the graph has read `input_frames` frames."""
        return ceil(input_frames * self.rate)


Signals = Mapping[str, Signal]


@dataclass(frozen=True)
class Node:
    """Base of all nodes: writes the signal `output`, whose name is also the layer's name in errors."""

    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the signals this node reads."""
        raise TypeError(f"{type(self).__name__} does not say what it reads")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the signals this node writes."""
        return (self.output,)

    @property
    def arrays(self) -> dict[str, Array]:
        """The node's parameters by name, absent ones left out."""
        return {}

    @property
    def lookback_frames(self) -> int | None:
        """Past frames of the first input that an output frame depends on; None if unbounded."""
        return 0

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        """Return the signals written, given those read; raise `ModelError` where shapes disagree."""
        raise TypeError(f"{type(self).__name__} does not say what it writes")

    def multiply_adds(self) -> int:
        """Multiply-adds for one frame of output."""
        return 0


@dataclass(frozen=True)
class _Unary(Node):
    """A node that reads the signal `input`."""

    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class _Binary(Node):
    """A node that reads the signals `a` and `b`."""

    a: str
    b: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)


@dataclass(frozen=True)
class Mix:
    """A second, one-tap convolution added inside a `Conv1d`: a WaveNet layer's conditioning.

    `weight` is ``[out][in / groups]``.
    """

    input: str
    weight: Array
    groups: int = 1


@dataclass(frozen=True)
class Conv1d(_Unary):
    """Causal, grouped, dilated, strided 1-D convolution, with sums and an activation fused in.

    ``y = activation(bias + conv(input) + mix) + residual`` and, where `skip` is given, a second output
    ``skip_output = skip + y``. Formats write plain convolutions; the passes fill in the rest.

    Attributes
    ----------
    input : str
        Signal with ``in`` channels.
    weight : float32 array [out][in / groups][kernel]
        PyTorch's layout: the last tap multiplies the newest frame.
    bias : float32 array [out], optional
    groups : int
        Divides both ``in`` and ``out``; group g reads its share of the inputs and writes its share of
        the outputs (PyTorch's and Keras's `groups`).
    dilation : int
        Frames between taps.
    stride : int
        Output n belongs to input frame ``n * stride``; the output's rate is the input's over `stride`.
    """

    weight: Array
    bias: Array | None = None
    groups: int = 1
    dilation: int = 1
    stride: int = 1
    mix: Mix | None = None
    activation: Activation | None = None
    residual: str | None = None
    skip: str | None = None
    skip_output: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        extra = (self.mix.input if self.mix else None, self.residual, self.skip)
        return (self.input, *(name for name in extra if name is not None))

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output,) if self.skip_output is None else (self.output, self.skip_output)

    @property
    def arrays(self) -> dict[str, Array]:
        found = {"weight": self.weight}
        if self.bias is not None:
            found["bias"] = self.bias
        if self.mix is not None:
            found["mix.weight"] = self.mix.weight
        return found

    @property
    def kernel(self) -> int:
        """Number of taps."""
        return int(self.weight.shape[2])

    @property
    def lookback_frames(self) -> int:
        return (self.kernel - 1) * self.dilation

    def multiply_adds(self) -> int:
        return int(self.weight.size) + (int(self.mix.weight.size) if self.mix else 0)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        _check_array(self.output, "weight", self.weight, 3)
        out_channels, per_group, kernel = self.weight.shape
        check_groups(self.output, self.groups, source.channels, out_channels)
        if per_group * self.groups != source.channels:
            raise ModelError(
                f"{self.output}: weight has {per_group} input channels per group in {self.groups} groups, "
                f"expected {source.channels // self.groups} for {source.channels} channels of {source.name}"
            )
        for what, value in (("kernel", kernel), ("dilation", self.dilation), ("stride", self.stride)):
            check_size(self.output, what, value)
        check_size(self.output, "reach of the kernel in frames", self.lookback_frames + 1)
        if self.bias is not None:
            _check_array(self.output, "bias", self.bias, 1, out_channels)
        _check_flat(self.output, source)
        result = Signal(self.output, out_channels, 1, source.rate / self.stride)
        if result.rate.denominator > MAX_HOP:
            raise ModelError(
                f"{self.output}: stride {self.stride} makes one frame of {result.rate.denominator}, "
                f"expected at most {MAX_HOP}"
            )
        if self.mix is not None:
            self._check_mix(signals, result)
        if self.activation is not None:
            self.activation.check(self.output, out_channels)
        for other in (self.residual, self.skip):
            if other is not None:
                _check_same(self.output, signals[other], result)
        if (self.skip is None) != (self.skip_output is None):
            raise ModelError(f"{self.output}: skip and skip_output go together")
        if self.skip_output is None:
            return (result,)
        return (result, Signal(self.skip_output, out_channels, 1, result.rate))

    def _check_mix(self, signals: Signals, result: Signal) -> None:
        assert self.mix is not None
        source = signals[self.mix.input]
        _check_array(self.output, "mix weight", self.mix.weight, 2, result.channels)
        check_groups(self.output, self.mix.groups, source.channels, result.channels)
        if self.mix.weight.shape[1] * self.mix.groups != source.channels:
            raise ModelError(
                f"{self.output}: mix weight has {self.mix.weight.shape[1]} input channels per group in "
                f"{self.mix.groups} groups, found {source.channels} channels in {source.name}"
            )
        if source.rate != result.rate:
            raise ModelError(f"{self.output}: mix input runs at rate {source.rate}, expected {result.rate}")


@dataclass(frozen=True)
class Activate(_Unary):
    """Apply an activation to every value of a signal."""

    activation: Activation

    @property
    def arrays(self) -> dict[str, Array]:
        if self.activation.kind != "prelu":
            return {}
        return {"negative_slope": np.asarray(self.activation.parameters, np.float32)}

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        self.activation.check(self.output, source.channels)
        return (Signal(self.output, source.channels, source.features, source.rate),)


@dataclass(frozen=True)
class Add(_Binary):
    """Sum of two signals of one shape."""

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        a, b = signals[self.a], signals[self.b]
        _check_same(self.output, b, a)
        return (Signal(self.output, a.channels, a.features, a.rate),)


@dataclass(frozen=True)
class Multiply(_Binary):
    """Product of two signals; `b` has the shape of `a`, or one channel that multiplies all of them."""

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        a, b = signals[self.a], signals[self.b]
        if not (b.rows == 1 and b.rate == a.rate):
            _check_same(self.output, b, a)
        return (Signal(self.output, a.channels, a.features, a.rate),)


@dataclass(frozen=True)
class Affine(_Unary):
    """``y = x * scale + shift`` with one scale and one shift per channel, or one for all."""

    scale: Array
    shift: Array | None = None

    @property
    def arrays(self) -> dict[str, Array]:
        return {"scale": self.scale} | ({} if self.shift is None else {"shift": self.shift})

    def multiply_adds(self) -> int:
        return int(self.scale.size)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        for what, values in self.arrays.items():
            count = 1 if values.size == 1 else source.channels
            _check_array(self.output, what, values, 1, count)
        return (Signal(self.output, source.channels, source.features, source.rate),)


@dataclass(frozen=True)
class BatchNorm(_Unary):
    """Batch normalisation with frozen statistics (Ioffe and Szegedy 2015): one value per channel each."""

    mean: Array
    variance: Array
    gamma: Array | None = None
    beta: Array | None = None
    epsilon: float = 1e-5

    @property
    def arrays(self) -> dict[str, Array]:
        found = {"mean": self.mean, "variance": self.variance, "gamma": self.gamma, "beta": self.beta}
        return {name: values for name, values in found.items() if values is not None}

    def multiply_adds(self) -> int:
        return int(self.mean.size)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        for what, values in self.arrays.items():
            _check_array(self.output, what, values, 1, source.channels)
        if not (np.isfinite(self.epsilon) and np.all(self.variance + np.float64(self.epsilon) > 0)):
            raise ModelError(f"{self.output}: variance plus epsilon has to be positive")
        return (Signal(self.output, source.channels, source.features, source.rate),)


@dataclass(frozen=True)
class Slice(_Unary):
    """Channels ``start`` to ``start + count`` of a signal."""

    start: int
    count: int

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        _check_flat(self.output, source)
        if not (self.start >= 0 and self.count >= 1 and self.start + self.count <= source.channels):
            raise ModelError(
                f"{self.output}: cannot take {self.count} channels from {self.start} on, "
                f"{source.name} has {source.channels}"
            )
        return (Signal(self.output, self.count, 1, source.rate),)


@dataclass(frozen=True)
class Crossfade(_Binary):
    """``a * (1 - t) + b * t``, exactly `a` where t is 0 and exactly `b` where t is 1.

    `position` is the signal t, from 0 to 1: one channel that moves all of them, or the shape of `a`.
    """

    position: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b, self.position)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        a, b, t = (signals[name] for name in self.inputs)
        _check_same(self.output, b, a)
        if not (t.rows == 1 and t.rate == a.rate):
            _check_same(self.output, t, a)
        return (Signal(self.output, a.channels, a.features, a.rate),)


@dataclass(frozen=True)
class Lstm(_Unary):
    """One long short-term memory layer (Hochreiter and Schmidhuber 1997), PyTorch's equations.

    Gates in the order i, f, g, o: ``c = sigmoid(f) * c + sigmoid(i) * tanh(g)``,
    ``h = sigmoid(o) * tanh(c)``; the output is h.

    Attributes
    ----------
    input : str
        Signal with ``in`` channels.
    weight_ih : float32 array [4 * hidden][in]
    weight_hh : float32 array [4 * hidden][hidden]
    bias : float32 array [4 * hidden]
        The sum of both biases where a format has two.
    h0, c0 : float32 array [hidden], optional
        State before the first frame; zeros where absent.
    """

    weight_ih: Array
    weight_hh: Array
    bias: Array
    h0: Array | None = None
    c0: Array | None = None

    @property
    def arrays(self) -> dict[str, Array]:
        found = {
            "weight_ih": self.weight_ih,
            "weight_hh": self.weight_hh,
            "bias": self.bias,
            "h0": self.h0,
            "c0": self.c0,
        }
        return {name: values for name, values in found.items() if values is not None}

    @property
    def hidden(self) -> int:
        """Width of the state."""
        return int(self.weight_hh.shape[1])

    @property
    def lookback_frames(self) -> int | None:
        return None

    def multiply_adds(self) -> int:
        return int(self.weight_ih.size + self.weight_hh.size)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        _check_flat(self.output, source)
        _check_array(self.output, "weight_hh", self.weight_hh, 2)
        gates = 4 * self.hidden
        _check_array(self.output, "weight_hh", self.weight_hh, 2, gates)
        _check_array(self.output, "weight_ih", self.weight_ih, 2, gates)
        if self.weight_ih.shape[1] != source.channels:
            raise ModelError(
                f"{self.output}: weight_ih has {self.weight_ih.shape[1]} inputs, "
                f"found {source.channels} channels in {source.name}"
            )
        _check_array(self.output, "bias", self.bias, 1, gates)
        for what, values in (("h0", self.h0), ("c0", self.c0)):
            if values is not None:
                _check_array(self.output, what, values, 1, self.hidden)
        return (Signal(self.output, self.hidden, 1, source.rate),)


def check_size(layer: str, what: str, value: int) -> None:
    """Raise `ModelError` unless `value` is an integer from 1 to `MAX_SIZE`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= value <= MAX_SIZE:
        raise ModelError(f"{layer}: {what} is {value!r}, expected an integer from 1 to {MAX_SIZE}")


def _check_flat(layer: str, source: Signal) -> None:
    if source.features != 1:
        raise ModelError(f"{layer}: needs a signal without feature axis, {source.name} has {source.features}")


def check_groups(layer: str, groups: int, in_channels: int, out_channels: int) -> None:
    """Raise `ModelError` unless `groups` is a size that divides both numbers of channels."""
    check_size(layer, "groups", groups)
    for what, channels in (("input", in_channels), ("output", out_channels)):
        if channels % groups:
            raise ModelError(f"{layer}: groups {groups} does not divide the {channels} {what} channels")


def _check_same(layer: str, found: Signal, expected: Signal) -> None:
    if (found.channels, found.features, found.rate) != (expected.channels, expected.features, expected.rate):
        raise ModelError(
            f"{layer}: {found.name} has {found.channels} channels by {found.features} features at rate "
            f"{found.rate}, expected {expected.channels} by {expected.features} at rate {expected.rate}"
        )


def _check_array(layer: str, what: str, values: Array, axes: int, first: int | None = None) -> None:
    if values.dtype != np.float32:
        raise ModelError(f"{layer}: {what} holds {values.dtype}, expected float32")
    if values.ndim != axes or values.size == 0:
        raise ModelError(f"{layer}: {what} has shape {values.shape}, expected {axes} axes, none empty")
    if first is not None and values.shape[0] != first:
        raise ModelError(f"{layer}: {what} has {values.shape[0]} entries, expected {first}")
    if values.size > MAX_ELEMENTS:
        raise ModelError(f"{layer}: {what} has {values.size} numbers, at most {MAX_ELEMENTS} are allowed")
    if not np.all(np.isfinite(values)):
        raise ModelError(f"{layer}: {what} holds a number that is not finite in float32")
