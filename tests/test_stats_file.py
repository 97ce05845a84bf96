"""Statistics of a session as a file: written whole, read with distrust, drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_tools import run, write_model

from backline.errors import AudioFileError, BacklineError, FileExists
from backline.live import pictures, stats_file
from backline.live.forensics import causes
from backline.live.status import CALLBACK, CallbackLog

BLOCK_NS = 1_333_333


def a_log(count: int = 500) -> CallbackLog:
    rng = np.random.default_rng(0)
    rows = np.zeros(count, CALLBACK)
    rows["began_ns"] = 10**12 + np.arange(count) * BLOCK_NS
    rows["busy_ns"] = rng.uniform(0.05, 0.2, count) * BLOCK_NS
    rows["frames"] = 64
    rows["at_frame"] = 64 * np.arange(count)
    rows["doing"][100:130] = 3
    rows["busy_ns"][200] = 5 * BLOCK_NS
    rows["flags"][201] = 6
    edges = np.geomspace(0.01, 10.0, 31)
    return CallbackLog(48000.0, rows, edges, np.histogram(rows["busy_ns"] / BLOCK_NS, edges)[0])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path, log = tmp_path / "stats.json", a_log()
    stats_file.save(path, log, {"model": "amp", "xruns": 1}, causes(log))
    return path


def test_it_is_read_as_it_was_written(saved: Path) -> None:
    found, log = stats_file.load(saved), a_log()
    np.testing.assert_array_equal(found.log.callbacks, log.callbacks)
    np.testing.assert_array_equal(found.log.load_edges, log.load_edges)
    np.testing.assert_array_equal(found.log.load_counts, log.load_counts)
    assert (found.log.rate_hz, found.summary) == (48000.0, {"model": "amp", "xruns": 1})
    assert [each["cause"] for each in json.loads(saved.read_text())["xruns"]] == ["held up"]
    assert stats_file.is_one(saved)


def test_an_existing_file_is_replaced_only_if_asked(saved: Path) -> None:
    with pytest.raises(FileExists):
        stats_file.save(saved, a_log(), {}, [])
    stats_file.save(saved, a_log(300), {}, [], overwrite=True)
    assert len(stats_file.load(saved).log.callbacks) == 300
    with pytest.raises(AudioFileError, match="folder"):
        stats_file.save(saved.parent / "no" / "such.json", a_log(), {}, [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(schema="something else"), "holds no statistics of a live session"),
        (lambda d: d.update(version=2), "found version 2, expected 1"),
        (lambda d: d.pop("rate_hz"), "is damaged"),
        (lambda d: d.update(rate_hz=0), "found a rate of 0"),
        (lambda d: d["callbacks"]["busy_ns"].pop(), "columns of"),
        (lambda d: d["callbacks"].update(frames=[0.5] * 500), "frames that is no whole number"),
        (lambda d: d["callbacks"].update(frames=[-1] * 500), "is damaged"),
        (lambda d: d["callbacks"].update(began_ns=[1 << 80] * 500), "is damaged"),
        (lambda d: d["loads"]["counts"].pop(), "loads between"),
        (lambda d: d["loads"]["edges"].reverse(), "out of order"),
        (lambda d: d["loads"].update(edges="none"), "is damaged"),
        (lambda d: d.update(summary=[]), "summary that is none"),
    ],
    ids=str,
)
def test_what_is_damaged_is_refused_in_one_sentence(
    saved: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    document = json.loads(saved.read_text())
    change(document)
    saved.write_text(json.dumps(document))
    with pytest.raises(BacklineError, match=said) as error:
        stats_file.load(saved)
    assert str(saved) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'"text"'])
def test_other_files_are_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(data)
    assert not stats_file.is_one(path)
    with pytest.raises(BacklineError):
        stats_file.load(path)
    assert not stats_file.is_one(tmp_path / "absent")


# ---- pictures ----


@pytest.mark.parametrize("count", [0, 1, 500])
def test_it_is_drawn(tmp_path: Path, count: int) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    log = a_log(500)
    found = stats_file.Saved(CallbackLog(48000.0, log.callbacks[:count], log.load_edges, log.load_counts), {})
    pictures.plot_callbacks(found, tmp_path / "loads.png")
    assert (tmp_path / "loads.png").stat().st_size > 10_000


def test_a_session_writes_what_plot_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    model, stats = write_model(tmp_path / "model.json"), tmp_path / "stats.json"
    options = ("--device", "clock", "--seconds", 0.5, "--stats", stats)
    status, out, err = run("live", model, *options)
    assert status == 0, err
    found = stats_file.load(stats)
    assert found.summary["frames"] == found.log.callbacks["frames"].sum()
    assert found.log.load_counts.sum() == len(found.log.callbacks) == found.summary["callbacks"]
    status, out, err = run("plot", stats, "-o", tmp_path / "stats.svg")
    assert (status, err) == (0, "")
    assert "xruns of a session" in out
    status, _, err = run("live", model, *options)
    assert status == 1
    assert "exists already" in err
