"""Roads out of SUMO networks (``.net.xml``, ``.net.xml.gz``), with the turns SUMO allows."""

from pathlib import Path
from typing import Any
from xml.sax import SAXException

import sumolib

from testbed.errors import DataNotFoundError, MapError
from testbed.roads.assemble import Piece, Pieces
from testbed.roads.osm import BoxDeg

VEHICLE_CLASS = "passenger"


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


def read_sumo_net(path: Path, box: BoxDeg | None = None) -> Pieces:
    """Read the edges that cars may use, and the turns between them.

    An edge's polyline runs from junction to junction: SUMO cuts its shapes off at the junctions'
    borders, here both nodes are put back on.

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
    pieces = Pieces(turns=set())
    index: dict[str, int] = {}
    for edge in net.getEdges(withInternal=False):
        if not edge.allows(VEHICLE_CLASS):
            pieces.drop(f"edges closed to {VEHICLE_CLASS} cars")
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
                limit_mps=edge.getSpeed(),
            )
        )
    pieces.turns = _turns(net, index)
    return pieces


def _turns(net: Any, index: dict[str, int]) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for name, before in index.items():
        for target, connections in net.getEdge(name).getOutgoing().items():
            after = index.get(target.getID())
            if after is not None and any(_for_cars(c) for c in connections):
                found.add((before, after))
    return found


def _for_cars(connection: Any) -> bool:
    return bool(
        connection.getFromLane().allows(VEHICLE_CLASS)
        and connection.getToLane().allows(VEHICLE_CLASS)
    )


def _inside(lonlat: list[tuple[float, float]], box: BoxDeg) -> bool:
    west, south, east, north = box
    return all(west <= lon <= east and south <= lat <= north for lon, lat in lonlat)
