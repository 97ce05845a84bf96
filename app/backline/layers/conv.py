"""Convolutions: grouped, dilated and strided in time; transposed; and over time and features."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..activations import Activation
from ..errors import ModelError
from .base import (
    Array,
    Signal,
    Signals,
    Unary,
    check_array,
    check_flat,
    check_frames,
    check_groups,
    check_same,
    check_size,
    checked_rate,
)


@dataclass(frozen=True)
class Mix:
    """A second, one-tap convolution added inside a `Conv1d`: a WaveNet layer's conditioning.

    `weight` is ``[out][in / groups]``.
    """

    input: str
    weight: Array
    groups: int = 1


@dataclass(frozen=True)
class Conv1d(Unary):
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
        Output n belongs to input frame ``n * stride``, the first to the first; the output's rate is the
        input's over `stride`. An `Upsample` behind it holds each output until the next.
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

    def multiply_adds(self) -> float:
        return int(self.weight.size) + (int(self.mix.weight.size) if self.mix else 0)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_array(self.output, "weight", self.weight, 3)
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
            check_array(self.output, "bias", self.bias, 1, out_channels)
        check_flat(self.output, source)
        rate = checked_rate(self.output, source.rate / self.stride)
        result = Signal(self.output, out_channels, 1, rate)
        if self.mix is not None:
            self._check_mix(signals, result)
        if self.activation is not None:
            self.activation.check(self.output, out_channels)
        for other in (self.residual, self.skip):
            if other is not None:
                check_same(self.output, signals[other], result)
        if (self.skip is None) != (self.skip_output is None):
            raise ModelError(f"{self.output}: skip and skip_output go together")
        if self.skip_output is None:
            return (result,)
        return (result, Signal(self.skip_output, out_channels, 1, result.rate))

    def _check_mix(self, signals: Signals, result: Signal) -> None:
        assert self.mix is not None
        source = signals[self.mix.input]
        check_array(self.output, "mix weight", self.mix.weight, 2, result.channels)
        check_groups(self.output, self.mix.groups, source.channels, result.channels)
        if self.mix.weight.shape[1] * self.mix.groups != source.channels:
            raise ModelError(
                f"{self.output}: mix weight has {self.mix.weight.shape[1]} input channels per group in "
                f"{self.mix.groups} groups, found {source.channels} channels in {source.name}"
            )
        if source.rate != result.rate:
            raise ModelError(f"{self.output}: mix input runs at rate {source.rate}, expected {result.rate}")


@dataclass(frozen=True)
class ConvTranspose1d(Unary):
    """Transposed 1-D convolution (PyTorch's ConvTranspose1d), causal: no frame before the input's.

    ``y[n] = bias + sum of w[k] x[m]`` over all frames m and taps k with ``m * stride + k * dilation = n``.
    Frames past the last one of the input, PyTorch's tail, are not made.

    Attributes
    ----------
    weight : float32 array [in][out / groups][kernel]
    bias : float32 array [out], optional
    groups, dilation : int
    stride : int
        The output's rate is `stride` times the input's.
    """

    weight: Array
    bias: Array | None = None
    groups: int = 1
    dilation: int = 1
    stride: int = 1

    @property
    def arrays(self) -> dict[str, Array]:
        return {"weight": self.weight} | ({} if self.bias is None else {"bias": self.bias})

    @property
    def kernel(self) -> int:
        """Number of taps."""
        return int(self.weight.shape[2])

    @property
    def lookback_frames(self) -> int:
        return ((self.kernel - 1) * self.dilation + self.stride - 1) // self.stride

    @property
    def reach_frames(self) -> Fraction:
        return Fraction((self.kernel - 1) * self.dilation, self.stride)

    def multiply_adds(self) -> float:
        return int(self.weight.size) / self.stride

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_flat(self.output, source)
        check_array(self.output, "weight", self.weight, 3, source.channels)
        for what, value in (("dilation", self.dilation), ("stride", self.stride)):
            check_size(self.output, what, value)
        check_size(self.output, "groups", self.groups)
        out_channels = self.weight.shape[1] * self.groups
        check_groups(self.output, self.groups, source.channels, out_channels)
        check_size(self.output, "output channels", out_channels)
        check_size(self.output, "reach of the kernel in frames", self.lookback_frames + 1)
        if self.bias is not None:
            check_array(self.output, "bias", self.bias, 1, out_channels)
        return (Signal(self.output, out_channels, 1, checked_rate(self.output, source.rate * self.stride)),)


@dataclass(frozen=True)
class Conv2d(Unary):
    """2-D convolution over time, where it is causal like `Conv1d`, and over features (a spectrum's bins).

    ``y[o][n][f]`` sums over input channels, taps j in time and k in features the products of
    ``weight[o][i][j][k]`` and ``x[i][n stride - (kernel_time - 1 - j) dilation]`` at feature
    ``f feature_stride + k feature_dilation - feature_padding[0]``; features outside are zero.

    Attributes
    ----------
    weight : float32 array [out][in / groups][kernel in time][kernel in features]
        The last tap in time multiplies the newest frame.
    bias : float32 array [out], optional
    groups, dilation, stride : int
        In time, as in `Conv1d`.
    feature_stride, feature_dilation : int
    feature_padding : tuple of two int
        Zeros below the first and above the last feature.
    """

    weight: Array
    bias: Array | None = None
    groups: int = 1
    dilation: int = 1
    stride: int = 1
    feature_stride: int = 1
    feature_dilation: int = 1
    feature_padding: tuple[int, int] = (0, 0)

    @property
    def arrays(self) -> dict[str, Array]:
        return {"weight": self.weight} | ({} if self.bias is None else {"bias": self.bias})

    @property
    def lookback_frames(self) -> int:
        return (int(self.weight.shape[2]) - 1) * self.dilation

    def multiply_adds(self) -> float:
        return int(self.weight.size)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_array(self.output, "weight", self.weight, 4)
        out_channels, per_group, _, kernel = self.weight.shape
        check_groups(self.output, self.groups, source.channels, out_channels)
        if per_group * self.groups != source.channels:
            raise ModelError(
                f"{self.output}: weight has {per_group} input channels per group in {self.groups} groups, "
                f"expected {source.channels // self.groups} for {source.channels} channels of {source.name}"
            )
        for what in ("dilation", "stride", "feature_stride", "feature_dilation"):
            check_size(self.output, what, getattr(self, what))
        for amount in self.feature_padding:
            check_frames(self.output, "feature padding", amount)
        check_size(self.output, "reach of the kernel in frames", self.lookback_frames + 1)
        if self.bias is not None:
            check_array(self.output, "bias", self.bias, 1, out_channels)
        span = (kernel - 1) * self.feature_dilation + 1
        room = source.features + sum(self.feature_padding) - span
        if room < 0:
            raise ModelError(
                f"{self.output}: the kernel spans {span} features, {source.name} has {source.features} "
                f"with {sum(self.feature_padding)} of padding"
            )
        features = room // self.feature_stride + 1
        check_size(self.output, "output rows", features * out_channels)
        rate = checked_rate(self.output, source.rate / self.stride)
        return (Signal(self.output, out_channels, features, rate),)
