"""A road map laid out for the matching kernels: routes, turns and a grid over all segments."""

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from testbed.roads.arrays import Floats, Ints
from testbed.roads.matching.compiled import Net, Scratch
from testbed.roads.matching.nearby import fill_grid
from testbed.roads.network import RoadMap

CELL_M = 100.0
TURN_RIGHT_ANGLE = 0.35
"""What a turn by 90 degrees costs, as a negative log probability."""
U_TURN = 4.5
"""What turning round costs: drivers do it, but noise does it more often."""
LIKED_SPEED_MPS = 12.0
LIKING = 0.35
"""Of two ways the faster road is taken: a metre counts as ``(12 m/s / limit) ** 0.35`` metres."""


@dataclass(frozen=True, eq=False)
class RoadGraph:
    """What the kernels need of one map, and memory for their searches.

    Attributes
    ----------
    net : Net
        The map's arrays; nobody writes to them.
    scratch : Scratch
        Memory of the searches; no search leaves anything there for the next.
    """

    net: Net
    scratch: Scratch


_KNOWN: "WeakKeyDictionary[RoadMap, RoadGraph]" = WeakKeyDictionary()


def graph_of(roads: RoadMap) -> RoadGraph:
    """The map's graph; made once per map."""
    known = _KNOWN.get(roads)
    if known is None:
        known = _KNOWN[roads] = RoadGraph(_net(roads), _scratch(roads))
    return known


def _net(roads: RoadMap) -> Net:
    length_m = np.maximum(roads.length_m, 1e-3)
    limit_mps = np.maximum(roads.limit_mps, 1.0)
    west, south, east, north = roads.extent_m
    columns = int((east - west) // CELL_M) + 1
    rows = int((north - south) // CELL_M) + 1
    counts = np.zeros(rows * columns + 1, dtype=np.int64)
    net = Net(
        length_m=length_m,
        ratio=(LIKED_SPEED_MPS / limit_mps) ** LIKING,
        free_s=length_m / limit_mps,
        opposite=roads.opposite.astype(np.int64),
        follower_start=roads.follower_start.astype(np.int64),
        follower=roads.follower.astype(np.int64),
        turn=_turns(roads),
        point_x_m=np.ascontiguousarray(roads.point_x_m, dtype=float),
        point_y_m=np.ascontiguousarray(roads.point_y_m, dtype=float),
        point_along_m=np.ascontiguousarray(roads.point_along_m),
        point_start=roads.point_start.astype(np.int64),
        segment_edge=roads.segment_edge.astype(np.int64),
        cell_start=counts,
        cell_segment=np.zeros(0, dtype=np.int64),
        grid=np.array([west, south, CELL_M]),
        shape=np.array([rows, columns]),
    )
    fill_grid(net, counts[:-1], np.zeros(0, dtype=np.int64))
    start = np.concatenate(([0], np.cumsum(counts[:-1])))
    segments = np.zeros(int(start[-1]), dtype=np.int64)
    if len(segments):
        fill_grid(net, start[:-1].copy(), segments)
    return net._replace(cell_start=start, cell_segment=segments)


def _turns(roads: RoadMap) -> Floats:
    """Cost of each pair of edges that may follow each other, by the angle between them."""
    before: Ints = np.repeat(np.arange(roads.edge_count), np.diff(roads.follower_start))
    after = roads.follower
    angle = roads.headings_deg(after, 0.0) - roads.headings_deg(before, roads.length_m[before])
    angle = np.abs((angle + 180.0) % 360.0 - 180.0)
    straight = math.radians(20.0)
    cost = TURN_RIGHT_ANGLE * np.maximum(np.radians(angle) - straight, 0.0) / (math.pi / 2)
    return np.asarray(np.where(roads.opposite[before] == after, U_TURN, cost))


def _scratch(roads: RoadMap) -> Scratch:
    edges = roads.edge_count
    room = 2 * len(roads.follower) + edges + 16
    return Scratch(
        count=np.zeros(2, dtype=np.int64),
        seen=np.zeros(edges, dtype=np.int64),
        done=np.zeros(edges, dtype=np.int64),
        wanted=np.zeros(edges, dtype=np.int64),
        cost_m=np.zeros(edges),
        driven_m=np.zeros(edges),
        free_s=np.zeros(edges),
        liked_m=np.zeros(edges),
        before=np.zeros(edges, dtype=np.int64),
        heap_cost=np.zeros(room),
        heap_edge=np.zeros(room, dtype=np.int64),
    )
