"""What real traces do: stand, turn round, lose fixes, jump, repeat times, drive beside a road."""

import itertools

import numpy as np
import pandas as pd
import pytest
from driving import drive, follow

from testbed.roads.matching.model import RoadModel
from testbed.roads.matching.offline import match_trace
from testbed.roads.matching.online import OnlineMatcher
from testbed.roads.sources.assemble import Piece, Pieces, assemble

LAT, LON = 52.5, 13.4
M_LAT, M_LON = 1 / 111_260.0, 1 / 67_900.0  # degrees per metre here


def line_map(*roads):
    """A map of straight roads ``(name, (tail, x, y), (head, x, y), both ways)`` in metres."""
    pieces = Pieces()
    for name, (tail, xa, ya), (head, xb, yb), both in roads:
        ends = [(tail, xa, ya), (head, xb, yb)]
        for label, way in ((name, ends), (f"-{name}", ends[::-1]))[: 1 + both]:
            pieces.roads.append(
                Piece(
                    edge_id=label,
                    tail=way[0][0],
                    head=way[1][0],
                    lat_deg=tuple(LAT + y * M_LAT for _, _, y in way),
                    lon_deg=tuple(LON + x * M_LON for _, x, _ in way),
                    road_class="residential",
                    street=name,
                    limit_mps=14.0,
                )
            )
    return assemble("lines", pieces)


def sensed(points, *, noise_m=0.0, step_s=1.0, seed=4):
    """A trace through points in metres (one per ``step_s``) with Gaussian noise."""
    at = np.array(points, dtype=float)
    at += np.random.default_rng(seed).normal(scale=noise_m, size=at.shape)
    return pd.DataFrame(
        {
            "time_s": np.arange(len(at)) * step_s,
            "lat_deg": LAT + at[:, 1] * M_LAT,
            "lon_deg": LON + at[:, 0] * M_LON,
        }
    )


def names(roads, route):
    return [str(roads.edge_ids[edge]) for edge in route]


@pytest.fixture(scope="module")
def parallel():
    """Two roads 40 m apart, one a fast one, joined at both ends."""
    return line_map(
        ("low", (1, 0, 0), (2, 800, 0), True),
        ("high", (3, 0, 40), (4, 800, 40), True),
        ("west", (1, 0, 0), (3, 0, 40), True),
        ("east", (2, 800, 0), (4, 800, 40), True),
    )


@pytest.mark.parametrize(("noise_m", "least"), [(5.0, 1.0), (15.0, 0.95), (30.0, 0.9)])
@pytest.mark.parametrize("y_m", [0.0, 40.0])
def test_of_two_parallel_roads_the_nearer_one_is_driven(parallel, noise_m, least, y_m):
    found = match_trace(parallel, sensed([(30 + 10 * k, y_m) for k in range(74)], noise_m=noise_m))
    wanted = "low" if y_m == 0.0 else "high"
    right = [str(parallel.edge_ids[edge]) == wanted for edge in found.edge]
    assert np.mean(right) >= least
    assert names(parallel, found.routes[0])[-1] == wanted


@pytest.mark.parametrize("noise_m", [0.0, 5.0, 10.0])
@pytest.mark.parametrize("turn_m", [790, 400])
def test_a_real_u_turn_is_found_at_the_end_and_in_mid_road(noise_m, turn_m):
    street = line_map(
        ("street", (1, 0, 0), (2, 800, 0), True), ("on", (2, 800, 0), (3, 1600, 0), True)
    )
    out = [(x, 0) for x in range(100, turn_m, 10)]
    found = match_trace(street, sensed(out + out[::-1], noise_m=noise_m))
    assert [names(street, route) for route in found.routes] == [["street", "-street"]]
    truth = np.array(["street"] * len(out) + ["-street"] * len(out))
    assert np.mean(street.edge_ids[found.edge] == truth) > 0.85
    assert np.mean(np.array(found.distance_m) < 4 * noise_m + 6) > 0.9


@pytest.mark.parametrize("noise_m", [10.0, 30.0])
def test_noise_makes_nobody_turn_round(grid, edge_named, noise_m):
    wanted = ["0-1", "1-2", "2-3", "3-103", "103-203", "203-303"]
    for seed in range(5):
        trace, _ = drive(grid, edge_named, noise_m=noise_m, seed=seed, route=wanted)
        (route,) = match_trace(grid, trace).routes
        assert all(grid.opposite[one] != other for one, other in itertools.pairwise(route))
        assert "|".join(wanted[1:-1]) in "|".join(names(grid, route))
        assert len(route) <= len(wanted) + 1


def test_a_one_way_street_is_never_driven_the_wrong_way():
    ring = line_map(
        ("up", (1, 0, 0), (2, 0, 300), False),
        ("over", (2, 0, 300), (3, 300, 300), False),
        ("down", (3, 300, 300), (4, 300, 0), False),
        ("back", (4, 300, 0), (1, 0, 0), False),
    )
    forward = [(0, y) for y in range(20, 300, 10)] + [(x, 300) for x in range(0, 200, 10)]
    found = match_trace(ring, sensed(forward, noise_m=4.0))
    assert [names(ring, route) for route in found.routes] == [["up", "over"]]
    against = match_trace(ring, sensed(forward[::-1], noise_m=4.0))
    for route in against.routes:
        for one, other in itertools.pairwise(route):
            assert ring.head[one] == ring.tail[other]
    assert len(against.routes) > 1 or against.probability.min() < 0.9


def test_a_loop_is_driven_as_often_as_it_is(grid, edge_named):
    block = ["0-1", "1-101", "101-100", "100-0"]
    trace, true = drive(grid, edge_named, noise_m=5.0, route=block * 3)
    found = match_trace(grid, trace)
    (route,) = found.routes
    assert names(grid, route) == block * 3
    assert np.mean(found.edge == true) > 0.95


def test_a_tunnel_without_fixes_is_bridged(grid, edge_named):
    trace, _ = drive(grid, edge_named, noise_m=4.0)
    hole = trace[(trace["time_s"] < 25) | (trace["time_s"] > 75)]
    (route,) = match_trace(grid, hole.reset_index(drop=True)).routes
    ids = names(grid, route)
    assert ids[0] == "0-1"
    assert ids[-1] == "203-303"
    for one, other in itertools.pairwise(route):
        assert grid.head[one] == grid.tail[other]


@pytest.mark.parametrize("noise_m", [3.0, 10.0])
def test_standing_still_is_no_driving(grid, edge_named, noise_m):
    trace, _ = drive(grid, edge_named, route=["0-1"])
    here = trace.iloc[[8] * 300].reset_index(drop=True)
    both = pd.concat((trace.iloc[:8], here, trace.iloc[8:]), ignore_index=True)
    both["time_s"] = np.arange(len(both), dtype=float)
    noise = np.random.default_rng(2).normal(scale=noise_m, size=(2, len(both)))
    both["lat_deg"] += noise[0] * M_LAT
    both["lon_deg"] += noise[1] * M_LON
    found = match_trace(grid, both)
    assert [names(grid, route) for route in found.routes] == [["0-1"]]
    assert np.std(found.offset_m[50:250]) < noise_m
    assert (np.diff(found.offset_m) >= 0).all()


def test_waiting_longer_than_any_gap_breaks_nothing(grid, edge_named):
    trace, true = drive(grid, edge_named, noise_m=2.0)
    waits = pd.concat((trace.iloc[:8], trace.iloc[[8] * 700], trace.iloc[8:]), ignore_index=True)
    waits["time_s"] = np.arange(len(waits), dtype=float)
    assert len(match_trace(grid, waits).routes) == 1
    matches = follow(OnlineMatcher(grid), waits)
    assert not any(match.reason for match in matches)
    assert matches[705].edge == true[8]
    hole = waits.drop(index=range(20, 600))
    found = match_trace(grid, hole)
    assert len(found.routes) == 2
    assert "no usable fix for 581 s" in found.reason[20]


def test_an_outlier_and_bad_rows_are_told_and_break_nothing(grid, edge_named):
    trace, true = drive(grid, edge_named, noise_m=3.0)
    trace.loc[10, "lat_deg"] = np.nan
    trace.loc[20, "time_s"] = trace.loc[19, "time_s"]
    trace.loc[30, "time_s"] = 3.0
    trace.loc[40, "lon_deg"] += 5.0
    trace.loc[50, "lat_deg"] += 150 * M_LAT
    found = match_trace(grid, trace)
    assert len(found.routes) == 1
    assert found.reason[10] == "the fix has no finite time or position"
    assert found.reason[20] == found.reason[30] == "time does not advance"
    assert found.reason[40] == "outside the map"
    assert all((found.edge < 0) == np.array([bool(reason) for reason in found.reason]))
    good = np.delete(np.arange(len(trace)), [10, 20, 30, 40, 50])
    assert np.mean(found.edge[good] == true[good]) > 0.95


def test_a_single_fix_is_placed_and_nothing_at_all_is_explained(grid, edge_named):
    trace, _ = drive(grid, edge_named)
    one = match_trace(grid, trace.iloc[[5]])
    assert one.matched_share == 1.0
    assert one.probability[0] == pytest.approx(0.5, abs=0.1)  # either direction
    assert len(one.routes[0]) == 1
    nowhere = trace.assign(lat_deg=np.nan)
    assert match_trace(grid, nowhere).routes == ()
    off = match_trace(grid, trace.assign(lat_deg=trace["lat_deg"] - 120 * M_LAT).iloc[:5])
    assert off.routes == ()
    assert all(off.reason)


def test_matching_twice_gives_the_same_to_the_last_bit(berlin):
    west, south, east, north = berlin.box_deg
    random = np.random.default_rng(3)
    walk = np.cumsum(random.normal(scale=3e-4, size=(400, 2)), axis=0) * 0.3
    trace = pd.DataFrame(
        {
            "time_s": np.arange(400.0),
            "lat_deg": (south + north) / 2 + walk[:, 0],
            "lon_deg": (west + east) / 2 + walk[:, 1],
        }
    )
    one, other = (match_trace(berlin, trace, model=RoadModel(berlin)) for _ in range(2))
    assert one.routes == other.routes
    for name in ("edge", "offset_m", "probability", "lat_deg"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)


@pytest.mark.parametrize("lag_s", [5.0, 20.0])
def test_a_lag_tells_every_fix_once_more_and_better(grid, edge_named, lag_s):
    now, late, total = 0, 0, 0
    for seed in range(4):
        trace, true = drive(grid, edge_named, noise_m=8.0, seed=seed)
        matcher = OnlineMatcher(grid, lag_s=lag_s)
        settled, first = [], []
        for row in trace.itertuples(index=False):
            first.append(matcher.update(row.time_s, row.lat_deg, row.lon_deg))
            assert all(m.time_s <= row.time_s - lag_s for m in matcher.settled)
            settled.extend(matcher.settled)
        settled.extend(matcher.finish())
        assert [m.time_s for m in settled] == trace["time_s"].tolist()
        now += sum(m.edge == e for m, e in zip(first, true, strict=True))
        late += sum(m.edge == e for m, e in zip(settled, true, strict=True))
        total += len(true)
    assert late > now
    assert late / total > 0.9


def test_without_a_lag_nothing_is_kept(grid, edge_named):
    trace, _ = drive(grid, edge_named)
    matcher = OnlineMatcher(grid)
    follow(matcher, trace)
    assert matcher.settled == ()
    assert matcher._belief.last is None


def test_probabilities_are_honest(grid, edge_named):
    sure, right = [], []
    for seed in range(12):
        trace, true = drive(grid, edge_named, noise_m=8.0, seed=seed)
        found = match_trace(grid, trace)
        for matches in (list(found.fixes), follow(OnlineMatcher(grid), trace)):
            sure += [m.probability for m in matches]
            right += [m.edge == e for m, e in zip(matches, true, strict=True)]
    sure, right = np.array(sure), np.array(right)
    assert abs(sure.mean() - right.mean()) < 0.06
    doubtful, certain = sure < 0.7, sure > 0.95
    assert right[doubtful].mean() < 0.75
    assert right[certain].mean() > 0.93
