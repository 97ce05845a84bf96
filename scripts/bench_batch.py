"""How much of the engine's own speed is left to a batch of many short files?

    python scripts/bench_batch.py [--files 2000] [--folder /dev/shm] [--only a2]

Makes files of one second of mono noise at 48 kHz, renders them with `backline.batch.run` and a journal, and
runs as many frames through as many engines on as many threads with nothing else around them: a reset for
each file, then its frames in one call. In turn, several times; the figures are medians of each round's
quotients of the engines' time and the batch's. A batch has to compute more frames than a file has: the tail
that it listens for, a receptive field. `of engine` has the engines run those, too; in `without tails` they
count against the batch. Whether --folder is on a disk or in memory matters: each output is flushed to it.
`busy` is how many cores the batch had on average: where that is well below --threads and the folder is in
memory, others were in the way.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from bench_models import RATE_HZ, write_models
from bench_options import announce, parser

from backline import api
from backline.batch import JOURNAL_NAME, Job, ModelChoice, run
from backline.engine import Model

MODELS = ("a2", "a1-standard", "a1-nano")
TARGET = 85.0


def make_inputs(folder: Path, count: int) -> list[Path]:
    """Files of one second of noise, no two of them alike."""
    folder.mkdir()
    found = [folder / f"{number:06}.wav" for number in range(count)]
    for number, path in enumerate(found):
        noise = np.random.default_rng(number).standard_normal(RATE_HZ).astype(np.float32)
        soundfile.write(path, 0.1 * noise, RATE_HZ, subtype="FLOAT")
    return found


def engines_alone(model: Model, count: int, frames: int, threads: int) -> float:
    """Seconds that engines take for `count` times `frames` frames, each from the settled state."""
    numbers = iter(range(count))
    noise = 0.1 * np.random.default_rng(0).standard_normal(frames).astype(np.float32)

    def work() -> None:
        with model.stream(channels=1) as stream:
            for _ in numbers:
                stream.reset()
                stream.process(noise)

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()
        return time.perf_counter() - start


def batch(jobs: list[Job], folder: Path, threads: int) -> float:
    """Seconds that a batch takes, from an empty folder to the last name."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    summary = run(jobs, threads=threads, journal=folder / JOURNAL_NAME)
    elapsed_s = time.perf_counter() - start
    if summary.done != len(jobs):
        raise SystemExit(f"{summary.done} of {len(jobs)} were rendered: {summary.failed[:1]}")
    return elapsed_s


def tail_frames(model: Model) -> int:
    """Frames beyond a file's end that have to be computed to know how long it sounds."""
    return model.receptive_field_frames or 0


def measure(path: Path, inputs: list[Path], folder: Path, threads: int, repeats: int) -> dict[str, float]:
    """Medians of all rounds: milliseconds per file, `busy`, and two ratios in percent."""
    model = api.load(path)
    out = folder / "out"
    jobs = [Job(ModelChoice(str(path)), source, out / source.name) for source in inputs]
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        without_s = engines_alone(model, len(inputs), RATE_HZ, threads)
        engines_s = engines_alone(model, len(inputs), RATE_HZ + tail_frames(model), threads)
        own = time.process_time()
        batch_s = batch(jobs, out, threads)
        round_ = {
            "engine_ms": 1e3 * engines_s / len(inputs),
            "batch_ms": 1e3 * batch_s / len(inputs),
            "busy": (time.process_time() - own) / batch_s,
            "of_engine": 100.0 * engines_s / batch_s,
            "without_tails": 100.0 * without_s / batch_s,
        }
        for name, value in round_.items():
            found.setdefault(name, []).append(value)
    shutil.rmtree(out)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Parse, measure, print."""
    asked = parser(__doc__, MODELS)
    asked.add_argument("--files", type=int, default=2000)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        models = write_models(folder)
        inputs = make_inputs(folder / "in", options.files)
        announce(options.threads, f"{options.files} files of 1 s", folder.parent)
        for model in [options.only] if options.only else MODELS:
            found = measure(models[model], inputs, folder, options.threads, options.repeats)
            print(
                "{:12} engines {engine_ms:6.2f} ms a file, batch {batch_ms:6.2f} ms, busy {busy:.2f}: "
                "{of_engine:5.1f} % of engine, {without_tails:5.1f} % without tails".format(model, **found),
                "ok" if found["of_engine"] >= TARGET else "MISSED",
                flush=True,
            )


if __name__ == "__main__":
    main()
