"""The compiled core of the predictors: roads unrolled, borders crossed, times, sums by site.

All compiled functions stand in this one file: numba keeps them on disk, and notices a change in a
file only for the functions of that file. The first call compiles (half a minute, once).
"""

# ruff: noqa: ANN001, ANN201, PLR0917 - numba finds the types itself
import math

import numba
import numpy as np

MOST_WAYS = 512
MOST_VISITS = 6000
_NOBODY = -1
_NEWTON_STEPS = 6
_SOONEST_S = 1e-3
_MOST_CROSSED = 32


@numba.njit(cache=True)
def median_times(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    way_m, now_mps, later_mps, relax_s, delay
):
    """Put the median time for each distance in its place (Newton's method; see `Pace`)."""
    for i in range(len(way_m)):
        goal = way_m[i]
        if not goal < math.inf:
            continue
        if goal <= 0.0:
            way_m[i] = 0.0
            continue
        time = goal / later_mps
        for _ in range(_NEWTON_STEPS):
            fading = math.exp(-time / relax_s)
            way = later_mps * time + (now_mps - later_mps) * relax_s * (1.0 - fading)
            speed = later_mps + (now_mps - later_mps) * fading
            time = max(time - (way - goal) / max(speed, 0.05), _SOONEST_S)
        way_m[i] = time * delay


@numba.njit(cache=True)
def tally(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    probability, site, eta_s, ways, horizon_s, timing, out_site, out_probability, out_eta_s, place
):
    """Sum up ways by site: probability within the horizon, and median time if so.

    Parameters
    ----------
    probability, site, eta_s : arrays, shape (W,)
        Of each way: its chance, a site's number (or -1) and the median time until it.
    ways : int
        So many of them count.
    horizon_s : float
        Sites entered later do not count, seconds.
    timing : tuple of float
        spread, lag_s and blur_s of `testbed.prediction.outlook.Outlook`.
    out_site, out_probability, out_eta_s : arrays
        Where the results go, in the order in which sites are first met.
    place : array of int
        Scratch: -1 for every site, and left so.

    Returns
    -------
    int
        Number of sites.
    """
    spread, lag_s, blur_s = timing
    left_s = horizon_s - lag_s + blur_s
    count = 0
    for way in range(ways):
        here = site[way]
        if here < 0 or probability[way] <= 0.0 or not eta_s[way] < math.inf:
            continue
        if spread > 0.0:
            if left_s <= 0.0:
                continue
            blurred_s = eta_s[way] + blur_s
            arrived = 1.0 / (1.0 + (blurred_s / left_s) ** (1.0 / spread))
            # The median of the times that are within the horizon.
            when = blurred_s * (arrived / (2.0 - arrived)) ** spread + lag_s - blur_s
            when = max(when, 0.0)
        else:
            arrived, when = (1.0 if eta_s[way] <= horizon_s else 0.0), eta_s[way]
        weight = probability[way] * arrived
        if weight <= 0.0:
            continue
        at = place[here]
        if at < 0:
            at = place[here] = count
            out_site[at], out_probability[at], out_eta_s[at] = here, 0.0, 0.0
            count += 1
        out_probability[at] += weight
        out_eta_s[at] += weight * when
    for at in range(count):
        out_eta_s[at] = min(out_eta_s[at] / out_probability[at], horizon_s)
        place[out_site[at]] = -1
    return count


@numba.njit(cache=True)
def settle(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    sites, way_m, at, stretches, span, way, limits
):
    """Go along some stretches and note the sites settled in, and after how many metres.

    Parameters
    ----------
    sites, way_m : arrays, shape (K,)
        Where they go.
    at : tuple
        So far: sites found, the site settled in, the site being entered (or -1), metres since the
        way left the site settled in. Once they are enough, the site that it is in then is entered.
    stretches : tuple of arrays
        from_m, to_m and site of every stretch, -1 where it changes nothing; ``span`` says which.
    way : float
        Distance at which offset 0 of the stretches lies, metres from the user.
    limits : tuple of float
        reach_m, settle_m.
    """
    found, now, coming, inside = at
    from_m, to_m, site_of = stretches
    reach_m, settle_m = limits
    for i in range(span[0], span[1]):
        begin = max(way + from_m[i], 0.0)
        end = way + to_m[i]
        if end <= begin and to_m[i] > from_m[i]:
            continue
        if begin > reach_m or found == len(sites):
            break
        site = site_of[i]
        if site == _NOBODY:  # too shallow to tell
            continue
        if site == now:
            coming, inside = -1, 0.0
            continue
        coming = site
        if inside + (end - begin) >= settle_m:
            sites[found] = site
            way_m[found] = begin + (settle_m - inside)
            found += 1
            now, coming, inside = site, -1, 0.0
        else:
            inside += end - begin
    return found, now, coming, inside


@numba.njit(cache=True)
def unroll(  # type: ignore[no-untyped-def]  # noqa: C901, PLR0912, PLR0915  # pragma: no cover
    network, edge, offset_m, serving, recent, heading, reach_m, rules, ways, sites, way_m, stack
):
    """Fill in the ways from a place on the road; returns how many there are.

    Depth first, so ways stand in a fixed order. The chance of a way splits at each junction, and
    what is left out is shared among the rest: chances sum to 1.

    Parameters
    ----------
    network : tuple
        See `RoadTree.arrays`.
    edge, offset_m : int, float
        Where the user is.
    serving : tuple of int, int, float
        Number of the serving site, of the other one being entered (or -1), and metres in it.
    recent : array of int
        Edges driven before; -1 is none.
    heading : tuple of float
        East and north part of the direction of late; its length tells how much it counts.
    reach_m : float
        Where ways end, metres ahead.
    rules : tuple of float
        settle_m, least, driven_before.
    ways, sites, way_m : arrays, shapes (W,), (W, K), (W, K)
        Where the probabilities, the sites and their distances go.
    stack : tuple of arrays
        Room for branches that wait, see `make_stack`.
    """
    (start, follower, share, opposite, length, east, north,
     stretch_start, stretch_from, stretch_to, stretch_site) = network  # fmt: skip
    settle_m, least, again = rules
    b_edge, b_chance, b_way, b_count, b_now, b_next, b_inside, b_sites, b_dist = stack
    most, steps = len(b_edge), sites.shape[1]
    count = 0
    visits = 0
    b_edge[0], b_chance[0], b_way[0], b_count[0] = edge, 1.0, -offset_m, 0
    b_now[0], b_next[0], b_inside[0] = serving
    waiting = 1
    while waiting > 0:
        waiting -= 1
        here, chance, way = b_edge[waiting], b_chance[waiting], b_way[waiting]
        found, now = b_count[waiting], b_now[waiting]
        coming, inside = b_next[waiting], b_inside[waiting]
        for k in range(steps):
            sites[count, k] = b_sites[waiting, k] if k < found else _NOBODY
            way_m[count, k] = b_dist[waiting, k] if k < found else math.inf
        going = True
        while going:
            visits += 1
            found, now, coming, inside = settle(
                sites[count], way_m[count], (found, now, coming, inside),
                (stretch_from, stretch_to, stretch_site),
                (stretch_start[here], stretch_start[here + 1]), way, (reach_m, settle_m),
            )  # fmt: skip
            way += length[here]
            first, last = start[here], start[here + 1]
            if first == last and coming != _NOBODY and found < steps:
                sites[count, found], way_m[count, found] = coming, way
                found += 1
            if found == steps or way > reach_m or first == last:
                break
            if last - first == 1 and visits < MOST_VISITS:
                here = follower[first]
                continue
            # At a junction: the shares of those that are likely enough.
            total, best, best_weight = 0.0, first, -1.0
            for slot in range(first, last):
                after = follower[slot]
                weight = share[slot] * math.exp(
                    heading[0] * east[after] + heading[1] * north[after]
                )
                for old in recent:
                    if old >= 0 and (old == after or old == opposite[after]):
                        weight *= again
                        break
                b_dist[most, slot - first] = weight
                total += weight
                if weight > best_weight:
                    best, best_weight = slot, weight
            kept = 0.0
            for slot in range(first, last):
                if chance * b_dist[most, slot - first] >= least * total:
                    kept += b_dist[most, slot - first]
            if kept <= 0.0 or visits >= MOST_VISITS:
                here = follower[best]
                if visits >= MOST_VISITS:
                    break
                continue
            onward = -1
            onward_chance = 0.0
            for slot in range(first, last):
                weight = b_dist[most, slot - first]
                if chance * weight < least * total:
                    continue
                part = chance * weight / kept
                if slot == best:
                    onward, onward_chance = follower[slot], part
                    continue
                b_edge[waiting], b_chance[waiting], b_way[waiting] = follower[slot], part, way
                b_count[waiting], b_now[waiting] = found, now
                b_next[waiting], b_inside[waiting] = coming, inside
                for k in range(found):
                    b_sites[waiting, k], b_dist[waiting, k] = sites[count, k], way_m[count, k]
                waiting += 1
            here, chance = onward, onward_chance
        ways[count] = chance
        count += 1
    return count


@numba.njit(cache=True)
def cross(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    plane, cell, serving, x_m, y_m, bearings, limits, sites, way_m
):
    """Fill in sites and distances (shape (W, K)) of straight ways in the W bearings.

    Parameters
    ----------
    plane : tuple
        See `Plane.arrays`.
    cell : int
        The cell that the user is in.
    serving : tuple of int, int, float
        Number of the serving site, of the other one being entered (or -1), and metres in it.
    x_m, y_m : float
        Where the user is, metres.
    bearings : array, shape (W,)
        Radians clockwise from north.
    limits : tuple of float
        reach_m, settle_m.
    """
    station_x, station_y, near, site_of_cell = plane
    reach_m = limits[0]
    from_m = np.empty(_MOST_CROSSED)
    to_m = np.empty(_MOST_CROSSED)
    site_of = np.empty(_MOST_CROSSED, np.int64)
    for ray in range(len(bearings)):
        east, north = math.sin(bearings[ray]), math.cos(bearings[ray])
        here, at, count = cell, 0.0, 0
        while count < _MOST_CROSSED and at <= reach_m:
            soonest, other = math.inf, -1
            for n in near[here]:
                if n < 0:
                    continue
                dx, dy = station_x[n] - station_x[here], station_y[n] - station_y[here]
                slope = dx * east + dy * north
                if slope <= 1e-9:  # noqa: PLR2004 - never comes nearer to that station
                    continue
                middle_x = (station_x[n] + station_x[here]) / 2 - x_m
                middle_y = (station_y[n] + station_y[here]) / 2 - y_m
                meets = (middle_x * dx + middle_y * dy) / slope
                if meets < soonest:
                    soonest, other = meets, n
            from_m[count], site_of[count] = at, site_of_cell[here]
            at = max(at, soonest)
            to_m[count] = at
            count += 1
            if other < 0:
                break
            here = other
        sites[ray, :] = -1
        way_m[ray, :] = math.inf
        settle(sites[ray], way_m[ray], (0, serving[0], serving[1], serving[2]),
               (from_m, to_m, site_of), (0, count), 0.0, limits)  # fmt: skip


@numba.njit(cache=True)
def ways_ahead(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    network, plane, rules, asked, ways, sites, eta_s, stack
):
    """Ways over roads and over the plane, with median times; returns how many.

    ``asked`` is what `testbed.prediction.map_based` makes of a state.
    """
    place, match, toward, pull, recent, position, bearings, weights, speeds, reach_m = asked
    edge, offset_m, serving, coming, inside_m = place
    cell, x_m, y_m = position
    settle_m, early_m, least, again, trust, near_m, strictness, relax_s, delay, _, _ = rules
    on_road = match
    rays = 0
    if cell >= 0:
        rays = len(bearings)
        cross(plane, cell, (serving, coming, inside_m), x_m, y_m, bearings, (reach_m, settle_m),
              sites[:rays], eta_s[:rays])  # fmt: skip
        straight_m = eta_s[rays // 2, 0]
        on_road *= trust if straight_m == math.inf else trust * straight_m / (straight_m + near_m)
        if toward[0] != 0.0 or toward[1] != 0.0:
            along = toward[0] * network[5][edge] + toward[1] * network[6][edge]
            on_road *= math.exp(strictness * (along - 1.0))
        for ray in range(rays):
            ways[ray] = (1.0 - on_road) * weights[ray]
    count = rays
    if edge >= 0:
        count += unroll(
            network, edge, offset_m, (serving, coming, inside_m), recent, pull, reach_m,
            (settle_m, least, again), ways[rays:], sites[rays:], eta_s[rays:], stack,
        )  # fmt: skip
        for way in range(rays, count):
            ways[way] *= on_road
    for way in range(count):
        eta_s[way] -= early_m
        median_times(eta_s[way], speeds[0], speeds[1], relax_s, delay)
    return count


@numba.njit(cache=True)
def candidates_ahead(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    network, plane, rules, asked, horizon_s, room, out
):
    """Ways, summed up by site; returns how many sites."""
    ways, sites, eta_s, stack = room
    out_site, out_probability, out_eta_s, place = out
    count = ways_ahead(network, plane, rules, asked, ways, sites, eta_s, stack)
    return tally(
        ways, sites[:, 0], eta_s[:, 0], count, horizon_s, (rules[9], asked[8][2], rules[10]),
        out_site, out_probability, out_eta_s, place,
    )  # fmt: skip
