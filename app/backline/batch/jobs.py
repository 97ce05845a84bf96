"""What is to be rendered: jobs, and the matrix of every model over every take.

A job says everything its output depends on, in plain values that can be compared, kept and sent elsewhere.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..audiofile import PathLike, format_of, subtype_for
from ..choice import ModelChoice
from ..errors import AudioFileError, BacklineError, ModelError
from ..library import AUDIO_SUFFIXES
from ..render import RenderOptions
from . import storage
from .storage import Place, Url, identity, place

#: What a name's template may ask for.
FIELDS = ("input", "model", "index", "quality", "folder")
#: Of a width in a template; names end at 255 bytes on most file systems.
_MAX_DIGITS = 3

#: Extensions of the files that are taken from a folder of takes; what has no header is asked for by name.
_FOUND_SUFFIXES = AUDIO_SUFFIXES - {".raw"}


@dataclass(frozen=True)
class Job:
    """One input through one model to one output.

    Attributes
    ----------
    model : ModelChoice
    source, target : Path or Url
    options : RenderOptions
    """

    model: ModelChoice
    source: Place
    target: Place
    options: RenderOptions = field(default_factory=RenderOptions)


def matrix(
    models: Sequence[ModelChoice],
    sources: Sequence[PathLike],
    folder: PathLike,
    name: str = "{input}-{model}.wav",
    options: RenderOptions | None = None,
) -> list[Job]:
    """Every model over every take, model by model; checked, with nothing touched.

    Parameters
    ----------
    models : sequence of ModelChoice
    sources : sequence of paths
        Files, folders, patterns or URLs, see `find_sources`.
    folder : path or URL
        Where outputs go.
    name : str
        Their names, which may lead into folders below: ``{input}`` and ``{model}`` are the files' names
        without their suffixes, ``{folder}`` is that of the input's folder, ``{quality}`` the model's quality
        and ``{index}`` the number of the job, from 1; ``{index:04d}`` has zeros in front.
    options : RenderOptions, optional

    Raises
    ------
    BacklineError
        No models or takes, a template that asks for what there is not or leads out of the folder, two jobs
        with one target, a target that is an input or a model, or a format that cannot be written.
    """
    found = find_sources(sources)
    if not models or not found:
        raise BacklineError(f"nothing to render: {len(models)} models, {len(found)} inputs")
    jobs = []
    pairs = ((model, source) for model in models for source in found)
    for index, (model, source) in enumerate(pairs, 1):
        values: dict[str, str | int | float] = {
            "input": source.stem,
            "model": model.name,
            "index": index,
            "quality": model.quality,
            "folder": _absolute(source).parent.name,
        }
        target = place(folder) / fill(name, values)
        jobs.append(Job(model, source, target, options or RenderOptions()))
    check(jobs)
    return jobs


def _absolute(source: Place) -> Place:
    return source if isinstance(source, Url) else Path(os.path.abspath(source))


def fill(template: str, values: dict[str, str | int | float]) -> Path:
    """The relative path that a template gives; `BacklineError` if it is none."""
    text = ""
    try:
        for literal, field, spec, conversion in string.Formatter().parse(template):
            text += literal
            if field is None:
                continue
            if field not in values or conversion or "{" in (spec or ""):
                known = ", ".join(f"{{{name}}}" for name in values)
                raise BacklineError(f"name {template!r}: {{{field}}} is not known; known are {known}")
            if any(len(number) > _MAX_DIGITS for number in re.findall("[0-9]+", spec or "")):
                raise BacklineError(f"name {template!r}: {{{field}:{spec}}} is wider than names can be")
            value = values[field]
            text += format(value, spec or ("g" if isinstance(value, float) else ""))
    except ValueError as error:
        raise BacklineError(f"name {template!r}: {error}") from None
    path = Path(text)
    if "\0" in text or not path.name or path.is_absolute() or ".." in path.parts:
        raise BacklineError(f"name {template!r}: {text!r} is no name of a file inside the output's folder")
    return path


def find_sources(sources: Iterable[PathLike]) -> list[Place]:
    """The files meant by what a user wrote, in order, none twice.

    Parameters
    ----------
    sources : iterable of paths
        A file stands for itself, there or not; a folder for all audio files in it and in the folders below,
        by their extensions, sorted, without hidden ones and without following links to folders; a pattern
        with ``*``, ``?``, ``[...]`` or ``**`` for the files it matches, unless a file of just that name is
        there. The same with URLs, which stand for folders unless their extension is one of audio.

    Raises
    ------
    AudioFileError
        A folder without audio, or a pattern that matches nothing.
    """
    found: dict[Place, None] = {}
    for source in sources:
        found.update(dict.fromkeys(_expanded(source)))
    return list(found)


def find_models(patterns: Iterable[PathLike]) -> list[str]:
    """Model files and shipped names, patterns replaced by the files they match, none twice.

    Raises
    ------
    ModelError
        A pattern that matches nothing.
    """
    found: dict[str, None] = {}
    for each in patterns:
        pattern = os.fspath(place(each))
        if isinstance(pattern, Url):
            matched = storage.matches(pattern)
            if matched == []:
                raise ModelError(f"{pattern}: matches no file")
            found.update(dict.fromkeys([str(pattern)] if matched is None else map(str, matched)))
            continue
        if not glob.has_magic(pattern) or os.path.lexists(pattern):
            found[pattern] = None
            continue
        matches = _matches(pattern)
        if not matches:
            raise ModelError(f"{pattern}: matches no file")
        found.update(dict.fromkeys(map(str, matches)))
    return list(found)


def _expanded(source: PathLike) -> Sequence[Place]:
    path = place(source)
    if isinstance(path, Url):
        urls = storage.matches(path)
        if urls is None and path.suffix.lower() not in AUDIO_SUFFIXES:
            urls = storage.audio_below(path, _FOUND_SUFFIXES)
        if urls == []:
            raise AudioFileError(f"{path}: holds no audio files, or matches none")
        return [path] if urls is None else urls
    if path.is_dir():
        found = sorted(_audio_below(path))
        if not found:
            raise AudioFileError(f"{source!s}: holds no audio files")
        return found
    if not glob.has_magic(os.fspath(path)) or os.path.lexists(path):
        return [path]
    found = _matches(os.fspath(path))
    if not found:
        raise AudioFileError(f"{source!s}: matches no file")
    return found


def _matches(pattern: str) -> list[Path]:
    return sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())


def _audio_below(folder: Path) -> Iterable[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in _FOUND_SUFFIXES:
                yield Path(parent, name)


def check(jobs: Sequence[Job]) -> None:
    """Raise `BacklineError` if jobs get in each other's way or cannot be written; touches nothing."""
    taken: dict[str, Job] = {}
    kept = {identity(job.source) for job in jobs} | {identity(place(job.model.path)) for job in jobs}
    for job in jobs:
        subtype = getattr(job.options, "subtype", None)
        format_of(job.target) if subtype is None else subtype_for(job.target, subtype)
        name = place_of(job.target)
        other = taken.setdefault(name, job)
        if other is not job:
            raise AudioFileError(
                f"{job.target}: would be made twice, of {_of(other)} and of {_of(job)}; "
                f"give them names that differ, with {{index}} if nothing else does"
            )
        if name in kept or identity(job.target) in kept:
            raise AudioFileError(f"{job.target}: is an input or a model; give another output")


def _of(job: Job) -> str:
    return f"{job.source} through {job.model.path}"


def place_of(target: Place) -> str:
    """Where a target's name is: links in its folder followed, but not what stands there itself."""
    if isinstance(target, Url):
        return str(target)
    parent, name = os.path.split(os.path.abspath(target))
    return os.path.join(_real_folder(parent), name)


@functools.lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
