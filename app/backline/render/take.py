"""One file through a model, to one file."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ..audiofile import BLOCK_FRAMES, Array, AudioWriter, PathLike
from ..engine import Model
from ..errors import AudioFileError, BacklineError, ModelError
from ..loudness import LoudnessMeter
from ..pending import refused
from ..resample import resampled_frames
from . import stages
from .ends import NOWHERE, Reader, Unwritten, Writer
from .options import MAX_TAIL_S, ChannelMap, Normalize, RenderOptions, channel_map
from .pipes import (
    PipeWriter,
    SpooledWriter,
    check_pipes,
    flows,
    folder_for_copies,
    is_pipe,
    reader_of,
    writer_to_output,
)
from .report import RenderReport
from .threads import again_frames, processed, uses

if TYPE_CHECKING:
    from ..compare import NullMeter

#: Called with seconds done and, where they are known, seconds in all.
Progress = Callable[[float, float | None], None]

_EXACT_SUBTYPES = frozenset({"FLOAT", "DOUBLE"})
_WIDER_THAN_FLOAT32 = frozenset({"PCM_32", "DOUBLE", "ALAC_32"})
#: Frames of all channels that are read from a file at a time.
_BLOCK_VALUES = 1 << 16
#: Around a resampler, what it needs of the future at either rate, and more.
_RESAMPLER_S = 0.02


def render_file(
    model: Model,
    source: PathLike,
    target: PathLike | None,
    options: RenderOptions | None = None,
    *,
    overwrite: bool = False,
    threads: int = 1,
    file_format: str | None = None,
    null: PathLike | None = None,
    on_progress: Progress | None = None,
) -> RenderReport:
    """Render one file.

    The output is in time with the input, and as long, and then as long as it sounds. Where the model's rate
    differs from the file's, the audio is resampled to it and back. A mono model on a file of n channels is
    n streams.

    Parameters
    ----------
    model : Model
    source : str or path
        ``"-"`` is standard input.
    target : str, path or None
        Its extension gives its format. ``"-"`` is standard output; with None nothing is written.
    options : RenderOptions, optional
    overwrite : bool
        Replace an existing target.
    threads : int
        How many may compute; the bits do not depend on it. A stream from standard input to standard output
        takes one, so that what comes is passed on at once.
    file_format : str, optional
        Extension of the format on standard output, ``"au"`` by default.
    null : path, optional
        A file that the output is compared with, before its samples are stored in fewer bits; see
        `RenderReport.null`.
    on_progress : callable, optional
        Called after every block with seconds of the input done and, where that is known, in all.

    Raises
    ------
    AudioFileError
        The source cannot be read, or changes while it is, or the target cannot be written; no target is
        left behind.
    ModelError
        The model does not fit the file, or put out something that is no number.
    """
    options = options or RenderOptions()
    check_pipes(source, target)
    _check_distinct(source, target)
    with reader_of(source, options.raw_format()) as reader:
        if flows(reader, target, file_format):
            threads = 1  # several would each wait for a long part of the input
        take = Take(model, reader, options, threads, on_progress)
        return _write(take, target, overwrite, file_format, null)


def _write(
    take: Take, target: PathLike | None, overwrite: bool, file_format: str | None, null: PathLike | None
) -> RenderReport:
    with contextlib.ExitStack() as stack:
        meter = None if null is None else stack.enter_context(_null_meter(null, take))
        with _writer(take, target, overwrite, file_format) as writer:
            start = time.perf_counter()
            loudness = take.write(writer, folder_for_copies(target), None if meter is None else meter.add)
        report = take.report(writer, loudness)
        found = None if meter is None else meter.result()
    path = NOWHERE if target is None else Path(target)
    return replace(report, target=path, null=found, elapsed_s=time.perf_counter() - start)


def _null_meter(reference: PathLike, take: Take) -> NullMeter:
    from ..compare import NullMeter  # which few renders need

    return NullMeter(reference, take.out_hz, take.out_channels)


def _writer(
    take: Take, target: PathLike | None, overwrite: bool, file_format: str | None
) -> contextlib.AbstractContextManager[AudioWriter | PipeWriter | SpooledWriter | Unwritten]:
    if target is None:
        return contextlib.nullcontext(Unwritten())
    if is_pipe(target):
        return writer_to_output(
            take.out_hz,
            take.out_channels,
            file_format=file_format,
            subtype=take.options.subtype,
            dither=take.options.dither,
            tags=take.reader.tags,
        )
    return AudioWriter(
        target,
        take.out_hz,
        take.out_channels,
        subtype=take.options.subtype,
        overwrite=overwrite,
        dither=take.options.dither,
        tags=take.reader.tags,
        expected_frames=take.expected_frames,
    )


def _to_both(first: Callable[[Array], None], second: Callable[[Array], None], x: Array) -> None:
    first(x)
    second(x)


class Take:
    """A render of one file: what is decided before, and the blocks that come out.

    Where blocks are not asked for to the end, what computes ahead ends with the last reference to them.

    Attributes
    ----------
    out_hz, out_channels : int
        Of the output.
    expected_frames : int or None
        Of the output without its tail, if the input says how long it is.
    """

    def __init__(
        self,
        model: Model,
        reader: Reader,
        options: RenderOptions,
        threads: int = 1,
        on_progress: Progress | None = None,
    ) -> None:
        self.model, self.reader, self.options = model, reader, options
        self._threads, self._on_progress = threads, on_progress
        self._said: list[str] = []
        self._picks: ChannelMap | None = None
        self._in_channels = reader.channels
        if options.channels is not None:
            self._picks = channel_map(options.channels, reader.channels)
            self._in_channels = len(self._picks)
        self.out_channels = output_channels(model, reader.path, self._in_channels)
        self.out_hz = options.rate_hz or reader.rate_hz
        self.model_hz = float(model.sample_rate_hz or reader.rate_hz)
        if options.mix < 1.0 and 1 != self._in_channels != self.out_channels != 1:
            raise BacklineError(
                f"{reader.path}: {self._in_channels} channels in and {self.out_channels} out cannot be mixed"
            )
        self._plan_span()

    def _plan_span(self) -> None:
        """Which frames of the input are heard, and how many of them are left out of the output."""
        hz, options = self.reader.rate_hz, self.options
        start = round(options.start_s * hz)
        stop = None if options.duration_s is None else start + max(1, round(options.duration_s * hz))
        total = self.reader.frames
        if total is not None:
            if start >= total:
                raise AudioFileError(
                    f"{self.reader.path}: is {total / hz:.2f} s long, cannot start at {options.start_s:g} s"
                )
            stop = total if stop is None else min(stop, total)
        again = again_frames(self.model)
        remembered_s = MAX_TAIL_S if again is None else again / self.model_hz
        if self._resamples:
            remembered_s += _RESAMPLER_S
        self._skipped = self._heard_before(start, math.ceil(remembered_s * hz))
        self._first, self._stop = start - self._skipped, stop
        self._heard = None if stop is None else stop - self._first
        self.expected_frames = None if stop is None else resampled_frames(stop - start, hz, self.out_hz)

    def _heard_before(self, start: int, least: int) -> int:
        """Frames before the start that are read: `least`, or all, or a few more for what is below."""
        # So that the output's first frame is exactly at the start, both rates have to meet there.
        hz = self.reader.rate_hz
        step = hz // math.gcd(hz, self.out_hz)
        heard = min(-(-least // step), start // step) * step
        # So that the model hears the frames it hears in the whole file, its rates meet where reading begins.
        begin = (Fraction(hz) / Fraction(self.model_hz) * self.model.step_frames).numerator
        most = min(start, heard + min(step * begin, round(MAX_TAIL_S * hz)))
        for more in range(heard, most + 1, step):
            if (start - more) % begin == 0:
                return more
        return heard

    @property
    def _resamples(self) -> bool:
        return not (self.reader.rate_hz == self.model_hz == self.out_hz)

    def blocks(self) -> Iterator[Array]:
        """Yield the output, before its level is normalised."""
        file_hz, options = self.reader.rate_hz, self.options
        tail = self._tail()
        source = stages.Source(self._read(), self._picks, self._in_channels, self._silence_frames(tail))
        tap = stages.Tap(source) if options.mix < 1.0 else None
        blocks = stages.converted(tap or source, file_hz, self.model_hz)
        frames = self._heard and resampled_frames(self._heard, file_hz, self.model_hz)
        blocks = processed(blocks, self.model, self._in_channels, self._threads, frames, lambda: source.ended)
        blocks = stages.without_first(blocks, self.model.latency_frames)
        blocks = stages.converted(blocks, self.model_hz, self.out_hz)
        blocks = stages.finite(blocks, self.model.name, str(self.reader.path))
        if tap is not None:
            blocks = stages.mixed(blocks, tap, options.mix, file_hz, self.out_hz)
        blocks = stages.without_first(blocks, self._skipped * self.out_hz // file_hz)
        length = stages.Length(source, self._skipped, file_hz, self.out_hz)
        blocks = stages.with_tail(blocks, length, tail)
        gain = np.float32(10.0 ** (options.gain_db / 20.0))
        for block in blocks:
            if len(block):
                yield block if gain == 1.0 else block * gain

    def _tail(self) -> stages.Tail:
        field = self.model.receptive_field_frames
        most_s = MAX_TAIL_S if field is None else field / self.model_hz + self._resamples * _RESAMPLER_S
        return stages.Tail(self.out_hz, self.options.tail_s, most_s, endless=field is None)

    def _silence_frames(self, tail: stages.Tail) -> int:
        """Of silence that the input has to be followed by for its tail to come out at the other end."""
        late_s = self.model.latency_frames / self.model_hz + self._resamples * 2 * _RESAMPLER_S
        return math.ceil((tail.least_frames / self.out_hz + late_s) * self.reader.rate_hz)

    def _read_blocks(self) -> Iterator[Array]:
        """Of a pipe what comes soon; of a long file a little, so that work begins, then much at a time."""
        begun, stop = self._first, self._stop
        if self.reader.frames is None or stop is None:
            yield from self.reader.blocks(BLOCK_FRAMES, begun, stop)
            return
        frames = max(1, _BLOCK_VALUES // self.reader.channels)
        if stop - begun > frames > BLOCK_FRAMES:
            begun += BLOCK_FRAMES
            yield from self.reader.blocks(BLOCK_FRAMES, self._first, begun)
        yield from self.reader.blocks(frames, begun, stop)

    def _read(self) -> Iterator[Array]:
        done = 0
        total = self._heard
        for block in self._read_blocks():
            yield block
            # Reached when the consumer asks for the next one, having dealt with this one.
            done += len(block)
            if self._on_progress is not None:
                hz = self.reader.rate_hz
                self._on_progress(done / hz, None if total is None else total / hz)
        # Of a pipe its length is known only now.
        if self._skipped and done <= self._skipped:
            raise AudioFileError(
                f"{self.reader.path}: is {(self._first + done) / self.reader.rate_hz:.2f} s long, "
                f"cannot start at {self.options.start_s:g} s"
            )

    def write(
        self, writer: Writer, folder: Path | None, also: Callable[[Array], None] | None = None
    ) -> LoudnessMeter:
        """Write the output and return what its level is.

        Parameters
        ----------
        writer : Writer
        folder : Path, optional
            Where there is room for a copy of the output that has to be measured before its level is known.
        also : callable, optional
            Called with every block that is written.
        """
        write = writer.write if also is None else functools.partial(_to_both, also, writer.write)
        meter = LoudnessMeter(self.out_hz, self.out_channels)
        level = self.options.level()
        if level is None:
            for block in self.blocks():
                meter.add(block)
                write(block)
            return meter
        try:
            with tempfile.TemporaryFile(dir=folder) as copy:
                for block in self.blocks():
                    meter.add(block)
                    copy.write(np.ascontiguousarray(block).data)
                return self._levelled(copy, write, meter, level)
        except BrokenPipeError:
            raise  # whoever listened has gone: that is no error of ours
        except OSError as error:
            name = "standard output" if is_pipe(writer.path) else str(writer.path)
            where = folder or tempfile.gettempdir()
            raise refused(Path(f"{name}: its copy in {where}"), error) from error

    def _levelled(
        self, copy: IO[bytes], write: Callable[[Array], None], meter: LoudnessMeter, level: Normalize
    ) -> LoudnessMeter:
        """Write a copy of the output at another level; returns the meter of what was written."""
        found = meter.peak_dbfs if level.kind == "peak" else meter.integrated_lufs
        gain_db = 0.0 if found is None else level.level - found
        self._said.append(
            f"not normalised: {'silent' if meter.peak_dbfs is None else 'loudness not measurable'}"
            if found is None
            else f"normalised by {gain_db:+.1f} dB"
        )
        gain = np.float32(10.0 ** (gain_db / 20.0))
        after = LoudnessMeter(self.out_hz, self.out_channels)
        copy.seek(0)
        while data := copy.read(BLOCK_FRAMES * self.out_channels * 4):
            block = np.frombuffer(data, np.float32).reshape(-1, self.out_channels) * gain
            after.add(block)
            write(block)
        return after

    def report(self, writer: Writer, meter: LoudnessMeter) -> RenderReport:
        """What became of the file, but for the time it took."""
        resamples = self.model_hz != self.reader.rate_hz
        return RenderReport(
            source=self.reader.path,
            target=writer.path,
            frames=writer.frames,
            channels=self.out_channels,
            rate_hz=self.out_hz,
            subtype=writer.subtype,
            elapsed_s=0.0,
            peak_dbfs=meter.peak_dbfs,
            lufs=meter.integrated_lufs,
            clipped=writer.clipped,
            resampled=(float(self.reader.rate_hz), self.model_hz) if resamples else None,
            notes=self._notes(writer),
            file_rate_hz=self.reader.rate_hz,
        )

    def _notes(self, writer: Writer) -> tuple[str, ...]:
        model, reader = self.model, self.reader
        found = list(self._said)
        if model.sample_rate_hz is None:
            found.append(f"the model does not say its rate and ran at the file's {reader.rate_hz} Hz")
        if self.model_hz == reader.rate_hz != self.out_hz:
            found.append(f"resampled {reader.rate_hz} -> {self.out_hz} Hz")
        if model.input_channels == 1 and self._in_channels > 1:
            found.append(f"{self._in_channels} channels, each through a stream of its own")
        if self._first > 0 and model.receptive_field_frames is None:
            found.append(f"the model heard {self._skipped / reader.rate_hz:g} s before the start")
        if uses(model, self._in_channels, self._threads) < self._threads:
            what = "a recurrent model" if again_frames(model) is None else "a model with so long a memory"
            found.append(f"{what} runs on one core for each channel")
        if reader.subtype in _WIDER_THAN_FLOAT32:
            found.append(f"{reader.subtype} samples read as 32-bit float")
        if writer.subtype not in _EXACT_SUBTYPES:
            dithered = ", dithered" if getattr(writer, "dithered", False) else ""
            found.append(f"written as {writer.format} {writer.subtype}{dithered}")
        lost = [*reader.losses, *writer.losses]
        if lost:
            found.append(f"not kept: {', '.join(lost)}")
        return tuple(found)


def _check_distinct(source: PathLike, target: PathLike | None) -> None:
    if target is None or is_pipe(source) or is_pipe(target):
        return
    with contextlib.suppress(OSError):
        if os.path.samefile(source, target):
            raise AudioFileError(f"{os.fspath(target)}: is the input itself; give another output")


def output_channels(model: Model, path: Path, channels: int) -> int:
    """Channels that come of a file of that many; raises `ModelError` where the model cannot render it."""
    rate = model.graph.signals[model.graph.output].rate
    if rate != 1:
        raise ModelError(
            f"{model.name}: puts out {rate} frames per frame of input; only models that keep the rate can "
            f"render a file"
        )
    try:
        return model.streams_for(channels) * model.output_channels
    except ValueError:
        raise ModelError(
            f"{model.name}: takes {model.input_channels} channels, {path} has {channels}"
        ) from None
