"""Pairs for PyTorch, rendered while a network trains on them; imports PyTorch, which is optional."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audiofile import PathLike
from ..engine import Model
from ..errors import MissingDependency
from ..formats.backline_file import decode, encode
from .options import PairChoices, check_number
from .pairs import Pair
from .plan import Plan, plan

try:
    import torch
    import torch.distributed
    import torch.utils.data
except ImportError as error:
    raise MissingDependency(
        "RenderedPairs needs PyTorch, which is not installed: pip install 'backline[torch]'"
    ) from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

_MOST_LENGTH = 1 << 40


class RenderedPairs(torch.utils.data.IterableDataset[dict[str, Any]]):  # type: ignore[misc]
    """A data set of pairs of dry and wet segments that are rendered when they are asked for.

    The items of epoch e are items ``e * length`` to ``(e + 1) * length - 1`` of the seed; those of epoch 0
    are what `write_dataset` writes for the same arguments. Ranks of ``torch.distributed``, where it is
    initialised, and workers of a `DataLoader` share them: of S shares in all, each rank's workers one after
    the other, share k has the items whose place in the epoch is k modulo S. Which items there are does not
    depend on that; without batches, a loader of one rank also has them in order.

    So that all ranks see as many batches, make `length` a multiple of ranks, workers and batch size.

    Parameters
    ----------
    models, inputs, **how
        As for `plan`: what pairs are made of, and what `PairOptions` has.
    length : int
        Items of an epoch, of all ranks together.

    Attributes
    ----------
    plan : Plan
    length : int
    knob_names : tuple of str
        Of all models: what the entries of an item's ``knobs`` are.

    Raises
    ------
    BacklineError
        What does not fit together, or cannot be read; see `plan`. Iterating raises it for a pair that cannot
        be made, which `write_dataset` would leave out: other ranks would wait for it.

    Examples
    --------
    >>> pairs = RenderedPairs(["overdrive"], ["takes/dry.wav"], seed=1, length=10_000, gain_db=(-12, 6))
    >>> for batch in torch.utils.data.DataLoader(pairs, batch_size=16, num_workers=4):
    ...     loss = distance(net(batch["dry"]), batch["wet"])
    """

    def __init__(
        self,
        models: Sequence[Model | PathLike],
        inputs: Sequence[PathLike],
        *,
        length: int,
        **how: Unpack[PairChoices],
    ) -> None:
        super().__init__()
        check_number("length", length, 1, _MOST_LENGTH, whole=True)
        self.length = int(length)
        self.plan: Plan = plan(models, inputs, **how)
        self.knob_names = self.plan.knob_names
        # Shared, because a loader's workers may live longer than an epoch.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._place: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose which items the next iteration begins with, in workers that run already too.

        Parameters
        ----------
        epoch : int
            From 0.
        """
        if epoch < 0:
            raise ValueError(f"epoch: expected a whole number from 0, found {epoch}")
        self._epoch[0] = int(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        first = int(self._epoch[0]) * self.length
        share, shares = self._share()
        with self.plan.maker() as maker:
            for item in range(first + share, first + self.length, shares):
                yield self._item(maker.make(self.plan.distribution.draw(item)))

    def _share(self) -> tuple[int, int]:
        rank, ranks = self._place or _rank()
        worker = torch.utils.data.get_worker_info()
        if worker is None:
            return rank, ranks
        return rank * worker.num_workers + worker.id, ranks * worker.num_workers

    def _item(self, pair: Pair) -> dict[str, Any]:
        draw = pair.draw
        knobs = [draw.knobs.get(name, float("nan")) for name in self.knob_names]
        return {
            "dry": torch.from_numpy(np.ascontiguousarray(pair.dry.T)),
            "wet": torch.from_numpy(np.ascontiguousarray(pair.wet.T)),
            "knobs": torch.tensor(knobs, dtype=torch.float32),
            "gain_db": draw.gain_db,
            "flipped": draw.flipped,
            "item": draw.item,
            "model": draw.model,
            "input": draw.input,
            "start_frame": draw.start_frame,
        }

    def __getstate__(self) -> dict[str, Any]:
        """For workers that are started afresh: they have no engine yet, and know no other ranks."""
        models = tuple((encode(model.graph), model.isa) for model in self.plan.models)
        return {
            **self.__dict__,
            "plan": replace(self.plan, models=()),
            "_models": models,
            "_place": self._place or _rank(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        models = tuple(Model(decode(data), isa) for data, isa in state.pop("_models"))
        self.__dict__.update(state)
        self.plan = replace(self.plan, models=models)


def _rank() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
