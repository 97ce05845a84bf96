"""Batches killed again and again: every output is whole in the end, and nothing finished is rendered twice.

    python scripts/soak_batch.py [--kills 50] [--files 200] [--seed N] [--scheduler]

Renders a matrix of two models over half as many takes undisturbed, then once more into another folder, in
processes that get SIGKILL at random moments, each going on where the one before was. Exits with 1 unless
every file is, byte for byte, what the undisturbed run made, no temporary is left, and the journal counts one
render for each output.

With --scheduler a Dask cluster of two workers on loopback does the work, and the kills are of workers, each
replaced at once; every tenth time the client that hands them the work is killed as well, and started again.
"""

from __future__ import annotations

import argparse
import functools
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
from loopback import Loopback

from backline.audiofile import AudioWriter
from backline.batch import JOURNAL_NAME, Job, Journal, ModelChoice, cluster, matrix, run
from backline.pending import Draft

MODELS = ("a1-nano", "lstm-1x16")
RATE_HZ = 48000
TAKE_FRAMES = 96000
#: The share of kills that have to come before all outputs are there, or they have tested little.
LEAST_BUSY = 0.8
#: What workers are at when they are killed has to take a while.
CLUSTER_TAKE_FRAMES = 8 * TAKE_FRAMES
CLUSTER_RETRIES = 20
CLIENT_KILLED_EVERY = 10


def prepare(folder: Path, files: int, take_frames: int = TAKE_FRAMES) -> None:
    """Models and takes below a folder."""
    (folder / "takes").mkdir(parents=True)
    (folder / "models").mkdir()
    write_models(folder / "models")
    rng = np.random.default_rng(files)
    for number in range(files // len(MODELS)):
        frames = int(rng.integers(take_frames // 2, take_frames))
        with AudioWriter(folder / "takes" / f"{number:03d}.wav", RATE_HZ, 1) as writer:
            writer.write(rng.uniform(-0.2, 0.2, (frames, 1)).astype(np.float32))


def jobs_of(folder: Path, out: Path) -> list[Job]:
    """All models over all takes."""
    choices = [ModelChoice(str(folder / "models" / f"{name}.nam")) for name in MODELS]
    return matrix(choices, [folder / "takes"], out, "{model}/{input}.wav")


def start(folder: Path, out: Path, die_at: int = 0, scheduler: str = "") -> subprocess.Popen[str]:
    """A process that renders; it has written a line when it has begun."""
    command = [sys.executable, __file__, "--child", str(folder), str(out), "--die-at", str(die_at)]
    command += ["--address", scheduler]
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


def be_child(folder: Path, out: Path, die_at: int, scheduler: str) -> int:
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

    def publish_at(self: Draft) -> None:
        moment()
        publish(self)
        moment()

    print("begins", flush=True)
    with mock.patch.object(Journal, "_execute", execute), mock.patch.object(Draft, "publish", publish_at):
        workers = cluster.workers(scheduler, retries=CLUSTER_RETRIES) if scheduler else None
        summary = run(jobs_of(folder, out), journal=out / JOURNAL_NAME, workers=workers)
    print("\n".join(str(failed.error) for failed in summary.failed), flush=True)
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


def soak(folder: Path, kills: int, files: int, seed: int, least_busy: float = 0.0) -> list[str]:
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
        child = start(folder, out)
        # So that the kills are spread over all of the work: each comes when its share of it is done.
        while named(out) < killed * len(expected) // kills and child.poll() is None:
            time.sleep(0.005)
        killed += kill(child, rng.uniform(0.0, seconds / kills))
        at_end.append(named(out))
    assert start(folder, out).wait() == 0
    busy = sum(count < len(expected) for count in at_end)
    print(f"{killed} kills, {busy} of them before all {len(expected)} outputs were there; seed {seed}")
    wrong = [] if busy >= least_busy * kills else [f"only {busy} of {kills} kills came in the middle of work"]
    return wrong + differences(out, expected)


def named(out: Path) -> int:
    """Outputs that have their names."""
    return len(list(out.rglob("*.wav")))


def soak_cluster(folder: Path, kills: int, files: int, seed: int) -> list[str]:
    """The same with workers of a cluster killed; returns what is wrong."""
    prepare(folder, files, CLUSTER_TAKE_FRAMES)
    assert start(folder, folder / "undisturbed").wait() == 0
    expected = contents(folder / "undisturbed")
    rng = random.Random(seed)
    out = folder / "killed"
    at_work = clients = 0
    with Loopback(folder / "cluster", 2) as loopback:
        client = start(folder, out, scheduler=loopback.address)
        for kill_number in range(1, kills + 1):
            enough = kill_number * len(expected) // (kills + 1)
            while named(out) < enough and client.poll() is None:
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, 0.1))
            at_work += any(path.stat().st_size for path in out.rglob("*.part") if path.exists())
            # The one that has been there longest; the other may still be starting.
            worker = next(each for each in loopback.processes[1:] if each.poll() is None)
            worker.kill()
            worker.wait()
            loopback.add()
            if kill_number % CLIENT_KILLED_EVERY == 0:
                clients += kill(client, 0.0)
            if client.poll() is not None:
                client = start(folder, out, scheduler=loopback.address)
        client.wait()
        assert start(folder, out, scheduler=loopback.address).wait() == 0
    print(
        f"{kills} workers killed, {at_work} times with files half-written, and {clients} clients; seed {seed}"
    )
    return differences(out, expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--scheduler", action="store_true", help="kill workers of a Dask cluster")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--die-at", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return be_child(*arguments.child, arguments.die_at, arguments.address)
    disturbed = soak_cluster if arguments.scheduler else functools.partial(soak, least_busy=LEAST_BUSY)
    with tempfile.TemporaryDirectory() as folder:
        wrong = disturbed(Path(folder) / "soak", arguments.kills, arguments.files, arguments.seed)
    print("\n".join(wrong) or "every output is whole, and none was rendered twice")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
