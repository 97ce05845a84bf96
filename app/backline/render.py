"""Audio files through a model, to audio files.

::

    audiofile -> resample to the model's rate -> engine -> drop the latency -> resample back -> audiofile

Everything runs in blocks, so memory does not grow with the file. Without resampling the result is, bit for
bit, ``model(x)`` over the whole file.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .audiofile import AudioReader, AudioWriter, PathLike, format_of, subtype_for
from .engine import Model, Stream
from .errors import AudioFileError, BacklineError, ModelError
from .loudness import LoudnessMeter
from .resample import Resampler

Array = NDArray[np.float32]
#: Called with frames done and frames in all.
Progress = Callable[[int, int], None]

_EXACT_SUBTYPES = frozenset({"FLOAT", "DOUBLE"})
_WIDER_THAN_FLOAT32 = frozenset({"PCM_32", "DOUBLE", "ALAC_32"})


@dataclass(frozen=True)
class RenderReport:
    """What became of one file.

    Attributes
    ----------
    source, target : Path
    frames, channels, rate_hz : int
        Of both files.
    subtype : str
        What the samples were written as; libsndfile's name.
    elapsed_s : float
        Reading, processing, measuring and writing together, from the first frame to the file's new name.
    peak_dbfs : float or None
        Sample peak of the output before it was written; None for silence.
    lufs : float or None
        Integrated loudness of the output; None where not measurable (silence, shorter than 400 ms).
    clipped : int
        Output samples cut at full scale by the format.
    resampled : tuple of float or None
        (the file's rate, the model's rate) in hertz, if they differ.
    notes : tuple of str
        Further things a user should know.
    """

    source: Path
    target: Path
    frames: int
    channels: int
    rate_hz: int
    subtype: str
    elapsed_s: float
    peak_dbfs: float | None
    lufs: float | None
    clipped: int
    resampled: tuple[float, float] | None
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length of the audio."""
        return self.frames / self.rate_hz

    @property
    def times_real_time(self) -> float:
        """Seconds of audio per second of work."""
        return self.duration_s / self.elapsed_s if self.elapsed_s > 0 else math.inf

    def __str__(self) -> str:
        peak = "silent" if self.peak_dbfs is None else f"peak {self.peak_dbfs:+.1f} dBFS"
        loudness = "loudness not measurable" if self.lufs is None else f"{self.lufs:.1f} LUFS"
        parts = [
            f"{self.duration_s:.2f} s",
            f"{self.times_real_time:.0f} times real time",
            peak,
            loudness,
        ]
        if self.clipped:
            parts.append(f"{self.clipped} samples clipped")
        if self.resampled:
            parts.append(f"resampled {self.resampled[0]:g} -> {self.resampled[1]:g} Hz and back")
        return f"{self.target}: {', '.join([*parts, *self.notes])}"


@dataclass(frozen=True)
class RenderFailure:
    """A file of several that could not be rendered."""

    source: Path
    error: BacklineError


def render_file(
    model: Model,
    source: PathLike,
    target: PathLike,
    *,
    overwrite: bool = False,
    subtype: str | None = None,
    on_progress: Progress | None = None,
) -> RenderReport:
    """Render one file.

    The output has exactly as many frames as the input, in time with it. Where the model's rate differs from
    the file's, the audio is resampled to it and back. A mono model on a file of n channels is n streams.

    Parameters
    ----------
    model : Model
    source, target : str or path
        The target's extension gives its format.
    overwrite : bool
        Replace an existing target.
    subtype : str, optional
        See :class:`backline.audiofile.AudioWriter`.
    on_progress : callable, optional
        Called after every block with input frames done and in all.

    Raises
    ------
    AudioFileError
        The source cannot be read or the target cannot be written; no target is left behind.
    ModelError
        The model does not fit the file, or put out something that is no number.
    """
    _check_distinct(Path(source), Path(target))
    with AudioReader(source) as reader:
        out_channels = _output_channels(model, reader)
        resampled = _rates(model, reader)
        meter = LoudnessMeter(reader.rate_hz, out_channels)
        with (
            AudioWriter(target, reader.rate_hz, out_channels, subtype=subtype, overwrite=overwrite) as writer,
            model.stream(channels=reader.channels) as stream,
        ):
            start = time.perf_counter()
            for block in _rendered(model, reader, stream, resampled, on_progress):
                meter.add(block)
                writer.write(block)
    return RenderReport(
        source=reader.path,
        target=writer.path,
        frames=writer.frames,
        channels=out_channels,
        rate_hz=reader.rate_hz,
        subtype=writer.subtype,
        elapsed_s=time.perf_counter() - start,
        peak_dbfs=meter.peak_dbfs,
        lufs=meter.integrated_lufs,
        clipped=writer.clipped,
        resampled=resampled,
        notes=_notes(model, reader, writer),
    )


def _check_distinct(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        if source.samefile(target):
            raise AudioFileError(f"{target}: is the input itself; give another output")


def _output_channels(model: Model, reader: AudioReader) -> int:
    rate = model.graph.signals[model.graph.output].rate
    if rate != 1:
        raise ModelError(
            f"{model.name}: puts out {rate} frames per frame of input; only models that keep the rate can "
            f"render a file"
        )
    try:
        return model.streams_for(reader.channels) * model.output_channels
    except ValueError:
        raise ModelError(
            f"{model.name}: takes {model.input_channels} channels, {reader.path} has {reader.channels}"
        ) from None


def _rates(model: Model, reader: AudioReader) -> tuple[float, float] | None:
    if model.sample_rate_hz is None or model.sample_rate_hz == reader.rate_hz:
        return None
    return float(reader.rate_hz), float(model.sample_rate_hz)


def _notes(model: Model, reader: AudioReader, writer: AudioWriter) -> tuple[str, ...]:
    found = []
    if model.sample_rate_hz is None:
        found.append(f"the model does not say its rate and ran at the file's {reader.rate_hz} Hz")
    if model.input_channels == 1 and reader.channels > 1:
        found.append(f"{reader.channels} channels, each through a stream of its own")
    if reader.subtype in _WIDER_THAN_FLOAT32:
        found.append(f"{reader.subtype} samples read as 32-bit float")
    if writer.subtype not in _EXACT_SUBTYPES:
        found.append(f"written as {writer.format} {writer.subtype}")
    return tuple(found)


def _rendered(
    model: Model,
    reader: AudioReader,
    stream: Stream,
    resampled: tuple[float, float] | None,
    on_progress: Progress | None,
) -> Iterator[Array]:
    """Yield the output's blocks: as many frames in all as the file has."""
    blocks = _reported(reader, on_progress)
    if resampled is None:
        blocks = _processed(blocks, stream, model.latency_frames, reader.channels)
    else:
        file_hz, model_hz = resampled
        # The way there and the way back each round the length; the end of the file is followed by enough
        # silence that the way back never comes up short.
        blocks = _followed(blocks, 2 + math.ceil(2 * file_hz / model_hz), reader.channels)
        blocks = _converted(blocks, file_hz, model_hz)
        blocks = _processed(blocks, stream, model.latency_frames, reader.channels)
        blocks = _converted(blocks, model_hz, file_hz)
    yield from _finite(_first(blocks, reader.frames), model, reader)


def _reported(reader: AudioReader, on_progress: Progress | None) -> Iterator[Array]:
    done = 0
    for block in reader.blocks():
        yield block
        # Reached when the consumer asks for the next one, having dealt with this one.
        done += len(block)
        if on_progress is not None:
            on_progress(done, reader.frames)


def _followed(blocks: Iterable[Array], frames: int, channels: int) -> Iterator[Array]:
    yield from blocks
    if frames:
        yield np.zeros((frames, channels), np.float32)


def _processed(blocks: Iterable[Array], stream: Stream, latency: int, channels: int) -> Iterator[Array]:
    skip = latency
    for block in _followed(blocks, latency, channels):
        made = stream.process(block)
        made = made[:, np.newaxis] if made.ndim == 1 else made
        yield made[skip:]
        skip = max(0, skip - len(made))


def _converted(blocks: Iterable[Array], from_hz: float, to_hz: float) -> Iterator[Array]:
    resampler: Resampler | None = None
    for block in blocks:
        if resampler is None:
            resampler = Resampler(from_hz, to_hz, block.shape[1])
        yield resampler.process(block)
    if resampler is not None:
        yield resampler.finish()


def _first(blocks: Iterable[Array], frames: int) -> Iterator[Array]:
    left = frames
    # Drained to the end, so that every stage before has seen all of its input.
    for block in blocks:
        if left and len(block):
            yield block[:left]
            left -= min(left, len(block))


def _finite(blocks: Iterable[Array], model: Model, reader: AudioReader) -> Iterator[Array]:
    done = 0
    for block in blocks:
        if not np.isfinite(block).all():
            raise ModelError(
                f"{model.name}: put out something that is no finite number between frames "
                f"{done} and {done + len(block)} of {reader.path}"
            )
        yield block
        done += len(block)


def plan_targets(
    sources: Sequence[PathLike], output: PathLike, *, file_format: str | None = None
) -> list[tuple[Path, Path]]:
    """Decide which file each input becomes, before anything is touched.

    Parameters
    ----------
    sources : sequence of paths
    output : path
        A file for one input. A folder for several, and wherever it exists as a folder or is written with a
        slash at its end; outputs there are named like the inputs.
    file_format : str, optional
        Extension of outputs in a folder, ``"wav"`` by default.

    Returns
    -------
    list of (source, target)

    Raises
    ------
    AudioFileError
        Several inputs for one file, two inputs that would get one name, an output that is an input, or a
        format that cannot be written.
    """
    pairs = [Path(source) for source in sources]
    folder = Path(output)
    into_folder = folder.is_dir() or str(output).endswith(("/", "\\"))
    if not into_folder and len(pairs) == 1:
        targets = [folder]
    else:
        if not into_folder and (folder.exists() or folder.suffix):
            raise AudioFileError(
                f"{output}: {len(pairs)} inputs need a folder; end its name with a / to make one"
            )
        extension = (file_format or "wav").lower().removeprefix(".")
        targets = [folder / f"{source.stem}.{extension}" for source in pairs]
    taken: dict[Path, Path] = {}
    originals = {source.resolve() for source in pairs}
    for source, target in zip(pairs, targets, strict=True):
        format_of(target)
        if target in taken:
            raise AudioFileError(f"{source}: would become {target}, and so would {taken[target]}")
        if target.resolve() in originals:
            raise AudioFileError(f"{target}: is an input; give another output")
        taken[target] = source
    return list(zip(pairs, targets, strict=True))


def render_files(
    model: Model,
    pairs: Sequence[tuple[Path, Path]],
    *,
    overwrite: bool = False,
    subtype: str | None = None,
    on_progress: Callable[[Path, int, int], None] | None = None,
) -> Iterator[RenderReport | RenderFailure]:
    """Render several files, each as soon as it is asked for; one that fails does not stop the others.

    Parameters
    ----------
    model : Model
    pairs : sequence of (source, target)
        As `plan_targets` makes them. Missing folders are made, and removed again if nothing comes into them.
    overwrite, subtype
        See `render_file`.
    on_progress : callable, optional
        Called after every block with the source, frames done and frames in all.

    Yields
    ------
    RenderReport or RenderFailure
        One per pair, in order.

    Raises
    ------
    AudioFileError
        `subtype` does not exist in a target's format, or a folder cannot be made.
    """
    for _, target in pairs:
        subtype_for(target, subtype)
    made: list[Path] = []
    try:
        for folder in {target.parent: None for _, target in pairs}:
            _make_folder(folder, made)
        for source, target in pairs:
            report = _progress_of(source, on_progress)
            try:
                yield render_file(
                    model, source, target, overwrite=overwrite, subtype=subtype, on_progress=report
                )
            except BacklineError as error:
                yield RenderFailure(source, error)
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()  # which refuses unless it is empty


def _progress_of(source: Path, on_progress: Callable[[Path, int, int], None] | None) -> Progress | None:
    return None if on_progress is None else lambda done, total: on_progress(source, done, total)


def _make_folder(folder: Path, made: list[Path]) -> None:
    if folder.exists() and not folder.is_dir():
        raise AudioFileError(f"{folder}: is a file, expected a folder to write into")
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for path in reversed(missing):
        try:
            path.mkdir()
        except OSError as error:
            raise AudioFileError(f"{folder}: cannot make this folder: {error.strerror}") from error
        made.append(path)
