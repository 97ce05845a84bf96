"""What is written down of an item, beside its audio: the same in a shard's JSON and in the manifest."""

from __future__ import annotations

import os
from typing import Any

from .pairs import Pair, level_of
from .plan import Plan

#: Columns of the manifest: what kind of value, and what it says. Knobs follow, see `knob_column`.
COLUMNS: dict[str, tuple[str, str]] = {
    "item": ("int", "number of the item, from 0; what is drawn for it depends on it and the seed alone"),
    "key": ("text", "what its files in a shard begin with"),
    "shard": ("text", "the tar file it is in"),
    "model": ("text", "name of the model"),
    "model_number": ("int", "place of the model among those given, from 0"),
    "input": ("text", "audio file the segment is of, as it was given"),
    "input_number": ("int", "place of the input among those that can be read and are long enough, from 0"),
    "start_frame": ("int", "first frame of the segment in the input, at rate_hz"),
    "frames": ("int", "length of the segment"),
    "rate_hz": ("int", "frames per second"),
    "heard_frames": ("int", "frames of the input that the model heard before the segment"),
    "gain_db": ("number", "gain of the input; it is in the dry half"),
    "flipped": ("flag", "whether the input's polarity was turned round; so it is in the dry half"),
    "dry_channels": ("int", "channels of the dry half"),
    "dry_peak_dbfs": ("number", "largest sample of the dry half; null for silence"),
    "dry_rms_dbfs": (
        "number",
        "root mean square of the dry half, full-scale square wave at 0; null for silence",
    ),
    "dry_lufs": ("number", "loudness of the dry half after ITU-R BS.1770-4; null where not measurable"),
    "dry_clipped": ("int", "samples of the dry half cut at full scale by the file format"),
    "wet_channels": ("int", "channels of the wet half"),
    "wet_peak_dbfs": ("number", "largest sample of the wet half; null for silence"),
    "wet_rms_dbfs": ("number", "root mean square of the wet half; null for silence"),
    "wet_lufs": ("number", "loudness of the wet half; null where not measurable"),
    "wet_clipped": ("int", "samples of the wet half cut at full scale by the file format"),
}


def knob_column(name: str) -> str:
    """The column that says where a knob stood; null for models without it."""
    return f"knob_{_text(name)}"


def key_of(item: int) -> str:
    """What an item's files in a shard begin with."""
    return f"{item:09d}"


def row_of(pair: Pair, plan: Plan, dry_clipped: int, wet_clipped: int) -> dict[str, Any]:
    """An item's row, but for the shard."""
    draw = pair.draw
    row: dict[str, Any] = {
        "item": draw.item,
        "key": key_of(draw.item),
        "model": _text(plan.models[draw.model].name),
        "model_number": draw.model,
        "input": _text(os.fspath(plan.inputs[draw.input].path)),
        "input_number": draw.input,
        "start_frame": draw.start_frame,
        "frames": plan.frames,
        "rate_hz": plan.rate_hz,
        "heard_frames": pair.heard_frames,
        "gain_db": draw.gain_db,
        "flipped": draw.flipped,
    }
    for half, x, clipped in (("dry", pair.dry, dry_clipped), ("wet", pair.wet, wet_clipped)):
        level = level_of(x, plan.rate_hz)
        row[f"{half}_channels"] = x.shape[1]
        row[f"{half}_peak_dbfs"] = level.peak_dbfs
        row[f"{half}_rms_dbfs"] = level.rms_dbfs
        row[f"{half}_lufs"] = level.lufs
        row[f"{half}_clipped"] = clipped
    return row | {knob_column(name): draw.knobs.get(name) for name in plan.knob_names}


def _text(name: str) -> str:
    """A name that UTF-8 can hold: those of files need not."""
    return name.encode("utf-8", "backslashreplace").decode()
