"""Layers whose state has no end: LSTM and GRU. Several in a row are several nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..errors import ModelError
from .base import EARLIEST, Array, Signal, Signals, Unary, check_array, check_flat, check_frames


@dataclass(frozen=True)
class _Recurrent(Unary):
    weight_ih: Array
    weight_hh: Array
    start_frames: int = field(default=EARLIEST, kw_only=True)
    gates: ClassVar[int]
    biases: ClassVar[tuple[str, ...]]
    states: ClassVar[tuple[str, ...]]

    @property
    def arrays(self) -> dict[str, Array]:
        names = ("weight_ih", "weight_hh", *self.biases, *self.states)
        found = {name: getattr(self, name) for name in names}
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
        source, arrays = signals[self.input], self.arrays
        check_flat(self.output, source)
        check_array(self.output, "weight_hh", self.weight_hh, 2)
        rows = self.gates * self.hidden
        check_array(self.output, "weight_hh", self.weight_hh, 2, rows)
        check_array(self.output, "weight_ih", self.weight_ih, 2, rows)
        if self.weight_ih.shape[1] != source.channels:
            raise ModelError(
                f"{self.output}: weight_ih has {self.weight_ih.shape[1]} inputs, "
                f"found {source.channels} channels in {source.name}"
            )
        for name in self.biases:
            check_array(self.output, name, arrays[name], 1, rows)
        for name in self.states:
            if name in arrays:
                check_array(self.output, name, arrays[name], 1, self.hidden)
        check_frames(self.output, "start_frames", self.start_frames, EARLIEST)
        return (Signal(self.output, self.hidden, 1, source.rate),)


@dataclass(frozen=True)
class Lstm(_Recurrent):
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

    bias: Array
    h0: Array | None = None
    c0: Array | None = None
    gates: ClassVar[int] = 4
    biases: ClassVar[tuple[str, ...]] = ("bias",)
    states: ClassVar[tuple[str, ...]] = ("h0", "c0")


@dataclass(frozen=True)
class Gru(_Recurrent):
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

    bias_ih: Array
    bias_hh: Array
    h0: Array | None = None
    gates: ClassVar[int] = 3
    biases: ClassVar[tuple[str, ...]] = ("bias_ih", "bias_hh")
    states: ClassVar[tuple[str, ...]] = ("h0",)
