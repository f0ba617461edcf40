import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from planning import Found, greedy, json_rows, measure, table
from planning_fleet import draw_fleet
from small_fleet import fleet, user

from testbed.planning.choices import reachable_choices
from testbed.planning.fleet import BaseStation, Resources, Server


@pytest.fixture(scope="module")
def ways():
    return measure(draw_fleet(3, 12, 6, 4, room=1.1))


def test_the_same_seed_draws_the_same_fleet():
    one, again, other = (draw_fleet(seed, 12, 6, 4, room=1.1) for seed in (3, 3, 4))
    assert (one.users, one.servers, one.links) == (again.users, again.servers, again.links)
    assert one.users != other.users


def test_every_way_is_measured_and_none_is_above_the_bound(ways):
    names = ["highs", "highs, at once", "cbc", "cbc, at once", "greedy", "nearest"]
    assert [way.how for way in ways] == names
    assert all(way.took_s > 0 for way in ways)
    assert all(way.profit_s <= way.bound_s + 1e-6 or math.isnan(way.profit_s) for way in ways)
    assert [way.broken for way in ways[:4]] == [0, 0, 0, 0]
    assert all(way.busy_s >= 0 for way in ways)


def test_greedy_takes_what_is_left_in_turn():
    needs = Resources(cores=1.0)
    servers = (Server("a", 1000.0), Server("b", 1000.0, needs), Server("cloud", 2000.0, cloud=True))
    of = fleet(user("u", needs=needs), user("v", tasks=42.5, needs=needs), servers=servers)
    # The first takes the only core at b for its 0.3; the second goes with its radio only: 42.5
    # tasks lose 20 ms each, so it stays for 0. The other way round there would be 2.9.
    assert greedy(reachable_choices(of)) == pytest.approx(0.3)


def test_greedy_that_finds_no_place_says_so():
    of = fleet(user("u"), user("v"), stations=(BaseStation("bs-a", 1), BaseStation("bs-b", 0)))
    assert greedy(reachable_choices(of)) is None


def test_rows_say_whether_the_slowest_fleet_met_the_goal(ways):
    slow = [replace(way, took_s=1.5) if way.how == "highs" else way for way in ways]
    rows = {row["name"]: row for row in json_rows({1.1: [ways, ways, slow]})}
    keys = {"name", "value", "unit", "peer", "ratio", "goal", "met"}
    assert all(set(row) == keys for row in rows.values())
    judged = {name.rsplit(", ", 1)[-1]: row["met"] for name, row in rows.items() if row["goal"]}
    assert judged == {"median of 3": True, "slowest of 3": False}


def test_the_table_has_a_line_for_every_way(ways):
    none = [
        Found("greedy", 0.1, 0.1, 5, math.nan, 1.0, 1) if w.how == "greedy" else w for w in ways
    ]
    lines = table({1.1: [none]}).splitlines()
    assert len(lines) == 2 + len(ways)
    assert max(map(len, lines)) <= 110
