"""Several files through one model: which file each becomes, and one after the other."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audiofile import PathLike, RawFormat, format_of, subtype_for
from ..engine import Model
from ..errors import AudioFileError, BacklineError
from .options import RenderOptions
from .pipes import is_pipe
from .take import RenderReport, render_file


@dataclass(frozen=True)
class RenderFailure:
    """A file of several that could not be rendered."""

    source: Path
    error: BacklineError


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
    if is_pipe(output):
        if len(pairs) > 1:
            raise AudioFileError(f"{len(pairs)} inputs need a folder, not standard output")
        return [(pairs[0], folder)]
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
    options: RenderOptions | None = None,
    *,
    overwrite: bool = False,
    threads: int = 1,
    raw: RawFormat | None = None,
    file_format: str | None = None,
    on_progress: Callable[[Path, int, int], None] | None = None,
) -> Iterator[RenderReport | RenderFailure]:
    """Render several files, each as soon as it is asked for; one that fails does not stop the others.

    Parameters
    ----------
    model : Model
    pairs : sequence of (source, target)
        As `plan_targets` makes them. Missing folders are made, and removed again if nothing comes into them.
    options, overwrite, threads, raw, file_format
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
        The options' subtype does not exist in a target's format, or a folder cannot be made.
    """
    options = options or RenderOptions()
    for _, target in pairs:
        if not is_pipe(target):
            subtype_for(target, options.subtype)
    with folders([target.parent for _, target in pairs]):
        for source, target in pairs:
            given: dict[str, Any] = {
                "overwrite": overwrite,
                "threads": threads,
                "raw": raw,
                "file_format": file_format,
            }
            told = None if on_progress is None else functools.partial(on_progress, source)
            try:
                yield render_file(model, source, target, options, **given, on_progress=told)
            except BacklineError as error:
                yield RenderFailure(source, error)


@contextlib.contextmanager
def folders(wanted: Sequence[Path]) -> Iterator[None]:
    """Make folders that are missing, and remove them again if nothing has come into them.

    Raises
    ------
    AudioFileError
        One cannot be made.
    """
    made: list[Path] = []
    try:
        for folder in dict.fromkeys(wanted):
            _make_folder(folder, made)
        yield
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()  # which refuses unless it is empty


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
