"""Plucked strings made from nothing but NumPy, so that a demo needs no recording and no instrument.

The string is that of Karplus and Strong ("Digital Synthesis of Plucked-String and Drum Timbres", Computer
Music Journal 7(2), 1983) with the tuning and pick-position refinements of Jaffe and Smith (same issue): a
delay line one period long, closed through a short filter that stands for everything the string loses on its
way there and back.

Every sample of one period depends only on the period before it, so a whole period is one NumPy call. That
is why this is fast enough to run while somebody waits, without a compiled loop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LOSS_REACH = 1  # the loss filter has taps at -1, 0 and +1 around its centre
_LAGRANGE_REACH = 1  # the interpolator's useful fraction lies between its taps 1 and 2
_LOOP_TAPS = 6  # loss (3 taps) convolved with interpolation (4 taps)


def pluck(
    frequency_hz: float,
    seconds: float,
    rate_hz: float,
    *,
    brightness: float = 0.5,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Pluck one string once.

    Parameters
    ----------
    frequency_hz : float
        Pitch of the open string; at most an eighth of `rate_hz`.
    seconds : float
        Length of the result. The string rings to the end; it is not damped.
    rate_hz : float
        Frames per second of the result.
    brightness : float, optional
        0 is a thumb over the neck, 1 a hard plectrum at the bridge. Default 0.5.
    seed : int, optional
        Chooses the roughness of the pluck. Equal arguments give equal bits.

    Returns
    -------
    ndarray of float32, shape [frames]
        The string's sound, free of DC, with a peak of 1.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    if not 0.0 < frequency_hz <= rate_hz / 8.0:
        highest_hz = rate_hz / 8.0
        raise ValueError(f"frequency_hz: expected above 0 and at most {highest_hz:g}, found {frequency_hz:g}")
    if not seconds > 0.0:
        raise ValueError(f"seconds: expected more than 0, found {seconds:g}")
    if not 0.0 <= brightness <= 1.0:
        raise ValueError(f"brightness: expected 0 to 1, found {brightness:g}")

    frames = max(1, round(seconds * rate_hz))
    loop, delay_frames = _loop_filter(frequency_hz, rate_hz, brightness)
    first = _excitation(rate_hz / frequency_hz, rate_hz, brightness, np.random.default_rng(seed))

    # The line starts with the silence that the first trip round the loop looks back on.
    lead = delay_frames + _LOOP_TAPS
    line = np.zeros(lead + frames)
    kick = np.zeros(frames)
    heard = min(frames, first.size)
    kick[:heard] = first[:heard]
    for start in range(0, frames, delay_frames):
        stop = min(start + delay_frames, frames)
        # line[n] = kick[n] + sum_j loop[j] line[n - delay - j]; no term lies in the block being written.
        past = line[lead + start - delay_frames - (_LOOP_TAPS - 1) : lead + stop - delay_frames]
        line[lead + start : lead + stop] = kick[start:stop] + np.convolve(past, loop, "valid")

    sound = line[lead:]
    peak = float(np.max(np.abs(sound)))
    return (sound / peak if peak > 0.0 else sound).astype(np.float32)


def _loop_filter(frequency_hz: float, rate_hz: float, brightness: float) -> tuple[NDArray[np.float64], int]:
    """Build what the string loses, and the fraction of a frame its period has left over.

    Returns
    -------
    loop : ndarray of float64, shape [6]
        Taps, newest first.
    delay_frames : int
        Whole frames of delay in front of the first tap.
    """
    # Real strings lose treble faster than bass, and short strings lose everything faster than long ones.
    decay_seconds = (1.6 + 3.2 * brightness) * (110.0 / frequency_hz) ** 0.45
    gain = 10.0 ** (-3.0 / (decay_seconds * frequency_hz))
    # Partials near `treble_hz` die in a quarter of the fundamental's time whatever the pitch; without the
    # division by pitch a low note, which makes few trips round the loop, would ring like a wire fence.
    treble_hz = 1200.0 + 4200.0 * brightness
    wanted = 1.0 - 10.0 ** (-9.0 / (decay_seconds * frequency_hz))
    spread = min(0.25, wanted / (2.0 - 2.0 * np.cos(2.0 * np.pi * treble_hz / rate_hz)))
    loss = gain * np.array([spread, 1.0 - 2.0 * spread, spread])

    # Cubic Lagrange interpolation: linear interpolation would dull notes that fall between frames.
    period_frames = rate_hz / frequency_hz
    delay_frames = int(np.floor(period_frames)) - _LOSS_REACH - _LAGRANGE_REACH
    at = period_frames - _LOSS_REACH - delay_frames
    nodes = np.arange(4.0)
    lagrange = np.array([np.prod((at - np.delete(nodes, k)) / (k - np.delete(nodes, k))) for k in range(4)])
    return np.convolve(loss, lagrange), delay_frames


def _excitation(
    period_frames: float, rate_hz: float, brightness: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Make the one period of sound that the pick puts into the string, free of DC.

    Returns
    -------
    ndarray of float64, shape [frames of one period]
    """
    frames = max(4, round(period_frames))
    harmonic = np.fft.rfftfreq(frames, 1.0 / frames)
    hz = harmonic * rate_hz / period_frames
    # A pluck at position p of the string leaves harmonic k with sin(pi k p) and a slope; a rough pick adds
    # noise to that, and the soft cut-off is the width of whatever did the plucking.
    position = 0.29 - 0.17 * brightness + 0.02 * rng.standard_normal()
    noise = rng.standard_normal(harmonic.size) + 1j * rng.standard_normal(harmonic.size)
    rough = 0.6 * noise - 1j
    comb = np.sin(np.pi * harmonic * position)
    cutoff_hz = 900.0 * 10.0 ** (0.9 * brightness)
    spectrum = rough * comb / np.maximum(harmonic, 1.0) ** 0.6 / (1.0 + (hz / cutoff_hz) ** 2)
    spectrum[0] = 0.0  # DC would circulate in the loop for as long as the note
    if frames % 2 == 0:
        spectrum[-1] = 0.0
    shape = np.fft.irfft(spectrum, frames)
    # One period is a circle: starting it at its quietest frame spares the attack a click, and costs no DC.
    return np.roll(shape, -int(np.argmin(np.abs(shape))))


class _Stroke(NamedTuple):
    """One movement of the hand: `notes` are MIDI numbers from the first string struck to the last."""

    beat: float
    beats: float
    notes: tuple[int, ...]
    force: float


_BEATS_PER_SECOND = 2.0
_RIFF_BEATS = 16.0
_STRUM_SECONDS = 0.011

# Four bars in E minor: a low figure, its answer, a climb, and a chord left to ring.
_RIFF = (
    _Stroke(0.0, 0.9, (40, 47, 52), 1.0),
    _Stroke(1.0, 0.45, (40,), 0.7),
    _Stroke(1.5, 0.45, (43,), 0.8),
    _Stroke(2.0, 0.7, (45, 52, 57), 0.95),
    _Stroke(2.75, 0.25, (46,), 0.6),
    _Stroke(3.0, 0.9, (47,), 0.85),
    _Stroke(4.0, 0.9, (40, 47, 52, 55), 1.0),
    _Stroke(5.0, 0.45, (64,), 0.75),
    _Stroke(5.5, 0.45, (67,), 0.8),
    _Stroke(6.0, 0.7, (66,), 0.7),
    _Stroke(6.75, 0.25, (62,), 0.6),
    _Stroke(7.0, 0.95, (59,), 0.85),
    _Stroke(8.0, 0.9, (48, 55, 60), 0.95),
    _Stroke(9.0, 0.45, (48,), 0.6),
    _Stroke(9.5, 0.45, (52, 60), 0.75),
    _Stroke(10.0, 0.95, (50, 57, 62, 66), 1.0),
    _Stroke(11.0, 0.3, (69,), 0.6),
    _Stroke(11.33, 0.3, (71,), 0.65),
    _Stroke(11.67, 0.3, (74,), 0.75),
    _Stroke(12.0, 0.7, (76,), 0.9),
    _Stroke(12.75, 0.25, (74,), 0.6),
    _Stroke(13.0, 0.95, (71, 67), 0.7),
    _Stroke(14.0, 2.0, (40, 47, 52, 55, 59, 64), 1.0),
)


def riff(rate_hz: float = 48000, *, seed: int = 0) -> NDArray[np.float32]:
    """Play eight seconds of guitar: low single notes, power chords, a short melody and a last open chord.

    Parameters
    ----------
    rate_hz : float, optional
        Frames per second of the result; at least 8000. Default 48000.
    seed : int, optional
        Chooses a performance: the tune stays, the touch of every note varies.

    Returns
    -------
    ndarray of float32, shape [8 * rate_hz]
        The tune, with a peak of 0.5, silent at both ends.

    Raises
    ------
    ValueError
        If `rate_hz` is too low for the highest note.
    """
    rng = np.random.default_rng(seed)
    mix = np.zeros(round(_RIFF_BEATS / _BEATS_PER_SECOND * rate_hz))
    fade = 0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, max(2, round(0.03 * rate_hz))))
    for stroke in _RIFF:
        for string, note in enumerate(stroke.notes):
            at_seconds = stroke.beat / _BEATS_PER_SECOND + _STRUM_SECONDS * string * rng.uniform(0.7, 1.3)
            start = round(at_seconds * rate_hz)
            frames = min(round(stroke.beats / _BEATS_PER_SECOND * rate_hz), mix.size - start)
            hz = 440.0 * 2.0 ** ((note - 69 + rng.normal(0.0, 0.02)) / 12.0)
            brightness = float(np.clip(0.25 + 0.4 * stroke.force + rng.normal(0.0, 0.06), 0.0, 1.0))
            sound = pluck(hz, frames / rate_hz, rate_hz, brightness=brightness, seed=int(rng.integers(2**31)))
            level = stroke.force * rng.uniform(0.85, 1.0) / np.sqrt(len(stroke.notes))
            mix[start : start + frames] += level * sound
            # The hand damps the string: a cut would click.
            ending = min(fade.size, frames)
            mix[start + frames - ending : start + frames] -= (
                level * sound[frames - ending :] * (1.0 - fade[fade.size - ending :])
            )
    scale = 0.5 / float(np.max(np.abs(mix)))
    return (scale * mix).astype(np.float32)
