"""What tests of batches share: a model, takes, and a matrix of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nam_files import write_wavenet

from backline.audiofile import AudioWriter
from backline.batch import JOURNAL_NAME, Job, ModelChoice, RenderOptions, matrix

RATE_HZ = 48000


def write_take(path: Path, seed: int = 0, frames: int = 4800, **options) -> Path:
    x = np.random.default_rng(seed).uniform(-0.3, 0.3, (frames, 1)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with AudioWriter(path, RATE_HZ, 1, **options) as writer:
        writer.write(x)
    return path


class Desk:
    """A folder with two models, some takes and a place for outputs."""

    def __init__(self, folder: Path, takes: int = 4, frames: int = 4800) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.journal = self.out / JOURNAL_NAME
        self.models = [
            write_wavenet(folder / "small.nam"),
            write_wavenet(folder / "smaller.nam", channels=4, dilations=(1, 2, 4)),
        ]
        self.takes = [write_take(folder / "takes" / f"{n}.wav", n, frames) for n in range(takes)]

    def jobs(self, options: RenderOptions | None = None, **choice) -> list[Job]:
        models = [ModelChoice(str(path), **choice) for path in self.models]
        options = options or RenderOptions(tail_s=0.0)  # as long as the takes
        return matrix(models, self.takes, self.out, options=options)

    def files(self) -> dict[str, bytes]:
        """Everything in the outputs' folder but the journal and what SQLite keeps beside it."""
        found = (
            path for path in self.out.rglob("*") if path.is_file() and not path.name.startswith(JOURNAL_NAME)
        )
        return {str(path.relative_to(self.out)): path.read_bytes() for path in found}
