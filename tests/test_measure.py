"""Responses, transfer curves and harmonics of models whose answers are known from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import array

import backline
from backline.activations import Activation
from backline.engine import Model
from backline.graph import Graph
from backline.layers import Activate, Add, Affine, Conv1d, Delay, Multiply
from backline.measure import frequency_response, harmonics, transfer

RATE_HZ = 48000.0
LEVELS = np.array([-40.0, -20.0, -6.0, 0.0])


def model_of(*nodes, **options) -> Model:
    return Model(Graph(tuple(nodes), "x", 1, nodes[-1].output, sample_rate_hz=RATE_HZ, **options))


def activated(kind: str, *parameters: float) -> Model:
    return model_of(Activate("y", "x", Activation(kind, parameters)))


def scaled(output: str, source: str, scale: float) -> Affine:
    return Affine(output, source, np.array([scale], np.float32))


def cubic(a: float) -> Model:
    """``y = x + a x^3``."""
    nodes = [Multiply("x2", "x", "x"), Multiply("x3", "x2", "x"), scaled("a x3", "x3", a)]
    return model_of(*nodes, Add("y", "x", "a x3"))


# ---- frequency response ----


@pytest.mark.parametrize("level", [-60.0, -6.0])
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_a_filter_has_its_textbook_response(level, bias):
    signal = pytest.importorskip("scipy.signal")
    gains = [(0, 0.3), (200, 0.5), (1000, 1.0), (3000, 4.0), (9000, 0.5), (24000, 0.2)]
    hz, gain = zip(*gains, strict=True)
    taps = signal.firwin2(1025, hz, gain, fs=RATE_HZ).astype(np.float32)
    weight, shift = taps[None, None, ::-1], np.array([bias], np.float32)
    found = frequency_response(model_of(Conv1d("y", "x", np.ascontiguousarray(weight), shift)), level)
    # The mean power of a twenty-fourth of an octave: bends are rounded off that much.
    near = found.hz[:, None] * np.linspace(2 ** (-1 / 48), 2 ** (1 / 48), 21)
    _, expected = signal.freqz(taps.astype(np.float64), worN=near.ravel(), fs=RATE_HZ)
    power = np.mean(np.abs(expected.reshape(near.shape)) ** 2, axis=1)
    np.testing.assert_allclose(found.db, 10 * np.log10(power), atol=0.02)
    assert (found.hz[0], found.level_dbfs) == (pytest.approx(20.0), level)
    assert found.hz[-1] == pytest.approx(20000.0)


def test_a_late_model_has_the_response_of_one_in_time():
    found = [
        frequency_response(model_of(Delay("y", "x", late), latency_frames=late), -20.0).db
        for late in (0, 30000)
    ]
    np.testing.assert_allclose(found, 0.0, atol=0.02)


def test_a_recurrent_filter_too():
    """A leaky integrator by hand: an impulse response that has no end but fades."""
    signal = pytest.importorskip("scipy.signal")
    taps = (0.1 * 0.9 ** np.arange(2000)).astype(np.float32)
    found = frequency_response(backline.conv1d(np.ascontiguousarray(taps[None, None, ::-1])), -20.0)
    _, expected = signal.freqz([0.1], [1.0, -0.9], worN=found.hz, fs=RATE_HZ)
    np.testing.assert_allclose(found.db, 20 * np.log10(np.abs(expected)), atol=0.05)


@pytest.mark.parametrize("level", [-20.0, -6.0, 0.0])
def test_what_distorts_is_measured_by_its_fundamental(level):
    """Of ``x - x^3 / 3`` a sine of peak A keeps ``1 - A^2 / 4``: the rest is third harmonic."""
    found = frequency_response(cubic(-1 / 3), level)
    expected = 20 * np.log10(1 - 10 ** (level / 10) / 4)
    plain = (found.hz > 40) & (found.hz < 5000)  # above, what aliases gets in between
    np.testing.assert_allclose(found.db[plain], expected, atol=0.05)


# ---- transfer ----


@pytest.mark.parametrize("late", [0, 37])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_curve_without_memory_is_that_curve(late, sign):
    nodes = [Activate("a", "x", Activation("tanh")), Delay("b", "a", late), scaled("y", "b", sign)]
    found = transfer(model_of(*nodes), 0.0)
    np.testing.assert_allclose(found.y, sign * np.tanh(found.x), atol=1e-6)
    assert found.hz == pytest.approx(100.0)
    assert found.shift_ms == pytest.approx(-late / 48, abs=1e-5)
    assert np.max(found.x) == pytest.approx(1.0, abs=1e-4)


def test_an_asymmetric_curve_keeps_its_sides():
    found = transfer(activated("leaky_relu", 0.25), -12.0)
    np.testing.assert_allclose(found.y, np.where(found.x > 0, found.x, 0.25 * found.x), atol=1e-6)
    assert np.max(np.abs(found.x)) == pytest.approx(10 ** (-12 / 20), abs=1e-4)


# ---- harmonics ----


def fourier(curve, amplitude: float, number: int) -> float:
    """Peak of a harmonic of ``curve(amplitude sin t)``: the integral, by the midpoint rule."""
    t = 2 * np.pi * (np.arange(1 << 18) + 0.5) / (1 << 18)
    y = curve(amplitude * np.sin(t))
    return float(2 * np.hypot(np.mean(y * np.sin(number * t)), np.mean(y * np.cos(number * t))))


@pytest.mark.parametrize(
    ("model", "curve"),
    [
        (activated("tanh"), np.tanh),
        (activated("hardtanh", -0.5, 0.3), lambda v: np.clip(v, -0.5, 0.3)),
        (activated("softsign"), lambda v: v / (1 + np.abs(v))),
    ],
    ids=["tanh", "hardtanh", "softsign"],
)
def test_harmonics_are_the_fourier_series_of_the_curve(model, curve):
    found = harmonics(model, LEVELS)
    assert found.hz == pytest.approx(220.0, rel=1e-4)
    for column, level in enumerate(LEVELS):
        # What 24 kHz cuts off comes back between the harmonics; single precision leaves a floor.
        expected = [fourier(curve, 10 ** (level / 20), number) for number in range(1, 10)]
        peaks = 10 ** (found.dbfs[:, column] / 20)
        np.testing.assert_allclose(peaks, expected, atol=2e-5 * expected[0])


def test_a_square_makes_the_second_harmonic_alone():
    found = harmonics(model_of(Multiply("y", "x", "x")), LEVELS)
    np.testing.assert_allclose(found.dbfs[1], 2 * LEVELS - 20 * np.log10(2), atol=1e-3)
    assert np.all(np.delete(found.dbfs, 1, axis=0) < found.dbfs[1] - 100)


def test_a_cube_makes_first_and_third():
    found = harmonics(cubic(1.0), LEVELS)
    amplitude = 10 ** (LEVELS / 20)
    np.testing.assert_allclose(10 ** (found.dbfs[0] / 20), amplitude + 0.75 * amplitude**3, rtol=1e-5)
    np.testing.assert_allclose(10 ** (found.dbfs[2] / 20), 0.25 * amplitude**3, rtol=1e-3)


def test_harmonics_above_half_the_rate_are_none():
    graph = Graph((Activate("y", "x", Activation("tanh")),), "x", 1, "y", sample_rate_hz=1600.0)
    found = harmonics(Model(graph), LEVELS)
    assert np.isnan(found.dbfs[3:]).all()
    assert np.isfinite(found.dbfs[0]).all()


# ---- what cannot be measured ----


@pytest.mark.parametrize(
    "model",
    [
        backline.conv1d(array(0, 1, 2, 1)),
        backline.conv1d(array(0, 2, 1, 1)),
        backline.conv1d(array(0, 1, 1, 1), stride=2),
    ],
    ids=["two in", "two out", "half the rate"],
)
def test_other_shapes_are_refused(model):
    for measure in (frequency_response, transfer):
        with pytest.raises(backline.ModelError, match="expected one channel each at the same rate"):
            measure(model, -6.0)
    with pytest.raises(backline.ModelError, match="expected one channel each at the same rate"):
        harmonics(model, LEVELS)


def test_what_is_not_finite_is_refused():
    huge = model_of(scaled("a", "x", 3e38), scaled("b", "a", 1.0), Multiply("y", "b", "b"))
    with pytest.raises(backline.ModelError, match="no finite number"):
        transfer(huge, 0.0)
