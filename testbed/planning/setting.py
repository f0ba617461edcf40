"""What planners are made with, and how a scenario names them."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed import plugins
from testbed.planning.planner import Planner
from testbed.roads.tiers import Tiers
from testbed.scenario import TIERS, Scenario, Tier

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "testbed.planners"


@dataclass(frozen=True)
class Setting:
    """What stays the same while a planner decides.

    Attributes
    ----------
    tiers : Tiers
        Which site of each tier serves which cell.
    round_trip_s : mapping of tier to float
        The tiers that may be chosen from, lowest first, and how long the way from a user to the
        nearest server there and back takes, seconds. Empty where each service has its own tier.
    lead_s, certainty : float
        How long before the expected arrival sending ahead begins, and the least probability for it.
    short_stay_s : float
        A stay shorter than this is not worth a migration.
    slow_mps : float
        Users slower than this gain little from a tier with larger areas; 0 for nobody.
    """

    tiers: Tiers
    round_trip_s: Mapping[Tier, float]
    lead_s: float = 20.0
    certainty: float = 0.5
    short_stay_s: float = 10.0
    slow_mps: float = 0.0

    @classmethod
    def of(cls, scenario: Scenario, tiers: Tiers) -> "Setting":
        """What a scenario says."""
        planning, handoff = scenario.planning, scenario.handoff
        return cls(
            tiers=tiers,
            round_trip_s={t: round_trip_s(scenario, t) for t in TIERS if t in planning.tiers},
            lead_s=handoff.lead,
            certainty=handoff.certainty,
            short_stay_s=planning.short_stay,
            slow_mps=planning.slow or 0.0,
        )

    def tolerated_s(self, most_s: float | None, latency: Tier) -> float:
        """The longest round trip that a service tolerates.

        Parameters
        ----------
        most_s : float or None
            What the scenario says (`ServiceSpec.max_delay`), seconds.
        latency : {"local", "regional", "cloud"}
            Else: the farthest tier that serves it well (`Needs.latency`).
        """
        if most_s is not None:
            return most_s
        if latency == TIERS[-1]:
            return math.inf
        near = TIERS[: TIERS.index(latency) + 1]
        return max((s for tier, s in self.round_trip_s.items() if tier in near), default=0.0)


def round_trip_s(scenario: Scenario, tier: Tier) -> float:
    """From a user over its base station to the nearest server of a tier and back, seconds.

    The longest of all users and base stations; infinite where a base station has no link to such a
    server.
    """
    delay_s = {(link.source, link.target): link.delay_s for link in scenario.directed_links()}
    servers = scenario.hosts_with("server", tier)
    users, stations = scenario.hosts_with("user"), scenario.hosts_with("base-station")
    ways = [
        min((_ways_s(delay_s, user, station, server) for server in servers), default=math.inf)
        for user in users
        for station in stations
    ]
    return max(ways, default=math.inf)


def _ways_s(delay_s: Mapping[tuple[str, str], float], *hosts: str) -> float:
    there = itertools.pairwise(hosts)
    return sum(delay_s.get((a, b), math.inf) + delay_s.get((b, a), math.inf) for a, b in there)


def planner_names() -> list[str]:
    """Names of all installed planners, sorted."""
    return plugins.installed(GROUP)


def make_planner(name: str, setting: Setting) -> Planner:
    """Make the planner that a scenario names.

    Parameters
    ----------
    name : str
        An entry point of the group ``testbed.planners``.
    setting : Setting
        What it is made with.

    Raises
    ------
    ScenarioError
        If no planner has that name, or the setting does not suit it.
    """
    lacking = f"planning.planner: there is no planner {name!r}"
    factory: Callable[[Setting], Planner] = plugins.load(GROUP, name, lacking)
    return factory(setting)
