"""Base stations (or regional servers) at given places: a list, or a CSV or Parquet file."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from testbed.errors import DataNotFoundError, MapError
from testbed.roads.cells import Cells
from testbed.roads.network import RoadMap

COLUMNS = ("name", "lat_deg", "lon_deg")
BEYOND_M = 2000.0
"""A station may stand so far outside the box around all roads: it may still cover some."""
_MOST_LAT_DEG, _MOST_LON_DEG = 90.0, 180.0
_SHOWN = 3


@dataclass(frozen=True)
class Station:
    """A named place, in degrees."""

    name: str
    lat_deg: float
    lon_deg: float


def find_stations(file: str | Path, data_paths: Iterable[Path] = ()) -> Path:
    """Path of a file with stations; a relative one is looked for in ``data_paths`` first.

    Raises
    ------
    DataNotFoundError
        With every place that was looked in.
    """
    tried = [folder / Path(file) for folder in (*map(Path, data_paths), Path())]
    for path in tried:
        if path.is_file():
            return path
    places = ", ".join(str(path) for path in dict.fromkeys(tried))
    raise DataNotFoundError(f"stations {str(file)!r} are not on this machine; looked for {places}")


def read_stations(path: Path) -> tuple[Station, ...]:
    """Read stations from a CSV or Parquet file with `COLUMNS`; others are not looked at.

    Raises
    ------
    MapError
        If the file cannot be read, a column is missing, or a row is no station.
    """
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, dtype={"name": str}, keep_default_na=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise MapError(
            f"{path}: cannot be read as {'Parquet' if path.suffix == '.parquet' else 'CSV'} "
            f"({error})"
        ) from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise MapError(
            f"{path}: has no column {', '.join(missing)}; stations need {', '.join(COLUMNS)} (it "
            f"has {', '.join(map(str, table.columns)) or 'none'})"
        )
    degrees = {c: pd.to_numeric(table[c], errors="coerce").to_numpy(float) for c in COLUMNS[1:]}
    for column, values in degrees.items():
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            row = int(wrong[0])
            raise MapError(
                f"{path}: row {row + 1}, {column}: {table[column].iloc[row]!r} is no number of "
                "degrees"
            )
    names = table["name"].astype(str)
    return tuple(map(Station, names, degrees["lat_deg"].tolist(), degrees["lon_deg"].tolist()))


def station_cells(roads: RoadMap, stations: Sequence[Station], *, where: str = "stations") -> Cells:
    """Cells around given base stations; all are kept, in the order given.

    Parameters
    ----------
    roads : RoadMap
        The map they stand on.
    stations : sequence of Station
        The base stations.
    where : str
        Where they were read, for messages.

    Raises
    ------
    MapError
        If there is none, names or places are not unique, or one stands outside the map.
    """
    check_stations(stations, where)
    lat = np.array([station.lat_deg for station in stations])
    lon = np.array([station.lon_deg for station in stations])
    x, y = roads.projection.to_xy(lat, lon)
    west, south, east, north = roads.extent_m
    beyond = np.hypot(
        np.maximum(0, np.maximum(west - x, x - east)),
        np.maximum(0, np.maximum(south - y, y - north)),
    )
    outside = np.flatnonzero(~(beyond <= BEYOND_M))
    if len(outside):
        box = roads.box_deg
        swapped = any(
            box[0] <= lat[i] <= box[2] and box[1] <= lon[i] <= box[3] for i in outside.tolist()
        )
        named = ", ".join(
            f"{stations[i].name} ({lat[i]:g}, {lon[i]:g})" for i in outside[:_SHOWN].tolist()
        )
        raise MapError(
            f"{where}: {len(outside)} of {len(stations)} stand more than {BEYOND_M / 1000:g} km "
            f"outside {roads.name}: {named}{'...' if len(outside) > _SHOWN else ''}. The map goes "
            f"from {box[1]:.4f} to {box[3]:.4f} north and {box[0]:.4f} to {box[2]:.4f} east"
            f"{'; are lat_deg and lon_deg swapped?' if swapped else ''}"
        )
    cells = Cells(
        tuple(s.name for s in stations), x, y, lat, lon, math.hypot(east - west, north - south)
    )
    if len(cells) > 1:
        nearest = cells.tree.query(np.column_stack((x, y)), k=2)[0][:, 1]
        cells = Cells(cells.names, x, y, lat, lon, float(np.median(nearest)))
    return cells


def check_stations(stations: Sequence[Station], where: str) -> None:
    """Raise `MapError` unless there are stations, each with a name and a place of its own."""
    if not stations:
        raise MapError(f"{where}: there is no station; give at least one")
    for station in stations:
        if not station.name.strip():
            raise MapError(
                f"{where}: the station at ({station.lat_deg:g}, {station.lon_deg:g}) has no name"
            )
        if not (abs(station.lat_deg) <= _MOST_LAT_DEG and abs(station.lon_deg) <= _MOST_LON_DEG):
            raise MapError(
                f"{where}: {station.name}: ({station.lat_deg}, {station.lon_deg}) are no degrees"
            )
    names = Counter(station.name for station in stations)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise MapError(
            f"{where}: {', '.join(twice[:_SHOWN])}: the name is given to several; names must be "
            "unique"
        )
    places: dict[tuple[float, float], str] = {}
    for station in stations:
        other = places.setdefault((station.lat_deg, station.lon_deg), station.name)
        if other != station.name:
            raise MapError(
                f"{where}: {other} and {station.name} stand at the same place; keep one of them"
            )
