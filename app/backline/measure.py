"""What a model does to test tones: its frequency response, its transfer curve, the harmonics it adds.

The frequency response is measured with exponential sweeps, which put each harmonic at a time of its own
(Farina, "Simultaneous Measurement of Impulse Response and Distortion with a Swept-Sine Technique", AES
Convention 108, 2000): what is left of a model that distorts is how it treats the tone itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .engine import Audio, Model
from .errors import ModelError

Float64 = NDArray[np.float64]

#: Taken for the rate of a model whose file does not say any.
DEFAULT_RATE_HZ = 48000.0
HARMONICS = 9

# The second harmonic then lies 0.44 s before time zero.
_SWEEP_S, _LEAD_S, _TAIL_S = 6.0, 0.25, 0.6
_FIRST_HZ = 2.0
_SWEEP_FADES_S = (0.2, 0.005)
# What is kept of the impulse response around time zero, and over how long it fades at either end: short
# windows would blur the lowest frequencies.
_BEFORE_S, _BEFORE_FADE_S, _AFTER_S, _AFTER_FADE_S = 0.4, 0.2, 0.5, 0.2
_OCTAVE_SHARE = 24
_POINTS = 400
_LOWEST_HZ, _HIGHEST_HZ = 20.0, 20000.0
_CYCLES = 50
_SETTLING_S, _LONGEST_SETTLING_S = 1.0, 5.0


@dataclass(frozen=True)
class Response:
    """Gain over frequency at one level of the input: `db` at `hz`, both [points]."""

    level_dbfs: float
    hz: Float64
    db: Float64


@dataclass(frozen=True)
class Transfer:
    """One cycle of a slow sine going in and what comes out, both [frames].

    `x` is shifted by `shift_ms`, so that it is in phase with what comes out (or against it, in a model that
    inverts): a model without memory then draws one line and not a loop.
    """

    level_dbfs: float
    hz: float
    x: Float64
    y: Float64
    shift_ms: float


@dataclass(frozen=True)
class Harmonics:
    """Levels of the first nine multiples of a tone, over the tone's level.

    Attributes
    ----------
    hz : float
        The tone's frequency.
    levels_dbfs : float64 array [levels]
        Peak of the tone that goes in.
    dbfs : float64 array [9][levels]
        Peak of each harmonic that comes out; NaN above half the sample rate, minus infinity for none.
    """

    hz: float
    levels_dbfs: Float64
    dbfs: Float64


def rate_of(model: Model) -> float:
    """The rate to measure at.

    Raises
    ------
    ModelError
        The model is not one channel in, one channel out at one rate.
    """
    rate = model.graph.signals[model.graph.output].rate
    if not (model.input_channels == model.output_channels == rate == 1):
        other = "" if rate == 1 else f" at {rate} of its input's rate"
        plural = "" if model.input_channels == 1 else "s"
        raise ModelError(
            f"{model.name}: takes {model.input_channels} channel{plural} and puts out {model.output_channels}"
            f"{other}; expected one channel each at the same rate"
        )
    return model.sample_rate_hz or DEFAULT_RATE_HZ


def frequency_response(model: Model, level_dbfs: float) -> Response:
    """Measure the gain over frequency for a sweep of the given peak, in twenty-fourths of an octave."""
    rate_hz = rate_of(model)
    lead, tail = round(_LEAD_S * rate_hz), round(_TAIL_S * rate_hz)
    swept = _amplitude(level_dbfs) * _sweep(rate_hz)
    x = np.concatenate([np.zeros(lead), swept, np.zeros(tail + model.latency_frames)])
    y = _run(model, x)
    # A model may put out a constant, which is no answer to the sweep.
    y = y[lead:] - y[lead // 2 : lead].mean()
    size = 1 << (2 * y.size - 1).bit_length()
    spectrum_x, spectrum_y = np.fft.rfft(x[lead:], size), np.fft.rfft(y, size)
    power = np.abs(spectrum_x) ** 2
    impulse = np.fft.irfft(spectrum_y * np.conj(spectrum_x) / (power + 1e-10 * power.max()), size)
    gain = np.abs(np.fft.rfft(impulse * _around_zero(size, rate_hz, model.latency_frames)))
    return Response(level_dbfs, *_smoothed(gain, rate_hz / size, rate_hz))


def _sweep(rate_hz: float) -> Float64:
    """From `_FIRST_HZ` to half the rate, with soft ends."""
    frames = round(_SWEEP_S * rate_hz)
    first_hz = min(_FIRST_HZ, rate_hz / 24000.0)
    octaves = math.log(rate_hz / 2.0 / first_hz)
    phase = first_hz * _SWEEP_S / octaves * np.expm1(octaves * np.arange(frames) / frames)
    swept: Float64 = np.sin(2.0 * np.pi * phase)
    for end, seconds in zip((swept, swept[::-1]), _SWEEP_FADES_S, strict=True):
        end[: round(seconds * rate_hz)] *= _fade(round(seconds * rate_hz))
    return swept


def _fade(frames: int) -> Float64:
    faded: Float64 = np.sin(0.5 * np.pi * np.arange(frames) / max(frames, 1)) ** 2
    return faded


def _around_zero(size: int, rate_hz: float, latency_frames: int) -> Float64:
    """A window on an impulse response that begins at frame 0 and wraps: what is earlier are harmonics."""
    window = np.zeros(size)
    after = round(_AFTER_S * rate_hz) + latency_frames
    fade = _fade(round(_AFTER_FADE_S * rate_hz))
    window[:after] = 1.0
    window[after - fade.size : after] = fade[::-1]
    before, fade = round(_BEFORE_S * rate_hz), _fade(round(_BEFORE_FADE_S * rate_hz))
    window[size - before :] = 1.0
    window[size - before : size - before + fade.size] = fade
    return window


def _smoothed(gain: Float64, bin_hz: float, rate_hz: float) -> tuple[Float64, Float64]:
    """Frequencies, and the mean power in a small band around each, in dB."""
    hz = np.geomspace(_LOWEST_HZ, min(_HIGHEST_HZ, 0.45 * rate_hz), _POINTS)
    half = 2.0 ** (0.5 / _OCTAVE_SHARE)
    sums = np.concatenate([[0.0], np.cumsum(gain**2)])
    first, last = np.rint(hz / half / bin_hz).astype(int), np.rint(hz * half / bin_hz).astype(int)
    power = (sums[last + 1] - sums[first]) / (last + 1 - first)
    return hz, _db(np.sqrt(np.maximum(power, 0.0)))


def transfer(model: Model, level_dbfs: float, near_hz: float = 100.0) -> Transfer:
    """Measure what comes out over what goes in, for a sine of about `near_hz` and the given peak."""
    rate_hz = rate_of(model)
    cycle = max(8, round(rate_hz / near_hz))
    angle = 2.0 * np.pi * np.arange(cycle) / cycle
    amplitude = _amplitude(level_dbfs)
    cycles = math.ceil(_settling_frames(model, rate_hz) / cycle) + 1
    y = _run(model, np.tile(amplitude * np.sin(angle), cycles))[-cycle:]
    shift = math.atan2(float(y @ np.cos(angle)), float(y @ np.sin(angle)))
    if abs(shift) > 0.5 * math.pi:
        shift -= math.copysign(math.pi, shift)
    x = amplitude * np.sin(angle + shift)
    return Transfer(level_dbfs, rate_hz / cycle, x, y, 1e3 * shift / (2.0 * math.pi) * cycle / rate_hz)


def harmonics(model: Model, levels_dbfs: Float64, near_hz: float = 220.0) -> Harmonics:
    """Measure the harmonics of a tone of about `near_hz` at each level."""
    rate_hz = rate_of(model)
    # An odd number of frames for a number of cycles: what aliases falls between the harmonics.
    frames = round(_CYCLES * rate_hz / near_hz) | 1
    hz = _CYCLES * rate_hz / frames
    settling = _settling_frames(model, rate_hz)
    tone = np.sin(2.0 * np.pi * _CYCLES * np.arange(settling + frames) / frames)
    x = tone[:, None] * np.array([_amplitude(level) for level in levels_dbfs])
    spectrum = np.abs(np.fft.rfft(_run(model, x)[-frames:], axis=0)) * 2.0 / frames
    found = np.full((HARMONICS, len(levels_dbfs)), np.nan)
    for number in range(1, HARMONICS + 1):
        if number * _CYCLES < len(spectrum):
            found[number - 1] = _db(spectrum[number * _CYCLES])
    return Harmonics(hz, np.asarray(levels_dbfs, np.float64), found)


def _settling_frames(model: Model, rate_hz: float) -> int:
    reach = (model.receptive_field_frames or 0) + model.latency_frames
    return round(min(max(_SETTLING_S * rate_hz, reach), _LONGEST_SETTLING_S * rate_hz))


def _run(model: Model, x: Float64) -> Float64:
    y: Audio = model(x)
    if not np.isfinite(y).all():
        raise ModelError(f"{model.name}: put out something that is no finite number")
    return y.astype(np.float64)


def _amplitude(level_dbfs: float) -> float:
    return math.pow(10.0, level_dbfs / 20.0)


def _db(values: Float64) -> Float64:
    with np.errstate(divide="ignore"):
        found: Float64 = 20.0 * np.log10(values)
    return found
