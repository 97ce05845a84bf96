"""Models and inputs put together: checked once, so that rendering only has to draw and render."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..api import load
from ..audiofile import PathLike
from ..engine import Model
from ..errors import AudioFileError, BacklineError, ModelError
from ..render.take import output_channels
from .draws import Bounds, Distribution
from .inputs import Input, open_input
from .options import KnobBounds, PairChoices, PairOptions, bounds_of
from .pairs import PairMaker

if TYPE_CHECKING:
    from typing_extensions import Unpack


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


def plan(models: Sequence[Model | PathLike], inputs: Sequence[PathLike], **how: Unpack[PairChoices]) -> Plan:
    """Check what pairs are to be made of, and look at every file.

    Parameters
    ----------
    models : sequence of Model, path or shipped name
        Each as likely as any other.
    inputs : sequence of paths
        Audio files; those shorter than a segment are left out, which a note says. All are read at the rate
        of the models, or at their own where no model says one.
    **how
        What `PairOptions` has.

    Raises
    ------
    BacklineError
        What does not fit together; one sentence.
    """
    options = PairOptions(**how)
    if not models or not inputs:
        raise BacklineError(f"pairs are made of a model and audio, found no {'audio' if models else 'model'}")
    loaded = tuple(each if isinstance(each, Model) else load(each) for each in models)
    opened = [open_input(path, options.channels) for path in inputs]
    rate_hz = _rate_of(loaded, opened)
    frames = max(1, round(options.segment_s * rate_hz))
    _check_channels(loaded, opened)
    fitting, notes = _long_enough([each.at_rate(rate_hz) for each in opened], frames)
    if any(model.receptive_field_frames is None for model in loaded):
        notes.append(f"recurrent models hear {options.warm_up_s:g} s before each segment")
    return Plan(
        models=loaded,
        inputs=fitting,
        distribution=Distribution(
            seed=int(options.seed),
            segments=tuple(each.frames - frames + 1 for each in fitting),
            knobs=_knobs_of(loaded, options.knobs or {}),
            gain_db=bounds_of("gain", options.gain_db),
            flip=bool(options.flip),
        ),
        rate_hz=rate_hz,
        channels=fitting[0].channels,
        frames=frames,
        warm_up_frames=round(options.warm_up_s * rate_hz),
        notes=tuple(notes),
    )


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
                f"{each.path}: has {each.channels} channels, {first.path} has {first.channels}; choose with "
                f"channels: mono or 1, say"
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
            low, high = bounds_of(f"knob {name}", given.get(name, (knob.minimum, knob.maximum)))
            try:
                bounds[name] = knob.checked(low), knob.checked(high)
            except ValueError as error:
                raise ModelError(f"{model.name}: {error}") from None
        found.append(bounds)
    return tuple(found)
