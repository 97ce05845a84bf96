"""Datasets of what cannot all be read or rendered: what is left out, what is reported, what stays."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from dataset_tools import contents, members
from graphs import array

import backline
from backline.audiofile import AudioWriter
from backline.cli import main
from backline.dataset import plan, write_dataset
from backline.dataset.pairs import PairMaker
from backline.errors import AudioFileError, DiskFull, FileExists

parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, which is not installed")

HOW = {"seed": 7, "segment_s": 0.05, "gain_db": (-12.0, 6.0), "flip": True}
FRAMES = 9000


def write(path: Path, x: np.ndarray) -> Path:
    with AudioWriter(path, 48000, x.shape[1]) as writer:
        writer.write(x)
    return path


@pytest.fixture
def takes(tmp_path) -> list[Path]:
    return [write(tmp_path / f"take {number}.wav", array(number, FRAMES, 1)) for number in (1, 2, 3)]


def items_in(folder: Path) -> list[int]:
    """By the manifest, which has to agree with the shards."""
    rows = parquet.read_table(folder / "manifest.parquet").to_pylist()
    assert {f"{row['key']}.json" for row in rows} == {name for name in members(folder) if "json" in name}
    return [row["item"] for row in rows]


def left_out(folder: Path) -> dict[int, str]:
    index = json.loads((folder / "dataset.json").read_text())
    return {each["item"]: each["error"] for shard in index["shards"] for each in shard["left_out"]}


def spoil(path: Path, how: str) -> str:
    """Damage a file; returns what is said of it."""
    if how == "gone":
        path.unlink()
        return "no such file"
    if how == "empty":
        path.write_bytes(b"")
        return "is empty (0 bytes), expected an audio file"
    if how == "no audio":
        path.write_bytes(b"nothing to hear" * 100)
        return "not a readable audio file"
    os.truncate(path, path.stat().st_size // 2)
    return "is cut short: its header promises"


# ------------------------------------------------------------------- inputs that cannot be read at all


@pytest.mark.parametrize("how", ["gone", "empty", "no audio", "cut short"])
def test_an_unreadable_input_is_left_out_as_if_it_had_not_been_given(tmp_path, takes, wavenet_file, how):
    says = spoil(takes[1], how)
    arguments = {"items": 12, "shard_items": 5, **HOW}
    done = write_dataset([wavenet_file], takes, tmp_path / "set", **arguments)
    (error,) = done.errors
    assert error.startswith(f"{takes[1]}: {says}")
    assert (done.items, done.left_out) == (12, 0)
    clean = write_dataset([wavenet_file], [takes[0], takes[2]], tmp_path / "without", **arguments)
    assert clean.errors == ()
    assert contents(tmp_path / "set") == contents(tmp_path / "without")


def test_all_of_them_are_said_and_the_status_tells(tmp_path, takes, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for path, how in zip(takes[:2], ("gone", "no audio"), strict=True):
        spoil(path, how)
    command = ["dataset", "overdrive", *(path.name for path in takes), "-o", "set", "--items", "3"]
    for kept in ("", ", 1 shard already there"):
        assert main([*command, "--segment", "0.1"]) == 1
        out, err = capsys.readouterr()
        assert out.startswith("set: 3 pairs in 1 shard")
        assert kept in out
        first, second = err.splitlines()
        assert first == "backline: error: take 1.wav: no such file"
        assert second.startswith("backline: error: take 2.wav: not a readable audio file")


def test_a_repaired_input_makes_another_dataset(tmp_path, takes, wavenet_file):
    kept = takes[1].read_bytes()
    spoil(takes[1], "cut short")
    write_dataset([wavenet_file], takes, tmp_path / "set", items=4, **HOW)
    before = contents(tmp_path / "set")
    takes[1].write_bytes(kept)
    with pytest.raises(FileExists, match="holds another dataset, with other inputs"):
        write_dataset([wavenet_file], takes, tmp_path / "set", items=4, **HOW)
    assert contents(tmp_path / "set") == before


def test_without_any_readable_input_nothing_is_begun(tmp_path, takes, wavenet_file):
    for path in takes:
        spoil(path, "empty")
    with pytest.raises(
        AudioFileError, match=r"take 1.wav: is empty .*; and no other of 3 inputs can be read"
    ):
        write_dataset([wavenet_file], takes, tmp_path / "set", items=4, **HOW)
    with pytest.raises(AudioFileError, match=r"take 1.wav: is empty .* audio file$"):
        write_dataset([wavenet_file], takes[:1], tmp_path / "set", items=4, **HOW)
    assert not (tmp_path / "set").exists()


# --------------------------------------------------------------------- damage in the middle of an input


def damaged_at(path: Path, frame: int) -> None:
    """Make a sample of a float WAV file no number."""
    data = path.read_bytes()
    start = data.index(b"data") + 8
    path.write_bytes(data[: start + 4 * frame] + np.float32("nan").tobytes() + data[start + 4 * frame + 4 :])


def heard_of(planned, frame: int, number: int, items: int) -> list[int]:
    """Items whose model hears a frame of an input."""
    found = []
    for item in range(items):
        draw = planned.distribution.draw(item)
        field = planned.models[draw.model].receptive_field_frames
        first, end = draw.start_frame - field, draw.start_frame + planned.frames
        if draw.input == number and first <= frame < end:
            found.append(item)
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_pairs_of_a_damaged_part_are_left_out_and_no_others(tmp_path, takes, wavenet_file, threads):
    arguments = {"items": 40, "shard_items": 7, **HOW}
    write_dataset([wavenet_file], takes, tmp_path / "whole", **arguments)
    damaged_at(takes[1], 4000)
    told = []
    how = {**arguments, "threads": threads, "on_progress": lambda *news: told.append(news)}
    done = write_dataset([wavenet_file], takes, tmp_path / "set", **how)
    missing = heard_of(plan([wavenet_file], takes, **HOW), 4000, 1, 40)
    assert 2 < len(missing) < 20
    assert told == [(n, 40) for n in range(41)]
    assert (done.items, done.left_out, done.shards) == (40 - len(missing), len(missing), 6)
    assert done.errors == (
        f"{takes[1]}: frame 4000, channel 1 is not a finite number ({len(missing)} pairs left out)",
    )
    assert f", {len(missing)} pairs left out, " in str(done)
    assert list(left_out(tmp_path / "set")) == missing
    assert items_in(tmp_path / "set") == [item for item in range(40) if item not in missing]
    expected = {k: v for k, v in members(tmp_path / "whole").items() if int(k[:9]) not in missing}
    assert members(tmp_path / "set") == expected

    before = contents(tmp_path / "set")
    again = write_dataset([wavenet_file], takes, tmp_path / "set", **arguments)
    assert (again.kept, again.rendered_s) == (6, 0.0)
    assert (again.items, again.left_out, again.errors) == (done.items, done.left_out, done.errors)
    assert contents(tmp_path / "set") == before


@pytest.mark.parametrize("form", ["flac", "ogg", "mp3"])
def test_a_compressed_input_that_is_cut_short(tmp_path, takes, wavenet_file, form):
    """Whether or not it opens, the others' pairs are there, and equal bytes come of equal ones."""
    path = tmp_path / f"long.{form}"
    soundfile.write(path, array(5, 96000, 1), 48000)
    os.truncate(path, path.stat().st_size * 2 // 3)
    inputs = [takes[0], path]
    results = [
        write_dataset([wavenet_file], inputs, tmp_path / name, items=30, shard_items=4, threads=n, **HOW)
        for name, n in (("one", 1), ("two", 2))
    ]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert results[0].errors == results[1].errors
    assert results[0].items + results[0].left_out == 30
    assert results[0].items > 0
    assert len(items_in(tmp_path / "one")) == results[0].items
    if form == "flac":  # whose header says how long it is
        assert results[0].left_out > 0


def test_a_model_that_puts_out_no_number(tmp_path, takes):
    """It overflows: 1e30 times 1e30."""
    models = [backline.conv1d(np.full((1, 1, 1), 0.5)), loud_model(tmp_path)]
    done = write_dataset(models, takes, tmp_path / "set", items=12, shard_items=5, **HOW)
    planned = plan(models, takes, **HOW)
    expected = [item for item in range(12) if planned.distribution.draw(item).model == 1]
    assert list(left_out(tmp_path / "set")) == expected
    (error,) = done.errors
    assert error.startswith("loud: put out something that is no finite number for frames ")
    assert error.endswith(f"({len(expected)} pairs left out)")


def loud_model(folder: Path) -> backline.Model:
    from backline.graph import Graph
    from backline.layers import Conv1d

    weights = np.full((1, 1, 1), 1e30, np.float32)
    layers = (Conv1d("a", "x", weights, None), Conv1d("b", "a", weights, None))
    return backline.Model(Graph(layers, "x", 1, "b", name="loud"))


def test_no_pair_at_all(tmp_path, takes, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    backline.save(loud_model(tmp_path), "loud.backline")
    command = ["dataset", "loud.backline", *(path.name for path in takes), "-o", "set", "--items", "3"]
    for _ in range(2):
        assert main([*command, "--segment", "0.1"]) == 1
        out, err = capsys.readouterr()
        assert out.startswith("set: 0 pairs in 1 shard, 0 hours, 3 pairs left out")
        assert err.startswith("backline: error: loud: put out something that is no finite number")
        assert err.endswith("(3 pairs left out)\n")
        assert err.count("\n") == 1
    assert items_in(tmp_path / "set") == []


def test_what_is_left_out_is_known_after_a_kill(tmp_path, takes, wavenet_file):
    """By the journal: the shards it names are not rendered again, and their failures are reported."""
    damaged_at(takes[1], 4000)
    arguments = {"items": 40, "shard_items": 7, **HOW}
    whole = write_dataset([wavenet_file], takes, tmp_path / "whole", **arguments)

    def stop(done: int, total: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset([wavenet_file], takes, tmp_path / "set", on_progress=stop, **arguments)
    with open(tmp_path / "set" / ".backline-dataset.jsonl", "a") as journal:
        journal.write('{"name": "shard-000005.tar", "items": 5, "left_out": [{"item"')  # torn by a kill
    done = write_dataset([wavenet_file], takes, tmp_path / "set", **arguments)
    assert done.kept > 2
    assert (done.items, done.left_out, done.errors) == (whole.items, whole.left_out, whole.errors)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


# ----------------------------------------------------------------------- what is of the moment


def test_a_failure_that_does_not_come_again_is_none(tmp_path, takes, wavenet_file, monkeypatch):
    arguments = {"items": 12, "shard_items": 5, **HOW}
    write_dataset([wavenet_file], takes, tmp_path / "whole", **arguments)
    made, failed = PairMaker.make, []

    def make(self, draw):
        if draw.item not in failed:
            failed.append(draw.item)
            raise AudioFileError(f"{takes[draw.input]}: cannot be read: Too many open files")
        return made(self, draw)

    monkeypatch.setattr(PairMaker, "make", make)
    assert write_dataset([wavenet_file], takes, tmp_path / "set", **arguments).errors == ()
    assert len(failed) == 12
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def run_disturbed(models, takes, folder: Path, disturb, **how) -> BaseException:
    def on_progress(done: int, total: int) -> None:
        if done == 4:
            disturb()

    with pytest.raises(AudioFileError) as caught:
        write_dataset(models, takes, folder, on_progress=on_progress, **how)
    assert not list(folder.glob("*.part"))
    assert not (folder / "manifest.parquet").exists()
    return caught.value


def test_an_input_that_goes_away_for_a_while(tmp_path, takes, wavenet_file):
    """Shards without it are finished, the others are not begun to be counted as whole, and the next run
    makes them."""
    arguments = {"items": 60, "shard_items": 3, **HOW}
    write_dataset([wavenet_file], takes, tmp_path / "whole", **arguments)
    aside, folder = tmp_path / "aside", tmp_path / "set"
    error = run_disturbed([wavenet_file], takes, folder, lambda: takes[1].rename(aside), **arguments)
    planned = plan([wavenet_file], [takes[0], aside, takes[2]], **HOW)
    without = {
        f"shard-{n:06d}.tar"
        for n in range(20)
        if all(planned.distribution.draw(item).input != 1 for item in range(3 * n, 3 * n + 3))
    }
    there = {path.name for path in folder.glob("*.tar")}
    assert without <= there
    assert len(without) > 2
    assert len(there) < 20
    assert str(error) == (
        f"{takes[1]}: no such file; {20 - len(there)} shards of 20 not written, the same command goes on "
        f"with them"
    )
    shutil.move(aside, takes[1])
    done = write_dataset([wavenet_file], takes, folder, **arguments)
    assert (done.kept, done.errors) == (len(there), ())
    assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.parametrize("how", ["written to", "shorter", "damaged"])
def test_an_input_that_changes(tmp_path, takes, wavenet_file, how):
    arguments = {"items": 60, "shard_items": 3, **HOW}
    write_dataset([wavenet_file], takes, tmp_path / "whole", **arguments)
    before, stamp = takes[1].read_bytes(), takes[1].stat()

    def disturb() -> None:
        if how == "written to":
            write(takes[1].with_name("other.wav"), array(9, FRAMES, 1)).replace(takes[1])
        elif how == "shorter":
            os.truncate(takes[1], 20000)
        else:
            damaged_at(takes[1], 4000)

    folder = tmp_path / "set"
    error = run_disturbed([wavenet_file], takes, folder, disturb, **arguments)
    assert str(error) == f"{takes[1]}: has changed since the dataset was planned"
    with pytest.raises(FileExists, match="holds another dataset, with other inputs"):
        write_dataset([wavenet_file], takes, folder, **arguments)
    takes[1].write_bytes(before)
    os.utime(takes[1], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    write_dataset([wavenet_file], takes, folder, **arguments)
    assert contents(folder) == contents(tmp_path / "whole")


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_a_full_disk_loses_nothing(tmp_path, takes, wavenet_file):
    """Every shard that was finished stays, no half of one does, and with more room it goes on."""
    arguments = {"items": 60, "shard_items": 3, **HOW}
    write_dataset([wavenet_file], takes, tmp_path / "whole", **arguments)
    with small_disk(tmp_path / "disk", "400k"):
        folder = tmp_path / "disk" / "set"
        for _ in range(2):
            with pytest.raises(DiskFull, match=r"shard-0000\d\d.tar: cannot be written: No space left"):
                write_dataset([wavenet_file], takes, folder, **arguments)
            assert not list(folder.glob("*.part"))
            found = contents(folder)
            finished = {name: sha for name, sha in found.items() if name.endswith(".tar")}
            assert len(finished) >= 3
            assert finished.items() <= contents(tmp_path / "whole").items()
        subprocess.run(["mount", "-o", "remount,size=20m", tmp_path / "disk"], check=True)
        done = write_dataset([wavenet_file], takes, folder, **arguments)
        assert done.kept == len(finished)
        assert contents(folder) == contents(tmp_path / "whole")
