"""The hidden-Markov model behind map matching (Newson and Krumm 2009, section 3).

Hidden state: which edge, and where on it. A fix lies a Gaussian distance off its road; between two
fixes the driven distance differs from the straight one by an exponentially distributed amount.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

from testbed.roads.arrays import Floats
from testbed.roads.network import RoadMap
from testbed.roads.routes import RouteFinder
from testbed.roads.spatial import RoadIndex

IMPOSSIBLE = -math.inf


@dataclass(frozen=True)
class Candidate:
    """A place on the road where the user may be; ``fit`` is its log emission probability."""

    edge: int
    offset_m: float
    distance_m: float
    fit: float


@dataclass(frozen=True, eq=False)
class RoadModel:
    """Emission and transition of the hidden-Markov model on one map.

    Attributes
    ----------
    roads : RoadMap
        The map.
    sigma_m : float
        Standard deviation of a fix's distance from its road, metres.
    beta_m : float
        Mean difference of driven and straight distance between fixes, metres.
    radius_m : float
        How far from a fix roads are considered, metres.
    top_speed_mps : float
        Nobody drives faster than this.
    most_candidates : int
        Edges considered per fix.
    """

    roads: RoadMap
    sigma_m: float = 8.0
    beta_m: float = 10.0
    radius_m: float = 50.0
    top_speed_mps: float = 60.0
    most_candidates: int = 20

    @cached_property
    def _index(self) -> RoadIndex:
        return RoadIndex(self.roads)

    @cached_property
    def routes(self) -> RouteFinder:
        """Routes on the map, remembered between fixes."""
        return RouteFinder(self.roads)

    @property
    def step_m(self) -> float:
        """Movement that tells something: twice the noise (Newson and Krumm, section 4.1)."""
        return 2 * self.sigma_m

    def candidates(self, x_m: Floats, y_m: Floats) -> list[list[Candidate]]:
        """Places on the road near each of K points, nearest first.

        Parameters
        ----------
        x_m, y_m : numpy.ndarray, shape (K,)
            Fixes on the map's plane, metres.
        """
        near = self._index.near(x_m, y_m, self.radius_m, self.most_candidates)
        length_m = self.routes.length_m
        places = [
            Candidate(
                edge,
                offset,
                distance,
                -0.5 * (distance / self.sigma_m) ** 2
                - (0.0 if _END_M < offset < length_m[edge] - _END_M else _END_COST),
            )
            for edge, offset, distance in zip(
                near.edge.tolist(), near.offset_m.tolist(), near.distance_m.tolist(), strict=True
            )
        ]
        start = near.start.tolist()
        return [places[a:b] for a, b in itertools.pairwise(start)]

    def transitions(
        self, before: list[Candidate], after: list[Candidate], straight_m: float, elapsed_s: float
    ) -> list[list[float]]:
        """Log probability (up to a constant) of each step from ``before`` to ``after``.

        Parameters
        ----------
        before, after : list of Candidate
            Places at the two fixes.
        straight_m : float
            Distance between the fixes, metres.
        elapsed_s : float
            Time between the fixes, seconds.

        Returns
        -------
        list of list of float
            A row per place before, a column per place after; ``-inf`` where it cannot be.
        """
        longest_m = straight_m * _DETOUR + _SLACK_BETAS * self.beta_m
        longest_m = min(longest_m, self.top_speed_mps * elapsed_s + 2 * self.step_m)
        rows: list[list[float]] = []
        for place in before:
            to_end_m = self.routes.length_m[place.edge] - place.offset_m
            reach = self.routes.reach(place.edge, max(0.0, longest_m - to_end_m)).to_tail_m
            row: list[float] = []
            for target in after:
                driven_m = to_end_m + reach.get(target.edge, math.inf) + target.offset_m
                if target.edge == place.edge:
                    ahead_m = target.offset_m - place.offset_m
                    if (
                        ahead_m >= -_BACK_SIGMAS * self.sigma_m
                    ):  # a little backwards is noise, not a loop
                        driven_m = min(driven_m, ahead_m)
                if driven_m > longest_m:
                    row.append(IMPOSSIBLE)
                else:
                    row.append(-abs(driven_m - straight_m) / self.beta_m)
            rows.append(row)
        return rows

    def driven(self, before: Candidate, after: Candidate) -> list[int]:
        """Edges driven after the one of ``before``, up to and with the one of ``after``."""
        if before.edge == after.edge and (
            after.offset_m >= before.offset_m - _BACK_SIGMAS * self.sigma_m
        ):
            return []
        bound_m = _STEP_BACK_M
        while True:
            reach = self.routes.reach(before.edge, bound_m)
            if after.edge in reach.to_tail_m:
                return reach.route(before.edge, after.edge)
            bound_m *= 2
            if bound_m > _FARTHEST_M:
                return [after.edge]


_END_M = 0.01
_END_COST = 1.0
"""A fix beyond a road's end fits a road that it lies beside better, as a log probability."""
_BACK_SIGMAS = 5.0
_DETOUR = 2.0
_SLACK_BETAS = 20.0
_STEP_BACK_M = 300.0
_FARTHEST_M = 100_000.0
