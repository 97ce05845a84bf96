"""`backline render` of many files: matrix, job files, dry runs, the journal; null against a reference."""

from __future__ import annotations

import os
import re
import signal

import numpy as np
import pytest
from batch_tools import Desk, write_take
from cli_tools import on_terminal, start

import backline
from backline.audiofile import AudioWriter, read
from backline.batch import Done, Failed, Job, ModelChoice, Progress, Skipped
from backline.cli._tally import Tally, clock_text
from backline.render import RenderReport


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path, takes=3)


def matrix(cli, desk, *options):
    """Both models over all takes."""
    return cli("render", "--matrix", *desk.models, *desk.takes, "-o", f"{desk.out}/", *options)


# ------------------------------------------------------------------------------------------------- matrix


def test_every_model_over_every_take(cli, desk):
    status, out, err = matrix(cli, desk, "--name", "{model}/{input}-{index:02d}.flac", "--tail", "0")
    assert status == 0
    assert err.startswith("backline: 6 of 6 rendered, 0.6 s of audio, ")
    names = [
        f"{model.stem}/{n}-{3 * at + n + 1:02d}.flac"
        for at, model in enumerate(desk.models)
        for n in range(3)
    ]
    assert sorted(desk.files()) == sorted(names)
    assert sorted(line.partition(": ")[0] for line in out.splitlines()) == sorted(
        str(desk.out / name) for name in names
    )
    x, _ = read(desk.takes[1])
    y, _ = read(desk.out / "small" / "1-02.flac")
    np.testing.assert_allclose(y, backline.load(desk.models[0])(x), atol=2.0**-22)  # 24 bits, dithered


def test_a_second_run_does_what_is_missing_or_changed(cli, desk):
    assert matrix(cli, desk)[0] == 0
    first = desk.files()
    assert matrix(cli, desk)[1:] == ("", "backline: 0 of 6 rendered, 6 up to date\n")
    (desk.out / "0-small.wav").unlink()
    write_take(desk.takes[1], seed=77, overwrite=True)
    status, out, err = matrix(cli, desk)
    assert status == 0
    assert {line.partition(": ")[0] for line in out.splitlines()} == {
        str(desk.out / name) for name in ("0-small.wav", "1-small.wav", "1-smaller.wav")
    }
    assert err.startswith("backline: 3 of 6 rendered, 3 up to date, ")
    second = desk.files()
    assert {name for name in first if first[name] != second[name]} == {"1-small.wav", "1-smaller.wav"}


def test_what_somebody_changed_is_kept_until_told_otherwise(cli, desk):
    assert matrix(cli, desk)[0] == 0
    whole = desk.files()
    victim = desk.out / "2-small.wav"
    victim.write_bytes(b"mine")
    status, out, err = matrix(cli, desk)
    assert (status, out) == (1, "")
    assert err == (
        f"backline: error: {victim}: is not what was rendered, somebody changed it (--force replaces it)\n"
        "backline: 0 of 6 rendered, 5 up to date, 1 failed\n"
    )
    assert victim.read_bytes() == b"mine"
    assert matrix(cli, desk, "--verify")[0] == 0
    assert desk.files() == whole


def test_verify_finds_what_sizes_and_times_hide(cli, desk):
    assert matrix(cli, desk)[0] == 0
    whole = desk.files()
    victim = desk.out / "1-smaller.wav"
    times = victim.stat()
    data = bytearray(victim.read_bytes())
    data[-3] ^= 1
    victim.write_bytes(data)
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert matrix(cli, desk)[2] == "backline: 0 of 6 rendered, 6 up to date\n"
    status, out, _ = matrix(cli, desk, "--verify")
    assert status == 0
    assert out.startswith(f"{victim}: ")
    assert desk.files() == whole


def test_a_dry_run_lists_and_writes_nothing(cli, desk):
    status, out, err = matrix(cli, desk, "--dry-run")
    assert (status, err) == (0, "backline: dry run: 6 to render; nothing was written\n")
    assert out.splitlines()[0] == (
        f"render {desk.out / '0-small.wav'}: {desk.takes[0]} through {desk.models[0]} (new)"
    )
    assert len(out.splitlines()) == 6
    assert not desk.out.exists()
    assert matrix(cli, desk)[0] == 0
    (desk.out / "0-small.wav").unlink()
    before = desk.files()
    status, out, err = matrix(cli, desk, "-n")
    assert (status, err) == (0, "backline: dry run: 1 to render, 5 to skip; nothing was written\n")
    assert sorted(line.rpartition("(")[2] for line in out.splitlines()) == ["missing)"] + ["up to date)"] * 5
    assert desk.files() == before


def test_a_dry_run_looks_while_somebody_works(cli, desk):
    assert matrix(cli, desk)[0] == 0
    with backline.batch.Journal(desk.journal):
        before = {path.name: path.stat() for path in desk.out.iterdir()}
        status, _, err = matrix(cli, desk, "--dry-run")
        assert {path.name: path.stat() for path in desk.out.iterdir()} == before
    assert (status, err) == (0, "backline: dry run: 6 to skip; nothing was written\n")


def test_a_dry_run_of_one_file(cli, desk, tmp_path):
    target = tmp_path / "out.wav"
    status, out, _ = cli("render", desk.models[0], desk.takes[0], "-o", target, "-n")
    assert (status, out) == (0, f"render {target}: {desk.takes[0]} through {desk.models[0]} (new)\n")
    assert not target.exists()
    target.touch()
    status, out, err = cli("render", desk.models[0], desk.takes[0], "-o", target, "-n")
    assert (status, out) == (1, "")
    assert err.startswith(f"backline: error: {target}: exists already (--force replaces it)\n")


def test_failures_are_told_at_the_end_and_each_once(cli, desk):
    bad_take, bad_model = desk.folder / "takes" / "bad.wav", desk.folder / "bad.nam"
    bad_take.write_text("nothing to hear")
    bad_model.write_text("{")
    arguments = [*desk.models, bad_model, *desk.takes, bad_take, "-o", f"{desk.out}/"]
    status, out, err = cli("render", "--matrix", *arguments)
    assert status == 1
    assert len(out.splitlines()) == 6
    *errors, summary = err.splitlines()
    assert len(errors) == 2
    assert re.fullmatch(rf"backline: error: {re.escape(str(bad_model))}: .* \(\d files\)", errors[1])
    assert re.fullmatch(rf"backline: error: {re.escape(str(bad_take))}: .* \(\d files\)", errors[0])
    assert summary.startswith("backline: 6 of 12 rendered, 6 failed, ")
    assert len(desk.files()) == 6


def test_a_second_run_at_the_same_time_is_refused(cli, desk):
    desk.out.mkdir()
    with backline.batch.Journal(desk.journal):
        status, out, err = matrix(cli, desk)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert str(desk.out) in err
    assert desk.files() == {}


def test_names_that_cannot_be(cli, desk):
    for name, says in (
        ("{input}.wav", "would be made twice"),
        ("{input}-{model}.doc", "cannot write .doc files"),
        ("{take}.wav", "{take} is not known"),
        ("../{input}-{model}.wav", "no name of a file inside"),
    ):
        status, out, err = matrix(cli, desk, "--name", name)
        assert (status, out) == (1, "")
        assert says in err
    assert not desk.out.exists()


# ------------------------------------------------------------------- folders, journals of one's own, files


def test_a_folder_of_takes_through_one_model(cli, desk):
    status, out, err = cli("render", desk.models[0], desk.folder / "takes", "-o", f"{desk.out}/")
    assert (status, err) == (0, "")
    assert sorted(desk.files()) == ["0.wav", "1.wav", "2.wav"]
    assert not desk.journal.exists()
    assert len(out.splitlines()) == 3
    status, _, err = cli("render", desk.models[0], desk.folder / "takes", "-o", f"{desk.out}/")
    assert status == 1
    assert err.count("exists already (--force replaces it)") == 3


def test_one_model_with_a_journal_and_names(cli, desk, tmp_path):
    arguments = ["render", desk.models[0], *desk.takes, "-o", f"{desk.out}/", "--name", "{input}-wet.wav"]
    arguments += ["--journal", tmp_path / "own.sqlite"]
    assert cli(*arguments)[0] == 0
    assert sorted(desk.files()) == ["0-wet.wav", "1-wet.wav", "2-wet.wav"]
    assert (tmp_path / "own.sqlite").is_file()
    assert cli(*arguments)[1:] == ("", "backline: 0 of 3 rendered, 3 up to date\n")


@pytest.mark.parametrize("kind", ["toml", "csv"])
def test_a_job_file(cli, desk, kind):
    path = desk.folder / f"jobs.{kind}"
    if kind == "toml":
        pytest.importorskip("tomllib", reason="TOML needs Python 3.11")
        path.write_text(
            '[defaults]\nmodel = "small.nam"\ntail = 0\n'
            '[[job]]\ninput = "takes/0.wav"\noutput = "out/a/0.wav"\ngain = -6\n'
            '[[job]]\ninput = "takes/1.wav"\noutput = "out/b/1.wav"\nmix = 0.5\n'
        )
    else:
        path.write_text(
            "input,model,output,gain,mix,tail\n"
            "takes/0.wav,small.nam,out/a/0.wav,-6,,0\n"
            "takes/1.wav,small.nam,out/b/1.wav,,0.5,0\n"
        )
    status, out, err = cli("render", "--jobs", path)
    assert status == 0
    assert err.startswith("backline: 2 of 2 rendered, 0.2 s of audio")
    assert len(out.splitlines()) == 2
    model = backline.load(desk.models[0])
    x = [read(take)[0] for take in desk.takes]
    y, z = read(desk.out / "a" / "0.wav")[0], read(desk.out / "b" / "1.wav")[0]
    np.testing.assert_allclose(y, model(x[0]) * 10 ** (-6 / 20), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(z, (model(x[1]) + x[1]) / 2, rtol=1e-5, atol=1e-7)
    assert desk.journal.is_file()  # in the folder that both are below
    assert cli("render", "--jobs", path)[2] == "backline: 0 of 2 rendered, 2 up to date\n"


def test_a_job_file_with_a_bad_value_says_where(cli, desk):
    path = desk.folder / "jobs.csv"
    path.write_text("input,model,output,mix\ntakes/0.wav,small.nam,out/0.wav,7\n")
    status, out, err = cli("render", "--jobs", path)
    assert (status, out) == (1, "")
    assert err == f"backline: error: {path}: line 2: mix: expected a number from 0 to 1, found 7.0\n"


# ------------------------------------------------------------------------------------ signals and a screen


@pytest.fixture
def long_matrix(tmp_path):
    """Arguments of a matrix that takes some seconds."""
    desk = Desk(tmp_path, takes=0)
    for n in range(4):
        with AudioWriter(tmp_path / "takes" / f"{n}.wav", 48000, 2) as writer:
            for _ in range(60):
                writer.write(np.full((48000, 2), 0.1, np.float32))
    return desk, ["render", "--matrix", *desk.models, tmp_path / "takes", "-o", desk.out]


@pytest.fixture
def takes_folder(tmp_path):
    (tmp_path / "takes").mkdir()


@pytest.mark.usefixtures("takes_folder")
def test_an_interrupt_keeps_what_is_finished_and_the_same_command_goes_on(long_matrix):
    desk, arguments = long_matrix
    process = start(*arguments)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    done = [line.partition(": ")[0] for line in (first + out).splitlines()]
    assert err == (
        f"backline: interrupted: {re.search('interrupted: (.*);', err)[1]}; the same command goes on\n"
    )
    assert f"{len(done)} of 8 rendered" in err
    assert sorted(str(desk.out / name) for name in desk.files()) == sorted(done)
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(desk.files()) == 8
    assert f"{8 - len(done)} of 8 rendered" in err


@pytest.mark.usefixtures("takes_folder")
def test_a_bar_on_a_terminal_says_how_fast_and_how_long(long_matrix):
    desk, arguments = long_matrix
    (desk.folder / "takes" / "bad.wav").write_text("nothing to hear")
    status, out, shown = on_terminal(*arguments)
    assert status == 1
    assert len(out.splitlines()) == 8
    assert re.search(rb"\d of 10, [\d.]+ a second, \d+ times real time", shown)
    assert b"1 failed" in shown or b"2 failed" in shown


def report_of(job: Job, seconds: float) -> RenderReport:
    return RenderReport(
        job.source, job.target, round(48000 * seconds), 1, 48000, "FLOAT", 0.1, -1.0, None, 0, None
    )


def test_a_tally_by_hand(tmp_path):
    now = [100.0]
    tally = Tally(10, lambda: now[0])
    jobs = [Job(ModelChoice("amp"), tmp_path / f"{n}.wav", tmp_path / f"{n}-out.wav") for n in range(10)]
    assert str(tally) == "0 of 10, 0 times real time"
    for job in jobs[:2]:
        tally.count(Skipped(job, "up to date"))
    now[0] += 4.0
    tally.count(Done(jobs[2], report_of(jobs[2], 30.0)))
    tally.count(Failed(jobs[3], backline.BacklineError("no")))
    tally.count(Progress(jobs[4], 10.0, 20.0))
    tally.count(Progress(jobs[5], 4.0, None))  # a length that is not known counts as nothing done
    # 44 s in 4 s; 2.5 jobs worked on in 4 s, and 5.5 to go.
    assert tally.times_real_time == pytest.approx(11.0)
    assert tally.seconds_left == pytest.approx(4.0 / 2.5 * 5.5)
    assert str(tally) == "4 of 10, 0.25 a second, 11 times real time, 0:09 left, 1 failed"
    tally.count(Progress(jobs[4], 20.0, 20.0))
    tally.count(Done(jobs[4], report_of(jobs[4], 21.0)))
    assert tally.ended == 5
    speed = tally.times_real_time
    tally.count(Progress(jobs[6], 12.0, 24.0))
    tally.count(Skipped(jobs[6], "up to date"))
    assert (tally.ended, tally.times_real_time) == (6, speed)


def test_time_as_a_clock_shows_it():
    assert [clock_text(s) for s in (0.4, 59.6, 61, 3599.4, 3600, 36061)] == [
        "0:00",
        "1:00",
        "1:01",
        "59:59",
        "1:00:00",
        "10:01:01",
    ]


# --------------------------------------------------------------------------------------------------- null


def test_null_against_a_reference(cli, desk, tmp_path):
    x, _ = read(desk.takes[0])
    y = backline.load(desk.models[0])(x)
    reference = tmp_path / "reference.wav"
    with AudioWriter(reference, 48000, 1) as writer:
        writer.write(y + np.float32(1e-3))
    arguments = ["render", desk.models[0], desk.takes[0], "--tail", "0", "--null", reference]
    status, out, err = cli(*arguments)
    assert (status, err) == (0, "")
    r = (y + np.float32(1e-3)).astype(np.float64)
    esr = np.sum((r - y) ** 2) / np.sum(r**2)
    found = re.search(r"null depth (\S+) dB, error-to-signal ratio (\S+), 4800 frames compared$", out)
    assert float(found[1]) == pytest.approx(10 * np.log10(esr), abs=0.01)
    assert float(found[2]) == pytest.approx(esr, rel=1e-3)
    target = tmp_path / "out.wav"
    status, out, _ = cli(*arguments, "-o", target)
    assert status == 0
    assert np.array_equal(read(target)[0], y)
    assert cli(*arguments[:-1], target)[1].endswith("nothing is left of it, 4800 frames compared\n")


def test_null_against_what_is_no_audio(cli, desk, tmp_path):
    status, out, err = cli("render", desk.models[0], desk.takes[0], "--null", tmp_path / "no.wav")
    assert (status, out, err) == (1, "", f"backline: error: {tmp_path / 'no.wav'}: no such file\n")
