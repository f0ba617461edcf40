"""What a planner sees and says."""

from dataclasses import dataclass
from typing import Protocol

from testbed.prediction.predictor import Candidate


@dataclass(frozen=True)
class SystemView:
    """Everything a planner may use to decide for one user.

    serving_cell : the base station the user is connected to.
    service_site : where the user's service runs.
    candidates : which site comes next, best first.
    """

    user: str
    serving_cell: str
    service_site: str
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Where things should be.

    service_at, radio_at : sites. prepare_at : where the service is to be sent ahead, or empty.
    """

    service_at: str
    radio_at: str
    prepare_at: str
    reason: str


class Planner(Protocol):
    """Says where a user's service and radio link should be; pure."""

    def plan(self, view: SystemView) -> Plan:
        """The same view gives the same plan, on every ground."""
        ...
