"""Whether models fit: measuring, advising, and choosing among sizes on simulated sessions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backline
from backline.engine import Model
from backline.live.headroom import QualityGovernor, advice, larger_blocks, measure, sizes, verdict


def wide(channels: int) -> Model:
    weight = np.full((channels, channels, 9), 0.01, np.float32)
    return backline.conv1d(weight)


def test_a_measure_is_a_share_of_the_block() -> None:
    program = wide(32).program
    found = measure(program, 1, 64, 48000.0, 0.01)
    assert found.mean > 0.0
    assert found.p99 > 0.0
    # Twice the rate leaves half the time; a hundredfold margin for whatever else the machine does.
    slow = measure(program, 1, 64, 48.0, 0.01)
    assert slow.mean < found.mean / 10


def test_streams_count() -> None:
    program = wide(64).program
    one, many = (measure(program, streams, 64, 48000.0, 0.01).mean for streams in (1, 32))
    assert many > 4 * one


def test_sizes_of_a_container_are_found(golden: Path) -> None:
    found = sizes(partial(backline.load, golden / "nam" / "models" / "A2.nam"))
    weights = [size.model.graph.parameter_count for size in found]
    assert len(found) == 2
    assert weights[0] < weights[1]
    assert found[1].quality == 1.0
    lite = backline.load(golden / "nam" / "models" / "A2.nam", quality=found[0].quality)
    assert lite.graph.parameter_count == weights[0]


def test_a_model_of_one_size_has_one() -> None:
    (only,) = sizes(partial(backline.load, "overdrive"))
    assert only.quality == 1.0


@pytest.mark.parametrize(
    "limits", [(0.5, 1.0), (0.03, 0.05, 1.0), (0.5, 0.52, 0.54, 1.0), (0.2, 0.21, 0.9, 1.0)]
)
def test_sizes_that_lie_close_together_are_found(limits: tuple[float, ...]) -> None:
    models = [wide(4 + index) for index in range(len(limits))]

    def load(quality: float) -> Model:
        """Which of a container's models a quality stands for, as NeuralAmpModelerCore chooses."""
        return next((m for m, limit in zip(models, limits, strict=True) if quality < limit), models[-1])

    found = sizes(load)
    assert [size.model for size in found] == models
    assert all(load(size.quality) is size.model for size in found)


def test_verdicts() -> None:
    assert verdict("amp", 0.5) is None
    assert verdict("amp", 0.9) == "amp: leaves hardly any time: it takes 90 % of each block"
    assert verdict("amp", 1.3) == "amp: does not fit into the time there is: it takes 130 % of each block"


def test_advice_names_the_least_change_that_fits() -> None:
    said = advice(
        1.2, at_block={128: 0.95, 256: 0.8, 512: 0.7}, at_quality={0.0: 0.2, 0.5: 0.6}, others={"small": 0.1}
    )
    assert said == "what would fit: --block 256 (80 %), --quality 0.5 (60 %), the model small (10 %)"
    assert "2.0 times as fast" in advice(1.7, at_block={128: 1.6}, at_quality={}, others={})
    assert larger_blocks(256) == [512, 1024, 2048]
    assert larger_blocks(2048) == []


# ---- choosing ----


def played(
    loads: list[float], seconds: float, factor: float = 1.0, governor: QualityGovernor | None = None
) -> list[int]:
    """Sizes of a session where each takes what was measured times `factor`, a look every quarter second."""
    governor = governor or QualityGovernor(loads)
    chosen = []
    for look in range(round(seconds * 4)):
        load = loads[governor.size] * factor
        chosen.append(governor.observe(look / 4, load, int(load > 1.0)))
    return chosen


@pytest.mark.parametrize(
    ("loads", "size"),
    [([0.1, 0.3, 0.5], 2), ([0.1, 0.3, 0.7], 1), ([0.7, 0.8], 0), ([0.2], 0)],
)
def test_it_begins_with_the_largest_that_is_comfortable(loads: list[float], size: int) -> None:
    assert QualityGovernor(loads).size == size


def test_it_steps_down_at_once_and_stays_there_where_the_core_is_slower_than_measured() -> None:
    chosen = played([0.1, 0.3, 0.55], 60.0, factor=2.0)
    assert chosen[0] == 1
    assert set(chosen[4:]) == {1}


def test_it_steps_up_after_a_calm() -> None:
    governor = QualityGovernor([0.1, 0.5])
    governor.observe(0.0, 0.5, overloads=1)
    assert governor.size == 0
    sizes_then = [governor.observe(1.0 + look / 4, 0.1) for look in range(80)]
    assert sizes_then.index(1) == 40  # ten seconds


def test_a_step_up_that_fails_takes_twice_as_long_the_next_time() -> None:
    governor = QualityGovernor([0.1, 0.5])
    ups, before, now = [], governor.size, 0.0
    while len(ups) < 5:
        load = 0.1 if governor.size == 0 else 0.95  # the larger one never fits
        size = governor.observe(now, load)
        if size > before:
            ups.append(now)
        before, now = size, now + 0.25
    gaps = np.diff(ups)
    np.testing.assert_allclose(gaps[1:] / gaps[:-1], 2.0, rtol=0.06)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.01, 1.5), min_size=1, max_size=5).map(sorted),
    st.floats(0.3, 3.0),
)
def test_it_never_oscillates(loads: list[float], factor: float) -> None:
    chosen = played(loads, 300.0, factor)
    assert all(0 <= size < len(loads) for size in chosen)
    changes = np.count_nonzero(np.diff(chosen))
    assert changes <= 2 * len(loads) + 8
