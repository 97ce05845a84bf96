"""The C engine, on every instruction set, against the golden outputs of other engines."""

from __future__ import annotations

import numpy as np
import pytest
from golden_layers import layers_of_case

import backline
from backline import audiofile, native
from backline.engine import Model

ISAS = native.available_isas()


@pytest.mark.golden_kinds("conv1d")
@pytest.mark.parametrize("isa", ISAS)
def test_grouped_convolutions(isa, golden_case, golden):
    data = np.load(golden / golden_case["data"])
    bias = data["b"] if golden_case["bias"] else None
    options = {key: golden_case[key] for key in ("groups", "dilation", "stride")}
    model = Model(backline.conv1d(data["w"], bias, **options).graph, isa)
    found = model(data["x"]).reshape(data["y"].shape)
    assert found.shape == (golden_case["frames_out"], golden_case["out_channels"])
    np.testing.assert_allclose(found, data["y"], rtol=0, atol=golden_case["suggested_atol_float32"])


@pytest.mark.golden_kinds("layer_stack")
@pytest.mark.parametrize("isa", ISAS)
def test_rtneural_stacks(isa, golden_case, golden):
    path = golden / golden_case["models"][0]
    data = np.load(golden / golden_case["data"])
    loaded = backline.load(path, layers=layers_of_case(golden_case))
    model = Model(loaded.graph, isa)
    x, expected, step = data["x"], data["y"], golden_case["y_step"]
    # Output n of a strided model is computed at input frame n * step: silence in front shifts the phase so
    # that one of them falls on y_start.
    shift = -golden_case["y_start"] % step
    first = (golden_case["y_start"] + shift) // step
    found = model(np.concatenate([np.zeros((shift, x.shape[1])), x])).reshape(-1, expected.shape[1])
    found = found[first:][: len(expected)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=golden_case["rtneural_threshold"])


@pytest.mark.golden_kinds("nam")
@pytest.mark.parametrize("isa", ISAS)
def test_nam_models(isa, golden_case, golden):
    expected_file, key = golden_case["expected"]
    quality = 1.0 if golden_case["slim"] is None else golden_case["slim"]
    prewarm = golden_case["state"] != "no_prewarm"
    path = golden / golden_case["model"]
    loaded = backline.load(path, quality=quality, prewarm=prewarm)
    x, _ = audiofile.read(golden / golden_case["input"])
    expected = np.load(golden / expected_file)[key]
    found = Model(loaded.graph, isa)(x[: len(expected), 0])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=golden_case["suggested_atol_float32"])


@pytest.mark.golden_kinds("recurrent_json")
@pytest.mark.parametrize("isa", ISAS)
def test_recurrent_models(isa, golden_case, golden):
    prewarm = 2048 if golden_case["id"].endswith("_prewarm2048") else False
    loaded = backline.load(golden / golden_case["model"], prewarm=prewarm)
    x, _ = audiofile.read(golden / golden_case["input"])
    file, key = golden_case["expected"]
    expected = np.load(golden / file)[key]
    found = Model(loaded.graph, isa)(x[:, 0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=golden_case["suggested_atol_float32"])
