"""States that are paired wrongly, shared, or too long or short: refused, or run as PyTorch runs blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch_streams import rows_of, seeded, signal, torch

import backline
from backline import ModelError

nn, functional = torch.nn, torch.nn.functional
CHANNELS, BLOCK = 2, 32


class With(nn.Module):
    """A function of a block, of states and of layers."""

    def __init__(self, f: Callable[..., Any], *layers: Any) -> None:
        super().__init__()
        self.f, self.layers = f, nn.ModuleList(layers)

    def forward(self, x: Any, *states: Any) -> Any:
        return self.f(x, *states, *self.layers)


def conv() -> Any:
    return nn.Conv1d(CHANNELS, CHANNELS, 4)


def gru(inputs: int = CHANNELS) -> Any:
    return nn.GRU(inputs, 3, batch_first=True)


def imported(module: Any, shapes: tuple[tuple[int, ...], ...], block: int) -> backline.Model:
    states = (torch.zeros(shape) for shape in shapes)
    return backline.from_torch(module, (torch.zeros(1, CHANNELS, block), *states), time_axis=2)


def assert_runs_in_blocks(
    module: Any, shapes: tuple[tuple[int, ...], ...], block: int = BLOCK, order: tuple[int, ...] = (0, 1, 2)
) -> backline.Model:
    """The stream is what PyTorch makes block by block; `order` says which result a state goes on with."""
    x = signal(5, 1, CHANNELS, 8 * block)
    model = imported(module, shapes, block)
    states = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
    made = []
    with torch.no_grad():
        for piece in x.split(block, -1):
            y, *results = module(piece, *states)
            made.append(rows_of(y))
            states = [results[place] for place in order[: len(states)]]
    expected = np.concatenate(made)
    late = model.latency_frames
    found = model(rows_of(x).astype(np.float32)).reshape(-1, expected.shape[1])
    np.testing.assert_allclose(found[late:], expected[: len(found) - late], atol=3e-6)
    return model


def tap(u: Any, frames: int, block: int) -> Any:
    return u[..., frames : frames + block]


@pytest.mark.parametrize("block", [1, 4, BLOCK])
def test_taps_written_out(block: int) -> None:
    """A dilated convolution as a sum of stretches of one cached tensor, longer than the block or shorter."""

    def f(x: Any, cache: Any) -> Any:
        u = torch.cat([cache, x], 2)
        taps = [w * tap(u, 2 * i, x.shape[2]) for i, w in enumerate((0.3, -0.5, 0.7, 0.2))]
        return sum(taps), u[..., -6:]

    assert_runs_in_blocks(With(f), ((1, 2, 6),), block)


def test_a_cache_as_long_as_delay_and_block() -> None:
    def f(x: Any, cache: Any) -> Any:
        u = torch.cat([cache, x], 2)
        return x + 0.5 * u[..., : x.shape[2]], u[..., -40:]

    assert_runs_in_blocks(With(f), ((1, 2, 40),))


def test_the_last_frame_held_for_the_next_block() -> None:
    f = lambda x, last: (x - torch.cat([last, x[..., :-1]], 2), x[..., -1:])  # noqa: E731
    assert_runs_in_blocks(With(f), ((1, 2, 1),))


def test_a_cache_that_is_longer_than_needed() -> None:
    def f(x: Any, cache: Any, layer: Any) -> Any:
        u = torch.cat([cache, x], 2)
        return layer(u)[..., -x.shape[2] :], u[..., -6:]

    assert_runs_in_blocks(seeded(lambda: With(f, conv())), ((1, 2, 6),))


def test_a_cache_in_front_of_the_same_frames_twice() -> None:
    def f(x: Any, cache: Any, one: Any, two: Any) -> Any:
        u = torch.cat([cache, x], 2)
        return one(u) * two(torch.cat([cache, x], 2)), u[..., -3:]

    assert_runs_in_blocks(seeded(lambda: With(f, conv(), conv())), ((1, 2, 3),))


def test_states_that_come_out_in_another_order() -> None:
    """Each goes back to the layer it is of, and that is said."""

    def f(x: Any, a: Any, b: Any, one: Any, two: Any) -> Any:
        y, a = one(x.mT, a)
        y, b = two(y, b)
        return y.mT, b, a

    module = seeded(lambda: With(f, gru(), gru(3)))
    model = assert_runs_in_blocks(module, ((1, 1, 3), (1, 1, 3)), order=(1, 0))
    assert any("another order" in note for note in model.notes)


def cached(before: int, update: Callable[[Any], Any]) -> Callable[..., Any]:
    """A convolution behind a cache of `before` frames, and what the cache is said to hold next."""

    def f(x: Any, cache: Any, layer: Any) -> Any:
        u = torch.cat([cache, x], 2)
        return layer(u), update(u)

    return f


def from_output(x: Any, cache: Any, layer: Any) -> Any:
    y = layer(torch.cat([cache, x], 2))
    return y, y[..., -3:]


def in_two_places(x: Any, cache: Any, one: Any, two: Any) -> Any:
    u = torch.cat([cache, x], 2)
    return two(torch.cat([cache, torch.tanh(one(u))], 2)), u[..., -3:]


def turned_beside(x: Any, cache: Any, one: Any, two: Any) -> Any:
    u = torch.cat([cache, x], 2)
    return one(u) + two(torch.cat([cache.flip(1), x], 2)), u[..., -3:]


def ends_early(x: Any, cache: Any) -> Any:
    u = torch.cat([cache, x[..., :-1]], 2)
    return x + u, u[..., -1:]


def both_from_one(x: Any, state: Any, one: Any, two: Any) -> Any:
    y, _ = one(x.mT, state)
    y, state = two(y, state)
    return y.mT, state


def one_for_the_other(x: Any, a: Any, b: Any, one: Any, two: Any) -> Any:
    y, next_a = one(x.mT, a)
    y, next_b = two(y, a)
    return y.mT, next_a, next_b


def as_h_and_c(x: Any, state: Any, lstm: Any) -> Any:
    y, (h, _) = lstm(x.mT, (state, state))
    return y.mT, h


def as_it_came(x: Any, state: Any, layer: Any) -> Any:
    return layer(x.mT, state)[0].mT, state


def chained(x: Any, state: Any, one: Any, two: Any) -> Any:
    y, state = one(x.mT, state)
    y, state = two(y, state)
    return y.mT, state


def turned(x: Any, state: Any, layer: Any) -> Any:
    y, state = layer(x.mT, state)
    return y.mT, state.flip(2)


CACHE, HIDDEN = (1, 2, 3), (1, 1, 3)
WRONG: dict[str, tuple[Callable[[], Any], tuple[tuple[int, ...], ...], str]] = {
    "too long": (
        lambda: With(cached(4, lambda u: u[..., -4:]), conv()),
        ((1, 2, 4),),
        "too long or too short",
    ),
    "too short": (lambda: With(cached(2, lambda u: u[..., -2:]), conv()), ((1, 2, 2),), "come out as 31"),
    "the first frames": (lambda: With(cached(3, lambda u: u[..., :3]), conv()), (CACHE,), "stretch of time"),
    "a frame late": (lambda: With(cached(3, lambda u: u[..., -4:-1]), conv()), (CACHE,), "stretch of time"),
    "every other": (lambda: With(cached(3, lambda u: u[..., -6::2]), conv()), (CACHE,), "stretch of time"),
    "quieter": (lambda: With(cached(3, lambda u: u[..., -3:] / 2), conv()), (CACHE,), "state of another"),
    "channels turned": (
        lambda: With(cached(3, lambda u: u[..., -3:].flip(1)), conv()),
        (CACHE,),
        "mixes next",
    ),
    "of the output": (lambda: With(from_output, conv()), (CACHE,), "stretch of time"),
    "for two layers": (lambda: With(in_two_places, conv(), conv()), (CACHE,), "another layer too"),
    "turned beside": (lambda: With(turned_beside, conv(), conv()), (CACHE,), "another layer too"),
    "of too few frames": (lambda: With(ends_early), ((1, 2, 1),), "stretch of time"),
    "both from one": (lambda: With(both_from_one, gru(), gru(3)), (HIDDEN,), "another layer too"),
    "one for the other": (
        lambda: With(one_for_the_other, gru(), gru(3)),
        (HIDDEN, HIDDEN),
        "another layer too",
    ),
    "h and c": (lambda: With(as_h_and_c, nn.LSTM(2, 3, batch_first=True)), (HIDDEN,), "another layer too"),
    "as it came": (lambda: With(as_it_came, gru()), (HIDDEN,), "state of another layer"),
    "chained": (lambda: With(chained, gru(), gru(3)), (HIDDEN,), "reads the next value"),
    "units turned": (lambda: With(turned, gru()), (HIDDEN,), "in its order"),
}


@pytest.mark.parametrize("case", WRONG)
def test_states_that_do_not_go_on_are_refused(case: str) -> None:
    build, shapes, text = WRONG[case]
    with pytest.raises(ModelError, match=text):
        imported(build(), shapes, BLOCK)


def test_blocks_that_strides_do_not_divide() -> None:
    """With a cache no stream follows; a recurrence alone may be one of a whole recording, which is said."""

    def strided(x: Any, cache: Any, layer: Any) -> Any:
        u = torch.cat([cache, x], 2)
        return layer(u), u[..., -2:]

    def thinned(x: Any, state: Any, layer: Any) -> Any:
        y, state = layer(x[..., ::2].mT, state)
        return y.mT, state

    with pytest.raises(ModelError, match="33 frames come out as 16, where 33/2"):
        imported(With(strided, nn.Conv1d(2, 2, 4, 2)), ((1, 2, 2),), 33)
    module = seeded(lambda: With(thinned, gru()))
    assert not any("come out as" in note for note in assert_runs_in_blocks(module, (HIDDEN,)).notes)
    assert any("come out as 17" in note for note in imported(module, (HIDDEN,), 33).notes)
