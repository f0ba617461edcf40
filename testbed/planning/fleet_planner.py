"""The interface of planners that decide for all users at once, and how one is found by name."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from numpy.random import Generator

from testbed import plugins
from testbed.planning.fleet import Fleet, FleetPlan
from testbed.planning.program import Solver

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "testbed.fleet_planners"


@dataclass(frozen=True)
class Settings:
    """What every planner of all users is made with; each takes of it what it needs.

    Attributes
    ----------
    generator : numpy.random.Generator
        Where chance comes from, for planners that leave something to it.
    solver : Solver
        For planners that solve a program.
    weight : float
        Seconds of delay, summed over tasks, that one second without service counts for.
    """

    generator: Generator
    solver: Solver = field(default_factory=Solver)
    weight: float = 1.0


class FleetPlanner(Protocol):
    """Says where every user's service and radio link should be; pure.

    It is made by calling its entry point with one `Settings`. The same fleet and the same last plan
    give the same plan, chance apart, which comes from the settings' generator.
    """

    def plan(self, fleet: Fleet, previous: FleetPlan | None = None) -> FleetPlan:
        """Where everybody is to be; `previous` is what was planned last, if anything was."""
        ...


def fleet_planner_names() -> list[str]:
    """Names of all installed planners, sorted."""
    return plugins.installed(GROUP)


def make_fleet_planner(name: str, settings: Settings) -> FleetPlanner:
    """Make the planner of this name.

    Parameters
    ----------
    name : str
        An entry point of the group ``testbed.fleet_planners``.
    settings : Settings
        What it is made with.

    Raises
    ------
    ScenarioError
        If no planner has that name.
    """
    lacking = f"there is no planner {name!r} for all users at once"
    factory: Callable[[Settings], FleetPlanner] = plugins.load(GROUP, name, lacking)
    return factory(settings)
