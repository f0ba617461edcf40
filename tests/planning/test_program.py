import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleet import GOOD, WEAK, every_plan, fleet, fleets, ngo_links, user

from testbed.errors import InfeasiblePlanError, PlanTimeoutError, ScenarioError
from testbed.planning import program
from testbed.planning.checks import violations
from testbed.planning.choices import reachable_choices, without_dominated
from testbed.planning.fleet import (
    BaseStation,
    Fleet,
    FleetPlan,
    Heard,
    Placement,
    Resources,
    Server,
)
from testbed.planning.prices import price
from testbed.planning.program import Solver, build, relaxed_profit_s, solve, solve_at_once

SOLVERS = ("highs", "cbc")
CORE = Resources(cores=1.0)


def placed(choices, solution):
    fleet_ = choices.fleet
    return {
        fleet_.users[choices.user[row]].name: (
            fleet_.base_stations[choices.base_station[row]].name,
            fleet_.servers[choices.server[row]].name,
        )
        for row in solution.rows
    }


def plan_of(choices, solution):
    return FleetPlan(
        {name: Placement(name, *place) for name, place in placed(choices, solution).items()}
    )


def best_by_trying(of):
    """Greatest profit of all plans that meet the constraints, or ``None``."""
    choices = reachable_choices(of)
    worth = {
        (of.users[u].name, of.base_stations[b].name, of.servers[s].name): float(profit)
        for u, b, s, profit in zip(
            choices.user, choices.base_station, choices.server, choices.profit_s, strict=True
        )
    }
    profits = [
        math.fsum(worth[u, p.base_station, p.server] for u, p in plan.placements.items())
        for plan in every_plan(of)
        if all((u, p.base_station, p.server) in worth for u, p in plan.placements.items())
    ]
    return max(profits, default=None)


def crowd(count, *, cores=1.0, places=10, seed=1, most_needed=1):
    """Users with different numbers of tasks, all of whom would like to be at server b."""
    chance = np.random.default_rng(seed)
    tasks = chance.uniform(1, 50, count)
    needs = chance.integers(1, most_needed, count, endpoint=True)
    users = [
        user(f"u{n}", tasks=float(tasks[n]), needs=Resources(cores=float(needs[n])))
        for n in range(count)
    ]
    servers = (
        Server("a", 1000.0, Resources(cores=math.inf)),
        Server("b", 1000.0, Resources(cores=cores)),
        Server("cloud", 2000.0, cloud=True),
    )
    return fleet(*users, servers=servers, stations=places)


@pytest.mark.parametrize("name", SOLVERS)
def test_one_user_goes_where_its_profit_is_greatest(name):
    choices = reachable_choices(fleet(user()))
    found = solve(choices, Solver(name))
    # Ten tasks gain 0.08 s each, less 0.5 s without service: 0.3; to stay is worth 0
    assert placed(choices, found) == {"u": ("bs-b", "b")}
    assert found.profit_s == pytest.approx(0.3)
    assert found.proven


@pytest.mark.parametrize("name", SOLVERS)
def test_a_user_with_few_tasks_stays(name):
    choices = reachable_choices(fleet(user(tasks=5.0)))
    found = solve(choices, Solver(name))
    assert placed(choices, found) == {"u": ("bs-a", "a")}  # 5 * 0.08 - 0.5 < 0
    assert found.profit_s == 0.0


@pytest.mark.parametrize("name", SOLVERS)
def test_scarce_room_goes_to_who_gains_most(name):
    choices = reachable_choices(crowd(4, cores=2.0))
    found = placed(choices, solve(choices, Solver(name)))
    most = sorted(choices.fleet.users, key=lambda u: u.work.tasks)[-2:]
    assert {u for u, (_, server) in found.items() if server == "b"} == {u.name for u in most}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_base_station_serves_no_more_than_it_can(name):
    of = fleet(*(user(f"u{n}") for n in range(3)), stations=2)
    choices = reachable_choices(of)
    assert violations(of, plan_of(choices, solve(choices, Solver(name)))) == []


@settings(max_examples=60)
@given(of=st.one_of(fleets(), fleets(feasible=True)))
def test_highs_and_trying_everything_find_the_same_profit(of):
    best = best_by_trying(of)
    for choices in (reachable_choices(of), without_dominated(reachable_choices(of))):
        if best is None:
            with pytest.raises(InfeasiblePlanError):
                solve(choices, Solver())
            continue
        found = solve(choices, Solver())
        assert found.proven
        assert found.profit_s == pytest.approx(best, abs=1e-6)
        assert violations(of, plan_of(choices, found)) == []


@settings(max_examples=15)
@given(of=fleets(feasible=True))
def test_cbc_and_trying_everything_find_the_same_profit(of):
    best = best_by_trying(of)
    choices = without_dominated(reachable_choices(of))
    assert solve(choices, Solver("cbc")).profit_s == pytest.approx(best, abs=1e-6)


@settings(max_examples=30)
@given(
    count=st.integers(10, 30),
    cores=st.integers(0, 40),
    promising=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_a_part_of_the_choices_gives_the_best_of_all(count, cores, promising, seed):
    of = crowd(count, cores=float(cores), places=count, seed=seed, most_needed=9)
    choices = reachable_choices(of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "PROMISING", promising)
        found = solve(choices, Solver())
    assert found.proven
    assert found.profit_s == pytest.approx(solve_at_once(choices, Solver()).profit_s, abs=1e-6)
    assert violations(of, plan_of(choices, found)) == []


def knapsack(tasks, cores, has):
    """Users who would all like to be at b, where not all fit."""
    of = crowd(len(tasks), cores=has)
    users = tuple(
        user(f"u{n}", tasks=t, needs=Resources(cores=c))
        for n, (t, c) in enumerate(zip(tasks, cores, strict=True))
    )
    return replace(of, users=users)


def test_a_choice_that_did_not_look_promising_is_not_forgotten(monkeypatch):
    # At b the three are worth 6.7, 5.0 and 4.9: (90, 68.75, 67.5 tasks of 0.08 s, less 0.5 s).
    # Ten cores hold the last two, 9.9, rather than the first, 6.7, though that is worth most for
    # each of its six cores.
    of = knapsack((90.0, 68.75, 67.5), (6.0, 5.0, 5.0), 10.0)
    choices = reachable_choices(of)
    programs = []
    solved = program.solve_at_once

    def counted(choices, solver, kept=None):
        programs.append(int(kept.sum()))
        return solved(choices, solver, kept)

    monkeypatch.setattr(program, "PROMISING", 1)
    monkeypatch.setattr(program, "solve_at_once", counted)
    found = solve(choices, Solver())
    assert len(programs) == 2
    assert programs[0] < programs[1] < len(choices)
    assert found.profit_s == pytest.approx(9.9)
    assert found.proven


def test_the_relaxed_bound_by_hand():
    # The first fills six of the ten cores with 6.7, the second four fifths of its five with 4.0
    of = knapsack((90.0, 68.75, 67.5), (6.0, 5.0, 5.0), 10.0)
    assert relaxed_profit_s(reachable_choices(of)) == pytest.approx(6.7 + 4.0)


def test_both_solvers_agree_on_a_crowd():
    choices = without_dominated(reachable_choices(crowd(60, cores=17.0, places=40)))
    one, other = (solve(choices, Solver(name)).profit_s for name in SOLVERS)
    assert one == pytest.approx(other, abs=1e-6)
    assert one <= relaxed_profit_s(choices) + 1e-6


@settings(max_examples=50)
@given(of=fleets(feasible=True), dear=st.floats(0, 10), full=st.floats(0, 10))
def test_no_plan_exceeds_a_bound_whatever_the_prices(of, dear, full):
    best = best_by_trying(of)
    choices = reachable_choices(of)
    found = price(choices, choices.tight_resources * dear, choices.tight_stations * full)
    assert found.bound_s >= best - 1e-6
    assert found.given_up_s.min() == pytest.approx(0.0)


def test_a_bound_by_hand():
    # Two users want b, which has one core. Worth there 0.3 and 2.9 (0.8 and 3.4 gained, 0.5 lost).
    # At a price of 0.3 for it the first one gets 0 by staying or by going, the second 2.6, and the
    # core is worth 0.3: no plan has more than 2.9.
    of = crowd(2)
    of = replace(of, users=(user("u", tasks=10.0, needs=CORE), user("v", tasks=42.5, needs=CORE)))
    choices = reachable_choices(of)
    prices = np.zeros_like(choices.capacity)
    prices[1, 0] = 0.3
    found = price(choices, prices, np.zeros(2))
    assert found.bound_s == pytest.approx(2.9)
    assert solve(choices, Solver()).profit_s == pytest.approx(2.9)
    # Who is at a now: to stay gives up nothing, to go to the cloud by bs-b gains -1.2, less 0.5
    rows = dict(zip(itertools.product(("bs-a", "bs-b"), "abc"), found.given_up_s[:6], strict=True))
    assert rows["bs-a", "a"] == pytest.approx(0.0)
    assert rows["bs-b", "b"] == pytest.approx(0.0)
    assert rows["bs-b", "c"] == pytest.approx(1.7)


def test_constraints_that_cannot_be_broken_are_left_out():
    problem = build(reachable_choices(fleet(user("u"), user("v"))))
    assert [row.name for row in problem.constraints()] == ["one_place_u0", "one_place_u1"]
    names = {row.name for row in build(reachable_choices(crowd(3, places=2))).constraints()}
    assert {"users_b0", "users_b1", "cores_s1"} <= names
    assert "cores_s0" not in names


def test_nobody_needs_no_plan():
    nobody = Fleet((), fleet().base_stations, fleet().servers, ngo_links(), fleet().rates)
    assert solve(reachable_choices(nobody), Solver()).profit_s == 0.0


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(
    ("of", "said"),
    [
        (fleet(user("far", heard={"bs-a": Heard(WEAK, GOOD)})), "3b and 3d.*far.*Leave them out"),
        (fleet(user("u"), user("v"), user("w"), stations=1), "3e: 3 users, base stations for 2"),
        (
            fleet(user("u", needs=CORE), servers=(Server("a", 1.0, Resources(cores=0.5)),)),
            "3c: 1 cores needed, 0.5",
        ),
        (
            fleet(
                user("u", heard={"bs-a": Heard(GOOD, GOOD)}),
                user("v", heard={"bs-a": Heard(GOOD, GOOD)}),
                stations=(BaseStation("bs-a", 1), BaseStation("bs-b", 9)),
            ),
            "room enough in all, but",
        ),
    ],
)
def test_what_cannot_be_says_why(name, of, said):
    with pytest.raises(InfeasiblePlanError, match=said):
        solve(reachable_choices(of), Solver(name))


@pytest.mark.parametrize("name", SOLVERS)
def test_no_time_gives_no_plan_and_says_so(name):
    choices = reachable_choices(crowd(60, cores=17.0, places=40))
    with pytest.raises(PlanTimeoutError, match=f"{name} found no plan for 60 users"):
        solve(choices, Solver(name, time_limit_s=0.0))


def test_an_unknown_solver_is_refused():
    with pytest.raises(ScenarioError, match="highs and cbc"):
        Solver("gurobi").engine()
