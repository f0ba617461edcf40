"""Roads out of GraphML files, as osmnx saves them (``ox.save_graphml``).

Simplified graphs bring their geometry as WKT, and lists of tags where several OSM ways were merged
into an edge; unsimplified ones have an edge from each point of a road to the next, which are joined
again. Graphs in degrees and in a projected plane are read. A graph knows no turn restrictions.
"""

import ast
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import pyproj
import shapely

from testbed.errors import MapError
from testbed.roads.modes import CLOSED, RULES, TravelMode, direction, why_left_out
from testbed.roads.sources.assemble import NodeId, Piece, Pieces
from testbed.roads.sources.joining import join_chains
from testbed.roads.sources.osm import BoxDeg, limit_mps

_DEGREES = "EPSG:4326"
_PLACE_KEYS = (("x", "y"), ("lon", "lat"), ("lon_deg", "lat_deg"))
_TRUTHS = frozenset({"True", "False"})


@dataclass(frozen=True)
class _Graph:
    """What stands in a GraphML file: places in degrees by node, and edges with their tags.

    ``only_forward``: osmnx was set to ``all_oneway``, so two-way roads have one edge, too.
    """

    places: Mapping[NodeId, tuple[float, float]]
    edges: Iterable[tuple[NodeId, NodeId, Mapping[str, tuple[str, ...]]]]
    to_degrees: Any
    only_forward: bool


def read_graphml(path: Path, box: BoxDeg | None = None, mode: TravelMode = "driving") -> Pieces:
    """Read the roads of a GraphML file.

    Parameters
    ----------
    path : Path
        A directed graph whose nodes have ``x`` and ``y`` (or ``lon`` and ``lat``) and whose edges
        have OSM's tags; edges without ``highway`` are roads of the class ``road``.
    box : tuple, optional
        West, south, east, north in degrees; edges with all points inside are kept.
    mode : {"driving", "cycling", "walking"}
        Whose roads (see `testbed.roads.modes`). Walkers use every edge in both directions.

    Raises
    ------
    MapError
        If the file is no GraphML, the graph is undirected, or its nodes have no place.
    """
    pieces = Pieces()
    graph = _read(path)
    for tail, head, lists in graph.edges:
        if tail not in graph.places or head not in graph.places:
            raise MapError(
                f"{path}: node {tail if tail not in graph.places else head} has no place; every "
                "node needs `x` and `y` (or `lon` and `lat`)"
            )
        tags = _one_of_each(lists, mode)
        reason = why_left_out(tags, mode)
        if reason is not None:
            pieces.drop(reason)
            continue
        lonlat = _line(path, lists, graph, tail, head)
        if box is not None and not all(
            box[0] <= lon <= box[2] and box[1] <= lat <= box[3] for lon, lat in lonlat
        ):
            pieces.drop("edges outside the box")
            continue
        piece = Piece(
            edge_id=";".join(lists.get("osmid", ())) or f"{tail}-{head}",
            tail=tail,
            head=head,
            lat_deg=tuple(lat for _, lat in lonlat),
            lon_deg=tuple(lon for lon, _ in lonlat),
            road_class=tags["highway"],
            street=tags.get("name", ""),
            limit_mps=limit_mps(tags.get("maxspeed"), tags["highway"], mode),
        )
        pieces.roads.append(piece)
        # Where only the forward edges are there, osmnx has turned those of oneway=-1 already.
        if graph.only_forward and direction(tags, mode) == 0:
            pieces.roads.append(piece.reversed())
    if mode == "walking":
        known = {(piece.lat_deg, piece.lon_deg) for piece in pieces.roads}
        back = [piece.reversed() for piece in pieces.roads]
        pieces.roads += [p for p in back if (p.lat_deg, p.lon_deg) not in known]
    pieces.roads = join_chains(pieces.roads)
    return pieces


def _read(path: Path) -> _Graph:
    import networkx as nx  # noqa: PLC0415 - costs 0.2 s, and only GraphML needs it

    try:
        read = nx.read_graphml(path, node_type=str, force_multigraph=True)
    except (ParseError, nx.NetworkXError, KeyError, ValueError, OSError, EOFError) as error:
        raise MapError(
            f"{path}: cannot be read as GraphML ({error}). `osmnx.save_graphml` writes it"
        ) from error
    if not read.is_directed():
        raise MapError(
            f"{path}: the graph is undirected, so one-way streets are lost. Save the directed one "
            "(osmnx makes it; do not use `convert.to_undirected`)"
        )
    name = _names(read.nodes)
    to_degrees = _to_degrees(path, read.graph.get("crs"))
    places = {}
    for node, data in read.nodes(data=True):
        for x_key, y_key in _PLACE_KEYS:
            if x_key in data and y_key in data:
                x, y = _number(path, node, data[x_key]), _number(path, node, data[y_key])
                places[name[node]] = (x, y) if to_degrees is None else to_degrees.transform(x, y)
                break
    far = next((n for n, (x, y) in places.items() if not (abs(x) <= 180 and abs(y) <= 90)), None)  # noqa: PLR2004
    if far is not None:
        raise MapError(
            f"{path}: node {far} lies at {places[far]}, which are no degrees; give the graph its "
            "`crs` (osmnx writes it), or save it unprojected"
        )
    edges = [
        (name[tail], name[head], {key: _values(value) for key, value in data.items()})
        for tail, head, data in read.edges(data=True)
    ]
    oneway = {value for _, _, lists in edges for value in lists.get("oneway", ())}
    return _Graph(places, edges, to_degrees, only_forward=bool(oneway) and not oneway & _TRUTHS)


def _names(nodes: Iterable[str]) -> dict[Hashable, NodeId]:
    """OSM's numbers as numbers; the file's own words where one is no number."""
    words = list(nodes)
    try:
        return {word: int(word) for word in words}
    except ValueError:
        return {word: word for word in words}


def _to_degrees(path: Path, crs: str | None) -> Any:
    """What turns the graph's coordinates into degrees; ``None`` where they are degrees."""
    if crs is None:
        return None
    try:
        plane = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise MapError(f"{path}: the graph's crs {crs!r} is unknown ({error})") from error
    if plane.is_geographic:
        return None
    return pyproj.Transformer.from_crs(plane, _DEGREES, always_xy=True)


def _number(path: Path, node: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise MapError(f"{path}: node {node}: {value!r} is no coordinate")
    return number


def _values(value: object) -> tuple[str, ...]:
    """A tag's values; osmnx writes the lists of merged ways as Python lists."""
    text = str(value)
    if text.startswith("[") and text.endswith("]"):
        try:
            return tuple(str(one) for one in ast.literal_eval(text))
        except (ValueError, SyntaxError):
            pass
    return (text,)


def _one_of_each(lists: Mapping[str, tuple[str, ...]], mode: TravelMode) -> dict[str, str]:
    """One value for each tag of an edge that was merged from several ways.

    The most important class that the mode may use, the lowest speed, the first that does not close
    the road, the first name.
    """
    rule = RULES[mode]
    tags = {key: values[0] for key, values in lists.items() if values}
    ranks = list(rule.usual_kmh)
    classes = [name for name in lists.get("highway", ("road",)) if name in rule.usual_kmh]
    tags["highway"] = min(classes, key=ranks.index, default=tags.get("highway", "road"))
    closed = {"service": rule.closed_service, "area": {"yes"}, **dict.fromkeys(rule.access, CLOSED)}
    for key, refused in closed.items():
        if key in lists:
            tags[key] = next((v for v in lists[key] if v not in refused), tags[key])
    if classes and "maxspeed" in lists:
        tags["maxspeed"] = min(
            lists["maxspeed"], key=lambda text: limit_mps(text, tags["highway"], mode)
        )
    return tags


def _line(
    path: Path,
    lists: Mapping[str, tuple[str, ...]],
    graph: _Graph,
    tail: NodeId,
    head: NodeId,
) -> list[tuple[float, float]]:
    """Longitudes and latitudes of an edge, tail first."""
    begin, end = graph.places[tail], graph.places[head]
    if "geometry" not in lists:
        return [begin, end]
    try:
        line = shapely.from_wkt(lists["geometry"][0])
    except shapely.errors.GEOSException as error:
        raise MapError(f"{path}: edge {tail} to {head}: geometry is no WKT ({error})") from error
    if line.geom_type != "LineString":
        raise MapError(
            f"{path}: edge {tail} to {head}: geometry is a {line.geom_type}; it must be a "
            "LineString"
        )
    points = [(x, y) for x, y, *_ in line.coords]
    if graph.to_degrees is not None:
        points = [graph.to_degrees.transform(x, y) for x, y in points]
    if math.dist(points[0], end) < math.dist(points[0], begin):
        points.reverse()
    return [begin, *points[1:-1], end]
