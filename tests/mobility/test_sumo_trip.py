import subprocess

import pytest

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.sumo import trip as sumo
from testbed.mobility.sumo.trip import drive_trip
from testbed.mobility.trace import duration_s, length_m
from testbed.roads.load import find_road_map
from testbed.roads.matching.offline import match_trace

NET = find_road_map("berlin")


@pytest.fixture(scope="module")
def drive(berlin, trips):
    return drive_trip(
        NET,
        seed=7,
        minimum_distance_m=1500.0,
        on_edges=frozenset(berlin.edge_ids.tolist()),
        cache=trips,
    )


def test_a_trip_is_as_long_as_asked_and_lies_on_the_map(berlin, drive):
    assert drive.distance_m >= 1500.0
    assert 0.85 * drive.distance_m < length_m(drive.trace) < 1.3 * drive.distance_m
    assert drive.trace["time_s"].iloc[0] == 0.0
    assert set(drive.route) <= set(berlin.edge_ids.tolist())
    assert len(drive.edge) == len(drive.pos_m) == len(drive.trace)
    assert "seed 7" in drive.report(7).source


def test_the_same_seed_gives_the_same_trip_from_cache_and_anew(berlin, drive, trips, tmp_path):
    on_edges = frozenset(berlin.edge_ids.tolist())
    ask = {"seed": 7, "minimum_distance_m": 1500.0, "on_edges": on_edges}
    before = sorted(path.name for path in trips.iterdir())
    cached = drive_trip(NET, **ask, cache=trips)
    anew = drive_trip(NET, **ask)
    for other in (cached, anew):
        assert other.trace.equals(drive.trace)
        assert other.route == drive.route
    assert sorted(path.name for path in trips.iterdir()) == before


def test_the_driven_route_is_found_again_on_the_road_map(berlin, drive):
    found = match_trace(berlin, drive.trace)
    (route,) = found.routes
    ids = [str(berlin.edge_ids[edge]) for edge in route]
    assert found.matched_share == 1.0
    assert "|".join(drive.route[2:-2]) in "|".join(ids)


def test_a_faster_driver_arrives_sooner(berlin, drive, trips):
    faster = drive_trip(
        NET,
        seed=7,
        minimum_distance_m=1500.0,
        speed_factor=2.0,
        on_edges=frozenset(berlin.edge_ids.tolist()),
        cache=trips,
    )
    assert faster.route == drive.route
    assert duration_s(faster.trace) < 0.8 * duration_s(drive.trace)


def test_fcd_as_xml_gives_the_same_trace(berlin, drive, monkeypatch):
    monkeypatch.setattr(sumo, "writes_parquet", lambda _: False)
    plain = drive_trip(
        NET, seed=7, minimum_distance_m=1500.0, on_edges=frozenset(berlin.edge_ids.tolist())
    )
    assert plain.edge == drive.edge
    for column in ("time_s", "lat_deg", "lon_deg"):
        assert plain.trace[column].to_numpy() == pytest.approx(
            drive.trace[column].to_numpy(), abs=2e-7
        )


def test_no_trip_of_that_length_is_an_error_with_a_remedy(berlin):
    with pytest.raises(TraceError, match="smaller minimum_distance"):
        drive_trip(NET, seed=1, minimum_distance_m=3000.0, on_edges=frozenset({"none"}))


def test_a_missing_or_broken_network_is_an_error_of_ours(tmp_path):
    with pytest.raises(DataNotFoundError, match="no such SUMO network"):
        drive_trip(tmp_path / "none.net.xml", seed=1, minimum_distance_m=10.0)
    broken = tmp_path / "broken.net.xml"
    broken.write_text("<net>", encoding="utf-8")
    with pytest.raises(
        TraceError, match=r"randomTrips\.py: ended with .*(?:\n.*)*Is the network whole"
    ):
        drive_trip(broken, seed=1, minimum_distance_m=10.0)


def test_a_program_that_hangs_is_ended(monkeypatch, tmp_path):
    def hang(command, **_):
        raise subprocess.TimeoutExpired(command, 1.0)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(TraceError, match=r"randomTrips\.py: could not be run to its end within"):
        drive_trip(NET, seed=1, minimum_distance_m=10.0)
