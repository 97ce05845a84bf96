"""What item n of a dataset is: numbers drawn from a seed, in any order and on any machine the same.

Item `n` of seed `s` is made of the words w0, w1, ... of Philox4x64-10 (Salmon, Moraes, Dror and Shaw,
"Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with the key (s, n) and counters 1, 2, ..., as
``numpy.random.Philox(key=[s, n]).random_raw()`` gives them. Nothing else goes in, so that neither the
number of items nor who draws them matters. With t = floor(w / 2^11), a whole number below 2^53, and
u = t / 2^53:

====== ===========================================================================================
word   gives
====== ===========================================================================================
w0     the model: number floor(t * models / 2^53)
w1     the segment: number floor(t * N / 2^53) of the N that there are, all equally likely: those of
       the first input by their first frame, then those of the second, and so on
w2     the input gain in dB: low + u (high - low)
w3     the polarity, where it may flip: flipped if u < 1/2
w(4+k) the model's knob k, in the model's order: low + u (high - low), as the nearest float32
====== ===========================================================================================
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: The lowest and the highest value of what is drawn; equal ones fix it.
Bounds = tuple[float, float]

MOST_SEED = (1 << 64) - 1
_MODEL, _SEGMENT, _GAIN, _POLARITY, _KNOBS = range(5)
_BITS = 53


@dataclass(frozen=True)
class Draw:
    """An item's settings.

    Attributes
    ----------
    item : int
    model, input : int
        Their numbers, from 0.
    start_frame : int
        Of the segment in the input.
    gain_db : float
        Of the input, before the model.
    flipped : bool
        Whether the input's polarity is turned round.
    knobs : mapping of str to float
        Where each of the model's knobs stands.
    """

    item: int
    model: int
    input: int
    start_frame: int
    gain_db: float
    flipped: bool
    knobs: Mapping[str, float]

    @property
    def factor(self) -> np.float32:
        """What the input is multiplied by; exactly 1 at 0 dB."""
        return np.float32((-1.0 if self.flipped else 1.0) * 10.0 ** (self.gain_db / 20.0))


@dataclass(frozen=True)
class Distribution:
    """What items are drawn from.

    Attributes
    ----------
    seed : int
        From 0 to 2^64 - 1.
    segments : sequence of int
        How many segments there are in each input: one begins at each frame from 0.
    knobs : sequence of mapping of str to (low, high)
        For each model the bounds of its knobs, in its order.
    gain_db : (low, high)
    flip : bool
        Whether half the items are flipped.
    """

    seed: int
    segments: Sequence[int]
    knobs: Sequence[Mapping[str, Bounds]]
    gain_db: Bounds = (0.0, 0.0)
    flip: bool = False

    def draw(self, item: int) -> Draw:
        """Draw an item, from 0 to 2^64 - 1."""
        most_knobs = max(map(len, self.knobs))
        key = np.array([self.seed, item], np.uint64)
        words = np.random.Philox(key=key).random_raw(_KNOBS + most_knobs).tolist()
        model = _whole(words[_MODEL], len(self.knobs))
        ends = list(itertools.accumulate(self.segments))
        segment = _whole(words[_SEGMENT], ends[-1])
        chosen = bisect.bisect_right(ends, segment)
        return Draw(
            item=item,
            model=model,
            input=chosen,
            start_frame=segment - (ends[chosen] - self.segments[chosen]),
            gain_db=_between(words[_GAIN], self.gain_db),
            flipped=self.flip and _whole(words[_POLARITY], 2) == 0,
            knobs={
                name: _nearest_float32(_between(word, bounds), bounds)
                for (name, bounds), word in zip(self.knobs[model].items(), words[_KNOBS:], strict=False)
            },
        )


def _whole(word: int, count: int) -> int:
    return ((word >> (64 - _BITS)) * count) >> _BITS


def _between(word: int, bounds: Bounds) -> float:
    low, high = bounds
    return min(high, low + (word >> (64 - _BITS)) / (1 << _BITS) * (high - low))


def _nearest_float32(value: float, bounds: Bounds) -> float:
    """What the engine computes with, unless rounding has led out of the bounds."""
    return min(max(float(np.float32(value)), bounds[0]), bounds[1])
