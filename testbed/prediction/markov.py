"""Markov chains on sites: the coarse-grained predictor from history (Bellavista, "Prediction").

The next site follows from the last ``order`` ones as often as it was seen to; where little was
seen, a shorter context counts, and at last the neighbouring cells, equally (Dirichlet smoothing
from order to order). When it comes follows from how long users stay.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from testbed.prediction.calibration import Calibration
from testbed.prediction.fitted import MARKOV
from testbed.prediction.history import NOTHING_LEARNT, SiteHistory
from testbed.prediction.outlook import STEPS, Outlook, nothing_ahead
from testbed.prediction.predictor import MovementState
from testbed.prediction.sites import SitePredictor

_RIM = 1.25
_LEAST = 0.01


@dataclass(frozen=True, eq=False)
class MarkovSites(SitePredictor):
    """A Markov chain of the sites that served.

    Attributes
    ----------
    roads, cells, coverage, horizon_s, sites
        See `SitePredictor`.
    history : SiteHistory
        What was learnt; empty at first: then all neighbours are equally likely.
    smoothing : float
        Observations that the shorter context counts for.
    returning : float
        Prior weight of the site that served before, beside the other neighbours.
    stay_s, spread : float
        Prior of the time spent in a cell: median in seconds, spread of its logarithm.
    calibration : Calibration
        What the resulting probabilities mean.
    """

    history: SiteHistory = NOTHING_LEARNT
    smoothing: float = 2.0
    returning: float = 0.2
    stay_s: float = 90.0
    spread: float = 0.6
    calibration: Calibration = MARKOV

    @cached_property
    def _neighbours(self) -> dict[str, list[str]]:
        """Sites of the cells around each site's."""
        found: dict[str, set[str]] = {name: set() for name in self._sites.names}
        pairs = self.cells.tree.query_pairs(_RIM * self.cells.separation_m)
        of_cell, names = self._sites.of_cell, self._sites.names
        for one, other in pairs:
            a, b = names[of_cell[one]], names[of_cell[other]]
            if a != b:
                found[a].add(b)
                found[b].add(a)
        return {site: sorted(around) for site, around in found.items()}

    def next_sites(self, context: tuple[str, ...]) -> dict[str, float]:
        """Probability of each next site after some sites, the serving one last."""
        serving = context[-1]
        around = self._neighbours.get(serving, [])
        weight = {site: self.returning if context[-2:-1] == (site,) else 1.0 for site in around}
        total = sum(weight.values())
        shares = {site: w / total for site, w in weight.items()}
        for length in range(1, min(self.history.order, len(context)) + 1):
            seen = self.history.following.get(context[-length:])
            if not seen:
                continue
            count = sum(seen.values()) + self.smoothing
            shares = {
                site: (seen.get(site, 0) + self.smoothing * shares.get(site, 0.0)) / count
                for site in {**shares, **seen}
                if site != serving
            }
        return shares

    def outlook(self, state: MovementState) -> Outlook:
        """Sequences of sites that are likely enough; times are those of usual visits."""
        visits = [site for site, _ in state.recent_sites]
        if state.serving_site and (not visits or visits[-1] != state.serving_site):
            visits.append(state.serving_site)
        visits = [site for site in visits if site in self._sites.index]
        if not visits:
            return nothing_ahead(state.serving_site)
        stayed_s = 0.0
        if state.recent_sites and state.fixes and state.recent_sites[-1][0] == visits[-1]:
            stayed_s = max(0.0, state.fixes[-1][0] - state.recent_sites[-1][1])
        median_s, spread = self.history.stay(visits[-1], self.stay_s, self.spread)
        first_s = _remaining_s(median_s, spread, stayed_s)
        ways: list[tuple[float, tuple[str, ...], float, list[float]]] = []
        waiting = [(1.0, tuple(visits), first_s, [0.0] * 0)]
        while waiting:
            chance, context, leaves_s, times = waiting.pop()
            onward = self.next_sites(context) if len(times) < STEPS else {}
            likely = {s: p for s, p in sorted(onward.items()) if chance * p >= _LEAST}
            if not likely:
                ways.append((chance, context[len(visits) :], leaves_s, times))
                continue
            for site, share in likely.items():
                stay_s, _ = self.history.stay(site, self.stay_s, self.spread)
                part = chance * share
                waiting.append((part, (*context, site), leaves_s + stay_s, [*times, leaves_s]))
        return self._outlook(visits[-1], ways, spread)

    def _outlook(
        self,
        serving: str,
        ways: list[tuple[float, tuple[str, ...], float, list[float]]],
        spread: float,
    ) -> Outlook:
        site = np.full((len(ways), STEPS), -1)
        eta_s = np.full((len(ways), STEPS), np.inf)
        for row, (_, visits, _, times) in enumerate(ways):
            site[row, : len(visits)] = [self._sites.index[name] for name in visits]
            eta_s[row, : len(times)] = times
        chance = np.array([way[0] for way in ways])
        names = self._sites.names
        return Outlook(serving, names, chance, site, eta_s, spread, calibration=self.calibration)


def _remaining_s(median_s: float, spread: float, stayed_s: float) -> float:
    """Median of what remains of a log-logistic stay after a part of it."""
    left = 1 / (1 + (stayed_s / median_s) ** (1 / spread))
    odds = (2 - left) / left
    return float(median_s * odds**spread - stayed_s)
