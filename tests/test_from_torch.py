"""Networks as people write them in PyTorch, imported by `from_torch`, against PyTorch itself in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch_streams import EXAMPLE, FRAMES, assert_streams, rows_of, seeded, signal, torch

import backline
from backline.graph import Knob

nn, functional = torch.nn, torch.nn.functional


class CausalTcn(nn.Module):
    """Dilated residual convolutions, padded in front."""

    def __init__(self, channels: int = 6, kernel: int = 3) -> None:
        super().__init__()
        self.start = nn.Conv1d(1, channels, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=2**i, groups=1 + i % 2) for i in range(4)
        )
        self.end = nn.Conv1d(channels, 1, 1)

    def forward(self, x: Any) -> Any:
        x = self.start(x)
        for layer in self.layers:
            reach = (layer.kernel_size[0] - 1) * layer.dilation[0]
            x = x + torch.tanh(layer(functional.pad(x, (reach, 0))))
        return self.end(x)


class Gated(nn.Module):
    """A WaveNet whose layers are steered by parameters, with skips that are summed."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.start = nn.Conv1d(1, channels, 1)
        self.dilated = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 2, dilation=3**i) for i in range(3))
        self.mix = nn.ModuleList(nn.Conv1d(2, 2 * channels, 1, bias=False) for _ in range(3))
        self.skip = nn.ModuleList(nn.Conv1d(channels, 3, 1) for _ in range(3))
        self.end = nn.Conv1d(3, 1, 1)

    def forward(self, x: Any, tone: Any) -> Any:
        x, skips = self.start(x), []
        for dilated, mix, skip in zip(self.dilated, self.mix, self.skip, strict=True):
            z = dilated(functional.pad(x, (dilated.dilation[0], 0))) + mix(tone)
            a, b = z.chunk(2, dim=1)
            x_gated = torch.tanh(a) * torch.sigmoid(b)
            skips.append(skip(x_gated))
            x = x + x_gated
        return self.end(functional.leaky_relu(sum(skips), 0.1))


class Film(nn.Module):
    """One dial that scales and shifts the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.dial = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 8))
        self.one, self.two = nn.Conv1d(1, 4, 5), nn.Conv1d(4, 1, 3)

    def forward(self, x: Any, drive: Any) -> Any:
        scale, shift = self.dial(drive).unsqueeze(-1).chunk(2, 1)
        return self.two(functional.pad(torch.tanh(self.one(x) * scale + shift), (2, 0)))


class Coder(nn.Module):
    """A convolutional encoder and decoder with strides, and skips around the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv1d(1, 4, 4, 2, 1), nn.Conv1d(4, 8, 4, 2, 1)])
        self.middle = nn.Conv1d(8, 8, 3, padding=1)
        self.up = nn.ModuleList([nn.ConvTranspose1d(8, 4, 4, 2, 1), nn.ConvTranspose1d(4, 1, 4, 2, 1)])

    def forward(self, x: Any) -> Any:
        kept = []
        for layer in self.down:
            kept.append(x)
            x = functional.elu(layer(x))
        x = x + functional.gelu(self.middle(x))
        for layer, skip in zip(self.up, reversed(kept), strict=True):
            x = layer(x) + skip
        return x


class Recurrent(nn.Module):
    """A recurrent amplifier with a skip, as most are: [batch][time][channels] inside."""

    def __init__(self, kind: str, layers: int = 1) -> None:
        super().__init__()
        self.body = getattr(nn, kind)(1, 7, layers, batch_first=True)
        self.head = nn.Linear(7, 1)

    def forward(self, x: Any, state: Any = None) -> Any:
        inner, state = self.body(x.transpose(1, 2), state)
        return self.head(inner).mT + x, state


class Spectral(nn.Module):
    """Two-dimensional convolutions over features and time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, (3, 3), stride=(2, 1), padding=(1, 1)),
            nn.BatchNorm2d(3),
            nn.PReLU(3),
            nn.Conv2d(3, 2, (2, 1), groups=1),
        )

    def forward(self, x: Any) -> Any:
        return self.layers(x.unsqueeze(1)).flatten(1, 2)


class Snake(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.linspace(-0.5, 0.7, channels)[:, None])

    def forward(self, x: Any) -> Any:
        alpha = self.log_alpha.exp()
        return x + (alpha + 1e-9).reciprocal() * torch.sin(alpha * x).pow(2)


class SubPixel(nn.Module):
    """Phases of an upsampling, computed as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 6, 5, padding=4)

    def forward(self, x: Any) -> Any:
        x = self.conv(x)[..., : x.shape[-1]]
        batch, channels, frames = x.shape
        return x.view(batch, channels // 3, 3, frames).permute(0, 1, 3, 2).reshape(batch, -1, 3 * frames)


class Twice(nn.Module):
    """The same layer at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 5, padding=2)

    def forward(self, x: Any) -> Any:
        return self.conv(torch.relu_(self.conv(x)))


class Written(nn.Module):
    """Parts of a tensor written one after the other, in place."""

    def forward(self, x: Any) -> Any:
        made = torch.zeros_like(x)
        made[:, :1] = x[:, 2:]
        made[:, 1] = x[:, 0] * x[:, 1]
        made[:, 2:].add_(0.5).mul_(x[:, :1])
        return made


def sequence(*layers: Any) -> Any:
    return nn.Sequential(*layers)


NETWORKS = {
    "causal tcn": (CausalTcn, (1, 1, 0), 0),
    "encoder-decoder": (Coder, (1, 1, 0), None),
    "features": (Spectral, (1, 8, 0), 1),
    "snake": (lambda: sequence(nn.Conv1d(2, 5, 3), Snake(5), nn.Conv1d(5, 1, 1)), (1, 2, 0), 2),
    "sub-pixel": (SubPixel, (1, 2, 0), 0),
    "used twice": (Twice, (1, 3, 0), 4),
    "written in place": (Written, (1, 3, 0), 0),
    "same padding": (
        lambda: sequence(nn.Conv1d(1, 4, 9, padding="same"), nn.Tanh(), nn.Conv1d(4, 1, 6, padding="same")),
        (1, 1, 0),
        4 + 3,
    ),
    "weight norm": (
        lambda: sequence(
            nn.utils.parametrizations.weight_norm(nn.Conv1d(1, 4, 5)),
            nn.ReLU(inplace=True),
            nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(4, 2, 6, stride=3)),
        ),
        (1, 1, 0),
        3 * 4,
    ),
    "pools and interpolation": (
        lambda: sequence(
            nn.Conv1d(1, 4, 3, padding=1),
            nn.BatchNorm1d(4),
            nn.Softsign(),
            nn.MaxPool1d(2),
            nn.Conv1d(4, 4, 3, padding=1),
            nn.AvgPool1d(3, stride=1, padding=1),
            nn.Upsample(scale_factor=2, mode="linear"),
            nn.Upsample(scale_factor=2),
        ),
        (1, 1, 0),
        None,
    ),
    "no batch": (lambda: sequence(nn.Conv1d(2, 4, 3), nn.GLU(0), nn.Conv1d(2, 1, 1)), (2, 0), 2),
    "bare": (lambda: sequence(nn.Softplus(), nn.Hardswish()), (0,), 0),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_networks(case: str) -> None:
    build, shape, latency = NETWORKS[case]
    model = assert_streams(seeded(build), *shape)
    assert latency is None or model.latency_frames == latency


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("layers", [1, 3])
def test_recurrent_networks(kind: str, layers: int) -> None:
    model = assert_streams(seeded(lambda: Recurrent(kind, layers)), 1, 1, 0)
    assert any("is where body ends up" in note for note in model.notes)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("first", "shape", "time"), [(True, (1, 0, 3), 1), (False, (0, 1, 3), 0)])
def test_recurrent_layers_alone(bias: bool, first: bool, shape: tuple[int, ...], time: int) -> None:
    for kind in (nn.GRU, nn.LSTM):
        layer = seeded(lambda kind=kind: kind(3, 4, 2, bias=bias, batch_first=first))
        assert_streams(layer, *shape, time=time, out_time=time)
    assert_streams(seeded(lambda: nn.LSTM(3, 4)), 0, 3, time=0, out_time=0)


def test_first_states_that_are_parameters() -> None:
    class Started(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.GRU(2, 3, batch_first=True)
            self.first = nn.Parameter(torch.randn(1, 1, 3))

        def forward(self, x: Any) -> Any:
            return self.body(x, self.first)[0]

    assert_streams(seeded(Started), 1, 0, 2, time=1, out_time=1)


# Parameters.


@pytest.mark.parametrize("per_frame", [False, True])
def test_a_gated_network_with_conditioning(per_frame: bool) -> None:
    net = seeded(Gated)
    size = EXAMPLE if per_frame else 1
    example = (torch.zeros(1, 1, EXAMPLE), torch.zeros(1, 2, size))
    knobs = {"tone_0": (0.5, 0.0, 1.0), "tone_1": Knob("presence", -1.0, -2.0, 2.0)}
    model = backline.from_torch(net, example, knobs=knobs)
    assert [(k.name, k.default, k.minimum, k.maximum) for k in model.knobs.values()] == [
        ("tone_0", 0.5, 0.0, 1.0),
        ("presence", -1.0, -2.0, 2.0),
    ]
    assert not model.notes
    x = signal(1, 1, 1, FRAMES)
    for tone in ((0.5, -1.0), (0.0, 1.5)):
        values = torch.tensor(tone, dtype=torch.float64)[None, :, None].expand(1, 2, FRAMES)
        expected = rows_of(net(x, values))[:, 0]
        # Without prewarm on these values: they stand there from the first frame on.
        set_there = backline.Model(model.graph.with_knobs(dict(zip(model.knobs, tone, strict=True))))
        np.testing.assert_allclose(set_there(rows_of(x).astype(np.float32))[:, 0], expected, atol=2e-6)


def test_double_precision_is_dropped_with_a_word() -> None:
    def said(net: torch.nn.Module, dtype: torch.dtype) -> bool:
        model = backline.from_torch(net, torch.zeros(1, 1, 64, dtype=dtype))
        return "parameters in double precision are rounded to float32" in model.notes

    net = torch.nn.Conv1d(1, 2, 3)
    assert not said(net, torch.float32)
    assert not said(net.double(), torch.float64)  # float32 holds these numbers
    torch.nn.init.constant_(net.weight, 1 / 3)
    assert said(net, torch.float64)


def test_film() -> None:
    net = seeded(Film)
    model = backline.from_torch(net, (torch.zeros(1, 1, EXAMPLE), torch.zeros(1, 1)))
    assert [(k.name, k.default, k.minimum, k.maximum) for k in model.knobs.values()] == [("drive", 0, 0, 1)]
    assert any("'drive'" in note and "from 0 to 1" in note for note in model.notes)
    assert any("latency of 4 frames" in note for note in model.notes)
    x = signal(2, 1, 1, FRAMES)
    for drive in (0.0, 0.3, 1.0):
        expected = rows_of(net(x, torch.tensor([[drive]], dtype=torch.float64)))[:, 0]
        found = model(rows_of(x).astype(np.float32), drive=drive)[4:, 0]
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("spread", ["expand", "repeat"])
def test_a_recurrent_network_with_conditioning(spread: str) -> None:
    """Parameters beside the audio, as conditioned amplifiers have them."""

    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.LSTM(3, 6, batch_first=True), nn.Linear(6, 1)

        def forward(self, x: Any, dials: Any) -> Any:
            frames = x.shape[1]
            wide = dials[:, None]
            wide = wide.expand(-1, frames, -1) if spread == "expand" else wide.repeat(1, frames, 1)
            return self.head(self.body(torch.cat([x, wide], -1))[0]) + x

    net = seeded(Conditioned)
    model = backline.from_torch(net, (torch.zeros(1, EXAMPLE, 1), torch.zeros(1, 2)))
    assert list(model.knobs) == ["dials_0", "dials_1"]
    x = signal(7, 1, FRAMES, 1)
    for low, high in ((0.0, 0.0), (0.2, 0.9)):
        expected = rows_of(net(x, torch.tensor([[low, high]], dtype=torch.float64)), 1)
        found = model(rows_of(x, 1).astype(np.float32), dials_0=low, dials_1=high)
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_audio_is_the_first_input_with_a_time_axis() -> None:
    class Turned(nn.Module):
        def forward(self, drive: Any, x: Any) -> Any:
            return x * drive

    model = backline.from_torch(Turned(), (torch.ones(1), torch.zeros(1, 1, EXAMPLE)))
    np.testing.assert_array_equal(model(np.ones(4, np.float32), drive=0.5), np.full(4, 0.5))
    named = backline.from_torch(
        Turned(), (torch.ones(3, 1), torch.zeros(1, 1, EXAMPLE)), knobs={"drive_0": (1, 0, 1)}, name="gains"
    )
    assert list(named.knobs) == ["drive_0", "drive_1", "drive_2"]
    assert named.name == "gains"
