"""One model of a live session: where it comes from, how it is made ready, where its knobs stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..calibration import Calibration
from ..engine import Model
from ..errors import ModelError
from ..formats import backline_file
from ..graph import Graph
from ..passes import BYPASS, INPUT_GAIN, OUTPUT_GAIN, gain_factor, with_levels
from ..rates import at_rate, oversampled
from .messages import Compile, Entrance
from .status import ModelView

#: How long a model hears the input before it is heard, at most.
MOST_WARM_SECONDS = 0.15
FADE_SECONDS = 0.02


@dataclass(frozen=True)
class LiveModel:
    """A model to be played, and where another version of it comes from.

    Attributes
    ----------
    model : Model
    path : Path or None
        Its file, to be watched; None if there is none.
    load : callable or None
        Loads it again; takes ``quality``.
    quality : float
        At which it was loaded.
    input_trim_db, output_trim_db : float
        Gains that belong to it, from calibration say, on top of the session's.
    calibrate : callable or None
        Says them of another version of the model; None where they stay.
    """

    model: Model
    path: Path | None = None
    load: Callable[..., Model] | None = None
    quality: float = 1.0
    input_trim_db: float = 0.0
    output_trim_db: float = 0.0
    calibrate: Callable[[Model], Calibration] | None = None

    def renewed(self, model: Model) -> tuple[LiveModel, list[str]]:
        """Another version of it, and what to say of its gains where they are others.

        Raises
        ------
        ModelError
            It cannot be calibrated.
        """
        if self.calibrate is None:
            return replace(self, model=model), []
        found = self.calibrate(model)
        gains_db = (found.input_gain_db, found.output_gain_db)
        notes = [] if gains_db == (self.input_trim_db, self.output_trim_db) else list(found.notes)
        return replace(self, model=model, input_trim_db=gains_db[0], output_trim_db=gains_db[1]), notes


@dataclass
class Slot:
    """One of a session's models, in the version that is played.

    Attributes
    ----------
    source : LiveModel
    number : int
        Of this version, in messages.
    graph : Graph
        With levels around it, at the session's rate.
    quality : float
        At which it was loaded.
    values : dict
        Where its own knobs stand.
    output_gain_db : float
    load : float or None
        Share of the time a block lasts that it takes alone; None until a worker has measured it.
    problem : str or None
        Why it cannot be played.
    stale : str or None
        Why it is no newer, though it plays.
    older : Slot or None
        The version before, which plays until a worker has made this one ready.
    """

    source: LiveModel
    number: int
    graph: Graph
    quality: float = 1.0
    values: dict[str, float] = field(default_factory=dict)
    output_gain_db: float = 0.0
    load: float | None = None
    problem: str | None = None
    stale: str | None = None
    older: Slot | None = None

    @property
    def model(self) -> Model:
        """As it was loaded."""
        return self.source.model

    @property
    def has_bypass(self) -> bool:
        """Whether the input itself can be heard in its place."""
        return any(knob.name == BYPASS for knob in self.graph.knobs)

    @property
    def versions_before(self) -> list[Slot]:
        """Those that could still be gone back to, the latest first."""
        return [] if self.older is None else [self.older, *self.older.versions_before]

    def view(self, rate_hz: float) -> ModelView:
        """What a screen shows of it."""
        loudness = self.model.metadata.get("loudness")
        return ModelView(
            name=self.model.name,
            knobs=self.model.graph.knobs,
            values=dict(self.values),
            output_gain_db=self.output_gain_db,
            loudness_db=float(loudness) if isinstance(loudness, int | float) else None,
            latency_ms=1e3 * self.graph.latency_frames / rate_hz,
            problem=self.problem or self.stale,
        )

    def compile_message(self, streams: int, block_frames: int, rate_hz: float) -> Compile:
        """What gets it ready in a worker."""
        return Compile(self.number, streams, block_frames, rate_hz, backline_file.encode(self.graph))

    def entrance(
        self, serial: int, levels: Mapping[str, float], rate_hz: float, *, alone: bool = False
    ) -> Entrance:
        """How it gets in: warmed for what it remembers, at most `MOST_WARM_SECONDS`, then crossfaded."""
        most = round(MOST_WARM_SECONDS * rate_hz)
        reach = self.graph.receptive_field_frames
        return Entrance(
            self.number,
            serial,
            {**self.level_values(levels), **self.values},
            latency_frames=self.graph.latency_frames,
            warm_frames=most if reach is None else min(reach, most),
            fade_frames=round(FADE_SECONDS * rate_hz),
            alone=alone,
        )

    def level_values(self, levels: Mapping[str, float]) -> dict[str, float]:
        """Values of the level knobs: `levels` holds the session's input gain in dB and its bypass.

        Raises
        ------
        BacklineError
            A gain is out of range.
        """
        gains = {
            INPUT_GAIN: levels[INPUT_GAIN] + self.source.input_trim_db,
            OUTPUT_GAIN: self.output_gain_db + self.source.output_trim_db,
        }
        values = {name: gain_factor(gain_db) for name, gain_db in gains.items()}
        if self.has_bypass:
            values[BYPASS] = levels[BYPASS]
        return values


@dataclass(frozen=True)
class Sent:
    """A model that a worker was told to play: its number, the serial it got in as, latency, measured load."""

    number: int
    serial: int
    latency_frames: int
    load: float


def prepared(graph: Graph, rate_hz: float, *, resampled: bool, oversample: bool) -> tuple[Graph, list[str]]:
    """A model as it is played: at the session's rate, levels around it.

    Parameters
    ----------
    graph : Graph
    rate_hz : float
    resampled : bool
        Resample around a model made for another rate; otherwise it just runs, and sounds different.
    oversample : bool
        Scale its dilations instead, where the rate is a whole multiple of the model's.

    Returns
    -------
    Graph, list of str
        And what a user should know about it.

    Raises
    ------
    ModelError
        It puts out more or fewer frames than go in, or cannot be brought to the rate.
    """
    rate = graph.signals[graph.output].rate
    if rate != 1:
        raise ModelError(f"{graph.name}: puts out {rate} frames per frame of input; live needs as many")
    own = graph.sample_rate_hz
    notes: list[str] = []
    if own is None or own == rate_hz:
        return with_levels(graph), notes
    if not resampled:
        notes.append(
            f"{graph.name}: running at {rate_hz:g} Hz a model made for {own:g} Hz: it sounds different"
        )
        return with_levels(graph), notes
    if oversample and (rate_hz / own).is_integer():
        notes.append(f"{graph.name}: runs at {rate_hz / own:g} times its rate of {own:g} Hz")
        return with_levels(oversampled(graph, round(rate_hz / own))), notes
    moved = at_rate(graph, rate_hz)
    delay_ms = 1e3 * (moved.latency_frames / rate_hz - graph.latency_frames / own)
    notes.append(
        f"{graph.name}: made for {own:g} Hz, resampled from and to {rate_hz:g} Hz: {delay_ms:.1f} ms later"
    )
    return with_levels(moved), notes


def streams_for(model: Model, rows: tuple[int, int]) -> int:
    """How many streams of a model make the session's input and output rows.

    Raises
    ------
    ModelError
        No number of them does.
    """
    streams = rows[0] // model.input_channels
    if (streams * model.input_channels, streams * model.output_channels) != rows or streams < 1:
        raise ModelError(
            f"{model.name}: takes {model.input_channels} and gives {model.output_channels} channels; this "
            f"session has {rows[0]} going in and {rows[1]} coming out"
        )
    return streams


def checked_values(graph: Graph, knobs: Mapping[str, float]) -> dict[str, float]:
    """The values, each within its knob's range.

    Raises
    ------
    BacklineError
        There is no such knob, or a value is out of its range.
    """
    graph.with_knobs(knobs)
    return {name: float(value) for name, value in knobs.items()}
