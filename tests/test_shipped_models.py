"""The models in ``models/``: each with provenance, each reproducing its own golden pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import backline
from backline import library, native
from backline.engine import Model
from backline.layers import Conv1d

SHIPPED = sorted(library.shipped())


def golden_pair(name: str) -> dict[str, np.ndarray]:
    path: Path = library.find(name)
    return dict(np.load(path.with_name(f"{path.stem}_golden.npz")))


def error_to_signal(found: np.ndarray, wanted: np.ndarray) -> float:
    difference = found.astype(np.float64) - wanted
    return float(np.sum(difference**2) / np.sum(wanted.astype(np.float64) ** 2))


def test_there_is_one():
    assert "overdrive" in SHIPPED


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("name", SHIPPED)
def test_it_plays_what_the_trained_network_played(name, isa):
    pair = golden_pair(name)
    found = Model(backline.load(name).graph, isa)(pair["x"])
    np.testing.assert_allclose(found, pair["y"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", SHIPPED)
def test_provenance(name):
    model = backline.load(name)
    provenance = model.metadata["provenance"]
    assert {"circuit", "components", "seed", "script", "esr_held_back"} <= set(provenance)
    assert library.find(name).with_suffix(".md").is_file()
    assert model.sample_rate_hz == 48000


def test_the_overdrive_has_grouped_convolutions_and_keeps_to_its_circuit():
    model = backline.load("overdrive")
    assert any(node.groups > 1 for node in model.graph.nodes if isinstance(node, Conv1d))
    pair = golden_pair("overdrive")
    assert error_to_signal(model(pair["x"]), pair["y_circuit"]) <= 0.03
    assert model.metadata["provenance"]["esr_held_back"] <= 0.03
