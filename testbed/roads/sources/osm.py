"""Roads out of OpenStreetMap files: ``.osm``, ``.osm.gz``, ``.osm.bz2`` and ``.pbf``."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import osmium

from testbed.errors import MapError
from testbed.roads.modes import RULES, TravelMode, direction, usual_mps, why_left_out
from testbed.roads.sources.assemble import Piece, Pieces
from testbed.roads.sources.restrictions import Member, Restriction, forbid, understand

BoxDeg = tuple[float, float, float, float]
"""West, south, east, north."""

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


@dataclass
class _Found:
    """What one pass over a file brings."""

    pieces: Pieces = field(default_factory=Pieces)
    ways: list[_Way] = field(default_factory=list)
    restrictions: list[Restriction] = field(default_factory=list)


def read_osm(path: Path, box: BoxDeg | None = None, mode: TravelMode = "driving") -> Pieces:
    """Read the roads of an OSM file, split where ways share a node.

    Parameters
    ----------
    path : Path
        An OSM file in any format that osmium reads.
    box : tuple, optional
        West, south, east, north in degrees; pieces with both ends inside are kept.
    mode : {"driving", "cycling", "walking"}
        Whose roads (see `testbed.roads.modes`).

    Raises
    ------
    MapError
        If the file is not OSM data or is broken.
    """
    found = _Found()
    try:
        _read(path, box, mode, found)
    except (RuntimeError, ValueError) as error:
        raise MapError(
            f"{path}: cannot be read as OpenStreetMap data ({error}). Is it whole, and does its "
            "name end in .osm, .osm.gz, .osm.bz2 or .pbf as its content does?"
        ) from error
    pieces = found.pieces
    used = Counter(node for way in found.ways for node, _, _ in way.nodes)
    for way in found.ways:
        for run in _between_junctions(way, used):
            if way.direction >= 0:
                pieces.roads.append(_piece(way, run))
            if way.direction <= 0:
                pieces.roads.append(_piece(way, run[::-1]))
    forbid(pieces, found.restrictions)
    return pieces


def _read(path: Path, box: BoxDeg | None, mode: TravelMode, found: _Found) -> None:
    turns = [key for tag in RULES[mode].restriction for key in (tag, f"{tag}:conditional")]
    roads_and_turns = osmium.filter.KeyFilter("highway", *turns)
    for entity in osmium.FileProcessor(str(path)).with_locations().with_filter(roads_and_turns):
        tags = {tag.k: tag.v for tag in entity.tags}
        if isinstance(entity, osmium.osm.Way) and "highway" in tags:
            found.ways.extend(_ways(entity, tags, box, mode, found.pieces))
        elif isinstance(entity, osmium.osm.Relation) and tags.get("type") == "restriction":
            members = [Member(m.role, m.type, m.ref) for m in entity.members]
            restriction = understand(tags, members, mode, found.pieces)
            if restriction is not None:
                found.restrictions.append(restriction)


def _ways(
    entity: osmium.osm.Way,
    tags: dict[str, str],
    box: BoxDeg | None,
    mode: TravelMode,
    pieces: Pieces,
) -> Iterator[_Way]:
    """The parts of one OSM way that lie in the box, or nothing where it is left out."""
    reason = why_left_out(tags, mode)
    if reason is not None:
        pieces.drop(reason)
        return
    nodes = [(n.ref, n.lat, n.lon) for n in entity.nodes if n.location.valid()]
    nodes = [n for n, _ in itertools.groupby(nodes)]
    for run in _inside(nodes, box):
        yield _Way(
            way_id=str(entity.id),
            nodes=tuple(run),
            road_class=tags["highway"],
            street=tags.get("name", ""),
            limit_mps=limit_mps(tags.get("maxspeed"), tags["highway"], mode),
            direction=direction(tags, mode),
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


def limit_mps(maxspeed: str | None, road_class: str, mode: TravelMode) -> float:
    """The tagged speed where it counts for the mode and can be read, else the usual one."""
    usual = usual_mps(road_class, mode)
    match = _NUMBER.match(maxspeed or "")
    if match is None or float(match[1]) == 0:
        return usual
    tagged = float(match[1]) * (_MPH if match[2] == "mph" else _KMH)
    return tagged if RULES[mode].obeys_maxspeed else min(usual, tagged)


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
