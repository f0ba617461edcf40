"""Polynomial regression of recent positions (survey on service migration, reference [72]).

East and north are fitted as polynomials of time; where they lead, and how uncertain that is by the
residuals and the distance from the data, gives a bundle of curved ways over the plane.
"""

from dataclasses import dataclass

import numpy as np

from testbed.prediction.calibration import Calibration
from testbed.prediction.fitted import REGRESSION
from testbed.prediction.outlook import STEPS, Outlook, nothing_ahead
from testbed.prediction.predictor import MovementState
from testbed.prediction.sites import SitePredictor
from testbed.prediction.tree import UNROLLING
from testbed.roads.arrays import Floats, Ints

_NODES = (-1.6, -0.8, 0.0, 0.8, 1.6)
"""Points of the bundle in standard deviations, to either side and along."""
_STEP_S = 2.0
_REACH = 1.5
_FEWEST_FIXES = 4


@dataclass(frozen=True, eq=False)
class PolynomialRegression(SitePredictor):
    """Extrapolates the recent positions.

    Attributes
    ----------
    roads, cells, coverage, horizon_s, sites
        See `SitePredictor`.
    degree : int
        Of the polynomials.
    window_s : float
        Fixes older than this are not used, seconds.
    noise_m : float
        A fix's own error, metres; residuals below it are not believed.
    agility_mps2 : float
        Accelerations that nobody foresees: uncertainty grows with half of this times time squared
        at first, and later with time.
    margin_m : float
        How far beyond a border the radio is handed over, metres.
    spread : float
        Scale of the logarithm of arrival times.
    calibration : Calibration
        What the resulting probabilities mean.
    """

    degree: int = 2
    window_s: float = 25.0
    noise_m: float = 3.0
    agility_mps2: float = 0.6
    margin_m: float = UNROLLING.settle_m - UNROLLING.early_m
    spread: float = 0.2
    calibration: Calibration = REGRESSION

    def outlook(self, state: MovementState) -> Outlook:
        """Curved ways around the extrapolated one; nothing with fewer than four recent fixes."""
        fixes = np.array(
            [fix for fix in state.fixes if fix[0] >= state.fixes[-1][0] - self.window_s]
        )
        if len(fixes) < _FEWEST_FIXES:
            return nothing_ahead(state.serving_site)
        count = int(_REACH * self.horizon_s / _STEP_S) + 1
        ahead_s: Floats = np.arange(1.0, count + 1) * _STEP_S
        x_m, y_m, deviation_m = self._extrapolated(fixes, ahead_s)
        node = np.array(_NODES)
        weight = np.exp(-0.5 * node**2)
        weight /= weight.sum()
        side, along = (grid.ravel() for grid in np.meshgrid(node, node))
        east = x_m[None, :] + side[:, None] * deviation_m[None, :]
        north = y_m[None, :] + along[:, None] * deviation_m[None, :]
        cell = self.cells.nearest_indices(fixes[-1:, 1], fixes[-1:, 2])[0]
        serving = self._sites.serving(state.serving_site, int(cell))
        cells = self._entered(east, north)
        site, eta_s = _visits(self._sites.of_cell[cells], serving, ahead_s)
        chance = np.outer(weight, weight).ravel()
        return Outlook(
            self._sites.names[serving],
            self._sites.names,
            chance,
            site,
            eta_s,
            self.spread,
            calibration=self.calibration,
        )

    def _extrapolated(self, fixes: Floats, ahead_s: Floats) -> tuple[Floats, Floats, Floats]:
        """East, north and standard deviation of the position at times from now."""
        time_s = fixes[:, 0] - fixes[-1, 0]
        degree = min(self.degree, len(fixes) - 2)
        powers = np.vander(time_s / self.window_s, degree + 1, increasing=True)
        future = np.vander(ahead_s / self.window_s, degree + 1, increasing=True)
        values, *_ = np.linalg.lstsq(powers, fixes[:, 1:], rcond=None)
        residual = fixes[:, 1:] - powers @ values
        freedom = max(1, len(fixes) - degree - 1)
        variance = max(self.noise_m**2, float((residual**2).sum()) / (2 * freedom))
        covariance = np.linalg.pinv(powers.T @ powers)
        leverage = np.einsum("ti,ij,tj->t", future, covariance, future)
        calm = self.window_s / 2
        free_m = 0.5 * self.agility_mps2 * ahead_s * np.minimum(ahead_s, calm)
        position = future @ values
        return position[:, 0], position[:, 1], np.sqrt(variance * (1 + leverage) + free_m**2)

    def _entered(self, east: Floats, north: Floats) -> Ints:
        """Cell at each point of each way; a border counts once the margin behind it is crossed."""
        step_x = np.gradient(east, axis=1)
        step_y = np.gradient(north, axis=1)
        length = np.maximum(np.hypot(step_x, step_y), 1e-6)
        back = np.minimum(self.margin_m, np.arange(1, east.shape[1] + 1) * length)
        found = self.cells.nearest_indices(
            east - step_x / length * back, north - step_y / length * back
        )
        return found.reshape(east.shape)


def _visits(sites: Ints, serving: int, ahead_s: Floats) -> tuple[Ints, Floats]:
    """The other sites on each way in order, and when each is entered."""
    site = np.full((len(sites), STEPS), -1)
    eta_s = np.full((len(sites), STEPS), np.inf)
    before = np.concatenate((np.full((len(sites), 1), serving), sites[:, :-1]), axis=1)
    for way, at in np.argwhere(sites != before):
        step = int((site[way] >= 0).sum())
        if step < STEPS:
            site[way, step], eta_s[way, step] = sites[way, at], ahead_s[at]
    return site, eta_s
