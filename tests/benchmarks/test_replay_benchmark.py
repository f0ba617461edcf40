import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from replay import ALL, LIMITS_MS, PLANNERS, goals, measure, show

from testbed.experiment.replay import Cargo
from testbed.experiment.world import World
from testbed.geography import MapSource
from testbed.mobility.trace import make_trace
from testbed.movement import SumoTrip
from testbed.scenario import read_scenario

CARGOS = {"large": Cargo(100e6), "small": Cargo(10e6)}
SCENARIO = Path(__file__).parents[2] / "data" / "scenarios" / "msmf.yml"


def straight(user, fixes):
    """Right through Berlin's cells, one fix a second."""
    lat, lon = np.linspace(52.4287, 52.4365, fixes), np.linspace(13.5205, 13.5420, fixes)
    return make_trace(user, np.arange(fixes, dtype=float), lat, lon)


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """The benchmark's scenario, in Berlin, with two short ways."""
    scenario = read_scenario(SCENARIO)
    users = {
        name: user.model_copy(update={"trace": SumoTrip(source="sumo"), "skip": 0.0})
        for name, user in scenario.users.items()
    }
    changes = {"map": MapSource(source="berlin"), "users": users, "duration": None}
    world = World.load(scenario.model_copy(update=changes), tmp_path_factory.mktemp("cache"))
    ways = [(user, straight(user, fixes)) for user, fixes in (("slow", 240), ("fast", 120))]
    return measure(world, ways, CARGOS)


def test_every_planner_goes_every_way_with_every_cargo(sums):
    tolerant = sums[sums["limit_ms"] == LIMITS_MS[-1]]
    assert len(tolerant) == len(CARGOS) * 2 * len(PLANNERS)
    assert set(sums["planner"]) == set(PLANNERS)
    assert all(len(set(part)) == 1 for _, part in sums.groupby("group")["handovers"])
    assert (sums[sums["planner"] == "nearest"]["less"] == 0).all()


def test_where_only_the_local_tier_is_quick_enough_tiers_change_nothing(sums):
    strict = sums[sums["limit_ms"] == LIMITS_MS[0]].set_index(["group", "planner"])
    for group in ("slow", "fast"):
        low, flat = strict.loc[(group, "pm-tier")], strict.loc[(group, "pm")]
        assert low["sent_bytes"] == flat["sent_bytes"]


def test_the_table_has_a_line_for_each(sums):
    text = show("Berlin", sums)
    assert text.count("pm-op-tier") == len(sums[sums["planner"] == "pm-op-tier"])


def test_the_claim_is_about_all_ways_together():
    sums = pd.DataFrame(
        {
            "group": ["walk", "walk", ALL, ALL],
            "planner": ["nearest", "pm-tier", "nearest", "pm-tier"],
            "less": [0.0, 0.5, 0.0, 0.66],
            "cargo": "large",
            "limit_ms": LIMITS_MS[-1],
        }
    )
    of_walks, of_all = goals(sums)
    assert (of_walks["goal"], of_walks["met"], of_walks["value"]) == (None, None, 50.0)
    assert (of_all["goal"], of_all["met"], of_all["value"]) == (65.0, True, 66.0)
