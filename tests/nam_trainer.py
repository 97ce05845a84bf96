"""Models built by the `neural-amp-modeler` package: written as it writes them, and heard as it plays them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import backline
from backline import native
from backline.engine import Model

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
if importlib.util.find_spec("nam") is None:
    reason = "compares with the trainer's own package, neural-amp-modeler, which is not installed"
    pytest.skip(reason, allow_module_level=True)
if importlib.util.find_spec("tkinter") is None:
    # The package imports it for windows that nothing here opens; many a Python comes without.
    sys.modules["tkinter"] = ModuleType("tkinter")
trainer: Any = importlib.import_module("nam.models")

RATE = 48000.0
FRAMES = 3000

HEAD = {"out_channels": 1, "kernel_size": 1, "bias": True}


def shorten_loudness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports measure loudness and gain on twelve passes of a long recording; a tenth of a second will do."""
    whole = trainer.base.BaseNet._metadata_loudness_x()
    start = int(torch.argmax(torch.abs(whole))) - 2400
    part = whole[max(0, start) :][:4800]
    monkeypatch.setattr(trainer.base.BaseNet, "_metadata_loudness_x", classmethod(lambda cls: part))


def layers(**changes: Any) -> dict[str, Any]:
    """One array of layers as the trainer's configs have it."""
    plain = {"input_size": 1, "condition_size": 1, "channels": 4, "kernel_size": 3, "dilations": [1, 4, 16]}
    return {**plain, "activation": "Tanh", "head": HEAD, **changes}


def wavenet(*arrays: dict[str, Any], **changes: Any) -> Any:
    """Make the trainer's WaveNet of these arrays."""
    config = {"layers_configs": list(arrays), "head": None, "head_scale": 0.5, "sample_rate": RATE, **changes}
    return trainer.WaveNet.init_from_config(config)


def train(model: Any, steps: int = 12) -> None:
    """A few steps of Adam towards a filtered and saturated copy of the input."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn((2, FRAMES), generator=generator) * 0.3
    wanted = torch.tanh(4 * (x + 0.5 * torch.roll(x, 1, dims=1)))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        y = model(x, pad_start=True)
        y = y if y.ndim == 2 else y.mean(dim=1)
        torch.mean((y - wanted) ** 2).backward()
        optimiser.step()
    model.eval()


def export(model: Any, folder: Path) -> Path:
    """Write the model as the trainer does; return the file."""
    with torch.no_grad():
        model.export(folder, basename="trained", other_metadata={"input_level_dbu": 12.5})
    return folder / "trained.nam"


def played(model: Any, x: np.ndarray, *, silence: int = 0) -> np.ndarray:
    """What the package plays in float64, after `silence` frames of zeros more than it pads itself."""
    with torch.no_grad():
        padded = torch.from_numpy(np.pad(x, (silence, 0)).astype(np.float64))
        y: np.ndarray = model.double()(padded, pad_start=True).numpy()[silence:]
    model.float()
    return y


def assert_agrees(path: Path, model: Any, *, quality: float = 1.0, silence: int = 0) -> backline.Model:
    """Compare the C engine on every instruction set with what the package plays in float64."""
    x = (np.random.default_rng(11).standard_normal(FRAMES) * 0.4).astype(np.float32)
    expected = played(model, x, silence=silence)
    loaded = backline.load(path, quality=quality)
    for isa in native.available_isas():
        found = Model(loaded.graph, isa)(x)
        assert found.shape == expected.shape
        assert np.max(np.abs(found - expected)) <= 1e-5 * np.max(np.abs(expected))
    return loaded
