"""Files that change on disk are noticed once they are still."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backline.live.watch import Watch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.nam"
    path.write_text("one")
    return path


def test_nothing_has_changed(file: Path) -> None:
    watch = Watch([file])
    assert [watch.poll(), watch.poll()] == [[], []]


def test_a_change_is_told_once_and_only_when_still(file: Path) -> None:
    watch = Watch([file])
    file.write_text("two and more")
    assert watch.poll() == []
    file.write_text("two and even more")
    assert watch.poll() == []
    assert watch.poll() == [file]
    assert watch.poll() == []


def test_a_file_renamed_over_it_is_a_change(file: Path) -> None:
    watch = Watch([file])
    other = file.with_name("new.part")
    other.write_text("six")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert [watch.poll(), watch.poll()] == [[], [file]]


def test_a_change_of_the_same_size_is_one(file: Path) -> None:
    watch = Watch([file])
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert [watch.poll(), watch.poll()] == [[], [file]]


def test_a_vanished_file_is_told_when_it_is_back(file: Path) -> None:
    watch = Watch([file])
    file.unlink()
    assert [watch.poll(), watch.poll(), watch.poll()] == [[], [], []]
    file.write_text("back")
    assert [watch.poll(), watch.poll()] == [[], [file]]


def test_what_stays_away_has_gone(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.nam"
    other.write_text("two")
    watch = Watch([file, other])
    file.rename(tmp_path / "elsewhere")
    told = [(watch.poll(), watch.gone) for _ in range(9)]
    assert told == [([], set())] * 7 + [([], {file})] * 2
    (tmp_path / "elsewhere").rename(file)
    assert (watch.poll(), watch.gone) == ([], set())


def test_one_that_is_not_there_yet(tmp_path: Path) -> None:
    watch = Watch([tmp_path / "later"])
    assert watch.poll() == []
    (tmp_path / "later").write_text("now")
    assert [watch.poll(), watch.poll()] == [[], [tmp_path / "later"]]


def test_several_are_told_apart(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("x")
    watch = Watch([file, other])
    other.write_text("xy")
    assert [watch.poll(), watch.poll()] == [[], [other]]
