"""`backline verify`: right models pass, wrong numbers and wrong engines do not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from graphs import array

import backline
from backline import library, verify
from backline.cli import main
from backline.errors import ModelError
from backline.formats import load_graph


@pytest.fixture
def aidax(tmp_path):
    """An AIDA-X model with gains, a skip and a parameter, and the test vectors PyTorch gives for it."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    torch.manual_seed(1)
    gru, dense = torch.nn.GRU(2, 5, batch_first=True), torch.nn.Linear(5, 1)

    def keras(values):
        reset, update, new = np.split(values.detach().numpy().astype(np.float64), 3)
        return np.concatenate([update, reset, new])

    ih, hh = keras(gru.weight_ih_l0).T, keras(gru.weight_hh_l0).T
    biases = [keras(gru.bias_ih_l0).tolist(), keras(gru.bias_hh_l0).tolist()]
    x = array(3, 300)
    heard = torch.tensor(np.stack([x, np.zeros_like(x)], 1)[None])
    with torch.no_grad():
        y = dense(gru(heard)[0])[0, :, 0].numpy() + x
    document = {
        "in_shape": [None, None, 2],
        "in_skip": 1,
        "in_gain": -6.0,
        "out_gain": 3.0,
        "metadata": {"name": "amp", "samplerate": "48000"},
        "layers": [
            {"type": "gru", "shape": [None, None, 5], "weights": [ih.tolist(), hh.tolist(), biases]},
            {
                "type": "dense",
                "shape": [None, None, 1],
                "weights": [dense.weight.detach().numpy().T.tolist(), dense.bias.tolist()],
            },
        ],
        "input_batch": [[float(v)] for v in x],
        "output_batch": [float(v) for v in y],
    }
    path = tmp_path / "amp.json"
    path.write_text(json.dumps(document))
    return path


def test_a_files_own_test_leaves_its_gains_out(aidax, capsys):
    assert main(["verify", str(aidax), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    own = [each for each in found["comparisons"] if each["signal"].startswith("the file's test")]
    assert {each["isa"] for each in own} == set(found["same_in_blocks"])
    assert all(each["frames"] == 300 and each["error_db"] < -100 for each in own)
    assert {each["knobs"]["param1"] for each in found["comparisons"]} == {0.0, 1.0}
    assert all(found["same_in_blocks"].values())


def test_wrong_numbers_in_a_file_fail(aidax, capsys):
    document = json.loads(aidax.read_text())
    document["output_batch"][200] += 0.001
    aidax.write_text(json.dumps(document))
    assert main(["verify", str(aidax)]) == 1
    said = capsys.readouterr()
    assert "FAILED" in said.out
    assert "the file's test 1" in said.err


def test_a_wrong_engine_fails(wavenet_file, monkeypatch):
    run = verify._run
    monkeypatch.setattr(verify, "_run", lambda *arguments: run(*arguments) * np.float32(1.001))
    assert not verify.verify(load_graph(wavenet_file)).passed


def test_blocks_that_differ_fail(wavenet_file, monkeypatch):
    def run(program, x, knobs, sizes):
        y = np.zeros((1, x.shape[1]), np.float32)
        y[0, -1] = 1e-30 * len(sizes)
        return y

    monkeypatch.setattr(verify, "_run", run)
    found = verify.verify(load_graph(wavenet_file))
    assert not any(found.same_in_blocks.values())


def test_the_shipped_model_verifies(capsys):
    assert main(["verify", "overdrive"]) == 0
    said = capsys.readouterr().out
    assert "the same bits as in one call" in said
    assert "the file carries no test of its own" in said


def test_wrong_arguments(capsys):
    assert main(["verify", "overdrive", "--isa", "mmx"]) == 1
    assert "mmx" in capsys.readouterr().err


def test_a_test_of_signals_that_do_not_exist():
    with pytest.raises(ModelError, match="nowhere"):
        verify.part_of(load_graph(library.find("overdrive")), "nowhere", "nobody")


def test_the_error_is_what_a_hand_works_out(monkeypatch):
    """An engine that is off by 0.001 wherever the noise of full scale is, up and down in turn."""
    run = verify._run
    graph = backline.conv1d(np.ones((1, 1, 1))).graph
    x, stretches = verify.signal(graph, 16384)
    where = stretches["noise 0 dB"]

    def off(*arguments):
        y = run(*arguments)
        y[0, where] += 0.001 * (-1.0) ** np.arange(len(where))
        return y

    monkeypatch.setattr(verify, "_run", off)
    found = {each.signal: each for each in verify.verify(graph, ["scalar"]).comparisons}
    noise = x[0, where].astype(np.float64)
    expected_db = 20 * np.log10(0.001 / np.sqrt(np.mean(noise**2)))
    assert found["noise 0 dB"].error_db == pytest.approx(expected_db, abs=1e-3)
    assert found["noise 0 dB"].largest == pytest.approx(0.001, rel=1e-3)
    assert not found["noise 0 dB"].passed
    for kind in set(stretches) - {"noise 0 dB"}:
        assert (found[kind].error_db, found[kind].largest, found[kind].passed) == (None, 0.0, True)
