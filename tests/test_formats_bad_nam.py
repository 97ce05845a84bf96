"""Broken .nam files of the rarer architectures and options: each refused in a sentence that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents import container, lstm, wavenet
from documents_nam import NAM_DOCUMENTS, conv_net, linear, sequential
from mutations import drop, put
from test_formats_bad_input import refusal

from backline.formats import load_graph

A0 = ("config", "layers", 0)
SLIM = (*A0, "slimmable")
BROKEN = [
    ("linear", put("weights", value=[0.1] * 5), "expected 4 weights, found 5"),
    ("linear", drop("weights", 0), "linear: expected at least 4 weights"),
    ("linear", put("config", "receptive_field", value=2**24), "linear: expected at least 16777216 weights"),
    ("linear", put("config", "in_channels", value=2), "Linear with more than one channel is not supported"),
    ("linear", put("config", "bias", value=1), "field 'bias': expected true or false, found 1"),
    ("conv_net", drop("config", "batchnorm"), "field 'batchnorm' is missing"),
    ("conv_net", drop("config", "activation"), "field 'activation' is missing"),
    ("conv_net", put("config", "groups", value=4), "block 0: groups 4 does not divide the 2 input channels"),
    ("conv_net", put("config", "groups", value=1), "block 1 conv: expected at least 65 weights"),
    ("conv_net", put("config", "dilations", value=[1, 2**24]), "reach of the kernel"),
    ("conv_net", put("config", "dilations", value=[2**24 - 1, 2**24 - 1]), "prewarm of 33554431"),
    ("conv_net", put("weights", 13, value=-1.0), "variance plus epsilon has to be positive"),
    ("conv_net", put("config", "channels", value=2**24), "block 0 conv: expected at least"),
    ("modulated", drop("weights", 0), "head scale: expected at least 118 weights up to here, found 117"),
    ("modulated", put(*A0, "conv_pre_film", value=True), "'conv_pre_film': expected an object, found true"),
    ("modulated", put(*A0, "conv_pre_film", "groups", value=2), "groups 2 does not divide the 1 input"),
    ("modulated", put(*A0, "conv_post_film", "shift", value="no"), "expected true or false, found 'no'"),
    ("modulated", put(*A0, "layer1x1", value={"active": False}), "'layer1x1_post_film': is active, but"),
    ("modulated", put(*A0, "head1x1", "active", value=False), "'head1x1_post_film': is active, but"),
    ("modulated", put("config", "condition_dsp", value=3), "condition_dsp: expected an object, found 3"),
    (
        "modulated",
        drop("config", "condition_dsp", "weights", 0),
        "condition_dsp: linear: expected at least 4",
    ),
    ("modulated", drop("config", "condition_dsp", "version"), "condition_dsp: field 'version' is missing"),
    ("modulated", put("config", "condition_dsp", value=conv_net()), "expected 1 input channels like"),
    ("modulated", put(*A0, "condition_size", value=2), "expected condition_size 1, the output channels of"),
    (
        "modulated",
        put("config", "condition_dsp", "sample_rate", value=44100),
        "condition_dsp: expected the sample rate of the model around it, 48000 Hz, found 44100 Hz",
    ),
    ("slimmable", put(*SLIM, "method", value="x"), "expected 'slice_channels_uniform', found 'x'"),
    ("slimmable", put(*SLIM, value=True), "array 0 slimmable: expected an object, found true"),
    (
        "slimmable",
        put(*SLIM, "kwargs", "allowed_channels", value=[1, 4]),
        "up to the 3 channels, found 4 at 1",
    ),
    ("slimmable", put(*SLIM, "kwargs", "allowed_channels", value=[2, 2]), "found 2 at 1"),
    ("slimmable", put(*SLIM, "kwargs", "allowed_channels", value=[0]), "an integer from 1"),
    ("slimmable", put(*SLIM, "kwargs", "allowed_channels", value=[]), "a list of integers that is not empty"),
    ("sequential", put("config", "weights_version", value=1), "'weights_version': expected 2, each model"),
    ("sequential", put("config", "models", value=[]), "'models': expected a list that is not empty"),
    ("sequential", put("weights", value=[1.0]), "expected none beside a Sequential's models, found 1"),
    ("sequential", put("config", "models", 0, value={"channels": 3}), "model 0: field 'version' is missing"),
    ("sequential", put("config", "models", 1, value=conv_net()), "model 1: expected 1 input channels"),
    ("sequential", put("config", "models", 1, "sample_rate", value=1), "model 1: expected the sample rate"),
    ("sequential", drop("config", "models", 1, "weights", 0), "model 1: linear: expected at least 4 weights"),
]


@pytest.mark.parametrize(("name", "mutate", "text"), BROKEN)
def test_broken_documents(
    tmp_path: Path, name: str, mutate: Callable[[dict[str, Any]], None], text: str
) -> None:
    document = NAM_DOCUMENTS[name]()
    mutate(document)
    path = tmp_path / "broken.nam"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert text in refusal(path)


def test_only_what_is_sliced_has_to_be_in_one_group(tmp_path: Path) -> None:
    document = NAM_DOCUMENTS["slimmable"]()
    document["config"]["layers"][0]["layer1x1"] = {"active": True, "groups": 3}
    document["weights"] = document["weights"][: 34 - 6]
    path = tmp_path / "grouped.nam"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert load_graph(path).parameter_count == 28
    assert "array 0 layer 0 layer1x1: cannot be slimmed in 3 groups" in refusal(path, quality=0.0)


@pytest.mark.parametrize("make", [wavenet, lstm, linear, container])
@pytest.mark.parametrize("depth", [16, 17, 200])
def test_nesting_ends(tmp_path: Path, make: Callable[[], dict[str, Any]], depth: int) -> None:
    document = make()
    for _ in range(depth - (document["architecture"] == "SlimmableContainer")):
        outer = sequential()
        outer["config"]["models"] = [document]
        document = outer
    path = tmp_path / "deep.nam"
    path.write_text(json.dumps(document), encoding="utf-8")
    if depth == 16:
        assert load_graph(path).output_channels == 1
    else:
        assert "16 models inside one another" in refusal(path) or "nested too deeply" in refusal(path)
