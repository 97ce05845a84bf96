"""Exported networks, op by op, turned into a graph: shared by the importers of ONNX and PyTorch.

A value is a `Track` (a tensor that moves with time, and the signal that streams it), an array (a constant),
an `Extra` (entries of the network's inputs besides the audio, which their use tells to be state or knobs), a
`Curve` (part of an activation) or a `Final` (what a stream never knows). Importers know names, attributes
and defaults of their format's ops, fold what is constant, and call one method here for each op that touches
anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from ..errors import ModelError
from ..layers import Array
from . import _timeline_layers as layers
from ._network_arithmetic import Arithmetic
from ._tracks import Track
from ._values import Curve, Extra, Final, Value

__all__ = ["Curve", "Extra", "Final", "Network", "Pads", "Track", "Value"]

#: Frames, or features, of zeros before and after.
Pads = tuple[int, int]


class Network(Arithmetic):
    """A network in the making. All methods raise `ModelError` without the layer's name: the caller knows it.

    `line.layer` has to be set to a name before each op; graph nodes are called after it. Layers are as
    PyTorch defines them over a whole recording.
    """

    def conv(
        self,
        x: Value,
        weight: Array,
        bias: Array | None,
        *,
        stride: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        pads: Sequence[Pads],
    ) -> Track:
        """Convolution over time (weight of three axes), or time and features (four); one entry each axis.

        A tensor without a batch axis is one example.
        """
        track = self.track(x)
        dimensions = weight.ndim - 2
        if dimensions not in (1, 2) or not len(stride) == len(dilation) == len(pads) == dimensions:
            raise ModelError(f"expected a convolution over one or two axes, found a weight of {weight.shape}")
        if len(track.shape) == dimensions + 1:
            batch = self.unsqueeze(track, [0])
            made = self.conv(batch, weight, bias, stride=stride, dilation=dilation, groups=groups, pads=pads)
            return self.track(self.squeeze(made, [0]))
        if dimensions == 1:
            self._note_pads(pads[0])
            return layers.conv1d(
                self.line,
                track,
                weight,
                bias,
                stride=stride[0],
                dilation=dilation[0],
                groups=groups,
                pads=pads[0],
            )
        if track.axis("time") in (2, 3):
            self._note_pads(pads[track.roles.index("time") - 2])
        return layers.conv2d(
            self.line,
            track,
            weight,
            bias,
            stride=(stride[0], stride[1]),
            dilation=(dilation[0], dilation[1]),
            groups=groups,
            pads=(pads[0], pads[1]),
        )

    def conv_transpose(
        self,
        x: Value,
        weight: Array,
        bias: Array | None,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        pads: Pads = (0, 0),
        extra: int = 0,
    ) -> Track:
        """Transposed convolution over time; `pads` are cut off what it makes, `extra` frames added behind."""
        track = self.track(x)
        if len(track.shape) == 2:
            made = self.conv_transpose(
                self.unsqueeze(track, [0]),
                weight,
                bias,
                stride=stride,
                dilation=dilation,
                groups=groups,
                pads=pads,
                extra=extra,
            )
            return self.track(self.squeeze(made, [0]))
        return layers.conv_transpose1d(
            self.line,
            track,
            weight,
            bias,
            stride=stride,
            dilation=dilation,
            groups=groups,
            pads=pads,
            extra=extra,
        )

    def batch_norm(
        self,
        x: Value,
        mean: Array,
        variance: Array,
        gamma: Array | None,
        beta: Array | None,
        epsilon: float,
    ) -> Track:
        """Batch normalisation with frozen statistics, one per channel of axis 1."""
        track = self.track(x)
        if len(track.shape) < 2:
            raise ModelError(f"expected channels in axis 1, found {track.described}")
        return layers.batch_norm(self.line, track, mean, variance, gamma, beta, epsilon)

    def gru(self, x: Value, weights: Mapping[str, Array], h0: Value | None) -> tuple[Track, Value]:
        """One layer of gated recurrent units along time, and its last state.

        Parameters
        ----------
        x : Value
            [time][batch][channels] or [batch][time][channels].
        weights : mapping
            ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh`` as `layers.Gru` takes them.
        h0 : Value, optional
            First state, of any shape with one entry for each unit.
        """
        hidden = int(weights["weight_hh"].shape[-1])
        first, last = self._state(h0, hidden)
        track = layers.gru(self.line, self._sequence(x), {**weights, "h0": first})
        return track, last

    def lstm(
        self, x: Value, weights: Mapping[str, Array], h0: Value | None, c0: Value | None
    ) -> tuple[Track, Value, Value]:
        """One LSTM layer along time, and its last states h and c; `weights` as `layers.Lstm` takes them."""
        hidden = int(weights["weight_hh"].shape[-1])
        (h, last_h), (c, last_c) = self._state(h0, hidden), self._state(c0, hidden)
        track = layers.lstm(self.line, self._sequence(x), {**weights, "h0": h, "c0": c})
        return track, last_h, last_c

    def _sequence(self, x: Value) -> Track:
        track = self.track(x)
        if not track.shape or track.roles[-1] == "time" or track.axis("time") is None:
            raise ModelError(f"expected time and then channels, found {track.described}")
        return track.along_channels(len(track.shape) - 1)

    def _state(self, value: Value | None, hidden: int) -> tuple[Array | None, Value]:
        """A recurrent layer's first state, None for zeros, and what stands for its last."""
        if value is None:
            return None, Final(self.line.layer)
        if isinstance(value, Extra):
            if value.ids.size != hidden:
                raise ModelError(f"expected a state of {hidden} entries, found {value.ids.size}")
            self.keep(value, object())
            return None, Extra(value.ids, stepped=True)
        if not isinstance(value, np.ndarray) or value.size != hidden:
            raise ModelError(f"expected a first state of {hidden} entries that does not move with time")
        first = np.asarray(value, np.float32).ravel()
        return (first if np.any(first) else None), Final(self.line.layer)

    def max_pool(self, x: Value, kernel: int, stride: int, dilation: int = 1, pads: Pads = (0, 0)) -> Track:
        """The largest of `kernel` frames; `pads` never win."""
        self._note_pads(pads)
        return layers.max_pool1d(self.line, self.track(x), kernel, stride, dilation, pads)

    def avg_pool(
        self, x: Value, kernel: int, stride: int, pads: Pads = (0, 0), count_pads: bool = True
    ) -> Track:
        """The mean of `kernel` frames; `pads` count as zeros."""
        self._note_pads(pads)
        return layers.avg_pool1d(self.line, self.track(x), kernel, stride, pads, count_pads)

    def upsample(self, x: Value, factor: int, mode: Literal["nearest", "linear"]) -> Track:
        """`factor` frames for each; linear as with ``align_corners=False``."""
        return layers.upsample(self.line, self.track(x), factor, mode)

    def _note_pads(self, pads: Pads) -> None:
        self._pads |= any(amount > 0 for amount in pads)
