"""Layers whose state has no end: LSTM and GRU. Several in a row are several nodes."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ModelError
from .base import EARLIEST, Array, Signal, Signals, Unary, check_array, check_flat, check_frames


@dataclass(frozen=True)
class Lstm(Unary):
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
    start_frames : int
        The first frame, at this layer's rate, that is heard: before it the state stands still and the output
        is h0. For input that only begins later, because a layer before it has a delay.
    """

    weight_ih: Array
    weight_hh: Array
    bias: Array
    h0: Array | None = None
    c0: Array | None = None
    start_frames: int = EARLIEST

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

    def multiply_adds(self) -> float:
        return int(self.weight_ih.size + self.weight_hh.size)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_flat(self.output, source)
        check_array(self.output, "weight_hh", self.weight_hh, 2)
        gates = 4 * self.hidden
        check_array(self.output, "weight_hh", self.weight_hh, 2, gates)
        check_array(self.output, "weight_ih", self.weight_ih, 2, gates)
        if self.weight_ih.shape[1] != source.channels:
            raise ModelError(
                f"{self.output}: weight_ih has {self.weight_ih.shape[1]} inputs, "
                f"found {source.channels} channels in {source.name}"
            )
        check_array(self.output, "bias", self.bias, 1, gates)
        for what, values in (("h0", self.h0), ("c0", self.c0)):
            if values is not None:
                check_array(self.output, what, values, 1, self.hidden)
        check_frames(self.output, "start_frames", self.start_frames, EARLIEST)
        return (Signal(self.output, self.hidden, 1, source.rate),)


@dataclass(frozen=True)
class Gru(Unary):
    """One layer of gated recurrent units (Cho et al. 2014), PyTorch's equations ("reset after" in Keras).

    Gates in the order r, z, n: ``n = tanh(w_ih x + bias_ih + r (w_hh h + bias_hh))``,
    ``h = (1 - z) n + z h``; the output is h.

    Attributes
    ----------
    input : str
        Signal with ``in`` channels.
    weight_ih : float32 array [3 * hidden][in]
    weight_hh : float32 array [3 * hidden][hidden]
    bias_ih, bias_hh : float32 array [3 * hidden]
    h0 : float32 array [hidden], optional
        State before the first frame; zeros where absent.
    start_frames : int
        As in `Lstm`.
    """

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array
    h0: Array | None = None
    start_frames: int = EARLIEST

    @property
    def arrays(self) -> dict[str, Array]:
        found = {
            "weight_ih": self.weight_ih,
            "weight_hh": self.weight_hh,
            "bias_ih": self.bias_ih,
            "bias_hh": self.bias_hh,
            "h0": self.h0,
        }
        return {name: values for name, values in found.items() if values is not None}

    @property
    def hidden(self) -> int:
        """Width of the state."""
        return int(self.weight_hh.shape[1])

    @property
    def lookback_frames(self) -> int | None:
        return None

    def multiply_adds(self) -> float:
        return int(self.weight_ih.size + self.weight_hh.size)

    def infer(self, signals: Signals) -> tuple[Signal, ...]:
        source = signals[self.input]
        check_flat(self.output, source)
        check_array(self.output, "weight_hh", self.weight_hh, 2)
        gates = 3 * self.hidden
        check_array(self.output, "weight_hh", self.weight_hh, 2, gates)
        check_array(self.output, "weight_ih", self.weight_ih, 2, gates)
        if self.weight_ih.shape[1] != source.channels:
            raise ModelError(
                f"{self.output}: weight_ih has {self.weight_ih.shape[1]} inputs, "
                f"found {source.channels} channels in {source.name}"
            )
        for what, values in (("bias_ih", self.bias_ih), ("bias_hh", self.bias_hh)):
            check_array(self.output, what, values, 1, gates)
        if self.h0 is not None:
            check_array(self.output, "h0", self.h0, 1, self.hidden)
        check_frames(self.output, "start_frames", self.start_frames, EARLIEST)
        return (Signal(self.output, self.hidden, 1, source.rate),)
