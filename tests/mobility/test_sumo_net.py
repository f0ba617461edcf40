import gzip
import shutil

import numpy as np
import osmium
import pytest
import sumolib
from made_town import LAT, LON, PLATFORM, SITE, STEP_LAT, STEP_LON

from testbed.errors import DataNotFoundError, MapError
from testbed.mobility.sumo.net import build_net, edge_lengths_m, net_to_degrees
from testbed.roads.load import load_road_map


def ways_of(net):
    return {edge.lstrip("-").split("#")[0] for edge in edge_lengths_m(net) if edge[0] != ":"}


def test_a_net_has_the_roads_of_the_map_and_no_platforms_or_building_sites(town_net):
    ways = ways_of(town_net)
    assert ways <= {str(n) for n in (*range(100, 105), *range(200, 205))}
    assert not ways & {str(PLATFORM), str(SITE)}
    assert "pedestrian" in town_net.read_text(encoding="utf-8")


def test_net_and_road_map_agree_on_speeds(town_osm, town_net):
    net, roads = load_road_map(town_net), load_road_map(town_osm)
    for roads_of in (net, roads):
        limits = dict(zip(roads_of.road_class.tolist(), roads_of.limit_mps.tolist(), strict=True))
        assert limits["residential"] == pytest.approx(30 / 3.6, abs=0.01)
        assert limits["secondary"] == pytest.approx(50 / 3.6, abs=0.01)


def test_every_osm_format_gives_the_same_roads(town_osm, town_net, nets, tmp_path):
    packed, binary = tmp_path / "town.osm.gz", tmp_path / "town.osm.pbf"
    with town_osm.open("rb") as plain, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(plain, target)
    with osmium.SimpleWriter(str(binary)) as writer:
        for entity in osmium.FileProcessor(str(town_osm)):
            writer.add(entity)
    lengths = edge_lengths_m(town_net)
    for source in (packed, binary):
        assert edge_lengths_m(build_net(source, nets)) == lengths


def test_a_net_is_made_once_and_a_net_is_given_back_as_it_is(town_osm, town_net, nets):
    made_at = town_net.stat().st_mtime_ns
    assert build_net(town_osm, nets) == town_net
    assert town_net.stat().st_mtime_ns == made_at
    assert build_net(town_net, nets) == town_net


def test_a_box_keeps_the_roads_that_touch_it(town_osm, nets):
    west, south = LON - STEP_LON / 2, LAT - STEP_LAT / 2
    net = build_net(town_osm, nets, box=(west, south, west + STEP_LON * 2, south + STEP_LAT * 2))
    assert ways_of(net) == {"100", "101", "200", "201"}


def test_coordinates_of_a_net_become_degrees(town_net):
    net = sumolib.net.readNet(str(town_net))
    x, y = np.array([node.getCoord() for node in net.getNodes()]).T
    lat, lon = net_to_degrees(town_net, x, y)
    for found_lat, found_lon, at_x, at_y in zip(lat, lon, x, y, strict=True):
        assert net.convertXY2LonLat(at_x, at_y) == pytest.approx((found_lon, found_lat), abs=1e-7)
    assert lat.min() == pytest.approx(LAT, abs=1e-4)
    assert lon.min() == pytest.approx(LON, abs=1e-4)


def test_what_cannot_become_a_net_says_why(town_osm, nets, tmp_path):
    with pytest.raises(DataNotFoundError, match="no such file"):
        build_net(tmp_path / "none.osm", nets)
    other = tmp_path / "town.shp"
    other.write_text("x", encoding="utf-8")
    with pytest.raises(MapError, match="unknown kind of map"):
        build_net(other, nets)
    broken = tmp_path / "broken.osm"
    broken.write_text("<osm><node", encoding="utf-8")
    with pytest.raises(MapError, match="cannot be read as OpenStreetMap data"):
        build_net(broken, nets)
    with pytest.raises(MapError, match="holds no road in the box"):
        build_net(town_osm, nets, box=(0.0, 0.0, 1.0, 1.0))
    with pytest.raises(MapError, match="west must be less than east"):
        build_net(town_osm, nets, box=(1.0, 0.0, 0.0, 1.0))
    assert not list(nets.glob("testbed-net-*"))
