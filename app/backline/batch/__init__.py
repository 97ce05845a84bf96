"""Many renders, once each: jobs, the journal that knows which are done, and what runs them.

::

    manifest ─┐                 ┌─ journal   what is done, what was begun (SQLite, one process at a time)
    matrix ───┴─> jobs ─> runner┼─ plan      which of the jobs there is anything to do for
                                └─ work      one job: read, render, hash; runs in a thread, or elsewhere

What is at a URL is fetched and stored by `staged`; `cluster` has other machines do the work. No module here
knows of a command line. The runner's thread alone writes the journal and gives files their names;
`work.perform` takes and returns plain values, so that it can run in another process too.
"""

from __future__ import annotations

from ..choice import ModelChoice
from ..render import RenderOptions
from .events import Done, Event, Failed, Interrupted, Loaded, Progress, Skipped, Started, Stopped, Summary
from .jobs import Job, find_models, find_sources, matrix
from .journal import JOURNAL_NAME, Journal
from .plan import Planned, describe
from .runner import run

__all__ = [
    "JOURNAL_NAME",
    "Done",
    "Event",
    "Failed",
    "Interrupted",
    "Job",
    "Journal",
    "Loaded",
    "ModelChoice",
    "Planned",
    "Progress",
    "RenderOptions",
    "Skipped",
    "Started",
    "Stopped",
    "Summary",
    "describe",
    "find_models",
    "find_sources",
    "matrix",
    "run",
]
