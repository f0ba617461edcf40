"""The hidden-Markov chain of a whole trace: places, best way and probabilities, compiled.

Row ``k`` of the arrays is one *anchor*: a smoothed position that counts in the search.
"""

from typing import Any

import numpy as np

from testbed.roads.matching.compiled import Net, Scratch, Weights, compiled
from testbed.roads.matching.kernels import IMPOSSIBLE, drive_between, transitions
from testbed.roads.matching.nearby import nearest

NOWHERE, BEGINS, NO_ROUTE, TOO_LONG, SKIPPED, FOLLOWS = range(6)
"""What becomes of an anchor: no road near; the first; begins anew because no route leads here, or
because too much time went by; left out because no route leads here but one to those after it;
follows the one before."""
AHEAD = 3
LIVE = 25.0
END_M = 0.01
TAIL_SIGMAS = 3.0


@compiled
def emission(distance_m: float, variance: float) -> float:
    """Log probability of a fix so far off its road: Gaussian, with a fat tail beyond 3 sigma."""
    z = distance_m / np.sqrt(variance)
    return float(-0.5 * z * z) if z <= TAIL_SIGMAS else TAIL_SIGMAS * (0.5 * TAIL_SIGMAS - z)


@compiled
def find_places(
    net: Net,
    scratch: Scratch,
    at: Any,
    variance: Any,
    radius: tuple[float, float],
    most: int,
    end_cost: float,
) -> Any:
    """Places near each of K positions: (start (K + 1,), edge, offset, distance, fit).

    ``radius`` is the least in metres, and in standard deviations.
    """
    count = len(at)
    start = np.zeros(count + 1, np.int64)
    room = max(16, 8 * count)
    edge, place = np.empty(room, np.int64), np.empty((room, 3))
    found, near = np.empty(most, np.int64), np.empty((most, 2))
    total = 0
    for k in range(count):
        sigma_m = np.sqrt(variance[k])
        radius_m = max(radius[0], radius[1] * sigma_m)
        kept = nearest(net, scratch, at[k, 0], at[k, 1], radius_m, found, near)
        if total + kept > room:
            room = 2 * room + most
            more_edge, more = np.empty(room, np.int64), np.empty((room, 3))
            more_edge[:total], more[:total] = edge[:total], place[:total]
            edge, place = more_edge, more
        for j in range(kept):
            edge[total] = found[j]
            place[total, 0], place[total, 1] = near[j, 0], near[j, 1]
            fit = emission(near[j, 1], variance[k])
            if not END_M < near[j, 0] < net.length_m[found[j]] - END_M:
                fit -= end_cost
            place[total, 2] = fit
            total += 1
        start[k + 1] = total
    return (
        start,
        edge[:total],
        place[:total, 0].copy(),
        place[:total, 1].copy(),
        place[:total, 2].copy(),
    )


@compiled
def max_gap(time_s: Any, hole_s: Any, last: int, k: int) -> float:
    """Seconds without a usable fix between two anchors; anchors between them have no place."""
    gap_s = hole_s[last + 1 : k + 1].max()
    if k > last + 1:
        gap_s = max(gap_s, time_s[k] - time_s[last + 1])
    return float(gap_s)


@compiled
def run_chain(
    net: Net, scratch: Scratch, weights: Weights, anchors: Any, places: Any, longest_gap_s: float
) -> Any:
    """Viterbi's forward pass: (status (K,), previous (K,), score, back, matrix start, matrices).

    ``anchors`` is (time, position, variance, longest time without a fix before each). An anchor to
    which no route leads is left out when a route leads to one of the next (an outlier); otherwise
    the chain begins anew there.
    """
    time_s, at, variance, hole_s = anchors
    start, edge, offset, _, fit = places
    count = len(time_s)
    status, previous = np.zeros(count, np.int64), np.full(count, -1)
    best, back = fit.copy(), np.full(len(fit), -1)
    widest = 1
    for k in range(count):
        widest = max(widest, start[k + 1] - start[k])
    logs, live = np.empty((widest, widest)), np.zeros(widest, np.bool_)
    matrix_start = np.zeros(count + 1, np.int64)
    room, used = 1024, 0
    matrices = np.empty(room)
    last, k = -1, 0
    while k < count:
        if start[k + 1] == start[k]:
            matrix_start[k + 1] = used
            k += 1
            continue
        if last < 0:
            status[k] = BEGINS
        elif max_gap(time_s, hole_s, last, k) > longest_gap_s:
            status[k], last = TOO_LONG, -1
        else:
            a, b = start[last], start[last + 1]
            highest = best[a:b].max()
            for i in range(b - a):
                live[i] = best[a + i] > highest - LIVE
            reached = -1
            for other in range(k, min(k + AHEAD, count)):
                c, d = start[other], start[other + 1]
                if c == d or max_gap(time_s, hole_s, last, other) > longest_gap_s:
                    continue
                step = (
                    np.hypot(at[other, 0] - at[last, 0], at[other, 1] - at[last, 1]),
                    time_s[other] - time_s[last],
                    variance[other] + variance[last],
                )
                if transitions(
                    net,
                    scratch,
                    weights,
                    (edge[a:b], offset[a:b]),
                    (edge[c:d], offset[c:d]),
                    live,
                    step,
                    logs,
                ):
                    reached = other
                    break
            if reached < 0:
                status[k], last = NO_ROUTE, -1
            else:
                for skipped in range(k, reached):
                    status[skipped] = SKIPPED if start[skipped + 1] > start[skipped] else NOWHERE
                    matrix_start[skipped + 1] = used
                k = reached
                c, d = start[k], start[k + 1]
                status[k], previous[k] = FOLLOWS, last
                if used + (b - a) * (d - c) > room:
                    room = 2 * room + (b - a) * (d - c)
                    more = np.empty(room)
                    more[:used] = matrices[:used]
                    matrices = more
                for j in range(d - c):
                    highest, chosen = IMPOSSIBLE, -1
                    for i in range(b - a):
                        matrices[used + i * (d - c) + j] = logs[i, j]
                        total = best[a + i] + logs[i, j]
                        if total > highest:
                            highest, chosen = total, i
                    best[c + j] = highest + fit[c + j]
                    back[c + j] = chosen
                used += (b - a) * (d - c)
        last = k
        matrix_start[k + 1] = used
        k += 1
    return status, previous, best, back, matrix_start, matrices[:used]


@compiled
def best_way(status: Any, previous: Any, start: Any, best: Any, back: Any) -> Any:
    """The chosen place of each anchor as an index into all places, -1 where it has none."""
    chosen = np.full(len(status), -1)
    followed = np.zeros(len(status), np.bool_)
    for k in range(len(status)):
        if previous[k] >= 0:
            followed[previous[k]] = True
    for k in range(len(status) - 1, -1, -1):
        if status[k] in (NOWHERE, SKIPPED):
            continue
        if not followed[k]:
            chosen[k] = start[k] + best[start[k] : start[k + 1]].argmax()
        if previous[k] >= 0:
            chosen[previous[k]] = start[previous[k]] + back[chosen[k]]
    return chosen


@compiled
def posterior(
    status: Any,
    previous: Any,
    start: Any,
    fit: Any,
    matrix_start: Any,
    matrices: Any,
    temper: float,
) -> Any:
    """Probability of each place given the whole chain (forward and backward sums).

    ``temper`` (0 to 1) is the weight of each fix's evidence: errors of fixes in a row are alike.
    """
    count = len(status)
    forward, behind = np.zeros(len(fit)), np.zeros(len(fit))
    following = np.full(count, -1)
    for k in range(count):
        if status[k] in (NOWHERE, SKIPPED):
            continue
        c, d = start[k], start[k + 1]
        highest = fit[c:d].max()
        for j in range(d - c):
            forward[c + j] = np.exp(temper * (fit[c + j] - highest))
        if previous[k] >= 0:
            following[previous[k]] = k
            a, b = start[previous[k]], start[previous[k] + 1]
            for j in range(d - c):
                reached = 0.0
                for i in range(b - a):
                    log = matrices[matrix_start[k] + i * (d - c) + j]
                    if log > IMPOSSIBLE:
                        reached += forward[a + i] * np.exp(temper * log)
                forward[c + j] *= reached
        total = forward[c:d].sum()
        if total <= 0.0:
            forward[c:d] = 1.0
            total = float(d - c)
        forward[c:d] /= total
    for k in range(count - 1, -1, -1):
        if status[k] in (NOWHERE, SKIPPED):
            continue
        a, b = start[k], start[k + 1]
        after = following[k]
        if after < 0:
            behind[a:b] = 1.0
        else:
            c, d = start[after], start[after + 1]
            highest = fit[c:d].max()
            for i in range(b - a):
                for j in range(d - c):
                    log = matrices[matrix_start[after] + i * (d - c) + j]
                    if log > IMPOSSIBLE:
                        here = np.exp(temper * (log + fit[c + j] - highest))
                        behind[a + i] += here * behind[c + j]
            total = behind[a:b].sum()
            if total > 0.0:
                behind[a:b] /= total
    for k in range(count):
        if status[k] in (NOWHERE, SKIPPED):
            continue
        a, b = start[k], start[k + 1]
        forward[a:b] *= behind[a:b]
        total = forward[a:b].sum()
        if total > 0.0:
            forward[a:b] /= total
    return forward


@compiled
def lay_routes(
    net: Net, scratch: Scratch, weights: Weights, anchors: Any, places: Any, found: Any
) -> Any:
    """The driven edges of all parts in a row, and where in it each anchor's edge stands (or -1).

    ``found`` is (status, previous, chosen). A part begins where the status is not to follow.
    """
    time_s, at, variance, _ = anchors
    _, edge, offset, _, _ = places
    status, previous, chosen = found
    way = np.empty(len(net.length_m) + 2, np.int64)
    room, used = max(64, 4 * len(status)), 0
    route, begins = np.empty(room, np.int64), np.zeros(room, np.bool_)
    stands = np.full(len(status), -1)
    for k in range(len(status)):
        if chosen[k] < 0:
            continue
        last = previous[k]
        if last < 0:
            way[0], count = edge[chosen[k]], 1
        else:
            step = (
                np.hypot(at[k, 0] - at[last, 0], at[k, 1] - at[last, 1]),
                time_s[k] - time_s[last],
                variance[k] + variance[last],
            )
            count = drive_between(
                net,
                scratch,
                weights,
                (edge[chosen[last]], offset[chosen[last]]),
                (edge[chosen[k]], offset[chosen[k]]),
                step,
                way,
            )
        if used + count > room:
            room = 2 * room + count
            more, marks = np.empty(room, np.int64), np.zeros(room, np.bool_)
            more[:used], marks[:used] = route[:used], begins[:used]
            route, begins = more, marks
        for i in range(count):
            route[used + i] = way[count - 1 - i]
            begins[used + i] = last < 0
        used += count
        stands[k] = used - 1
    return route[:used].copy(), begins[:used].copy(), stands
