"""Planners that also choose the tier (MSMF, section 4.2, "PM-Tier" and "PM-OP-Tier")."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from testbed.errors import ScenarioError
from testbed.planning.ahead import by_site
from testbed.planning.follow import pm, pm_op
from testbed.planning.planner import Plan, Planner, SystemView
from testbed.planning.setting import Setting
from testbed.roads.tiers import Tiers
from testbed.scenario import TIERS, Tier

STAYS_UP = 0.7
"""A service on an upper tier comes down when its user is slower than so much of the limit, so that
speeds around the limit do not send it up and down."""


@dataclass(frozen=True)
class MultiTier:
    """The highest tier whose delay the service tolerates; there, another planner's decisions.

    The low tier is left to services that tolerate no other, and to slow users where there is a
    limit of speed for it.

    Attributes
    ----------
    inner : Planner
        Follows the user over the sites of the chosen tier.
    tiers : Tiers
        Which site serves which cell.
    round_trip_s : mapping of tier to float
        The tiers there are to choose from, lowest first, with their delays.
    slow_mps : float
        Users slower than this keep to the lowest tier.
    """

    inner: Planner
    tiers: Tiers
    round_trip_s: Mapping[Tier, float]
    slow_mps: float = 0.0

    def tier(self, view: SystemView) -> Tier:
        """The tier for a user's service; the lowest there is where none is fast enough."""
        choice = [t for t in self.round_trip_s if TIERS.index(t) >= TIERS.index(view.lowest_tier)]
        choice = choice or [list(self.round_trip_s)[-1]]
        tolerated = [t for t in choice if self.round_trip_s[t] <= view.tolerated_s]
        if not tolerated or self._is_slow(view):
            return choice[0]
        return tolerated[-1]

    def _is_slow(self, view: SystemView) -> bool:
        above = bool(view.service_site) and self.tiers.tier_of(view.service_site) != "local"
        return view.speed_mps < self.slow_mps * (STAYS_UP if above else 1.0)

    def plan(self, view: SystemView) -> Plan:
        """What the inner planner says of the chosen tier's sites; the radio follows the cells."""
        tier = self.tier(view)

        def site_of(cell: str) -> str:
            return self.tiers.site_of(cell, tier)

        seen = dataclasses.replace(
            view,
            serving_cell=site_of(view.serving_cell),
            candidates=by_site(view.candidates, site_of),
        )
        plan = self.inner.plan(seen)
        return dataclasses.replace(
            plan, radio_at=view.serving_cell, reason=f"{tier} tier: {plan.reason}"
        )


def pm_tier(setting: Setting) -> MultiTier:
    """The planner ``pm-tier`` of scenarios."""
    return _multitier(pm(setting), setting)


def pm_op_tier(setting: Setting) -> MultiTier:
    """The planner ``pm-op-tier`` of scenarios."""
    return _multitier(pm_op(setting), setting)


def _multitier(inner: Planner, setting: Setting) -> MultiTier:
    if len(setting.round_trip_s) <= 1:
        raise ScenarioError(
            "planning.tiers: this planner chooses between tiers, and there is no choice; name "
            "those that services may be placed on, such as [local, regional]"
        )
    return MultiTier(inner, setting.tiers, setting.round_trip_s, setting.slow_mps)
