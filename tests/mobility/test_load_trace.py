import pytest
from made_geolife import plt_line

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.load import load_trace
from testbed.roads.load import load_road_map
from testbed.roads.matching.offline import match_trace
from testbed.scenario import Scenario

SUMO = {"source": "sumo", "minimum_distance": "1500 m"}


def scenario(trace, **user):
    return Scenario.model_validate(
        {
            "name": "made",
            "seed": 7,
            "map": {"source": "berlin"},
            "hosts": {
                "one": {"role": "server", "tier": "local"},
                "two": {"role": "server", "tier": "local"},
                "bs": {"role": "base-station"},
                "car": {"role": "user"},
            },
            "links": [{"between": [one, "*"]} for one in ("car", "bs", "one")],
            "services": {"counter": {"kind": "simple"}},
            "users": {"alice": {"host": "car", "service": "counter", "trace": trace, **user}},
        }
    )


def load(made, roads, cache=None, data_paths=()):
    return load_trace(made.users["alice"], made, roads, cache, data_paths)


def test_a_sumo_trip_becomes_a_trace_of_the_scenarios_user(berlin, trips):
    trace, report = load(scenario(SUMO), berlin, trips)
    assert set(trace["user"]) == {"alice"}
    assert trace["time_s"].iloc[0] == 0.0
    assert report.fixes == len(trace)
    assert "SUMO trip" in report._repr_html_()


def test_what_is_skipped_is_counted_and_time_begins_after_it(berlin, trips):
    whole, _ = load(scenario(SUMO), berlin, trips)
    rest, report = load(scenario(SUMO, skip="20 s"), berlin, trips)
    assert rest["time_s"].iloc[0] == 0.0
    assert len(rest) == len(whole) - 20
    assert report.dropped["skipped at the start"] == 20
    assert rest["lat_deg"].iloc[0] == whole["lat_deg"].iloc[20]
    with pytest.raises(TraceError, match=r"users\.alice\.skip"):
        load(scenario(SUMO, skip="2 h"), berlin, trips)


def test_long_idle_stretches_are_reported_and_not_removed(berlin, geolife):
    lat, lon = berlin.projection.lat_deg, berlin.projection.lon_deg
    lines = [plt_line(t, lat + t * 1e-4, lon) for t in range(15)]
    lines += [plt_line(15 + 10 * t, lat + 14e-4, lon) for t in range(20)]
    lines += [plt_line(220 + t, lat + 15e-4 - t * 1e-4, lon) for t in range(15)]
    geolife.write("a", lines)
    track = {"source": "geolife", "user": "042", "skip_idle": "100 s"}
    trace, report = load(scenario(track), berlin, None, geolife.data_paths)
    assert len(trace) == 50
    ((begin_s, length_s),) = report.idle
    assert begin_s == pytest.approx(13.0, abs=2.0)
    assert length_s == pytest.approx(198.0, abs=8.0)
    assert f"{length_s:.0f} s at" in report._repr_html_()


def test_a_trace_that_is_not_there_says_what_to_do(berlin, tmp_path):
    track = {"source": "geolife", "user": "042"}
    with pytest.raises(DataNotFoundError, match="TESTBED_DATA"):
        load(scenario(track), berlin, None, [tmp_path])


def test_sumo_drives_on_a_net_made_of_an_osm_map(town_osm, tmp_path):
    roads = load_road_map(town_osm)
    made = scenario({"source": "sumo", "minimum_distance": "300 m"}, skip="2 s")
    made = made.model_copy(update={"map": made.map.model_copy(update={"source": str(town_osm)})})
    trace, report = load(made, roads, tmp_path / "cache")
    assert "SUMO trip" in report.source
    matched = match_trace(roads, trace)
    assert matched.matched_share == 1.0
    assert [file.name[:4] for file in sorted((tmp_path / "cache").iterdir())] == ["net-", "trip"]


def test_several_users_may_take_trips_of_their_own(berlin, trips):
    usual, _ = load(scenario(SUMO), berlin, trips)
    other, report = load(scenario({**SUMO, "seed": 8}), berlin, trips)
    assert "seed 8" in report.source
    assert not usual["lat_deg"].equals(other["lat_deg"])


ON_THE_MAP = {"lat": 52.4300, "lon": 13.5250}
MADE = {
    "round-trip": {"start": ON_THE_MAP, "end": {"lat": 52.4360, "lon": 13.5400}},
    "random-waypoint": {},
    "random-walk": {},
}


@pytest.mark.parametrize("source", MADE)
def test_a_made_trace_lasts_as_long_as_asked_and_stays_on_the_map(berlin, source):
    made = scenario({"source": source, **MADE[source], "duration": "200 s", "step": "500 ms"})
    trace, report = load(made, berlin)
    assert (len(trace), trace["time_s"].iloc[-1]) == (401, 200.0)
    assert set(trace["user"]) == {"alice"}
    assert report.fixes == 401
    west, south, east, north = berlin.box_deg
    assert trace["lat_deg"].between(south, north).all()
    assert trace["lon_deg"].between(west, east).all()
    again, _ = load(made, berlin)
    assert trace.equals(again)


def test_a_made_trace_without_a_duration_lasts_the_scenario_s_after_what_is_skipped(berlin):
    made = scenario({"source": "random-waypoint"}, skip="30 s")
    made = made.model_copy(update={"duration": 90.0})
    trace, _ = load(made, berlin)
    assert (trace["time_s"].iloc[0], trace["time_s"].iloc[-1]) == (0.0, 90.0)


def test_a_user_more_changes_nothing_for_the_others(berlin):
    alone = scenario({"source": "random-walk", "duration": "300 s"})
    bob = alone.users["alice"].model_copy(update={"host": "bike", "service": "other"})
    both = alone.model_copy(update={"users": {"bob": bob, **alone.users}})
    bobs, _ = load_trace(bob, both, berlin, None)
    alices, _ = load(both, berlin)
    assert alices.equals(load(alone, berlin)[0])
    assert not bobs["lat_deg"].equals(alices["lat_deg"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"end": {"lat": 13.5, "lon": 52.4}}, r"the end at 13\.5, 52\.4 is far off the map"),
        ({"end": {"lat": 52.4500, "lon": 13.53}}, r"has no road of berlin within 200 m"),
        ({"end": ON_THE_MAP}, r"at the same place"),
    ],
)
def test_a_round_trip_that_cannot_be_made_names_the_user(berlin, changed, words):
    trip = {"source": "round-trip", **MADE["round-trip"], **changed}
    with pytest.raises(TraceError, match=rf"users\.alice\.trace: .*{words}"):
        load(scenario(trip), berlin)
