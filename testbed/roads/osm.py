"""Roads out of OpenStreetMap files: ``.osm``, ``.osm.gz``, ``.osm.bz2`` and ``.pbf``."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import osmium

from testbed.errors import MapError
from testbed.roads.assemble import Piece, Pieces

BoxDeg = tuple[float, float, float, float]
"""West, south, east, north."""

USUAL_KMH: dict[str, float] = {
    "motorway": 100, "motorway_link": 60, "trunk": 80, "trunk_link": 50, "primary": 60,
    "primary_link": 40, "secondary": 50, "secondary_link": 40, "tertiary": 40,
    "tertiary_link": 30, "unclassified": 40, "residential": 30, "living_street": 15,
    "service": 20, "road": 40, "track": 20, "access_ramp": 30, "busway": 40, "bus_guideway": 40,
}  # fmt: skip
"""Road classes a wheeled user may drive on, and the speed usual there where none is tagged."""

_NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(mph|km/h|kmh)?\s*$")
_KMH = 1 / 3.6
_MPH = 0.44704


@dataclass(frozen=True)
class _Way:
    """The part of an OSM way that matters here; ``direction`` is 1, -1, or 0 for both."""

    way_id: str
    nodes: tuple[tuple[int, float, float], ...]
    road_class: str
    street: str
    limit_mps: float
    direction: int


def read_osm(path: Path, box: BoxDeg | None = None) -> Pieces:
    """Read the roads of an OSM file, split where ways share a node.

    Parameters
    ----------
    path : Path
        An OSM file in any format that osmium reads.
    box : tuple, optional
        West, south, east, north in degrees; pieces with both ends inside are kept.

    Raises
    ------
    MapError
        If the file is not OSM data or is broken.
    """
    pieces = Pieces()
    try:
        ways = list(_ways(path, box, pieces))
    except (RuntimeError, ValueError) as error:
        raise MapError(
            f"{path}: cannot be read as OpenStreetMap data ({error}). Is it whole, and does its "
            "name end in .osm, .osm.gz, .osm.bz2 or .pbf as its content does?"
        ) from error
    used = Counter(node for way in ways for node, _, _ in way.nodes)
    for way in ways:
        for run in _between_junctions(way, used):
            if way.direction >= 0:
                pieces.roads.append(_piece(way, run))
            if way.direction <= 0:
                pieces.roads.append(_piece(way, run[::-1]))
    return pieces


def _ways(path: Path, box: BoxDeg | None, pieces: Pieces) -> Iterator[_Way]:
    for entity in osmium.FileProcessor(str(path)).with_locations():
        if not isinstance(entity, osmium.osm.Way):
            continue
        tags = entity.tags
        road_class = tags.get("highway")
        if road_class is None:
            continue
        if road_class not in USUAL_KMH:
            pieces.drop(f"highway={road_class}")
        elif tags.get("area") == "yes":
            pieces.drop("areas")
        elif "no" in (tags.get("motor_vehicle"), tags.get("access")):
            pieces.drop("closed to vehicles")
        else:
            nodes = [(n.ref, n.lat, n.lon) for n in entity.nodes if n.location.valid()]
            nodes = [n for n, _ in itertools.groupby(nodes)]
            for run in _inside(nodes, box):
                yield _Way(
                    way_id=str(entity.id),
                    nodes=tuple(run),
                    road_class=road_class,
                    street=tags.get("name") or "",
                    limit_mps=_limit_mps(tags.get("maxspeed"), road_class),
                    direction=_direction(tags.get("oneway"), tags.get("junction"), road_class),
                )


def _inside(
    nodes: list[tuple[int, float, float]], box: BoxDeg | None
) -> Iterator[list[tuple[int, float, float]]]:
    """Runs of at least two consecutive nodes inside the box."""

    def here(node: tuple[int, float, float]) -> bool:
        if box is None:
            return True
        west, south, east, north = box
        return south <= node[1] <= north and west <= node[2] <= east

    for inside, group in itertools.groupby(nodes, key=here):
        run = list(group)
        if inside and len(run) > 1:
            yield run


def _direction(oneway: str | None, junction: str | None, road_class: str) -> int:
    """OSM's rules: an explicit tag counts, roundabouts and motorways are one-way without one."""
    if oneway in {"yes", "true", "1"}:
        return 1
    if oneway in {"-1", "reverse"}:
        return -1
    if oneway is None and (
        junction in {"roundabout", "circular"} or road_class in {"motorway", "motorway_link"}
    ):
        return 1
    return 0


def _limit_mps(maxspeed: str | None, road_class: str) -> float:
    match = _NUMBER.match(maxspeed or "")
    if match is None or float(match[1]) == 0:
        return USUAL_KMH[road_class] * _KMH
    return float(match[1]) * (_MPH if match[2] == "mph" else _KMH)


def _between_junctions(
    way: _Way, used: Counter[int]
) -> Iterator[tuple[tuple[int, float, float], ...]]:
    start = 0
    for index in range(1, len(way.nodes)):
        if index == len(way.nodes) - 1 or used[way.nodes[index][0]] > 1:
            yield way.nodes[start : index + 1]
            start = index


def _piece(way: _Way, run: tuple[tuple[int, float, float], ...]) -> Piece:
    return Piece(
        edge_id=way.way_id,
        tail=run[0][0],
        head=run[-1][0],
        lat_deg=tuple(lat for _, lat, _ in run),
        lon_deg=tuple(lon for _, _, lon in run),
        road_class=way.road_class,
        street=way.street,
        limit_mps=way.limit_mps,
    )
