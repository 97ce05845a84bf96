"""Networks as people write them in PyTorch, and how they are exported to ONNX and run by ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F


def seeded(module: nn.Module, seed: int = 1) -> nn.Module:
    """The module in evaluation mode, with parameters and statistics that do not depend on what ran before."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if not value.is_floating_point():
                continue
            drawn = torch.randn(value.shape, generator=generator)
            fan = max(1, value[0].numel()) if value.ndim > 1 else 4
            positive = name.endswith(("running_var", "alpha", "original0"))
            value.copy_(drawn.abs() + 0.5 if positive else drawn * fan**-0.5)
    return module.eval()


def export(
    path: Path,
    module: nn.Module,
    example: Sequence[torch.Tensor],
    *,
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    dynamo: bool = True,
    moving: Mapping[str, int] | None = None,
) -> Path:
    """Export a module with torch.onnx.export; `moving` says which axis of an input is time and left open."""
    axes = {name: {axis: "time"} for name, axis in (moving or {}).items()}
    options: dict[str, Any] = {}
    if dynamo and axes:
        time = torch.export.Dim("time", min=16, max=1 << 20)
        options["dynamic_shapes"] = tuple({axis: time for axis in axes.get(name, ())} for name in inputs)
    elif axes:
        options["dynamic_axes"] = axes
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(example),
                str(path),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=opset,
                dynamo=dynamo,
                external_data=False,
                verbose=False,
                **options,
            )
    finally:
        logging.disable(logging.NOTSET)
    return path


def session(path: Path) -> onnxruntime.InferenceSession:
    """A session that computes what the file says, node by node, on one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def annotate(path: Path, **entries: str) -> Path:
    """Write entries into a file's metadata."""
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, str(path))
    return path


class CausalTcn(nn.Module):
    """Residual dilated convolutions, zeros in front of each; tanh between."""

    def __init__(self, channels: int = 6, kernel: int = 3, dilations: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, channels, 1)
        self.layers = nn.ModuleList(nn.Conv1d(channels, channels, kernel, dilation=d) for d in dilations)
        self.last = nn.Conv1d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer in self.layers:
            reach = (layer.kernel_size[0] - 1) * layer.dilation[0]
            x = x + torch.tanh(layer(F.pad(x, (reach, 0))))
        return self.last(x)


class ChompTcn(nn.Module):
    """Convolutions padded on both sides, of which the end is cut off again (Bai et al. 2018)."""

    def __init__(self, channels: int = 5, kernel: int = 4, dilations: Sequence[int] = (1, 3, 9)) -> None:
        super().__init__()
        sizes = [1] + [channels] * len(dilations)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(
                nn.Conv1d(a, b, kernel, dilation=d, padding=(kernel - 1) * d)
            )
            for a, b, d in zip(sizes, sizes[1:], dilations, strict=False)
        )
        self.last = nn.Conv1d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = F.leaky_relu(layer(x)[:, :, : -layer.padding[0]], 0.1)
        return self.last(x)


class SameTcn(nn.Module):
    """Convolutions that see as much of what follows as of what came before."""

    def __init__(self, act: nn.Module | None = None) -> None:
        super().__init__()
        act = nn.ELU() if act is None else act
        self.net = nn.Sequential(
            *(nn.Conv1d(1, 8, 7, padding="same"), act, nn.Conv1d(8, 8, 5, padding=4, dilation=2)),
            *(nn.BatchNorm1d(8), nn.PReLU(8), nn.Conv1d(8, 2, 3, padding=1, groups=2)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Separable(nn.Module):
    """Depthwise and pointwise convolutions with norms, a slope for each channel, and other activations."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.pad = nn.ConstantPad1d((12, 0), 0.0)
        self.net = nn.Sequential(
            *(nn.Conv1d(2, 8, 4, groups=2, dilation=4), nn.BatchNorm1d(8), nn.PReLU(8)),
            *(nn.Conv1d(8, 8, 1), act, nn.Conv1d(8, 2, 1, bias=False)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.pad(x))


class GatedWaveNet(nn.Module):
    """Gated layers with a condition at each, residuals, and the sum of skips (van den Oord et al. 2016)."""

    def __init__(self, channels: int = 6, condition: int = 2, dilations: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, channels, 1)
        self.convs = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 2, dilation=d) for d in dilations)
        self.mixins = nn.ModuleList(nn.Conv1d(condition, 2 * channels, 1, bias=False) for _ in dilations)
        self.outs = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 1) for _ in dilations)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(channels, 4, 1), nn.ReLU(), nn.Conv1d(4, 1, 1))

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        cond = cond.unsqueeze(-1) if cond.ndim == 2 else cond
        x, skips = self.first(x), 0.0
        for conv, mixin, out in zip(self.convs, self.mixins, self.outs, strict=True):
            z = conv(F.pad(x, (conv.dilation[0], 0))) + mixin(cond)
            top, bottom = z.chunk(2, dim=1)
            residual, skip = out(torch.tanh(top) * torch.sigmoid(bottom)).chunk(2, dim=1)
            x, skips = x + residual, skips + skip
        return self.head(skips)


class Film(nn.Module):
    """A linear layer makes scales and shifts of knobs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(1, 4, 3), nn.Conv1d(4, 1, 1)
        self.film = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8))

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        scale, shift = self.film(cond).unsqueeze(-1).chunk(2, dim=1)
        return self.out(torch.tanh(self.conv(F.pad(x, (2, 0))) * scale + shift))


class GruAmp(nn.Module):
    """GRU and linear layer with a skip, batch first."""

    def __init__(self, hidden: int = 10) -> None:
        super().__init__()
        self.rec, self.lin = nn.GRU(1, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin(self.rec(x)[0]) + x


class LstmAmp(nn.Module):
    """Two LSTM layers, time first."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.rec, self.lin = nn.LSTM(2, hidden, num_layers=2), nn.Linear(hidden, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin(self.rec(x)[0]) + x


class StreamingGru(nn.Module):
    """Two GRU layers whose state comes in and goes out."""

    def __init__(self, hidden: int = 7) -> None:
        super().__init__()
        self.rec = nn.GRU(1, hidden, num_layers=2, batch_first=True)
        self.lin = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, h = self.rec(x, h)
        return self.lin(y), h


class StreamingLstm(nn.Module):
    """An LSTM with both of its states as inputs and outputs."""

    def __init__(self, hidden: int = 6) -> None:
        super().__init__()
        self.rec, self.lin = nn.LSTM(1, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, (h, c) = self.rec(x, (h, c))
        return self.lin(y), h, c


class StreamingConvs(nn.Module):
    """Convolutions that keep their last inputs in caches, which come in and go out."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(1, channels, 3, dilation=2), nn.Conv1d(channels, 1, 5)

    def forward(self, x: torch.Tensor, cache_a: torch.Tensor, cache_b: torch.Tensor) -> tuple:
        x = torch.cat([cache_a, x], dim=2)
        next_a = x[:, :, -4:]
        x = torch.cat([cache_b, torch.tanh(self.a(x))], dim=2)
        return self.b(x), next_a, x[:, :, -4:]


class EncoderDecoder(nn.Module):
    """Strided convolutions down, transposed ones up, sums across (as in Demucs)."""

    def __init__(self, kernel: int = 8, stride: int = 4) -> None:
        super().__init__()
        pad = (kernel - stride) // 2
        self.down = nn.ModuleList(
            nn.Conv1d(a, b, kernel, stride=stride, padding=pad) for a, b in ((1, 4), (4, 8))
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose1d(a, b, kernel, stride=stride, padding=pad) for a, b in ((8, 4), (4, 1))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = torch.relu(self.down[0](x))
        y = torch.relu(self.down[1](low))
        y = torch.relu(self.up[0](y)) + low
        return self.up[1](y) + x


class UNet(nn.Module):
    """Halves the rate by pools, doubles it by interpolation, and joins what was at each rate."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.a, self.b, self.c = (
            nn.Conv1d(1, 4, 5, padding=2),
            nn.Conv1d(4, 6, 3, padding=1),
            nn.Conv1d(10, 1, 3, padding=1),
        )
        self.pool = nn.MaxPool1d(2) if mode == "nearest" else nn.AvgPool1d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = F.silu(self.a(x))
        low = F.gelu(self.b(self.pool(high)))
        return self.c(torch.cat([F.interpolate(low, scale_factor=2, mode=self.mode), high], dim=1))


class SubPixel(nn.Module):
    """Makes three frames of the channels of one (Shi et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(1, 6, 6, stride=3), nn.Conv1d(6, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.down(F.pad(x, (3, 0))))
        y = self.up(F.pad(y, (2, 0)))
        return y.transpose(1, 2).reshape(1, 1, -1)


class Spectral(nn.Module):
    """Convolutions over time and features, causal in time, and a dense layer over what remains."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 3, (3, 3), stride=(1, 2), padding=(0, 1))
        self.norm = nn.BatchNorm2d(3)
        self.b, self.lin = nn.Conv2d(3, 2, (2, 1)), nn.Linear(2 * 4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.hardswish(self.norm(self.a(F.pad(x.unsqueeze(1), (0, 0, 2, 0)))))
        y = self.b(F.pad(y, (0, 0, 1, 0)))
        return self.lin(y.permute(0, 2, 1, 3).flatten(2))


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, with an alpha for each channel (Ziyin, Hartwig and Ueda 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sin(self.alpha * x).pow(2) / self.alpha


class Squeezed(nn.Module):
    """Zeros in front of a convolution, and an axis dropped: the older exporter asks for its size first."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.out = nn.Conv1d(1, 4, 5), nn.Conv1d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.net(F.pad(x, (4, 0))))).squeeze(1).unsqueeze(1)
