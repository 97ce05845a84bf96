"""Pairs rendered on the fly: the items of a seed, however many workers and ranks share them."""

from __future__ import annotations

import math
import pickle
import sys

import numpy as np
import pytest
from graphs import array

import backline
from backline.audiofile import AudioWriter
from backline.dataset import plan
from backline.errors import BacklineError, MissingDependency
from backline.graph import Graph, Knob
from backline.layers import Multiply

torch = pytest.importorskip("torch", reason="needs PyTorch, which is not installed")

from torch.utils.data import DataLoader  # noqa: E402

from backline.dataset import RenderedPairs  # noqa: E402

HOW = {"seed": 7, "segment_s": 0.02, "gain_db": (-12.0, 6.0), "flip": True}


@pytest.fixture
def made_of(tmp_path, wavenet_file):
    path = tmp_path / "take.wav"
    with AudioWriter(path, 48000, 1) as writer:
        writer.write(array(1, 9000, 1))
    graph = Graph((Multiply("y", "x", "level"),), "x", 1, "y", knobs=(Knob("level", 1.0, 0.0, 4.0),))
    return [backline.load(wavenet_file), backline.Model(graph)], [path]


def numbers(loader) -> list[int]:
    return [int(item) for sample in loader for item in np.atleast_1d(sample["item"])]


def test_items_are_those_of_the_seed(made_of):
    pairs = RenderedPairs(*made_of, length=6, **HOW)
    assert pairs.knob_names == ("level",)
    planned = plan(*made_of, **HOW)
    with planned.maker() as maker:
        for item, sample in enumerate(pairs):
            draw = planned.distribution.draw(item)
            pair = maker.make(draw)
            assert sample["dry"].dtype == sample["wet"].dtype == torch.float32
            assert np.array_equal(sample["dry"].numpy(), pair.dry.T)
            assert np.array_equal(sample["wet"].numpy(), pair.wet.T)
            settings = (draw.item, draw.model, draw.input, draw.start_frame, draw.gain_db, draw.flipped)
            names = ("item", "model", "input", "start_frame", "gain_db", "flipped")
            assert tuple(sample[name] for name in names) == settings
            (knob,) = sample["knobs"].tolist()
            assert knob == draw.knobs.get("level") or (math.isnan(knob) and not draw.knobs)


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_the_items(made_of, workers, context):
    pairs = RenderedPairs(*made_of, length=10, **HOW)
    alone = list(DataLoader(pairs, batch_size=None))
    loader = DataLoader(pairs, batch_size=None, num_workers=workers, multiprocessing_context=context)
    shared = list(loader)
    assert [sample["item"] for sample in shared] == list(range(10))
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one["dry"], other["dry"])
        assert torch.equal(one["wet"], other["wet"])
    batched = DataLoader(pairs, batch_size=2, num_workers=workers, multiprocessing_context=context)
    assert sorted(numbers(batched)) == list(range(10))


def test_batches_are_tensors(made_of):
    (batch,) = DataLoader(RenderedPairs(*made_of, length=4, **HOW), batch_size=4)
    assert batch["dry"].shape == batch["wet"].shape == (4, 1, 960)
    assert batch["knobs"].shape == (4, 1)
    assert batch["gain_db"].shape == batch["flipped"].shape == (4,)


@pytest.mark.parametrize("persistent", [False, True])
def test_epochs_go_on_in_workers_that_run_already(made_of, persistent):
    pairs = RenderedPairs(*made_of, length=6, **HOW)
    loader = DataLoader(pairs, batch_size=None, num_workers=2, persistent_workers=persistent)
    for epoch in (0, 1, 5, 0):
        pairs.set_epoch(epoch)
        assert numbers(loader) == list(range(6 * epoch, 6 * epoch + 6))
    with pytest.raises(ValueError, match="epoch"):
        pairs.set_epoch(-1)


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_the_items(made_of, monkeypatch, workers):
    found = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
        pairs = RenderedPairs(*made_of, length=13, **HOW)
        found.append(numbers(DataLoader(pairs, batch_size=None, num_workers=workers)))
    assert sorted(item for share in found for item in share) == list(range(13))
    assert max(map(len, found)) - min(map(len, found)) <= max(1, workers)


def rank(number: int, port: int, pairs_data: bytes, results) -> None:
    """A process of a group, as a training script starts it."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=number, world_size=2
    )
    pairs = pickle.loads(pairs_data)
    loader = DataLoader(pairs, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    results.put((number, numbers(loader)))
    torch.distributed.destroy_process_group()


def test_a_process_group_and_workers_started_afresh(made_of):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    how = {"models": ["overdrive"], "inputs": made_of[1], "length": 9, **HOW}
    data = pickle.dumps(_Later(how))
    processes = [context.Process(target=rank, args=(n, port, data, results)) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = dict(results.get() for _ in range(2))
    assert sorted(found[0] + found[1]) == list(range(9))


class _Later:
    """A data set that is made where it is unpickled."""

    def __init__(self, how: dict) -> None:
        self.how = how

    def __reduce__(self):
        return _made, (self.how,)


def _made(how: dict) -> RenderedPairs:
    return RenderedPairs(how.pop("models"), how.pop("inputs"), **how)


def test_a_data_set_of_another_process_keeps_its_bits(made_of):
    pairs = RenderedPairs(*made_of, length=4, **HOW)
    again = pickle.loads(pickle.dumps(pairs))
    for one, other in zip(pairs, again, strict=True):
        assert torch.equal(one["wet"], other["wet"])
    assert again.plan.models[0].isa == pairs.plan.models[0].isa


def test_a_length_has_to_be_one(made_of):
    with pytest.raises(BacklineError, match="length: expected a whole number from 1"):
        RenderedPairs(*made_of, length=0)


def test_without_pytorch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "backline.dataset.torch_dataset")
    with pytest.raises(MissingDependency, match=r"pip install 'backline\[torch\]'"):
        backline.dataset.RenderedPairs  # noqa: B018
