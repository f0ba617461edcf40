"""Drives whose every metre is known, and what a noisy receiver makes of them.

Beijing: made drives over shortest and fastest routes of the directed network. Berlin: trips that
SUMO drives. The seed decides everything; the same drive has the same noise at every strength.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import shapely

from testbed.errors import TraceError
from testbed.mobility.sumo.trip import Drive, drive_trip
from testbed.roads.arrays import Floats, Ints
from testbed.roads.network import RoadMap

LONG_M, SHORT_M = (5_000.0, 15_000.0), (2_500.0, 5_000.0)
BERLIN_TRIP_M = 1_200.0
GRID_M = 5.0
ACCELERATION, BRAKING = 1.5, 2.0
TURN_DEG = (0.0, 10.0, 30.0, 60.0, 100.0, 180.0)
TURN_MPS = (60.0, 40.0, 14.0, 8.0, 5.0, 2.5)
CROSSING_MPS = 11.0
STOP_SHARE, STOP_LINE_M, WAIT_S = 0.1, 8.0, (5.0, 40.0)
FREE_FLOW = ("motorway", "trunk")
REAL_JUNCTION = 3
TRIES = 200
SPREAD = 1.05


@dataclass(frozen=True)
class Truth:
    """One drive, second by second.

    Attributes
    ----------
    name : str
        Where it comes from.
    route : numpy.ndarray of int, shape (L,)
        The driven edges, in order.
    time_s, x_m, y_m : numpy.ndarray, shape (K,)
        Where the car really is, metres on the map's plane.
    leg : numpy.ndarray of int, shape (K,)
        Which of the route's edges that is.
    offset_m : numpy.ndarray, shape (K,)
        How far along it, metres.
    inside : numpy.ndarray of bool, shape (K,)
        Within a junction, where the next edge is as right as this one.
    """

    name: str
    route: Ints
    time_s: Floats
    x_m: Floats
    y_m: Floats
    leg: Ints
    offset_m: Floats
    inside: np.ndarray

    def sampled(self, step_s: int) -> "Truth":
        """One fix in ``step_s``; the drive ends where its last fix is."""
        at = np.arange(0, len(self.time_s), step_s)
        return Truth(
            self.name,
            self.route,
            self.time_s[at],
            self.x_m[at],
            self.y_m[at],
            self.leg[at],
            self.offset_m[at],
            self.inside[at],
        )

    def right_edges(self) -> tuple[Ints, Ints]:
        """The right edge of each fix, and a second one that is as right (else the same)."""
        after = np.minimum(self.leg + 1, len(self.route) - 1)
        edge = self.route[self.leg]
        return edge, np.where(self.inside, self.route[after], edge)


@dataclass(frozen=True)
class Fixes:
    """What the receiver tells: times and noisy positions (metres on the plane, and degrees)."""

    time_s: Floats
    x_m: Floats
    y_m: Floats
    lat_deg: Floats
    lon_deg: Floats


def receive(roads: RoadMap, truth: Truth, step_s: int, noise_m: float, seed: int) -> Fixes:
    """Fixes of a drive with Gaussian noise of ``noise_m`` on each axis."""
    unit = np.random.default_rng(seed).standard_normal((2, len(truth.time_s)))[:, ::step_s]
    clean = truth.sampled(step_s)
    x, y = clean.x_m + noise_m * unit[0], clean.y_m + noise_m * unit[1]
    lat, lon = roads.projection.to_latlon(x, y)
    return Fixes(clean.time_s, x, y, lat, lon)


def made_drives(
    roads: RoadMap,
    count: int,
    seed: int,
    between_m: tuple[float, float],
    done: Callable[[], object] = lambda: None,
) -> list[Truth]:
    """Drives over shortest and fastest routes by turns, at speeds that the roads allow."""
    drives = []
    for number in range(count):
        random = np.random.default_rng([seed, number])
        kind = ("shortest", "fastest")[number % 2]
        cost = roads.length_m if kind == "shortest" else roads.length_m / roads.limit_mps
        route = random_route(roads, cost, random, between_m)
        drives.append(drive(roads, route, random, f"{kind} {number}"))
        done()
    return drives


def random_route(
    roads: RoadMap,
    cost: Floats,
    random: np.random.Generator,
    between_m: tuple[float, float],
) -> Ints:
    """A cheapest route between random places, of a random length between two bounds.

    Raises
    ------
    TraceError
        If the map is too small for it.
    """
    costs: list[float] = cost.tolist()
    back: list[int] = roads.opposite.tolist()
    for _ in range(TRIES):
        wanted_m = random.uniform(*between_m)
        start = int(random.integers(roads.edge_count))
        before: dict[int, int] = {}
        reached: list[int] = []
        queue = [(costs[start], start, -1, float(roads.length_m[start]))]
        while queue:
            spent, edge, last, way_m = heapq.heappop(queue)
            if edge in before:
                continue
            before[edge] = last
            if way_m >= wanted_m:
                reached.append(edge)
            for after in roads.followers(edge).tolist():
                after_m = way_m + float(roads.length_m[after])
                if after not in before and after != back[edge] and after_m <= wanted_m * SPREAD:
                    heapq.heappush(queue, (spent + costs[after], after, edge, after_m))
        if reached:
            return _back(before, reached[int(random.integers(len(reached)))])
    raise TraceError(
        f"{roads.name}: no route of {between_m[0]:.0f} to {between_m[1]:.0f} m in {TRIES} tries. "
        "Is the map that large?"
    )


def _back(before: dict[int, int], edge: int) -> Ints:
    route = [edge]
    while before[route[-1]] >= 0:
        route.append(before[route[-1]])
    return np.array(route[::-1])


def drive(roads: RoadMap, route: Ints, random: np.random.Generator, name: str) -> Truth:
    """Drive a route: limits kept, slower in turns and at junctions, some red lights.

    Begins somewhere on the first edge and ends somewhere on the last.
    """
    begins = np.concatenate(([0.0], np.cumsum(roads.length_m[route])))
    share = random.uniform(0.0, 1.0, 2)
    from_m = share[0] * roads.length_m[route[0]] if len(route) > 1 else 0.0
    to_m = begins[-2] + share[1] * roads.length_m[route[-1]] if len(route) > 1 else begins[-1]
    way_m = np.linspace(from_m, to_m, max(2, int((to_m - from_m) / GRID_M) + 1))
    speed = _speeds(roads, route, begins, way_m, random.uniform(0.7, 1.0))
    step_s = 2 * np.diff(way_m) / (speed[:-1] + speed[1:])
    time_s = np.concatenate(([0.0], np.cumsum(step_s)))
    time_s, at_m = _with_stops(roads, route, begins, (time_s, way_m), random)
    clock = np.arange(0.0, time_s[-1] + 1e-9, 1.0)
    now_m = np.interp(clock, time_s, at_m)
    leg = np.clip(np.searchsorted(begins, now_m, side="right") - 1, 0, len(route) - 1)
    offset = now_m - begins[leg]
    x, y = roads.positions(route[leg], offset)
    return Truth(name, route, clock, x, y, leg, offset, np.zeros(len(clock), dtype=bool))


def _speeds(roads: RoadMap, route: Ints, begins: Floats, way_m: Floats, haste: float) -> Floats:
    """Fastest speeds within limits, turns, junctions, acceleration and braking, m/s."""
    leg = np.clip(np.searchsorted(begins, way_m, side="right") - 1, 0, len(route) - 1)
    speed = roads.limit_mps[route[leg]] * haste
    for at_m, most_mps in _slow_places(roads, route, begins):
        near = int(np.searchsorted(way_m, at_m))
        if 0 < near < len(way_m):
            speed[near] = min(speed[near], most_mps)
    speed[0] = speed[-1] = 0.0
    for order, rate in ((range(1, len(speed)), ACCELERATION), (_down(len(speed)), BRAKING)):
        for here in order:
            last = here - 1 if rate == ACCELERATION else here + 1
            gap_m = abs(way_m[here] - way_m[last])
            speed[here] = min(speed[here], float(np.sqrt(speed[last] ** 2 + 2 * rate * gap_m)))
    return np.asarray(speed)


def _down(count: int) -> range:
    return range(count - 2, -1, -1)


def _slow_places(roads: RoadMap, route: Ints, begins: Floats) -> list[tuple[float, float]]:
    """Where along the route one drives slower, and how fast at most."""
    line_x, line_y, line_m = [], [], []
    for edge, begin in zip(route.tolist(), begins, strict=False):
        x, y = roads.polyline(edge)
        here = slice(int(roads.point_start[edge]), int(roads.point_start[edge + 1]))
        line_x += x.tolist()
        line_y += y.tolist()
        line_m += (roads.point_along_m[here] + begin).tolist()
    points = np.column_stack((line_x, line_y, line_m))
    points = points[np.concatenate(([True], np.diff(points[:, 2]) > 0.0))]
    heading = np.degrees(np.arctan2(np.diff(points[:, 0]), np.diff(points[:, 1])))
    turn = np.abs((np.diff(heading) + 180.0) % 360.0 - 180.0)
    places = list(zip(points[1:-1, 2], np.interp(turn, TURN_DEG, TURN_MPS), strict=True))
    for edge, end_m in zip(route[:-1].tolist(), begins[1:], strict=False):
        if _crossing(roads, edge):
            places.append((float(end_m), CROSSING_MPS))
    return places


def _crossing(roads: RoadMap, edge: int) -> bool:
    """Whether the edge ends at a junction of three or more roads, and is none without lights."""
    node = int(roads.head[edge])
    others = {int(roads.head[out]) for out in roads.out_edges(node).tolist()}
    free = str(roads.road_class[edge]).startswith(FREE_FLOW)
    return len(others | {int(roads.tail[edge])}) >= REAL_JUNCTION and not free


def _with_stops(
    roads: RoadMap,
    route: Ints,
    begins: Floats,
    timed: tuple[Floats, Floats],
    random: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Time and way with waits before some junctions."""
    time_s, way_m = timed
    times, ways, late_s, done = [], [], 0.0, 0
    for edge, end_m in zip(route[:-1].tolist(), begins[1:], strict=False):
        if not (_crossing(roads, edge) and random.uniform() < STOP_SHARE):
            continue
        stop = int(np.searchsorted(way_m, end_m - STOP_LINE_M))
        if stop <= done or stop >= len(way_m):
            continue
        times.append(time_s[done : stop + 1] + late_s)
        ways.append(way_m[done : stop + 1])
        late_s += random.uniform(*WAIT_S)
        done = stop
    return np.concatenate([*times, time_s[done:] + late_s]), np.concatenate([*ways, way_m[done:]])


def sumo_drives(
    roads: RoadMap,
    net: Path,
    count: int,
    seed: int,
    *,
    cache: Path | None,
    done: Callable[[], object] = lambda: None,
) -> list[Truth]:
    """Trips that SUMO drives on the map's own network; a seed without a long trip is passed by."""
    named = {name: edge for edge, name in enumerate(roads.edge_ids.tolist())}
    go = partial(
        drive_trip,
        net,
        minimum_distance_m=BERLIN_TRIP_M,
        on_edges=frozenset(named),
        cache=cache,
    )
    drives: list[Truth] = []
    for number in itertools.count(1000 * seed):
        if len(drives) == count:
            return drives
        if number >= 1000 * seed + TRIES:
            raise TraceError(f"{net.name}: only {len(drives)} of {count} trips in {TRIES} tries")
        try:
            trip = go(seed=number)
        except TraceError:
            continue
        drives.append(from_sumo(roads, trip, named, f"SUMO {number}"))
        done()
    return drives


def from_sumo(roads: RoadMap, trip: Drive, named: dict[str, int], name: str) -> Truth:
    """A SUMO trip on the road map's edges; inside a junction both its edges are right."""
    route = np.array([named[edge] for edge in trip.route])
    leg, now = [], 0
    for edge in trip.edge:
        if not edge.startswith(":"):
            while trip.route[now] != edge:
                now += 1
        leg.append(now)
    legs = np.array(leg)
    x, y = roads.projection.to_xy(
        trip.trace["lat_deg"].to_numpy(), trip.trace["lon_deg"].to_numpy()
    )
    return Truth(
        name,
        route,
        trip.trace["time_s"].to_numpy(dtype=float),
        x,
        y,
        legs,
        nearest_offsets(roads, route[legs], x, y),
        np.array([edge.startswith(":") for edge in trip.edge]),
    )


def nearest_offsets(roads: RoadMap, edge: Ints, x_m: Floats, y_m: Floats) -> Floats:
    """How far along its edge each point's nearest place on it lies, metres."""
    lines = {e: shapely.LineString(np.column_stack(roads.polyline(e))) for e in set(edge.tolist())}
    points = shapely.points(x_m, y_m)
    return np.asarray(
        shapely.line_locate_point(np.array([lines[e] for e in edge.tolist()]), points)
    )
