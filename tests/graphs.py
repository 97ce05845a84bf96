"""Hypothesis strategies that draw layers and whole graphs, and cuts of a signal into blocks."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from backline.activations import ACTIVATIONS, PER_CHANNEL, Activation
from backline.graph import Graph
from backline.layers import (
    Activate,
    Add,
    Affine,
    AvgPool1d,
    BatchNorm,
    Concat,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    Crossfade,
    Delay,
    Gru,
    Lstm,
    MaxPool1d,
    Multiply,
    Resample,
    Reshape,
    Slice,
    Upsample,
)


def examples(count: int) -> settings:
    """Settings for `count` drawn examples, and ``BACKLINE_SOAK`` times as many in scripts/soak."""
    return settings(max_examples=count * int(os.environ.get("BACKLINE_SOAK", "1")), deadline=None)


def array(seed: int, *shape: int, scale: float = 0.5) -> np.ndarray:
    """Seeded normal numbers in float32."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


KINDS = ["conv", "conv", "wave", "wave", "gated", "stride", "norm", "lstm", "act", "scale"]
KINDS += ["gru", "join", "delay", "pool", "up", "transpose", "spectrum", "resample"]
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
    if kind in PER_CHANNEL:
        count = draw(st.sampled_from([1, channels]))
        return Activation(kind, tuple(float(v) for v in np.linspace(0.9, 0.2, count)))
    parameters = {"leaky_relu": (0.01,), "hardtanh": (-0.7, 0.4), "elu": (1.3,), "softplus": (1.7,)}
    parameters["hardsigmoid"] = (0.3, 0.45)
    parameters["leaky_hardtanh"] = (-0.5, 0.6, 0.1, 0.2)
    return Activation(kind, parameters.get(kind, ()))


class _Draft:
    """A graph while it is drawn: its nodes, where the signal stands, and what may still be added to it."""

    def __init__(self, draw) -> None:
        self.draw = draw
        self.channels_in = draw(st.integers(1, 5))
        self.nodes: list = []
        self.widths = {"x": self.channels_in}
        self.at = "x"
        self.skip: str | None = None
        self.strided = False

    @property
    def width(self) -> int:
        return self.widths[self.at]

    def add(self, kind: str, name: str) -> None:
        self.widths[name] = self.width
        getattr(self, f"add_{kind}")(name, self.draw(SEEDS))
        self.at = name

    def convolve(self, name: str, out: int, seed: int, stride: int = 1) -> str:
        """A grouped convolution of whatever groups fit, perhaps with a mixin; returns what it wrote."""
        groups = self.draw(st.sampled_from([g for g in divisors(self.width) if out % g == 0]))
        shape = {"in_channels": self.width, "out_channels": out, "groups": groups, "seed": seed}
        shape |= {
            "kernel": self.draw(st.integers(1, 5)),
            "dilation": self.draw(st.sampled_from([1, 2, 5, 131])),
        }
        shape |= {"bias": self.draw(st.booleans()), "stride": stride}
        self.nodes.append(conv_node(f"{name} conv", self.at, shape))
        if self.strided or stride > 1 or not self.draw(st.booleans()):
            return f"{name} conv"
        mix_groups = self.draw(st.sampled_from([g for g in divisors(self.channels_in) if out % g == 0]))
        mixin = array(seed + 2, out, self.channels_in // mix_groups, 1)
        self.nodes.append(Conv1d(f"{name} mixin", "x", mixin, groups=mix_groups))
        self.nodes.append(Add(f"{name} mixed", f"{name} conv", f"{name} mixin"))
        return f"{name} mixed"

    def add_conv(self, name: str, seed: int) -> None:
        out = self.draw(st.integers(1, 12))
        self.widths[name] = out
        self.nodes.append(Activate(name, self.convolve(name, out, seed), self.draw(activations(out))))

    def add_stride(self, name: str, seed: int) -> None:
        out = self.widths[name] = self.draw(st.integers(1, 6))
        last = self.convolve(name, out, seed, self.draw(st.integers(2, 3)))
        self.nodes.append(Activate(name, last, self.draw(activations(out))))
        self.strided, self.skip = True, None

    def add_wave(self, name: str, seed: int) -> None:
        """A WaveNet layer: activation, running sum, one-tap convolution, residual."""
        out, z = self.width, f"{name} z"
        self.nodes.append(Activate(z, self.convolve(name, out, seed), self.draw(activations(out))))
        if self.skip is not None and self.widths[self.skip] == out:
            self.nodes.append(Add(f"{name} sum", self.skip, z))
        self.skip = z if self.nodes[-1].output == z else f"{name} sum"
        self.widths[self.skip] = out
        self.nodes.append(Conv1d(f"{name} 1x1", z, array(seed + 3, out, out, 1, scale=0.3)))
        self.nodes.append(Add(name, self.at, f"{name} 1x1"))

    def add_gated(self, name: str, seed: int) -> None:
        out = self.widths[name] = self.draw(st.integers(1, 6))
        last = self.convolve(name, 2 * out, seed)
        self.nodes.append(Slice(f"{name} top", last, 0, out))
        self.nodes.append(Slice(f"{name} bottom", last, out, out))
        self.nodes.append(Activate(f"{name} a", f"{name} top", self.draw(activations(out))))
        self.nodes.append(Activate(f"{name} b", f"{name} bottom", Activation("sigmoid")))
        if self.draw(st.booleans()):
            self.nodes.append(Multiply(name, f"{name} a", f"{name} b"))
        else:
            self.nodes.append(Crossfade(name, f"{name} top", f"{name} a", f"{name} b"))

    def add_norm(self, name: str, seed: int) -> None:
        variance = np.abs(array(seed, self.width)) + np.float32(0.1)
        mean, gamma = array(seed + 1, self.width), array(seed + 2, self.width)
        self.nodes.append(BatchNorm(name, self.at, mean, variance, gamma))

    def add_act(self, name: str, seed: int) -> None:
        self.nodes.append(Activate(name, self.at, self.draw(activations(self.width))))

    def add_scale(self, name: str, seed: int) -> None:
        shift = array(seed + 1, self.width) if self.draw(st.booleans()) else None
        count = self.draw(st.sampled_from([1, self.width]))
        self.nodes.append(Affine(name, self.at, array(seed, count), shift))

    def add_lstm(self, name: str, seed: int) -> None:
        hidden = self.draw(st.integers(1, 9))
        weights = (array(seed, 4 * hidden, self.width), array(seed + 1, 4 * hidden, hidden))
        state = [array(seed + k, hidden) for k in (3, 4)] if self.draw(st.booleans()) else []
        self.nodes.append(Lstm(name, self.at, *weights, array(seed + 2, 4 * hidden), *state))
        self.widths[name] = hidden

    def add_gru(self, name: str, seed: int) -> None:
        hidden = self.draw(st.integers(1, 9))
        weights = (array(seed, 3 * hidden, self.width), array(seed + 1, 3 * hidden, hidden))
        biases = (array(seed + 2, 3 * hidden), array(seed + 3, 3 * hidden))
        state = [array(seed + 4, hidden)] if self.draw(st.booleans()) else []
        self.nodes.append(Gru(name, self.at, *weights, *biases, *state))
        self.widths[name] = hidden

    def add_join(self, name: str, seed: int) -> None:
        """The signal, a convolution of it, and either once more: in place where that is possible."""
        self.convolve(name, 2, seed)
        parts = [self.at, self.nodes[-1].output, self.draw(st.sampled_from([self.at, self.nodes[-1].output]))]
        parts = self.draw(st.permutations(parts))
        self.nodes.append(Concat(name, tuple(parts)))
        self.widths[self.nodes[-2].output] = 2
        self.widths[name] = sum(2 if part != self.at else self.width for part in parts)

    def add_delay(self, name: str, seed: int) -> None:
        self.nodes.append(
            Delay(name, self.at, self.draw(st.integers(0, 200)), self.draw(st.integers(-9, 40)))
        )

    def add_pool(self, name: str, seed: int) -> None:
        pool = self.draw(st.sampled_from([MaxPool1d, AvgPool1d]))
        self.nodes.append(pool(name, self.at, self.draw(st.integers(1, 4)), self.draw(st.integers(1, 3))))
        self.strided, self.skip = True, None

    def add_up(self, name: str, seed: int) -> None:
        mode = self.draw(st.sampled_from(["nearest", "linear"]))
        self.nodes.append(Upsample(name, self.at, self.draw(st.integers(1, 3)), mode))
        self.strided, self.skip = True, None

    def add_resample(self, name: str, seed: int) -> None:
        up, down, kernel = (self.draw(st.integers(1, most)) for most in (5, 5, 20))
        taps = array(seed, up, kernel, scale=1 / np.sqrt(kernel))
        self.nodes.append(Resample(name, self.at, up, down, taps))
        self.strided, self.skip = True, None

    def add_transpose(self, name: str, seed: int) -> None:
        weight = array(seed, self.width, self.draw(st.integers(1, 4)), self.draw(st.integers(1, 5)))
        stride, dilation = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 2))
        self.nodes.append(ConvTranspose1d(name, self.at, weight, dilation=dilation, stride=stride))
        self.widths[name] = weight.shape[1]
        self.strided, self.skip = True, None

    def add_spectrum(self, name: str, seed: int) -> None:
        """A convolution over time and features: channels become features."""
        features, pad = self.width, self.draw(st.integers(1, 2))
        weight = array(seed, 2, 1, self.draw(st.integers(1, 3)), 3)
        self.nodes.append(Reshape(f"{name} in", self.at, 1, features))
        self.nodes.append(Conv2d(f"{name} 2d", f"{name} in", weight, feature_padding=(pad, pad)))
        rows = 2 * (features + 2 * pad - 2)
        self.nodes.append(Reshape(name, f"{name} 2d", rows))
        self.widths[name] = rows


@st.composite
def graphs(draw, max_layers: int = 6) -> Graph:
    """A random graph: convolutions, mixins, residuals, skips, gates, strides, norms, LSTMs in any order."""
    draft = _Draft(draw)
    for layer in range(draw(st.integers(1, max_layers))):
        draft.add(draw(st.sampled_from(KINDS)), f"layer {layer}")
    output = draft.at
    if draft.skip is not None and draw(st.booleans()):
        output = draft.skip
    prewarm = draw(st.sampled_from([0, 0, 1, 500]))
    return Graph(tuple(draft.nodes), "x", draft.channels_in, output, prewarm_frames=prewarm)


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
