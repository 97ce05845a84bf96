"""What cannot be read or rendered, and what that means for a dataset.

A failure that comes of what an input holds comes again each time: the pair is left out, and that is as much
part of the dataset as the pairs that are in it. Any other failure, such as a server that does not answer,
says nothing about the dataset: the shard stays unwritten, for another run to make. And an input that is not
any more what the dataset was planned with makes it impossible."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..audiofile import PathLike
from ..engine import Model
from ..errors import AudioFileError, ModelError
from ..pending import reason
from .draws import Draw
from .inputs import Input, open_input, stamp_of
from .options import PairChoices, PairOptions
from .pairs import Pair, PairMaker
from .plan import Plan, plan

if TYPE_CHECKING:
    from typing_extensions import Unpack

_READ_BYTES = 1 << 20


class InputChanged(AudioFileError):
    """An input is not what it was: its dataset cannot be finished."""


class InputAway(AudioFileError):
    """An input cannot be read just now."""


@dataclass(frozen=True)
class LeftOut:
    """An item whose pair cannot be made, of equal arguments never: its number, and why not."""

    item: int
    error: str


@dataclass(frozen=True)
class ReadablePlan:
    """A plan with those inputs that can be read, from the first byte to the last.

    Attributes
    ----------
    plan : Plan
    hashes : tuple of str
        SHA-256 of each of its inputs.
    errors : tuple of str
        Why the others cannot be read.
    """

    plan: Plan
    hashes: tuple[str, ...]
    errors: tuple[str, ...]


def plan_readable(
    models: Sequence[Model | PathLike], inputs: Sequence[PathLike], **how: Unpack[PairChoices]
) -> ReadablePlan:
    """Plan as `plan` does, but leave out what cannot be read.

    Raises
    ------
    AudioFileError
        No input can be read.
    InputChanged
        One was written to meanwhile.
    BacklineError
        See `plan`.
    """
    channels = PairOptions(**how).channels
    usable: list[PathLike] = []
    errors: list[AudioFileError] = []
    for path in inputs:
        try:
            open_input(path, channels)
            usable.append(path)
        except AudioFileError as error:
            errors.append(error)
    hashes: dict[Input, str] = {}
    while True:
        if errors and not usable:
            also = f"; and no other of {len(errors)} inputs can be read" if len(errors) > 1 else ""
            raise AudioFileError(f"{errors[0]}{also}") from errors[0]
        # What does not fit together is found before hours of audio are read.
        planned = plan(models, usable, **how)
        damaged = set()
        for each in planned.inputs:
            try:
                hashes[each] = hashes.get(each) or _hash_of(each)
            except InputChanged:
                raise
            except AudioFileError as error:
                damaged.add(each.path)
                errors.append(error)
        if not damaged:
            found = tuple(hashes[each] for each in planned.inputs)
            return ReadablePlan(planned, found, tuple(map(str, errors)))
        usable = [path for path in usable if Path(path) not in damaged]


class Judge:
    """Makes pairs, and tells apart why some cannot be made; for all threads.

    Parameters
    ----------
    of : ReadablePlan
    """

    def __init__(self, of: ReadablePlan) -> None:
        self._inputs, self._hashes = of.plan.inputs, of.hashes
        self._same: set[int] = set()

    def made(self, maker: PairMaker, draw: Draw) -> Pair | LeftOut:
        """A draw's pair, or why there is none.

        Raises
        ------
        InputChanged, InputAway
            That is not known, because the input is not what it was, or cannot be looked at.
        """
        try:
            try:
                return maker.make(draw)
            except AudioFileError as error:
                self._check_same(draw.input, error)
            # It was no fault of the file's if it can be read now.
            return maker.make(draw)
        except (InputChanged, InputAway):
            raise
        except ModelError as error:
            return LeftOut(draw.item, str(error))
        except AudioFileError as error:
            self._check_same(draw.input, error)
            return LeftOut(draw.item, str(error))

    def _check_same(self, number: int, error: AudioFileError) -> None:
        """Raise unless an input holds what it held when it was planned with."""
        source = self._inputs[number]
        try:
            if number in self._same:
                _check_stamp(source)
            elif _hash_of(source) != self._hashes[number]:
                raise _changed(source)
        except InputChanged:
            raise
        except AudioFileError:
            raise InputAway(str(error)) from error
        self._same.add(number)


def sentences(left_out: Sequence[LeftOut]) -> list[str]:
    """What to say of them: for each file or model the first reason, and how many pairs it cost."""
    of: dict[str, list[LeftOut]] = {}
    for each in left_out:
        of.setdefault(each.error.partition(": ")[0], []).append(each)
    return [
        f"{found[0].error} ({'1 pair' if len(found) == 1 else f'{len(found)} pairs'} left out)"
        for found in of.values()
    ]


def _hash_of(source: Input) -> str:
    """Of the file that was planned with; raises `InputChanged` if it is another one."""
    found = hashlib.sha256()
    try:
        with open(source.path, "rb") as file:
            while data := file.read(_READ_BYTES):
                found.update(data)
    except OSError as error:
        raise AudioFileError(f"{source.path}: cannot be read: {reason(error)}") from error
    _check_stamp(source)
    return found.hexdigest()


def _check_stamp(source: Input) -> None:
    if stamp_of(source.path) != source.stamp:
        raise _changed(source)


def _changed(source: Input) -> InputChanged:
    return InputChanged(f"{source.path}: has changed since the dataset was planned")
