"""`backline compare`: the table, JSON, odd files, the picture."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from compare_tools import INTERPOLATED_DB, RATE_HZ, delayed, noise, write

from backline.compare import compare_arrays

Cli = Callable[..., tuple[int, str, str]]


def contents(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# The command


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    x = noise(RATE_HZ).astype(np.float32)
    return write(tmp_path / "a.wav", x), write(tmp_path / "b.wav", -0.5 * delayed(x, 10.25))


def table(said: str) -> dict[str, str]:
    """The rows of a table, whose columns are two spaces or more apart."""
    rows = [line.partition("  ") for line in said.splitlines() if "  " in line]
    return {name: value.strip() for name, _, value in rows}


def test_the_table(cli, files):
    status, said, err = cli("compare", *files)
    assert (status, err) == (0, "")
    rows = table(said)
    assert rows["Compared"] == "1.000 s, 48,000 frames, 1 channel, 48000 Hz"
    assert rows["Samples"] == "differ"
    assert rows["Delay"] == "B is 10.250 frames late (0.214 ms)"
    assert rows["Polarity"] == "inverted"
    assert rows["RMS"].endswith(": -6.02 dB")
    assert "null depth -6.02 dB" in rows["Aligned"]
    assert "Aligned, B at +6.02 dB" in rows
    assert re.fullmatch(
        r"[\d.]+ \(spectral convergence [\d.]+, log magnitude [\d.]+\)", rows["STFT distance"]
    )


def test_identical_files_in_words(cli, files):
    rows = table(cli("compare", files[0], files[0])[1])
    assert rows["Samples"] == "identical, bit for bit"
    assert (rows["Error-to-signal ratio"], rows["Null depth"], rows["Delay"]) == (
        "0",
        "nothing is left",
        "none",
    )
    assert rows["Loudness"].endswith(": +0.00 LU")
    assert "Aligned" not in rows


def test_what_is_undefined_is_a_word(cli, files, tmp_path):
    silent = write(tmp_path / "silent.wav", np.zeros(300))
    rows = table(cli("compare", silent, silent)[1])
    assert rows["Error-to-signal ratio"] == rows["Null depth"] == "undefined, as A is silent"
    assert rows["STFT distance"] == "undefined (too short, or A is silent)"
    assert rows["Delay"] == rows["Polarity"] == rows["Correlation"] == "cannot be told"
    assert rows["Peak"] == "A silence, B silence"
    assert rows["Loudness"] == "A not measurable, B not measurable"


def test_less_is_measured_on_request(cli, files):
    rows = table(cli("compare", *files, "--no-align", "--no-stft", "--start", "0.5", "--duration", "0.25")[1])
    assert not {"Delay", "Polarity", "Correlation", "Aligned", "STFT distance"} & set(rows)
    assert rows["Compared"].startswith("0.250 s, 12,000 frames")
    assert rows["Note"] == "compared is what lies from 0.5 to 0.75 s"


@pytest.mark.parametrize("silent", [False, True])
def test_json_is_strict(cli, files, tmp_path, silent):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    other = write(tmp_path / "silent.wav", np.zeros(300)) if silent else files[1]
    status, said, err = cli("compare", other, files[0], "--json")
    assert (status, err) == (0, "")
    found = json.loads(said, parse_constant=refuse)
    assert found["a_name"] == str(other)
    assert found["polarity"] == (None if silent else -1)
    assert (found["esr"] is None) == silent
    assert (found["stft"] is None) == silent
    if not silent:
        assert found["delay_frames"] == pytest.approx(-10.25, abs=0.01)
        assert found["aligned"]["gain_db"] == pytest.approx(-6.02, abs=0.01)
        assert set(found["stft"]) == {"distance", "spectral_convergence", "log_magnitude"}


def test_odd_files_are_a_sentence(cli, files, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "words.wav").write_text("these are words, and no audio at all")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    write(tmp_path / "nan.wav", np.array([0.0, np.nan]))
    for name, says in (
        ("missing.wav", "no such file"),
        ("folder", "is a folder, expected an audio file"),
        ("pipe.wav", "is not a regular file"),
        ("empty.wav", "is empty (0 bytes)"),
        ("words.wav", "not a readable audio file"),
        ("nan.wav", "is not a finite number"),
    ):
        for pair in ((files[0], tmp_path / name), (tmp_path / name, files[0])):
            status, said, err = cli("compare", *pair)
            assert (status, said) == (1, "")
            assert err.startswith(f"backline: error: {tmp_path / name}")
            assert says in err
            assert err.count("\n") == 1


def test_wrong_arguments(cli, files):
    for arguments in ([files[0]], [*files, "--start", "-1"], [*files, "--duration", "no"]):
        assert cli("compare", *arguments)[:2] == (2, "")


# The picture


def test_a_picture(cli, files, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out.png"
    status, said, err = cli("compare", *files, "-o", out)
    assert (status, err) == (0, "")
    assert said.endswith(f"{out}: both, and what is left between them\n")
    assert out.read_bytes().startswith(b"\x89PNG")
    status, said, err = cli("compare", *files, "-o", out)
    assert (status, said) == (1, "")
    assert err == f"backline: error: {out}: exists already (--force replaces it)\n"
    assert cli("compare", *files, "-o", out, "--force", "--json")[0] == 0
    assert contents(tmp_path) == ["a.wav", "b.wav", "out.png"]


def test_no_time_is_spent_on_a_picture_that_cannot_be(cli, files, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("backline.compare.compare", None)
    for name, says in (("out.jpg", "expected a name ending in .png"), ("no/out.png", "does not exist")):
        status, said, err = cli("compare", *files, "-o", tmp_path / name)
        assert (status, said) == (1, "")
        assert says in err


def test_what_is_drawn():
    pytest.importorskip("matplotlib")
    from backline import plot
    from backline.compare import picture

    at = np.arange(2 * RATE_HZ) / RATE_HZ
    hz = 85 * RATE_HZ / 4096  # in the middle of a bin of the spectrum
    x = np.sin(2 * np.pi * hz * at)
    found = compare_arrays(0.5 * x, 0.05 * x, RATE_HZ, with_profile=True)
    figure = plot._figure()
    picture.draw(figure, found, found.profile)
    shapes, levels, spectra = figure.axes
    assert [line.get_label() for line in levels.lines] == ["A", "B", "A less B"]
    for line, amplitude in zip(levels.lines, (0.5, 0.05, 0.45), strict=True):
        np.testing.assert_allclose(line.get_ydata(), 20 * np.log10(amplitude / np.sqrt(2)), atol=0.2)
    for line, amplitude in zip(spectra.lines, (0.5, 0.05, 0.45), strict=True):
        peak = np.argmax(line.get_ydata())
        assert line.get_xdata()[peak] == pytest.approx(hz)
        assert line.get_ydata()[peak] == pytest.approx(20 * np.log10(amplitude / np.sqrt(2)), abs=0.01)
    assert shapes.get_xlim() == pytest.approx((0.0, 2.0), abs=0.01)
    assert shapes.get_ylim()[1] > 0.5


def test_a_picture_shows_what_alignment_leaves():
    pytest.importorskip("matplotlib")
    from backline import plot
    from backline.compare import picture

    x = noise(2 * RATE_HZ)
    found = compare_arrays(x, delayed(x, -24000.5), RATE_HZ, with_profile=True)
    figure = plot._figure()
    picture.draw(figure, found, found.profile)
    levels = figure.axes[1]
    assert [line.get_label() for line in levels.lines][2:] == ["A less B, as they are", "A less B, aligned"]
    line = levels.lines[3]
    assert line.get_xdata()[0] == pytest.approx(0.5, abs=0.03)  # on A's time line
    # But for the end, where the delayed signal was cut.
    assert np.max(line.get_ydata()[:-5]) < np.max(levels.lines[0].get_ydata()) + INTERPOLATED_DB
    figure.draw_without_rendering()


@pytest.mark.parametrize("seconds", [0.001, 0.0203, 90.5, 400.0])
def test_levels_of_takes_of_any_length(seconds):
    """Bins grow with the take, and hold every sample once."""
    from backline.compare.profiles import Profiler

    rate_hz = 1000
    x = np.random.default_rng(1).uniform(-1, 1, (max(1, round(seconds * rate_hz)), 2)).astype(np.float32)
    profiler = Profiler(rate_hz)
    for at in range(0, len(x), 777):
        profiler.add(x[at : at + 777], -x[at : at + 777])
    found = profiler.profile()
    frames = round(found.bin_seconds * rate_hz)
    bins = [x[at : at + frames].astype(np.float64) for at in range(0, len(x), frames)]
    np.testing.assert_allclose(found.powers[0], [np.mean(each**2) for each in bins], rtol=1e-9)
    np.testing.assert_allclose(found.powers[2], [4 * np.mean(each**2) for each in bins], rtol=1e-9)
    np.testing.assert_array_equal(found.lowest[0], [each.min() for each in bins])
    np.testing.assert_array_equal(found.highest[1], [-each.min() for each in bins])


def test_an_interrupt_leaves_no_picture(cli, files, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    def interrupt(figure: object, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Figure, "savefig", interrupt)
    status, said, err = cli("compare", *files, "-o", tmp_path / "out.png")
    assert (status, said, err) == (130, "", "")
    assert contents(tmp_path) == ["a.wav", "b.wav"]
