"""Networks exported from PyTorch: Backline's stream against ONNX Runtime, within 1e-5 of the peak.

ONNX Runtime sees the whole recording, or one block after the other where state goes in and out. Backline
plays what it makes `latency` frames later; every frame it has played by the end is compared. The recording's
last frames, which only padding follows, are still to come then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from graphs import array, in_blocks

torch = pytest.importorskip("torch", reason="exports PyTorch modules, and PyTorch is not installed")
onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime, which is not installed")
pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript, which is not installed")

import onnx_models as models  # noqa: E402
from onnx_models import annotate, export, seeded, session  # noqa: E402
from torch import nn  # noqa: E402

from backline.engine import Model  # noqa: E402
from backline.formats import load_graph  # noqa: E402

FRAMES = 960
#: The exporters, and the versions of ONNX they are asked for; 25 is the newest that both sides know.
EXPORTS = [(False, 13), (False, 17), (True, 18)]
NEWEST = [*EXPORTS, (True, 25)]


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-5 of the peak, which is one that can be heard."""
    peak = np.max(np.abs(expected))
    assert peak > 1e-2
    assert np.all(np.isfinite(found))
    np.testing.assert_allclose(found / peak, expected / peak, rtol=0, atol=1e-5)


def channels_last(values: np.ndarray, time: int) -> np.ndarray:
    """A tensor as [frames][channels]."""
    moved = np.moveaxis(values, time, 0)
    return np.ascontiguousarray(moved.reshape(len(moved), -1))


@dataclass(frozen=True)
class Case:
    """A module, an example of its first input and where time lies in it, and how late its stream is."""

    module: Callable[[], nn.Module]
    shape: Sequence[int] = (1, 1, FRAMES)
    time: int = 2
    latency: int = 0
    more: Mapping[str, Sequence[int]] = field(default_factory=dict)
    is_open: bool = True
    exports: Sequence[tuple[bool, int]] = tuple(EXPORTS)


def separable(act: nn.Module) -> Case:
    """A case for an activation."""
    return Case(lambda: models.Separable(act), (1, 2, FRAMES), exports=EXPORTS[1:])


CASES = {
    "tcn": Case(models.CausalTcn, exports=NEWEST),
    "chomp": Case(models.ChompTcn),
    # 7 taps, 5 of dilation 2, 3: half of what each sees is ahead.
    "same": Case(models.SameTcn, latency=3 + 4 + 1),
    "same softplus": Case(lambda: models.SameTcn(nn.Softplus()), latency=3 + 4 + 1),
    "separable hardswish": separable(nn.Hardswish()),
    "separable silu": separable(nn.SiLU()),
    "separable snake": separable(models.Snake(8)),
    "separable gelu": separable(nn.GELU()),
    "separable gelu tanh": separable(nn.GELU("tanh")),
    "separable mish": separable(nn.Mish()),
    "separable hardtanh": separable(nn.Hardtanh(-0.3, 0.2)),
    "separable relu6": separable(nn.ReLU6()),
    "separable hardsigmoid": separable(nn.Hardsigmoid()),
    "separable softsign": separable(nn.Softsign()),
    "separable softmax": separable(nn.Softmax(dim=1)),
    "squeezed": Case(models.Squeezed),
    "wavenet": Case(models.GatedWaveNet, more={"cond": (1, 2)}, exports=NEWEST),
    "film": Case(models.Film, more={"cond": (1, 3)}),
    # The example is short: the newer exporter writes out every step and finds the layer again.
    "gru": Case(models.GruAmp, (1, 16, 1), 1, exports=NEWEST),
    "lstm": Case(models.LstmAmp, (FRAMES, 1, 2), 0, exports=EXPORTS[:2]),
    "short lstm": Case(models.LstmAmp, (32, 1, 2), 0, is_open=False, exports=EXPORTS[2:]),
    # 8 taps, 2 of padding: 5 ahead, 8 with the stride; 2 + 5 ahead, 8 with the stride; then 2 cut off twice.
    "encoder decoder": Case(models.EncoderDecoder, latency=(8 // 4 * 4 + 2) * 4 + 2, exports=NEWEST),
    # 2 ahead, 4 with the pool's window and stride; then 1 at half the rate and 1 more.
    "unet nearest": Case(lambda: models.UNet("nearest"), latency=(4 // 2 + 1) * 2 + 1),
    # Half a frame of the slower rate more.
    "unet linear": Case(lambda: models.UNet("linear"), latency=(4 // 2 + 1) * 2 + 1 + 1, exports=NEWEST),
    # 6 taps, 3 of padding: 2 ahead, 3 with the stride.
    "sub-pixel": Case(models.SubPixel, latency=3),
    "spectral": Case(models.Spectral, (1, FRAMES, 8), 1),
}


def exported(folder: Path, case: Case, dynamo: bool, opset: int) -> Path:
    """The case's file; time stays open with opset 13 and 18, all sizes are fixed with 17 and 25."""
    inputs = ("x", *case.more)
    example = [torch.zeros(case.shape), *(torch.zeros(shape) for shape in case.more.values())]
    moving = {"x": case.time} if case.is_open and opset in (13, 18) else {}
    options = {"inputs": inputs, "opset": opset, "dynamo": dynamo, "moving": moving}
    return export(folder / "net.onnx", seeded(case.module()), example, **options)


@pytest.mark.parametrize(
    ("name", "dynamo", "opset"), [(name, *how) for name, case in CASES.items() for how in case.exports]
)
def test_an_exported_network_streams_as_onnx_runtime_computes_it(tmp_path, name, dynamo, opset):
    case = CASES[name]
    path = exported(tmp_path, case, dynamo, opset)
    run = session(path)
    shape = [size if isinstance(size, int) else FRAMES for size in run.get_inputs()[0].shape]
    x = array(3, *shape)
    more = {name: np.abs(array(4, *shape)) % 1 for name, shape in case.more.items()}
    (y,) = run.run(None, {"x": x, **more})
    graph = load_graph(path)
    assert graph.latency_frames == case.latency
    assert any("look ahead" in note for note in graph.notes) == (case.latency > 0)
    values = {f"{name}_{i}": v for name, vs in more.items() for i, v in enumerate(vs.ravel().tolist())}
    found = Model(graph.with_knobs(values))(channels_last(x, case.time))
    expected = channels_last(y, case.time)
    found = found.reshape(-1, expected.shape[1])[case.latency :]
    assert len(found) == len(expected) - case.latency
    close(found, expected[: len(found)])


def in_turns(path: Path, x: np.ndarray, time: int, size: int, states: Mapping[str, np.ndarray]) -> np.ndarray:
    """What ONNX Runtime makes of one block after the other, the states handed on."""
    run = session(path)
    found, held = [], dict(states)
    for block in np.split(x, range(size, x.shape[time], size), axis=time):
        y, *after = run.run(None, {"x": block, **held})
        held = dict(zip(states, after, strict=True))
        found.append(channels_last(y, time))
    return np.concatenate(found)


@dataclass(frozen=True)
class Streaming:
    """A module whose state goes in and out: an example, where time lies, and the states' shapes."""

    module: Callable[[], nn.Module]
    shape: Sequence[int]
    time: int
    states: Mapping[str, Sequence[int]]
    is_open: bool = True


STREAMING = {
    "gru": Streaming(models.StreamingGru, (1, 16, 1), 1, {"h": (2, 1, 7)}),
    "lstm": Streaming(models.StreamingLstm, (1, 16, 1), 1, {"h": (1, 1, 6), "c": (1, 1, 6)}, is_open=False),
    "convolutions": Streaming(models.StreamingConvs, (1, 1, 16), 2, {"a": (1, 1, 4), "b": (1, 4, 4)}),
    "convolutions in fixed blocks": Streaming(
        models.StreamingConvs, (1, 1, 16), 2, {"a": (1, 1, 4), "b": (1, 4, 4)}, is_open=False
    ),
}


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize(("dynamo", "opset"), [(False, 17), (True, 18)])
def test_state_that_goes_in_and_out_is_kept_by_the_stream(tmp_path, name, dynamo, opset):
    case = STREAMING[name]
    states = {name: np.zeros(shape, np.float32) for name, shape in case.states.items()}
    path = export(
        tmp_path / "net.onnx",
        seeded(case.module()),
        [torch.zeros(case.shape), *(torch.zeros(shape) for shape in case.states.values())],
        inputs=("x", *states),
        outputs=("y", *(f"next_{name}" for name in states)),
        opset=opset,
        dynamo=dynamo,
        moving={"x": case.time} if case.is_open else {},
    )
    x = array(6, *(FRAMES if axis == case.time else size for axis, size in enumerate(case.shape)))
    expected = in_turns(path, x, case.time, 16, states)
    graph = load_graph(path)
    assert graph.latency_frames == 0
    assert not graph.knobs
    assert any("state" in note and all(repr(name) in note for name in states) for note in graph.notes)
    with Model(graph).stream() as stream:
        found = in_blocks(stream, channels_last(x, case.time), [1, 7, 64, 300, FRAMES - 372])
    close(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("moving", [{"x": 2, "cond": 2}, {}], ids=["open", "fixed"])
def test_knobs_of_one_value_a_frame(tmp_path, moving):
    """A condition with a time axis of its own: knobs, which move on while audio runs."""
    shapes = (1, 1, FRAMES), (1, 2, FRAMES)
    path = export(
        tmp_path / "net.onnx",
        seeded(models.GatedWaveNet()),
        [torch.zeros(shape) for shape in shapes],
        inputs=("x", "cond"),
        moving=moving,
        dynamo=False,
    )
    annotate(
        path,
        sample_rate="44100",
        knobs='{"cond": [{"name": "drive", "default": 0.25, "minimum": -1, "maximum": 2}, {"name": "tone"}]}',
    )
    graph = load_graph(path)
    assert graph.sample_rate_hz == 44100.0
    assert [(k.name, k.default, k.minimum, k.maximum) for k in graph.knobs] == [
        ("drive", 0.25, -1.0, 2.0),
        ("tone", 0.0, 0.0, 1.0),
    ]
    assert not any("knobs from 0 to 1" in note for note in graph.notes)
    x, cond = array(8, *shapes[0]), np.zeros(shapes[1], np.float32)
    cond[:, 0] = 1.5
    cond[:, 1] = 0.75
    (expected,) = session(path).run(None, {"x": x, "cond": cond})
    model = Model(graph)
    close(model(x.ravel(), drive=1.5, tone=0.75), expected.ravel())
    cond[:, 0], cond[:, 1] = 0.25, 0.0
    (expected,) = session(path).run(None, {"x": x, "cond": cond})
    close(model(x.ravel()), expected.ravel())


def test_a_knob_is_called_like_its_input_and_stands_in_the_notes(tmp_path):
    class Gain(nn.Module):
        def forward(self, x, drive):
            return torch.tanh(x * drive)

    shapes = (1, 1, FRAMES), (1, 1)
    path = export(
        tmp_path / "net.onnx", Gain(), [torch.zeros(s) for s in shapes], inputs=("x", "drive"), dynamo=False
    )
    (knob,) = load_graph(path).knobs
    assert (knob.name, knob.default, knob.minimum, knob.maximum) == ("drive", 0.0, 0.0, 1.0)
    assert any("'drive'" in note and "0 to 1" in note for note in load_graph(path).notes)
    x = array(2, FRAMES)
    close(Model(load_graph(path))(x, drive=0.5), np.tanh(0.5 * x.astype(np.float64)))


def test_what_the_file_says_of_itself(tmp_path):
    path = export(tmp_path / "amp.onnx", seeded(models.CausalTcn()), [torch.zeros(1, 1, 64)], dynamo=False)
    graph = load_graph(path)
    assert graph.name == "amp"
    assert graph.sample_rate_hz is None
    assert graph.metadata["opset"] == 18
    assert str(graph.metadata["producer"]).startswith("pytorch")
    annotate(path, name="Loud", author="Somebody", sample_rate_hz="48000.0")
    graph = load_graph(path, quality=0.5)
    assert graph.name == "Loud"
    assert graph.metadata["author"] == "Somebody"
    assert graph.sample_rate_hz == 48000.0
    assert any("quality 0.5" in note for note in graph.notes)
