"""The models of a session, one of which is wanted; levels are the session's, knobs are each model's."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from ..engine import Model
from ..errors import BacklineError, ModelError
from ..graph import Graph
from ..passes import BYPASS, INPUT_GAIN, gain_factor
from .slot import LiveModel, Slot, checked_values, prepared, streams_for
from .status import ModelView


class Shelf:
    """All models of a session. Not thread-safe: whoever owns it locks.

    Parameters
    ----------
    models : sequence of LiveModel
        At least one.
    input_gain_db, output_gain_db : float
        In front of all models; behind each of them to begin with.
    bypass : bool
    knobs : mapping of str to float
        Where knobs stand from the start, in all models that have them; the first has to have them all.
    resampled, oversample : bool
        As for `slot.prepared`.

    Attributes
    ----------
    playing : int
        Index of the model that is wanted.
    levels : dict
        Input gain in dB and bypass, 0 or 1; where a model has none, it waits for the next.
    rows : (int, int)
        Input and output rows of the session, once it is laid out.
    """

    def __init__(
        self,
        models: Sequence[LiveModel],
        *,
        input_gain_db: float = 0.0,
        output_gain_db: float = 0.0,
        bypass: bool = False,
        knobs: Mapping[str, float] | None = None,
        resampled: bool = True,
        oversample: bool = False,
    ) -> None:
        if not models:
            raise BacklineError("a session needs a model")
        self.playing = 0
        self.levels = {INPUT_GAIN: float(input_gain_db), BYPASS: float(bypass)}
        self.rows = (0, 0)
        self.rate_hz = 0.0
        self._how = {"resampled": resampled, "oversample": oversample}
        self._numbers = itertools.count(1)
        self.slots: list[Slot] = []
        for model in models:
            own = {knob.name for knob in model.model.graph.knobs}
            values = {name: value for name, value in (knobs or {}).items() if name in own or not self.slots}
            self.slots.append(
                Slot(
                    model,
                    next(self._numbers),
                    model.model.graph,
                    model.quality,
                    checked_values(model.model.graph, values),
                    float(output_gain_db),
                )
            )
            gain_factor(input_gain_db + model.input_trim_db)  # refuse what is out of range
            gain_factor(output_gain_db + model.output_trim_db)

    @property
    def input_gain_db(self) -> float:
        """In front of all models."""
        return self.levels[INPUT_GAIN]

    @property
    def bypass(self) -> bool:
        """Whether the input itself is heard."""
        return self.levels[BYPASS] > 0.0 and self.current.has_bypass

    @property
    def current(self) -> Slot:
        """The model that is wanted."""
        return self.slots[self.playing]

    def lay_out(self, rate_hz: float, rows: tuple[int, int]) -> list[str]:
        """Make all models ready for a session of this rate and these rows.

        Returns
        -------
        list of str
            What a user should know.

        Raises
        ------
        BacklineError
            The model that is wanted cannot be played so; another that cannot has a `problem` instead.
        """
        self.rate_hz, self.rows = rate_hz, rows
        notes: list[str] = []
        for index, slot in enumerate(self.slots):
            try:
                notes += self._make_ready(slot)
            except BacklineError as error:
                if index == self.playing:
                    raise
                slot.problem = str(error)
                notes.append(f"{slot.model.name} cannot be played: {error}")
        self._check_bypass()
        return notes

    def _make_ready(self, slot: Slot) -> list[str]:
        streams_for(slot.model, self.rows)
        slot.graph, notes = prepared(slot.model.graph, self.rate_hz, **self._how)
        slot.problem = None
        return notes

    def prepare(self, model: Model) -> Graph:
        """A model as it would be played here; raises `BacklineError` if it cannot be."""
        return prepared(model.graph, self.rate_hz, **self._how)[0]

    def _check_bypass(self) -> None:
        slot = self.current
        if self.levels[BYPASS] and not slot.has_bypass:
            raise BacklineError(
                f"{slot.model.name}: has no bypass: {slot.model.input_channels} channels go in, "
                f"{slot.model.output_channels} come out"
            )

    def choose(self, index: int) -> Slot:
        """Want another model; the index wraps around. Raises `BacklineError` if it cannot be played."""
        index %= len(self.slots)
        slot = self.slots[index]
        if slot.load is None and slot.problem is not None:
            raise BacklineError(f"{slot.model.name} cannot be played: {slot.problem}")
        self.playing = index
        return slot

    def set(self, knobs: Mapping[str, float]) -> dict[str, float]:
        """Remember values of the current model's own knobs; raises `BacklineError` for what it has not."""
        values = checked_values(self.current.model.graph, knobs)
        self.current.values.update(values)
        return values

    def set_levels(
        self, input_gain_db: float | None, output_gain_db: float | None, bypass: bool | None
    ) -> dict[str, float]:
        """Remember levels; returns the values of all level knobs of the current model.

        Raises
        ------
        BacklineError
            A gain is out of range, or the model has no bypass; nothing is changed then.
        """
        slot, before = self.current, (dict(self.levels), self.current.output_gain_db)
        try:
            if input_gain_db is not None:
                self.levels[INPUT_GAIN] = float(input_gain_db)
            if output_gain_db is not None:
                slot.output_gain_db = float(output_gain_db)
            if bypass is not None:
                self.levels[BYPASS] = float(bypass)
                self._check_bypass()
            return slot.level_values(self.levels)
        except BacklineError:
            self.levels, slot.output_gain_db = before
            raise

    def values_for(self, number: int, values: Mapping[str, float]) -> Mapping[str, float]:
        """What to turn of the version that plays when `values` of the current model have been set.

        Where it is an older version of that model, the knobs it has too; where it is another model, the
        session's levels: its own stay where they stand.
        """
        slot = self.current
        for version in (slot, *slot.versions_before):
            if version.number == number:
                known = {knob.name for knob in version.graph.knobs}
                return {name: value for name, value in values.items() if name in known}
        other = self.find(number)
        return {} if other is None else other.level_values(self.levels)

    def replace(self, index: int, model: Model, quality: float) -> tuple[Slot, list[str]]:
        """Put another version of a model in its place; its knobs stay where they stand, if it has them.

        Raises
        ------
        BacklineError
            It cannot be played; the old one stays.
        """
        old = self.slots[index]
        known = {knob.name: knob for knob in model.graph.knobs}
        values = {
            name: min(max(value, known[name].minimum), known[name].maximum)
            for name, value in old.values.items()
            if name in known
        }
        source, notes = old.source.renewed(model)
        new = Slot(
            source,
            next(self._numbers),
            model.graph,
            quality,
            values,
            old.output_gain_db,
            older=old if old.load is not None else old.older,
        )
        notes += self._make_ready(new)
        new.level_values(self.levels)  # refuse what is out of range
        self.slots[index] = new
        return new, notes

    def put_back(self, slot: Slot, why: str) -> Slot | None:
        """Let the version before this one be the model's again, as this cannot be played; None if none is."""
        older = slot.older
        if older is not None:
            known = older.values.keys() & slot.values.keys()
            older.values.update({name: slot.values[name] for name in known})
            older.output_gain_db, older.stale = slot.output_gain_db, why
            self.slots[:] = [older if each is slot else each for each in self.slots]
        return older

    def find(self, number: int) -> Slot | None:
        """The model whose version has this number; None if it has been replaced."""
        return next((slot for slot in self.slots if slot.number == number), None)

    def views(self) -> tuple[ModelView, ...]:
        """What a screen shows of all."""
        return tuple(slot.view(self.rate_hz or 1.0) for slot in self.slots)

    def check_rate(self) -> None:
        """Raise `ModelError` if the model to begin with changes the rate, before any device is looked for."""
        graph = self.current.model.graph
        rate = graph.signals[graph.output].rate
        if rate != 1:
            raise ModelError(f"{graph.name}: puts out {rate} frames per frame of input; live needs as many")
