import pytest

from testbed.errors import ModelError
from testbed.prediction.turn_counts import TurnCounts
from testbed.prediction.turns import TurnModel


def test_straight_on_is_likelier_than_turning_and_turning_round_is_rare(grid, edge_named):
    turns = dict(TurnModel(grid).turns(edge_named("201-202")))
    ahead, left, back = (edge_named(f"202-{node}") for node in ("203", "302", "201"))
    assert sum(turns.values()) == pytest.approx(1.0)
    assert turns[ahead] > 2 * turns[left]
    assert turns[back] < 0.03
    assert TurnModel(grid).angle_deg(edge_named("201-202"), left) == pytest.approx(90.0, abs=0.5)


def test_a_road_driven_before_is_less_likely(grid, edge_named):
    model = TurnModel(grid)
    plain = dict(model.turns(edge_named("201-202")))
    again = dict(model.turns(edge_named("201-202"), (edge_named("302-202"),)))
    assert again[edge_named("202-302")] < plain[edge_named("202-302")]
    assert sum(again.values()) == pytest.approx(1.0)


def test_turns_seen_count_beside_what_geometry_lets_expect(grid, edge_named):
    edge, left = edge_named("201-202"), edge_named("202-302")
    prior = dict(TurnModel(grid).turns(edge))[left]
    seen = TurnCounts.fit(
        [(edge, left)] * 6, roads="grid", edge_count=grid.edge_count, strength=4.0
    )
    shares = dict(TurnModel(grid, counts=seen).turns(edge))
    assert shares[left] == pytest.approx((6 + 4 * prior) / 10)
    assert sum(shares.values()) == pytest.approx(1.0)


def test_the_flat_shares_are_those_of_each_edge(grid):
    model = TurnModel(grid)
    for edge in range(grid.edge_count):
        here = slice(grid.follower_start[edge], grid.follower_start[edge + 1])
        assert model.shares[here].tolist() == [share for _, share in model.turns(edge)]


def test_turn_counts_survive_storing_and_are_refused_on_another_map(grid, berlin):
    counts = TurnCounts.fit([(1, 2, 3), (1, 2)], roads="grid", edge_count=grid.edge_count)
    assert TurnCounts.from_json(counts.to_json()) == counts
    assert counts.counts[1, 2] == 2
    with pytest.raises(ModelError, match="counted on grid"):
        TurnModel(berlin, counts=counts)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "site history", "turns": []}'])
def test_what_is_no_turn_counts_is_refused(text):
    with pytest.raises(ModelError, match="turn counts"):
        TurnCounts.from_json(text)
