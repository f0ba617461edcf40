"""Routes between places on the road, and how likely each is (compiled)."""

from typing import Any

import numpy as np

from testbed.roads.matching.compiled import Net, Scratch, Weights, compiled

IMPOSSIBLE = -np.inf
STRAIGHT_ON, TURNED = -1, -2
"""Marks in `Scratch.before` of what follows the start: onward, or after turning round."""
BACK_SIGMAS = 5.0
USUAL_MPS = 15.0


@compiled
def push(scratch: Scratch, size: int, cost: float, edge: int) -> int:
    """Put an edge into the queue; the queue's new size."""
    costs, edges = scratch.heap_cost, scratch.heap_edge
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if costs[parent] < cost or (costs[parent] == cost and edges[parent] <= edge):
            break
        costs[at], edges[at] = costs[parent], edges[parent]
        at = parent
    costs[at], edges[at] = cost, edge
    return size + 1


@compiled
def drop_first(scratch: Scratch, size: int) -> int:
    """Take the first edge out of the queue; the queue's new size."""
    costs, edges = scratch.heap_cost, scratch.heap_edge
    size -= 1
    cost, edge = costs[size], edges[size]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (
            costs[other] < costs[child]
            or (costs[other] == costs[child] and edges[other] < edges[child])
        ):
            child = other
        if cost < costs[child] or (cost == costs[child] and edge <= edges[child]):
            break
        costs[at], edges[at] = costs[child], edges[child]
        at = child
    costs[at], edges[at] = cost, edge
    return size


@compiled
def open_from(
    net: Net, scratch: Scratch, size: int, last: int, at: tuple[float, float, float, float], to: Any
) -> int:
    """Queue what follows edge ``last``, whose end is ``at`` (cost, metres, seconds, liked m).

    ``to`` is (metres per unit of turning cost, greatest cost, mark for `Scratch.before`).
    """
    per_turn_m, bound_m, mark = to
    run = scratch.count[0]
    for pair in range(net.follower_start[last], net.follower_start[last + 1]):
        edge = net.follower[pair]
        cost = at[0] + per_turn_m * net.turn[pair]
        if cost > bound_m or (scratch.seen[edge] == run and scratch.cost_m[edge] <= cost):
            continue
        scratch.seen[edge] = run
        scratch.cost_m[edge] = cost
        scratch.driven_m[edge] = at[1]
        scratch.free_s[edge] = at[2]
        scratch.liked_m[edge] = at[3]
        scratch.before[edge] = mark
        size = push(scratch, size, cost, edge)
    return size


@compiled
def spread(
    net: Net,
    scratch: Scratch,
    place: tuple[int, float],
    per_turn_m: float,
    u_turn: float,
    bound_m: float,
    wanted: int,
) -> None:
    """Cheapest routes from a place to the tails of edges (Dijkstra), ended early.

    It ends at ``bound_m`` or when ``wanted`` of the edges stamped in `Scratch.wanted` are
    reached. `Scratch.before` is the edge before, -1 for what follows the place's edge and -2 for
    what follows its other direction, after turning round on the spot.
    """
    edge, offset = place
    scratch.count[0] += 1
    run = scratch.count[0]
    stamp = scratch.count[1]
    ahead = net.length_m[edge] - offset
    share = net.free_s[edge] / net.length_m[edge]
    start = (ahead * net.ratio[edge], ahead, ahead * share, ahead * net.ratio[edge])
    size = open_from(net, scratch, 0, edge, start, (per_turn_m, bound_m, STRAIGHT_ON))
    back = net.opposite[edge]
    if back >= 0:
        turned = offset * net.ratio[back] + per_turn_m * u_turn
        start = (turned, offset, offset * share, offset * net.ratio[back])
        size = open_from(net, scratch, size, back, start, (per_turn_m, bound_m, TURNED))
    while size > 0 and wanted > 0:
        cost, here = scratch.heap_cost[0], scratch.heap_edge[0]
        size = drop_first(scratch, size)
        if scratch.done[here] == run:
            continue
        scratch.done[here] = run
        if scratch.wanted[here] == stamp:
            wanted -= 1
        end = (
            cost + net.length_m[here] * net.ratio[here],
            scratch.driven_m[here] + net.length_m[here],
            scratch.free_s[here] + net.free_s[here],
            scratch.liked_m[here] + net.length_m[here] * net.ratio[here],
        )
        if end[0] <= bound_m:
            size = open_from(net, scratch, size, here, end, (per_turn_m, bound_m, here))


@compiled
def score(driven_m: float, extra_m: float, free_s: float, step: Any, weights: Weights) -> float:
    """Log probability of a drive (up to a constant); ``step`` is (straight, elapsed, beta)."""
    straight_m, elapsed_s, beta_m = step
    found: float = -(abs(driven_m - straight_m) + extra_m) / beta_m
    late_s = free_s - elapsed_s
    if late_s > 0.0:
        found -= weights.haste * late_s / elapsed_s
    return found


@compiled
def step_beta(straight_m: float, variance: float, weights: Weights) -> float:
    """Scale of the difference between driven and straight distance, metres."""
    return float(
        weights.beta_m + weights.beta_sigmas * np.sqrt(variance) + weights.beta_share * straight_m
    )


@compiled
def on_the_spot(
    net: Net, weights: Weights, before: tuple[int, float], after: tuple[int, float], scale: Any
) -> float:
    """Log probability of staying on the edge, or turning round on it; ``scale`` is `step_scale`."""
    edge, offset = before
    target, there = after
    step, spread_m, longest_m, _ = scale
    pace = net.free_s[edge] / net.length_m[edge]
    if target == edge:
        ahead_m = there - offset
        if not -BACK_SIGMAS * spread_m <= ahead_m <= longest_m:
            return IMPOSSIBLE
        driven_m = max(ahead_m, 0.0)
        found = score(ahead_m, 0.0, driven_m * pace, step, weights)
        back = min(ahead_m, 0.0) / spread_m
        return float(found - 0.5 * back * back)
    if target == net.opposite[edge]:
        driven_m = abs(net.length_m[edge] - there - offset)
        if driven_m <= longest_m:
            return score(driven_m, 0.0, driven_m * pace, step, weights) - weights.u_turn
    return IMPOSSIBLE


@compiled
def by_search(
    net: Net, scratch: Scratch, weights: Weights, after: tuple[int, float], scale: Any
) -> float:
    """Log probability of the route that the last `spread` found to a place."""
    target, there = after
    step, _, longest_m, _ = scale
    if scratch.done[target] != scratch.count[0]:
        return IMPOSSIBLE
    driven_m = scratch.driven_m[target] + there
    if driven_m > longest_m:
        return IMPOSSIBLE
    extra_m = scratch.cost_m[target] - scratch.liked_m[target]
    free_s = scratch.free_s[target] + there * net.free_s[target] / net.length_m[target]
    return score(driven_m, extra_m, free_s, step, weights)


@compiled
def step_scale(step: tuple[float, float, float], weights: Weights) -> Any:
    """What a step (straight distance, time, summed variance) is measured by.

    (straight, time, beta), standard deviation of both fixes, longest drive, bound of the search.
    """
    straight_m, elapsed_s, variance = step
    beta_m = step_beta(straight_m, variance, weights)
    spread_m = np.sqrt(variance)
    longest_m = weights.top_speed_mps * elapsed_s + 3.0 * spread_m
    bound_m = min(straight_m, longest_m) + weights.slack_betas * beta_m
    return (straight_m, elapsed_s + spread_m / USUAL_MPS, beta_m), spread_m, longest_m, bound_m


@compiled
def transitions(
    net: Net,
    scratch: Scratch,
    weights: Weights,
    before: Any,
    after: Any,
    live: Any,
    step: tuple[float, float, float],
    logs: Any,
) -> bool:
    """Log probability of each step between places at two fixes into ``logs``; whether any can be.

    ``before`` and ``after`` are (edges, offsets), ``live`` says which of the places before count,
    ``step`` is (straight distance, elapsed time, summed variance of both fixes).
    """
    before_edge, before_m = before
    after_edge, after_m = after
    scale = step_scale(step, weights)
    scratch.count[1] += 1
    for j in range(len(after_edge)):
        scratch.wanted[after_edge[j]] = scratch.count[1]
    possible = False
    for i in range(len(before_edge)):
        for j in range(len(after_edge)):
            logs[i, j] = IMPOSSIBLE
        if not live[i]:
            continue
        place = (before_edge[i], before_m[i])
        spread(net, scratch, place, scale[0][2], weights.u_turn, scale[3], len(after_edge))
        for j in range(len(after_edge)):
            target = (after_edge[j], after_m[j])
            best = max(
                by_search(net, scratch, weights, target, scale),
                on_the_spot(net, weights, place, target, scale),
            )
            if best > IMPOSSIBLE:
                possible = True
            logs[i, j] = best
    return possible


@compiled
def drive_between(
    net: Net,
    scratch: Scratch,
    weights: Weights,
    before: tuple[int, float],
    after: tuple[int, float],
    step: tuple[float, float, float],
    way: Any,
) -> int:
    """Edges driven after that of ``before``, up to and with that of ``after``; how many.

    The route is the one that `transitions` scored. It is written to ``way`` last edge first.
    """
    scale = step_scale(step, weights)
    direct = on_the_spot(net, weights, before, after, scale)
    scratch.count[1] += 1
    scratch.wanted[after[0]] = scratch.count[1]
    spread(net, scratch, before, scale[0][2], weights.u_turn, scale[3], 1)
    if by_search(net, scratch, weights, after, scale) > direct:
        count, here = 0, after[0]
        while here >= 0:
            way[count] = here
            count += 1
            here = scratch.before[here]
        if here == TURNED:
            way[count] = net.opposite[before[0]]
            count += 1
        return count
    if after[0] == before[0]:
        return 0
    way[0] = after[0]
    return 1
