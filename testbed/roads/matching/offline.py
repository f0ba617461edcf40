"""The most likely way of a whole trace over the roads (Newson and Krumm 2009, section 3)."""

import math

import numpy as np
import pandas as pd

from testbed.errors import TraceError
from testbed.roads.arrays import Floats, Ints, Texts
from testbed.roads.matching import chain
from testbed.roads.matching.anchors import Fixes, Found, search
from testbed.roads.matching.matched import MatchedTrace
from testbed.roads.matching.model import RoadModel
from testbed.roads.matching.online import NAN
from testbed.roads.matching.placing import place_fixes
from testbed.roads.network import RoadMap

__all__ = ["MatchedTrace", "match_trace"]


def match_trace(
    roads: RoadMap, trace: pd.DataFrame, *, model: RoadModel | None = None
) -> MatchedTrace:
    """Match one user's trace.

    Where no route joins two fixes the trace is split there, and the first fix of the new part
    says so.

    Parameters
    ----------
    roads : RoadMap
        The map.
    trace : pandas.DataFrame
        Columns ``time_s``, ``lat_deg``, ``lon_deg``, in order of time.
    model : RoadModel, optional
        Noise and search radius; by default the noise is found from the trace.

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
    time_s = trace["time_s"].to_numpy(dtype=float)
    lat, lon = (trace[name].to_numpy(dtype=float) for name in ("lat_deg", "lon_deg"))
    x, y = roads.projection.to_xy(lat, lon)
    reason = np.full(len(time_s), "", dtype=object)
    row = _usable(model, time_s, x, y, reason)
    fixes, found, noise_m = search(model, time_s[row], x[row], y[row])
    placed = place_fixes(model, fixes, found)
    reason[row[placed.edge < 0]] = f"no road within {model.radius_m:g} m"
    reason[row] = _explained(fixes, found, reason[row])
    count = len(time_s)
    edge, part, probability = np.full(count, -1), np.full(count, -1), np.zeros(count)
    edge[row], part[row], probability[row] = placed.edge, placed.part, placed.probability
    offset, xs, ys, lats, lons = np.full((5, count), NAN)
    offset[row] = placed.offset_m
    on = edge >= 0
    xs[on], ys[on] = roads.positions(edge[on], offset[on])
    lats[on], lons[on] = roads.projection.to_latlon(xs[on], ys[on])
    return MatchedTrace(
        time_s=time_s,
        edge=edge,
        offset_m=offset,
        x_m=xs,
        y_m=ys,
        lat_deg=lats,
        lon_deg=lons,
        distance_m=np.hypot(xs - x, ys - y),
        probability=probability,
        reason=tuple(reason.tolist()),
        part=part,
        routes=placed.routes,
        noise_m=noise_m,
    )


def _usable(model: RoadModel, time_s: Floats, x: Floats, y: Floats, reason: Texts) -> Ints:
    """Rows that can be matched; the others get their reason."""
    finite = np.isfinite(time_s) & np.isfinite(x) & np.isfinite(y)
    west, south, east, north = model.roads.extent_m
    far = model.radius_m
    with np.errstate(invalid="ignore"):
        inside = (x > west - far) & (x < east + far) & (y > south - far) & (y < north + far)
    highest = np.maximum.accumulate(np.where(finite, time_s, -np.inf))
    late = np.zeros(len(time_s), dtype=bool)
    late[1:] = finite[1:] & (time_s[1:] <= highest[:-1])
    reason[finite & ~inside] = "outside the map"
    reason[late] = "time does not advance"
    reason[~finite] = "the fix has no finite time or position"
    return np.flatnonzero(finite & inside & ~late)


def _explained(fixes: Fixes, found: Found, reason: Texts) -> Texts:
    """The reasons of the usable fixes, with why a fix was left out or a new part begins."""
    reason[found.anchor[found.status == chain.SKIPPED]] = (
        "no route leads here, but one to a fix after it (an outlier)"
    )
    for k in np.flatnonzero(np.isin(found.status, (chain.NO_ROUTE, chain.TOO_LONG))):
        here = found.anchor[k]
        last = found.anchor[np.flatnonzero(found.chosen[:k] >= 0)[-1]]
        gap_s = fixes.time_s[here] - fixes.time_s[last]
        if found.status[k] == chain.TOO_LONG:
            reason[here] = f"began anew: no usable fix for {gap_s:.0f} s"
        else:
            moved_m = math.dist(fixes.xy_m[here], fixes.xy_m[last])
            reason[here] = f"began anew: no route for {moved_m:.0f} m in {gap_s:.1f} s"
    return reason
