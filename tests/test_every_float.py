"""tanh, sigmoid and exp of every float32 there is, for scripts/soak: so many take minutes."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special

from backline import native
from backline.activations import Activation
from backline.engine import Model
from backline.graph import Graph
from backline.layers import Activate

pytestmark = pytest.mark.skipif(
    "BACKLINE_SOAK" not in os.environ, reason="takes minutes; scripts/soak runs it"
)

BATCH = 2**24
TINY = np.finfo(np.float32).tiny  # below it numbers are flushed to 0


#: The softmax is that of x and 0: no other activation is as near to exp.
CURVES: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
    ("tanh", np.tanh),
    ("sigmoid", special.expit),
    ("softmax", special.expit),
]


def apply(model: Model, kind: str, x: np.ndarray) -> np.ndarray:
    if kind != "softmax":
        return model(x)
    return model(np.stack([x, np.zeros_like(x)], axis=1))[:, 0]


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize(("kind", "curve"), CURVES, ids=[kind for kind, _ in CURVES])
def test_within_four_ulp_of_every_float(isa, kind, curve):
    channels = 2 if kind == "softmax" else 1
    model = Model(Graph((Activate("y", "x", Activation(kind)),), "x", channels, "y"), isa)
    for begin in range(0, 2**32, BATCH):
        x = np.arange(begin, begin + BATCH, dtype=np.int64).astype(np.uint32).view(np.float32)
        if kind == "softmax":
            x = x[~np.isinf(x)]  # infinity beside infinity is no share
        found = apply(model, kind, x)
        is_nan = np.isnan(x)
        assert np.array_equal(np.isnan(found), is_nan)
        x, found = x[~is_nan], found[~is_nan].astype(np.float64)
        expected = curve(np.where(np.abs(x) < TINY, 0, x).astype(np.float64))
        error = np.abs(found - expected) / np.spacing(np.maximum(np.abs(expected), TINY).astype(np.float32))
        error[(found == 0) & (np.abs(expected) < TINY)] = 0
        worst = int(np.argmax(error)) if len(error) else None
        assert worst is None or error[worst] <= 4, (float(x[worst]), float(error[worst]))
