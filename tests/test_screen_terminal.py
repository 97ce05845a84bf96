"""``backline live`` on a terminal: the screen comes, obeys keys and signals, and leaves all as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from live_tools import RATE_HZ, write_take

from backline.audiofile import read

PATIENCE_SECONDS = 60.0
#: What switches to a screen of its own and back.
ENTERS, LEAVES = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """A terminal of 100 x 30 and a command that runs on it."""

    def __init__(self, ours: int, theirs: int, process: subprocess.Popen[bytes]) -> None:
        self.ours, self.theirs, self.process = ours, theirs, process
        self.seen = b""
        self.gone = False

    def wait_for(self, what: bytes) -> None:
        """Read until something has been shown."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while what not in self.seen:
            self._read()
            assert time.monotonic() < deadline, f"never came: {what!r} in {self.seen[-2000:]!r}"

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def hang_up(self) -> None:
        """Go, as a terminal does when its window is closed."""
        os.close(self.ours)
        self.gone = True

    def end(self) -> tuple[int, str]:
        """Wait for the command's end; status, and what it has said without a screen."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            self._read()
            assert time.monotonic() < deadline, f"does not end: {self.seen[-2000:]!r}"
        while self._read():
            pass
        assert self.seen.count(ENTERS) == self.seen.count(LEAVES)
        said = self.seen.rpartition(LEAVES)[2].decode()
        return self.process.returncode, re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", said)

    def _read(self) -> bool:
        if not select.select([self.ours], [], [], 0.1)[0]:
            return False
        self.seen += os.read(self.ours, 65536)
        return True


@contextmanager
def live(
    *arguments: object, folder: Path, first: str = "", stderr: int | None = None, term: str = "xterm"
) -> Iterator[Terminal]:
    """`backline live` on a terminal, which is as it was in the end; `first` runs before it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(theirs)
    # It is the terminal of the command's session, which is told when the terminal goes.
    code = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    code += f"{first}\nimport sys; from backline.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "live", *map(str, arguments), "--device", "clock"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs if stderr is None else stderr,
        env={**os.environ, "TERM": term},
        start_new_session=True,
    )
    terminal = Terminal(ours, theirs, process)
    try:
        yield terminal
        assert terminal.gone or termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        if not terminal.gone:
            os.close(ours)


@pytest.mark.parametrize("key", ["q", "\x03"], ids=["q", "ctrl+c"])
def test_keys_end_it(tmp_path, key):
    with live("overdrive", folder=tmp_path) as terminal:
        terminal.wait_for(b"playing")
        terminal.press(key)
        status, said = terminal.end()
    assert status == 0
    assert re.search(r"^Backline overdrive: [\d.]+ s on clock at 48000 Hz", said, re.MULTILINE)
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_and_what_was_recorded_is_whole(tmp_path, number):
    with live("overdrive", folder=tmp_path) as terminal:
        terminal.wait_for(b"playing")
        terminal.press("r")
        terminal.wait_for(b"backline-2")
        terminal.process.send_signal(number)
        status, said = terminal.end()
    (recording,) = tmp_path.glob("backline-*.wav")
    assert status == 0
    assert recording.name in said.replace("\r\n", "")
    assert "s on clock at 48000 Hz" in said
    assert len(read(recording)[0]) > 0


def test_it_ends_by_itself_in_time(tmp_path):
    with live("overdrive", "--seconds", 1, folder=tmp_path) as terminal:
        terminal.wait_for(ENTERS)
        status, said = terminal.end()
    assert status == 0
    assert "s on clock at 48000 Hz" in said


def test_it_ends_with_its_take_and_says_again_what_the_screen_said(tmp_path):
    x = np.zeros((44100, 1), np.float32)
    take = write_take(tmp_path / "take.wav", x, 44100)
    with live("overdrive", "--from", take, "--to", "out.wav", folder=tmp_path) as terminal:
        terminal.wait_for(ENTERS)
        status, said = terminal.end()
    assert status == 0
    # On the screen, and after it.
    note = f"resampled from 44100 to {RATE_HZ} Hz"
    assert note in said.replace("\r\n", "")
    assert "resampled" in terminal.seen.partition(LEAVES)[0].decode()
    assert (tmp_path / "out.wav").exists()


FAILING = """
from backline.errors import AudioFileError
from backline.live.session import LiveSession

def is_over(self, seconds=None):
    if self.status().seconds > 0.3:
        raise AudioFileError("out.wav: no space left")
    return False

LiveSession.is_over = is_over
"""


def test_what_makes_it_impossible_is_a_sentence_after_the_screen(tmp_path):
    with live("overdrive", folder=tmp_path, first=FAILING) as terminal:
        terminal.wait_for(ENTERS)
        status, said = terminal.end()
    assert status == 1
    assert "backline: error: out.wav: no space left" in said
    assert "Traceback" not in said


def test_a_terminal_that_goes_ends_it_and_what_was_recorded_is_whole(tmp_path):
    with live("overdrive", folder=tmp_path) as terminal:
        terminal.wait_for(b"playing")
        terminal.press("r")
        terminal.wait_for(b"backline-2")
        terminal.hang_up()
        terminal.process.wait(PATIENCE_SECONDS)
    (recording,) = tmp_path.glob("backline-*.wav")
    assert len(read(recording)[0]) > 0


@pytest.mark.parametrize("how", ["a pipe for stderr", "a dumb terminal"])
def test_without_a_screen_it_is_a_line_a_second(tmp_path, how):
    with open(tmp_path / "stderr", "wb") as file:
        stderr = file.fileno() if how == "a pipe for stderr" else None
        term = "dumb" if stderr is None else "xterm"
        with live("overdrive", "--seconds", 1.5, folder=tmp_path, stderr=stderr, term=term) as terminal:
            status, said = terminal.end()
    assert status == 0
    assert ENTERS not in terminal.seen
    assert ENTERS not in (tmp_path / "stderr").read_bytes()
    assert "s on clock at 48000 Hz" in said
