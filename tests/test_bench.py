"""Benchmarks: what is counted and how figures follow from times. No test says how fast anything has to be."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
from bench_models import write_models
from bench_targets import CONVS, MODELS, target, works

import backline
from backline import bench
from backline.engine import Engine, Model
from backline.errors import BacklineError, ModelError
from backline.machine import pinned, real_time
from backline.native import available_isas, ffi, lib

#: What `backline bench --json` has promised to hold.
KEYS = {
    *("model", "isa", "block_frames", "times_real_time", "gflops", "peak_gflops", "percent_of_peak"),
    *("p50_us", "p999_us", "max_us"),
}
#: Weights of the usual shapes, as their makers and the issue that asked for this count them.
WEIGHTS = {
    "A2 full": 12146,
    "A2 lite": 1871,
    "A1 standard": 13802,
    "A1 feather": 3026,
    "A1 nano": 842,
    "LSTM 1x16": 1201,
    "LSTM 2x8": 905,
}
needs_cores = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no cores to choose from")
QUICK = {"repeats": 2, "timed_blocks": 10}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def small():
    """A layer that takes next to no time."""
    return bench.conv_work(1, 1, 1, 1, 1)


@pytest.fixture(autouse=True)
def short_slices(monkeypatch):
    """Nothing here is about figures."""
    for name in ("_SLICE_S", "_PEAK_SLICE_S", "_PLANNED_S"):
        monkeypatch.setattr(bench, name, 0.0005)


# ---- what is counted ----


def test_weights_of_the_usual_shapes(tmp_path):
    found = {work.name: work for work, _ in works(tmp_path)}
    assert found.keys() == {*MODELS, *(f"conv {','.join(map(str, sizes))}" for sizes in CONVS)}
    for name, weights in WEIGHTS.items():
        assert found[name].graph.parameter_count == weights
        assert found[name].flops_per_frame == 2 * weights


def test_files_of_the_usual_shapes_are_what_they_say(files):
    """Each file's own list of weights is as long as what is counted."""
    assert {*files} == {"a1-standard", "a1-lite", "a1-feather", "a1-nano", "a2", "lstm-1x16", "lstm-2x8"}
    for name, path in files.items():
        document = json.loads(path.read_text())
        for quality in (0.0, 1.0):
            part = document
            if name == "a2":
                part = document["config"]["submodels"][round(quality)]["model"]
            assert bench.model_work(path, quality).graph.parameter_count == len(part["weights"])
        y = backline.load(path)(np.random.default_rng(1).uniform(-1, 1, 4000).astype(np.float32))
        assert 1e-6 < np.abs(y).max() < 10.0


def test_weights_of_published_files(golden):
    for name, quality, weights in (
        ("A2", 1.0, 12146),
        ("A2", 0.0, 1871),
        ("wavenet_a1_standard", 1.0, 13802),
    ):
        work = bench.model_work(golden / "nam" / "models" / f"{name}.nam", quality)
        assert work.flops_per_frame == 2 * weights
        assert work.name == name if quality == 1.0 else f"{name} (quality 0)"


@pytest.mark.parametrize(("sizes", "multiply_adds"), [((16, 16, 3, 1, 1), 768), ((64, 32, 5, 7, 8), 1280)])
def test_a_bare_layer_counts_its_multiply_adds(sizes, multiply_adds):
    inputs, outputs, kernel, dilation, groups = sizes
    work = bench.parse_conv(",".join(map(str, sizes)))
    (node,) = work.graph.nodes
    assert multiply_adds == inputs // groups * outputs * kernel
    assert work.flops_per_frame == 2 * multiply_adds
    assert (node.groups, node.dilation, node.bias) == (groups, dilation, None)
    assert node.weight.shape == (outputs, inputs // groups, kernel)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("16,16,3,1", "expected IN,OUT,KERNEL,DILATION,GROUPS, five whole numbers"),
        ("", "five whole numbers"),
        ("16,16,3,1,x", "five whole numbers"),
        ("16,16,3,1,-1", "five whole numbers"),
        ("16,16,3,1,²", "five whole numbers"),
        ("16,16,0,1,1", "sizes have to be from 1 to 16777216"),
        ("16,16,3,99999999,1", "sizes have to be from 1 to 16777216"),
        ("16,16,3,1,3", "groups 3 does not divide 16 inputs and 16 outputs"),
        ("65536,65536,1,1,1", "4294967296 weights, at most 67108864 are allowed"),
        ("1,1,3,16777216,1", "reach of the kernel"),
    ],
)
def test_layers_that_are_none(text, says):
    with pytest.raises(ModelError, match=says):
        bench.parse_conv(text)


# ---- how figures follow from times ----


def test_figures_follow_from_times(small, monkeypatch):
    """With clocks that stand: 1000 frames of 2 operations in a second, peaks of 4, 6, 8 GFLOP/s and so on."""
    peaks = iter((4.0, 6.0, 8.0, 2.0, 2.0, 2.0))
    speeds = iter((1e9, 2e9, 3e9, 4e9))
    cold = [90_000]  # the blocks that warm the cache: not counted
    blocks = ([1000, 3000], [7000], [2000, 2000], [9000])
    times = iter(np.array(each, np.uint32) for counted in blocks for each in (cold, counted))
    monkeypatch.setattr(bench.PeakRun, "gflops", lambda self: next(peaks))
    monkeypatch.setattr(bench.EngineRun, "slice", lambda self: (next(speeds), 0.5))
    monkeypatch.setattr(bench.EngineRun, "block_times_ns", lambda self, blocks: next(times))
    first, second = bench.measure([small], ["scalar"], [8, 16], **QUICK)
    assert (first.block_frames, second.block_frames) == (8, 16)
    # Repeat by repeat: 2 of (4 + 6) / 2 and 6 of 2; 4 of (6 + 8) / 2 and 8 of 2.
    assert first.gflops == pytest.approx(4.0)
    assert (first.gflops_low, first.gflops_high) == pytest.approx((2.0, 6.0))
    assert first.peak_gflops == pytest.approx((5.0 + 2.0) / 2)
    assert first.percent_of_peak == pytest.approx((40.0 + 300.0) / 2)
    assert (second.percent_of_peak_low, second.percent_of_peak_high) == pytest.approx((400.0 / 7, 400.0))
    assert first.times_real_time == pytest.approx(2e9 / 48000)
    assert first.core_share == 0.5
    assert (first.p50_us, first.p999_us, first.max_us) == pytest.approx((2.0, 3.0, 3.0))
    assert (second.p50_us, second.max_us, second.max_over_p50) == pytest.approx((8.0, 9.0, 9.0 / 8.0))


def test_all_combinations_in_order(small, files):
    other = bench.model_work(files["lstm-1x16"])
    found = bench.measure([small, other], ["scalar", "scalar", lib_best()], [3, 200], **QUICK)
    isas = list(dict.fromkeys(["scalar", lib_best()]))
    assert [(each.model, each.isa, each.block_frames) for each in found] == [
        (work.name, isa, frames) for work in (small, other) for isa in isas for frames in (3, 200)
    ]
    for each in found:
        numbers = [value for value in each.as_dict().values() if isinstance(value, float)]
        assert all(math.isfinite(value) and value > 0 for value in numbers)
        assert each.percent_of_peak_low <= each.percent_of_peak <= each.percent_of_peak_high
        assert each.p50_us <= each.p999_us <= each.max_us
        assert each.timed_blocks == 10


def lib_best() -> str:
    return available_isas()[-1]


def test_the_rate_of_the_file_counts(small, files, monkeypatch):
    document = json.loads(files["lstm-1x16"].read_text())
    document["sample_rate"] = 96000
    path = files["lstm-1x16"].with_name("fast.nam")
    path.write_text(json.dumps(document))
    monkeypatch.setattr(bench.EngineRun, "slice", lambda self: (960000.0, 1.0))
    (found,) = bench.measure([bench.model_work(path)], None, [16], **QUICK)
    assert (found.times_real_time, found.sample_rate_hz) == (10.0, 96000.0)
    assert found.gflops == pytest.approx(2 * 1201 * 960000 / 1e9)


def test_layers_of_several_rows_and_other_rates():
    works = [
        bench.conv_work(6, 4, 3, 2, 2),
        bench.Work("strided", backline.conv1d(np.ones((2, 3, 4)), stride=3).graph, 24.0),
    ]
    for frames in (1, 5, 64, 5000):
        for each in bench.measure(works, None, [frames], **QUICK):
            assert each.gflops > 0


@needs_cores
def test_the_thread_goes_back_to_its_cores(small):
    before = os.sched_getaffinity(0)
    (found,) = bench.measure([small], None, [16], **QUICK)
    assert found.core == max(before)
    assert os.sched_getaffinity(0) == before
    with pytest.raises(BacklineError, match="core 99999 is not available; this process may use "):
        bench.measure([small], None, [16], core=99999, **QUICK)
    assert os.sched_getaffinity(0) == before


@needs_cores
def test_pinned_and_real_time_end():
    before = os.sched_getaffinity(0), os.sched_getscheduler(0)
    with pinned() as core, real_time() as granted:
        assert os.sched_getaffinity(0) == {core}
        assert (os.sched_getscheduler(0) == os.SCHED_FIFO) is granted
        with real_time(False) as again:
            assert again is False
    assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == before


# ---- C ----


def test_blocks_walk_through_the_signal():
    """An engine that is benchmarked hears the whole blocks of the signal, again and again, and remembers."""
    model = backline.conv1d(np.array([[[0.25, -0.5, 2.0, 1.0]]], np.float32), dilation=5)
    signal = np.random.default_rng(3).standard_normal((1, 23)).astype(np.float32)
    heard = np.concatenate([signal[:, :21]] * 3, axis=1)[:, : 7 * 8]
    out, times = np.zeros((1, 9), np.float32), np.full(9, 7, np.uint32)
    with Engine(model.program, 1) as engine, Engine(model.program, 1) as other:
        pieces = ffi.from_buffer("float[]", signal), ffi.from_buffer("float[]", out)
        setting = ffi.new("bl_bench *", (*pieces, 23, 9, 7))
        lib.bl_bench_engine(engine.pointer, setting, 3, ffi.NULL)
        assert engine.position_frames == 21
        took = lib.bl_bench_engine(engine.pointer, setting, 5, ffi.from_buffer("uint32_t[]", times))
        assert np.array_equal(out[:, :7], other.process(heard)[:, -7:])
    assert not out[:, 7:].any()
    assert (times[5:] == 7).all()
    assert 0 <= times[:5].sum() <= took.wall_ns


def test_multiply_adds_are_counted_and_done():
    """A round is so many results of two operations each; on what is not there nothing is done."""
    for isa in range(lib.BL_ISA_COUNT):
        flops = lib.bl_bench_fma_flops(isa)
        assert (flops > 0) == bool(lib.bl_isa_available(isa))
        assert flops % 2 == 0
        times = np.zeros(4, np.uint32)
        took = lib.bl_bench_fma(isa, 10, 4, ffi.from_buffer("uint32_t[]", times))
        assert (took.wall_ns > 0) == (flops > 0)
    assert lib.bl_bench_fma_flops(lib.BL_ISA_COUNT) == 0


# ---- the command ----


def test_json(cli, files):
    status, out, err = cli(
        *("bench", files["lstm-2x8"], "--conv", "4,4,3,1,2", "--block", "16, 64,16", "--json"),
        *("--isa", "scalar", "--repeats", 1, "--blocks", 5),
    )
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert [(each["model"], each["block_frames"]) for each in found] == [
        *(("lstm-2x8", 16), ("lstm-2x8", 64)),
        *(("conv 4,4,3,1,2", 16), ("conv 4,4,3,1,2", 64)),
    ]
    for each in found:
        assert each.keys() >= KEYS
        assert (each["isa"], each["timed_blocks"], each["repeats"]) == ("scalar", 5, 1)
        # One repeat: medians are what was measured, and have to fit together.
        frames_per_s = each["times_real_time"] * each["sample_rate_hz"]
        assert each["gflops"] == pytest.approx(each["flops_per_frame"] * frames_per_s / 1e9)
        assert each["percent_of_peak"] == pytest.approx(100 * each["gflops"] / each["peak_gflops"])
        assert each["max_over_p50"] == pytest.approx(each["max_us"] / each["p50_us"])
    assert [each["weights"] for each in found] == [905, 905, 24, 24]


def test_table_of_the_shipped_models(cli):
    status, out, _ = cli("bench", "--block", 64, "--repeats", 1, "--blocks", 5, "--realtime")
    assert status == 0
    first, headings, *rows = out.splitlines()
    assert "one thread" in first
    assert [heading in headings for heading in ("x real time", "GFLOP/s", "% of peak", "worst/p50")] == [
        True
    ] * 4
    assert [row.split()[0] for row in rows] == ["overdrive"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--block", "0"], 2, "--block: expected block sizes from 1 to 4194304 with commas, found '0'"),
        (["--block", "16,"], 2, "expected block sizes"),
        (["--block", "999999999"], 2, "expected block sizes"),
        (["--repeats", "0"], 2, "--repeats"),
        (["--blocks", "0"], 2, "--blocks"),
        (["--quality", "2"], 2, "--quality"),
        (["--isa", "abacus"], 1, "instruction set 'abacus' is not available"),
        (["--isa", ""], 1, "instruction set '' is not available"),
        (["--core", "99999"], 1, "core 99999 is not available"),
        (["--conv", "1,2"], 1, "conv '1,2': expected IN,OUT,KERNEL,DILATION,GROUPS, five whole numbers"),
        (["--conv", "4,4,1,1,3"], 1, "conv 4,4,1,1,3: groups 3 does not divide 4 inputs and 4 outputs"),
        (["absent.nam"], 1, "absent.nam: no such file"),
        (
            ["--plot", "bench.txt"],
            1,
            "bench.txt: cannot be drawn: expected a name ending in .png, .svg or .pdf",
        ),
    ],
)
def test_wrong_arguments(cli, arguments, status, says):
    found, out, err = cli("bench", *arguments)
    assert (found, out) == (status, "")
    assert says in " ".join(err.replace("│", " ").split())


def test_help(cli):
    status, out, _ = cli("bench", "--help")
    assert status == 0
    for word in ("--block", "--isa", "--conv", "--json", "--plot", "--realtime", "backline[plot]"):
        assert word in out


def test_plot(cli, tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib, which is not installed")
    path = tmp_path / "speed.png"
    arguments = (
        "bench",
        "--conv",
        "2,2,1,1,1",
        "--block",
        "8,16",
        "--repeats",
        1,
        "--blocks",
        5,
        "--plot",
        path,
    )
    assert cli(*arguments)[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    status, out, err = cli(*arguments)
    assert (status, out) == (1, "")
    assert err == f"backline: error: {path}: exists already (--force replaces it)\n"
    assert cli(*arguments, "--force")[0] == 0
    assert [each.name for each in tmp_path.iterdir()] == ["speed.png"]


# ---- targets ----


def test_targets_of_other_blocks_and_instruction_sets():
    assert target(80.0, "avx512", 64) == 80.0
    assert target(80.0, "avx512", 16) == pytest.approx(48.0)
    assert target(80.0, "avx2", 64) == 70.0
    assert target(80.0, "avx2", 16) == pytest.approx(42.0)


def test_models_run_on_every_instruction_set(files):
    for path in files.values():
        for isa in available_isas():
            assert Model(backline.load(path).graph, isa).isa == isa
