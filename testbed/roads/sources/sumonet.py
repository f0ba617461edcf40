"""Roads out of SUMO networks (``.net.xml``, ``.net.xml.gz``), with the turns SUMO allows."""

from pathlib import Path
from typing import Any
from xml.sax import SAXException

import sumolib

from testbed.errors import DataNotFoundError, MapError
from testbed.roads.modes import RULES, TravelMode, usual_mps
from testbed.roads.sources.assemble import Piece, Pieces
from testbed.roads.sources.osm import BoxDeg


def berlin_net() -> Path:
    """Path of the Berlin network inside the ``eclipse-sumo`` wheel (OSM data, ODbL).

    Raises
    ------
    DataNotFoundError
        If the wheel is not installed or lays its files out differently.
    """
    try:
        import sumo  # noqa: PLC0415 - only the default map needs it
    except ImportError as error:
        raise DataNotFoundError(
            "map `berlin` lies in the eclipse-sumo wheel, which is not installed. "
            "`pip install eclipse-sumo`"
        ) from error
    path = Path(sumo.SUMO_HOME) / "tools" / "game" / "DRT" / "osm.net.xml"
    if not path.is_file():
        raise DataNotFoundError(
            f"{path}: map `berlin` is not in this version of eclipse-sumo. `pip install "
            "eclipse-sumo==1.28.0 sumo-data==1.28.0`, or name another map in the scenario"
        )
    return path


def read_sumo_net(path: Path, box: BoxDeg | None = None, mode: TravelMode = "driving") -> Pieces:
    """Read the edges that cars (bicycles, pedestrians) may use, and the turns between them.

    An edge's polyline runs from junction to junction: SUMO cuts its shapes off at the junctions'
    borders, here both nodes are put back on. Pedestrians may use an edge in either direction and
    turn everywhere.

    Raises
    ------
    MapError
        If the file is not a SUMO network or says nothing about where on earth it lies.
    """
    try:
        net: Any = sumolib.net.readNet(str(path), withInternal=False)
    except (SAXException, OSError, KeyError, ValueError, EOFError) as error:
        raise MapError(
            f"{path}: cannot be read as a SUMO network ({error}). `netconvert` writes them"
        ) from error
    if not net.hasGeoProj():
        raise MapError(
            f"{path}: has no geographic projection, so positions in degrees cannot be placed on "
            "it. Build it with `netconvert --osm-files ... --proj.utm`"
        )
    vehicle_class = RULES[mode].sumo_class
    pieces = Pieces(turns=set())
    index: dict[str, int] = {}
    for edge in net.getEdges(withInternal=False):
        if not edge.allows(vehicle_class):
            pieces.drop(f"edges closed to SUMO's class {vehicle_class}")
            continue
        lonlat = [net.convertXY2LonLat(x, y) for x, y in edge.getShape(includeJunctions=True)]
        if box is not None and not _inside(lonlat, box):
            pieces.drop("edges outside the box")
            continue
        index[edge.getID()] = len(pieces.roads)
        pieces.roads.append(
            Piece(
                edge_id=edge.getID(),
                tail=edge.getFromNode().getID(),
                head=edge.getToNode().getID(),
                lat_deg=tuple(lat for _, lat in lonlat),
                lon_deg=tuple(lon for lon, _ in lonlat),
                road_class=edge.getType().removeprefix("highway.").split("|")[0],
                street=edge.getName() or "",
                limit_mps=_limit_mps(edge.getSpeed(), mode),
            )
        )
    if mode == "walking":
        pieces.turns = None
        pieces.roads += [
            road.reversed() for road in pieces.roads if _other_way(road.edge_id) not in index
        ]
    else:
        pieces.turns = _turns(net, index, vehicle_class)
    return pieces


def _limit_mps(lane_mps: float, mode: TravelMode) -> float:
    """What the net says for cars; SUMO does not know how fast others are there."""
    return float(lane_mps) if mode == "driving" else min(float(lane_mps), usual_mps("road", mode))


def _other_way(name: str) -> str:
    """SUMO's name for the same street in the other direction."""
    return name.removeprefix("-") if name.startswith("-") else f"-{name}"


def _turns(net: Any, index: dict[str, int], vehicle_class: str) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for name, before in index.items():
        for target, connections in net.getEdge(name).getOutgoing().items():
            after = index.get(target.getID())
            if after is not None and any(
                c.getFromLane().allows(vehicle_class) and c.getToLane().allows(vehicle_class)
                for c in connections
            ):
                found.add((before, after))
    return found


def _inside(lonlat: list[tuple[float, float]], box: BoxDeg) -> bool:
    west, south, east, north = box
    return all(west <= lon <= east and south <= lat <= north for lon, lat in lonlat)
