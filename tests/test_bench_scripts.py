"""The scripts around `backline bench`: what they measure is what they say, not how fast anything is."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_jitter import COUNTED, LIMIT, LONGEST, STACK, Disturbance, instructions, stack, summary
from bench_models import write_models

from backline import bench
from backline.engine import Model
from backline.layers import Conv1d
from backline.native import available_isas

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.mark.parametrize(
    ("script", "needs"),
    [
        ("bench_models", ()),
        ("bench_targets", ()),
        ("bench_threads", ()),
        ("bench_jitter", ()),
        ("bench_batch", ()),
        ("bench_render", ()),
        ("bench_groups", ("matplotlib",)),
        ("bench_peers", ("torch", "onnx", "onnxruntime")),
    ],
)
def test_scripts_say_what_they_do(script, needs):
    for package in needs:
        pytest.importorskip(package, reason=f"what {script} needs is not installed")
    command = [sys.executable, SCRIPTS / f"{script}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage:")


def test_targets_as_json(tmp_path):
    command = [sys.executable, SCRIPTS / "bench_targets.py", "--only", "16,16,3,1,16", "--repeats", "1"]
    command += ["--isa", "scalar", "--block", "16", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (found,) = json.loads(done.stdout)
    assert (found["model"], found["isa"], found["block_frames"]) == ("conv 16,16,3,1,16", "scalar", 16)
    # (30 - 10) * 0.6
    assert done.returncode == (found["percent_of_peak"] < 12.0)


def test_groups_up_to_every_channel():
    pytest.importorskip("matplotlib", reason="draws with matplotlib, which is not installed")
    module: Any = importlib.import_module("bench_groups")
    assert module.divisors(64) == [1, 2, 4, 8, 16, 32, 64]
    assert module.divisors(12) == [1, 2, 4]
    graph = module.nothing(3).graph
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    assert np.array_equal(Model(graph)(x), x)


# ---- jitter ----


def test_the_stack_reaches_far():
    graph = stack().graph
    dilations = [node.dilation for node in graph.nodes if isinstance(node, Conv1d)]
    assert (max(dilations), LONGEST) == (8192, 8192)
    assert graph.receptive_field_frames == 1 + 2 * sum(1 << n for n in range(14))


def test_what_comes_at_random_falls_out():
    """Three passes of four blocks: the third is slow each time, others once."""
    passes = [np.array(each, np.uint32) for each in ([10, 11, 20, 10], [90, 10, 22, 10], [10, 10, 21, 50])]
    found = summary("passes", [1000 * each for each in passes], Disturbance(None))
    assert (found.blocks, found.p50_us, found.max_us, found.max_over_p50) == (12, 10.5, 90.0, 90.0 / 10.5)
    assert found.steady_max_over_p50 == 2.0
    assert found.above_limit == 5


@pytest.mark.skipif(
    shutil.which("valgrind") is None or "avx2" not in available_isas(),
    reason="counts instructions with valgrind, on AVX2",
)
def test_no_block_takes_many_more_instructions_than_another():
    """Some times round the longest ring, whatever the machine is doing."""
    counted = instructions(STACK, 64)
    assert counted.shape == (COUNTED,)
    assert COUNTED * 64 > 2 * 2 * LONGEST
    assert counted.min() > 10000
    assert counted.max() <= LIMIT * np.median(counted)


# ---- threads ----


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores"
)
def test_two_threads_are_compared_with_two_loops(monkeypatch):
    from bench_threads import Workers, measure

    for name in ("_SLICE_S", "_PEAK_SLICE_S", "_PLANNED_S"):
        monkeypatch.setattr(bench, name, 0.0005)
    allowed = sorted(os.sched_getaffinity(0))
    workers = Workers(allowed[:2])
    assert workers.run([lambda: 1.0])[0] == 1.0
    assert workers.run([lambda: 1.0, lambda: 2.0])[0] == 3.0
    found = measure(bench.conv_work(1, 1, 1, 1, 1), "scalar", 16, workers, 3)
    workers.close()
    assert found["percent_low"] <= found["percent"] <= found["percent_high"]
    assert 0 < found["both"] <= 1.01
    assert sorted(os.sched_getaffinity(0)) == allowed


# ---- peers ----


@pytest.fixture
def peers():
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason="compares with other engines, which are not installed")
    return importlib.import_module("bench_peers")


@pytest.mark.parametrize(
    ("file", "quality"), [("a1-nano", 1.0), ("lstm-2x8", 1.0), ("a2", 0.0), ("lstm-1x16", 1.0)]
)
def test_peers_give_the_same(peers, tmp_path, file, quality, capsys):
    """`runs_of` ends the program where one does not; that it would is seen below."""
    if not file.startswith("lstm"):
        pytest.importorskip("nam", reason="the trainer's package is not installed")
    path = write_models(tmp_path)[file]
    work = bench.model_work(path, quality)
    runs = peers.runs_of(work, path, available_isas()[-1], [48])
    wavenets = ["trainer, windowed"] if file.startswith("a") else []
    assert [run.engine for run in runs] == [
        *("backline", "onnxruntime, streaming", "torchscript, streaming"),
        *wavenets,
    ]
    assert capsys.readouterr().err.count("of the signal") == len(runs) - 1
    for result in bench.measure_runs(runs, 1, 2):
        assert result.gflops > 0
        assert result.timed_blocks == 2


def test_a_peer_that_gives_something_else_is_found(peers, tmp_path):
    work = bench.model_work(write_models(tmp_path)["lstm-1x16"])
    run = peers.OnnxRun(work, available_isas()[-1], 32)
    peers.check(run)
    run.load = lambda x: type(run).load(run, x + np.float32(0.01))
    with pytest.raises(SystemExit, match="gives something else"):
        peers.check(run)
