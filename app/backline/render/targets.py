"""Which file each input becomes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..audiofile import PathLike, format_of
from ..errors import AudioFileError
from .pipes import is_pipe


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
    # Not `Path.resolve`, which before Python 3.13 raises RuntimeError where links lead in a circle.
    originals = {os.path.realpath(source) for source in pairs}
    for source, target in zip(pairs, targets, strict=True):
        format_of(target)
        if target in taken:
            raise AudioFileError(f"{source}: would become {target}, and so would {taken[target]}")
        if os.path.realpath(target) in originals:
            raise AudioFileError(f"{target}: is an input; give another output")
        taken[target] = source
    return list(zip(pairs, targets, strict=True))


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
