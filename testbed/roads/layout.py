"""Map, cells and tiers as a scenario asks for them."""

from collections.abc import Iterable
from pathlib import Path

from testbed import geography as words
from testbed.roads.cells import Cells, hexagonal_cells
from testbed.roads.load import find_road_map, load_road_map
from testbed.roads.network import RoadMap
from testbed.roads.sources.download import OsmServers
from testbed.roads.sources.osm import BoxDeg
from testbed.roads.stations import Station, find_stations, read_stations, station_cells
from testbed.roads.tiers import Tiers, grouped_tiers, hexagonal_tiers, placed_tiers


def map_of(
    asked: words.MapSource,
    *,
    cache: Path | None = None,
    data_paths: Iterable[Path] = (),
    servers: OsmServers | None = None,
) -> RoadMap:
    """The road map of a scenario's ``map``.

    Raises
    ------
    DataNotFoundError, MapError
        As `load_road_map`.
    """
    return load_road_map(
        asked.source,
        place=asked.place,
        box=_box(asked),
        mode=asked.mode,
        cache=cache,
        data_paths=data_paths,
        servers=servers,
    )


def map_file(
    asked: words.MapSource, *, cache: Path | None = None, data_paths: Iterable[Path] = ()
) -> Path:
    """The file behind a scenario's ``map``, for programs that read it themselves (SUMO's).

    Raises
    ------
    DataNotFoundError, MapError
        As `find_road_map`.
    """
    return find_road_map(
        asked.source,
        data_paths,
        place=asked.place,
        box=_box(asked),
        downloads=None if cache is None else cache / "downloads",
    )


def cells_of(asked: words.Cells, roads: RoadMap, data_paths: Iterable[Path] = ()) -> Cells:
    """The base stations of a scenario's ``cells``.

    Raises
    ------
    DataNotFoundError, MapError
        If the list is missing, malformed or does not lie on the map.
    """
    stations, where = _listed(asked, "cells", data_paths)
    if stations is None:
        return hexagonal_cells(roads, asked.separation)
    return station_cells(roads, stations, where=where)


def tiers_of(
    asked: words.Tiers, roads: RoadMap, cells: Cells, data_paths: Iterable[Path] = ()
) -> Tiers:
    """The tiers of a scenario's ``tiers`` above its cells.

    Raises
    ------
    DataNotFoundError, MapError
        If a list is missing, malformed or does not lie on the map, or does not fit the cells.
    """
    regional = asked.regional
    if regional.groups is not None:
        return grouped_tiers(cells, regional.groups)
    stations, where = _listed(regional, "tiers.regional", data_paths)
    if stations is not None:
        return placed_tiers(roads, cells, stations, where=where)
    return hexagonal_tiers(
        roads, cells, regional.separation or words.REGIONAL_TIMES * cells.separation_m
    )


def _listed(
    asked: words.Cells | words.Regional, key: str, data_paths: Iterable[Path]
) -> tuple[tuple[Station, ...] | None, str]:
    """Stations in the scenario or in the file that it names, and where they stand written."""
    if asked.stations is not None:
        found = tuple(Station(s.name, s.lat_deg, s.lon_deg) for s in asked.stations)
        return found, f"{key}.stations"
    if asked.file is not None:
        path = find_stations(asked.file, data_paths)
        return read_stations(path), str(path)
    return None, key


def _box(asked: words.MapSource) -> BoxDeg | None:
    box = asked.box
    return None if box is None else (box.west, box.south, box.east, box.north)
