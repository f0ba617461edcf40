"""Every fix of a trace on the route that was found for it ."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.roads.arrays import Floats, Ints
from testbed.roads.matching.anchors import Fixes, Found
from testbed.roads.matching.chain import lay_routes, posterior
from testbed.roads.matching.compiled import Net, compiled
from testbed.roads.matching.model import RoadModel

SLACK_SIGMAS = 2.0
"""How far a fix between two anchors may lie before the first and behind the second."""


@dataclass(frozen=True)
class Placed:
    """Where on the road the usable fixes of a trace are (K of them).

    Attributes
    ----------
    edge, part : numpy.ndarray of int, shape (K,)
        Edge and number of the route; -1 where the fix lies on no road.
    offset_m : numpy.ndarray, shape (K,)
        Metres from the edge's tail.
    probability : numpy.ndarray, shape (K,)
        That the edge is right, 0 to 1.
    routes : tuple of tuple of int
        The driven edges of each unbroken part.
    """

    edge: Ints
    offset_m: Floats
    part: Ints
    probability: Floats
    routes: tuple[tuple[int, ...], ...]


@compiled
def project(net: Net, edge: int, x: float, y: float) -> tuple[float, float]:
    """Offset along an edge of its nearest point, and the distance to it, metres."""
    best, offset = np.inf, 0.0
    for first in range(net.point_start[edge], net.point_start[edge + 1] - 1):
        xa, ya = net.point_x_m[first], net.point_y_m[first]
        dx, dy = net.point_x_m[first + 1] - xa, net.point_y_m[first + 1] - ya
        square = dx * dx + dy * dy
        share = 0.0
        if square > 0.0:
            share = min(max(((x - xa) * dx + (y - ya) * dy) / square, 0.0), 1.0)
        away = np.hypot(xa + share * dx - x, ya + share * dy - y)
        if away < best:
            best = away
            offset = net.point_along_m[first] + share * np.sqrt(square)
    return min(offset, net.length_m[edge]), best


@compiled
def along_route(
    net: Net, route: Any, base_m: Any, at: Any, low: Any, high: Any, low_m: Any, high_m: Any
) -> Any:
    """Way driven at each of K fixes, never backwards (isotonic regression), metres.

    Parameters
    ----------
    route, base_m : numpy.ndarray, shape (L,)
        The edges, and how far along the route each begins.
    at : numpy.ndarray, shape (K, 2)
        Smoothed positions.
    low, high, low_m, high_m : numpy.ndarray, shape (K,)
        The first and last place in the route, and how far along it, each fix may lie.
    """
    count = len(at)
    way_m = np.empty(count)
    for k in range(count):
        best, chosen = np.inf, low_m[k]
        for place in range(low[k], high[k] + 1):
            offset, away = project(net, route[place], at[k, 0], at[k, 1])
            here = min(max(base_m[place] + offset, low_m[k]), high_m[k])
            if here != base_m[place] + offset:
                away += abs(here - base_m[place] - offset)
            if away < best - 1e-9:
                best, chosen = away, here
        way_m[k] = chosen
    # Pool adjacent violators.
    level, weight = np.empty(count), np.empty(count)
    blocks = 0
    for k in range(count):
        level[blocks], weight[blocks] = way_m[k], 1.0
        blocks += 1
        while blocks > 1 and level[blocks - 2] > level[blocks - 1]:
            total = weight[blocks - 2] + weight[blocks - 1]
            level[blocks - 2] = (
                level[blocks - 2] * weight[blocks - 2] + level[blocks - 1] * weight[blocks - 1]
            ) / total
            weight[blocks - 2] = total
            blocks -= 1
    k = 0
    for block in range(blocks):
        for _ in range(int(weight[block])):
            way_m[k] = level[block]
            k += 1
    return way_m


@compiled
def share_on(way_m: Any, sigma_m: Any, from_m: Any, to_m: Any) -> Any:
    """Probability that the true way lies in a stretch, when it is Gaussian around ``way_m``."""
    found = np.empty(len(way_m))
    for k in range(len(way_m)):
        scale = sigma_m[k] * math.sqrt(2.0)
        above = math.erf((to_m[k] - way_m[k]) / scale)
        found[k] = 0.5 * (above - math.erf((from_m[k] - way_m[k]) / scale))
    return found


@compiled
def share_of_way(route: Any, stands: Any, previous: Any, places: Any, sure: Any) -> Any:
    """Posterior mass of the places of each anchor that lie on the route around it, (A,).

    Around it is from the anchor before to the anchor after in the same part.
    """
    start, edge = places
    found = np.zeros(len(stands))
    after = np.full(len(stands), -1)
    for k in range(len(stands)):
        if previous[k] >= 0:
            after[previous[k]] = k
    for k in range(len(stands)):
        if stands[k] < 0:
            continue
        first = stands[previous[k]] if previous[k] >= 0 else stands[k]
        last = stands[after[k]] if after[k] >= 0 else stands[k]
        for j in range(start[k], start[k + 1]):
            for place in range(first, last + 1):
                if route[place] == edge[j]:
                    found[k] += sure[j]
                    break
    return found


def place_fixes(model: RoadModel, fixes: Fixes, found: Found) -> Placed:
    """Put every fix on the route of its part, between the anchors around it.

    A fix before the first anchor, or one that is an anchor without a place, stays off the road.
    """
    net, scratch = model.graph.net, model.graph.scratch
    route, begins, stands = lay_routes(
        net,
        scratch,
        model.weights,
        found.anchors,
        found.places,
        (found.status, found.previous, found.chosen),
    )
    count = len(fixes.time_s)
    edge, part = np.full(count, -1), np.full(count, -1)
    offset, probability = np.full(count, np.nan), np.zeros(count)
    on_way = np.flatnonzero(stands >= 0)
    if not len(on_way):
        return Placed(edge, offset, part, probability, ())
    firsts = np.flatnonzero(begins)
    lasts = np.append(firsts[1:] - 1, len(route) - 1)
    routes = tuple(tuple(route[a : b + 1].tolist()) for a, b in zip(firsts, lasts, strict=True))
    length = net.length_m[route]
    base = np.concatenate(([0.0], np.cumsum(length)[:-1]))
    own_part = np.searchsorted(firsts, stands[on_way], "right") - 1
    own_m = base[stands[on_way]] + found.places[2][found.chosen[on_way]]

    before = np.searchsorted(found.anchor[on_way], np.arange(count), "right") - 1
    on = before >= 0
    on[found.anchor[stands < 0]] = False
    before = before[on]
    after = np.minimum(before + 1, len(on_way) - 1)
    after = np.where(own_part[after] == own_part[before], after, before)
    sigma_m = np.sqrt(fixes.variance[on])
    first, last = firsts[own_part[before]], lasts[own_part[before]]
    low_m = np.maximum(own_m[before] - SLACK_SIGMAS * sigma_m, base[first])
    high_m = np.maximum(own_m[after], own_m[before]) + SLACK_SIGMAS * sigma_m
    high_m = np.minimum(high_m, base[last] + length[last])
    low = np.clip(np.searchsorted(base, low_m, "right") - 1, first, last)
    high = np.clip(np.searchsorted(base, high_m, "left") - 1, low, last)
    way_m = along_route(net, route, base, fixes.xy_m[on], low, high, low_m, high_m)

    stand = np.clip(np.searchsorted(base, way_m, "right") - 1, first, last)
    from_m = np.where(stand == first, -np.inf, base[stand])
    to_m = np.where(stand == last, np.inf, base[stand] + length[stand])
    temper = model.temper(float(np.median(found.anchors[2])))
    sure = posterior(
        found.status, found.previous, found.places[0], found.places[4], *found.matrix, temper
    )
    share = share_of_way(route, stands, found.previous, found.places[:2], sure)[on_way]
    edge[on], part[on] = route[stand], own_part[before]
    offset[on] = np.clip(way_m - base[stand], 0.0, length[stand])
    probability[on] = np.minimum(share[before], share[after])
    probability[on] *= share_on(way_m, sigma_m, from_m, to_m)
    return Placed(edge, offset, part, np.clip(probability, 0.0, 1.0), routes)
