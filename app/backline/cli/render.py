"""``backline render``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._common import (
    CalibrateOption,
    ForceOption,
    KnobOption,
    LayersOption,
    ModelArgument,
    NoPrewarmOption,
    PrewarmOption,
    QualityOption,
    calibration_of,
    check_prewarm,
    fail,
    read_knobs,
    read_layers,
    say,
    sentence,
    tell,
)
from ._screen import progress

if TYPE_CHECKING:
    from ..render import RenderFailure, RenderReport


def render(
    model: ModelArgument,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Audio files.")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="A file for one input, a folder for several (or ending in /)."),
    ],
    force: ForceOption = False,
    quality: QualityOption = 1.0,
    file_format: Annotated[
        str | None, typer.Option("--format", help="Format in a folder: wav (default), flac, aiff ...")
    ] = None,
    subtype: Annotated[
        str | None, typer.Option(help="Sample type, e.g. PCM_16 or PCM_24; the format's best by default.")
    ] = None,
    prewarm: PrewarmOption = None,
    no_prewarm: NoPrewarmOption = False,
    layers: LayersOption = None,
    knob: KnobOption = None,
    gain_in: Annotated[float, typer.Option(help="dB before the model.")] = 0.0,
    gain_out: Annotated[float, typer.Option(help="dB after the model.")] = 0.0,
    calibrate: CalibrateOption = None,
) -> None:
    """Render audio files through a model.

    Writes 32-bit float WAV unless told otherwise; the output is as long as the input and in time with it.
    """
    from .. import load
    from ..engine import levelled
    from ..render import plan_targets, render_files

    warm = check_prewarm(prewarm, no_prewarm)
    pairs = plan_targets(inputs, output, file_format=check_format(output, inputs, file_format))
    options = {"layers": read_layers(layers), "knobs": read_knobs(knob)}
    loaded = load(model, quality=quality, prewarm=warm, **options)
    say(loaded.notes)
    before_db, after_db = calibration_of(loaded, calibrate)
    loaded = levelled(loaded, gain_in + before_db, gain_out + after_db)
    with progress() as on_progress:
        results = render_files(loaded, pairs, overwrite=force, subtype=subtype, on_progress=on_progress)
        failures = [show(result) for result in results].count(False)
    if failures:
        raise typer.Exit(1)


def show(result: RenderReport | RenderFailure) -> bool:
    """Print what became of a file; return whether it was rendered."""
    from ..render import RenderReport

    if isinstance(result, RenderReport):
        tell(result)
        return True
    fail(sentence(result.error))
    return False


def check_format(output: str, inputs: list[Path], file_format: str | None) -> str | None:
    """Refuse a format beside a file name, whose extension says it already."""
    one_file = len(inputs) == 1 and not output.endswith(("/", "\\")) and not Path(output).is_dir()
    if file_format is not None and one_file:
        raise typer.BadParameter(f"--format is for a folder; the extension of {output} says its format")
    return file_format
