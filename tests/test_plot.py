"""What `backline plot` draws, against SciPy and formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

import backline
from backline import measure
from backline.activations import Activation
from backline.cli import main
from backline.engine import Model
from backline.errors import ModelError
from backline.graph import Graph
from backline.layers import Activate, Conv1d


def test_response_of_a_filter():
    taps = signal.firwin(101, [300, 4000], fs=48000, pass_zero=False).astype(np.float32)
    model = backline.conv1d(taps[None, None, ::-1])
    for level in (-40.0, -6.0):
        found = measure.frequency_response(model, level)
        heard = (found.hz > 400) & (found.hz < 3800)
        _, expected = signal.freqz(taps, worN=found.hz[heard], fs=48000)
        np.testing.assert_allclose(found.db[heard], 20 * np.log10(np.abs(expected)), atol=0.1)


def test_harmonics_of_a_curve():
    model = Model(Graph((Activate("y", "x", Activation("tanh")),), "x", 1, "y"))
    levels = np.array([-20.0, 0.0])
    found = measure.harmonics(model, levels)
    angle = 2 * np.pi * np.arange(4096) / 4096
    for column, level in enumerate(levels):
        line = np.abs(np.fft.rfft(np.tanh(10 ** (level / 20) * np.sin(angle)))) * 2 / 4096
        for number in (1, 3, 5):
            expected = 20 * np.log10(line[number])
            if expected > -110:
                assert found.dbfs[number - 1, column] == pytest.approx(expected, abs=0.05)
        assert found.dbfs[1, column] < -110  # an odd curve has no even harmonics


def test_transfer_curve_is_the_curve_and_knows_delays():
    nodes = (Activate("bent", "x", Activation("tanh")), Conv1d("y", "bent", np.float32([[[1, 0, 0, 0]]])))
    found = measure.transfer(Model(Graph(nodes, "x", 1, "y")), 0.0)
    np.testing.assert_allclose(found.y, np.tanh(found.x), atol=1e-6)
    assert found.shift_ms == pytest.approx(-3 / 48, abs=1e-4)


def test_the_command_draws_a_picture_and_keeps_what_is_there(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="draws with matplotlib, which is not installed")
    out = tmp_path / "out.png"
    assert main(["plot", "overdrive", "-o", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    size = out.stat().st_size
    assert main(["plot", "overdrive", "-o", str(out)]) == 1
    assert "--force" in capsys.readouterr().err
    assert out.stat().st_size == size
    assert main(["plot", "overdrive", "-o", str(tmp_path / "out.xyz")]) != 0
    assert [child.name for child in tmp_path.iterdir()] == ["out.png"]


def test_only_one_channel_is_drawn():
    with pytest.raises(ModelError, match="expected one channel"):
        measure.rate_of(backline.conv1d(np.ones((2, 1, 1), np.float32)))
