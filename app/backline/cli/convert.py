"""``backline convert``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._common import (
    ForceOption,
    KnobOption,
    LayersOption,
    ModelArgument,
    NoPrewarmOption,
    PrewarmOption,
    QualityOption,
    check_prewarm,
    read_knobs,
    read_layers,
    say,
    tell,
)


def convert(
    model: ModelArgument,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, NAME.backline.")],
    force: ForceOption = False,
    knob: KnobOption = None,
    quality: QualityOption = 1.0,
    prewarm: PrewarmOption = None,
    no_prewarm: NoPrewarmOption = False,
    layers: LayersOption = None,
) -> None:
    """Write a model of any format as a .backline file, which loads without what made it.

    What is chosen here is what the file holds: a size, the silence it settles on, where its knobs stand.
    """
    from .. import load, save

    if output.suffix != ".backline":
        raise typer.BadParameter(f"expected a name ending in .backline, found {output}")
    warm = check_prewarm(prewarm, no_prewarm)
    options = {"layers": read_layers(layers), "knobs": read_knobs(knob)}
    loaded = load(model, quality=quality, prewarm=warm, **options)
    say(loaded.notes)
    save(loaded, output, overwrite=force)
    kept = load(output).graph
    tell(f"{output}: {loaded.name}, {kept.parameter_count:,} parameters in {len(kept.nodes)} layers")
