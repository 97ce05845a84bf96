"""Places that are URLs: what is meant by them, and runs whose inputs, models and outputs are elsewhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from batch_tools import Desk, write_take

from backline.batch import (
    Done,
    Job,
    Journal,
    ModelChoice,
    RenderOptions,
    describe,
    drafts,
    manifest,
    matrix,
    run,
    storage,
)
from backline.batch.drafts import UrlDraft
from backline.batch.jobs import find_models, find_sources
from backline.batch.plan import Action
from backline.batch.storage import Url, place
from backline.errors import AudioFileError, BacklineError, FileExists, MissingDependency, ModelError

fsspec = pytest.importorskip("fsspec", reason="needs fsspec, which is not installed")


@pytest.fixture
def memory():
    """An empty file system in this process's memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The folder in which copies lie."""
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(storage, "_copies", folder)
    return folder


def uploaded(memory, desk) -> None:
    for path in [*desk.takes, *desk.models]:
        memory.pipe(f"/bucket/{path.relative_to(desk.folder).as_posix()}", path.read_bytes())


def jobs_in_memory(desk) -> list[Job]:
    models = [ModelChoice(f"memory://bucket/{path.name}") for path in desk.models]
    options = RenderOptions(tail_s=0.0)
    return matrix(models, ["memory://bucket/takes/*.wav"], "memory://bucket/out/deep", options=options)


def outputs(memory) -> dict[str, bytes]:
    return {name.rpartition("/")[2]: memory.cat(name) for name in memory.find("/bucket/out")}


def figures(summary) -> tuple[int, int, int]:
    return summary.done, summary.skipped, len(summary.failed)


@pytest.mark.parametrize(
    ("text", "name", "stem", "suffix", "parent"),
    [
        ("s3://bucket/takes/a.b.wav", "a.b.wav", "a.b", ".wav", "s3://bucket/takes"),
        ("memory://a.wav", "a.wav", "a", ".wav", "memory://"),
        ("ssh://me@host:22/take", "take", "take", "", "ssh://me@host:22"),
        ("zip::s3://bucket/all.zip", "all.zip", "all", ".zip", "zip::s3://bucket"),
    ],
)
def test_parts_of_a_url(text, name, stem, suffix, parent):
    url = place(text)
    assert isinstance(url, Url)
    assert (url.name, url.stem, url.suffix, url.parent) == (name, stem, suffix, parent)
    assert isinstance(url.parent, Url)
    assert url.parent / name == url
    assert url / Path("x/y.wav") == f"{text}/x/y.wav"


@pytest.mark.parametrize(
    "text", ["takes/a.wav", "/a//b.wav", "a:b.wav", "C:/a.wav", "://a", Path("s3://b/a")]
)
def test_paths_are_no_urls(text):
    assert place(text) == Path(text)


def test_a_file_url_is_a_path():
    assert place("file:///tmp/a%20take.wav") == Path("/tmp/a take.wav")


def test_what_is_meant_by_urls(memory):
    for name in ("b.wav", "a.WAV", "deep/c.flac", ".hidden.wav", ".deep/d.wav", "notes.txt", "raw.raw"):
        memory.pipe(f"/bucket/takes/{name}", b"x")
    takes = "memory://bucket/takes"
    assert find_sources([takes]) == [f"{takes}/a.WAV", f"{takes}/b.wav", f"{takes}/deep/c.flac"]
    assert find_sources([f"{takes}/?.wav", f"{takes}/b.wav"]) == [f"{takes}/b.wav"]
    assert find_sources([f"{takes}/**/*.flac"]) == [f"{takes}/deep/c.flac"]
    assert find_sources([f"{takes}/gone.wav"]) == [f"{takes}/gone.wav"]
    assert find_models([f"{takes}/*.txt", f"{takes}/x.nam"]) == [f"{takes}/notes.txt", f"{takes}/x.nam"]
    assert all(type(found) is str for found in find_models([f"{takes}/*.txt"]))
    with pytest.raises(AudioFileError, match=r"\*.mp3: holds no audio files, or matches none"):
        find_sources([f"{takes}/*.mp3"])
    with pytest.raises(ModelError, match="matches no file"):
        find_models([f"{takes}/*.nam"])


def test_names_below_a_host_keep_it(tmp_path):
    """`local` is a protocol whose file system calls its files by paths alone, as that of ssh does."""
    write_take(tmp_path / "takes" / "a.wav")
    assert find_sources([f"local://{tmp_path}/takes/*.wav"]) == [f"local://{tmp_path}/takes/a.wav"]
    assert find_sources([f"local://{tmp_path}/takes"]) == [f"local://{tmp_path}/takes/a.wav"]
    assert find_sources([f"file://{tmp_path}/takes/*.wav"]) == [tmp_path / "takes" / "a.wav"]


def test_a_matrix_of_urls():
    jobs = matrix(
        [ModelChoice("s3://models/amp.nam")],
        ["gs://b/x/take.wav"],
        "s3://out",
        "{folder}/{input}-{model}.flac",
    )
    assert jobs == [Job(jobs[0].model, Url("gs://b/x/take.wav"), Url("s3://out/x/take-amp.flac"))]
    with pytest.raises(AudioFileError, match="is an input or a model"):
        matrix([ModelChoice("overdrive")], ["s3://b/a.wav"], "s3://b", "{input}.wav")
    with pytest.raises(AudioFileError, match="would be made twice"):
        matrix([ModelChoice("overdrive")], ["s3://b/a.wav", "s3://c/a.wav"], "s3://d", "{input}.wav")


def test_a_job_file_of_urls(tmp_path):
    table = tmp_path / "jobs.csv"
    table.write_text(
        "input,model,output\ns3://b/a.wav,s3://b/m.nam,out/a.wav\na.wav,overdrive,s3://b/o.wav\n"
    )
    first, second = manifest.read(table)
    assert (first.source, first.model.path, first.target) == (
        *(Url("s3://b/a.wav"), "s3://b/m.nam"),
        tmp_path / "out/a.wav",
    )
    assert (second.source, second.target) == (tmp_path / "a.wav", Url("s3://b/o.wav"))


def test_urls_in_and_out_are_what_files_are(memory, desk):
    run(desk.jobs(), journal=desk.journal)
    uploaded(memory, desk)
    events, journal = [], desk.folder / "remote.sqlite"
    summary = run(jobs_in_memory(desk), journal=journal, on_event=events.append)
    assert figures(summary) == (8, 0, 0)
    assert outputs(memory) == desk.files()
    done = next(event for event in events if isinstance(event, Done))
    assert str(done.report).startswith("memory://bucket/out/deep/")
    with Journal(journal) as found:
        assert found.renders() == [1] * 8
        assert found.report(jobs_in_memory(desk)[0].target)["source"] == "memory://bucket/takes/0.wav"
    assert not list(desk.folder.glob("memory*"))


@pytest.mark.parametrize("which", ["input", "output"])
def test_one_side_may_be_here(memory, desk, which):
    run(desk.jobs(), journal=desk.journal)
    whole = desk.files()
    uploaded(memory, desk)
    for job in desk.jobs():
        job.target.unlink()
    jobs = [
        Job(job.model, far.source, job.target, job.options)
        if which == "input"
        else Job(job.model, job.source, far.target, job.options)
        for job, far in zip(desk.jobs(), jobs_in_memory(desk), strict=True)
    ]
    assert figures(run(jobs, journal=desk.folder / "other.sqlite", overwrite=True)) == (8, 0, 0)
    assert (desk.files() if which == "input" else outputs(memory)) == whole


def test_a_second_run_fetches_nothing(memory, desk, monkeypatch):
    uploaded(memory, desk)
    journal = desk.folder / "remote.sqlite"
    monkeypatch.setattr("backline.batch.journal._RACY_URL_NS", 0)
    run(jobs_in_memory(desk), journal=journal)
    fetched = []
    fetch = storage.fetch
    monkeypatch.setattr(storage, "fetch", lambda url, *rest: (fetched.append(url), fetch(url, *rest))[1])
    monkeypatch.setattr(storage, "hash_of", lambda where: fetched.append(where))
    assert figures(run(jobs_in_memory(desk), journal=journal)) == (0, 8, 0)
    assert {url.suffix for url in fetched} == {".nam"}
    monkeypatch.undo()
    memory.pipe("/bucket/takes/1.wav", write_take(desk.folder / "new.wav", seed=99).read_bytes())
    plans = [planned.action for planned in describe(jobs_in_memory(desk), journal)]
    assert (plans.count(Action.RENDER), plans.count(Action.SKIP)) == (2, 6)
    assert figures(run(jobs_in_memory(desk), journal=journal)) == (2, 6, 0)


def test_outputs_that_are_not_ours_stay(memory, desk):
    uploaded(memory, desk)
    journal = desk.folder / "remote.sqlite"
    first, second = jobs_in_memory(desk)[:2]
    memory.pipe("/bucket/out/deep/0-small.wav", b"mine")
    summary = run([first, second], journal=journal)
    assert figures(summary) == (1, 0, 1)
    assert str(summary.failed[0].error) == f"{first.target}: exists already"
    assert isinstance(summary.failed[0].error, FileExists)
    memory.pipe("/bucket/out/deep/1-small.wav", b"changed")
    summary = run([second], journal=journal)
    assert "somebody changed it" in str(summary.failed[0].error)
    assert outputs(memory) == {"0-small.wav": b"mine", "1-small.wav": b"changed"}
    assert figures(run([first, second], journal=journal, overwrite=True)) == (2, 0, 0)


def test_a_kill_between_commit_and_move_renders_nothing_twice(memory, desk, monkeypatch):
    uploaded(memory, desk)
    journal = desk.folder / "remote.sqlite"

    class Killed(BaseException):
        pass

    def killed(self):
        raise Killed

    monkeypatch.setattr(UrlDraft, "publish", killed)
    monkeypatch.setattr("backline.batch.runner._Run._break_off", lambda self: [])
    monkeypatch.setattr("backline.batch.runner._Run._end", lambda self, **_: None)
    with pytest.raises(Killed):
        run(jobs_in_memory(desk), threads=1, journal=journal)
    monkeypatch.undo()
    time.sleep(0.5)  # what its workers were at ends
    with Journal(journal) as found:
        finished = len(found.finished())
    assert finished >= 1
    summary = run(jobs_in_memory(desk), journal=journal)
    assert (summary.resumed, summary.done, summary.skipped) == (finished, 8 - finished, finished)
    with Journal(journal) as found:
        assert found.renders() == [1] * 8
    assert all(name.endswith(".wav") for name in outputs(memory))


def test_failures_name_the_url_and_leave_nothing(memory, desk, copies):
    uploaded(memory, desk)
    memory.pipe("/bucket/takes/0.wav", desk.takes[0].read_bytes()[:5000])
    jobs = jobs_in_memory(desk)[:4]
    memory.rm("/bucket/takes/1.wav")
    jobs.append(
        Job(ModelChoice("memory://bucket/none.nam"), jobs[2].source, Url("memory://bucket/out/x.wav"))
    )
    summary = run(jobs, journal=desk.folder / "remote.sqlite")
    assert figures(summary) == (2, 0, 3)
    texts = {str(failed.error) for failed in summary.failed}
    assert "memory://bucket/takes/1.wav: no such file" in texts
    assert "memory://bucket/none.nam: no such file" in texts
    assert any(text.startswith("memory://bucket/takes/0.wav: is cut short") for text in texts)
    assert list(copies.iterdir()) == []
    assert len(outputs(memory)) == 2


def test_a_run_that_ends_does_not_fetch_to_the_end(memory, desk, monkeypatch, copies):
    uploaded(memory, desk)
    memory.pipe("/bucket/takes/0.wav", bytes(100_000))
    monkeypatch.setattr(storage, "_BLOCK_BYTES", 100)
    read = []
    blocks = storage._blocks

    def slowly(url):
        for block in blocks(url):
            if url.name == "0.wav":
                read.append(block)
                time.sleep(0.01)
            yield block

    def on_event(event):
        raise BrokenPipeError

    monkeypatch.setattr(storage, "_blocks", slowly)
    with pytest.raises(BrokenPipeError):
        run(jobs_in_memory(desk)[:1], threads=1, on_event=on_event)
    assert len(read) < 1000
    assert list(copies.iterdir()) == []
    assert outputs(memory) == {}


def test_protocols_that_are_not_there(monkeypatch, desk):
    with pytest.raises(BacklineError, match=r"nothing://a/.*: cannot be read: Protocol not known"):
        find_sources(["nothing://a/*.wav"])
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingDependency, match=r'memory://a: URLs need fsspec.*"backline\[cluster\]"'):
        find_sources(["memory://a"])


def test_paths_need_no_fsspec(desk):
    code = (
        "import sys; sys.modules['fsspec'] = None; sys.modules['distributed'] = None\n"
        "from backline.batch import ModelChoice, matrix, run\n"
        "jobs = matrix([ModelChoice(sys.argv[1])], [sys.argv[2]], sys.argv[3])\n"
        "print(run(jobs).done)"
    )
    command = [sys.executable, "-c", code, desk.models[0], desk.takes[0], desk.out]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_where_a_journal_lies(tmp_path, monkeypatch):
    assert storage.journal_for("out") == Path("out/.backline-journal.sqlite")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = storage.journal_for("s3://bucket/out")
    assert found.parent == tmp_path / "backline"
    assert found == storage.journal_for("s3://bucket/out/")
    assert found != storage.journal_for("s3://bucket/out2")


def test_a_copy_is_flat_in_memory_and_hashed(tmp_path):
    content = os.urandom(1 << 16) * 512  # 32 MiB
    (tmp_path / "big.raw").write_bytes(content)
    big = Url(f"local://{tmp_path}/big.raw")
    tracemalloc.start()
    found = storage.fetch(big, tmp_path / "copy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    assert found.sha256 == hashlib.sha256(content).hexdigest() == storage.hash_of(big)
    assert (tmp_path / "copy").read_bytes() == content


def test_a_server_that_is_away_while_a_run_goes_on_where_another_was(memory, tmp_path, monkeypatch):
    """Nothing is taken for lost because it could not be asked for."""
    memory.pipe("/bucket/.backline-1.part", b"whole")
    draft = UrlDraft(Url("memory://bucket/a.wav"), Url("memory://bucket/.backline-1.part"))
    known = hashlib.sha256(b"whole").hexdigest()

    def away(*_, **__):
        raise ConnectionError("nobody there")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "info", away)
        with pytest.raises(AudioFileError, match="cannot be read: nobody there"):
            drafts.resumed(draft, known)
    assert drafts.resumed(draft, known)
    assert memory.find("/bucket") == ["/bucket/a.wav"]


@pytest.mark.parametrize("attempt", [None, 0, 5])
def test_attempts_are_found_by_what_is_in_them(tmp_path, attempt):
    draft = drafts.draft_of(tmp_path / "a.wav", overwrite=False)
    for each in draft.attempts[:3]:
        each.temporary.write_bytes(b"half")
    whole = draft if attempt is None else draft.attempts[attempt]
    whole.temporary.write_bytes(b"whole")
    assert drafts.resumed(draft, hashlib.sha256(b"whole").hexdigest())
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert draft.target.read_bytes() == b"whole"
