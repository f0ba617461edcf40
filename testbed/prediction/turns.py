"""Where a driver goes at a junction: a distribution from geometry, road class and street name."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from testbed.prediction.turn_counts import TurnCounts
from testbed.roads.arrays import Floats
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

    The defaults are the likeliest ones for 6,882 turns: of GeoLife's cars, taxis and buses in
    Beijing, only of the training users (every second of the twenty with labels: 020, 062, 068,
    084, 089, 112, 125, 128, 163, 179), and of SUMO trips in Berlin with the seeds 1 to 140; both
    count equally; see ``benchmarks/prediction_fit.py``.

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

    spread_deg: float = 96.6
    sharp: float = 0.001
    u_turn: float = 0.036
    class_step: float = 0.721
    same_street: float = 1.966
    driven_before: float = 0.595


TURN_WEIGHTS = TurnWeights()


@dataclass(frozen=True, eq=False)
class TurnModel:
    """Probabilities of what follows each edge of a map.

    Attributes
    ----------
    roads : RoadMap
        The map.
    weights : TurnWeights
        What geometry, road class and street name let expect.
    counts : TurnCounts, optional
        Turns observed before, which count beside that expectation.
    """

    roads: RoadMap
    weights: TurnWeights = TURN_WEIGHTS
    counts: TurnCounts | None = None

    def __post_init__(self) -> None:
        """Refuse turns that were counted on another map."""
        if self.counts is not None:
            self.counts.check(self.roads.name, self.roads.edge_count)

    @cached_property
    def _seen(self) -> dict[int, dict[int, int]]:
        """For each edge on which somebody was seen: how often what was driven into."""
        seen: dict[int, dict[int, int]] = {}
        for (before, after), count in (self.counts.counts if self.counts else {}).items():
            seen.setdefault(before, {})[after] = count
        return seen

    @cached_property
    def _known(self) -> dict[int, list[tuple[int, float]]]:
        return {}

    @cached_property
    def headings(self) -> tuple[list[float], list[float]]:
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

    @cached_property
    def shares(self) -> Floats:
        """Probability of each entry of ``roads.follower`` after its edge, shape (S,)."""
        found = np.zeros(len(self.roads.follower))
        for edge in range(self.roads.edge_count):
            first = int(self.roads.follower_start[edge])
            for slot, (_, share) in enumerate(self.turns(edge), start=first):
                found[slot] = share
        return found

    def angle_deg(self, before: int, after: int) -> float:
        """How sharp the turn from one edge into another is, 0 (straight on) to 180 degrees."""
        leaving, arriving = self.headings[0][after], self.headings[1][before]
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
            if edge in self._seen and self.counts is not None:
                seen, strength = self._seen[edge], self.counts.strength
                known = _shares([(a, seen.get(a, 0) + strength * share) for a, share in known])
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
