import itertools

import numpy as np
import pytest

from testbed.errors import ModelError, ScenarioError
from testbed.prediction.calibration import Calibration
from testbed.prediction.constant_velocity import ConstantVelocity
from testbed.prediction.history import SiteHistory
from testbed.prediction.map_based import MapBased
from testbed.prediction.markov import MarkovSites
from testbed.prediction.nearest import NearestSite
from testbed.prediction.outlook import Outlook
from testbed.prediction.predictor import MovementState, make_predictor, predictor_names
from testbed.prediction.regression import PolynomialRegression
from testbed.prediction.rssi import RssiTrend
from testbed.prediction.states import StateBuilder
from testbed.roads.cells import hexagonal_cells
from testbed.roads.coverage import nearest_coverage

NAMES = ("constant-velocity", "map-based", "markov", "nearest", "regression", "rssi")


@pytest.fixture(scope="module")
def world(berlin):
    cells = hexagonal_cells(berlin, 500.0)
    return berlin, cells, nearest_coverage(berlin, cells)


@pytest.fixture(scope="module")
def pair(world):
    """A cell near the middle and its eastern neighbour, and a point 60 m before their border."""
    _, cells, _ = world
    middle = int(cells.nearest_indices([0.0], [0.0])[0])
    east = int(cells.nearest_indices([cells.x_m[middle] + 500.0], [cells.y_m[middle]])[0])
    assert cells.x_m[east] == pytest.approx(cells.x_m[middle] + 500.0)
    point = float(cells.x_m[middle]) + 190.0, float(cells.y_m[middle])
    return cells.names[middle], cells.names[east], point


def rssi_at(cells, x_m, y_m):
    return {n: -30 - 35 * np.log10(max(1.0, d)) for n, d in cells.distances_m(x_m, y_m).items()}


def moving(world, pair, *, east_mps=10.0, north_mps=0.0, count=20):
    """The state after some seconds of straight movement that ends at the point."""
    _, cells, _ = world
    serving, _, (x_m, y_m) = pair
    builder = StateBuilder("u")
    for t in range(count):
        ago = t - count + 1
        here = x_m + east_mps * ago, y_m + north_mps * ago
        state = builder.update(float(t), here, serving_site=serving, rssi_dbm=rssi_at(cells, *here))
    return state


def test_all_predictors_are_found_by_name_and_keep_the_contract(world, pair):
    assert set(NAMES) <= set(predictor_names())
    roads, cells, coverage = world
    for name, (east, north) in itertools.product(NAMES, ((10.0, 0.0), (-3.0, 5.0), (0.0, 0.0))):
        predictor = make_predictor(
            name, roads=roads, cells=cells, coverage=coverage, horizon_s=40.0
        )
        state = moving(world, pair, east_mps=east, north_mps=north)
        found = predictor.predict(state)
        assert found == predictor.predict(state)
        assert sum(c.probability for c in found) <= 1 + 1e-9
        assert all(c.site in cells.names and c.site != state.serving_site for c in found)
        assert all(0 <= c.eta_s <= 40 and 0 < c.probability <= 1 for c in found)
        for step in (1, 2, 3):
            ahead = [c for c in predictor.predict_ahead(state, 3) if c.step == step]
            assert sum(c.probability for c in ahead) <= 1 + 1e-9
        known = sum(predictor.outlook(state).sites_at(20.0).values())
        assert 0 <= known <= 1 + 1e-9


def test_an_unknown_predictor_is_named_with_the_nearest_one(world):
    roads, cells, coverage = world
    with pytest.raises(ScenarioError, match="did you mean 'map-based'"):
        make_predictor("map-basd", roads=roads, cells=cells, coverage=coverage, horizon_s=1.0)


@pytest.mark.parametrize("kind", [ConstantVelocity, PolynomialRegression, RssiTrend])
def test_who_walks_towards_the_border_is_expected_behind_it(kind, world, pair):
    predictor = kind(*world, horizon_s=60.0)
    towards = predictor.predict(moving(world, pair, east_mps=10.0))
    away = {c.site: c.probability for c in predictor.predict(moving(world, pair, east_mps=-10.0))}
    assert towards[0].site == pair[1]
    assert towards[0].probability > 0.3
    assert away.get(pair[1], 0.0) < towards[0].probability / 2


@pytest.mark.parametrize("kind", [ConstantVelocity, PolynomialRegression, RssiTrend, MapBased])
def test_the_faster_the_sooner(kind, world, pair):
    predictor = kind(*world, horizon_s=200.0)
    slow, fast = (
        next(c for c in predictor.predict(moving(world, pair, east_mps=v)) if c.site == pair[1])
        for v in (4.0, 12.0)
    )
    assert fast.eta_s < 0.6 * slow.eta_s


def test_regression_follows_a_bend(world, pair):
    _, cells, _ = world
    serving, _, _ = pair
    centre = cells.x_m[cells.index(serving)], cells.y_m[cells.index(serving)]
    fixes = tuple((float(t), centre[0] + 8.0 * t, centre[1] + 0.5 * t**2) for t in range(-10, 9))
    state = MovementState("u", -1, 0.0, 8.0, serving_site=serving, fixes=fixes)
    curved = PolynomialRegression(*world, horizon_s=30.0).predict(state)[0].site
    north = cells.nearest(centre[0] + 160.0, centre[1] + 350.0)
    assert curved == north


def test_the_nearest_site_never_looks_ahead(world, pair):
    nearest = NearestSite(*world)
    assert nearest.predict(moving(world, pair)) == []
    beyond = (*pair[:2], (pair[2][0] + 90.0, pair[2][1]))
    (found,) = nearest.predict(moving(world, beyond))
    assert (found.site, found.probability, found.eta_s) == (pair[1], 1.0, 0.0)
    assert nearest.predict(MovementState("u", -1, 0.0, 1.0)) == []


def test_a_markov_chain_repeats_what_it_was_taught(world, pair):
    _, cells, _ = world
    here, east, _ = pair
    west = cells.nearest(cells.x_m[cells.index(here)] - 500.0, cells.y_m[cells.index(here)])
    taught = SiteHistory.fit([[(west, 40.0), (here, 40.0), (east, 40.0)]] * 20)
    plain, learnt = MarkovSites(*world), MarkovSites(*world, history=taught)
    assert plain.next_sites((west, here))[east] < 0.3
    shares = learnt.next_sites((west, here))
    assert shares[east] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    other = learnt.next_sites((east, here))
    assert other[east] < shares[east]
    assert here not in shares


def test_who_has_stayed_long_is_expected_to_stay_longer_and_the_taught_time_counts(world, pair):
    here, east, point = pair
    quick = SiteHistory.fit([[(east, 1.0), (here, 30.0), (east, 1.0)]] * 50)
    slow = SiteHistory.fit([[(east, 1.0), (here, 600.0), (east, 1.0)]] * 50)
    state = MovementState("u", -1, 0.0, 1.0, serving_site=here, fixes=((50.0, *point),),
                          recent_sites=((here, 40.0),))  # fmt: skip
    etas = [
        MarkovSites(*world, history=h, horizon_s=5000.0).outlook(state).eta_s[:, 0].min()
        for h in (quick, slow)
    ]
    assert etas[0] < 60
    assert etas[1] > 300


def test_a_site_history_survives_storing():
    taught = SiteHistory.fit([[("a", 5.0), ("b", 60.0), ("c", 8.0)]], order=2)
    assert SiteHistory.from_json(taught.to_json()) == taught
    assert taught.counts["a", "b", "c"] == 1
    assert set(taught.dwell) == {"b"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "turn counts"}'])
def test_what_is_no_site_history_is_refused(text):
    with pytest.raises(ModelError, match="site history"):
        SiteHistory.from_json(text)


def test_an_outlook_with_certain_times_is_a_timetable():
    outlook = Outlook(
        "a", ("a", "b", "c"), np.array([0.6, 0.3]), np.array([[1, 2], [2, -1]]),
        np.array([[10.0, 20.0], [15.0, np.inf]]),
    )  # fmt: skip
    assert outlook.sites_at(5.0) == pytest.approx({"a": 0.9, "b": 0.0, "c": 0.0})
    assert outlook.sites_at(12.0) == pytest.approx({"b": 0.6, "a": 0.3, "c": 0.0})
    assert outlook.sites_at(30.0) == pytest.approx({"c": 0.9, "a": 0.0, "b": 0.0})
    (first, second) = outlook.candidates(15.0)
    assert (first.site, first.eta_s, second.site, second.eta_s) == ("b", 10.0, "c", 15.0)
    assert outlook.candidates(30.0, 2)[0].step == 2
    assert outlook.candidates(30.0, 3) == []
    assert "<table" in outlook._repr_html_()


def test_a_calibration_is_monotone_interpolates_and_never_exceeds_one():
    calibration = Calibration((5.0, 60.0), (-1.0, 0.5), (0.8, 1.2), (0.4, 2.0))
    said = np.linspace(0, 1, 101)
    meant = [calibration.apply([p], 20.0)[0] for p in said.tolist()]
    assert meant[0] == 0.0
    assert np.all(np.diff(meant) > 0)
    assert calibration.at(1.0) == (-1.0, 0.8, 0.4)
    assert calibration.at(500.0) == (0.5, 1.2, 2.0)
    middle = calibration.at(np.sqrt(300.0))
    assert middle == pytest.approx((-0.25, 1.0, 1.2))
    assert sum(calibration.apply([0.5, 0.5], 60.0)) <= 1 + 1e-12
    with pytest.raises(ValueError, match="one of each"):
        Calibration((5.0,), (0.0,), (1.0,), ())
    with pytest.raises(ValueError, match="must grow"):
        Calibration((5.0, 5.0), (0.0, 0.0), (1.0, 1.0), (1.0, 1.0))
    with pytest.raises(ValueError, match="positive"):
        Calibration((5.0,), (0.0,), (1.0,), (0.0,))


@pytest.mark.parametrize("curve", [(0.4, 1.0, 1.0), (0.7, 1.5, 0.3)])
def test_a_calibration_says_log_odds(curve):
    shift, rise, fall = curve
    found = Calibration((5.0,), (shift,), (rise,), (fall,)).apply([0.3], 5.0)[0]
    odds = np.exp(shift) * 0.3**rise / 0.7**fall
    assert found == pytest.approx(odds / (1 + odds))


def test_the_state_knows_speeds_heading_and_what_was_before():
    builder = StateBuilder("u")
    for t in range(100):
        state = builder.update(
            float(t), (5.0 * t, 0.0), edge=t // 10, serving_site="a" if t < 50 else "b"
        )
    assert state.smooth_mps == pytest.approx(5.0)
    assert state.progress_mps == pytest.approx(5.0)
    assert state.speed_mps == pytest.approx(5.0)
    assert state.heading_deg == pytest.approx(90.0)
    assert state.recent_edges[-3:] == (7, 8, 9)
    assert state.recent_sites == (("a", 0.0), ("b", 50.0))
    assert state.fixes[0][0] == 39.0
    still = builder.update(100.0, (5.0 * 99, 0.0), speed_mps=0.0)
    assert still.cruise_mps == pytest.approx(5.0)
    late = builder.update(500.0, (0.0, 0.0))
    assert len(late.fixes) == 1
