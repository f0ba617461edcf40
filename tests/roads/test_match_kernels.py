import heapq
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.roads.matching import compiled
from testbed.roads.matching.compiled import Weights
from testbed.roads.matching.graph import graph_of
from testbed.roads.matching.kernels import drive_between, spread, transitions
from testbed.roads.matching.nearby import nearest
from testbed.roads.matching.smoothing import smooth, thin, white_noise_m
from testbed.roads.spatial import RoadIndex

WEIGHTS = Weights(
    beta_m=10.0,
    beta_sigmas=0.0,
    beta_share=0.0,
    slack_betas=100.0,
    top_speed_mps=60.0,
    u_turn=6.0,
    haste=0.0,
)


@settings(max_examples=60, deadline=None)
@given(
    share=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    radius_m=st.floats(5.0, 150.0),
    most=st.integers(1, 40),
)
def test_the_grid_finds_the_same_roads_as_a_tree(berlin, share, radius_m, most):
    west, south, east, north = berlin.extent_m
    x, y = west + share[0] * (east - west), south + share[1] * (north - south)
    expected = RoadIndex(berlin).near(np.array([x]), np.array([y]), radius_m, 10_000)
    found, places = np.empty(most, np.int64), np.empty((most, 2))
    graph = graph_of(berlin)
    kept = nearest(graph.net, graph.scratch, x, y, radius_m, found, places)
    assert kept == min(most, len(expected.edge))
    assert places[:kept, 1] == pytest.approx(expected.distance_m[:kept])
    where = dict(zip(expected.edge.tolist(), expected.distance_m.tolist(), strict=True))
    for edge, place in zip(found[:kept].tolist(), places[:kept], strict=True):
        assert place[1] == pytest.approx(where[edge])
        at = berlin.position(edge, place[0])
        assert np.hypot(at[0] - x, at[1] - y) == pytest.approx(place[1], abs=1e-6)


def cheapest(net, start, per_turn_m):
    """Plain Dijkstra from a place to every edge's tail."""
    edge, offset = start
    ahead = (net.length_m[edge] - offset) * net.ratio[edge]
    ends, queue, best = [(ahead, edge)], [], {}
    back = net.opposite[edge]
    if back >= 0:
        ends.append((offset * net.ratio[back] + per_turn_m * WEIGHTS.u_turn, back))
    for cost, last in ends:
        for k in range(net.follower_start[last], net.follower_start[last + 1]):
            heapq.heappush(queue, (cost + per_turn_m * net.turn[k], int(net.follower[k])))
    while queue:
        cost, here = heapq.heappop(queue)
        if here in best:
            continue
        best[here] = cost
        cost += net.length_m[here] * net.ratio[here]
        for k in range(net.follower_start[here], net.follower_start[here + 1]):
            heapq.heappush(queue, (cost + per_turn_m * net.turn[k], int(net.follower[k])))
    return best


@pytest.mark.parametrize("edge", [3, 200, 611])
def test_the_bounded_search_finds_the_cheapest_routes(berlin, edge):
    graph = graph_of(berlin)
    net, scratch = graph.net, graph.scratch
    start = (edge, 0.4 * net.length_m[edge])
    bound_m = 900.0
    expected = {e: c for e, c in cheapest(net, start, 10.0).items() if c <= bound_m}
    spread(net, scratch, start, 10.0, WEIGHTS.u_turn, bound_m, len(net.length_m))
    done = np.flatnonzero(scratch.done == scratch.count[0]).tolist()
    assert set(done) == set(expected)
    assert len(done) > 50
    for e in done:
        assert scratch.cost_m[e] == pytest.approx(expected[e])


def test_a_scored_step_is_the_drive_that_is_laid(grid, edge_named):
    graph = graph_of(grid)
    net, scratch = graph.net, graph.scratch
    names = ("201-202", "202-203", "202-201", "201-101", "202-302")
    places = (np.array([edge_named(n) for n in names]), np.full(5, 60.0))
    logs, way = np.empty((5, 5)), np.empty(grid.edge_count, np.int64)
    step = (10.0, 60.0, 50.0)
    assert transitions(net, scratch, WEIGHTS, places, places, np.ones(5, bool), step, logs)
    assert np.isfinite(logs).all()
    for i, edge in enumerate(places[0].tolist()):
        for j, target in enumerate(places[0].tolist()):
            count = drive_between(net, scratch, WEIGHTS, (edge, 60.0), (target, 60.0), step, way)
            driven = [edge, *way[:count][::-1].tolist()]
            assert driven[-1] == target
            for one, other in itertools.pairwise(driven):
                assert grid.head[one] == grid.tail[other]
            assert (count == 0) == (i == j)


def test_smoothing_takes_noise_out_and_says_how_much_is_left():
    random = np.random.default_rng(5)
    time_s = np.arange(600.0)
    truth = np.column_stack((10.0 * time_s, 200.0 * np.sin(time_s / 60.0)))
    raw = truth + random.normal(scale=10.0, size=truth.shape)
    seen_m = white_noise_m(time_s, raw[:, 0].copy(), raw[:, 1].copy())
    assert seen_m == pytest.approx(10.0, rel=0.15)
    at, left = smooth(
        time_s, raw[:, 0].copy(), raw[:, 1].copy(), np.zeros(600, bool), seen_m**2, 4.0
    )
    error_m = float(np.sqrt(np.mean((at - truth) ** 2)))
    assert error_m < 5.0
    assert error_m < 1.3 * float(np.sqrt(left.mean()))


def test_sparse_fixes_are_left_where_they_are():
    time_s = np.arange(20) * 60.0
    x, y = np.linspace(0, 9000, 20), np.zeros(20)
    at, left = smooth(time_s, x, y + 7.0, np.zeros(20, bool), 25.0, 4.0)
    assert at[:, 1] == pytest.approx(7.0)
    assert left == pytest.approx(25.0, rel=0.05)
    assert np.isnan(white_noise_m(time_s, x, y))


@settings(deadline=None)
@given(
    steps=st.lists(st.floats(0.1, 60.0), min_size=2, max_size=40),
    noise_m=st.floats(1.0, 40.0),
    seed=st.integers(0, 99),
)
def test_smoothing_never_leaves_the_fixes(steps, noise_m, seed):
    time_s = np.cumsum(steps)
    speed = np.random.default_rng(seed).normal(scale=8.0, size=(2, len(steps)))
    x, y = np.cumsum(speed * steps, axis=1)
    at, left = smooth(time_s, x.copy(), y.copy(), np.zeros(len(x), bool), noise_m**2, 4.0)
    assert (left > 0.0).all()
    assert np.median(left) <= noise_m**2 * 1.001
    assert (np.hypot(at[:, 0] - x, at[:, 1] - y) < 12 * noise_m + 20.0).all()


@settings(deadline=None)
@given(st.lists(st.floats(0, 500), min_size=1, max_size=40), st.floats(1, 60))
def test_thinning_keeps_the_ends_and_the_distance(steps, step_m):
    x = np.cumsum(steps)
    at = np.column_stack((x, np.zeros(len(x))))
    kept = thin(at, np.full(len(x), step_m), np.zeros(len(x), bool))
    assert kept[0] == 0
    assert len(kept) == 1 or kept[-1] == len(x) - 1
    assert (np.diff(x[kept])[:-1] >= step_m - 1e-9).all()


def test_every_compiled_loop_counts_in_what_is_kept_on_disk():
    folder = Path(compiled.__file__).parent
    using = {p.stem for p in folder.glob("*.py") if "@compiled\n" in p.read_text(encoding="utf-8")}
    assert using | {"compiled"} == set(compiled.LOOPS)
    assert nearest._cache._cache_file._source_stamp == compiled._source()
