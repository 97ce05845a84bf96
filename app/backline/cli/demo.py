"""``backline demo``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._common import ForceOption, tell


def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder for the two files; made if missing.")] = Path("."),
    play: Annotated[bool, typer.Option(help="Play them if there is a device.")] = True,
    force: ForceOption = False,
) -> None:
    """Hear a synthesised riff, dry and through a shipped model.

    Writes two files and plays them where there is a sound card.
    """
    from .. import demo as library_demo
    from .. import load

    made = library_demo.make(load(library_demo.MODEL), output_dir, overwrite=force)
    tell(f"dry: {made.dry}")
    tell(f"through {library_demo.MODEL}: {made.report}")
    if play:
        tell(library_demo.play(made))
