"""Seeded ``.nam`` files, written by the rules of the format and not by Backline's own code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_wavenet(
    path: Path, channels: int = 6, dilations: tuple[int, ...] = (1, 3, 9, 27, 40), groups: int = 2
) -> Path:
    """Write a one-array WaveNet with grouped convolutions and LeakyReLU; return `path`."""
    rng = np.random.default_rng(20)
    kernel = 3
    weights = [rng.standard_normal(channels)]
    for _ in dilations:
        weights.append(rng.standard_normal(channels * channels // groups * kernel) / 4)
        weights.append(rng.standard_normal(channels) / 10)
        weights.append(rng.standard_normal(channels) / 2)
        weights.append(rng.standard_normal(channels * channels) / 6)
        weights.append(rng.standard_normal(channels) / 10)
    weights += [rng.standard_normal(channels), [0.05], [0.3]]
    array = {
        "input_size": 1,
        "condition_size": 1,
        "head": {"out_channels": 1, "kernel_size": 1, "bias": True},
        "channels": channels,
        "kernel_size": kernel,
        "dilations": list(dilations),
        "activation": {"type": "LeakyReLU", "negative_slope": 0.05},
        "groups_input": groups,
    }
    model = {
        "version": "0.7.0",
        "architecture": "WaveNet",
        "config": {"layers": [array], "head": None, "head_scale": 0.3},
        "weights": np.concatenate(weights).astype(np.float32).tolist(),
        "sample_rate": 48000,
        "metadata": {"name": "small grouped WaveNet"},
    }
    path.write_text(json.dumps(model))
    return path
