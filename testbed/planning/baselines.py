"""Ngo's three planners to compare with (V.A): cloud, random, nearest.

They do not coordinate. The radio goes where the rule for handovers leads it, and it is that
handover which makes random and nearest look for another server; none of them minds how full a
server or base station is (`testbed.planning.checks` tells). Among which servers the paper's random
planner draws is not said; here it is all of S, which has the cloud's in it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from testbed.errors import ScenarioError
from testbed.planning.fleet import Fleet, FleetPlan, FleetUser, Placement, Server, stay
from testbed.planning.fleet_planner import Settings


@dataclass(frozen=True)
class Cloud:
    """Every container is in the cloud, wherever its user is."""

    settings: Settings

    def plan(self, fleet: Fleet, previous: FleetPlan | None = None) -> FleetPlan:  # noqa: ARG002
        """In the first of the cloud's servers.

        Raises
        ------
        ScenarioError
            If there is none.
        """
        server = next((server.name for server in fleet.servers if server.cloud), None)
        if server is None:
            raise ScenarioError("planner cloud: no server of the fleet is the cloud's; add one")
        return FleetPlan(
            {
                user.name: Placement(user.name, _radio(user), server, "always in the cloud")
                for user in fleet.users
            }
        )


@dataclass(frozen=True)
class RandomServer:
    """At each handover the container goes to some server, by chance the present one."""

    settings: Settings

    def plan(self, fleet: Fleet, previous: FleetPlan | None = None) -> FleetPlan:  # noqa: ARG002
        """Drawn from the settings' generator, once for each user that is handed over."""

        def drawn(_: FleetUser) -> tuple[Server, str]:
            return fleet.servers[int(self.settings.generator.integers(len(fleet.servers)))], "drawn"

        return _at_handovers(fleet, drawn)


@dataclass(frozen=True)
class NearestServer:
    """At each handover the container goes to the server that is nearest to its user."""

    settings: Settings

    def plan(self, fleet: Fleet, previous: FleetPlan | None = None) -> FleetPlan:  # noqa: ARG002
        """By distance on the map; of equally near ones, and of those without a place, the first."""

        def nearest(user: FleetUser) -> tuple[Server, str]:
            far_m = [_distance_m(user, server) for server in fleet.servers]
            known = math.isfinite(min(far_m))
            reason = f"{min(far_m):.0f} m away" if known else "no place known"
            return fleet.servers[far_m.index(min(far_m))], reason

        return _at_handovers(fleet, nearest)


def _at_handovers(fleet: Fleet, choose: Callable[[FleetUser], tuple[Server, str]]) -> FleetPlan:
    """Another server, with the reason, for each user that is handed over; all others stay."""
    placements = {}
    for user in fleet.users:
        if _radio(user) == user.base_station:
            placements[user.name] = stay(user, "no handover")
        else:
            server, reason = choose(user)
            placements[user.name] = Placement(user.name, _radio(user), server.name, reason)
    return FleetPlan(placements)


def _radio(user: FleetUser) -> str:
    return user.serving or user.base_station


def _distance_m(user: FleetUser, server: Server) -> float:
    """From user to server, metres; infinite to one that stands nowhere on the map."""
    far_m = math.hypot(server.x_m - user.x_m, server.y_m - user.y_m)
    return math.inf if math.isnan(far_m) else far_m
