"""`backline render` between pipes."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import soundfile
from graphs import array

import backline
from backline.audiofile import AudioWriter, RawFormat, decoded, encoded
from backline.errors import AudioFileError
from backline.graph import Graph
from backline.layers import Conv1d, Lstm

FLOAT_AU = struct.Struct(">4s5I")


def noise(frames: int, channels: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(frames).standard_normal((frames, channels))).astype(np.float32)


def au(x: np.ndarray, size: int = 0xFFFFFFFF, annotation: bytes = b"") -> bytes:
    head = FLOAT_AU.pack(b".snd", 24 + len(annotation), size, 6, 48000, x.shape[1])
    return head + annotation + x.astype(">f4").tobytes()


def run(*arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "backline", "render", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, timeout=120, check=False)


def from_au(data: bytes) -> np.ndarray:
    magic, offset, size, code, rate_hz, channels = FLOAT_AU.unpack(data[:24])
    assert (magic, size, code, rate_hz) == (b".snd", 0xFFFFFFFF, 6, 48000)
    return np.frombuffer(data[offset:], ">f4").reshape(-1, channels).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[backline.Model, Path]:
    path = tmp_path_factory.mktemp("model") / "filter.backline"
    backline.save(backline.conv1d(np.ones((1, 1, 9)) / 9), path)
    return backline.load(path), path


@pytest.fixture(scope="module")
def lstm(tmp_path_factory) -> tuple[backline.Model, Path]:
    path = tmp_path_factory.mktemp("model") / "lstm.backline"
    cells = Lstm("cells", "input", array(1, 16, 1), array(2, 16, 4), array(3, 16))
    head = Conv1d("out", "cells", array(4, 1, 4, 1), None)
    backline.save(backline.Model(Graph((cells, head), "input", 1, "out", name="lstm")), path)
    return backline.load(path), path


@pytest.mark.parametrize("frames", [1, 40000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("form", ["au", "au with its size", "annotated au", "wav", "flac"])
def test_from_a_pipe_to_a_pipe(model, form, frames, channels):
    x = noise(frames, channels)
    if form.endswith("au"):
        data = au(x, annotation=b"made by hand" if form == "annotated au" else b"")
    elif form == "au with its size":
        data = au(x, 4 * x.size) + b"what follows is no audio"
    else:
        buffer = io.BytesIO()
        soundfile.write(buffer, x, 48000, format=form, subtype="PCM_24" if form == "flac" else "FLOAT")
        data = buffer.getvalue()
        x = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
    done = run(model[1], "-", "-o", "-", "--tail", "0", data=data)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(from_au(done.stdout), model[0](x))
    assert done.stderr.startswith(b"backline: -: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(("subtype", "dtype"), [("PCM_16", "<i2"), ("PCM_32", "<i4"), ("DOUBLE", "<f8")])
def test_raw_samples(model, subtype, dtype):
    x = noise(5000, 2)
    data = (x if dtype == "<f8" else x * 2.0 ** (8 * int(dtype[-1]) - 1)).astype(dtype).tobytes()
    raw = RawFormat(48000, 2, subtype)
    done = run(
        *(model[1], "-", "-o", "-", "--tail", "0", "--format", "raw", "--subtype", "float"),
        *("--raw", f"48000,2,{subtype}"),
        data=data,
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.frombuffer(done.stdout, "<f4").reshape(-1, 2), model[0](decoded(data, raw)))


def test_a_raw_file(model, tmp_path):
    x = noise(1000)
    (tmp_path / "in.raw").write_bytes(x.astype("<f4").tobytes())
    done = run(model[1], tmp_path / "in.raw", "-o", tmp_path / "out.raw", "--raw", "48000,1", "--tail", "0")
    assert done.returncode == 0, done.stderr
    found = np.fromfile(tmp_path / "out.raw", "<f4")
    assert np.array_equal(found, model[0](x)[:, 0])


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16"])
def test_other_formats_go_through_a_file(model, tmp_path, subtype):
    """What arrives is the file to the last byte, and the report goes elsewhere."""
    x = noise(3000, 2)
    options = ["--tail", "0", "--subtype", subtype]
    done = run(model[1], "-", "-o", "-", "--format", "wav", *options, data=au(x))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(b"backline: -: 0.06 s, ")
    with AudioWriter(tmp_path / "in.wav", 48000, 2) as writer:
        writer.write(x)
    assert run(model[1], tmp_path / "in.wav", "-o", tmp_path / "out.wav", *options).returncode == 0
    assert done.stdout == (tmp_path / "out.wav").read_bytes()
    found, rate_hz = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    assert rate_hz == 48000
    assert np.abs(found - model[0](x)).max() <= (0.0 if subtype == "FLOAT" else 1.5 * 2.0**-15)


@contextlib.contextmanager
def running(*arguments: object, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A render between pipes, which is ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backline", "render", *map(str, arguments)],
        env={**os.environ, **env},
        **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@pytest.mark.parametrize("threads", [[], ["--threads", "1"], ["--threads", "4"]])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("recurrent", [False, True])
def test_what_comes_slowly_is_rendered_while_it_comes(model, lstm, recurrent, channels, threads):
    """All that has come is answered before more comes."""
    made, path = lstm if recurrent else model
    x = noise(20000, channels)
    expected = made(x)
    with running(path, "-", "-o", "-", "--tail", "0", *threads) as process:
        process.stdin.write(au(x[:0]))
        for start in range(0, len(x), 5000):
            # Less than a pipe holds: this never waits for the other end.
            process.stdin.write(x[start : start + 5000].astype(">f4").tobytes())
            process.stdin.flush()
            if start == 0:
                assert from_au(process.stdout.read(24)).size == 0
            data = process.stdout.read(4 * 5000 * channels)
            found = np.frombuffer(data, ">f4").reshape(-1, channels)
            assert np.array_equal(found, expected[start : start + 5000])
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(60) == 0


@pytest.mark.parametrize("arguments", [[], ["--format", "wav"], ["--normalize", "peak:-1"]])
@pytest.mark.parametrize("reads", [0, 100])
def test_a_reader_that_goes_is_no_error(model, arguments, reads, tmp_path):
    with running(model[1], "-", "-o", "-", *arguments, TMPDIR=str(tmp_path)) as process:
        feeder = threading.Thread(target=feed, args=(process.stdin, au(noise(400000))))
        feeder.start()
        if reads:
            assert len(process.stdout.read(reads)) == reads
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1
        feeder.join()
    assert os.listdir(tmp_path) == []


def feed(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.write(data)
        pipe.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", ["au", "wav"])
def test_stopped_in_the_middle_nothing_is_left(model, tmp_path, form, number):
    x = noise(5000)
    with running(model[1], "-", "-o", "-", "--format", "wav", TMPDIR=str(tmp_path)) as process:
        buffer = io.BytesIO()
        soundfile.write(buffer, x, 48000, format="WAV")
        process.stdin.write(au(x) if form == "au" else buffer.getvalue())
        process.stdin.flush()
        while not list(tmp_path.glob("backline-*/*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert (process.stdout.read(), process.stderr.read()) == (b"", b"")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("which", ["input", "output"])
def test_a_terminal_is_no_pipe(model, which):
    pty = pytest.importorskip("pty", reason="needs a system with pseudo-terminals")
    ours, theirs = pty.openpty()
    try:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        pipes["stdin" if which == "input" else "stdout"] = theirs
        process = subprocess.Popen(
            [sys.executable, "-m", "backline", "render", str(model[1]), "-", "-o", "-"],
            stderr=subprocess.PIPE,
            **pipes,
        )
        _, said = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 1
    assert said.startswith(f"backline: error: standard {which}: is a terminal; pipe ".encode())
    assert said.count(b"\n") == 1


def test_standard_input_that_is_closed(model):
    command = [sys.executable, "-m", "backline", "render", str(model[1]), "-", "-o", "-"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"backline: error: standard input: is closed\n"


def test_errors_about_the_output_are_not_said_of_the_input(model, tmp_path):
    (tmp_path / "out.wav").write_bytes(b"mine")
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(1000), 48000, format="WAV")
    done = run(model[1], "-", "-o", tmp_path / "out.wav", data=buffer.getvalue())
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"backline: error: {tmp_path}/out.wav: exists already (--force replaces it)\n"
    )


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (b"", [], b"standard input: is empty"),
        (b"nothing to hear", [], b"standard input: not a readable"),
        (au(noise(0)), [], b"standard input: holds no audio"),
        (au(noise(10))[:-2], [], b"standard input: is cut short in the middle of frame 9"),
        (
            au(noise(10), 80),
            [],
            b"is cut short after frame 10: 40 bytes that its header promises are missing",
        ),
        (au(noise(10), 40)[:-2], [], b"is cut short after frame 9: 2 bytes that its header promises are"),
        (b".snd" + bytes(20), [], b"standard input: AU encoding 0"),
        (FLOAT_AU.pack(b".snd", 24, 0, 6, 48000, 0), [], b"standard input: its AU header says 0 channels"),
        (au(np.full((9, 1), np.nan, np.float32)), [], b"is not a finite number"),
        (au(noise(10)), ["--raw", "48000"], b"raw samples: expected RATE,CHANNELS"),
        (au(noise(10)), ["--raw", "48000,1,MP3"], b"raw samples: no subtype MP3"),
        (au(noise(10)), ["--subtype", "PCM_99"], b"no subtype PCM_99"),
        (au(noise(10)), ["--format", "doc"], b"cannot write .doc"),
        (au(noise(10)), ["--start", "1"], b"standard input: is 0.00 s long, shorter than the start"),
        # Past what the model would have heard first, and short of the start.
        (au(noise(4799)), ["--start", "0.1"], b"standard input: is 0.10 s long, cannot start at 0.1 s"),
        (au(noise(4800)), ["--start", "0.1"], b"standard input: is 0.10 s long, cannot start at 0.1 s"),
    ],
)
def test_what_cannot_be(model, data, options, says):
    done = run(model[1], "-", "-o", "-", *options, data=data)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"unexpected" not in done.stderr


def test_several_inputs_do_not_fit_into_a_pipe(model, tmp_path):
    for name in "ab":
        with AudioWriter(tmp_path / f"{name}.wav", 48000, 1) as writer:
            writer.write(noise(10))
    done = run(model[1], tmp_path / "a.wav", tmp_path / "b.wav", "-o", "-")
    assert done.returncode == 1
    assert b"2 inputs need a folder" in done.stderr


def test_no_copy_is_left_behind(model, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # for the processes that this one starts
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(1000), 48000, format="WAV")
    assert run(model[1], "-", "-o", "-", "--format", "flac", data=buffer.getvalue()).returncode == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "subtype", ["PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_encoded_and_decoded(subtype, endian):
    raw = RawFormat(48000, 3, subtype, endian)
    x = np.clip(noise(500, 3) * 3, -0.99, 0.99)
    data, clipped = encoded(x, raw, None)
    assert len(data) == 500 * raw.frame_bytes
    assert clipped == 0
    error = {"PCM_S8": 2**-8, "PCM_U8": 2**-8, "PCM_16": 2**-16, "PCM_24": 2**-24, "PCM_32": 2**-24}
    error |= {"FLOAT": 0.0, "DOUBLE": 0.0, "ULAW": 0.04, "ALAW": 0.04}
    assert np.abs(decoded(data, raw) - x).max() <= error[subtype] * 1.001


def test_cut_at_full_scale_is_counted():
    data, clipped = encoded(np.array([[1.5], [-2.0], [0.5]], np.float32), RawFormat(8000, 1, "PCM_16"), None)
    assert clipped == 2
    assert np.array_equal(np.frombuffer(data, "<i2"), [32767, -32768, 16384])


@pytest.mark.parametrize(
    "text", ["", "48000", "a,1", "48000,0", "48000,1,PCM_16,MIDDLE", "48000,1,PCM_16,BIG,1"]
)
def test_raw_formats_that_are_none(text):
    with pytest.raises(AudioFileError, match="raw samples: "):
        RawFormat.parse(text)
