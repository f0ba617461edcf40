"""Planners that follow the user from cell to cell."""

from dataclasses import dataclass

from testbed.planning.planner import Plan, SystemView


@dataclass(frozen=True)
class Nearest:
    """Follow the user to the serving cell once it serves (MSMF, section 5.2, "Nearest")."""

    def plan(self, view: SystemView) -> Plan:
        """Service and radio belong to the serving cell; nothing is prepared."""
        return Plan(view.serving_cell, view.serving_cell, "", "the serving cell is the nearest")


@dataclass(frozen=True)
class Predictive:
    """Send ahead to the predicted next site, move when the radio does (MSMF, Algorithm 1, "PM").

    lead_s : how long before the expected arrival sending ahead begins.
    certainty : least probability for which it begins.
    """

    lead_s: float
    certainty: float

    def plan(self, view: SystemView) -> Plan:
        """The best candidate is prepared when it is near and likely enough."""
        here = view.serving_cell
        if view.service_site != here:
            return Plan(here, here, "", "the radio has moved; the service follows")
        best = next((c for c in view.candidates if c.site != here), None)
        if best is None:
            return Plan(here, here, "", "no other site is in sight")
        seen = f"{best.site} in {best.eta_s:.0f} s with {best.probability:.0%}"
        if best.probability < self.certainty or best.eta_s > self.lead_s:
            return Plan(here, here, "", f"{seen}: not yet")
        return Plan(here, here, best.site, seen)
