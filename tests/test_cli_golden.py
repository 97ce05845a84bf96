"""Every .nam model of the golden data, rendered by the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backline.audiofile import read
from backline.cli import main


@pytest.mark.golden_kinds("nam")
def test_rendered_as_expected(golden, golden_case, tmp_path, capsys):
    out = tmp_path / "out.wav"
    model, take = golden / golden_case["model"], golden / golden_case["input"]
    arguments = ["render", str(model), str(take), "-o", str(out), "--tail", "0"]
    if golden_case["slim"] is not None:
        arguments += ["--quality", str(golden_case["slim"])]
    if golden_case["state"] == "no_prewarm":
        arguments += ["--no-prewarm"]
    status = main(arguments)
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "error" not in said.err  # only notes of how the file was read
    y, rate_hz = read(out)
    x, input_rate_hz = read(take)
    assert (y.shape, rate_hz) == (x.shape, input_rate_hz)
    file, key = golden_case["expected"]
    with np.load(golden / file) as arrays:
        expected = arrays[key]
    compared = y[: len(expected), 0]
    assert len(expected) == golden_case.get("frames", len(y))
    assert np.max(np.abs(compared - expected)) <= golden_case["suggested_atol_float32"]


@pytest.mark.golden_kinds("nam_refuse")
def test_refused(golden, golden_case, tmp_path, capsys):
    model = golden / golden_case["model"]
    take = next(iter(sorted((golden / "inputs").glob("*.wav"))))
    assert main(["render", str(model), str(take), "-o", str(tmp_path / "out.wav")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert Path(model).name in said.err
    assert list(tmp_path.iterdir()) == []
