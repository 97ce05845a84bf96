"""Solve the circuit of the overdrive, which exists only on paper: what the network is to answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from scipy.signal import lfilter

from . import RATE_HZ, Signal

OVERSAMPLING = 8
FULL_SCALE_VOLTS = 1.0  # what a sample of 1.0 means at the jack; a lively guitar peaks at 0.3 to 0.5 V

SCHEMATIC = r"""
    in --||--+---------------- + \
         C1  |                    >--+-- R4 --+-- level -- out
             R1       +------- - /   |        |
             |        |              |        C4
            GND       +----- R3 -----+        |
                      +----- C3 -----+       GND
                      +----- >| -----+
                      +----- |< -----+
                      |
                      R2
                      |
                      C2
                      |
                     GND
"""


@dataclass(frozen=True)
class Overdrive:
    """Non-inverting op-amp clipper, drawn in `SCHEMATIC`; values in ohms, farads, amperes and volts.

    The op-amp is ideal, so the current through the leg R2-C2 depends on the input alone: everything is a
    linear filter but the feedback voltage v, which obeys

        C3 dv/dt = i_leg - v / R3 - 2 Is sinh(v / (n Vt)).

    Diode figures are those commonly given for the 1N4148.
    """

    c1_farad: float = 22e-9
    r1_ohm: float = 150e3
    r2_ohm: float = 4.7e3
    c2_farad: float = 47e-9
    r3_ohm: float = 100e3
    c3_farad: float = 100e-12
    diode_saturation_amp: float = 2.52e-9
    diode_ideality: float = 1.752
    thermal_volt: float = 25.85e-3
    r4_ohm: float = 1e3
    c4_farad: float = 47e-9
    level: float = 0.5

    def solve(self, x: Signal) -> tuple[Signal, int]:
        """Answer to `x`, from rest.

        Parameters
        ----------
        x : ndarray of float64, shape [clips, frames]
            Input at 48 kHz, full scale 1.0.

        Returns
        -------
        y : ndarray of float64, shape [clips, frames]
            Output at 48 kHz.
        worst_iterations : int
            The most Newton steps that any frame took.

        Raises
        ------
        ArithmeticError
            If Newton's method did not converge somewhere.
        """
        fast_hz = RATE_HZ * OVERSAMPLING
        # Frames lie outermost: every step of the solver then touches one contiguous row, a value per clip.
        fast = np.empty((x.shape[1] * OVERSAMPLING, x.shape[0]), np.float32)
        for clip, signal in enumerate(x):
            fast[:, clip] = soxr.resample(signal, RATE_HZ, fast_hz, "VHQ")
        fast *= FULL_SCALE_VOLTS

        coupling = _first_order(self.r1_ohm * self.c1_farad, 0.0, self.r1_ohm * self.c1_farad, fast_hz)
        leg = _first_order(self.r2_ohm * self.c2_farad, 0.0, self.c2_farad, fast_hz)
        tone = _first_order(self.r4_ohm * self.c4_farad, 1.0, 0.0, fast_hz)
        rest = np.zeros((1, x.shape[0]))
        coupling_state, leg_state, tone_state = rest, rest, rest
        diodes = _Diodes(self, x.shape[0], fast_hz)

        # In slabs, so that float64 intermediates of a few minutes of audio do not fill the memory.
        for start in range(0, fast.shape[0], 4096):
            slab = fast[start : start + 4096]
            plus, coupling_state = lfilter(*coupling, slab.astype(np.float64), axis=0, zi=coupling_state)
            current, leg_state = lfilter(*leg, plus, axis=0, zi=leg_state)
            op_amp = plus + diodes.advance(current)
            out, tone_state = lfilter(*tone, op_amp, axis=0, zi=tone_state)
            slab[:] = self.level / FULL_SCALE_VOLTS * out

        y = np.zeros_like(x)
        for clip in range(x.shape[0]):
            slow = soxr.resample(fast[:, clip].astype(np.float64), fast_hz, RATE_HZ, "VHQ")
            y[clip, : slow.size] = slow[: x.shape[1]]
        return y, diodes.worst_iterations


def _first_order(tau_seconds: float, dc: float, slope: float, rate_hz: float) -> tuple[Signal, Signal]:
    """Trapezoidal rule for (dc + slope s) / (1 + tau s): exactly what integrating the capacitor would give.

    Returns
    -------
    numerator, denominator : ndarray of float64, shape [2]
    """
    k = 2.0 * rate_hz
    scale = 1.0 + tau_seconds * k
    b = np.array([dc + slope * k, dc - slope * k]) / scale
    return b, np.array([1.0, (1.0 - tau_seconds * k) / scale])


class _Diodes:
    """The one nonlinear state, v across the feedback network, of many clips side by side."""

    _TOLERANCE_VOLT = 1e-9
    _MOST_ITERATIONS = 60

    def __init__(self, circuit: Overdrive, clips: int, rate_hz: float) -> None:
        self._scale = circuit.diode_ideality * circuit.thermal_volt
        self._saturation = circuit.diode_saturation_amp
        self._conductance = 1.0 / circuit.r3_ohm
        self._capacitor = 2.0 * circuit.c3_farad * rate_hz
        self._v = np.zeros(clips)
        self._history = np.zeros(clips)  # what the trapezoidal rule carries over from the previous frame
        self.worst_iterations = 0

    def advance(self, current: Signal) -> Signal:
        """Turn leg current into feedback voltage, one trapezoidal step per row.

        Parameters
        ----------
        current : ndarray of float64, shape [frames, clips]
            In amperes.

        Returns
        -------
        ndarray of float64, shape [frames, clips]
            In volts.

        Raises
        ------
        ArithmeticError
            If Newton's method did not converge somewhere.
        """
        out = np.empty_like(current)
        for frame, now in enumerate(current):
            out[frame] = self._step(now)
        return out

    def _step(self, now: Signal) -> Signal:
        linear = self._capacitor + self._conductance
        # Newton overshoots wildly from the flat middle of the curve, where the first guess would be volts and
        # exp(volts / 45 mV) overflows. Three diode scales per step reach any real voltage within a few steps.
        limit = 3.0 * self._scale
        target = now + self._history
        v = self._v
        for iteration in range(1, self._MOST_ITERATIONS + 1):
            self.worst_iterations = max(self.worst_iterations, iteration)
            grow = self._saturation * np.exp(v / self._scale)
            shrink = self._saturation * self._saturation / grow
            diode = grow - shrink
            residual = target - linear * v - diode
            change = residual / (linear + (grow + shrink) / self._scale)
            v = v + np.minimum(np.maximum(change, -limit), limit)
            if max(change.max(), -change.min()) < self._TOLERANCE_VOLT:
                break
        else:
            worst = float(np.max(np.abs(change)))
            raise ArithmeticError(f"Newton: expected below {self._TOLERANCE_VOLT:g} V, found {worst:g} V")
        # The diode current at the accepted v follows from the equation just solved.
        self._history = now - (target - self._capacitor * v) + self._capacitor * v
        self._v = v
        return v
