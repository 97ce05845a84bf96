"""Modules that take sounddevice's place in the processes that ask PortAudio: found first, by PYTHONPATH."""

from __future__ import annotations

from pathlib import Path

import pytest

#: Two cards, and what servers and drivers print meanwhile.
TALKS = """
import os
from types import SimpleNamespace

os.write(1, b"Cannot connect to server socket\\n{}\\n")
os.write(2, b"ALSA lib: unable to open slave\\n")
__version__, _libname = "0.0.1", "libfake.so.2"


class PortAudioError(Exception):
    pass


default = SimpleNamespace(device=[-1, -1])


def get_portaudio_version():
    return 1, "PortAudio V0"


def query_hostapis():
    os.write(1, b"noise\\n")
    return (
        {"name": "ALSA", "devices": [0, 1], "default_input_device": 1, "default_output_device": 0},
        {"name": "JACK Audio Connection Kit", "devices": [], "default_input_device": -1,
         "default_output_device": -1},
    )


def query_devices():
    latencies = {f"default_{x}_{y}_latency": 0.01 for x in ("low", "high") for y in ("input", "output")}
    return [
        {"name": name, "hostapi": 0, "max_input_channels": inputs, "max_output_channels": outputs,
         "default_samplerate": 44100.0, **latencies}
        for name, inputs, outputs in (("HDA Intel PCH: HDMI 0", 0, 2), ("Scarlett 2i2", 2, 2))
    ]


def play(x, rate_hz, device):
    if device == 0:
        raise PortAudioError("Error opening Stream: Device unavailable", -9985)
    assert (x.shape, rate_hz, device) == ((44100, 2), 44100.0, 1)


def wait():
    os.write(2, b"underrun\\n")
"""
NO_PACKAGE = "raise ImportError('No module named sounddevice')"
NO_LIBRARY = "raise OSError('PortAudio library not found')"
DOES_NOT_START = "raise RuntimeError('Error initializing PortAudio')"
HANGS = "import time; time.sleep(600)"
CRASHES = "import os; os.abort()"
#: The list comes, and nothing else does.
HANGS_PLAYING = f"{TALKS}\n\ndef play(x, rate_hz, device):\n    import time; time.sleep(600)\n"


def put(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Let processes started from now on find this module in sounddevice's place."""
    (folder / "sounddevice.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
