"""``backline convert``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._common import ForceOption, LayersOption, ModelArgument, QualityOption, read_layers, say
from .render import check_prewarm


def convert(
    model: ModelArgument,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, NAME.backline.")],
    force: ForceOption = False,
    quality: QualityOption = 1.0,
    prewarm: Annotated[
        int | None, typer.Option(min=0, help="Frames of silence to settle on; the model's own by default.")
    ] = None,
    no_prewarm: Annotated[bool, typer.Option("--no-prewarm", help="Start from zeros.")] = False,
    layers: LayersOption = None,
) -> None:
    """Write a model of any format as a .backline file, which loads without what made it."""
    from .. import load, save

    if output.suffix != ".backline":
        raise typer.BadParameter(f"expected a name ending in .backline, found {output}")
    warm = check_prewarm(prewarm, no_prewarm)
    loaded = load(model, quality=quality, prewarm=warm, layers=read_layers(layers))
    say(loaded.notes)
    save(loaded, output, overwrite=force)
    kept = load(output).graph
    print(f"{output}: {loaded.name}, {kept.parameter_count:,} parameters in {len(kept.nodes)} layers")
