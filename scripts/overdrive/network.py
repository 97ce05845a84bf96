"""Train a network of the NAM WaveNet form to answer as the circuit does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from . import Signal

CHANNELS = 8
GROUPS = 2
KERNEL = 3
DILATIONS = (1, 3, 9, 27, 81, 243, 1, 3, 9, 27)
HEAD_SCALE = 0.5

WINDOW_FRAMES = 8192
WINDOWS_PER_STEP = 8
QUIET_POWER = 4e-4  # windows below -34 dB RMS count for less and less, or silence would own the loss


class WaveNet(nn.Module):
    """One NAM WaveNet layer array with grouped convolutions, and without a single bias.

    The circuit is symmetrical: turn its input upside down and its output turns with it. Tanh has that
    symmetry too, so a network without biases has it exactly, whatever it learns. A symmetrical wave
    gains neither DC nor even harmonics, and the answer to silence is silence. The file format wants biases;
    they are written as zeros.
    """

    receptive_frames = (KERNEL - 1) * sum(DILATIONS) + 1

    def __init__(self) -> None:
        super().__init__()
        self.rechannel = nn.Conv1d(1, CHANNELS, 1, bias=False)
        self.convs = nn.ModuleList(
            nn.Conv1d(CHANNELS, CHANNELS, KERNEL, dilation=d, groups=GROUPS, bias=False) for d in DILATIONS
        )
        self.mixins = nn.ModuleList(nn.Conv1d(1, CHANNELS, 1, bias=False) for _ in DILATIONS)
        # The last layer's residual goes nowhere: the file holds zeros for it, and training need not.
        self.mixes = nn.ModuleList(nn.Conv1d(CHANNELS, CHANNELS, 1, bias=False) for _ in DILATIONS[1:])
        self.head = nn.Conv1d(CHANNELS, 1, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [batch, 1, frames] to [batch, 1, frames - receptive_frames + 1]: no padding is made up here."""
        frames = x.shape[-1] - self.receptive_frames + 1
        stream = self.rechannel(x)
        summed = torch.zeros((), dtype=x.dtype)
        for index, (conv, mixin) in enumerate(zip(self.convs, self.mixins, strict=True)):
            z = conv(stream)
            z = torch.tanh(z + mixin(x[..., -z.shape[-1] :]))
            summed = summed + z[..., -frames:]
            if index < len(self.mixes):
                stream = stream[..., -z.shape[-1] :] + self.mixes[index](z)
        return HEAD_SCALE * self.head(summed)

    def answer(self, x: Signal) -> Signal:
        """Answer in float64 to `x` of shape [clips, frames], settled on silence beforehand; same shape."""
        before = np.zeros((x.shape[0], self.receptive_frames - 1))
        exact = WaveNet().double()
        exact.load_state_dict(self.state_dict())
        with torch.no_grad():
            return exact(torch.from_numpy(np.concatenate([before, x], axis=1))[:, None])[:, 0].numpy()


def error_to_signal(y: Signal, wanted: Signal) -> float:
    """Energy of the error over energy of what was wanted, everything summed first."""
    return float(np.sum((y - wanted) ** 2) / np.sum(wanted**2))


@dataclass(frozen=True)
class Budget:
    """Ends a training: after `steps`, or after `minutes` if that comes first."""

    steps: int
    minutes: float


class Trained(NamedTuple):
    """A trained network. `repeatable` is whether the clock had no say in it."""

    network: WaveNet
    steps: int
    minutes: float
    repeatable: bool


def train(x: Signal, wanted: Signal, valid: tuple[Signal, Signal], budget: Budget, seed: int) -> Trained:
    """Fit a network to the circuit's answers.

    Parameters
    ----------
    x, wanted : ndarray of float64, shape [clips, frames]
        Input and the circuit's answer.
    valid : pair of ndarray
        The same for validation, which is only printed.
    budget : Budget
        When to stop. The learning rate falls to nothing over whichever limit is nearer.
    seed : int
        For the initial weights and the choice of windows.

    Returns
    -------
    Trained
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = WaveNet()
    context = network.receptive_frames - 1
    # A clip starts from rest, and so does its network: silence goes in front.
    padded = torch.from_numpy(np.pad(x, ((0, 0), (context, 0))).astype(np.float32))
    target = torch.from_numpy(wanted.astype(np.float32))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    began = time.monotonic()
    step, repeatable = 0, True
    while True:
        spent_minutes = (time.monotonic() - began) / 60.0
        # The first steps are slow, and would hand the schedule to the clock before there is a pace to judge.
        clock = spent_minutes / budget.minutes if step > 100 else 0.0
        progress = max(step / budget.steps, clock)
        repeatable = repeatable and clock <= step / budget.steps
        if progress >= 1.0:
            return Trained(network, step, spent_minutes, repeatable)
        warm = min(1.0, (step + 1) / 100.0)
        optimiser.param_groups[0]["lr"] = 1e-2 * warm * (0.5 + 0.5 * np.cos(np.pi * progress)) + 1e-6

        clips = rng.integers(0, x.shape[0], WINDOWS_PER_STEP)
        starts = rng.integers(0, x.shape[1] - WINDOW_FRAMES + 1, WINDOWS_PER_STEP)
        spans = list(zip(clips, starts, strict=True))
        given = torch.stack([padded[c, s : s + WINDOW_FRAMES + context] for c, s in spans])
        goal = torch.stack([target[c, s : s + WINDOW_FRAMES] for c, s in spans])
        error = (network(given[:, None])[:, 0] - goal).pow(2).mean(dim=1)
        loss = (error / (goal.pow(2).mean(dim=1) + QUIET_POWER)).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 500 == 0:
            esr = error_to_signal(network.answer(valid[0]), valid[1])
            print(f"  step {step:5d}  {spent_minutes:5.1f} min  validation ESR {100 * esr:.3f} %", flush=True)
