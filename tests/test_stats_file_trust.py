"""Statistics of a session as a file: known in any order of keys, never lost for a number, read strictly."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backline.errors import BacklineError
from backline.live import stats_file
from backline.live.status import CALLBACK, CallbackLog


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path, rows = tmp_path / "stats.json", np.zeros(4096, CALLBACK)
    rows["frames"] = 64
    log = CallbackLog(48000.0, rows, np.linspace(0.0, 1.0, 3), np.array([4096, 0]))
    stats_file.save(path, log, {"model": "amp"}, [])
    return path


@pytest.mark.parametrize("options", [{"sort_keys": True}, {"indent": 2}, {"separators": (",", ":")}], ids=str)
def test_it_is_known_however_it_is_written(saved: Path, options: dict[str, Any]) -> None:
    saved.write_text(json.dumps(json.loads(saved.read_text()), **options))
    assert stats_file.is_one(saved)
    assert stats_file.load(saved).summary == {"model": "amp"}


def test_a_file_that_but_names_the_schema_is_none(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"notes": stats_file.SCHEMA}))
    assert not stats_file.is_one(path)


def test_a_summary_with_what_json_lacks_is_written_all_the_same(saved: Path) -> None:
    log = stats_file.load(saved).log
    odd = {"a": math.nan, "b": [math.inf, 1.0], "c": np.float32(0.5), "d": Path("x"), "e": {"f": True}}
    stats_file.save(saved, log, odd, [], overwrite=True)
    assert stats_file.load(saved).summary == {
        "a": None,
        "b": [None, 1.0],
        "c": 0.5,
        "d": "x",
        "e": {"f": True},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate_hz": "48000"}, "rate that is no number"),
        ({"rate_hz": True}, "rate that is no number"),
        ({"version": True}, "found version True"),
        ({"loads": {"edges": [0.0, 0.5, 1.0], "counts": [1.5, 0]}}, "count of loads that is no whole number"),
        ({"summary": {"load": math.nan}}, "found NaN, expected a finite number"),
        ({"summary": {"load": -math.inf}}, "found -Infinity, expected a finite number"),
    ],
    ids=str,
)
def test_numbers_are_read_strictly(saved: Path, change: dict[str, Any], said: str) -> None:
    saved.write_text(json.dumps({**json.loads(saved.read_text()), **change}))
    with pytest.raises(BacklineError, match=said) as error:
        stats_file.load(saved)
    assert "\n" not in str(error.value)
