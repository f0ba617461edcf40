import math

import numpy as np
import pandas as pd
import pytest
from driving import ROUTE, drive, follow

from testbed.errors import TraceError
from testbed.roads.matching.offline import match_trace
from testbed.roads.matching.online import OnlineMatcher
from testbed.roads.routes import RouteFinder


@pytest.mark.parametrize(("noise_m", "least"), [(0.0, 0.93), (5.0, 0.9), (10.0, 0.85)])
def test_the_online_matcher_finds_road_and_direction(grid, edge_named, noise_m, least):
    trace, true = drive(grid, edge_named, noise_m=noise_m)
    matches = follow(OnlineMatcher(grid), trace)
    right = [m.edge == edge for m, edge in zip(matches, true, strict=True)]
    assert np.mean(right) >= least
    assert all(0 <= m.probability <= 1 for m in matches)


def test_the_offset_is_where_the_user_is(grid, edge_named):
    trace, true = drive(grid, edge_named)
    matches = follow(OnlineMatcher(grid), trace)
    right = [m.distance_m for m, edge in zip(matches, true, strict=True) if m.edge == edge]
    assert np.median(right) < 0.5
    assert max(right) < 10.0  # the filter runs on a little where the road turns
    for match in matches:
        x, y = grid.position(match.edge, match.offset_m)
        assert (x, y) == pytest.approx((match.x_m, match.y_m))
        lat, lon = grid.projection.point_latlon(x, y)
        assert (lat, lon) == pytest.approx((match.lat_deg, match.lon_deg))


def test_direction_is_unsure_at_first_and_sure_after_some_metres(grid, edge_named):
    trace, true = drive(grid, edge_named, route=["0-1"])
    matches = follow(OnlineMatcher(grid), trace)
    assert matches[0].probability == pytest.approx(0.5, abs=0.01)
    assert matches[6].edge == true[6]
    assert matches[6].probability > 0.9


def test_a_standing_user_does_not_turn_round(grid, edge_named):
    moving, _ = drive(grid, edge_named, route=["0-1"])
    here = moving.iloc[10]
    x, y = grid.projection.point_xy(here.lat_deg, here.lon_deg)
    noise = np.random.default_rng(3).normal(scale=4.0, size=(2, 120))
    lat, lon = grid.projection.to_latlon(x + noise[0], y + noise[1])
    standing = pd.DataFrame({"time_s": 11.0 + np.arange(120), "lat_deg": lat, "lon_deg": lon})
    matcher = OnlineMatcher(grid)
    follow(matcher, moving.iloc[:11])
    right = [m.edge == edge_named("0-1") for m in follow(matcher, standing)]
    assert np.mean(right) > 0.9


def test_every_fix_that_is_not_matched_has_a_reason(grid, edge_named):
    trace, _ = drive(grid, edge_named)
    matcher = OnlineMatcher(grid)
    first = trace.iloc[0]
    matcher.update(0.0, first.lat_deg, first.lon_deg)
    x, y = grid.position(0, grid.length_m[0] / 2)
    beside = matcher.update(0.2, *grid.projection.point_latlon(x, y + 90.0))
    assert beside.reason == "no road within 50 m"
    far = matcher.update(0.4, 10.0, 10.0)
    assert not far.matched
    assert far.reason == "outside the map"
    assert "does not advance" in matcher.update(0.3, first.lat_deg, first.lon_deg).reason
    assert "finite" in matcher.update(3.0, math.nan, first.lon_deg).reason
    assert math.isnan(far.offset_m)
    assert far.probability == 0.0


def test_a_jump_begins_anew_and_says_so(grid, edge_named):
    trace, _ = drive(grid, edge_named)
    matcher = OnlineMatcher(grid)
    follow(matcher, trace.iloc[:20])
    last = trace.iloc[-1]
    jumped = matcher.update(20.0, last.lat_deg, last.lon_deg)
    assert jumped.matched
    assert "began anew: no route" in jumped.reason
    later = matcher.update(1000.0, last.lat_deg, last.lon_deg)
    assert "no usable fix for 980 s" in later.reason


def test_after_a_restart_nothing_is_known(grid, edge_named):
    trace, _ = drive(grid, edge_named)
    matcher = OnlineMatcher(grid)
    first = follow(matcher, trace)
    matcher.restart()
    assert follow(matcher, trace) == first


@pytest.mark.parametrize("noise_m", [0.0, 5.0, 10.0])
def test_the_whole_trace_gives_the_driven_route(grid, edge_named, noise_m):
    trace, true = drive(grid, edge_named, noise_m=noise_m)
    found = match_trace(grid, trace)
    assert [grid.edge_ids[edge] for edge in found.routes[0]] == ROUTE
    assert found.matched_share == 1.0
    right = [m.edge == edge for m, edge in zip(found.fixes, true, strict=True)]
    assert np.mean(right) > 0.85


@pytest.mark.parametrize("step_s", [5.0, 15.0])
def test_sparse_fixes_give_the_route_as_well(grid, edge_named, step_s):
    trace, _ = drive(grid, edge_named, noise_m=5.0, step_s=step_s)
    (route,) = match_trace(grid, trace).routes
    ids = [str(grid.edge_ids[edge]) for edge in route]
    assert ids[1:-1] == ROUTE[1:-1] or ids == ROUTE[: len(ids)]


def test_a_broken_trace_is_split_and_not_abandoned(grid, edge_named):
    trace, _ = drive(grid, edge_named, noise_m=3.0)
    trace = pd.concat((trace.iloc[:20], trace.iloc[60:]), ignore_index=True)
    trace["time_s"] = np.arange(len(trace), dtype=float)
    found = match_trace(grid, trace)
    assert len(found.routes) == 2
    assert "no route" in found.fixes[20].reason
    assert found.matched_share == 1.0


def test_a_table_of_matches_names_the_nodes_of_the_map(grid, edge_named):
    trace, _ = drive(grid, edge_named)
    trace.loc[5, "lat_deg"] += 1.0
    frame = match_trace(grid, trace).to_frame(grid)
    assert list(frame.columns[:3]) == ["time_s", "from_node", "to_node"]
    assert frame["from_node"].iloc[8] == 0
    assert frame["to_node"].iloc[8] == 1
    assert frame["reason"].iloc[5] == "outside the map"
    assert pd.isna(frame["from_node"].iloc[5])


def test_an_empty_or_foreign_table_is_refused(grid):
    with pytest.raises(TraceError, match="empty"):
        match_trace(grid, pd.DataFrame({"time_s": [], "lat_deg": [], "lon_deg": []}))
    with pytest.raises(TraceError, match="lon_deg"):
        match_trace(grid, pd.DataFrame({"time_s": [1.0], "lat_deg": [1.0]}))


def test_routes_are_bounded_shortest_and_turning_round_costs(grid, edge_named):
    finder = RouteFinder(grid, u_turn_m=30.0)
    start = edge_named("202-203")
    reach = finder.reach(start, 100.0)
    assert reach.to_tail_m[edge_named("203-204")] == 0.0
    assert reach.to_tail_m[edge_named("203-202")] == 30.0
    wide = finder.reach(start, 500.0)
    assert wide.to_tail_m[edge_named("304-404")] == pytest.approx(400.0, rel=0.01)
    assert max(wide.to_tail_m.values()) <= wide.bound_m
    assert finder.reach(start, 100.0) is wide
    way = wide.route(start, edge_named("304-404"))
    assert way[-1] == edge_named("304-404")
    assert len(way) == 3
