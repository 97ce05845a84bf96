"""Layers of exported networks on a `Timeline`: convolutions, recurrences, pools, changes of rate.

Each function takes the timeline, a track, and the layer as PyTorch defines it over a whole recording, and
returns the track of what the layer makes. `pads` are zeros before and after the recording.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ..errors import ModelError
from ..layers import (
    EARLIEST,
    Array,
    AvgPool1d,
    BatchNorm,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    Gru,
    Lstm,
    MaxPool1d,
    Node,
    Upsample,
    check_size,
)
from ._timeline import Timeline
from ._tracks import Role, Track

Pads = tuple[int, int]


def conv1d(
    line: Timeline,
    track: Track,
    weight: Array,
    bias: Array | None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pads: Pads = (0, 0),
) -> Track:
    """Convolution of a tensor [batch][channels][time]; weight [out][in / groups][kernel]."""
    track = _channels_then_time(track)
    check_array_axes(weight, 3)
    if track.steady and track.size("time") == 1:
        weight, stride, pads = _tap_on_one_frame(weight, stride, dilation, pads)
    track, made = _windowed(line, track, (weight.shape[2] - 1) * dilation, stride, pads)
    node = Conv1d(line.name(), track.signal, weight, bias, groups, dilation, stride)
    return line.emit(node, made.with_size("channels", weight.shape[0]))


def conv_transpose1d(
    line: Timeline,
    track: Track,
    weight: Array,
    bias: Array | None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pads: Pads = (0, 0),
    extra: int = 0,
) -> Track:
    """Transposed convolution of a tensor [batch][channels][time]; weight [in][out / groups][kernel].

    `pads` are frames cut off what it makes, `extra` frames added at the end ("output_padding").
    """
    track = line.muted(_channels_then_time(track))
    check_array_axes(weight, 3)
    length = (track.size("time") - 1) * stride + (weight.shape[2] - 1) * dilation + 1 + extra
    node = ConvTranspose1d(line.name(), track.signal, weight, bias, groups, dilation, stride)
    made = replace(track, rate=track.rate * stride, delay=track.delay * stride)
    made = made.with_size("channels", weight.shape[1] * groups).with_size("time", length)
    return line.padded(line.emit(node, made), -pads[0], -pads[1])


def conv2d(
    line: Timeline,
    track: Track,
    weight: Array,
    bias: Array | None,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    pads: tuple[Pads, Pads] = ((0, 0), (0, 0)),
) -> Track:
    """Convolution of a tensor [batch][channels] and, in either order, time and features.

    Weight [out][in / groups][kernel][kernel]; pairs are in the tensor's order of axes.
    """
    check_array_axes(weight, 4)
    if len(track.shape) != 4 or track.axis("time") not in (2, 3):
        raise ModelError(
            f"expected a tensor [batch][channels] with time and features, found {track.described}"
        )
    t = track.roles.index("time") - 2
    f = 1 - t
    track = track.along_channels(1)
    if track.roles[2 + f] == "unit":
        track = track.with_role(2 + f, "features")
    in_time = weight if t == 0 else np.ascontiguousarray(weight.transpose(0, 1, 3, 2))
    track, made = _windowed(line, track, (in_time.shape[2] - 1) * dilation[t], stride[t], pads[t])
    track = line.ordered(track, features_major=True)
    seen = line.shaped(track)
    node = Conv2d(
        line.name(),
        seen.signal,
        in_time,
        bias,
        groups,
        dilation[t],
        stride[t],
        feature_stride=stride[f],
        feature_dilation=dilation[f],
        feature_padding=pads[f],
    )
    room = track.size("features") + sum(pads[f]) - (in_time.shape[3] - 1) * dilation[f] - 1
    if room < 0:
        raise ModelError(f"the kernel is longer than the {track.size('features')} padded features")
    made = replace(made, features_major=True)
    made = made.with_size("features", room // stride[f] + 1).with_size("channels", weight.shape[0])
    return line.flat(line.emit(node, made))


def linear(line: Timeline, track: Track, weight: Array, bias: Array | None) -> Track:
    """Fully connected layer along the last axis, the same for each feature; weight [out][in]."""
    track = track.along_channels(len(track.shape) - 1)
    check_array_axes(weight, 2)
    features = track.size("features")
    if features != 1:
        # The channels of a feature lie side by side: a group of their own.
        track = line.ordered(track, features_major=True)
        weight = np.tile(weight, (features, 1))
        bias = None if bias is None else np.tile(bias, features)
    taps = np.ascontiguousarray(weight[:, :, None])
    node = Conv1d(line.name(), track.signal, taps, bias, groups=features)
    return line.emit(node, track.with_size("channels", weight.shape[0] // features))


def batch_norm(
    line: Timeline,
    track: Track,
    mean: Array,
    variance: Array,
    gamma: Array | None,
    beta: Array | None,
    epsilon: float,
) -> Track:
    """Batch normalisation with frozen statistics, one per channel of axis 1."""
    seen = line.shaped(track.along_channels(1))
    node = BatchNorm(line.name(), seen.signal, mean, variance, gamma, beta, epsilon)
    return line.flat(line.emit(node, seen))


def lstm(line: Timeline, track: Track, layer: dict[str, Array | None]) -> Track:
    """One layer along time; `layer` holds the arrays of `Lstm`. The output's channels lie where x's did."""
    return _recurrent(line, track, Lstm, layer)


def gru(line: Timeline, track: Track, layer: dict[str, Array | None]) -> Track:
    """One layer along time; `layer` holds the arrays of `Gru`."""
    return _recurrent(line, track, Gru, layer)


def max_pool1d(
    line: Timeline, track: Track, kernel: int, stride: int, dilation: int = 1, pads: Pads = (0, 0)
) -> Track:
    """The largest of `kernel` frames; `pads` never win."""
    track = _along_time(track)
    check_size(line.layer, "kernel", kernel)
    check_size(line.layer, "stride", stride)
    ahead = (kernel - 1) * dilation - pads[0]
    track, delay = line.aligned(track, ahead, stride)
    start = EARLIEST if track.steady else track.delay
    node = MaxPool1d(line.name(), track.signal, kernel, stride, dilation, start)
    made = replace(track, rate=track.rate / stride, delay=delay)
    return line.emit(node, made.with_size("time", _length(track, (kernel - 1) * dilation, stride, pads)))


def avg_pool1d(
    line: Timeline, track: Track, kernel: int, stride: int, pads: Pads = (0, 0), count_pads: bool = True
) -> Track:
    """The mean of `kernel` frames; `pads` count as zeros.

    Raises
    ------
    ModelError
        Padding is not to count: the mean would be over fewer frames at the ends.
    """
    if pads != (0, 0) and not count_pads:
        raise ModelError("pads a mean that does not count its padding")
    check_size(line.layer, "kernel", kernel)
    track, made = _windowed(line, _along_time(track), kernel - 1, stride, pads)
    return line.emit(AvgPool1d(line.name(), track.signal, kernel, stride), made)


def upsample(line: Timeline, track: Track, factor: int, mode: Literal["nearest", "linear"]) -> Track:
    """`factor` frames for each; linear as with ``align_corners=False``."""
    check_size(line.layer, "factor", factor)
    track = _along_time(track)
    delay = track.delay * factor
    if mode == "nearest":
        node = Upsample(line.name(), track.signal, factor)
    else:
        start = EARLIEST if track.steady else track.delay
        node = Upsample(line.name(), track.signal, factor, "linear", start)
        delay += factor // 2
    made = replace(track, rate=track.rate * factor, delay=delay)
    quiet = track.quiet and mode == "nearest"
    return line.emit(node, made.with_size("time", track.size("time") * factor), quiet=quiet)


def check_array_axes(weight: Array, axes: int) -> None:
    """Raise `ModelError` unless a weight has that many axes."""
    if weight.ndim != axes:
        raise ModelError(f"expected a weight of {axes} axes, found shape {weight.shape}")


def _windowed(line: Timeline, track: Track, reach: int, stride: int, pads: Pads) -> tuple[Track, Track]:
    """What a layer reads, muted and delayed as it needs, and what it makes, up to its channels.

    A window of ``reach + 1`` frames moves by `stride` over the tensor with `pads` zeros around it.
    """
    check_size(line.layer, "stride", stride)
    if pads[0] > 0:
        track = line.muted(track)
    length = _length(track, reach, stride, pads)
    track, delay = line.aligned(track, reach - pads[0], stride)
    made = replace(track, rate=track.rate / stride, delay=delay)
    return track, made.with_size("time", length) if track.axis("time") is not None else made


def _length(track: Track, reach: int, stride: int, pads: Pads) -> int:
    room = track.size("time") + sum(pads) - reach - 1
    if track.axis("time") is not None and room < 0:
        raise ModelError(f"reaches over {reach + 1} frames, the padded example has {room + reach + 1}")
    return room // stride + 1


def _tap_on_one_frame(weight: Array, stride: int, dilation: int, pads: Pads) -> tuple[Array, int, Pads]:
    """A convolution of a single frame with zeros around it: the tap that meets it, if one frame comes out."""
    reach = (weight.shape[2] - 1) * dilation
    if not 0 <= sum(pads) - reach < stride or pads[0] % dilation or not 0 <= pads[0] <= reach:
        raise ModelError("makes more or less than one frame of a single frame that moves with no time")
    at = pads[0] // dilation
    return np.ascontiguousarray(weight[:, :, at : at + 1]), 1, (0, 0)


def _channels_then_time(track: Track) -> Track:
    """The track as [batch][channels][time]; a time axis where a steady track has none."""
    if len(track.shape) != 3:
        raise ModelError(f"expected a tensor [batch][channels][time], found {track.described}")
    if track.roles[2] != "time" and not (track.steady and track.roles[2] == "unit"):
        raise ModelError(f"expected time in the last axis, found {track.described}")
    if track.roles[2] == "unit":
        track = track.with_role(2, "time")
    return track.along_channels(1)


def _along_time(track: Track) -> Track:
    if track.roles[-1] != "time":
        raise ModelError(f"expected time in the last axis, found {track.described}")
    return track


def _recurrent(line: Timeline, track: Track, kind: Any, layer: dict[str, Array | None]) -> Track:
    role: Role = "channels"
    if track.axis("time") is None:
        raise ModelError(f"expected a time axis, found {track.described}")
    if track.axis(role) is None:
        track = track.along_channels(len(track.shape) - 1)
    if track.size("features") != 1:
        raise ModelError(f"expected no features beside the channels, found {track.described}")
    track = line.begun(track)
    node: Node = kind(line.name(), track.signal, **layer, start_frames=track.delay)
    hidden = layer["weight_hh"]
    assert hidden is not None
    return line.emit(node, track.with_size(role, hidden.shape[1]))
