"""All that a predictor foresees: ways that the user may take, each with its sites and times.

Every question is answered from the same ways: which site is next, which one after it, and which
one serves some time from now.
"""

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from testbed.prediction.calibration import UNCHANGED, Calibration
from testbed.prediction.compiled import tally
from testbed.prediction.predictor import Candidate, MovementState, Predictor
from testbed.roads.arrays import Floats, Ints

STEPS = 3
"""How many other sites ahead are looked for."""
LEAST_SHOWN = 0.001


@dataclass(frozen=True, eq=False)
class Outlook:
    """Ways that may be taken (W ways, K sites ahead on each).

    Attributes
    ----------
    serving : str
        Where the user is connected now.
    names : sequence of str
        The sites that ``site`` numbers.
    probability : numpy.ndarray, shape (W,)
        Of each way; they sum to at most 1.
    site : numpy.ndarray of int, shape (W, K)
        The other sites in the order in which they are entered; -1 where the way is known no
        further.
    eta_s : numpy.ndarray, shape (W, K)
        Median time until each is come to, seconds from now; infinite where there is none.
    spread : float
        Scale of the logarithm of these times (log-logistic); 0 means they are certain.
    lag_s : float
        Time from coming to a site until it serves, seconds.
    blur_s : float
        What times are uncertain by however near a site is, seconds.
    calibration : Calibration
        What probabilities of this predictor have turned out to mean.
    """

    serving: str
    names: Sequence[str]
    probability: Floats
    site: Ints
    eta_s: Floats
    spread: float = 0.0
    lag_s: float = 0.0
    blur_s: float = 0.0
    calibration: Calibration = field(default=UNCHANGED)

    def arrived(self, horizon_s: float) -> Floats:
        """Probability that each site of each way is entered within a horizon, shape (W, K)."""
        if self.spread <= 0:
            return np.asarray(self.eta_s <= horizon_s, dtype=np.float64)
        left_s = horizon_s - self.lag_s + self.blur_s
        if left_s <= 0:
            return np.zeros_like(self.eta_s)
        with np.errstate(over="ignore"):
            late = ((self.eta_s + self.blur_s) / left_s) ** (1 / self.spread)
        return np.asarray(1 / (1 + late))

    def candidates(self, horizon_s: float, step: int = 1) -> list[Candidate]:
        """Sites that may be the ``step``-th other one and are entered within the horizon.

        Returns
        -------
        list of Candidate
            Best first. What is missing to 1 is the chance that it does not come to that in time.
        """
        if not len(self.probability) or not 1 <= step <= self.site.shape[1]:
            return []
        room = tally_room(len(self.names))
        count = tally(
            self.probability, self.site[:, step - 1], self.eta_s[:, step - 1],
            len(self.probability), horizon_s, (self.spread, self.lag_s, self.blur_s), *room,
        )  # fmt: skip
        site, total, eta_s = (column[:count].tolist() for column in room[:3])
        found = [(self.names[i], p, eta) for i, p, eta in zip(site, total, eta_s, strict=True)]
        return ranked(found, self.calibration, horizon_s, step)

    def sites_at(self, time_s: float) -> dict[str, float]:
        """Which site serves some time from now: probabilities, the likeliest first.

        What is missing to 1 is not known.
        """
        arrived = self.arrived(time_s)
        here = np.concatenate((np.ones((len(arrived), 1)), arrived), axis=1)
        here[:, :-1] -= here[:, 1:]
        weight = self.probability[:, None] * here
        found = {self.serving: float(weight[:, 0].sum())}
        for site in np.unique(self.site[self.site >= 0]).tolist():
            name = self.names[site]
            found[name] = found.get(name, 0.0) + float(weight[:, 1:][self.site == site].sum())
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def _repr_html_(self) -> str:
        rows = [
            f"<tr><td>{step}</td><td>{html.escape(c.site)}</td><td>{c.probability:.0%}</td>"
            f"<td>{c.eta_s:.0f} s</td></tr>"
            for step in range(1, self.site.shape[1] + 1)
            for c in self.candidates(60.0, step)
        ]
        return (
            f"<table><caption>From {html.escape(self.serving)}, within 60 s</caption><tr>"
            f"<th>step</th><th>site</th><th>probability</th><th>median</th></tr>{''.join(rows)}"
            "</table>"
        )


def ranked(
    found: list[tuple[str, float, float]], calibration: Calibration, horizon_s: float, step: int
) -> list[Candidate]:
    """Candidates out of ``(site, probability, eta_s)``: calibrated, bounded, best first."""
    sure = calibration.apply([probability for _, probability, _ in found], horizon_s)
    candidates = [
        Candidate(site, probability, eta_s, step)
        for (site, said, eta_s), probability in zip(found, sure, strict=True)
        if said >= LEAST_SHOWN
    ]
    return sorted(candidates, key=lambda c: (-c.probability, c.eta_s, c.site))


def tally_room(sites: int) -> tuple[Ints, Floats, Floats, Ints]:
    """Room for the results of `tally` about so many sites."""
    return np.empty(sites, np.int64), np.empty(sites), np.empty(sites), np.full(sites, -1)


class Foreseeing(ABC):
    """A predictor that foresees ways; everything else follows from `outlook`."""

    horizon_s: float

    @abstractmethod
    def outlook(self, state: MovementState) -> Outlook:
        """The ways the user may take."""

    def predict(self, state: MovementState) -> list[Candidate]:
        """Candidates for the next other site within the horizon, best first."""
        return self.outlook(state).candidates(self.horizon_s)

    def predict_ahead(self, state: MovementState, steps: int = STEPS) -> list[Candidate]:
        """Candidates for the next other site, the one after it..., by step, best first."""
        outlook = self.outlook(state)
        return [c for step in range(1, steps + 1) for c in outlook.candidates(self.horizon_s, step)]


def look_ahead(predictor: Predictor, state: MovementState, steps: int = STEPS) -> list[Candidate]:
    """Candidates of several steps from a predictor that foresees them, else for the next site."""
    if isinstance(predictor, Foreseeing):
        return predictor.predict_ahead(state, steps)
    return predictor.predict(state)


def nothing_ahead(serving: str) -> Outlook:
    """The outlook of somebody about whom nothing can be said."""
    empty = np.empty((0, STEPS))
    return Outlook(serving, (), np.empty(0), empty.astype(np.int64), empty)
