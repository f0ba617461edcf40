import numpy as np
import pytest

from testbed.errors import MapError
from testbed.roads.load import load_road_map
from testbed.roads.modes import MODES, direction, why_left_out

NODES = {1: (52.50, 13.40), 2: (52.50, 13.41), 3: (52.51, 13.41), 4: (52.51, 13.40)}
PRIMARY = {"highway": "primary"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "road_class",
    ["platform", "construction", "proposed", "abandoned", "corridor", "raceway", "elevator", "x"],
)
def test_what_is_no_road_is_left_out_for_everybody(mode, road_class):
    assert why_left_out({"highway": road_class}, mode) == f"highway={road_class}"


@pytest.mark.parametrize(
    ("tags", "open_to"),
    [
        ({"highway": "motorway"}, {"driving"}),
        ({"highway": "residential"}, {"driving", "cycling", "walking"}),
        ({"highway": "footway"}, {"walking"}),
        ({"highway": "footway", "bicycle": "designated"}, {"walking", "cycling"}),
        ({"highway": "steps"}, {"walking"}),
        ({"highway": "cycleway"}, {"cycling"}),
        ({"highway": "cycleway", "foot": "yes"}, {"cycling", "walking"}),
        ({"highway": "path"}, {"cycling", "walking"}),
        ({"highway": "service", "access": "private"}, set()),
        ({"highway": "service", "access": "no", "foot": "yes"}, {"walking"}),
        ({"highway": "service", "access": "no", "bus": "yes"}, {"driving"}),
        ({"highway": "service", "motor_vehicle": "no"}, {"cycling", "walking"}),
        ({"highway": "service", "vehicle": "no", "motorcar": "yes"}, {"driving", "walking"}),
        ({"highway": "service", "service": "parking_aisle"}, {"cycling", "walking"}),
        ({"highway": "service", "service": "driveway"}, {"driving", "cycling", "walking"}),
        ({"highway": "pedestrian", "area": "yes"}, set()),
        ({"highway": "residential", "bicycle": "use_sidepath"}, {"driving", "walking"}),
    ],
)
def test_the_table_says_who_may_use_a_way(tags, open_to):
    assert {mode for mode in MODES if why_left_out(tags, mode) is None} == open_to


@pytest.mark.parametrize(
    ("tags", "driving", "cycling", "walking"),
    [
        ({}, 0, 0, 0),
        ({"oneway": "yes"}, 1, 1, 0),
        ({"oneway": "-1"}, -1, -1, 0),
        ({"oneway": "yes", "oneway:bicycle": "no"}, 1, 0, 0),
        ({"oneway": "yes", "cycleway:left": "opposite_lane"}, 1, 0, 0),
        ({"junction": "roundabout"}, 1, 1, 0),
        ({"junction": "roundabout", "oneway": "no"}, 0, 0, 0),
        ({"oneway:foot": "yes"}, 0, 0, 1),
    ],
)
def test_each_mode_has_its_own_one_way_streets(tags, driving, cycling, walking):
    tags = {"highway": "residential", **tags}
    assert [direction(tags, mode) for mode in MODES] == [driving, cycling, walking]


def test_a_map_is_read_for_its_mode_and_says_what_it_left_out(write_osm, tmp_path):
    ways = {
        1: ([1, 2], PRIMARY | {"oneway": "yes"}),
        2: ([2, 3], {"highway": "footway"}),
        3: ([3, 4], {"highway": "residential", "access": "private"}),
        4: ([4, 1], {"highway": "service", "service": "parking_aisle"}),
    }
    path, cache = write_osm(NODES, ways), tmp_path / "cache"
    for _ in range(2):  # the second time from the cache
        driving = load_road_map(path, cache=cache)
        walking = load_road_map(path, mode="walking", cache=cache)
        assert (driving.mode, walking.mode) == ("driving", "walking")
        assert (driving.edge_count, walking.edge_count) == (1, 6)
        assert driving.dropped == {
            "highway=footway": 1, "closed to driving": 1, "service=parking_aisle": 1,
        }  # fmt: skip
        assert walking.dropped == {"closed to walking": 1}
    np.testing.assert_allclose(walking.limit_mps, 5 / 3.6)
    with pytest.raises(MapError, match="driving, cycling, walking"):
        load_road_map(path, mode="flying")


def test_pedestrians_of_a_sumo_net_walk_both_ways():
    walking = load_road_map("berlin", mode="walking")
    assert walking.edge_count > 2 * 500
    assert (walking.opposite >= 0).mean() > 0.9
    assert walking.limit_mps.max() <= 5 / 3.6 + 1e-9


# A crossing: west (1), south (2), east (3) and north (4) of the middle (5).
CROSSING = {
    1: (52.500, 13.399), 2: (52.499, 13.400), 3: (52.500, 13.401), 4: (52.501, 13.400),
    5: (52.500, 13.400),
}  # fmt: skip
ARMS = {10 + arm: ([arm, 5], PRIMARY) for arm in (1, 2, 3, 4)}


def relation(kind, come_from, go_to, key="restriction", **tags):
    members = [("way", come_from, "from"), ("node", 5, "via"), ("way", go_to, "to")]
    return members, {"type": "restriction", key: kind, **tags}


def turns_from_the_west(roads):
    """Arms that may be driven into when coming from the west."""
    ids = roads.node_ids.tolist()
    (arriving,) = [
        e for e in range(roads.edge_count) if (ids[roads.tail[e]], ids[roads.head[e]]) == (1, 5)
    ]
    return {ids[roads.head[after]] for after in roads.followers(arriving)}


@pytest.mark.parametrize(
    ("relations", "allowed"),
    [
        ([], {1, 2, 3, 4}),
        ([relation("no_left_turn", 11, 14)], {1, 2, 3}),
        ([relation("no_right_turn", 11, 12), relation("no_left_turn", 11, 14)], {1, 3}),
        ([relation("no_u_turn", 11, 11)], {2, 3, 4}),
        ([relation("only_straight_on", 11, 13)], {3}),
        ([relation("no_left_turn", 12, 11)], {1, 2, 3, 4}),
        ([relation("no_left_turn", 11, 14, **{"except": "bus;motorcar"})], {1, 2, 3, 4}),
        ([relation("no_left_turn", 11, 14, **{"except": "psv"})], {1, 2, 3}),
        ([relation("no_left_turn", 11, 14, key="restriction:motorcar")], {1, 2, 3}),
        ([relation("no_left_turn", 11, 14, key="restriction:hgv")], {1, 2, 3, 4}),
        ([relation("only_right_turn", 11, 99)], {1, 2, 3, 4}),
    ],
)
def test_turn_restrictions_are_honoured(write_osm, relations, allowed):
    roads = load_road_map(write_osm(CROSSING, ARMS, relations))
    assert turns_from_the_west(roads) == allowed
    assert roads.closed_turns == 4 - len(allowed) + (relations[:1] == [NOT_OURS])


NOT_OURS = relation("no_left_turn", 12, 11)


def test_cyclists_and_walkers_have_their_own_restrictions(write_osm):
    bicycles_too = relation("no_left_turn", 11, 14)
    not_bicycles = relation("no_right_turn", 11, 12, **{"except": "bicycle"})
    path = write_osm(CROSSING, ARMS, [bicycles_too, not_bicycles])
    assert turns_from_the_west(load_road_map(path, mode="cycling")) == {1, 2, 3}
    assert turns_from_the_west(load_road_map(path, mode="walking")) == {1, 2, 3, 4}


def test_restrictions_that_cannot_be_honoured_are_counted(write_osm):
    by_road = ([("way", 11, "from"), ("way", 12, "via"), ("way", 13, "to")],
               {"type": "restriction", "restriction": "no_u_turn"})  # fmt: skip
    relations = [
        relation("no_left_turn @ (07:00-09:00)", 11, 14, key="restriction:conditional"),
        relation("no_left_turn", 11, 14, hour_on="07:00"),
        by_road,
        relation("give_way", 11, 14),
        relation("no_left_turn", 11, 99),
        ([("way", 11, "from"), ("node", 5, "via")],
         {"type": "restriction", "restriction": "no_exit"}),
    ]  # fmt: skip
    roads = load_road_map(write_osm(CROSSING, ARMS, relations))
    assert turns_from_the_west(roads) == {1, 2, 3, 4}
    assert roads.dropped == {
        "turn restrictions at certain hours": 2,
        "turn restrictions by way of a road": 1,
        "turn restrictions not understood": 2,
        "turn restrictions on roads left out": 1,
    }
