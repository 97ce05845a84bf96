"""What item n of a seed is, against Philox and the table of `draws` written down once more."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backline.dataset import Distribution

KNOBS = ({}, {"drive": (0.0, 10.0), "tone": (-1.0, 1.0)}, {"tone": (0.25, 0.25)})
SEEDS = st.integers(0, 2**64 - 1)


def philox(seed: int, item: int, count: int) -> list[int]:
    """Philox4x64-10 after Salmon et al., 2011, section 3.3 and table 2."""
    words: list[int] = []
    counter = 0
    while len(words) < count:
        counter += 1
        c, k = [counter, 0, 0, 0], [seed, item]
        for _ in range(10):
            first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [
                (second >> 64) ^ c[1] ^ k[0],
                second % 2**64,
                (first >> 64) ^ c[3] ^ k[1],
                first % 2**64,
            ]
            k = [(k[0] + 0x9E3779B97F4A7C15) % 2**64, (k[1] + 0xBB67AE8584CAA73B) % 2**64]
        words += c
    return words[:count]


@given(seed=SEEDS, item=SEEDS, segments=st.lists(st.integers(1, 10**9), min_size=1, max_size=5))
def test_a_draw_is_what_the_table_says(seed, item, segments):
    drawn = Distribution(seed, segments, KNOBS, (-20.0, 7.5), True).draw(item)
    uniform = [Fraction(word // 2**11, 2**53) for word in philox(seed, item, 6)]
    assert drawn.item == item
    assert drawn.model == int(uniform[0] * len(KNOBS))
    segment = int(uniform[1] * sum(segments))
    assert sum(segments[: drawn.input]) + drawn.start_frame == segment
    assert 0 <= drawn.start_frame < segments[drawn.input]
    assert drawn.gain_db == pytest.approx(float(-20 + uniform[2] * Fraction(55, 2)), abs=1e-13)
    assert drawn.flipped == (uniform[3] < Fraction(1, 2))
    bounds = KNOBS[drawn.model]
    assert list(drawn.knobs) == list(bounds)
    for (name, (low, high)), u in zip(bounds.items(), uniform[4:], strict=False):
        expected = float(low + u * Fraction(high - low))
        assert drawn.knobs[name] == pytest.approx(expected, rel=1e-7, abs=1e-12)
        assert np.float32(drawn.knobs[name]) == drawn.knobs[name]
    factor = (-1 if drawn.flipped else 1) * 10 ** (drawn.gain_db / 20)
    assert drawn.factor == np.float32(factor)


@given(seed=SEEDS, items=st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_order_does_not_matter(seed, items):
    distribution = Distribution(seed, [10, 20], KNOBS, (-3.0, 3.0), True)
    once = {item: distribution.draw(item) for item in items}
    assert all(distribution.draw(item) == once[item] for item in reversed(items))


def test_draws_fill_their_ranges_evenly():
    distribution = Distribution(1, [100, 300], KNOBS, (-10.0, 10.0), True)
    drawn = [distribution.draw(item) for item in range(4000)]
    # Standard deviations of these means are 0.0079, 0.0068 and 0.091; five of them are allowed.
    assert np.mean([each.flipped for each in drawn]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([each.input for each in drawn]) == pytest.approx(0.75, abs=0.035)
    assert np.mean([each.gain_db for each in drawn]) == pytest.approx(0.0, abs=0.46)
    assert {each.model for each in drawn} == {0, 1, 2}
    assert min(each.start_frame for each in drawn) < 3
    assert max(each.start_frame for each in drawn) > 295
    assert not any(Distribution(1, [9], KNOBS).draw(item).flipped for item in range(50))


def test_no_gain_changes_no_bit():
    drawn = Distribution(1, [9], [{}]).draw(3)
    assert (drawn.gain_db, drawn.factor) == (0.0, np.float32(1.0))


def test_rounding_stays_inside_the_bounds():
    low, high = 0.1, 0.1 + 1e-10  # the nearest float32 is outside
    for item in range(20):
        assert low <= Distribution(1, [9], [{"knob": (low, high)}]).draw(item).knobs["knob"] <= high
