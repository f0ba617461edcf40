import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import ScenarioError
from testbed.prediction.map_based import MapBased
from testbed.prediction.nearest import NearestSite
from testbed.prediction.predictor import MovementState, make_predictor, predictor_names
from testbed.prediction.turns import TurnModel
from testbed.roads.cells import Cells, hexagonal_cells
from testbed.roads.coverage import nearest_coverage


@pytest.fixture(scope="module")
def berlin_setup(berlin):
    cells = hexagonal_cells(berlin, 300.0)
    return berlin, cells, nearest_coverage(berlin, cells)


@pytest.fixture(scope="module")
def west_and_east(grid):
    """Two cells; their border runs north to south between columns 2 and 3."""
    x2 = float(grid.node_x_m[grid.node_ids.tolist().index(202)])
    border = x2 + 100.0
    x, y = np.array([border - 300.0, border + 300.0]), np.zeros(2)
    cells = Cells(("west", "east"), x, y, y, y, 600.0)
    return cells, nearest_coverage(grid, cells)


@pytest.fixture(scope="module")
def predictor(grid, west_and_east):
    return MapBased(grid, *west_and_east, horizon_s=30.0)


def state(edge, offset_m=50.0, speed_mps=10.0, **more):
    return MovementState("u", edge, offset_m, speed_mps, **more)


def test_driving_towards_the_border_names_the_site_and_when(predictor, edge_named):
    (best,) = predictor.predict(state(edge_named("202-203"), serving_site="west"))
    assert best.site == "east"
    assert best.probability == pytest.approx(1.0)
    assert best.eta_s == pytest.approx(5.0, abs=0.2)


def test_before_a_junction_the_chance_splits(predictor, edge_named):
    (best,) = predictor.predict(state(edge_named("201-202"), serving_site="west"))
    assert best.site == "east"
    assert 0.5 < best.probability < 1.0
    assert best.eta_s == pytest.approx(25.0, abs=2.0)


def test_driving_away_from_the_border_names_nothing_likely(predictor, edge_named):
    found = predictor.predict(state(edge_named("202-201"), serving_site="west"))
    assert sum(candidate.probability for candidate in found) < 0.05


def test_a_standing_user_is_assumed_to_move_on(predictor, edge_named):
    at = state(edge_named("202-203"), 80.0, 0.0, serving_site="west")
    (best,) = predictor.predict(at)
    assert best.probability == pytest.approx(1.0)
    assert best.eta_s == pytest.approx(20.0, abs=0.5)
    waiting = state(edge_named("202-203"), 80.0, 0.0, serving_site="west", cruise_mps=10.0)
    assert predictor.predict(waiting)[0].eta_s == pytest.approx(2.0, abs=0.1)


def test_the_site_just_entered_comes_before_the_handover_to_it(predictor, edge_named):
    (best,) = predictor.predict(state(edge_named("203-204"), 10.0, serving_site="west"))
    assert (best.site, best.eta_s) == ("east", 0.0)


def test_a_user_handed_over_early_is_not_sent_back(predictor, edge_named):
    found = predictor.predict(state(edge_named("202-203"), 90.0, serving_site="east"))
    assert sum(candidate.probability for candidate in found) < 0.1


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


def test_unsure_matches_and_unmatched_users(predictor, edge_named):
    at = state(edge_named("202-203"), match_probability=0.4, serving_site="west")
    assert predictor.predict(at)[0].probability == pytest.approx(0.4)
    assert predictor.predict(state(-1)) == []


def test_sites_may_serve_several_cells(grid, west_and_east, edge_named):
    both = MapBased(grid, *west_and_east, sites={"west": "region", "east": "region"})
    assert both.predict(state(edge_named("202-203"))) == []


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_probabilities_are_sane_everywhere(berlin_setup, data):
    roads, cells, coverage = berlin_setup
    edge = data.draw(st.integers(0, roads.edge_count - 1))
    at = MovementState(
        "u",
        edge,
        data.draw(st.floats(0.0, float(roads.length_m[edge]))),
        data.draw(st.floats(0.0, 40.0)),
        data.draw(st.floats(0.0, 1.0)),
        data.draw(st.sampled_from(["", *cells.names])),
        (),
        data.draw(st.sampled_from([math.nan, 0.5, 13.0])),
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


def test_straight_on_is_likelier_than_turning_and_turning_round_is_rare(grid, edge_named):
    turns = dict(TurnModel(grid).turns(edge_named("201-202")))
    ahead, left, back = (edge_named(f"202-{node}") for node in ("203", "302", "201"))
    assert sum(turns.values()) == pytest.approx(1.0)
    assert turns[ahead] > 2 * turns[left]
    assert turns[back] < 0.02
    assert TurnModel(grid).angle_deg(edge_named("201-202"), left) == pytest.approx(90.0, abs=0.5)


def test_a_road_driven_before_is_less_likely(grid, edge_named):
    model = TurnModel(grid)
    plain = dict(model.turns(edge_named("201-202")))
    again = dict(model.turns(edge_named("201-202"), (edge_named("302-202"),)))
    assert again[edge_named("202-302")] < plain[edge_named("202-302")]
    assert sum(again.values()) == pytest.approx(1.0)


def test_the_nearest_site_never_looks_ahead(grid, west_and_east, edge_named):
    nearest = NearestSite(grid, *west_and_east)
    assert nearest.predict(state(edge_named("202-203"), 90.0, serving_site="west")) == []
    (found,) = nearest.predict(
        state(edge_named("202-203"), 110.0, serving_site="west", match_probability=0.7)
    )
    assert (found.site, found.probability, found.eta_s) == ("east", 0.7, 0.0)
    assert nearest.predict(state(-1)) == []


def test_a_predictor_is_found_by_its_name(grid, west_and_east):
    cells, coverage = west_and_east
    assert "map-based" in predictor_names()
    made = make_predictor("map-based", roads=grid, cells=cells, coverage=coverage, horizon_s=12.0)
    assert isinstance(made, MapBased)
    assert made.horizon_s == 12.0
    with pytest.raises(ScenarioError, match="did you mean 'map-based'"):
        make_predictor("map-basd", roads=grid, cells=cells, coverage=coverage, horizon_s=1.0)
