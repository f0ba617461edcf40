import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import TraceError
from testbed.mobility import trace as tr


def northward(count=11, step_s=1.0, metres=10.0):
    lat = 52.0 + np.arange(count) * metres / (np.radians(1) * tr.EARTH_RADIUS_M)
    return tr.make_trace("u", np.arange(count) * step_s, lat, np.full(count, 13.0))


def test_speed_and_heading_are_derived_from_positions():
    trace = northward()
    assert list(trace.columns) == list(tr.COLUMNS)
    assert trace["speed_mps"].to_numpy() == pytest.approx(np.full(11, 10.0), rel=1e-6)
    assert trace["heading_deg"].to_numpy() == pytest.approx(np.zeros(11), abs=1e-6)
    assert tr.length_m(trace) == pytest.approx(100.0, rel=1e-6)
    assert tr.duration_s(trace) == 10.0


@pytest.mark.parametrize(
    ("lat", "lon", "heading"),
    [(0.001, 0.0, 0.0), (0.0, 0.001, 90.0), (-0.001, 0.0, 180.0), (0.0, -0.001, 270.0)],
)
def test_headings_turn_clockwise_from_north(lat, lon, heading):
    trace = tr.make_trace("u", np.array([0.0, 1.0]), np.array([0, lat]), np.array([0, lon]))
    assert trace["heading_deg"].iloc[1] == pytest.approx(heading, abs=1e-6)


def test_a_standing_user_keeps_its_heading():
    lat = np.array([52.0, 52.001, 52.001, 52.001])
    trace = tr.make_trace("u", np.arange(4.0), lat, np.array([13.0, 13.0, 13.0, 13.0]))
    assert trace["heading_deg"].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert trace["speed_mps"].iloc[-1] == 0.0


def test_a_single_fix_has_no_motion():
    trace = tr.make_trace("u", np.array([3.0]), np.array([52.0]), np.array([13.0]))
    assert trace["speed_mps"].tolist() == [0.0]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("lat_deg", 91.0, "lat_deg is 91"),
        ("lon_deg", np.nan, "lon_deg is nan"),
        ("speed_mps", -1.0, "speed_mps is -1"),
        ("time_s", 0.0, "time_s does not grow"),
    ],
)
def test_a_wrong_value_is_named_with_user_and_row(column, value, message):
    trace = northward()
    trace.loc[4, column] = value
    with pytest.raises(TraceError, match=f"user u, row 4: {message}"):
        tr.check_trace(trace)


def test_missing_columns_and_empty_traces_are_refused():
    with pytest.raises(TraceError, match="speed_mps"):
        tr.check_trace(northward().drop(columns="speed_mps"))
    with pytest.raises(TraceError, match="no fix"):
        tr.check_trace(northward().iloc[:0])
    with pytest.raises(TraceError, match="differ in length"):
        tr.make_trace("u", np.arange(3.0), np.zeros(2), np.zeros(3))


@settings(max_examples=50, deadline=None)
@given(step_s=st.floats(0.05, 5.0), count=st.integers(2, 30))
def test_resampling_stays_on_the_way_and_in_its_time(step_s, count):
    trace = northward(count)
    dense = tr.resample_trace(trace, step_s)
    assert np.diff(dense["time_s"]) == pytest.approx(np.full(len(dense) - 1, step_s))
    assert dense["time_s"].iloc[-1] <= trace["time_s"].iloc[-1] + 1e-6
    assert trace["time_s"].iloc[-1] - dense["time_s"].iloc[-1] < step_s + 1e-6
    expected = np.interp(dense["time_s"], trace["time_s"], trace["lat_deg"])
    assert dense["lat_deg"].to_numpy() == pytest.approx(expected)


def test_resampling_needs_a_step():
    with pytest.raises(TraceError, match="above 0"):
        tr.resample_trace(northward(), 0.0)


def test_clipping_keeps_times_and_from_zero_moves_them():
    part = tr.clip_trace(northward(), 3.0, 7.0)
    assert part["time_s"].tolist() == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert tr.from_zero(part)["time_s"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    with pytest.raises(TraceError, match="runs from 0 s to 10 s"):
        tr.clip_trace(northward(), 20.0)


def test_idle_stretches_are_found_with_their_noise_and_pauses():
    moving = np.arange(10) * 1e-4
    noise = np.random.default_rng(1).normal(scale=2e-5, size=60)
    lat = 52.0 + np.concatenate((moving, 9e-4 + noise, 9e-4 + moving))
    time = np.concatenate((np.arange(10), 10 + 5 * np.arange(60), 310 + np.arange(10))) * 1.0
    trace = tr.make_trace("u", time, lat, np.full(80, 13.0))
    ((begin_s, length_s),) = tr.idle_stretches(trace, 60.0)
    assert begin_s == pytest.approx(9.0, abs=2.0)
    assert length_s == pytest.approx(301.0, abs=5.0)
    assert tr.idle_stretches(trace, 400.0) == []
