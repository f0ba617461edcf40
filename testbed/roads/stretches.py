"""Cut every road where another base station becomes the nearest one.

Cuts lie exactly where the road crosses the bisector of two stations; nothing is sampled.
"""

from typing import Any

import numpy as np

from testbed.roads.arrays import Floats, Ints
from testbed.roads.network import RoadMap

_SLIVER_M = 1e-6
_SAME_M2 = 1e-7
"""Squared distances that differ by less are equal; a stretch missed by it is a sliver."""


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
    whole, cut = first[~crossing], first[crossing]
    segment, share, nearest = _cuts(
        np.column_stack((x[cut], y[cut])),
        np.column_stack((x[cut + 1], y[cut + 1])),
        owner[cut],
        owner[cut + 1],
        tree,
    )
    point = np.concatenate((whole, cut, cut[segment]))
    share = np.concatenate((np.zeros(len(whole) + len(cut)), share))
    station = np.concatenate((owner[whole], owner[cut], nearest))
    edge = roads.segment_edge[point]
    begin_m = along[point] + share * (along[point + 1] - along[point])
    order = np.lexsort((begin_m, edge))
    return _joined(roads, edge[order], begin_m[order], station[order])


def _cuts(
    begin: Floats, end: Floats, first: Ints, last: Ints, tree: Any
) -> tuple[Ints, Floats, Ints]:
    """Where along straight segments another station becomes the nearest.

    The squared distance to a station, less the part that all stations share, is linear along a
    segment, and the smallest of such lines is concave. So if two stations are nearest at the ends
    of an interval, and none is nearer than they where they are equally far, there is no third in
    it; else the third divides the interval.

    Parameters
    ----------
    begin, end : numpy.ndarray, shape (K, 2)
        Ends of the segments.
    first, last : numpy.ndarray of int, shape (K,)
        Nearest stations at their ends, different from each other.
    tree : scipy.spatial.cKDTree
        Index of the stations.

    Returns
    -------
    segment, share, station : numpy.ndarray, shape (M,)
        Cuts: from this share of the segment on, this station is the nearest. Cuts at the same
        place stand in the order in which they are driven.
    """
    step = end - begin
    found: list[tuple[Ints, Floats, Ints]] = []
    segment, left, right = np.arange(len(begin)), first, last
    low, high = np.zeros(len(begin)), np.ones(len(begin))
    while len(segment):
        to_left = tree.data[left] - begin[segment]
        to_right = tree.data[right] - begin[segment]
        rise = 2 * ((to_right - to_left) * step[segment]).sum(axis=1)
        gap = (to_right**2).sum(axis=1) - (to_left**2).sum(axis=1)
        share = np.clip(np.divide(gap, rise, out=low.copy(), where=rise > 0), low, high)
        place = begin[segment] + share[:, None] * step[segment]
        third = np.asarray(tree.query(place)[1], dtype=np.int64)
        far = ((tree.data[left] - place) ** 2).sum(axis=1)
        near = ((tree.data[third] - place) ** 2).sum(axis=1)
        between = (near < far - _SAME_M2) & (third != left) & (third != right)
        done = ~between
        found.append((segment[done], share[done], right[done]))
        segment = np.tile(segment[between], 2)
        low = np.concatenate((low[between], share[between]))
        high = np.concatenate((share[between], high[between]))
        left = np.concatenate((left[between], third[between]))
        right = np.concatenate((third[between], right[between]))
    if not found:
        none = np.empty(0, dtype=np.int64)
        return none, np.empty(0), none
    cut_segment, cut_share, cut_station = (
        np.concatenate(part) for part in zip(*found, strict=True)
    )
    ahead = ((tree.data[cut_station] - begin[cut_segment]) * step[cut_segment]).sum(axis=1)
    order = np.lexsort((ahead, cut_share, cut_segment))
    return cut_segment[order], cut_share[order], cut_station[order]


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
