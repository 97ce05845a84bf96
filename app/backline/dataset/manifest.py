"""The manifest: a Parquet file with a row for each item; sole importer of pyarrow, which is optional.

Columns are those of `rows.COLUMNS`, and ``knob_NAME`` for each knob of any model; each says in its
metadata (``description``) what it holds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import AudioFileError, MissingDependency
from ..pending import PendingFile, refused
from .rows import COLUMNS, knob_column

_ROWS = 16384


def pyarrow() -> Any:
    """The package with its Parquet half, imported when it is first asked for.

    Raises
    ------
    MissingDependency
        It is not installed.
    """
    try:
        import pyarrow as library
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependency(
            "a dataset's manifest needs pyarrow, which is not installed: pip install 'backline[dataset]'"
        ) from error
    return library


def write_manifest(path: Path, rows: Iterable[dict[str, Any]], knob_names: Sequence[str]) -> None:
    """Write the manifest, whole or not at all; replaces one that is there.

    Parameters
    ----------
    path : Path
    rows : iterable of dict
        In the order of items; taken a few thousand at a time.
    knob_names : sequence of str

    Raises
    ------
    MissingDependency
        pyarrow is not installed.
    AudioFileError
        The file cannot be written.
    """
    library = pyarrow()
    schema = _schema(library, knob_names)
    pending = PendingFile(path, overwrite=True)
    try:
        with library.parquet.ParquetWriter(str(pending.temporary), schema, compression="zstd") as writer:
            waiting = iter(rows)
            while part := list(itertools.islice(waiting, _ROWS)):
                writer.write_table(library.Table.from_pylist(part, schema=schema))
        pending.commit()
    except OSError as error:
        raise refused(path, error) from error
    except library.ArrowException as error:
        raise AudioFileError(f"{path}: cannot be written: {error}") from error
    finally:
        pending.discard()


def _schema(library: Any, knob_names: Sequence[str]) -> Any:
    kinds = {
        "int": library.int64(),
        "number": library.float64(),
        "text": library.string(),
        "flag": library.bool_(),
    }
    fields = [
        library.field(name, kinds[kind], metadata={"description": text})
        for name, (kind, text) in COLUMNS.items()
    ]
    fields += [
        library.field(
            knob_column(name),
            kinds["number"],
            metadata={"description": f"where the knob {name} stood; null for models without it"},
        )
        for name in knob_names
    ]
    return library.schema(fields)
