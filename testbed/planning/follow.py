"""Planners that follow the user from cell to cell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.planning.ahead import settled, stays_ahead
from testbed.planning.planner import Plan, SystemView
from testbed.planning.setting import Setting
from testbed.prediction.predictor import Candidate


@dataclass(frozen=True)
class Nearest:
    """Follow the user to the serving cell once it serves (MSMF, section 5.2, "Nearest")."""

    def plan(self, view: SystemView) -> Plan:
        """Service and radio belong to the serving cell; nothing is prepared."""
        return Plan(view.serving_cell, view.serving_cell, "", "the serving cell is the nearest")


@dataclass(frozen=True)
class Predictive:
    """Send ahead to the predicted next site, move when the radio does (MSMF, Algorithm 1, "PM").

    With ``short_stay_s`` above 0 it passes over short coverages (MSMF, section 4.1 and figure 5,
    "PM-OP"): where the user will have left the serving cell again before that time, the service
    stays where it is, and the cell's base station forwards to it.

    lead_s : how long before the expected arrival sending ahead begins.
    certainty : least probability for which it begins, or a stay counts as short.
    short_stay_s : a stay shorter than this is not worth a migration.
    """

    lead_s: float
    certainty: float
    short_stay_s: float = 0.0

    def plan(self, view: SystemView) -> Plan:
        """The next site in which the user settles is prepared when it is near and likely enough."""
        here, service = view.serving_cell, view.service_site
        ahead = stays_ahead(view.candidates, here, self.certainty)
        passing = ""
        if service != here:
            leaves_s = ahead[0].eta_s if ahead else math.inf
            if not service or leaves_s >= self.short_stay_s:
                return Plan(here, here, "", "the radio has moved; the service follows")
            passing = f"leaves {here} in {leaves_s:.0f} s: forwarded to {service}; "
        coming = next(iter(settled(ahead, self.short_stay_s)), None)
        if coming is None:
            return Plan(service, here, "", passing + (_seen(view.candidates, here)))
        seen = f"{passing}{coming.site} in {coming.eta_s:.0f} s with {coming.probability:.0%}"
        if coming.site == service:
            return Plan(service, here, "", f"{seen}: it is there")
        if coming.eta_s > self.lead_s or coming.probability < self.certainty:
            return Plan(service, here, "", f"{seen}: not yet")
        return Plan(service, here, coming.site, seen)


def _seen(candidates: Sequence[Candidate], here: str) -> str:
    """Why nothing is prepared though something may be in sight."""
    best = next((one for one in candidates if one.site != here), None)
    if best is None:
        return "no other site is in sight"
    return f"{best.site} in {best.eta_s:.0f} s with {best.probability:.0%}: not yet"


def nearest(_: Setting) -> Nearest:
    """The planner ``nearest`` of scenarios."""
    return Nearest()


def pm(setting: Setting) -> Predictive:
    """The planner ``pm`` of scenarios."""
    return Predictive(setting.lead_s, setting.certainty)


def pm_op(setting: Setting) -> Predictive:
    """The planner ``pm-op`` of scenarios."""
    return Predictive(setting.lead_s, setting.certainty, setting.short_stay_s)
