"""How a live session is to be: all that can be said before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..audiofile import PathLike
from .devices import Latency
from .messages import Open
from .slot import LiveModel


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a `session.LiveSession`.

    Attributes
    ----------
    device : int or str, optional
        For input and output, unless one is given for a direction: see :func:`find_device`. Where none is
        named and the machine has none, or no PortAudio, the clock is used; `notes` then says so.
    input_device, output_device : int or str, optional
    input_channels : sequence of int, optional
        From 1. As many as the model has, or for a mono model any number: each is a stream of its own. With a
        take, its channels are meant. By default the device's first, or all of the take's.
    output_channels : sequence of int, optional
        From 1. One for each channel the session puts out; a single one goes to all of these. By default the
        first two for one, and the first so many for more.
    rate_hz : float, optional
        The device's. By default that of the first model if the device takes it, else the device's own. Whole
        hertz: files hold no others.
    resampled : bool
        Resample around models made for another rate than the device's. Otherwise they sound different.
    oversample : bool
        Run models at whole multiples of their rate with scaled dilations, in place of resampling.
    block_frames : int, optional
        Of the device; left to PortAudio by default, 64 for the clock.
    latency_s : {"low", "high"} or float
        PortAudio's hint, or what to ask it for. The clock has none.
    input_gain_db, output_gain_db : float
        Before and after the model.
    bypass : bool
        Hear the input itself.
    knobs : mapping of str to float, optional
        Values of the models' own knobs from the first frame on.
    limiter : bool
        Keep what is above -1 dBFS below 0.
    take : str or path, optional
        Audio file the model hears in place of the device's input. The session ends with it.
    record : str or path, optional
        Audio file for all that comes out of the model, in the model's channels.
    to : str or path, optional
        Audio file for what the take becomes: as long as the take, in time with it.
    stats : str or path, optional
        JSON file for what the session counted and its last callbacks, written at its end.
    overwrite : bool
        Let `record`, `to` and `stats` replace existing files.
    watch : bool
        Load models again when their files change; a broken one leaves the old sound playing.
    auto_quality : bool
        Play the size of a model that the processor can carry, and another when that changes.
    """

    device: int | str | None = None
    input_device: int | str | None = None
    output_device: int | str | None = None
    input_channels: Sequence[int] | None = None
    output_channels: Sequence[int] | None = None
    rate_hz: float | None = None
    resampled: bool = True
    oversample: bool = False
    block_frames: int | None = None
    latency_s: Latency = "low"
    input_gain_db: float = 0.0
    output_gain_db: float = 0.0
    bypass: bool = False
    knobs: Mapping[str, float] | None = None
    limiter: bool = True
    take: PathLike | None = None
    record: PathLike | None = None
    to: PathLike | None = None
    stats: PathLike | None = None
    overwrite: bool = False
    watch: bool = False
    auto_quality: bool = False

    def wish(self, first: LiveModel) -> Open:
        """What to ask a worker for, to play this model first."""
        rates_hz = [rate for rate in (self.rate_hz, first.model.sample_rate_hz) if rate is not None][:1]
        return Open(
            source=self.device if self.input_device is None else self.input_device,
            sink=self.device if self.output_device is None else self.output_device,
            rates_hz=tuple(float(rate) for rate in rates_hz),
            must_fit=self.rate_hz is not None or not self.resampled,
            block_frames=self.block_frames or 0,
            latency=self.latency_s,
            input_channels=None if self.input_channels is None else tuple(self.input_channels),
            output_channels=None if self.output_channels is None else tuple(self.output_channels),
            model_inputs=first.model.input_channels,
            model_outputs=first.model.output_channels,
            take_channels=None,
        )
