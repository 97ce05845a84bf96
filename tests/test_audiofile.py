"""Audio files: round trips, refusals, and that nothing half-written is ever left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from plain_user import open_folder, plain_user

from backline import audiofile
from backline.audiofile import AudioReader, AudioWriter, RawFormat, format_of, read, subtype_for
from backline.errors import AudioFileError, FileExists
from backline.pending import Draft


def noise(frames: int = 1000, channels: int = 2, level: float = 0.2) -> np.ndarray:
    x = np.random.default_rng(frames).uniform(-level, level, (frames, channels))
    return x.astype(np.float32)


def write(path: Path, x: np.ndarray, rate_hz: int = 48000, **options) -> AudioWriter:
    with AudioWriter(path, rate_hz, x.shape[1], **options) as writer:
        writer.write(x)
    return writer


def contents(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("suffix", [".wav", ".w64", ".rf64", ".caf", ".au", ".WAV", ".wave"])
def test_float_formats_are_exact(tmp_path, suffix):
    x = noise() * 10  # far beyond full scale: floats keep it
    writer = write(tmp_path / f"a{suffix}", x, 44100)
    y, rate_hz = read(writer.path)
    assert rate_hz == 44100
    assert y.dtype == np.float32
    assert np.array_equal(x, y)
    assert (writer.subtype, writer.clipped, writer.frames) == ("FLOAT", 0, len(x))
    assert contents(tmp_path) == [f"a{suffix}"]


@pytest.mark.parametrize(
    ("suffix", "subtype", "written", "step"),
    [
        (".flac", None, "PCM_24", 2**-23),
        (".aiff", None, "PCM_24", 2**-23),
        (".aif", None, "PCM_24", 2**-23),
        (".wav", "PCM_16", "PCM_16", 2**-15),
        (".wav", "pcm_24", "PCM_24", 2**-23),
        (".flac", "PCM_16", "PCM_16", 2**-15),
    ],
)
def test_integer_formats_are_exact_to_a_step(tmp_path, suffix, subtype, written, step):
    x = noise()
    writer = write(tmp_path / f"a{suffix}", x, subtype=subtype)
    y, _ = read(writer.path)
    assert writer.subtype == written
    assert np.max(np.abs(x - y)) <= step
    assert writer.clipped == 0


@pytest.mark.parametrize(
    ("suffix", "subtype"), [(".ogg", "VORBIS"), (".mp3", "MPEG_LAYER_III"), (".opus", "OPUS")]
)
def test_lossy_formats_are_written(tmp_path, suffix, subtype):
    at = np.arange(24000) / 48000
    x = (0.5 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)[:, np.newaxis]
    try:
        writer = write(tmp_path / f"a{suffix}", x)
    except AudioFileError as error:
        pytest.skip(f"this libsndfile has no {suffix}: {error}")
    y, _ = read(writer.path)
    assert writer.subtype == subtype
    assert abs(np.sqrt(np.mean(y**2)) - np.sqrt(np.mean(x**2))) < 0.05


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_blocks_are_the_whole_file(tmp_path, suffix):
    x = noise(50000)
    path = tmp_path / f"a{suffix}"
    with AudioWriter(path, 48000, 2) as writer:
        for start in range(0, len(x), 777):
            writer.write(x[start : start + 777])
    whole, _ = read(path)
    with AudioReader(path) as reader:
        assert (reader.channels, reader.rate_hz, reader.frames) == (2, 48000, len(whole))
        blocks = list(reader.blocks(1234))
    assert [len(b) for b in blocks[:-1]] == [1234] * (len(blocks) - 1)
    assert np.array_equal(np.concatenate(blocks), whole)


def test_one_channel_may_be_flat(tmp_path):
    x = noise(100, 1)
    with AudioWriter(tmp_path / "a.wav", 48000, 1) as writer:
        writer.write(x[:, 0])
    assert np.array_equal(read(tmp_path / "a.wav")[0], x)


def test_names_with_spaces_and_other_letters(tmp_path):
    path = tmp_path / "prise n° 3 — Gitarre ü.wav"
    write(path, noise())
    assert read(path)[0].shape == (1000, 2)


def test_what_clips_is_counted(tmp_path):
    x = np.array([[1.0], [-1.0], [1.5], [-7.0], [0.3]], np.float32)
    assert write(tmp_path / "a.flac", x).clipped == 2
    y, _ = read(tmp_path / "a.flac")
    assert np.allclose(y[:, 0], [1, -1, 1, -1, 0.3], atol=1e-6)
    assert write(tmp_path / "a.wav", x).clipped == 0


def test_what_is_no_number_is_counted(tmp_path):
    x = np.array([[np.nan], [np.inf], [-np.inf], [0.5]], np.float32)
    writer = write(tmp_path / "a.flac", x)
    assert (writer.not_finite, writer.clipped) == (3, 2)
    assert np.allclose(read(tmp_path / "a.flac")[0][:, 0], [0, 1, -1, 0.5], atol=1e-6)
    assert write(tmp_path / "a.wav", x).not_finite == 3
    with pytest.raises(AudioFileError, match=r"a\.wav: frame 0, channel 1 is not a finite number"):
        read(tmp_path / "a.wav")


# --------------------------------------------------------------------------------------- bad input files


def cut(path: Path, to_bytes: int) -> Path:
    path.write_bytes(path.read_bytes()[:to_bytes])
    return path


def make_bad(kind: str, folder: Path) -> Path:
    """A file, or something else, that is not to be read."""
    path = folder / "in.wav"
    if kind in ("a folder", "a folder with an extension"):
        path = folder / ("in" if kind == "a folder" else "in.wav")
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not audio at all\n" * 20)
    elif kind == "header only":
        write(path, noise(0))
    elif kind == "raw":
        path = folder / "in.raw"
        path.write_bytes(bytes(1000))
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind.startswith("cut"):
        _, suffix, to_bytes = kind.split()
        path = folder / f"in{suffix}"
        write(path, noise(5000))
        cut(path, int(to_bytes))
    elif kind == "no channels":
        write(path, noise(), subtype="PCM_16")
        data = bytearray(path.read_bytes())
        data[22:24] = b"\0\0"
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("a folder", "is a folder"),
        ("a folder with an extension", "is a folder"),
        ("empty", "is empty"),
        ("text", "not a readable audio file"),
        ("header only", "holds no audio"),
        ("raw", "raw file"),
        ("a pipe", "not a regular file"),
        ("no channels", "not a readable audio file|0 channels"),
        ("cut .wav 30", "not a readable audio file"),
        ("cut .wav 8000", "cut short"),
        ("cut .aiff 8000", "cut short"),
        ("cut .w64 8000", "cut short"),
        ("cut .rf64 8000", "cut short"),
        ("cut .au 8000", "cut short"),
        ("cut .flac 8000", "cut short"),
        ("cut .mp3 1500", "cut short"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, kind, says):
    path = make_bad(kind, tmp_path)
    with pytest.raises(AudioFileError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_streamed_wav_with_placeholder_sizes_is_read(tmp_path):
    """What a program writes into a pipe, not knowing the length, is whole all the same."""
    path = tmp_path / "a.wav"
    x = noise(500)
    write(path, x, subtype="FLOAT")
    data = bytearray(path.read_bytes())
    at = data.index(b"data")
    data[4:8] = data[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert np.array_equal(read(path)[0], x)


def test_a_file_that_may_not_be_read():
    with open_folder() as folder:
        write(folder / "a.wav", noise())
        (folder / "a.wav").chmod(0)
        with plain_user(), pytest.raises(AudioFileError, match="cannot be read: Permission denied"):
            read(folder / "a.wav")


# ------------------------------------------------------------------------------------ what cannot be written


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("a", {}, "no extension"),
        ("a.xyz", {}, "cannot write .xyz"),
        ("a.flac", {"subtype": "FLOAT"}, "no subtype FLOAT"),
        ("a.wav", {"subtype": "NONSENSE"}, "no subtype NONSENSE"),
        ("nowhere/a.wav", {}, "folder .*nowhere does not exist"),
        ("folder.wav", {"overwrite": True}, "is a folder"),
        ("there.wav", {}, "exists already"),
        ("link.wav", {}, "exists already"),
        ("there.wav/a.wav", {}, "cannot be written"),
        ("pipe.wav", {"overwrite": True}, "not a regular file"),
        ("a" * 300 + ".wav", {}, "cannot be written"),
    ],
)
def test_targets_that_cannot_be_written_are_named(tmp_path, name, options, says):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "there.wav").write_text("precious")
    (tmp_path / "link.wav").symlink_to("dangling")
    os.mkfifo(tmp_path / "pipe.wav")
    before = contents(tmp_path)
    with pytest.raises(AudioFileError, match=says) as caught:
        AudioWriter(tmp_path / name, 48000, 1, **options)
    assert name in str(caught.value)
    assert contents(tmp_path) == before
    assert (tmp_path / "there.wav").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels"),
    [("a.flac", 48000, 9), ("a.mp3", 12345, 2), ("a.wav", 48000, 5000), ("a.wav", 0, 1)],
)
def test_formats_that_cannot_hold_it(tmp_path, name, rate_hz, channels):
    with pytest.raises(AudioFileError, match="cannot write"):
        AudioWriter(tmp_path / name, rate_hz, channels)
    assert contents(tmp_path) == []


def test_a_folder_that_may_not_be_written():
    with open_folder() as folder:
        folder.chmod(0o555)
        with plain_user(), pytest.raises(AudioFileError, match="cannot be written: Permission denied"):
            AudioWriter(folder / "a.wav", 48000, 1)
        assert contents(folder) == []


def test_wav_ends_at_4_gib(tmp_path, monkeypatch):
    monkeypatch.setattr(audiofile.writer, "SHORT_FORMAT_BYTES", 4000)
    with pytest.raises(AudioFileError, match="end at 4 GiB"):
        write(tmp_path / "a.wav", noise(1001, 1))
    write(tmp_path / "a.w64", noise(1001, 1))
    assert contents(tmp_path) == ["a.w64"]


def test_wrong_shapes_are_refused(tmp_path):
    with AudioWriter(tmp_path / "a.wav", 48000, 2) as writer:
        with pytest.raises(ValueError, match="expected \\[frames, 2\\]"):
            writer.write(noise(10, 1))
        writer.write(noise(10, 2))
    with pytest.raises(ValueError, match="closed"):
        writer.write(noise(10, 2))


def test_helpers_name_format_and_subtype():
    assert format_of("x.aif") == "AIFF"
    assert subtype_for("x.wav") == "FLOAT"
    assert subtype_for("x.ogg", "vorbis") == "VORBIS"
    for name, subtype in (("x.aiff", "DWVW_16"), ("x.caf", "ALAC_20")):  # what is written could not be read
        with pytest.raises(AudioFileError, match=f"no subtype {subtype}"):
            subtype_for(name, subtype)


# ----------------------------------------------------------------------------------- nothing half-written


def test_nothing_is_seen_before_the_end(tmp_path):
    writer = AudioWriter(tmp_path / "a.wav", 48000, 1)
    writer.write(noise(100, 1))
    assert [name for name in contents(tmp_path) if not name.startswith(".")] == []
    writer.close()
    assert contents(tmp_path) == ["a.wav"]
    writer.close()
    writer.abort()
    assert contents(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(tmp_path, error):
    def work() -> None:
        with AudioWriter(tmp_path / "a.wav", 48000, 1) as writer:
            writer.write(noise(100, 1))
            raise error

    with pytest.raises(error):
        work()
    assert contents(tmp_path) == []


def test_forgetting_leaves_nothing(tmp_path):
    writer = AudioWriter(tmp_path / "a.wav", 48000, 1)
    assert len(contents(tmp_path)) == 1
    del writer
    assert contents(tmp_path) == []


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    writer = AudioWriter(tmp_path / "a.wav", 48000, 1)
    (tmp_path / "a.wav").write_text("precious")
    with pytest.raises(AudioFileError, match="exists already"):
        writer.close()
    assert contents(tmp_path) == ["a.wav"]
    assert (tmp_path / "a.wav").read_text() == "precious"


def test_without_hard_links(tmp_path, monkeypatch):
    """As on FAT and some network file systems."""

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    write(tmp_path / "a.wav", noise())
    writer = AudioWriter(tmp_path / "b.wav", 48000, 1)
    (tmp_path / "b.wav").write_text("precious")
    with pytest.raises(AudioFileError, match="exists already"):
        writer.close()
    assert contents(tmp_path) == ["a.wav", "b.wav"]
    assert (tmp_path / "b.wav").read_text() == "precious"


def test_overwriting_replaces_only_at_the_end(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("precious")
    writer = AudioWriter(path, 48000, 2, overwrite=True)
    writer.write(noise())
    assert path.read_text() == "precious"
    writer.abort()
    assert path.read_text() == "precious"
    write(path, noise(), overwrite=True)
    assert read(path)[0].shape == (1000, 2)
    assert contents(tmp_path) == ["a.wav"]


def test_overwriting_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "real.wav").write_text("old")
    (tmp_path / "link.wav").symlink_to("real.wav")
    write(tmp_path / "link.wav", noise(), overwrite=True)
    assert (tmp_path / "link.wav").is_symlink()
    assert read(tmp_path / "real.wav")[0].shape == (1000, 2)


def test_permissions_are_those_of_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    write(tmp_path / "a.wav", noise())
    assert stat.S_IMODE((tmp_path / "a.wav").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, suffix):
    """A limit on file size stands in for a full disk: write() fails in the same place."""
    code = f"""
        import resource, numpy as np
        from backline.audiofile import AudioWriter
        from backline.errors import AudioFileError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        rng = np.random.default_rng(0)
        try:
            with AudioWriter({str(tmp_path / "a")!r} + {suffix!r}, 48000, 1) as writer:
                for _ in range(20):
                    writer.write(rng.uniform(-1, 1, (10_000, 1)).astype(np.float32))
        except AudioFileError as error:
            print("told:", error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("told: ")
    assert "cannot be written" in done.stdout
    assert done.stderr == ""
    assert contents(tmp_path) == []


# --------------------------------------------------------------------------------------- equal and drafted


def test_equal_audio_is_an_equal_file_whenever_it_is_written(tmp_path):
    x = noise()
    cases = [
        (suffix, subtype) for suffix in (".wav", ".rf64", ".caf") for subtype in ("FLOAT", "DOUBLE", "PCM_24")
    ]
    cases += [(".w64", "FLOAT"), (".aiff", "FLOAT"), (".au", "FLOAT"), (".flac", "PCM_24"), (".mp3", None)]
    folders = [tmp_path / "sooner", tmp_path / "later"]
    for folder in folders:
        folder.mkdir()
        for suffix, subtype in cases:
            write(folder / f"{subtype}{suffix}", x, subtype=subtype)
        time.sleep(1.1)  # headers that hold the time have seconds
    for suffix, subtype in cases:
        sooner, later = ((folder / f"{subtype}{suffix}").read_bytes() for folder in folders)
        assert sooner == later, (suffix, subtype)
        assert (
            np.allclose(read(folders[0] / f"{subtype}{suffix}")[0][:1000], x, atol=1e-6) or suffix == ".mp3"
        )


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_draft_is_whole_under_the_name_it_said_before(tmp_path, overwrite):
    x = noise()
    if overwrite:
        (tmp_path / "a.wav").write_bytes(b"before")
    draft = Draft.of(tmp_path / "a.wav", overwrite=overwrite)
    assert draft.temporary.parent == tmp_path
    assert not draft.temporary.exists()
    writer = write(draft, x)
    assert not writer.committed
    assert contents(tmp_path) == sorted([draft.temporary.name, *(["a.wav"] if overwrite else [])])
    assert overwrite == ((tmp_path / "a.wav").exists() and (tmp_path / "a.wav").read_bytes() == b"before")
    draft.publish()
    assert contents(tmp_path) == ["a.wav"]
    assert np.array_equal(read(tmp_path / "a.wav")[0], x)


def test_a_draft_that_fails_leaves_nothing_and_replaces_nothing(tmp_path):
    with (
        pytest.raises(ValueError, match="expected"),
        AudioWriter(Draft.of(tmp_path / "a.wav"), 48000, 2) as writer,
    ):
        writer.write(noise(channels=3))
    assert contents(tmp_path) == []
    draft = Draft.of(tmp_path / "a.wav")
    write(draft, noise())
    (tmp_path / "a.wav").write_bytes(b"somebody else's")
    with pytest.raises(FileExists):
        draft.publish()
    assert (tmp_path / "a.wav").read_bytes() == b"somebody else's"
    assert draft.temporary.exists()
    draft.discard()
    assert contents(tmp_path) == ["a.wav"]


def test_raw_samples_that_end_in_the_middle_of_a_frame(tmp_path):
    """As through a pipe: nothing is left out unsaid."""
    path = tmp_path / "take.raw"
    raw = RawFormat(48000, 2, "PCM_24")
    path.write_bytes(bytes(60))
    with AudioReader(path, raw) as reader:
        assert reader.frames == 10
    path.write_bytes(bytes(65))
    with pytest.raises(AudioFileError, match=r"take\.raw: is cut short in the middle of frame 10$"):
        AudioReader(path, raw)


def test_a_header_is_not_read_as_samples(tmp_path):
    write(tmp_path / "x.wav", np.zeros((100, 1), np.float32))
    with pytest.raises(AudioFileError, match=r"x\.wav: begins with a header, .* leave out --raw$"):
        AudioReader(tmp_path / "x.wav", RawFormat(48000, 1, "FLOAT"))
