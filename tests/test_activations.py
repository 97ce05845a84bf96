"""Every activation on every instruction set, over floats of all sizes, against its formula in float64.

The reference against the same formulas and PyTorch; and what is not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from graphs import array
from scipy import special

from backline import native, reference
from backline.activations import ACTIVATIONS, PER_CHANNEL, Activation
from backline.engine import Model
from backline.graph import Graph
from backline.layers import Activate, Conv1d, Node, Reshape

ISAS = native.available_isas()
Curve = Callable[[np.ndarray], np.ndarray]

#: What header and kernels promise: below it a value may become 0.
FLUSHED = 2.0**-119
MOST = float(np.finfo(np.float32).max)


@pytest.fixture(params=ISAS)
def isa(request):
    return request.param


def single(value: float) -> float:
    """What is left of a parameter in float32."""
    return float(np.float32(value))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return special.expit(x)


def fasttanh(x: np.ndarray) -> np.ndarray:
    """``fast_tanh`` of NeuralAmpModelerCore's ``NAM/activations.h``, beyond 1e8 as at 1e8."""
    x = np.clip(x, -1e8, 1e8)
    size, square = np.abs(x), x * x
    top = 2.45550750702956 + 2.45550750702956 * size + (0.893229853513558 + 0.821226666969744 * size) * square
    bottom = 2.44506634652299 + (2.44506634652299 + square) * np.abs(x + 0.814642734961073 * x * size)
    return x * top / bottom


def leaky(slope: float) -> Curve:
    return lambda x: np.where(x > 0, x, single(slope) * x)


def leaky_hardtanh(low: float, high: float, below: float, above: float) -> Curve:
    low, high, below, above = map(single, (low, high, below, above))
    return lambda x: np.where(
        x < low, low + below * (x - low), np.where(x > high, high + above * (x - high), x)
    )


def elu(alpha: float) -> Curve:
    return lambda x: np.where(x > 0, x, single(alpha) * np.expm1(np.minimum(x, 0)))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * special.erfc(-x / np.sqrt(2))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x * special.expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def softplus(beta: float) -> Curve:
    return lambda x: np.logaddexp(0, single(beta) * x) / single(beta)


def hardsigmoid(slope: float, offset: float) -> Curve:
    return lambda x: np.clip(single(slope) * x + single(offset), 0, 1)


def snake(alpha: float) -> Curve:
    return lambda x: x + np.sin(single(alpha) * x) ** 2 / single(alpha)


#: Kind, parameters, formula, ulp of the result allowed, and ulp of the input, for what depends on it steeply.
CURVES = [
    ("identity", (), lambda x: x, 0, 0),
    ("tanh", (), np.tanh, 4, 0),
    ("fasttanh", (), fasttanh, 6, 0),  # ten operations, each of which rounds
    ("sigmoid", (), sigmoid, 4, 0),
    ("relu", (), lambda x: np.maximum(x, 0), 0, 0),
    ("leaky_relu", (0.01,), leaky(0.01), 1, 0),
    ("leaky_relu", (0.0,), leaky(0.0), 1, 0),
    ("prelu", (-0.3,), leaky(-0.3), 1, 0),
    ("silu", (), lambda x: x * sigmoid(x), 4, 0),
    ("softsign", (), lambda x: x / (1 + np.abs(x)), 4, 0),
    ("hardtanh", (-0.7, 0.4), lambda x: np.clip(x, single(-0.7), single(0.4)), 0, 0),
    ("leaky_hardtanh", (-0.5, 0.6, 0.1, 0.2), leaky_hardtanh(-0.5, 0.6, 0.1, 0.2), 4, 0),
    ("leaky_hardtanh", (-0.5, 0.6, 0.0, 0.0), leaky_hardtanh(-0.5, 0.6, 0, 0), 0, 0),
    ("hardswish", (), lambda x: x * np.clip(x + 3, 0, 6) / 6, 4, 0),
    ("elu", (1.0,), elu(1.0), 4, 0),
    ("elu", (1.3,), elu(1.3), 4, 0),
    ("gelu", (), gelu, 4, 2),
    ("gelu_tanh", (), gelu_tanh, 4, 2),
    ("softplus", (1.0,), softplus(1.0), 4, 2),
    ("softplus", (0.3,), softplus(0.3), 4, 2),
    ("softplus", (20.0,), softplus(20.0), 4, 2),
    ("softplus", (1e-30,), softplus(1e-30), 4, 2),
    ("hardsigmoid", (1 / 6, 0.5), hardsigmoid(1 / 6, 0.5), 4, 2),
    ("hardsigmoid", (0.0, 0.25), hardsigmoid(0, 0.25), 4, 2),
    ("snake", (1.0,), snake(1.0), 4, 0),
    ("snake", (2.3,), snake(2.3), 4, 0),
    ("snake", (-0.4,), snake(-0.4), 4, 0),
]
each_curve = pytest.mark.parametrize(
    ("kind", "parameters", "curve", "ulps", "input_ulps"), CURVES, ids=lambda v: str(v) if v == "" else None
)


def test_no_activation_is_left_out():
    assert {kind for kind, *_ in CURVES} == set(ACTIVATIONS) - {"softmax"}


@lru_cache(1)
def floats() -> np.ndarray:
    """Every 16381st float32 there is, denormal ones among them, and many up to 20."""
    every = np.arange(0, 2**32, 16381, dtype=np.int64).astype(np.uint32).view(np.float32)
    edges = np.array([0.0, -0.0, MOST, -MOST, 1e-45, np.finfo(np.float32).tiny], np.float32)
    return np.concatenate([every[np.isfinite(every)], np.linspace(-20, 20, 100001, dtype=np.float32), edges])


def activate(isa: str, kind: str, parameters: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    return Model(Graph((Activate("y", "x", Activation(kind, parameters)),), "x", 1, "y"), isa)(x)


def allowed(case: tuple, x: np.ndarray) -> np.ndarray:
    """The error that is allowed one of `CURVES` at `x`, in float64."""
    kind, parameters, curve, ulps, input_ulps = case
    expected = curve(x)
    size = np.abs(expected)
    if kind == "snake":  # of the larger of two summands that may cancel
        size = np.maximum(np.abs(x), np.abs(expected - x))
    error = ulps * np.spacing(np.minimum(size, MOST).astype(np.float32)).astype(np.float64)
    if input_ulps:
        moved = [np.abs(curve(x * (1 + k * input_ulps * 2.0**-23)) - expected) for k in (-1, 1)]
        error = error + np.maximum(*moved)
    return np.maximum(error, FLUSHED / min(1, parameters[0]) if kind == "softplus" else FLUSHED)


@each_curve
@np.errstate(all="ignore")
def test_accuracy_over_all_magnitudes(isa, kind, parameters, curve, ulps, input_ulps):
    x = floats()
    wide = x.astype(np.float64)
    expected, found = curve(wide), activate(isa, kind, parameters, x).astype(np.float64)
    large = np.abs(expected) > MOST * (1 - 1e-6)
    assert np.all(np.abs(found[large]) >= MOST * (1 - 2e-6))
    share = np.abs(found - expected)[~large] / allowed(
        (kind, parameters, curve, ulps, input_ulps), wide[~large]
    )
    worst = np.argmax(share)
    assert share[worst] <= 1, x[~large][worst]


#: At infinity and at minus infinity: what the function tends to.
LIMITS = {
    "tanh": (1, -1),
    "fasttanh": (fasttanh(np.float64(1e8)), fasttanh(np.float64(-1e8))),
    "sigmoid": (1, 0),
    "relu": (np.inf, 0),
    "silu": (np.inf, 0),
    "softsign": (1, -1),
    "hardtanh": (0.4, -0.7),
    "hardswish": (np.inf, 0),
    "gelu": (np.inf, 0),
    "gelu_tanh": (np.inf, 0),
    "softplus": (np.inf, 0),
    ("leaky_relu", 0.0): (np.inf, 0),
    ("prelu", -0.3): (np.inf, np.inf),
    ("leaky_hardtanh", -0.5, 0.6, 0.0, 0.0): (0.6, -0.5),
    ("elu", 1.0): (np.inf, -1),
    ("elu", 1.3): (np.inf, -1.3),
    ("hardsigmoid", 1 / 6, 0.5): (1, 0),
    ("hardsigmoid", 0.0, 0.25): (0.25, 0.25),
}


@each_curve
def test_what_is_not_finite(isa, kind, parameters, curve, ulps, input_ulps):
    """By itself and inside a convolution, which has a way of its own for some."""
    ends = np.array([np.inf, -np.inf, np.nan], np.float32)
    found = activate(isa, kind, parameters, ends)
    limits = LIMITS.get((kind, *parameters), LIMITS.get(kind, (np.inf, -np.inf)))
    np.testing.assert_allclose(found[:2], limits, rtol=1e-6)
    assert np.isnan(found[2])
    activation = Activation(kind, parameters)
    one = Conv1d("c", "x", np.ones((1, 1, 1), np.float32))
    fused = Model(Graph((one, Activate("y", "c", activation)), "x", 1, "y"), isa)
    np.testing.assert_array_equal(fused(ends), found)


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
def test_softmax(isa, rows):
    """Exponentials of differences, which are as exact as those are, and a rounding for each row."""
    rng = np.random.default_rng(rows)
    x = (rng.standard_normal((3000, rows)) * 10 ** rng.uniform(-3, 38, (3000, 1))).astype(np.float32)
    wide = np.float64(x)
    expected = special.softmax(wide, axis=1)
    found = Model(Graph((Activate("y", "x", Activation("softmax")),), "x", rows, "y"), isa)(x).reshape(
        x.shape
    )
    away = np.minimum(wide.max(axis=1, keepdims=True) - wide, 200)
    error = np.abs(found - expected)
    ulp = np.spacing(expected.astype(np.float32)).astype(np.float64)
    assert np.all(error <= np.maximum((4 + rows + away + away.max(axis=1, keepdims=True)) * ulp, FLUSHED))


def test_softmax_of_what_is_not_finite(isa):
    model = Model(Graph((Activate("y", "x", Activation("softmax")),), "x", 2, "y"), isa)
    x = np.array([[np.nan, 1], [1, np.nan], [-np.inf, 1], [np.inf, 1]], np.float32)
    with np.errstate(invalid="ignore"):
        expected = special.softmax(x.astype(np.float64), axis=1)
    np.testing.assert_array_equal(model(x), expected)


@pytest.mark.parametrize("kind", sorted(PER_CHANNEL))
@pytest.mark.parametrize("fused", [False, True])
def test_parameters_per_channel(isa, kind, fused):
    """By itself and as the activation of a convolution, which takes another way through the engine."""
    parameters = (0.5, -1.5, 3.0)
    activation = Activation(kind, parameters)
    one = np.eye(3, dtype=np.float32)[:, :, None]
    nodes: tuple[Node, ...] = (Activate("y", "x", activation),)
    if fused:
        nodes = (Conv1d("c", "x", one), Activate("y", "c", activation))
    x = array(5, 77, 3, scale=3)
    found = Model(Graph(nodes, "x", 3, "y"), isa)(x)
    for channel, parameter in enumerate(parameters):
        np.testing.assert_array_equal(
            found[:, channel], activate(isa, kind, (parameter,), x[:, channel].copy())
        )


@pytest.mark.parametrize("kind", [*sorted(PER_CHANNEL), "softmax"])
def test_channels_of_features(isa, kind):
    """Row f * channels + c is channel c of feature f: as if each feature were a signal of its own."""
    activation = Activation(kind, () if kind == "softmax" else (0.5, -1.5, 3.0))
    nodes = (Reshape("shaped", "x", 3, 4), Activate("y", "shaped", activation))
    x = array(6, 90, 12, scale=2)
    found = Model(Graph(nodes, "x", 12, "y"), isa)(x)
    plain = Model(Graph((Activate("y", "x", activation),), "x", 3, "y"), isa)
    expected = [plain(np.ascontiguousarray(x[:, 3 * f : 3 * f + 3])) for f in range(4)]
    np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))


#: How PyTorch calls them.
IN_TORCH = {
    "identity": ("Identity", ()),
    "tanh": ("Tanh", ()),
    "sigmoid": ("Sigmoid", ()),
    "relu": ("ReLU", ()),
    "leaky_relu": ("LeakyReLU", ("negative_slope",)),
    "prelu": ("PReLU", ()),
    "silu": ("SiLU", ()),
    "softsign": ("Softsign", ()),
    "hardtanh": ("Hardtanh", ("min_val", "max_val")),
    "hardswish": ("Hardswish", ()),
    "elu": ("ELU", ("alpha",)),
    "softmax": ("Softmax", ()),
    "gelu": ("GELU", ()),
    "gelu_tanh": ("GELU", ()),
    "softplus": ("Softplus", ("beta",)),
    "hardsigmoid": ("Hardsigmoid", ()),
}
TORCH_CASES = [*CURVES, ("softmax", (), None, 0, 0)]


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [(kind, values) for kind, values, *_ in TORCH_CASES if kind in IN_TORCH and values != (0.0, 0.25)],
)
def test_reference_agrees_with_pytorch(kind, parameters):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    name, names = IN_TORCH[kind]
    options = dict(zip(names, parameters, strict=True)) if names else {}
    options |= {"softmax": {"dim": 0}, "gelu_tanh": {"approximate": "tanh"}}.get(kind, {})
    options |= {"threshold": 700.0} if kind == "softplus" else {}
    module = getattr(torch.nn, name)(**options).double()
    if kind == "prelu":
        module.weight.data[:] = parameters[0]
    x = np.concatenate([np.linspace(-40, 40, 2001), np.linspace(-4, 4, 2001), [0.0]]).reshape(1, -1)
    x = np.concatenate([x, x[:, ::-1]])
    expected = module(torch.from_numpy(x)).detach().numpy()
    found = reference.activate(Activation(kind, parameters), x, 2)
    # Below zero PyTorch's GELUs cancel: 1 + erf and 1 + tanh.
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=4e-15 if kind.startswith("gelu") else 1e-300)


@each_curve
@np.errstate(all="ignore")
def test_reference_agrees_with_the_formula(kind, parameters, curve, ulps, input_ulps):
    x = floats().astype(np.float64)
    x = x[np.abs(x) < 1e8]
    rounded = tuple(single(value) for value in parameters)
    found = reference.activate(Activation(kind, rounded), x[None], 1)[0]
    np.testing.assert_allclose(found, curve(x), rtol=1e-6 if kind == "fasttanh" else 1e-11, atol=1e-300)
