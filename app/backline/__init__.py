"""Backline: neural amplifiers and effects, live from the terminal and offline over files.

>>> import backline
>>> model = backline.load("overdrive")       # a file, or the name of a shipped model
>>> y = model(x)                             # x: float32 [frames] or [frames, channels]
>>> with model.stream(64) as stream:
...     block = stream.process(x[:64])

Importing this package opens no device and needs no PortAudio.
"""

from __future__ import annotations

from .api import conv1d, load
from .engine import Model, Stream
from .errors import AudioFileError, BacklineError, DeviceError, MissingDependency, ModelError

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
    "load",
]
