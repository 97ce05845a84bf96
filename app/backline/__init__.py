"""Backline: neural amplifiers and effects, live from the terminal and offline over files.

>>> import backline
>>> model = backline.load("overdrive")       # a file, or the name of a shipped model
>>> y = model(x)                             # x: float32 [frames] or [frames, channels]
>>> with model.stream(64) as stream:
...     block = stream.process(x[:64])

Importing this package opens no device and needs no PortAudio; it loads the engine when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import AudioFileError, BacklineError, DeviceError, MissingDependency, ModelError

if TYPE_CHECKING:
    from .api import conv1d, from_torch, load, save
    from .engine import Model, Stream

__version__ = "0.1.0"

__all__ = [
    "AudioFileError",
    "BacklineError",
    "DeviceError",
    "MissingDependency",
    "Model",
    "ModelError",
    "Stream",
    "conv1d",
    "from_torch",
    "load",
    "save",
]

_HOMES = dict.fromkeys(("conv1d", "from_torch", "load", "save"), "api")
_HOMES |= {"Model": "engine", "Stream": "engine"}


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        # NumPy and the C module take a tenth of a second, which `--help` need not wait for (PEP 562).
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value
