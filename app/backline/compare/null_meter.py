"""What is left when a reference is subtracted: error-to-signal ratio and null depth, while it goes by.

The error-to-signal ratio is the energy of the difference over the energy of the reference, all channels
together (E.-P. Damskägg, L. Juvela, E. Thuillier and V. Välimäki, "Deep learning for tube amplifier
emulation", ICASSP 2019, there behind a pre-emphasis filter, which is left out here). The null depth is the
level of the difference in relation to that of the reference: ten times the logarithm of the same ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..audiofile import PathLike
from .takes import Described, FileTake, length_notes, matched, paired

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Null:
    """How well something cancels a reference.

    Attributes
    ----------
    esr : float or None
        Energy of the difference over that of the reference; None where the reference is silent.
    null_depth_db : float or None
        The same in dB; None also where nothing is left (`esr` is 0 then).
    frames : int
        That were compared.
    notes : tuple of str
        What a user should know: other lengths, rates or channels.
    """

    esr: float | None
    null_depth_db: float | None
    frames: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.esr is None:
            found = "the reference is silent: no error-to-signal ratio"
        elif self.null_depth_db is None:
            found = "nothing is left of it"
        else:
            found = f"null depth {self.null_depth_db:.2f} dB, error-to-signal ratio {self.esr:.4g}"
        return ", ".join([found, f"{self.frames} frames compared", *self.notes])


def power_db(ratio: float | None) -> float | None:
    """A ratio of powers in dB; None for none, and for 0, which is infinitely far down."""
    return 10.0 * math.log10(ratio) if ratio else None


class Sums:
    """Energies of a signal and of what another leaves of it.

    Attributes
    ----------
    frames : int
    signal, error : float
        Sums of squares: of the reference, and of the difference.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.signal = self.error = 0.0

    def add(self, a: Array, b: Array) -> None:
        """Count the next blocks, [frames, channels]; `b` may have one channel for several."""
        x = a.astype(np.float64)
        d = x - b
        self.frames += len(x)
        self.signal += float(np.vdot(x, x))
        self.error += float(np.vdot(d, d))

    def null(self, notes: tuple[str, ...] = ()) -> Null:
        """What they amount to."""
        esr = self.error / self.signal if self.signal > 0.0 else None
        return Null(esr, power_db(esr), self.frames, notes)


class NullMeter:
    """Compares what is rendered with a reference file, block by block, in flat memory.

    Parameters
    ----------
    path : str or path
        The reference; resampled where its rate is another.
    rate_hz : float
        Of what is rendered.
    channels : int
        Of what is rendered. One of the two may be mono, and is then compared with each channel.

    Raises
    ------
    AudioFileError
        The reference cannot be read.
    BacklineError
        Its channels cannot be paired.
    """

    def __init__(self, path: PathLike, rate_hz: float, channels: int) -> None:
        self._added = Described("what was rendered", rate_hz, channels)
        _, reference, self._notes = matched(self._added, FileTake(path))
        self._reference = reference
        self._blocks = reference.blocks()
        self._left: Array = np.zeros((0, reference.channels), np.float32)
        self._sums = Sums()

    def add(self, block: ArrayLike) -> None:
        """Compare the next block: float32 [frames, channels], or [frames] for one channel.

        Raises
        ------
        AudioFileError
            The reference is damaged.
        """
        x = np.asarray(block, np.float32)
        x = x.reshape(-1, 1) if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != self._added.channels:
            raise ValueError(f"expected [frames, {self._added.channels}], found shape {list(x.shape)}")
        self._added.frames += len(x)
        while len(x):
            while not len(self._left):
                if (more := next(self._blocks, None)) is None:
                    return
                self._left = more
            frames = min(len(x), len(self._left))
            self._sums.add(self._left[:frames], x[:frames])
            self._left, x = self._left[frames:], x[frames:]

    def result(self) -> Null:
        """Return what has been found so far."""
        return self._sums.null((*self._notes, *length_notes(self._reference, self._added)))

    def close(self) -> None:
        """Close the reference; more than once is fine."""
        self._blocks.close()

    def __enter__(self) -> NullMeter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def null(a_path: PathLike, b_path: PathLike) -> Null:
    """Subtract one file from another, in flat memory.

    Parameters
    ----------
    a_path : str or path
        The reference.
    b_path : str or path
        Resampled to the reference's rate where it has another.

    Raises
    ------
    AudioFileError, BacklineError
        A file cannot be read, or channels cannot be paired.
    """
    a, b, notes = matched(FileTake(a_path), FileTake(b_path))
    sums = Sums()
    for one, other in paired(a.blocks(), b.blocks()):
        sums.add(one, other)
    return sums.null((*notes, *length_notes(a, b)))
