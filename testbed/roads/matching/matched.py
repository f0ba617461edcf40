"""A whole trace on the road: what `testbed.roads.matching.offline.match_trace` finds."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from testbed.roads.arrays import Floats, Ints
from testbed.roads.matching.online import Match
from testbed.roads.network import RoadMap


@dataclass(frozen=True, eq=False)
class MatchedTrace:
    """A whole trace on the road (K fixes).

    Attributes
    ----------
    time_s, offset_m, x_m, y_m, lat_deg, lon_deg, distance_m, probability : numpy.ndarray
        As in `testbed.roads.matching.online.Match`, shape (K,), in the trace's order.
    edge : numpy.ndarray of int, shape (K,)
        Edge of the road map, -1 where the fix is not matched.
    reason : tuple of str
        Why a fix is not matched, or why a new part begins at it; else empty.
    part : numpy.ndarray of int, shape (K,)
        Which of the routes a fix lies on, -1 where it is not matched.
    routes : tuple of tuple of int
        The driven edges of each unbroken part, each edge once per time it is driven.
    noise_m : float
        Standard deviation of the fixes' distance from the road on each axis, as used, metres.
    """

    time_s: Floats
    edge: Ints
    offset_m: Floats
    x_m: Floats
    y_m: Floats
    lat_deg: Floats
    lon_deg: Floats
    distance_m: Floats
    probability: Floats
    reason: tuple[str, ...]
    part: Ints
    routes: tuple[tuple[int, ...], ...]
    noise_m: float

    @cached_property
    def fixes(self) -> tuple[Match, ...]:
        """One per row of the trace, in its order."""
        columns = (
            self.time_s,
            self.edge,
            self.offset_m,
            self.x_m,
            self.y_m,
            self.lat_deg,
            self.lon_deg,
            self.distance_m,
            self.probability,
        )
        return tuple(map(Match, *(column.tolist() for column in columns), self.reason))

    @property
    def matched_share(self) -> float:
        """Share of the fixes that lie on a road, 0 to 1."""
        return float((self.edge >= 0).mean())

    def to_frame(self, roads: RoadMap) -> pd.DataFrame:
        """One row per fix, with the map's own node ids."""
        on = self.edge >= 0
        nodes = {}
        for name, node in (("from_node", roads.tail), ("to_node", roads.head)):
            ids = np.full(len(on), None, dtype=object)
            ids[on] = roads.node_ids[node[self.edge[on]]].tolist()
            nodes[name] = ids
        return pd.DataFrame(
            {
                "time_s": self.time_s,
                **nodes,
                "offset_m": self.offset_m,
                "lat_deg": self.lat_deg,
                "lon_deg": self.lon_deg,
                "probability": self.probability,
                "reason": list(self.reason),
            }
        )
