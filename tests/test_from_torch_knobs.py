"""Branches of PyTorch modules that depend on knobs alone, and how they meet the audio, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch_streams import FRAMES, rows_of, seeded, signal, torch

import backline

nn, functional = torch.nn, torch.nn.functional
KNOBS = (0.75, 0.25, 1.0)


class With(nn.Module):
    """A function of the audio, of knobs and of a layer."""

    def __init__(self, f: Callable[..., Any], layer: Any = None) -> None:
        super().__init__()
        self.f, self.layer = f, layer

    def forward(self, x: Any, knobs: Any) -> Any:
        return self.f(x, knobs) if self.layer is None else self.f(x, knobs, self.layer)


def held(knobs: Any, x: Any) -> Any:
    """Knobs [1][count] as frames [1][count][time]."""
    return knobs[..., None].expand(-1, -1, x.shape[-1])


def late(x: Any) -> Any:
    """The audio through what looks six frames ahead, so that its branch runs late."""
    return functional.pad(x, (-6, 6))


def assert_follows(module: Any, shape: tuple[int, ...], time: int = -1) -> backline.Model:
    """All frames that the recording's end does not change, with all knobs set from the first frame on."""
    x = signal(3, *(n or FRAMES for n in shape))
    knobs = torch.tensor([KNOBS], dtype=torch.float64)
    model = backline.from_torch(module, (torch.zeros_like(x), torch.zeros_like(knobs)), time_axis=time)
    with torch.no_grad():
        expected = rows_of(module(x, knobs), time)
    heard = rows_of(x, time).astype(np.float32)
    found = model(heard, **{name: KNOBS[int(name[-1])] for name in model.knobs})
    found = found.reshape(len(found), -1)
    frames = len(expected) - 12
    assert frames > FRAMES // 4
    assert found.shape[1] == expected.shape[1]
    begin = model.latency_frames
    np.testing.assert_allclose(found[begin : begin + frames], expected[:frames], atol=3e-6)
    return model


BEGINNINGS: dict[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    "zeros in front": (
        lambda x, k, conv: late(x) + conv(functional.pad(held(k, x), (4, 0))),
        lambda: nn.Conv1d(3, 2, 5),
    ),
    "same": (lambda x, k, conv: x * conv(held(k, x)), lambda: nn.Conv1d(3, 2, 5, padding="same")),
    "moved": (
        lambda x, k, conv: late(x) * functional.pad(torch.sigmoid(conv(held(k, x))), (10, -10)),
        lambda: nn.Conv1d(3, 2, 1),
    ),
    "mean": (lambda x, k: late(x) * functional.avg_pool1d(held(k, x), 3, 1, 1)[:, :1], lambda: None),
    "transposed": (
        lambda x, k, conv: late(x) * conv(held(k, x)[..., ::2]),
        lambda: nn.ConvTranspose1d(3, 2, 4, 2, 1),
    ),
    "at a lower rate": (
        lambda x, k, conv: late(x[..., 5::3]) * conv(functional.pad(held(k, x[..., 5::3]), (4, 0))),
        lambda: nn.Conv1d(3, 2, 5),
    ),
    "gru": (
        lambda x, k, gru: late(x) + gru(held(k, x).mT)[0].mT,
        lambda: nn.GRU(3, 2, batch_first=True),
    ),
    "lstm": (
        lambda x, k, lstm: late(x) * lstm(held(k, x).mT)[0].mT,
        lambda: nn.LSTM(3, 2, batch_first=True),
    ),
}


@pytest.mark.parametrize("case", BEGINNINGS)
def test_what_makes_knobs_begin(case: str) -> None:
    """Zeros in front of frames of knobs, and states that start with the first, are as late as the audio."""
    f, layer = BEGINNINGS[case]
    assert_follows(seeded(lambda: With(f, layer())), (1, 1, 0))


FOREVER: dict[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    "valid": (lambda x, k, conv: x[..., :-8] * conv(held(k, x)), lambda: nn.Conv1d(3, 2, 5, dilation=2)),
    "before the audio": (
        lambda x, k, conv: functional.pad(x[..., :-8], (6, -6)) * conv(held(k, x)) + conv(held(k, x)),
        lambda: nn.Conv1d(3, 2, 9),
    ),
    "strided": (
        lambda x, k, conv: x[..., 9::2] * conv(held(k, x)),
        lambda: nn.Conv1d(3, 2, 10, 2),
    ),
    "twice": (
        lambda x, k, convs: x[..., :-8] * convs(held(k, x)).flip(1),
        lambda: nn.Sequential(nn.Conv1d(3, 4, 5), nn.Tanh(), nn.Conv1d(4, 2, 5)),
    ),
    "drawn": (
        lambda x, k: (
            x * functional.avg_pool1d(functional.interpolate(held(k, x), scale_factor=2, mode="linear"), 2)
        ),
        lambda: None,
    ),
}


@pytest.mark.parametrize("case", FOREVER)
def test_knobs_have_always_stood_where_they_stand(case: str) -> None:
    """What looks back over frames of knobs finds no zeros before the first."""
    f, layer = FOREVER[case]
    assert_follows(seeded(lambda: With(f, layer())), (1, 1, 0))


def test_a_convolution_of_a_single_frame_of_knobs() -> None:
    """A conditioning layer of three taps on one frame: only that in the middle meets it."""
    f = lambda x, k, conv: x * conv(k[..., None])  # noqa: E731
    model = assert_follows(seeded(lambda: With(f, nn.Conv1d(3, 2, 3, padding=1))), (1, 1, 0))
    assert model.latency_frames == 0
    wrong = seeded(lambda: With(f, nn.Conv1d(3, 2, 1, padding=1)))
    with pytest.raises(backline.ModelError, match="single frame"):
        backline.from_torch(wrong, (torch.zeros(1, 1, 3), torch.zeros(1, 3)))


FILM: dict[str, Callable[..., Any]] = {
    "channels": lambda x, k, mlp: x * mlp(k)[:, :, None, None],
    "features": lambda x, k, mlp: x * mlp(k)[:, None, None, :],
    "repeated over features": lambda x, k, mlp: x * mlp(k)[:, :, None, None].expand(-1, -1, -1, 3),
    "joined to channels": lambda x, k, mlp: torch.cat(
        [x, mlp(k)[:, :, None, None].expand(-1, -1, x.shape[2], 3)], 1
    ),
    "joined to features": lambda x, k, mlp: torch.cat(
        [mlp(k)[:, :, None, None].expand(-1, -1, x.shape[2], 2), x], 3
    ),
    "both": lambda x, k, mlp: x * (mlp(k)[:, :, None] * k[:, None, :3])[:, :, None],
}


@pytest.mark.parametrize("case", FILM)
def test_features_and_channels_follow_knobs(case: str) -> None:
    """As many channels as features: their roles are told by their axes."""
    module = seeded(lambda: With(FILM[case], nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3))))
    assert_follows(module, (1, 3, 0, 3), 2)


OUTER: dict[str, Callable[..., Any]] = {
    "channels with each other": lambda x, k: (x[:, :, None] * x[:, None]).flatten(1, 2),
    "of two sizes": lambda x, k: (x[:, :, None] * x[:, None, :2]).permute(0, 2, 1, 3).flatten(1, 2),
    "sums": lambda x, k: (x[:, :, None] + x[:, None]).sum(1),
    "turned and as it was": lambda x, k: torch.cat(
        [x[:, :, None] * x[:, None, :2], (x[:, :2, None] + x[:, None]).transpose(1, 2)], 2
    ).flatten(1, 2),
    "turned, joined before": lambda x, k: torch.cat(
        [(x[:, :2, None] + x[:, None]).transpose(1, 2), x[:, :, None] * x[:, None, :2]], 1
    ).flatten(1, 2),
    "features that become channels": lambda x, k: torch.cat(
        [functional.conv2d(x[:, None], torch.ones(1, 1, 2, 1).type_as(x)).flatten(1, 2), x], 1
    ),
    "features that part": lambda x, k: (
        functional.conv2d(functional.pad(x, (0, 0, 0, 2))[:, None], torch.ones(1, 1, 2, 1).type_as(x))[:, 0]
        .view(1, 2, 2, -1)
        .transpose(1, 2)
        .flatten(1, 2)
    ),
    "knobs with channels": lambda x, k: (x[:, :, None] * k[:, None, :, None]).flatten(1, 2),
    "knobs with knobs": lambda x, k: (x[:, :1, None] * (k[:, None] * k[..., None])[..., None]).flatten(1, 2),
}


@pytest.mark.parametrize("case", OUTER)
def test_each_with_each(case: str) -> None:
    """As many rows on either side do not mean the same rows."""
    assert_follows(With(OUTER[case]), (1, 3, 0))


def test_every_frame_with_every_other_is_refused() -> None:
    with pytest.raises(backline.ModelError, match="cannot combine"):
        backline.from_torch(With(lambda x, k: x * x.mT * k[0, 0]), (torch.zeros(1, 1, 9), torch.zeros(1, 3)))


JOINED: dict[str, Callable[..., Any]] = {
    "ones": lambda x, k: torch.cat([x, torch.ones_like(x[:, :1])], 1) * k[0, 0],
    "zeros": lambda x, k: torch.cat([torch.zeros_like(x[:, :2]), x * k[0, 0]], 1),
    "numbers": lambda x, k: torch.cat(
        [x[:, :1], x.new_tensor([[[2.0], [3.0]]]).expand(-1, -1, x.shape[-1])], 1
    ),
    "to features": lambda x, k: torch.cat([x[:, None], x.new_full((1, 1, 2, x.shape[-1]), 3.0)], 2)[:, 0],
}


@pytest.mark.parametrize("case", JOINED)
def test_constants_join_the_audio(case: str) -> None:
    assert_follows(With(JOINED[case]), (1, 2, 0))


def test_zeros_in_front_of_joined_constants() -> None:
    """A constant channel begins with the recording too."""
    f = lambda x, k, conv: conv(torch.cat([x, torch.ones_like(x)], 1))  # noqa: E731
    assert_follows(seeded(lambda: With(f, nn.Conv1d(2, 2, 7, padding=3))), (1, 1, 0))


ORDERS: dict[str, Callable[..., Any]] = {
    "softmax over features": lambda x, k, layer: x.softmax(3),
    "matrix of features": lambda x, k, layer: layer(x),
    "turned": lambda x, k, layer: x.transpose(1, 3),
    "turned and added": lambda x, k, layer: x.transpose(1, 3) * 0.5 + x,
    "joined": lambda x, k, layer: torch.cat([x, x.transpose(1, 3)], 1),
}


@pytest.mark.parametrize("case", ORDERS)
def test_rows_of_what_comes_out_follow_its_axes(case: str) -> None:
    """Whatever axis was worked along, the first of two is the channels'."""
    assert_follows(seeded(lambda: With(ORDERS[case], nn.Linear(3, 4))), (1, 3, 0, 3), 2)


def test_softsign_is_seen_among_absolute_values() -> None:
    f = lambda x, k: x / (1 + x.abs()) + x.abs() * k[0, 0]  # noqa: E731
    assert_follows(With(f), (1, 2, 0))
    for wrong in (lambda x, k: x / (2 + x.abs()), lambda x, k: x[:, :1] / (1 + x[:, 1:].abs())):
        with pytest.raises(backline.ModelError, match="divides by a tensor"):
            backline.from_torch(With(wrong), (torch.zeros(1, 2, 9), torch.zeros(1, 3)))
