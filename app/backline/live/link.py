"""The supervisor's end of a worker: starting the process, waiting for answers, and killing it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Any

from .. import errors
from ..errors import BacklineError, DeviceError
from .messages import Closed, Failed, Message, Pipe, Stop, Stopped

_STOP_SECONDS = 3.0
_SEND_SECONDS = 65  # a worker does not read while it compiles, which may take it a minute
_LAST_WORDS_BYTES = 2000


class Link:
    """A worker process and the pipe to it.

    The process is out of reach of the terminal's signals, and ends when the pipe is closed.

    Raises
    ------
    BacklineError
        The process cannot be started.
    """

    def __init__(self) -> None:
        try:
            with contextlib.ExitStack() as made:
                self._start(made)
                self._owned = made.pop_all()
        except OSError as error:
            raise BacklineError(f"the process for live sound cannot be started: {error.strerror}") from error

    def _start(self, made: contextlib.ExitStack) -> None:
        """Start the process; `made` closes what stays here, the rest is closed here on return."""
        with contextlib.ExitStack() as theirs:
            self.pipe, pipe = Pipe.pair()
            made.callback(self.pipe.close)
            theirs.enter_context(pipe)
            self.pipe.set_patience(_SEND_SECONDS)
            # Nobody ever writes to it: it ends with this process, and tells the worker so.
            life, mine = os.pipe()
            made.callback(os.close, mine)
            theirs.callback(os.close, life)
            self._log: IO[bytes] = made.enter_context(tempfile.TemporaryFile())
            # The same modules as here, wherever they were found; none of those that lie in the user's folder.
            places = os.pathsep.join(place for place in sys.path if place)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "backline.live.worker", str(pipe.fileno()), str(life)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=[pipe.fileno(), life],
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": places, "PYTHONSAFEPATH": "1"},
            )

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message; raises `DeviceError` if the worker has gone, or does not read any more."""
        try:
            self.pipe.send(message, descriptors)
        except Closed as error:
            raise DeviceError(self._obituary()) from error

    def poll(self) -> Message | None:
        """The next message if one is there; raises `DeviceError` if the worker has gone."""
        return self._receive(0.0)

    def wait(self, kind: Any, seconds: float, doing: str) -> Any:
        """Wait for an answer of this kind, or of one of these; others that come meanwhile are dropped.

        Raises
        ------
        BacklineError
            What the worker says went wrong, as the exception it was there; `DeviceError` if it does not
            answer in time, or has gone.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self._receive(left)
            if isinstance(message, kind):
                return message
            if isinstance(message, Failed):
                raise error_of(message)
            if isinstance(message, Stopped):
                raise DeviceError(message.why or "the device has stopped")
        raise DeviceError(f"{doing}: no answer for {seconds:g} s")

    def _receive(self, seconds: float) -> Message | None:
        try:
            got = self.pipe.receive(seconds)
        except Closed as error:
            raise DeviceError(self._obituary()) from error
        return None if got is None else got[0]

    def _obituary(self) -> str:
        """Why the worker has gone, as far as it is known."""
        self._wait_for_end(1.0)
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _LAST_WORDS_BYTES))
        words = self._log.read().decode(errors="replace").strip().splitlines()
        status = self.process.returncode
        how = "does not answer" if status is None else f"ended with status {status}"
        if status is not None and status < 0:
            how = f"was killed by signal {-status}"
        # Only a crash says something about itself; what sound servers print is not about it.
        last = f" ({words[-1]})" if words and status == 1 else ""
        return f"the process for live sound {how}{last}"

    def stop(self) -> None:
        """Let the device stop and the worker end; one that does not is killed."""
        self.pipe.set_patience(_STOP_SECONDS)
        with contextlib.suppress(BacklineError):
            self.send(Stop())
            self.wait(Stopped, _STOP_SECONDS, "stopping the device")
            self._wait_for_end(_STOP_SECONDS)
        self.kill()

    def _wait_for_end(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def end(self) -> None:
        """End the worker whatever it does; the pipe stays, and says so to whoever sends."""
        self.process.kill()
        self.process.wait()

    def kill(self) -> None:
        """End the worker and close the pipe to it; more than once is fine."""
        self.end()
        self._owned.close()


def error_of(message: Failed) -> BacklineError:
    """The exception that a worker had."""
    kind = getattr(errors, message.kind, BacklineError)
    made: BacklineError = kind(message.text)
    return made
