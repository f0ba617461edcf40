"""No prediction: only what is already true is said, for comparison."""

from dataclasses import dataclass

import numpy as np

from testbed.prediction.outlook import Outlook, nothing_ahead
from testbed.prediction.predictor import MovementState
from testbed.prediction.sites import SitePredictor


@dataclass(frozen=True, eq=False)
class NearestSite(SitePredictor):
    """Names the nearest site once it is another than the serving one; never looks ahead.

    While the user is still nearest to its serving site there is no candidate. From the moment
    another site is nearest that one is certain (as certain as the match) and due at once.

    Attributes
    ----------
    roads, cells, coverage, horizon_s, sites
        See `SitePredictor`.
    """

    horizon_s: float = 1.0

    def outlook(self, state: MovementState) -> Outlook:
        """The nearest site if it is not the serving one, else nothing."""
        if state.edge >= 0:
            cell, sure = self.coverage.cell_at(state.edge, state.offset_m), state.match_probability
        elif state.fixes:
            cell, sure = self.cells.nearest(*state.fixes[-1][1:]), 1.0
        else:
            return nothing_ahead(state.serving_site)
        nearest = int(self._sites.of_cell[self.cells.index(cell)])
        serving = self._sites.index.get(state.serving_site, nearest)
        if nearest == serving:
            return nothing_ahead(self._sites.names[serving])
        return Outlook(
            self._sites.names[serving],
            self._sites.names,
            np.array([sure]),
            np.array([[nearest]]),
            np.zeros((1, 1)),
        )
