"""Movement that is made: round trips, random waypoint, random walks on cells.

Everything happens on a plane in metres; `placed` lays it on the earth as a trace. Chance comes only
from the generator that is passed in, so the same one gives the same trace.
"""

import math

import numpy as np

from testbed.errors import TraceError
from testbed.mobility.trace import Floats, Trace, make_trace
from testbed.roads.arrays import Ints
from testbed.roads.projection import Projection

BoxM = tuple[float, float, float, float]
"""West, south, east, north, metres on the plane."""

_HEXAGON = np.array([(1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1)])
"""Steps to the six neighbours of a hexagonal cell, in axial coordinates."""
_TOLERANCE = 1e-9


def fix_times(duration_s: float, step_s: float) -> Floats:
    """Times of fixes from 0 to the end of a duration, every ``step_s``, seconds.

    Raises
    ------
    TraceError
        If either is not above 0.
    """
    if not (duration_s > 0 and step_s > 0):
        raise TraceError(
            f"a trace of {duration_s:g} s with a fix every {step_s:g} s: both must be above 0"
        )
    count = math.floor(duration_s / step_s + _TOLERANCE) + 1
    return np.arange(count, dtype=np.float64) * step_s


def placed(
    projection: Projection, user: str, time_s: Floats, motion: "tuple[Floats, Floats, Floats]"
) -> Trace:
    """Lay motion on a plane upon the earth.

    Parameters
    ----------
    projection : Projection
        The plane (that of a road map).
    user : str
        The name in the trace.
    time_s : numpy.ndarray, shape (T,)
        Times of the fixes.
    motion : tuple of numpy.ndarray
        Places (metres, shape (T, 2)), speeds (m/s, shape (T,)) and headings (degrees clockwise
        from north, shape (T,)), as the functions of this module give them.
    """
    place, speed_mps, heading_deg = motion
    lat, lon = projection.to_latlon(place[:, 0], place[:, 1])
    return make_trace(user, time_s, lat, lon, speed_mps=speed_mps, heading_deg=heading_deg)


def round_trips(loop_m: Floats, speed_mps: float, time_s: Floats) -> tuple[Floats, Floats, Floats]:
    """Go round and round a closed way at constant speed: the virtual mobile user (Ngo, V.A).

    Ngo's user goes straight from a starting point to an end point and back, over and over, at 0.5
    or 1 m/s; ``np.array([start, end, start])`` is that way. `testbed.mobility.road_loop` gives one
    along roads.

    Parameters
    ----------
    loop_m : numpy.ndarray, shape (P, 2)
        Points of the way, the last one where the first is, metres.
    speed_mps : float
        Along the way, metres per second.
    time_s : numpy.ndarray, shape (T,)
        When to take a fix.

    Returns
    -------
    place, speed, heading : numpy.ndarray
        See `placed`. After ``t`` seconds exactly ``speed_mps * t`` metres have been gone.

    Raises
    ------
    TraceError
        If the speed is not above 0, or the way has no length or does not close.
    """
    if not speed_mps > 0:
        raise TraceError(f"a speed of {speed_mps} m/s: must be above 0")
    loop = np.asarray(loop_m, dtype=float)
    if not np.allclose(loop[0], loop[-1]):
        raise TraceError("the way of a round trip does not end where it begins; close it")
    length = np.hypot(*np.diff(loop, axis=0).T)
    kept = np.concatenate(([True], length > _TOLERANCE))
    loop = loop[kept]
    if len(loop) < 3:  # noqa: PLR2004 - there and back
        raise TraceError("a round trip between two equal points: move them apart")
    along = np.concatenate(([0.0], np.cumsum(length[kept[1:]])))
    gone = (speed_mps * np.asarray(time_s, dtype=float)) % along[-1]
    place = np.column_stack([np.interp(gone, along, loop[:, axis]) for axis in (0, 1)])
    segment = np.clip(np.searchsorted(along, gone, side="right") - 1, 0, len(loop) - 2)
    return place, np.full(len(gone), speed_mps), _headings_deg(np.diff(loop, axis=0)[segment])


def random_waypoint(
    generator: np.random.Generator,
    box_m: BoxM,
    *,
    speed_mps: tuple[float, float],
    pause_s: tuple[float, float],
    time_s: Floats,
    stationary: bool = True,
) -> tuple[Floats, Floats, Floats]:
    """Go straight to a random point at a random speed, pause, and choose the next.

    Points are uniform in the box, speeds and pauses uniform in their ranges. With a uniform start
    the first minutes differ from the rest: users drift to the middle, and their mean speed falls.
    A *stationary* start (Navidi and Camp 2004; Le Boudec and Vojnovic 2006) draws the first leg and
    the place on it as they are found long after: the leg in proportion to its length, the speed in
    proportion to its inverse, a pause in proportion to the time spent in pauses.

    Parameters
    ----------
    generator : numpy.random.Generator
        Where chance comes from.
    box_m : tuple
        West, south, east, north, metres.
    speed_mps : tuple of float
        Slowest and fastest; the slowest above 0, or the mean speed would fall for ever (Yoon,
        Liu and Noble 2003).
    pause_s : tuple of float
        Shortest and longest pause, seconds.
    time_s : numpy.ndarray, shape (T,)
        When to take a fix.
    stationary : bool
        Whether to begin as found long after; otherwise at a random point, moving.

    Returns
    -------
    place, speed, heading : numpy.ndarray
        See `placed`; while pausing the speed is 0 and the heading stays.

    Raises
    ------
    TraceError
        If the box or a range is turned round, or the slowest speed is not above 0.
    """
    _check_waypoint(box_m, speed_mps, pause_s)
    low, high = np.array(box_m[:2]), np.array(box_m[2:])
    end_s = float(time_s[-1])

    def point() -> Floats:
        return np.asarray(generator.uniform(low, high))

    knots_s, knots = [0.0], [point()]

    def go(to: Floats, speed: float) -> None:
        knots_s.append(knots_s[-1] + float(np.hypot(*(to - knots[-1]))) / speed)
        knots.append(to)

    def stay(pause: float) -> None:
        knots_s.append(knots_s[-1] + pause)
        knots.append(knots[-1])

    if not stationary:
        go(point(), generator.uniform(*speed_mps))
        stay(generator.uniform(*pause_s))
    elif generator.random() < _pausing_share(box_m, speed_mps, pause_s):
        shortest, longest = pause_s
        found_s = math.sqrt(shortest**2 + generator.random() * (longest**2 - shortest**2))
        stay(found_s * generator.random())
    else:
        start, to = _leg_found(generator, low, high)
        knots[0] = start + generator.random() * (to - start)
        slowest, fastest = speed_mps
        go(to, slowest * (fastest / slowest) ** generator.random())
        stay(generator.uniform(*pause_s))
    while knots_s[-1] <= end_s:
        go(point(), generator.uniform(*speed_mps))
        stay(generator.uniform(*pause_s))
    return _along(np.array(knots_s), np.array(knots), np.asarray(time_s, dtype=float))


def line_walk(
    generator: np.random.Generator,
    slots: int,
    *,
    right: float,
    left: float,
    rings: int | None = None,
) -> Ints:
    """The 1-D asymmetric random walk of the survey's Markov decision processes ([55]; [51]).

    In every slot the user moves one cell to the right with probability ``right``, one to the left
    with ``left``, and stays otherwise. The uniform walk of [56] and [57] has both equal.

    Parameters
    ----------
    generator : numpy.random.Generator
        Where chance comes from.
    slots : int
        How many slots.
    right, left : float
        Probabilities; their sum is at most 1.
    rings : int, optional
        The user does not go farther from where it began: such a move is not made.

    Returns
    -------
    numpy.ndarray of int, shape (slots + 1,)
        The cell at the beginning of each slot and at the end; the first is 0.

    Raises
    ------
    TraceError
        If a probability is negative or their sum above 1.
    """
    if min(right, left) < 0 or right + left > 1 + _TOLERANCE:
        raise TraceError(
            f"a random walk with {right:g} to the right and {left:g} to the left: probabilities "
            "are not negative, and their sum is at most 1"
        )
    chance = generator.random(slots)
    steps = np.where(chance < right, 1, np.where(chance < right + left, -1, 0))
    if rings is None:
        return np.concatenate(([0], np.cumsum(steps)))
    cells = np.zeros(slots + 1, dtype=np.int64)
    for slot, step in enumerate(steps.tolist()):
        cell = cells[slot] + step
        cells[slot + 1] = cell if abs(cell) <= rings else cells[slot]
    return cells


def hexagonal_walk(
    generator: np.random.Generator, slots: int, *, each: float, rings: int | None = None
) -> Ints:
    """The uniform 2-D random walk on hexagonal cells of the survey's [56] and [57].

    In every slot the user moves to each of the six neighbouring cells with probability ``each``,
    and stays otherwise (Wang et al., "Dynamic service migration in mobile edge computing based on
    Markov decision process", the distance-based approximation).

    Parameters
    ----------
    generator : numpy.random.Generator
        Where chance comes from.
    slots : int
        How many slots.
    each : float
        At most 1/6.
    rings : int, optional
        The user does not go farther from where it began: such a move is not made.

    Returns
    -------
    numpy.ndarray of int, shape (slots + 1, 2)
        Axial coordinates of the cell at the beginning of each slot and at the end; the first is
        (0, 0).

    Raises
    ------
    TraceError
        If the probability is negative or above 1/6.
    """
    if not 0 <= each <= 1 / 6 + _TOLERANCE:
        raise TraceError(
            f"a random walk that moves to each of six cells with {each:g}: at most 1/6"
        )
    chance = generator.random(slots)
    moves = chance < 6 * each
    which = np.minimum((chance / each).astype(int), 5) if each > 0 else np.zeros(slots, int)
    steps = np.where(moves[:, None], _HEXAGON[np.where(moves, which, 0)], 0)
    cells = np.zeros((slots + 1, 2), dtype=np.int64)
    if rings is None:
        cells[1:] = np.cumsum(steps, axis=0)
        return cells
    for slot in range(slots):
        cell = cells[slot] + steps[slot]
        cells[slot + 1] = cell if int(hexagonal_rings(cell)) <= rings else cells[slot]
    return cells


def hexagonal_rings(cells: Ints) -> Ints:
    """Fewest moves from cell (0, 0) to others: the distance state of the survey's [54], [56].

    Parameters
    ----------
    cells : numpy.ndarray of int, shape (..., 2)
        Axial coordinates.
    """
    column, row = np.asarray(cells)[..., 0], np.asarray(cells)[..., 1]
    return np.asarray((np.abs(column) + np.abs(row) + np.abs(column + row)) // 2)


def hexagonal_places(cells: Ints, separation_m: float) -> Floats:
    """Middles of hexagonal cells, metres from that of (0, 0), shape (..., 2).

    They lie as those of `testbed.roads.cells.hexagonal_cells` do: rows run from west to east.
    """
    column, row = np.asarray(cells)[..., 0], np.asarray(cells)[..., 1]
    return np.stack((column + row / 2, row * math.sqrt(3) / 2), axis=-1) * separation_m


def walked(places_m: Floats, slot_s: float, time_s: Floats) -> tuple[Floats, Floats, Floats]:
    """Go from each place to the next in one slot, straight and at constant speed.

    Parameters
    ----------
    places_m : numpy.ndarray, shape (slots + 1, 2)
        Where the user is at the beginning of each slot and at the end.
    slot_s : float
        Length of a slot, seconds.
    time_s : numpy.ndarray, shape (T,)
        When to take a fix; after the last slot the user stays.
    """
    knots_s = np.arange(len(places_m), dtype=np.float64) * slot_s
    return _along(knots_s, np.asarray(places_m, dtype=float), np.asarray(time_s, dtype=float))


def _along(knots_s: Floats, knots: Floats, time_s: Floats) -> tuple[Floats, Floats, Floats]:
    """Place, speed and heading at times on a way with a time for each of its points."""
    place = np.column_stack([np.interp(time_s, knots_s, knots[:, axis]) for axis in (0, 1)])
    moved = np.diff(knots, axis=0)
    took_s = np.diff(knots_s)
    speeds = np.hypot(moved[:, 0], moved[:, 1]) / np.where(took_s > 0, took_s, 1.0)
    speeds[took_s <= 0] = 0.0
    leg = np.clip(np.searchsorted(knots_s, time_s, side="right") - 1, 0, len(moved) - 1)
    beyond = time_s > knots_s[-1]
    # A pause keeps the heading of the leg before it; one at the beginning, that of the first leg.
    last_moving = np.maximum.accumulate(np.where(speeds > 0, np.arange(len(moved)), -1))
    first_moving = int(np.argmax(speeds > 0)) if (speeds > 0).any() else 0
    heading = _headings_deg(moved[np.where(last_moving < 0, first_moving, last_moving)])
    return place, np.where(beyond, 0.0, speeds[leg]), heading[leg]


def _headings_deg(moved: Floats) -> Floats:
    """Degrees clockwise from north of vectors, shape (T, 2) to (T,)."""
    return np.asarray(np.degrees(np.arctan2(moved[:, 0], moved[:, 1])) % 360.0)


def _check_waypoint(
    box_m: BoxM, speed_mps: tuple[float, float], pause_s: tuple[float, float]
) -> None:
    west, south, east, north = box_m
    if not (west < east and south < north):
        raise TraceError(f"box {box_m}: west must be less than east and south less than north")
    if not 0 < speed_mps[0] <= speed_mps[1]:
        raise TraceError(
            f"speeds from {speed_mps[0]:g} to {speed_mps[1]:g} m/s: the slowest must be above 0 "
            "and not above the fastest"
        )
    if not 0 <= pause_s[0] <= pause_s[1]:
        raise TraceError(
            f"pauses from {pause_s[0]:g} to {pause_s[1]:g} s: the shortest must not be negative or "
            "above the longest"
        )


def _pausing_share(
    box_m: BoxM, speed_mps: tuple[float, float], pause_s: tuple[float, float]
) -> float:
    """Share of time that is spent in pauses."""
    slowest, fastest = speed_mps
    inverse = (
        1 / slowest if slowest == fastest else math.log(fastest / slowest) / (fastest - slowest)
    )
    moving_s = mean_leg_m(box_m[2] - box_m[0], box_m[3] - box_m[1]) * inverse
    pausing_s = sum(pause_s) / 2
    return pausing_s / (pausing_s + moving_s)


def mean_leg_m(width_m: float, height_m: float) -> float:
    """Mean distance between two random points of a rectangle, metres (Ghosh 1951)."""
    a, b = width_m, height_m
    d = math.hypot(a, b)
    straight = a**3 / b**2 + b**3 / a**2 + d * (3 - a**2 / b**2 - b**2 / a**2)
    curved = b**2 / a * math.log((a + d) / b) + a**2 / b * math.log((b + d) / a)
    return (straight + 2.5 * curved) / 15


def _leg_found(generator: np.random.Generator, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """A leg drawn in proportion to its length."""
    longest_m = float(np.hypot(*(high - low)))
    while True:
        start, to = generator.uniform(low, high), generator.uniform(low, high)
        if generator.random() * longest_m < float(np.hypot(*(to - start))):
            return start, to
