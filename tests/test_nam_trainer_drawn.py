"""Drawn WaveNets of every option, built and exported by the trainer, against its own output in float64."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nam_trainer
import numpy as np
import pytest
from graphs import SEEDS, examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nam_oracle import FILMS
from nam_trainer import RATE, export, played, torch, trainer
from test_nam_drawn import common_divisor, per_layer

import backline
from backline import native, reference
from backline.engine import Model

DRAWN = settings(
    examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
FRAMES = 200

PLAIN = ["Tanh", "ReLU", "Sigmoid", "SiLU", "Hardswish", "LeakyReLU", "PReLU", "Hardtanh"]
#: Not for pairs: the trainer takes no parameters there, and cannot export its own activations from there.
ALONE = [
    *("Softsign", "Softsigmoid", "LeakyHardtanh"),
    {"name": "LeakyReLU", "negative_slope": 0.3},
    {"name": "PReLU", "init": -0.2},
    {"name": "Hardtanh", "min_val": -0.4, "max_val": 0.7},
    {"name": "LeakyHardtanh", "min_val": -0.3, "max_val": 0.2, "min_slope": 0.1, "max_slope": 0.6},
]
PAIRS = ["PairMultiply", "PairBlend"]


@pytest.fixture(autouse=True, scope="module")
def short_loudness() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        nam_trainer.shorten_loudness(monkeypatch)
        yield


@st.composite
def activations(draw: st.DrawFn, bottleneck: int) -> Any:
    kind = draw(st.sampled_from(["plain", "alone", "slopes", "pair", "pair"]))
    if kind == "pair":
        halves = {"primary": draw(st.sampled_from(PLAIN)), "secondary": draw(st.sampled_from(PLAIN))}
        return {"name": draw(st.sampled_from(PAIRS)), **halves}
    if kind == "slopes":
        return {"name": "PReLU", "num_parameters": bottleneck}
    return draw(st.sampled_from(PLAIN if kind == "plain" else ALONE))


@st.composite
def films(draw: st.DrawFn, condition: int, numbers: set[int]) -> dict[str, Any]:
    film = {"active": draw(st.booleans()), "shift": draw(st.booleans())}
    return {**film, "groups": draw(common_divisor(condition, *numbers))}


@st.composite
def arrays(draw: st.DrawFn, inputs: int, condition: int, head_in: int | None, head_out: int) -> Any:
    """One array of layers; `head_in` is how many channels the array before gives into its head's sum."""
    count = draw(st.integers(1, 3))
    channels = draw(st.sampled_from([2, 3, 4, 6]))
    through, aside = draw(st.sampled_from([True, True, True, False])), draw(st.booleans())
    bottleneck = draw(st.sampled_from([1, 2, 3, 4])) if through else channels
    if head_in is not None and not aside:
        bottleneck, through = head_in, True
    listed = draw(per_layer(activations(bottleneck), count))
    used = listed if isinstance(listed, list) else [listed]
    mids = {bottleneck * (1 + ("primary" in one)) for one in used}
    sums = head_in or draw(st.sampled_from([1, 2, 4]))
    sizes = [{channels}, mids, {condition}, mids, mids, {bottleneck}, {channels}, {sums}]
    absent = {"layer1x1_post_film": not through, "head1x1_post_film": not aside}
    widths = {name: at for name, at in zip(FILMS, sizes, strict=True) if not absent.get(name, False)}
    return {
        **{"input_size": inputs, "condition_size": condition, "channels": channels, "activation": listed},
        "bottleneck": bottleneck,
        "kernel_size": draw(per_layer(st.integers(1, 3), count)),
        "dilations": draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)),
        "groups_input": draw(common_divisor(channels, *mids)),
        "groups_input_mixin": draw(common_divisor(condition, *mids)),
        "layer_1x1_config": {"active": through, "groups": draw(common_divisor(bottleneck, channels))},
        "head_1x1_config": {
            **{"active": aside, "out_channels": sums},
            "groups": draw(common_divisor(bottleneck, sums)),
        },
        "film_params": {name: draw(films(condition, numbers)) for name, numbers in widths.items()},
        "head": {
            **{"out_channels": head_out, "kernel_size": draw(st.integers(1, 3))},
            "bias": draw(st.booleans()),
        },
    }


@st.composite
def wavenets(draw: st.DrawFn, outputs: int = 1, depth: int = 1) -> dict[str, Any]:
    """A config of the trainer's; `depth` is how many may sit inside one another."""
    config: dict[str, Any] = {"head_scale": draw(st.sampled_from([0.02, 0.7])), "head": None}
    condition = 1
    if depth > 0 and draw(st.booleans()):
        condition = draw(st.sampled_from([1, 2, 4]))
        config["condition_dsp"] = {"name": "WaveNet", "config": draw(wavenets(condition, depth - 1))}
    last = outputs
    if draw(st.booleans()):
        last = draw(st.integers(1, 3))
        config["head"] = {
            **{"channels": draw(st.integers(1, 3)), "out_channels": outputs},
            "kernel_sizes": draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)),
            # Not PReLU: the trainer does not write the slopes that a head has learned.
            "activation": draw(st.sampled_from([one for one in PLAIN + ALONE if "PReLU" not in str(one)])),
        }
    below, head_in, layers = 1, None, []
    for head_out in [*(draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 1)))), last]:
        layers.append(draw(arrays(below, condition, head_in, head_out)))
        below, head_in = layers[-1]["channels"], head_out
    return {**config, "layers_configs": layers}


@given(config=st.integers(0, 2).flatmap(lambda depth: wavenets(depth=depth)), seed=SEEDS)
@DRAWN
def test_any_wavenet(tmp_path: Path, config: dict[str, Any], seed: int) -> None:
    torch.manual_seed(seed % 2**32)
    model = trainer.WaveNet.init_from_config({**config, "sample_rate": RATE})
    model.eval()
    loaded = backline.load(export(model, tmp_path))
    x = (np.random.default_rng(seed).standard_normal(FRAMES) * 0.5).astype(np.float32)
    expected = played(model, x)
    scale = max(1e-3, float(np.max(np.abs(expected))))
    exact = reference.run(loaded.graph, x[np.newaxis].astype(np.float64))[0]
    assert np.max(np.abs(exact - expected)) <= 1e-7 * scale  # slopes and limits are rounded to float32
    for isa in native.available_isas():
        found = Model(loaded.graph, isa)(x)
        assert found.shape == expected.shape
        assert np.max(np.abs(found - expected)) <= 1e-5 * scale
