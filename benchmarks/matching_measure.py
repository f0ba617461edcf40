"""How wrong a matched route is (Newson and Krumm 2009, section 4), and how many of its fixes.

The driven and the answered route are sequences of stretches ``(edge, from_m, to_m)``. They are
laid beside each other in order so that as many metres as possible agree; what is left over of the
driven one was *missed*, what is left over of the answer was *added*.
"""

from dataclasses import dataclass

import numpy as np
from matching_truth import Fixes, Truth, nearest_offsets

from testbed.roads.arrays import Floats, Ints
from testbed.roads.network import RoadMap

NO_EDGE = -1


@dataclass(frozen=True)
class Part:
    """An unbroken piece of an answer: its edges, and the first and last fix that lie on it."""

    edges: tuple[int, ...]
    first_fix: int
    last_fix: int


@dataclass(frozen=True)
class Answer:
    """What a matcher says about one trace.

    Attributes
    ----------
    parts : tuple of Part
        The driven way, in order.
    fix_edge : numpy.ndarray of int
        The edge of each fix, -1 where it has none.
    cpu_s : float
        What it took.
    failure : str
        Why there is no answer, else empty.
    """

    parts: tuple[Part, ...]
    fix_edge: Ints
    cpu_s: float
    failure: str = ""


@dataclass(frozen=True)
class Way:
    """Stretches of road in the order in which they are driven (all arrays of one length)."""

    edge: Ints
    from_m: Floats
    to_m: Floats

    @property
    def length_m(self) -> float:
        """Metres in all."""
        return float((self.to_m - self.from_m).sum())


@dataclass(frozen=True)
class Wrong:
    """The two errors of a route and the fixes that are right; sums over routes are sums of these.

    Attributes
    ----------
    true_m, missed_m, added_m : float
        Metres driven, of these not in the answer, and in the answer but not driven.
    fixes, right : int
        All, and those on the right edge.
    """

    true_m: float = 0.0
    missed_m: float = 0.0
    added_m: float = 0.0
    fixes: int = 0
    right: int = 0

    def __add__(self, other: "Wrong") -> "Wrong":
        """Both routes together."""
        return Wrong(
            self.true_m + other.true_m,
            self.missed_m + other.missed_m,
            self.added_m + other.added_m,
            self.fixes + other.fixes,
            self.right + other.right,
        )

    @property
    def mismatched(self) -> float:
        """Missed and added over driven metres: 0 is right, 1 and more is possible."""
        return (self.missed_m + self.added_m) / self.true_m

    @property
    def missed(self) -> float:
        """Share of the driven metres that the answer lacks."""
        return self.missed_m / self.true_m

    @property
    def added(self) -> float:
        """Metres that were not driven over those that were."""
        return self.added_m / self.true_m

    @property
    def right_share(self) -> float:
        """Share of the fixes on the right edge."""
        return self.right / self.fixes


def judge(roads: RoadMap, truth: Truth, fixes: Fixes, answer: Answer) -> tuple[Wrong, Wrong]:
    """Errors of an answer with directions, and without (a street is right either way round).

    Parameters
    ----------
    roads : RoadMap
        The map.
    truth : Truth
        The drive, sampled like the fixes.
    fixes : Fixes
        What the matcher was given.
    answer : Answer
        What it said.
    """
    driven = driven_way(roads, truth)
    answered = answered_way(roads, fixes, answer)
    right = truth.right_edges()
    found = []
    for one_way in (True, False):
        name = np.arange(roads.edge_count) if one_way else street_names(roads)
        common_m = agreeing_m(
            driven if one_way else undirected(roads, driven),
            answered if one_way else undirected(roads, answered),
        )
        said = np.where(answer.fix_edge < 0, NO_EDGE, name[answer.fix_edge])
        hit = (said == name[right[0]]) | (said == name[right[1]])
        found.append(
            Wrong(
                driven.length_m,
                driven.length_m - common_m,
                answered.length_m - common_m,
                len(hit),
                int(hit.sum()),
            )
        )
    return found[0], found[1]


def driven_way(roads: RoadMap, truth: Truth) -> Way:
    """The stretches from the first fix's true place to the last one's."""
    edge = truth.route[truth.leg[0] : truth.leg[-1] + 1]
    from_m, to_m = np.zeros(len(edge)), roads.length_m[edge].copy()
    from_m[0], to_m[-1] = truth.offset_m[0], truth.offset_m[-1]
    return Way(edge, from_m, np.maximum(from_m, to_m))


def answered_way(roads: RoadMap, fixes: Fixes, answer: Answer) -> Way:
    """The stretches of an answer, every part cut where its first and last fix lie beside it.

    The cut is made here, in the same way for everyone: no matcher is asked for offsets.
    """
    rows: list[tuple[int, float, float]] = []
    for part in answer.parts:
        ends = np.array([part.edges[0], part.edges[-1]])
        at = [part.first_fix, part.last_fix]
        first_m, last_m = nearest_offsets(roads, ends, fixes.x_m[at], fixes.y_m[at])
        new = [(edge, 0.0, float(roads.length_m[edge])) for edge in part.edges]
        new[0] = (new[0][0], float(first_m), new[0][2])
        new[-1] = (new[-1][0], new[-1][1], max(new[-1][1], float(last_m)))
        if rows and rows[-1][0] == new[0][0] and roads.tail[new[0][0]] != roads.head[new[0][0]]:
            edge, from_m, to_m = rows.pop()
            new[0] = (edge, min(from_m, new[0][1]), max(to_m, new[0][2]))
        rows += new
    return Way(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
    )


def agreeing_m(driven: Way, answered: Way) -> float:
    """The most metres that two ways can have in common, each taken in its own order.

    The longest common subsequence, weighted by the metres in which two stretches overlap.
    """
    best = np.zeros(len(answered.edge) + 1)
    for edge, from_m, to_m in zip(driven.edge, driven.from_m, driven.to_m, strict=True):
        overlap = np.minimum(to_m, answered.to_m) - np.maximum(from_m, answered.from_m)
        gain = np.where(answered.edge == edge, np.maximum(overlap, 0.0), 0.0)
        best[1:] = np.maximum(best[1:], best[:-1] + gain)
        np.maximum.accumulate(best, out=best)
    return float(best[-1])


def street_names(roads: RoadMap) -> Ints:
    """One name for both directions of a street: the lesser of its two edges, shape (E,)."""
    here = np.arange(roads.edge_count)
    back = roads.opposite
    paired = (back >= 0) & (back[back] == here)
    return np.asarray(np.where(paired, np.minimum(here, back), here))


def undirected(roads: RoadMap, way: Way) -> Way:
    """The same stretches, those against a street's name turned round."""
    name = street_names(roads)[way.edge]
    turned = name != way.edge
    length = roads.length_m[way.edge]
    return Way(
        name,
        np.where(turned, length - way.to_m, way.from_m),
        np.where(turned, length - way.from_m, way.to_m),
    )


def failed(fix_count: int, cpu_s: float, why: str) -> Answer:
    """No answer: everything that was driven is missed."""
    return Answer((), np.full(fix_count, NO_EDGE), cpu_s, why)
