"""Drawn .nam files of every architecture and option against the same rules in PyTorch (nam_oracle.py)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents_nam import nam
from graphs import SEEDS, divisors, examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

oracle = pytest.importorskip("nam_oracle", reason="compares with PyTorch, which is not installed")

from backline import reference  # noqa: E402
from backline.formats import load_graph  # noqa: E402
from backline.formats import nam as nam_format  # noqa: E402
from backline.graph import Graph  # noqa: E402

DRAWN = settings(
    examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
FRAMES = 40

ACTIVATIONS = [
    *("Tanh", "ReLU", "Sigmoid", "SiLU", "Hardswish", "Softsign", "LeakyReLU", "PReLU", "Hardtanh"),
    {"type": "LeakyReLU", "negative_slope": 0.3},
    {"type": "PReLU", "negative_slope": -0.2},
    {"type": "Hardtanh", "min_val": -0.4, "max_val": 0.7},
    {"type": "LeakyHardtanh", "min_val": -0.3, "max_val": 0.2, "min_slope": 0.1, "max_slope": 0.6},
]


@st.composite
def common_divisor(draw: st.DrawFn, *numbers: int) -> int:
    return draw(st.sampled_from([d for d in divisors(numbers[0]) if all(n % d == 0 for n in numbers)]))


@st.composite
def per_layer(draw: st.DrawFn, one: st.SearchStrategy[Any], count: int) -> Any:
    """One value for all layers, or a list with one for each."""
    return draw(one) if draw(st.booleans()) else [draw(one) for _ in range(count)]


@st.composite
def conv_nets(draw: st.DrawFn, inputs: int, outputs: int) -> dict[str, Any]:
    channels = draw(st.sampled_from([2, 4, 6]))
    config = {
        "channels": channels,
        "dilations": draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)),
        "batchnorm": draw(st.booleans()),
        "activation": draw(st.sampled_from(ACTIVATIONS)),
        "groups": draw(common_divisor(inputs, channels)),
        "in_channels": inputs,
        "out_channels": outputs,
    }
    return nam("ConvNet", config, 0)


@st.composite
def lstms(draw: st.DrawFn, inputs: int, outputs: int) -> dict[str, Any]:
    config = {"input_size": inputs, "hidden_size": draw(st.integers(1, 4)), "out_channels": outputs}
    return nam("LSTM", {**config, "num_layers": draw(st.integers(1, 2))}, 0)


@st.composite
def linears(draw: st.DrawFn) -> dict[str, Any]:
    return nam("Linear", {"receptive_field": draw(st.integers(1, 9)), "bias": draw(st.booleans())}, 0)


@st.composite
def models(draw: st.DrawFn, inputs: int = 1, outputs: int = 1, depth: int = 1) -> dict[str, Any]:
    """Any model of these channels, WaveNets more often than others."""
    kinds = [conv_nets(inputs, outputs), lstms(inputs, outputs), wavenets(inputs, outputs, depth - 1)]
    if inputs == outputs == 1:
        kinds.append(linears())
    if depth > 0:
        kinds.append(sequentials(inputs, outputs, depth - 1))
    return draw(st.one_of(kinds))


@st.composite
def sequentials(draw: st.DrawFn, inputs: int, outputs: int, depth: int) -> dict[str, Any]:
    between = [inputs, *draw(st.lists(st.integers(1, 3), max_size=2)), outputs]
    pairs = pairwise(between)
    return nam("Sequential", {"models": [draw(models(a, b, depth)) for a, b in pairs]}, 0)


@st.composite
def arrays(
    draw: st.DrawFn, inputs: int, condition: int, head_in: int | None, head_out: int
) -> dict[str, Any]:
    """One array of layers; `head_in` is how many channels the array before gives into its head's sum."""
    count = draw(st.integers(1, 3))
    channels = draw(st.sampled_from([2, 3, 4, 6]))
    layer1x1 = draw(st.sampled_from([True, True, True, False]))
    head1x1 = draw(st.booleans())
    bottleneck = channels if not layer1x1 else draw(st.sampled_from([1, 2, 3, 4]))
    if head_in is not None and not head1x1:
        bottleneck, layer1x1 = head_in, True
    modes = draw(per_layer(st.sampled_from(["none", "gated", "blended"]), count))
    listed = modes if isinstance(modes, list) else [modes] * count
    mids = {bottleneck if mode == "none" else 2 * bottleneck for mode in listed}
    sums = head_in or draw(st.sampled_from([1, 2, 4]))
    array = {
        **{"input_size": inputs, "condition_size": condition, "channels": channels},
        **{"bottleneck": bottleneck, "gating_mode": modes},
        "kernel_sizes": draw(per_layer(st.integers(1, 3), count)),
        "dilations": draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)),
        "activation": draw(per_layer(st.sampled_from(ACTIVATIONS), count)),
        "secondary_activation": draw(per_layer(st.sampled_from(ACTIVATIONS), count)),
        "groups_input": draw(common_divisor(channels, *mids)),
        "groups_input_mixin": draw(common_divisor(condition, *mids)),
        "layer1x1": {"active": layer1x1, "groups": draw(common_divisor(bottleneck, channels))},
        "head1x1": {
            "active": head1x1,
            "out_channels": sums,
            "groups": draw(common_divisor(bottleneck, sums)),
        },
        "head": {
            "out_channels": head_out,
            "kernel_size": draw(st.integers(1, 3)),
            "bias": draw(st.booleans()),
        },
    }
    array["head"]["head_dilation"] = draw(st.integers(1, 3))
    widths = {
        **dict.fromkeys(["conv_post_film", "input_mixin_post_film", "activation_pre_film"], mids),
        **{"conv_pre_film": {channels}, "input_mixin_pre_film": {condition}},
        "activation_post_film": {bottleneck},
        **({"layer1x1_post_film": {channels}} if layer1x1 else {}),
        **({"head1x1_post_film": {sums}} if head1x1 else {}),
    }
    for name, numbers in widths.items():
        array[name] = draw(films(condition, numbers))
    return array


@st.composite
def films(draw: st.DrawFn, condition: int, numbers: set[int]) -> Any:
    if draw(st.booleans()):
        return draw(st.sampled_from([False, None, {"active": False, "shift": True, "groups": 1}]))
    film: dict[str, Any] = {"active": True, "groups": draw(common_divisor(condition, *numbers))}
    return film | draw(st.sampled_from([{}, {"shift": True}, {"shift": False}]))


@st.composite
def wavenets(draw: st.DrawFn, inputs: int = 1, outputs: int = 1, depth: int = 1) -> dict[str, Any]:
    condition, condition_dsp = inputs, None
    if depth > 0 and draw(st.booleans()):
        condition = draw(st.sampled_from([1, 2, 4]))
        condition_dsp = draw(models(inputs, condition, depth - 1))
    post = draw(st.booleans())
    last_head = draw(st.integers(1, 3)) if post else outputs
    layers: list[dict[str, Any]] = []
    heads = [draw(st.sampled_from([1, 2, 3])) for _ in range(draw(st.integers(0, 1)))]
    below, head_in = inputs, None
    for head_out in [*heads, last_head]:
        layers.append(draw(arrays(below, condition, head_in, head_out)))
        below, head_in = layers[-1]["channels"], head_out
    head = None
    if post:
        head = {"channels": draw(st.integers(1, 3)), "out_channels": outputs}
        head["kernel_sizes"] = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        head["activation"] = draw(st.sampled_from(ACTIVATIONS))
    config = {"layers": layers, "head": head, "head_scale": 0.5, "in_channels": inputs}
    return nam("WaveNet", config | ({"condition_dsp": condition_dsp} if condition_dsp else {}), 0)


@st.composite
def slimmables(draw: st.DrawFn) -> dict[str, Any]:
    """A WaveNet of one or two arrays in one group, all of them slimmable."""
    layers: list[dict[str, Any]] = []
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=2))
    gated = st.sampled_from(["none", "gated", "blended"])
    for i, channels in enumerate(sizes):
        allowed = sorted(draw(st.sets(st.integers(1, channels), min_size=1)))
        kwargs = draw(st.sampled_from([{"allowed_channels": allowed}, {}]))
        array = {
            **{"input_size": sizes[i - 1] if i else 1, "condition_size": 1, "channels": channels},
            "kernel_sizes": 2,
            "dilations": [1, 3],
            "activation": {"type": "PReLU", "negative_slopes": np.linspace(-0.3, 0.6, channels).tolist()},
            "gating_mode": draw(per_layer(gated, 2)),
            "head": {"out_channels": ([*sizes, 1])[i + 1], "kernel_size": 1, "bias": draw(st.booleans())},
            "slimmable": {"method": "slice_channels_uniform", "kwargs": kwargs},
        }
        for name in oracle.FILMS[:7]:
            array[name] = draw(films(1, {1}))
        if len(sizes) == 1 and draw(st.booleans()):
            array |= {"bottleneck": draw(st.integers(1, 4)), "activation": "Tanh"}
        layers.append(array)
    return nam("WaveNet", {"layers": layers, "head": None, "head_scale": 1.0}, 0)


def assert_plays(tmp_path: Path, document: dict[str, Any], seed: int, quality: float = 1.0) -> Graph:
    """Fill the document with weights, load it, and compare; returns the graph."""
    rng = np.random.default_rng(seed)
    network = oracle.build(document, rng, quality)
    path = tmp_path / "drawn.nam"
    path.write_text(json.dumps(document))
    graph = load_graph(path, quality=quality)
    x = rng.standard_normal((graph.input_channels, FRAMES))
    # However much silence comes first, a settled network without recurrence answers the same.
    silence = graph.prewarm_frames + (0 if graph.receptive_field_frames is None else 11)
    expected = network(oracle.torch.from_numpy(np.pad(x, ((0, 0), (silence, 0))))).detach().numpy()
    expected = expected[:, silence:]
    found = reference.run(graph, x)
    assert found.shape == expected.shape
    assert np.all(np.isfinite(expected))
    assert np.max(np.abs(found - expected)) <= 1e-11 * max(1.0, np.max(np.abs(expected)))
    return graph


@given(document=models(), seed=SEEDS)
@DRAWN
def test_any_model(tmp_path: Path, document: dict[str, Any], seed: int) -> None:
    document["sample_rate"] = 1000  # the lowest: half a second of prewarm is then 500 frames
    for model in inside(document):
        model["sample_rate"] = 1000
    assert_plays(tmp_path, document, seed)


def inside(document: dict[str, Any]) -> list[dict[str, Any]]:
    """All models inside another one."""
    config = document["config"]
    found = [*config.get("models", []), *([config["condition_dsp"]] if "condition_dsp" in config else [])]
    return [*found, *(deeper for model in found for deeper in inside(model))]


@given(document=st.integers(1, 2).flatmap(wavenets), seed=SEEDS)
@DRAWN
def test_wavenets(tmp_path: Path, document: dict[str, Any], seed: int) -> None:
    for model in [document, *inside(document)]:
        model["sample_rate"] = 1000
    assert_plays(tmp_path, document, seed)


@given(document=slimmables(), seed=SEEDS, quality=st.floats(0, 1), chained=st.booleans())
@DRAWN
def test_slimmable_wavenets(
    tmp_path: Path, document: dict[str, Any], seed: int, quality: float, chained: bool
) -> None:
    if chained:
        linear = nam("Linear", {"receptive_field": 3, "bias": True}, 0)
        document = nam("Sequential", {"models": [document, linear]}, 0)
    graph = assert_plays(tmp_path, document, seed, quality)
    changes_nothing = any("changes nothing" in note for note in graph.notes)
    assert changes_nothing == (quality != 1.0 and not nam_format.has_sizes(document))


@given(document=slimmables(), quality=st.floats(0, 1), limit=st.floats(0.01, 0.99), seed=SEEDS)
@settings(DRAWN, max_examples=DRAWN.max_examples // 3)
def test_a_containers_model_is_whole(
    tmp_path: Path, document: dict[str, Any], quality: float, limit: float, seed: int
) -> None:
    small = nam("ConvNet", {"channels": 2, "dilations": [1], "batchnorm": False, "activation": "ReLU"}, 0)
    submodels = [{"max_value": limit, "model": small}, {"max_value": 1.0, "model": document}]
    assert_plays(tmp_path, nam("SlimmableContainer", {"submodels": submodels}, 0), seed, quality)
