"""The results tables as Parquet schemas, derived from the record classes and nothing else."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from testbed.records import TABLES

_TYPES: dict[Any, pa.DataType] = {
    float: pa.float64(),
    int: pa.int64(),
    str: pa.string(),
    bool: pa.bool_(),
}
_UNITS = {
    "s": "s",
    "deg": "°",
    "m": "m",
    "mps": "m/s",
    "bps": "bit/s",
    "dbm": "dBm",
    "bytes": "B",
    "loss": "share",
    "probability": "share",
}
TABLE_OF = {record: name for name, record in TABLES.items()}
"""The table that a record class is stored in."""


def unit_of(column: str) -> str:
    """Unit that a column's name carries, empty where it carries none."""
    return _UNITS.get(column.rsplit("_", 1)[-1], "")


def schema_of(table: str) -> pa.Schema:
    """Parquet schema of a results table; the metadata holds its description and units."""
    record = TABLES[table]
    types = typing.get_type_hints(record)
    columns = [
        pa.field(
            column.name,
            _TYPES[types[column.name]],
            nullable=False,
            metadata={"unit": unit} if (unit := unit_of(column.name)) else None,
        )
        for column in dataclasses.fields(record)
    ]
    return pa.schema(columns, metadata={"description": (record.__doc__ or "").split("\n\n")[0]})


def table_of(table: str, records: Sequence[Any]) -> pa.Table:
    """Records as one Arrow table, a column per field."""
    schema = schema_of(table)
    columns = [
        pa.array([getattr(record, field.name) for record in records], type=field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
