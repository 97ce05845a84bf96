"""Backline beside ONNX Runtime, TorchScript and the PyTorch trainer's own models, in one run.

    python scripts/bench_peers.py [--block 64] [--only "A2 full"] [--json]

Models are those of `bench_models.py`. Every engine runs the same weights with one thread on the same pinned
core; that they agree on what comes out is checked first. ONNX Runtime and TorchScript stream with explicit
states (`peers.py`), one call from Python for each block, which costs microseconds that their figures hold.
The trainer's models (package neural-amp-modeler) keep no state: a WaveNet of theirs has to hear its receptive
field again for each block; an LSTM of theirs is not run, as it begins each call anew. Peers choose their own
instruction set and are held against the peak of Backline's.

Needs torch, onnx, onnxruntime, neural-amp-modeler.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from bench_models import write_models
from bench_targets import MODELS, works
from peers import OnnxRun, PeerRun, TorchScriptRun

from backline.bench import EngineRun, Result, Run, Work, measure_runs
from backline.engine import Model
from backline.machine import pinned
from backline.native import available_isas

#: Of the standard deviation of what comes out: a constant is no answer.
_AGREEMENT = 1e-3


class TrainerRun(PeerRun):
    """The model as the trainer has it, over the receptive field and the block."""

    engine = "trainer, windowed"
    document: dict[str, Any]

    def prepare(self) -> None:
        if importlib.util.find_spec("tkinter") is None:
            sys.modules.setdefault("tkinter", ModuleType("tkinter"))  # imported for windows nobody opens here
        from_nam = importlib.import_module("nam.models._from_nam")
        self._module = from_nam.init_from_nam(self.document).eval()
        self._past = self._module.receptive_field - 1
        self._window = torch.zeros(self._past + self.block_frames)
        self._window[self._past :] = torch.from_numpy(self.x[0, 0])

    def load(self, x: np.ndarray) -> None:
        self._window = torch.cat([self._window[self.block_frames :], torch.from_numpy(x[0, 0].copy())])

    def step(self) -> None:
        with torch.inference_mode():
            self._y = self._module(self._window, pad_start=False)

    def answer(self) -> np.ndarray:
        return self._y.numpy().reshape(1, -1)


def trainer_run(document: dict[str, Any], work: Work, isa: str, block_frames: int) -> TrainerRun:
    """One of a model in a .nam file."""
    made = type("TrainerRun", (TrainerRun,), {"document": document})
    run: TrainerRun = made(work, isa, block_frames)
    return run


def check(run: PeerRun) -> None:
    """End the program unless a peer gives what the engine gives, over some blocks after its warm-up."""
    graph, size = run.work.graph, run.block_frames
    past = (graph.receptive_field_frames or 0) // size + 1
    rng = np.random.default_rng(5)
    # The peer has run blocks before: what it remembers of them has to be out of reach, or faded.
    blocks = [0.1 * rng.standard_normal((1, 1, size)).astype(np.float32) for _ in range(past + 3)]
    found = []
    for block in blocks:
        run.load(block)
        run.step()
        found.append(np.array(run.answer()))
    expected = Model(graph, run.isa)(np.concatenate(blocks, axis=2)[0, 0])
    last = np.concatenate(found, axis=1)[0, -2 * size :]
    error = np.abs(last - expected[-2 * size :]).max() / np.std(expected)
    print(f"{run.work.name}, {run.engine}: differs by {error:.1e} of the signal", file=sys.stderr)
    if not error < _AGREEMENT:
        sys.exit(f"{run.work.name}: {run.engine} gives something else")


def runs_of(work: Work, path: Path, isa: str, blocks: Iterable[int]) -> list[Run]:
    """All engines on one model, in blocks of each size."""
    found: list[Run] = []
    document = json.loads(path.read_text())
    if document["architecture"] == "SlimmableContainer":
        parts = [each["model"] for each in document["config"]["submodels"]]
        (document,) = (part for part in parts if len(part["weights"]) == work.graph.parameter_count)
    plain = replace(work, graph=replace(work.graph, prewarm_frames=0))
    for frames in blocks:
        peers: list[PeerRun] = [OnnxRun(plain, isa, frames), TorchScriptRun(plain, isa, frames)]
        if document["architecture"] != "LSTM":
            peers.append(trainer_run(document, plain, isa, frames))
        for peer in peers:
            check(peer)
        found += [EngineRun(work, isa, frames), *peers]
    return found


def row(result: Result) -> str:
    """A line of the table."""
    return (
        f"{result.model:12} {result.engine:24} {result.block_frames:5} {result.times_real_time:9.2f} "
        f"{result.gflops:8.3f} {result.percent_of_peak:9.2f} {result.p50_us:11.1f} {result.p999_us:11.1f} "
        f"{result.max_us:11.1f}"
    )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--block", default="64", help="block sizes in frames, with commas")
    parser.add_argument("--only", default="", help="models with this in their name")
    parser.add_argument(
        "--isa", default=available_isas()[-1], help="of Backline; peers choose for themselves"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=2000, help="blocks to time one by one")
    parser.add_argument("--core", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    blocks = [int(frames) for frames in options.block.split(",")]
    with tempfile.TemporaryDirectory() as folder, pinned(options.core) as core:
        files = write_models(Path(folder))
        runs = [
            run
            for work, _ in works(Path(folder))
            if work.name in MODELS and options.only.lower() in work.name.lower()
            for run in runs_of(work, files[file_of(work.name)], options.isa, blocks)
        ]
        if not runs:
            parser.error(f"no model has {options.only!r} in its name")
        found = measure_runs(runs, options.repeats, options.blocks, core)
    if options.json:
        print(json.dumps([each.as_dict() for each in found], indent=2))
        return
    headings = (
        "model",
        "engine",
        "block",
        "x real t.",
        "GFLOP/s",
        "% of peak",
        "p50 us",
        "p99.9 us",
        "worst us",
    )
    print("{:12} {:24} {:>5} {:>9} {:>8} {:>9} {:>11} {:>11} {:>11}".format(*headings))
    for each in found:
        print(row(each))
    peak = f"peak of {options.isa} {found[0].peak_gflops:.1f} GFLOP/s"
    print(f"{found[0].machine}, one thread on core {core}; {peak}")


def file_of(name: str) -> str:
    """The file of `bench_models` that a model of `bench_targets` is in."""
    architecture, size = name.lower().split()
    return "a2" if architecture == "a2" else f"{architecture}-{size}"


if __name__ == "__main__":
    main()
