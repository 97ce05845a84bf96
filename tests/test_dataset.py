"""Datasets in folders: shards, manifest, and what a run that was killed leaves for the next."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from dataset_tools import contents, members
from graphs import array

import backline
from backline.audiofile import AudioWriter
from backline.cli import main
from backline.dataset import manifest, plan, write_dataset, writing
from backline.dataset.rows import COLUMNS
from backline.errors import AudioFileError, BacklineError, DiskFull, FileExists, MissingDependency
from backline.graph import Graph, Knob
from backline.layers import Multiply
from backline.library import is_audio_name, shipped

parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, which is not installed")

HOW = {"seed": 7, "segment_s": 0.05, "gain_db": (-12.0, 6.0), "flip": True}


@pytest.fixture
def takes(tmp_path) -> list[Path]:
    paths = []
    for number in (1, 2):
        paths.append(tmp_path / f"take {number}.wav")
        with AudioWriter(paths[-1], 48000, 1) as writer:
            writer.write(array(number, 9000, 1))
    return paths


@pytest.fixture(scope="module")
def knobbed() -> backline.Model:
    graph = Graph((Multiply("y", "x", "level"),), "x", 1, "y", knobs=(Knob("level", 1.0, 0.0, 4.0),))
    return backline.Model(graph)


def test_what_is_written(tmp_path, takes, wavenet_file, knobbed):
    models = [backline.load(wavenet_file), knobbed]
    folder = tmp_path / "set"
    told = []
    done = write_dataset(
        models, takes, folder, items=11, shard_items=4, on_progress=lambda *news: told.append(news), **HOW
    )
    assert sorted(contents(folder)) == [
        *("dataset.json", "manifest.parquet"),
        *("shard-000000.tar", "shard-000001.tar", "shard-000002.tar"),
    ]
    assert (done.items, done.shards, done.kept, done.clipped) == (11, 3, 0, 0)
    assert done.duration_s == pytest.approx(0.55)
    assert told == [(n, 11) for n in range(12)]

    planned = plan(models, takes, **HOW)
    table = parquet.read_table(folder / "manifest.parquet")
    assert table.column_names == [*COLUMNS, "knob_level"]
    assert table.schema.field("gain_db").metadata[b"description"] == COLUMNS["gain_db"][1].encode()
    rows, files = table.to_pylist(), members(folder)
    assert len(rows) == 11
    assert len(files) == 33
    with planned.maker() as maker:
        for item, row in enumerate(rows):
            draw = planned.distribution.draw(item)
            pair = maker.make(draw)
            key = f"{item:09d}"
            assert (row["item"], row["key"], row["shard"]) == (item, key, f"shard-{item // 4:06d}.tar")
            assert (row["model"], row["model_number"]) == (models[draw.model].name, draw.model)
            assert (row["input"], row["input_number"]) == (str(takes[draw.input]), draw.input)
            assert (row["start_frame"], row["frames"], row["rate_hz"]) == (draw.start_frame, 2400, 48000)
            assert (row["gain_db"], row["flipped"]) == (draw.gain_db, draw.flipped)
            assert row["knob_level"] == draw.knobs.get("level")
            assert row["heard_frames"] == pair.heard_frames
            for half in ("dry", "wet"):
                x, rate_hz = soundfile.read(io.BytesIO(files[f"{key}.{half}.wav"]), dtype="float32")
                assert np.array_equal(x, getattr(pair, half)[:, 0])
                assert (rate_hz, row[f"{half}_channels"], row[f"{half}_clipped"]) == (48000, 1, 0)
                assert row[f"{half}_peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(x).max()))
                assert row[f"{half}_rms_dbfs"] == pytest.approx(10 * np.log10(np.mean(x.astype(float) ** 2)))
                assert row[f"{half}_lufs"] is None  # below 400 ms
            assert {**json.loads(files[f"{key}.json"]), "shard": row["shard"]} == row


def test_every_column_is_documented(tmp_path, takes, wavenet_file, monkeypatch):
    """As it is described in the file, and the example that reads one runs."""
    text = (Path(__file__).parents[1] / "docs" / "training-data.md").read_text(encoding="utf-8")
    for name, (kind, says) in COLUMNS.items():
        assert f"| `{name}` | {kind} | {says} |" in text
    pytest.importorskip("webdataset", reason="needs webdataset, which is not installed")
    monkeypatch.chdir(tmp_path)
    write_dataset([wavenet_file], takes, "pairs", items=4, shard_items=2, **HOW)
    found: dict = {}
    exec(text.partition("```python\n")[2].partition("```")[0], found)
    assert found["sample"]["json"]["item"] == 3
    assert len(found["wet"]) == 2400


def test_webdataset_reads_it(tmp_path, takes, wavenet_file):
    webdataset = pytest.importorskip("webdataset", reason="needs webdataset, which is not installed")
    folder = tmp_path / "set"
    write_dataset([wavenet_file], takes, folder, items=5, shard_items=3, file_format="flac", **HOW)
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [f"{item:09d}" for item in range(5)]
    for item, sample in enumerate(samples):
        assert sample["json"]["item"] == item
        dry, _ = soundfile.read(io.BytesIO(sample["dry.flac"]))
        wet, _ = soundfile.read(io.BytesIO(sample["wet.flac"]))
        assert len(dry) == len(wet) == 2400


def test_equal_arguments_make_equal_bytes(tmp_path, takes, wavenet_file):
    for name, threads in (("one", 1), ("two", 2), ("five", 5)):
        write_dataset(
            *([wavenet_file], takes, tmp_path / name), items=12, shard_items=2, threads=threads, **HOW
        )
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "five")
    write_dataset([wavenet_file], takes, tmp_path / "large", items=12, shard_items=7, **HOW)
    assert members(tmp_path / "large") == members(tmp_path / "one")
    write_dataset([wavenet_file], takes, tmp_path / "other", items=12, shard_items=2, **{**HOW, "seed": 8})
    assert members(tmp_path / "other") != members(tmp_path / "one")


def test_headers_hold_no_time_and_no_owner(tmp_path, takes, wavenet_file):
    write_dataset([wavenet_file], takes, tmp_path / "set", items=1, **HOW)
    with tarfile.open(tmp_path / "set" / "shard-000000.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")


@pytest.mark.parametrize(("file_format", "subtype", "bits"), [("flac", None, 24), ("wav", "PCM_16", 16)])
def test_whole_numbers_are_dithered_and_clipping_is_counted(tmp_path, takes, file_format, subtype, bits):
    model = backline.conv1d(np.full((1, 1, 1), 3.0))
    folder = tmp_path / "set"
    how = {"segment_s": 0.1, "gain_db": (6.0, 6.0)}
    done = write_dataset([model], takes, folder, items=3, file_format=file_format, subtype=subtype, **how)
    planned = plan([model], takes, **how)
    files, clipped = members(folder), 0
    errors = {}
    with planned.maker() as maker:
        for item in range(3):
            pair = maker.make(planned.distribution.draw(item))
            for half in ("dry", "wet"):
                data = files[f"{item:09d}.{half}.{file_format}"]
                assert soundfile.info(io.BytesIO(data)).subtype == f"PCM_{bits}"
                x = getattr(pair, half)[:, 0].astype(float)
                found = soundfile.read(io.BytesIO(data))[0]
                inside = np.abs(x) < 1 - 2.0 ** (3 - bits)
                errors[item, half] = (found - x)[inside] * 2.0 ** (bits - 1)
                clipped += int(np.count_nonzero(np.abs(x) > 1))
                assert np.abs(errors[item, half]).max() <= 1.5
                # Two steps wide, triangular, and the rounding: a quarter of a step squared.
                assert np.mean(errors[item, half] ** 2) == pytest.approx(0.25, rel=0.15)
    rows = parquet.read_table(folder / "manifest.parquet").to_pylist()
    assert done.clipped == clipped == sum(row["dry_clipped"] + row["wet_clipped"] for row in rows) > 0
    # Nor is the noise that of another item or half, which a net could learn.
    one, other = (errors[0, "dry"][:1000], errors[1, "dry"][:1000])
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


def test_a_second_run_renders_nothing(tmp_path, takes, wavenet_file, monkeypatch):
    folder = tmp_path / "set"
    write_dataset([wavenet_file], takes, folder, items=6, shard_items=2, **HOW)
    before = contents(folder)
    monkeypatch.setattr(writing, "write_shard", lambda *_, **__: pytest.fail("rendered again"))
    done = write_dataset([wavenet_file], takes, folder, items=6, shard_items=2, **HOW)
    assert (done.kept, done.rendered_s) == (3, 0.0)
    assert contents(folder) == before
    assert "3 shards already there" in str(done)


def test_what_is_damaged_or_missing_is_rendered_again(tmp_path, takes, wavenet_file):
    folder = tmp_path / "set"
    write_dataset([wavenet_file], takes, folder, items=8, shard_items=2, **HOW)
    before = contents(folder)
    data = bytearray((folder / "shard-000001.tar").read_bytes())
    data[5000] ^= 1
    (folder / "shard-000001.tar").write_bytes(data)
    (folder / "shard-000002.tar").unlink()
    (folder / "manifest.parquet").unlink()
    (folder / ".backline-0123456789ab.part").write_bytes(b"left")
    assert write_dataset([wavenet_file], takes, folder, items=8, shard_items=2, **HOW).kept == 2
    assert contents(folder) == before


def test_a_dataset_grows(tmp_path, takes, wavenet_file):
    folder = tmp_path / "set"
    write_dataset([wavenet_file], takes, folder, items=5, shard_items=2, **HOW)
    assert write_dataset([wavenet_file], takes, folder, items=9, shard_items=2, **HOW).kept == 2
    write_dataset([wavenet_file], takes, tmp_path / "once", items=9, shard_items=2, **HOW)
    assert contents(folder) == contents(tmp_path / "once")
    with pytest.raises(FileExists, match="holds 9 items, more than 5"):
        write_dataset([wavenet_file], takes, folder, items=5, shard_items=2, **HOW)


def test_another_dataset_is_kept_unless_told_otherwise(tmp_path, takes, wavenet_file):
    folder = tmp_path / "set"
    write_dataset([wavenet_file], takes, folder, items=4, shard_items=2, **HOW)
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    other = {**HOW, "seed": 8, "flip": False}
    with pytest.raises(FileExists, match="holds another dataset, with other seed, flip"):
        write_dataset([wavenet_file], takes, folder, items=4, shard_items=2, **other)
    assert contents(folder) == before
    write_dataset([wavenet_file], takes, folder, items=2, shard_items=2, overwrite=True, **other)
    assert sorted(contents(folder)) == ["dataset.json", "manifest.parquet", "notes.txt", "shard-000000.tar"]
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "shard-000000.tar").write_bytes(b"somebody's")
    with pytest.raises(FileExists, match="files named like a dataset's"):
        write_dataset([wavenet_file], takes, tmp_path / "foreign", items=2, **HOW)
    with pytest.raises(AudioFileError, match=r"notes.txt: is a file, expected a folder to write into"):
        write_dataset([wavenet_file], takes, folder / "notes.txt", items=2, **HOW)


def test_two_runs_do_not_share_a_folder(tmp_path, takes, wavenet_file):
    folder = tmp_path / "set"

    def again(done: int, total: int) -> None:
        with pytest.raises(AudioFileError, match="another run is writing this dataset"):
            write_dataset([wavenet_file], takes, folder, items=2, **HOW)

    write_dataset([wavenet_file], takes, folder, items=2, on_progress=again, **HOW)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_keeps_what_is_finished(tmp_path, takes, wavenet_file, threads):
    folder = tmp_path / "set"

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    how = {"items": 40, "shard_items": 2, **HOW}
    with pytest.raises(KeyboardInterrupt):
        write_dataset([wavenet_file], takes, folder, threads=threads, on_progress=stop, **how)
    left = contents(folder)
    assert not [name for name in left if name.endswith(".part")]
    assert "manifest.parquet" not in left
    finished = [name for name in left if name.endswith(".tar")]
    assert finished
    assert write_dataset([wavenet_file], takes, folder, **how).kept == len(finished)


def test_a_full_disk_is_said(tmp_path, takes, wavenet_file, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(DiskFull, match=r"shard-000000.tar: cannot be written: No space left"):
        write_dataset([wavenet_file], takes, tmp_path / "set", items=2, **HOW)
    assert not list((tmp_path / "set").glob("*.part")) + list((tmp_path / "set").glob("*.tar"))


#: Ends itself, by SIGKILL, at the n-th time it opens, renames or removes something in the folder.
KILLED = """
import os, signal, sys
from backline.cli import main

count = int(sys.argv[1])

def hook(event, arguments):
    global count
    if event in ("open", "os.rename", "os.link", "os.remove") and "set" in str(arguments[0]):
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("seed", range(3))
def test_killed_and_taken_up_again_it_is_what_it_would_have_been(tmp_path, takes, wavenet_file, seed):
    arguments = [
        *("dataset", str(wavenet_file), *map(str, takes), "--items", "24", "--shard-items", "3"),
        *("--segment", "0.05", "--gain-in", "-12:6", "--seed", "7", "--flip", "--threads", "2"),
    ]
    folder, drawn = tmp_path / "set", np.random.default_rng(seed)
    known: dict[str, tuple[int, int]] = {}
    status, kills = -signal.SIGKILL, 0
    while status == -signal.SIGKILL:
        count = int(drawn.integers(1, 25)) if kills < 8 else 10**9
        command = [sys.executable, "-c", KILLED, str(count), *arguments, "-o", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        status, kills = done.returncode, kills + 1
        now = {
            path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("shard-*.tar")
        }
        assert known.items() <= now.items(), "a finished shard was written again"
        known = now
    assert (status, done.stderr) == (0, "")
    assert kills > 2
    assert main([*arguments, "-o", str(tmp_path / "undisturbed")]) == 0
    assert contents(folder) == contents(tmp_path / "undisturbed")


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"items": 0}, "items: expected a whole number from 1"),
        ({"items": None}, "either items or hours"),
        ({"hours": 1.0}, "either items or hours"),
        ({"items": None, "hours": 0.0}, "hours: expected a number above 0"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
        ({"seed": 2.5}, "seed: expected a whole number"),
        ({"segment_s": 0.0}, "segment: expected a number above 0"),
        ({"segment_s": float("nan")}, "segment: expected a number above 0"),
        ({"gain_db": (3.0, -3.0)}, "gain: expected a lower and a higher bound"),
        ({"gain_db": (0.0, 100.0)}, "gain: expected a number from -200 to 60, found 100"),
        ({"knobs": {"level": (0, 5)}}, "level"),
        ({"knobs": {"tone": (0, 1)}}, "no model has a knob 'tone'; there are level"),
        ({"knobs": {"level": (1, 0)}}, "knob level: expected a lower and a higher bound"),
        ({"warm_up_s": -1.0}, "warm-up: expected a number from 0"),
        ({"shard_items": 0}, "items of a shard: expected a whole number"),
        ({"shard_mb": 0.0}, "megabytes of a shard: expected a number above 0"),
        ({"shard_mb": 1.0, "shard_items": 2}, "by items or megabytes, not both"),
        ({"file_format": "mp3"}, "format: expected wav or flac, found 'mp3'"),
        ({"subtype": "VORBIS"}, "WAV files have no subtype VORBIS"),
        ({"channels": "2"}, "there is no channel 2"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_touched(tmp_path, takes, knobbed, wrong, says):
    with pytest.raises(BacklineError, match=says):
        write_dataset([knobbed], takes, tmp_path / "set", **{"items": 2, **HOW, **wrong})
    assert not (tmp_path / "set").exists()


def test_a_fixed_knob_and_hours(tmp_path, takes, knobbed):
    done = write_dataset(
        [knobbed], takes, tmp_path / "set", hours=0.5 / 3600, shard_mb=0.05, knobs={"level": 2.5}, **HOW
    )
    assert done.items == 10
    assert done.shards == 5  # two pairs of 2 x 2,400 samples of 4 bytes are in 50 kB
    rows = parquet.read_table(tmp_path / "set" / "manifest.parquet").to_pylist()
    assert {row["knob_level"] for row in rows} == {2.5}


def test_without_pyarrow_nothing_is_begun(tmp_path, takes, knobbed, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'backline\[dataset\]'"):
        manifest.pyarrow()
    with pytest.raises(MissingDependency):
        write_dataset([knobbed], takes, tmp_path / "set", items=1)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["overdrive", "--items", "2"], 1, "found no audio"),
        (["take 1.wav", "--items", "2"], 1, "found no model"),
        (["nosuch", "take 1.wav", "--items", "2"], 1, "nosuch: no such file"),
        (["overdrive", "gone.wav", "--items", "2"], 1, "gone.wav: no such file"),
        (["overdrive", "take 1.wav"], 1, "either items or hours"),
        (["overdrive", "take 1.wav", "--items", "2"], 1, "shorter than a segment of 5 s"),
        (["overdrive", "take 1.wav", "--items", "2", "--gain-in", "loud"], 2, "expected LOW:HIGH"),
        (["overdrive", "take 1.wav", "--items", "2", "--gain-in", "6:-6"], 2, "expected LOW:HIGH"),
        (["overdrive", "take 1.wav", "--items", "2", "--knob", "drive"], 2, "--knob drive: expected"),
        (["overdrive", "take 1.wav", "--items", "2", "--knob", "a=1", "--knob", "a=2"], 2, "is set twice"),
        (
            ["overdrive", "take 1.wav", "--items", "2", "--knob", "a=1", "--segment", "0.1"],
            1,
            "no knob|a knob",
        ),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, takes, monkeypatch, capsys, arguments, status, says):
    monkeypatch.chdir(tmp_path)
    assert main(["dataset", *arguments, "-o", "set"]) == status
    error = capsys.readouterr().err
    assert any(part in " ".join(error.replace("│", " ").split()) for part in says.split("|"))
    assert "Traceback" not in error
    assert not Path("set").exists()


def test_the_command_writes_and_says_so(tmp_path, takes, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["dataset", "overdrive", *(path.name for path in takes), "-o", "set", "--items", "3"]
    command += ["--segment", "0.1", "--gain-in", "-12:6", "--format", "flac"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("set: 3 pairs in 1 shard, ")
    assert main(command) == 0
    assert "1 shard already there" in capsys.readouterr().out
    assert main([*command, "--seed", "1"]) == 1
    assert "other seed (--force replaces it)" in capsys.readouterr().err
    assert main([*command, "--seed", "1", "--force"]) == 0


def test_models_and_audio_are_told_apart(tmp_path, takes, wavenet_file):
    for name in ("a.wav", "B.FLAC", "dir.nam/x.mp3", "-", takes[0]):
        assert is_audio_name(name)
    for name in (*shipped(), "x.nam", "x.json", "x.onnx", "x.backline", "a.wav.nam", wavenet_file, tmp_path):
        assert not is_audio_name(name)
    (tmp_path / "take").write_bytes(takes[0].read_bytes())
    (tmp_path / "amp.txt").write_bytes(Path(wavenet_file).read_bytes())
    assert is_audio_name(tmp_path / "take")
    assert not is_audio_name(tmp_path / "amp.txt")
    assert not is_audio_name("a\0b")
