"""Choosing parts of a trace: by user, mode, place, time, hour of the day, way and duration.

Each choice is a function from trace to trace, so they can be put one after another in any order.
What is chosen fix by fix (place, time, hour) cuts segments to the pieces inside; what is chosen by
segment takes or leaves it whole. `Selection` puts them in their usual order and counts.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from testbed.errors import TraceError
from testbed.mobility.geolife.tracks import BoxDeg
from testbed.mobility.report import html_table
from testbed.mobility.segments import keep_rows, keep_segments, segment_table, summarize
from testbed.mobility.trace import Floats, Trace, stretch_begins

BEIJING = "Asia/Shanghai"
"""Where most of GeoLife was recorded; its files hold GMT."""
_EARLIEST_EPOCH_S = 1e8
_DAY_H = 24.0
_WHOLE = "segment before"


def local_time(trace: Trace, zone: str = BEIJING) -> "pd.Series[pd.Timestamp]":
    """The clock on the wall at each fix.

    Raises
    ------
    TraceError
        If there is no such zone, or the times are no seconds since 1970.
    """
    earliest_s = trace["time_s"].min()
    if earliest_s < _EARLIEST_EPOCH_S:
        raise TraceError(
            f"the trace begins at {earliest_s:g} s: its times are not counted from 1970, so it has "
            "no hour of the day. Choose hours before `from_zero`"
        )
    try:
        return pd.to_datetime(trace["time_s"], unit="s", utc=True).dt.tz_convert(zone)
    except (KeyError, ValueError, OSError) as error:
        raise TraceError(f"{zone!r} is no time zone; write it as {BEIJING!r}") from error


def local_hour(trace: Trace, zone: str = BEIJING) -> Floats:
    """Hour of the day at each fix, 0 to 24, with its fraction."""
    clock = local_time(trace, zone).dt
    return np.asarray(clock.hour + clock.minute / 60 + clock.second / 3600, dtype=float)


def of_users(trace: Trace, users: Iterable[str]) -> Trace:
    """Only these users."""
    return trace.loc[trace["user"].isin(list(users))].reset_index(drop=True)


def in_modes(trace: Trace, modes: Iterable[str]) -> Trace:
    """Only the fixes in one of these modes; the empty text is "not labelled".

    Raises
    ------
    TraceError
        If the trace says nothing of modes.
    """
    if "mode" not in trace.columns:
        raise TraceError(
            f"the trace has no column `mode`; it has {', '.join(trace.columns)}. Only labelled "
            "traces (GeoLife) can be chosen by mode"
        )
    return keep_rows(trace, trace["mode"].isin(list(modes)).to_numpy())


def in_box(trace: Trace, box: BoxDeg) -> Trace:
    """Only what lies in a box; a segment that leaves it is cut to its pieces inside.

    Parameters
    ----------
    trace : Trace
        Sorted by user and time.
    box : tuple
        West, south, east, north in degrees (`RoadMap.box_deg`).

    Raises
    ------
    TraceError
        If the box is turned round.
    """
    west, south, east, north = box
    if not (west < east and south < north):
        raise TraceError(
            f"box {box}: west must be less than east and south less than north, in degrees"
        )
    lat, lon = trace["lat_deg"].to_numpy(), trace["lon_deg"].to_numpy()
    return keep_rows(trace, (lat >= south) & (lat <= north) & (lon >= west) & (lon <= east))


def in_time(trace: Trace, from_s: float = -np.inf, to_s: float = np.inf) -> Trace:
    """Only what lies between two times, both included, as the trace counts them."""
    time = trace["time_s"].to_numpy()
    return keep_rows(trace, (time >= from_s) & (time <= to_s))


def in_hours(trace: Trace, from_h: float, to_h: float, zone: str = BEIJING) -> Trace:
    """Only what lies between two hours of the day; 22 to 4 goes over midnight.

    Raises
    ------
    TraceError
        If an hour is not between 0 and 24, or `local_time` refuses.
    """
    if not (0 <= from_h <= _DAY_H and 0 <= to_h <= _DAY_H):
        raise TraceError(f"hours {from_h:g} to {to_h:g}: both must be between 0 and 24")
    if trace.empty:
        return trace
    hour = local_hour(trace, zone)
    if from_h <= to_h:
        return keep_rows(trace, (hour >= from_h) & (hour < to_h))
    return keep_rows(trace, (hour >= from_h) | (hour < to_h))


def between(trace: Trace, column: str, lowest: float = -np.inf, highest: float = np.inf) -> Trace:
    """Only segments with a sum in a range: any number column of `segments.segment_table`."""
    table = segment_table(trace)
    if column not in table.select_dtypes("number").columns:
        raise TraceError(
            f"segments have no {column!r}; they have "
            f"{', '.join(table.select_dtypes('number').columns)}"
        )
    values = table[column].to_numpy()
    return keep_segments(trace, (values >= lowest) & (values <= highest))


def longest(trace: Trace, count: int = 1, by: str = "length_m") -> Trace:
    """Each user's longest segments, in order of time; of equals the earlier ones."""
    table = segment_table(trace)
    order = table.sort_values(by, ascending=False, kind="stable")
    chosen = order.groupby("user", sort=False, observed=True).head(count).index
    return keep_segments(trace, table.index.isin(chosen))


@dataclass(frozen=True)
class Selection:
    """Which part of a trace is wanted; what is not set is not asked for.

    Attributes
    ----------
    users, modes : tuple of str, optional
        Any of these.
    box : tuple, optional
        West, south, east, north in degrees.
    time_s : (float, float), optional
        From and to, as the trace counts time.
    hours : (float, float), optional
        From and to, hours of the day in ``zone``; may go over midnight.
    zone : str
        Time zone of ``hours``.
    length_m, duration_s : (float, float), optional
        Lowest and highest of a segment, after cutting.
    fewest_fixes : int
        Segments with fewer are left out.
    longest : int, optional
        Only so many segments per user, the longest by way.
    """

    users: tuple[str, ...] | None = None
    modes: tuple[str, ...] | None = None
    box: BoxDeg | None = None
    time_s: tuple[float, float] | None = None
    hours: tuple[float, float] | None = None
    zone: str = BEIJING
    length_m: tuple[float, float] | None = None
    duration_s: tuple[float, float] | None = None
    fewest_fixes: int = 1
    longest: int | None = None

    def steps(self) -> list[tuple[str, Callable[[Trace], Trace]]]:
        """What is asked for, in order, each with its name."""
        found: list[tuple[str, Callable[[Trace], Trace]]] = []
        if (users := self.users) is not None:
            found.append((f"users {', '.join(users)}", lambda t: of_users(t, users)))
        if (modes := self.modes) is not None:
            found.append((f"modes {', '.join(modes)}", lambda t: in_modes(t, modes)))
        if (time := self.time_s) is not None:
            found.append((f"{time[0]:g} s to {time[1]:g} s", lambda t: in_time(t, *time)))
        if (hours := self.hours) is not None:
            name = f"{hours[0]:g} h to {hours[1]:g} h in {self.zone}"
            found.append((name, lambda t: in_hours(t, *hours, self.zone)))
        if (box := self.box) is not None:
            name = "box " + ", ".join(f"{side:.4f}" for side in box)
            found.append((name, lambda t: in_box(t, box)))
        if (length := self.length_m) is not None:
            name = f"{length[0]:g} m to {length[1]:g} m long"
            found.append((name, lambda t: between(t, "length_m", *length)))
        if (duration := self.duration_s) is not None:
            name = f"lasting {duration[0]:g} s to {duration[1]:g} s"
            found.append((name, lambda t: between(t, "duration_s", *duration)))
        if (fewest := self.fewest_fixes) > 1:
            found.append((f"at least {fewest} fixes", lambda t: between(t, "fixes", fewest)))
        if (count := self.longest) is not None:
            found.append((f"longest {count} of each user", lambda t: longest(t, count)))
        return found

    def apply(self, trace: Trace) -> "tuple[Trace, SelectionReport]":
        """The part of a trace, and how much each step left.

        Raises
        ------
        TraceError
            If nothing is left, with the step after which it was so.
        """
        rows = [_count("all", trace)]
        for name, step in self.steps():
            before = trace.assign(**{_WHOLE: np.cumsum(stretch_begins(trace))})
            trace = step(before)
            if trace.empty:
                there = summarize(before, "").modes if "mode" in before.columns else {}
                modes = ", ".join(f"{m or 'not labelled'} ({n.fixes})" for m, n in there.items())
                raise TraceError(
                    f"{name}: nothing is left of {len(before)} fixes of users "
                    f"{', '.join(map(str, before['user'].unique()[:20]))}"
                    f"{f'; modes there: {modes}' if modes else ''}. Ask for less"
                )
            rows.append(_count(name, trace, _cut(before, trace)))
            trace = trace.drop(columns=_WHOLE)
        return trace, SelectionReport(tuple(rows))


@dataclass(frozen=True)
class Left:
    """How much was left after one step; ``cut`` is how many segments lost a part of themselves."""

    step: str
    users: int
    segments: int
    fixes: int
    duration_s: float
    length_m: float
    cut: int = 0

    def __str__(self) -> str:
        """In words."""
        return (
            f"{self.users:,} users, {self.segments:,} segments ({self.cut:,} cut), "
            f"{self.fixes:,} fixes, {self.duration_s / 3600:,.1f} h, {self.length_m / 1000:,.1f} km"
        )


@dataclass(frozen=True)
class SelectionReport:
    """How much each step of a selection left."""

    steps: tuple[Left, ...]

    def __str__(self) -> str:
        """One line per step."""
        return "\n".join(f"{left.step}: {left}" for left in self.steps)

    def _repr_html_(self) -> str:
        rows = [(left.step, str(left)) for left in self.steps]
        return html_table("Selection", rows)


def _cut(before: Trace, after: Trace) -> int:
    """Segments that are still there, but not whole."""
    whole = np.bincount(before[_WHOLE])
    left = np.bincount(after[_WHOLE], minlength=len(whole))
    return int(((left > 0) & (left < whole)).sum())


def _count(name: str, trace: Trace, cut: int = 0) -> Left:
    table = segment_table(trace)
    return Left(
        step=name,
        users=int(table["user"].nunique()),
        segments=len(table),
        fixes=len(trace),
        duration_s=float(table["duration_s"].sum()),
        length_m=float(table["length_m"].sum()),
        cut=cut,
    )
