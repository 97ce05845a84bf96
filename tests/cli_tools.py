"""What tests of the command line share: `backline` as a process of its own, and a terminal for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

CODE = "import sys; from backline.cli import main; sys.exit(main())"


def start(*arguments: object, **options) -> subprocess.Popen[str]:
    """`backline` as a process of its own."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen([sys.executable, "-c", CODE, *map(str, arguments)], **streams)


def on_terminal(*arguments: object, timeout: float = 120) -> tuple[int, str, bytes]:
    """Run it with a terminal as standard error: its status, its output, and what the terminal got."""
    pty = pytest.importorskip("pty", reason="needs terminals of a POSIX system")
    mother, child = pty.openpty()
    process = start(*arguments, stderr=child)
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells that the other end is closed
        while piece := os.read(mother, 4096):
            shown += piece
    os.close(mother)
    out, _ = process.communicate(timeout=timeout)
    return process.returncode, out, shown
