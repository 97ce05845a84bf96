"""Batches killed again and again: every output is whole in the end, and nothing finished is rendered twice.

    python scripts/soak_batch.py [--kills 50] [--files 200] [--seed N]

Renders a matrix of two models over half as many takes undisturbed, then once more into another folder, in
processes that get SIGKILL at random moments, each going on where the one before was. Exits with 1 unless
every file is, byte for byte, what the undisturbed run made, no temporary is left, and the journal counts one
render for each output.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from bench_models import write_models

from backline.audiofile import AudioWriter
from backline.batch import JOURNAL_NAME, Job, Journal, ModelChoice, matrix, run
from backline.pending import Draft

MODELS = ("a1-nano", "lstm-1x16")
RATE_HZ = 48000
TAKE_FRAMES = 96000
LOADING_SECONDS = 0.2


def prepare(folder: Path, files: int) -> None:
    """Models and takes below a folder."""
    (folder / "takes").mkdir(parents=True)
    (folder / "models").mkdir()
    write_models(folder / "models")
    rng = np.random.default_rng(files)
    for number in range(files // len(MODELS)):
        frames = int(rng.integers(TAKE_FRAMES // 2, TAKE_FRAMES))
        with AudioWriter(folder / "takes" / f"{number:03d}.wav", RATE_HZ, 1) as writer:
            writer.write(rng.uniform(-0.2, 0.2, (frames, 1)).astype(np.float32))


def jobs_of(folder: Path, out: Path) -> list[Job]:
    """All models over all takes."""
    choices = [ModelChoice(str(folder / "models" / f"{name}.nam")) for name in MODELS]
    return matrix(choices, [folder / "takes"], out, "{model}/{input}.wav")


def start(folder: Path, out: Path, die_at: int = 0) -> subprocess.Popen[str]:
    """A process that renders; it has written a line when it has begun."""
    command = [sys.executable, __file__, "--child", str(folder), str(out), "--die-at", str(die_at)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def kill(child: subprocess.Popen[str], after_s: float) -> bool:
    """Kill it after a while; False if it had ended by itself before."""
    try:
        child.wait(after_s)
    except subprocess.TimeoutExpired:
        child.kill()
    return child.wait() == -signal.SIGKILL


def be_child(folder: Path, out: Path, die_at: int) -> int:
    """Render, and get killed at the given one of the moments where the journal or a name changes."""
    passed = 0

    def moment() -> None:
        nonlocal passed
        passed += 1
        if passed == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    publish = Draft.publish
    commit = Journal._execute

    def execute(self: Journal, statement: str, values: tuple[object, ...] = ()) -> object:
        if statement != "COMMIT":
            return commit(self, statement, values)
        moment()
        done = commit(self, statement, values)
        moment()
        return done

    def named(self: Draft) -> None:
        moment()
        publish(self)
        moment()

    print("begins", flush=True)
    with mock.patch.object(Journal, "_execute", execute), mock.patch.object(Draft, "publish", named):
        summary = run(jobs_of(folder, out), journal=out / JOURNAL_NAME)
    return 0 if summary.is_complete else 1


def contents(out: Path) -> dict[str, bytes]:
    """Names and contents of all files but the journal."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != JOURNAL_NAME]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def differences(out: Path, expected: dict[str, bytes]) -> list[str]:
    """What is wrong with a folder of outputs."""
    found = contents(out)
    wrong = [f"{name} is left over" for name in sorted(found.keys() - expected.keys())]
    wrong += [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    wrong += [
        f"{name} differs" for name in sorted(found.keys() & expected.keys()) if found[name] != expected[name]
    ]
    with Journal(out / JOURNAL_NAME) as journal:
        counts = journal.renders()
    if counts != [1] * len(expected):
        wrong.append(f"{sum(counts)} renders were finished for {len(expected)} outputs")
    return wrong


def soak(folder: Path, kills: int, files: int, seed: int) -> list[str]:
    """Everything the script does; returns what is wrong."""
    prepare(folder, files)
    begun = time.monotonic()
    assert start(folder, folder / "undisturbed").wait() == 0
    seconds = time.monotonic() - begun
    expected = contents(folder / "undisturbed")
    assert len(expected) == files // len(MODELS) * len(MODELS)
    rng = random.Random(seed)
    out = folder / "killed"
    killed = attempts = 0
    at_end: list[int] = []
    while killed < kills and attempts < 10 * kills:
        attempts += 1
        killed += kill(start(folder, out), rng.uniform(0.0, LOADING_SECONDS + 2.0 * seconds / kills))
        at_end.append(len([name for name in contents(out) if not name.endswith(".part")]))
    assert start(folder, out).wait() == 0
    busy = sum(count < len(expected) for count in at_end)
    print(f"{killed} kills, {busy} of them before all {len(expected)} outputs were there; seed {seed}")
    return differences(out, expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--die-at", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return be_child(*arguments.child, arguments.die_at)
    with tempfile.TemporaryDirectory() as folder:
        wrong = soak(Path(folder) / "soak", arguments.kills, arguments.files, arguments.seed)
    print("\n".join(wrong) or "every output is whole, and none was rendered twice")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
