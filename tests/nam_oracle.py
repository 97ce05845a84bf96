"""What a .nam document plays, in PyTorch float64: the rules of the format written a second time.

Nothing here is Backline's. A network is built from its document's config alone and draws its weights as it
goes, which puts them into the document in the order of the format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
functional = torch.nn.functional

#: From [channels][frames] to [channels][frames]; convolutions see zeros before the first frame.
Network = Callable[[Any], Any]


class _Weights:
    """Draws float32 weights and remembers them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.drawn: list[float] = []

    def take(self, *shape: int, low: float | None = None) -> Any:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        values = self._rng.standard_normal(shape) / np.sqrt(fan_in)
        if low is not None:
            values = low + np.abs(values)
        values = values.astype(np.float32)
        self.drawn += [float(value) for value in values.ravel()]
        return torch.from_numpy(values.astype(np.float64))

    def conv(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        bias: bool = True,
        groups: int = 1,
        dilation: int = 1,
    ) -> _Conv:
        weight = self.take(outputs, inputs // groups, kernel)
        return _Conv(weight, self.take(outputs) if bias else None, groups, dilation)


class _Conv:
    """A causal convolution."""

    def __init__(self, weight: Any, bias: Any, groups: int = 1, dilation: int = 1) -> None:
        self.weight, self.bias, self.groups, self.dilation = weight, bias, groups, dilation

    def __call__(self, x: Any) -> Any:
        padded = functional.pad(x, ((self.weight.shape[2] - 1) * self.dilation, 0))
        return functional.conv1d(padded, self.weight, self.bias, 1, 0, self.dilation, self.groups)

    def lead(self, inputs: int, outputs: int) -> _Conv:
        """Only the leading channels."""
        if self.groups > 1:
            assert (outputs, inputs) == (self.weight.shape[0], self.weight.shape[1] * self.groups)
            return self
        bias = None if self.bias is None else self.bias[:outputs]
        return _Conv(self.weight[:outputs, :inputs], bias, 1, self.dilation)


def single(value: float) -> float:
    return float(np.float32(value))


def activate(spec: Any, x: Any) -> Any:
    """One activation as the file spells it."""
    spec = {"type": spec} if isinstance(spec, str) else spec
    kind = spec["type"]
    if kind in ("LeakyReLU", "PReLU"):
        slopes = spec.get("negative_slopes", [spec.get("negative_slope", 0.01)])
        slope = torch.tensor([single(s) for s in slopes], dtype=torch.float64)[: x.shape[0], None]
        return torch.where(x > 0, x, slope * x)
    if kind == "Hardtanh":
        return torch.clamp(x, single(spec.get("min_val", -1.0)), single(spec.get("max_val", 1.0)))
    if kind == "LeakyHardtanh":
        low, high = (single(spec.get(key, d)) for key, d in (("min_val", -1.0), ("max_val", 1.0)))
        below, above = (single(spec.get(key, 0.01)) for key in ("min_slope", "max_slope"))
        inside = torch.clamp(x, low, high)
        return inside + below * torch.clamp(x - low, max=0) + above * torch.clamp(x - high, min=0)
    plain = {
        "Tanh": torch.tanh,
        "ReLU": torch.relu,
        "Sigmoid": torch.sigmoid,
        "SiLU": functional.silu,
        "Hardswish": functional.hardswish,
        "Softsign": functional.softsign,
    }
    return plain[kind](x)


def build(document: dict[str, Any], rng: np.random.Generator, quality: float = 1.0) -> Network:
    """Fill `document` with weights; return what it plays."""
    config = document["config"]
    if document["architecture"] == "Sequential":
        document["weights"] = []
        networks = [build(model, rng, quality) for model in config["models"]]
        return lambda x: _one_after_another(networks, x)
    if document["architecture"] == "SlimmableContainer":
        document["weights"] = []
        submodels = config["submodels"]
        networks = [build(entry["model"], rng) for entry in submodels]
        smaller = sum(quality >= entry["max_value"] for entry in submodels)
        return networks[min(smaller, len(networks) - 1)]
    weights = _Weights(rng)
    kinds = {"Linear": _linear, "ConvNet": _conv_net, "LSTM": _lstm}
    if document["architecture"] == "WaveNet":
        network = _wavenet(config, weights, rng, quality)
    else:
        network = kinds[document["architecture"]](config, weights)
    document["weights"] = weights.drawn
    return network


def _one_after_another(networks: list[Network], x: Any) -> Any:
    for network in networks:
        x = network(x)
    return x


def _linear(config: dict[str, Any], weights: _Weights) -> Network:
    newest_first = weights.take(1, 1, config["receptive_field"])
    bias = weights.take(1) if config["bias"] else None
    return _Conv(torch.flip(newest_first, [2]), bias)


def _conv_net(config: dict[str, Any], weights: _Weights) -> Network:
    layers: list[Network] = []
    channels, width = config["channels"], config.get("in_channels", 1)
    for dilation in config["dilations"]:
        has_norm = config["batchnorm"]
        groups = config.get("groups", 1)
        layers.append(weights.conv(width, channels, 2, not has_norm, groups, dilation))
        if has_norm:
            mean, variance = weights.take(channels), weights.take(channels, low=0.2)
            gamma, beta, epsilon = weights.take(channels), weights.take(channels), weights.take(1, low=1e-3)

            def norm(x: Any, s: tuple[Any, ...] = (mean, variance, gamma, beta, float(epsilon))) -> Any:
                return functional.batch_norm(x[None], s[0], s[1], s[2], s[3], eps=s[4])[0]

            layers.append(norm)
        layers.append(lambda x: activate(config["activation"], x))
        width = channels
    layers.append(weights.conv(channels, config.get("out_channels", 1)))
    return lambda x: _one_after_another(layers, x)


def _lstm(config: dict[str, Any], weights: _Weights) -> Network:
    inputs, hidden, count = config["input_size"], config["hidden_size"], config["num_layers"]
    core = torch.nn.LSTM(inputs, hidden, count, dtype=torch.float64)
    starts = []
    with torch.no_grad():
        for i in range(count):
            width = inputs if i == 0 else hidden
            matrix = weights.take(4 * hidden, width + hidden)
            getattr(core, f"weight_ih_l{i}").copy_(matrix[:, :width])
            getattr(core, f"weight_hh_l{i}").copy_(matrix[:, width:])
            getattr(core, f"bias_ih_l{i}").copy_(weights.take(4 * hidden))
            getattr(core, f"bias_hh_l{i}").zero_()
            starts.append((weights.take(hidden), weights.take(hidden)))
    head = weights.conv(hidden, config.get("out_channels", 1))
    h, c = (torch.stack([start[k] for start in starts]) for k in (0, 1))

    def run(x: Any) -> Any:
        with torch.no_grad():
            return head(core(x.T, (h, c))[0].T)

    return run


def each(value: Any, i: int) -> Any:
    return value[i] if isinstance(value, list) else value


def _kept(array: dict[str, Any], quality: float) -> int:
    slimmable = array.get("slimmable")
    if slimmable is None:
        return array["channels"]
    allowed = slimmable.get("kwargs", {}).get("allowed_channels") or list(range(1, array["channels"] + 1))
    return allowed[min(int(quality * len(allowed)), len(allowed) - 1)]


def _narrow(array: dict[str, Any], kept: int, bottleneck: int, quality: float) -> int:
    """What the trainer keeps of a bottleneck: as many as of the channels, or of all sizes its own share."""
    channels = array["channels"]
    if kept == channels == bottleneck or "slimmable" not in array:
        return bottleneck
    allowed = array["slimmable"].get("kwargs", {}).get("allowed_channels", list(range(1, channels + 1)))
    if bottleneck != channels and len(allowed) == channels:
        return min(int(quality * bottleneck), bottleneck - 1) + 1
    return kept if max(allowed) <= bottleneck else max(1, bottleneck * kept // channels)


def _wavenet(config: dict[str, Any], weights: _Weights, rng: np.random.Generator, quality: float) -> Network:
    condition_dsp = config.get("condition_dsp")
    condition = build(condition_dsp, rng) if condition_dsp else None
    arrays = [_Array(array, weights, quality) for array in config["layers"]]
    for array, after in zip(arrays, [*arrays[1:], None], strict=True):
        array.cut(None if after is None else after.head_input)
    head, post = config.get("head"), []
    width = config["layers"][-1]["head"]["out_channels"]
    for i, kernel in enumerate(head["kernel_sizes"] if head else []):
        is_last = i + 1 == len(head["kernel_sizes"])
        outputs = head["out_channels"] if is_last else head["channels"]
        post.append(weights.conv(width, outputs, kernel))
        width = outputs
    scale = weights.take(1)

    def run(x: Any) -> Any:
        c = x if condition is None else condition(x)
        stream, total = x, None
        for array in arrays:
            stream, total = array.run(stream, c, total)
        y = scale * total
        for conv in post:
            y = conv(activate(head["activation"], y))
        return y

    return run


FILMS = [
    *("conv_pre_film", "conv_post_film", "input_mixin_pre_film", "input_mixin_post_film"),
    *("activation_pre_film", "activation_post_film", "layer1x1_post_film", "head1x1_post_film"),
]


class _Array:
    """An array of layers in the new spelling; draws in the order of the format."""

    def __init__(self, a: dict[str, Any], weights: _Weights, quality: float) -> None:
        self.config = a
        self.channels, self.bottleneck = a["channels"], a.get("bottleneck", a["channels"])
        self.kept = _kept(a, quality)
        self.narrow = _narrow(a, self.kept, self.bottleneck, quality)
        self.head1x1 = a["head1x1"]["out_channels"] if a.get("head1x1", {}).get("active") else None
        self.head_input = self.head1x1 or self.narrow
        self.rechannel = weights.conv(a["input_size"], self.channels, bias=False)
        self.layers = [self._layer(i, weights) for i in range(len(a["dilations"]))]
        head = a["head"]
        full = self.head1x1 or self.bottleneck
        self.head = weights.conv(
            full, head["out_channels"], head["kernel_size"], head["bias"], 1, head.get("head_dilation", 1)
        )

    def _layer(self, i: int, weights: _Weights) -> dict[str, Any]:
        a, c = self.config, self.config["condition_size"]
        pair = 1 if each(a["gating_mode"], i) == "none" else 2
        mid, kept_mid = pair * self.bottleneck, pair * self.narrow
        kernel, dilation = each(a["kernel_sizes"], i), a["dilations"][i]
        made = {
            "conv": weights.conv(self.channels, mid, kernel, True, a.get("groups_input", 1), dilation).lead(
                self.kept, kept_mid
            ),
            "mixin": weights.conv(c, mid, 1, False, a.get("groups_input_mixin", 1)).lead(c, kept_mid),
        }
        if a.get("layer1x1", {}).get("active", True):
            groups = a.get("layer1x1", {}).get("groups", 1)
            conv = weights.conv(self.bottleneck, self.channels, groups=groups)
            made["layer1x1"] = conv.lead(self.narrow, self.kept)
        if self.head1x1:
            conv = weights.conv(self.bottleneck, self.head1x1, groups=a["head1x1"].get("groups", 1))
            made["head1x1"] = conv.lead(self.narrow, self.head1x1)
        widths = [(self.channels, self.kept), (mid, kept_mid), (c, c), (mid, kept_mid), (mid, kept_mid)]
        widths += [(self.bottleneck, self.narrow), (self.channels, self.kept), (self.head1x1, self.head1x1)]
        for name, (full, kept) in zip(FILMS, widths, strict=True):
            film = a.get(name)
            if film and film.get("active", True):
                halves = 2 if film.get("shift", True) else 1
                conv = weights.conv(c, halves * full, groups=film.get("groups", 1))
                made[name] = conv.lead(c, halves * kept)
        return made

    def cut(self, next_head_input: int | None) -> None:
        """Keep the leading channels of what lies between arrays."""
        outputs = self.head.weight.shape[0] if next_head_input is None else next_head_input
        self.head = self.head.lead(self.head_input, outputs)
        self.rechannel = _Conv(self.rechannel.weight[: self.kept], None)

    def run(self, x: Any, c: Any, total: Any) -> tuple[Any, Any]:
        weight = self.rechannel.weight[:, : x.shape[0]]
        x = _Conv(weight, None)(x)
        for i, made in enumerate(self.layers):

            def film(name: str, signal: Any, made: dict[str, Any] = made) -> Any:
                if name not in made:
                    return signal
                y = made[name](c)
                if y.shape[0] == signal.shape[0]:
                    return signal * y
                return signal * y[: signal.shape[0]] + y[signal.shape[0] :]

            z = film("conv_post_film", made["conv"](film("conv_pre_film", x)))
            mixed = made["mixin"](film("input_mixin_pre_film", c))
            z = film("activation_pre_film", z + film("input_mixin_post_film", mixed))
            z = film("activation_post_film", self._activate(i, z))
            through, term = z, z
            if "layer1x1" in made:
                through = film("layer1x1_post_film", made["layer1x1"](z))
            if "head1x1" in made:
                term = film("head1x1_post_film", made["head1x1"](z))
            x, total = x + through, term if total is None else total + term
        return x, self.head(total)

    def _activate(self, i: int, z: Any) -> Any:
        first, mode = each(self.config["activation"], i), each(self.config["gating_mode"], i)
        if mode == "none":
            return activate(first, z)
        top, bottom = z[: self.narrow], z[self.narrow :]
        second = activate(each(self.config.get("secondary_activation"), i) or "Sigmoid", bottom)
        if mode == "gated":
            return activate(first, top) * second
        return second * activate(first, top) + (1 - second) * top
