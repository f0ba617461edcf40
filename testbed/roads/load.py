"""Find a road map by name, read it, and keep what was read for the next time."""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import DataNotFoundError, MapError
from testbed.roads.assemble import assemble
from testbed.roads.network import RoadMap
from testbed.roads.osm import BoxDeg, read_osm
from testbed.roads.projection import Projection
from testbed.roads.sumonet import berlin_net, read_sumo_net

BERLIN = "berlin"
_OSM_ENDINGS = (".osm", ".osm.gz", ".osm.bz2", ".pbf")
_SUMO_ENDINGS = (".net.xml", ".net.xml.gz")
_LAYOUT = 2
"""Raised whenever a reader or the stored layout changes, so that old caches are not used."""


def load_road_map(
    source: str | Path,
    *,
    box: BoxDeg | None = None,
    cache: Path | None = None,
    data_paths: Iterable[Path] = (),
) -> RoadMap:
    """Load a road map.

    Parameters
    ----------
    source : str or Path
        ``"berlin"`` (in the eclipse-sumo wheel), or a file: ``.osm``, ``.osm.gz``, ``.osm.bz2``,
        ``.pbf``, ``.net.xml`` or ``.net.xml.gz``.
    box : tuple, optional
        West, south, east and north in degrees; only roads inside are kept.
    cache : Path, optional
        Folder for what was read, by content hash; without one the source is read every time.
    data_paths : iterable of Path
        Folders in which a relative source is looked for before the current one.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    MapError
        If it cannot be read or holds no road.
    """
    path = find_road_map(source, data_paths)
    if box is not None and not (box[0] < box[2] and box[1] < box[3]):
        raise MapError(
            f"box {box}: west must be less than east and south less than north, in degrees"
        )
    name = BERLIN if str(source) == BERLIN else path.name
    stored = None if cache is None else Path(cache) / f"roads-{_key(path, box)}.npz"
    if stored is not None:
        roads = _read_stored(stored, name)
        if roads is not None:
            return roads
    if path.name.endswith(_SUMO_ENDINGS):
        pieces = read_sumo_net(path, box)
    elif path.name.endswith(_OSM_ENDINGS):
        pieces = read_osm(path, box)
    else:
        raise MapError(
            f"{path}: unknown kind of road map. Known endings: "
            f"{', '.join(_OSM_ENDINGS + _SUMO_ENDINGS)}"
        )
    roads = assemble(name, pieces)
    if stored is not None:
        _store(roads, stored)
    return roads


def find_road_map(source: str | Path, data_paths: Iterable[Path] = ()) -> Path:
    """Path of the file behind a map's name.

    Raises
    ------
    DataNotFoundError
        With every place that was looked in.
    """
    if str(source) == BERLIN:
        return berlin_net()
    tried = [folder / Path(source) for folder in (*map(Path, data_paths), Path())]
    for path in tried:
        if path.is_file():
            return path
    places = ", ".join(str(path) for path in dict.fromkeys(tried))
    raise DataNotFoundError(
        f"map {str(source)!r} is not on this machine; looked for {places}. Give its path, put it "
        "under TESTBED_DATA, or use the map `berlin`, which needs no download"
    )


def _key(path: Path, box: BoxDeg | None) -> str:
    digest = hashlib.sha256(path.read_bytes())
    digest.update(f"{_LAYOUT} {path.suffixes} {box}".encode())
    return digest.hexdigest()[:16]


def _store(roads: RoadMap, path: Path) -> None:
    """Write the map so that a reader never sees half a file."""
    arrays = {
        f.name: getattr(roads, f.name)
        for f in dataclasses.fields(roads)
        if isinstance(getattr(roads, f.name), np.ndarray)
    }
    about = json.dumps(
        {
            "origin": [roads.projection.lat_deg, roads.projection.lon_deg],
            "dropped": roads.dropped,
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, about=np.array(about), **arrays)
        Path(unfinished).replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(unfinished).unlink()


def _read_stored(path: Path, name: str) -> RoadMap | None:
    """Read a stored map, or ``None`` where there is none or it is damaged (it is then remade)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, Any] = {key: stored[key] for key in stored.files}
        about = json.loads(str(arrays.pop("about")))
        return RoadMap(
            name=name,
            projection=Projection(*about["origin"]),
            dropped=about["dropped"],
            **arrays,
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
