"""A whole way in seconds: the same line from fix to plan, without hosts, on a clock of its own.

What a planner decides does not depend on hosts, so any number of planners, ways and speeds can be
compared without a lab. Only the moving of the service is made up here: bytes over a link.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import pandas as pd

from testbed.experiment.watch import Decider, Sighting, Watch, deciders
from testbed.experiment.world import World
from testbed.planning.planner import Plan
from testbed.planning.setting import planner_names, round_trip_s
from testbed.roads.tiers import Tiers
from testbed.scenario import TIERS, Tier
from testbed.services.memory import MemoryBehaviour

LONGEST_PAUSE_S = 60.0
"""Where there is no fix for longer, nothing is known of the user and the time is not counted."""


@dataclass(frozen=True)
class Cargo:
    """What is sent to move a service.

    ahead_bytes : image and memory, before the move.
    changing_bytes_per_s : of it, what changes and is sent again while it is kept ready.
    frozen_bytes : what is sent while the service stands still.
    rate_bps : of the link between servers.
    """

    ahead_bytes: float
    changing_bytes_per_s: float = 0.0
    frozen_bytes: float = 0.0
    rate_bps: float = 100e6

    @classmethod
    def of(cls, memory: MemoryBehaviour, rate_bps: float = 100e6) -> "Cargo":
        """What this testbed's engine sends of a service: packed memory, kept fresh every second.

        The image's layers are at every server already.
        """
        packed_bytes = memory.compressed_share * 1e6
        return cls(
            ahead_bytes=memory.private_mb * packed_bytes,
            changing_bytes_per_s=memory.load.rate_mb_per_s * packed_bytes,
            frozen_bytes=memory.load.changed_within(0.5) * packed_bytes,
            rate_bps=rate_bps,
        )


@dataclass(frozen=True)
class Tally:
    """What a planner brought about on one way.

    handovers : of the radio. migrations : of the service. given_up : times that it was sent ahead
    to a site and not moved there. sent_bytes : between servers.
    away_s : in which the service's site did not serve the user's cell, of ``time_s``.
    ready : share of the migrations for which all had been sent when they were due.
    round_trip_s : mean over time, to the nearest server of the tier that the service was on.
    """

    user: str
    planner: str
    time_s: float
    way_m: float
    handovers: int
    migrations: int
    given_up: int
    sent_bytes: float
    away_s: float
    ready: float
    round_trip_s: float


@dataclass
class Carrier:
    """Takes a user's service where the plan wants it, in place of a `Follower`.

    Like it, it does one thing after another, each towards the newest plan, and finishes what it has
    begun.
    """

    cargo: Cargo
    cell: str
    service_site: str
    prepared: str = ""
    handovers: int = 0
    migrations: int = 0
    given_up: int = 0
    ready: int = 0
    sent_bytes: float = 0.0
    _wanted: Plan = field(default_factory=lambda: Plan("", "", "", ""))
    _going_to: str = ""
    _moves: bool = False
    _left_bytes: float = 0.0

    def follow(self, plan: Plan) -> None:
        """Take a new plan; the radio is handed over at once."""
        if plan.radio_at != self.cell:
            self.handovers += 1
            self.cell = plan.radio_at
            due = plan.next_site(self.service_site) == plan.service_at
            self.ready += due and self.prepared == plan.service_at
        self._wanted = plan

    def work(self, time_s: float) -> float:
        """Go on until the service moves, for at most so long; return the time that it took."""
        left_s = time_s
        while left_s > 0:
            if not self._going_to:
                self._begin()
            if not self._going_to:
                if self.prepared:
                    fresh_bps = min(8 * self.cargo.changing_bytes_per_s, self.cargo.rate_bps)
                    self.sent_bytes += fresh_bps / 8 * left_s
                return time_s
            needed_s = self._left_bytes / self._bytes_per_s
            spent_s = min(left_s, needed_s)
            left_s -= spent_s
            self.sent_bytes += spent_s * self.cargo.rate_bps / 8
            self._left_bytes -= spent_s * self._bytes_per_s
            if spent_s == needed_s and self._arrive():
                return time_s - left_s
        return time_s

    @property
    def bound_for(self) -> str:
        """Where the service is, or is being moved."""
        return self._going_to if self._going_to and self._moves else self.service_site

    @property
    def _bytes_per_s(self) -> float:
        """What is gained on the service's changes while sending."""
        return max(1.0, self.cargo.rate_bps / 8 - self.cargo.changing_bytes_per_s)

    def _begin(self) -> None:
        site = self._wanted.next_site(self.service_site, self.prepared)
        if not site:
            return
        self._going_to, self._moves = site, site == self._wanted.service_at
        if site == self.prepared:
            self._left_bytes = self.cargo.frozen_bytes
            return
        self.given_up += bool(self.prepared)
        self.prepared = ""
        self._left_bytes = self.cargo.ahead_bytes

    def _arrive(self) -> bool:
        """All is there: the target is prepared or, if it was before, the service has moved."""
        if self.prepared != self._going_to:
            self.prepared, self._left_bytes = self._going_to, self.cargo.frozen_bytes
            if not self._moves:
                self._going_to = ""
            return False
        self.service_site = self._going_to
        self.migrations += 1
        self.prepared = self._going_to = ""
        return True


def watch_all(world: World, user: str) -> list[Sighting]:
    """Every sighting of one user; planners that are compared share them.

    A way can be watched once: radio and road match remember what they saw.
    """
    moving = world.moving[user]
    watch = Watch(world, user, moving)
    times = enumerate(moving.trace["time_s"].tolist())
    return [watch.look(n, time_s) for n, time_s in times if time_s <= world.duration_s()]


def replay_user(
    sightings: Sequence[Sighting], decider: Decider, cargo: Cargo, tiers: Tiers
) -> tuple[Carrier, dict[Tier, float], float]:
    """Go through one user's sightings with one planner.

    Returns
    -------
    tuple
        What was carried, seconds that the service was on each tier, seconds that it was away.
    """
    cell = sightings[0].serving_cell
    carrier = Carrier(cargo, cell, decider.first(cell).service_at)
    on_tier_s: dict[Tier, float] = {}
    away_s = 0.0
    for seen, following in zip(sightings, [*sightings[1:], None], strict=True):
        carrier.follow(decider.decide(seen, carrier.bound_for))
        left_s = following.time_s - seen.time_s if following else 0.0
        if left_s > LONGEST_PAUSE_S:
            continue
        while left_s > 0:
            site = carrier.service_site
            spent_s = carrier.work(left_s)
            tier = tiers.tier_of(site)
            on_tier_s[tier] = on_tier_s.get(tier, 0.0) + spent_s
            away_s += spent_s * (tiers.site_of(carrier.cell, tier) != site)
            left_s -= spent_s
    return carrier, on_tier_s, away_s


def replay(
    world: World,
    cargo: Cargo,
    planners: Iterable[str] = (),
    *,
    sightings: Mapping[str, Sequence[Sighting]] | None = None,
) -> pd.DataFrame:
    """What planners bring about on the ways of a scenario's users.

    Parameters
    ----------
    world : World
        Map, cells, tiers and ways.
    cargo : Cargo
        What is sent for a migration.
    planners : iterable of str
        Names of the group ``testbed.planners``; none means all.
    sightings : dict, optional
        By user, from `watch_all`; to replay the same ways again.

    Returns
    -------
    pandas.DataFrame
        A row per user and planner, with the fields of `Tally`.

    Raises
    ------
    ScenarioError
        If there is no such planner, or it does not suit the scenario.
    """
    named = list(planners) or planner_names()
    asked = {name: deciders(world, planner=name) for name in named}
    seen = sightings or {user: watch_all(world, user) for user in world.moving}
    delays_s = {tier: round_trip_s(world.scenario, tier) for tier in TIERS}
    rows = []
    for user, ways in seen.items():
        for name in named:
            decider = replace(_of(asked[name], user), user=user)
            carrier, on_tier_s, away_s = replay_user(ways, decider, cargo, world.tiers)
            time_s = sum(on_tier_s.values())
            late = sum(delays_s[tier] * spent_s for tier, spent_s in on_tier_s.items())
            rows.append(
                Tally(
                    user=user,
                    planner=name,
                    time_s=time_s,
                    way_m=_way_m(ways),
                    handovers=carrier.handovers,
                    migrations=carrier.migrations,
                    given_up=carrier.given_up,
                    sent_bytes=carrier.sent_bytes,
                    away_s=away_s,
                    ready=carrier.ready / carrier.migrations if carrier.migrations else math.nan,
                    round_trip_s=late / time_s if time_s else math.nan,
                )
            )
    return pd.DataFrame([asdict(row) for row in rows])


def _of(asked: dict[str, Decider], user: str) -> Decider:
    """The user's own, or that of the scenario's first user for ways that were added."""
    return asked.get(user) or next(iter(asked.values()))


def _way_m(sightings: Sequence[Sighting]) -> float:
    pairs = itertools.pairwise(sightings)
    return sum(math.hypot(b.x_m - a.x_m, b.y_m - a.y_m) for a, b in pairs)
