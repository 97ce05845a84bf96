"""What the tests of live sound share: small models, takes, waiting, `backline` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from backline import conv1d, load, save
from backline.audiofile import AudioWriter
from backline.engine import Model
from backline.live.link import Link
from backline.live.messages import Pipe
from backline.live.slot import LiveModel
from backline.live.worker import Worker

RATE_HZ = 48000
PATIENCE_SECONDS = 30.0


def wait_for(what: str, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a condition holds; fail loudly if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.01)


def gain(factor: float, channels: int = 1) -> Model:
    return conv1d(np.full((channels, 1, 1), factor, np.float32), groups=channels)


def write_gain(path: Path, factor: float) -> None:
    """A model of one weight; renamed into its place, as a trainer should."""
    save(gain(factor), path.with_suffix(".part"), overwrite=True)
    path.with_suffix(".part").replace(path)


def from_file(path: Path) -> LiveModel:
    """A model that can be loaded again."""
    return LiveModel(load(path), path, partial(load, path))


def write_model(path: Path, seed: int = 0) -> Path:
    """Write a causal model of grouped convolutions as RTNeural Keras JSON."""
    rng = np.random.default_rng(seed)
    layers = []
    for inputs, outputs, kernel, dilation, groups in ((1, 4, 3, 1, 1), (4, 6, 5, 7, 2), (6, 1, 1, 1, 1)):
        weight = rng.standard_normal((kernel, inputs // groups, outputs)) / np.sqrt(kernel * inputs / groups)
        layers.append(
            {
                "type": "conv1d",
                "shape": [None, None, outputs],
                "kernel_size": [kernel],
                "dilation": [dilation],
                "groups": groups,
                "activation": "tanh" if outputs > 1 else "",
                "weights": [weight.tolist(), (0.1 * rng.standard_normal(outputs)).tolist()],
            }
        )
    path.write_text(json.dumps({"in_shape": [None, None, 1], "layers": layers}), encoding="utf-8")
    return path


def noise(frames: int, channels: int = 1, seed: int = 1) -> np.ndarray:
    """A signal of which no two stretches are alike."""
    return (0.2 * np.random.default_rng(seed).standard_normal((frames, channels))).astype(np.float32)


def write_take(path: Path, x: np.ndarray, rate_hz: int = RATE_HZ) -> Path:
    """Write a signal as the 32-bit float WAV it is."""
    with AudioWriter(path, rate_hz, x.shape[1]) as writer:
        writer.write(x)
    return path


def backline(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start the command; it is the caller's to end."""
    code = "import sys; from backline.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish(process: subprocess.Popen[str], timeout: float = 60.0) -> tuple[int, str, str]:
    """Wait for the command; returns status, stdout and stderr. Kills it if it does not end."""
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def run(*arguments: object, **environment: str) -> tuple[int, str, str]:
    """Run the command to its end."""
    return finish(backline(*arguments, **environment))


class ThreadLink(Link):
    """A worker that is a thread of this process, where a test can put something else in PortAudio's place."""

    def __init__(self) -> None:
        self.pipe, theirs = Pipe.pair()
        self.worker = Worker(Pipe(theirs))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self.worker.run()
        self.worker.close()

    def _obituary(self) -> str:
        return "the worker has gone"

    def _wait_for_end(self, seconds: float) -> None:
        pass

    def end(self) -> None:
        pass

    def kill(self) -> None:
        self.pipe.close()
        self._thread.join()
