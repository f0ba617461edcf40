"""The folder in which a run keeps what it measured: a manifest and one Parquet file per table.

The folder can be read at any time of a run's life. Its manifest says ``running`` from the start and
how the run ended at the end; every file is written under another name and then renamed, so that a
killed run leaves the last flushed state and never half a file.
"""

import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from testbed.errors import ResultsError
from testbed.measurement import summary
from testbed.measurement.schema import TABLE_OF, schema_of, table_of
from testbed.records import TABLES, RunManifest

MANIFEST = "manifest.json"
RUNNING = "running"
FINISHED = "finished"


class ResultsWriter:
    """Collects a run's records and keeps them in a folder; safe to use from several threads.

    Parameters
    ----------
    folder : str or Path
        Where to; made if need be. It must not hold another run.
    manifest : RunManifest
        What is known about the run at its start.

    Raises
    ------
    ResultsError
        If the folder already holds a run.
    """

    def __init__(self, folder: str | Path, manifest: RunManifest) -> None:
        self.folder = Path(folder)
        self.manifest = dataclasses.replace(manifest, outcome=RUNNING)
        self._records: dict[str, list[Any]] = {name: [] for name in TABLES}
        self._changed = set(TABLES)
        self._lock = threading.RLock()
        self._closed = False
        if (self.folder / MANIFEST).exists():
            raise ResultsError(
                f"{self.folder} already holds a run; give each run a folder of its own"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_manifest()
        self.flush()

    def __enter__(self) -> Self:
        """Nothing more to start; the run began when the writer was made."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close with an outcome that says whether, and by what, the run was cut short."""
        if self._closed:
            return
        self.close(FINISHED if kind is None else f"failed: {kind.__name__}: {error}")

    def add(self, record: object) -> None:
        """Keep one record, of any class in `testbed.records.TABLES`.

        Raises
        ------
        TypeError
            If there is no table for it.
        ResultsError
            If the results are closed.
        """
        table = TABLE_OF.get(type(record))
        if table is None:
            raise TypeError(
                f"{type(record).__name__} has no results table; use one of "
                f"{', '.join(known.__name__ for known in TABLE_OF)}"
            )
        with self._lock:
            self._refuse_if_closed()
            self._records[table].append(record)
            self._changed.add(table)

    def records(self, table: str) -> list[Any]:
        """Everything added to a table so far."""
        with self._lock:
            return list(self._records[table])

    def replace(self, table: str, records: Iterable[Any]) -> None:
        """Put other records in place of a table's, as when the users' logs complete migrations."""
        with self._lock:
            self._refuse_if_closed()
            self._records[table] = []
            self._changed.add(table)
            for record in records:
                self.add(record)

    def add_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Keep a table beside the records', such as the ``cells`` and ``roads`` of a map.

        Raises
        ------
        ValueError
            If the name is that of a records' table.
        """
        if name in TABLES:
            raise ValueError(f"{name} is a table of records; add those one by one")
        with self._lock:
            self._refuse_if_closed()
            table = pa.Table.from_pandas(frame, preserve_index=False)
            _write_whole(self.folder / f"{name}.parquet", lambda path: pq.write_table(table, path))

    def flush(self) -> None:
        """Write every table that has changed since the last time."""
        with self._lock:
            for name in sorted(self._changed):
                table = table_of(name, self._records[name])
                _write_whole(self.folder / f"{name}.parquet", _parquet_writer(table))
            self._changed.clear()

    def close(self, outcome: str = FINISHED, **changes: Any) -> "Run":
        """Write everything, then how the run ended, and return it for reading.

        Parameters
        ----------
        outcome : str
            ``"finished"``, or what cut it short.
        **changes
            Fields of the manifest that are only known now: ``duration_s``, ``clock_jumps``.

        Raises
        ------
        ResultsError
            If the results are closed already.
        """
        with self._lock:
            self._refuse_if_closed()
            self.flush()
            self.manifest = dataclasses.replace(self.manifest, outcome=outcome, **changes)
            self._write_manifest()
            self._closed = True
        return Run.open(self.folder)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ResultsError(f"{self.folder}: the run is closed ({self.manifest.outcome})")

    def _write_manifest(self) -> None:
        text = json.dumps(dataclasses.asdict(self.manifest), indent=2, ensure_ascii=False)
        _write_whole(
            self.folder / MANIFEST, lambda path: path.write_text(text + "\n", encoding="utf-8")
        )


class Run:
    """A run that was stored, or is being stored: its manifest, and its tables as DataFrames.

    Tables are read when they are first asked for. Open one with `Run.open`.

    Attributes
    ----------
    folder : Path
        Where it is stored.
    manifest : RunManifest
        What must be known to trust and repeat it.
    """

    def __init__(self, folder: Path, manifest: RunManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._frames: dict[str, pd.DataFrame] = {}

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a results folder.

        Raises
        ------
        ResultsError
            If it was not written by a run, or a table is missing.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder / MANIFEST)
        missing = [name for name in TABLES if not (folder / f"{name}.parquet").exists()]
        if missing:
            raise ResultsError(
                f"{folder}: {', '.join(f'{name}.parquet' for name in missing)} missing, though "
                "every run writes these. Copy the whole folder, or repeat the run"
            )
        return cls(folder, manifest)

    @property
    def fixes(self) -> pd.DataFrame:
        """Positions of the users, raw and on the road; see `testbed.records.FixRecord`."""
        return self._table("fixes")

    @property
    def predictions(self) -> pd.DataFrame:
        """Sites that may come next; see `testbed.records.PredictionRecord`."""
        return self._table("predictions")

    @property
    def plans(self) -> pd.DataFrame:
        """What was decided, and why; see `testbed.records.PlanRecord`."""
        return self._table("plans")

    @property
    def bindings(self) -> pd.DataFrame:
        """Which hosts played which sites; see `testbed.records.BindingRecord`."""
        return self._table("bindings")

    @property
    def handovers(self) -> pd.DataFrame:
        """Radio links from one base station to the next; see `testbed.records.HandoverRecord`."""
        return self._table("handovers")

    @property
    def migrations(self) -> pd.DataFrame:
        """One row per migration; see `testbed.records.MigrationRecord`."""
        return self._table("migrations")

    @property
    def phases(self) -> pd.DataFrame:
        """What each migration did, when and with how many bytes; `testbed.records.PhaseRecord`."""
        return self._table("phases")

    @property
    def requests(self) -> pd.DataFrame:
        """Every request as its user saw it; see `testbed.records.RequestRecord`."""
        return self._table("requests")

    @property
    def links(self) -> pd.DataFrame:
        """Emulated paths as requested, applied and measured; see `testbed.records.LinkRecord`."""
        return self._table("links")

    @property
    def hosts(self) -> pd.DataFrame:
        """The hosts of the lab; see `testbed.records.HostRecord`."""
        return self._table("hosts")

    def records(self, table: str) -> list[Any]:
        """A table's rows as the records that were added, for code that wants them typed."""
        record = TABLES[table]
        rows = self._table(table).to_dict("records")
        return [record(**{str(column): value for column, value in row.items()}) for row in rows]

    def frame(self, name: str) -> pd.DataFrame | None:
        """Return a table that only some runs have, such as ``cells``, or None."""
        path = self.folder / f"{name}.parquet"
        if name not in self._frames and path.exists():
            self._frames[name] = _read_frame(path)
        return self._frames.get(name)

    def __str__(self) -> str:
        """One screen for a terminal."""
        return summary.text(self)

    def __repr__(self) -> str:
        """Which run it is, in one line."""
        return f"Run({str(self.folder)!r}, outcome={self.manifest.outcome!r})"

    def _repr_html_(self) -> str:
        return summary.html(self)

    def _table(self, name: str) -> pd.DataFrame:
        if name not in self._frames:
            path = self.folder / f"{name}.parquet"
            frame = _read_frame(path)
            columns = schema_of(name).names
            missing = [column for column in columns if column not in frame]
            if missing:
                raise ResultsError(
                    f"{path}: has no column {', '.join(missing)}. It was written by another "
                    f"version of the testbed ({self.manifest.versions.get('testbed', 'unknown')}); "
                    "read it with that one, or repeat the run"
                )
            self._frames[name] = frame[columns]
        return self._frames[name]


def _read_manifest(path: Path) -> RunManifest:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return RunManifest(**content)
    except OSError as error:
        raise ResultsError(
            f"{path.parent}: not a results folder, {MANIFEST} cannot be read ({error.strerror}). "
            "Name the folder that the run printed at its end"
        ) from error
    except (ValueError, TypeError) as error:
        raise ResultsError(
            f"{path}: not the manifest of a run ({error}). Restore the file, or repeat the run"
        ) from error


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise ResultsError(
            f"{path}: cannot be read ({error}). Copy the file again, or repeat the run"
        ) from error
    return frame


def _parquet_writer(table: pa.Table) -> Callable[[Path], object]:
    return lambda path: pq.write_table(table, path, compression="zstd")


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it there in one step."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
