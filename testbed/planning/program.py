"""Ngo's equation 3 as a mixed-integer program, solved by HiGHS or CBC through PuLP.

HiGHS runs inside this process. CBC, which the paper used, is a program of its own that PuLP brings
along and hands a file; its answer depends on nothing but that. With a time limit the answer may
also depend on how fast the machine is; without one the same fleet gives the same plan.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pulp

from testbed.errors import InfeasiblePlanError, PlanTimeoutError, ScenarioError
from testbed.planning.choices import Choices
from testbed.planning.fleet import RESOURCES
from testbed.planning.prices import Priced, price
from testbed.roads.arrays import Bools, Ints

SolverName = Literal["highs", "cbc"]
PROMISING = 4
"""Choices for each user in the first program."""
PROGRAMS = 3
"""How many programs `solve` may need; each has its share of the time."""
_SHOWN = 3
_HALF = 0.5


@dataclass(frozen=True)
class Solver:
    """How a program is solved.

    name : ``highs`` or ``cbc``. time_limit_s : when it gives up, seconds; ``None`` for never.
    gap : how much worse than the best a plan may be, as a share of the profit.
    """

    name: SolverName = "highs"
    time_limit_s: float | None = None
    gap: float = 0.0

    def engine(self) -> pulp.LpSolver:
        """The solver as PuLP has it.

        Raises
        ------
        ScenarioError
            If there is no solver of this name, or not on this machine.
        """
        limit_s = None if self.time_limit_s is None else self.time_limit_s / PROGRAMS
        settings = {"msg": False, "threads": 1, "timeLimit": limit_s, "gapRel": self.gap}
        if self.name == "highs":
            engine = pulp.HiGHS(**settings)
        elif self.name == "cbc":
            engine = pulp.COIN_CMD(path=pulp.PULP_CBC_CMD.pulp_cbc_path, **settings)
        else:
            raise ScenarioError(f"there is no solver {self.name!r}; there are highs and cbc")
        if not engine.available():
            raise ScenarioError(f"solver {self.name}: PuLP has none for this machine; use highs")
        return engine


@dataclass(frozen=True, eq=False)
class Solution:
    """What is chosen.

    rows : one row of the choices for each user, in their order. profit_s : of equation 3a, seconds.
    proven : whether no plan is better by more than the gap.
    """

    rows: Ints
    profit_s: float
    proven: bool


def build(choices: Choices, *, relaxed: bool = False) -> pulp.LpProblem:
    """The program of equations 3a, 3b, 3c and 3e; 3d is met by the choices.

    A constraint that cannot be broken, whoever comes, is left out.

    Parameters
    ----------
    choices : Choices
        Its variables, called ``z`` and the row.
    relaxed : bool
        Let each be any share from 0 to 1: its best is a bound on that of the whole.
    """
    fleet = choices.fleet
    category = pulp.LpContinuous if relaxed else pulp.LpBinary
    problem = pulp.LpProblem("placement", pulp.LpMaximize)
    z = [problem.add_variable(f"z{row}", 0, 1, category) for row in range(len(choices))]
    problem.setObjective(pulp.LpAffineExpression(zip(z, choices.profit_s.tolist(), strict=True)))
    users, stations = defaultdict(list), defaultdict(list)
    servers: dict[int, list[tuple[pulp.LpVariable, int]]] = defaultdict(list)
    for variable, user, station, server in zip(
        z,
        choices.user.tolist(),
        choices.base_station.tolist(),
        choices.server.tolist(),
        strict=True,
    ):
        users[user].append((variable, 1))
        stations[station].append((variable, 1))
        servers[server].append((variable, user))
    for user, terms in users.items():
        _limit(problem, f"one_place_u{user}", terms, 1, pulp.LpConstraintEQ)
    for station in np.flatnonzero(choices.tight_stations).tolist():
        most = fleet.base_stations[station].users_at_most
        _limit(problem, _station_row(station), stations[station], most)
    for server, resource in np.argwhere(choices.tight_resources).tolist():
        taken = choices.needs[:, resource].tolist()
        terms = [(variable, taken[user]) for variable, user in servers[server] if taken[user]]
        has = float(choices.capacity[server, resource])
        _limit(problem, _resource_row(server, resource), terms, has)
    return problem


def solve(choices: Choices, solver: Solver) -> Solution:
    """The best plan (equation 3a).

    Most choices are in no good plan. So the relaxed program is solved first; what is scarce in it
    has a price there, and the price tells which choices are promising. The best plan of these is
    the best of all, unless a choice that was left out could still be in a better one
    (`testbed.planning.prices`); then the program is solved again with all such choices.

    Raises
    ------
    InfeasiblePlanError
        If no plan meets all constraints; it says what is short, where one thing alone is.
    PlanTimeoutError
        If the time ran out before any plan was found.
    """
    if not choices.fleet.users:
        return Solution(np.empty(0, dtype=np.int64), 0.0, proven=True)
    _require_reached(choices)
    priced = _price(choices, solver)
    kept = priced.promising(PROMISING)
    try:
        solution = solve_at_once(choices, solver, kept)
    except InfeasiblePlanError:
        return solve_at_once(choices, solver)
    needed = priced.needed(solution.profit_s + _rounding_s(priced.bound_s))
    if not (needed & ~kept).any():
        return solution
    try:
        again = solve_at_once(choices, solver, kept | needed)
    except PlanTimeoutError:
        return replace(solution, proven=False)
    if again.proven or again.profit_s > solution.profit_s:
        return again
    return replace(solution, proven=False)


def solve_at_once(choices: Choices, solver: Solver, kept: Bools | None = None) -> Solution:
    """The best plan of some choices, or of all, as one program; raises as `solve` does."""
    some = choices if kept is None else choices.take(kept)
    _require_reached(some)
    problem = build(some)
    problem.solve(solver.engine())
    if problem.status == pulp.LpStatusInfeasible:
        raise InfeasiblePlanError(_shortage(choices))
    chosen = [v for v in problem.variables() if v.varValue is not None and v.varValue > _HALF]
    if len(chosen) != len(choices.fleet.users):
        raise PlanTimeoutError(_too_late(choices, solver))
    rows = np.sort(np.array([int(v.name[1:]) for v in chosen], dtype=np.int64))
    if kept is not None:
        rows = np.flatnonzero(kept)[rows]
    return Solution(
        rows=rows,
        profit_s=math.fsum(choices.profit_s[rows].tolist()),
        proven=problem.sol_status == pulp.LpSolutionOptimal,
    )


def relaxed_profit_s(choices: Choices) -> float:
    """What no plan can exceed: the best of the program with shares instead of choices, seconds."""
    _require_reached(choices)
    return _price(choices, Solver()).bound_s


def _price(choices: Choices, solver: Solver) -> Priced:
    """Solve the relaxed program and take its prices.

    They bound the profit whatever they are, so that nothing rests on their exactness.
    """
    problem = build(choices, relaxed=True)
    problem.solve(solver.engine())
    if problem.status == pulp.LpStatusInfeasible:
        raise InfeasiblePlanError(_shortage(choices))
    if problem.sol_status != pulp.LpSolutionOptimal:
        raise PlanTimeoutError(_too_late(choices, solver))
    prices = {row.name: abs(row.pi or 0.0) for row in problem.constraints()}
    resources = np.zeros_like(choices.capacity)
    for server, resource in np.argwhere(choices.tight_resources).tolist():
        resources[server, resource] = prices.get(_resource_row(server, resource), 0.0)
    stations = np.zeros(len(choices.fleet.base_stations))
    for station in np.flatnonzero(choices.tight_stations).tolist():
        stations[station] = prices.get(_station_row(station), 0.0)
    return price(choices, resources, stations)


def _rounding_s(profit_s: float) -> float:
    return 1e-9 * max(1.0, abs(profit_s))


def _resource_row(server: int, resource: int) -> str:
    return f"{RESOURCES[resource]}_s{server}"


def _station_row(station: int) -> str:
    return f"users_b{station}"


def _limit(
    problem: pulp.LpProblem,
    name: str,
    terms: Sequence[tuple[pulp.LpVariable, float]],
    limit: float,
    sense: int = pulp.LpConstraintLE,
) -> None:
    expression = pulp.LpAffineExpression(terms)
    problem.addConstraint(pulp.LpConstraint(expression, sense, name, limit))


def _require_reached(choices: Choices) -> None:
    """Raise where a user has no choice at all."""
    fleet = choices.fleet
    lost = sorted(set(range(len(fleet.users))) - set(choices.user.tolist()))
    if lost:
        names = ", ".join(fleet.users[user].name for user in lost[:_SHOWN])
        raise InfeasiblePlanError(
            f"equations 3b and 3d: {len(lost)} of {len(fleet.users)} users reach no base station "
            f"of at least {fleet.rates.lowest_dbm:g} dBm, now and then, with a way to a server: "
            f"{names}. Leave them out until they are heard"
        )


def _too_late(choices: Choices, solver: Solver) -> str:
    return (
        f"{solver.name} found no plan for {len(choices.fleet.users)} users and {len(choices)} "
        f"choices within {solver.time_limit_s} s; give it longer (time_limit_s), or a gap"
    )


def _shortage(choices: Choices) -> str:
    """Which constraint alone cannot be met; in general that is not to be told."""
    fleet = choices.fleet
    room = sum(station.users_at_most for station in fleet.base_stations)
    if room < len(fleet.users):
        return f"equation 3e: {len(fleet.users)} users, base stations for {room}; add some"
    for number, name in enumerate(RESOURCES):
        needed = float(choices.needs[:, number].sum())
        there = float(choices.capacity[:, number].sum())
        if needed > there:
            return f"equation 3c: {needed:g} {name} needed, {there:g} at all servers; add some"
    return (
        "equations 3b to 3e: there is room enough in all, but not where the users reach it, or not "
        "in the right pieces; add servers, paths or base stations near them"
    )
