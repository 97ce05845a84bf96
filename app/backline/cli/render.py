"""``backline render``"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._common import (
    CalibrateOption,
    ForceOption,
    KnobOption,
    LayersOption,
    NoPrewarmOption,
    PrewarmOption,
    QualityOption,
    check_prewarm,
    read_knobs,
    read_layers,
    say,
    tell,
)
from ._jobs import How, What, run_jobs
from ._screen import progress

if TYPE_CHECKING:
    from ..render import RenderReport


_MANY, _FILE = "Many files", "The files written"
_PART, _LEVEL = "What of the input", "Levels"


def render(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL INPUT...",
            help="A model, and audio files or folders (- is standard input). With --matrix, models too.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="A file for one input, a folder for several (or ending in /), - is stdout."
        ),
    ] = None,
    force: ForceOption = False,
    matrix: Annotated[
        bool,
        typer.Option(
            "--matrix",
            help="Every model over every input, into a folder; with a journal.",
            rich_help_panel=_MANY,
        ),
    ] = False,
    jobs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What to render, in TOML or CSV; with a journal.", rich_help_panel=_MANY
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help='Names in the folder: "{input}-{model}.flac"; also {index} {folder} {quality}.',
            rich_help_panel=_MANY,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", "-n", help="Say what would be written, and write nothing.", rich_help_panel=_MANY
        ),
    ] = False,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Knows what is done; with the outputs by default.", rich_help_panel=_MANY
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Read outputs again, and render those anew that are damaged.",
            rich_help_panel=_MANY,
        ),
    ] = False,
    quality: QualityOption = 1.0,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", help="In a folder: wav (default), flac ...; on stdout: au.", rich_help_panel=_FILE
        ),
    ] = None,
    subtype: Annotated[
        str | None,
        typer.Option(
            help="Sample type, e.g. PCM_16 or PCM_24; the format's best by default.", rich_help_panel=_FILE
        ),
    ] = None,
    no_dither: Annotated[
        bool, typer.Option("--no-dither", help="Round to fewer bits without dither.", rich_help_panel=_FILE)
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(help="Rate of the output in Hz; the input's by default.", rich_help_panel=_FILE),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            help="Of the input, from 1: 2, or 1,2, or 1+2 for their mean, or mono.", rich_help_panel=_PART
        ),
    ] = None,
    start: Annotated[float, typer.Option(help="Seconds into the input.", rich_help_panel=_PART)] = 0.0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of the input.", rich_help_panel=_PART)
    ] = None,
    tail: Annotated[
        float | None,
        typer.Option(
            help="Seconds after the input's end; as long as it sounds by default.", rich_help_panel=_PART
        ),
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="RATE,CHANNELS[,SUBTYPE[,ENDIAN]]", help="The input has no header.", rich_help_panel=_PART
        ),
    ] = None,
    prewarm: PrewarmOption = None,
    no_prewarm: NoPrewarmOption = False,
    layers: LayersOption = None,
    knob: KnobOption = None,
    gain_in: Annotated[float, typer.Option(help="dB before the model.", rich_help_panel=_LEVEL)] = 0.0,
    gain_out: Annotated[float, typer.Option(help="dB after the model.", rich_help_panel=_LEVEL)] = 0.0,
    gain: Annotated[float, typer.Option(help="dB after everything.", rich_help_panel=_LEVEL)] = 0.0,
    mix: Annotated[
        float, typer.Option(help="0 is the input as it is, 1 the model alone.", rich_help_panel=_LEVEL)
    ] = 1.0,
    normalize: Annotated[
        str | None,
        typer.Option(
            metavar="KIND[:LEVEL]", help="peak:-1 (dBFS) or lufs:-16 (LUFS).", rich_help_panel=_LEVEL
        ),
    ] = None,
    calibrate: CalibrateOption = None,
    null: Annotated[
        Path | None,
        typer.Option(metavar="REF", help="Say what is left when this file is subtracted; needs no -o."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use; all by default.")] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Dask cluster that does the work: tcp://host:8786.",
            rich_help_panel=_MANY,
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Of a job whose worker is lost.", rich_help_panel=_MANY)
    ] = 3,
) -> None:
    """Render audio files through a model, or through many.

    Writes 32-bit float WAV unless told otherwise. The output is in time with the input, as long as it, and
    then as long as it sounds. --matrix and --jobs do only what is missing or has changed.
    """
    from ..choice import ModelChoice
    from ..render import RenderOptions

    dither = not no_dither
    options = RenderOptions(
        subtype, rate, channels, start, duration, tail, gain, mix, normalize, dither=dither, raw=raw
    )
    settings = check_prewarm(prewarm, no_prewarm)
    choice = ModelChoice(
        "",
        quality,
        knobs=tuple(sorted(read_knobs(knob).items())),
        prewarm=None if settings is True else int(settings),
        layers=None if layers is None else json.dumps(read_layers(layers)),
        gain_in_db=gain_in,
        gain_out_db=gain_out,
        calibrate_dbu=calibrate,
    )
    what = What(files or [], output, matrix, jobs, name, file_format, choice, options, null)
    how = How(force, verify, dry_run, journal, threads, scheduler, retries)
    what.check(how)
    if what.is_single(how):
        render_single(what, how)
    else:
        run_jobs(what, how)


def render_single(what: What, how: How) -> None:
    """Render one file through one model, by all cores; or a pipe."""
    from ..choice import load
    from ..machine import cores
    from ..render import folders, plan_targets, render_file

    if how.verify or how.journal is not None or how.dry_run or how.scheduler is not None:
        raise typer.BadParameter("- and --null take no --journal, --verify, --dry-run or --scheduler")
    source, target = Path(what.files[1]), None
    if what.output is not None:
        check_format(what)
        ((source, target),) = plan_targets(what.files[1:], what.output, file_format=what.file_format)
    loaded = load(replace(what.choice, path=what.files[0]))
    say(loaded.notes)
    with progress(of_seconds=True) as shown, folders([] if target is None else [target.parent]):
        report = render_file(
            loaded.model,
            source,
            target,
            what.options,
            overwrite=how.force,
            threads=how.threads or len(cores()) or 1,
            file_format=what.file_format,
            null=what.null,
            on_progress=shown and functools.partial(shown, source),
        )
    show(report)


def show(report: RenderReport) -> None:
    """Print what became of a file; to stderr where standard output is the audio's."""
    lines = [str(report)]
    if report.null is not None:
        lines.append(f"{report.target}: {report.null}")
    for line in lines:
        say([line]) if str(report.target) == "-" else tell(line)


def check_format(what: What) -> None:
    """Refuse a format beside a file name, whose extension says it already."""
    output = what.output or ""
    one_file = not output.endswith(("/", "\\")) and not Path(output).is_dir()
    if what.file_format is not None and output != "-" and one_file:
        raise typer.BadParameter(f"--format is for a folder; the extension of {output} says its format")
