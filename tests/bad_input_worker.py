"""A process of its own that loads and plays one file after another, with no more memory than it is given.

Run as ``python bad_input_worker.py BYTES``. Reads a line of JSON for each file (path, quality, layers) and
writes one: how it ended, the most memory it took and the seconds. What kills this process leaves no line.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import backline
from backline import reference
from backline.engine import Model
from backline.errors import ModelError
from backline.graph import Graph

FRAMES = 96
#: Numbers that one call may take and give; fewer frames are played where a frame has many.
MOST_NUMBERS = 1 << 24
#: What is cheap to evaluate in float64, and to round alike: sizes of a signal, of a weight, of a look back.
CHEAP_NODES, CHEAP_WORK, CHEAP_HISTORY = 60, 1e7, 1e6
TAME_WEIGHT, TAME_SIGNAL = 10.0, 1e3
SHORT_PREWARM_FRAMES = 16


def play(model: Model) -> None:
    """Play a few frames, at once and in blocks; in float64 too where that is cheap."""
    graph = model.graph
    made = graph.signals[graph.output]
    frames = int(min(FRAMES, max(1, MOST_NUMBERS / max(graph.input_channels, made.rows * made.rate))))
    x = np.random.default_rng(0).uniform(-1, 1, (frames, graph.input_channels)).astype(np.float32)
    whole = model(x)
    assert whole.shape == (made.frames(frames), made.rows)
    with model.stream(max_frames=16) as stream:
        parts = [stream.process(x[:1]), stream.process(x[1:8])]
        for name, knob in model.knobs.items():
            stream.set(**{name: knob.default})
        parts += [stream.process(x[8:])]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    if is_cheap(graph):
        short = replace(graph, prewarm_frames=min(graph.prewarm_frames, SHORT_PREWARM_FRAMES))
        compare(short, x)


def is_cheap(graph: Graph) -> bool:
    """Whether float64 takes milliseconds."""
    rows = sum(signal.rows * max(1, signal.rate) for signal in graph.signals.values())
    history = sum((n.lookback_frames or 0) * graph.signals[n.inputs[0]].rows for n in graph.nodes)
    work = FRAMES * (rows + graph.multiply_adds_per_frame)
    return len(graph.nodes) <= CHEAP_NODES and work <= CHEAP_WORK and history <= CHEAP_HISTORY


def compare(graph: Graph, x: np.ndarray) -> None:
    """The engine's answer is the reference's where nothing is so large that rounding decides."""
    with np.errstate(all="ignore"):
        signals = reference.run(graph, x.T, layers=True)
    expected = signals[graph.output].T
    got = Model(graph)(x)
    assert got.shape == expected.shape
    sizes = [np.abs(values).max(initial=0) for values in signals.values()]
    weights = [np.abs(values).max(initial=0) for node in graph.nodes for values in node.arrays.values()]
    if all(size < TAME_SIGNAL for size in sizes) and all(weight <= TAME_WEIGHT for weight in weights):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * max(1.0, *sizes))


def outcome(path: str, quality: float, layers: list[dict[str, Any]] | None) -> dict[str, str]:
    """``model``, or ``refused`` with one clear sentence; anything else is raised."""
    try:
        model = backline.load(path, quality=quality, layers=layers)
    except ModelError as error:
        text = str(error)
        assert text.startswith(f"{path}: "), text
        assert "\n" not in text, text
        assert len(text) < 500 + len(path), text
        return {"outcome": "refused", "sentence": text.removeprefix(f"{path}: ")}
    try:
        play(model)
    except MemoryError:  # what a stream may say
        return {"outcome": "model without memory to play"}
    return {"outcome": "model"}


def peak_bytes() -> int:
    """Most resident memory since `forget_peak`; of the whole process where the system cannot say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def address_space_bytes() -> int:
    """What this process has mapped already."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return 0


def main() -> None:
    most = address_space_bytes() + int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    warnings.simplefilter("error")  # a user would see them
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        forget_peak()
        before, started = peak_bytes(), time.perf_counter()
        try:
            found = outcome(**json.loads(line))
        except BaseException:
            found = {"outcome": "failed", "traceback": traceback.format_exc()[-4000:]}
        seconds, taken = time.perf_counter() - started, peak_bytes() - before
        print(json.dumps({**found, "bytes": taken, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
