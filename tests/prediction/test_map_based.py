import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.prediction.calibration import Calibration
from testbed.prediction.map_based import MapBased
from testbed.prediction.pace import Pace
from testbed.prediction.predictor import MovementState
from testbed.prediction.tree import MOST_WAYS, Unrolling
from testbed.prediction.turn_counts import TurnCounts
from testbed.roads.cells import Cells, hexagonal_cells
from testbed.roads.coverage import nearest_coverage

HANDOVER_M = Unrolling().settle_m - Unrolling().early_m
PLAIN = Calibration()


@pytest.fixture(scope="module")
def berlin_setup(berlin):
    cells = hexagonal_cells(berlin, 300.0)
    return berlin, cells, nearest_coverage(berlin, cells)


@pytest.fixture(scope="module")
def west_and_east(grid):
    """Two cells; their border runs north to south in the middle between columns 2 and 3."""
    x2 = float(grid.node_x_m[grid.node_ids.tolist().index(202)])
    border = x2 + 100.0
    x, y = np.array([border - 300.0, border + 300.0]), np.zeros(2)
    cells = Cells(("west", "east"), x, y, y, y, 600.0)
    return cells, nearest_coverage(grid, cells)


@pytest.fixture(scope="module")
def predictor(grid, west_and_east):
    return MapBased(grid, *west_and_east, horizon_s=60.0, calibration=PLAIN)


def state(edge, offset_m=50.0, speed_mps=10.0, **more):
    return MovementState("u", edge, offset_m, speed_mps, **more)


def eta_after(way_m, speed_mps=10.0, pace=Pace()):  # noqa: B008
    return way_m / speed_mps * pace.delay + pace.trigger_s


def test_driving_towards_the_border_names_the_site_and_when(predictor, edge_named):
    (best,) = predictor.predict(state(edge_named("202-203"), serving_site="west"))
    assert best.site == "east"
    assert best.probability > 0.95
    assert best.eta_s == pytest.approx(eta_after(50.0 + HANDOVER_M), rel=0.05)


def test_the_probability_grows_with_the_horizon_as_the_time_is_not_certain(predictor, edge_named):
    at = state(edge_named("202-203"), serving_site="west")
    chances = [replace(predictor, horizon_s=h).predict(at)[0].probability for h in (3, 12, 60)]
    assert chances[0] < 0.1
    assert 0.3 < chances[1] < 0.8
    assert chances[2] > 0.95


def test_before_a_junction_the_chance_splits(predictor, edge_named):
    (best,) = predictor.predict(state(edge_named("201-202"), serving_site="west"))
    assert best.site == "east"
    assert 0.3 < best.probability < 0.95


def test_driving_away_from_the_border_names_nothing_likely(predictor, edge_named):
    found = predictor.predict(state(edge_named("202-201"), serving_site="west"))
    assert sum(candidate.probability for candidate in found) < 0.25


def test_a_standing_user_is_assumed_to_move_on(predictor, edge_named):
    at = state(edge_named("202-203"), 80.0, 0.0, serving_site="west")
    waiting = replace(at, cruise_mps=10.0)
    (slow,), (soon,) = predictor.predict(at), predictor.predict(waiting)
    assert slow.site == soon.site == "east"
    assert soon.eta_s < slow.eta_s
    assert soon.probability > slow.probability > 0.3


def test_a_user_handed_over_early_is_not_sent_back(predictor, edge_named):
    found = predictor.predict(state(edge_named("202-203"), 90.0, serving_site="east"))
    assert sum(candidate.probability for candidate in found) < 0.25


def test_a_short_visit_to_a_cell_is_passed_over(grid, edge_named):
    edge = edge_named("202-203")
    x, y = grid.position(edge, 100.0)
    cells = Cells(
        ("west", "sliver", "east"),
        np.array([x - 300.0, x, x + 300.0]),
        np.array([y, y + 299.6, y]),
        np.zeros(3),
        np.zeros(3),
        300.0,
    )
    coverage = nearest_coverage(grid, cells)
    lengths = [stretch.length_m for stretch in coverage.stretches(edge)]
    best = MapBased(grid, cells, coverage).predict(state(edge, serving_site="west"))[0]
    assert lengths[1] < 10.0 or len(lengths) == 2
    assert best.site == "east"


def test_unsure_matches_count_as_much_as_they_are_sure(predictor, edge_named):
    sure = state(edge_named("202-203"), serving_site="west")
    unsure = replace(sure, match_probability=0.4)
    ratio = predictor.predict(unsure)[0].probability / predictor.predict(sure)[0].probability
    assert ratio == pytest.approx(0.4)
    assert predictor.predict(state(-1)) == []


def test_a_user_on_no_road_goes_straight_on(grid, predictor, edge_named):
    x, y = grid.position(edge_named("202-203"), 50.0)
    fixes = tuple((float(t), x + 10.0 * (t - 5), y) for t in range(6))
    lost = state(-1, fixes=fixes, heading_deg=90.0, serving_site="west")
    back = replace(lost, heading_deg=270.0)
    assert predictor.predict(lost)[0].site == "east"
    chances = [sum(c.probability for c in predictor.predict(at)) for at in (lost, back)]
    assert chances[0] > 2 * chances[1]


def test_a_match_against_the_direction_of_movement_is_not_believed(grid, predictor, edge_named):
    x, y = grid.position(edge_named("202-203"), 50.0)
    fixes = tuple((float(t), x + 10.0 * (t - 5), y) for t in range(6))
    wrong_way = state(
        edge_named("203-202"), 150.0, fixes=fixes, heading_deg=90.0, serving_site="west"
    )
    assert predictor.predict(wrong_way)[0].probability > 0.5


def test_a_border_that_is_hardly_crossed_changes_nothing(grid, west_and_east, edge_named):
    asked = state(edge_named("202-203"), serving_site="west")
    named = {}
    for shallow_m in (0.0, 100.0, 601.0):
        rules = Unrolling(shallow_m=shallow_m)
        chosen = MapBased(grid, *west_and_east, horizon_s=60.0, calibration=PLAIN, rules=rules)
        named[shallow_m] = [c.site for c in chosen.predict(asked)]
    # The stations are 600 m apart, so nowhere is one further than the other by more than that.
    assert named == {0.0: ["east"], 100.0: ["east"], 601.0: []}


def test_sites_may_serve_several_cells(grid, west_and_east, edge_named):
    both = MapBased(grid, *west_and_east, sites={"west": "region", "east": "region"})
    assert both.predict(state(edge_named("202-203"))) == []


def test_sites_further_on_come_after_nearer_ones(berlin_setup):
    roads, cells, coverage = berlin_setup
    predictor = MapBased(roads, cells, coverage, horizon_s=120.0)
    longest = int(np.argmax(roads.length_m))
    found = predictor.predict_ahead(state(longest, 0.0, 12.0), 3)
    first, second = ([c for c in found if c.step == step] for step in (1, 2))
    assert first
    assert second
    assert sum(c.probability for c in second) <= sum(c.probability for c in first) + 1e-9
    mean = [sum(c.eta_s * c.probability for c in s) / sum(c.probability for c in s)
            for s in (first, second)]  # fmt: skip
    assert mean[0] < mean[1]


def test_which_site_serves_later_can_be_asked(predictor, edge_named):
    outlook = predictor.outlook(state(edge_named("202-203"), serving_site="west"))
    now, later = outlook.sites_at(0.5), outlook.sites_at(60.0)
    assert now["west"] > 0.99
    assert max(later, key=later.__getitem__) == "east"
    assert sum(later.values()) == pytest.approx(1.0)


def test_many_users_at_once_get_what_each_would_get_alone(berlin_setup):
    roads, cells, coverage = berlin_setup
    predictor = MapBased(roads, cells, coverage)
    rng = np.random.default_rng(3)
    states = []
    for edge in rng.integers(-1, roads.edge_count, 200).tolist():
        x, y = roads.position(max(edge, 0), 10.0)
        heading = float(rng.uniform(0, 360))
        fixes = ((0.0, x - 40.0, y), (5.0, x, y)) if rng.random() < 0.7 else ()
        states.append(state(edge, 10.0, 9.0, fixes=fixes, heading_deg=heading,
                            match_probability=float(rng.uniform(0.2, 1.0))))  # fmt: skip
    together = predictor.predict_many(states)
    assert together == [predictor.predict(one) for one in states]
    for one, candidates in zip(states, together, strict=True):
        ahead = predictor.predict_ahead(one, 1)
        assert [c.site for c in ahead] == [c.site for c in candidates]
        assert [c.probability for c in ahead] == pytest.approx([c.probability for c in candidates])


def test_observed_turns_sharpen_the_prediction(grid, west_and_east, edge_named, predictor):
    edge = edge_named("201-202")
    straight, left = edge_named("202-203"), edge_named("202-302")
    at = state(edge, serving_site="west")

    def chance(after, count):
        seen = TurnCounts.fit([(edge, after)] * count, roads="grid", edge_count=grid.edge_count)
        return replace(predictor, counts=seen).predict(at)[0].probability

    plain = predictor.predict(at)[0].probability
    assert chance(straight, 50) > chance(straight, 5) > plain > chance(left, 5)


def test_ways_too_unlikely_to_be_kept_are_refused():
    with pytest.raises(ValueError, match="at least"):
        Unrolling(least=0.5 / MOST_WAYS)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_probabilities_are_sane_everywhere(berlin_setup, data):
    roads, cells, coverage = berlin_setup
    edge = data.draw(st.integers(-1, roads.edge_count - 1))
    x, y = roads.position(max(edge, 0), 0.0)
    moved = data.draw(st.floats(-200.0, 200.0))
    at = MovementState(
        "u",
        edge,
        data.draw(st.floats(0.0, float(roads.length_m[max(edge, 0)]))),
        data.draw(st.floats(0.0, 40.0)),
        data.draw(st.floats(0.0, 1.0)),
        data.draw(st.sampled_from(["", *cells.names])),
        (),
        data.draw(st.sampled_from([math.nan, 0.5, 13.0])),
        heading_deg=data.draw(st.sampled_from([math.nan, 0.0, 123.0])),
        fixes=data.draw(st.sampled_from([(), ((0.0, x, y),), ((0.0, x - moved, y), (9.0, x, y))])),
    )
    predictor = MapBased(roads, cells, coverage, horizon_s=30.0)
    found = predictor.predict(at)
    assert sum(candidate.probability for candidate in found) <= 1.0 + 1e-9
    order = [candidate.probability for candidate in found]
    assert order == sorted(order, reverse=True)
    assert len({candidate.site for candidate in found}) == len(found)
    for candidate in found:
        assert candidate.site != at.serving_site
        assert 0.0 <= candidate.eta_s <= 30.0
    assert predictor.predict(at) == found
