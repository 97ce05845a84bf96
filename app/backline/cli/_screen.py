"""What is drawn on a terminal: tables, progress bars; the sole importer of rich, lazily.

All text is taken literally: what a model or a device says of itself may hold brackets, which rich would take
for styles.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ._common import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from ._tally import Tally

_ENDLESS_CELLS = 10_000
#: What is folded stays at least so wide.
_FOLDED_CELLS = 12


def print_pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Print what and value, a row each; long values are folded on a terminal only."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    _print_rows(table, rows)


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: Iterable[str],
    short: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Print rows under their headings, to the right but for the columns named in `left`.

    On a terminal without room for that, headings are those of `short`, and what is to the left is folded;
    elsewhere a row is a line.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    to_the_left, listed = set(left), [list(row) for row in rows]
    narrow = sys.stdout.isatty() and _cells(headings, listed) > Console().width
    least_cells = 2 * (len(headings) - 1)
    for index, heading in enumerate(headings):
        is_left = heading in to_the_left
        justify: Any = "left" if is_left else "right"
        shown = short.get(heading, heading) if narrow else heading
        widest = max(len(shown), *(len(row[index]) for row in listed), 0)
        least = min(widest, _FOLDED_CELLS) if is_left else widest
        table.add_column(shown, overflow="fold", justify=justify, no_wrap=not is_left, min_width=least)
        least_cells += least
    _print_rows(table, listed, least_cells)


def _cells(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How wide a table is: its columns are two cells apart."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1)


def _print_rows(table: Table, rows: Iterable[Sequence[str]], least_cells: int = 0) -> None:
    """Print a table as wide as the terminal, but never so narrow that numbers would lose digits."""
    from rich.console import Console
    from rich.text import Text

    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    if sys.stdout.isatty():
        Console(width=max(Console().width, least_cells)).print(table)
        return
    console = Console(width=_ENDLESS_CELLS)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))


def _bars(*columns: Any) -> Any:
    """Bars on stderr, which a terminal is known to be."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        # rich would send what is printed meanwhile to the bar's console: right only if both are the terminal.
        redirect_stdout=sys.stdout.isatty(),
    )


class JobBars:
    """A line that says how far a run of many renders is; draws nothing without a bar."""

    def __init__(self, bar: Any = None, total: int = 0) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("", total=total)

    def show(self, tally: Tally) -> None:
        """Draw the state of a run."""
        if self._bar is not None:
            self._bar.update(self._task, completed=tally.ended, description=str(tally))


@contextlib.contextmanager
def job_bars(total: int) -> Iterator[JobBars]:
    """Show a bar for a number of jobs on stderr, and nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield JobBars()
        return
    from rich.progress import BarColumn, TextColumn

    with _bars(BarColumn(), TextColumn("{task.percentage:3.0f} %  {task.description}")) as bar:
        yield JobBars(bar, total)


@contextlib.contextmanager
def progress(*, of_seconds: bool = False) -> Iterator[Callable[[Path, float, float | None], None] | None]:
    """Show a bar on stderr while a file is worked on, and nothing where stderr is no terminal.

    Parameters
    ----------
    of_seconds : bool
        What is done is seconds of audio, so that times real time can be said.

    Yields
    ------
    callable or None
        To be called with the file, what is done, and in all; None where that is not known.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    name, percent = TextColumn("{task.description}", markup=False), TextColumn("{task.percentage:3.0f} %")
    with _bars(name, BarColumn(), percent, TimeRemainingColumn()) as bar:
        tasks: dict[Path, Any] = {}
        start = time.monotonic()

        def advance(path: Path, done: float, total: float | None) -> None:
            if path not in tasks:
                tasks[path] = bar.add_task(path.name, total=total)
            shown = path.name
            if of_seconds and (elapsed := time.monotonic() - start) > 0.0:
                shown = f"{path.name}  {done / elapsed:.0f} times real time"
            bar.update(tasks[path], completed=done, description=shown, visible=total is None or done < total)

        yield advance
