"""A file of two hours through `backline render`: memory that stays flat, and the bits of one call.

    python scripts/soak_render.py [--hours 2] [--model MODEL] [--folder FOLDER]

Writes a stereo take, renders it as a process of its own with one thread and with two, watches how much
memory that has, and then cuts windows out of the output: each has to be, bit for bit, what the model makes of
that part of the take in one call. Exits with 1 if one is not, if the two outputs differ, or if a process had
more than 200 MB. Prints how much faster two threads are.
"""

from __future__ import annotations

import argparse
import filecmp
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench_models import write_models

import backline
from backline.audiofile import AudioReader, AudioWriter
from backline.pluck import riff

RATE_HZ = 48000
CHANNELS = 2
MOST_BYTES = 200_000_000
WINDOWS = 40
WINDOW_FRAMES = 4 * RATE_HZ
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Rendered:
    """What a process was like: seconds it took, and its memory at ten moments and at most, in bytes."""

    seconds: float
    memory: list[int]
    most: int


def write_take(path: Path, hours: float) -> None:
    """Riffs and noise, of other levels all the time, different on both sides."""
    rng = np.random.default_rng(0)
    with AudioWriter(path, RATE_HZ, CHANNELS) as writer:
        sides = [riff(RATE_HZ, seed=seed) for seed in range(8)]
        for _ in range(round(hours * 3600 * RATE_HZ / len(sides[0]))):
            chosen = rng.integers(len(sides), size=CHANNELS)
            x = np.stack([sides[index] for index in chosen], axis=1)
            noise = rng.uniform(-1e-3, 1e-3, x.shape)
            writer.write((x * rng.uniform(0.1, 1.0) + noise).astype(np.float32))


def memory_of(process: int) -> tuple[int, int]:
    """Resident bytes of a process, now and at most so far; zeros where it has gone."""
    found = {"VmRSS": 0, "VmHWM": 0}
    try:
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return found["VmRSS"], found["VmHWM"]


def render(model: Path, take: Path, target: Path, threads: int) -> Rendered:
    """Render as a user does, and watch."""
    command = [sys.executable, "-m", "backline", "render", str(model), str(take), "-o", str(target)]
    start = time.monotonic()
    process = subprocess.Popen([*command, "--threads", str(threads), "--tail", "0"])
    now, most = [], 0
    while process.poll() is None:
        resident, peak = memory_of(process.pid)
        if resident:
            now.append(resident)
            most = max(most, peak)
        time.sleep(_POLL_SECONDS)
    if process.returncode:
        sys.exit(f"the render ended with {process.returncode}")
    moments = np.linspace(len(now) // 10, len(now) - 2, 10).astype(int)
    return Rendered(time.monotonic() - start, [now[index] for index in moments], most)


def window(path: Path, start: int, stop: int) -> np.ndarray:
    """Frames of a file."""
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.blocks(1 << 18, start, stop)))


def check_windows(model: backline.Model, take: Path, target: Path) -> int:
    """How many windows of the output are not what one call makes of that part of the take."""
    field = model.receptive_field_frames
    if field is None:
        sys.exit("windows can be checked of a model with a finite receptive field only")
    with AudioReader(take) as reader:
        total = reader.frames
    rng = np.random.default_rng(1)
    starts = [0, total - WINDOW_FRAMES, *rng.integers(0, total - WINDOW_FRAMES, WINDOWS - 2)]
    wrong = 0
    for start in map(int, starts):
        heard = max(0, start - field)
        y = model(window(take, heard, start + WINDOW_FRAMES))[start - heard :]
        wrong += not np.array_equal(y, window(target, start, start + WINDOW_FRAMES))
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--model", help="a model with a finite receptive field; A2 Full by default")
    parser.add_argument("--folder", help="where there is room for three such files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_models(folder)
        model = Path(given.model or folder / "a2.nam")
        take = folder / "take.wav"
        write_take(take, given.hours)
        found = {threads: render(model, take, folder / f"{threads}.wav", threads) for threads in (1, 2)}
        same = filecmp.cmp(folder / "1.wav", folder / "2.wav", shallow=False)
        wrong = check_windows(backline.load(model), take, folder / "2.wav")
        seconds = given.hours * 3600
    for threads, each in found.items():
        told = " ".join(f"{resident / 1e6:.0f}" for resident in each.memory)
        speed = f"{each.seconds:.1f} s, {seconds / each.seconds:.1f} times real time"
        print(f"threads {threads}: {speed}, resident {told} MB, at most {each.most / 1e6:.0f} MB")
    print(f"two threads are {found[1].seconds / found[2].seconds:.2f} times one, outputs equal: {same}")
    print(f"{WINDOWS} windows of {WINDOW_FRAMES / RATE_HZ:g} s: {wrong} differ from one call")
    if wrong or not same or max(each.most for each in found.values()) > MOST_BYTES:
        sys.exit(1)


if __name__ == "__main__":
    main()
