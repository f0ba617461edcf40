"""Put fixes on the road one by one, while they come in.

The hidden-Markov model of `testbed.roads.matching.model` as a forward filter: what is known up to
now. With a lag, every fix is told a second time when so much is known of what came after it.
`testbed.roads.matching.offline` matches whole traces.
"""

import math
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from testbed.roads.arrays import Floats
from testbed.roads.matching import chain, smoothing
from testbed.roads.matching.belief import TINY, Belief, filtered, steps_between
from testbed.roads.matching.model import RoadModel
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


@dataclass(eq=False)
class OnlineMatcher:
    """Follow one user on the road, one fix after the other.

    The noise is measured on the fixes so far and smoothed out of the newest one. Fixes closer to
    the last one that counted than the noise tells apart are placed but not counted, so that a
    standing user's noise does not add up to a movement.

    Attributes
    ----------
    roads : RoadMap
        The map.
    sigma_m : float, optional
        Noise of a fix on each axis, metres; ``None`` measures it.
    radius_m : float
        How far from a fix roads are considered at least, metres.
    longest_gap_s : float
        After so long without a fix nothing is known any more, seconds.
    model : RoadModel, optional
        Used instead of the values above, and shared between matchers.
    lag_s : float, optional
        Tell every fix once more in `settled` when it is so old, seconds.
    settled : tuple of Match
        The fixes that became ``lag_s`` old with the last update, given all that came after them.
    """

    roads: RoadMap
    sigma_m: float | None = None
    radius_m: float = 50.0
    longest_gap_s: float = 180.0
    model: RoadModel | None = None
    lag_s: float | None = None
    settled: tuple[Match, ...] = field(default=(), init=False)
    _model: RoadModel = field(init=False, repr=False)
    _belief: Belief | None = field(default=None, init=False, repr=False)
    _doubted: Belief | None = field(default=None, init=False, repr=False)
    _waiting: deque[tuple[Belief | None, Match]] = field(init=False, repr=False)
    _recent: deque[tuple[float, float, float]] = field(init=False, repr=False)
    _off_m: deque[float] = field(init=False, repr=False)
    _last_s: float = field(default=-math.inf, init=False, repr=False)
    _placed_s: float = field(default=-math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        """Lay out the map and compile, so that the first fix is as fast as the others."""
        self._model = self.model or RoadModel(
            self.roads, self.sigma_m, self.radius_m, longest_gap_s=self.longest_gap_s
        )
        self.restart()
        x, y = self.roads.position(0, 0.0)
        lat, lon = self.roads.projection.point_latlon(x, y)
        for second in range(_WARM_UP):
            self.update(float(second), lat, lon + second * 1e-4)
        self.restart()

    def restart(self) -> None:
        """Forget everything, as before the first fix."""
        self._belief = self._doubted = None
        self._waiting = deque()
        self._recent = deque(maxlen=_RECENT)
        self._off_m = deque(maxlen=_RECENT)
        self._last_s = -math.inf
        self.settled = ()

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
        self.settled = ()
        if not (math.isfinite(time_s) and math.isfinite(lat_deg) and math.isfinite(lon_deg)):
            return self._told(None, unmatched(time_s, "the fix has no finite time or position"))
        if time_s <= self._last_s:
            return self._told(
                None,
                unmatched(time_s, f"time does not advance (last fix at {self._last_s:g} s)"),
            )
        self._last_s = time_s
        x, y = self.roads.projection.point_xy(lat_deg, lon_deg)
        west, south, east, north = self.roads.extent_m
        margin_m = self._model.radius_m
        if not (west - margin_m < x < east + margin_m and south - margin_m < y < north + margin_m):
            return self._told(None, unmatched(time_s, "outside the map"))
        here = self._arrive(time_s, x, y)
        if here is None:
            return self._told(None, unmatched(time_s, f"no road within {self._model.radius_m:g} m"))
        self._placed_s = time_s
        best = int(here.weight.argmax())
        self._off_m.append(self._distance_m(here, best))
        return self._told(here, self._match(here, here.weight))

    def finish(self) -> tuple[Match, ...]:
        """Settle what still waits, as no fix will come any more, and forget everything."""
        rest = tuple(self._smoothed(*waiting) for waiting in self._waiting)
        self.restart()
        return rest

    def _arrive(self, time_s: float, x: float, y: float) -> Belief | None:
        """What is known with this fix, or ``None`` where there is no road."""
        model = self._model
        white_m, bias_m = self._noise_m()
        if self._recent:
            then_s, last_x, last_y = self._recent[-1]
            far_m = model.top_speed_mps * (time_s - then_s) + 4 * math.hypot(white_m, bias_m)
            if math.dist((x, y), (last_x, last_y)) > far_m or time_s - then_s > _FORGET_S:
                self._recent.clear()
        self._recent.append((time_s, x, y))
        at, rest = self._smooth(white_m)
        new = self._places(time_s, (x, y), at[-1], rest[-1] + bias_m**2)
        return None if new is None else self._chained(new)

    def _places(
        self, time_s: float, fix: tuple[float, float], at: Floats, variance: float
    ) -> Belief | None:
        """What one position says on its own, or ``None`` where there is no road."""
        model = self._model
        _, edge, offset, _, fit = chain.find_places(
            model.graph.net,
            model.graph.scratch,
            at.reshape(1, 2),
            np.array([variance]),
            (model.radius_m, model.radius_sigmas),
            model.most_candidates,
            model.end_cost,
        )
        if not len(edge):
            return None
        weight = np.exp(model.temper(variance) * (fit - fit.max()))
        return Belief(
            time_s, fix, at, float(variance), edge, offset, fit, weight / weight.sum(), ""
        )

    def _smooth(self, white_m: float) -> tuple[Floats, Floats]:
        """Smoothed positions of the last fixes and the variances that are left."""
        time_s, x, y = self._columns()
        found: tuple[Floats, Floats] = smoothing.smooth(
            time_s, x, y, _NO_BREAK[: len(time_s)], white_m**2, self._model.unrest
        )
        return found

    def _columns(self) -> Floats:
        """Times and positions of the last fixes, shape (3, K)."""
        return np.array(self._recent).reshape(-1, 3).T.copy()

    def _chained(self, new: Belief) -> Belief:
        """The new fix after the last one that counted, after one before it, or on its own."""
        reason = ""
        for last in (self._belief, self._doubted):
            if last is None:
                continue
            gap_s = new.time_s - (self._placed_s if last is self._belief else last.time_s)
            if gap_s > self._model.longest_gap_s:
                reason = reason or f"began anew: no usable fix for {gap_s:.0f} s"
                continue
            found = filtered(self._model, last, new)
            if found is None:
                moved_m = new.away_m(last)
                took_s = new.time_s - last.time_s
                reason = reason or f"began anew: no route for {moved_m:.0f} m in {took_s:.1f} s"
                continue
            if last is self._doubted:
                self._belief, self._doubted = last, None
            step_m = max(
                self._model.least_step_m, self._model.step_sigmas * math.sqrt(new.variance)
            )
            if new.away_m(last) >= step_m:
                self._belief = found
            return found
        self._doubted = self._belief
        new.reason = reason
        self._belief = new
        return new

    def _noise_m(self) -> tuple[float, float]:
        """Noise that changes from fix to fix, and what stays beside the road, metres."""
        model = self._model
        if model.sigma_m is not None:
            return model.sigma_m, model.map_error_m
        white_m = _USUAL_NOISE_M
        time_s, x, y = self._columns()
        seen_m = smoothing.white_noise_m(time_s, x, y, least=_FIRST)
        if not math.isnan(seen_m):
            seen, usual = len(self._recent) - _FIRST, _LEAST_RECENT
            mixed = (seen * seen_m**2 + usual * white_m**2) / (seen + usual)
            white_m = min(max(math.sqrt(mixed), 1.0), _MOST_NOISE_M)
        bias_m = model.map_error_m
        if len(self._off_m) > _LEAST_RECENT:
            off_m = float(np.median(self._off_m)) / 0.6745
            bias_m = min(max(bias_m, math.sqrt(max(off_m**2 - _SMOOTHED * white_m**2, 0.0))), 60.0)
        return white_m, bias_m

    def _distance_m(self, belief: Belief, place: int) -> float:
        x, y = self.roads.position(int(belief.edge[place]), float(belief.offset[place]))
        return math.dist((x, y), belief.at)

    def _match(self, belief: Belief, weight: Floats) -> Match:
        best = int(weight.argmax())
        edge, offset = int(belief.edge[best]), float(belief.offset[best])
        x, y = self.roads.position(edge, offset)
        lat, lon = self.roads.projection.point_latlon(x, y)
        away_m = math.dist((x, y), belief.fix)
        return Match(
            belief.time_s, edge, offset, x, y, lat, lon, away_m, float(weight[best]), belief.reason
        )

    def _told(self, belief: Belief | None, match: Match) -> Match:
        """Keep what has to be told once more, and settle what is old enough."""
        if self.lag_s is None:
            if belief is not None:
                belief.last = belief.arrived = None
            return match
        self._waiting.append((belief, match))
        ripe = []
        while self._waiting:
            first_s = self._waiting[0][1].time_s
            if math.isfinite(first_s) and first_s > self._last_s - self.lag_s:
                break
            ripe.append(self._smoothed(*self._waiting.popleft()))
        self.settled = tuple(ripe)
        self._forget_before(self._last_s - self.lag_s)
        return match

    def _forget_before(self, time_s: float) -> None:
        """Cut the chain of beliefs where no waiting fix looks any more."""
        oldest = self._belief
        while oldest is not None and oldest.time_s > time_s:
            oldest = oldest.last
        if oldest is not None:
            oldest.last = oldest.arrived = None

    def _smoothed(self, belief: Belief | None, match: Match) -> Match:
        """The same fix with all that came after it."""
        if belief is None:
            return match
        later: list[Belief] = []
        after = self._belief
        while after is not None and after is not belief and after.time_s > belief.time_s:
            later.append(after)
            after = after.last
        if not later or (after is not belief and after is not belief.last):
            return match
        better = self._looked_back(belief)
        temper = self._model.temper(belief.variance)
        behind = np.ones(len(later[0].edge))
        for one in later[:-1]:
            assert one.arrived is not None  # noqa: S101 - it has a belief before it
            behind = np.exp(temper * one.arrived) @ (np.exp(temper * one.fit) * behind)
            behind /= max(behind.sum(), TINY)
        steps = steps_between(self._model, better, later[-1])
        if steps is None:
            return match
        behind = np.exp(temper * steps) @ (np.exp(temper * later[-1].fit) * behind)
        weight = better.weight * behind
        total = float(weight.sum())
        return match if total < TINY else self._match(better, weight / total)

    def _looked_back(self, belief: Belief) -> Belief:
        """The same fix where the fixes after it say that it was."""
        then = [k for k, fix in enumerate(self._recent) if fix[0] == belief.time_s]
        if not then:
            return belief
        white_m, bias_m = self._noise_m()
        at, rest = self._smooth(white_m)
        new = self._places(belief.time_s, belief.fix, at[then[0]], rest[then[0]] + bias_m**2)
        if new is None:
            return belief
        if belief.last is None:
            return replace(new, reason=belief.reason)
        return filtered(self._model, belief.last, new) or belief


_WARM_UP = 12
_RECENT = 40
_FIRST = 4
_LEAST_RECENT = 10
_FORGET_S = 20.0
_USUAL_NOISE_M = 5.0
_MOST_NOISE_M = 60.0
_SMOOTHED = 0.3
_NO_BREAK = np.zeros(_RECENT, dtype=bool)
