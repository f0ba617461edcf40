"""From what a scenario says about a made trace to the trace: `testbed.mobility.generators`, wired.

Every user has chance of its own, out of the scenario's seed and the user's name, so that another
user more changes nothing for the rest.
"""

import zlib

import numpy as np

from testbed.errors import TraceError
from testbed.mobility.generators import (
    BoxM,
    fix_times,
    hexagonal_places,
    hexagonal_walk,
    line_walk,
    placed,
    random_waypoint,
    round_trips,
    walked,
)
from testbed.mobility.report import TraceReport
from testbed.mobility.road_loop import road_loop
from testbed.mobility.trace import Floats, Trace
from testbed.movement import Point, RandomWalk, RandomWaypoint, RoundTrip
from testbed.roads.network import RoadMap
from testbed.scenario import Scenario

USUAL_DURATION_S = 600.0
"""How long a made trace lasts where neither it nor the scenario says so."""

_Motion = tuple[Floats, Floats, Floats]


def make_movement(
    made: RoundTrip | RandomWaypoint | RandomWalk,
    name: str,
    scenario: Scenario,
    roads: RoadMap,
    *,
    extra_s: float = 0.0,
) -> tuple[Trace, TraceReport]:
    """Make the trace of one user.

    Parameters
    ----------
    made : RoundTrip, RandomWaypoint or RandomWalk
        What the scenario says about it.
    name : str
        The user.
    scenario : Scenario
        Gives the seed, the duration and the separation of cells.
    roads : RoadMap
        The scenario's map.
    extra_s : float
        Beyond the scenario's duration, because so much is left out at the start, seconds.

    Raises
    ------
    TraceError
        If a point lies off the map or far from its roads, with the user's name.
    """
    duration_s = made.duration or (scenario.duration or USUAL_DURATION_S) + extra_s
    time_s = fix_times(duration_s, made.step)
    generator = np.random.default_rng((scenario.seed, zlib.crc32(name.encode())))
    try:
        if isinstance(made, RoundTrip):
            motion, source = _round_trip(made, roads, time_s)
        elif isinstance(made, RandomWaypoint):
            motion, source = _random_waypoint(made, roads, generator, time_s)
        else:
            motion, source = _random_walk(made, roads, generator, time_s, scenario.cells.separation)
    except TraceError as error:
        raise TraceError(f"users.{name}.trace: {error}") from error
    trace = placed(roads.projection, name, time_s, motion)
    seeded = "" if isinstance(made, RoundTrip) else f", seed {scenario.seed} and user {name}"
    return trace, TraceReport(source=source + seeded, fixes=len(trace))


def _round_trip(made: RoundTrip, roads: RoadMap, time_s: Floats) -> tuple[_Motion, str]:
    start, end = (_on_map(roads, p, w) for p, w in ((made.start, "start"), (made.end, "end")))
    on_roads = made.along == "roads"
    loop = road_loop(roads, start, end) if on_roads else np.array([start, end, start])
    length_m = float(np.hypot(*np.diff(loop, axis=0).T).sum())
    source = (
        f"round trips of {length_m:.0f} m {'along roads' if on_roads else 'straight'} "
        f"at {made.speed:g} m/s"
    )
    return round_trips(loop, made.speed, time_s), source


def _random_waypoint(
    made: RandomWaypoint, roads: RoadMap, generator: np.random.Generator, time_s: Floats
) -> tuple[_Motion, str]:
    box_m: BoxM = roads.extent_m
    if made.box is not None:
        west, south = _on_map(roads, Point(lat=made.box.south, lon=made.box.west), "box")
        east, north = _on_map(roads, Point(lat=made.box.north, lon=made.box.east), "box")
        box_m = (west, south, east, north)
    motion = random_waypoint(
        generator,
        box_m,
        speed_mps=made.speed,
        pause_s=made.pause,
        time_s=time_s,
        stationary=made.start == "stationary",
    )
    source = (
        f"random waypoint in {box_m[2] - box_m[0]:.0f} m x {box_m[3] - box_m[1]:.0f} m at "
        f"{made.speed[0]:g} to {made.speed[1]:g} m/s, pausing {made.pause[0]:g} to "
        f"{made.pause[1]:g} s"
    )
    return motion, source


def _random_walk(
    made: RandomWalk,
    roads: RoadMap,
    generator: np.random.Generator,
    time_s: Floats,
    separation_m: float,
) -> tuple[_Motion, str]:
    slots = int(np.ceil(time_s[-1] / made.slot - 1e-9)) or 1
    if made.lattice == "line":
        right, left = made.sideways
        cells = line_walk(generator, slots, right=right, left=left, rings=made.rings)
        heading = np.radians(90.0 if made.heading is None else made.heading)
        places = np.outer(cells * separation_m, (np.sin(heading), np.cos(heading)))
        what = f"1-D random walk, {right:g} to the right and {left:g} to the left"
    else:
        walk = hexagonal_walk(generator, slots, each=made.outward, rings=made.rings)
        places = hexagonal_places(walk, separation_m)
        what = f"2-D random walk, {made.outward:g} to each of six cells"
    if made.start is None:
        west, south, east, north = roads.extent_m
        origin = ((west + east) / 2, (south + north) / 2)
    else:
        origin = _on_map(roads, made.start, "start")
    return (
        walked(places + np.array(origin), made.slot, time_s),
        f"{what}, {separation_m:g} m per slot of {made.slot:g} s",
    )


def _on_map(roads: RoadMap, point: Point, what: str) -> tuple[float, float]:
    """A point on the map's plane, metres; refused where it is far outside of it."""
    x_m, y_m = roads.projection.point_xy(point.lat, point.lon)
    west, south, east, north = roads.extent_m
    margin_m = max(east - west, north - south)
    if not (
        west - margin_m <= x_m <= east + margin_m and south - margin_m <= y_m <= north + margin_m
    ):
        box = ", ".join(f"{side:.4f}" for side in roads.box_deg)
        raise TraceError(
            f"the {what} at {point.lat:g}, {point.lon:g} is far off the map {roads.name}, which "
            f"spans {box} (west, south, east, north). Are lat and lon swapped?"
        )
    return x_m, y_m
