"""Models and inputs put together: checked once, so that rendering only has to draw and render."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from ..api import load
from ..audiofile import PathLike
from ..engine import Model
from ..errors import AudioFileError, BacklineError, ModelError
from ..passes import MAX_GAIN_DB
from ..render.take import output_channels
from .draws import MOST_SEED, Bounds, Distribution
from .inputs import Input, open_input
from .pairs import PairMaker

#: Where a knob is to stand: anywhere between two values, or at one.
KnobBounds = Mapping[str, Bounds | float]
#: Seconds that a recurrent model hears before a segment.
WARM_UP_S = 2.0
_LOWEST_GAIN_DB = -200.0
_MOST_WARM_UP_S = 600.0


@dataclass(frozen=True)
class Plan:
    """What a dataset is made of.

    Attributes
    ----------
    models : tuple of Model
    inputs : tuple of Input
        All of one rate and number of channels, at least as long as a segment.
    distribution : Distribution
    rate_hz, channels : int
    frames : int
        Of a segment.
    warm_up_frames : int
        That a recurrent model hears before it.
    notes : tuple of str
        What a user should know.
    """

    models: tuple[Model, ...]
    inputs: tuple[Input, ...]
    distribution: Distribution
    rate_hz: int
    channels: int
    frames: int
    warm_up_frames: int
    notes: tuple[str, ...]

    @property
    def knob_names(self) -> tuple[str, ...]:
        """Of all models, each once, in their order."""
        return tuple(dict.fromkeys(name for knobs in self.distribution.knobs for name in knobs))

    def maker(self) -> PairMaker:
        """What renders the plan's draws, for one thread."""
        return PairMaker(self.models, self.inputs, self.frames, self.warm_up_frames)


def plan(
    models: Sequence[Model | PathLike],
    inputs: Sequence[PathLike],
    *,
    seed: int = 0,
    segment_s: float = 5.0,
    gain_db: Bounds = (0.0, 0.0),
    knobs: KnobBounds | None = None,
    flip: bool = False,
    warm_up_s: float = WARM_UP_S,
    channels: str | None = None,
) -> Plan:
    """Check what a dataset is to be made of, and look at every file.

    Parameters
    ----------
    models : sequence of Model, path or shipped name
        Each as likely as any other.
    inputs : sequence of paths
        Audio files; those shorter than a segment are left out, which a note says. All are read at the rate
        of the models, or at their own where no model says one.
    seed : int
    segment_s : float
    gain_db : (low, high)
        Of the input.
    knobs : mapping of str to (low, high) or float, optional
        Bounds by a knob's name, for all models that have it; its whole range by default.
    flip : bool
        Whether half the inputs' polarity is turned round.
    warm_up_s : float
        What a recurrent model hears of the input before each segment.
    channels : str, optional
        Which channels of the inputs are used, as in `RenderOptions`: ``"mono"``, ``"1"``.

    Raises
    ------
    BacklineError
        What does not fit together; one sentence.
    """
    _check_number("seed", seed, 0, MOST_SEED, whole=True)
    _check_number("segment", segment_s, 0.0, 86400.0, open_below=True)
    _check_number("warm-up", warm_up_s, 0.0, _MOST_WARM_UP_S)
    gain = _bounds("gain", gain_db)
    for value in gain:
        _check_number("gain", value, _LOWEST_GAIN_DB, MAX_GAIN_DB)
    if not models or not inputs:
        raise BacklineError(f"a dataset needs {'a model' if not models else 'an audio file'}, found none")
    loaded = tuple(each if isinstance(each, Model) else load(each) for each in models)
    opened = [open_input(path, channels) for path in inputs]
    rate_hz = _rate_of(loaded, opened)
    frames = max(1, round(segment_s * rate_hz))
    _check_channels(loaded, opened)
    fitting, notes = _long_enough([each.at_rate(rate_hz) for each in opened], frames)
    if any(model.receptive_field_frames is None for model in loaded):
        notes.append(f"recurrent models hear {warm_up_s:g} s before each segment")
    return Plan(
        models=loaded,
        inputs=fitting,
        distribution=Distribution(
            seed=int(seed),
            segments=tuple(each.frames - frames + 1 for each in fitting),
            knobs=_knobs_of(loaded, knobs or {}),
            gain_db=gain,
            flip=bool(flip),
        ),
        rate_hz=rate_hz,
        channels=fitting[0].channels,
        frames=frames,
        warm_up_frames=round(warm_up_s * rate_hz),
        notes=tuple(notes),
    )


def _check_number(
    what: str, value: object, least: float, most: float, *, whole: bool = False, open_below: bool = False
) -> None:
    fits = isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most
    if fits and not (open_below and value == least) and not (whole and int(value) != value):  # type: ignore[call-overload]
        return
    kind = "a whole number" if whole else "a number"
    bounds = f"above {least:g}, at most {most:g}" if open_below else f"from {least:g} to {most:g}"
    raise BacklineError(f"{what}: expected {kind} {bounds}, found {value}")


def _bounds(what: str, given: Bounds | float) -> Bounds:
    """Two numbers in order; one stands for itself twice."""
    pair = (given, given) if isinstance(given, Real) else given
    try:
        low, high = (float(value) for value in pair)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise BacklineError(f"{what}: expected a lower and a higher bound, found {given}")
    return low, high


def _rate_of(models: Iterable[Model], inputs: Sequence[Input]) -> int:
    """The one rate of a dataset: what models say, else what inputs have."""
    said = {model.sample_rate_hz: model.name for model in models if model.sample_rate_hz is not None}
    if not said:
        said = {float(each.rate_hz): os.fspath(each.path) for each in inputs}
    if len(said) > 1:
        (one_hz, one), (other_hz, other), *_ = said.items()
        raise BacklineError(f"a dataset has one rate: {one} is at {one_hz:g} Hz, {other} at {other_hz:g} Hz")
    ((rate_hz, name),) = said.items()
    if rate_hz != int(rate_hz):
        raise BacklineError(f"{name}: is at {rate_hz} Hz, audio files have a whole number of hertz")
    return int(rate_hz)


def _check_channels(models: Iterable[Model], inputs: Sequence[Input]) -> None:
    first = inputs[0]
    for each in inputs:
        if each.channels != first.channels:
            raise AudioFileError(
                f"{each.path}: has {each.channels} channels, {first.path} has {first.channels}; a dataset has "
                f"one number of channels, which --channels mono or 1 chooses"
            )
    made = {output_channels(model, first.path, first.channels): model.name for model in models}
    if len(made) > 1:
        (one, name), (other, other_name), *_ = made.items()
        raise ModelError(f"a dataset has one number of channels: {name} puts out {one}, {other_name} {other}")


def _long_enough(inputs: Sequence[Input], frames: int) -> tuple[tuple[Input, ...], list[str]]:
    fitting = tuple(each for each in inputs if each.frames >= frames)
    short = len(inputs) - len(fitting)
    if not fitting:
        longest = max(inputs, key=lambda each: each.frames)
        raise AudioFileError(
            f"{longest.path}: is {longest.frames / longest.rate_hz:.2f} s long, shorter than a segment of "
            f"{frames / longest.rate_hz:g} s, and no input is longer"
        )
    notes = []
    if short:
        names = ", ".join(os.fspath(each.path) for each in inputs if each.frames < frames)
        notes.append(f"{short} of {len(inputs)} inputs are shorter than a segment and left out: {names}")
    resampled = sum(each.file_hz != each.rate_hz for each in fitting)
    if resampled:
        notes.append(f"{resampled} of {len(inputs)} inputs are resampled to {fitting[0].rate_hz} Hz")
    return fitting, notes


def _knobs_of(models: Sequence[Model], given: KnobBounds) -> tuple[dict[str, Bounds], ...]:
    """Bounds of each model's knobs, in its order."""
    known = {name for model in models for name in model.knobs}
    for name in given:
        if name not in known:
            has = ", ".join(sorted(known)) or "none"
            raise ModelError(f"no model has a knob {name!r}; there are {has}")
    found = []
    for model in models:
        bounds = {}
        for name, knob in model.knobs.items():
            low, high = _bounds(f"knob {name}", given.get(name, (knob.minimum, knob.maximum)))
            try:
                bounds[name] = knob.checked(low), knob.checked(high)
            except ValueError as error:
                raise ModelError(f"{model.name}: {error}") from None
        found.append(bounds)
    return tuple(found)
