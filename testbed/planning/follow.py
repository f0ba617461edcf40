"""Planners that follow the user from cell to cell."""

from dataclasses import dataclass

from testbed.planning.ahead import settled, stays_ahead
from testbed.planning.planner import Plan, SystemView
from testbed.planning.setting import Setting


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
        here = view.serving_cell
        ahead = stays_ahead(view.candidates, here, self.certainty)
        leaves_s = ahead[0].eta_s if ahead else float("inf")
        if view.service_site == here:
            return self._settle(view, here)
        if leaves_s < self.short_stay_s:
            passing = f"in {here} for {leaves_s:.0f} s only: forwarded to {view.service_site}"
            return self._settle(view, view.service_site, passing)
        return Plan(here, here, "", "the radio has moved; the service follows")

    def _settle(self, view: SystemView, stays_at: str, why: str = "") -> Plan:
        """The service stays; the next site worth a migration is prepared in time."""
        here = view.serving_cell
        ahead = stays_ahead(view.candidates, here, self.certainty)
        coming = next(iter(settled(ahead, self.short_stay_s)), None)
        if coming is None:
            return Plan(stays_at, here, "", why or self._nothing_yet(view, bool(ahead)))
        seen = f"{coming.site} in {coming.eta_s:.0f} s with {coming.probability:.0%}"
        reason = f"{why}; {seen}" if why else seen
        if coming.site == stays_at:
            return Plan(stays_at, here, "", f"{reason}: it is there")
        if coming.eta_s > self.lead_s:
            return Plan(stays_at, here, "", f"{reason}: not yet")
        return Plan(stays_at, here, coming.site, reason)

    def _nothing_yet(self, view: SystemView, passes: bool) -> str:
        best = next((c for c in view.candidates if c.site != view.serving_cell), None)
        if best is None:
            return "no other site is in sight"
        seen = f"{best.site} in {best.eta_s:.0f} s with {best.probability:.0%}"
        return f"{seen}: too short a stay" if passes else f"{seen}: not yet"


def nearest(_: Setting) -> Nearest:
    """The planner ``nearest`` of scenarios."""
    return Nearest()


def pm(setting: Setting) -> Predictive:
    """The planner ``pm`` of scenarios."""
    return Predictive(setting.lead_s, setting.certainty)


def pm_op(setting: Setting) -> Predictive:
    """The planner ``pm-op`` of scenarios."""
    return Predictive(setting.lead_s, setting.certainty, setting.short_stay_s)
