"""The trace: where users were and when, one schema whatever it came from.

A trace is a DataFrame with the columns `COLUMNS`, sorted by user and time. It may say more about
each fix in the columns `LABEL_COLUMNS`; where there is a ``segment``, a user moves without a break
only within one. Functions here take traces and give new ones; none changes its argument.
"""

import itertools
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TraceError

Trace: TypeAlias = pd.DataFrame
Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

COLUMNS = ("time_s", "user", "lat_deg", "lon_deg", "speed_mps", "heading_deg")
"""Seconds, name, degrees WGS 84, metres per second, degrees clockwise from north."""
LABEL_COLUMNS = ("segment", "track", "mode")
"""Number of the unbroken stretch within a user, the recording it is from, how the user moved."""

EARTH_RADIUS_M = 6_371_008.8
STANDING_M = 0.5
"""Movement below which a heading says nothing and the one before is kept, metres."""


def make_trace(
    user: str,
    time_s: Floats,
    lat_deg: Floats,
    lon_deg: Floats,
    *,
    speed_mps: Floats | None = None,
    heading_deg: Floats | None = None,
) -> Trace:
    """Build one user's trace; speed and heading are derived from the positions where absent.

    Raises
    ------
    TraceError
        If the columns are of different lengths, or hold what `check_trace` refuses.
    """
    lengths = {len(time_s), len(lat_deg), len(lon_deg)}
    if len(lengths) != 1:
        raise TraceError(f"user {user}: time, latitude and longitude differ in length: {lengths}")
    moved_speed, moved_heading = motion(time_s, lat_deg, lon_deg)
    return check_trace(
        pd.DataFrame(
            {
                "time_s": np.asarray(time_s, float),
                "user": str(user),
                "lat_deg": np.asarray(lat_deg, float),
                "lon_deg": np.asarray(lon_deg, float),
                "speed_mps": moved_speed if speed_mps is None else np.asarray(speed_mps, float),
                "heading_deg": (
                    moved_heading if heading_deg is None else np.asarray(heading_deg, float)
                ),
            }
        )
    )


def check_trace(frame: pd.DataFrame) -> Trace:
    """Return the frame with its columns in order, or say what is wrong with it.

    Of further columns only `LABEL_COLUMNS` are kept.

    Raises
    ------
    TraceError
        If a column is missing, the trace is empty, a number is not finite or not possible, or a
        user's time does not grow; with user and row.
    """
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise TraceError(
            f"the trace lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}. "
            "`make_trace` derives speed and heading"
        )
    if frame.empty:
        raise TraceError("the trace has no fix")
    labels = [column for column in LABEL_COLUMNS if column in frame.columns]
    trace = frame.loc[:, [*COLUMNS, *labels]].reset_index(drop=True)
    for column, lowest, highest in BOUNDS:
        values = trace[column].to_numpy(dtype=float)
        wrong = np.flatnonzero(~((values >= lowest) & (values <= highest)))
        if len(wrong):
            row = int(wrong[0])
            raise TraceError(
                f"user {trace['user'].iloc[row]}, row {row}: {column} is {values[row]}, which is "
                f"not between {lowest:g} and {highest:g} ({len(wrong)} such rows). Drop or mend "
                "them before making a trace"
            )
    users = pd.factorize(trace["user"])[0]
    order = np.argsort(users, kind="stable")
    steps = np.diff(trace["time_s"].to_numpy(dtype=float)[order])
    late = order[1:][(steps <= 0) & (np.diff(users[order]) == 0)]
    if len(late):
        row = int(late[0])
        raise TraceError(
            f"user {trace['user'].iloc[row]}, row {row}: time_s does not grow ({len(late)} such "
            "rows). Sort the trace by time and drop duplicates"
        )
    return trace


BOUNDS = (
    ("time_s", -1e12, 1e12),
    ("lat_deg", -90.0, 90.0),
    ("lon_deg", -180.0, 180.0),
    ("speed_mps", 0.0, 1e4),
    ("heading_deg", 0.0, 360.0),
)


def distances_m(lat_deg: Floats, lon_deg: Floats) -> Floats:
    """Great-circle distance from each fix to the next, metres, one shorter than the arguments."""
    lat, lon = np.radians(lat_deg), np.radians(lon_deg)
    half = (
        np.sin(np.diff(lat) / 2) ** 2
        + np.cos(lat[:-1]) * np.cos(lat[1:]) * np.sin(np.diff(lon) / 2) ** 2
    )
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))


def motion(
    time_s: Floats, lat_deg: Floats, lon_deg: Floats, begins: Flags | None = None
) -> tuple[Floats, Floats]:
    """Speed and heading at each fix, from the one before (the first takes the second's).

    Parameters
    ----------
    time_s, lat_deg, lon_deg : numpy.ndarray
        One user's fixes, or several users' one after another.
    begins : numpy.ndarray of bool, optional
        True at the first fix of every unbroken stretch; absent: all is one stretch.

    Returns
    -------
    speed_mps, heading_deg : numpy.ndarray
        While a user stands still, the heading stays as it was. A stretch of one fix has none.
    """
    count = len(time_s)
    if count < 2:  # noqa: PLR2004 - one fix has no motion
        return np.zeros(count), np.zeros(count)
    first = np.zeros(count, dtype=bool) if begins is None else np.array(begins, dtype=bool)
    first[0] = True
    moved_m = distances_m(lat_deg, lon_deg)
    elapsed = np.diff(time_s)
    speed = np.zeros(count)
    np.divide(moved_m, elapsed, out=speed[1:], where=(elapsed > 0) & ~first[1:])
    lat, lon = np.radians(lat_deg), np.radians(lon_deg)
    cos_lat, sin_lat, turn = np.cos(lat), np.sin(lat), np.diff(lon)
    east = np.sin(turn) * cos_lat[1:]
    north = cos_lat[:-1] * sin_lat[1:] - sin_lat[:-1] * cos_lat[1:] * np.cos(turn)
    heading = np.zeros(count)
    heading[1:] = np.degrees(np.arctan2(east, north)) % 360.0
    known = np.zeros(count, dtype=bool)
    known[1:] = (moved_m >= STANDING_M) & ~first[1:]
    starts = np.flatnonzero(first)
    alone = np.diff(np.append(starts, count)) == 1
    speed[starts[~alone]] = speed[starts[~alone] + 1]
    return speed, _filled(heading, known, starts)


def _filled(values: Floats, known: Flags, starts: NDArray[np.intp]) -> Floats:
    """Unknown values from the nearest known one before, else after, in the same stretch; else 0."""
    count = len(values)
    rows = np.arange(count)
    lengths = np.diff(np.append(starts, count))
    lowest, beyond = np.repeat(starts, lengths), np.repeat(starts + lengths, lengths)
    before = np.maximum.accumulate(np.where(known, rows, -1))
    after = np.minimum.accumulate(np.where(known, rows, count)[::-1])[::-1]
    source = np.where(before >= lowest, before, np.where(after < beyond, after, -1))
    return np.where(source >= 0, values[source], 0.0)


def stretch_begins(trace: Trace) -> Flags:
    """True at the first fix of every unbroken stretch: a new user, or a new ``segment``.

    Raises
    ------
    TraceError
        If a user's fixes do not stand together.
    """
    users, names = pd.factorize(trace["user"])
    begins = np.ones(len(trace), dtype=bool)
    begins[1:] = np.diff(users) != 0
    if int(begins.sum()) > len(names):
        raise TraceError(
            "the fixes of a user do not stand together. Sort the trace by user and time: "
            "trace.sort_values(['user', 'time_s'])"
        )
    if "segment" in trace.columns:
        begins[1:] |= np.diff(trace["segment"].to_numpy()) != 0
    return begins


def duration_s(trace: Trace) -> float:
    """Time from the first to the last fix, seconds."""
    return float(trace["time_s"].max() - trace["time_s"].min())


def length_m(trace: Trace) -> float:
    """Way along the fixes of all users, metres; what lies between two segments does not count."""
    return float(
        sum(
            distances_m(rows["lat_deg"].to_numpy(), rows["lon_deg"].to_numpy()).sum()
            for _, rows in trace.groupby(stretch_keys(trace), sort=False)
        )
    )


def stretch_keys(trace: Trace) -> list[str]:
    """The columns by which unbroken stretches are told apart."""
    return ["user", "segment"] if "segment" in trace.columns else ["user"]


def clip_trace(trace: Trace, from_s: float, to_s: float = np.inf) -> Trace:
    """The fixes from one time to another, both included; times stay as they are.

    Raises
    ------
    TraceError
        If no fix is left.
    """
    kept = trace[(trace["time_s"] >= from_s) & (trace["time_s"] <= to_s)]
    if kept.empty:
        raise TraceError(
            f"no fix between {from_s:g} s and {to_s:g} s; the trace runs from "
            f"{trace['time_s'].min():g} s to {trace['time_s'].max():g} s"
        )
    return kept.reset_index(drop=True)


def from_zero(trace: Trace) -> Trace:
    """The same trace, with the first fix of all users at time 0."""
    return trace.assign(time_s=trace["time_s"] - trace["time_s"].min())


def resample_trace(trace: Trace, step_s: float, *, longest_gap_s: float = np.inf) -> Trace:
    """One fix per ``step_s`` for each user, interpolated on the straight line between fixes.

    Speed is interpolated; heading and labels are those of the fix before, since angles do not
    average. Each segment has a grid of its own, from its first fix on.

    Parameters
    ----------
    trace : Trace
        Sorted by user and time.
    step_s : float
        Time between fixes, seconds.
    longest_gap_s : float
        Nothing is interpolated between fixes further apart than this, seconds: the grid has a
        hole there, and what follows is a new ``segment``.

    Raises
    ------
    TraceError
        If step or gap is not above 0, or a user's fixes do not stand together.
    """
    for name, value in (("step", step_s), ("gap", longest_gap_s)):
        if not value > 0:
            raise TraceError(f"a {name} of {value} s: must be above 0")
    time = trace["time_s"].to_numpy(dtype=float)
    starts = np.flatnonzero(stretch_begins(trace))
    parts = [
        _grid(time[begin:end], begin, step_s, longest_gap_s)
        for begin, end in itertools.pairwise([*starts.tolist(), len(time)])
    ]
    rows, at, share, holes = (np.concatenate(column) for column in zip(*parts, strict=True))
    following = np.minimum(rows + 1, len(time) - 1)
    dense = trace.iloc[rows].reset_index(drop=True).assign(time_s=at)
    for column in ("lat_deg", "lon_deg", "speed_mps"):
        values = trace[column].to_numpy(dtype=float)
        dense[column] = values[rows] + share * (values[following] - values[rows])
    if np.isfinite(longest_gap_s):
        dense["segment"] = count_stretches(dense, holes | stretch_begins(dense))
    return check_trace(dense)


def _grid(
    time: Floats, begin: int, step_s: float, longest_gap_s: float
) -> tuple[NDArray[np.intp], Floats, Floats, Flags]:
    """One stretch's new times: row before each, the time, the share of the way to the next row.

    The last array is True where a hole lies before. Times are taken from the first fix on, since
    epoch times leave no digits for what is below a microsecond.
    """
    since = time - time[0]
    count = int(np.floor(since[-1] / step_s + _SAME_S)) + 1
    at = step_s * np.arange(count)
    before = np.clip(np.searchsorted(since, at + _SAME_S, side="right") - 1, 0, len(since) - 1)
    pause = np.append(np.diff(since), np.inf)[before]
    late = np.maximum(at - since[before], 0.0)
    share = np.where(late > _SAME_S, late / pause, 0.0)
    kept = np.flatnonzero((late <= _SAME_S) | (pause <= longest_gap_s))
    holes = np.diff(kept, prepend=-1) > 1
    return begin + before[kept], time[0] + at[kept], share[kept], holes


_SAME_S = 1e-9


def count_stretches(trace: Trace, begins: Flags) -> NDArray[np.int32]:
    """Numbers for ``segment``, from 0 in each user, growing where ``begins`` is True."""
    number = np.cumsum(begins)
    users = pd.factorize(trace["user"])[0]
    firsts = np.flatnonzero(np.diff(users, prepend=-1))
    lengths = np.diff(np.append(firsts, len(users)))
    return np.asarray(number - np.repeat(number[firsts], lengths), dtype=np.int32)


def idle_stretches(
    trace: Trace, shortest_s: float, radius_m: float = 20.0
) -> list[tuple[float, float]]:
    """Times in which one user hardly moved: candidates for jumping over with the clock.

    A stretch begins at a fix and lasts as long as every later fix stays within ``radius_m`` of it;
    a pause without fixes between two places that near counts as well.

    Parameters
    ----------
    trace : Trace
        One user's trace.
    shortest_s : float
        Shorter stretches are not reported, seconds.
    radius_m : float
        Movement that does not count, metres (GPS noise).

    Returns
    -------
    list of (time_s, length_s)
    """
    time = trace["time_s"].to_numpy(dtype=float)
    lat, lon = trace["lat_deg"].to_numpy(dtype=float), trace["lon_deg"].to_numpy(dtype=float)
    scale = np.cos(np.radians(lat[0]))
    east = np.radians(lon - lon[0]) * EARTH_RADIUS_M * scale
    north = np.radians(lat - lat[0]) * EARTH_RADIUS_M
    found: list[tuple[float, float]] = []
    first = 0
    while first < len(time) - 1:
        far = np.hypot(east[first + 1 :] - east[first], north[first + 1 :] - north[first])
        left = np.flatnonzero(far > radius_m)
        last = first + (int(left[0]) if len(left) else len(far))
        if last > first and time[last] - time[first] >= shortest_s:
            found.append((float(time[first]), float(time[last] - time[first])))
            first = last
        else:
            first += 1
    return found
