"""Write the trained overdrive down, as model, golden data and provenance, and read it back to check it."""

from __future__ import annotations

import datetime
import json
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from . import RATE_HZ, Signal
from .circuit import FULL_SCALE_VOLTS, OVERSAMPLING, SCHEMATIC, Overdrive
from .material import HELD_BACK, TRAINING, golden_input
from .network import (
    CHANNELS,
    DILATIONS,
    GROUPS,
    HEAD_SCALE,
    KERNEL,
    WINDOW_FRAMES,
    WINDOWS_PER_STEP,
    WaveNet,
)


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
    """Read the written file back and play it in plain NumPy, sharing no code with `network`.

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
{_parts_table(circuit)}

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
