"""The matching benchmark's own measure and its made drives, without any peer."""

import dataclasses
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from matching_ground import CASES, Ground, Judged
from matching_measure import Answer, Part, Way, Wrong, agreeing_m, driven_way, failed, judge
from matching_ours import matcher
from matching_pick import OTHER_SEED, PICK_SEED, best_of, pick_seed
from matching_report import OURS, PERFECT, Compared, json_rows, verdict
from matching_truth import Fixes, drive, made_drives, receive

from testbed.roads.sources.assemble import Piece, Pieces, assemble

STEP_DEG = 0.002
SIDE = 8


def town():
    """Two-way streets on a square grid of about 200 m."""
    pieces = Pieces()
    for row in range(SIDE):
        for column in range(SIDE):
            for south, east in ((0, 1), (1, 0)):
                ends = ((row, column), (row + south, column + east))
                if max(ends[1]) < SIDE:
                    for one, other in (ends, ends[::-1]):
                        pieces.roads.append(
                            Piece(
                                edge_id=f"{one}-{other}",
                                tail=one[0] * 100 + one[1],
                                head=other[0] * 100 + other[1],
                                lat_deg=(40 - one[0] * STEP_DEG, 40 - other[0] * STEP_DEG),
                                lon_deg=(one[1] * STEP_DEG, other[1] * STEP_DEG),
                                road_class="residential",
                                street="",
                                limit_mps=13.9,
                            )
                        )
    return assemble("town", pieces)


@pytest.fixture(scope="module")
def roads():
    return town()


def edges(roads, *nodes):
    """The edges that join nodes in order."""
    by_ends = {
        (int(roads.node_ids[a]), int(roads.node_ids[b])): edge
        for edge, (a, b) in enumerate(zip(roads.tail, roads.head, strict=True))
    }
    return [by_ends[ends] for ends in itertools.pairwise(nodes)]


@dataclasses.dataclass(frozen=True)
class Judgement:
    directed: Wrong
    undirected: Wrong
    length_m: float


def judged(roads, driven, answered):
    """A drive over whole edges with a fix in the middle of each, against an answered route."""
    route = np.array(driven)
    random = np.random.default_rng(0)
    truth = drive(roads, route, random, "by hand")
    middle = roads.length_m[route] / 2
    x, y = roads.positions(route, middle)
    count = len(route)
    truth = dataclasses.replace(
        truth,
        time_s=np.arange(count, dtype=float),
        x_m=x,
        y_m=y,
        leg=np.arange(count),
        offset_m=middle,
        inside=np.zeros(count, dtype=bool),
    )
    lat, lon = roads.projection.to_latlon(x, y)
    fixes = Fixes(truth.time_s, x, y, lat, lon)
    said = np.resize(np.array(answered), count)
    answer = Answer((Part(tuple(answered), 0, count - 1),), said, 0.0)
    directed, undirected = judge(roads, truth, fixes, answer)
    return Judgement(directed, undirected, driven_way(roads, truth).length_m)


def test_the_driven_route_itself_has_no_error(roads):
    route = edges(roads, 0, 1, 2, 102, 202)
    found = judged(roads, route, route).directed
    assert found.missed_m == pytest.approx(0, abs=0.01)
    assert found.added_m == pytest.approx(0, abs=0.01)
    assert found.right_share == 1
    inner_m = roads.length_m[route[1:-1]].sum()
    assert found.true_m == pytest.approx(inner_m + roads.length_m[[route[0], route[-1]]].sum() / 2)


def test_another_way_round_a_block_is_missed_and_added(roads):
    driven = edges(roads, 0, 1, 2, 102, 103)
    answered = edges(roads, 0, 1, 101, 102, 103)
    found = judged(roads, driven, answered).directed
    assert found.missed_m == pytest.approx(roads.length_m[driven[1:3]].sum(), abs=0.01)
    assert found.added_m == pytest.approx(roads.length_m[answered[1:3]].sum(), abs=0.01)


def test_a_detour_that_was_not_driven_is_added_and_nothing_is_missed(roads):
    driven = edges(roads, 0, 1, 2, 3, 4)
    answered = edges(roads, 0, 1, 2, 102, 2, 3, 4)
    found = judged(roads, driven, answered).directed
    assert found.missed_m == pytest.approx(0, abs=0.01)
    assert found.added_m == pytest.approx(roads.length_m[answered[2:4]].sum(), abs=0.01)


def test_a_loop_driven_twice_and_answered_once_is_missed_once(roads):
    loop = (1, 2, 102, 101)
    driven = edges(roads, 0, *loop, *loop, 1, 0)
    answered = edges(roads, 0, *loop, 1, 0)
    found = judged(roads, driven, answered).directed
    assert found.missed_m == pytest.approx(roads.length_m[edges(roads, *loop, 1)].sum(), abs=0.01)
    assert found.added_m == pytest.approx(0, abs=0.01)


def test_the_right_edges_in_the_wrong_order_are_not_right(roads):
    first, second = edges(roads, 0, 1, 2), edges(roads, 300, 301, 302)
    lengths = roads.length_m[first + second].sum()
    way, swapped = (
        Way(np.array(order), np.zeros(4), roads.length_m[order])
        for order in (first + second, second + first)
    )
    assert agreeing_m(way, way) == pytest.approx(lengths)
    assert agreeing_m(way, swapped) == pytest.approx(lengths / 2, rel=0.02)


def test_the_opposite_direction_is_wrong_unless_either_direction_counts(roads):
    there = edges(roads, 0, 1, 2, 3)
    back = [int(roads.opposite[edge]) for edge in there]
    found = judged(roads, there, back)
    assert found.directed.missed_m == pytest.approx(found.length_m)
    assert found.directed.right == 0
    assert found.undirected.right == len(there)
    half_ends_m = roads.length_m[[there[0], there[-1]]].sum() / 2
    assert found.undirected.missed_m == pytest.approx(half_ends_m, abs=0.01)


def test_two_parts_that_meet_on_one_edge_count_as_one_route(roads):
    route = edges(roads, 0, 1, 2, 3, 4)
    truth = made(roads, route)
    fixes = receive(roads, truth, 1, 0.0, seed=0)
    last = len(truth.time_s) - 1
    here = int(np.searchsorted(truth.leg, 2)) + 2
    said = truth.right_edges()[0]
    whole = Answer((Part(tuple(route), 0, last),), said, 0.0)
    split = Answer(
        (Part(tuple(route[:3]), 0, here), Part(tuple(route[2:]), here + 1, last)), said, 0.0
    )
    assert judge(roads, truth, fixes, split) == judge(roads, truth, fixes, whole)
    assert judge(roads, truth, fixes, whole)[0].mismatched < 1e-6


def test_a_failure_misses_everything_and_adds_nothing(roads):
    truth = made(roads, edges(roads, 0, 1, 2, 3))
    fixes = receive(roads, truth, 1, 5.0, seed=0)
    for found in judge(roads, truth, fixes, failed(len(fixes.time_s), 0.0, "gave up")):
        assert (found.missed, found.added, found.right) == (1.0, 0.0, 0)


def made(roads, route):
    return drive(roads, np.array(route), np.random.default_rng(3), "made")


stretches = st.lists(
    st.tuples(st.integers(0, 4), st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=8
)


@given(stretches, stretches)
def test_what_two_ways_share_is_symmetric_and_at_most_the_shorter_one(one, other):
    ways = [
        Way(
            np.array([edge for edge, _, _ in way]),
            np.array([from_m for _, from_m, _ in way]),
            np.array([from_m + more_m for _, from_m, more_m in way]),
        )
        for way in (one, other)
    ]
    common_m = agreeing_m(*ways)
    assert common_m == pytest.approx(agreeing_m(*ways[::-1]))
    assert 0 <= common_m <= min(way.length_m for way in ways) + 1e-6
    assert agreeing_m(ways[0], ways[0]) == pytest.approx(ways[0].length_m)


def test_made_drives_keep_to_the_roads_the_turns_and_the_limits(roads):
    drives = made_drives(roads, 6, 1, (600.0, 1200.0))
    for truth in drives:
        allowed = [set(roads.followers(edge).tolist()) for edge in truth.route[:-1].tolist()]
        after = truth.route[1:].tolist()
        assert all(edge in where for edge, where in zip(after, allowed, strict=True))
        assert 600 <= roads.length_m[truth.route].sum() <= 1200 * 1.05
        x, y = roads.positions(truth.route[truth.leg], truth.offset_m)
        assert np.allclose(x, truth.x_m)
        assert np.allclose(y, truth.y_m)
        moved_m = np.hypot(np.diff(truth.x_m), np.diff(truth.y_m))
        assert moved_m.max() <= roads.limit_mps.max() + 1e-6
        assert moved_m.max() > 5
        begins = np.concatenate(([0.0], np.cumsum(roads.length_m[truth.route])))
        assert (np.diff(begins[truth.leg] + truth.offset_m) >= -1e-6).all()
    again = made_drives(roads, 6, 1, (600.0, 1200.0))
    assert all((a.x_m == b.x_m).all() for a, b in zip(drives, again, strict=True))


def test_noise_is_as_strong_as_asked_and_the_same_drive_ends_at_its_last_fix(roads):
    truth = max(made_drives(roads, 8, 2, (1500.0, 2500.0)), key=lambda one: len(one.time_s))
    fixes = receive(roads, truth, 1, 10.0, seed=5)
    off = np.concatenate((fixes.x_m - truth.x_m, fixes.y_m - truth.y_m))
    assert off.std() == pytest.approx(10, rel=0.15)
    stronger = receive(roads, truth, 10, 30.0, seed=5)
    assert np.allclose(stronger.x_m - truth.x_m[::10], 3 * (fixes.x_m - truth.x_m)[::10])
    sampled = truth.sampled(10)
    assert driven_way(roads, sampled).length_m <= driven_way(roads, truth).length_m
    assert sampled.offset_m[-1] == truth.offset_m[(len(truth.time_s) - 1) // 10 * 10]


def test_our_matcher_is_nearly_right_where_there_is_nearly_no_noise(roads):
    truth = made_drives(roads, 1, 4, (1200.0, 1800.0))[0]
    fixes = receive(roads, truth, 1, 2.0, seed=0)
    answer = matcher(roads, told=False)(fixes, 2.0)
    found = judge(roads, truth, fixes, answer)[0]
    assert found.missed < 0.02
    assert found.added < 0.02
    assert found.right_share > 0.9


def rows_of(results):
    return json_rows([Compared("town", 1, results)], speed=None)


def test_rows_are_met_only_where_ours_is_better_than_the_peer(roads):
    def results(missed_m, right):
        wrong = Wrong(1000.0, missed_m, 5.0, 100, right)
        return {case: [Judged(wrong, wrong, 1.0)] * 2 for case in CASES}

    rows = rows_of({OURS: results(10, 97), PERFECT: results(0, 100), "peer 1": results(20, 98)})
    beside = [row for row in rows if row["peer"]]
    assert len(beside) == len(CASES) * 4
    for row in beside:
        assert row["met"] == ("route" in row["name"])
    mismatched = next(row for row in beside if "route" in row["name"])
    assert (mismatched["value"], mismatched["ratio"]) == (1.5, 1.67)


def results_of(missed_m, right):
    wrong = Wrong(1000.0, missed_m, 5.0, 100, right)
    return {case: [Judged(wrong, wrong, 1.0)] * 2 for case in CASES}


def test_what_is_equal_as_printed_is_a_tie_and_neither_won_nor_lost():
    ours = results_of(10, 98)
    for theirs in (results_of(10, 98), results_of(10.000_01, 98), results_of(9.999_99, 98)):
        rows = rows_of({OURS: ours, PERFECT: results_of(0, 100), "peer 1": theirs})
        beside = [row for row in rows if row["peer"]]
        assert {(row["met"], row["tie"]) for row in beside} == {(False, True)}
        count = len(CASES) * 4
        assert f"{count} comparisons: 0 better, {count} equal, 0 worse" in verdict(rows)
    rows = rows_of({OURS: ours, PERFECT: results_of(0, 100), "peer 1": results_of(9, 99)})
    assert {(row["met"], row["tie"]) for row in rows if row["peer"]} == {(False, False)}
    count = len(CASES) * 4
    assert f"0 better, 0 equal, {count} worse" in verdict(rows)


def test_each_case_gets_the_setting_with_the_least_length_mismatched():
    tried = {"one": results_of(10, 99), "two": results_of(20, 99), "three": results_of(10, 90)}
    tried["two"] |= {CASES[3]: results_of(5, 50)[CASES[3]]}
    assert best_of(tried) == dict.fromkeys(CASES, "one") | {CASES[3]: "two"}


def test_settings_are_never_picked_on_the_seed_that_is_scored():
    assert all(pick_seed(seed) != seed for seed in (1, PICK_SEED, OTHER_SEED))


def test_the_truth_as_an_answer_is_nearly_without_error(roads):
    ground = Ground("town", roads, tuple(made_drives(roads, 3, 5, (1500.0, 2500.0))), 1)
    for found in ground.perfect()[CASES[0]]:
        assert found.directed.mismatched < 0.02
        assert found.directed.right_share == 1


def test_a_ground_gives_everybody_the_same_fixes_every_time(roads):
    ground = Ground("town", roads, tuple(made_drives(roads, 2, 1, (600.0, 900.0))), 1)
    one, other = ground.fixes(1, CASES[0]), ground.fixes(1, CASES[0])
    assert (one.lat_deg == other.lat_deg).all()
    assert not np.allclose(one.x_m[:5], ground.fixes(0, CASES[0]).x_m[:5])
