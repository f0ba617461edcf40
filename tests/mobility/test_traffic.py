import itertools

import numpy as np
import pytest

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.sumo import traffic as traffic_module
from testbed.mobility.sumo.demand import KINDS, Traffic
from testbed.mobility.sumo.net import edge_lengths_m
from testbed.mobility.sumo.traffic import simulate
from testbed.mobility.trace import COLUMNS, check_trace, distances_m, length_m

MIXED = Traffic(
    {"car": 12, "bus": 2, "truck": 2, "bicycle": 4, "pedestrian": 4},
    period_s=60.0,
    duration_s=150.0,
    minimum_distance_m=200.0,
)

FEW = Traffic({"car": 4, "pedestrian": 2}, period_s=20.0, duration_s=80.0)


@pytest.fixture(scope="module")
def mixed(town_net, nets):
    return simulate(town_net, MIXED, seed=3, truth=True, cache=nets)


def test_everybody_asked_for_is_in_one_trace_of_the_schema(mixed):
    trace = mixed.trace
    assert tuple(trace.columns) == (*COLUMNS, "mode")
    assert trace.equals(check_trace(trace))
    counts = {kind: sum(k == kind for k in mixed.kinds.values()) for kind in KINDS}
    assert counts == dict(MIXED.counts)
    assert mixed.report.departed == dict(sorted(counts.items()))
    assert (mixed.report.asked, mixed.report.routed, mixed.report.never_departed) == (24, 24, 0)
    assert set(trace["mode"]) == {"car", "bus", "truck", "bike", "walk"}
    assert mixed.report.fixes == len(trace)
    assert mixed.report.length_m == pytest.approx(length_m(trace))
    assert "pedestrian" in mixed._repr_html_()


def test_users_set_out_evenly_over_the_period(mixed):
    cars = mixed.of_kind("car")
    first_s = cars.groupby("user")["time_s"].min().sort_values().to_numpy()
    assert first_s == pytest.approx(np.arange(12) * 5.0, abs=4.0)


def fastest_beyond_speed_m(trace):
    """By how many metres any step is longer than the user's speed explains."""
    beyond = []
    for _, rows in trace.groupby("user"):
        moved_m = distances_m(rows["lat_deg"].to_numpy(), rows["lon_deg"].to_numpy())
        speed = rows["speed_mps"].to_numpy()
        assert (np.diff(rows["time_s"]) == 1.0).all()
        beyond.append((moved_m - np.maximum(speed[1:], speed[:-1])).max(initial=0.0))
    return max(beyond)


def test_nobody_jumps(mixed):
    for kind in KINDS:
        # A person on foot walks on at the other end of a crossing, a vehicle cuts a corner.
        assert fastest_beyond_speed_m(mixed.of_kind(kind)) < (12.0 if kind == "pedestrian" else 6.0)


def test_who_is_stuck_is_taken_away_and_counted_and_does_not_jump(town_net):
    many = Traffic({"car": 60}, period_s=30.0, duration_s=150.0, stuck_s=2.0)
    made = simulate(town_net, many, seed=1)
    assert made.report.removed > 0
    assert fastest_beyond_speed_m(made.trace) < 6.0
    assert f"{made.report.removed} stuck and removed" in made._repr_html_()


def test_the_truth_names_the_edge_and_the_place_on_it(mixed, town_net):
    lengths = edge_lengths_m(town_net)
    truth, trace = mixed.truth, mixed.trace
    assert len(truth) == len(trace)
    assert set(truth["edge"]) <= set(lengths)
    on_roads = ~truth["edge"].str.startswith(":")
    limit = truth.loc[on_roads, "edge"].map(lengths)
    assert (truth.loc[on_roads, "pos_m"] <= limit + 0.1).all()
    for user in mixed.of_kind("car")["user"].unique():
        driven = truth.loc[(trace["user"] == user) & on_roads, "edge"]
        edges = [edge for edge, _ in itertools.groupby(driven)]
        assert edges == list(mixed.routes[user][: len(edges)])


@pytest.fixture(scope="module")
def few(town_net, nets):
    return simulate(town_net, FEW, seed=3, truth=True, cache=nets)


def test_the_same_seed_gives_the_same_traffic_from_cache_and_anew(few, town_net, nets):
    cached = simulate(town_net, FEW, seed=3, truth=True, cache=nets)
    anew = simulate(town_net, FEW, seed=3, truth=True)
    other = simulate(town_net, FEW, seed=4, truth=True)
    for same in (cached, anew):
        assert same.trace.equals(few.trace)
        assert same.truth.equals(few.truth)
        assert (same.routes, same.kinds, same.report) == (few.routes, few.kinds, few.report)
    assert not other.trace.equals(few.trace)


def test_fcd_as_xml_gives_the_same_traffic(few, town_net, monkeypatch):
    monkeypatch.setattr(traffic_module, "writes_parquet", lambda _: False)
    plain = simulate(town_net, FEW, seed=3, truth=True)
    assert plain.trace["user"].equals(few.trace["user"])
    assert plain.truth["edge"].equals(few.truth["edge"])
    for column in ("time_s", "lat_deg", "lon_deg"):
        expected = few.trace[column].to_numpy()
        assert plain.trace[column].to_numpy() == pytest.approx(expected, abs=2e-7)


TRIPS = """<routes>
<trip id="one" depart="0" from="{a}" to="{b}"/>
<vType id="tram" vClass="tram"/>
<trip id="lost" type="tram" depart="1" from="{a}" to="{b}"/>
<person id="walker" depart="0"><walk from="{a}" to="{b}"/></person>
</routes>"""


@pytest.fixture
def given(ends, tmp_path):
    path = tmp_path / "mine.trips.xml"
    path.write_text(TRIPS.format(a=ends[0], b=ends[1]), encoding="utf-8")
    return path


@pytest.fixture
def ends(town_net):
    """An edge in the south of the town, and one in the north."""
    edges = sorted(edge_lengths_m(town_net))
    return [next(e for e in edges if e.startswith(street)) for street in ("100", "104")]


def test_given_trips_are_driven_and_those_without_a_way_counted(town_net, given, ends):
    made = simulate(town_net, Traffic(trips=given, duration_s=400.0), seed=1)
    assert made.kinds == {"one": "car", "walker": "pedestrian"}
    assert (made.report.asked, made.report.routed) == (3, 2)
    assert [made.routes["one"][0], made.routes["one"][-1]] == ends


def test_speeds_are_scaled_on_the_same_given_routes(town_net, given):
    slow, fast = (
        simulate(town_net, Traffic(trips=given, duration_s=900.0, speed_factor=f), seed=1)
        for f in (0.5, 2.0)
    )
    assert slow.routes == fast.routes
    for user in ("one", "walker"):
        took = [t.trace.loc[t.trace["user"] == user, "time_s"].max() for t in (slow, fast)]
        assert took[0] > 1.5 * took[1]


def test_rates_per_hour_become_numbers_of_users():
    made = Traffic.at_rates({"car": 600, "bicycle": 60}, period_s=120.0, duration_s=300.0)
    assert dict(made.counts) == {"car": 20, "bicycle": 2}
    assert (made.users, made.duration_s) == (22, 300.0)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"counts": {"cars": 3}}, "did you mean 'car'"),
        ({"counts": {"car": -1}}, "must not be less than none"),
        ({"counts": {}}, "traffic of nobody"),
        ({"counts": {"car": 1}, "speed_factor": 0.0}, r"speed_factor 0\.0: must be above 0"),
        ({"counts": {"car": 1}, "speed_deviation": 1.5}, "must be from 0 to 1"),
    ],
)
def test_traffic_that_makes_no_sense_is_refused(asked, words):
    with pytest.raises(TraceError, match=words):
        Traffic(**asked)


def test_what_is_missing_or_fails_is_an_error_of_ours(town_net, given, tmp_path):
    with pytest.raises(DataNotFoundError, match="no such SUMO network"):
        simulate(tmp_path / "none.net.xml", MIXED, seed=1)
    with pytest.raises(DataNotFoundError, match="no such file of trips"):
        simulate(town_net, Traffic(trips=tmp_path / "none.xml"), seed=1)
    elsewhere = '<routes><trip id="a" depart="0" from="x" to="y"/></routes>'
    for text, words in (
        (elsewhere, "trip a: edge 'x' is not in"),
        ("<routes><trip", "cannot be read as SUMO's trips"),
        ('<routes><trip id="a" depart="soon"/></routes>', "duarouter: ended with .*meant for it"),
        ("<routes/>", "nobody set out"),
    ):
        given.write_text(text, encoding="utf-8")
        with pytest.raises(TraceError, match=words):
            simulate(town_net, Traffic(trips=given), seed=1)
    with pytest.raises(TraceError, match=r"within 0\.01 s, and was ended"):
        simulate(town_net, MIXED, seed=1, limit_s=0.01)
