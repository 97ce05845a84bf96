"""`backline verify`: what is right passes, and what is wrong, in the engine or in the file, does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from graphs import array, examples, graphs
from hypothesis import HealthCheck, given, settings

import backline
from backline import native
from backline import verify as library
from backline.activations import Activation
from backline.audiofile import read
from backline.engine import Engine, Program
from backline.formats import load_graph
from backline.graph import Graph, Knob, SelfTest
from backline.layers import Activate, Affine, Concat, Conv1d, Multiply
from backline.verify import part_of, signal, verify

Cli = Callable[..., tuple[int, str, str]]


def scaled(output: str, source: str, scale: float) -> Affine:
    return Affine(output, source, np.array([scale], np.float32))


def filtered(weight: np.ndarray, **options) -> Graph:
    """Gain, convolution, tanh, gain: as files whose test leaves the gains out."""
    nodes = (
        scaled("in", "x", 2.0),
        Conv1d("conv", "in", weight),
        Activate("net", "conv", Activation("tanh")),
        scaled("out", "net", 0.5),
    )
    return Graph(nodes, "x", 1, "out", **options)


def self_test(weight: np.ndarray, **options) -> SelfTest:
    """The net's own answer, by NumPy."""
    x = array(5, 1, 300)
    y = np.tanh(np.convolve(x[0].astype(np.float64), weight[0, 0, ::-1].astype(np.float64))[:300])
    return SelfTest("in", "net", x, y[None].astype(np.float32), **options)


def mistaken(monkeypatch: pytest.MonkeyPatch, change: Callable[[Graph], Graph]) -> None:
    """Let the engine run another graph than it is told to."""
    monkeypatch.setattr(library, "Program", lambda graph, isa=None: Program(change(graph), isa))


def slightly_louder(graph: Graph) -> Graph:
    """Its last layer 0.1 % more: wrong by -60 dB."""
    first = replace(graph.nodes[-1], output="almost")
    return replace(graph, nodes=(*graph.nodes[:-1], first, scaled("more", "almost", 1.001)), output="more")


# ---- what is right ----


@pytest.mark.parametrize("name", ["wavenet.nam", "A2.nam", "lstm.nam", "wavenet_a2_max.nam"])
def test_golden_models_pass_on_every_instruction_set(golden, name):
    found = verify(load_graph(golden / "nam" / "models" / name))
    assert found.passed
    assert list(found.same_in_blocks) == native.available_isas()
    assert {c.isa for c in found.comparisons} == {*native.available_isas()}
    assert found.frames >= (found.receptive_field_frames or 0) + 4096
    assert found.notes == ()
    loud = [c for c in found.comparisons if c.signal == "noise 0 dB"]
    assert all(c.error_db < -110 for c in loud)


@given(graph=graphs())
@settings(examples(15), suppress_health_check=[HealthCheck.too_slow])
def test_drawn_graphs_pass(graph):
    assert verify(graph).passed


def test_several_channels_and_another_rate():
    graph = backline.conv1d(array(1, 6, 2, 5), groups=3, stride=3).graph
    found = verify(graph, ["scalar"])
    assert found.passed
    assert sum(c.frames for c in found.comparisons) == -(-found.frames // 3)


def test_knobs_stand_at_their_default_and_at_both_ends():
    knobs = (Knob("drive", 0.4, 0.0, 2.0), Knob("level", 1.0, 0.5, 1.0))
    nodes = (Multiply("a", "x", "drive"), Activate("b", "a", Activation("tanh")), Multiply("y", "b", "level"))
    graph = Graph(nodes, "x", 1, "y", knobs=knobs)
    found = verify(graph, ["scalar"])
    assert found.passed
    settings = {tuple(c.knobs.values()) for c in found.comparisons}
    assert settings == {(np.float32(0.4), 1.0), (0.0, 0.5), (2.0, 1.0)}
    plain = [knob for knob in knobs if knob.name == "level"]
    same = replace(graph, nodes=(Multiply("y", "x", "level"),), knobs=tuple(plain))
    assert len({tuple(c.knobs.values()) for c in verify(same, ["scalar"]).comparisons}) == 2


def test_the_signal_has_what_it_says():
    x, stretches = signal(Graph((scaled("y", "x", 1.0),), "x", 3, "y"), 16384)
    assert [frames.start for frames in stretches.values()][1:] == [
        frames.stop for frames in stretches.values()
    ][:-1]
    peaks = {name: np.abs(x[:, frames]).max() for name, frames in stretches.items()}
    assert (peaks["silence"], peaks["impulse"]) == (0, 1)
    for name, level in (("noise -60 dB", -60), ("noise -20 dB", -20), ("noise 0 dB", 0)):
        assert 20 * np.log10(peaks[name]) == pytest.approx(level, abs=0.1)
    for frames in list(stretches.values())[1:]:
        assert not np.array_equal(x[0, frames], x[1, frames])
    assert np.isfinite(x).all()


def test_work_is_bounded(monkeypatch):
    # From the receptive field's first tap to its last is longer than the budget lets the reference run.
    far = Graph(
        (Conv1d("y", "x", array(0, 1, 1, 2), dilation=3_000_000),), "x", 1, "y", prewarm_frames=9_000_000
    )
    found = verify(far, ["scalar"])
    assert found.passed
    assert found.settled_on_frames == 0
    assert found.frames < 3_000_000
    assert "from zeros: 9000000 frames" in found.notes[0]
    assert "shorter than the receptive field" in found.notes[1]
    monkeypatch.setattr(library, "_BUDGET_NS", 1.0)
    assert verify(replace(far, prewarm_frames=0), ["scalar"]).frames == 1024


# ---- what is wrong ----


def test_a_wrong_weight_is_found(monkeypatch, wavenet_file):
    mistaken(monkeypatch, slightly_louder)
    found = verify(load_graph(wavenet_file))
    assert not found.passed
    loud = [c for c in found.comparisons if c.signal.startswith(("noise", "sweep", "pluck"))]
    assert len(loud) == 5 * len(native.available_isas())
    assert all(c.error_db == pytest.approx(-60, abs=0.1) and not c.passed for c in loud)


def test_a_wrong_length_is_found(monkeypatch):
    mistaken(monkeypatch, lambda graph: backline.conv1d(np.ones((1, 1, 1)), stride=2).graph)
    found = verify(backline.conv1d(np.ones((1, 1, 1))).graph, ["scalar"])
    assert {(c.error_db, c.largest, c.passed) for c in found.comparisons[-1:]} == {(None, None, False)}


def test_blocks_that_matter_are_found(monkeypatch):
    class Forgetful(Engine):
        def process(self, x):
            self.reset()
            return super().process(x)

    monkeypatch.setattr(library, "Engine", Forgetful)
    found = verify(backline.conv1d(array(0, 1, 1, 9)).graph, ["scalar"])
    assert all(c.passed for c in found.comparisons)
    assert found.same_in_blocks == {"scalar": False}
    assert not found.passed


def test_what_is_not_finite_fails_and_is_still_json():
    nodes = (scaled("a", "x", 3e38), Multiply("b", "a", "a"), scaled("y", "b", 1.0))
    found = verify(Graph(nodes, "x", 1, "y"), ["scalar"])
    assert not found.passed
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["passed"] is False
    assert None in [c["largest"] for c in told["comparisons"]]


# ---- what the file carries ----


@pytest.mark.parametrize("options", [{}, {"skip_frames": 8}])
def test_a_test_of_the_file_passes(options):
    weight = array(6, 1, 1, 9)
    found = verify(filtered(weight, self_tests=(self_test(weight, **options),)))
    assert found.passed
    own = [c for c in found.comparisons if c.signal == "the file's test 1"]
    assert [c.isa for c in own] == native.available_isas()
    assert {c.frames for c in own} == {300 - options.get("skip_frames", 0)}


def test_a_test_of_the_file_that_says_otherwise_fails():
    weight = array(6, 1, 1, 9)
    test = self_test(weight)
    wrong = test.y.copy()
    wrong[0, 200] += 0.01
    found = verify(filtered(weight, self_tests=(test, replace(test, y=wrong))), ["scalar"])
    assert [c.signal for c in found.comparisons if not c.passed] == ["the file's test 2"]
    skipped = replace(test, y=wrong, skip_frames=201)
    assert verify(filtered(weight, self_tests=(skipped,)), ["scalar"]).passed


def test_a_test_of_the_file_sets_knobs():
    nodes = (Concat("both", ("x", "tone")), Conv1d("y", "both", array(7, 1, 2, 1)))
    x = array(8, 1, 50)
    y = array(7, 1, 2, 1)[0, 0, 0] * x + array(7, 1, 2, 1)[0, 1, 0] * np.float32(0.75)
    test = SelfTest("x", "y", x, y, knobs={"tone": 0.75})
    graph = Graph(nodes, "x", 1, "y", knobs=(Knob("tone", 0.0, 0.0, 1.0),), self_tests=(test,))
    assert verify(graph, ["scalar"]).passed
    assert not verify(replace(graph, self_tests=(replace(test, knobs={}),)), ["scalar"]).passed


def test_an_aidax_file_is_held_against_its_own_test(golden, tmp_path, cli):
    """The golden answer of a model of that format, put where its author would have put it."""
    case = golden / "recurrent_json"
    document = json.loads((case / "models" / "ax_lstm12.json").read_text())
    x = read(golden / "inputs" / "b_short.wav")[0][:2000, 0]
    y = np.load(case / "outputs" / "ax_lstm12.npz")["b_short"].ravel()[:2000]
    for name, answer, status in (("right", y, 0), ("wrong", 1.001 * y, 1)):
        document |= {"input_batch": x.tolist(), "output_batch": answer.tolist()}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        found = cli("verify", tmp_path / f"{name}.json", "--isa", "scalar")
        assert found[0] == status, found
        assert "the file's test 1" in found[1]
    assert "scalar: the file's test 1" in found[2]


def test_tests_that_do_not_fit_are_refused():
    weight = array(6, 1, 1, 9)
    good = self_test(weight)
    for bad, says in (
        (replace(good, input="nowhere"), "names 'nowhere'"),
        (replace(good, output="nowhere"), "names 'nowhere'"),
        (replace(good, input="out"), "depends on more than 'out'"),
        (replace(good, x=good.x[0]), r"input of shape \(300,\)"),
        (replace(good, y=np.ones((2, 300), np.float32)), r"output of shape \(2, 300\)"),
        (replace(good, knobs={"tone": 1.0}), "no knob 'tone'"),
    ):
        with pytest.raises(backline.ModelError, match=says):
            verify(filtered(weight, self_tests=(bad,)), ["scalar"])


def test_a_part_is_what_lies_between():
    graph = filtered(array(6, 1, 1, 9), prewarm_frames=100)
    part = part_of(graph, "in", "net")
    assert [node.output for node in part.nodes] == ["conv", "net"]
    assert (part.input, part.output, part.prewarm_frames) == ("in", "net", 0)
    assert part_of(graph, "in", "in").nodes == ()


# ---- the command ----


def test_the_command_prints_a_table(cli, wavenet_file):
    status, out, err = cli("verify", wavenet_file)
    assert (status, err) == (0, "")
    for isa in native.available_isas():
        assert isa in out.splitlines()[1]
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    for kind in ("silence", "impulse", "noise -60 dB", "noise 0 dB", "sweep", "pluck"):
        assert lines[kind].rstrip().endswith(" ok")
    assert "in blocks of random sizes: the same bits as in one call" in out
    assert "at least 80 dB below the signal, or never more than 1e-05 of its peak" in out
    assert "the file carries no test of its own" in out


def test_the_command_as_json(cli, wavenet_file):
    status, out, err = cli("verify", wavenet_file, "--isa", "scalar", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["passed"], found["same_in_blocks"]) == (True, {"scalar": True})
    assert found["limits"] == {"error_db": -80.0, "largest_of_peak": 1e-5}
    assert {c["signal"] for c in found["comparisons"]} >= {"silence", "noise 0 dB", "pluck"}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_fails_with_1(cli, monkeypatch, wavenet_file, options):
    mistaken(monkeypatch, slightly_louder)
    status, out, err = cli("verify", wavenet_file, "--isa", "scalar", *options)
    assert status == 1
    assert err.startswith("backline: error: ")
    assert "more than rounding is wrong (scalar: " in err
    assert err.count("\n") == 1
    assert ('"passed": false' if options else "FAILED") in out


def test_wrong_arguments(cli, wavenet_file, tmp_path):
    for arguments, status, says in (
        (["verify", wavenet_file, "--isa", "pdp11"], 1, "instruction set 'pdp11' is not available"),
        (["verify", wavenet_file, "--knob", "drive=1"], 1, "no knob 'drive'"),
        (["verify", wavenet_file, "--knob", "drive"], 2, "expected NAME=VALUE"),
        (["verify", tmp_path / "no.nam"], 1, "no such file"),
        (["verify"], 2, "MODEL"),
    ):
        found = cli(*arguments)
        assert found[:2] == (status, ""), found
        assert says in found[2]
