"""How noisy a trace is, which of its positions count, and the best way through them.

The noise is measured on the trace itself, taken out as far as the sampling allows, and what is
left decides how often positions enter the search, how far roads are looked for, and how much a
detour tells.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from testbed.roads.arrays import Floats, Ints
from testbed.roads.matching import chain, smoothing
from testbed.roads.matching.model import RoadModel


@dataclass(frozen=True)
class Fixes:
    """Fixes that can be used (K of them), smoothed.

    Attributes
    ----------
    time_s : numpy.ndarray, shape (K,)
        Seconds.
    xy_m : numpy.ndarray, shape (K, 2)
        Smoothed positions, metres.
    variance : numpy.ndarray, shape (K,)
        What uncertainty is left on each axis, square metres.
    """

    time_s: Floats
    xy_m: Floats
    variance: Floats


@dataclass(frozen=True)
class Found:
    """The chain of a trace (A anchors, M places in all) and the best way through it.

    Attributes
    ----------
    anchor : numpy.ndarray of int, shape (A,)
        The fixes that count.
    anchors : tuple
        Their times, positions and variances, and the longest time without a fix before each.
    places : tuple
        Where each anchor's places begin (A + 1,), then edge, offset, distance and fit (M,).
    status, previous, chosen : numpy.ndarray of int, shape (A,)
        What became of each anchor, the anchor before it, and its place (see
        `testbed.roads.matching.chain`).
    matrix : tuple
        Where each anchor's transitions begin (A + 1,), and the transitions' log probabilities.
    """

    anchor: Ints
    anchors: tuple[Floats, Floats, Floats, Floats]
    places: tuple[Ints, Ints, Floats, Floats, Floats]
    status: Ints
    previous: Ints
    chosen: Ints
    matrix: tuple[Ints, Floats]


def search(model: RoadModel, time_s: Floats, x: Floats, y: Floats) -> tuple[Fixes, Found, float]:
    """Smooth, thin and find the way with the noise that is told, or that the trace shows.

    Returned are the fixes, the chain, and the noise on each axis in metres. Fixes in quick
    succession show what changes from one to the next; what remains beside the road after smoothing
    shows the rest. Of sparse fixes only their distances from the road are known.
    """
    go = partial(_chain, model, (time_s, x, y))
    map_m = model.map_error_m
    if model.sigma_m is not None:
        return (*go(model.sigma_m, map_m), model.sigma_m)
    white_m = smoothing.white_noise_m(time_s, x, y)
    if math.isnan(white_m):
        white_m = _USUAL_NOISE_M
        for _ in range(_PASSES):
            seen_m = _beside_m(go(white_m, map_m, unrest=_NO_SMOOTHING)[1])
            better = _within(math.sqrt(max(seen_m**2 - map_m**2, 0.0)))
            white_m, before_m = better, white_m
            if before_m / _ALIKE < better < before_m * _ALIKE:
                break
        return (*go(white_m, map_m), math.hypot(white_m, map_m))
    white_m, bias_m = _within(white_m), map_m
    fixes, found = go(white_m, bias_m)
    for _ in range(_PASSES):
        rest = float(np.median(fixes.variance)) - bias_m**2
        better = min(math.sqrt(max(_beside_m(found) ** 2 - rest, map_m**2)), _MOST_NOISE_M)
        if better < bias_m * _ALIKE:
            break
        bias_m = better
        fixes, found = go(white_m, bias_m)
    return fixes, found, math.hypot(white_m, bias_m)


def _beside_m(found: Found) -> float:
    """Standard deviation of the distance from the road (Newson and Krumm 2009, equation 4)."""
    on = found.chosen[found.chosen >= 0]
    return float(np.median(found.places[3][on])) / 0.6745 if len(on) else 0.0


def _within(noise_m: float) -> float:
    return min(max(noise_m, _LEAST_NOISE_M), _MOST_NOISE_M)


def _chain(
    model: RoadModel,
    fixes: tuple[Floats, Floats, Floats],
    white_m: float,
    bias_m: float,
    unrest: float | None = None,
) -> tuple[Fixes, Found]:
    """Anchors and the best way through them, with one assumption about the noise."""
    time_s, x, y = fixes
    breaks = smoothing.jumps(time_s, x, y, model.top_speed_mps, 4.0 * math.hypot(white_m, bias_m))
    breaks[1:] |= np.diff(time_s) > model.longest_gap_s
    at, rest = smoothing.smooth(time_s, x, y, breaks, white_m**2, unrest or model.unrest)
    variance = rest + bias_m**2
    step_m = np.maximum(model.least_step_m, model.step_sigmas * np.sqrt(variance))
    anchor = smoothing.thin(at, step_m, breaks)
    hole_s = np.zeros(len(anchor))
    if len(anchor) > 1:
        hole_s[1:] = np.maximum.reduceat(np.diff(time_s), anchor[:-1])
    anchors = (time_s[anchor], at[anchor], variance[anchor], hole_s)
    net, scratch = model.graph.net, model.graph.scratch
    radius = (model.radius_m, model.radius_sigmas)
    places = chain.find_places(
        net, scratch, anchors[1], anchors[2], radius, model.most_candidates, model.end_cost
    )
    status, previous, best, back, *matrix = chain.run_chain(
        net, scratch, model.weights, anchors, places, model.longest_gap_s
    )
    chosen = chain.best_way(status, previous, places[0], best, back)
    return Fixes(time_s, at, variance), Found(
        anchor, anchors, places, status, previous, chosen, tuple(matrix)
    )


_LEAST_NOISE_M, _MOST_NOISE_M = 1.0, 60.0
_USUAL_NOISE_M = 5.0
_NO_SMOOTHING = 1e6
_PASSES = 6
_ALIKE = 1.2
