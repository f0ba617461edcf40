"""Follow the road ahead and see which site's stretch comes next (MSMF, section 4.1).

From the user's edge, offset and direction the roads ahead are unrolled into a tree
(`testbed.prediction.tree`); at each junction the probability splits by
`testbed.prediction.turns`, and the coverage says which sites come after how many metres. When
that is, `testbed.prediction.pace` says. As far as the match is not sure, and where the user is on
no road at all, straight ways over the plane take its place (`testbed.prediction.rays`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from testbed.prediction.calibration import Calibration
from testbed.prediction.compiled import MOST_WAYS, candidates_ahead, ways_ahead
from testbed.prediction.fitted import MAP_BASED
from testbed.prediction.outlook import (
    STEPS,
    Outlook,
    nothing_ahead,
    ranked,
    tally_room,
)
from testbed.prediction.pace import PACE, Pace
from testbed.prediction.predictor import Candidate, MovementState
from testbed.prediction.rays import FAN, Fan, Plane
from testbed.prediction.sites import SitePredictor
from testbed.prediction.tree import (
    UNROLLING,
    RoadTree,
    Unrolling,
    heading_pull,
    make_stack,
)
from testbed.prediction.turn_counts import TurnCounts
from testbed.prediction.turns import TURN_WEIGHTS, TurnModel, TurnWeights
from testbed.roads.arrays import Floats, Ints

_REACH = 2.5
_REACH_MORE_M = 60.0
_RECENT = 12


@dataclass(frozen=True, eq=False)
class MapBased(SitePredictor):
    """The map-based predictor.

    Attributes
    ----------
    roads, cells, coverage, horizon_s, sites
        See `SitePredictor`.
    counts : TurnCounts, optional
        Turns observed before; they sharpen what geometry and road class let expect.
    weights : TurnWeights
        What geometry, road class and street name let expect.
    pace, rules, fan, calibration
        How fast users are, how roads are unrolled, where users on no road go, and what the
        resulting probabilities mean; the defaults are fitted.
    trust : float
        Probability that somebody who is surely matched to a road also follows it. Counts where a
        position is known that straight ways can start from.
    near_m : float
        The nearer the border straight ahead, the more the position itself tells, and not the road:
        at this distance trust is halved, metres.
    strictness : float
        How much less a match is trusted whose road leads elsewhere than the last metres.
    """

    counts: TurnCounts | None = None
    weights: TurnWeights = TURN_WEIGHTS
    pace: Pace = PACE
    rules: Unrolling = UNROLLING
    fan: Fan = FAN
    calibration: Calibration = MAP_BASED
    trust: float = 0.9
    near_m: float = 40.0
    strictness: float = 3.0

    @cached_property
    def tree(self) -> RoadTree:
        """The network as the compiled core reads it."""
        turns = TurnModel(self.roads, self.weights, self.counts)
        return RoadTree(self.roads, self.coverage, turns, self._sites, self.rules.shallow_m)

    @cached_property
    def _plane(self) -> Plane:
        return Plane(self.cells, self._sites.of_cell)

    @cached_property
    def _rules(self) -> tuple[float, ...]:
        return (
            self.rules.settle_m,
            self.rules.early_m,
            self.rules.least,
            self.tree.turns.weights.driven_before,
            self.trust,
            self.near_m,
            self.strictness,
            self.pace.relax_s,
            self.pace.delay,
            self.pace.spread,
            self.pace.blur_s,
        )

    def outlook(self, state: MovementState) -> Outlook:
        """The ways over the roads ahead; straight ones as far as the match is not sure."""
        asked = self._asked(state, self.horizon_s, self._cells([state])[0])
        if asked is None:
            return nothing_ahead(state.serving_site)
        room = _Room.make(STEPS, len(self._sites.names))
        count = ways_ahead(self.tree.arrays, self._plane.arrays, self._rules, asked, *room.ways)
        probability, site, eta_s = (column[:count].copy() for column in room.ways[:3])
        names = self._sites.names
        return Outlook(
            names[asked[0][2]],
            names,
            probability,
            site,
            eta_s,
            self.pace.spread,
            asked[8][2],
            self.pace.blur_s,
            self.calibration,
        )

    def predict(self, state: MovementState) -> list[Candidate]:
        """Candidates for the next other site within the horizon, best first.

        Returns
        -------
        list of Candidate
            Empty where neither road nor position are known. Probabilities include that of the
            match; what is missing to 1 is the chance that no other site is entered in time.
        """
        return self.predict_many([state])[0]

    def predict_many(self, states: Sequence[MovementState]) -> list[list[Candidate]]:
        """The same for many users at once."""
        names, horizon_s = self._sites.names, self.horizon_s
        room = _Room.make(1, len(names))
        network, plane, rules = self.tree.arrays, self._plane.arrays, self._rules
        answers: list[list[Candidate]] = []
        for state, cell in zip(states, self._cells(states), strict=True):
            asked = self._asked(state, horizon_s, cell)
            if asked is None:
                answers.append([])
                continue
            count = candidates_ahead(network, plane, rules, asked, horizon_s, room.ways, room.tally)
            columns = (column[:count].tolist() for column in room.tally[:3])
            found = [(names[site], p, eta_s) for site, p, eta_s in zip(*columns, strict=True)]
            answers.append(ranked(found, self.calibration, horizon_s, 1))
        return answers

    def _cells(self, states: Sequence[MovementState]) -> list[int]:
        """Number of the cell that each user is in; -1 where its position is not known."""
        fixes = [state.fixes[-1] if state.fixes else _NOWHERE for state in states]
        if not fixes:
            return []
        _, x_m, y_m = np.array(fixes).T
        cells: list[int] = self.cells.nearest_indices(x_m, y_m).tolist()
        return [cell if s.fixes else -1 for cell, s in zip(cells, states, strict=True)]

    def _asked(self, state: MovementState, horizon_s: float, cell: int) -> tuple[Any, ...] | None:
        """A state as the compiled core takes it; ``None`` where it says nothing about a place."""
        edge, offset_m = state.edge, state.offset_m
        x_m = y_m = math.nan
        pull = _NO_PULL
        if state.fixes:
            _, x_m, y_m = state.fixes[-1]
            _, old_x, old_y = state.fixes[0]
            pull = heading_pull(self.rules, x_m - old_x, y_m - old_y)
        elif edge < 0:
            return None
        on_edge = cell
        if edge >= 0 and (cell < 0 or not state.serving_site):
            on_edge = self.cells.index(self.coverage.cell_at(edge, offset_m))
        serving = self._sites.serving(state.serving_site, on_edge)
        coming, inside_m = -1, 0.0
        if cell >= 0:
            coming, inside_m = self._plane.entering(cell, serving, x_m, y_m)
        recent = np.full(_RECENT, -1)
        before = [old for old in state.recent_edges if old != edge][-_RECENT:]
        recent[: len(before)] = before
        now_mps, later_mps = self.pace.speeds(state)
        reach_m = _REACH * self.pace.way_m(now_mps, later_mps, horizon_s) + _REACH_MORE_M
        speeds = now_mps, later_mps, self.pace.lag_s(state)
        bearings, weights = self.fan.around(state.heading_deg)
        toward = (0.0, 0.0)
        if not math.isnan(state.heading_deg):
            heading = math.radians(state.heading_deg)
            toward = math.sin(heading), math.cos(heading)
        place = (edge, offset_m, serving, coming, inside_m)
        position = (cell, x_m, y_m)
        match = float(state.match_probability) if edge >= 0 else 0.0
        return (place, match, toward, pull, recent, position, bearings, weights, speeds, reach_m)


_NOWHERE = (0.0, 0.0, 0.0)
_NO_PULL: Floats = np.zeros(2)


@dataclass(frozen=True)
class _Room:
    """Arrays that the compiled core writes into."""

    ways: tuple[Any, ...]
    tally: tuple[Ints, Floats, Floats, Ints]

    @classmethod
    def make(cls, steps: int, sites: int) -> "_Room":
        most = 2 * MOST_WAYS
        ways = (np.empty(most), np.empty((most, steps), np.int64), np.empty((most, steps)))
        return cls((*ways, make_stack(steps)), tally_room(sites))
