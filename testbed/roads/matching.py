"""Put fixes on the road: fix by fix while they come in, or a whole trace at once.

Both use the hidden-Markov model in `testbed.roads.hmm`: the online matcher filters (what is known
up to now), `match_trace` finds the most likely way through the whole trace (Viterbi).
"""

import math
from dataclasses import dataclass, field

import numpy as np

from testbed.roads.hmm import Candidate, RoadModel
from testbed.roads.network import RoadMap

NAN = float("nan")


@dataclass(frozen=True)
class Match:
    """Where on the road one fix is.

    Attributes
    ----------
    time_s : float
        The fix's time, seconds.
    edge : int
        Edge of the road map, -1 where the fix is not matched.
    offset_m : float
        Metres from the edge's tail.
    x_m, y_m, lat_deg, lon_deg : float
        That point on the map's plane and on earth.
    distance_m : float
        How far the fix lies from it, metres.
    probability : float
        How sure the edge and direction are, 0 to 1, given all fixes considered.
    reason : str
        Why the fix is not matched, or why matching began anew here; else empty.
    """

    time_s: float
    edge: int
    offset_m: float
    x_m: float
    y_m: float
    lat_deg: float
    lon_deg: float
    distance_m: float
    probability: float
    reason: str

    @property
    def matched(self) -> bool:
        """Whether the fix was put on a road."""
        return self.edge >= 0


def unmatched(time_s: float, reason: str) -> Match:
    """A fix that could not be put on a road, and why."""
    return Match(time_s, -1, NAN, NAN, NAN, NAN, NAN, NAN, 0.0, reason)


def on_road(
    roads: RoadMap, time_s: float, place: Candidate, probability: float, reason: str = ""
) -> Match:
    """A fix that was put on a road."""
    x, y = roads.position(place.edge, place.offset_m)
    lat, lon = roads.projection.point_latlon(x, y)
    return Match(
        time_s, place.edge, place.offset_m, x, y, lat, lon, place.distance_m, probability, reason
    )


@dataclass(frozen=True)
class _Belief:
    """What was known at the last fix that told something new."""

    time_s: float
    x_m: float
    y_m: float
    places: list[Candidate]
    weights: list[float]


@dataclass(eq=False)
class OnlineMatcher:
    """Follow one user on the road, one fix after the other (a forward filter).

    Fixes closer than twice the noise to the last one that counted are placed but not counted, so
    that a standing user's noise does not add up to a movement.

    Attributes
    ----------
    roads : RoadMap
        The map.
    sigma_m, beta_m, radius_m : float
        See `testbed.roads.hmm.RoadModel`.
    longest_gap_s : float
        After so long without a fix nothing is known any more, seconds.
    """

    roads: RoadMap
    sigma_m: float = 8.0
    beta_m: float = 10.0
    radius_m: float = 50.0
    longest_gap_s: float = 180.0
    model: RoadModel | None = None
    _belief: _Belief | None = field(default=None, init=False, repr=False)
    _last_s: float = field(default=-math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        """Build the model, unless several matchers share one."""
        if self.model is None:
            self.model = RoadModel(self.roads, self.sigma_m, self.beta_m, self.radius_m)

    def restart(self) -> None:
        """Forget everything, as before the first fix."""
        self._belief = None
        self._last_s = -math.inf

    def update(self, time_s: float, lat_deg: float, lon_deg: float) -> Match:
        """Take in the next fix.

        Parameters
        ----------
        time_s : float
            Its time, seconds; must grow from fix to fix.
        lat_deg, lon_deg : float
            Its position, degrees.

        Returns
        -------
        Match
            Where the user most likely is now. Never raises for a bad fix: its reason says what is
            wrong with it.
        """
        model = self.model
        assert model is not None  # noqa: S101 - set in __post_init__, for the type checker
        if not (math.isfinite(time_s) and math.isfinite(lat_deg) and math.isfinite(lon_deg)):
            return unmatched(time_s, "the fix has no finite time or position")
        if time_s <= self._last_s:
            return unmatched(time_s, f"time does not advance (last fix at {self._last_s:g} s)")
        self._last_s = time_s
        x, y = self.roads.projection.point_xy(lat_deg, lon_deg)
        places = model.candidates(np.array([x]), np.array([y]))[0]
        if not places:
            return unmatched(time_s, f"no road within {self.radius_m:g} m")
        belief, reason = self._belief, ""
        if belief is not None and time_s - belief.time_s > self.longest_gap_s:
            reason = f"began anew: no usable fix for {time_s - belief.time_s:.0f} s"
            belief = None
        weights = None if belief is None else _filtered(model, belief, time_s, (x, y), places)
        if weights is None:
            if belief is not None:
                moved_m = math.hypot(x - belief.x_m, y - belief.y_m)
                reason = (
                    f"began anew: no route for {moved_m:.0f} m in {time_s - belief.time_s:.1f} s"
                )
            belief = None
            weights = _normalised([place.fit for place in places])
        if belief is None or math.hypot(x - belief.x_m, y - belief.y_m) >= model.step_m:
            self._belief = _Belief(time_s, x, y, places, weights)
        best = max(range(len(places)), key=lambda i: (weights[i], -i))
        return on_road(self.roads, time_s, places[best], weights[best], reason)


def _filtered(
    model: RoadModel,
    belief: _Belief,
    time_s: float,
    at_m: tuple[float, float],
    places: list[Candidate],
) -> list[float] | None:
    """Posterior weights of ``places``, or ``None`` where none can be reached."""
    live = [i for i, weight in enumerate(belief.weights) if weight > _NEGLIGIBLE]
    steps = model.transitions(
        [belief.places[i] for i in live],
        places,
        math.dist(at_m, (belief.x_m, belief.y_m)),
        time_s - belief.time_s,
    )
    weights = [0.0] * len(places)
    for i, row in zip(live, steps, strict=True):
        for j, step in enumerate(row):
            if step > -_NEGLIGIBLE_LOG:
                weights[j] += belief.weights[i] * math.exp(step)
    weights = [w * math.exp(place.fit) for w, place in zip(weights, places, strict=True)]
    total = sum(weights)
    return None if total < _LEAST_TOTAL else [w / total for w in weights]


def _normalised(logs: list[float]) -> list[float]:
    highest = max(logs)
    weights = [math.exp(log - highest) for log in logs]
    total = sum(weights)
    return [weight / total for weight in weights]


_NEGLIGIBLE = 1e-7
_NEGLIGIBLE_LOG = 60.0
_LEAST_TOTAL = 1e-30
