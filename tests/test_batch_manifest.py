"""Job files: what is written in TOML or CSV is what is read, and what is wrong is said with its place."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
from graphs import examples
from hypothesis import given
from hypothesis import strategies as st

from backline.batch import Job, ModelChoice, RenderOptions, manifest
from backline.errors import BacklineError, MissingDependency

toml = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")

NUMBERS = st.floats(-1e6, 1e6).map(lambda x: x + 0.0)
#: Text that is a file's name: no slashes, no surrogates, nothing that CSV readers strip.
NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters="/\\*?[]"),
    min_size=1,
    max_size=10,
).filter(lambda name: name.strip() == name and name not in (".", ".."))
KNOBS = st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), NUMBERS, max_size=3)


@st.composite
def settings_of_jobs(draw):
    """Rows as a user means them: key to value."""
    count = draw(st.integers(1, 5))
    rows = []
    for number in range(count):
        row = {"input": f"in/{draw(NAMES)}.wav", "model": f"amps/{draw(NAMES)}.nam"}
        row["output"] = f"out/{number} {draw(NAMES)}.wav"
        optional = {
            "quality": st.floats(0, 1),
            "prewarm": st.integers(0, 1 << 20),
            "gain-in": NUMBERS,
            "gain-out": NUMBERS,
            "calibrate": NUMBERS,
            "subtype": st.sampled_from(["PCM_16", "PCM_24", "FLOAT"]),
        }
        for key, values in optional.items():
            if draw(st.booleans()):
                row[key] = draw(values)
        row |= {f"knob.{name}": value for name, value in draw(KNOBS).items()}
        rows.append(row)
    return rows


def expected(folder: Path, row: dict) -> Job:
    knobs = sorted((key[5:], value) for key, value in row.items() if key.startswith("knob."))
    choice = ModelChoice(
        str(folder / row["model"]),
        quality=row.get("quality", 1.0),
        prewarm=row.get("prewarm"),
        gain_in_db=row.get("gain-in", 0.0),
        gain_out_db=row.get("gain-out", 0.0),
        calibrate_dbu=row.get("calibrate"),
        knobs=tuple(knobs),
    )
    return Job(choice, folder / row["input"], folder / row["output"], RenderOptions(row.get("subtype")))


def as_csv(rows: list[dict]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({key: repr(v) if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    return text.getvalue()


def as_toml(rows: list[dict]) -> str:
    """JSON's strings and numbers are TOML's too, but for the code 127."""
    lines = []
    for row in rows:
        lines += [
            "[[job]]",
            *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in row.items()),
        ]
    return "\n".join(lines).replace("\x7f", "\\u007f")


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("kind", [pytest.param("toml", marks=toml), "csv"])
@examples(100)
@given(rows=settings_of_jobs())
def test_what_is_written_is_read(tmp_path_factory, kind, rows):
    folder = tmp_path_factory.mktemp("jobs")
    path = put(folder, f"jobs.{kind}", as_toml(rows) if kind == "toml" else as_csv(rows))
    assert manifest.read(path) == [expected(folder, row) for row in rows]


@toml
def test_defaults_hold_where_a_job_says_nothing(tmp_path):
    put(tmp_path, "layers.json", '[{"type": "conv1d"}]')
    text = """
        [defaults]
        model = "overdrive"
        knob.drive = 0.25
        knob.tone = 0.5
        layers = "layers.json"
        [[job]]
        input = "a.wav"
        output = "x/a.wav"
        [[job]]
        input = "b.wav"
        output = "x/b.flac"
        knob.drive = 1
        quality = 0
    """
    first, second = manifest.read(put(tmp_path, "jobs.toml", text))
    assert first.model == ModelChoice(
        "overdrive", knobs=(("drive", 0.25), ("tone", 0.5)), layers='[{"type": "conv1d"}]'
    )
    assert second.model.knobs == (("drive", 1.0), ("tone", 0.5))
    assert (second.model.quality, second.target) == (0.0, tmp_path / "x" / "b.flac")


def test_a_file_wins_over_a_shipped_model_of_its_name(tmp_path):
    text = "input,model,output\na.wav,overdrive,b.wav\n"
    assert manifest.read(put(tmp_path, "jobs.csv", text))[0].model.path == "overdrive"
    put(tmp_path, "overdrive", "{}")
    assert manifest.read(tmp_path / "jobs.csv")[0].model.path == str(tmp_path / "overdrive")


ROW = 'input = "a.wav"\nmodel = "m.nam"\noutput = "b.wav"\n'


@toml
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = ?\n", "is no TOML: Invalid value (at line 1, column 5)"),
        ("job = 3", "[job] is one table"),
        ("[job]\n" + ROW, "[job] is one table"),
        ("[[job]]\n" + ROW + "[more]\n", "'more' is not known"),
        ("[[job]]\n" + ROW + "speed = 3", "job 1 (line 1): 'speed' is not known; known are input, model"),
        (
            "[[job]]\n" + ROW + "[[job]]\n" + ROW + "quality = 2",
            "job 2 (line 5): quality is 2, expected 0 to 1",
        ),
        ("[[job]]\n" + ROW + 'quality = "1"', "job 1 (line 1): quality is '1', expected a number"),
        ("[[job]]\n" + ROW + "quality = true", "quality is True, expected a number"),
        ("[[job]]\n" + ROW + "gain-in = nan", "gain-in is nan, expected a number"),
        ("[[job]]\n" + ROW + "prewarm = 1.5", "prewarm is 1.5, expected a whole number"),
        ("[[job]]\n" + ROW + "prewarm = -1", "prewarm is -1, expected 0 or more frames"),
        ("[[job]]\n" + ROW + "knob = 3", "knob is set as knob.NAME = value"),
        ("[[job]]\n" + ROW + 'knob.drive = "x"', "knob.drive is 'x', expected a number"),
        ("[[job]]\n" + ROW + 'subtype = ""', "subtype is '', expected a text"),
        ("[[job]]\ninput = 'a.wav'\noutput = 'b.wav'", "job 1 (line 1): model is missing"),
        ("[[job]]\n" + ROW + "[[job]]\n" + ROW, "would be made twice"),
        ("[defaults]\nmodel = 'm'", "holds no jobs"),
        ("job = [3]", "job 1: expected a table"),
    ],
)
def test_what_is_wrong_in_toml_is_said_with_its_place(tmp_path, text, says):
    with pytest.raises(BacklineError) as refusal:
        manifest.read(put(tmp_path, "jobs.toml", text))
    assert says in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("input,model,output,speed\n", "line 1: 'speed' is not known"),
        ("input,model,output,input\n", "line 1: column 'input' is there twice"),
        ("input,model,output\na.wav,m\n", "line 2: has 2 cells, expected 3"),
        ("input,model,output\n\na.wav,m,b.wav\nc.wav,,d.wav\n", "line 4: model is missing"),
        ("input,model,output,quality\na.wav,m,b.wav,high\n", "line 2: quality is 'high', expected a number"),
        ("input,model,output,quality\na.wav,m,b.wav,inf\n", "line 2: quality is 'inf', expected a number"),
        ('input,model,output\n"a.wav"x,m,b.wav\n', "line 2: is no CSV"),
        ("input,model,output\n", "holds no jobs"),
        ("", "holds no jobs"),
        ("input,model,output,knob.\n", "'knob.' is not known"),
    ],
)
def test_what_is_wrong_in_csv_is_said_with_its_place(tmp_path, text, says):
    with pytest.raises(BacklineError) as refusal:
        manifest.read(put(tmp_path, "jobs.csv", text))
    assert says in str(refusal.value)


def test_files_that_are_no_job_files(tmp_path, monkeypatch):
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe")
    for name, says in (("missing.csv", "No such file"), ("bytes.csv", "no text in UTF-8 (byte 0)")):
        with pytest.raises(BacklineError) as refusal:
            manifest.read(tmp_path / name)
        assert says in str(refusal.value)
    put(tmp_path, "jobs.json", "{}")
    with pytest.raises(BacklineError, match=r"ends in \.toml or \.csv"):
        manifest.read(tmp_path / "jobs.json")
    monkeypatch.setitem(sys.modules, "tomllib", None)
    with pytest.raises(MissingDependency, match=r"need Python 3\.11; use CSV"):
        manifest.read(put(tmp_path, "jobs.toml", ""))


def test_the_examples_of_the_documentation_are_read(tmp_path):
    text = (Path(__file__).resolve().parents[1] / "docs" / "jobs.md").read_text(encoding="utf-8")
    examples_of = dict(re.findall(r"^```(toml|csv)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert examples_of.keys() == {"toml", "csv"}
    rows = manifest.read(put(tmp_path, "jobs.csv", examples_of["csv"]))
    assert [(job.model.path, job.model.knobs, job.model.gain_out_db) for job in rows] == [
        ("overdrive", (("drive", 0.5),), 0.0),
        ("overdrive", (("drive", 0.8),), -3.0),
    ]
    if sys.version_info >= (3, 11):
        first, second = manifest.read(put(tmp_path, "jobs.toml", examples_of["toml"]))
        assert (first.model.knobs, first.options.subtype) == ((("drive", 0.5),), "PCM_24")
        assert (second.model.knobs, second.model.gain_out_db) == ((("drive", 0.8),), -3.0)
