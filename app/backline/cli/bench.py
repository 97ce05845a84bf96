"""``backline bench``"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._common import ForceOption, JsonOption, QualityOption, say, tell
from ._screen import print_table

if TYPE_CHECKING:
    from ..bench import Result, Work

#: A block of a minute or so: whoever wants longer ones means something else.
_MOST_FRAMES = 1 << 22


def bench(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help="Model files, or names of shipped models; by default all of those."
        ),
    ] = None,
    block: Annotated[
        str, typer.Option(metavar="N[,N...]", help="Block sizes in frames.")
    ] = "16,32,64,128,256,1024",
    isa: Annotated[
        str | None,
        typer.Option(metavar="ISA[,ISA...]", help="Instruction sets; by default the machine's best."),
    ] = None,
    conv: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IN,OUT,K,D,GROUPS", help="A bare convolution, K taps D apart; repeat for more."
        ),
    ] = None,
    quality: QualityOption = 1.0,
    repeats: Annotated[int, typer.Option(min=1, help="Medians are over this many.")] = 7,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks to time one by one.")] = 5000,
    core: Annotated[int | None, typer.Option(min=0, help="Where to run; by default the last core.")] = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Time single blocks at real-time priority, if permitted.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw a .png, .svg or .pdf file.")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Measure how fast models run on one core, and what share of its arithmetic they make use of.

    The core's peak of multiply-adds is measured in between, in the same run. Speeds count the thread's own
    processor time, times of single blocks (us) the clock on the wall. A plot needs matplotlib: pip install
    "backline\[plot]".
    """
    from ..bench import measure
    from ..plot import check_target, plot_benchmarks

    sizes, isas = read_sizes(block), [part.strip() for part in isa.split(",")] if isa is not None else None
    if plot is not None:
        check_target(plot, overwrite=force)
    works = read_works(model, conv, quality)
    found = measure(works, isas, sizes, repeats, blocks, core, realtime)
    if plot is not None:
        plot_benchmarks(found, plot, overwrite=force)
    if as_json:
        print(json.dumps([each.as_dict() for each in found], indent=2, allow_nan=False))
    else:
        show(found, realtime)


def read_sizes(text: str) -> list[int]:
    """Block sizes of ``--block``, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= _MOST_FRAMES for part in parts):
        raise typer.BadParameter(
            f"--block: expected block sizes from 1 to {_MOST_FRAMES} with commas, found {text!r}"
        )
    return list(dict.fromkeys(map(int, parts)))


def read_works(models: Sequence[str] | None, convs: Sequence[str] | None, quality: float) -> list[Work]:
    """What is to be measured: models and layers as named, or else the shipped models."""
    from .. import library
    from ..bench import model_work, parse_conv

    names = models or ([] if convs else list(library.shipped()))
    return [*(model_work(name, quality) for name in names), *map(parse_conv, convs or ())]


_HEADINGS = (
    *("model", "isa", "block", "x real time", "GFLOP/s", "peak", "% of peak", "lowest to highest"),
    *("p50 us", "p99.9 us", "worst us", "worst/p50"),
)


def show(found: Sequence[Result], wanted_real_time: bool) -> None:
    """Print results for people."""
    first = found[0]
    where = "one thread" if first.core is None else f"one thread on core {first.core}"
    tell(
        f"{first.machine}, {where}; medians of {first.repeats} repeats, "
        f"{first.timed_blocks:,} single blocks each"
    )
    print_table(_HEADINGS, map(row, found), left=("model", "isa"))
    if wanted_real_time and not first.real_time:
        say(["real-time priority was not permitted; single blocks were timed without it"])
    share = min(each.core_share for each in found)
    if share < 0.98:
        others = f"others used up to {100.0 * (1.0 - share):.0f} % of the core"
        say([f"{others}: not counted, but it makes single blocks longer"])


def row(found: Result) -> list[str]:
    """A result's row in the table."""
    return [
        found.model,
        found.isa,
        str(found.block_frames),
        f"{found.times_real_time:.1f}",
        f"{found.gflops:.2f}",
        f"{found.peak_gflops:.1f}",
        f"{found.percent_of_peak:.1f}",
        f"{found.percent_of_peak_low:.1f} to {found.percent_of_peak_high:.1f}",
        f"{found.p50_us:.2f}",
        f"{found.p999_us:.2f}",
        f"{found.max_us:.2f}",
        f"{found.max_over_p50:.2f}",
    ]
