"""A plan for everybody: how fast it is, how good, and what simpler ways give away.

Fleets of 200 users, 40 base stations and 20 servers (19 at base stations, one in the cloud) are
drawn: base stations on a grid, each user near some of them and on its way elsewhere, with one of
Ngo's three services (Table I) at a server drawn for it. Links are Ngo's (V.A): 100 Mbit/s and 50 ms
from one edge to the next, 75 Mbit/s and 150 ms to the cloud. Edges have room for all containers
and some per cent more, base stations for one and a half times their share of users.

Timed is all from the fleet to the plan: estimates, reachability, building and solving. Every fleet
is planned by HiGHS and by CBC, each as the planner does it and as one program with all choices that
are reached; whoever finds another profit than the others ends the benchmark. Beside them stand the
relaxed program, which no plan exceeds, a greedy plan (each user in turn takes the best that is
left) and the nearest server. Goals are judged by the clock; where other work shares the processors,
"busy" says what the planner itself took.

    .venv/bin/python benchmarks/planning.py [--quick] [--json FILE]
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from planning_fleet import draw_fleet
from report import row

from testbed.measurement.summary import render
from testbed.planning.baselines import NearestServer
from testbed.planning.checks import violations
from testbed.planning.choices import Choices, reachable_choices, without_dominated
from testbed.planning.fleet import Fleet, FleetPlan
from testbed.planning.fleet_planner import Settings
from testbed.planning.orchestrated import Orchestrated
from testbed.planning.program import Solver, SolverName, relaxed_profit_s, solve_at_once

T = TypeVar("T")

USERS, STATIONS, SERVERS = 200, 40, 20
ROOM = (1.02, 1.3)
"""Room at the edges, as a multiple of what all containers need."""
GOAL_MS = 1_000.0
SAME_S = 1e-5
"""Profits that differ by less are the same: the solvers' own tolerance, over all users."""
HEADERS = (
    "room",
    "fleets",
    "how",
    "ms (range)",
    "busy ms",
    "choices",
    "profit s",
    "of bound",
    "breaks",
)


@dataclass(frozen=True)
class Found:
    """One plan: how it was made, how long it took, what it is worth.

    busy_s : of processors, all programs together. choices : how many were looked at. broken :
    constraints it breaks.
    """

    how: str
    took_s: float
    busy_s: float
    choices: int
    profit_s: float
    bound_s: float
    broken: int


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """What comes of some work, how long it took, and how long processors were busy, seconds."""
    start_s, before = time.perf_counter(), os.times()
    result = work()
    took_s, after = time.perf_counter() - start_s, os.times()
    return result, took_s, sum(after[:4]) - sum(before[:4])


def planned(fleet: Fleet, solver: SolverName) -> FleetPlan:
    """What the orchestrated planner does."""
    planner = Orchestrated(Settings(np.random.default_rng(0), Solver(solver)))
    plan = planner.plan(fleet)
    if plan.outcome != "optimal":
        raise SystemExit(f"{solver}: {plan.outcome}: {plan.reason}")
    return plan


def at_once(fleet: Fleet, solver: SolverName) -> tuple[float, int]:
    """Profit by one program with all choices that are reached, and how many these are."""
    choices = reachable_choices(fleet)
    return solve_at_once(choices, Solver(solver)).profit_s, len(choices)


def greedy(choices: Choices) -> float | None:
    """Profit where each user in turn takes the best that has room, ``None`` if one finds none."""
    left = choices.capacity.copy()
    places = [station.users_at_most for station in choices.fleet.base_stations]
    profit_s = 0.0
    for user in range(len(choices.fleet.users)):
        rows = np.flatnonzero(choices.user == user)
        for at in rows[np.argsort(-choices.profit_s[rows], kind="stable")].tolist():
            server, station = int(choices.server[at]), int(choices.base_station[at])
            if places[station] > 0 and (choices.needs[user] <= left[server]).all():
                places[station] -= 1
                left[server] -= choices.needs[user]
                profit_s += float(choices.profit_s[at])
                break
        else:
            return None
    return profit_s


def worth(choices: Choices, plan: FleetPlan) -> float:
    """Profit of a plan over what can be reached."""
    fleet = choices.fleet
    profit_s = {
        (fleet.users[u].name, fleet.base_stations[b].name, fleet.servers[s].name): float(value)
        for u, b, s, value in zip(
            choices.user, choices.base_station, choices.server, choices.profit_s, strict=True
        )
    }
    places = ((p.user, p.base_station, p.server) for p in plan.placements.values())
    return math.fsum(profit_s.get(place, math.nan) for place in places)


def measure(fleet: Fleet) -> list[Found]:
    """Every way to plan one fleet; each is given a fresh one, about which nothing is known yet."""
    choices = reachable_choices(fleet)
    bound_s = relaxed_profit_s(choices)
    kept = len(without_dominated(choices))
    found = []

    def fresh() -> Fleet:
        return dataclasses.replace(fleet)

    solvers: tuple[SolverName, ...] = ("highs", "cbc")
    for solver in solvers:
        plan, took_s, busy_s = timed(partial(planned, fresh(), solver))
        broken = len(violations(fleet, plan))
        found.append(Found(solver, took_s, busy_s, kept, plan.profit_s, bound_s, broken))
        (profit_s, count), took_s, busy_s = timed(partial(at_once, fresh(), solver))
        found.append(Found(f"{solver}, at once", took_s, busy_s, count, profit_s, bound_s, 0))
    profits = [f.profit_s for f in found]
    if max(profits) - min(profits) > SAME_S or max(profits) > bound_s + SAME_S:
        raise SystemExit(f"not the same profit, or above the bound of {bound_s}: {profits}")
    unplanned = fresh()
    taken_s, took_s, busy_s = timed(lambda: greedy(reachable_choices(unplanned)))
    failed, profit_s = taken_s is None, math.nan if taken_s is None else taken_s
    found.append(Found("greedy", took_s, busy_s, len(choices), profit_s, bound_s, int(failed)))
    planner = NearestServer(Settings(np.random.default_rng(0)))
    nearest, took_s, busy_s = timed(partial(planner.plan, fresh()))
    broken = len(violations(fleet, nearest))
    found.append(Found("nearest", took_s, busy_s, USERS, worth(choices, nearest), bound_s, broken))
    return found


def table(results: dict[float, list[list[Found]]]) -> str:
    """Medians over the fleets, way by way."""
    rows = []
    for room, fleets in results.items():
        for ways in zip(*fleets, strict=True):
            took_ms = [way.took_s * 1e3 for way in ways]
            rows.append((
                f"{room - 1:.0%} more" if ways[0].how == "highs" else "",
                str(len(ways)) if ways[0].how == "highs" else "",
                ways[0].how,
                f"{statistics.median(took_ms):.0f} ({min(took_ms):.0f}-{max(took_ms):.0f})",
                _median([way.busy_s * 1e3 for way in ways], "{:.0f}"),
                f"{statistics.median(way.choices for way in ways):,.0f}",
                _median([way.profit_s for way in ways], "{:,.2f}"),
                _median([way.profit_s / way.bound_s for way in ways], "{:.3%}"),
                f"{statistics.median(way.broken for way in ways):.0f}",
            ))  # fmt: skip
    return render(HEADERS, rows, right=range(3, len(HEADERS)), width=110)


def _median(values: Sequence[float], shown: str) -> str:
    known = [value for value in values if not math.isnan(value)]
    return shown.format(statistics.median(known)) if known else "-"


def json_rows(results: dict[float, list[list[Found]]]) -> list[dict[str, Any]]:
    """One row for each number; the goal is the planner's, for the slowest of all fleets."""
    rows = []
    size = f"{USERS} users x {STATIONS} base stations x {SERVERS} servers"
    for room, fleets in results.items():
        ways = {way[0].how: way for way in zip(*fleets, strict=True)}
        what = f"{size}, {room - 1:.0%} more room than needed"
        median_ms = {n: statistics.median(w.took_s for w in way) * 1e3 for n, way in ways.items()}
        for name in ("highs", "cbc", "highs, at once", "cbc, at once"):
            peer = {"highs": "cbc", "cbc": "highs"}.get(name, name.split(",")[0])
            ours = name == "highs"
            for which, value in (
                ("median", median_ms[name]),
                ("slowest", max(way.took_s for way in ways[name]) * 1e3),
            ):
                rows.append(
                    row(
                        f"{what}: from fleet to plan, {name}, {which} of {len(fleets)}",
                        value,
                        "ms",
                        peer=f"{peer}: {median_ms[peer]:.0f}" if which == "median" else None,
                        ratio=median_ms[peer] / value if which == "median" else math.nan,
                        goal=GOAL_MS if ours else None,
                        met=value < GOAL_MS,
                    )
                )
            busy_ms = statistics.median(way.busy_s for way in ways[name]) * 1e3
            busy = f"{what}: processors busy, {name}, median of {len(fleets)}"
            rows.append(row(busy, busy_ms, "ms", peer=None))
        for name in ("highs", "greedy", "nearest"):
            shares = [
                way.profit_s / way.bound_s * 100
                for way in ways[name]
                if not math.isnan(way.profit_s)
            ]
            rows.append(
                row(
                    f"{what}: profit, {name}, share of the relaxed bound, median of {len(shares)}",
                    statistics.median(shares) if shares else math.nan,
                    "%",
                    peer="relaxed program: 100",
                )
            )
        broken = statistics.median(way.broken for way in ways["nearest"])
        rows.append(
            row(
                f"{what}: constraints that nearest breaks, median",
                broken,
                "number",
                peer="highs: 0",
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 fleets of each kind instead of 10")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    options = parser.parse_args()
    planned(draw_fleet(0, 20, 10, 5, room=2.0), "highs")  # Whatever is loaded once is loaded now.
    results = {
        room: [
            measure(draw_fleet(seed, USERS, STATIONS, SERVERS, room=room))
            for seed in range(3 if options.quick else 10)
        ]
        for room in ROOM
    }
    rows = json_rows(results)
    print(table(results))
    judged = [r for r in rows if r["met"] is not None]
    print(f"\n{sum(r['met'] for r in judged)} of {len(judged)} goals met")
    for missed in (r for r in judged if not r["met"]):
        print(f"missed: {missed['name']}: {missed['value']} {missed['unit']}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(r["met"] for r in judged) else 1)


if __name__ == "__main__":
    main()
