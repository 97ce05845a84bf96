"""Drawn stacks of PyTorch layers and single ops, imported by `from_torch`, against PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from graphs import divisors, examples
from hypothesis import given
from hypothesis import strategies as st
from torch_streams import FRAMES, assert_streams, seeded, torch

nn, functional = torch.nn, torch.nn.functional

#: Steep activations would enlarge the rounding of what is behind them.
ACTIVATIONS: dict[str, Callable[[int], Any]] = {
    "tanh": lambda _: nn.Tanh(),
    "relu": lambda _: nn.ReLU(inplace=True),
    "sigmoid": lambda _: nn.Sigmoid(),
    "elu": lambda _: nn.ELU(0.7),
    "leaky relu": lambda _: nn.LeakyReLU(0.2),
    "prelu": lambda channels: nn.PReLU(channels),
    "prelu of one": lambda _: nn.PReLU(),
    "silu": lambda _: nn.SiLU(),
    "gelu": lambda _: nn.GELU(),
    "gelu tanh": lambda _: nn.GELU(approximate="tanh"),
    "softplus": lambda _: nn.Softplus(beta=2),
    "softsign": lambda _: nn.Softsign(),
    "hardtanh": lambda _: nn.Hardtanh(-0.3, 0.5),
    "hardsigmoid": lambda _: nn.Hardsigmoid(),
    "hardswish": lambda _: nn.Hardswish(),
    "relu6": lambda _: nn.ReLU6(),
    "selu": lambda _: nn.SELU(),
    "celu": lambda _: nn.CELU(0.6),
    "mish": lambda _: nn.Mish(),
    "softmax": lambda _: nn.Softmax(1),
    "log sigmoid": lambda _: nn.LogSigmoid(),
    "tanhshrink": lambda _: nn.Tanhshrink(),
    "rrelu": lambda _: nn.RReLU(),
}


class Recurrent(nn.Module):
    """A recurrent layer on [batch][channels][time]."""

    def __init__(self, kind: str, channels: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.body = getattr(nn, kind)(channels, hidden, layers, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.body(x.mT)[0].mT


class Residual(nn.Module):
    """A layer that keeps length and channels, and its input."""

    def __init__(self, channels: int, kernel: int, joins: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel, padding="same")
        self.joins = joins

    def forward(self, x: Any) -> Any:
        y = torch.tanh(self.conv(x))
        return torch.cat([x, y], 1) if self.joins else x + y


@st.composite
def stacks(draw: Any) -> tuple[int, list[Callable[[], Any]]]:
    """Channels of the input, and what makes each layer."""
    first = channels = draw(st.integers(1, 12))
    makers: list[Callable[[], Any]] = []
    rates = 0
    kinds = ["conv", "conv", "norm", "act", "act", "recurrent", "linear", "residual", "rate"]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=5)):
        if kind == "conv":
            out = draw(st.integers(1, 12))
            options = {
                "kernel_size": draw(st.integers(1, 5)),
                "dilation": draw(st.integers(1, 4)),
                "groups": draw(st.sampled_from(sorted(set(divisors(channels)) & set(divisors(out))))),
                "bias": draw(st.booleans()),
            }
            pads = draw(st.sampled_from(["valid", "same", "causal", 1, 3]))
            reach = (options["kernel_size"] - 1) * options["dilation"]
            before = [lambda reach=reach: nn.ZeroPad1d((reach, 0))] if pads == "causal" else []
            options["padding"] = "valid" if pads == "causal" else pads
            makers += [*before, lambda a=channels, b=out, o=options: nn.Conv1d(a, b, **o)]
            channels = out
        elif kind == "norm":
            makers.append(lambda c=channels: nn.BatchNorm1d(c))
        elif kind == "act":
            name = draw(st.sampled_from(sorted(ACTIVATIONS)))
            makers.append(lambda c=channels, n=name: ACTIVATIONS[n](c))
        elif kind == "recurrent":
            of, hidden = draw(st.sampled_from(["GRU", "LSTM"])), draw(st.integers(1, 6))
            layers = draw(st.integers(1, 2))
            makers.append(lambda o=of, c=channels, h=hidden, n=layers: Recurrent(o, c, h, n))
            channels = hidden
        elif kind == "linear":
            out = draw(st.integers(1, 6))
            makers.append(lambda c=channels, o=out: Turned(nn.Linear(c, o)))
            channels = out
        elif kind == "residual":
            kernel, joins = draw(st.integers(1, 6)), draw(st.booleans())
            makers.append(lambda c=channels, k=kernel, j=joins: Residual(c, k, j))
            channels *= 1 + joins
        elif rates < 2:
            rates += 1
            makers.append(draw(changes_of_rate(channels)))
    return first, makers


class Turned(nn.Module):
    """A layer along the last axis, on [batch][channels][time]."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x.transpose(-1, -2)).transpose(-1, -2)


@st.composite
def changes_of_rate(draw: Any, channels: int) -> Callable[[], Any]:
    """What makes a pool, a strided or transposed convolution, or an upsampling; channels stay."""
    factor, kernel = draw(st.integers(2, 3)), draw(st.integers(2, 6))
    groups = draw(st.sampled_from(divisors(channels)))
    pad = draw(st.integers(0, kernel // 2))
    kind = draw(st.sampled_from(["max", "mean", "stride", "transposed", "nearest", "linear"]))
    if kind == "max":
        return lambda: nn.MaxPool1d(kernel, factor, pad)
    if kind == "mean":
        return lambda: nn.AvgPool1d(kernel, factor, pad)
    if kind == "stride":
        return lambda: nn.Conv1d(channels, channels, kernel, factor, pad, groups=groups)
    if kind == "transposed":
        wide = max(kernel, factor)
        extra = draw(st.integers(0, factor - 1))
        return lambda: nn.ConvTranspose1d(
            channels, channels, wide, factor, pad, output_padding=extra, groups=groups
        )
    return lambda: nn.Upsample(scale_factor=factor, mode=kind)


@examples(30)
@given(stacks(), st.integers(0, 1000), st.lists(st.integers(1, 200), min_size=2, max_size=8))
def test_drawn_stacks(stack: tuple[int, list[Callable[[], Any]]], seed: int, sizes: list[int]) -> None:
    channels, makers = stack
    net = seeded(lambda: nn.Sequential(*(make() for make in makers)), seed)
    blocks = [*sizes, *[200] * 2]
    while sum(blocks) > FRAMES:
        blocks[-1] -= min(sum(blocks) - FRAMES, blocks[-1])
        blocks = [size for size in blocks if size]
    assert_streams(net, 1, channels, 0, blocks=(*blocks, FRAMES - sum(blocks)), atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    assert_streams(seeded(lambda: ACTIVATIONS[name](3)), 1, 3, 0)


class Of(nn.Module):
    """A function of the input and of one weight."""

    def __init__(self, f: Callable[..., Any], *shape: int) -> None:
        super().__init__()
        self.f = f
        self.weight = nn.Parameter(torch.randn(*shape)) if shape else None

    def forward(self, x: Any) -> Any:
        return self.f(x) if self.weight is None else self.f(x, self.weight)


OPS: dict[str, Callable[[Any], Any]] = {
    "number": lambda x: x + 1,
    "alpha": lambda x: torch.add(x, x, alpha=0.3).sub(x, alpha=0.25),
    "turned": lambda x: torch.rsub(1 - x, 2),
    "negative": lambda x: -x / 3,
    "powers": lambda x: x**3 + x.square(),
    "mono times all": lambda x: x * x[:, :1],
    "fused": lambda x: torch.addcmul(x, x, x, value=0.5) + torch.lerp(x, x * x, 0.3),
    "mixed by a gate": lambda x: torch.lerp(x, torch.tanh(x), torch.sigmoid(x)),
    "in place": lambda x: (x * 1).mul_(2).add_(1).clamp_(-0.5, 2),
    "size": lambda x: torch.abs(x),
    "limits": lambda x: x.clamp(-0.2, 0.4) + x.clamp(min=-0.1) + torch.clamp(x, max=0.1),
    "softsign by hand": lambda x: x / (1 + x.abs()),
    "gelu by hand": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "skips stacked": lambda x: torch.stack([x, x * 2, -x.tanh()], 0).sum(0),
    "sum of channels": lambda x: x.sum(1, keepdim=True),
    "mean of channels": lambda x: x.mean(1),
    "each its own": lambda x: x * torch.tensor([1.0, 2.0, 3.0])[:, None],
    "like it": lambda x: x * torch.ones_like(x) + x.new_full((3, 1), 0.5) + torch.zeros_like(x),
    "gated": lambda x: functional.glu(torch.cat([x, x * 2], 1), 1),
    "chunks": lambda x: torch.cat(x.chunk(3, 1)[::-1], 1),
    "split": lambda x: x.split([1, 2], 1)[1],
    "unbound": lambda x: torch.stack(x.unbind(1)[:2], 1),
    "selected": lambda x: x[:, 1] + x.select(1, -1),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "picked": lambda x: x[:, [2, 0]],
    "turned round": lambda x: x.flip(1),
    "permuted": lambda x: x.permute(0, 2, 1).contiguous().permute(0, 2, 1),
    "views": lambda x: x.view(1, 3, 1, -1).flatten(1, 2).unflatten(1, (3, 1)).squeeze(2),
    "squeezed": lambda x: x.squeeze().unsqueeze(0),
    "expanded": lambda x: x[:, :1].expand(-1, 4, -1),
    "repeated": lambda x: x.repeat(1, 2, 1),
    "repeated each": lambda x: x.repeat_interleave(2, 1),
    "held": lambda x: x.repeat_interleave(2, 2),
    "padded": lambda x: functional.pad(x, (5, 0)),
    "padded with channels": lambda x: functional.pad(x, (0, 0, 1, 2)),
    "chomped": lambda x: functional.pad(x, (4, 4))[..., :-4],
    "thinned": lambda x: x[..., ::3],
    "precision": lambda x: x.to(torch.float32).double().type_as(x),
    "shuffled": lambda x: torch.cat([x, x.tanh()], 1).view(1, 2, 3, -1).transpose(1, 2).reshape(1, 6, -1),
    "resized": lambda x: functional.interpolate(x, size=2 * x.shape[-1], mode="linear"),
    "exact": lambda x: functional.interpolate(x, scale_factor=2, mode="nearest-exact"),
    "features": lambda x: functional.max_pool2d(
        functional.interpolate(x[:, None], scale_factor=(1, 2)), (1, 3)
    ),
    "no gradients": lambda x: no_gradients(x),
}


def no_gradients(x: Any) -> Any:
    with torch.no_grad():
        return x.detach().clone() * 2


@pytest.mark.parametrize("name", OPS)
def test_ops(name: str) -> None:
    assert_streams(Of(OPS[name]), 1, 3, 0)


WITH_A_WEIGHT: dict[str, tuple[Callable[[Any, Any], Any], tuple[int, ...], int]] = {
    "einsum": (lambda x, w: torch.einsum("bct,dc->bdt", x, w), (2, 3), -1),
    "einsum turned": (lambda x, w: torch.einsum("cd,bct->btd", w, x), (3, 2), 1),
    "matrix before": (lambda x, w: w @ x, (2, 3), -1),
    "matrix behind": (lambda x, w: x.mT @ w, (3, 2), 1),
    "vector": (lambda x, w: x.mT @ w, (3,), -1),
    "batched": (lambda x, w: torch.bmm(x.mT, w[None]), (3, 2), 1),
    "added": (lambda x, w: torch.addmm(w[0], x[0].mT, w, alpha=2, beta=0.5), (3, 2), 0),
    "functional": (lambda x, w: functional.conv1d(x, w, padding="same", dilation=2), (2, 3, 4), -1),
    "no batch": (lambda x, w: functional.conv1d(x[0], w.softmax(-1)), (2, 3, 4), -1),
}


@pytest.mark.parametrize("name", WITH_A_WEIGHT)
def test_matrices(name: str) -> None:
    f, shape, out_time = WITH_A_WEIGHT[name]
    assert_streams(seeded(lambda: Of(f, *shape)), 1, 3, 0, out_time=out_time)
