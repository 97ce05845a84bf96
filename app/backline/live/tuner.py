"""Which note a string sounds, in NumPy alone.

The method is that of McLeod and Wyvill ("A Smarter Way to Find Pitch", ICMC 2005): where a sound is
most like itself, moved, by their normalised square difference, one period has passed; of all such maxima the
first that is nearly the highest counts, or notes would come out octaves too low. As in YIN (de Cheveigné and
Kawahara, "YIN, a fundamental frequency estimator for speech and music", JASA 111(4), 2002) all lags look at
equally many frames. The period so found is then read again at the maximum many periods on, which divides the
error of the maximum's place by their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Signal = NDArray[np.float64]

NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

#: A quarter tone and more below the B of a five-string bass, and above the guitar's highest frets.
LOWEST_HZ, HIGHEST_HZ = 28.0, 1300.0
#: Of sound that a pitch is taken from: three periods of the lowest note twice over.
WINDOW_SECONDS = 0.2

#: What is quieter, as root mean square, is silence.
_SILENCE = 10.0 ** (-72.0 / 20.0)
#: What is less alike itself one period on is no note.
_LEAST_CLARITY = 0.85
#: The first maximum that is as high as this share of the highest is the period.
_NEARLY = 0.98
#: How much less alike a sound may be several periods on, where its period is still read more exactly.
_DRIFT = 0.05
#: Above these the sound says nothing of its pitch that it does not say below: all is kept up to the first,
#: nothing from the second on, so that maxima are round enough for a parabola.
_KEPT_HZ, _CUT_HZ = 2500.0, 5000.0
#: How far the low-pass reaches, which makes the ends of the sound useless.
_REACH_SECONDS = 0.002


@dataclass(frozen=True)
class Pitch:
    """A note that sounds.

    Attributes
    ----------
    hz : float
    note : str
        The nearest of the equally tempered scale, such as ``"A2"``.
    cents : float
        How much sharper than that it is, -50 to 50.
    clarity : float
        How alike the sound is to itself a period later: 1 is exactly.
    """

    hz: float
    note: str
    cents: float
    clarity: float


def pitch_of(hz: float, clarity: float = 1.0, *, a4_hz: float = 440.0) -> Pitch:
    """Name a frequency.

    Raises
    ------
    ValueError
        A frequency is not above 0.
    """
    if not (0.0 < hz < math.inf and 0.0 < a4_hz < math.inf):
        raise ValueError(f"expected frequencies above 0, found {hz:g} Hz and A4 at {a4_hz:g} Hz")
    number = 69.0 + 12.0 * math.log2(hz / a4_hz)
    nearest = math.floor(number + 0.5)
    octave, name = divmod(nearest, 12)
    return Pitch(hz, f"{NOTES[name]}{octave - 1}", 100.0 * (number - nearest), clarity)


def detect(x: ArrayLike, rate_hz: float, *, a4_hz: float = 440.0) -> Pitch | None:
    """Find the note that sounds.

    Parameters
    ----------
    x : array_like [frames]
        The sound; 0.2 s are enough for all notes, less for high ones. 1 is full scale.
    rate_hz : float
    a4_hz : float, optional
        Frequency of the A above middle C.

    Returns
    -------
    Pitch or None
        None for silence, noise, numbers that are not finite, and what lies outside 28 to 1,300 Hz.
    """
    sound = np.asarray(x, np.float64).reshape(-1)
    shortest = int(rate_hz / HIGHEST_HZ)
    if sound.size < 8 * max(shortest, 1) or not np.all(np.isfinite(sound)):
        return None
    sound = _without_treble(sound, rate_hz)
    if math.sqrt(float(np.mean(sound * sound))) < _SILENCE:
        return None
    alike = _alikeness(sound)
    found = _first_period(alike[: int(rate_hz / LOWEST_HZ) + 2])
    if found is None:
        return None
    period, clarity = found
    period = _sharpened(alike, period, clarity)
    hz = rate_hz / period
    if clarity < _LEAST_CLARITY or not LOWEST_HZ <= hz <= HIGHEST_HZ:
        return None
    return pitch_of(hz, min(clarity, 1.0), a4_hz=a4_hz)


def _without_treble(sound: Signal, rate_hz: float) -> Signal:
    """Low-passed without delay, freed of DC, and cut where the filter saw the ends."""
    size = _fast_size(sound.size + 2 * math.ceil(_REACH_SECONDS * rate_hz))
    hz = np.fft.rfftfreq(size, 1.0 / rate_hz)
    share = np.clip((_CUT_HZ - hz) / (_CUT_HZ - _KEPT_HZ), 0.0, 1.0)
    kept = np.sin(0.5 * np.pi * share) ** 2
    filtered = np.fft.irfft(np.fft.rfft(sound - np.mean(sound), size) * kept, size)[: sound.size]
    edge = min(math.ceil(_REACH_SECONDS * rate_hz), sound.size // 8)
    middle = filtered[edge : sound.size - edge]
    return np.asarray(middle - np.mean(middle))


def _alikeness(sound: Signal) -> Signal:
    """McLeod's normalised square difference at lags from 0 to half of the sound: 1 is alike, -1 inverted.

    Frames are weighed by half a sine: at the ends of a low note a fraction of a period counts for little.
    """
    window = sound.size // 2
    lags = sound.size - window
    size = _fast_size(sound.size + window)
    weight = np.sin(np.pi * (np.arange(window) + 0.5) / window)

    def moved(first: Signal, second: Signal) -> Signal:
        spectrum = np.conj(np.fft.rfft(first, size)) * np.fft.rfft(second, size)
        return np.asarray(np.fft.irfft(spectrum, size)[:lags])

    products = moved(weight * sound[:window], sound)
    energies = moved(weight, sound * sound)
    # Rounding may leave less than nothing of the energy where there is none.
    least = max(1e-9 * float(np.max(energies)), float(np.finfo(np.float64).tiny))
    return np.asarray(2.0 * products / np.maximum(energies[0] + energies, least))


def _first_period(alike: Signal) -> tuple[float, float] | None:
    """Lag and height of the first maximum that is nearly the highest, beyond the one at lag 0."""
    below = np.flatnonzero(alike < 0.0)
    if below.size == 0:
        return None
    start = max(int(below[0]), 1)
    here, before, after = alike[start:-1], alike[start - 1 : -2], alike[start + 1 :]
    tops = start + np.flatnonzero((here > 0.0) & (here >= before) & (here > after))
    if tops.size == 0:
        return None
    found = [_top(alike, int(lag)) for lag in tops]
    enough = _NEARLY * max(height for _, height in found)
    return next((lag, height) for lag, height in found if height >= enough)


def _top(alike: Signal, lag: int) -> tuple[float, float]:
    """Where the parabola through a maximum and its neighbours is highest, and how high it is there."""
    before, here, after = (float(value) for value in alike[lag - 1 : lag + 2])
    bend = before - 2.0 * here + after
    if bend >= 0.0:
        return float(lag), here
    aside = 0.5 * (before - after) / bend
    return lag + aside, here - 0.25 * (before - after) * aside


def _sharpened(alike: Signal, period: float, clarity: float) -> float:
    """The period from the maximum after as many of them as still can be told from their neighbours."""
    count = 1
    while True:
        # The guess is off by as many errors as it goes periods on: no more than two for each so far.
        following = min(2 * count, int((alike.size - 2) / period))
        if following <= count:
            return period
        guess = following * period
        reach = max(1, round(0.25 * period))
        first = max(1, round(guess) - reach)
        near = alike[first : min(round(guess) + reach + 1, alike.size - 1)]
        lag, height = _top(alike, first + int(np.argmax(near))) if near.size else (guess, -1.0)
        if height < clarity - _DRIFT or abs(lag - guess) > 0.25 * period:
            return period
        count, period = following, lag / following


def _fast_size(least: int) -> int:
    """The next power of two."""
    return 1 << max(least - 1, 1).bit_length()


class Tuner:
    """Keeps the last 0.2 s of what it is fed, and tells its pitch.

    Parameters
    ----------
    rate_hz : float
    a4_hz : float, optional
        Frequency of the A above middle C. Default 440.

    Raises
    ------
    ValueError
        A frequency is not above 0.
    """

    def __init__(self, rate_hz: float, a4_hz: float = 440.0) -> None:
        if not (0.0 < rate_hz < math.inf and 0.0 < a4_hz < math.inf):
            raise ValueError(f"expected frequencies above 0, found {rate_hz:g} Hz and A4 at {a4_hz:g} Hz")
        self.rate_hz = rate_hz
        self.a4_hz = a4_hz
        self._kept = np.zeros(0, np.float32)
        self._most = math.ceil(WINDOW_SECONDS * rate_hz)

    def feed(self, frames: ArrayLike) -> None:
        """Take what has sounded since the last call, of any length."""
        new = np.asarray(frames, np.float32).reshape(-1)[-self._most :]
        self._kept = np.concatenate((self._kept, new))[-self._most :]

    def pitch(self) -> Pitch | None:
        """The note that has sounded last; None for silence and noise."""
        return detect(self._kept, self.rate_hz, a4_hz=self.a4_hz)
