"""What share of the core's multiply-adds models and layers have to reach, and what they reach here.

    python scripts/bench_targets.py [--isa avx512,avx2] [--block 64,16] [--only conv]

The targets are for AVX-512 and blocks of 64 frames; blocks of 16 have to reach 60 % of that. On any other
instruction set the target for 64 frames is 10 points less. Models have seeded weights (`bench_models.py`).
All is measured in one run, in turn, on one pinned core. Exit status 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench_models import write_models

from backline.bench import Result, Work, conv_work, measure, model_work
from backline.native import available_isas

#: Name, percent of the peak.
MODELS = {
    "A2 full": 80.0,
    "A2 lite": 50.0,
    "A1 standard": 65.0,
    "A1 feather": 50.0,
    "A1 nano": 30.0,
    "LSTM 1x16": 48.0,
    "LSTM 2x8": 28.0,
}
#: Channels in and out, taps, dilation, groups.
CONVS = {
    (16, 16, 3, 1, 1): 75.0,
    (16, 16, 3, 1, 4): 60.0,
    (16, 16, 3, 1, 16): 30.0,
    (32, 32, 3, 1, 1): 80.0,
    (32, 32, 3, 1, 4): 70.0,
    (32, 32, 3, 1, 32): 30.0,
    (64, 64, 3, 1, 1): 85.0,
    (64, 64, 3, 1, 8): 75.0,
}
_SHORT_BLOCK_FRAMES, _SHORT_BLOCK_SHARE = 16, 0.6
_OTHER_ISA_POINTS = 10.0


def target(percent: float, isa: str, block_frames: int) -> float:
    """A target for AVX-512 and 64 frames, for another instruction set and size of block."""
    less = 0.0 if isa == "avx512" else _OTHER_ISA_POINTS
    return (percent - less) * (_SHORT_BLOCK_SHARE if block_frames <= _SHORT_BLOCK_FRAMES else 1.0)


def works(folder: Path) -> list[tuple[Work, float]]:
    """Everything that has a target."""
    files = write_models(folder)
    found = []
    for name, percent in MODELS.items():
        architecture, size = name.lower().split()
        path = files["a2"] if architecture == "a2" else files[f"{architecture}-{size}"]
        found.append((model_work(path, 0.0 if size == "lite" else 1.0, name), percent))
    return found + [(conv_work(*sizes), percent) for sizes, percent in CONVS.items()]


def row(result: Result, percent: float) -> str:
    """A line of the table."""
    wanted = target(percent, result.isa, result.block_frames)
    reached = result.percent_of_peak
    spread = f"{result.percent_of_peak_low:.1f} to {result.percent_of_peak_high:.1f}"
    return (
        f"{result.model:18} {result.isa:7} {result.block_frames:5} {result.weights:7,} "
        f"{result.times_real_time:9.1f} {reached:9.1f} {spread:>14} {wanted:7.1f}  "
        f"{'ok' if reached >= wanted else 'MISSED'}"
    )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--isa", default=",".join(i for i in ("avx512", "avx2") if i in available_isas()))
    parser.add_argument("--block", default="64,16", help="block sizes in frames, with commas")
    parser.add_argument("--only", default="", help="what has this in its name")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--core", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    blocks = [int(frames) for frames in options.block.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        wanted = [each for each in works(Path(folder)) if options.only.lower() in each[0].name.lower()]
        if not wanted:
            parser.error(f"nothing has {options.only!r} in its name")
    percents = {work.name: percent for work, percent in wanted}
    found = measure(
        [work for work, _ in wanted], options.isa.split(","), blocks, options.repeats, 500, options.core
    )
    missed = [
        each
        for each in found
        if each.percent_of_peak < target(percents[each.model], each.isa, each.block_frames)
    ]
    if options.json:
        print(json.dumps([each.as_dict() for each in found], indent=2))
        sys.exit(bool(missed))
    headings = ("", "isa", "block", "weights", "x real t.", "% of peak", "lowest-highest", "target")
    print("{:18} {:7} {:>5} {:>7} {:>9} {:>9} {:>14} {:>7}".format(*headings))
    for each in sorted(found, key=lambda each: (each.isa, -each.block_frames)):
        print(row(each, percents[each.model]))
    print(f"{len(found) - len(missed)} of {len(found)} reached; peak {found[0].peak_gflops:.1f} GFLOP/s")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
