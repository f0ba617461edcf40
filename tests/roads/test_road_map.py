import gzip
import math

import numpy as np
import pytest

from testbed.errors import DataNotFoundError, MapError
from testbed.roads.load import load_road_map

OSM = """<?xml version='1.0' encoding='UTF-8'?>
<osm version="0.6" generator="by hand">
 <node id="10" version="1" lat="52.5000" lon="13.4000"/>
 <node id="11" version="1" lat="52.5000" lon="13.4010"/>
 <node id="12" version="1" lat="52.5000" lon="13.4020"/>
 <node id="13" version="1" lat="52.5000" lon="13.4030"/>
 <node id="21" version="1" lat="52.5010" lon="13.4020"/>
 <node id="31" version="1" lat="52.6000" lon="13.5000"/>
 <node id="32" version="1" lat="52.6010" lon="13.5000"/>
 <way id="1" version="1"><nd ref="10"/><nd ref="11"/><nd ref="12"/><nd ref="13"/>
  <tag k="highway" v="primary"/><tag k="name" v="Allee &lt;1&gt;"/>
  <tag k="maxspeed" v="30 mph"/></way>
 <way id="2" version="1"><nd ref="12"/><nd ref="21"/>
  <tag k="highway" v="residential"/><tag k="oneway" v="-1"/></way>
 <way id="3" version="1"><nd ref="10"/><nd ref="21"/><tag k="highway" v="platform"/></way>
 <way id="4" version="1"><nd ref="31"/><nd ref="32"/><tag k="highway" v="service"/></way>
 <way id="5" version="1"><nd ref="13"/><nd ref="21"/><tag k="highway" v="motorway"/></way>
 <way id="6" version="1"><nd ref="13"/><nd ref="10"/><tag k="building" v="yes"/></way>
</osm>
"""


@pytest.fixture
def osm_file(tmp_path):
    path = tmp_path / "small.osm"
    path.write_text(OSM, encoding="utf-8")
    return path


def edges_of(roads):
    ids = roads.node_ids.tolist()
    return sorted(
        (ids[a], ids[b]) for a, b in zip(roads.tail.tolist(), roads.head.tolist(), strict=True)
    )


def test_ways_are_split_at_shared_nodes_and_one_way_streets_go_one_way(osm_file):
    roads = load_road_map(osm_file)
    assert edges_of(roads) == [(10, 12), (12, 10), (12, 13), (13, 12), (13, 21), (21, 12)]


def test_what_is_left_out_is_counted(osm_file):
    assert load_road_map(osm_file).dropped == {
        "highway=platform": 1,
        "edges outside the largest connected part": 2,
    }


def test_a_tagged_speed_counts_and_a_class_has_its_usual_one(osm_file):
    roads = load_road_map(osm_file)
    by_class = dict(zip(roads.road_class.tolist(), roads.limit_mps.tolist(), strict=True))
    assert by_class["primary"] == pytest.approx(13.41, abs=0.01)
    assert by_class["residential"] == pytest.approx(30 / 3.6)


def test_compressed_osm_is_the_same_map(osm_file, tmp_path):
    packed = tmp_path / "small.osm.gz"
    packed.write_bytes(gzip.compress(osm_file.read_bytes()))
    assert edges_of(load_road_map(packed)) == edges_of(load_road_map(osm_file))


def test_a_box_keeps_only_the_roads_inside(osm_file):
    roads = load_road_map(osm_file, box=(13.3999, 52.4999, 13.4021, 52.5001))
    assert edges_of(roads) == [(10, 12), (12, 10)]


def test_a_missing_map_names_where_it_was_looked_for(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"nowhere\.pbf.*berlin"):
        load_road_map("nowhere.pbf", data_paths=[tmp_path])


def test_a_broken_map_is_an_error_of_ours(tmp_path):
    for name in ("a.osm", "b.pbf", "c.osm.gz", "d.net.xml"):
        path = tmp_path / name
        path.write_bytes(b"this is no map")
        with pytest.raises(MapError, match=name):
            load_road_map(path)


def test_a_map_of_unknown_kind_names_the_known_ones(tmp_path):
    path = tmp_path / "map.shp"
    path.write_bytes(b"")
    with pytest.raises(MapError, match=r"\.pbf"):
        load_road_map(path)


def test_a_map_without_roads_says_so(osm_file):
    with pytest.raises(MapError, match="no usable road"):
        load_road_map(osm_file, box=(0.0, 0.0, 1.0, 1.0))
    with pytest.raises(MapError, match="west must be less"):
        load_road_map(osm_file, box=(2.0, 0.0, 1.0, 1.0))


def test_a_sumo_net_without_projection_is_refused(tmp_path):
    path = tmp_path / "plain.net.xml"
    path.write_text(
        '<net version="1.20"><location netOffset="0.00,0.00" convBoundary="0,0,1,1" '
        'origBoundary="0,0,1,1" projParameter="!"/></net>',
        encoding="utf-8",
    )
    with pytest.raises(MapError, match=r"proj\.utm"):
        load_road_map(path)


def test_the_cached_map_is_the_same_and_a_damaged_cache_is_remade(osm_file, tmp_path):
    cache = tmp_path / "cache"
    first = load_road_map(osm_file, cache=cache)
    (stored,) = cache.iterdir()
    again = load_road_map(osm_file, cache=cache)
    stored.write_bytes(b"damaged")
    remade = load_road_map(osm_file, cache=cache)
    for roads in (again, remade):
        assert edges_of(roads) == edges_of(first)
        assert roads.dropped == first.dropped
        np.testing.assert_array_equal(roads.point_x_m, first.point_x_m)
        np.testing.assert_array_equal(roads.street, first.street)
    osm_file.write_text(OSM.replace('v="platform"', 'v="service"'), encoding="utf-8")
    assert load_road_map(osm_file, cache=cache).edge_count == first.edge_count + 2
    assert len(list(cache.iterdir())) == 2


def test_lengths_and_positions_are_metres_on_the_ground(grid, edge_named):
    east, north = edge_named("0-1"), edge_named("0-100")
    assert grid.length_m[north] == pytest.approx(0.0018 * 111_268, rel=2e-3)
    assert grid.heading_deg(east, 10.0) == pytest.approx(90.0, abs=0.1)
    assert grid.heading_deg(north, 10.0) == pytest.approx(0.0, abs=0.1) or grid.heading_deg(
        north, 10.0
    ) == pytest.approx(360.0, abs=0.1)
    x, y = grid.positions([east, east, east], [-5.0, 100.0, 1e9])
    start, end = grid.position(east, 0.0), grid.position(east, grid.length_m[east])
    assert (x[0], y[0]) == pytest.approx(start)
    assert (x[2], y[2]) == pytest.approx(end)
    assert math.dist(start, (x[1], y[1])) == pytest.approx(100.0)


def test_an_offset_beyond_a_bend_lies_behind_the_bend(osm_file):
    roads = load_road_map(osm_file)
    for edge in range(roads.edge_count):
        x, y = roads.polyline(edge)
        along = roads.point_along_m[roads.point_start[edge] : roads.point_start[edge + 1]]
        px, py = roads.positions(np.full(len(along), edge), along)
        np.testing.assert_allclose(px, x, atol=1e-6)
        np.testing.assert_allclose(py, y, atol=1e-6)


def test_followers_and_opposites_fit_the_network(grid, edge_named):
    edge = edge_named("202-203")
    assert sorted(grid.edge_ids[grid.followers(edge)].tolist()) == [
        "203-103",
        "203-202",
        "203-204",
        "203-303",
    ]
    assert grid.edge_ids[grid.opposite[edge]] == "203-202"
    assert set(grid.out_edges(grid.head[edge]).tolist()) == set(grid.followers(edge).tolist())


def test_degrees_and_metres_are_inverse_to_each_other(grid):
    x, y = grid.projection.to_xy([52.5, 52.51], [13.4, 13.41])
    lat, lon = grid.projection.to_latlon(x, y)
    np.testing.assert_allclose(lat, [52.5, 52.51], atol=1e-9)
    np.testing.assert_allclose(lon, [13.4, 13.41], atol=1e-9)


def test_the_summary_escapes_what_the_map_says(osm_file):
    roads = load_road_map(osm_file)
    assert "Roads of small.osm" in roads._repr_html_()
    assert "platform 1" in roads._repr_html_()


def test_berlin_has_roads_turns_and_geometry(berlin):
    assert berlin.edge_count > 600
    assert berlin.length_m.min() > 0
    assert (np.diff(berlin.follower_start) > 0).mean() > 0.95
    for edge in range(0, berlin.edge_count, 37):
        for after in berlin.followers(edge):
            end = berlin.position(edge, berlin.length_m[edge])
            assert math.dist(end, berlin.position(int(after), 0.0)) < 1.0


def test_beijing_keeps_the_ids_of_openstreetmap(beijing):
    assert beijing.edge_count > 50_000
    assert beijing.node_ids.dtype == np.int64
    assert 2**31 < beijing.node_ids.max() <= 2_302_083_763
    assert beijing.dropped["highway=platform"] == 1690
