"""The trace: where users were and when, one schema whatever it came from.

A trace is a DataFrame with the columns `COLUMNS`, sorted by user and time. Functions here take
traces and give new ones; none changes its argument.
"""

from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TraceError

Trace: TypeAlias = pd.DataFrame
Floats: TypeAlias = NDArray[np.float64]

COLUMNS = ("time_s", "user", "lat_deg", "lon_deg", "speed_mps", "heading_deg")
"""Seconds, name, degrees WGS 84, metres per second, degrees clockwise from north."""

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
    trace = frame.loc[:, list(COLUMNS)].reset_index(drop=True)
    for column, lowest, highest in _BOUNDS:
        values = trace[column].to_numpy(dtype=float)
        wrong = np.flatnonzero(~((values >= lowest) & (values <= highest)))
        if len(wrong):
            row = int(wrong[0])
            raise TraceError(
                f"user {trace['user'].iloc[row]}, row {row}: {column} is {values[row]}, which is "
                f"not between {lowest:g} and {highest:g} ({len(wrong)} such rows). Drop or mend "
                "them before making a trace"
            )
    for user, rows in trace.groupby("user", sort=False):
        steps = np.diff(rows["time_s"].to_numpy(dtype=float))
        late = np.flatnonzero(steps <= 0)
        if len(late):
            row = int(rows.index[int(late[0]) + 1])
            raise TraceError(
                f"user {user}, row {row}: time_s does not grow ({len(late)} such rows). Sort the "
                "trace by time and drop duplicates"
            )
    return trace


_BOUNDS = (
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


def motion(time_s: Floats, lat_deg: Floats, lon_deg: Floats) -> tuple[Floats, Floats]:
    """Speed and heading at each fix, from the one before (the first takes the second's).

    Returns
    -------
    speed_mps, heading_deg : numpy.ndarray
        While a user stands still, the heading stays as it was.
    """
    count = len(time_s)
    if count < 2:  # noqa: PLR2004 - one fix has no motion
        return np.zeros(count), np.zeros(count)
    moved_m = distances_m(lat_deg, lon_deg)
    elapsed = np.diff(time_s)
    speed = np.divide(moved_m, elapsed, out=np.zeros_like(moved_m), where=elapsed > 0)
    lat, lon = np.radians(lat_deg), np.radians(lon_deg)
    east = np.sin(np.diff(lon)) * np.cos(lat[1:])
    north = np.cos(lat[:-1]) * np.sin(lat[1:]) - np.sin(lat[:-1]) * np.cos(lat[1:]) * np.cos(
        np.diff(lon)
    )
    heading = pd.Series(np.degrees(np.arctan2(east, north)) % 360.0)
    heading = heading.where(moved_m >= STANDING_M).ffill().bfill().fillna(0.0)
    return (
        np.concatenate((speed[:1], speed)),
        np.concatenate((heading.to_numpy()[:1], heading.to_numpy())),
    )


def duration_s(trace: Trace) -> float:
    """Time from the first to the last fix, seconds."""
    return float(trace["time_s"].max() - trace["time_s"].min())


def length_m(trace: Trace) -> float:
    """Way along the fixes of all users, metres."""
    return float(
        sum(
            distances_m(rows["lat_deg"].to_numpy(), rows["lon_deg"].to_numpy()).sum()
            for _, rows in trace.groupby("user", sort=False)
        )
    )


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


def resample_trace(trace: Trace, step_s: float) -> Trace:
    """One fix per ``step_s`` for each user, interpolated on the straight line between fixes.

    Speed is interpolated; the heading is that of the fix before, since angles do not average.

    Raises
    ------
    TraceError
        If the step is not above 0.
    """
    if not step_s > 0:
        raise TraceError(f"a step of {step_s} s: must be above 0")
    parts = []
    for user, rows in trace.groupby("user", sort=False):
        time = rows["time_s"].to_numpy(dtype=float)
        count = int(np.floor((time[-1] - time[0]) / step_s + 1e-9)) + 1
        at = time[0] + step_s * np.arange(count)
        before = np.clip(np.searchsorted(time, at + 1e-9, side="right") - 1, 0, len(time) - 1)
        parts.append(
            pd.DataFrame(
                {
                    "time_s": at,
                    "user": str(user),
                    "lat_deg": np.interp(at, time, rows["lat_deg"].to_numpy(dtype=float)),
                    "lon_deg": np.interp(at, time, rows["lon_deg"].to_numpy(dtype=float)),
                    "speed_mps": np.interp(at, time, rows["speed_mps"].to_numpy(dtype=float)),
                    "heading_deg": rows["heading_deg"].to_numpy(dtype=float)[before],
                }
            )
        )
    return check_trace(pd.concat(parts, ignore_index=True))


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
