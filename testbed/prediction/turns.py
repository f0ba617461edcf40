"""Where a driver goes at a junction: a distribution from geometry, road class and street name."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from testbed.roads.network import RoadMap

CLASS_RANK: dict[str, int] = {
    "motorway": 0, "trunk": 1, "primary": 2, "secondary": 3, "tertiary": 4, "unclassified": 5,
    "road": 5, "residential": 6, "living_street": 7, "service": 8, "track": 9,
}  # fmt: skip
_UNKNOWN_RANK = 5
_CHORD_M = 30.0


@dataclass(frozen=True)
class TurnWeights:
    """How much each thing counts at a junction (weights are multiplied, then made to sum to 1).

    The defaults fit 90 SUMO trips in Berlin and GeoLife's cars, taxis and buses in Beijing alike
    (log-likelihood of 2,475 and 3,639 turns; not held out).

    Attributes
    ----------
    spread_deg : float
        Turns decay as a Gaussian of this width, down to ``sharp``.
    sharp : float
        Weight of a right-angled or sharper turn beside going straight on.
    u_turn : float
        Weight of turning round.
    class_step : float
        Factor for each class of road lower than the one driven on.
    same_street : float
        Factor for staying on a street with the same name.
    driven_before : float
        Factor for a road driven on shortly before, in either direction.
    """

    spread_deg: float = 42.0
    sharp: float = 0.22
    u_turn: float = 0.015
    class_step: float = 0.74
    same_street: float = 1.8
    driven_before: float = 0.2


@dataclass(frozen=True, eq=False)
class TurnModel:
    """Probabilities of what follows each edge of a map."""

    roads: RoadMap
    weights: TurnWeights = TurnWeights()

    @cached_property
    def _known(self) -> dict[int, list[tuple[int, float]]]:
        return {}

    @cached_property
    def _headings(self) -> tuple[list[float], list[float]]:
        """Directions over the first and the last metres of each edge, radians."""
        roads = self.roads
        edge = np.arange(roads.edge_count)
        length = roads.length_m
        ends = []
        for begin, end in ((0 * length, np.minimum(length, _CHORD_M)),
                           (np.maximum(0.0, length - _CHORD_M), length)):  # fmt: skip
            x0, y0 = roads.positions(edge, begin)
            x1, y1 = roads.positions(edge, end)
            ends.append([float(a) for a in np.arctan2(x1 - x0, y1 - y0)])
        return ends[0], ends[1]

    def angle_deg(self, before: int, after: int) -> float:
        """How sharp the turn from one edge into another is, 0 (straight on) to 180 degrees."""
        leaving, arriving = self._headings[0][after], self._headings[1][before]
        return abs(math.degrees(math.remainder(leaving - arriving, 2 * math.pi)))

    def turns(self, edge: int, recent: tuple[int, ...] = ()) -> list[tuple[int, float]]:
        """Followers of an edge with their probabilities, which sum to 1 unless there is none.

        Parameters
        ----------
        edge : int
            The edge being left.
        recent : tuple of int
            Edges driven before, which nobody is quick to take again.
        """
        known = self._known.get(edge)
        if known is None:
            followers = self.roads.followers(edge).tolist()
            known = _shares([(after, self._weight(edge, after)) for after in followers])
            self._known[edge] = known
        if not recent or len(known) == 1:
            return known
        again = self.weights.driven_before
        opposite = self.roads.opposite
        return _shares(
            [
                (after, share * (again if after in recent or opposite[after] in recent else 1.0))
                for after, share in known
            ]
        )

    def _weight(self, before: int, after: int) -> float:
        use, roads = self.weights, self.roads
        if after == roads.opposite[before]:
            return use.u_turn
        angle = self.angle_deg(before, after)
        weight = use.sharp + (1 - use.sharp) * math.exp(-((angle / use.spread_deg) ** 2))
        if angle > _BACKWARDS_DEG:
            weight = use.u_turn
        lower = class_rank(str(roads.road_class[after])) - class_rank(str(roads.road_class[before]))
        weight *= use.class_step ** max(0, lower)
        if roads.street[before] and roads.street[before] == roads.street[after]:
            weight *= use.same_street
        return weight


_BACKWARDS_DEG = 160.0


def class_rank(road_class: str) -> int:
    """Place of a road class among the classes, 0 for motorways; a link ranks as its class."""
    return CLASS_RANK.get(road_class.removesuffix("_link"), _UNKNOWN_RANK)


def _shares(weights: list[tuple[int, float]]) -> list[tuple[int, float]]:
    total = sum(weight for _, weight in weights)
    return [(after, weight / total) for after, weight in weights]
