"""Gains for an interface's level: worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from graphs import array

import backline
from backline.calibration import calibrate
from backline.cli import main
from backline.errors import ModelError


@pytest.mark.parametrize(
    ("metadata", "dbu", "gains"),
    [
        # 0 dBFS is 12.2 dBu here and 18.3 dBu for the model: 0 dBFS here is -6.1 dBFS for it.
        ({"input_level_dbu": 18.3}, 12.2, (-6.1, 0.0)),
        ({"input_level_dbu": 18.3, "output_level_dbu": 12.3}, 12.2, (-6.1, 0.1)),
        ({"input_level_dbu": 18.3, "output_level_dbu": 12.3, "loudness": -9}, 12.2, (-6.1, 0.1)),
        ({"loudness": -24.5}, 12.2, (0.0, 6.5)),
        ({"input_level_dbu": None, "output_level_dbu": 4}, -10, (0.0, 14.0)),
    ],
)
def test_gains(metadata, dbu, gains):
    found = calibrate(metadata, dbu)
    assert (found.input_gain_db, found.output_gain_db) == pytest.approx(gains)
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("metadata", "dbu", "text"),
    [
        ({}, 12.0, "neither"),
        ({"input_level_dbu": "loud"}, 12.0, "expected a number, found 'loud'"),
        ({"loudness": True}, 12.0, "expected a number"),
        ({"loudness": float("nan")}, 12.0, "expected a number"),
        ({"loudness": 1e9}, 12.0, "outside"),
        ({"loudness": 10**400}, 12.0, "metadata loudness: expected a number, found an integer of more than"),
        ({"output_level_dbu": [3]}, 12.0, "metadata output_level_dbu: expected a number, found a list of 1"),
        ({"input_level_dbu": float("-inf")}, 12.0, "expected a number, found -inf"),
        ({"input_level_dbu": None, "loudness": None}, 12.0, "neither"),
        ({"loudness": -18}, 1e9, "outside"),
        ({"loudness": -18}, float("nan"), "interface level: expected a number of dBu, found nan"),
        ({"loudness": -18}, 10**400, "interface level: expected a number"),
        ({"loudness": -18}, "12", "interface level: expected a number of dBu, found '12'"),
        ({"loudness": -18}, 60.01, "outside -60 to 60"),
    ],
)
def test_refused(metadata, dbu, text):
    with pytest.raises(ModelError, match=text):
        calibrate(metadata, dbu)


def test_render_at_the_models_level(wavenet_file, tmp_path, capsys):
    document = json.loads(wavenet_file.read_text())
    document["metadata"] = {"input_level_dbu": 18.0, "loudness": -15.0}
    model, source, target = (tmp_path / name for name in ("amp.nam", "in.wav", "out.wav"))
    model.write_text(json.dumps(document))
    soundfile.write(source, array(1, 3000, scale=0.1), 48000, "FLOAT")
    command = ["render", str(model), str(source), "-o", str(target), "--calibrate", "12", "--tail", "0"]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "input -6.0 dB" in said
    assert "output -3.0 dB" in said
    x, y = (soundfile.read(path, dtype="float32")[0] for path in (source, target))
    before, after = (np.float32(10 ** (db / 20)) for db in (-6.0, -3.0))
    np.testing.assert_allclose(y, backline.load(model)(x * before) * after, rtol=1e-5, atol=1e-7)


def test_render_with_plain_gains_and_without(wavenet_file, tmp_path):
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    x = array(2, 2000, scale=0.1)
    soundfile.write(source, x, 48000, "FLOAT")
    for options, expected in (
        ([], backline.load(wavenet_file)(x)),
        (["--gain-in", "6", "--gain-out", "-200"], None),
    ):
        command = ["render", str(wavenet_file), str(source), "-o", str(target), "--force", "--tail", "0"]
        assert main([*command, *options]) == 0
        y = soundfile.read(target, dtype="float32")[0]
        if expected is None:
            assert np.max(np.abs(y)) < 1e-8
        else:
            assert np.array_equal(y, expected)
    assert (
        main(["render", str(wavenet_file), str(source), "-o", str(target), "--force", "--gain-in", "61"]) == 1
    )


def test_a_model_without_levels(wavenet_file, tmp_path, capsys):
    soundfile.write(tmp_path / "in.wav", array(3, 100), 48000, "FLOAT")
    files = [str(tmp_path / "in.wav"), "-o", str(tmp_path / "out.wav")]
    assert main(["render", str(wavenet_file), *files, "--calibrate", "12"]) == 1
    assert "input_level_dbu" in capsys.readouterr().err
    assert not (tmp_path / "out.wav").exists()


def test_live_at_the_models_level(wavenet_file, tmp_path, capsys):
    """A take of the clock device: what the file becomes is the model between the gains of the formulas."""
    document = json.loads(wavenet_file.read_text())
    document["metadata"] = {"input_level_dbu": 18.0, "output_level_dbu": 9.0, "loudness": -15.0}
    model, source, target = (tmp_path / name for name in ("amp.nam", "in.wav", "out.wav"))
    model.write_text(json.dumps(document))
    x = array(4, 3000, scale=0.1)
    soundfile.write(source, x, 48000, "FLOAT")
    command = ["live", str(model), "--device", "clock", "--rate", "48000", "--seconds", "0.2"]
    assert main([*command, "--from", str(source), "--to", str(target), "--calibrate", "12"]) == 0
    said = capsys.readouterr().err
    assert "input -6.0 dB" in said
    assert "output -3.0 dB" in said
    y = soundfile.read(target, dtype="float32")[0]
    before, after = (np.float32(10 ** (db / 20)) for db in (-6.0, -3.0))
    expected = backline.load(model)(x * before) * after
    count = min(len(y), len(expected))
    assert count > 1000
    np.testing.assert_allclose(y[:count], expected[:count], rtol=1e-5, atol=1e-7)
