import numpy as np
import pytest

from testbed.errors import MapError
from testbed.roads.load import load_road_map

ox = pytest.importorskip("osmnx")

# Two winding blocks; node 3 joins ways 1 and 2 end to end, node 9 is a dead end.
NODES = {
    1: (52.500, 13.400), 2: (52.5003, 13.403), 3: (52.500, 13.406), 4: (52.501, 13.409),
    5: (52.504, 13.409), 6: (52.504, 13.4045), 7: (52.5042, 13.400), 8: (52.502, 13.3995),
    9: (52.506, 13.4045), 10: (52.502, 13.4052),
}  # fmt: skip
WAYS = {
    101: ([1, 2, 3], {"highway": "primary", "name": "Süd", "maxspeed": "50"}),
    102: ([3, 4, 5], {"highway": "residential", "oneway": "yes"}),
    103: ([5, 6, 7], {"highway": "secondary", "name": "Nord", "oneway": "-1"}),
    104: ([7, 8, 1], {"highway": "residential", "maxspeed": "30 mph"}),
    105: ([3, 10, 6], {"highway": "tertiary"}),
    106: ([6, 9], {"highway": "service", "access": "destination"}),
}


@pytest.fixture
def osm_file(write_osm):
    return write_osm(NODES, WAYS)


def described(roads):
    """Each edge by its end nodes: name, class, street, limit, length and middle in degrees."""
    ids = roads.node_ids.tolist()
    x, y = roads.positions(np.arange(roads.edge_count), roads.length_m / 2)
    lat, lon = roads.projection.to_latlon(x, y)
    return {
        (ids[roads.tail[e]], ids[roads.head[e]]): (
            str(roads.edge_ids[e]), str(roads.road_class[e]), str(roads.street[e]),
            pytest.approx(float(roads.limit_mps[e])),
            pytest.approx(float(roads.length_m[e]), abs=0.01),
            pytest.approx(float(lat[e]), abs=1e-7), pytest.approx(float(lon[e]), abs=1e-7),
        )
        for e in range(roads.edge_count)
    }  # fmt: skip


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("ending", [".graphml", ".graphml.gz"])
def test_an_unsimplified_graph_is_the_map_that_it_was_made_of(
    osm_file, tmp_path, projected, ending
):
    graph = ox.graph_from_xml(osm_file, simplify=False)
    if projected:
        graph = ox.project_graph(graph)
    ox.save_graphml(graph, tmp_path / f"made{ending}")
    direct, again = load_road_map(osm_file), load_road_map(tmp_path / f"made{ending}")
    assert described(again) == described(direct)
    assert len(again.follower) == len(direct.follower)
    assert again.dropped == direct.dropped == {}


@pytest.mark.parametrize("projected", [False, True])
def test_a_graph_simplified_within_ways_is_the_map_that_it_was_made_of(
    osm_file, tmp_path, projected
):
    graph = ox.simplify_graph(
        ox.graph_from_xml(osm_file, simplify=False), edge_attrs_differ=["osmid"]
    )
    if projected:
        graph = ox.project_graph(graph)
    ox.save_graphml(graph, tmp_path / "made.graphml")
    assert described(load_road_map(tmp_path / "made.graphml")) == described(load_road_map(osm_file))


def test_a_simplified_graph_has_the_same_roads_with_merged_tags(osm_file, tmp_path):
    ox.save_graphml(ox.graph_from_xml(osm_file), tmp_path / "made.graphml")
    direct, merged = load_road_map(osm_file), load_road_map(tmp_path / "made.graphml")
    assert merged.length_m.sum() == pytest.approx(direct.length_m.sum(), abs=0.05)
    assert merged.edge_count < direct.edge_count
    by_ends = described(merged)
    osmid, road_class, _, limit, _, _, _ = by_ends[3, 7]  # ways 101 and 104, round node 1
    assert set(osmid.split(";")) == {"101", "104"}
    assert road_class == "primary"  # the more important of the two
    assert limit == pytest.approx(30 * 0.44704)  # the lower of the two
    for one in direct.length_m:
        assert merged.length_m.max() >= one - 0.01


def test_an_all_oneway_graph_keeps_the_directions_of_its_tags(osm_file, tmp_path, monkeypatch):
    monkeypatch.setattr(ox.settings, "all_oneway", True)
    ox.save_graphml(ox.graph_from_xml(osm_file, simplify=False), tmp_path / "made.graphml")
    assert described(load_road_map(tmp_path / "made.graphml")) == described(load_road_map(osm_file))


def test_the_same_rules_hold_for_graphs(write_osm, tmp_path):
    ways = WAYS | {
        107: ([1, 8], {"highway": "platform"}),
        108: ([2, 8], {"highway": "service", "access": "private"}),
        109: ([4, 6], {"highway": "footway"}),
    }
    path = write_osm(NODES, ways)
    ox.save_graphml(ox.graph_from_xml(path, simplify=False), tmp_path / "made.graphml")
    for mode in ("driving", "walking"):
        direct = load_road_map(path, mode=mode)
        again = load_road_map(tmp_path / "made.graphml", mode=mode)
        assert described(again) == described(direct)
        assert again.dropped.keys() == direct.dropped.keys()
    assert again.edge_count == 2 * 9  # everybody walks both ways on the nine pieces


def test_a_box_keeps_the_edges_of_a_graph_inside(osm_file, tmp_path):
    ox.save_graphml(ox.graph_from_xml(osm_file, simplify=False), tmp_path / "made.graphml")
    box = (13.3990, 52.4990, 13.4062, 52.5050)
    assert described(load_road_map(tmp_path / "made.graphml", box=box)) == described(
        load_road_map(osm_file, box=box)
    )


HEAD = (
    '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
    '<key id="x" for="node" attr.name="x" attr.type="string"/>'
    '<key id="y" for="node" attr.name="y" attr.type="string"/>'
    '<key id="g" for="edge" attr.name="geometry" attr.type="string"/>'
)


def node(name, x, y):
    return f'<node id="{name}"><data key="x">{x}</data><data key="y">{y}</data></node>'


GOOD = node("a", 13.4, 52.5) + node("b", 13.41, 52.5)
EDGE = '<edge source="a" target="b"/>'


def graph_of(inside, direction="directed"):
    return f'{HEAD}<graph edgedefault="{direction}">{inside}</graph></graphml>'


FAR = node("a", 388000, 5818000) + node("b", 388100, 5818000)
LINE = '<edge source="a" target="b"><data key="g">LINESTRING (1</data></edge>'


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        ("this is no graph", "cannot be read as GraphML"),
        (graph_of(GOOD + EDGE, "undirected"), "undirected"),
        (graph_of(GOOD + '<edge source="a" target="c"/>'), "c has no place"),
        (graph_of(GOOD + node("c", "east", 1) + EDGE), "'east' is no coordinate"),
        (graph_of(FAR + EDGE), "crs"),
        (graph_of(GOOD + LINE), "no WKT"),
    ],
)
def test_a_graph_that_is_no_map_says_why(tmp_path, graph, says):
    path = tmp_path / "made.graphml"
    path.write_text(graph, encoding="utf-8")
    with pytest.raises(MapError, match=says):
        load_road_map(path)


def test_a_plain_graph_with_names_for_nodes_is_a_map_too(tmp_path):
    path = tmp_path / "made.graphml"
    path.write_text(graph_of(GOOD + EDGE), encoding="utf-8")
    roads = load_road_map(path)
    assert roads.node_ids.tolist() == ["a", "b"]
    assert roads.road_class.tolist() == ["road"]
