"""Jobs of a matrix: names, what is refused before anything is touched, and which files a word stands for."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from graphs import examples
from hypothesis import given
from hypothesis import strategies as st

from backline.batch.jobs import (
    FIELDS,
    Job,
    ModelChoice,
    RenderOptions,
    check,
    fill,
    find_models,
    find_sources,
    matrix,
)
from backline.errors import AudioFileError, BacklineError, ModelError

AMPS = [ModelChoice("amps/clean.nam"), ModelChoice("amps/lead.nam", quality=0.25)]
VALUES = {"input": "take", "model": "amp", "index": 7, "quality": 0.5, "folder": "day"}
WORDS = st.text(string.ascii_letters + string.digits + " -äß日", min_size=1, max_size=12)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_matrix_is_every_model_over_every_take(tmp_path):
    jobs = matrix(
        AMPS, ["a/one.wav", "b/two.flac"], tmp_path, "{index:03d} {folder} {input}-{model} {quality}.flac"
    )
    assert [(job.model.name, str(job.source), job.target.name) for job in jobs] == [
        ("clean", "a/one.wav", "001 a one-clean 1.flac"),
        ("clean", "b/two.flac", "002 b two-clean 1.flac"),
        ("lead", "a/one.wav", "003 a one-lead 0.25.flac"),
        ("lead", "b/two.flac", "004 b two-lead 0.25.flac"),
    ]
    assert {job.target.parent for job in jobs} == {tmp_path}
    assert list(tmp_path.iterdir()) == []


def test_names_may_lead_into_folders_below(tmp_path):
    (job,) = matrix(AMPS[:1], ["one.wav"], tmp_path, "{model}/{input}.wav")
    assert job.target == tmp_path / "clean" / "one.wav"


@examples(200)
@given(parts=st.lists(WORDS | st.sampled_from([f"{{{name}}}" for name in FIELDS]), min_size=1, max_size=6))
def test_a_template_is_filled_as_by_replacing(parts):
    """Python's own ``str.replace``, field by field, says what comes out."""
    template = "x" + "".join(parts) + ".wav"
    expected = template
    for name, value in VALUES.items():
        expected = expected.replace(f"{{{name}}}", f"{value:g}" if isinstance(value, float) else str(value))
    assert str(fill(template, VALUES)) == expected


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{take}.wav", "{take} is not known; known are {input}"),
        ("{}.wav", "{} is not known"),
        ("{input.real}.wav", "is not known"),
        ("{input!r}.wav", "is not known"),
        ("{index:{index}}.wav", "is not known"),
        ("{input:04d}.wav", "Unknown format code"),
        ("{input.wav", "expected '}'"),
        ("{index:0999999999d}.wav", "is wider than names can be"),
        ("/tmp/{input}.wav", "no name of a file inside"),
        ("../{input}.wav", "no name of a file inside"),
        ("", "no name of a file inside"),
        ("a\0{input}.wav", "no name of a file inside"),
    ],
)
def test_templates_that_lead_nowhere(template, says):
    with pytest.raises(BacklineError, match=r"^name ") as refusal:
        matrix(AMPS, ["one.wav"], "out", template)
    assert says in str(refusal.value)


def test_two_jobs_for_one_target_are_refused(tmp_path):
    with pytest.raises(
        AudioFileError, match=r"would be made twice, of a/one.wav through .*b/one.wav through"
    ):
        matrix(AMPS[:1], ["a/one.wav", "b/one.wav"], tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    jobs = [Job(AMPS[0], Path("one.wav"), tmp_path / name / "a.wav") for name in ("out", "link")]
    with pytest.raises(AudioFileError, match="would be made twice"):
        check(jobs)


def test_a_target_that_is_an_input_or_a_model_is_refused(tmp_path):
    touch(tmp_path, "one.wav", "amp.wav")
    (tmp_path / "link.wav").symlink_to("one.wav")
    for name in ("one.wav", "amp.wav", "link.wav"):
        job = Job(ModelChoice(str(tmp_path / "amp.wav")), tmp_path / "one.wav", tmp_path / name)
        with pytest.raises(AudioFileError, match="is an input or a model"):
            check([job])


def test_formats_that_cannot_be_written_are_refused(tmp_path):
    for name, options, says in (
        ("{input}.xyz", None, "cannot write .xyz"),
        ("{input}", None, "no extension"),
        ("{input}.flac", RenderOptions(subtype="FLOAT"), "no subtype FLOAT"),
    ):
        with pytest.raises(AudioFileError, match=says):
            matrix(AMPS, ["one.wav"], tmp_path, f"{{model}}{name}", options)
    with pytest.raises(BacklineError, match="nothing to render: 0 models, 1 inputs"):
        matrix([], ["one.wav"], tmp_path)


def test_folders_and_patterns_stand_for_files(tmp_path):
    touch(
        tmp_path,
        "b.wav",
        "a.FLAC",
        "sub/c.ogg",
        ".hidden.wav",
        ".git/d.wav",
        "note.txt",
        "x[1].wav",
        "x1.wav",
    )
    (tmp_path / "sub" / "up").symlink_to("..")

    def names(*words: str) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in find_sources([tmp_path / word for word in words])]

    assert names("") == ["a.FLAC", "b.wav", "sub/c.ogg", "x1.wav", "x[1].wav"]
    assert names("x[1].wav") == ["x[1].wav"]  # a file of that very name
    assert names("x?.wav", "b.wav", "b.wav") == ["x1.wav", "b.wav"]
    assert names("s*/*.ogg") == ["sub/c.ogg"]
    assert names("missing.wav") == ["missing.wav"]  # said when its turn comes
    with pytest.raises(AudioFileError, match="matches no file"):
        names("*.aiff")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioFileError, match="holds no audio files"):
        names("empty")


def test_patterns_of_models(tmp_path):
    touch(tmp_path, "b.nam", "a.nam")
    found = find_models(["overdrive", f"{tmp_path}/*.nam", f"{tmp_path}/a.nam"])
    assert found == ["overdrive", f"{tmp_path}/a.nam", f"{tmp_path}/b.nam"]
    with pytest.raises(ModelError, match="matches no file"):
        find_models([os.fspath(tmp_path / "*.json")])
