"""Find a road map by name, read it, and keep what was read for the next time."""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import DataNotFoundError, MapError
from testbed.roads.modes import TravelMode, rule_for
from testbed.roads.network import RoadMap
from testbed.roads.projection import Projection
from testbed.roads.sources.assemble import Pieces, assemble
from testbed.roads.sources.download import OsmServers, download_osm
from testbed.roads.sources.graphml import read_graphml
from testbed.roads.sources.osm import BoxDeg, read_osm
from testbed.roads.sources.sumonet import berlin_net, read_sumo_net

BERLIN = "berlin"
OSM = "osm"
_OSM_ENDINGS = (".osm", ".osm.gz", ".osm.bz2", ".pbf")
_SUMO_ENDINGS = (".net.xml", ".net.xml.gz")
_GRAPH_ENDINGS = (".graphml", ".graphml.gz")
_READERS: tuple[
    tuple[tuple[str, ...], Callable[[Path, BoxDeg | None, TravelMode], Pieces]], ...
] = (
    (_SUMO_ENDINGS, read_sumo_net),
    (_OSM_ENDINGS, read_osm),
    (_GRAPH_ENDINGS, read_graphml),
)
_LAYOUT = 3
"""Raised whenever a reader or the stored layout changes, so that old caches are not used."""


def load_road_map(
    source: str | Path | None = None,
    *,
    place: str | None = None,
    box: BoxDeg | None = None,
    mode: TravelMode = "driving",
    cache: Path | None = None,
    data_paths: Iterable[Path] = (),
    servers: OsmServers | None = None,
) -> RoadMap:
    """Load a road map.

    Parameters
    ----------
    source : str or Path, optional
        ``"berlin"`` (in the eclipse-sumo wheel); a file: ``.osm``, ``.osm.gz``, ``.osm.bz2``,
        ``.pbf``, ``.net.xml``, ``.net.xml.gz``, ``.graphml`` or ``.graphml.gz``; or ``"osm"``,
        which downloads ``box`` from OpenStreetMap.
    place : str, optional
        In place of a source: a place to download from OpenStreetMap, ``"Kreuzberg, Berlin"``.
    box : tuple, optional
        West, south, east and north in degrees; only roads inside are kept.
    mode : {"driving", "cycling", "walking"}
        Whose roads (see `testbed.roads.modes`).
    cache : Path, optional
        Folder for what was downloaded, and for what was read, by content hash; without one it is
        done every time.
    data_paths : iterable of Path
        Folders in which a relative source is looked for before the current one.
    servers : OsmServers, optional
        Who is asked for a download.

    Raises
    ------
    DataNotFoundError
        If there is no such file, or it cannot be downloaded.
    MapError
        If it cannot be read or holds no road, or there is no such place or mode.
    """
    rule_for(mode)
    if box is not None and not (box[0] < box[2] and box[1] < box[3]):
        raise MapError(
            f"box {box}: west must be less than east and south less than north, in degrees"
        )
    with contextlib.ExitStack() as leaving:
        downloads = (
            Path(leaving.enter_context(tempfile.TemporaryDirectory()))
            if cache is None
            else Path(cache) / "downloads"
        )
        path = find_road_map(
            source, data_paths, place=place, box=box, downloads=downloads, servers=servers
        )
        name = BERLIN if str(source) == BERLIN else place or path.name
        return _load(path, name, box, mode, cache)


def _load(
    path: Path, name: str, box: BoxDeg | None, mode: TravelMode, cache: Path | None
) -> RoadMap:
    """Read a file, or what was made of the same content before."""
    reader = next((read for endings, read in _READERS if path.name.endswith(endings)), None)
    if reader is None:
        known = [ending for endings, _ in _READERS for ending in endings]
        raise MapError(f"{path}: unknown kind of road map. Known endings: {', '.join(known)}")
    stored = None if cache is None else Path(cache) / f"roads-{_key(path, box, mode)}.npz"
    if stored is not None:
        roads = _read_stored(stored, name)
        if roads is not None:
            return roads
    roads = assemble(name, reader(path, box, mode), mode)
    if stored is not None:
        _store(roads, stored)
    return roads


def find_road_map(
    source: str | Path | None,
    data_paths: Iterable[Path] = (),
    *,
    place: str | None = None,
    box: BoxDeg | None = None,
    downloads: Path | None = None,
    servers: OsmServers | None = None,
) -> Path:
    """Path of the file behind a map's name; a place or box is downloaded unless it was before.

    Parameters
    ----------
    source, data_paths, place, box, servers
        As for `load_road_map`.
    downloads : Path, optional
        Folder for downloads; without one nothing is downloaded.

    Raises
    ------
    DataNotFoundError
        With every place that was looked in.
    MapError
        If it is not said, or said twice, which map is meant.
    """
    if (source is None) == (place is None):
        raise MapError("a map is either a source (a file, `berlin`, `osm`) or a place; give one")
    if str(source) == BERLIN:
        return berlin_net()
    if source is None or str(source) == OSM:
        if place is None and box is None:
            raise MapError("map `osm`: give the box to download, in degrees, or name a place")
        if downloads is None:
            raise DataNotFoundError(f"there is no folder to download {place or box!r} to; name one")
        return download_osm(place or box or "", downloads, servers)
    tried = [folder / Path(source) for folder in (*map(Path, data_paths), Path())]
    for path in tried:
        if path.is_file():
            return path
    places = ", ".join(str(path) for path in dict.fromkeys(tried))
    raise DataNotFoundError(
        f"map {str(source)!r} is not on this machine; looked for {places}. Give its path, put it "
        "under TESTBED_DATA, or use the map `berlin`, which needs no download"
    )


def _key(path: Path, box: BoxDeg | None, mode: TravelMode) -> str:
    """What the map depends on: the file's content, how it is read, and which part of it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(f"{_LAYOUT} {path.suffixes} {box} {mode}".encode())
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
            "mode": roads.mode,
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
            mode=about["mode"],
            **arrays,
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
