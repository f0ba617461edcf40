"""Trends of signal strength: the fine-grained predictor (Bellavista et al., "Prediction").

What counts is how much stronger each base station is than the serving one, and how fast that
changes; when it passes the hysteresis, the radio is handed over. No map and no position is used.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from testbed.prediction.calibration import Calibration
from testbed.prediction.fitted import RSSI
from testbed.prediction.outlook import Outlook, nothing_ahead
from testbed.prediction.predictor import MovementState
from testbed.prediction.sites import SitePredictor

_FEWEST = 2
_CONSIDERED = 7


@dataclass(frozen=True, eq=False)
class RssiTrend(SitePredictor):
    """Extends the trend of each base station's strength beside that of the serving one.

    Attributes
    ----------
    roads, cells, coverage, horizon_s, sites
        See `SitePredictor`.
    window_s : float
        Strengths older than this are not used, seconds.
    hysteresis_db : float
        How much stronger another base station must be.
    noise_db_per_s : float
        Standard deviation of a trend.
    spread : float
        Scale of the logarithm of crossing times.
    calibration : Calibration
        What the resulting probabilities mean.
    """

    window_s: float = 10.0
    hysteresis_db: float = 3.0
    noise_db_per_s: float = 0.1
    spread: float = 0.45
    calibration: Calibration = RSSI

    def outlook(self, state: MovementState) -> Outlook:
        """One way per base station that is gaining; the sooner it crosses, the likelier."""
        serving = state.serving_site or (state.recent_sites[-1][0] if state.recent_sites else "")
        recent = [
            (time_s, rssi)
            for time_s, rssi in state.recent_rssi
            if time_s >= state.recent_rssi[-1][0] - self.window_s
        ]
        own = self._own(serving, recent[-1][1]) if recent else ""
        if not own or len(recent) < _FEWEST:
            return nothing_ahead(serving)
        crossings: dict[int, float] = {}
        latest = recent[-1][1]
        for cell in sorted(latest, key=lambda name: -latest[name])[:_CONSIDERED]:
            site = self._sites.index[self.sites.get(cell, cell)]
            if self._sites.names[site] == serving:
                continue
            eta_s = self._crossing_s(cell, own, recent)
            if eta_s < crossings.get(site, math.inf):
                crossings[site] = eta_s
        if not crossings:
            return nothing_ahead(serving)
        times_s = np.array(list(crossings.values()))
        soon = np.exp(-(times_s - times_s.min()) / (0.3 * times_s.min() + 2.0))
        return Outlook(
            serving,
            self._sites.names,
            soon / soon.sum(),
            np.array([[site] for site in crossings]),
            times_s[:, None],
            self.spread,
            calibration=self.calibration,
        )

    def _own(self, serving: str, rssi: Mapping[str, float]) -> str:
        """The strongest cell of the serving site that is heard; empty where none is."""
        heard = [cell for cell in rssi if self.sites.get(cell, cell) == serving]
        return max(heard, key=lambda cell: (rssi[cell], cell), default="")

    def _crossing_s(
        self, cell: str, own: str, recent: list[tuple[float, Mapping[str, float]]]
    ) -> float:
        """When a cell will be stronger than the serving one by the hysteresis; seconds from now."""
        seen = [(t, rssi[cell] - rssi[own]) for t, rssi in recent if cell in rssi and own in rssi]
        if len(seen) < _FEWEST:
            return math.inf
        time_s, lead_db = np.array(seen).T
        time_s -= time_s[-1]
        spread = time_s - time_s.mean()
        below = float((spread**2).sum())
        trend = float((spread * lead_db).sum()) / below if below > 0 else 0.0
        missing_db = self.hysteresis_db - (float(lead_db.mean()) - trend * float(time_s.mean()))
        if missing_db <= 0:
            return 0.0
        # A noisy trend of nothing may still be one towards the border.
        upward = trend / 2 + math.hypot(trend / 2, self.noise_db_per_s)
        return missing_db / upward
