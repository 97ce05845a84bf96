"""``backline verify``"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from ._common import (
    JsonOption,
    KnobOption,
    LayersOption,
    ModelArgument,
    QualityOption,
    fail,
    read_knobs,
    read_layers,
    say,
    tell,
)
from ._screen import print_table

if TYPE_CHECKING:
    from ..verify import Comparison, Verification


def verify(
    model: ModelArgument,
    isa: Annotated[
        list[str] | None,
        typer.Option(help="Instruction set, e.g. scalar or avx2; repeat for more. All there are by default."),
    ] = None,
    knob: KnobOption = None,
    quality: QualityOption = 1.0,
    layers: LayersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the engine with the formulas in double precision, and with the tests a model's file carries.

    Prints the error in dB below what was expected. Status 1 if it is more than rounding explains.
    """
    from .. import load
    from .. import verify as library

    loaded = load(model, quality=quality, layers=read_layers(layers), knobs=read_knobs(knob))
    found = library.verify(loaded.graph, isa)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2, allow_nan=False))
    else:
        show(found)
    if not found.passed:
        fail(failure(found))
        raise typer.Exit(1)


def show(found: Verification) -> None:
    """Print a verification for people."""
    from ..verify import LIMIT_DB, LIMIT_OF_PEAK

    isas = list(found.same_in_blocks)
    tell(
        f"{found.model}: {found.frames:,} frames of test signal, "
        f"after {found.settled_on_frames:,} frames of silence"
    )
    say(found.notes)
    with_knobs = any(each.knobs for each in found.comparisons)
    headings = ["signal", *["knobs"] * with_knobs, *isas, "largest error", ""]
    table = rows(found.comparisons, with_knobs)
    print_table(headings, table, left=("signal", "knobs", ""))
    print(f"ok: at least {-LIMIT_DB:g} dB below the signal, or never more than {LIMIT_OF_PEAK:g} of its peak")
    print(f"in blocks of random sizes: {_blocks(found)}")
    if not found.self_tests:
        print("the file carries no test of its own")


def rows(comparisons: Iterable[Comparison], with_knobs: bool) -> list[list[str]]:
    """A row for each signal and setting of the knobs, with a cell for each instruction set."""
    by_signal: dict[tuple[str, str], list[Comparison]] = {}
    for each in comparisons:
        knobs = ", ".join(f"{name}={value:g}" for name, value in each.knobs.items())
        by_signal.setdefault((each.signal, knobs), []).append(each)
    return [
        [
            signal,
            *[knobs] * with_knobs,
            *map(_error, each),
            _largest(each),
            "ok" if all(c.passed for c in each) else "FAILED",
        ]
        for (signal, knobs), each in by_signal.items()
    ]


def failure(found: Verification) -> str:
    """What is wrong, in a sentence."""
    failed = [c for c in found.comparisons if not c.passed]
    where = [
        f"{isa}: {', '.join(sorted({c.signal for c in each}))}"
        for isa, each in groupby(sorted(failed, key=lambda c: c.isa), key=lambda c: c.isa)
    ]
    where += [f"{isa}: blocks" for isa, same in found.same_in_blocks.items() if not same]
    return f"{found.model}: more than rounding is wrong ({'; '.join(where)})"


def _error(comparison: Comparison) -> str:
    if comparison.error_db is not None:
        return f"{comparison.error_db:.1f} dB"
    if comparison.largest is None:
        return "unusable"
    return "exact" if comparison.largest == 0.0 else "silent"


def _largest(comparisons: Iterable[Comparison]) -> str:
    sizes = [c.largest for c in comparisons]
    return "unusable" if None in sizes else f"{max(size for size in sizes if size is not None):.1e}"


def _blocks(found: Verification) -> str:
    differing = [isa for isa, same in found.same_in_blocks.items() if not same]
    return "the same bits as in one call" if not differing else f"OTHER bits on {', '.join(differing)}"
