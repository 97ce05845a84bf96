"""Models that look ahead: late in a stream, in time in a rendered file, and next to their own bypass."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from graphs import array
from scipy import signal

from backline import passes, render
from backline.engine import Model, Program
from backline.formats import _timeline_layers as timeline_layers
from backline.formats._timeline import Timeline
from backline.graph import Graph
from backline.layers import Gru
from backline.native import lib

AHEAD = 20


@pytest.fixture
def smoother() -> tuple[Graph, np.ndarray]:
    """A linear-phase low-pass of 41 taps, which an author would run with 20 zeros on either side."""
    taps = signal.firwin(2 * AHEAD + 1, 0.2).astype(np.float32)
    line = Timeline()
    x = line.input("x", ("unit", "channels", "time"), (1, 1, 1000))
    line.layer = "smooth"
    y = timeline_layers.conv1d(line, x, taps[None, None], None, pads=(AHEAD, AHEAD))
    return line.graph(y, sample_rate_hz=48000.0), taps


def test_a_stream_is_late_by_what_the_model_says(smoother):
    graph, taps = smoother
    x = array(1, 500)
    model = Model(graph)
    assert model.latency_frames == AHEAD
    expected = np.convolve(x.astype(np.float64), taps, "same")
    np.testing.assert_allclose(model(x)[AHEAD:], expected[:-AHEAD], atol=1e-6)
    assert np.any(model(x)[:AHEAD])  # nothing is held back: the first answers just belong to earlier frames


def test_the_program_states_its_latency_and_reach(smoother):
    """In Python and in C: 41 taps, and for what recurs there is no bound."""
    graph, _ = smoother
    program = Program(graph)
    assert (program.latency_frames, program.receptive_field_frames) == (AHEAD, 2 * AHEAD + 1)
    assert (program.info.latency_frames, program.info.receptive_field_frames) == (AHEAD, 2 * AHEAD + 1)
    gru = Gru("y", "x", array(4, 3, 1), array(5, 3, 1), array(6, 3), array(7, 3))
    endless = Program(Graph((gru,), "x", 1, "y"))
    assert endless.receptive_field_frames is None
    assert endless.info.receptive_field_frames == lib.BL_NONE


def test_a_rendered_file_is_in_time_and_as_long_as_it_sounds(smoother, tmp_path):
    """Or as long as its input, if asked."""
    graph, taps = smoother
    x = array(2, 7000, scale=0.1)
    soundfile.write(tmp_path / "in.wav", x, 48000, "FLOAT")
    expected = np.convolve(x.astype(np.float64), taps)[AHEAD:]
    for tail_s, least, most in ((0.0, 7000, 7000), (None, len(expected), len(expected) + 480)):
        options = render.RenderOptions(tail_s=tail_s)
        render.render_file(Model(graph), tmp_path / "in.wav", tmp_path / "out.wav", options, overwrite=True)
        y, _ = soundfile.read(tmp_path / "out.wav")
        assert least <= len(y) <= most
        heard = np.pad(expected, (0, 480))[: len(y)]
        np.testing.assert_allclose(y, heard, atol=1e-6)


def test_bypass_is_as_late_as_the_model(smoother):
    graph, _ = smoother
    x = array(3, 300)
    bypassed = Model(passes.with_levels(graph))(x, **{passes.BYPASS: 1.0})
    assert np.array_equal(bypassed[AHEAD:], x[:-AHEAD])
    assert not bypassed[:AHEAD].any()
