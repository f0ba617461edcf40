"""Cut every road where another base station becomes the nearest one.

Cuts lie exactly where the road crosses the bisector of two stations; nothing is sampled.
"""

import math
from typing import Any

import numpy as np

from testbed.roads.arrays import Floats, Ints
from testbed.roads.network import RoadMap

_SLIVER_M = 1e-6


def nearest_stretches(roads: RoadMap, tree: Any) -> tuple[Ints, Floats, Floats, Ints]:
    """Stretches of all edges with one nearest station each.

    A segment whose ends have the same nearest station lies wholly in that (convex) cell; only the
    others are cut.

    Parameters
    ----------
    roads : RoadMap
        The roads.
    tree : scipy.spatial.cKDTree
        Index of the stations, metres on the map's plane.

    Returns
    -------
    edge, from_m, to_m, station : numpy.ndarray, shape (S,)
        Sorted by edge and offset. Along each edge they join without gap or overlap.
    """
    x, y, along = roads.point_x_m, roads.point_y_m, roads.point_along_m
    owner = np.asarray(tree.query(np.column_stack((x, y)))[1], dtype=np.int64)
    first = np.flatnonzero(roads.segment_edge >= 0)
    crossing = owner[first] != owner[first + 1]
    whole = first[~crossing]
    cut_edge: list[int] = []
    cut_m: list[float] = []
    cut_owner: list[int] = []
    for point in first[crossing].tolist():
        begin = (float(x[point]), float(y[point]))
        end = (float(x[point + 1]), float(y[point + 1]))
        length_m = float(along[point + 1] - along[point])
        for share, nearest in _cuts(begin, end, tree):
            cut_edge.append(int(roads.segment_edge[point]))
            cut_m.append(float(along[point]) + share * length_m)
            cut_owner.append(nearest)
    edge = np.concatenate((roads.segment_edge[whole], np.array(cut_edge, dtype=np.int64)))
    begin_m = np.concatenate((along[whole], np.array(cut_m, dtype=np.float64)))
    station = np.concatenate((owner[whole], np.array(cut_owner, dtype=np.int64)))
    order = np.lexsort((begin_m, edge))
    return _joined(roads, edge[order], begin_m[order], station[order])


def _cuts(
    begin: tuple[float, float], end: tuple[float, float], tree: Any
) -> list[tuple[float, int]]:
    """Shares of a segment at which a station becomes the nearest, beginning with ``(0, ...)``.

    The squared distance to a station, less the part that all stations share, is linear along the
    segment; the nearest stations are the lower envelope of these lines, walked from left to right.
    """
    p, q = np.array(begin), np.array(end)
    middle, length = (p + q) / 2, math.dist(begin, end)
    reach = float(tree.query(middle)[0]) + length
    near = np.array(sorted(tree.query_ball_point(middle, reach + 1.0)))
    stations = tree.data[near]
    value = (stations**2).sum(axis=1) - 2 * stations @ p
    slope = -2 * stations @ (q - p)
    share = 0.0
    now = int(np.lexsort((slope, value))[0])
    cuts = [(0.0, int(near[now]))]
    while True:
        falling = np.flatnonzero(slope < slope[now])
        if not len(falling):
            return cuts
        meets = (value[falling] - value[now]) / (slope[now] - slope[falling])
        soonest = float(meets.min())
        if soonest >= 1.0:
            return cuts
        tied = falling[meets <= soonest]
        now = int(tied[slope[tied].argmin()])
        share = max(share, soonest)
        cuts.append((share, int(near[now])))


def _joined(
    roads: RoadMap, edge: Ints, begin_m: Floats, station: Ints
) -> tuple[Ints, Floats, Floats, Ints]:
    """Merge neighbours in the same cell, drop slivers, and close every edge at its length."""
    last = np.append(edge[1:] != edge[:-1], True)
    end_m = np.where(last, roads.length_m[edge], np.append(begin_m[1:], 0.0))
    whole = (end_m - begin_m > _SLIVER_M) | (roads.length_m[edge] <= _SLIVER_M)
    edge, begin_m, station = edge[whole], begin_m[whole], station[whole]
    new_edge = np.append(True, edge[1:] != edge[:-1])
    begins = new_edge | np.append(True, station[1:] != station[:-1])
    begin_m = np.where(new_edge, 0.0, begin_m)
    edge, begin_m, station = edge[begins], begin_m[begins], station[begins]
    last = np.append(edge[1:] != edge[:-1], True)
    end_m = np.where(last, roads.length_m[edge], np.append(begin_m[1:], 0.0))
    return edge, begin_m, end_m, station
