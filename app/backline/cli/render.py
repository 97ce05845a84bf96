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
    from ..engine import Model
    from ..render import RenderFailure, RenderReport


def render(
    model: ModelArgument,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Audio files; - is standard input.")],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A file for one input, a folder for several (or ending in /), - is stdout."
        ),
    ],
    force: ForceOption = False,
    quality: QualityOption = 1.0,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="In a folder: wav (default), flac ...; on stdout: au."),
    ] = None,
    subtype: Annotated[
        str | None, typer.Option(help="Sample type, e.g. PCM_16 or PCM_24; the format's best by default.")
    ] = None,
    no_dither: Annotated[
        bool, typer.Option("--no-dither", help="Round to fewer bits without dither.")
    ] = False,
    rate: Annotated[
        int | None, typer.Option(help="Rate of the output in Hz; the input's by default.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Of the input, from 1: 2, or 1,2, or 1+2 for their mean, or mono.")
    ] = None,
    start: Annotated[float, typer.Option(help="Seconds into the input.")] = 0.0,
    duration: Annotated[float | None, typer.Option(help="Seconds of the input.")] = None,
    tail: Annotated[
        float | None, typer.Option(help="Seconds after the input's end; as long as it sounds by default.")
    ] = None,
    raw: Annotated[
        str | None, typer.Option(metavar="RATE,CHANNELS[,SUBTYPE[,ENDIAN]]", help="The input has no header.")
    ] = None,
    prewarm: PrewarmOption = None,
    no_prewarm: NoPrewarmOption = False,
    layers: LayersOption = None,
    knob: KnobOption = None,
    gain_in: Annotated[float, typer.Option(help="dB before the model.")] = 0.0,
    gain_out: Annotated[float, typer.Option(help="dB after the model.")] = 0.0,
    gain: Annotated[float, typer.Option(help="dB after everything.")] = 0.0,
    mix: Annotated[float, typer.Option(help="0 is the input as it is, 1 the model alone.")] = 1.0,
    normalize: Annotated[
        str | None, typer.Option(metavar="KIND[:LEVEL]", help="peak:-1 (dBFS) or lufs:-16 (LUFS).")
    ] = None,
    calibrate: CalibrateOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use; all by default.")] = None,
) -> None:
    """Render audio files through a model.

    Writes 32-bit float WAV unless told otherwise. The output is in time with the input, as long as it, and
    then as long as it sounds.
    """
    from ..audiofile import RawFormat
    from ..engine import levelled
    from ..machine import cores
    from ..render import RenderOptions, plan_targets, render_files

    options = RenderOptions(
        subtype, rate, channels, start, duration, tail, gain, mix, normalize, dither=not no_dither
    )
    pairs = plan_targets(inputs, output, file_format=check_format(output, inputs, file_format))
    loaded = _loaded(model, quality, check_prewarm(prewarm, no_prewarm), layers, knob)
    before_db, after_db = calibration_of(loaded, calibrate)
    loaded = levelled(loaded, gain_in + before_db, gain_out + after_db)
    stored = None if raw is None else RawFormat.parse(raw)
    with progress() as on_progress:
        results = render_files(
            loaded,
            pairs,
            options,
            overwrite=force,
            threads=threads or len(cores()) or 1,
            raw=stored,
            file_format=file_format,
            on_progress=on_progress,
        )
        failures = [show(result) for result in results].count(False)
    if failures:
        raise typer.Exit(1)


def _loaded(
    model: str, quality: float, prewarm: bool | int, layers: Path | None, knob: list[str] | None
) -> Model:
    from .. import load

    loaded = load(model, quality=quality, prewarm=prewarm, layers=read_layers(layers), knobs=read_knobs(knob))
    say(loaded.notes)
    return loaded


def show(result: RenderReport | RenderFailure) -> bool:
    """Print what became of a file; return whether it was rendered."""
    from ..render import RenderReport

    if isinstance(result, RenderReport):
        if str(result.target) == "-":
            say([str(result)])  # standard output is the audio's
        else:
            tell(result)
        return True
    fail(sentence(result.error))
    return False


def check_format(output: str, inputs: list[str], file_format: str | None) -> str | None:
    """Refuse a format beside a file name, whose extension says it already."""
    if output == "-":
        return file_format
    one_file = len(inputs) == 1 and not output.endswith(("/", "\\")) and not Path(output).is_dir()
    if file_format is not None and one_file:
        raise typer.BadParameter(f"--format is for a folder; the extension of {output} says its format")
    return file_format
