"""The tuner tells known frequencies, whatever the string, and nothing where there is no note."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.live.tuner import Tuner, detect, pitch_of
from backline.pluck import pluck, riff

RATES = (44100, 48000, 96000)
#: Amplitudes of the harmonics, the fundamental first.
STRINGS = {
    "as a saw": 1.0 / np.arange(1, 21),
    "all alike": np.ones(30),
    "weak fundamental": np.array([0.03, *1.0 / np.arange(2, 21)]),
    "no fundamental": np.array([0.0, 1.0, 0.8, 0.6, 0.5, 0.3]),
    "even ones 17 dB above the odd": np.array([0.1, 1.0, 0.1, 0.7, 0.1, 0.3]),
}
OPEN_STRINGS = {
    **{"B0": 30.868, "E1": 41.203, "A1": 55.0, "D2": 73.416, "G2": 97.999},
    **{"E2": 82.407, "A2": 110.0, "D3": 146.832, "G3": 195.998, "B3": 246.942, "E4": 329.628},
}


def string(
    hz: float, amplitudes: np.ndarray, rate_hz: float, seed: int = 0, seconds: float = 0.2
) -> np.ndarray:
    """A decaying sum of sines in any phases, which nothing of the package has made."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    sound = np.zeros(t.size)
    for number, amplitude in enumerate(amplitudes, 1):
        if number * hz < 0.45 * rate_hz:
            sound += amplitude * np.sin(2.0 * np.pi * number * hz * t + rng.uniform(0.0, 2.0 * np.pi))
    return 0.1 * sound * np.exp(-3.0 * t)


def cents_off(found, hz: float) -> float:
    assert found is not None
    return 1200.0 * math.log2(found.hz / hz)


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("kind", STRINGS)
def test_strings_are_told_to_a_tenth_of_a_cent(kind, rate_hz):
    for seed, hz in enumerate(np.geomspace(30.6, 1230.0, 60)):
        found = detect(string(hz, STRINGS[kind], rate_hz, seed), rate_hz)
        assert abs(cents_off(found, hz)) < 0.1, hz
        assert 0.9 < found.clarity <= 1.0


@settings(max_examples=200, deadline=None)
@given(
    hz=st.floats(30.0, 1250.0),
    rate_hz=st.sampled_from(RATES),
    amplitudes=st.lists(st.floats(0.3, 1.0), min_size=2, max_size=12),
    seed=st.integers(0, 99),
)
def test_any_string_is_told_to_a_cent(hz, rate_hz, amplitudes, seed):
    assert abs(cents_off(detect(string(hz, np.array(amplitudes), rate_hz, seed), rate_hz), hz)) < 1.0


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("note", OPEN_STRINGS)
@pytest.mark.parametrize("cents", [-31.0, 0.0, 17.0])
def test_detuned_plucks(note, cents, rate_hz):
    hz = OPEN_STRINGS[note] * 2.0 ** (cents / 1200.0)
    tuner = Tuner(rate_hz)
    sound = pluck(hz, 0.6, rate_hz, seed=1)
    for start in range(0, sound.size, 997):
        tuner.feed(sound[start : start + 997])
    found = tuner.pitch()
    assert found is not None
    assert found.note == note
    # The frequencies above are rounded to a thousandth of a hertz: 0.04 cents at the lowest.
    assert found.cents == pytest.approx(cents, abs=0.2)


@pytest.mark.parametrize("snr_db", [30.0, 20.0])
def test_noise_on_a_string_costs_less_than_a_cent(snr_db):
    rng = np.random.default_rng(3)
    for seed, hz in enumerate(np.geomspace(31.0, 1200.0, 40)):
        clean = string(hz, STRINGS["as a saw"], 48000, seed)
        noise = rng.standard_normal(clean.size) * np.std(clean) * 10.0 ** (-snr_db / 20.0)
        assert abs(cents_off(detect(clean + noise, 48000), hz)) < 1.0, hz


@pytest.mark.parametrize("rate_hz", RATES)
def test_noise_has_no_pitch(rate_hz):
    rng = np.random.default_rng(4)
    for _ in range(50):
        assert detect(0.1 * rng.standard_normal(round(0.2 * rate_hz)), rate_hz) is None


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(9600),
        np.full(9600, 0.25),
        np.zeros(0),
        np.ones(3),
        np.full(9600, math.nan),
        np.full(9600, math.inf),
        1e-5 * np.sin(np.arange(9600) / 30.0),
        np.eye(1, 9600, 4000)[0],
        np.linspace(-1.0, 1.0, 9600),
        0.1 * np.sin(2.0 * np.pi * 2000.0 * np.arange(9600) / 48000),
        0.1 * np.sin(2.0 * np.pi * 12.0 * np.arange(9600) / 48000),
    ],
    ids=["silence", "DC", "nothing", "three", "NaN", "inf", "quiet", "click", "ramp", "too high", "too low"],
)
def test_what_is_no_note_has_no_pitch(sound):
    assert detect(sound, 48000) is None


def test_chords_and_attacks_do_no_harm():
    tuner = Tuner(48000)
    for block in np.array_split(riff(48000), 200):
        tuner.feed(block)
        found = tuner.pitch()
        assert found is None or (28.0 <= found.hz <= 1300.0 and -50.0 <= found.cents <= 50.0)


@settings(max_examples=100, deadline=None)
@given(
    sound=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), max_size=400),
    rate_hz=st.sampled_from((1.0, 100.0, 8000.0, 192000.0)),
)
def test_anything_may_sound(sound, rate_hz):
    found = detect(sound, rate_hz)
    assert found is None or math.isfinite(found.hz)


def test_it_forgets_after_a_fifth_of_a_second():
    tuner = Tuner(48000)
    tuner.feed(string(110.0, STRINGS["as a saw"], 48000))
    assert tuner.pitch().note == "A2"
    tuner.feed(string(146.83, STRINGS["as a saw"], 48000))
    assert tuner.pitch().note == "D3"
    tuner.feed(np.zeros(9600))
    assert tuner.pitch() is None


@pytest.mark.parametrize(
    ("hz", "a4_hz", "note", "cents"),
    [
        (440.0, 440.0, "A4", 0.0),
        (442.0, 442.0, "A4", 0.0),
        (440.0, 432.0, "A4", 31.766653633429414),
        (261.6255653005986, 440.0, "C4", 0.0),
        (30.867706328507758, 440.0, "B0", 0.0),
        (440.0 * 2.0 ** (-0.49 / 12.0), 440.0, "A4", -49.0),
        (440.0 * 2.0 ** (0.51 / 12.0), 440.0, "A#4", -49.0),
        (16.351597831287414, 440.0, "C0", 0.0),
    ],
)
def test_names_of_frequencies(hz, a4_hz, note, cents):
    found = pitch_of(hz, a4_hz=a4_hz)
    assert found.note == note
    assert found.cents == pytest.approx(cents, abs=1e-9)


def test_the_reference_may_be_another():
    assert detect(string(442.0, STRINGS["as a saw"], 48000), 48000, a4_hz=442.0).cents == pytest.approx(
        0, abs=0.1
    )
    tuner = Tuner(48000, 415.3)
    tuner.feed(string(415.3, STRINGS["as a saw"], 48000))
    assert tuner.pitch().note == "A4"


@pytest.mark.parametrize("hz", [0.0, -1.0, math.nan, math.inf])
def test_frequencies_are_above_0(hz):
    with pytest.raises(ValueError, match="expected frequencies above 0"):
        pitch_of(hz)
    with pytest.raises(ValueError, match="expected frequencies above 0"):
        Tuner(hz)
    with pytest.raises(ValueError, match="expected frequencies above 0"):
        Tuner(48000, hz)
