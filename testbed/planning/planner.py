"""What a planner sees and says."""

import math
from dataclasses import dataclass
from typing import Protocol

from testbed.prediction.predictor import Candidate
from testbed.scenario import Tier


@dataclass(frozen=True)
class SystemView:
    """Everything a planner may use to decide for one user.

    serving_cell : the base station the user is connected to.
    service_site : where the user's service runs, or is being moved: a site of any tier
    (`testbed.roads.tiers`).
    candidates : which cell comes next, and which ones after it (`Candidate.step`); of each step,
    best first.
    speed_mps : mean speed while moving, of late; ``nan`` where not known.
    lowest_tier : the service must not be below it.
    tolerated_s : the longest round trip between user and server that the service tolerates.
    """

    user: str
    serving_cell: str
    service_site: str
    candidates: tuple[Candidate, ...] = ()
    speed_mps: float = math.nan
    lowest_tier: Tier = "local"
    tolerated_s: float = math.inf


@dataclass(frozen=True)
class Plan:
    """Where things should be.

    service_at : site of any tier. Where it does not serve the cell of ``radio_at``, that cell's
    base station forwards to it.
    radio_at : cell.
    prepare_at : site to which the service is to be sent ahead, or empty.
    """

    service_at: str
    radio_at: str
    prepare_at: str
    reason: str

    def next_site(self, service_site: str, prepared: str = "") -> str:
        """Where the service is to be moved or sent ahead to next; empty if nothing is to be done.

        Parameters
        ----------
        service_site : str
            Where it runs now.
        prepared : str
            The site that it was sent ahead to, or empty.
        """
        if not self.service_at:
            return ""
        if self.service_at != service_site:
            return self.service_at
        return self.prepare_at if self.prepare_at != prepared else ""


class Planner(Protocol):
    """Says where a user's service and radio link should be; pure.

    It is made by calling its entry point with a `testbed.planning.setting.Setting`.
    """

    def plan(self, view: SystemView) -> Plan:
        """The same view gives the same plan, on every ground."""
        ...
