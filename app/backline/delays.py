"""The place of a correlation's peak between frames: what all that measures delays shares; plain NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]

_REACH_FRAMES = 8.0
_PRECISION_FRAMES = 1e-5
_PLACES = 65


def phase_maximum(
    weights: Real, phase: Real, omega: Real, near: float, precision: float = _PRECISION_FRAMES
) -> tuple[float, float]:
    """The largest value of ``sum(weights * cos(phase + omega * t))`` within a few frames, and its place t.

    That sum is a correlation, given by its spectrum, at any time t, whole or not: so its maximum is found
    between the frames without interpolating anything. With weights of 1 it is the generalised
    cross-correlation with phase transform (C. H. Knapp and G. C. Carter, "The generalized correlation
    method for estimation of time delay", IEEE Trans. ASSP 24(4), 1976), with magnitudes plain correlation.

    Parameters
    ----------
    weights, phase, omega : float64 arrays [frequencies]
        `omega` in radians per frame.
    near : float
        Where to look, 8 frames to either side.
    precision : float
        Frames.

    Returns
    -------
    t : float
    value : float
    """

    def at(times: Real) -> Real:
        values: Real = np.cos(phase + times[:, np.newaxis] * omega) @ weights
        return values

    reach, best = _REACH_FRAMES, near
    while reach > precision:
        times = best + np.linspace(-reach, reach, _PLACES)
        values = at(times)
        best, reach = float(times[np.argmax(values)]), reach / 24.0
    return best, float(at(np.array([best]))[0])
