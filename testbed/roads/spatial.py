"""Which roads lie near a point, and where on them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely

from testbed.roads.arrays import Floats, Ints
from testbed.roads.network import RoadMap


@dataclass(frozen=True)
class Nearby:
    """The nearest point of every edge within reach of each of K query points (M hits).

    Attributes
    ----------
    start : numpy.ndarray of int, shape (K + 1,)
        Query point ``k`` has the hits ``start[k]:start[k + 1]``, nearest first.
    edge : numpy.ndarray of int, shape (M,)
    offset_m : numpy.ndarray, shape (M,)
        Metres from the edge's tail.
    distance_m : numpy.ndarray, shape (M,)
        Metres from the query point.
    """

    start: Ints
    edge: Ints
    offset_m: Floats
    distance_m: Floats


@dataclass(frozen=True, eq=False)
class RoadIndex:
    """A tree over all segments of a map."""

    roads: RoadMap

    @cached_property
    def _first(self) -> Ints:
        """First polyline point of each indexed segment."""
        return np.flatnonzero(self.roads.segment_edge >= 0)

    @cached_property
    def _tree(self) -> Any:
        points = np.column_stack((self.roads.point_x_m, self.roads.point_y_m))
        ends = np.stack((points[self._first], points[self._first + 1]), axis=1)
        return shapely.STRtree(shapely.linestrings(ends))

    def near(self, x_m: Floats, y_m: Floats, radius_m: float, most: int) -> Nearby:
        """Nearest point of each edge within a radius.

        Parameters
        ----------
        x_m, y_m : numpy.ndarray, shape (K,)
            Query points, metres.
        radius_m : float
            How far to look, metres.
        most : int
            Keep so many nearest edges per point at most.
        """
        points = shapely.points(x_m, y_m)
        query, hit = self._tree.query(points, predicate="dwithin", distance=radius_m)
        roads, first = self.roads, self._first[hit]
        begin_x, begin_y = roads.point_x_m[first], roads.point_y_m[first]
        step_x = roads.point_x_m[first + 1] - begin_x
        step_y = roads.point_y_m[first + 1] - begin_y
        length_m = np.hypot(step_x, step_y)
        square = np.where(length_m > 0, length_m**2, 1.0)
        share = ((x_m[query] - begin_x) * step_x + (y_m[query] - begin_y) * step_y) / square
        share = np.clip(share, 0.0, 1.0)
        distance = np.hypot(
            begin_x + share * step_x - x_m[query], begin_y + share * step_y - y_m[query]
        )
        offset = roads.point_along_m[first] + share * length_m
        edge = roads.segment_edge[first]
        order = np.lexsort((offset, distance, edge, query))
        query, edge = query[order], edge[order]
        best = np.ones(len(order), dtype=bool)
        best[1:] = (query[1:] != query[:-1]) | (edge[1:] != edge[:-1])
        kept, query = order[best], query[best]
        by_distance = np.lexsort((edge[best], distance[kept], query))
        kept, query = kept[by_distance], query[by_distance]
        start = np.searchsorted(query, np.arange(len(x_m) + 1))
        near_enough = np.arange(len(kept)) - start[query] < most
        kept, query = kept[near_enough], query[near_enough]
        return Nearby(
            start=np.searchsorted(query, np.arange(len(x_m) + 1)),
            edge=roads.segment_edge[first[kept]],
            offset_m=offset[kept],
            distance_m=distance[kept],
        )
