"""Tensors of an exported network that move with time, seen as signals of a stream.

Exporters write what happens to a whole recording at once: tensors with a batch, channels and time in any
order. A `Track` says which axis is which, and how far its streaming twin lags behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Literal

from ..errors import ModelError

#: What an axis is. A unit axis has one entry: a batch, or a channel axis of a mono signal.
Role = Literal["unit", "channels", "features", "time"]


@dataclass(frozen=True)
class Track:
    """One tensor and the signal that streams it.

    Attributes
    ----------
    signal : str
        Name of the signal in the graph; its rows are all channels and features.
    roles : tuple of Role
        What each axis of the tensor is. No two axes share a role but unit.
    shape : tuple of int
        Size of each axis; that of time is the length the example has.
    rate : Fraction
        Frames of the signal per frame of the graph's input.
    delay : int
        Frame m of the signal is frame ``m - delay`` of the tensor. Negative where zeros were put in front.
    quiet : bool
        Whether the signal is zero in all frames before the tensor's first.
    steady : bool
        Whether it depends on knobs alone, so that no delay changes it; such a tensor may lack a time axis.
    features_major : bool
        Row ``feature * channels + channel`` if true, else ``channel * features + feature``.
    """

    signal: str
    roles: tuple[Role, ...]
    shape: tuple[int, ...]
    rate: Fraction = Fraction(1)
    delay: int = 0
    quiet: bool = False
    steady: bool = False
    features_major: bool = True

    def axis(self, role: Role) -> int | None:
        """The axis of that role, or None."""
        return self.roles.index(role) if role in self.roles else None

    def size(self, role: Role) -> int:
        """Size of the axis of that role; 1 where there is none."""
        axis = self.axis(role)
        return 1 if axis is None else self.shape[axis]

    @property
    def rows(self) -> int:
        """Rows of the signal."""
        return self.size("channels") * self.size("features")

    def with_size(self, role: Role, size: int) -> Track:
        """The track with another size of the axis of that role, which has to exist."""
        axis = self.axis(role)
        assert axis is not None
        return replace(self, shape=(*self.shape[:axis], size, *self.shape[axis + 1 :]))

    def with_role(self, axis: int, role: Role) -> Track:
        """The track with another role for one axis."""
        return replace(self, roles=(*self.roles[:axis], role, *self.roles[axis + 1 :]))

    def transposed(self, order: Sequence[int]) -> Track:
        """The track of the tensor whose axis i is this one's axis ``order[i]``."""
        if sorted(order) != list(range(len(self.shape))):
            raise ModelError(f"expected an order of {len(self.shape)} axes, found {list(order)}")
        return replace(
            self,
            roles=tuple(self.roles[axis] for axis in order),
            shape=tuple(self.shape[axis] for axis in order),
        )

    def along_channels(self, axis: int) -> Track:
        """The track with `axis` as that of the channels; what were channels elsewhere are features then.

        Raises
        ------
        ModelError
            The axis is time, or has one entry beside channels and features.
        """
        if self.roles[axis] == "channels":
            return self
        if self.roles[axis] == "unit" and self.axis("channels") is None:
            return self.with_role(axis, "channels")
        if self.roles[axis] == "features" and self.axis("channels") is None:
            return self.with_role(axis, "channels")
        if self.roles[axis] == "features" or (self.roles[axis] == "unit" and self.axis("features") is None):
            channels = self.axis("channels")
            assert channels is not None
            turned = replace(self, features_major=not self.features_major)
            return turned.with_role(channels, "features").with_role(axis, "channels")
        raise ModelError(f"expected the channels in axis {axis}, found {self.described}")

    def labelled_like(self, other: Track) -> Track:
        """The track with channels for features and features for channels, if only that is as `other` has it.

        Axes are compared from the last one on, those of one entry left out.
        """
        pairs = zip(self.roles[::-1], other.roles[::-1], self.shape[::-1], other.shape[::-1], strict=False)
        met = {(a, b) for a, b, m, n in pairs if 1 not in (m, n)}
        return self.relabelled if {("channels", "features"), ("features", "channels")} & met else self

    @property
    def relabelled(self) -> Track:
        """The same track with its channels called features and its features channels."""
        swapped: dict[Role, Role] = {"channels": "features", "features": "channels"}
        roles = tuple(swapped.get(role, role) for role in self.roles)
        return replace(self, roles=roles, features_major=not self.features_major)

    @property
    def described(self) -> str:
        """The shape in words, for error messages."""
        return ", ".join(f"{role} {size}" for role, size in zip(self.roles, self.shape, strict=True))


def regrouped(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """How a reshape maps axes: runs of old axes and the runs of new ones that hold the same entries.

    Raises
    ------
    ModelError
        The numbers of entries differ.
    """
    if prod(old) != prod(new) or min([*old, *new], default=1) < 1:
        raise ModelError(f"cannot reshape {list(old)} to {list(new)}")
    i = j = 0
    while i < len(old) or j < len(new):
        olds, news = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(olds), j + len(news)
        while prod(old[a] for a in olds) != prod(new[a] for a in news):
            if prod(old[a] for a in olds) < prod(new[a] for a in news):
                olds.append(i)
                i += 1
            else:
                news.append(j)
                j += 1
        yield olds, news
