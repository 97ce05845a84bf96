"""What benchmarks of renders share: their options, and the lines about the machine that come first."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from backline.machine import cores, processor


def parser(text: str, models: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with the options that they all have; `text` is the script's."""
    made = argparse.ArgumentParser(description=text.partition("\n")[0])
    made.add_argument("--threads", type=int, default=len(cores()) or os.cpu_count() or 1)
    made.add_argument("--folder", type=Path, help="where to work; the system's temporary folder by default")
    made.add_argument("--only", choices=models, help="one model")
    made.add_argument("--repeats", type=int, default=3)
    return made


def announce(threads: int, what: str, folder: Path) -> None:
    """Print what is measured, on what, and how busy that is."""
    print(f"{processor()}, {threads} threads, {what} below {folder}")
    print(f"load before: {os.getloadavg()[0]:.1f}")
