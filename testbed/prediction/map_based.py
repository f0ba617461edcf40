"""Follow the road ahead and see which site's stretch comes next (MSMF, section 4.1).

From the user's edge, offset and direction the roads ahead are unrolled into a tree. At each
junction the probability splits by `testbed.prediction.turns`; along each road the coverage says
which site comes when. The first other site entered on a branch gets the branch's probability.
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from testbed.prediction.predictor import Candidate, MovementState
from testbed.prediction.turns import TurnModel
from testbed.roads.cells import Cells
from testbed.roads.coverage import Coverage
from testbed.roads.network import RoadMap


@dataclass(frozen=True)
class _Branch:
    """One way through the tree so far; ``next_site`` was entered but not yet stayed in."""

    at_s: float
    probability: float
    edge: int
    offset_m: float
    next_site: str = ""
    entered_s: float = 0.0
    inside_m: float = 0.0


@dataclass(frozen=True, eq=False)
class MapBased:
    """The map-based predictor.

    Attributes
    ----------
    roads, cells, coverage
        The map, its base stations, and which of them covers what.
    horizon_s : float
        Sites entered later are not looked for, seconds.
    sites : mapping of str to str, optional
        Site of each cell, where a site serves several (regional servers); else each cell is one.
    slowest_mps : float
        A standing user is assumed to move on at this speed at least, metres per second.
    settle_m : float
        A site counts once the way stays in it for so long (MSMF's short coverage, section 4.1);
        shorter visits are passed over, also the one at the user's own position, metres.
    least_probability : float
        Branches less likely than this are not followed.
    """

    roads: RoadMap
    cells: Cells
    coverage: Coverage
    horizon_s: float = 30.0
    sites: Mapping[str, str] = field(default_factory=dict)
    slowest_mps: float = 1.0
    settle_m: float = 25.0
    least_probability: float = 0.002

    @cached_property
    def _turns(self) -> TurnModel:
        return TurnModel(self.roads)

    @cached_property
    def _site_of(self) -> list[str]:
        return [self.sites.get(name, name) for name in self.cells.names]

    @cached_property
    def _limit_mps(self) -> list[float]:
        return list(self.roads.limit_mps.tolist())

    def predict(self, state: MovementState) -> list[Candidate]:
        """Candidates for the next other site within the horizon, best first.

        Returns
        -------
        list of Candidate
            Empty where the user is not on a road. Probabilities include that of the match; what
            is missing to 1 is the chance that no other site is entered in time.
        """
        if state.edge < 0:
            return []
        serving = state.serving_site
        if not serving:
            cell = self.coverage.cell_at(state.edge, state.offset_m)
            serving = self.sites.get(cell, cell)
        speeds = (state.speed_mps, state.cruise_mps, self.slowest_mps)
        speed = max(value for value in speeds if not math.isnan(value))
        recent = tuple(edge for edge in state.recent_edges if edge != state.edge)
        found: dict[str, tuple[float, float]] = {}
        start = _Branch(0.0, state.match_probability, state.edge, state.offset_m)
        queue = [(-start.probability, 0, start)]
        opened = 0
        while queue and opened < _MOST_BRANCHES:
            _, _, branch = heapq.heappop(queue)
            ended = self._along(branch, serving, speed, state.edge)
            if isinstance(ended, _Branch):
                for after, share in self._turns.turns(ended.edge, recent):
                    probability = ended.probability * share
                    if probability >= self.least_probability:
                        opened += 1
                        onward = _Branch(
                            ended.at_s, probability, after, 0.0,
                            ended.next_site, ended.entered_s, ended.inside_m,
                        )  # fmt: skip
                        heapq.heappush(queue, (-probability, opened, onward))
            elif ended is not None:
                site, entered_s = ended
                sure, weighted_s = found.get(site, (0.0, 0.0))
                found[site] = (
                    sure + branch.probability,
                    weighted_s + branch.probability * entered_s,
                )
        candidates = [
            Candidate(site, min(1.0, sure), weighted_s / sure)
            for site, (sure, weighted_s) in found.items()
            if sure > 0
        ]
        return sorted(candidates, key=lambda c: (-c.probability, c.eta_s, c.site))

    def _along(
        self, branch: _Branch, serving: str, speed: float, own_edge: int
    ) -> _Branch | tuple[str, float] | None:
        """Drive to the end of a branch's edge.

        Returns the branch at the edge's end, or the site it settled in and when that was entered,
        or ``None`` where the horizon ends it in the serving site.
        """
        at_s, next_site = branch.at_s, branch.next_site
        entered_s, inside_m = branch.entered_s, branch.inside_m
        edge = branch.edge
        mps = speed if edge == own_edge else min(speed, self._limit_mps[edge])
        for from_m, to_m, cell in self.coverage.rows[edge]:
            if to_m <= branch.offset_m:
                continue
            if at_s > self.horizon_s:
                break
            length_m = to_m - max(from_m, branch.offset_m)
            site = self._site_of[cell]
            if site == serving:
                next_site, inside_m = "", 0.0
            else:
                if site != next_site:
                    next_site, entered_s, inside_m = site, at_s, 0.0
                inside_m += length_m
                if inside_m >= self.settle_m:
                    return next_site, entered_s
            at_s += length_m / mps
        if (
            at_s > self.horizon_s
            or self.roads.follower_start[edge] == self.roads.follower_start[edge + 1]
        ):
            return (next_site, entered_s) if next_site else None
        return _Branch(
            at_s,
            branch.probability,
            edge,
            self.roads.length_m[edge],
            next_site,
            entered_s,
            inside_m,
        )


_MOST_BRANCHES = 3000
