"""Small .nam documents of the rarer architectures; their weight counts are counted by hand."""

from __future__ import annotations

from typing import Any


def numbers(count: int) -> list[float]:
    return [round(0.01 * (i % 17) - 0.08, 4) for i in range(count)]


def nam(architecture: str, config: dict[str, Any], weights: int) -> dict[str, Any]:
    return {
        "version": "0.7.0",
        "architecture": architecture,
        "config": config,
        "weights": numbers(weights),
        "sample_rate": 48000,
        "metadata": {"name": "Loud", "loudness": -18.0},
    }


def linear() -> dict[str, Any]:
    return nam("Linear", {"receptive_field": 3, "bias": True}, 4)


def conv_net() -> dict[str, Any]:
    """Two blocks: 8 + 16 weights of their kernels, 17 of each normalisation, 5 of the head."""
    config = {"channels": 4, "dilations": [1, 2], "batchnorm": True, "activation": "ReLU", "groups": 2}
    document = nam("ConvNet", {**config, "in_channels": 2}, 63)
    for variance in (12, 45):
        document["weights"][variance : variance + 4] = [0.5] * 4
    return document


def modulated() -> dict[str, Any]:
    """All eight FiLMs, one of which does not shift: 84 - 8 weights; 42 around them."""
    array = {
        **{"input_size": 1, "condition_size": 1, "channels": 2, "kernel_sizes": [2], "dilations": [1]},
        **{"activation": ["Tanh"], "gating_mode": ["gated"], "secondary_activation": ["Sigmoid"]},
        "head1x1": {"active": True, "out_channels": 2, "groups": 1},
        "head": {"out_channels": 1, "kernel_size": 1, "bias": True},
        "conv_pre_film": {"active": True, "shift": True, "groups": 1},
        "conv_post_film": {"active": True, "shift": False, "groups": 1},
        "input_mixin_pre_film": {"active": True, "shift": True, "groups": 1},
        "input_mixin_post_film": {"active": True, "shift": True},
        "activation_pre_film": {"active": True, "groups": 1},
        "activation_post_film": {"active": True},
        "layer1x1_post_film": {},
        "head1x1_post_film": {"active": True, "shift": True, "groups": 1},
    }
    config = {"layers": [array], "head": None, "head_scale": 0.1, "condition_dsp": linear()}
    return nam("WaveNet", config, 118)


def slimmable() -> dict[str, Any]:
    array = {
        **{"input_size": 1, "condition_size": 1, "channels": 3, "kernel_size": 1, "dilations": [1]},
        **{"activation": "Tanh", "gated": False, "head_size": 1, "head_bias": False},
        "slimmable": {"method": "slice_channels_uniform", "kwargs": {"allowed_channels": [1, 3]}},
    }
    return nam("WaveNet", {"layers": [array], "head": None, "head_scale": 0.1}, 34)


def sequential() -> dict[str, Any]:
    return nam("Sequential", {"models": [slimmable(), linear()]}, 0)


NAM_DOCUMENTS = {
    "linear": linear,
    "conv_net": conv_net,
    "modulated": modulated,
    "slimmable": slimmable,
    "sequential": sequential,
}
