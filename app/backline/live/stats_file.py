"""Files of what a session counted: its summary, its loads, and its last callbacks, as JSON."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AudioFileError, BacklineError
from ..pending import PendingFile, reason
from .forensics import Xrun
from .status import CALLBACK, CallbackLog

SCHEMA = "backline live statistics"
_VERSION = 1
_IS_ONE = re.compile(rb'"schema"\s*:\s*"' + re.escape(SCHEMA.encode()) + rb'"')
_MOST_BYTES = 1 << 24
_MOST_CALLBACKS = 1 << 16
_MOST_BINS = 1 << 12


@dataclass(frozen=True)
class Saved:
    """What such a file holds.

    Attributes
    ----------
    log : CallbackLog
    summary : mapping
        Of the session, as it was printed.
    """

    log: CallbackLog
    summary: Mapping[str, Any]


def save(
    path: Path,
    log: CallbackLog,
    summary: Mapping[str, Any],
    xruns: Sequence[Xrun],
    *,
    overwrite: bool = False,
) -> None:
    """Write a file; it is there whole or not at all. `xruns` are those of the whole session.

    Raises
    ------
    FileExists
        There is one, and `overwrite` is false.
    AudioFileError
        It cannot be written.
    """
    columns = {name: log.callbacks[name].tolist() for name in CALLBACK.names or ()}
    document = {
        "schema": SCHEMA,
        "version": _VERSION,
        "summary": _plain(dict(summary)),
        "rate_hz": log.rate_hz,
        "loads": {"edges": log.load_edges.tolist(), "counts": log.load_counts.tolist()},
        "callbacks": columns,
        "xruns": [asdict(each) for each in xruns],
    }
    pending = PendingFile(path, overwrite=overwrite)
    try:
        pending.temporary.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
        pending.commit()
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be written: {reason(error)}") from error
    finally:
        pending.discard()


def is_one(path: Path) -> bool:
    """Whether a file looks like one of these: by what it says of itself, wherever, not by its name."""
    if not path.is_file():  # to open a named pipe would wait for its writer
        return False
    try:
        with open(path, "rb") as file:
            return _IS_ONE.search(file.read(_MOST_BYTES)) is not None
    except (OSError, ValueError):
        return False


def load(path: Path) -> Saved:
    """Read a file.

    Raises
    ------
    BacklineError
        It is none, or of another version, or damaged: one sentence.
    """
    if path.exists() and not path.is_file():
        raise BacklineError(f"{path}: is no regular file, expected statistics of a session")
    try:
        if os.path.getsize(path) > _MOST_BYTES:
            raise BacklineError(
                f"{path}: has more than {_MOST_BYTES} bytes, expected statistics of a session"
            )
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise BacklineError(f"{path}: cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise BacklineError(f"{path}: is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise BacklineError(f"{path}: holds no statistics of a live session")
    if type(document.get("version")) is not int or document["version"] != _VERSION:
        raise BacklineError(f"{path}: found version {document.get('version')!r}, expected {_VERSION}")
    try:
        return _read(document)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BacklineError(f"{path}: is damaged: {error}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"found {constant}, expected a finite number")


def _plain(value: Any) -> Any:
    """What JSON can hold: None for what is not finite, since statistics are not to be lost for one number."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _read(document: Mapping[str, Any]) -> Saved:
    if type(document["rate_hz"]) not in (int, float):
        raise ValueError("found a rate that is no number")
    rate_hz = float(document["rate_hz"])
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise ValueError(f"found a rate of {rate_hz}")
    columns = {name: list(document["callbacks"][name]) for name in CALLBACK.names or ()}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1 or max(lengths) > _MOST_CALLBACKS:
        raise ValueError(f"found callbacks with columns of {sorted(lengths)} entries")
    callbacks = np.zeros(lengths.pop(), CALLBACK)
    for name, column in columns.items():
        if not all(type(entry) is int for entry in column):
            raise ValueError(f"found a {name} that is no whole number")
        callbacks[name] = np.array(column, CALLBACK[name])
    edges = np.array(document["loads"]["edges"], np.float64)
    if not all(type(count) is int for count in document["loads"]["counts"]):
        raise ValueError("found a count of loads that is no whole number")
    counts = np.array(document["loads"]["counts"], np.int64)
    if edges.ndim != 1 or counts.ndim != 1 or len(edges) != len(counts) + 1 or len(edges) > _MOST_BINS:
        raise ValueError(f"found {counts.size} loads between {edges.size} edges")
    if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any() or (counts < 0).any():
        raise ValueError("found edges of loads out of order, or counts below 0")
    summary = document["summary"]
    if not isinstance(summary, dict):
        raise ValueError("found a summary that is none")
    return Saved(CallbackLog(rate_hz, callbacks, edges, counts), summary)
