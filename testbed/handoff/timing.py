"""When to pre-migrate, to migrate and to hand over: Ngo's figure 2, and ways to do worse.

The fourth timeline of figure 2 lets migration and handover happen at the same time, so that the
user is without service only for the longer of both. The others are there to compare with: *early*
hands over before the migration (second timeline), *late* after it (third), and *uncoordinated* is
what Ngo's random and nearest planners do (figure 6): the handover sets off the pre-migration.

Where the paper leaves room, this is how it is read:

- A downtime of ``max(T_mig, T_ho)`` means that the shorter of both lies within the longer. No
  formula says where; `Coordination.alignment` does. In the middle, an error in either direction
  costs least.
- "A 10 % error margin" lengthens both estimated parts of the migration: the pre-migration begins
  that much earlier than it would have to, and place is kept for a longer migration. The handover's
  length is set by the radio and gets no margin.
- When the handover is due is a prediction (the paper: relative signal strength with hysteresis).
  Where it comes too soon for the pre-migration to be finished, the handover is put off, but not
  beyond the time at which the old base station is lost.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from testbed.errors import ScenarioError
from testbed.handoff.durations import Durations
from testbed.planning.planner import Plan
from testbed.records import HandoverRecord, MigrationRecord, TriggerRecord

MARGIN = 0.10
PRE_MIGRATION, MIGRATION, HANDOVER = "pre-migration", "migration", "handover"


@dataclass(frozen=True)
class Coordination:
    """What is known when a handoff is timed; seconds on any one clock.

    Attributes
    ----------
    now_s : float
        Nothing can be triggered before.
    due_s : float
        When the handover should begin, as predicted.
    lost_s : float
        When the old base station will not be heard any more: the handover begins no later, and no
        earlier than `due_s` or `now_s`.
    margin : float
        Share by which a migration may take longer than estimated.
    alignment : float
        Where the shorter of migration and handover lies within the longer: 0 begins with it, 0.5
        lies in the middle, 1 ends with it.
    """

    now_s: float
    due_s: float
    lost_s: float = math.inf
    margin: float = MARGIN
    alignment: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.margin < 0:
            raise ScenarioError(f"a margin of {self.margin:g}: it is a share, 0 or more")
        if not 0 <= self.alignment <= 1:
            raise ScenarioError(f"an alignment of {self.alignment:g}: it lies between 0 and 1")

    @property
    def first_s(self) -> float:
        """The earliest a handover may begin that is not put off."""
        return max(self.now_s, self.due_s)

    @property
    def last_s(self) -> float:
        """The latest a handover may begin."""
        return max(self.first_s, self.lost_s)


@dataclass(frozen=True)
class Timing:
    """The three triggers of one handoff, seconds on the clock of its `Coordination`.

    Attributes
    ----------
    variant : str
        How they were chosen.
    pre_migrate_at_s, migrate_at_s, hand_over_at_s : float
        When pre-migration, migration and handover are triggered.
    durations : Durations
        What was estimated, without the margin.
    put_off_s : float
        By how much the handover waits for the migration, beyond the time at which it was due.
    """

    variant: str
    pre_migrate_at_s: float
    migrate_at_s: float
    hand_over_at_s: float
    durations: Durations
    put_off_s: float = 0.0

    @property
    def downtime_s(self) -> float:
        """Total time without service, if everything takes as long as estimated."""
        return downtime_s(
            (self.migrate_at_s, self.migrate_at_s + self.durations.migration_s),
            (self.hand_over_at_s, self.hand_over_at_s + self.durations.handover_s),
        )

    @property
    def ended_s(self) -> float:
        """When the user is served at the new place, if all goes as estimated."""
        return max(
            self.migrate_at_s + self.durations.migration_s,
            self.hand_over_at_s + self.durations.handover_s,
        )

    def plan_at(self, now_s: float, here: Plan, there: Plan) -> Plan:
        """Which plan holds at a time: each trigger that has passed brings a part of the new one.

        Parameters
        ----------
        now_s : float
            The time, on the clock of the triggers.
        here, there : Plan
            Where service and radio are until now, and where they are to be.
        """
        moves = there.service_at != here.service_at
        moved = now_s >= self.migrate_at_s
        ahead = moves and not moved and now_s >= self.pre_migrate_at_s
        return Plan(
            service_at=there.service_at if moved else here.service_at,
            radio_at=there.radio_at if now_s >= self.hand_over_at_s else here.radio_at,
            prepare_at=there.service_at if ahead else "",
            reason=f"{self.variant}: {there.reason}",
        )


def downtime_s(migration: tuple[float, float], handover: tuple[float, float]) -> float:
    """Time without service: what two stretches (start, end), in seconds, cover together."""
    (start, end), (other_start, other_end) = sorted((migration, handover))
    return (end - start) + max(0.0, other_end - max(end, other_start))


def coordinated(durations: Durations, when: Coordination) -> Timing:
    """The fourth timeline: the shorter of migration and handover within the longer (Ngo, IV.B)."""
    pre_s, migration_s = with_margin(durations, when.margin)
    lead_s = when.alignment * (durations.handover_s - migration_s)
    ready_s = when.now_s + pre_s
    hand_over_s = min(max(when.first_s, ready_s - lead_s), when.last_s)
    migrate_s = max(ready_s, hand_over_s + lead_s)
    return _timing(
        "coordinated", durations, when, pre_s=pre_s, migrate_s=migrate_s, hand_over_s=hand_over_s
    )


def early(durations: Durations, when: Coordination) -> Timing:
    """The second timeline: the handover is over before the migration begins."""
    pre_s, _ = with_margin(durations, when.margin)
    hand_over_s = when.first_s
    migrate_s = max(when.now_s + pre_s, hand_over_s + durations.handover_s)
    return _timing(
        "early", durations, when, pre_s=pre_s, migrate_s=migrate_s, hand_over_s=hand_over_s
    )


def late(durations: Durations, when: Coordination) -> Timing:
    """The third timeline: the migration is over before the handover begins."""
    pre_s, migration_s = with_margin(durations, when.margin)
    migrate_s = max(when.now_s + pre_s, when.first_s - migration_s)
    hand_over_s = min(max(when.first_s, migrate_s + migration_s), when.last_s)
    return _timing(
        "late", durations, when, pre_s=pre_s, migrate_s=migrate_s, hand_over_s=hand_over_s
    )


def uncoordinated(durations: Durations, when: Coordination) -> Timing:
    """The handover sets off the pre-migration, the end of that the migration (Ngo, figure 6)."""
    hand_over_s = when.first_s
    pre_s = durations.pre_migration_s
    return _timing(
        "uncoordinated",
        durations,
        when,
        pre_s=pre_s,
        migrate_s=hand_over_s + pre_s,
        hand_over_s=hand_over_s,
    )


VARIANTS: Mapping[str, Callable[[Durations, Coordination], Timing]] = {
    "coordinated": coordinated,
    "early": early,
    "late": late,
    "uncoordinated": uncoordinated,
}
"""Ways to time a handoff, by name."""


def find_variant(name: str) -> Callable[[Durations, Coordination], Timing]:
    """The way of this name to time a handoff.

    Raises
    ------
    ScenarioError
        If there is none.
    """
    if name not in VARIANTS:
        close = difflib.get_close_matches(name, VARIANTS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(VARIANTS)}"
        raise ScenarioError(f"there is no timing {name!r}; {hint}")
    return VARIANTS[name]


def trigger_records(
    timing: Timing,
    *,
    user: str,
    migration: MigrationRecord | None = None,
    handover: HandoverRecord | None = None,
) -> list[TriggerRecord]:
    """What was triggered when, beside what was planned; nothing for what did not happen.

    Planned times must be on the run's clock. A migration counts as triggered when its service was
    frozen: that is where the pause begins which the plan places.

    Parameters
    ----------
    timing : Timing
        The plan.
    user : str
        Whose handoff it was.
    migration, handover : MigrationRecord or None, HandoverRecord or None
        What happened.
    """
    happened: list[tuple[str, float, float]] = []
    if migration is not None:
        happened += [
            (PRE_MIGRATION, timing.pre_migrate_at_s, migration.requested_s),
            (MIGRATION, timing.migrate_at_s, migration.frozen_s),
        ]
    if handover is not None:
        happened.append((HANDOVER, timing.hand_over_at_s, handover.started_s))
    return [
        TriggerRecord(
            user=user,
            migration=migration.migration if migration else "",
            variant=timing.variant,
            trigger=trigger,
            planned_s=planned_s,
            actual_s=actual_s,
            error_ms=(actual_s - planned_s) * 1e3,
        )
        for trigger, planned_s, actual_s in happened
        if not math.isnan(actual_s)
    ]


def with_margin(durations: Durations, margin: float) -> tuple[float, float]:
    """How long pre-migration and migration may take, seconds (Ngo, IV.B: a margin of 10 %)."""
    return (1 + margin) * durations.pre_migration_s, (1 + margin) * durations.migration_s


def _timing(
    variant: str,
    durations: Durations,
    when: Coordination,
    *,
    pre_s: float,
    migrate_s: float,
    hand_over_s: float,
) -> Timing:
    put_off_s = hand_over_s - when.first_s
    return Timing(variant, migrate_s - pre_s, migrate_s, hand_over_s, durations, put_off_s)
