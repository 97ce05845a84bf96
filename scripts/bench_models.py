"""Models of the usual shapes with seeded weights, to measure what files of those shapes cost.

    python scripts/bench_models.py FOLDER       # writes them

What a block costs depends on shapes, not on weights. Shapes as in the configurations of the trainer
(github.com/sdatkinson/neural-amp-modeler): "standard", "lite", "feather" and "nano" of the first
architecture, the packed A2, and two LSTMs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RATE_HZ = 48000
_SHORT = [1 << n for n in range(7)]
_LONG = [1 << n for n in range(10)]
_REST = [128, 256, 512, *_LONG]

#: Dilations of the two arrays, channels of the first; the second has half, and so has the first one's head.
A1 = {
    "a1-standard": (_LONG, _LONG, 16),
    "a1-lite": (_SHORT, _REST, 12),
    "a1-feather": (_SHORT, _REST, 8),
    "a1-nano": (_SHORT, _REST, 4),
}
#: Layers and width.
LSTM = {"lstm-1x16": (1, 16), "lstm-2x8": (2, 8)}
#: Quality below which the lite one of the two plays, and channels of either.
A2 = {"lite": (0.5, 3), "full": (1.0, 8)}
_A2_CYCLE = [1, 3, 7, 17, 41, 101, 239]
_A2_DILATIONS = [*_A2_CYCLE, *_A2_CYCLE, 1, 13, *_A2_CYCLE]
_A2_KERNELS = [*[6] * 14, 15, 15, *[6] * 7]

#: Small enough for what passes through many layers to stay of the size of the signal; and large enough for a
#: recurrent layer to answer to it.
_SCALE, _LSTM_SCALE = 0.1, 0.5


def _numbers(count: int, scale: float = _SCALE) -> list[float]:
    rng = np.random.default_rng(count)
    return [float(x) for x in (scale * rng.standard_normal(count)).astype(np.float32)]


def _layers(inputs: int, channels: int, kernels: Sequence[int]) -> int:
    """Weights of an array of layers without its head: rechannel, then conv, bias, mixin, 1x1 and its bias."""
    per_tap, others = channels * channels, 2 * channels + channels + channels * channels
    return inputs * channels + sum(kernel * per_tap + others for kernel in kernels)


def _file(architecture: str, config: dict[str, Any], weights: list[float]) -> dict[str, Any]:
    return {
        "version": "0.7.0",
        "architecture": architecture,
        "config": config,
        "weights": weights,
        "sample_rate": RATE_HZ,
    }


def a1(first: Sequence[int], second: Sequence[int], channels: int) -> dict[str, Any]:
    """A WaveNet of two arrays with tanh."""
    half = channels // 2
    arrays = [
        _a1_array(1, channels, first, {"out_channels": half, "kernel_size": 1, "bias": False}),
        _a1_array(channels, half, second, {"out_channels": 1, "kernel_size": 1, "bias": True}),
    ]
    count = _layers(1, channels, [3] * len(first)) + channels * half
    count += _layers(channels, half, [3] * len(second)) + half + 1
    config = {"layers": arrays, "head": None, "head_scale": 0.02}
    return _file("WaveNet", config, _numbers(count + 1))


def _a1_array(inputs: int, channels: int, dilations: Sequence[int], head: dict[str, Any]) -> dict[str, Any]:
    return {
        "input_size": inputs,
        "condition_size": 1,
        "channels": channels,
        "kernel_size": 3,
        "dilations": list(dilations),
        "activation": "Tanh",
        "head": head,
    }


def a2_part(channels: int) -> dict[str, Any]:
    """One of the two sizes of the packed A2."""
    layers = len(_A2_DILATIONS)
    array = {
        "input_size": 1,
        "condition_size": 1,
        "channels": channels,
        "bottleneck": channels,
        "kernel_sizes": _A2_KERNELS,
        "dilations": _A2_DILATIONS,
        "activation": [{"type": "LeakyReLU", "negative_slope": 0.01}] * layers,
        "gating_mode": ["none"] * layers,
        "secondary_activation": [None] * layers,
        "head": {"out_channels": 1, "kernel_size": 16, "bias": True},
    }
    count = _layers(1, channels, _A2_KERNELS) + 16 * channels + 1
    return _file("WaveNet", {"layers": [array], "head": None, "head_scale": 0.01}, _numbers(count + 1))


def a2() -> dict[str, Any]:
    """Both sizes of A2 in one file."""
    submodels = [{"max_value": limit, "model": a2_part(channels)} for limit, channels in A2.values()]
    return _file("SlimmableContainer", {"submodels": submodels}, [])


def lstm(layers: int, hidden: int) -> dict[str, Any]:
    """LSTM layers and a weighted sum."""
    gates = sum(4 * hidden * (inputs + hidden + 1) for inputs in (1, *[hidden] * (layers - 1)))
    config = {"input_size": 1, "hidden_size": hidden, "num_layers": layers}
    return _file("LSTM", config, _numbers(gates + 2 * hidden * layers + hidden + 1, _LSTM_SCALE))


def write_models(folder: Path) -> dict[str, Path]:
    """Write all of them as .nam files; return the files by name."""
    documents = {name: a1(*sizes) for name, sizes in A1.items()}
    documents |= {"a2": a2()} | {name: lstm(*sizes) for name, sizes in LSTM.items()}
    found = {}
    for name, document in documents.items():
        found[name] = folder / f"{name}.nam"
        found[name].write_text(json.dumps(document), encoding="utf-8")
    return found


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in write_models(folder).values():
        print(path)


if __name__ == "__main__":
    main()
