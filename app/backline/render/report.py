"""What became of one file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..compare import Null


@dataclass(frozen=True)
class RenderReport:
    """What became of one file.

    Attributes
    ----------
    source, target : Path
    frames, channels, rate_hz : int
        Of the output.
    subtype : str
        What the samples were written as; libsndfile's name.
    elapsed_s : float
        Reading, processing, measuring and writing together, from the first frame to the file's new name.
    peak_dbfs : float or None
        Sample peak of the output before it was written; None for silence.
    lufs : float or None
        Integrated loudness of the output; None where not measurable (silence, shorter than 400 ms).
    clipped : int
        Output samples cut at full scale by the format.
    resampled : tuple of float or None
        (the file's rate, the model's rate) in hertz, if they differ.
    file_rate_hz : int
        The input's.
    null : Null, optional
        What is left when a reference is subtracted, if there was one.
    notes : tuple of str
        Further things a user should know.
    """

    source: Path
    target: Path
    frames: int
    channels: int
    rate_hz: int
    subtype: str
    elapsed_s: float
    peak_dbfs: float | None
    lufs: float | None
    clipped: int
    resampled: tuple[float, float] | None
    notes: tuple[str, ...] = ()
    file_rate_hz: int | None = None
    null: Null | None = None

    @property
    def duration_s(self) -> float:
        """Length of the audio."""
        return self.frames / self.rate_hz

    @property
    def times_real_time(self) -> float:
        """Seconds of audio per second of work."""
        return self.duration_s / self.elapsed_s if self.elapsed_s > 0 else math.inf

    def __str__(self) -> str:
        peak = "silent" if self.peak_dbfs is None else f"peak {self.peak_dbfs:+.1f} dBFS"
        loudness = "loudness not measurable" if self.lufs is None else f"{self.lufs:.1f} LUFS"
        parts = [
            f"{self.duration_s:.2f} s",
            f"{self.times_real_time:.0f} times real time",
            peak,
            loudness,
        ]
        if self.clipped:
            parts.append(f"{self.clipped} samples clipped")
        if self.resampled:
            back = "and back" if self.file_rate_hz in (None, self.rate_hz) else f"-> {self.rate_hz} Hz"
            parts.append(f"resampled {self.resampled[0]:g} -> {self.resampled[1]:g} Hz {back}")
        return f"{self.target}: {', '.join([*parts, *self.notes])}"
