"""A Dask cluster on loopback: a scheduler and workers, each a process of its own, ended by its id."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

WAIT_SECONDS = 60.0
_QUIET = {"DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s", "DASK_LOGGING__DISTRIBUTED": "error"}


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Give something as long as a loaded machine may need, and fail if it does not come."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited {WAIT_SECONDS} s for {what}"
        time.sleep(0.02)


class Loopback:
    """A scheduler and some workers with one thread each, for as long as the ``with`` block.

    Parameters
    ----------
    folder : Path
        Where they run and keep what they need.
    workers : int
    nanny : bool
        Whether something starts a worker again that dies.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        *,
        nanny: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = folder / "scheduler.json"
        self.has_nannies = nanny
        self.processes: list[subprocess.Popen[bytes]] = []
        self._count = workers
        self.address = ""

    def __enter__(self) -> Loopback:
        try:
            self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
            wait_until(self._written, "the scheduler's address")
            for _ in range(self._count):
                self.add()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _written(self) -> bool:
        try:
            self.address = json.loads(self._file.read_text())["address"]
        except (OSError, ValueError):  # not there, or not all of it
            return False
        return True

    def add(self, *options: str) -> subprocess.Popen[bytes]:
        """One more worker."""
        nanny = "--nanny" if self.has_nannies else "--no-nanny"
        place = self.folder / "space"
        return self._start(
            *("worker", "--nthreads", "1", nanny, "--no-dashboard", "--host", "127.0.0.1"),
            *("--local-directory", str(place)),
            *options,
        )

    def _start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        log = open(self.folder / f"{kind}-{len(self.processes)}.log", "wb")  # noqa: SIM115
        process = subprocess.Popen(
            [*command, "--scheduler-file", str(self._file)],
            cwd=self.folder,
            env={**os.environ, **_QUIET},
            stdout=log,
            stderr=log,
        )
        log.close()
        self.processes.append(process)
        return process

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
