"""States of PyTorch modules, against the module run block by block; what stays as it was; what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from torch_streams import assert_streams, rows_of, seeded, signal, torch

import backline
from backline import ModelError

nn, functional = torch.nn, torch.nn.functional
BLOCKS = (16, 16, 1, 40, 7)


class Stepped(nn.Module):
    """A recurrent network that takes its state and gives the next one."""

    def __init__(self, kind: str, layers: int) -> None:
        super().__init__()
        self.body = getattr(nn, kind)(2, 5, layers, batch_first=True)
        self.head = nn.Linear(5, 1)

    def forward(self, x: Any, *state: Any) -> Any:
        inner, state = self.body(x.mT, state if len(state) > 1 else state[0])
        return self.head(inner).mT, *(state if isinstance(state, tuple) else (state,))


class Cached(nn.Module):
    """Convolutions behind caches of past frames, one cache for each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(2, 4, 3, dilation=2), nn.Conv1d(4, 2, 4)

    def forward(self, x: Any, first: Any, second: Any) -> Any:
        x = torch.cat([first, x], dim=2)
        first = x[:, :, -4:]
        x = torch.tanh(self.one(x))
        x = torch.cat([second, x], dim=-1)
        return self.two(x), first, x[..., -3:]


class Buffered(nn.Module):
    """The same kind of thing, with its states in buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.body = nn.Conv1d(2, 3, 4, dilation=2), nn.GRU(3, 3, batch_first=True)
        self.register_buffer("past", torch.zeros(1, 2, 6))
        self.register_buffer("state", torch.zeros(1, 1, 3), persistent=False)
        self.register_buffer("blocks", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Any) -> Any:
        self.blocks += 1
        x = torch.cat([self.past, x], 2)
        self.past.copy_(x[..., -6:])
        inner, self.state = self.body(self.conv(x).mT, self.state)
        return inner.mT


def block_by_block(module: Any, x: Any, states: tuple[Any, ...]) -> np.ndarray:
    """What the module gives for blocks of `BLOCKS` frames."""
    made = []
    with torch.no_grad():
        for block in x.split(BLOCKS, dim=-1):
            result = module(block, *states)
            y, *states = result if isinstance(result, tuple) else (result,)
            made.append(rows_of(y))
    return np.concatenate(made)


def zeros(*shapes: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(torch.zeros(shape, dtype=torch.float64) for shape in shapes)


STATES = {
    "gru": (lambda: Stepped("GRU", 1), ((1, 1, 5),)),
    "stacked gru": (lambda: Stepped("GRU", 3), ((3, 1, 5),)),
    "lstm": (lambda: Stepped("LSTM", 1), ((1, 1, 5), (1, 1, 5))),
    "stacked lstm": (lambda: Stepped("LSTM", 2), ((2, 1, 5), (2, 1, 5))),
    "caches": (Cached, ((1, 2, 4), (1, 4, 3))),
    "buffers": (Buffered, ()),
}


@pytest.mark.parametrize("frames", [32, 1, 4])
@pytest.mark.parametrize("case", STATES)
def test_states(case: str, frames: int) -> None:
    """From examples of any length, also of that of a cache."""
    build, shapes = STATES[case]
    net = seeded(build)
    model = backline.from_torch(net, (*zeros((1, 2, frames)), *zeros(*shapes)), time_axis=2)
    assert not model.knobs
    assert model.latency_frames == 0
    assert any("starting from zeros" in note for note in model.notes)
    x = signal(4, 1, 2, sum(BLOCKS))
    expected = block_by_block(net, x, zeros(*shapes))
    heard = rows_of(x).astype(np.float32)
    np.testing.assert_allclose(model(heard).reshape(expected.shape), expected, atol=2e-6)
    assert model.graph.prewarm_frames == 0


def test_a_stream_of_a_state_is_cut_anywhere() -> None:
    net = seeded(Cached)
    model = backline.from_torch(net, (*zeros((1, 2, 8), (1, 2, 4), (1, 4, 3)),))
    heard = rows_of(signal(5, 1, 2, 60)).astype(np.float32)
    with model.stream(64) as stream:
        found = np.concatenate([stream.process(heard[a : a + 6]) for a in range(0, 60, 6)])
    np.testing.assert_array_equal(found, model(heard))


def test_a_buffer_that_is_not_silent_is_noted() -> None:
    net = seeded(Buffered)
    net(signal(1, 1, 2, 9))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    model = backline.from_torch(net, zeros((1, 2, 32)))
    assert any("'past' holds other numbers now" in note for note in model.notes)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


# What importing leaves as it was.


class Attributes(nn.Module):
    """Sets and replaces attributes as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 3, 3))
        self.body = nn.GRU(3, 3, batch_first=True)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)
        self.calls, self.seen, self.kept = 0, [], {"last": None}

    def forward(self, x: Any) -> Any:
        self.calls += 1
        self.seen.append(x.shape)
        self.kept["last"] = x
        self.added = x * 2
        return self.body(self.drop(self.norm(self.conv(x))).mT)[0].mT


def shallow(module: Any) -> list[tuple[str, int, Any]]:
    """All that modules hold, by identity, and what their lists and mappings hold."""
    found = []
    for path, each in module.named_modules():
        for name, value in each.__dict__.items():
            inner = list(value.items()) if isinstance(value, dict) else value
            found.append((f"{path}.{name}", id(value), list(inner) if isinstance(inner, list) else None))
    return found


@pytest.mark.parametrize("works", [True, False])
def test_the_module_stays_as_it_is(works: bool) -> None:
    net = Attributes().train()
    net.norm.eval()
    if not works:
        net.body = nn.GRU(3, 3, batch_first=True, bidirectional=True)
    before, flags = shallow(net), [each.training for each in net.modules()]
    values = {key: (value, value.clone()) for key, value in net.state_dict(keep_vars=True).items()}
    example = torch.randn(1, 2, 40, requires_grad=True)
    copied, random = example.detach().clone(), torch.get_rng_state()
    if works:
        backline.from_torch(net, example)
    else:
        with pytest.raises(ModelError, match="bidirectional"):
            backline.from_torch(net, example)
    torch.testing.assert_close(torch.get_rng_state(), random, rtol=0, atol=0)
    torch.testing.assert_close(example.detach(), copied, rtol=0, atol=0)
    assert example.grad is None
    assert shallow(net) == before
    assert [each.training for each in net.modules()] == flags
    for key, value in net.state_dict(keep_vars=True).items():
        assert value is values[key][0]
        torch.testing.assert_close(value, values[key][1], rtol=0, atol=0)


def test_a_module_in_training_runs_as_in_evaluation() -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))).train()
    assert_streams(net, 1, 1, 0)
    assert all(each.training for each in net.modules())


def test_old_weight_norm() -> None:
    with pytest.warns(FutureWarning):
        net = seeded(lambda: nn.Sequential(nn.utils.weight_norm(nn.Conv1d(1, 3, 3)), nn.Tanh()))
    kept = net[0].weight
    assert_streams(net, 1, 1, 0)
    assert net[0].weight.shape == kept.shape


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_any_precision_is_taken_to_float32(kind: Any) -> None:
    def build() -> Any:
        return nn.Sequential(
            nn.Conv1d(1, 4, 3), nn.GELU(), nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 1, 5))
        )

    low = seeded(build).to(kind)
    model = backline.from_torch(low, torch.zeros(1, 1, 64, dtype=kind))
    from_wide = backline.from_torch(low, torch.zeros(1, 1, 64, dtype=torch.float64))
    assert next(low.parameters()).dtype == kind
    x = signal(6, 1, 1, 100)
    with torch.no_grad():
        expected = rows_of(low.double()(x))[:, 0]
    heard = rows_of(x).astype(np.float32)
    found = model(heard)[:, 0]
    np.testing.assert_allclose(found[6:], expected, atol=2e-6)
    np.testing.assert_array_equal(found, from_wide(heard)[:, 0])


# What cannot be imported.


class Of(nn.Module):
    """A module of one function."""

    def __init__(self, f: Any, **layers: Any) -> None:
        super().__init__()
        self.f = f
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args: Any) -> Any:
        return self.f(self, *args)


class Branching(nn.Module):
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else -x


class Attribute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(1, 2, 1)

    def forward(self, x: Any) -> Any:
        y, self.last = x + self.last, x[..., -1:]
        return y


def two_axes(m: Any, x: Any) -> Any:
    return functional.interpolate(x[:, None], scale_factor=(2, 1))


REFUSED = {
    "a transform": (
        Of(lambda m, x: torch.fft.rfft(x).abs()),
        r"fft_rfft \(aten.fft_rfft\): is not supported",
    ),
    "by its path": (nn.Sequential(nn.Tanh(), nn.Sequential(nn.LayerNorm(40))), r"1\.0 \(aten.layer_norm\)"),
    "over time": (nn.InstanceNorm1d(2), "instance_norm"),
    "batch statistics": (nn.BatchNorm1d(2, track_running_stats=False), "statistics of what it is given"),
    "cells": (Of(lambda m, x: m.cell(x[:, :, 0]), cell=nn.GRUCell(2, 2)), r"select|gru_cell"),
    "both ways": (
        Of(lambda m, x: m.g(x.mT)[0], g=nn.LSTM(2, 2, batch_first=True, bidirectional=True)),
        "bidirect",
    ),
    "projections": (
        Of(lambda m, x: m.g(x.mT)[0], g=nn.LSTM(2, 3, batch_first=True, proj_size=2)),
        "proj_size",
    ),
    "along the batch": (Of(lambda m, x: m.g(x.mT)[0], g=nn.GRU(2, 2)), "batch_first"),
    "plain recurrence": (Of(lambda m, x: m.g(x.mT)[0], g=nn.RNN(2, 2, batch_first=True)), "rnn_tanh"),
    "reflection": (nn.Conv1d(2, 2, 3, padding=1, padding_mode="reflect"), "mode 'reflect'"),
    "padding with ones": (nn.ConstantPad1d(2, 1.0), "pads with 1"),
    "corners": (nn.Upsample(scale_factor=2, mode="linear", align_corners=True), "aligns corners"),
    "fractions": (nn.Upsample(scale_factor=1.5), "whole multiples|whole factors"),
    "features": (Of(two_axes), "whole multiples"),
    "noise": (Of(lambda m, x: x + torch.randn(1)), "draws random numbers"),
    "noise as long": (Of(lambda m, x: x + torch.randn_like(x)), "randn_like"),
    "dropped always": (Of(lambda m, x: functional.dropout(x, 0.5, training=True)), "random"),
    "mean of all": (Of(lambda m, x: x - x.mean(-1, keepdim=True)), "goes over all of time"),
    "softmax over time": (nn.Softmax(-1), "softmax along time"),
    "backwards": (Of(lambda m, x: x.flip(-1)), "turns time round"),
    "attention": (Of(lambda m, x: (x.mT @ x) @ x.mT), "matrices that move|multiplies"),
    "two outputs": (Of(lambda m, x: (x, x + 1)), "one output of audio"),
    "no output": (Of(lambda m, x: torch.ones(3)), "found a constant"),
    "decisions": (Branching(), "cannot export it: what it does depends on the values"),
    "an error": (Of(lambda m, x: x @ x), "cannot export it"),
    "endless": (Of(lambda m, x: m.f(m, x)), "recursion"),
    "an attribute": (Attribute(), "keeps state in its attribute last"),
    "lazy": (nn.LazyConv1d(2, 3), "has no values yet"),
    "meta": (nn.Conv1d(2, 2, 3, device="meta"), "meta device"),
    "early line": (nn.Softplus(threshold=2), "turns into a line at 2"),
    "halves": (Of(lambda m, x: x.abs() ** 0.5), "power"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_stream_can_do_is_refused_by_name(case: str, capfd: Any) -> None:
    module, words = REFUSED[case]
    with pytest.raises(ModelError, match=words) as caught:
        backline.from_torch(module, torch.zeros(1, 2, 40))
    text = str(caught.value)
    assert text.startswith(f"{type(module).__name__}: ")
    assert "\n" not in text
    assert len(text) < 500
    assert capfd.readouterr() == ("", "")


def test_states_of_another_kind_are_refused() -> None:
    class Averaging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(1, 1, 1))

        def forward(self, x: Any) -> Any:
            self.mean = 0.9 * self.mean + 0.1 * x[..., :1]
            return x - self.mean

    with pytest.raises(ModelError, match="Averaging: "):
        backline.from_torch(Averaging(), torch.zeros(1, 1, 40))
    with pytest.raises(ModelError, match="Of: "):
        backline.from_torch(
            Of(lambda m, x, h: (x * h, h * 0.5)), (torch.zeros(1, 1, 40), torch.zeros(1, 1, 1))
        )


def test_arguments_are_checked() -> None:
    net, x = nn.Conv1d(1, 1, 3), torch.zeros(1, 1, 40)
    dialled = Of(lambda m, x, drive: x * drive)
    for call, words in (
        (lambda: backline.from_torch(lambda x: x, x), "expected a torch.nn.Module, found function"),
        (lambda: backline.from_torch(net, None), "example tensor"),
        (lambda: backline.from_torch(net, ()), "example tensor"),
        (lambda: backline.from_torch(net, object()), "found object|holds a object"),
        (lambda: backline.from_torch(net, torch.zeros(2, 1, 40)), "one example"),
        (lambda: backline.from_torch(net, torch.zeros(1, 3, 40)), "cannot export it"),
        (lambda: backline.from_torch(net, x, time_axis=3), "time_axis: expected an axis"),
        (lambda: backline.from_torch(net, x, time_axis="last"), "time_axis: expected an axis"),
        (lambda: backline.from_torch(net, x, sample_rate_hz=0), "sample rate"),
        (lambda: backline.from_torch(net, x, sample_rate_hz="48k"), "sample_rate_hz"),
        (lambda: backline.from_torch(net, x, knobs={"gain": (0, 0, 1)}), "'gain'; parameters are none"),
        (lambda: backline.from_torch(dialled, (x, x[0, 0, :1]), knobs={"args_1": (2, 0, 1)}), "knob args_1"),
        (lambda: backline.from_torch(dialled, (x, x[0, 0, :1]), knobs={"args_1": 2}), "default, minimum"),
        (lambda: backline.from_torch(net, x, knobs=3), "knobs: expected a mapping"),
        (
            lambda: backline.from_torch(
                seeded(lambda: Stepped("GRU", 1)), zeros((1, 2, 9), (1, 1, 5)), knobs={"state_0_0": (0, 0, 1)}
            ),
            "'state_0_0', which is a state",
        ),
    ):
        with pytest.raises(ModelError, match=words):
            call()


# What becomes of it.


def test_layers_are_named_as_in_the_module() -> None:
    net = nn.Sequential()
    net.add_module("encoder", nn.Sequential(nn.Conv1d(1, 2, 3), nn.PReLU(2)))
    net.add_module("body", Of(lambda m, x: torch.tanh(m.conv(x)), conv=nn.Conv1d(2, 1, 1)))
    model = backline.from_torch(net, torch.zeros(1, 1, 40), sample_rate_hz=44100, name="mine")
    assert [node.output for node in model.graph.nodes] == ["encoder.0", "encoder.1", "body.conv", "body.tanh"]
    assert (model.name, model.sample_rate_hz) == ("mine", 44100)


def test_a_layer_may_be_called_like_a_parameter() -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drive, self.x = nn.Conv1d(1, 2, 1), nn.Tanh()

        def forward(self, x: Any, drive: Any) -> Any:
            return self.x(self.drive(x)) * drive

    model = backline.from_torch(Same(), (torch.zeros(1, 1, 40), torch.zeros(1)))
    assert list(model.knobs) == ["drive"]


def test_a_saved_model_needs_no_torch(tmp_path: Any) -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv1d(1, 3, 5, padding=2), nn.GLU(0), nn.Hardsigmoid()))
    net = seeded(lambda: Stepped("LSTM", 2))
    model = backline.from_torch(net, zeros((1, 2, 50), (2, 1, 5), (2, 1, 5)), sample_rate_hz=48000)
    x = rows_of(signal(8, 1, 2, 500)).astype(np.float32)
    path = tmp_path / "net.backline"
    backline.save(model, path)
    loaded = backline.load(path)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert (loaded.sample_rate_hz, loaded.notes) == (48000, model.notes)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", model(x))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import backline, numpy as np\n"
        f"x, y = np.load({str(tmp_path / 'x.npy')!r}), np.load({str(tmp_path / 'y.npy')!r})\n"
        f"np.testing.assert_array_equal(backline.load({str(path)!r})(x), y)\n"
        "try:\n    backline.from_torch(None, None)\n"
        "except backline.MissingDependency as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'backline[torch]'" in done.stdout


def test_importing_backline_imports_no_torch() -> None:
    code = "import sys, backline; backline.from_torch, backline.Model; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
