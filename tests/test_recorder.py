"""Files that cannot be written any more while audio runs: what they have is kept."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from backline.audiofile import AudioWriter, read
from backline.errors import AudioFileError
from backline.live.recorder import Recorder, Sink

RATE_HZ = 48000
LIMIT_BYTES = 100_003  # ends within a frame


@contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """The system then refuses to write more, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Source:
    """What a capture ring hands out: `x`, in pieces of 1000 frames at most."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.at, self.ready, self.empty = x, 0, threading.Event(), threading.Event()

    def read(self, block: np.ndarray) -> int:
        if not self.ready.is_set():
            return 0
        frames = min(len(block), 1000, len(self.x) - self.at)
        block[:frames] = self.x[self.at : self.at + frames]
        self.at += frames
        if frames == 0:
            self.empty.set()
        return frames


def frames_of(path: Path) -> np.ndarray:
    assert read(path)[1] == RATE_HZ
    return read(path)[0]


@pytest.mark.parametrize("name", ["out.wav", "out.w64", "out.rf64", "out.aiff", "out.caf"])
@pytest.mark.parametrize("needed", [True, False])
def test_a_file_that_can_grow_no_more_keeps_what_it_has(tmp_path: Path, name: str, needed: bool) -> None:
    x = (0.2 * np.random.default_rng(0).standard_normal((60_000, 2))).astype(np.float32)
    path, said, source = tmp_path / name, [], Source(x)
    writer = AudioWriter(path, RATE_HZ, 2)
    with no_file_larger_than(LIMIT_BYTES):
        recorder = Recorder(source.read, 2, [Sink(writer)] if needed else [], said.append)
        if not needed:
            recorder.add(writer)
        source.ready.set()
        assert source.empty.wait(30.0)
        if needed:
            with pytest.raises(AudioFileError, match="cannot be written"):
                recorder.finish(len(x))
        else:
            recorder.finish(len(x))
    y = frames_of(path)
    assert len(y) >= 9000
    np.testing.assert_allclose(y, x[: len(y)], rtol=0, atol=2.0**-23)
    (sentence,) = said
    assert f"{path}: holds the" in sentence
    assert sentence.startswith("the recording has ended") is not needed
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_compressed_file_that_can_grow_no_more_keeps_all_but_its_end(tmp_path: Path) -> None:
    x = (0.2 * np.random.default_rng(0).standard_normal((60_000, 2))).astype(np.float32)
    path, said, source = tmp_path / "out.flac", [], Source(x)
    source.ready.set()
    with no_file_larger_than(LIMIT_BYTES):
        recorder = Recorder(source.read, 2, [Sink(AudioWriter(path, RATE_HZ, 2))], said.append)
        with pytest.raises(AudioFileError, match="cannot be written"):
            recorder.finish(len(x))
    assert said[0].endswith("and may be damaged at its end")
    frames = 0
    with soundfile.SoundFile(path) as file, contextlib.suppress(soundfile.SoundFileError):
        while len(y := file.read(100, dtype="float32", always_2d=True)):
            np.testing.assert_allclose(y, x[frames : frames + 100], rtol=0, atol=2.0**-23)
            frames += 100
    assert frames >= 9000


def test_a_file_without_a_frame_is_not_left(tmp_path: Path) -> None:
    source, said = Source(np.ones((5000, 1), np.float32)), []
    source.ready.set()
    writer = AudioWriter(tmp_path / "out.wav", RATE_HZ, 1)
    with no_file_larger_than(50):
        recorder = Recorder(source.read, 1, [Sink(writer)], said.append)
        with pytest.raises(AudioFileError):
            recorder.finish(5000)
    assert said == []
    assert list(tmp_path.iterdir()) == []
