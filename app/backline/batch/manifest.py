"""Job files: what to render, in TOML or as CSV.

TOML has one ``[[job]]`` for each output, and what they share in ``[defaults]``::

    [defaults]
    model = "amps/clean.nam"
    subtype = "PCM_24"
    knob.drive = 0.5

    [[job]]
    input = "takes/verse.wav"
    output = "out/verse.wav"

    [[job]]
    input = "takes/chorus.wav"
    output = "out/chorus.flac"
    knob.drive = 0.8
    gain-out = -3

CSV (UTF-8, commas, a first row of names) has a row for each output; an empty cell is as if it were not
there::

    input,model,output,knob.drive,gain-out
    takes/verse.wav,overdrive,out/verse.wav,0.5,
    takes/chorus.wav,overdrive,out/chorus.wav,0.8,-3

``input``, ``model`` and ``output`` are needed; other keys are the long names of options: ``quality``,
``prewarm`` (frames), ``layers`` (a file), ``gain-in``, ``gain-out``, ``calibrate``, ``knob.NAME``, and all
of `RenderOptions`. Paths are relative to the job file; a model that is no file there may be a shipped one.
URLs may stand for the three of them.
"""

from __future__ import annotations

import csv
import io
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from .. import library
from ..audiofile import PathLike
from ..choice import ModelChoice
from ..errors import BacklineError, MissingDependency
from ..render import RenderOptions
from .jobs import Job, check
from .storage import Place, is_url, place

#: Job files are read whole; larger ones are refused.
MAX_BYTES = 256 << 20

_NEEDED = ("input", "model", "output")
#: Long names of options that choose a model: the field and its type.
_OF_MODEL: dict[str, tuple[str, Any]] = {
    "quality": ("quality", float),
    "prewarm": ("prewarm", int),
    "layers": ("layers", Path),
    "gain-in": ("gain_in_db", float),
    "gain-out": ("gain_out_db", float),
    "calibrate": ("calibrate_dbu", float),
}
_KNOB = "knob."
_TYPE_NAMES = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "a text",
    Path: "a path",
}


def long_names() -> dict[str, tuple[str, Any]]:
    """Long names of the render options: field of `RenderOptions` and its type."""
    hints = typing.get_type_hints(RenderOptions)
    return {
        field.metadata.get("option", field.name.replace("_", "-")): (field.name, hints[field.name])
        for field in fields(RenderOptions)
    }


def read(path: PathLike) -> list[Job]:
    """Read a job file and check its jobs; touches nothing.

    Parameters
    ----------
    path : str or path
        ``*.toml`` or ``*.csv``.

    Raises
    ------
    BacklineError
        The file cannot be read, a key is unknown, a value bad or missing (says where), or jobs get in each
        other's way, see `jobs.check`.
    MissingDependency
        TOML before Python 3.11.
    """
    place = Path(path)
    text = _text(place)
    suffix = place.suffix.lower()
    if suffix == ".toml":
        rows = _toml_rows(place, text)
    elif suffix == ".csv":
        rows = _csv_rows(place, text)
    else:
        raise BacklineError(f"{place}: expected a job file whose name ends in .toml or .csv")
    jobs = [_job(place.parent, where, values, is_text) for where, values, is_text in rows]
    if not jobs:
        raise BacklineError(f"{place}: holds no jobs")
    check(jobs)
    return jobs


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise BacklineError(f"{path}: has more than {MAX_BYTES} bytes, too many for a job file")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BacklineError(f"{path}: is no text in UTF-8 (byte {error.start})") from None
    except (OSError, ValueError) as error:
        raise BacklineError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


_Row = tuple[str, dict[str, Any], bool]


def _toml_rows(path: Path, text: str) -> Iterator[_Row]:
    try:
        import tomllib
    except ImportError as error:  # Python 3.10
        raise MissingDependency(f"{path}: job files in TOML need Python 3.11; use CSV") from error
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BacklineError(f"{path}: is no TOML: {error}") from None
    unknown = sorted(document.keys() - {"defaults", "job"})
    if unknown:
        raise BacklineError(f"{path}: {unknown[0]!r} is not known; expected [defaults] and [[job]]")
    defaults = _flat(f"{path}: [defaults]", document.get("defaults", {}))
    listed = document.get("job", [])
    if not isinstance(listed, list):
        raise BacklineError(f"{path}: [job] is one table; write [[job]]")
    lines = [text.count("\n", 0, at.start()) + 1 for at in re.finditer(r"^[ \t]*\[\[[ \t]*job", text, re.M)]
    for number, table in enumerate(listed, 1):
        line = f" (line {lines[number - 1]})" if len(lines) == len(listed) else ""
        where = f"{path}: job {number}{line}"
        yield where, defaults | _flat(where, table), False


def _flat(where: str, table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise BacklineError(f"{where}: expected a table")
    found = dict(table)
    knobs = found.pop("knob", {})
    if not isinstance(knobs, dict):
        raise BacklineError(f"{where}: knob is set as knob.NAME = value")
    return found | {f"{_KNOB}{name}": value for name, value in knobs.items()}


def _csv_rows(path: Path, text: str) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for row in reader:
            if not row:
                continue
            where = f"{path}: line {reader.line_num}"
            if header is None:
                header = [name.strip() for name in row]
                twice = sorted({name for name in header if header.count(name) > 1})
                if twice:
                    raise BacklineError(f"{where}: column {twice[0]!r} is there twice")
                _check_keys(where, header)
                continue
            if len(row) != len(header):
                raise BacklineError(f"{where}: has {len(row)} cells, expected {len(header)}")
            yield where, {name: cell for name, cell in zip(header, row, strict=True) if cell.strip()}, True
    except csv.Error as error:
        raise BacklineError(f"{path}: line {reader.line_num}: is no CSV: {error}") from None


def _check_keys(where: str, keys: typing.Iterable[str]) -> None:
    known = [*_NEEDED, *_OF_MODEL, *long_names()]
    for key in keys:
        if key not in known and not (key.startswith(_KNOB) and len(key) > len(_KNOB)):
            raise BacklineError(f"{where}: {key!r} is not known; known are {', '.join(known)}, knob.NAME")


def _job(folder: Path, where: str, values: Mapping[str, Any], is_text: bool) -> Job:
    _check_keys(where, values)
    for key in _NEEDED:
        if key not in values:
            raise BacklineError(f"{where}: {key} is missing")
    paths = {key: _value(where, key, str, values[key], is_text) for key in _NEEDED}
    model: dict[str, Any] = {"path": _model_path(folder, paths["model"])}
    options: dict[str, Any] = {}
    knobs: dict[str, float] = {}
    of_options = long_names()
    for key, value in values.items():
        if key.startswith(_KNOB):
            knobs[key.removeprefix(_KNOB)] = _value(where, key, float, value, is_text)
        elif key in _OF_MODEL:
            name, hint = _OF_MODEL[key]
            model[name] = _value(where, key, hint, value, is_text)
        elif key in of_options:
            name, hint = of_options[key]
            options[name] = _value(where, key, hint, value, is_text)
    if "layers" in model:
        model["layers"] = _text(folder / model["layers"])
    if not 0.0 <= model.get("quality", 1.0) <= 1.0:
        raise BacklineError(f"{where}: quality is {model['quality']:g}, expected 0 to 1")
    if model.get("prewarm", 0) < 0:
        raise BacklineError(f"{where}: prewarm is {model['prewarm']}, expected 0 or more frames")
    choice = ModelChoice(**model, knobs=tuple(sorted(knobs.items())))
    try:
        rendered = RenderOptions(**options)
    except BacklineError as error:
        raise BacklineError(f"{where}: {error}") from None
    return Job(choice, _place(folder, paths["input"]), _place(folder, paths["output"]), rendered)


def _place(folder: Path, text: str) -> Place:
    return place(text) if is_url(text) else folder / text


def _model_path(folder: Path, text: str) -> str:
    if is_url(text):
        return str(place(text))
    there = folder / text
    is_shipped = text.removesuffix(".nam") in library.shipped()
    return text if is_shipped and not there.exists() else str(there)


def _value(where: str, key: str, hint: Any, value: Any, is_text: bool) -> Any:
    """A value of the type that a field is annotated with."""
    kinds = [kind for kind in _alternatives(hint) if kind is not type(None)]
    for kind in kinds:
        found = _parsed(kind, value) if is_text else _checked(kind, value)
        if found is not None:
            return found
    expected = " or ".join(_TYPE_NAMES.get(kind) or repr(kind) for kind in kinds)
    raise BacklineError(f"{where}: {key} is {value!r}, expected {expected}")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """What a type is put together of: ``float | None``, or the values of a ``Literal``."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType, typing.Literal):
        return tuple(part for each in typing.get_args(hint) for part in _alternatives(each))
    return (hint,)


def _parsed(kind: Any, text: str) -> Any:
    text = text.strip()
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    if kind in (int, float):
        try:
            return _checked(kind, kind(text))
        except ValueError:
            return None
    return _checked(kind, text)


def _checked(kind: Any, value: Any) -> Any:
    """The value, if it is of that kind, else None."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value) if math.isfinite(value) else None
        except OverflowError:
            return None
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str) and value and "\0" not in value:
        return value
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    if isinstance(kind, str) and kind == value:  # one value of a Literal
        return value
    return None
