"""Traces in files: people's own CSV and Parquet, GeoLife folders, and what `write_trace` wrote."""

import dataclasses
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.geolife.dataset import read_geolife
from testbed.mobility.geolife.store import find_store, read_store
from testbed.mobility.report import DatasetReport
from testbed.mobility.segments import summarize
from testbed.mobility.trace import (
    BOUNDS,
    COLUMNS,
    LABEL_COLUMNS,
    Trace,
    check_trace,
    motion,
    stretch_begins,
)

NEEDED = ("time_s", "user", "lat_deg", "lon_deg")
_CSV = (".csv", ".csv.gz")
_PARQUET = (".parquet", ".pq")
_HEADER_ROWS = 2
"""Row of the first fix in a CSV file, as an editor counts."""


def read_traces(
    path: str | Path, *, users: Iterable[str] | None = None
) -> tuple[Trace, DatasetReport]:
    """Read traces from any place that holds some.

    Parameters
    ----------
    path : str or Path
        A CSV file (also ``.csv.gz``) or a Parquet file with ``time_s, user, lat_deg, lon_deg``; a
        folder of such Parquet files; what `testbed data geolife` imported; a folder of GeoLife.
        ``time`` (ISO 8601 with a zone) may stand for ``time_s``. Speed and heading are derived
        where absent, ``segment``, ``track`` and ``mode`` kept, other columns left out and named in
        the report. Users may stand mixed.
    users : iterable of str, optional
        Only these.

    Returns
    -------
    trace : Trace
        Sorted by user (in the order of their first fix in the file) and time.
    report : DatasetReport

    Raises
    ------
    DataNotFoundError
        If there is no such file or folder, or no such user in it.
    TraceError
        If a column is missing or a value makes no sense, with file, row and value.
    """
    path = Path(path)
    wanted = None if users is None else list(dict.fromkeys(users))
    if not path.exists():
        raise DataNotFoundError(f"{path}: there is no such file or folder")
    if path.is_dir():
        if find_store(path) is not None:
            return read_store(path, users=wanted)
        files = sorted(path.glob("*.parquet"))
        if not files:
            return read_geolife(path, users=wanted)
        return _one_table([_parquet(file) for file in files], str(path), wanted)
    name = path.name.lower()
    if name.endswith(_CSV):
        return _one_table([_csv(path)], str(path), wanted)
    if name.endswith(_PARQUET):
        return _one_table([_parquet(path)], str(path), wanted)
    raise TraceError(
        f"{path}: not a kind of trace file; known are {', '.join((*_CSV, *_PARQUET))} and folders "
        "of GeoLife"
    )


def write_trace(trace: Trace, path: str | Path) -> None:
    """Write a trace as CSV or Parquet, by the name's ending; an old file stays until it is done.

    Raises
    ------
    TraceError
        If the trace is malformed or the ending unknown.
    """
    path = Path(path)
    name = path.name.lower()
    if not name.endswith((*_CSV, *_PARQUET)):
        raise TraceError(f"{path}: write traces as {', '.join((*_CSV, *_PARQUET))}")
    table = check_trace(trace)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    kept = Path(unfinished)
    try:
        if name.endswith(_PARQUET):
            table.to_parquet(kept, index=False, compression="zstd")
        else:
            table.to_csv(kept, index=False, compression="gzip" if name.endswith(".gz") else None)
        kept.chmod(0o644)
        kept.replace(path)
    finally:
        kept.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class _Read:
    """A file's columns as they stand; ``row`` is what the file calls its first one."""

    path: Path
    frame: pd.DataFrame
    row: int
    unused: tuple[str, ...]


def _csv(path: Path) -> _Read:
    names = _csv_columns(path)
    numbers = {*COLUMNS, "segment"} - {"user"}
    types = {name: pa.float64() if name in numbers else pa.string() for name in names}
    try:
        table = pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(column_types=types))
    except pa.ArrowInvalid as error:
        raise TraceError(_csv_trouble(path, error)) from error
    return _Read(path, table.to_pandas(), _HEADER_ROWS, _unused(names))


def _csv_columns(path: Path) -> list[str]:
    """The header's names, after a look at whether it is one."""
    try:
        names = pd.read_csv(path, nrows=0, skipinitialspace=True).columns.tolist()
    except (ValueError, OSError) as error:
        raise TraceError(f"{path}: cannot be read as CSV ({error})") from error
    _check_columns(path, names)
    return names


def _csv_trouble(path: Path, error: pa.ArrowInvalid) -> str:
    """The first row that cannot be read, looked for in the slow way."""
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as row_error:  # pandas names the line, Arrow does not
        return f"{path}: cannot be read as CSV ({row_error})"
    for column in (name for name in COLUMNS if name != "user" and name in text.columns):
        wrong = np.flatnonzero(pd.to_numeric(text[column], errors="coerce").isna())
        if len(wrong):
            row = int(wrong[0])
            return (
                f"{path}, row {row + _HEADER_ROWS}: {column} is {text[column].iloc[row]!r}, which "
                f"is no number ({len(wrong)} such rows)"
            )
    return f"{path}: cannot be read as CSV ({error})"


def _parquet(path: Path) -> _Read:
    try:
        file = pq.ParquetFile(path)
        _check_columns(path, file.schema_arrow.names)
        names = file.schema_arrow.names
        frame = file.read(columns=[name for name in names if name in _KNOWN]).to_pandas()
    except pa.ArrowException as error:
        raise TraceError(f"{path}: cannot be read as Parquet ({error})") from error
    return _Read(path, frame, 0, _unused(names))


_KNOWN = {*COLUMNS, *LABEL_COLUMNS, "time"}


def _unused(names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in _KNOWN)


def _check_columns(path: Path, names: list[str]) -> None:
    there = {"time_s" if name == "time" else name for name in names}
    missing = [name for name in NEEDED if name not in there]
    if missing:
        raise TraceError(
            f"{path}: lacks the columns {', '.join(missing)}; it has {', '.join(names)}. A trace "
            f"needs {', '.join(NEEDED)} (or time, as 2008-05-01T10:00:00Z, for time_s)"
        )


def _one_table(
    reads: list[_Read], source: str, users: list[str] | None
) -> tuple[Trace, DatasetReport]:
    trace = pd.concat([_trace(read) for read in reads], ignore_index=True)
    if len(reads) > 1:
        order = np.argsort(pd.factorize(trace["user"])[0], kind="stable")
        trace = check_trace(trace.iloc[order])
    if users is not None:
        there = [str(user) for user in trace["user"].unique()]
        missing = [user for user in users if user not in there]
        if missing:
            raise DataNotFoundError(
                f"{source}: no user {', '.join(missing)}; there are {', '.join(there[:20])}"
                f"{' and more' if len(there) > 20 else ''}"  # noqa: PLR2004
            )
        trace = trace.loc[trace["user"].isin(users)].reset_index(drop=True)
    unused = dict.fromkeys(name for read in reads for name in read.unused)
    report = summarize(trace, source)
    return trace, dataclasses.replace(
        report,
        files=len(reads),
        problems=tuple(f"{source}: column {name} is not used" for name in unused),
    )


def _trace(read: _Read) -> Trace:
    frame = read.frame
    if frame.empty:
        raise TraceError(f"{read.path}: holds no fix")
    if "time_s" not in frame.columns:
        frame = frame.assign(time_s=_epoch_s(read))
    _check_filled(read, frame)
    frame = frame.assign(user=frame["user"].astype(str))
    for column in ("track", "mode"):
        if column in frame.columns and frame[column].isna().any():
            frame[column] = frame[column].astype(object).fillna("").astype(str)
    order = np.argsort(pd.factorize(frame["user"])[0], kind="stable")
    frame = frame.iloc[order].reset_index(drop=True)
    _check_values(read, frame, order)
    time, lat, lon = (frame[name].to_numpy(float) for name in ("time_s", "lat_deg", "lon_deg"))
    moved = motion(time, lat, lon, stretch_begins(frame))
    for column, values in zip(("speed_mps", "heading_deg"), moved, strict=True):
        if column not in frame.columns:
            frame[column] = values
    if "segment" in frame.columns:
        frame["segment"] = frame["segment"].astype(np.int32)
    return check_trace(frame)


def _check_filled(read: _Read, frame: pd.DataFrame) -> None:
    """Name the first row of the file in which a column is empty; track and mode may be."""
    for column in (name for name in (*COLUMNS, "segment") if name in frame.columns):
        nothing = frame[column].isna()
        if not pd.api.types.is_numeric_dtype(frame[column]):
            nothing |= frame[column].astype(str) == ""
        empty = np.flatnonzero(nothing)
        if len(empty):
            raise TraceError(
                f"{read.path}, row {int(empty[0]) + read.row}: {column} is empty ({len(empty)} "
                "such rows)"
            )


def _check_values(read: _Read, frame: pd.DataFrame, order: NDArray[np.intp]) -> None:
    """Name the first row of the file that cannot be part of a trace."""
    for column, lowest, highest in BOUNDS:
        if column not in frame.columns:
            continue
        try:
            values = frame[column].to_numpy(dtype=float)
        except (TypeError, ValueError) as error:
            raise TraceError(f"{read.path}: column {column} holds no numbers ({error})") from error
        wrong = np.flatnonzero(~((values >= lowest) & (values <= highest)))
        if len(wrong):
            row = int(order[wrong].min())
            value = values[np.flatnonzero(order == row)[0]]
            raise TraceError(
                f"{read.path}, row {row + read.row}: {column} is {value:g}, which is not between "
                f"{lowest:g} and {highest:g} ({len(wrong)} such rows)"
            )
    same = np.diff(pd.factorize(frame["user"])[0]) == 0
    late = np.flatnonzero(same & (np.diff(frame["time_s"].to_numpy(dtype=float)) <= 0))
    if len(late):
        at = int(late[0]) + 1
        raise TraceError(
            f"{read.path}, row {order[at] + read.row}: time_s of user {frame['user'].iloc[at]} "
            f"does not grow ({len(late)} such rows). Sort the file by time and drop duplicates"
        )


def _epoch_s(read: _Read) -> "pd.Series[float]":
    """Seconds since 1970 from ISO 8601 timestamps, all of which name their zone."""
    column = read.frame["time"]
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        times = column
    else:
        text = column.astype(str)
        times = pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601")
        zoned = text.str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", regex=True)
        wrong = np.flatnonzero(times.isna() | ~zoned)
        if len(wrong):
            row = int(wrong[0])
            raise TraceError(
                f"{read.path}, row {row + read.row}: time is {text.iloc[row]!r}; write it with its "
                f"zone, as 2008-05-01T10:00:00Z ({len(wrong)} such rows)"
            )
    return (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(1, "s")
