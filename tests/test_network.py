"""Ops of exported networks against PyTorch: arithmetic, shapes, knobs, state kept from block to block."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from graphs import array

from backline.engine import Model
from backline.errors import ModelError
from backline.formats._network import Final, Network
from backline.formats._onnx_call import Call
from backline.graph import Graph, Knob
from backline.passes import BYPASS, INPUT_GAIN, OUTPUT_GAIN, with_levels

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
functional = torch.nn.functional
FRAMES = 96


def tensor(values: Any) -> Any:
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def finished(net: Network, *outputs: Any, **fields: Any) -> Graph:
    return net.finish([(f"out {i}", value) for i, value in enumerate(outputs)], **fields)


def agrees(
    of_network: Callable[[Network, Any], Any],
    of_tensor: Callable[[Any], Any],
    shape: tuple[int, ...] = (1, 3, FRAMES),
    time: int = 2,
) -> Graph:
    """Run both on the same recording and compare all frames, time last in what PyTorch gives."""
    x = array(5, *shape, scale=1.0)
    net = Network()
    net.line.layer = "op"
    graph = finished(net, of_network(net, net.audio("x", shape, time)))
    expected = of_tensor(tensor(x)).numpy()
    rows = np.moveaxis(x, time, -1).reshape(-1, shape[time])
    found = Model(graph)(np.ascontiguousarray(rows.T))
    found = found.reshape(len(found), -1).T
    assert graph.latency_frames == 0
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=3e-6, rtol=1e-5)
    return graph


PER_CHANNEL = array(1, 3, 1)
PER_FRAME = np.repeat(array(2, 1, 3, 1), FRAMES, axis=2)
MATRIX = array(3, 3, 5)
CONSTANTS = [np.array(0.3), PER_CHANNEL, PER_CHANNEL[None], PER_FRAME]


@pytest.mark.parametrize("constant", CONSTANTS, ids=["number", "axis less", "row", "every frame"])
@pytest.mark.parametrize(
    ("op", "turned"), [("divide", False), *product(("add", "subtract", "multiply"), (False, True))]
)
def test_constants(constant: np.ndarray, op: str, turned: bool) -> None:
    f = {"add": torch.add, "subtract": torch.sub, "multiply": torch.mul, "divide": torch.div}[op]
    if turned:
        agrees(lambda n, x: getattr(n, op)(constant, x), lambda x: f(tensor(constant), x))
    else:
        agrees(lambda n, x: getattr(n, op)(x, constant), lambda x: f(x, tensor(constant)))


def test_a_constant_widens_a_mono_track() -> None:
    gains = array(9, 1, 4, 1)
    agrees(lambda n, x: n.multiply(x, gains), lambda x: x * tensor(gains), (1, 1, FRAMES))
    agrees(lambda n, x: n.add(gains, x), lambda x: x + tensor(gains), (1, 1, FRAMES))


def test_powers_and_products() -> None:
    agrees(lambda n, x: n.power(x, 3), lambda x: x**3)
    agrees(lambda n, x: n.multiply(x, n.subtract(x, np.array(1.0))), lambda x: x * (x - 1))
    agrees(lambda n, x: n.subtract(n.multiply(x, np.array(2.0)), x), lambda x: 2 * x - x)


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.25), (None, 0.5), (-0.75, None), (None, None)])
def test_clip(low: float | None, high: float | None) -> None:
    agrees(lambda n, x: n.clip(x, low, high), lambda x: x if low is high else torch.clamp(x, low, high))


def test_matrices() -> None:
    agrees(lambda n, x: n.matmul(x, MATRIX), lambda x: (x @ tensor(MATRIX)).mT, (1, FRAMES, 3), 1)
    agrees(lambda n, x: n.matmul(MATRIX.T, x), lambda x: tensor(MATRIX.T) @ x)
    agrees(lambda n, x: n.matmul(MATRIX.T[None], x), lambda x: tensor(MATRIX.T[None]) @ x)


def test_a_matrix_for_each_feature_costs_what_it_computes() -> None:
    """Features are groups of one convolution: no products with zeros between them."""

    def by_feature(n: Network, x: Any) -> Any:
        return n.transpose(n.reshape(x, [1, 3, 4, FRAMES]), [0, 2, 3, 1])

    graph = agrees(
        lambda n, x: n.linear(by_feature(n, x), MATRIX.T, MATRIX[0]),
        lambda x: torch.movedim(
            x.reshape(1, 3, 4, FRAMES).permute(0, 2, 3, 1) @ tensor(MATRIX) + tensor(MATRIX[0]), 3, 1
        ),
        (1, 12, FRAMES),
    )
    assert graph.multiply_adds_per_frame == 4 * MATRIX.size


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("axes", [[1], [2], [1, 2]])
def test_sums_and_means_over_channels_and_features(axes: list[int], mean: bool) -> None:
    agrees(
        lambda n, x: n.reduce(n.reshape(x, [1, 3, 4, FRAMES]), axes, mean=mean),
        lambda x: (torch.mean if mean else torch.sum)(x.reshape(1, 3, 4, FRAMES), axes),
        (1, 12, FRAMES),
    )


@pytest.mark.parametrize("name", [INPUT_GAIN, OUTPUT_GAIN, BYPASS])
def test_layers_may_be_called_like_the_knobs_of_a_live_chain(name: str) -> None:
    net = Network()
    x = net.audio("x", (1, 1, FRAMES), 2)
    net.line.layer = name
    graph = with_levels(finished(net, net.activate(x, _tanh())))
    sound = array(1, FRAMES)
    np.testing.assert_allclose(Model(graph)(sound), np.tanh(sound), atol=1e-6)


def test_double_precision_of_onnx_weights_is_dropped_with_a_word() -> None:
    net = Network()
    for values in (np.array([0.5]), np.array([0.1], np.float32)):
        Call("Conv", [values], {}, 1, net).floats(0)
    assert net.notes == []
    for _ in range(2):
        Call("Conv", [np.array([0.1])], {}, 1, net).floats(0)
    assert net.notes == ["numbers in double precision are rounded to float32"]


def gelu_of(n: Network, x: Any) -> Any:
    half = n.multiply(x, np.array(0.5))
    return n.multiply(half, n.add(n.erf(n.divide(x, np.array(2**0.5))), np.array(1.0)))


def gelu_turned(n: Network, x: Any) -> Any:
    inner = n.add(np.array(1.0), n.erf(n.multiply(np.array(0.70710678), x)))
    return n.multiply(n.multiply(inner, x), np.array(0.5))


@pytest.mark.parametrize("written", [gelu_of, gelu_turned])
def test_gelu_written_out(written: Callable) -> None:
    graph = agrees(written, functional.gelu)
    assert [type(node).__name__ for node in graph.nodes] == ["Activate"]


@pytest.mark.parametrize("alpha", [np.array(1.7), np.abs(array(4, 1, 3, 1)) + 0.2], ids=["one", "each"])
def test_snake_written_out(alpha: np.ndarray) -> None:
    a = tensor(alpha)

    def snake(n: Network, x: Any) -> Any:
        wave = n.power(n.sin(n.multiply(alpha, x)), 2)
        return n.add(x, n.multiply(1.0 / (alpha + 1e-9), wave))

    graph = agrees(snake, lambda x: x + torch.sin(a * x) ** 2 / a)
    assert [type(node).__name__ for node in graph.nodes] == ["Activate"]


def test_an_unknown_curve_is_refused() -> None:
    for wrong in (
        lambda n, x: n.sin(x),
        lambda n, x: n.add(x, n.erf(x)),
        lambda n, x: n.multiply(x, n.sin(x)),
    ):
        with pytest.raises(ModelError, match="only known in gelu"):
            agrees(wrong, lambda x: x)


def test_shapes() -> None:
    agrees(lambda n, x: n.cut(x, 1, 1, 3), lambda x: x[:, 1:3])
    agrees(lambda n, x: n.cut(x, -2, 2, -9, -1), lambda x: x.flip(1))
    agrees(lambda n, x: n.cut(x, 1, 0, 3, 2), lambda x: x[:, ::2])
    every_third = agrees(lambda n, x: n.cut(x, 2, 0, 1 << 60, 3), lambda x: x[:, :, ::3])
    assert every_third.signals[every_third.output].rate == Fraction(1, 3)
    agrees(lambda n, x: n.concat([x, n.cut(x, 1, 0, 1)], 1), lambda x: torch.cat([x, x[:, :1]], 1))
    agrees(lambda n, x: n.squeeze(n.unsqueeze(x, [0, -1]), [0]), lambda x: x)
    agrees(lambda n, x: n.transpose(n.transpose(x, [0, 2, 1]), [2, 1, 0]), lambda x: x)
    agrees(lambda n, x: n.reshape(x, [3, FRAMES, 1]), lambda x: x)
    agrees(lambda n, x: n.expand(n.cut(x, 1, 0, 1), [1, 4, -1]), lambda x: x[:, :1].expand(1, 4, -1))
    agrees(lambda n, x: n.pad(x, [(0, 0), (1, 2), (0, 0)]), lambda x: functional.pad(x, (0, 0, 1, 2)))
    agrees(lambda n, x: n.pad(x, [(0, 0), (-1, 1), (0, 0)]), lambda x: functional.pad(x, (0, 0, -1, 1)))


def test_features_repeated_and_joined() -> None:
    """Rows of channels and features, whichever lie outside."""
    shape = (1, 2, 3, FRAMES)

    def widened(n: Network, x: Any) -> Any:
        split = n.reshape(x, shape)
        gains = n.multiply(split, array(8, 1, 2, 3, 1))
        shifted = n.add(gains, array(9, 3, 1))
        return n.multiply(n.concat([shifted, split], 1), n.cut(n.concat([split, shifted], 1), 2, 1, 2))

    def of_tensor(x: Any) -> Any:
        split = x.reshape(shape)
        shifted = split * tensor(array(8, 1, 2, 3, 1)) + tensor(array(9, 3, 1))
        found = torch.cat([shifted, split], 1) * torch.cat([split, shifted], 1)[:, :, 1:2]
        return found.permute(0, 2, 1, 3)  # rows of the output lie feature by feature

    agrees(widened, of_tensor, (1, 6, FRAMES))


def test_padding_joined_on() -> None:
    zeros = np.zeros((1, 3, 4), np.float32)
    weight = array(3, 2, 3, 5)

    def padded(n: Network, x: Any) -> Any:
        options = {"stride": [1], "dilation": [1], "groups": 1, "pads": [(0, 0)]}
        return n.conv(n.concat([zeros, x], 2), weight, None, **options)

    agrees(padded, lambda x: functional.conv1d(functional.pad(x, (4, 0)), tensor(weight)))


class Blocks:
    """A recording run block by block by PyTorch code with state, against a stream."""

    def __init__(self, length: int, channels: int = 1) -> None:
        self.length, self.net = length, Network()
        self.net.line.layer = "op"
        self.x = self.net.audio("x", (1, channels, length), 2)

    def conv(self, y: Any, weight: np.ndarray, dilation: int = 1) -> Any:
        options = {"stride": [1], "dilation": [dilation], "groups": 1, "pads": [(0, 0)]}
        return self.net.conv(y, weight, None, **options)


@pytest.mark.parametrize("length", [1, 3, 16])
def test_caches_of_past_frames_are_state(length: int) -> None:
    first, second = array(1, 2, 1, 4), array(2, 2, 2, 3)
    blocks = Blocks(length)
    net = blocks.net
    one, two = net.extra("one", (1, 1, 3)), net.extra("two", (1, 2, 4))
    joined = net.concat([one, blocks.x], 2)
    y = net.activate(blocks.conv(joined, first), _tanh())
    next_one = net.cut(joined, 2, -3, 1 << 62)
    joined = net.concat([two, y], 2)
    y = blocks.conv(joined, second, 2)
    graph = finished(net, y, next_one, net.cut(joined, 2, length, length + 4))
    assert any("'one', 'two'" in note for note in graph.notes)
    assert graph.knobs == ()
    x = array(3, FRAMES, scale=1.0)
    hidden = torch.tanh(functional.conv1d(functional.pad(tensor(x)[None, None], (3, 0)), tensor(first)))
    expected = functional.conv1d(functional.pad(hidden, (4, 0)), tensor(second), dilation=2)
    # A stream's hidden frames before the first are 0, as the cache is; not tanh(bias).
    np.testing.assert_allclose(Model(graph)(x).T, expected[0].numpy(), atol=2e-6)


def _tanh() -> Any:
    from backline.activations import Activation

    return Activation("tanh")


def test_one_cache_for_several_layers() -> None:
    """Caches that lie in one tensor, taken apart and put together again."""
    weight = array(1, 1, 1, 3)
    blocks = Blocks(8)
    net = blocks.net
    cache = net.extra("cache", (2, 1, 1, 2))
    y, parts = blocks.x, []
    for layer in range(2):
        joined = net.concat([net.squeeze(net.cut(cache, 0, layer, layer + 1), [0]), y], 2)
        parts.append(net.unsqueeze(net.cut(joined, 2, -2, 1 << 62), [0]))
        y = blocks.conv(joined, weight)
    graph = finished(net, y, net.concat(parts, 0))
    x = array(3, FRAMES, scale=1.0)
    once = functional.conv1d(functional.pad(tensor(x)[None, None], (2, 0)), tensor(weight))
    expected = functional.conv1d(functional.pad(once, (2, 0)), tensor(weight))
    np.testing.assert_allclose(Model(graph)(x), expected[0, 0].numpy(), atol=2e-6)


def recurrent(net: Network, x: Any, h0: Any) -> Any:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    shapes = ((12, 1), (12, 4), (12,), (12,))
    weights = {name: array(i, *shape) for i, (name, shape) in enumerate(zip(names, shapes, strict=True))}
    return net.gru(net.transpose(x, [0, 2, 1]), weights, h0)


def test_recurrent_state() -> None:
    blocks = Blocks(16)
    y, last = recurrent(blocks.net, blocks.x, blocks.net.extra("h", (1, 1, 4)))
    graph = finished(blocks.net, y, last)
    assert graph.output_channels == 4
    again = Network()
    again.line.layer = "op"
    y, last = recurrent(again, again.audio("x", (1, 1, 16), 2), None)
    assert isinstance(last, Final)
    x = array(3, FRAMES)
    alone = finished(again, y, last)
    assert any("left out" in note for note in alone.notes)
    np.testing.assert_array_equal(Model(graph)(x), Model(alone)(x))


def test_states_that_are_none() -> None:
    def refused(text: str, build: Callable[[Blocks], tuple[Any, ...]]) -> None:
        blocks = Blocks(16)
        with pytest.raises(ModelError, match=text):
            finished(blocks.net, *build(blocks))

    def gru(blocks: Blocks) -> Any:
        return recurrent(blocks.net, blocks.x, blocks.net.extra("h", (1, 1, 4)))

    def used_twice(blocks: Blocks) -> tuple[Any, ...]:
        h = blocks.net.extra("h", (1, 1, 4))
        y, last = recurrent(blocks.net, blocks.x, h)
        return blocks.net.multiply(y, blocks.net.squeeze(h, [0])), last

    def of_another_size(blocks: Blocks) -> tuple[Any, ...]:
        return recurrent(blocks.net, blocks.x, blocks.net.extra("h", (1, 1, 5)))

    refused("no output of its shape carries on", lambda blocks: gru(blocks)[:1])
    refused("no output follows the audio", lambda blocks: gru(blocks)[1:])
    refused("state of another layer", used_twice)
    refused("4 entries, found 5", of_another_size)
    refused("this is the second", lambda blocks: (blocks.x, blocks.x))
    refused("does not follow the audio", lambda blocks: (blocks.net.extra("k", (1, 2)),))


def test_knobs_by_use() -> None:
    knobs = [Knob("drive", 0.5, 0.0, 1.0), Knob("tone", -0.25, -1.0, 1.0)]
    net = Network()
    net.line.layer = "film"
    x = net.audio("x", (1, 2, FRAMES), 2)
    unused = net.extra("other", (1, 1))
    both = net.extra("knobs", (1, 2), knobs=knobs)
    film = net.unsqueeze(net.linear(both, array(1, 2, 2), array(2, 2)), [2])
    graph = finished(net, net.add(net.multiply(x, film), net.expand(film, [1, 2, FRAMES])))
    assert unused is not both
    assert [knob.name for knob in graph.knobs] == ["drive", "tone"]
    assert any("'other' is used by nothing" in note for note in graph.notes)
    signal = array(3, FRAMES, 2)
    for values in ([0.5, -0.25], [1.0, 0.75]):
        gains = functional.linear(tensor([values]), tensor(array(1, 2, 2)), tensor(array(2, 2)))[0].numpy()
        found = Model(graph)(signal, drive=values[0], tone=values[1])
        np.testing.assert_allclose(found, signal * gains + gains, atol=2e-6)


def test_knobs_per_frame_and_without_a_range() -> None:
    net = Network()
    net.line.layer = "mix"
    x = net.audio("x", (1, 1, FRAMES), 2)
    control = net.extra("control", (1, 2, FRAMES), 2)
    graph = finished(net, net.multiply(x, net.cut(control, 1, 1, 2)))
    assert [knob.name for knob in graph.knobs] == ["control_0", "control_1"]
    assert any("knobs from 0 to 1" in note for note in graph.notes)
    np.testing.assert_allclose(Model(graph)(np.ones(9, np.float32), control_1=0.25), 0.25)


def test_a_part_of_the_knobs_by_number() -> None:
    net = Network()
    net.line.layer = "pick"
    x = net.audio("x", (1, 1, FRAMES), 2)
    graph = finished(net, net.multiply(x, net.cut(net.extra("k", (3,)), 0, 2, 3)))
    np.testing.assert_allclose(Model(graph)(np.ones(5, np.float32), k_2=0.5, k_0=1.0), 0.5)


def test_what_no_stream_can_do_is_refused() -> None:
    moving = np.arange(FRAMES, dtype=np.float32)
    for wrong, text in (
        (lambda n, x: n.add(x, moving), "differs from frame to frame"),
        (lambda n, x: n.divide(x, x), "divides by a tensor"),
        (lambda n, x: n.divide(x, np.zeros(1)), "divides by 0"),
        (lambda n, x: n.power(x, 0.5), "expected a power"),
        (lambda n, x: n.add(x, np.ones((1, 4, 1))), "cannot combine"),
        (lambda n, x: n.cut(x, 2, None, None, -1), "turns time round"),
        (lambda n, x: n.cut(x, 2, -4, 1 << 60), "stretch of time"),
        (lambda n, x: n.cut(x, 1, 3, 9), "takes nothing"),
        (lambda n, x: n.concat([x, x], 2), "several stretches of time"),
        (lambda n, x: n.concat([np.ones((1, 3, 4)), x], 2), "other than zeros"),
        (lambda n, x: n.concat([moving[None, None], x], 1), "differs from frame to frame"),
        (lambda n, x: n.concat([np.ones((1, 1, 5)), x], 1), "cannot join a constant"),
        (lambda n, x: n.squeeze(x, [1]), "expected one entry in axis 1, found 3"),
        (lambda n, x: n.reshape(x, [1, 3 * FRAMES]), "mixes"),
        (lambda n, x: n.transpose(x, [0, 0, 1]), "order of 3 axes"),
        (lambda n, x: n.expand(x, [2, 3, FRAMES, 2]), "cannot combine"),
        (lambda n, x: n.matmul(x, x), "two matrices"),
        (lambda n, x: n.gru(x, {"weight_hh": np.ones((3, 1))}, None), "expected time and then channels"),
    ):
        with pytest.raises(ModelError, match=text):
            agrees(wrong, lambda x: x)
    with pytest.raises(ModelError, match="one example"):
        Network().audio("x", (2, 3, FRAMES), 2)


def test_rows_and_layers_are_bounded_before_they_are_made() -> None:
    def doubled(n: Network, x: Any) -> Any:
        for _ in range(40):
            x = n.concat([x, x], 1)
        return x

    def parted(n: Network, x: Any) -> Any:
        return n.cut(n.expand(n.cut(x, 1, 0, 1), [1, 200_000, -1]), 1, 0, 200_000, 2)

    for wrong, text in (
        (lambda n, x: n.expand(n.cut(x, 1, 0, 1), [1, 1 << 40, -1]), "1099511627776 rows of channels"),
        (doubled, "393216 rows of channels"),
        (parted, "more than 65536 layers"),
    ):
        with pytest.raises(ModelError, match=text):
            agrees(wrong, lambda x: x)
