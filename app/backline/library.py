"""The models that come with Backline, found by name; and which names mean models, and which audio."""

from __future__ import annotations

import difflib
import os
from importlib.resources import files
from pathlib import Path

from .errors import ModelError

_SUFFIX = ".nam"
MODEL_SUFFIXES = frozenset({".nam", ".json", ".onnx", ".backline", ".aidax"})
AUDIO_SUFFIXES = frozenset(
    {
        ".wav",
        ".wave",
        ".flac",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
        ".mp3",
        ".ogg",
        ".oga",
        ".opus",
    }
    | {".raw", ".rf64", ".w64", ".sf", ".avr", ".voc", ".sds", ".wve", ".xi", ".pvf", ".nist", ".htk", ".sph"}
)
#: WAV and W64 (in capitals or not), RF64, FLAC, Ogg, AIFF, AU, CAF, MP3 with tags.
AUDIO_BEGINNINGS = frozenset(
    {
        b"RIFF",
        b"riff",
        b"RIFX",
        b"RF64",
        b"fLaC",
        b"OggS",
        b"FORM",
        b".snd",
        b"caff",
        b"ID3\2",
        b"ID3\3",
        b"ID3\4",
    }
)


def shipped() -> dict[str, Path]:
    """Shipped models: name to file, sorted by name."""
    folder = Path(str(files("backline.models")))
    return {path.stem: path for path in sorted(folder.glob(f"*{_SUFFIX}"))}


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """The model file meant by what a user wrote.

    A file of that name wins over a shipped model.

    Parameters
    ----------
    name_or_path : str or path
        A path, or the name of a shipped model, with or without its suffix.

    Raises
    ------
    ModelError
        Neither; names what is shipped, and what was perhaps meant.
    """
    try:
        path = Path(name_or_path)
    except TypeError:
        found_type = type(name_or_path).__name__
        raise ModelError(f"expected a path or the name of a shipped model, found {found_type}") from None
    text = str(path)
    if not os.fspath(name_or_path):
        raise ModelError("expected a path or the name of a shipped model, found an empty text")
    try:
        if path.is_dir():
            raise ModelError(f"{text}: is a folder, expected a model file")
        if path.exists():
            return path
    except (OSError, ValueError) as error:  # a folder that may not be entered, a name no system takes
        raise ModelError(f"{text}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if path.is_symlink():
        raise ModelError(f"{text}: is a link to {os.readlink(path)}, which leads to no file")
    models = shipped()
    found = models.get(text.removesuffix(_SUFFIX))
    if found is not None:
        return found
    nearby = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    # Closest first; a file beside the one asked for counts like a shipped model's name.
    meant = difflib.get_close_matches(text, models, n=2) or difflib.get_close_matches(path.name, nearby, n=2)
    hint = f"; did you mean {' or '.join(meant)}?" if meant else ""
    names = ", ".join(models) or "none"
    raise ModelError(f"{text}: no such file, nor a shipped model of that name (shipped: {names}){hint}")


def is_audio_name(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether what a user wrote means audio rather than a model, where a command takes both.

    An extension of either kind decides; else how the file of that name begins. What is neither is taken for
    a model's name. ``-`` is audio: standard input.

    Parameters
    ----------
    name_or_path : str or path
    """
    if os.fspath(name_or_path) == "-":
        return True
    path = Path(name_or_path)
    suffix = path.suffix.lower()
    if suffix in AUDIO_SUFFIXES or suffix in MODEL_SUFFIXES:
        return suffix in AUDIO_SUFFIXES
    try:
        if not path.is_file():  # a pipe would be emptied
            return False
        with open(path, "rb") as file:
            return file.read(4) in AUDIO_BEGINNINGS
    except (OSError, ValueError):
        return False
