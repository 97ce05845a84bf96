"""One long file: how much faster on two threads than on one, and how fast from the shell on one core?

    python scripts/bench_render.py [--minutes 10] [--folder /dev/shm] [--only a2]

Noise at 48 kHz, mono and stereo, through `render_file` on one thread and on several, in turn, and whether the
files are equal to the bit. `speed-up` is the median of the runs' quotients, `busy` how many cores the runs on
several threads had on average: where that is below their number others were in the way. The last line is a
whole `backline render --threads 1` of 60 s of mono, start-up and all, on one core.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from bench_models import RATE_HZ, write_models
from bench_options import announce, parser

from backline import api
from backline.engine import Model
from backline.machine import pinned
from backline.render import render_file

MODELS = ("a2", "a1-standard")
SPEED_UP, REAL_TIMES = 1.9, 50.0


def make_input(path: Path, seconds: int, channels: int) -> Path:
    """A file of noise."""
    rng = np.random.default_rng(seconds)
    with soundfile.SoundFile(path, "w", RATE_HZ, channels, subtype="FLOAT", format="WAV") as file:
        for _ in range(seconds):
            file.write(0.1 * rng.standard_normal((RATE_HZ, channels), np.float32))
    return path


def rendered(model: Model, source: Path, target: Path, threads: int) -> tuple[float, float]:
    """Seconds of a render, and how many cores it had on average."""
    wall, own = time.perf_counter(), time.process_time()
    render_file(model, source, target, overwrite=True, threads=threads)
    wall, own = time.perf_counter() - wall, time.process_time() - own
    return wall, own / wall


def compare(model: Model, source: Path, threads: int, repeats: int) -> tuple[float, float, float, bool]:
    """Seconds on one thread, speed-up on several, cores they had, and whether the bits are the same."""
    one, several = source.with_name("one.wav"), source.with_name("several.wav")
    alone, quotients, busy = [], [], []
    for _ in range(repeats):
        alone.append(rendered(model, source, one, 1)[0])
        together, share = rendered(model, source, several, threads)
        quotients.append(alone[-1] / together)
        busy.append(share)
    same = one.read_bytes() == several.read_bytes()
    return statistics.median(alone), statistics.median(quotients), statistics.median(busy), same


def from_the_shell(model: Path, source: Path, repeats: int) -> float:
    """Seconds that the whole command takes on one core."""
    target = source.with_name("shell.wav")
    command = [sys.executable, "-m", "backline", "render", model, source, "-o", target, "--force"]
    found = []
    for _ in range(repeats):
        with pinned():
            start = time.perf_counter()
            subprocess.run([*command, "--threads", "1"], check=True, capture_output=True)
            found.append(time.perf_counter() - start)
    return statistics.median(found)


def main() -> None:
    """Parse, measure, print."""
    asked = parser(__doc__, MODELS)
    asked.add_argument("--minutes", type=int, default=10)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        models = write_models(folder)
        announce(options.threads, f"{options.minutes} minutes", folder.parent)
        for channels in (1, 2):
            source = make_input(folder / "in.wav", 60 * options.minutes, channels)
            for model in [options.only] if options.only else MODELS:
                one_s, gain, busy, same = compare(
                    api.load(models[model]), source, options.threads, options.repeats
                )
                print(
                    f"{model:12} {channels} channels: one thread {one_s:6.2f} s, speed-up {gain:5.3f}, "
                    f"busy {busy:.2f}, {'same bits' if same else 'OTHER BITS'}  "
                    f"{'ok' if gain >= SPEED_UP and same else 'MISSED'}",
                    flush=True,
                )
        source = make_input(folder / "minute.wav", 60, 1)
        shell_s = from_the_shell(models["a2"], source, options.repeats)
        verdict = "ok" if 60.0 / shell_s >= REAL_TIMES else "MISSED"
        print(f"a2 from the shell, 60 s: {shell_s:.3f} s, {60.0 / shell_s:.1f} times real time  {verdict}")


if __name__ == "__main__":
    main()
