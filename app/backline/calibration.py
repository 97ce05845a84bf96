"""Levels: how loud a model expects its input and gives its output, against an interface whose level is known.

A ``.nam`` file may say which level in dBu stood for 0 dBFS when it was trained, at the input and at the
output, and how loud its output is. An interface has such a level too, with its gain at zero: its data sheet's
"maximum input level" in dBu. From both follow the gains that make the model hear what the device it was made
of would have heard, and give what that would have given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any

from .errors import ModelError
from .formats._reading import describe

#: What models that only say their loudness are brought to, as NAM's own plugin does.
TARGET_LOUDNESS_DB = -18.0
_MOST_DBU = 60.0


@dataclass(frozen=True)
class Calibration:
    """Gains before and after the model, and what they come from.

    Attributes
    ----------
    input_gain_db, output_gain_db : float
    notes : tuple of str
        One sentence for each gain.
    """

    input_gain_db: float
    output_gain_db: float
    notes: tuple[str, ...]


def calibrate(metadata: Mapping[str, Any], interface_dbu: float) -> Calibration:
    """Work out the gains for an interface.

    Parameters
    ----------
    metadata : mapping
        A model's: ``input_level_dbu``, ``output_level_dbu`` and ``loudness`` (dB) are read where they are.
    interface_dbu : float
        The level at the interface's input, and from its output, that is 0 dBFS.

    Raises
    ------
    ModelError
        The model says none of these, something that is no number, or the interface's level is absurd.
    """
    level = _finite(interface_dbu)
    if level is None:
        raise ModelError(f"interface level: expected a number of dBu, found {describe(interface_dbu)}")
    if not -_MOST_DBU <= level <= _MOST_DBU:
        raise ModelError(f"an interface level of {level:g} dBu is outside -60 to 60")
    interface_dbu = level
    before, after, loudness = (
        _number(metadata, name) for name in ("input_level_dbu", "output_level_dbu", "loudness")
    )
    if before is None and after is None and loudness is None:
        raise ModelError("the model says neither input_level_dbu nor output_level_dbu nor loudness")
    notes = []
    input_db = output_db = 0.0
    if before is None:
        notes.append("input not calibrated: the model does not say its input_level_dbu")
    else:
        input_db = interface_dbu - before
        notes.append(
            f"input {input_db:+.1f} dB: 0 dBFS is {interface_dbu:g} dBu here, {before:g} for the model"
        )
    if after is not None:
        output_db = after - interface_dbu
        notes.append(
            f"output {output_db:+.1f} dB: 0 dBFS is {after:g} dBu for the model, {interface_dbu:g} here"
        )
    elif loudness is not None:
        output_db = TARGET_LOUDNESS_DB - loudness
        notes.append(f"output {output_db:+.1f} dB: brought from {loudness:g} dB to {TARGET_LOUDNESS_DB:g} dB")
    else:
        notes.append("output not calibrated: the model says neither output_level_dbu nor loudness")
    return Calibration(input_db, output_db, tuple(notes))


def _number(metadata: Mapping[str, Any], name: str) -> float | None:
    value = metadata.get(name)
    if value is None:
        return None
    number = _finite(value)
    if number is None:
        raise ModelError(f"metadata {name}: expected a number, found {describe(value)}")
    if abs(number) > 200.0:
        raise ModelError(f"metadata {name}: {number:g} is outside -200 to 200")
    return number


def _finite(value: object) -> float | None:
    """Return a number that is one, finite and no flag; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if isfinite(number) else None
