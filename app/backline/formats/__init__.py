"""Model files to graphs: one module per format, chosen by what is in the file, never by its name."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..graph import Graph
from . import backline_file, nam
from ._reading import brief, describe, parse_json

__all__ = ["MAX_FILE_BYTES", "load_graph", "naming"]

#: Larger files are refused unread.
MAX_FILE_BYTES = 512 << 20

#: What to do with a pickle, which may run anything when it is opened: whoever trusts it opens it himself.
_CONVERSION = (
    "which is never opened here; if you trust it, write its weights with python -c 'import json, torch; "
    'json.dump({k: v.tolist() for k, v in torch.load("model.pt", weights_only=True).items()}, '
    'open("model.json", "w"))\' and load that with its layers described'
)
#: How files begin that are no JSON, and what to say of them.
_BINARIES = (
    (b"PK\x03\x04", f"a zip archive such as a PyTorch .pt or a .keras file, {_CONVERSION}"),
    (b"\x80\x02", f"a Python pickle such as a PyTorch .pt or .ckpt file, {_CONVERSION}"),
    *((bytes([0x80, version]), f"a Python pickle, {_CONVERSION}") for version in (3, 4, 5)),
    (b"\x89HDF", "an HDF5 file such as Keras weights; export it with RTNeural's model_utils as JSON"),
    (b"NAMB", "a binary .namb file, which is not supported; use the .nam it was made from"),
    (b"RIFF", "a RIFF file such as WAV audio"),
    (b"fLaC", "FLAC audio"),
    (b"OggS", "Ogg audio"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
)


def load_graph(
    path: str | os.PathLike[str],
    *,
    quality: float = 1.0,
    layers: Sequence[Mapping[str, Any]] | None = None,
) -> Graph:
    """Read a model file.

    Parameters
    ----------
    path : str or path
        A .nam, .onnx or .backline file, an RTNeural Keras JSON or a PyTorch state_dict JSON, whatever it is
        called.
    quality : float
        From 0, the lightest, to 1, the full model, where a file holds several sizes.
    layers : sequence of mappings, optional
        Needed with a state_dict, which does not hold groups, stride and dilation: one mapping per layer,
        see :func:`backline.formats.torch_state.read`.

    Returns
    -------
    Graph
        With the file's own name for the model, or the file's name without its suffix.

    Raises
    ------
    ModelError
        The file cannot be read, is no model, is broken, or uses what is not supported yet. The message
        begins with the path.
    """
    with naming(path):
        return _load(Path(path), _checked_quality(quality), layers)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let what goes wrong with a file inside be a `ModelError` of one sentence that begins with its path."""
    try:
        yield
    except RecursionError:
        raise ModelError(f"{os.fspath(path)}: the model is nested too deeply") from None
    except MemoryError:
        raise ModelError(f"{os.fspath(path)}: the model does not fit into memory") from None
    except ModelError as error:
        raise ModelError(f"{os.fspath(path)}: {brief(str(error))}") from error


def _load(path: Path, quality: float, layers: Sequence[Mapping[str, Any]] | None) -> Graph:
    data = _read_bytes(path)
    if backline_file.recognises(data):
        return _with_note_on_quality(backline_file.decode(data), quality)
    if not data.lstrip().startswith(b"{") and (graph := _read_onnx(data, path, layers)):
        return _titled(_with_note_on_quality(graph, quality), path)
    document = _parse(data)
    if nam.recognises(document):
        _refuse_layers(layers)
        graph = nam.read(document, quality=quality)
    else:
        graph = _read_other(document, path, layers)
    if not nam.has_sizes(document):
        graph = _with_note_on_quality(graph, quality)
    return _titled(graph, path)


# The readers of most formats are imported where a file needs them: all together take as long to import as a
# usual model takes to load.


def _read_onnx(data: bytes, path: Path, layers: Sequence[Mapping[str, Any]] | None) -> Graph | None:
    from . import _onnx_proto

    if not _onnx_proto.recognises(data):
        return None
    from . import onnx_file

    _refuse_layers(layers)
    return onnx_file.read(data, path)


def _read_other(document: dict[str, Any], path: Path, layers: Sequence[Mapping[str, Any]] | None) -> Graph:
    """The graph of a document that is no .nam."""
    from . import aidax, guitarml, keras_json, torch_state

    if not torch_state.recognises(document):
        _refuse_layers(layers)
    if guitarml.recognises(document):
        return guitarml.read(document)
    if aidax.recognises(document):
        return aidax.read(document)
    if keras_json.recognises(document):
        return keras_json.read(document)
    if torch_state.recognises(document):
        sibling = partial(_sibling, path)
        return torch_state.read(document, layers=layers, file_name=path.name, sibling=sibling)
    keys = ", ".join(repr(key[:20]) for key in list(document)[:5]) or "no keys"
    raise ModelError(
        f"expected a .nam, RTNeural, AIDA-X, GuitarML or state_dict JSON, found an object with {keys}"
    )


def _refuse_layers(layers: object) -> None:
    if layers is not None:
        raise ModelError("layers describe a PyTorch state_dict, which this file is not")


def _titled(graph: Graph, path: Path) -> Graph:
    """The graph with the name that its file gives it, or the file's own."""
    title = graph.metadata.get("name")
    return replace(graph, name=title if isinstance(title, str) and title.strip() else path.stem)


def _with_note_on_quality(graph: Graph, quality: float) -> Graph:
    if quality == 1.0:
        return graph
    note = f"quality {quality:g} changes nothing: the file holds one size of its model"
    return replace(graph, notes=(*graph.notes, note))


def _sibling(path: Path, name: str) -> dict[str, Any]:
    """Another file of the model's folder, parsed like the model's."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise ModelError("expected the name of a file beside the model's")
    return _parse(_read_bytes(path.with_name(name)))


def _checked_quality(quality: object) -> float:
    if isinstance(quality, Real) and not isinstance(quality, bool):
        with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
            if 0.0 <= float(quality) <= 1.0:
                return float(quality)
    raise ModelError(f"quality is {describe(quality)}, expected a number from 0 to 1")


def _read_bytes(path: Path) -> bytes:
    try:
        _check_file(path.stat())
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            _check_file(status)  # another one may have taken its place
            data = file.read(status.st_size + 1)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(f"is no usable path: {error}") from error
    if len(data) != status.st_size:
        raise ModelError(f"had {status.st_size} bytes and changed while it was read")
    return data


def _check_file(status: os.stat_result) -> None:
    """Raise `ModelError` unless it is a regular file that is not too large."""
    if stat.S_ISDIR(status.st_mode):
        raise ModelError("is a folder, expected a model file")
    if not stat.S_ISREG(status.st_mode):
        raise ModelError("is no regular file, expected a model file")
    if status.st_size > MAX_FILE_BYTES:
        raise ModelError(f"has {status.st_size} bytes, at most {MAX_FILE_BYTES} are read")


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe nobody writes to opens at once."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _parse(data: bytes) -> dict[str, Any]:
    """Parse strict JSON whose outermost value is an object."""
    if not data.strip():
        raise ModelError("is empty")
    _refuse_binary(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"is no text in UTF-8 (byte {error.start}), expected a model file") from None
    document = parse_json(text)
    if not isinstance(document, dict):
        raise ModelError(f"expected a JSON object, found {describe(document)}")
    return document


def _refuse_binary(data: bytes) -> None:
    for magic, meaning in _BINARIES:
        if data.startswith(magic):
            raise ModelError(f"expected a model file, found {meaning}")
    if data[4:8] == b"TFL3":
        raise ModelError("TensorFlow Lite models are not supported")
    if b"\0" in data[:4096]:
        raise ModelError("is a binary file of no known kind, expected a model file")
