import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from small_fleet import FAIR, GOOD, WEAK, fleet, fleets, user

from testbed.errors import ScenarioError
from testbed.planning import orchestrated
from testbed.planning.baselines import Cloud, NearestServer, RandomServer
from testbed.planning.checks import violations
from testbed.planning.fleet import BaseStation, FleetPlan, Heard, Placement, Resources, Server
from testbed.planning.fleet_planner import (
    GROUP,
    Settings,
    fleet_planner_names,
    make_fleet_planner,
)
from testbed.planning.orchestrated import Orchestrated
from testbed.planning.planner import Plan
from testbed.planning.program import Solution, Solver


def given_settings(seed=1, **known):
    return Settings(np.random.default_rng(seed), **known)


def places(plan):
    return {name: (p.base_station, p.server) for name, p in plan.placements.items()}


def test_the_cloud_planner_leaves_everything_in_the_cloud():
    plan = Cloud(given_settings()).plan(fleet(user("u"), user("v", serving="bs-b")))
    assert places(plan) == {"u": ("bs-a", "cloud"), "v": ("bs-b", "cloud")}


def test_the_cloud_planner_needs_a_cloud():
    with pytest.raises(ScenarioError, match="cloud"):
        Cloud(given_settings()).plan(fleet(servers=(Server("a"),)))


@pytest.mark.parametrize("planner", [RandomServer, NearestServer])
def test_without_a_handover_nobody_moves(planner):
    plan = planner(given_settings()).plan(fleet(user("u", x_m=100.0, y_m=0.0)))
    assert places(plan) == {"u": ("bs-a", "a")}


def test_nearest_goes_to_the_nearest_server_once_handed_over():
    # 70 m from a, 30 m from b; the cloud stands nowhere
    plan = NearestServer(given_settings()).plan(fleet(user(serving="bs-b", x_m=70.0, y_m=0.0)))
    assert places(plan) == {"u": ("bs-b", "b")}
    assert plan["u"].reason == "30 m away"


def test_random_draws_from_the_generator_it_was_given():
    of = fleet(*(user(f"u{n}", serving="bs-b") for n in range(60)))
    first, again, other = (RandomServer(given_settings(seed)).plan(of) for seed in (1, 1, 2))
    assert places(first) == places(again) != places(other)
    assert {server for _, server in places(first).values()} == {"a", "b", "cloud"}
    assert {station for station, _ in places(first).values()} == {"bs-b"}


def test_orchestrated_moves_service_and_radio_together():
    plan = Orchestrated(given_settings()).plan(fleet(user()))
    assert places(plan) == {"u": ("bs-b", "b")}
    assert plan.outcome == "optimal"
    assert plan.profit_s == pytest.approx(0.3)
    assert plan["u"].plan == Plan("b", "bs-b", "", plan["u"].reason)
    assert plan["u"].reason == ("delay 220 ms, gain 0.80 s over its tasks, 500 ms without service")


def test_orchestrated_weighs_downtime_as_it_is_told():
    plan = Orchestrated(given_settings(weight=2.0)).plan(fleet(user()))
    assert places(plan) == {"u": ("bs-a", "a")}


def test_without_a_feasible_plan_the_last_one_stays():
    last = FleetPlan({"u": Placement("u", "bs-b", "b", "the best")}, "optimal")
    of = fleet(user("u"), user("new"), stations=(BaseStation("bs-a", 0), BaseStation("bs-b", 1)))
    plan = Orchestrated(given_settings()).plan(of, last)
    assert plan.outcome == "kept"
    assert "3e: 2 users, base stations for 1" in plan.reason
    assert plan["u"] == last["u"]
    assert (plan["new"].base_station, plan["new"].server) == ("bs-a", "a")


def test_without_any_plan_everybody_stays():
    lost = {"bs-a": Heard(WEAK, WEAK)}
    plan = Orchestrated(given_settings()).plan(fleet(user(heard=lost)))
    assert (plan.outcome, places(plan)) == ("kept", {"u": ("bs-a", "a")})


def test_a_user_that_has_gone_is_not_kept():
    last = FleetPlan({"gone": Placement("gone", "bs-b", "b")})
    plan = Orchestrated(given_settings()).plan(fleet(user(heard={"x": Heard(FAIR, FAIR)})), last)
    assert set(plan.placements) == {"u"}


def test_when_the_time_is_up_the_last_plan_stays():
    last = FleetPlan({"u": Placement("u", "bs-b", "cloud")}, "optimal")
    hurried = given_settings(solver=Solver(time_limit_s=0.0))
    servers = (Server("a", capacity=Resources()), Server("b"), Server("cloud", cloud=True))
    of = fleet(*(user(f"u{n}", needs=Resources(1.0)) for n in range(3)), user(), servers=servers)
    plan = Orchestrated(hurried).plan(of, last)
    assert plan.outcome == "kept"
    assert "within 0.0 s" in plan.reason
    assert plan["u"] == last["u"]


def test_a_plan_that_may_not_be_the_best_says_so(monkeypatch):
    monkeypatch.setattr(
        orchestrated, "solve", lambda *_: Solution(np.array([0]), 0.0, proven=False)
    )
    plan = Orchestrated(given_settings(solver=Solver(time_limit_s=1.0))).plan(fleet(user()))
    assert plan.outcome == "feasible"
    assert "within 1.0 s" in plan.reason


def test_other_errors_are_not_taken_for_a_lack_of_plans(monkeypatch):
    def broken(*_):
        raise KeyError("a fault of ours")

    monkeypatch.setattr(orchestrated, "solve", broken)
    with pytest.raises(KeyError):
        Orchestrated(given_settings()).plan(fleet(user()))


@settings(max_examples=40)
@given(of=fleets(feasible=True))
def test_an_optimal_plan_meets_all_constraints_and_is_the_same_again(of):
    planner = Orchestrated(given_settings())
    plan = planner.plan(of)
    assert plan.outcome == "optimal"
    assert violations(of, plan) == []
    assert places(planner.plan(of)) == places(plan)


def test_violations_name_what_is_broken():
    small = Server("b", capacity=Resources(cores=1.0, memory_mb=100.0))
    of = fleet(
        *(user(name, needs=Resources(1.0, 60.0)) for name in "uvw"),
        user("far", heard={"bs-a": Heard(GOOD, WEAK)}),
        stations=(BaseStation("bs-a", 1), BaseStation("bs-b", 1)),
        servers=(Server("a"), small),
    )
    plan = FleetPlan({n: Placement(n, "bs-b", "b") for n in "uv"})
    plan = FleetPlan({**plan.placements, "far": Placement("far", "bs-a", "a")})
    assert violations(of, plan) == [
        "3b: w has no place",
        "3c: b has 1 cores, 2 are needed",
        "3c: b has 100 memory_mb, 120 are needed",
        "3d: far does not hear bs-a well enough",
        "3e: bs-b serves 1, 2 are to come",
    ]


def test_every_planner_is_found_by_its_name():
    assert {"cloud", "nearest", "orchestrated", "random"} <= set(fleet_planner_names())
    for name in ("cloud", "nearest", "orchestrated", "random"):
        planner = make_fleet_planner(name, given_settings())
        assert set(planner.plan(fleet(user())).placements) == {"u"}


def test_an_unknown_planner_is_answered_with_the_nearest():
    with pytest.raises(ScenarioError, match="did you mean 'orchestrated'"):
        make_fleet_planner("orchestrate", given_settings())


def test_the_project_names_the_planners_that_there_are():
    project = Path(__file__).parents[2] / "pyproject.toml"
    named = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"][GROUP]
    loaded = {name: EntryPoint(name, value, GROUP).load() for name, value in named.items()}
    assert loaded == {
        "cloud": Cloud,
        "nearest": NearestServer,
        "orchestrated": Orchestrated,
        "random": RandomServer,
    }


def test_the_planner_in_the_documentation_plans():
    page = Path(__file__).parents[2] / "docs" / "extending.md"
    blocks = page.read_text(encoding="utf-8").split("```python\n")[1:]
    (source,) = (block.split("```")[0] for block in blocks if "class Strongest" in block)
    assert len(source.splitlines()) < 30
    module = {"__name__": "strongest"}
    exec(source, module)  # noqa: S102 - our own page
    plan = module["Strongest"](given_settings()).plan(fleet(user()))
    assert places(plan) == {"u": ("bs-b", "a")}
