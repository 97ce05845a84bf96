"""What can be asked of pairs, whether they are written or rendered on the fly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TypedDict

from ..errors import BacklineError
from ..passes import MAX_GAIN_DB
from .draws import MOST_SEED, Bounds

#: Where a knob is to stand: anywhere between two values, or at one.
KnobBounds = Mapping[str, Bounds | float]

_LOWEST_GAIN_DB = -200.0
_MOST_SEGMENT_S = 86400.0
_MOST_WARM_UP_S = 600.0


class PairChoices(TypedDict, total=False):
    """Keywords that functions take in place of `PairOptions`, whose attributes they are."""

    seed: int
    segment_s: float
    gain_db: Bounds
    knobs: KnobBounds | None
    flip: bool
    warm_up_s: float
    channels: str | None


@dataclass(frozen=True)
class PairOptions:
    """How pairs are drawn and rendered.

    Attributes
    ----------
    seed : int
        From 0 to 2^64 - 1; another one draws other pairs.
    segment_s : float
        How long a pair is.
    gain_db : (low, high)
        Of the input, before the model.
    knobs : mapping of str to (low, high) or float, optional
        Bounds by a knob's name, for all models that have it; its whole range by default.
    flip : bool
        Whether the polarity of half the inputs is turned round.
    warm_up_s : float
        What a recurrent model hears of the input before each segment. Others hear their receptive field.
    channels : str, optional
        Which channels of the inputs are used, as in `RenderOptions`: ``"mono"``, ``"1"``. All by default.

    Raises
    ------
    BacklineError
        A value out of its range; one sentence.
    """

    seed: int = 0
    segment_s: float = 5.0
    gain_db: Bounds = (0.0, 0.0)
    knobs: KnobBounds | None = None
    flip: bool = False
    warm_up_s: float = 2.0
    channels: str | None = None

    def __post_init__(self) -> None:
        check_number("seed", self.seed, 0, MOST_SEED, whole=True)
        check_number("segment", self.segment_s, 0.0, _MOST_SEGMENT_S, open_below=True)
        check_number("warm-up", self.warm_up_s, 0.0, _MOST_WARM_UP_S)
        for value in bounds_of("gain", self.gain_db):
            check_number("gain", value, _LOWEST_GAIN_DB, MAX_GAIN_DB)


def check_number(
    what: str, value: object, least: float, most: float, *, whole: bool = False, open_below: bool = False
) -> None:
    """Raise `BacklineError` unless a value is a number in its range."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    fits = least <= number <= most and not (open_below and number == least)
    if fits and whole:
        fits = number.is_integer()
    if not fits:
        kind = "a whole number" if whole else "a number"
        bounds = f"above {least:g}, at most {most:g}" if open_below else f"from {least:g} to {most:g}"
        raise BacklineError(f"{what}: expected {kind} {bounds}, found {value}")


def bounds_of(what: str, given: Bounds | float) -> Bounds:
    """Two numbers in order; one stands for itself twice."""
    try:
        low, high = (given, given) if isinstance(given, (int, float)) else given
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise BacklineError(f"{what}: expected a lower and a higher bound, found {given}")
    return low, high
