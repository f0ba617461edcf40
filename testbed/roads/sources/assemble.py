"""From the loose pieces a reader found to a connected `RoadMap`."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from testbed.errors import MapError
from testbed.roads.arrays import Floats, Ints
from testbed.roads.network import RoadMap
from testbed.roads.projection import Projection

NodeId = int | str


@dataclass(frozen=True)
class Piece:
    """One direction of a piece of road, as a reader found it.

    Attributes
    ----------
    edge_id : str
        The source's name for it.
    tail, head : int or str
        The source's names of its end nodes.
    lat_deg, lon_deg : sequence of float
        Its polyline, tail first, at least two points.
    road_class, street : str
        OSM's ``highway`` value and the street's name.
    limit_mps : float
        Permitted or usual speed, metres per second.
    """

    edge_id: str
    tail: NodeId
    head: NodeId
    lat_deg: tuple[float, ...]
    lon_deg: tuple[float, ...]
    road_class: str
    street: str
    limit_mps: float

    def reversed(self) -> "Piece":
        """The same piece of road in the other direction."""
        return replace(
            self,
            tail=self.head,
            head=self.tail,
            lat_deg=self.lat_deg[::-1],
            lon_deg=self.lon_deg[::-1],
        )


@dataclass
class Pieces:
    """All that a reader found in a source.

    Attributes
    ----------
    roads : list of Piece
        In the source's order, which fixes the edges' indices.
    turns : set of (int, int), optional
        Allowed turns as pairs of indices into ``roads``; ``None`` allows every turn at a node.
    forbidden : set of (int, int)
        Turns that are not allowed although the roads meet, as pairs of indices into ``roads``.
    dropped : dict of str to int
        What the reader left out.
    """

    roads: list[Piece] = field(default_factory=list)
    turns: set[tuple[int, int]] | None = None
    forbidden: set[tuple[int, int]] = field(default_factory=set)
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, what: str) -> None:
        """Count one more thing left out."""
        self.dropped[what] = self.dropped.get(what, 0) + 1


def assemble(name: str, pieces: Pieces, mode: str = "driving") -> RoadMap:
    """Lay the pieces on a plane and keep the largest part that hangs together.

    Parts that hang together in one direction of travel at least (weakly connected) are kept, so
    that the ends of one-way streets at the map's border stay.

    Raises
    ------
    MapError
        If no road is left.
    """
    roads = [road for road in pieces.roads if _has_length(road)]
    if not roads:
        raise MapError(
            f"{name}: holds no usable road (left out: {pieces.dropped or 'nothing'}). Is the box "
            "inside the map, and are its roads tagged `highway`?"
        )
    dropped = dict(pieces.dropped)
    _note(dropped, "edges without length", len(pieces.roads) - len(roads))
    kept = _largest_part(roads)
    _note(dropped, "edges outside the largest connected part", len(roads) - len(kept))

    position = {id(road): index for index, road in enumerate(pieces.roads)}
    new_index = {position[id(road)]: index for index, road in enumerate(kept)}
    node_index: dict[NodeId, int] = {}
    for road in kept:
        node_index.setdefault(road.tail, len(node_index))
        node_index.setdefault(road.head, len(node_index))
    tail = np.array([node_index[road.tail] for road in kept])
    head = np.array([node_index[road.head] for road in kept])

    counts = np.array([len(road.lat_deg) for road in kept])
    point_start = np.concatenate(([0], np.cumsum(counts)))
    lat = np.concatenate([road.lat_deg for road in kept])
    lon = np.concatenate([road.lon_deg for road in kept])
    projection = Projection(
        round(float(lat.min() + lat.max()) / 2, 4), round(float(lon.min() + lon.max()) / 2, 4)
    )
    x, y = projection.to_xy(lat, lon)
    node_x, node_y = _node_positions(tail, head, point_start, x, y)
    turns = None if pieces.turns is None else _renumbered(pieces.turns, new_index)
    forbidden = _renumbered(pieces.forbidden, new_index)
    follower_start, follower = _followers(tail, head, turns, forbidden)
    return RoadMap(
        name=name,
        projection=projection,
        node_ids=np.array(list(node_index)),
        node_x_m=node_x,
        node_y_m=node_y,
        tail=tail,
        head=head,
        edge_ids=np.array([road.edge_id for road in kept], dtype=np.str_),
        road_class=np.array([road.road_class for road in kept], dtype=np.str_),
        street=np.array([road.street for road in kept], dtype=np.str_),
        limit_mps=np.array([road.limit_mps for road in kept], dtype=float),
        point_start=point_start,
        point_x_m=x,
        point_y_m=y,
        follower_start=follower_start,
        follower=follower,
        dropped=dropped,
        mode=mode,
    )


def _renumbered(
    turns: Iterable[tuple[int, int]], new_index: dict[int, int]
) -> set[tuple[int, int]]:
    return {(new_index[a], new_index[b]) for a, b in turns if a in new_index and b in new_index}


def _has_length(road: Piece) -> bool:
    return any(lat != road.lat_deg[0] for lat in road.lat_deg) or any(
        lon != road.lon_deg[0] for lon in road.lon_deg
    )


def _note(dropped: dict[str, int], what: str, count: int) -> None:
    if count:
        dropped[what] = dropped.get(what, 0) + count


def _largest_part(roads: list[Piece]) -> list[Piece]:
    index: dict[NodeId, int] = {}
    for road in roads:
        index.setdefault(road.tail, len(index))
        index.setdefault(road.head, len(index))
    tails = np.array([index[road.tail] for road in roads])
    heads = np.array([index[road.head] for road in roads])
    ones = np.ones(len(roads), dtype=np.int8)
    graph = coo_array((ones, (tails, heads)), shape=(len(index), len(index)))
    _, part = connected_components(graph, directed=True, connection="weak")
    largest = np.bincount(part[tails]).argmax()
    return [road for road, here in zip(roads, part[tails] == largest, strict=True) if here]


def _node_positions(
    tail: Ints, head: Ints, point_start: Ints, x: Floats, y: Floats
) -> tuple[Floats, Floats]:
    """Place each node at an end of one of its edges (all of them end there)."""
    count = int(max(tail.max(), head.max())) + 1
    node_x, node_y = np.zeros(count), np.zeros(count)
    last = point_start[1:] - 1
    node_x[head], node_y[head] = x[last], y[last]
    node_x[tail], node_y[tail] = x[point_start[:-1]], y[point_start[:-1]]
    return node_x, node_y


def _followers(
    tail: Ints,
    head: Ints,
    turns: Iterable[tuple[int, int]] | None,
    forbidden: set[tuple[int, int]],
) -> tuple[Ints, Ints]:
    """Compressed rows of the edges that may follow each edge, in ascending order."""
    count = len(tail)
    if turns is None:
        leaving: dict[int, list[int]] = {}
        for edge, node in enumerate(tail.tolist()):
            leaving.setdefault(node, []).append(edge)
        rows = [leaving.get(node, []) for node in head.tolist()]
    else:
        rows = [[] for _ in range(count)]
        for before, after in sorted(turns):
            rows[before].append(after)
    for before in {before for before, _ in forbidden}:
        rows[before] = [after for after in rows[before] if (before, after) not in forbidden]
    start = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
    return start, np.array([edge for row in rows for edge in row], dtype=np.int64)
