"""Something to hear at once: a synthesised riff, dry and through a shipped model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import pluck
from .audiofile import AudioWriter, PathLike, read
from .engine import Model
from .errors import AudioFileError, DeviceError, FileExists, MissingDependency
from .render import RenderOptions, RenderReport, render_file

#: The shipped model the demo plays through.
MODEL = "overdrive"
_FALLBACK_RATE_HZ = 48000


@dataclass(frozen=True)
class Demo:
    """The two files a demo has made."""

    dry: Path
    wet: Path
    report: RenderReport


def make(model: Model, folder: PathLike, *, overwrite: bool = False) -> Demo:
    """Write the riff dry and through `model` into a folder, which is made if it is missing.

    Parameters
    ----------
    model : Model
        Mono.
    folder : str or path
    overwrite : bool
        Replace the files of an earlier demo.

    Raises
    ------
    FileExists
        A file exists already.
    AudioFileError
        A file cannot be written.
    ModelError
        The model does not fit a mono file.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioFileError(f"{place}: cannot make this folder: {error.strerror}") from error
    rate_hz = round(model.sample_rate_hz or _FALLBACK_RATE_HZ)
    dry, wet = place / "riff-dry.wav", place / f"riff-{MODEL}.wav"
    if wet.exists() and not overwrite:
        raise FileExists(f"{wet}: exists already")
    with AudioWriter(dry, rate_hz, 1, overwrite=overwrite) as writer:
        writer.write(pluck.riff(rate_hz))
    return Demo(dry, wet, render_file(model, dry, wet, RenderOptions(tail_s=0.0), overwrite=overwrite))


def play(demo: Demo) -> str:
    """Play both files, one after the other, on the default device if there is one.

    Returns
    -------
    str
        A sentence on what happened.
    """
    from .live import devices as host

    try:
        for path in (demo.dry, demo.wet):
            x, rate_hz = read(path)
            host.play(x, rate_hz)
    except (DeviceError, MissingDependency) as error:
        return f"not played: {error}"
    return "played: first dry, then through the model"
