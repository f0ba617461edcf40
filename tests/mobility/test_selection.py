import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import TraceError
from testbed.mobility import selection as sel
from testbed.mobility.segments import keep_rows, segment_table
from testbed.mobility.trace import check_trace, from_zero, length_m, make_trace, resample_trace

MIDNIGHT_GMT_S = 1209600000.0  # 2008-05-01 00:00 GMT, 08:00 in Beijing


def eastward(user="u", *, count=100, begin_s=MIDNIGHT_GMT_S, mode="car", step_s=1.0):
    """A segment due east from 116.3, 0.001 degrees a fix."""
    lon = 116.3 + 0.001 * np.arange(count)
    trace = make_trace(user, begin_s + step_s * np.arange(count), np.full(count, 39.9), lon)
    return trace.assign(segment=np.int32(0), track="a", mode=mode)


def joined(*parts):
    return pd.concat(parts, ignore_index=True)


def test_a_segment_that_leaves_the_box_is_cut_to_its_pieces_inside():
    there = eastward()
    back = eastward(begin_s=MIDNIGHT_GMT_S + 100).assign(
        lon_deg=there["lon_deg"].to_numpy()[::-1], segment=0
    )
    trace = check_trace(joined(there, back))
    inside = sel.in_box(trace, (116.3095, 39.8, 116.3595, 40.0))
    assert segment_table(inside)["fixes"].tolist() == [50, 50]
    assert inside["segment"].unique().tolist() == [0, 1]
    assert inside["lon_deg"].between(116.3095, 116.3595).all()
    _, report = sel.Selection(box=(116.3095, 39.8, 116.3595, 40.0)).apply(trace)
    assert [(left.segments, left.cut, left.fixes) for left in report.steps] == [
        (1, 0, 200),
        (2, 1, 100),
    ]


def test_the_longest_piece_inside_the_box_is_found_and_the_rest_of_the_trace_is_left_alone():
    trace = joined(eastward("a", count=30), eastward("b"), eastward("c", mode="walk"))
    chosen, report = sel.Selection(
        modes=("car",), box=(116.32, 39.0, 117.0, 40.0), length_m=(2000.0, 1e9), longest=1
    ).apply(trace)
    assert chosen["user"].unique().tolist() == ["b"]
    assert len(chosen) == 80
    assert list(chosen.columns) == list(trace.columns)
    assert len(trace) == 230
    assert "longest 1 of each user" in report._repr_html_()
    assert str(report).count("\n") == 4


def test_hours_are_those_of_the_place_and_may_go_over_midnight():
    trace = eastward(count=240, step_s=600.0)  # 40 h from 08:00 in Beijing
    assert sel.local_hour(trace)[:2].tolist() == [8.0, pytest.approx(8 + 1 / 6)]
    assert sel.local_hour(trace, "UTC")[0] == 0.0
    night = sel.in_hours(trace, 22, 4)
    assert set(np.floor(sel.local_hour(night)).astype(int)) == {22, 23, 0, 1, 2, 3}
    assert len(segment_table(night)) == 2
    assert len(sel.in_hours(trace, 8, 9)) == 12
    with pytest.raises(TraceError, match="no time zone"):
        sel.local_hour(trace, "Asia/Beijing_")
    with pytest.raises(TraceError, match="before `from_zero`"):
        sel.local_hour(from_zero(trace))


def test_sums_of_segments_choose_whole_segments():
    trace = joined(eastward("a", count=50), eastward("b", count=20), eastward("c", count=5))
    assert sel.between(trace, "fixes", 10, 30)["user"].unique().tolist() == ["b"]
    assert sel.between(trace, "duration_s", 40.0)["user"].unique().tolist() == ["a"]
    assert sel.longest(trace, by="duration_s").equals(trace)
    with pytest.raises(TraceError, match="no 'speed'"):
        sel.between(trace, "speed")


def test_a_selection_that_leaves_nothing_says_what_there_is():
    with pytest.raises(TraceError, match=r"modes bus: nothing is left of 100 .* car \(100\)"):
        sel.Selection(modes=("bus",)).apply(eastward())
    with pytest.raises(TraceError, match="no column `mode`"):
        sel.in_modes(eastward().drop(columns="mode"), ["car"])
    with pytest.raises(TraceError, match="west must be less"):
        sel.in_box(eastward(), (117.0, 39.0, 116.0, 40.0))
    with pytest.raises(TraceError, match="between 0 and 24"):
        sel.in_hours(eastward(), 7, 25)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 59))
def test_cutting_keeps_exactly_the_fixes_asked_for_and_never_bridges_a_hole(flags, second):
    trace = eastward(count=len(flags))
    trace["segment"] = np.where(np.arange(len(flags)) < second, 0, 1).astype(np.int32)
    kept = keep_rows(trace, np.array(flags))
    assert kept["time_s"].tolist() == trace["time_s"][flags].tolist()
    for _, rows in kept.groupby("segment"):
        assert np.all(np.diff(rows["time_s"]) == 1.0)
        before = trace.loc[trace["time_s"].isin(rows["time_s"]), "segment"]
        assert len(set(before)) == 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.sampled_from([0.5, 1.0, 2.0, 7.0]),
    st.integers(1, 50),
)
def test_resampling_never_makes_a_fix_inside_a_long_gap(pauses, step_s, longest_gap_s):
    time = MIDNIGHT_GMT_S + np.cumsum([0, *pauses])
    lon = 116.3 + 1e-4 * (time - time[0])
    trace = make_trace("u", time, np.full(len(time), 39.9), lon)
    dense = resample_trace(trace, step_s, longest_gap_s=longest_gap_s)
    at = dense["time_s"].to_numpy()
    steps = (at - time[0]) / step_s
    assert np.all(steps == np.round(steps))
    before = np.searchsorted(time, at, side="right") - 1
    on_a_fix = np.isin(at, time)
    pause = np.append(np.diff(time), 0)[before]
    assert np.all(on_a_fix | (pause <= longest_gap_s))
    for _, rows in dense.groupby("segment"):
        assert np.allclose(np.diff(rows["time_s"]), step_s)
    assert dense["lon_deg"].to_numpy() == pytest.approx(116.3 + 1e-4 * (at - time[0]), abs=1e-9)
    grid = np.arange(time[0], time[-1] + 0.1, step_s)
    row = np.searchsorted(time, grid, side="right") - 1
    wanted = np.isin(grid, time) | (np.append(np.diff(time), 0)[row] <= longest_gap_s)
    assert at.tolist() == grid[wanted].tolist()


def test_resampling_keeps_users_segments_and_modes_apart():
    trace = joined(eastward("a", count=10, step_s=4.0), eastward("b", count=10, mode="bus"))
    trace.loc[5:9, "segment"] = 1
    dense = resample_trace(trace, 2.0)
    counts = dense.groupby(["user", "segment", "mode"]).size().to_dict()
    assert counts == {("a", 0, "car"): 9, ("a", 1, "car"): 9, ("b", 0, "bus"): 5}
    assert length_m(dense) == pytest.approx(length_m(trace) - 85.3, abs=1)
