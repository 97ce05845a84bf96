"""``backline plot``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._common import (
    ForceOption,
    KnobOption,
    LayersOption,
    QualityOption,
    read_knobs,
    read_layers,
    say,
    tell,
)


def plot(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL|STATS", help="A model, or what backline live --stats has written."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png, .svg or .pdf file.")],
    force: ForceOption = False,
    knob: KnobOption = None,
    quality: QualityOption = 1.0,
    layers: LayersOption = None,
) -> None:
    r"""Draw a model's frequency response at several levels, its transfer curve and its harmonics.

    For models of one channel. A file that backline live --stats has written is drawn as
    loads, wake-ups and xruns. Needs matplotlib: pip install "backline\[plot]".
    """
    from .. import load
    from ..live import pictures, stats_file
    from ..plot import plot as draw

    if stats_file.is_one(Path(model)):
        pictures.plot_callbacks(stats_file.load(Path(model)), output, overwrite=force)
        tell(f"{output}: loads, wake-ups and xruns of a session")
        return
    loaded = load(model, quality=quality, layers=read_layers(layers), knobs=read_knobs(knob))
    say(loaded.notes)
    draw(loaded, output, overwrite=force)
    tell(f"{output}: response, transfer curve and harmonics of {loaded.name}")
