"""What can be asked of a render: everything that changes the samples or how they are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..audiofile import RawFormat
from ..errors import BacklineError
from ..passes import MAX_GAIN_DB

#: A tail is looked for this long where a model could sound for ever.
MAX_TAIL_S = 10.0
_MAX_RATE_HZ = 2_000_000
#: Each channel of the model's input: numbers, from 0, of the file's channels that it is the mean of.
ChannelMap = tuple[tuple[int, ...], ...]


def _named(option: str) -> dict[str, Any]:
    """What a field is called where its unit is left out: on the command line and in job files."""
    return {"option": option}


@dataclass(frozen=True)
class Normalize:
    """A level that a whole output is brought to: ``kind`` is ``"peak"`` (dBFS) or ``"lufs"``."""

    kind: str
    level: float


@dataclass(frozen=True)
class RenderOptions:
    """How a file is rendered.

    Attributes
    ----------
    subtype : str, optional
        libsndfile's name of how samples are stored; the format's best by default.
    rate_hz : int, optional
        The output's rate; the input's by default.
    channels : str, optional
        Which channels of the input are used, from 1: ``"2"``, ``"2,1"``, ``"1+2"`` for their mean,
        ``"mono"`` for the mean of all. As they are by default.
    start_s, duration_s : float, float or None
        The part of the input that is rendered. What is before it is heard by the model, if not by the
        listener: as far as the model can remember, 10 s at most.
    tail_s : float, optional
        Seconds after the input's end; as long as it sounds by default, 10 s at most where that can be for
        ever.
    gain_db : float
        After everything else.
    mix : float
        From 0, the input as it is, to 1, the model alone.
    normalize : str, optional
        ``"peak"`` or ``"lufs"``, with a level as in ``"peak:-1"`` (the default, in dBFS) or ``"lufs:-16"``
        (LUFS).
    dither : bool
        Whether samples stored in fewer bits than they are computed in are dithered.
    raw : str, optional
        How samples are stored in an input without a header, as `RawFormat.parse` reads it:
        ``"48000,2,PCM_16"``.

    Raises
    ------
    BacklineError
        A value out of its range; one sentence.
    """

    subtype: str | None = None
    rate_hz: int | None = field(default=None, metadata=_named("rate"))
    channels: str | None = None
    start_s: float = field(default=0.0, metadata=_named("start"))
    duration_s: float | None = field(default=None, metadata=_named("duration"))
    tail_s: float | None = field(default=None, metadata=_named("tail"))
    gain_db: float = field(default=0.0, metadata=_named("gain"))
    mix: float = 1.0
    normalize: str | None = None
    dither: bool = True
    raw: str | None = None

    def __post_init__(self) -> None:
        _check("start", self.start_s, 0.0, math.inf)
        _check("duration", self.duration_s, 0.0, math.inf, open_below=True)
        _check("tail", self.tail_s, 0.0, 3600.0)
        _check("gain", self.gain_db, -200.0, MAX_GAIN_DB)
        _check("mix", self.mix, 0.0, 1.0)
        _check("rate", self.rate_hz, 1, _MAX_RATE_HZ)
        self.level()
        self.raw_format()
        if self.channels is not None:
            channel_map(self.channels, 1 << 16)

    def raw_format(self) -> RawFormat | None:
        """What `raw` says."""
        return None if self.raw is None else RawFormat.parse(self.raw)

    def level(self) -> Normalize | None:
        """What `normalize` says."""
        if self.normalize is None:
            return None
        kind, colon, text = self.normalize.lower().partition(":")
        defaults = {"peak": -1.0, "lufs": -16.0}
        try:
            level = float(text) if colon else defaults[kind]
        except (ValueError, KeyError):
            level = math.nan
        if kind not in defaults or not -100.0 <= level <= 20.0:
            raise BacklineError(
                f"normalize: expected peak, peak:DBFS, lufs or lufs:LUFS, found {self.normalize!r}"
            )
        return Normalize(kind, level)


def _check(what: str, value: float | None, least: float, most: float, *, open_below: bool = False) -> None:
    if value is None:
        return
    fits = isinstance(value, (int, float)) and math.isfinite(value) and least <= value <= most
    if not fits or (open_below and value == least):
        bounds = f"from {least:g} to {most:g}" if math.isfinite(most) else f"of at least {least:g}"
        bounds = "above 0" if open_below else bounds
        raise BacklineError(f"{what}: expected a number {bounds}, found {value}")


def channel_map(text: str, channels: int) -> ChannelMap:
    """Read `RenderOptions.channels` for a file of that many channels.

    Raises
    ------
    BacklineError
        It is no such list, or names a channel that the file has not.
    """
    if text.strip().lower() == "mono":
        return (tuple(range(channels)),)
    try:
        found = tuple(tuple(int(number) - 1 for number in part.split("+")) for part in text.split(","))
    except ValueError:
        raise BacklineError(
            f"channels: expected a list such as 2 or 1,2 or 1+2 or mono, found {text!r}"
        ) from None
    for number in (number for part in found for number in part):
        if number < 0:
            raise BacklineError(f"channels: there is no channel {number + 1}, they are counted from 1")
        if number >= channels:
            raise BacklineError(f"channels: there is no channel {number + 1}, the file has {channels}")
    return found
