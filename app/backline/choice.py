"""Which model, and how it is set up, in plain values that can be compared, kept and sent elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePath

from . import api
from .calibration import calibrate
from .engine import Model, levelled
from .errors import ModelError
from .formats import naming


@dataclass(frozen=True)
class ModelChoice:
    """A model and how it is set up: everything of a job's sound that is not in its input.

    Attributes
    ----------
    path : str
        A model file, its URL, or the name of a shipped model.
    quality : float
        From 0 to 1: which size of a model that comes in several.
    knobs : tuple of (name, value)
        Where knobs stand.
    prewarm : int or None
        Frames of silence to settle on; None for the model's own.
    layers : str or None
        JSON text of the layers of a PyTorch state_dict.
    gain_in_db, gain_out_db : float
        Before and after the model.
    calibrate_dbu : float or None
        The interface's input level that is 0 dBFS.
    """

    path: str
    quality: float = 1.0
    knobs: tuple[tuple[str, float], ...] = ()
    prewarm: int | None = None
    layers: str | None = None
    gain_in_db: float = 0.0
    gain_out_db: float = 0.0
    calibrate_dbu: float | None = None

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return PurePath(self.path).stem


@dataclass(frozen=True)
class Chosen:
    """A model as chosen, ready to render; `notes` is what a user should know of it."""

    model: Model
    notes: tuple[str, ...]


def load(choice: ModelChoice) -> Chosen:
    """Load a model as chosen.

    Raises
    ------
    BacklineError
        See `backline.load`.
    """
    layers = None
    if choice.layers is not None:
        try:
            layers = json.loads(choice.layers)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{choice.path}: its layers are no JSON: {error}") from None
    model = api.load(
        choice.path,
        quality=choice.quality,
        prewarm=True if choice.prewarm is None else choice.prewarm,
        layers=layers,
        knobs=dict(choice.knobs),
    )
    notes = model.notes
    gains = [choice.gain_in_db, choice.gain_out_db]
    with naming(choice.path):
        if choice.calibrate_dbu is not None:
            try:
                calibration = calibrate(model.metadata, choice.calibrate_dbu)
            except ModelError as error:
                raise ModelError(f"calibrate: {error}") from error
            gains[0] += calibration.input_gain_db
            gains[1] += calibration.output_gain_db
            notes = (*notes, *calibration.notes)
        model = levelled(model, *gains)
    return Chosen(model, notes)
