"""Small, complete model documents of every format, made here; their weight counts are counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from documents_nam import NAM_DOCUMENTS, nam, numbers


def nested(*shape: int) -> Any:
    return np.reshape(numbers(int(np.prod(shape))), shape).tolist()


def wavenet() -> dict[str, Any]:
    """Two arrays and a post-stack head that use everything supported, 198 weights counted by hand."""
    first = {
        **{"input_size": 1, "condition_size": 1, "channels": 4, "bottleneck": 2},
        **{"kernel_sizes": [3, 2], "dilations": [1, 2], "groups_input": 2, "groups_input_mixin": 1},
        "activation": ["Tanh", {"type": "PReLU", "negative_slopes": [0.1, 0.2]}],
        "gating_mode": ["gated", "blended"],
        "secondary_activation": ["Sigmoid", {"type": "LeakyHardtanh", "min_val": 0.0, "max_slope": 0.5}],
        "layer1x1": {"active": True, "groups": 2},
        "head1x1": {"active": True, "out_channels": 6, "groups": 2},
        "head": {"out_channels": 3, "kernel_size": 2, "bias": False},
        "conv_pre_film": {"active": False, "shift": True, "groups": 1},
        "slimmable": None,
    }
    second = {
        **{"input_size": 4, "condition_size": 1, "channels": 3, "kernel_size": 2, "dilations": [4]},
        **{"activation": "ReLU", "gated": False, "head_size": 1, "head_bias": True},
    }
    head = {"channels": 2, "out_channels": 1, "kernel_sizes": [2, 1], "activation": "ReLU"}
    return nam("WaveNet", {"layers": [first, second], "head": head, "head_scale": 0.1}, 198)


def lstm() -> dict[str, Any]:
    return nam("LSTM", {"input_size": 1, "hidden_size": 2, "num_layers": 2}, 36 + 44 + 3)


def container() -> dict[str, Any]:
    submodels = [{"max_value": 0.5, "model": lstm()}, {"max_value": 1.0, "model": wavenet()}]
    return nam("SlimmableContainer", {"submodels": submodels}, 0)


def keras() -> dict[str, Any]:
    def layer(kind: str, size: int, weights: list[Any], activation: str = "", **more: Any) -> dict[str, Any]:
        shape = [None, None, size]
        return {"type": kind, "activation": activation, "shape": shape, "weights": weights, **more}

    conv = {"kernel_size": [3], "dilation": [2], "groups": 2}
    return {
        "in_shape": [None, None, 2],
        "layers": [
            layer("dense", 4, [nested(2, 4), numbers(4)], "tanh"),
            layer("conv1d", 2, [nested(3, 2, 2), numbers(2)], "elu", **conv),
            layer("batchnorm", 2, [[1.0, 1.0], numbers(2), numbers(2), [0.5, 0.5]], epsilon=0.01),
            layer("prelu", 2, [[[0.1, 0.2]]]),
            layer("lstm", 3, [nested(2, 12), nested(3, 12), numbers(12)], "tanh"),
            layer("activation", 3, [], "softmax"),
            layer("time-distributed-dense", 1, [nested(3, 1), [0.1]]),
        ],
    }


def keras_2d() -> dict[str, Any]:
    """Three features of two filters, then a GRU."""
    sizes = {"num_features_in": 3, "num_filters_in": 2}
    conv = {"kernel_size_time": 2, "kernel_size_feature": 3, "num_filters_out": 2, "padding": "same"}
    norm = [[1.0, 1.0], numbers(2), numbers(2), [0.5, 0.5]]
    gru = [nested(6, 9), nested(3, 9), nested(2, 9)]
    plain = {"activation": "", "shape": [None, None, 3, 2]}
    return {
        "in_shape": [None, None, 3, 2],
        "layers": [
            {"type": "conv2d", "weights": [nested(2, 3, 2, 2), numbers(2)], **plain, **sizes, **conv}
            | {"dilation": 2, "strides": 1},
            {"type": "batchnorm2d", "weights": norm, "epsilon": 0.01, **plain, **sizes},
            {"type": "gru", "activation": "tanh", "shape": [None, None, 3], "weights": gru},
        ],
    }


def aidax() -> dict[str, Any]:
    """Audio and a parameter into an LSTM, with everything AIDA-X writes besides."""
    lstm = {"type": "lstm", "activation": "", "shape": [None, None, 3]}
    dense = {"type": "dense", "activation": "", "shape": [None, None, 1]}
    return {
        "in_shape": [None, None, 2],
        "layers": [
            lstm | {"weights": [nested(2, 12), nested(3, 12), numbers(12)]},
            dense | {"weights": [nested(3, 1), [0.1]]},
        ],
        **{"in_skip": 1, "in_gain": -6.0, "out_gain": 3.5},
        "metadata": {"name": "Loud", "samplerate": "44100"},
        **{"input_batch": numbers(5), "output_batch": numbers(5)},
    }


def guitarml() -> dict[str, Any]:
    sizes = {"input_size": 2, "output_size": 1, "hidden_size": 3, "num_layers": 2}
    state = {"lin.weight": nested(1, 3), "lin.bias": [0.1]}
    for layer, inputs in enumerate((2, 3)):
        state |= {f"rec.weight_ih_l{layer}": nested(9, inputs), f"rec.weight_hh_l{layer}": nested(9, 3)}
        state |= {f"rec.bias_{which}_l{layer}": numbers(9) for which in ("ih", "hh")}
    data = {"model": "SimpleRNN", "unit_type": "GRU", "skip": 1, "bias_fl": True}
    return {"model_data": {**data, **sizes}, "state_dict": state}


def state_dict() -> dict[str, Any]:
    return {"a.weight": nested(4, 1, 3), "a.bias": numbers(4), "b.weight": nested(2, 2, 1)}


def torch_layers() -> list[dict[str, Any]]:
    first = {"type": "conv1d", "prefix": "a.", "in_channels": 2, "out_channels": 4, "kernel_size": 3}
    second = {"type": "conv1d", "prefix": "b.", "in_channels": 4, "out_channels": 2, "kernel_size": 1}
    return [{**first, "dilation": 2, "groups": 2}, {**second, "groups": 2, "stride": 2, "bias": False}]


DOCUMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "wavenet": wavenet,
    "lstm": lstm,
    "container": container,
    "keras": keras,
    "keras_2d": keras_2d,
    "aidax": aidax,
    "guitarml": guitarml,
    "state_dict": state_dict,
    **NAM_DOCUMENTS,
}


def layers_for(document: object) -> list[dict[str, Any]] | None:
    is_state_dict = isinstance(document, dict) and any(key.endswith("weight") for key in document)
    return torch_layers() if is_state_dict else None
