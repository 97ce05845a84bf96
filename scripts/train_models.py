"""Train the models that ship with Backline: at present one, a small overdrive made of grouped convolutions.

The pedal exists only on paper. Its circuit (`overdrive/circuit.py`) is solved at eight times 48 kHz, a
network of the NAM WaveNet form learns to answer as the circuit does, and the result goes to `models/` as

- `overdrive.nam`: the model, file version 0.7.0;
- `overdrive.md`: its provenance, for people;
- `overdrive_golden.npz`: input `x`, the network's answer `y` and the circuit's `y_circuit`, float32,
  [frames].

PyTorch is needed here and nowhere else in Backline. From the top of a checkout::

    pip install -e '.[train]'
    python scripts/train_models.py

A run is decided by its seed, on one machine and one PyTorch, as long as it takes its full number of steps.
When the time budget ends it earlier, the script says so and the provenance records it.
"""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path

import numpy as np
import torch
from overdrive import RATE_HZ, Signal
from overdrive.circuit import Overdrive
from overdrive.files import Report, check, nam_weights, write_golden, write_nam, write_prose
from overdrive.material import HELD_BACK, TRAINING, held_back_riff, make_clips
from overdrive.network import Budget, WaveNet, error_to_signal, train

from backline.pluck import riff

WORST_ESR = 0.03


def make_overdrive(output: Path, seed: int, budget: Budget) -> None:
    """Make the overdrive, from component values to three files in `output`.

    Raises
    ------
    ArithmeticError
        If the solver did not converge or the model did not become good enough. Nothing is written then.
    """
    circuit = Overdrive()
    rngs = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)]
    heard, _ = make_clips(TRAINING, rngs[0])
    valid, _ = make_clips(HELD_BACK, rngs[1])
    test, kinds = make_clips(HELD_BACK, rngs[2])
    test = np.concatenate([test, held_back_riff()])
    kinds += ["riff"] * (test.shape[0] - len(kinds))

    print(f"solving the circuit for {heard.shape[0] + valid.shape[0] + test.shape[0]} s of audio", flush=True)
    began = time.monotonic()
    wanted, iterations = circuit.solve(np.concatenate([heard, valid, test]))
    goals = np.split(wanted, [heard.shape[0], heard.shape[0] + valid.shape[0]])
    seconds, peak = time.monotonic() - began, np.max(np.abs(wanted))
    print(f"  {seconds:.0f} s, at most {iterations} Newton steps, peak {peak:.3f}")

    print(f"training, {budget.steps} steps or {budget.minutes:g} minutes", flush=True)
    trained = train(heard, goals[0], (valid, goals[1]), budget, seed)
    network = trained.network
    if not trained.repeatable:
        print(f"  the clock had a say ({trained.steps} of {budget.steps} steps): not repeatable to the bit")
    esr, by_kind = _judge(network.answer(test), goals[2], kinds)
    print(f"held-back ESR {100 * esr:.3f} %, training took {trained.minutes:.1f} minutes")
    if not esr <= WORST_ESR:
        raise ArithmeticError(f"overdrive: expected an ESR of at most {WORST_ESR:g}, found {esr:.4f}")

    report = Report(
        seed=seed,
        steps=trained.steps,
        repeatable=trained.repeatable,
        minutes=trained.minutes,
        training_seconds=heard.shape[0],
        esr=round(esr, 6),
        esr_by_kind={kind: round(value, 6) for kind, value in by_kind.items()},
        loudness_db=_loudness_db(network),
        parameters=sum(p.numel() for p in network.parameters()),
        weights=len(nam_weights(network)),
        date=datetime.datetime.now(datetime.timezone.utc),
    )
    output.mkdir(parents=True, exist_ok=True)
    write_nam(output / "overdrive.nam", network, circuit, report)
    write_golden(output / "overdrive_golden.npz", network, circuit, seed)
    write_prose(output / "overdrive.md", circuit, report)
    check(output / "overdrive.nam", output / "overdrive_golden.npz")


def _judge(answer: Signal, wanted: Signal, kinds: list[str]) -> tuple[float, dict[str, float]]:
    """Error-to-signal ratio of all clips together, and of each kind of clip."""
    by_kind = {}
    for kind in dict.fromkeys(kinds):
        rows = [row for row, name in enumerate(kinds) if name == kind]
        by_kind[kind] = error_to_signal(answer[rows], wanted[rows])
        print(f"  held-back {kind:6s} ESR {100 * by_kind[kind]:.3f} %")
    return error_to_signal(answer, wanted), by_kind


def _loudness_db(network: WaveNet) -> float:
    """RMS of the network's answer to the demo's riff, in dB of full scale."""
    y = network.answer(riff(RATE_HZ).astype(np.float64)[None])
    rms_db = float(10.0 * np.log10(np.mean(y**2)))
    print(f"the demo's riff: peak {np.max(np.abs(y)):.3f}, RMS {rms_db:.1f} dB, DC {np.mean(y):.1e}")
    return rms_db


def main() -> None:
    """Parse the command line and train."""
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Train the models that ship with Backline.")
    parser.add_argument("--output", type=Path, default=here / "models", help="folder to write to")
    parser.add_argument("--seed", type=int, default=1, help="decides material, initial weights and order")
    parser.add_argument("--steps", type=int, default=6500, help="optimiser steps")
    parser.add_argument("--minutes", type=float, default=20.0, help="training stops here at the latest")
    arguments = parser.parse_args()
    # More threads would hardly help so small a network, and would make sums depend on their number.
    torch.set_num_threads(1)
    make_overdrive(arguments.output, arguments.seed, Budget(arguments.steps, arguments.minutes))


if __name__ == "__main__":
    main()
