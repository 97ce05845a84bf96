"""A JACK server of our own: jackd with its dummy driver, under a name that nobody else has."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WAIT_SECONDS = 20.0

#: Ends a server once whoever holds the other end of its input has gone: left behind by a run that was killed,
#: one would play on for ever, at real-time priority. First asked to, as one that is killed keeps its place in
#: a table of eight that all servers share.
_GUARD = 'cat > /dev/null; grep -qx jackd "/proc/$0/comm" && kill "$0" && sleep 5 && kill -9 "$0"'


class NoServer(Exception):
    """jackd, or what is needed to talk to it, is not there or does not start; says which."""


@dataclass
class Server:
    """A server that takes clients.

    Attributes
    ----------
    name : str
        What JACK_DEFAULT_SERVER has to be for a client to find it.
    process : subprocess.Popen
    real_time : bool
        Whether it and its clients run at real-time priority.
    driver : list of str
        Arguments of jackd.
    guard : subprocess.Popen
        Ends it should this process be killed.
    """

    name: str
    process: subprocess.Popen[bytes]
    real_time: bool
    driver: list[str]
    guard: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it without a warning."""
        self.process.kill()
        self.process.wait()
        _dismiss(self.guard)

    def restart(self) -> None:
        """Start it again under the same name; returns when it takes clients."""
        new = _started(self.name, self.driver)
        _dismiss(self.guard)
        self.process, self.real_time, self.guard = new.process, new.real_time, new.guard


@contextlib.contextmanager
def jack_server(rate_hz: int, period_frames: int) -> Iterator[Server]:
    """Run a server until the end of the block; at real-time priority where the system lets it."""
    name = f"backline-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    server = _started(name, ["-d", "dummy", "-r", str(rate_hz), "-p", str(period_frames)])
    try:
        yield server
    finally:
        if server.process.poll() is not None:
            # One that was killed keeps its place in a table of eight that all servers share; so let it end.
            server.restart()
        _end(server.process)
        _dismiss(server.guard)
        for left in Path("/dev/shm").glob(f"jack_*{name}*"):  # by clients that the server did not outlive
            left.unlink(missing_ok=True)


def _started(name: str, driver: list[str]) -> Server:
    for priority in (["-R", "-P", "60"], ["-r"]):
        try:
            process = subprocess.Popen(
                ["jackd", *priority, "-n", name, *driver],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "JACK_NO_AUDIO_RESERVATION": "1"},
            )
        except OSError as error:
            raise NoServer("jackd is not installed: apt install jackd2") from error
        guard = subprocess.Popen(
            ["sh", "-c", _GUARD, str(process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends this process may be meant for its whole group
        )
        try:
            if _takes_clients(process, name):
                return Server(name, process, "-R" in priority, driver, guard)
        except BaseException:
            _end(process)
            _dismiss(guard)
            raise
        _end(process)
        _dismiss(guard)
    raise NoServer("jackd does not start here")


def _takes_clients(process: subprocess.Popen[bytes], name: str) -> bool:
    """Wait until the server takes clients, or has given up."""
    try:
        import jack
    except (ImportError, OSError) as error:
        raise NoServer("the package JACK-Client is not installed: pip install JACK-Client") from error
    # What libjack says of servers that are not up yet.
    jack.set_error_function(lambda message: None)
    jack.set_info_function(lambda message: None)
    deadline = time.monotonic() + WAIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            jack.Client("probe", servername=name, no_start_server=True).close()
        except jack.JackOpenError:
            time.sleep(0.1)
        else:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    guard.kill()
    guard.communicate()
