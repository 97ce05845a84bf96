"""What two takes have in common and what they have not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..audiofile import PathLike
from ..loudness import LoudnessMeter
from .alignment import Alignment, align, delayed_pairs
from .null_meter import Sums, power_db
from .profiles import Profile, Profiler
from .stft_distance import StftDistance, StftMeter
from .takes import ArrayTake, FileTake, Take, length_notes, matched, paired

Array = NDArray[np.float32]
#: Called with what is being done, frames done and frames in all.
Progress = Callable[[Path, int, int], None]


@dataclass(frozen=True)
class Level:
    """How loud a take is, where both have audio.

    Attributes
    ----------
    peak_dbfs : float or None
        Of samples; None for silence.
    rms_dbfs : float or None
        Root of the mean square of all channels: -3.01 for a sine at full scale; None for silence.
    lufs : float or None
        Integrated, after BS.1770-4; None where not measurable.
    """

    peak_dbfs: float | None
    rms_dbfs: float | None
    lufs: float | None


@dataclass(frozen=True)
class Aligned:
    """What is left once the second take has been moved by its delay, and turned over if it is upside down.

    Attributes
    ----------
    frames : int
        That both have then; a few hundred less where a fraction of a frame asks for interpolation.
    esr, null_depth_db : float or None
        As in `Comparison`.
    gain_esr, gain_null_depth_db : float or None
        The same with the second take also scaled by `gain_db`.
    gain_db : float or None
        The gain that leaves least; None where the second is silent or has nothing of the first.
    stft : StftDistance or None
    profile : Profile or None
        For a picture, where asked for.
    """

    frames: int
    esr: float | None
    null_depth_db: float | None
    gain_esr: float | None
    gain_null_depth_db: float | None
    gain_db: float | None
    stft: StftDistance | None
    profile: Profile | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Comparison:
    """What two takes have in common, and what not.

    Attributes
    ----------
    a_name, b_name : str
    rate_hz : float
        Of the first; the second was resampled to it if it had another.
    channels, frames : int
        That were compared.
    identical : bool
        Every sample compared is the same, as 32-bit float.
    whole : bool
        The takes have the same length, rate and channels: nothing but samples can differ.
    esr : float or None
        Error-to-signal ratio: energy of A less B over the energy of A, all channels together; None where A
        is silent.
    null_depth_db : float or None
        Level of the difference in relation to A's, in dB (the same ratio); None also where nothing is left.
    a, b : Level
    stft : StftDistance or None
        None where too short, or A is silent, or not asked for.
    delay_frames, delay_ms : float or None
        How late B is; negative where it is early. None where it cannot be told, or was not asked for.
    correlation : float or None
        0 to 1, with the delay taken away.
    polarity : int or None
        1, or -1 if B is upside down; None where it cannot be told.
    aligned : Aligned or None
        None without a delay, or where too little is left to interpolate in.
    notes : tuple of str
        What was done to make them comparable.
    profile : Profile or None
        For a picture, where asked for.
    """

    a_name: str
    b_name: str
    rate_hz: float
    channels: int
    frames: int
    identical: bool
    whole: bool
    esr: float | None
    null_depth_db: float | None
    a: Level
    b: Level
    stft: StftDistance | None
    delay_frames: float | None = None
    delay_ms: float | None = None
    correlation: float | None = None
    polarity: int | None = None
    aligned: Aligned | None = None
    notes: tuple[str, ...] = ()
    profile: Profile | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON-ready values, but for profiles; None where something does not exist."""
        found = _plain(self)
        found["lufs_difference"] = difference(self.a.lufs, self.b.lufs)
        found["peak_difference_db"] = difference(self.a.peak_dbfs, self.b.peak_dbfs)
        found["rms_difference_db"] = difference(self.a.rms_dbfs, self.b.rms_dbfs)
        return found


def _plain(value: Any) -> dict[str, Any]:
    found = {}
    for name in value.__dataclass_fields__:
        each = getattr(value, name)
        if name != "profile":
            found[name] = _plain(each) if hasattr(each, "__dataclass_fields__") else each
    return found


def difference(a: float | None, b: float | None) -> float | None:
    """By how much `b` is above `a`; None unless both exist."""
    return None if a is None or b is None else b - a


def compare(
    a_path: PathLike,
    b_path: PathLike,
    *,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    **options: Any,
) -> Comparison:
    """Compare two audio files.

    Parameters
    ----------
    a_path, b_path : str or path
        The first is the reference.
    start_seconds : float
        Where to begin in both.
    duration_seconds : float, optional
    **options
        As for `compare_takes`.

    Raises
    ------
    AudioFileError
        A file that cannot be read, or changes meanwhile.
    BacklineError
        Numbers of channels that differ, with neither being 1.
    """
    takes = [FileTake(path, start_seconds, duration_seconds) for path in (a_path, b_path)]
    notes = [f"{take.name}: its samples are read as 32-bit float" for take in takes if take.is_narrowed]
    if start_seconds or duration_seconds is not None:
        rate_hz = takes[0].rate_hz
        first = takes[0].start_frame / rate_hz
        notes.append(f"compared is what lies from {first:g} to {first + takes[0].frames / rate_hz:g} s")
    return compare_takes(takes[0], takes[1], notes=notes, **options)


def compare_arrays(a: ArrayLike, b: ArrayLike, rate_hz: float, **options: Any) -> Comparison:
    """Compare two signals in memory, float ``[frames]`` or ``[frames, channels]``; see `compare_takes`."""
    return compare_takes(ArrayTake(a, rate_hz, "A"), ArrayTake(b, rate_hz, "B"), **options)


def compare_takes(
    a: Take,
    b: Take,
    *,
    with_alignment: bool = True,
    with_stft: bool = True,
    with_profile: bool = False,
    notes: list[str] | None = None,
    on_progress: Progress | None = None,
) -> Comparison:
    """Compare two takes.

    Parameters
    ----------
    a, b : Take
        The first is the reference.
    with_alignment : bool
        Look for delay and polarity, and measure once more without them.
    with_stft : bool
        Measure the STFT distance, which takes most of the time.
    with_profile : bool
        Gather what a picture needs.
    notes : list of str, optional
        Said first.
    on_progress : callable, optional
        Called with what is being done (as a path), frames done and frames in all.
    """
    original = a, b
    a, b, made = matched(a, b)
    frames = min(a.frames, b.frames)
    pass_ = _Pass(a, with_stft, with_profile)
    levels = LoudnessMeter(a.rate_hz, a.channels), LoudnessMeter(a.rate_hz, a.channels)
    for x, y in _watched(paired(a.blocks(), b.blocks()), "as they are", frames, on_progress):
        pass_.add(x, y)
        for meter, block in zip(levels, (x, y), strict=True):
            meter.add(block)
    null_depth = pass_.sums.null()
    found = Comparison(
        a_name=a.name,
        b_name=b.name,
        rate_hz=a.rate_hz,
        channels=a.channels,
        frames=null_depth.frames,
        identical=pass_.is_identical,
        whole=a.frames == b.frames and original == (a, b),
        esr=null_depth.esr,
        null_depth_db=null_depth.null_depth_db,
        a=_level(levels[0], pass_.sums.signal),
        b=_level(levels[1], pass_.other),
        stft=pass_.stft(),
        notes=(*(notes or ()), *made, *length_notes(a, b)),
        profile=pass_.profile(),
    )
    return _with_alignment(found, a, b, on_progress) if with_alignment else found


def _level(meter: LoudnessMeter, energy: float) -> Level:
    rms = power_db(energy / max(1, meter.frames * meter.channels))
    return Level(meter.peak_dbfs, rms, meter.integrated_lufs)


def _with_alignment(found: Comparison, a: Take, b: Take, on_progress: Progress | None) -> Comparison:
    is_same = found.identical and found.a.rms_dbfs is not None
    place = Alignment(0.0, 1.0, 1, 1.0) if is_same else align(a, b)
    if place is None:
        return found
    if place.delay_frames != 0.0 or place.polarity == -1:
        has = found.stft is not None, found.profile is not None
        aligned = _aligned(a, b, place, *has, on_progress)
    else:
        # Nothing moves: what has been measured stands, and a gain is all there is to find.
        aligned = _aligned(a, b, place, False, False, on_progress)
        aligned = None if aligned is None else replace(aligned, stft=found.stft, profile=found.profile)
    return replace(
        found,
        delay_frames=place.delay_frames,
        delay_ms=1e3 * place.delay_frames / a.rate_hz,
        correlation=place.correlation,
        polarity=place.polarity,
        aligned=aligned,
    )


def _aligned(
    a: Take, b: Take, place: Alignment, with_stft: bool, with_profile: bool, on_progress: Progress | None
) -> Aligned | None:
    overlap = delayed_pairs(a, b, place.delay_frames)
    if not overlap.frames:
        return None
    sign = np.float32(place.polarity or 1)
    pass_ = _Pass(a, with_stft, with_profile, place.gain * float(sign), overlap.start_frame)
    for x, y in _watched(paired(overlap.a, overlap.b), "aligned", overlap.frames, on_progress):
        pass_.add(x, sign * y)
    null_depth = pass_.sums.null()
    gain, gain_esr = pass_.best_gain()
    return Aligned(
        frames=null_depth.frames,
        esr=null_depth.esr,
        null_depth_db=null_depth.null_depth_db,
        gain_esr=gain_esr,
        gain_null_depth_db=power_db(gain_esr),
        gain_db=20.0 * math.log10(abs(gain)) if gain else None,
        stft=pass_.stft(),
        profile=pass_.profile(),
    )


class _Pass:
    """What is measured while two takes go by; `gain` is about what the second will have to be scaled by."""

    def __init__(
        self, take: Take, with_stft: bool, with_profile: bool, gain: float = 1.0, start_frame: int = 0
    ) -> None:
        self.sums = Sums()
        self.other = 0.0  # energy of the second
        self.is_identical = True
        self._gain = gain
        self._scaled_error = self._product = 0.0
        self._stft = StftMeter(take.channels) if with_stft else None
        self._profiler = Profiler(take.rate_hz, start_frame) if with_profile else None

    def add(self, a: Array, b: Array) -> None:
        self.sums.add(a, b)
        y = b.astype(np.float64)
        scaled = a - self._gain * y
        self.other += float(np.vdot(y, y))
        self._scaled_error += float(np.vdot(scaled, scaled))
        self._product += float(np.vdot(scaled, y))
        self.is_identical = self.is_identical and np.array_equal(a, b)
        if self._stft is not None:
            self._stft.add(a, b)
        if self._profiler is not None:
            self._profiler.add(a, b)

    def best_gain(self) -> tuple[float | None, float | None]:
        """The gain for the second that leaves least, and the error-to-signal ratio then.

        Reckoned from the gain that is nearly right: from energies alone, small errors would be differences
        of large numbers.
        """
        if self.other <= 0.0 or self.sums.signal <= 0.0:
            return None, None
        more = self._product / self.other
        return self._gain + more, max(0.0, self._scaled_error - more * self._product) / self.sums.signal

    def stft(self) -> StftDistance | None:
        return None if self._stft is None else self._stft.result()

    def profile(self) -> Profile | None:
        return None if self._profiler is None else self._profiler.profile()


def _watched(
    pairs: Iterator[tuple[Array, Array]], what: str, frames: int, on_progress: Progress | None
) -> Iterator[tuple[Array, Array]]:
    """The same pairs, told of as they pass."""
    done = 0
    for x, y in pairs:
        yield x, y
        done += len(x)
        if on_progress is not None:
            on_progress(Path(what), min(done, frames), frames)
