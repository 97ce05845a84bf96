"""The delay between what was played and what came back, to a fraction of a frame; plain NumPy, no device.

What is played is an exponential sine sweep (A. Farina, "Simultaneous measurement of impulse response and
distortion with a swept-sine technique", 108th AES Convention, 2000). What came back, divided by it, is the
impulse response of the way round, whose largest peak gives the delay in whole frames. The fraction is the
maximum of the generalised cross-correlation with phase transform (C. H. Knapp and G. C. Carter, "The
generalized correlation method for estimation of time delay", IEEE Trans. ASSP 24(4), 1976): a sum of cosines,
so its maximum is found between the frames without interpolating anything. Before that, the phase that belongs
to the magnitude (the minimum phase, by the folded cepstrum: A. V. Oppenheim and R. W. Schafer, "Discrete-Time
Signal Processing", 3rd edition, section 13.5) is taken away, so that the response of a loudspeaker or of a
coupling capacitor does not pass for a delay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..delays import phase_maximum
from ..errors import BacklineError

Array = NDArray[np.float32]
Complex = NDArray[np.complex128]
Real = NDArray[np.float64]

#: Of the sweep, in parts of the rate, but for the lowest frequency; loudspeakers and ears end at the highest.
_LOWEST_HZ, _HIGHEST_HZ, _HIGHEST_PART = 20.0, 22000.0, 0.46
_PEAK = 0.25
_FADE_SECONDS = 0.01
#: The band that counts lies so much inside the sweep's, whose ends are faded.
_INSIDE = 1.5, 0.93
#: Sum of squares below which a recording is silence, and samples from which on an input is at its end.
_SILENT_DBFS = -90.0
_FULL_SCALE = 0.999
#: How far the peak must stand above all else, and above the next one: a millisecond away or more.
_LEAST_CLARITY_DB = 20.0
_LEAST_LEAD_DB = 3.0
_NEAR_SECONDS = 0.001
#: What is looked at around the peak.
_BEFORE_SECONDS, _AFTER_SECONDS = 0.004, 0.04
#: Parts of the response this far below its strongest weigh half.
_HALF_WEIGHT_DB = -30.0


@dataclass(frozen=True)
class Measured:
    """How a signal came back.

    Attributes
    ----------
    delay_frames : float
    clarity_db : float
        How far the peak of the impulse response stands above the mean of the rest.
    correlation : float
        0 to 1: how well one delay explains the phase at all frequencies.
    polarity : int
        1, or -1 if the signal came back upside down.
    level_db : float
        What came back in relation to what was played.
    """

    delay_frames: float
    clarity_db: float
    correlation: float
    polarity: int
    level_db: float


@dataclass(frozen=True)
class Stage:
    """What one thing on the way from input to output adds.

    Attributes
    ----------
    name : str
    frames : float or None
        At the device's rate; None where nobody knows.
    basis : {"claimed", "contained", "known", "unknown"}
        By PortAudio; in what is claimed already; by ourselves; by nobody.
    """

    name: str
    frames: float | None
    basis: str


def stages(
    rate_hz: float,
    input_latency_ms: float | None,
    output_latency_ms: float | None,
    block_frames: int,
    model_latency_frames: int | None = None,
    model_rate_hz: float | None = None,
    resampling_frames: float | None = None,
) -> list[Stage]:
    """List what adds to the latency of a model played live.

    Parameters
    ----------
    rate_hz : float
        Of the device.
    input_latency_ms, output_latency_ms : float or None
        As PortAudio claims them.
    block_frames : int
    model_latency_frames : int, optional
        At the model's rate; None without a model.
    model_rate_hz : float, optional
        None where the model does not care.
    resampling_frames : float, optional
        What converting to the model's rate and back adds, at the device's rate.
    """
    found = [
        _stage("device in", input_latency_ms, rate_hz),
        _stage("device out", output_latency_ms, rate_hz),
        Stage("one block", float(block_frames), "contained"),
    ]
    if model_latency_frames is None:
        return found
    other_rate = model_rate_hz is not None and model_rate_hz != rate_hz
    ratio = rate_hz / model_rate_hz if model_rate_hz is not None and other_rate else 1.0
    found.append(Stage("model", model_latency_frames * ratio, "known"))
    if other_rate:
        basis = "unknown" if resampling_frames is None else "known"
        found.append(Stage("resampling", resampling_frames, basis))
    return found


def _stage(name: str, claimed_ms: float | None, rate_hz: float) -> Stage:
    if claimed_ms is None:
        return Stage(name, None, "unknown")
    return Stage(name, 1e-3 * claimed_ms * rate_hz, "claimed")


def sweep(
    rate_hz: float, seconds: float = 1.0, before_seconds: float = 0.1, after_seconds: float = 1.0
) -> Array:
    """Return an exponential sine sweep from 20 Hz up, at -12 dBFS, faded at both ends, between silences.

    Parameters
    ----------
    rate_hz : float
    seconds : float
        Of the sweep itself.
    before_seconds, after_seconds : float
        Of silence. No delay longer than the silence behind the sweep can be measured with it.

    Returns
    -------
    float32 array [frames]
    """
    low, high = _band(rate_hz)
    frames = round(seconds * rate_hz)
    t = np.arange(frames) / rate_hz
    growth = math.log(high / low) / seconds
    x = _PEAK * np.sin(2.0 * math.pi * low / growth * np.expm1(growth * t))
    fade = min(round(_FADE_SECONDS * rate_hz), frames // 2)
    window = np.sin(0.5 * math.pi * (np.arange(fade) + 0.5) / fade) ** 2
    x[:fade] *= window
    x[frames - fade :] *= window[::-1]
    silences = [np.zeros(round(each * rate_hz)) for each in (before_seconds, after_seconds)]
    return np.concatenate([silences[0], x, silences[1]]).astype(np.float32)


def delay_frames(played: Array, recorded: Array, rate_hz: float) -> Measured:
    """Measure by how much a recording is late.

    Parameters
    ----------
    played : float32 array [frames]
        From `sweep`.
    recorded : float32 array [frames]
        On the same time line: frame 0 of both is the same moment.
    rate_hz : float

    Raises
    ------
    BacklineError
        Nothing came back, or too much, or no peak that stands out.
    """
    _check_level(recorded)
    size = 1 << (len(played) + len(recorded) - 1).bit_length()
    x, y = (np.fft.rfft(each.astype(np.float64), size) for each in (played, recorded))
    band = _weights(_frequencies(size, rate_hz), rate_hz)
    power = np.abs(x) ** 2
    response = band * y * x.conj() / np.maximum(power, 1e-9 * power.max())
    h = np.fft.irfft(response, size)
    peak = int(np.argmax(np.abs(h)))
    clarity = _clarity_db(h, peak, rate_hz)
    fraction, correlation, polarity = _fraction(h, peak, rate_hz)
    level = np.sum(band * np.abs(y) ** 2) / np.sum(band * power)
    signed = peak if peak < size // 2 else peak - size
    return Measured(signed + fraction, clarity, correlation, polarity, 10.0 * math.log10(level))


def _band(rate_hz: float) -> tuple[float, float]:
    return _LOWEST_HZ, min(_HIGHEST_HZ, _HIGHEST_PART * rate_hz)


def _frequencies(size: int, rate_hz: float) -> Real:
    hz: Real = np.fft.rfftfreq(size, 1.0 / rate_hz).astype(np.float64)
    return hz


def _weights(hz: Real, rate_hz: float) -> Real:
    """1 within the sweep's band, 0 outside, with soft edges: whatever rings does so briefly."""
    low, high = (edge * inside for edge, inside in zip(_band(rate_hz), _INSIDE, strict=True))
    rising = np.clip((hz - low) / low, 0.0, 1.0)
    falling = np.clip((high - hz) / (0.1 * high), 0.0, 1.0)
    weights: Real = np.sin(0.5 * math.pi * rising) ** 2 * np.sin(0.5 * math.pi * falling) ** 2
    return weights


def _check_level(recorded: Array) -> None:
    if not np.isfinite(recorded).all():
        raise BacklineError("what came back is no sound: it holds infinite samples or no numbers")
    loudest = float(np.max(np.abs(recorded), initial=0.0))
    if loudest < 10.0 ** (_SILENT_DBFS / 20.0):
        raise BacklineError(
            "nothing came back: connect the output to the input with a cable, and check channels and levels"
        )
    full = int(np.count_nonzero(np.abs(recorded) >= _FULL_SCALE))
    if full:
        raise BacklineError(f"the input was too loud: {full} samples at full scale; turn its level down")


def _clarity_db(h: Real, peak: int, rate_hz: float) -> float:
    """Check that one peak stands out of the impulse response; return by how much."""
    near = max(1, round(_NEAR_SECONDS * rate_hz))
    rest = np.roll(np.abs(h), near - peak)[2 * near + 1 :]
    highest = abs(h[peak])
    clarity = float(20.0 * np.log10(highest / max(math.sqrt(np.mean(rest**2)), 1e-12 * highest)))
    if clarity < _LEAST_CLARITY_DB:
        raise BacklineError(
            "the sweep is not to be found in what came back: "
            f"its peak is only {clarity:.0f} dB above the rest, {_LEAST_CLARITY_DB:.0f} are needed"
        )
    second = int(np.argmax(rest))
    if 20.0 * math.log10(highest / max(rest[second], 1e-12 * highest)) < _LEAST_LEAD_DB:
        apart = second + near + 1
        apart = min(apart, len(h) - apart)
        raise BacklineError(
            f"the sweep came back twice, {apart} frames apart and about as loud: "
            "switch the interface's direct monitoring off"
        )
    return clarity


def _fraction(h: Real, peak: int, rate_hz: float) -> tuple[float, float, int]:
    """Where the peak really is, in relation to its frame; how well that fits, and its sign."""
    before, after = (round(each * rate_hz) for each in (_BEFORE_SECONDS, _AFTER_SECONDS))
    piece = np.roll(h, before - peak)[: before + after]
    fade = before // 2
    window = np.sin(0.5 * math.pi * (np.arange(fade) + 0.5) / fade) ** 2
    piece[:fade] *= window
    piece[len(piece) - fade :] *= window[::-1]
    size = 4 << (len(piece) - 1).bit_length()
    response = np.fft.rfft(piece, size)
    hz = _frequencies(size, rate_hz)
    band = _weights(hz, rate_hz)
    magnitude = np.abs(response)
    excess = np.angle(response) - _minimum_phase(magnitude, band)
    power = band * magnitude**2
    weights = band * power / (power + 10.0 ** (_HALF_WEIGHT_DB / 10.0) * power.max())
    weights /= weights.sum()
    omega = 2.0 * math.pi * hz / rate_hz
    sign = int(np.sign(h[peak]))
    best, correlation = phase_maximum(weights * sign, excess, omega, float(before))
    return best - before, correlation, sign


def _minimum_phase(magnitude: Real, band: Real) -> Real:
    """The phase of the causal filter that has this magnitude and delays as little as can be.

    Outside the band nothing is known: there the magnitude stays at what it is at the band's edge.
    """
    known = np.flatnonzero(band > 0.5)
    inside = np.log(np.maximum(magnitude[known] / band[known], 1e-6 * magnitude.max()))
    log = np.interp(np.arange(len(band)), known, inside)
    cepstrum = np.fft.irfft(log)
    half = len(cepstrum) // 2
    cepstrum[1:half] *= 2.0
    cepstrum[half + 1 :] = 0.0
    phase: Real = np.fft.rfft(cepstrum).imag
    return phase
