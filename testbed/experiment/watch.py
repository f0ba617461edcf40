"""One user's line from fix to plan, the same in a run and in a replay."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from testbed.experiment.world import Moving, World
from testbed.planning.planner import Plan, Planner, SystemView
from testbed.planning.setting import Setting, make_planner
from testbed.prediction.outlook import look_ahead
from testbed.prediction.predictor import Candidate, MovementState
from testbed.prediction.states import StateBuilder
from testbed.roads.matching.online import Match
from testbed.scenario import Scenario, Tier
from testbed.services.service import find_service


@dataclass(frozen=True)
class Sighting:
    """What is known at one fix.

    row : the trace's columns. x_m, y_m : on the map's plane. candidates : of all steps.
    """

    time_s: float
    row: dict[str, Any]
    x_m: float
    y_m: float
    match: Match
    state: MovementState
    candidates: tuple[Candidate, ...]

    @property
    def serving_cell(self) -> str:
        """The base station that the user is connected to."""
        return self.state.serving_site


@dataclass(frozen=True, eq=False)
class Watch:
    """Takes one user's fixes, in order, through radio, road match and prediction."""

    world: World
    user: str
    moving: Moving

    @cached_property
    def _movement(self) -> StateBuilder:
        return StateBuilder(self.user)

    def look(self, number: int, now_s: float) -> Sighting:
        """Take the trace's next fix.

        Parameters
        ----------
        number : int
            Its place in the trace.
        now_s : float
            Time on the clock by which base stations are handed over, seconds.
        """
        row = {str(k): v for k, v in self.moving.trace.iloc[number].items()}
        x_m, y_m = self.world.roads.projection.point_xy(row["lat_deg"], row["lon_deg"])
        rssi = self.moving.signal.measure(x_m, y_m)
        serving = self.moving.handover.update(now_s, rssi)
        match = self.moving.matcher.update(row["time_s"], row["lat_deg"], row["lon_deg"])
        state = self._movement.update(
            float(row["time_s"]),
            (x_m, y_m),
            speed_mps=float(row["speed_mps"]),
            edge=match.edge,
            offset_m=match.offset_m if match.matched else 0.0,
            match_probability=match.probability,
            serving_site=serving,
            rssi_dbm=rssi,
        )
        candidates = look_ahead(self.world.predictor, state)
        return Sighting(now_s, row, x_m, y_m, match, state, tuple(candidates))


@dataclass(frozen=True)
class Decider:
    """Asks a planner for one user.

    lowest_tier, tolerated_s : what the user's service needs (`SystemView`).
    """

    planner: Planner
    user: str
    lowest_tier: Tier = "local"
    tolerated_s: float = float("inf")

    def first(self, cell: str) -> Plan:
        """Where the service should be begun."""
        return self._ask(cell, "", (), float("nan"))

    def decide(self, seen: Sighting, service_site: str) -> Plan:
        """Where service and radio should be now."""
        return self._ask(seen.serving_cell, service_site, seen.candidates, seen.state.cruise_mps)

    def _ask(
        self, cell: str, site: str, candidates: tuple[Candidate, ...], speed_mps: float
    ) -> Plan:
        return self.planner.plan(
            SystemView(
                self.user, cell, site, candidates, speed_mps, self.lowest_tier, self.tolerated_s
            )
        )


def deciders(world: World, *, planner: str = "") -> dict[str, Decider]:
    """For each user of a scenario, the planner that it names, or another.

    Raises
    ------
    ScenarioError
        If there is no such planner or service, or it cannot be made for this scenario.
    """
    scenario = world.scenario
    setting = Setting.of(scenario, world.tiers)
    made = make_planner(planner or scenario.planning.named(scenario.handoff), setting)
    return {name: _decider(scenario, setting, made, name) for name in scenario.users}


def _decider(scenario: Scenario, setting: Setting, planner: Planner, user: str) -> Decider:
    service = scenario.services[scenario.users[user].service]
    needs = find_service(service.kind).needs
    tolerated_s = setting.tolerated_s(service.max_delay, needs.latency if needs else "local")
    return Decider(planner, user, service.tier if scenario.planning.tiers else "local", tolerated_s)
