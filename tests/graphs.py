"""Hypothesis strategies that draw layers and whole graphs, and cuts of a signal into blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from backline.activations import ACTIVATIONS, Activation
from backline.graph import Graph
from backline.layers import Activate, Add, Affine, BatchNorm, Conv1d, Crossfade, Lstm, Multiply, Slice


def array(seed: int, *shape: int, scale: float = 0.5) -> np.ndarray:
    """Seeded normal numbers in float32."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


KINDS = ["conv", "conv", "wave", "wave", "gated", "norm", "lstm", "act", "scale"]
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def conv_shapes(draw, max_channels: int = 20, max_stride: int = 4) -> dict:
    """Channels, groups over all common divisors (depthwise with multiplier among them), taps, dilation."""
    in_channels = draw(st.integers(1, max_channels))
    groups = draw(st.sampled_from(divisors(in_channels)))
    out_channels = groups * draw(st.integers(1, max(1, max_channels // groups)))
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "groups": groups,
        "kernel": draw(st.integers(1, 9)),
        "dilation": draw(st.sampled_from([1, 2, 3, 7, 64, 200])),
        "stride": draw(st.integers(1, max_stride)),
        "bias": draw(st.booleans()),
        "seed": draw(SEEDS),
    }


def conv_arrays(shape: dict) -> tuple[np.ndarray, np.ndarray | None]:
    size = (shape["out_channels"], shape["in_channels"] // shape["groups"], shape["kernel"])
    weight = array(shape["seed"], *size, scale=1 / np.sqrt(size[1] * size[2]))
    return weight, array(shape["seed"] + 1, size[0]) if shape["bias"] else None


def conv_node(output: str, source: str, shape: dict) -> Conv1d:
    weight, bias = conv_arrays(shape)
    options = {key: shape[key] for key in ("groups", "dilation", "stride")}
    return Conv1d(output, source, weight, bias, **options)


@st.composite
def activations(draw, channels: int) -> Activation:
    kind = draw(st.sampled_from(sorted(ACTIVATIONS)))
    if kind == "prelu":
        count = draw(st.sampled_from([1, channels]))
        return Activation(kind, tuple(float(v) for v in np.linspace(-0.2, 0.9, count)))
    parameters = {"leaky_relu": (0.01,), "hardtanh": (-0.7, 0.4), "elu": (1.3,)}
    parameters["leaky_hardtanh"] = (-0.5, 0.6, 0.1, 0.2)
    return Activation(kind, parameters.get(kind, ()))


@st.composite
def graphs(draw, max_layers: int = 6) -> Graph:
    """A random graph: convolutions with mixins, residuals, skips, gates, norms, LSTMs, in any sequence."""
    channels_in = draw(st.integers(1, 5))
    nodes: list = []
    signals = {"x": channels_in}
    current, skip = "x", None
    for layer in range(draw(st.integers(1, max_layers))):
        kind = draw(st.sampled_from(KINDS))
        seed, channels = draw(SEEDS), signals[current]
        name = f"layer {layer}"
        if kind in ("conv", "wave", "gated"):
            groups = draw(st.sampled_from(divisors(channels)))
            out = channels if kind == "wave" else groups * draw(st.integers(1, 6))
            mid = 2 * out if kind == "gated" else out
            groups = groups if mid % groups == 0 else 1
            shape = {
                "in_channels": channels,
                "out_channels": mid,
                "groups": groups,
                "stride": 1,
                "seed": seed,
            }
            shape |= {"kernel": draw(st.integers(1, 5)), "dilation": draw(st.sampled_from([1, 2, 5, 131]))}
            shape |= {"bias": draw(st.booleans())}
            nodes.append(conv_node(f"{name} conv", current, shape))
            last = f"{name} conv"
            if draw(st.booleans()):
                mix_groups = draw(st.sampled_from([g for g in divisors(channels_in) if mid % g == 0]))
                mixin = array(seed + 2, mid, channels_in // mix_groups, 1)
                nodes.append(Conv1d(f"{name} mixin", "x", mixin, groups=mix_groups))
                nodes.append(Add(f"{name} mixed", last, f"{name} mixin"))
                last = f"{name} mixed"
            if kind == "gated":
                nodes.append(Slice(f"{name} top", last, 0, out))
                nodes.append(Slice(f"{name} bottom", last, out, out))
                nodes.append(Activate(f"{name} a", f"{name} top", draw(activations(out))))
                nodes.append(Activate(f"{name} b", f"{name} bottom", Activation("sigmoid")))
                if draw(st.booleans()):
                    nodes.append(Multiply(f"{name} z", f"{name} a", f"{name} b"))
                else:
                    nodes.append(Crossfade(f"{name} z", f"{name} top", f"{name} a", f"{name} b"))
            else:
                nodes.append(Activate(f"{name} z", last, draw(activations(out))))
            signals[f"{name} z"] = out
            if kind == "wave":
                if skip is None or signals[skip] != out:
                    skip = f"{name} z"
                else:
                    nodes.append(Add(f"{name} sum", skip, f"{name} z"))
                    skip = f"{name} sum"
                    signals[skip] = out
                nodes.append(Conv1d(f"{name} 1x1", f"{name} z", array(seed + 3, out, out, 1, scale=0.3)))
                nodes.append(Add(name, current, f"{name} 1x1"))
            else:
                nodes.append(Affine(name, f"{name} z", array(seed + 4, 1)))
            signals[name] = out
        else:
            signals[name] = channels
            if kind == "norm":
                variance = np.abs(array(seed, channels)) + np.float32(0.1)
                nodes.append(
                    BatchNorm(name, current, array(seed + 1, channels), variance, array(seed + 2, channels))
                )
            elif kind == "act":
                nodes.append(Activate(name, current, draw(activations(channels))))
            elif kind == "scale":
                nodes.append(Affine(name, current, array(seed, channels), array(seed + 1, channels)))
            else:
                hidden = draw(st.integers(1, 9))
                weights = (array(seed, 4 * hidden, channels), array(seed + 1, 4 * hidden, hidden))
                state = (
                    (array(seed + 3, hidden), array(seed + 4, hidden))
                    if draw(st.booleans())
                    else (None, None)
                )
                nodes.append(Lstm(name, current, *weights, array(seed + 2, 4 * hidden), *state))
                signals[name] = hidden
        current = name
    if skip is not None and draw(st.booleans()):
        current = skip
    prewarm = draw(st.sampled_from([0, 0, 1, 500]))
    return Graph(tuple(nodes), "x", channels_in, current, prewarm_frames=prewarm)


@st.composite
def cuts(draw, frames: int, most: int = 4096) -> list[int]:
    """Block sizes that add up to `frames`."""
    sizes: list[int] = []
    while sum(sizes) < frames:
        sizes.append(min(draw(st.integers(1, most)), frames - sum(sizes)))
    return sizes


def in_blocks(stream, x: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Run `x` [frames, channels] through a stream in blocks and join what comes out."""
    edges = np.cumsum([0, *sizes])
    return np.concatenate([stream.process(x[a:b]) for a, b in pairwise(edges)])
