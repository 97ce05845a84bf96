"""The C engine against ``reference.py``, PyTorch and Keras, on every instruction set, in any blocks."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from graphs import SEEDS, array, conv_arrays, conv_node, conv_shapes, cuts, examples, graphs, in_blocks
from hypothesis import assume, given
from hypothesis import strategies as st

import backline
from backline import native, reference
from backline.engine import Engine, Model, Program
from backline.graph import Graph
from backline.layers import Lstm

ISAS = native.available_isas()


@pytest.fixture(params=ISAS)
def isa(request):
    return request.param


def conv_graph(shape: dict) -> Graph:
    return Graph((conv_node("y", "x", shape),), "x", shape["in_channels"], "y")


def worst_error(model: Model, x: np.ndarray) -> float:
    """Largest error against the float64 reference, relative to its RMS (at least 1)."""
    expected = reference.run(model.graph, x.T.astype(np.float64)).T
    found = model(x).reshape(expected.shape)
    assert found.shape == expected.shape
    if not expected.size:
        return 0.0
    return float(np.abs(found - expected).max() / max(1.0, np.sqrt(np.mean(expected**2))))


@pytest.mark.parametrize("name", ISAS)
@given(shape=conv_shapes(), frames=st.integers(0, 700))
@examples(60)
def test_conv_agrees_with_the_reference(name, shape, frames):
    model = Model(conv_graph(shape), name)
    assert worst_error(model, array(1, frames, shape["in_channels"])) < 4e-6


@pytest.mark.parametrize("name", ISAS)
@given(graph=graphs(), frames=st.integers(1, 400))
@examples(60)
def test_drawn_graphs_agree_with_the_reference(name, graph, frames):
    assert worst_error(Model(graph, name), array(2, frames, graph.input_channels)) < 5e-5


@pytest.mark.parametrize("name", ISAS)
@given(graph=graphs(), seed=SEEDS, data=st.data())
@examples(40)
def test_blocks_of_any_size_give_the_same_bits(name, graph, seed, data):
    model = Model(graph, name)
    frames = data.draw(st.integers(1, 1500))
    x = array(seed, frames, graph.input_channels)
    whole = model(x)
    with model.stream(data.draw(st.integers(1, 300))) as stream:
        pieces = in_blocks(stream, x, data.draw(cuts(frames, 500)))
        np.testing.assert_array_equal(pieces, whole)
        stream.reset()
        np.testing.assert_array_equal(stream.process(x), whole)


@pytest.mark.parametrize("name", ISAS)
@given(shape=conv_shapes(), data=st.data())
@examples(40)
def test_strided_blocks_give_the_same_bits(name, shape, data):
    model = Model(conv_graph(shape), name)
    frames = data.draw(st.integers(1, 900))
    x = array(3, frames, shape["in_channels"])
    with model.stream(64) as stream:
        np.testing.assert_array_equal(in_blocks(stream, x, data.draw(cuts(frames, 300))), model(x))


def test_a_thousand_random_cuts(isa):
    """1,000 cuts into blocks of 1 to 4096 frames give the same bits as one call."""
    model = Model(backline.load("overdrive").graph, isa)
    blocks = np.random.default_rng(5).integers(1, 4097, 1001).tolist()
    x = array(7, sum(blocks), scale=0.2)
    with model.stream(4096) as stream:
        np.testing.assert_array_equal(in_blocks(stream, x, blocks), model(x))


def test_a_thousand_cuts_into_crumbs(isa, wavenet_file):
    """Blocks shorter than a vector: every tail there is."""
    model = Model(backline.load(wavenet_file).graph, isa)
    blocks = np.random.default_rng(6).integers(1, 17, 1001).tolist()
    x = array(7, sum(blocks), 2, scale=0.2)
    with model.stream(16) as stream:
        np.testing.assert_array_equal(in_blocks(stream, x, blocks), model(x))


@given(shape=conv_shapes(max_stride=3), frames=st.integers(1, 300))
@examples(60)
def test_conv_agrees_with_pytorch(shape, frames):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    weight, bias = conv_arrays(shape)
    x = array(4, frames, shape["in_channels"])
    options = {key: shape[key] for key in ("groups", "dilation", "stride")}
    padded = torch.nn.functional.pad(
        torch.from_numpy(x.T.copy()), ((shape["kernel"] - 1) * shape["dilation"], 0)
    )
    expected = torch.nn.functional.conv1d(
        padded[None].double(),
        torch.from_numpy(weight).double(),
        None if bias is None else torch.from_numpy(bias).double(),
        **options,
    )
    found = backline.conv1d(weight, bias, **options)(x).reshape(-1, shape["out_channels"])
    np.testing.assert_allclose(found, expected[0].numpy().T, atol=4e-6)


@given(shape=conv_shapes(max_channels=12, max_stride=1), frames=st.integers(1, 60))
@examples(15)
def test_conv_agrees_with_keras(shape, frames):
    os.environ["KERAS_BACKEND"] = "torch"
    pytest.importorskip("torch", reason="Keras runs on PyTorch here")
    keras = pytest.importorskip("keras", reason="compares with Keras")
    weight, bias = conv_arrays(shape)
    layer = keras.layers.Conv1D(
        shape["out_channels"],
        shape["kernel"],
        padding="causal",
        dilation_rate=shape["dilation"],
        groups=shape["groups"],
        use_bias=shape["bias"],
    )
    layer.build((None, None, shape["in_channels"]))
    layer.set_weights([weight.transpose(2, 1, 0)] + ([] if bias is None else [bias]))
    x = array(4, frames, shape["in_channels"])
    expected = keras.ops.convert_to_numpy(layer(x[None]))[0]
    model = backline.conv1d(weight, bias, groups=shape["groups"], dilation=shape["dilation"])
    np.testing.assert_allclose(model(x).reshape(expected.shape), expected, atol=8e-6)


def test_rtneural_issue_114():
    per_output = np.array([1.0, 0.9, 0.8], np.float32)
    ones = np.ones((5, 9), np.float32)
    for groups, parameters, expected in ((1, 27, [9.0, 8.1, 7.2]), (3, 9, [3.0, 2.7, 2.4])):
        weight = np.broadcast_to(per_output[:, None, None], (3, 9 // groups, 1))
        model = backline.conv1d(weight, groups=groups)
        assert model.graph.parameter_count == parameters
        np.testing.assert_allclose(model(ones), np.broadcast_to(expected, (5, 3)), rtol=1e-6)


def test_streams_do_not_know_their_neighbours(isa, wavenet_file):
    model = Model(backline.load(wavenet_file).graph, isa)
    x = array(11, 1000, 3, scale=0.3)
    x[:, 1] = np.nan
    together = model(x)
    for channel in (0, 2):
        np.testing.assert_array_equal(together[:, channel], model(x[:, channel]))


def test_lstm_state_of_the_file_comes_back_on_reset(isa):
    hidden = 5
    weights = array(0, 4 * hidden, 2), array(1, 4 * hidden, hidden), array(2, 4 * hidden)
    node = Lstm("y", "x", *weights, array(3, hidden), array(4, hidden))
    model = Model(Graph((node,), "x", 2, "y", prewarm_frames=7), isa)
    x = array(5, 300, 2)
    with model.stream() as stream:
        first = stream.process(x)
        stream.reset()
        np.testing.assert_array_equal(stream.process(x), first)
    assert worst_error(model, x) < 2e-6


def test_denormal_control_bits_are_given_back():
    tiny = np.array([1e-40], np.float32)
    backline.conv1d(np.ones((1, 1, 3)))(tiny)
    assert (tiny * np.float32(1.0))[0] != 0


def test_one_program_may_serve_many_threads(wavenet_file):
    model = backline.load(wavenet_file)
    x = array(9, 20000, 1, scale=0.2)
    expected = model(x)
    results: list = [None] * 4

    def run(index: int) -> None:
        results[index] = model(x)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)


class TestWhatUsersGetWrong:
    def test_channels(self, wavenet_file):
        weight = np.ones((2, 3, 1), np.float32)
        with pytest.raises(ValueError, match="takes 3 channels, found 2"):
            backline.conv1d(weight)(np.zeros((5, 2), np.float32))
        with (
            backline.load(wavenet_file).stream(channels=2) as stream,
            pytest.raises(ValueError, match="2 channels"),
        ):
            stream.process(np.zeros((5, 1), np.float32))

    def test_integers_have_no_full_scale(self):
        with pytest.raises(TypeError, match="int16"):
            backline.conv1d(np.ones((1, 1, 1)))(np.zeros(5, np.int16))

    def test_closed(self):
        stream = backline.conv1d(np.ones((1, 1, 1))).stream()
        stream.close()
        with pytest.raises(ValueError, match="closed"):
            stream.process(np.zeros(5))

    def test_empty_blocks_are_no_blocks(self):
        with backline.conv1d(np.ones((1, 1, 2))).stream() as stream:
            assert stream.process(np.zeros(0, np.float32)).shape == (0,)
            np.testing.assert_array_equal(stream.process(np.ones(2, np.float32)), [1, 2])

    @pytest.mark.parametrize(
        ("arguments", "options", "says"),
        [
            ((np.ones((4, 3, 1)),), {"groups": 3}, "groups 3 does not divide the 4 output channels"),
            ((np.ones((3, 3)),), {}, "shape"),
            ((np.full((1, 1, 1), np.nan),), {}, "not finite"),
            ((np.full((1, 1, 1), 1e300),), {}, "not finite"),
            ((np.ones((1, 1, 1)), np.ones(2)), {}, "bias has 2 entries, expected 1"),
            ((np.ones((1, 1, 2)),), {"dilation": 2_000_000_000}, "dilation"),
            ((np.ones((1, 1, 2)),), {"dilation": 0}, "dilation"),
            ((np.ones((1, 1, 2)),), {"stride": -1}, "stride"),
            ((np.ones((1, 1, 2)),), {"stride": 2.0}, "stride"),
            ((np.ones((1, 1, 2)),), {"stride": True}, "stride"),
            ((np.ones((1, 1, 2)),), {"groups": "a"}, "groups"),
            ((np.ones((1, 1, 1)),), {"groups": 0}, "channel count|groups"),
            ((np.ones((0, 1, 1)),), {}, "shape"),
            (("nonsense",), {}, "numbers"),
        ],
    )
    def test_conv1d(self, arguments, options, says):
        with pytest.raises(backline.ModelError, match=says):
            backline.conv1d(*arguments, **options)

    @pytest.mark.parametrize("prewarm", ["x", 2.7, -1, 1 << 40, None])
    def test_prewarm(self, prewarm, wavenet_file):
        with pytest.raises(backline.ModelError, match="prewarm is"):
            backline.load(wavenet_file, prewarm=prewarm)

    def test_numpy_integers_are_integers(self):
        weight, x = array(0, 2, 2, 3), array(1, 900, 2)
        found = backline.conv1d(weight, dilation=np.uint8(200), stride=np.int64(3))(x)
        np.testing.assert_array_equal(found, backline.conv1d(weight, dilation=200, stride=3)(x))

    def test_a_model_does_not_follow_its_arrays(self):
        weight = np.ones((1, 1, 1), np.float32)
        model = backline.conv1d(weight)
        weight[:] = 0
        assert Model(model.graph)(np.ones(1, np.float32)) == 1

    @pytest.mark.parametrize("weight", [[[[1j]]], [[[10**400]]], [[["a"]]], [[[True]]], None])
    def test_weights_that_are_no_real_numbers(self, weight):
        with pytest.raises(backline.ModelError, match="array of real numbers"):
            backline.conv1d(weight)

    @pytest.mark.parametrize("path", [None, 1, b"overdrive", "a" * 5000, "nul\0"])
    def test_paths_that_are_none(self, path):
        with pytest.raises(backline.ModelError):
            backline.load(path)

    def test_an_engine_does_not_read_beyond_its_array(self):
        engine = Engine(backline.conv1d(np.ones((1, 1, 1))).program, 2)
        one_row, doubles = np.ones((1, 8), np.float32), np.ones((2, 8))
        for array_ in (one_row, doubles, np.ones((8, 2), np.float32).T, np.ones(16, np.float32)):
            with pytest.raises(ValueError, match="expected contiguous float32"):
                engine.process(array_)

    def test_isa(self, monkeypatch):
        monkeypatch.setenv("BACKLINE_ISA", "mmx")
        with pytest.raises(backline.BacklineError, match="'mmx' is not available"):
            backline.conv1d(np.ones((1, 1, 1)))

    def test_a_model_too_large_for_memory_is_refused(self):
        with pytest.raises(backline.ModelError, match="bytes of a stream"):
            backline.conv1d(np.ones((512, 1, 2)), groups=512, dilation=10_000_000)


def test_an_engine_outlives_the_model_it_came_from():
    engine = Engine(Program(Graph((conv_node("y", "x", SHAPE),), "x", 2, "y")), 1)
    x = np.ones((2, 10), np.float32)
    first = engine.process(x)
    engine.reset()
    np.testing.assert_array_equal(engine.process(x), first)


SHAPE = {"in_channels": 2, "out_channels": 2, "groups": 1, "kernel": 3, "dilation": 1, "stride": 1}
SHAPE |= {"bias": True, "seed": 1}


@given(graph=graphs())
@examples(30)
def test_all_instruction_sets_agree(graph):
    assume(len(ISAS) > 1)
    x = array(8, 200, graph.input_channels)
    results = [Model(graph, name)(x) for name in ISAS]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-4)
