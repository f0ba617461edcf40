import pytest
from made_geolife import plt_line

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.load import load_trace
from testbed.roads.network import RoadMap
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


def test_sumo_cannot_drive_on_a_map_that_is_no_net(berlin, tmp_path):
    (tmp_path / "town.osm").write_text("<osm/>", encoding="utf-8")
    made = scenario(SUMO)
    made = made.model_copy(update={"map": made.map.model_copy(update={"source": "town.osm"})})
    assert isinstance(berlin, RoadMap)
    with pytest.raises(TraceError, match=r"netconvert --osm-files town\.osm"):
        load(made, berlin, None, [tmp_path])
