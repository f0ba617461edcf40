"""Straight on at the usual speed: no map, only position, direction and how directions spread."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from testbed.prediction.calibration import Calibration
from testbed.prediction.compiled import cross
from testbed.prediction.fitted import CONSTANT_VELOCITY
from testbed.prediction.outlook import STEPS, Outlook, nothing_ahead
from testbed.prediction.pace import PACE, Pace
from testbed.prediction.predictor import MovementState
from testbed.prediction.rays import FAN, Fan, Plane
from testbed.prediction.sites import SitePredictor
from testbed.prediction.tree import UNROLLING

_REACH, _REACH_MORE_M = 3.0, 60.0


@dataclass(frozen=True, eq=False)
class ConstantVelocity(SitePredictor):
    """Extends the last metres as a fan of straight ways over the plane.

    Attributes
    ----------
    roads, cells, coverage, horizon_s, sites
        See `SitePredictor`.
    settle_m, early_m : float
        See `testbed.prediction.tree.Unrolling`, metres.
    pace, fan, calibration
        How fast users are, where they turn, what the resulting probabilities mean.
    """

    settle_m: float = UNROLLING.settle_m
    early_m: float = UNROLLING.early_m
    pace: Pace = PACE
    fan: Fan = FAN
    calibration: Calibration = CONSTANT_VELOCITY

    @cached_property
    def _plane(self) -> Plane:
        return Plane(self.cells, self._sites.of_cell)

    def outlook(self, state: MovementState) -> Outlook:
        """Straight ways in all directions, most of them ahead; nothing without a position."""
        if not state.fixes:
            return nothing_ahead(state.serving_site)
        _, x_m, y_m = state.fixes[-1]
        cell = self._plane.cell(x_m, y_m)
        serving = self._sites.serving(state.serving_site, cell)
        now_mps, later_mps = self.pace.speeds(state)
        reach_m = _REACH * self.pace.way_m(now_mps, later_mps, self.horizon_s) + _REACH_MORE_M
        bearings, weights = self.fan.around(state.heading_deg)
        site = np.empty((len(bearings), STEPS), np.int64)
        way_m = np.empty((len(bearings), STEPS))
        limits = (reach_m, self.settle_m)
        entering = (serving, *self._plane.entering(cell, serving, x_m, y_m))
        cross(self._plane.arrays, cell, entering, x_m, y_m, bearings, limits, site, way_m)
        return Outlook(
            self._sites.names[serving],
            self._sites.names,
            weights,
            site,
            self.pace.times_s(way_m - self.early_m, state),
            self.pace.spread,
            self.pace.lag_s(state),
            self.pace.blur_s,
            self.calibration,
        )
