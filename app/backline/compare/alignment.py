"""By how much one take is late against another, to a fraction of a frame; plain NumPy, in flat memory.

Up to four windows of 2**16 frames, the loudest of as many stretches of the first take, are looked for in
the second, no further than `MAX_SECONDS` (or `MAX_FRAMES`) to either side of where they are in the first.
What is compared is the normalised cross-correlation of all windows together, at every lag: the sum of
products over the root of both energies, all without what is constant (an offset would correlate with
anything). Segments of the second take are correlated as they go by, by the Fourier transform.

Around the best lag, the windows are compared again, the second take moved by what is known of the delay so
far (its spectrum turned), the rest of the delay being where the remaining correlation is largest; when that
has come to rest, both windows hold the same moments, and no border disturbs the estimate. Largest
correlation means least squares: this is the delay at which the takes, one of them scaled, differ least.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..delays import phase_maximum
from .takes import Blocks, Take, part, pieces

Array = NDArray[np.float32]
Real = NDArray[np.float64]

#: How far apart takes may be.
MAX_SECONDS = 30.0
MAX_FRAMES = 1 << 21
#: Below this the takes have nothing to do with one another, as far as can be told.
LEAST_CORRELATION = 0.25

_WINDOWS = 4
_WINDOW_FRAMES = 1 << 16
_SEGMENT_FRAMES = 1 << 18
#: Peaks so near to the highest are as good: a tone has many. Those on whole frames are looked at closer.
_AS_HIGH = 1.0 - 1e-5
_NEARLY = 0.98
#: A peak of the other sign that is nearly as high leaves the polarity open.
_OPPOSITE = 0.98
#: Of the windows, by energy, what must lie inside the second take.
_LEAST_SHARE = 0.05
#: Frames besides the window for the turned spectrum to wrap around in, faded.
_GUARD_FRAMES = 512
_NEAR_FRAMES = 64
_STEPS = 12
_RESTING_FRAMES = 1e-7


@dataclass(frozen=True)
class Alignment:
    """How a take lies in relation to another.

    Attributes
    ----------
    delay_frames : float
        How late the second is; negative where it is early.
    correlation : float
        0 to 1, of the windows that were compared, at this delay.
    polarity : int or None
        1, or -1 if the second is upside down; None where both fit as well.
    gain : float
        What the second has to be multiplied by to be most like the first: negative if it is upside down.
    """

    delay_frames: float
    correlation: float
    polarity: int | None
    gain: float


def align(a: Take, b: Take, max_seconds: float = MAX_SECONDS) -> Alignment | None:
    """Find the delay of `b` against `a`, which have the same rate and channels.

    Parameters
    ----------
    a, b : Take
    max_seconds : float
        How late or early `b` may be; at most `MAX_FRAMES` count.

    Returns
    -------
    Alignment or None
        None where one of the takes is silent, or their correlation stays below `LEAST_CORRELATION`.
    """
    reach = min(math.ceil(max_seconds * a.rate_hz), MAX_FRAMES)
    starts, windows = loud_windows(a, min(a.frames, b.frames + reach))
    if not windows:
        return None
    found = _best_lag(windows, starts, b, reach)
    if found is None:
        return None
    lag, sign, is_certain = found
    return _refined(windows, starts, b, lag, sign, is_certain)


def loud_windows(take: Take, frames: int) -> tuple[list[int], list[Real]]:
    """The loudest window of each of up to four stretches of the first `frames` frames.

    Returns
    -------
    starts : list of int
    windows : list of float64 arrays [frames, channels]
        Each channel without its mean; none that is silent.
    """
    size = min(_WINDOW_FRAMES, frames)
    stretches = min(_WINDOWS, frames // size)
    hop = max(1, size // 4)
    edges = [frames * index // stretches for index in range(stretches + 1)]
    places = [at for low, high in itertools.pairwise(edges) for at in range(low, high - size + 1, hop)]
    best: dict[int, tuple[float, int, Real]] = {}
    for index, piece in pieces(part(take.blocks(), 0, frames), places, size, take.channels):
        window = piece.astype(np.float64)
        window -= window.mean(axis=0)
        energy = float(np.vdot(window, window))
        stretch = sum(edge <= places[index] for edge in edges)
        if energy > 0.0 and energy > best.get(stretch, (0.0,))[0]:
            best[stretch] = energy, places[index], window
    chosen = [best[stretch] for stretch in sorted(best)]
    return [start for _, start, _ in chosen], [window for _, _, window in chosen]


def _best_lag(windows: list[Real], starts: list[int], b: Take, reach: int) -> tuple[int, int, bool] | None:
    """The whole lag where the windows fit best, the sign they have there, and whether that is certain."""
    scores = _correlation(windows, starts, b, reach)
    highest, lowest = float(scores.max()), float(scores.min())
    best = max(highest, -lowest)
    if best <= 0.0:
        return None
    is_certain = min(highest, -lowest) < _OPPOSITE * best
    # Where the polarity is open, the takes are held to have the same.
    sign = -1 if is_certain and -lowest > highest else 1
    scores *= sign
    heights = {at: _height(scores, at) for at in _peaks(scores)}
    least = _AS_HIGH * max(heights.values())
    lags = [at - reach for at, height in heights.items() if height >= least]
    return min(lags, key=lambda lag: (abs(lag), lag)), sign, is_certain


def _peaks(scores: Array) -> list[int]:
    """Places that are as high as their neighbours and about as high as the highest."""
    edged = np.pad(scores, 1, constant_values=-np.inf)
    is_peak = (scores >= edged[:-2]) & (scores >= edged[2:]) & (scores >= _NEARLY * scores.max())
    found: list[int] = np.flatnonzero(is_peak).tolist()
    return found


def _height(scores: Array, at: int) -> float:
    """How high a peak is between the frames: that of the parabola through three of them."""
    if not 0 < at < len(scores) - 1:
        return float(scores[at])
    low, top, high = (float(each) for each in scores[at - 1 : at + 2])
    bend = 2.0 * top - low - high
    return top + (low - high) ** 2 / (8.0 * bend) if bend > 0.0 else top


def _correlation(windows: list[Real], starts: list[int], b: Take, reach: int) -> Array:
    """Normalised cross-correlation of all windows together at lags from -reach to reach."""
    size, lags = len(windows[0]), 2 * reach + 1
    # No larger than it takes: short files have few lags.
    segment = min(_SEGMENT_FRAMES, 1 << (2 * size + lags - 2).bit_length())
    hop = segment - size + 1
    products, energies = np.zeros(lags, np.float32), np.zeros(lags, np.float32)
    places = [(index, lag) for index in range(len(windows)) for lag in range(0, lags, hop)]
    froms = [starts[index] - reach + lag for index, lag in places]
    near = [n for n, at in enumerate(froms) if -segment < at < b.frames]
    for n, piece in pieces(b.blocks(), [froms[n] for n in near], segment, b.channels):
        index, lag = places[near[n]]
        stop = min(lag + hop, lags)
        product, energy = _segment(windows[index], piece.astype(np.float64))
        products[lag:stop] += product[: stop - lag]
        energies[lag:stop] += energy[: stop - lag]
    total = sum(float(np.vdot(window, window)) for window in windows)
    # What is left of silence by rounding is no energy to divide by.
    least = 1e-6 * float(energies.max(initial=0.0))
    products /= np.sqrt(np.maximum(energies, least or 1.0) * np.float32(total))
    products[energies <= least] = 0.0
    return products


def _segment(window: Real, piece: Real) -> tuple[Real, Real]:
    """Sum of products with a window at each lag inside a piece, and the energy of what it meets there."""
    size, count = len(window), len(piece) - len(window) + 1
    product, energy = np.zeros(count), np.zeros(count)
    for x, y in zip(window.T, piece.T, strict=True):
        spectrum = np.fft.rfft(y)
        spectrum *= np.fft.rfft(x, len(y)).conj()
        product += np.fft.irfft(spectrum, len(y))[:count]
        sums = np.concatenate([[0.0], np.cumsum(y)])
        squares = np.concatenate([[0.0], np.cumsum(y * y)])
        mean = (sums[size:] - sums[:-size]) / size
        energy += squares[size:] - squares[:-size] - size * mean * mean
    return product, np.maximum(energy, 0.0)


def _refined(
    windows: list[Real], starts: list[int], b: Take, lag: int, sign: int, is_certain: bool
) -> Alignment | None:
    bell = _bell(len(windows[0]))
    windows = [window * bell for window in windows]
    pairs = _pairs(windows, starts, b, lag)
    inside = sum(float(np.vdot(x, x)) for x, _ in pairs)
    if inside < _LEAST_SHARE * sum(float(np.vdot(x, x)) for x in windows):
        return None
    rest = 0.0
    for _ in range(_STEPS):
        step = _remaining(pairs, rest, sign)
        rest += step
        if abs(step) < _RESTING_FRAMES:
            break
    whole = float(round(rest))
    # A whole number of frames needs no interpolation, which has errors of its own.
    candidates = (_fit(pairs, whole), _fit(pairs, rest))
    best = 0 if candidates[0][0] >= candidates[1][0] * (1.0 - 1e-12) else 1
    correlation, gain = candidates[best]
    if correlation < LEAST_CORRELATION:
        return None
    polarity = (1 if gain > 0.0 else -1) if is_certain else None
    return Alignment(lag + (whole, rest)[best], min(correlation, 1.0), polarity, gain)


def _pairs(windows: list[Real], starts: list[int], b: Take, lag: int) -> list[tuple[Real, Real]]:
    """Each window, and what it meets in `b`, with a guard at both ends; nothing outside `b`."""
    size = len(windows[0])
    froms = [start + lag - _GUARD_FRAMES for start in starts]
    found = []
    for index, piece in pieces(b.blocks(), froms, size + 2 * _GUARD_FRAMES, b.channels):
        at = np.arange(len(piece)) + froms[index]
        known = ((at >= 0) & (at < b.frames))[:, np.newaxis]
        met = piece.astype(np.float64)
        met -= known * met.sum(axis=0) / max(1, np.count_nonzero(known))
        found.append((windows[index] * known[_GUARD_FRAMES : _GUARD_FRAMES + size], met))
    return found


def _moved(piece: Real, frames: float, size: int) -> Real:
    """The `size` frames of a piece behind its guard, from `frames` later on; under the window's bell."""
    if frames == round(frames):
        low = _GUARD_FRAMES + int(frames)
        moved = piece[low : low + size]
    else:
        fade = np.sin(0.5 * math.pi * (np.arange(_GUARD_FRAMES // 2) + 0.5) / (_GUARD_FRAMES // 2)) ** 2
        faded = piece.copy()
        faded[: len(fade)] *= fade[:, np.newaxis]
        faded[len(piece) - len(fade) :] *= fade[::-1, np.newaxis]
        length = 1 << (len(piece) - 1).bit_length()
        turn = np.exp(2j * math.pi * frames * np.arange(length // 2 + 1) / length)[:, np.newaxis]
        turn[-1] = turn[-1].real
        moved = np.fft.irfft(np.fft.rfft(faded, length, axis=0) * turn, length, axis=0)
        moved = moved[_GUARD_FRAMES : _GUARD_FRAMES + size]
    return np.asarray(moved * _bell(size))


def _bell(size: int) -> Real:
    """A window that begins and ends softly: [frames, 1]."""
    return np.asarray(np.sin(math.pi * (np.arange(size) + 0.5) / size)[:, np.newaxis] ** 2)


def _remaining(pairs: list[tuple[Real, Real]], known: float, sign: int) -> float:
    """The delay that is left when what is known of it has been taken away."""
    near = np.zeros(2 * _NEAR_FRAMES + 1)
    for x, piece in pairs:
        y = _moved(piece, known, len(x))
        length = 1 << (len(x) + _NEAR_FRAMES).bit_length()
        for one, other in zip(x.T, y.T, strict=True):
            spectrum = np.fft.rfft(other, length) * np.fft.rfft(one, length).conj()
            c = np.fft.irfft(spectrum, length)
            near += np.concatenate([c[-_NEAR_FRAMES:], c[: _NEAR_FRAMES + 1]])
    # Lags far from the peak matter little, and should not end abruptly.
    near *= np.hanning(len(near) + 2)[1:-1]
    length = 8 * _NEAR_FRAMES
    spectrum = np.fft.rfft(near, length)
    omega = 2.0 * math.pi * np.arange(len(spectrum)) / length
    phase = np.angle(spectrum)
    place, _ = phase_maximum(sign * np.abs(spectrum), phase, omega, float(_NEAR_FRAMES), 1e-9)
    # What turns the spectrum wraps around in the guard.
    return float(np.clip(place - _NEAR_FRAMES, -8.0, 8.0))


def _fit(pairs: list[tuple[Real, Real]], delay: float) -> tuple[float, float]:
    """Correlation at a delay, from 0 to 1, and the gain that makes the second most like the first."""
    xx = yy = xy = 0.0
    for x, piece in pairs:
        y = _moved(piece, delay, len(x))
        y = y * (np.any(x != 0.0, axis=1)[:, np.newaxis])
        xx, yy, xy = xx + float(np.vdot(x, x)), yy + float(np.vdot(y, y)), xy + float(np.vdot(x, y))
    if xx <= 0.0 or yy <= 0.0:
        return 0.0, 1.0
    return abs(xy) / math.sqrt(xx * yy), xy / yy


@dataclass(frozen=True)
class Overlap:
    """Two takes as they lie upon one another, both to be read once.

    Attributes
    ----------
    a, b : generators of float32 arrays [frames, channels]
    start_frame : int
        Of `a`.
    frames : int
        0 where they do not overlap.
    """

    a: Blocks
    b: Blocks
    start_frame: int
    frames: int


def delayed_pairs(a: Take, b: Take, delay: float) -> Overlap:
    """Move the second take by its delay.

    Between frames, it is interpolated by a sine over its argument of up to 1024 frames under a Kaiser
    window: flat to 0.98 of half the rate, errors 120 dB down. Frames for which that would reach beyond
    either of its ends are left out.

    Parameters
    ----------
    a, b : Take
    delay : float
        Frames the second is late by.
    """
    whole = math.floor(delay)
    fraction = delay - whole
    first_a, first_b = max(0, -whole), max(0, whole)
    frames = max(0, min(a.frames - first_a, b.frames - first_b))
    if not fraction:
        return Overlap(part(a.blocks(), first_a, frames), part(b.blocks(), first_b, frames), first_a, frames)
    half = max(8, min(512, frames // 64))
    # Reaches from half - 1 frames before to half frames behind.
    skipped = max(0, half - 1 - first_b)
    first_a, first_b = first_a + skipped, first_b + skipped - (half - 1)
    frames = max(0, min(a.frames - first_a, b.frames - first_b - 2 * half + 1))
    between = _interpolated(part(b.blocks(), first_b, frames + 2 * half - 1), fraction, half)
    return Overlap(part(a.blocks(), first_a, frames), between, first_a, frames)


def _interpolated(blocks: Blocks, fraction: float, half: int) -> Blocks:
    """A stream at ``n + half - 1 + fraction``, for each n that leaves the kernel inside it."""
    kernel = _kernel(fraction, half)
    taps = len(kernel)
    held: Array | None = None
    try:
        for block in blocks:
            held = block if held is None else np.concatenate([held, block])
            count = len(held) - taps + 1
            if count < 1:
                continue
            length = 1 << (len(held) - 1).bit_length()
            spectrum = np.fft.rfft(held.astype(np.float64), length, axis=0)
            spectrum *= np.fft.rfft(kernel[::-1], length)[:, np.newaxis]
            made = np.fft.irfft(spectrum, length, axis=0)
            yield made[taps - 1 : taps - 1 + count].astype(np.float32)
            held = held[count:]
    finally:
        blocks.close()


def _kernel(fraction: float, half: int) -> Real:
    """Weights of frames from -(half - 1) to half for the value at `fraction`."""
    at = np.arange(1 - half, half + 1) - fraction
    inside = np.sqrt(np.maximum(0.0, 1.0 - (at / half) ** 2))
    kernel = np.sinc(at) * np.i0(12.0 * inside)
    return np.asarray(kernel / kernel.sum())
