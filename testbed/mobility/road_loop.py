"""The shortest way along roads from one point to another and back."""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from testbed.errors import TraceError
from testbed.mobility.trace import Flags, Floats
from testbed.roads.network import RoadMap
from testbed.roads.routes import RouteFinder
from testbed.roads.spatial import RoadIndex

NEAR_M = 200.0
"""A point farther from every road than this is refused."""

_Spot = tuple[int, float]
"""An edge and how far along it, metres."""
_Drive = tuple[float, list[int], _Spot]
"""Metres, edges, and the spot where it ends."""


def road_loop(roads: RoadMap, start_m: tuple[float, float], end_m: tuple[float, float]) -> Floats:
    """A closed way along roads: the shortest one from start to end, and from there back.

    Each point is taken to the road nearest to it from which one can go on and come back (not into a
    dead end of the map); at both ends one may turn round, where the road has two directions.
    One-way streets make the way back another than the way there.

    Parameters
    ----------
    roads : RoadMap
        The map.
    start_m, end_m : tuple of float
        Points on the map's plane, metres.

    Returns
    -------
    numpy.ndarray, shape (P, 2)
        The way, its last point where the first is, metres.

    Raises
    ------
    TraceError
        If a point has no road near it, both have the same place, or no way joins them.
    """
    finder = RouteFinder(roads)
    joined = _joined(roads)
    starts = _spots(roads, start_m, "start", joined)
    ends = _spots(roads, end_m, "end", joined)
    if starts[0] == ends[0]:
        raise TraceError(
            f"start and end lie at the same place of one road of {roads.name}; move them apart"
        )
    there = _shortest(finder, starts, ends)
    began = (there[1][0], _offset_on(starts, there[1][0]))
    turning = _turned(roads, there[2], joined)
    back = _shortest(finder, turning, _turned(roads, began, joined))
    turned_at = (back[1][0], _offset_on(turning, back[1][0]))
    out, home = _points(roads, began, there), _points(roads, turned_at, back)
    return np.concatenate((out, home, out[:1]))


def _joined(roads: RoadMap) -> Flags:
    """Edges of the largest part of the map in which every edge can be reached from every other."""
    tails = np.repeat(np.arange(roads.edge_count), np.diff(roads.follower_start))
    shape = (roads.edge_count, roads.edge_count)
    follows = csr_array((np.ones(len(tails), dtype=bool), (tails, roads.follower)), shape=shape)
    _, part = connected_components(follows, connection="strong")
    return np.asarray(part == np.bincount(part).argmax())


def _spots(roads: RoadMap, point_m: tuple[float, float], what: str, joined: Flags) -> list[_Spot]:
    """The nearest spot on a road, and the same in the other direction."""
    near = RoadIndex(roads).near(
        np.array([point_m[0]]), np.array([point_m[1]]), NEAR_M, roads.edge_count
    )
    usable = np.flatnonzero(joined[near.edge])
    if not len(usable):
        lat, lon = roads.projection.point_latlon(*point_m)
        raise TraceError(
            f"the {what} at {lat:.5f}, {lon:.5f} has no road of {roads.name} within {NEAR_M:g} m; "
            "move it, or go over the plane instead of along roads"
        )
    spot = int(near.edge[usable[0]]), float(near.offset_m[usable[0]])
    return _turned(roads, spot, joined)


def _turned(roads: RoadMap, spot: _Spot, joined: Flags) -> list[_Spot]:
    edge, offset = spot
    opposite = int(roads.opposite[edge])
    if opposite < 0 or not joined[opposite]:
        return [spot]
    share = offset / float(roads.length_m[edge])
    return [spot, (opposite, (1 - share) * float(roads.length_m[opposite]))]


def _offset_on(spots: list[_Spot], edge: int) -> float:
    return next(offset for own, offset in spots if own == edge)


def _shortest(finder: RouteFinder, starts: list[_Spot], ends: list[_Spot]) -> _Drive:
    roads = finder.roads
    for bound_m in _bounds(roads):
        found = [
            drive
            for start in starts
            for end in ends
            if (drive := _drive(finder, start, end, bound_m)) is not None
        ]
        if found and min(found)[0] <= bound_m:
            return min(found)
    raise TraceError(
        f"no way along the roads of {roads.name} joins the two points; take others, or a larger map"
    )


def _bounds(roads: RoadMap) -> list[float]:
    west, south, east, north = roads.extent_m
    across_m = (east - west) + (north - south)
    return [across_m / 8, across_m / 2, across_m * 2, across_m * 8]


def _drive(finder: RouteFinder, start: _Spot, end: _Spot, bound_m: float) -> _Drive | None:
    (edge, offset), (last, stop) = start, end
    if edge == last and stop >= offset:
        return stop - offset, [edge], end
    reach = finder.reach(edge, bound_m)
    if last not in reach.to_tail_m:
        return None
    rest_m = finder.length_m[edge] - offset
    return rest_m + reach.to_tail_m[last] + stop, [edge, *reach.route(edge, last)], end


def _points(roads: RoadMap, start: _Spot, drive: _Drive) -> Floats:
    """The polyline from a spot along a drive's edges to its end."""
    _, edges, (_, stop) = drive
    parts = []
    for number, edge in enumerate(edges):
        x, y = roads.polyline(edge)
        first, final = int(roads.point_start[edge]), int(roads.point_start[edge + 1])
        along = roads.point_along_m[first:final]
        from_m = start[1] if number == 0 else 0.0
        to_m = stop if number == len(edges) - 1 else float(along[-1])
        inner = (along > from_m) & (along < to_m)
        ends_x, ends_y = roads.positions([edge, edge], [from_m, to_m])
        xs = np.concatenate((ends_x[:1], x[inner], ends_x[1:]))
        ys = np.concatenate((ends_y[:1], y[inner], ends_y[1:]))
        parts.append(np.column_stack((xs, ys)))
    return np.concatenate(parts)
