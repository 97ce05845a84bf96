"""`backline render` between pipes."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import backline
from backline.audiofile import AudioWriter, RawFormat, decoded, encoded
from backline.errors import AudioFileError

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


def test_other_formats_go_through_a_file(model):
    x = noise(3000, 2)
    done = run(model[1], "-", "-o", "-", "--format", "wav", "--tail", "0", data=au(x))
    assert done.returncode == 0, done.stderr
    found, rate_hz = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    assert rate_hz == 48000
    assert np.array_equal(found, model[0](x))


def test_what_comes_slowly_is_rendered_while_it_comes(model):
    """An answer comes before the input ends: nothing waits for all of it."""
    x = noise(200000)
    command = [sys.executable, "-m", "backline", "render", str(model[1]), "-", "-o", "-", "--threads", "1"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(au(x))
    process.stdin.flush()
    head = process.stdout.read(24 + 4 * 100000)
    assert np.array_equal(from_au(head)[:, 0], model[0](x)[:100000, 0])
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


def test_a_reader_that_goes_is_no_error(model):
    command = [sys.executable, "-m", "backline", "render", str(model[1]), "-", "-o", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    try:
        process.stdin.write(au(noise(400000)))
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert b"unexpected" not in process.stderr.read()
    process.stderr.close()
    process.wait(60)


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (b"", [], b"standard input: is empty"),
        (b"nothing to hear", [], b"standard input: not a readable"),
        (au(noise(0)), [], b"standard input: holds no audio"),
        (au(noise(10))[:-2], [], b"standard input: is cut short in the middle of frame 9"),
        (b".snd" + bytes(20), [], b"standard input: AU encoding 0"),
        (FLOAT_AU.pack(b".snd", 24, 0, 6, 48000, 0), [], b"standard input: its AU header says 0 channels"),
        (au(np.full((9, 1), np.nan, np.float32)), [], b"is not a finite number"),
        (au(noise(10)), ["--raw", "48000"], b"raw samples: expected RATE,CHANNELS"),
        (au(noise(10)), ["--raw", "48000,1,MP3"], b"raw samples: no subtype MP3"),
        (au(noise(10)), ["--subtype", "PCM_99"], b"no subtype PCM_99"),
        (au(noise(10)), ["--format", "doc"], b"cannot write .doc"),
        (au(noise(10)), ["--start", "1"], b"standard input: is 0.00 s long, shorter than the start"),
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
    monkeypatch.setenv("TMPDIR", str(tmp_path))
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
