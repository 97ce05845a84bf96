"""`backline plot`: pictures of every kind, of models it can draw, and one sentence about those it cannot."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graphs import array

import backline
from backline.activations import Activation
from backline.engine import Model
from backline.errors import AudioFileError, FileExists, MissingDependency
from backline.graph import Graph, Knob
from backline.layers import Activate, Affine, Delay, Multiply

Cli = Callable[..., tuple[int, str, str]]

pytest.importorskip("matplotlib", reason="draws with matplotlib, which is not installed")

from backline import plot as library  # noqa: E402

BEGINNINGS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def pedal(**options) -> Model:
    nodes = (Multiply("a", "x", "drive"), Activate("y", "a", Activation("tanh")))
    knob = Knob("drive", 2.0, 0.0, 10.0)
    return Model(Graph(nodes, "x", 1, "y", knobs=(knob,), sample_rate_hz=8000.0, **options))


def contents(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("kind", sorted(BEGINNINGS))
def test_the_command_draws(cli, wavenet_file, tmp_path, kind):
    out = tmp_path / f"out.{kind}"
    status, said, err = cli("plot", wavenet_file, "-o", out)
    assert (status, err) == (0, "")
    assert said.startswith(f"{out}: ")
    assert out.read_bytes().startswith(BEGINNINGS[kind])
    assert contents(tmp_path) == [out.name]


def test_what_is_drawn():
    """The lines are those that were measured, and the words say at what levels."""
    figure = library._figure()
    library._draw(figure, pedal(name="cheap $5 pedal $"))
    assert figure.get_suptitle() == r"cheap \$5 pedal \$, drive 2, at 8000 Hz"
    response, curve, harmonics = figure.axes
    labels = [text.get_text() for text in response.get_legend().get_texts()]
    assert labels == [f"\N{MINUS SIGN}{level} dBFS" for level in (60, 40, 20, 6)]
    widths = [line.get_linewidth() for line in response.lines]
    assert widths == sorted(widths, reverse=True)  # one that lies on another leaves both in sight
    quiet = response.lines[0].get_ydata()
    np.testing.assert_allclose(quiet[50:], 20 * np.log10(2), atol=0.01)
    x, y = curve.lines[0].get_data()
    np.testing.assert_allclose(y, np.tanh(2 * x), atol=1e-6)
    assert [line.get_label() for line in harmonics.lines] == ["1", "3", "5", "7", "9"]
    first = harmonics.lines[0]
    np.testing.assert_allclose(first.get_ydata()[0], -60 + 20 * np.log10(2), atol=1e-3)
    assert (first.get_xdata()[0], first.get_xdata()[-1]) == (-60, 0)


def test_a_curve_far_from_zero_fills_its_frame():
    """Lines of zero are drawn where they are in sight, and do not squeeze the curve."""
    figure = library._figure()
    nodes = (Affine("y", "x", np.float32([0.001]), np.float32([5.0])),)
    library._draw(figure, Model(Graph(nodes, "x", 1, "y", sample_rate_hz=8000.0)))
    low, high = figure.axes[1].get_ylim()
    assert 4.998 < low < 4.9991
    assert 5.0009 < high < 5.002


def test_what_is_late_is_said_to_be():
    figure = library._figure()
    library._draw(figure, Model(Graph((Delay("y", "x", 4),), "x", 1, "y", sample_rate_hz=8000.0)))
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["0 dBFS, 0.50 ms late", "\N{MINUS SIGN}12 dBFS, 0.50 ms late"]


def test_all_harmonics_are_inside_the_frame():
    """A square has no first harmonic, and a tenfold one a second that is louder than full scale."""
    nodes = (Multiply("a", "x", "x"), Affine("y", "a", np.float32([100.0])))
    figure = library._figure()
    library._draw(figure, Model(Graph(nodes, "x", 1, "y", sample_rate_hz=8000.0)))
    loudest = 20 * np.log10(100.0 / 2)
    assert figure.axes[2].get_ylim()[1] == pytest.approx(loudest + 6, abs=0.01)
    assert [line.get_label() for line in figure.axes[2].lines] == ["2"]


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", ["アンプ $x^2$ \\alpha", "two\nlines \x1b[31m", "x" * 300])
def test_any_name_is_a_title(tmp_path, name):
    model = pedal(name=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.plot(model, tmp_path / "out.png")
    figure = library._figure()
    library._draw(figure, model)
    figure.draw_without_rendering()
    place = figure._suptitle.get_window_extent()
    assert 0 <= place.x0 < place.x1 <= figure.bbox.x1
    assert "\x1b" not in figure.get_suptitle()


def test_a_silent_model_can_be_drawn(tmp_path):
    library.plot(backline.conv1d(np.zeros((1, 1, 1))), tmp_path / "silence.png")
    assert contents(tmp_path) == ["silence.png"]


def test_an_unsaid_rate_is_said_to_be_assumed():
    figure = library._figure()
    library._draw(figure, backline.conv1d(np.ones((1, 1, 1))))
    assert "at 48000 Hz (assumed: the file does not say)" in figure.get_suptitle()


def test_nothing_is_replaced_unasked(cli, wavenet_file, tmp_path):
    out = tmp_path / "out.png"
    out.write_text("precious")
    status, said, err = cli("plot", wavenet_file, "-o", out)
    assert (status, said) == (1, "")
    assert err == f"backline: error: {out}: exists already (--force replaces it)\n"
    with pytest.raises(FileExists):
        library.plot(backline.load(wavenet_file), out)
    assert out.read_text() == "precious"
    assert cli("plot", wavenet_file, "-o", out, "--force")[0] == 0
    assert out.read_bytes().startswith(BEGINNINGS["png"])
    assert contents(tmp_path) == ["out.png"]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (backline.conv1d(array(0, 2, 1, 1)), "takes 1 channel and puts out 2; expected one"),
        (backline.conv1d(array(0, 1, 3, 1)), "takes 3 channels"),
        (backline.conv1d(array(0, 1, 1, 1), stride=2), "at 1/2 of its input's rate"),
    ],
    ids=["two out", "three in", "half the rate"],
)
def test_models_of_other_shapes_are_refused(tmp_path, model, says):
    with pytest.raises(backline.ModelError, match=says):
        library.plot(model, tmp_path / "out.png")
    assert contents(tmp_path) == []


def test_a_model_that_breaks_leaves_no_file(tmp_path):
    wild = Graph((Multiply("a", "x", "k"), Multiply("y", "a", "a")), "x", 1, "y", (Knob("k", 3e38, 0, 3e38),))
    with pytest.raises(backline.ModelError, match="no finite number"):
        library.plot(Model(wild), tmp_path / "out.png")
    assert contents(tmp_path) == []


def test_a_full_disk_is_a_sentence(monkeypatch, tmp_path):
    figure = library._figure()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(library, "_figure", lambda: figure)
    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(AudioFileError, match=r"out\.png: cannot be written: No space left"):
        library.plot(pedal(), tmp_path / "out.png")
    assert contents(tmp_path) == []


def test_without_matplotlib(cli, monkeypatch, wavenet_file, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    status, said, err = cli("plot", wavenet_file, "-o", tmp_path / "out.png")
    assert (status, said) == (1, "")
    assert err.endswith('which is not installed: pip install "backline[plot]"\n')
    assert contents(tmp_path) == []
    with pytest.raises(MissingDependency):
        library.plot(pedal(), tmp_path / "out.png")


def test_wrong_arguments(cli, wavenet_file, tmp_path):
    for arguments, status, says in (
        (["plot", wavenet_file], 2, "--output"),
        (["plot", wavenet_file, "-o", tmp_path / "out.jpeg"], 1, "expected a name ending in .png"),
        (["plot", wavenet_file, "-o", tmp_path / "out"], 1, "expected a name ending in .png"),
        (["plot", wavenet_file, "-o", tmp_path / "no" / "out.png"], 1, "does not exist"),
        (["plot", wavenet_file, "-o", tmp_path], 1, "expected a name ending in .png"),
        (["plot", wavenet_file, "-o", tmp_path / "out.png", "--knob", "drive=1"], 1, "no knob 'drive'"),
        (["plot", tmp_path / "no.nam", "-o", tmp_path / "out.png"], 1, "no such file"),
    ):
        found = cli(*arguments)
        assert found[:2] == (status, ""), found
        assert says in found[2]
    assert contents(tmp_path) == []
