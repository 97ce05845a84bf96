"""PyTorch modules over whole recordings, against the models `from_torch` makes of them, run as streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import in_blocks

import backline
from backline import reference

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

FRAMES, EXAMPLE = 360, 240


def signal(seed: int, *shape: int) -> Any:
    """Uniform numbers from -1 to 1 in float64, all of them float32's."""
    values = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
    return torch.tensor(values, dtype=torch.float64)


def seeded(build: Any, seed: int = 0) -> Any:
    """A module with weights that float32 holds, in float64, its norms with statistics."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        module = build().double().eval()
        for each in module.modules():
            if hasattr(each, "running_mean") and each.running_mean is not None:
                each.running_mean.normal_(0, 0.3)
                each.running_var.uniform_(0.5, 2.0)
        return module.float().double()
    finally:
        torch.set_rng_state(state)


def rows_of(tensor: Any, time: int = -1) -> np.ndarray:
    """A tensor as [frames][rows], feature by feature where it has [batch][channels][features][time]."""
    moved = np.moveaxis(tensor.detach().double().numpy(), time, -1)
    if moved.ndim == 4:
        moved = moved.transpose(0, 2, 1, 3)
    return np.ascontiguousarray(moved.reshape(-1, moved.shape[-1]).T)


def assert_streams(
    module: Any,
    *shape: int,
    time: int = -1,
    out_time: int = -1,
    blocks: tuple[int, ...] = (1, 7, 64, 13, 100, 175),
    atol: float = 2e-6,
    **options: Any,
) -> backline.Model:
    """The model's output is the module's, `latency_frames` later, however it is cut, and its reference's.

    `shape` has 0 for the number of frames. Only what follows the recording's end is not compared.
    """
    sizes = [n or FRAMES for n in shape]
    x = signal(3, *sizes)
    example = torch.zeros([n or EXAMPLE for n in shape], dtype=torch.float64)
    model = backline.from_torch(module, example, **options)
    with torch.no_grad():
        was = module.training
        made = module.eval()(x)
        module.train(was)
    expected = rows_of(made[0] if isinstance(made, tuple) else made, out_time)
    heard = rows_of(x, time).astype(np.float32)
    found = model(heard).reshape(-1, expected.shape[1])
    with model.stream(200) as stream:
        np.testing.assert_array_equal(in_blocks(stream, heard, list(blocks)).reshape(found.shape), found)
    exact = np.asarray(reference.run(model.graph, heard.T.astype(np.float64))).T.reshape(found.shape)
    late = model.latency_frames
    frames = min(len(expected), len(found) - late)
    assert frames > len(expected) // 2
    np.testing.assert_allclose(exact[late : late + frames], expected[:frames], atol=1e-6)
    np.testing.assert_allclose(found[late : late + frames], expected[:frames], atol=atol)
    return model
