"""The most likely way of a whole trace over the roads (Newson and Krumm 2009, section 3)."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from testbed.errors import TraceError
from testbed.roads.arrays import Floats
from testbed.roads.hmm import Candidate, RoadModel
from testbed.roads.matching import Match, on_road, unmatched
from testbed.roads.network import RoadMap


@dataclass(frozen=True)
class MatchedTrace:
    """A whole trace on the road.

    Attributes
    ----------
    fixes : tuple of Match
        One per row of the trace, in its order.
    routes : tuple of tuple of int
        The driven edges of each unbroken part, each edge once per time it is driven.
    """

    fixes: tuple[Match, ...]
    routes: tuple[tuple[int, ...], ...]

    @property
    def matched_share(self) -> float:
        """Share of the fixes that lie on a road, 0 to 1."""
        return sum(fix.matched for fix in self.fixes) / len(self.fixes)

    def to_frame(self, roads: RoadMap) -> pd.DataFrame:
        """One row per fix, with the map's own node ids."""
        rows = [
            {
                "time_s": fix.time_s,
                "from_node": roads.node_ids[roads.tail[fix.edge]] if fix.matched else None,
                "to_node": roads.node_ids[roads.head[fix.edge]] if fix.matched else None,
                "offset_m": fix.offset_m,
                "lat_deg": fix.lat_deg,
                "lon_deg": fix.lon_deg,
                "probability": fix.probability,
                "reason": fix.reason,
            }
            for fix in self.fixes
        ]
        return pd.DataFrame(rows)


@dataclass
class _Step:
    """One fix that counts: its places, how they are reached, and how likely each is."""

    fix: int
    places: list[Candidate]
    steps: Floats | None
    best: Floats
    back: list[int]


def match_trace(
    roads: RoadMap, trace: pd.DataFrame, *, model: RoadModel | None = None
) -> MatchedTrace:
    """Match one user's trace.

    Fixes closer than twice the noise to the one before are left out of the search and placed on
    the found route afterwards. Where no route joins two fixes the trace is split there, and the
    first fix of the new part says so.

    Parameters
    ----------
    roads : RoadMap
        The map.
    trace : pandas.DataFrame
        Columns ``time_s``, ``lat_deg``, ``lon_deg``, in order of time.
    model : RoadModel, optional
        Noise and search radius; the defaults suit GPS at 1 to 10 s.

    Raises
    ------
    TraceError
        If the trace is empty or its columns are missing.
    """
    missing = {"time_s", "lat_deg", "lon_deg"} - set(trace.columns)
    if missing or trace.empty:
        problem = f"lacks the columns {sorted(missing)}" if missing else "is empty"
        raise TraceError(f"the trace to be matched {problem}; read it with testbed.mobility")
    model = model or RoadModel(roads)
    times = trace["time_s"].to_numpy(dtype=float)
    x, y = roads.projection.to_xy(trace["lat_deg"].to_numpy(), trace["lon_deg"].to_numpy())
    places = model.candidates(x, y)
    fixes: list[Match] = [
        unmatched(float(time), f"no road within {model.radius_m:g} m") for time in times
    ]
    parts, waiting, reasons = _search(model, times, x, y, places)
    routes: list[tuple[int, ...]] = []
    chosen: dict[int, Candidate] = {}
    between: dict[int, set[int]] = {}
    for part in parts:
        way = _best_way(part)
        sure = _posterior(part)
        route = [part[0].places[way[0]].edge]
        for i, (step, choice) in enumerate(zip(part, way, strict=True)):
            place = step.places[choice]
            chosen[step.fix] = place
            reason = reasons.get(step.fix, "")
            fixes[step.fix] = on_road(
                roads, float(times[step.fix]), place, float(sure[i][choice]), reason
            )
            if i:
                before = chosen[part[i - 1].fix]
                driven = model.driven(before, place)
                route.extend(driven)
                between[part[i - 1].fix] = {before.edge, *driven}
        between[part[-1].fix] = {route[-1]}
        routes.append(tuple(route))
    for fix, anchor in waiting.items():
        fixes[fix] = _placed(roads, float(times[fix]), places[fix], between[anchor], fixes[anchor])
    return MatchedTrace(tuple(fixes), tuple(routes))


def _search(
    model: RoadModel, times: Floats, x: Floats, y: Floats, places: list[list[Candidate]]
) -> tuple[list[list[_Step]], dict[int, int], dict[int, str]]:
    """Unbroken parts, fixes that wait to be placed (with the fix before), and why parts begin."""
    parts: list[list[_Step]] = []
    waiting: dict[int, int] = {}
    reasons: dict[int, str] = {}
    for fix, here in enumerate(places):
        if not here:
            continue
        last = parts[-1][-1] if parts else None
        steps, best = None, np.array([place.fit for place in here])
        if last is not None:
            moved_m = math.hypot(x[fix] - x[last.fix], y[fix] - y[last.fix])
            elapsed_s = float(times[fix] - times[last.fix])
            if moved_m < model.step_m or elapsed_s <= 0:
                waiting[fix] = last.fix
                continue
            steps = np.array(model.transitions(last.places, here, moved_m, elapsed_s))
            total = last.best[:, None] + steps
            if np.isfinite(total).any():
                best = best + total.max(axis=0)
                back = total.argmax(axis=0).tolist()
                parts[-1].append(_Step(fix, here, steps, best, back))
                continue
            reasons[fix] = f"began anew: no route for {moved_m:.0f} m in {elapsed_s:.1f} s"
        parts.append([_Step(fix, here, None, best, [])])
    return parts, waiting, reasons


def _best_way(part: list[_Step]) -> list[int]:
    way = [int(part[-1].best.argmax())]
    for step in reversed(part[1:]):
        way.append(step.back[way[-1]])
    return way[::-1]


def _posterior(part: list[_Step]) -> list[Floats]:
    """Probability of each place given all fixes of the part (forward-backward)."""
    fit = [np.exp([place.fit for place in step.places]) for step in part]
    moves = [np.exp(step.steps) for step in part[1:] if step.steps is not None]
    forward = [_scaled(fit[0])]
    for move, here in zip(moves, fit[1:], strict=True):
        forward.append(_scaled((forward[-1] @ move) * here))
    backward = np.ones(len(fit[-1]))
    found = [_scaled(forward[-1] * backward)]
    for i in range(len(moves) - 1, -1, -1):
        backward = _scaled(moves[i] @ (backward * fit[i + 1]))
        found.append(_scaled(forward[i] * backward))
    return found[::-1]


def _scaled(weights: Floats) -> Floats:
    total = float(weights.sum())
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))


def _placed(
    roads: RoadMap, time_s: float, places: list[Candidate], edges: set[int], anchor: Match
) -> Match:
    for place in places:
        if place.edge in edges:
            return on_road(roads, time_s, place, anchor.probability)
    return unmatched(time_s, "off the driven route while hardly moving")
