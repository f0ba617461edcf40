"""Ngo's orchestrated planner (IV.A): all users, base stations and servers in one program."""

from dataclasses import dataclass

from testbed.errors import InfeasiblePlanError, PlanTimeoutError
from testbed.planning.choices import Choices, reachable_choices, without_dominated
from testbed.planning.fleet import Fleet, FleetPlan, FleetUser, Placement, stay
from testbed.planning.fleet_planner import Settings
from testbed.planning.program import solve


@dataclass(frozen=True)
class Orchestrated:
    """The placement with the greatest profit, equation 3, for all users at once.

    Where there is none, or none is found in time, the last plan stays: nobody is moved towards a
    place that was never compared with the others. A user that the last plan does not know stays
    where it is. The paper has no such case: it says that there always was a feasible plan.
    """

    settings: Settings

    def plan(self, fleet: Fleet, previous: FleetPlan | None = None) -> FleetPlan:
        """The best placement for everybody, or the last one with the reason why it stays."""
        choices = without_dominated(reachable_choices(fleet, self.settings.weight))
        try:
            solution = solve(choices, self.settings.solver)
        except (InfeasiblePlanError, PlanTimeoutError) as error:
            return _kept(fleet, previous, str(error))
        placements = {}
        for row in solution.rows.tolist():
            user = fleet.users[int(choices.user[row])]
            placements[user.name] = _placement(choices, row, user)
        if solution.proven:
            return FleetPlan(placements, "optimal", profit_s=solution.profit_s)
        limit_s = self.settings.solver.time_limit_s
        reason = f"the best that was found within {limit_s} s; there may be better"
        return FleetPlan(placements, "feasible", reason, solution.profit_s)


def _placement(choices: Choices, row: int, user: FleetUser) -> Placement:
    fleet = choices.fleet
    station = fleet.base_stations[int(choices.base_station[row])].name
    server = fleet.servers[int(choices.server[row])].name
    reason = f"delay {choices.delay_s[row] * 1e3:.0f} ms"
    if (station, server) != (user.base_station, user.server):
        reason += (
            f", gain {choices.gain_s[row]:.2f} s over its tasks, "
            f"{choices.downtime_s[row] * 1e3:.0f} ms without service"
        )
    return Placement(user.name, station, server, reason)


def _kept(fleet: Fleet, previous: FleetPlan | None, reason: str) -> FleetPlan:
    """The last plan for those who are there now."""
    last = previous.placements if previous else {}
    return FleetPlan(
        {
            user.name: last.get(user.name) or stay(user, "no plan was found yet")
            for user in fleet.users
        },
        "kept",
        reason,
    )
