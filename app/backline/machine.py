"""The machine a figure is measured on: its name, and a thread kept on one core of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BacklineError

#: What `real_time` asks for: above what a desktop runs, below what the kernel's own threads have.
PRIORITY = 60


def processor() -> str:
    """Name of the processor, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def cores() -> list[int]:
    """Cores this thread may run on, in order; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def pinned(core: int | None = None) -> Iterator[int | None]:
    """Keep this thread on one core; on the way out it may run where it could before.

    Parameters
    ----------
    core : int, optional
        By default the last of those allowed: the first ones serve more interrupts.

    Yields
    ------
    int or None
        The core; None where the system pins no threads.

    Raises
    ------
    BacklineError
        The thread may not run on that core.
    """
    allowed = cores()
    if not allowed:
        yield None
        return
    chosen = allowed[-1] if core is None else core
    if chosen not in allowed:
        usable = ", ".join(map(str, allowed))
        raise BacklineError(f"core {chosen} is not available; this process may use {usable}")
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def real_time(wanted: bool = True) -> Iterator[bool]:
    """Run this thread before all ordinary ones (SCHED_FIFO), where the system permits it.

    Yields
    ------
    bool
        Whether it does.
    """
    try:
        if not wanted:
            raise PermissionError
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except (AttributeError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, *before)
