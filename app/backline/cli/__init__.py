"""The command `backline`: parses, calls the library, prints.

Nothing heavy is imported before a command runs, so that help and completion come at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ._common import guarded, run
from .bench import bench
from .compare import compare
from .convert import convert
from .dataset import dataset
from .demo import demo
from .devices import devices
from .doctor import doctor
from .info import info
from .latency import latency
from .live import live
from .plot import plot
from .render import render
from .verify import verify

app = typer.Typer(
    name="backline",
    help="Neural amplifier models, live and over files.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    *(render, dataset, live, info, verify, compare, plot, convert),
    *(bench, devices, latency, doctor, demo),
):
    app.command()(guarded(_command))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"backline {version('backline')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _backline(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        What follows the command's name; the process's own by default.

    Returns
    -------
    int
        The exit status.
    """
    return run(app, arguments)
