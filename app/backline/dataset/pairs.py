"""A draw made audio: a dry segment, and the wet one that a model makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from ..engine import Audio, Model, Stream
from ..errors import ModelError
from ..loudness import LoudnessMeter
from ..render.threads import again_frames
from .draws import Draw
from .inputs import Input


@dataclass(frozen=True)
class Pair:
    """An item's audio.

    Attributes
    ----------
    draw : Draw
    dry : float32 array [frames, channels]
        What the model hears: gain and polarity are in it.
    wet : float32 array [frames, output channels]
        What it makes of that, in time with it.
    heard_frames : int
        Of the input before the segment, which the model heard first.
    """

    draw: Draw
    dry: Audio
    wet: Audio
    heard_frames: int


@dataclass(frozen=True)
class Level:
    """How loud a segment is; a figure is None where it cannot be measured.

    Attributes
    ----------
    peak_dbfs : float or None
        The largest sample of any channel; None for silence.
    rms_dbfs : float or None
        Root mean square of all channels, 0 for a full-scale square wave; None for silence.
    lufs : float or None
        Integrated loudness after ITU-R BS.1770-4; None below 400 ms, or if all is below its gate.
    """

    peak_dbfs: float | None
    rms_dbfs: float | None
    lufs: float | None


def level_of(x: Audio, rate_hz: int) -> Level:
    """Measure a segment [frames, channels]."""
    meter = LoudnessMeter(rate_hz, x.shape[1])
    meter.add(x)
    power = float(np.mean(np.square(x, dtype=np.float64)))
    return Level(meter.peak_dbfs, 10.0 * math.log10(power) if power > 0.0 else None, meter.integrated_lufs)


class PairMaker:
    """Renders draws, one thread's; close it, or use it in a ``with`` block, to free its engines.

    A segment's wet half is what a render of the whole input would hold there. Where a model's receptive
    field is finite, that is exact to the bit: the model first hears that much of the input. A recurrent
    model hears `warm_up_frames` of it, from its settled state.

    Parameters
    ----------
    models : sequence of Model
    inputs : sequence of Input
    frames : int
        Of a segment.
    warm_up_frames : int
    """

    def __init__(
        self, models: Sequence[Model], inputs: Sequence[Input], frames: int, warm_up_frames: int
    ) -> None:
        self._models, self._inputs = models, inputs
        self._frames, self._warm_up_frames = frames, warm_up_frames
        self._streams: dict[int, Stream] = {}

    def make(self, draw: Draw) -> Pair:
        """Render an item.

        Raises
        ------
        AudioFileError
            Its input cannot be read.
        ModelError
            The model puts out something that is no number.
        """
        model, source, start = self._models[draw.model], self._inputs[draw.input], draw.start_frame
        latency = model.latency_frames
        first = self._first_heard(model, start)
        x = source.read(first, start + self._frames + latency) * draw.factor
        y = self._run(draw, model, x, settles=first == 0 or model.receptive_field_frames is None)
        at = start - first
        dry = x[at : at + self._frames].copy()
        wet = y[at + latency : at + latency + self._frames].copy()
        if not np.isfinite(wet).all():
            raise ModelError(
                f"{model.name}: put out something that is no finite number for frames {start} to "
                f"{start + self._frames} of {source.path} (item {draw.item})"
            )
        return Pair(draw, dry, wet, at)

    def _first_heard(self, model: Model, start: int) -> int:
        again = again_frames(model)
        wanted = self._warm_up_frames if again is None else again
        return max(0, start - wanted) // model.step_frames * model.step_frames

    def _run(self, draw: Draw, model: Model, x: Audio, *, settles: bool) -> Audio:
        if settles and draw.knobs and model.graph.prewarm_frames:
            # What it settles on depends on its knobs, and is heard.
            turned = Model(model.graph.with_knobs(draw.knobs), model.isa)
            with turned.stream(channels=x.shape[1]) as stream:
                return stream.process(x)
        if draw.model not in self._streams:
            self._streams[draw.model] = model.stream(channels=x.shape[1])
        stream = self._streams[draw.model]
        stream.reset()
        stream.set(**draw.knobs)
        return stream.process(x)

    def close(self) -> None:
        """Free the engines; fine more than once."""
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()

    def __enter__(self) -> PairMaker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
