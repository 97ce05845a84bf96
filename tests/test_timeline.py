"""What a network does to a recording, and what its stream does: equal after the stated delay, from frame 0.

Only the last frames may differ: there the recording was followed by padding, the stream by more sound.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphs import array

from backline.activations import Activation
from backline.engine import Model
from backline.errors import ModelError
from backline.formats import _timeline_layers as layers
from backline.formats._timeline import Timeline
from backline.formats._tracks import Track, regrouped
from backline.graph import Graph, Knob

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
functional = torch.nn.functional
FRAMES, TAIL = 240, 60


class Sketch:
    """The same network twice: on a timeline, and in PyTorch over a whole recording."""

    def __init__(self, channels: int = 1) -> None:
        self.line = Timeline()
        shape = (1, channels, FRAMES)
        self.track = self.line.input("x", ("unit", "channels", "time"), shape)
        self.x = array(7, channels, FRAMES)
        self.y = torch.tensor(self.x[None], dtype=torch.float64)
        self.count = 0

    def layer(self, of_track: Callable[[Track], Track], of_tensor: Callable) -> Sketch:
        self.count += 1
        self.line.layer = f"layer {self.count}"
        self.track, self.y = of_track(self.track), of_tensor(self.y)
        return self

    def conv(self, out: int, kernel: int, pads=(0, 0), stride: int = 1, dilation: int = 1) -> Sketch:
        weight = array(self.count + 11, out, self.track.size("channels"), kernel, scale=0.4)
        bias = array(self.count + 12, out)
        options = {"stride": stride, "dilation": dilation}

        def of_tensor(y):
            tensors = [torch.tensor(values, dtype=torch.float64) for values in (weight, bias)]
            return functional.conv1d(functional.pad(y, pads), *tensors, **options)

        return self.layer(
            lambda t: layers.conv1d(self.line, t, weight, bias, pads=pads, **options), of_tensor
        )

    def act(self, kind: str = "sigmoid") -> Sketch:
        return self.layer(lambda t: self.line.activated(t, Activation(kind)), getattr(torch, kind))

    def assert_streams(self, latency: int) -> Graph:
        graph = self.line.graph(self.track)
        assert graph.latency_frames == latency
        expected = self.y[0].numpy()
        assert self.track.size("time") == expected.shape[1]
        found = Model(graph)(np.ascontiguousarray(self.x.T)).reshape(-1, expected.shape[0]).T[:, latency:]
        frames = min(found.shape[1], expected.shape[1]) - TAIL * expected.shape[1] // FRAMES
        assert frames > 20
        np.testing.assert_allclose(found[:, :frames], expected[:, :frames], atol=2e-6)
        return graph


def pad(sketch: Sketch, before: int, after: int = 0) -> Sketch:
    return sketch.layer(
        lambda t: sketch.line.padded(t, before, after), lambda y: functional.pad(y, (before, after))
    )


def test_causal_padding_costs_no_latency_and_no_further_op():
    sketch = Sketch()
    for dilation in (1, 4, 9):
        pad(sketch, 2 * dilation)
        sketch.conv(3, 3, dilation=dilation).act()
    graph = sketch.assert_streams(0)
    assert graph.prewarm_frames == 0


def test_chomped_padding():
    sketch = Sketch()
    for dilation in (1, 5):
        sketch.conv(3, 4, (3 * dilation, 3 * dilation), dilation=dilation).act()
        sketch.layer(lambda t: sketch.line.cut_time(t, 0, FRAMES), lambda y: y[:, :, :FRAMES])
    sketch.assert_streams(0)


def test_symmetric_padding_is_late():
    sketch = Sketch().conv(4, 7, (3, 3)).act().conv(2, 5, (4, 4), dilation=2).act().conv(1, 3, (1, 1))
    sketch.assert_streams(3 + 4 + 1)


def test_all_padding_in_front_settles_the_layers_behind():
    """Frames made of padding alone hold biases, not zeros: the stream runs them before frame 0."""
    sketch = pad(Sketch(), 2 + 8 + 12).conv(3, 3).act().conv(3, 5, dilation=2).act().conv(1, 4, dilation=4)
    graph = sketch.assert_streams(0)
    assert graph.prewarm_frames == 20  # what the first layer makes of the padding it does not need itself


def test_padding_within_a_settled_network_is_silent_again():
    sketch = pad(Sketch(), 9).conv(2, 3).act().conv(2, 8).act().conv(2, 5, (4, 0)).act().conv(1, 3, (2, 0))
    sketch.assert_streams(0)


def test_valid_convolutions_answer_late():
    Sketch().conv(2, 5).act().conv(1, 4, dilation=3).assert_streams(4 + 9)


@pytest.mark.parametrize("pads", [(0, 0), (1, 1), (3, 2), (5, 0)])
@pytest.mark.parametrize("stride", [2, 3])
def test_strides_and_back(pads, stride):
    sketch = Sketch().conv(4, 6, pads, stride=stride).act()
    weight = array(5, 4, 2, 2 * stride)

    def of_tensor(y):
        return functional.conv_transpose1d(
            y, torch.tensor(weight, dtype=torch.float64), stride=stride, padding=1
        )

    sketch.layer(
        lambda t: layers.conv_transpose1d(sketch.line, t, weight, None, stride=stride, pads=(1, 1)), of_tensor
    )
    graph = sketch.line.graph(sketch.track)
    sketch.assert_streams(graph.latency_frames)
    # A window of 6 frames, one to reach back to the phase of the stream, and one padding cut off behind.
    assert 6 - 1 - pads[0] + 1 <= graph.latency_frames <= 6 - 1 - pads[0] + 1 + stride - 1


def test_a_recurrent_layer_begins_with_the_recording():
    sketch = Sketch().conv(3, 5, (2, 2))
    arrays = {
        "weight_ih": array(1, 12, 3),
        "weight_hh": array(2, 12, 4),
        "bias_ih": array(3, 12),
        "bias_hh": array(4, 12),
    }
    module = torch.nn.GRU(3, 4, batch_first=True).double()
    module.load_state_dict({f"{k}_l0": torch.tensor(v, dtype=torch.float64) for k, v in arrays.items()})
    with torch.no_grad():
        sketch.layer(
            lambda t: layers.gru(sketch.line, t, arrays),
            lambda y: module(y.transpose(1, 2))[0].transpose(1, 2),
        )
    sketch.assert_streams(2)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsampling_after_a_delay(mode):
    sketch = Sketch().conv(2, 4, (0, 1), stride=2).act()
    sketch.layer(
        lambda t: layers.upsample(sketch.line, t, 2, mode),
        lambda y: functional.interpolate(y, scale_factor=2, mode=mode),
    )
    graph = sketch.line.graph(sketch.track)
    sketch.assert_streams(graph.latency_frames)


def test_pooling():
    sketch = Sketch().conv(3, 3, (1, 1))
    sketch.layer(
        lambda t: layers.max_pool1d(sketch.line, t, 3, 2, pads=(1, 1)),
        lambda y: functional.max_pool1d(y, 3, 2, padding=1),
    )
    sketch.layer(
        lambda t: layers.avg_pool1d(sketch.line, t, 4, 2, pads=(2, 2)),
        lambda y: functional.avg_pool1d(y, 4, 2, padding=2),
    )
    graph = sketch.line.graph(sketch.track)
    sketch.assert_streams(graph.latency_frames)


def test_sub_pixel_convolution_by_reshaping():
    sketch = Sketch().conv(6, 5, (4, 0), stride=3).act()

    def of_track(track):
        track = sketch.line.reshaped(track, (1, 2, 3, FRAMES // 3)).transposed((0, 1, 3, 2))
        return sketch.line.reshaped(track, (1, 2, FRAMES))

    sketch.layer(of_track, lambda y: y.reshape(1, 2, 3, -1).permute(0, 1, 3, 2).reshape(1, 2, FRAMES))
    sketch.assert_streams(0)


def test_branches_meet_in_time():
    sketch = Sketch(2)
    start, tensor = sketch.track, sketch.y
    sketch.conv(2, 9, (4, 4)).act()
    sketch.layer(lambda t: sketch.line.summed(t, start), lambda y: y + tensor)
    sketch.layer(lambda t: sketch.line.joined([start, t], 1), lambda y: torch.cat([tensor, y], 1))
    sketch.layer(lambda t: sketch.line.multiplied(t, t), lambda y: y * y)
    sketch.assert_streams(4)


def test_a_knob_steers_a_slower_branch():
    line = Timeline()
    x = line.input("x", ("unit", "channels", "time"), (1, 1, FRAMES))
    knob = line.parameter([Knob("drive", 0.5, 0.0, 1.0)], ("unit", "unit", "unit"), (1, 1, 1))
    line.layer = "slow"
    slow = layers.conv1d(line, x, np.ones((3, 1, 4), np.float32), None, stride=4)
    steered = layers.upsample(line, line.multiplied(slow, knob), 4, "nearest")
    model = Model(line.graph(steered))
    signal = array(3, FRAMES)
    plain = model(signal, drive=1.0)
    assert np.any(plain)
    np.testing.assert_allclose(model(signal, drive=0.25), 0.25 * plain, atol=1e-6)
    np.testing.assert_allclose(model(signal), 0.5 * plain, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((1, 6, 100), (1, 2, 3, 100), [([0], [0]), ([1], [1, 2]), ([2], [3])]),
        ((1, 2, 3, 100), (1, 6, 100), [([0], [0]), ([1, 2], [1]), ([3], [2])]),
        ((4, 5), (20,), [([0, 1], [0])]),
    ],
)
def test_regrouped(old, new, expected):
    assert list(regrouped(old, new)) == expected


def test_what_no_stream_can_do_is_refused():
    sketch = Sketch(4)
    line, x = sketch.line, sketch.track
    for wrong, word in (
        (lambda: line.cut_time(x, 0, 10), "stretch of time"),
        (lambda: line.reshaped(x, (1, 4 * FRAMES)), "mixes"),
        (lambda: line.reshaped(x, (1, 3, FRAMES)), "cannot reshape"),
        (lambda: line.summed(x, line.padded(x, 1, 0)), "different lengths"),
        (lambda: layers.conv1d(line, x.transposed((0, 2, 1)), np.ones((1, 4, 1), np.float32), None), "time"),
        (lambda: layers.avg_pool1d(line, x, 3, 1, (1, 1), count_pads=False), "padding"),
    ):
        with pytest.raises(ModelError, match=word):
            wrong()
