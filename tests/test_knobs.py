"""Knobs: exact from the first frame, straight ramps at stated frames, transparent when left alone."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import array, examples, in_blocks
from hypothesis import given
from hypothesis import strategies as st

import backline
from backline import passes
from backline.engine import Engine, Model, Program
from backline.errors import ModelError
from backline.graph import Graph, Knob
from backline.layers import Multiply

RATE_HZ = 48000.0
RAMP = 960  # 20 ms at 48 kHz


def gain_graph(**options) -> Graph:
    knob = Knob("gain", 1.0, 0.0, 10.0, **options)
    return Graph((Multiply("y", "x", "gain"),), "x", 1, "y", knobs=(knob,), sample_rate_hz=RATE_HZ)


def curve(engine: Engine, frames: int, block: int) -> np.ndarray:
    ones = np.ones((1, block), np.float32)
    return np.concatenate([engine.process(ones)[0] for _ in range(0, frames, block)])[:frames]


def straight(start: float, end: float, at: int, frames: int) -> np.ndarray:
    position = np.clip((np.arange(frames) - at) / RAMP, 0, 1)
    return start + (end - start) * position


def test_a_ramp_is_straight_and_begins_where_it_is_told():
    with Engine(Program(gain_graph()), 1) as engine:
        engine.set("gain", 3.0, at_frame=500)
        np.testing.assert_allclose(curve(engine, 3000, 64), straight(1, 3, 500, 3000), atol=1e-6)


def test_a_second_turn_starts_from_where_the_first_had_come():
    with Engine(Program(gain_graph()), 1) as engine:
        engine.set("gain", 2.0, at_frame=1)
        first = curve(engine, 512, 64)
        engine.set("gain", 0.0)
        second = curve(engine, 2048, 64)
    reached = straight(1, 2, 1, 513)[512]
    np.testing.assert_allclose(first, straight(1, 2, 1, 512), atol=1e-6)
    np.testing.assert_allclose(second, straight(reached, 0, 0, 2048), atol=1e-6)


def test_a_turn_before_the_first_frame_is_exact():
    model = Model(gain_graph())
    x = array(0, 4000)
    np.testing.assert_array_equal(model(x, gain=0.7), x * np.float32(0.7))


@given(
    at=st.integers(0, 3000),
    value=st.floats(0, 10, width=32),
    blocks=st.lists(st.integers(1, 700), min_size=8),
)
@examples(40)
def test_blocks_do_not_change_the_ramp(at, value, blocks):
    results = []
    for sizes in ([sum(blocks)], blocks):
        with Engine(Program(gain_graph()), 1) as engine:
            engine.process(np.ones((1, 1), np.float32))
            engine.set("gain", value, at_frame=at)
            results.append(np.concatenate([engine.process(np.ones((1, n), np.float32))[0] for n in sizes]))
    np.testing.assert_array_equal(*results)


def test_reset_brings_the_defaults_back():
    with Model(gain_graph()).stream() as stream:
        stream.set(gain=4.0)
        assert stream.process(np.ones(3, np.float32))[0] == 4
        stream.reset()
        assert stream.process(np.ones(3, np.float32))[0] == 1


def test_values_are_checked_in_python_and_clamped_in_c():
    model = Model(gain_graph())
    with model.stream() as stream:
        for value in (-1.0, 11.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="gain goes from 0 to 10"):
                stream.set(gain=value)
        with pytest.raises(backline.ModelError, match="no knob 'tone'"):
            stream.set(tone=1.0)
    with Engine(model.program, 1) as engine:
        engine.set("gain", 1e9)
        assert engine.process(np.ones((1, 1), np.float32))[0, 0] == 10
        engine.set("gain", float("nan"))
        assert engine.process(np.ones((1, 1), np.float32))[0, 0] == 10


class TestLevels:
    """`passes.with_levels`: what the live host turns."""

    def test_left_alone_they_change_no_bit(self, wavenet_file):
        bare = backline.load(wavenet_file)
        x = array(1, 5000, scale=0.3)
        np.testing.assert_array_equal(Model(passes.with_levels(bare.graph))(x), bare(x))

    def test_gains_are_factors_before_and_behind(self, wavenet_file):
        bare = backline.load(wavenet_file)
        model = Model(passes.with_levels(bare.graph))
        x = array(1, 5000, scale=0.3)
        found = model(x, **{passes.INPUT_GAIN: 0.5, passes.OUTPUT_GAIN: 2.0})
        np.testing.assert_array_equal(found, bare(x * np.float32(0.5)) * np.float32(2.0))

    def test_bypass_is_the_untouched_input(self, wavenet_file):
        model = Model(passes.with_levels(backline.load(wavenet_file).graph))
        x = array(1, 5000, scale=0.3)
        np.testing.assert_array_equal(model(x, **{passes.BYPASS: 1.0, passes.INPUT_GAIN: 9.0}), x)

    def test_bypass_fades_in_20_ms(self, wavenet_file):
        model = Model(passes.with_levels(backline.load(wavenet_file).graph))
        x = array(1, 4000, scale=0.3)
        wet = model(x)
        with model.stream() as stream:
            head = stream.process(x[:1000])
            stream.set(**{passes.BYPASS: 1.0})
            tail = in_blocks(stream, x[1000:], [7] * 428 + [4])
        mix = straight(0, 1, 0, 3000)
        np.testing.assert_array_equal(head, wet[:1000])
        np.testing.assert_allclose(tail, wet[1000:] * (1 - mix) + x[1000:] * mix, atol=1e-6)
        np.testing.assert_array_equal(tail[RAMP:], x[1000 + RAMP :])

    def test_a_model_of_another_shape_has_no_bypass(self):
        wrapped = passes.with_levels(backline.conv1d(np.ones((3, 2, 1))).graph)
        assert [knob.name for knob in wrapped.knobs] == [passes.INPUT_GAIN, passes.OUTPUT_GAIN]

    def test_a_model_of_another_rate_has_no_levels(self):
        with pytest.raises(ModelError, match="puts out 1/2 frames per frame of input; levels go around"):
            passes.with_levels(backline.conv1d(np.ones((1, 1, 2)), stride=2).graph)
