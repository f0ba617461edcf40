"""How far it is to drive from one edge to others nearby."""

import heapq
import itertools
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

from testbed.roads.network import RoadMap

_KEPT = 4096


@dataclass(frozen=True)
class Reach:
    """What can be driven to from the end of one edge.

    Attributes
    ----------
    bound_m : float
        Edges whose tail is farther than this are left out.
    to_tail_m : dict of int to float
        Metres from the end of the edge to the tail of each edge reached; a U-turn counts extra.
    before : dict of int to int
        The edge driven just before each edge reached.
    """

    bound_m: float
    to_tail_m: dict[int, float]
    before: dict[int, int]

    def route(self, source: int, target: int) -> list[int]:
        """Edges driven after ``source`` up to and with ``target``, which must be reached."""
        edges = [target]
        while self.before[edges[-1]] != source:
            edges.append(self.before[edges[-1]])
        return edges[::-1]


@dataclass(frozen=True, eq=False)
class RouteFinder:
    """Bounded shortest routes on a map, remembered from one question to the next.

    Attributes
    ----------
    roads : RoadMap
        The map.
    u_turn_m : float
        What turning round at a junction counts, metres.
    """

    roads: RoadMap
    u_turn_m: float = 30.0
    _known: OrderedDict[int, Reach] = field(default_factory=OrderedDict, repr=False)

    @cached_property
    def _followers(self) -> list[list[int]]:
        start, follower = self.roads.follower_start.tolist(), self.roads.follower.tolist()
        return [follower[a:b] for a, b in itertools.pairwise(start)]

    @cached_property
    def length_m(self) -> list[float]:
        """Length of each edge as plain floats."""
        return list(self.roads.length_m.tolist())

    @cached_property
    def _opposite(self) -> list[int]:
        return list(self.roads.opposite.tolist())

    def reach(self, edge: int, bound_m: float) -> Reach:
        """All edges whose tail is at most ``bound_m`` from the end of ``edge``.

        A larger search than asked for may be returned, when it is known already.
        """
        known = self._known.get(edge)
        if known is not None and known.bound_m >= bound_m:
            self._known.move_to_end(edge)
            return known
        bound = _STEP_M
        while bound < bound_m:
            bound *= 1.5
        found = bounded_routes(
            edge,
            bound,
            followers=self._followers,
            length_m=self.length_m,
            opposite=self._opposite,
            u_turn_m=self.u_turn_m,
        )
        self._known[edge] = found
        self._known.move_to_end(edge)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found


_STEP_M = 150.0


def bounded_routes(
    edge: int,
    bound_m: float,
    *,
    followers: list[list[int]],
    length_m: list[float],
    opposite: list[int],
    u_turn_m: float,
) -> Reach:
    """Dijkstra's search over edges from the end of ``edge``, stopped at ``bound_m``."""
    to_tail: dict[int, float] = {}
    before: dict[int, int] = {}
    best: dict[int, float] = {}
    queue: list[tuple[float, int, int]] = []

    def open_from(last: int, at_m: float) -> None:
        for follower in followers[last]:
            tail_m = at_m + (u_turn_m if follower == opposite[last] else 0.0)
            if tail_m <= bound_m and tail_m < best.get(follower, bound_m + 1.0):
                best[follower] = tail_m
                heapq.heappush(queue, (tail_m, follower, last))

    open_from(edge, 0.0)
    while queue:
        at_m, here, last = heapq.heappop(queue)
        if here in to_tail:
            continue
        to_tail[here] = at_m
        before[here] = last
        open_from(here, at_m + length_m[here])
    return Reach(bound_m, to_tail, before)
