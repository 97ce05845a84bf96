"""A model on several cores: the bits of one."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from graphs import array, cuts, examples, graphs
from hypothesis import assume, given
from hypothesis import strategies as st

import backline
from backline.graph import Graph
from backline.layers import Conv1d, Delay, Lstm, MaxPool1d, Upsample
from backline.render import threads
from backline.render.threads import cut, most_part_frames, part_sizes, processed, uses


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of a few frames, so that short signals have many."""
    monkeypatch.setattr(threads, "_LEAST_FIELDS", 1)
    monkeypatch.setattr(threads, "_LEAST_FRAMES", 1)
    monkeypatch.setattr(threads, "_BLOCK_FRAMES", 100)


def blocks_of(x: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(x, np.cumsum(sizes)[:-1])


@pytest.fixture(scope="module")
def lstm() -> backline.Model:
    cells = Lstm("cells", "input", array(1, 16, 1), array(2, 16, 4), array(3, 16))
    head = Conv1d("out", "cells", array(4, 1, 4, 1), None)
    return backline.Model(Graph((cells, head), "input", 1, "out", name="lstm"))


@examples(60)
@given(graph=graphs(), data=st.data(), frames=st.integers(1, 700), count=st.integers(2, 4))
def test_parts_side_by_side_are_the_whole_bit_for_bit(graph, data, frames, count):
    model = backline.Model(graph)
    assume(graph.signals[graph.output].rate == 1)
    x = array(7, frames, model.input_channels)
    sizes = data.draw(cuts(frames))
    expected = model(x)
    found = np.concatenate(list(processed(blocks_of(x, sizes), model, x.shape[1], count, frames)))
    assert np.array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize(
    "nodes",
    [
        (Delay("y", "x", 0, start_frames=30),),
        (Delay("a", "x", 2, start_frames=30), Conv1d("y", "a", array(1, 1, 1, 8), array(2, 1))),
        (MaxPool1d("y", "x", 3, start_frames=40),),
        (
            Conv1d("a", "x", array(1, 1, 1, 2), None, stride=2),
            Delay("b", "a", 0, start_frames=20),
            Upsample("c", "b", 2, "linear", start_frames=25),
            Conv1d("y", "c", array(3, 1, 1, 4), None),
        ),
    ],
)
def test_zeros_in_front_of_a_signal_are_heard_once(nodes):
    """They count from the beginning of the signal, not of each part."""
    model = backline.Model(Graph(nodes, "x", 1, "y"))
    x = 1.0 + array(9, 700, 1)
    expected = model(x)
    for frames in (100, 700, 2800):
        found = np.concatenate(list(processed(blocks_of(x, [150, 550]), model, 1, 3, frames)))
        assert np.array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_channels_of_a_recurrent_model_run_side_by_side(lstm, channels, count):
    x = array(8, 1000, channels)
    found = np.concatenate(list(processed(blocks_of(x, [300, 450, 250]), lstm, channels, count)))
    assert np.array_equal(found, lstm(x))
    assert uses(lstm, channels, count) == min(channels, count)
    assert most_part_frames(lstm, channels, count) == 0


def test_a_model_with_feedback_has_no_parts(lstm):
    assert lstm.receptive_field_frames is None
    assert most_part_frames(lstm, 1, 8) == 0


@pytest.mark.parametrize("frames", [None, 10**4, 10**6, 10**9])
def test_parts_are_long_beside_what_is_computed_twice(monkeypatch, frames):
    monkeypatch.undo()
    model = backline.conv1d(np.ones((1, 1, 3)), dilation=1000)
    found = list(islice(part_sizes(model, 2, 4, frames), 200))
    assert min(found) >= 8 * 2001
    # All that are in memory: one for each of four threads, one that waits, and one that is being written.
    assert max(found) * 2 * (4 + 2) <= 2**22
    if frames == 10**6:
        last = found[np.searchsorted(np.cumsum(found), frames)]
        assert last < max(found)


def test_a_field_longer_than_any_part_is_not_cut(monkeypatch):
    monkeypatch.undo()
    weight = np.zeros((1, 1, 2), np.float32)
    model = backline.conv1d(weight, dilation=2**20)
    assert most_part_frames(model, 1, 2) == 0


def test_parts_begin_where_inner_rates_meet():
    down = Conv1d("a", "input", array(1, 2, 1, 4), None, stride=6)
    nodes = (down, Upsample("y", "a", 6))
    model = backline.Model(Graph(nodes, "input", 1, "y", name="held"))
    assert {signal.rate for signal in model.graph.signals.values()} == {Fraction(1), Fraction(1, 6)}
    assert not any(size % 6 for size in islice(part_sizes(model, 1, 2, 1000), 50))
    x = array(5, 999, 1)
    assert np.array_equal(np.concatenate(list(processed([x], model, 1, 3, 999))), model(x))


@given(frames=st.integers(0, 400), size=st.integers(1, 60), data=st.data())
def test_cut(frames, size, data):
    x = np.arange(frames, dtype=np.float32)[:, np.newaxis]
    made = list(cut(blocks_of(x, data.draw(cuts(frames))), size)) if frames else list(cut([], size))
    assert [len(block) for block in made[:-1]] == [size] * (len(made) - 1)
    assert all(0 < len(block) <= size for block in made)
    if frames:
        assert np.array_equal(np.concatenate(made), x)


def test_what_goes_wrong_in_a_part_is_raised(monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(backline.Stream, "process", fail)
    model = backline.conv1d(np.ones((1, 1, 2)))
    with pytest.raises(MemoryError):
        list(processed([np.zeros((50, 1), np.float32)], model, 1, 2, 50))


def test_what_is_not_asked_for_ends():
    model = backline.conv1d(np.ones((1, 1, 2)))
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield np.zeros((1000, 1), np.float32)

    made = processed(endless(), model, 1, 3, 1000)
    next(made)
    made.close()
    assert len(asked) < 100
