"""The journal: what a damaged, newer or foreign one leads to, and what follows a kill at any moment."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import pytest
import soak_batch
from batch_tools import Desk
from graphs import examples
from hypothesis import given
from hypothesis import strategies as st

from backline.batch import Journal, run
from backline.batch.files import Known, hash_of
from backline.errors import BacklineError
from backline.pending import Draft

DIE_AT = range(1, 25)


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.mark.parametrize("state", ["started", "finished"])
def test_a_journal_that_names_somebody_elses_file_removes_nothing(desk, state):
    run(desk.jobs(), journal=desk.journal)
    other = desk.folder / "novel.txt"
    other.write_text("Call me")
    content = (hash_of(other), 7, 0, "{}")
    with contextlib.closing(sqlite3.connect(desk.journal)) as connection, connection:
        row = ("../novel.txt", "0-small.wav", 1, state, "key", *content)
        connection.execute("INSERT INTO temporaries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    outputs = desk.files()
    with pytest.raises(BacklineError, match=r"novel\.txt is no temporary of ours.*nothing was deleted"):
        run(desk.jobs(), journal=desk.journal)
    assert other.read_text() == "Call me"
    assert desk.files() == outputs


def test_a_damaged_journal_is_a_sentence_and_stays(desk):
    run(desk.jobs(), journal=desk.journal)
    outputs = desk.files()
    whole = desk.journal.read_bytes()
    for damaged in (b"no database at all" * 100, whole[:4096] + bytes(4096) + whole[8192:], whole[:5000]):
        desk.journal.write_bytes(damaged)
        with pytest.raises(BacklineError, match=r"the journal is damaged \(.*nothing was deleted"):
            run(desk.jobs(), journal=desk.journal)
        assert desk.journal.read_bytes() == damaged
        assert desk.files() == outputs


def test_a_newer_journal_and_one_of_another_program(desk):
    run(desk.jobs(), journal=desk.journal)
    connection = sqlite3.connect(desk.journal)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(BacklineError, match="version 2, made by a newer Backline; this one knows 1"):
        Journal(desk.journal)
    other = desk.folder / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    before = other.read_bytes()
    with pytest.raises(BacklineError, match="database of another program"):
        Journal(other)
    assert other.read_bytes() == before


def test_the_folder_may_be_moved(desk):
    run(desk.jobs(), journal=desk.journal)
    moved = desk.folder / "elsewhere"
    desk.out.rename(moved)
    desk.out, desk.journal = moved, moved / desk.journal.name
    assert run(desk.jobs(), journal=desk.journal).skipped == 8


def test_names_that_are_no_text(desk):
    job = desk.jobs()[0]
    source = Path(os.fsdecode(os.fsencode(desk.folder) + b"/takes/\xff.wav"))
    os.rename(job.source, source)
    odd = type(job)(job.model, source, Path(os.fsdecode(os.fsencode(desk.out) + b"/\xfe.wav")))
    assert run([odd], journal=desk.journal).done == 1
    assert run([odd], journal=desk.journal).skipped == 1


@pytest.mark.parametrize(
    "state", ["no file", "half", "finished", "linked", "renamed", "name taken", "other content"]
)
def test_what_a_killed_run_left(tmp_path, state):
    path = tmp_path / "journal.sqlite"
    draft = Draft.of(tmp_path / "a.wav")
    (tmp_path / ".backline-000000000000.part").write_bytes(b"another program's")
    with Journal(path) as journal:
        with journal.transaction():
            journal.note_started(draft)
        if state != "no file":
            draft.temporary.write_bytes(b"content")
        if state not in ("no file", "half"):
            found = draft.temporary.stat()
            known = Known("key", hash_of(draft.temporary), found.st_size, found.st_mtime_ns)
            with journal.transaction():
                journal.note_finished(draft, known, "{}")
    if state == "linked":
        os.link(draft.temporary, draft.target)
    elif state == "renamed":
        draft.temporary.rename(draft.target)
    elif state == "name taken":
        draft.target.write_bytes(b"somebody else's")
    elif state == "other content":
        draft.temporary.write_bytes(b"CONTENT")
    with Journal(path) as journal:
        recovered = journal.recover()
        is_there = state in ("finished", "linked", "renamed")
        assert (recovered.published, recovered.removed) == ((1, 0) if is_there else (0, 1))
        assert (journal.output(draft.target) is not None) == is_there
        assert journal.recover().published == 0
    expected = {
        "finished": b"content",
        "linked": b"content",
        "renamed": b"content",
        "name taken": b"somebody else's",
    }
    assert (draft.target.read_bytes() if draft.target.exists() else None) == expected.get(state)
    assert not draft.temporary.exists()
    assert (tmp_path / ".backline-000000000000.part").exists()


@pytest.mark.parametrize("state", ["started", "finished"])
def test_a_journal_from_elsewhere_harms_no_other_file(tmp_path, state):
    """It may have come with a folder of takes: what it says is touched only if a run can have made it."""
    mine = tmp_path / "mine.wav"
    mine.write_bytes(b"mine")
    folder = tmp_path / "takes"
    folder.mkdir()
    part = folder / ".backline-0123456789ab.part"
    part.write_bytes(b"theirs")
    for temporary, target, overwrite in (("../mine.wav", "a.wav", 0), (part.name, "../mine.wav", 1)):
        (folder / "journal.sqlite").unlink(missing_ok=True)
        with Journal(folder / "journal.sqlite") as journal, journal.transaction():
            values = (temporary, target, overwrite, state, "key", hash_of(folder / temporary), 4, 0, "{}")
            journal._execute("INSERT INTO temporaries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        with Journal(folder / "journal.sqlite") as journal:
            if temporary == part.name:
                assert journal.recover().published == 0
            else:
                with pytest.raises(BacklineError, match=r"mine\.wav is no temporary of ours.*nothing was"):
                    journal.recover()
        assert mine.read_bytes() == b"mine"
    assert not (folder / "a.wav").exists()


def test_a_transaction_is_all_or_nothing(tmp_path):
    draft = Draft.of(tmp_path / "a.wav")
    with Journal(tmp_path / "journal.sqlite") as journal:
        with pytest.raises(BacklineError, match="UNIQUE"), journal.transaction():
            [journal.note_started(each) for each in (draft, draft)]
        assert journal.recover().removed == 0


@examples(30)
@given(names=st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20), unique=True, max_size=5))  # fmt: skip  # noqa: E501
def test_names_of_all_kinds_are_found_again(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    drafts = [Draft.of(folder / f"x{name}") for name in names]
    with Journal(folder / "journal.sqlite") as journal:
        with journal.transaction():
            for number, draft in enumerate(drafts):
                journal.note_started(draft)
                journal.note_finished(draft, Known(f"{number}", "hash", number, 0), "{}")
                journal.note_published(draft)
        assert [journal.output(draft.target) for draft in drafts] == [
            Known(f"{number}", "hash", number, 0) for number in range(len(names))
        ]


@pytest.fixture(scope="module")
def small_soak(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills") / "soak"
    soak_batch.prepare(folder, 8)
    assert soak_batch.start(folder, folder / "undisturbed").wait() == 0
    return folder, soak_batch.contents(folder / "undisturbed")


def test_a_kill_at_each_moment_where_something_changes(small_soak, tmp_path):
    """Around each of the first commits and renames, and every later process dies a little later."""
    folder, expected = small_soak
    out = tmp_path / "killed"
    for die_at in DIE_AT:
        if soak_batch.start(folder, out, die_at).wait() != -signal.SIGKILL:
            break
    assert soak_batch.start(folder, out).wait() == 0
    assert soak_batch.differences(out, expected) == []


@pytest.mark.parametrize("die_at", [3, 4, 5, 6, 7, 8, 9, 12])
def test_one_kill_and_then_to_the_end(small_soak, tmp_path, die_at):
    folder, expected = small_soak
    out = tmp_path / "killed"
    assert soak_batch.start(folder, out, die_at).wait() == -signal.SIGKILL
    assert soak_batch.start(folder, out).wait() == 0
    assert soak_batch.differences(out, expected) == []


def test_kills_at_random_moments(tmp_path):
    assert soak_batch.soak(tmp_path / "soak", kills=8, files=40, seed=7) == []


def test_a_killed_run_holds_no_lock(small_soak, tmp_path):
    folder, _ = small_soak
    out = tmp_path / "killed"
    child = soak_batch.start(folder, out)
    child.send_signal(signal.SIGSTOP)
    try:
        if (out / soak_batch.JOURNAL_NAME).exists():
            with pytest.raises(BacklineError, match=f"process {child.pid} on"):
                Journal(out / soak_batch.JOURNAL_NAME)
    finally:
        child.kill()
        child.wait()
    out.mkdir(exist_ok=True)
    Journal(out / soak_batch.JOURNAL_NAME).close()
