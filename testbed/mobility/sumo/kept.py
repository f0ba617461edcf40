"""Tables that took long to make, kept in a folder under a name that says what decided them."""

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa


def kept_path(folder: Path | None, kind: str, files: Iterable[Path], asked: object) -> Path | None:
    """Where a table is kept: by the content of its sources and by what was asked of them.

    Parameters
    ----------
    folder : Path or None
        Where tables are kept; ``None`` keeps none.
    kind : str
        The file's name begins with it.
    files : iterable of Path
        Their content decides the table.
    asked : object
        Its ``repr`` decides the table too.
    """
    if folder is None:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    digest.update(repr(asked).encode())
    return Path(folder) / f"{kind}-{digest.hexdigest()[:16]}.parquet"


def read_kept(path: Path | None, needed: Iterable[str]) -> pd.DataFrame | None:
    """A kept table, or ``None`` where there is none, or it is damaged (it is then made again).

    Parameters
    ----------
    path : Path or None
        As `kept_path` gave it.
    needed : iterable of str
        Keys that the table's ``attrs`` must have.
    """
    if path is None or not path.is_file():
        return None
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException):
        return None
    return rows if set(needed) <= rows.attrs.keys() else None


def keep(rows: pd.DataFrame, path: Path | None) -> None:
    """Write a table with its ``attrs`` so that a reader never sees half of it."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        rows.to_parquet(unfinished)
        unfinished.replace(path)
