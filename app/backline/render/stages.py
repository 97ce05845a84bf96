"""What happens to a stream of blocks on its way: each stage takes blocks and yields blocks.

Blocks are float32 ``[frames, channels]`` of any length, and what comes out in all does not depend on their
lengths."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..audiofile import BLOCK_FRAMES, Array
from ..errors import ModelError
from ..resample import Resampler, resampled_frames
from .options import ChannelMap

#: What changes by less over a window is not heard: -90 dBFS.
QUIET = 10.0 ** (-90.0 / 20.0)
_WINDOW_S = 0.01
#: A tail that may have no end has ended after so long a silence.
_SILENCE_S = 0.5


class Source:
    """The blocks of an input, followed by silence for as long as more is asked for.

    Parameters
    ----------
    blocks : iterable of float32 arrays [frames, channels]
    picks : ChannelMap, optional
        Which channels to make of them; as they are by default.
    channels : int
        Of what is yielded.
    silence_frames : int
        How many of them are asked for, as far as one can know.

    Attributes
    ----------
    frames : int
        Frames of the input so far.
    ended : bool
        Whether that is all.
    """

    def __init__(
        self,
        blocks: Iterable[Array],
        picks: ChannelMap | None,
        channels: int,
        silence_frames: int = BLOCK_FRAMES,
    ) -> None:
        self._blocks = blocks
        self._picks = picks
        self._channels = channels
        self._silence_frames = max(1, silence_frames)
        self.frames = 0
        self.ended = False

    def __iter__(self) -> Iterator[Array]:
        for block in self._blocks:
            self.frames += len(block)
            yield block if self._picks is None else picked(block, self._picks)
        self.ended = True
        # In blocks of equal length, so that nothing is computed in vain.
        count = -(-self._silence_frames // BLOCK_FRAMES)
        silence = np.zeros((-(-self._silence_frames // count), self._channels), np.float32)
        while True:
            yield silence


def picked(block: Array, picks: ChannelMap) -> Array:
    """Make channels of others: of one as it is, of several their mean."""
    return np.stack(
        [
            block[:, pick[0]] if len(pick) == 1 else block[:, pick].mean(axis=1, dtype=np.float64)
            for pick in picks
        ],
        axis=1,
    ).astype(np.float32, copy=False)


def converted(blocks: Iterable[Array], from_hz: float, to_hz: float) -> Iterator[Array]:
    """Resample; equal rates change nothing."""
    if from_hz == to_hz:
        yield from blocks
        return
    resampler: Resampler | None = None
    for block in blocks:
        if resampler is None:
            resampler = Resampler(from_hz, to_hz, block.shape[1])
        yield resampler.process(block)
    if resampler is not None:
        yield resampler.finish()


def without_first(blocks: Iterable[Array], frames: int) -> Iterator[Array]:
    """Leave out the first frames."""
    for block in blocks:
        yield block[frames:]
        frames = max(0, frames - len(block))


def finite(blocks: Iterable[Array], model_name: str, where: str) -> Iterator[Array]:
    """Pass on what is a number; raise `ModelError` at what is none."""
    done = 0
    for block in blocks:
        if not np.isfinite(block).all():
            raise ModelError(
                f"{model_name}: put out something that is no finite number between frames "
                f"{done} and {done + len(block)} of {where}"
            )
        yield block
        done += len(block)


class Length:
    """How long an output is: as long as its input, and its tail.

    Parameters
    ----------
    source : Source
    skipped_frames : int
        Frames of the source that are heard but not put out.
    file_hz, out_hz : float
    """

    def __init__(self, source: Source, skipped_frames: int, file_hz: float, out_hz: float) -> None:
        self._source, self._skipped, self._rates = source, skipped_frames, (file_hz, out_hz)

    @property
    def frames(self) -> int | None:
        """Frames of the output without its tail; None while that is not known."""
        if not self._source.ended:
            return None
        return resampled_frames(max(0, self._source.frames - self._skipped), *self._rates)


@dataclass(frozen=True)
class Tail:
    """What of the silence after its input a stream is listened to for.

    Attributes
    ----------
    rate_hz : float
    asked_s : float or None
        Exactly that long; as long as it sounds if None.
    most_s : float
        The longest tail that is looked for.
    endless : bool
        Whether the tail could be longer than that, so that half a second of silence ends it.
    """

    rate_hz: float
    asked_s: float | None
    most_s: float
    endless: bool

    @property
    def window_frames(self) -> int:
        """What sounds or does not sound as a whole."""
        return max(1, round(_WINDOW_S * self.rate_hz))

    @property
    def most_frames(self) -> int:
        """The longest it can be, but for the rest of a window."""
        return math.ceil((self.most_s if self.asked_s is None else self.asked_s) * self.rate_hz)

    @property
    def patience_frames(self) -> int:
        """How long a silence ends it."""
        if self.endless and self.asked_s is None:
            return math.ceil(_SILENCE_S * self.rate_hz)
        return self.most_frames + self.window_frames

    @property
    def least_frames(self) -> int:
        """Frames after the input's end that have to be seen in any case."""
        if self.asked_s is not None:
            return self.most_frames
        return -(-min(self.most_frames, self.patience_frames) // self.window_frames) * self.window_frames


def with_tail(blocks: Iterable[Array], length: Length, tail: Tail) -> Iterator[Array]:
    """End a stream that silence follows: as long as its input, and then as long as it sounds.

    A window of 10 ms sounds if it changes by more than -90 dBFS; a constant is no sound.
    """
    done = 0
    held = np.zeros((0, 0), np.float32)
    quiet, ended = 0, False  # windows at the beginning of what is held
    for block in blocks:
        nominal = length.frames
        inside = len(block) if nominal is None else min(len(block), nominal - done) if done < nominal else 0
        if inside:
            yield block[:inside]
            done += inside
        if nominal is None or done < nominal:
            continue
        rest = block[inside:]
        held = np.concatenate([held, rest]) if held.size else rest
        if tail.asked_s is not None:
            if len(held) >= tail.most_frames:
                yield held[: tail.most_frames]
                return
            continue
        sounding, quiet, ended = _listen(held, quiet, done - nominal, tail)
        if sounding:
            yield held[:sounding]
            done += sounding
            held = held[sounding:]
        if ended:
            return


def _listen(held: Array, quiet: int, before: int, tail: Tail) -> tuple[int, int, bool]:
    """Go through the windows of what is held, but for the first ones, which are known to be quiet.

    Parameters
    ----------
    held : array [frames, channels]
    quiet : int
        Windows.
    before : int
        Frames of the tail before them.
    tail : Tail

    Returns
    -------
    sounding : int
        Frames up to the end of the last window that sounds.
    quiet : int
        Quiet windows after that.
    ended : bool
        Whether that was the tail.
    """
    window = tail.window_frames
    count = len(held) // window
    windows = held[quiet * window : count * window].reshape(-1, window, held.shape[1])
    changes = np.ptp(windows, axis=1).max(axis=1, initial=0.0)
    sounding = 0
    for number, sounds in enumerate((changes > QUIET).tolist(), quiet + 1):
        quiet = 0 if sounds else quiet + 1
        sounding = number if sounds else sounding
        if before + number * window >= tail.most_frames or quiet * window >= tail.patience_frames:
            return sounding * window, quiet, True
    return sounding * window, quiet, False


class Tap:
    """Passes blocks on and keeps a copy of each, until it is taken."""

    def __init__(self, blocks: Iterable[Array]) -> None:
        self._blocks = blocks
        self._held: deque[Array] = deque()

    def __iter__(self) -> Iterator[Array]:
        for block in self._blocks:
            self._held.append(block)
            yield block

    def taken(self) -> Iterator[Array]:
        """What has gone by since it was last asked."""
        while self._held:
            yield self._held.popleft()


def mixed(wet: Iterable[Array], dry: Tap, share: float, from_hz: float, to_hz: float) -> Iterator[Array]:
    """Put a stream and what it was made of together: `share` of the first, the rest of the second.

    Parameters
    ----------
    wet : iterable
        At `to_hz`; of as many channels as the other, or one of them has one.
    dry : Tap
        At `from_hz`.
    share : float
        From 0 to 1.
    from_hz, to_hz : float
    """
    channels: int | None = None
    resampler: Resampler | None = None
    ready, held = _Row(), _Row()
    for block in wet:
        held.add(block)
        for original in dry.taken():
            if channels is None:
                channels = original.shape[1]
                resampler = None if from_hz == to_hz else Resampler(from_hz, to_hz, channels)
            ready.add(original if resampler is None else resampler.process(original))
        frames = min(ready.frames, held.frames)
        if frames:
            both = share * held.take(frames).astype(np.float64) + (1.0 - share) * ready.take(frames)
            yield both.astype(np.float32)


class _Row:
    """Frames in a row: some are added behind, others taken in front."""

    def __init__(self) -> None:
        self._blocks: deque[Array] = deque()
        self.frames = 0

    def add(self, block: Array) -> None:
        self._blocks.append(block)
        self.frames += len(block)

    def take(self, frames: int) -> Array:
        found = []
        self.frames -= frames
        while frames > 0:
            block = self._blocks.popleft()
            found.append(block[:frames])
            if len(block) > frames:
                self._blocks.appendleft(block[frames:])
            frames -= len(block)
        return np.concatenate(found)
