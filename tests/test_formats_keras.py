"""RTNeural's Keras JSON against Keras itself: every layer type, stacked in any order."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import DOCUMENTS
from graphs import array, divisors, examples
from hypothesis import given
from hypothesis import strategies as st
from mutations import drop, put
from test_formats_bad_input import refusal

from backline import native, reference
from backline.engine import Model
from backline.formats import load_graph
from backline.formats.keras_json import read

ACTIVATIONS = ["tanh", "relu", "sigmoid", "softmax", "elu"]
SEEDS = st.integers(0, 2**31)


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    pytest.importorskip("torch", reason="Keras runs on PyTorch here")
    found = pytest.importorskip("keras", reason="compares with Keras")
    # Products and normalisations are narrowed to float32 whatever a layer's dtype, unless TensorFlow runs
    # below: Keras has no public switch for that.
    from keras.src.backend.common import dtypes

    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    return found


class Stack:
    """Keras layers, each run as soon as it is added, and what RTNeural's exporter writes of them.

    Keras computes in float64 with weights that float32 holds, so that only the order of sums differs.
    """

    def __init__(self, keras: Any, x: np.ndarray) -> None:
        self.keras, self.y = keras, x[None].astype(np.float64)
        self.document: dict[str, Any] = {"in_shape": [None, None, x.shape[1]], "layers": []}

    @property
    def width(self) -> int:
        return int(self.y.shape[-1])

    def run(self, layer: Any, seed: int, y: np.ndarray) -> np.ndarray:
        layer.build(y.shape)
        weights = [array(seed + i, *found.shape) for i, found in enumerate(layer.get_weights())]
        if isinstance(layer, self.keras.layers.BatchNormalization):
            weights[-1] = np.abs(weights[-1]) + np.float32(0.1)
        layer.set_weights(weights)
        return np.array(self.keras.ops.convert_to_numpy(layer(y)))

    def write(self, kind: str, weights: list[Any], activation: str = "", **more: Any) -> None:
        shape = [None, None, self.width]
        layer = {"type": kind, "activation": activation, "shape": shape, "weights": weights, **more}
        self.document["layers"].append(layer)

    def add(self, kind: str, layer: Any, seed: int, activation: str = "", **more: Any) -> None:
        """A layer over time whose weights are written as Keras has them."""
        self.y = self.run(layer, seed, self.y)
        self.write(kind, [found.tolist() for found in layer.get_weights()], activation, **more)

    def dense(self, seed: int, size: int, activation: str = "", bias: bool = True) -> None:
        layer = self.keras.layers.Dense(size, activation or None, use_bias=bias, dtype="float64")
        self.add("dense" if seed % 2 else "time-distributed-dense", layer, seed, activation)

    def conv1d(self, seed: int, size: int, kernel: int, dilation: int, groups: int, activation: str) -> None:
        layer = self.keras.layers.Conv1D(
            size,
            kernel,
            padding="causal",
            dilation_rate=dilation,
            groups=groups,
            activation=activation or None,
            dtype="float64",
        )
        sizes = {"kernel_size": [kernel], "dilation": [dilation]}
        self.add("conv1d", layer, seed, activation, **sizes, **({"groups": groups} if groups > 1 else {}))

    def recurrent(self, seed: int, kind: str, size: int) -> None:
        layer = self.keras.layers.LSTM if kind == "lstm" else self.keras.layers.GRU
        made = layer(size, return_sequences=True, dtype="float64")
        self.add(kind, made, seed, "tanh" if seed % 2 else "")

    def batchnorm(self, seed: int, affine: bool) -> None:
        options = {"center": affine, "scale": affine, "epsilon": 0.01}
        layer = self.keras.layers.BatchNormalization(dtype="float64", **options)
        self.add("batchnorm", layer, seed, epsilon=0.01)

    def prelu(self, seed: int) -> None:
        self.add("prelu", self.keras.layers.PReLU(shared_axes=[1], dtype="float64"), seed)

    def activation(self, kind: str) -> None:
        self.y = np.array(self.keras.ops.convert_to_numpy(getattr(self.keras.activations, kind)(self.y)))
        self.write("activation", [], kind)

    def conv2d(
        self,
        seed: int,
        filters: tuple[int, int],
        kernel: tuple[int, int],
        *,
        dilation: int = 1,
        stride: int = 1,
        padding: str = "same",
    ) -> None:
        """Keras pads features and time alike: with zeros in front, its answers are there, but later."""
        frames, features = self.y.shape[1], self.width // filters[0]
        layer = self.keras.layers.Conv2D(
            filters[1],
            kernel,
            strides=(1, stride),
            dilation_rate=(dilation, 1),
            padding=padding,
            dtype="float64",
        )
        past = (kernel[0] - 1) * dilation
        y = np.pad(self.y.reshape(1, frames, features, filters[0]), [(0, 0), (past, 0), (0, 0), (0, 0)])
        y = self.run(layer, seed, y)
        late = past // 2 if padding == "same" else 0
        self.y = y[:, late : late + frames].reshape(1, frames, -1)
        sizes = {"kernel_size_time": kernel[0], "kernel_size_feature": kernel[1], "num_features_in": features}
        sizes |= {"num_filters_in": filters[0], "num_filters_out": filters[1]}
        sizes |= {"dilation": dilation, "strides": stride}
        self.write("conv2d", [w.tolist() for w in layer.get_weights()], padding=padding, **sizes)
        self.document["layers"][-1]["shape"] = [None, None, y.shape[2], filters[1]]

    def batchnorm2d(self, seed: int, filters: int) -> None:
        layer = self.keras.layers.BatchNormalization(epsilon=0.001, dtype="float64")
        y = self.run(layer, seed, self.y.reshape(*self.y.shape[:2], -1, filters))
        self.y = y.reshape(self.y.shape)
        sizes = {"num_filters_in": filters, "num_features_in": self.width // filters}
        self.write("batchnorm2d", [w.tolist() for w in layer.get_weights()], epsilon=0.001, **sizes)


def add_drawn(stack: Stack, draw: Callable[[Any], Any]) -> None:
    kind = draw(st.sampled_from(["dense", "conv1d", "lstm", "gru", "batchnorm", "prelu", "activation"]))
    seed, size = draw(SEEDS), draw(st.integers(1, 8))
    if kind == "dense":
        stack.dense(seed, size, draw(st.sampled_from(["", *ACTIVATIONS])), draw(st.booleans()))
    elif kind == "conv1d":
        groups = draw(st.sampled_from(divisors(stack.width)))
        kernel, dilation = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 5]))
        activation = draw(st.sampled_from(["", *ACTIVATIONS]))
        stack.conv1d(seed, groups * draw(st.integers(1, 3)), kernel, dilation, groups, activation)
    elif kind in ("lstm", "gru"):
        stack.recurrent(seed, kind, size)
    elif kind == "batchnorm":
        stack.batchnorm(seed, draw(st.booleans()))
    elif kind == "prelu":
        stack.prelu(seed)
    else:
        stack.activation(draw(st.sampled_from(ACTIVATIONS)))


@given(data=st.data())
@examples(40)
def test_drawn_stacks(keras: Any, data: st.DataObject) -> None:
    x = array(data.draw(SEEDS), data.draw(st.integers(1, 40)), data.draw(st.integers(1, 6)), scale=1.0)
    stack = Stack(keras, x)
    for _ in range(data.draw(st.integers(1, 5))):
        add_drawn(stack, data.draw)
    found = reference.run(read(stack.document), x.T)
    np.testing.assert_allclose(found.T, stack.y[0], rtol=0, atol=1e-11 * max(1.0, np.abs(stack.y).max()))


@given(data=st.data())
@examples(40)
def test_drawn_conv2d(keras: Any, data: st.DataObject) -> None:
    draw = data.draw
    features, filters = draw(st.integers(1, 9)), (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = draw(st.sampled_from(["same", "valid"]))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, features if padding == "valid" else 9)))
    # Keras has either stride or dilation.
    stride = draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 3)) if stride == 1 else 1
    x = array(draw(SEEDS), draw(st.integers(1, 20)), features * filters[0], scale=1.0)
    stack = Stack(keras, x)
    stack.conv2d(draw(SEEDS), filters, kernel, dilation=dilation, stride=stride, padding=padding)
    graph = read(stack.document)
    assert graph.output_channels == stack.width
    np.testing.assert_allclose(reference.run(graph, x.T).T, stack.y[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("isa", native.available_isas())
def test_spectrogram_stack_in_c(keras: Any, tmp_path: Path, isa: str) -> None:
    """Features of four filters, normalised, then dense and recurrent layers: each kind at least once."""
    x = array(7, 300, 12, scale=1.0)
    stack = Stack(keras, x)
    stack.conv2d(1, (1, 4), (3, 5), dilation=2)
    stack.batchnorm2d(11, 4)
    stack.activation("relu")
    stack.conv2d(21, (4, 2), (2, 3), stride=2, padding="valid")
    stack.dense(31, 6, "elu")
    stack.recurrent(41, "gru", 5)
    stack.recurrent(51, "lstm", 4)
    stack.recurrent(61, "gru", 3)
    stack.batchnorm(71, True)
    stack.prelu(81)
    stack.conv1d(91, 6, 3, 4, 3, "tanh")
    stack.dense(101, 2, "softmax")
    path = tmp_path / "model.json"
    path.write_text(json.dumps(stack.document))
    graph = load_graph(path)
    assert [note.partition(":")[0] for note in graph.notes] == ["layer 0 conv2d"]  # its padding in time
    np.testing.assert_allclose(reference.run(graph, x.T).T, stack.y[0], rtol=0, atol=1e-11)
    np.testing.assert_allclose(Model(graph, isa)(x), stack.y[0], rtol=0, atol=5e-6)


BROKEN = [
    (put("layers", 0, "num_filters_in", value=4), "expected 6 channels as before, found 3 features of 4"),
    (put("layers", 0, "padding", value="causal"), "layer 0: field 'padding': expected same or valid"),
    (put("layers", 0, "kernel_size_feature", value=7), "weights[0][0]: expected a list of 7, found 3"),
    (put("layers", 0, "shape", value=[None, None, 4, 2]), "layer 0: field 'shape': expected 3 features"),
    (put("layers", 0, "strides", value=0), "layer 0: field 'strides': expected an integer from 1"),
    (put("layers", 0, "dilation", value=2**24), "reach of the kernel"),
    (put("in_shape", value=[None, None, 2, 3]), None),
    (put("in_shape", value=[None, None, 2**24, 2**24]), "layer 0: expected 281474976710656 channels"),
    (drop("layers", 1, "epsilon"), "layer 1: field 'epsilon' is missing"),
    (
        put("layers", 1, "num_features_in", value=2),
        "layer 1: expected 6 channels as before, found 2 features",
    ),
    (put("layers", 2, "activation", value="sigmoid"), "RTNeural knows no other GRU, found 'sigmoid'"),
    (put("layers", 2, "weights", 2, value=[0.0] * 9), "weights[2]: expected a list of 2, found 9 entries"),
    (put("layers", 2, "type", value="simple_rnn"), "layer 2: field 'type': expected one of dense"),
]


@pytest.mark.parametrize(("mutate", "text"), BROKEN)
def test_broken_documents(tmp_path: Path, mutate: Callable[[dict[str, Any]], None], text: str | None) -> None:
    document = DOCUMENTS["keras_2d"]()
    mutate(document)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(document))
    if text is None:
        assert load_graph(path).input_channels == 6
    else:
        assert text in refusal(path)
