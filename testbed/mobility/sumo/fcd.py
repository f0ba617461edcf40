"""SUMO's floating car data: where everybody was at every step, read into one table.

Parquet where SUMO can write it; reading XML takes about eight times as long.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from testbed.errors import TraceError

ATTRIBUTES = ("x", "y", "angle", "speed", "type")
"""What is asked of SUMO; time and id always come along."""
TRUTH = ("pos", "lane", "edge")
"""Asked for as well where the true place on the network is wanted."""

_NUMBERS = ("x", "y", "angle", "speed", "pos")
_NAMES = ("id", "type", "lane", "edge")


def fcd_options(output: Path, *, truth: bool) -> list[str]:
    """Options that let ``sumo`` write to ``output``, as its ending says."""
    wanted = (*ATTRIBUTES, *TRUTH) if truth else ATTRIBUTES
    return ["--fcd-output", str(output), "--fcd-output.attributes", ",".join(wanted)]


def read_fcd(path: Path) -> pd.DataFrame:
    """Read what SUMO wrote, vehicles and persons alike.

    Returns
    -------
    pandas.DataFrame
        ``time`` (s), ``id``, ``x`` and ``y`` (m, in the network's own coordinates), ``angle``
        (degrees clockwise from the network's north), ``speed`` (m/s) and ``type``; where the file
        has them, ``pos`` (m along the lane or edge) and ``edge`` (``:...`` inside junctions).
        Names are categorical.

    Raises
    ------
    TraceError
        If the file is not floating car data.
    """
    try:
        rows = _read_parquet(path) if path.suffix == ".parquet" else _read_xml(path)
    except (pa.ArrowException, ET.ParseError, OSError) as error:
        raise TraceError(
            f"{path.name}: cannot be read as SUMO's floating car data ({error}). Was the "
            "simulation ended before it had written all?"
        ) from error
    if "lane" in rows:
        rows["edge"] = _edges(rows)
        rows = rows.drop(columns="lane")
    return rows


def _read_parquet(path: Path) -> pd.DataFrame:
    file = pq.ParquetFile(path)
    there = [
        name for name in file.schema_arrow.names if _plain(name) in ("time", *_NUMBERS, *_NAMES)
    ]
    coded = [name for name in there if _plain(name) in _NAMES]
    table = pq.read_table(path, columns=there, read_dictionary=coded)
    table = table.rename_columns([_plain(name) for name in there])
    if "id" not in table.column_names:  # SUMO writes no column where nobody ever was
        return pd.DataFrame(columns=["time", "id", *ATTRIBUTES])
    # A step in which nobody is there is a row without a name.
    rows: pd.DataFrame = table.filter(pc.is_valid(table["id"])).to_pandas()
    return rows


def _plain(name: str) -> str:
    return name.removeprefix("timestep_").removeprefix("vehicle_").removeprefix("person_")


def _read_xml(path: Path) -> pd.DataFrame:
    rows: list[dict[str, float | str | None]] = []
    for _, step in ET.iterparse(path):  # noqa: S314 - SUMO wrote it just now
        if step.tag == "timestep":
            for one in step:
                row: dict[str, float | str | None] = {"time": float(step.get("time", "nan"))}
                row |= {key: float(one.get(key, "nan")) for key in _NUMBERS if key in one.keys()}  # noqa: SIM118
                row |= {key: one.get(key) for key in _NAMES}
                rows.append(row)
            step.clear()
    if not rows:
        return pd.DataFrame(columns=["time", "id", *ATTRIBUTES])
    read = pd.DataFrame(rows)
    return read.astype(dict.fromkeys(_NAMES, "category"))


def _edges(rows: pd.DataFrame) -> "pd.Series[str]":
    """The edge: a vehicle's lane names it, a person's row holds it."""
    lane = rows["lane"].astype("category")
    names = [str(name).rsplit("_", 1)[0] for name in lane.cat.categories]
    values = np.array([*names, ""], dtype=object)[lane.cat.codes.to_numpy()]
    if "edge" in rows:
        own = rows["edge"].astype("category")
        walked = np.array([*map(str, own.cat.categories), ""], dtype=object)
        values = np.where(lane.cat.codes.to_numpy() < 0, walked[own.cat.codes.to_numpy()], values)
    return pd.Series(values, index=rows.index, dtype="category")
