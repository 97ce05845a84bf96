#!/usr/bin/env python3
"""tanh, sigmoid and exp of every float32 there is, on each instruction set, against float64.

    scripts/every_float.py [--isa avx512[,avx2...]]

Prints the worst error in units of the last place and fails where one is above 4. Takes some ten minutes
for each instruction set. Results too small to be normal numbers count as right if they are zero, as the
engine flushes them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from backline import native
from backline.activations import Activation
from backline.engine import Model
from backline.graph import Graph
from backline.layers import Activate

MOST_ULP = 4.0
BATCH = 2**24
TINY = np.finfo(np.float32).tiny

#: The softmax is that of x and 0: no other activation is as near to exp.
CURVES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "softmax": special.expit,
}


def apply(model: Model, kind: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The activation of each number."""
    if kind != "softmax":
        return model(x)
    return model(np.stack([x, np.zeros_like(x)], axis=1))[:, 0]


def worst(model: Model, kind: str, x: NDArray[np.float32]) -> float:
    """The largest error among these numbers, in ulp; infinite where a NaN was lost or made."""
    if kind == "softmax":
        x = x[~np.isinf(x)]  # infinity beside infinity is no share
    found = apply(model, kind, x)
    is_nan = np.isnan(x)
    if not np.array_equal(np.isnan(found), is_nan):
        return float("inf")
    x, result = x[~is_nan], found[~is_nan].astype(np.float64)
    expected = CURVES[kind](np.where(np.abs(x) < TINY, 0, x).astype(np.float64))
    ulp = np.spacing(np.maximum(np.abs(expected), TINY).astype(np.float32))
    error = np.abs(result - expected) / ulp
    error[(result == 0) & (np.abs(expected) < TINY)] = 0
    return float(error.max(initial=0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--isa", default=",".join(native.available_isas()))
    failed = False
    for isa in parser.parse_args().isa.split(","):
        for kind in CURVES:
            channels = 2 if kind == "softmax" else 1
            model = Model(Graph((Activate("y", "x", Activation(kind)),), "x", channels, "y"), isa)
            batches = (
                np.arange(begin, begin + BATCH, dtype=np.int64).astype(np.uint32).view(np.float32)
                for begin in range(0, 2**32, BATCH)
            )
            error = max(worst(model, kind, x) for x in batches)
            failed |= error > MOST_ULP
            print(f"{isa:8} {kind:8} {error:.2f} ulp at worst", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
