"""Pairs of dry and wet audio to train networks on: written to a folder, or rendered on the fly.

::

    seed, item ── draws ──> settings ── pairs ──> dry and wet ──> shards (tar), manifest (Parquet)
                                                            └───> RenderedPairs (PyTorch)

`options.py` says what can be asked for, `draws.py` what item n of a seed is, `plan.py` what it is drawn
from, `inputs.py` reads any part of a file, `pairs.py` renders, `failures.py` says what becomes of what
cannot be rendered, `rows.py` what is written down of an item, `shards.py` and `manifest.py` store it,
`journal.py` knows what is finished, `writing.py` puts them together, `torch_dataset.py` is for training
scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .draws import Distribution, Draw
from .options import PairOptions
from .plan import Plan, plan
from .writing import Summary, write_dataset

if TYPE_CHECKING:
    from .torch_dataset import RenderedPairs

__all__ = ["Distribution", "Draw", "PairOptions", "Plan", "RenderedPairs", "Summary", "plan", "write_dataset"]


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name != "RenderedPairs":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .torch_dataset import RenderedPairs  # which imports PyTorch

        return RenderedPairs
