"""Train the models that ship with Backline: at present one, a small overdrive made of grouped convolutions.

The pedal exists only on paper. Its circuit (class `Overdrive`) is solved here at eight times 48 kHz, a
network of the NAM WaveNet form learns to answer as the circuit does, and the result goes to `models/` as

- `overdrive.nam`: the model, file version 0.7.0;
- `overdrive.md`: its provenance, for people;
- `overdrive_golden.npz`: input `x`, the network's answer `y` and the circuit's `y_circuit`, float32,
  [frames].

PyTorch is needed here and nowhere else in Backline. From the top of a checkout::

    pip install -e '.[train]'
    python scripts/train_models.py

A run is decided by its seed, on one machine and one PyTorch, as long as it takes its full number of steps.
When the time budget ends it earlier, the script says so and the provenance records it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from scipy.signal import chirp, lfilter
from torch import nn

from backline.pluck import pluck, riff

RATE_HZ = 48000
OVERSAMPLING = 8
CLIP_FRAMES = RATE_HZ  # one second
FULL_SCALE_VOLTS = 1.0  # what a sample of 1.0 means at the jack; a lively guitar peaks at 0.3 to 0.5 V

CHANNELS = 8
GROUPS = 2
KERNEL = 3
DILATIONS = (1, 3, 9, 27, 81, 243, 1, 3, 9, 27)
HEAD_SCALE = 0.5

WINDOW_FRAMES = 8192
WINDOWS_PER_STEP = 8
QUIET_POWER = 4e-4  # windows below -34 dB RMS count for less and less, or silence would own the loss
WORST_ESR = 0.03

Signal = NDArray[np.float64]


# --------------------------------------------------------------------------------------------- the circuit

SCHEMATIC = r"""
    in --||--+---------------- + \
         C1  |                    >--+-- R4 --+-- level -- out
             R1       +------- - /   |        |
             |        |              |        C4
            GND       +----- R3 -----+        |
                      +----- C3 -----+       GND
                      +----- >| -----+
                      +----- |< -----+
                      |
                      R2
                      |
                      C2
                      |
                     GND
"""


@dataclass(frozen=True)
class Overdrive:
    """Non-inverting op-amp clipper, drawn in `SCHEMATIC`; values in ohms, farads, amperes and volts.

    The op-amp is ideal, so the current through the leg R2-C2 depends on the input alone: everything is a
    linear filter but the feedback voltage v, which obeys

        C3 dv/dt = i_leg - v / R3 - 2 Is sinh(v / (n Vt)).

    Diode figures are those commonly given for the 1N4148.
    """

    c1_farad: float = 22e-9
    r1_ohm: float = 150e3
    r2_ohm: float = 4.7e3
    c2_farad: float = 47e-9
    r3_ohm: float = 100e3
    c3_farad: float = 100e-12
    diode_saturation_amp: float = 2.52e-9
    diode_ideality: float = 1.752
    thermal_volt: float = 25.85e-3
    r4_ohm: float = 1e3
    c4_farad: float = 47e-9
    level: float = 0.5

    def solve(self, x: Signal) -> tuple[Signal, int]:
        """Answer to `x`, from rest.

        Parameters
        ----------
        x : ndarray of float64, shape [clips, frames]
            Input at 48 kHz, full scale 1.0.

        Returns
        -------
        y : ndarray of float64, shape [clips, frames]
            Output at 48 kHz.
        worst_iterations : int
            The most Newton steps that any frame took.

        Raises
        ------
        ArithmeticError
            If Newton's method did not converge somewhere.
        """
        fast_hz = RATE_HZ * OVERSAMPLING
        # Frames lie outermost: every step of the solver then touches one contiguous row, a value per clip.
        fast = np.empty((x.shape[1] * OVERSAMPLING, x.shape[0]), np.float32)
        for clip, signal in enumerate(x):
            fast[:, clip] = soxr.resample(signal, RATE_HZ, fast_hz, "VHQ")
        fast *= FULL_SCALE_VOLTS

        coupling = _first_order(self.r1_ohm * self.c1_farad, 0.0, self.r1_ohm * self.c1_farad, fast_hz)
        leg = _first_order(self.r2_ohm * self.c2_farad, 0.0, self.c2_farad, fast_hz)
        tone = _first_order(self.r4_ohm * self.c4_farad, 1.0, 0.0, fast_hz)
        rest = np.zeros((1, x.shape[0]))
        coupling_state, leg_state, tone_state = rest, rest, rest
        diodes = _Diodes(self, x.shape[0], fast_hz)

        # In slabs, so that float64 intermediates of a few minutes of audio do not fill the memory.
        for start in range(0, fast.shape[0], 4096):
            slab = fast[start : start + 4096]
            plus, coupling_state = lfilter(*coupling, slab.astype(np.float64), axis=0, zi=coupling_state)
            current, leg_state = lfilter(*leg, plus, axis=0, zi=leg_state)
            op_amp = plus + diodes.advance(current)
            out, tone_state = lfilter(*tone, op_amp, axis=0, zi=tone_state)
            slab[:] = self.level / FULL_SCALE_VOLTS * out

        y = np.zeros_like(x)
        for clip in range(x.shape[0]):
            slow = soxr.resample(fast[:, clip].astype(np.float64), fast_hz, RATE_HZ, "VHQ")
            y[clip, : slow.size] = slow[: x.shape[1]]
        return y, diodes.worst_iterations


def _first_order(tau_seconds: float, dc: float, slope: float, rate_hz: float) -> tuple[Signal, Signal]:
    """Trapezoidal rule for (dc + slope s) / (1 + tau s): exactly what integrating the capacitor would give.

    Returns
    -------
    numerator, denominator : ndarray of float64, shape [2]
    """
    k = 2.0 * rate_hz
    scale = 1.0 + tau_seconds * k
    b = np.array([dc + slope * k, dc - slope * k]) / scale
    return b, np.array([1.0, (1.0 - tau_seconds * k) / scale])


class _Diodes:
    """The one nonlinear state, v across the feedback network, of many clips side by side."""

    _TOLERANCE_VOLT = 1e-9
    _MOST_ITERATIONS = 60

    def __init__(self, circuit: Overdrive, clips: int, rate_hz: float) -> None:
        self._scale = circuit.diode_ideality * circuit.thermal_volt
        self._saturation = circuit.diode_saturation_amp
        self._conductance = 1.0 / circuit.r3_ohm
        self._capacitor = 2.0 * circuit.c3_farad * rate_hz
        self._v = np.zeros(clips)
        self._history = np.zeros(clips)  # what the trapezoidal rule carries over from the previous frame
        self.worst_iterations = 0

    def advance(self, current: Signal) -> Signal:
        """Turn leg current into feedback voltage, one trapezoidal step per row.

        Parameters
        ----------
        current : ndarray of float64, shape [frames, clips]
            In amperes.

        Returns
        -------
        ndarray of float64, shape [frames, clips]
            In volts.

        Raises
        ------
        ArithmeticError
            If Newton's method did not converge somewhere.
        """
        out = np.empty_like(current)
        for frame, now in enumerate(current):
            out[frame] = self._step(now)
        return out

    def _step(self, now: Signal) -> Signal:
        linear = self._capacitor + self._conductance
        # Newton overshoots wildly from the flat middle of the curve, where the first guess would be volts and
        # exp(volts / 45 mV) overflows. Three diode scales per step reach any real voltage within a few steps.
        limit = 3.0 * self._scale
        target = now + self._history
        v = self._v
        for iteration in range(1, self._MOST_ITERATIONS + 1):
            self.worst_iterations = max(self.worst_iterations, iteration)
            grow = self._saturation * np.exp(v / self._scale)
            shrink = self._saturation * self._saturation / grow
            diode = grow - shrink
            residual = target - linear * v - diode
            change = residual / (linear + (grow + shrink) / self._scale)
            v = v + np.minimum(np.maximum(change, -limit), limit)
            if max(change.max(), -change.min()) < self._TOLERANCE_VOLT:
                break
        else:
            worst = float(np.max(np.abs(change)))
            raise ArithmeticError(f"Newton: expected below {self._TOLERANCE_VOLT:g} V, found {worst:g} V")
        # The diode current at the accepted v follows from the equation just solved.
        self._history = now - (target - self._capacitor * v) + self._capacitor * v
        self._v = v
        return v


# -------------------------------------------------------------------------------------------- the material


def _note(rng: np.random.Generator) -> Signal:
    frequency_hz = 73.4 * 2.0 ** rng.uniform(0.0, 3.8)
    start = int(rng.integers(0, RATE_HZ // 2))
    sound = np.zeros(CLIP_FRAMES)
    sound[start:] = _random_pluck(frequency_hz, CLIP_FRAMES - start, rng)
    return sound


def _chord(rng: np.random.Generator) -> Signal:
    root_hz = 73.4 * 2.0 ** rng.uniform(0.0, 1.6)
    shape = ((0, 7, 12), (0, 7, 12, 16, 19), (0, 7, 12, 15, 19, 24), (0, 5), (0, 4, 10))[rng.integers(5)]
    sound = np.zeros(CLIP_FRAMES)
    start = int(rng.integers(0, RATE_HZ // 4))
    for semitones in shape:
        sound[start:] += _random_pluck(root_hz * 2.0 ** (semitones / 12.0), CLIP_FRAMES - start, rng)
        start += int(rng.integers(100, 1500))
    return sound


def _random_pluck(frequency_hz: float, frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
    seed = int(rng.integers(2**31))
    return pluck(frequency_hz, frames / RATE_HZ, RATE_HZ, brightness=rng.uniform(), seed=seed)


def _riff_slice(rng: np.random.Generator) -> Signal:
    # A riff made for another rate and played at ours is another key and tempo.
    other_hz = RATE_HZ * 2.0 ** rng.uniform(-0.4, 0.4)
    whole = riff(other_hz, seed=int(rng.integers(1, 2**31)))  # 0 is held back
    start = int(rng.integers(0, whole.size - CLIP_FRAMES))
    return whole[start : start + CLIP_FRAMES].astype(np.float64)


def _noise(rng: np.random.Generator) -> Signal:
    # White noise hardly occurs at a guitar's jack and is mostly aliasing to a network at 48 kHz; darker noise
    # fills the band that matters. Bursts teach it attacks.
    corner = np.exp(-2.0 * np.pi * 200.0 * 2.0 ** rng.uniform(0.0, 5.5) / RATE_HZ)
    dark = lfilter([1.0 - corner], [1.0, -corner], rng.standard_normal(CLIP_FRAMES))
    steps = rng.uniform(0.0, 1.0, int(rng.integers(3, 30))) ** 2
    return dark * np.repeat(steps, -(-CLIP_FRAMES // steps.size))[:CLIP_FRAMES]


def _sweep(rng: np.random.Generator) -> Signal:
    t = np.arange(CLIP_FRAMES) / RATE_HZ
    ends = 25.0 * 2.0 ** rng.uniform(0.0, 9.0, 2)
    return chirp(t, ends[0], t[-1], ends[1] + 1.0, method="logarithmic", phi=-90.0) * rng.uniform(
        0.1, 1.0 - 0.9 * t
    )


def _tones(rng: np.random.Generator) -> Signal:
    t = np.arange(CLIP_FRAMES) / RATE_HZ
    pitches = 60.0 * 2.0 ** rng.uniform(0.0, 5.0, int(rng.integers(1, 4)))
    swell = np.exp(-rng.uniform(0.0, 5.0) * t)
    return swell * sum(np.sin(2.0 * np.pi * hz * t + rng.uniform(0.0, 6.0)) for hz in pitches)


def _clicks(rng: np.random.Generator) -> Signal:
    sound = np.zeros(CLIP_FRAMES)
    at = rng.integers(0, CLIP_FRAMES - 2000, 8)
    for start in at:
        sound[start : start + int(rng.integers(10, 2000))] = rng.uniform(-1.0, 1.0)
    return lfilter([0.3], [1.0, -0.7], sound)


def _bend(rng: np.random.Generator) -> Signal:
    # Held back from training altogether: a bowed, bending note, to see how far the network generalises.
    t = np.arange(CLIP_FRAMES) / RATE_HZ
    hz = rng.uniform(100.0, 500.0) * 2.0 ** (
        rng.uniform(-1.0, 1.0) * t + 0.02 * np.sin(2.0 * np.pi * 5.5 * t)
    )
    phase = 2.0 * np.pi * np.cumsum(hz) / RATE_HZ
    return np.minimum(1.0, 8.0 * t) * sum(np.sin(k * phase) / k for k in range(1, 9))


Maker = Callable[[np.random.Generator], Signal]
TRAINING: tuple[tuple[Maker, int], ...] = (
    (_note, 90),
    (_chord, 60),
    (_riff_slice, 60),
    (_noise, 40),
    (_sweep, 25),
    (_tones, 30),
    (_clicks, 15),
)
HELD_BACK: tuple[tuple[Maker, int], ...] = (
    (_note, 8),
    (_chord, 8),
    (_noise, 5),
    (_sweep, 5),
    (_tones, 3),
    (_bend, 6),
)


def make_clips(recipe: tuple[tuple[Maker, int], ...], rng: np.random.Generator) -> tuple[Signal, list[str]]:
    """Make one-second clips at many levels.

    Returns
    -------
    x : ndarray of float64, shape [clips, frames]
    kinds : list of str
        What each clip is.
    """
    fade = np.minimum(1.0, np.arange(CLIP_FRAMES) / 200.0)
    clips, kinds = [], []
    for maker, count in recipe:
        for _ in range(count):
            sound = maker(rng) * fade
            # Half the clips are played as people play; the other half reach down to where the diodes sleep.
            peak_db = rng.uniform(-15.0, 0.0) if rng.uniform() < 0.5 else rng.uniform(-45.0, -6.0)
            clips.append(sound * (10.0 ** (peak_db / 20.0) / np.max(np.abs(sound))))
            kinds.append(maker.__name__.strip("_"))
    return np.stack(clips), kinds


def held_back_riff() -> Signal:
    """Cut the demo's own performance of the riff, peak 0.5, into seconds: shape [8, frames]."""
    return riff(RATE_HZ, seed=0).astype(np.float64).reshape(-1, CLIP_FRAMES)


def golden_input(seed: int) -> Signal:
    """Under a second of silence, a low note, a high one, a sweep and silence; shape [frames]."""
    x = np.zeros(round(0.9 * RATE_HZ))
    low, high = round(0.1 * RATE_HZ), round(0.35 * RATE_HZ)
    sweep, end = round(0.6 * RATE_HZ), round(0.85 * RATE_HZ)
    x[low:sweep] += 0.45 * pluck(82.4, (sweep - low) / RATE_HZ, RATE_HZ, brightness=0.6, seed=seed)
    x[high:sweep] += 0.2 * pluck(493.9, (sweep - high) / RATE_HZ, RATE_HZ, brightness=0.9, seed=seed + 1)
    t = np.arange(end - sweep) / RATE_HZ
    x[sweep:end] = 0.5 * chirp(t, 40.0, t[-1], 12000.0, method="logarithmic", phi=-90.0)
    return x


# --------------------------------------------------------------------------------------------- the network


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


# ------------------------------------------------------------------------------------------------ the files


def nam_weights(network: WaveNet) -> list[float]:
    """Flatten in NAM's order: rechannel, per layer conv, mixin and layer1x1, then head and head scale."""
    zeros = np.zeros(CHANNELS, np.float32)
    parts: list[NDArray[np.float32]] = [_flat(network.rechannel)]
    for index, (conv, mixin) in enumerate(zip(network.convs, network.mixins, strict=True)):
        last = index == len(network.mixes)
        mix = np.zeros(CHANNELS * CHANNELS, np.float32) if last else _flat(network.mixes[index])
        parts += [_flat(conv), zeros, _flat(mixin), mix, zeros]
    parts += [_flat(network.head), np.array([HEAD_SCALE], np.float32)]
    # A float32 has an exact float64, which JSON prints so that it comes back to the bit.
    return [float(w) for w in np.concatenate(parts)]


def _flat(conv: nn.Module) -> NDArray[np.float32]:
    return conv.weight.detach().numpy().astype(np.float32).ravel()


def nam_config() -> dict[str, Any]:
    """Describe the network as NAM's trainer would."""
    film = {"active": False, "shift": True, "groups": 1}
    where = (
        "conv_pre",
        "conv_post",
        "input_mixin_pre",
        "input_mixin_post",
        "activation_pre",
        "activation_post",
    )
    layer = {
        "input_size": 1,
        "condition_size": 1,
        "head": {"out_channels": 1, "kernel_size": 1, "bias": False},
        "channels": CHANNELS,
        "kernel_sizes": [KERNEL] * len(DILATIONS),
        "dilations": list(DILATIONS),
        "activation": [{"type": "Tanh"} for _ in DILATIONS],
        "bottleneck": CHANNELS,
        "head1x1": {"active": False, "out_channels": 1, "groups": 1},
        "layer1x1": {"active": True, "groups": 1},
        "groups_input": GROUPS,
        "groups_input_mixin": 1,
        **{f"{name}_film": film for name in (*where, "layer1x1_post", "head1x1_post")},
        "gating_mode": ["none"] * len(DILATIONS),
        "secondary_activation": [None] * len(DILATIONS),
        "slimmable": None,
    }
    return {"layers": [layer], "head": None, "head_scale": HEAD_SCALE}


def play_nam(path: Path, x: Signal) -> Signal:
    """Read the written file back and play it in plain NumPy, sharing no code with the network above.

    Knows this one shape of WaveNet: one array, no gates, no FiLM. `x` and the result have shape [frames].
    """
    text = json.loads(path.read_text(encoding="utf-8"))
    layer = text["config"]["layers"][0]
    weights = np.asarray(text["weights"], np.float32).astype(np.float64)
    channels, groups = layer["channels"], layer["groups_input"]
    at = 0

    def take(*shape: int) -> Signal:
        nonlocal at
        at += int(np.prod(shape))
        return weights[at - int(np.prod(shape)) : at].reshape(shape)

    stream = take(channels, 1) * x
    summed = np.zeros_like(stream)
    for kernel, dilation in zip(layer["kernel_sizes"], layer["dilations"], strict=True):
        w, bias = take(groups, channels // groups, channels // groups, kernel), take(channels, 1)
        z = bias + take(channels, 1) * x
        grouped = stream.reshape(groups, channels // groups, -1)
        for tap in range(kernel):
            # A zero history is the settled one here, because silence in is silence out at every layer.
            late = dilation * (kernel - 1 - tap)
            past = np.pad(grouped, ((0, 0), (0, 0), (late, 0)))[:, :, : x.size]
            z += np.einsum("goi,gif->gof", w[:, :, :, tap], past).reshape(channels, -1)
        z = np.tanh(z)
        summed += z
        mix, mix_bias = take(channels, channels), take(channels, 1)
        stream = stream + mix @ z + mix_bias
    y = (take(1, channels) @ summed)[0] * take(1)[0]
    if at != weights.size:
        raise ValueError(f"{path}: expected {at} weights, found {weights.size}")
    return y


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a name to write to, and rename it to `path` when that went well: nobody ever reads half a file."""
    part = path.with_name(path.name + ".part")
    yield part
    os.replace(part, path)


# ----------------------------------------------------------------------------------------------- the whole


@dataclass(frozen=True)
class Report:
    """What is known about a trained network, as its provenance tells it."""

    seed: int
    steps: int
    repeatable: bool
    minutes: float
    training_seconds: int
    esr: float
    esr_by_kind: dict[str, float]
    loudness_db: float
    parameters: int
    weights: int
    date: datetime.datetime

    @property
    def training_audio(self) -> str:
        """One sentence on what the network heard."""
        kinds = ", ".join(
            f"{maker.__name__.strip('_').replace('_', ' ')} {count}" for maker, count in TRAINING
        )
        return (
            f"{self.training_seconds} one-second clips made by the script ({kinds}); plucked strings from "
            "backline.pluck; no recording of any kind"
        )

    @property
    def held_back_audio(self) -> str:
        """One sentence on what the network was judged by."""
        kinds = ", ".join(f"{maker.__name__.strip('_')} {count}" for maker, count in HELD_BACK)
        return (
            f"clips from other seeds ({kinds}; bends occur nowhere in training) and the demo's riff, of "
            "which training heard other performances in other keys"
        )

    def provenance(self, circuit: Overdrive) -> dict[str, Any]:
        """Say it all for machines; plain JSON values."""
        return {
            "circuit": "non-inverting ideal op-amp, antiparallel 1N4148 diodes in its feedback",
            "components": asdict(circuit),
            "full_scale_volts": FULL_SCALE_VOLTS,
            "solver": f"trapezoidal rule and Newton's method at {OVERSAMPLING} x {RATE_HZ} Hz",
            "script": "scripts/train_models.py",
            "seed": self.seed,
            "steps": self.steps,
            "repeatable": self.repeatable,
            "torch_version": str(torch.__version__),
            "training_audio": self.training_audio,
            "held_back_audio": self.held_back_audio,
            "esr_held_back": self.esr,
            "esr_held_back_by_kind": self.esr_by_kind,
            "loudness_measured_on": "answer to backline.pluck.riff at peak 0.5: RMS in dB of full scale",
            "date": self.date.date().isoformat(),
            "licence": "CC0-1.0",
        }


def write_nam(path: Path, network: WaveNet, circuit: Overdrive, report: Report) -> None:
    """Write the model file."""
    date = report.date
    # Full scale is a known voltage, and 0 dBu is a sine of 0.7746 V RMS.
    full_scale_dbu = 20.0 * np.log10(FULL_SCALE_VOLTS / np.sqrt(2.0) / 0.7746)
    text = {
        "version": "0.7.0",
        "metadata": {
            "date": {
                name: getattr(date, name) for name in ("year", "month", "day", "hour", "minute", "second")
            },
            "loudness": round(report.loudness_db, 3),
            "name": "Backline overdrive",
            "modeled_by": "Backline",
            "gear_type": "pedal",
            "gear_make": "Backline",
            "gear_model": "antiparallel-diode overdrive",
            "tone_type": "overdrive",
            "input_level_dbu": round(full_scale_dbu, 3),
            "output_level_dbu": round(full_scale_dbu, 3),
            "provenance": report.provenance(circuit),
        },
        "architecture": "WaveNet",
        "config": nam_config(),
        "weights": nam_weights(network),
        "sample_rate": RATE_HZ,
    }
    with _beside(path) as part:
        part.write_text(json.dumps(text) + "\n", encoding="utf-8")


def _parts_table(circuit: Overdrive) -> str:
    """List the components as rows of a Markdown table."""
    values = (
        ("C1", f"{circuit.c1_farad * 1e9:g} nF", "input coupling, with R1 a high-pass at 48 Hz"),
        ("R1", f"{circuit.r1_ohm / 1e3:g} kohm", "input bias"),
        ("R2", f"{circuit.r2_ohm / 1e3:g} kohm", "gain leg"),
        ("C2", f"{circuit.c2_farad * 1e9:g} nF", "gain leg, with R2 a corner at 720 Hz: bass is driven less"),
        ("R3", f"{circuit.r3_ohm / 1e3:g} kohm", "drive; 22 times above the corner while the diodes sleep"),
        ("C3", f"{circuit.c3_farad * 1e12:g} pF", "rounds the clipping"),
        ("diodes", f"Is {circuit.diode_saturation_amp * 1e9:g} nA, n {circuit.diode_ideality:g}", "1N4148"),
        ("Vt", f"{circuit.thermal_volt * 1e3:g} mV", "thermal voltage"),
        (
            "R4, C4",
            f"{circuit.r4_ohm / 1e3:g} kohm, {circuit.c4_farad * 1e9:g} nF",
            "tone: low-pass at 3.4 kHz",
        ),
        ("level", f"{circuit.level:g}", "volume control, unloaded"),
    )
    return "\n".join(f"| {name} | {value} | {purpose} |" for name, value, purpose in values)


def write_prose(path: Path, circuit: Overdrive, report: Report) -> None:
    """Write the provenance for people."""
    parts = _parts_table(circuit)
    kinds = "\n".join(f"| {kind} | {100 * esr:.3f} % |" for kind, esr in report.esr_by_kind.items())
    caveat = "" if report.repeatable else " The clock had a say in it: not repeatable to the bit."
    prose = f"""# overdrive.nam

A small overdrive pedal as a NAM WaveNet with grouped convolutions. Made by `scripts/train_models.py` on
{report.date.date().isoformat()}; this file too.

The pedal was never built and no recording was used: the network learned from the circuit below, solved by the
trapezoidal rule and Newton's method at {OVERSAMPLING} times 48 kHz. Full scale, a sample of 1.0, is
{FULL_SCALE_VOLTS:g} V. A guitar that peaks between -12 and -6 dBFS overdrives it nicely.

## The circuit

```{SCHEMATIC.rstrip()}
```

| part | value | purpose |
|---|---|---|
{parts}

The op-amp is ideal: it neither runs out of supply nor of speed.

## The network

One layer array: {CHANNELS} channels, kernel {KERNEL}, dilations {", ".join(map(str, DILATIONS))}, Tanh,
convolutions in {GROUPS} groups with a full 1x1 mix behind each; receptive field {WaveNet.receptive_frames}
frames. The file holds {report.weights:,} weights, of which {report.parameters:,} were trained. The others
are the head scale and zeros that the format asks for: the network has no biases, so that it is
as symmetrical as its circuit.
Its answer to silence is silence, to the bit, and it adds neither DC nor even harmonics to a symmetrical
wave.

## The training

Adam, {report.steps:,} steps of {WINDOWS_PER_STEP} windows of {WINDOW_FRAMES} frames, {report.minutes:.1f}
minutes on one core, PyTorch {torch.__version__}, seed {report.seed}.{caveat} Heard in training:
{report.training_audio}.

## How close it comes

Error-to-signal ratio (energy of the error over energy of the circuit's answer) on audio held back from
training:
**{100 * report.esr:.3f} %**. Held back were {report.held_back_audio}.

| held-back audio | ESR |
|---|---|
{kinds}

`overdrive_golden.npz` holds a test input `x`, the network's answer `y` (PyTorch, float64, settled on
silence, rounded to float32 at the end) and the circuit's own answer `y_circuit`; float32, [frames], 48 kHz.

## Licence

The weights, the golden data and this text: CC0-1.0. To the extent the law allows, Backline's authors have
waived all rights in them.
"""
    with _beside(path) as part:
        part.write_text(_wrapped(prose), encoding="utf-8")


def _wrapped(prose: str) -> str:
    """Fill the paragraphs of a Markdown text anew, once the numbers are in; tables and drawings stay."""
    filler = textwrap.TextWrapper(width=110, break_on_hyphens=False, break_long_words=False)
    blocks = prose.rstrip().split("\n\n")
    return "\n\n".join(b if b.startswith(("#", "|", "```")) else filler.fill(b) for b in blocks) + "\n"


def write_golden(path: Path, network: WaveNet, circuit: Overdrive, seed: int) -> None:
    """Write input, the network's answer and the circuit's."""
    x = golden_input(seed).astype(np.float32)
    given = x[None].astype(np.float64)
    answers = {"y": network.answer(given)[0], "y_circuit": circuit.solve(given)[0][0]}
    with _beside(path) as part, part.open("wb") as file:
        np.savez_compressed(file, x=x, **{name: y.astype(np.float32) for name, y in answers.items()})


def check(nam_path: Path, golden_path: Path) -> None:
    """Read everything back and refuse what does not hold.

    Raises
    ------
    ArithmeticError
        If file and golden data disagree, or the model is unfit to be listened to.
    """
    with np.load(golden_path) as golden:
        worst = float(np.max(np.abs(play_nam(nam_path, golden["x"].astype(np.float64)) - golden["y"])))
    print(f"read back: plain NumPy differs from the golden answer by at most {worst:.1e}")
    if not worst < 1e-5:
        raise ArithmeticError(f"{nam_path}: expected the golden answer within 1e-5, found {worst:g}")

    t = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = play_nam(nam_path, 0.35 * np.sin(2.0 * np.pi * 220.0 * t))[RATE_HZ:]
    # One second: bin k is k Hz, and all harmonics of 220 Hz fall on bins.
    lines = np.abs(np.fft.rfft(tone)) / (tone.size / 2)
    harmonics_db = 20.0 * np.log10(lines[220 * np.arange(1, 8)] / lines[220] + 1e-12)
    print("220 Hz at -9 dBFS: harmonics 1 to 7 at", " ".join(f"{db:.1f}" for db in harmonics_db), "dB")
    peak, dc = float(np.max(np.abs(tone))), float(np.mean(tone))
    silence = float(np.max(np.abs(play_nam(nam_path, np.zeros(RATE_HZ // 10)))))
    print(f"  peak {peak:.3f}, DC {dc:.1e}, answer to silence {silence:.1e}")
    if not (peak < 1.0 and abs(dc) < 1e-4 and silence < 1e-4 and harmonics_db[2] > -30.0 > harmonics_db[1]):
        raise ArithmeticError(f"{nam_path}: expected odd harmonics, a peak below 1 and no DC; see above")


def make_overdrive(output: Path, seed: int, budget: Budget) -> None:
    """Make the overdrive, from component values to three files in `output`.

    Raises
    ------
    ArithmeticError
        If the solver did not converge or the model did not become good enough. Nothing is written then.
    """
    circuit = Overdrive()
    rngs = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)]
    heard, _ = make_clips(TRAINING, rngs[0])
    valid, _ = make_clips(HELD_BACK, rngs[1])
    test, kinds = make_clips(HELD_BACK, rngs[2])
    test = np.concatenate([test, held_back_riff()])
    kinds += ["riff"] * (test.shape[0] - len(kinds))

    print(f"solving the circuit for {heard.shape[0] + valid.shape[0] + test.shape[0]} s of audio", flush=True)
    began = time.monotonic()
    wanted, iterations = circuit.solve(np.concatenate([heard, valid, test]))
    goals = np.split(wanted, [heard.shape[0], heard.shape[0] + valid.shape[0]])
    seconds, peak = time.monotonic() - began, np.max(np.abs(wanted))
    print(f"  {seconds:.0f} s, at most {iterations} Newton steps, peak {peak:.3f}")

    print(f"training, {budget.steps} steps or {budget.minutes:g} minutes", flush=True)
    trained = train(heard, goals[0], (valid, goals[1]), budget, seed)
    network = trained.network
    if not trained.repeatable:
        print(f"  the clock had a say ({trained.steps} of {budget.steps} steps): not repeatable to the bit")
    esr, by_kind = _judge(network.answer(test), goals[2], kinds)
    print(f"held-back ESR {100 * esr:.3f} %, training took {trained.minutes:.1f} minutes")
    if not esr <= WORST_ESR:
        raise ArithmeticError(f"overdrive: expected an ESR of at most {WORST_ESR:g}, found {esr:.4f}")

    report = Report(
        seed=seed,
        steps=trained.steps,
        repeatable=trained.repeatable,
        minutes=trained.minutes,
        training_seconds=heard.shape[0],
        esr=round(esr, 6),
        esr_by_kind={kind: round(value, 6) for kind, value in by_kind.items()},
        loudness_db=_loudness_db(network),
        parameters=sum(p.numel() for p in network.parameters()),
        weights=len(nam_weights(network)),
        date=datetime.datetime.now(datetime.timezone.utc),
    )
    output.mkdir(parents=True, exist_ok=True)
    write_nam(output / "overdrive.nam", network, circuit, report)
    write_golden(output / "overdrive_golden.npz", network, circuit, seed)
    write_prose(output / "overdrive.md", circuit, report)
    check(output / "overdrive.nam", output / "overdrive_golden.npz")


def _judge(answer: Signal, wanted: Signal, kinds: list[str]) -> tuple[float, dict[str, float]]:
    """Error-to-signal ratio of all clips together, and of each kind of clip."""
    by_kind = {}
    for kind in dict.fromkeys(kinds):
        rows = [row for row, name in enumerate(kinds) if name == kind]
        by_kind[kind] = error_to_signal(answer[rows], wanted[rows])
        print(f"  held-back {kind:6s} ESR {100 * by_kind[kind]:.3f} %")
    return error_to_signal(answer, wanted), by_kind


def _loudness_db(network: WaveNet) -> float:
    """RMS of the network's answer to the demo's riff, in dB of full scale."""
    y = network.answer(riff(RATE_HZ).astype(np.float64)[None])
    rms_db = float(10.0 * np.log10(np.mean(y**2)))
    print(f"the demo's riff: peak {np.max(np.abs(y)):.3f}, RMS {rms_db:.1f} dB, DC {np.mean(y):.1e}")
    return rms_db


def main() -> None:
    """Parse the command line and train."""
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Train the models that ship with Backline.")
    parser.add_argument("--output", type=Path, default=here / "models", help="folder to write to")
    parser.add_argument("--seed", type=int, default=1, help="decides material, initial weights and order")
    parser.add_argument("--steps", type=int, default=6500, help="optimiser steps")
    parser.add_argument("--minutes", type=float, default=20.0, help="training stops here at the latest")
    arguments = parser.parse_args()
    # More threads would hardly help so small a network, and would make sums depend on their number.
    torch.set_num_threads(1)
    make_overdrive(arguments.output, arguments.seed, Budget(arguments.steps, arguments.minutes))


if __name__ == "__main__":
    main()
