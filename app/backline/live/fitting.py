"""What to say of a model that does not fit into the time there is, and the sizes of one that has several."""

from __future__ import annotations

from dataclasses import dataclass

from .. import library
from ..api import load
from ..engine import Program
from ..errors import BacklineError
from .headroom import QualityGovernor, Size, advice, larger_blocks, measure, sizes, verdict
from .shelf import Shelf
from .slot import Slot, streams_for

_MEASURED_SECONDS = 0.03


def warning(shelf: Shelf, slot: Slot, block_frames: int) -> str | None:
    """A sentence on a model that takes too much of each block, and what would fit; None if it fits.

    Parameters
    ----------
    shelf : Shelf
        Laid out.
    slot : Slot
        Measured already.
    block_frames : int
    """
    said = None if slot.load is None else verdict(slot.model.name, slot.load)
    if said is None or slot.load is None:
        return None
    streams = streams_for(slot.model, shelf.rows)

    def taken(program: Program, block: int) -> float:
        return measure(program, streams, block, shelf.rate_hz, _MEASURED_SECONDS).mean

    program = Program(slot.graph)
    at_block = {block: taken(program, block) for block in larger_blocks(block_frames)}
    at_quality: dict[float, float] = {}
    if slot.source.load is not None:
        smaller = [size for size in sizes(slot.source.load) if size.quality < slot.quality]
        at_quality = {
            size.quality: taken(Program(shelf.prepare(size.model)), block_frames) for size in smaller
        }
    others: dict[str, float] = {}
    for name, path in library.shipped().items():
        try:
            model = load(path)
            streams_for(model, shelf.rows)
            others[name] = taken(Program(shelf.prepare(model)), block_frames)
        except BacklineError:
            continue  # of other channels: it would not do in place of this one
    hint = advice(slot.load, at_block=at_block, at_quality=at_quality, others=others)
    return f"{said} of {block_frames} frames; {hint}"


@dataclass(frozen=True)
class Governed:
    """The sizes of a model, what each takes, and what chooses among them."""

    sizes: tuple[Size, ...]
    loads: tuple[float, ...]
    governor: QualityGovernor


def governed(shelf: Shelf, slot: Slot, block_frames: int) -> Governed | None:
    """Measure all sizes of a model; None if there is but one, or no way to load it again."""
    if slot.source.load is None:
        return None
    found = sizes(slot.source.load)
    if len(found) < 2:
        return None
    streams = streams_for(slot.model, shelf.rows)
    loads = [
        measure(
            Program(shelf.prepare(size.model)), streams, block_frames, shelf.rate_hz, _MEASURED_SECONDS
        ).mean
        for size in found
    ]
    return Governed(tuple(found), tuple(loads), QualityGovernor(loads))
