"""``backline dataset``"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import ForceOption, QualityOption, fail, say, tell
from ._screen import progress

Range = tuple[float, float]


def dataset(
    files: Annotated[
        list[str],
        typer.Argument(metavar="MODEL... INPUT...", help="Models, or names of shipped ones; audio files."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder.")],
    force: ForceOption = False,
    quality: QualityOption = 1.0,
    items: Annotated[int | None, typer.Option(min=1, help="How many pairs.")] = None,
    hours: Annotated[float | None, typer.Option(help="How much audio, in their place.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another one draws other pairs.")] = 0,
    segment: Annotated[float, typer.Option(help="Seconds of a pair.")] = 5.0,
    gain_in: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="dB before the model, drawn between two bounds.")
    ] = "0",
    knob: Annotated[
        list[str] | None,
        typer.Option("--knob", metavar="NAME=LOW:HIGH", help="Where a knob may stand; anywhere by default."),
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Turn the polarity of half the inputs.")] = False,
    channels: Annotated[
        str | None, typer.Option(help="Of the inputs, from 1: 2, or 1,2, or 1+2 for their mean, or mono.")
    ] = None,
    warm_up: Annotated[
        float, typer.Option(help="Seconds that a recurrent model hears before a segment.")
    ] = 2.0,
    shard_mb: Annotated[
        float | None, typer.Option(help="Size of a shard, uncompressed, in megabytes; 100 by default.")
    ] = None,
    shard_items: Annotated[int | None, typer.Option(min=1, help="Pairs of a shard, in its place.")] = None,
    file_format: Annotated[str, typer.Option("--format", help="wav or flac.")] = "wav",
    subtype: Annotated[
        str | None, typer.Option(help="Sample type, e.g. PCM_16; the format's best by default.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use; all by default.")] = None,
) -> None:
    r"""Write pairs of dry and wet segments to train networks on.

    Models, segments, gains and knobs are drawn from a seed. The folder gets tar shards for WebDataset and a
    manifest in Parquet; a run that was killed goes on where it was. Needs pyarrow: pip install
    "backline\[dataset]".
    """
    from .. import load
    from ..dataset import write_dataset
    from ..library import is_audio_name
    from ..machine import cores

    gain_db, knobs = read_range("--gain-in", gain_in), read_knob_ranges(knob)
    models = [load(name, quality=quality) for name in files if not is_audio_name(name)]
    say([note for model in models for note in model.notes])
    how: dict[str, Any] = {"items": items, "hours": hours, "seed": seed, "segment_s": segment, "flip": flip}
    how |= {"gain_db": gain_db, "knobs": knobs, "warm_up_s": warm_up, "channels": channels}
    how |= {"shard_items": shard_items, "shard_mb": shard_mb, "file_format": file_format, "subtype": subtype}
    inputs = [name for name in files if is_audio_name(name)]
    with progress() as bar:
        on_progress = bar and functools.partial(bar, output)
        how |= {"overwrite": force, "threads": threads or len(cores()) or 1, "on_progress": on_progress}
        done = write_dataset(models, inputs, output, **how)
    tell(done)
    for error in done.errors:
        fail(error)
    if done.errors:
        raise typer.Exit(1)


def read_range(option: str, text: str) -> Range:
    """Two numbers with a colon between them, or one that is both."""
    low, colon, high = text.partition(":")
    try:
        found = float(low), float(high if colon else low)
    except ValueError:
        found = (math.nan, math.nan)
    if not (math.isfinite(found[0]) and math.isfinite(found[1]) and found[0] <= found[1]):
        raise typer.BadParameter(f"{option}: expected LOW:HIGH or one number, found {text!r}")
    return found


def read_knob_ranges(settings: list[str] | None) -> dict[str, Range]:
    """Names and bounds of ``--knob NAME=LOW:HIGH``, each name once."""
    found: dict[str, Range] = {}
    for setting in settings or ():
        name, _, text = setting.partition("=")
        if not name or name in found:
            what = f"{name} is set twice" if name else f"expected NAME=LOW:HIGH, found {setting!r}"
            raise typer.BadParameter(f"--knob: {what}")
        found[name] = read_range(f"--knob {name}", text)
    return found
