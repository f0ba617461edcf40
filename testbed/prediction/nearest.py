"""No prediction: only what is already true is said, for comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from testbed.prediction.predictor import Candidate, MovementState
from testbed.roads.cells import Cells
from testbed.roads.coverage import Coverage
from testbed.roads.network import RoadMap


@dataclass(frozen=True, eq=False)
class NearestSite:
    """Names the nearest site once it is another than the serving one; never looks ahead.

    While the user is still nearest to its serving site there is no candidate. From the moment
    another site is nearest that one is certain (as certain as the match) and due at once.

    Attributes
    ----------
    roads, cells, coverage
        The map, its base stations, and which of them covers what.
    horizon_s : float
        Not used: there is no looking ahead.
    sites : mapping of str to str, optional
        Site of each cell, where a site serves several.
    """

    roads: RoadMap
    cells: Cells
    coverage: Coverage
    horizon_s: float = 0.0
    sites: Mapping[str, str] = field(default_factory=dict)

    def predict(self, state: MovementState) -> list[Candidate]:
        """The nearest site if it is not the serving one, else nothing."""
        if state.edge < 0:
            return []
        cell = self.coverage.cell_at(state.edge, state.offset_m)
        site = self.sites.get(cell, cell)
        if not state.serving_site or site == state.serving_site:
            return []
        return [Candidate(site, state.match_probability, 0.0)]
