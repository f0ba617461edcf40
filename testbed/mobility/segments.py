"""Segments: the unbroken stretches of a trace, their sums, and cutting them.

A trace without a ``segment`` column has one segment per user.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TraceError
from testbed.mobility.report import DatasetReport, ModeSum
from testbed.mobility.trace import (
    Flags,
    Floats,
    Trace,
    count_stretches,
    distances_m,
    stretch_begins,
)


def segment_table(trace: Trace) -> pd.DataFrame:
    """One row per segment, in the order of the trace.

    Returns
    -------
    pandas.DataFrame
        ``user, segment, track, mode, begin_s, duration_s, length_m, fixes, longest_gap_s``;
        ``track`` and ``mode`` where the trace has them.
    """
    begins = stretch_begins(trace)
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(trace))[: len(starts)] - 1
    time = trace["time_s"].to_numpy(dtype=float)
    table = pd.DataFrame({"user": trace["user"].iloc[starts].to_numpy()})
    table["segment"] = (
        trace["segment"].to_numpy()[starts] if "segment" in trace.columns else np.int32(0)
    )
    for column in ("track", "mode"):
        if column in trace.columns:
            table[column] = trace[column].iloc[starts].to_numpy()
    pauses = np.append(0.0, np.where(begins[1:], 0.0, np.diff(time)))[: len(time)]
    return table.assign(
        begin_s=time[starts],
        duration_s=time[ends] - time[starts],
        length_m=_sums(_steps_m(trace, begins), starts),
        fixes=ends - starts + 1,
        longest_gap_s=np.maximum.reduceat(pauses, starts) if len(starts) else 0.0,
    )


def keep_rows(trace: Trace, kept: Flags) -> Trace:
    """The fixes where ``kept`` is True; a segment with a hole in it becomes several.

    The numbers of the segments stay as they were as long as none falls into several.
    """
    begins = stretch_begins(trace)
    rows = np.flatnonzero(kept)
    part = trace.iloc[rows].reset_index(drop=True)
    piece = np.cumsum(begins)[rows]
    fresh = np.diff(piece, prepend=-1) != 0
    torn = ~fresh & (np.diff(rows, prepend=-2) != 1)
    if not torn.any():
        return part
    return part.assign(segment=count_stretches(part, fresh | torn))


def keep_segments(trace: Trace, kept: Flags) -> Trace:
    """The segments where ``kept`` (one flag per row of `segment_table`) is True, whole."""
    lengths = np.diff(np.append(np.flatnonzero(stretch_begins(trace)), len(trace)))
    if len(kept) != len(lengths):
        raise TraceError(f"{len(kept)} flags for {len(lengths)} segments")
    return trace.loc[np.repeat(kept, lengths)].reset_index(drop=True)


_SUMMED = ("fixes", "duration_s", "length_m")


def summarize(trace: Trace, source: str) -> DatasetReport:
    """What is in a trace; ``files``, ``labels`` and the like stay 0."""
    table = segment_table(trace)
    mode = table["mode"] if "mode" in table.columns else pd.Series("", index=table.index)
    codes, names = pd.factorize(mode)
    sums = [np.bincount(codes, weights=table[column]) for column in _SUMMED]
    modes = {
        str(name): ModeSum(int(count), int(fixes), float(duration_s), float(length_m))
        for name, count, fixes, duration_s, length_m in zip(
            names, np.bincount(codes), *sums, strict=True
        )
    }
    labelled = [column for column in ("user", "track") if column in table.columns]
    return DatasetReport(
        source=source,
        users=int(table["user"].nunique()),
        tracks=len(table[labelled].drop_duplicates()),
        fixes=len(trace),
        lines=len(trace),
        modes=dict(sorted(modes.items(), key=lambda item: -item[1].fixes)),
        begin_s=float(trace["time_s"].min()),
        end_s=float(trace["time_s"].max()),
    )


def _steps_m(trace: Trace, begins: Flags) -> Floats:
    """Way from the fix before in the same segment, metres."""
    steps = np.zeros(len(trace))
    steps[1:] = distances_m(
        trace["lat_deg"].to_numpy(dtype=float), trace["lon_deg"].to_numpy(dtype=float)
    )
    steps[begins] = 0.0
    return steps


def _sums(values: Floats, starts: NDArray[np.intp]) -> Floats:
    return np.add.reduceat(values, starts) if len(starts) else np.empty(0)
