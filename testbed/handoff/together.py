"""From a plan for everybody to the triggers of everybody's handoff (Ngo, IV.A to IV.B)."""

import math
from collections.abc import Callable, Mapping
from functools import partial

from testbed.errors import ScenarioError
from testbed.handoff.contention import Move, coordinate_all
from testbed.handoff.durations import Durations, estimate_durations
from testbed.handoff.timing import Coordination, Timing, coordinated
from testbed.planning.fleet import Fleet, FleetPlan, Placement


def handoff_durations(
    fleet: Fleet, placement: Placement, rate_bps: float | None = None
) -> Durations:
    """How long the parts of a user's way to its new place take (Ngo, eq. 5).

    A part that is not needed takes 0: the container is there already, or the base station serves.

    Parameters
    ----------
    fleet : Fleet
        Where everybody is now.
    placement : Placement
        Where the user is to be.
    rate_bps : float or None
        What its migration gets of the link between the servers, bits per second; ``None`` for all.

    Raises
    ------
    ScenarioError
        If the placement is not of this fleet, or no link leads there.
    """
    row, station, to = fleet.numbers(placement)
    at = int(fleet.present[1][row])
    handover_s = fleet.handover_s if station != fleet.present[0][row] else 0.0
    if at == to:
        return Durations(0.0, 0.0, handover_s)
    whole_bps, delay_s = (float(matrix[at, to]) for matrix in fleet.between)
    source, target = fleet.servers[at], fleet.servers[to]
    if not whole_bps:
        raise ScenarioError(
            f"{placement.user} cannot go from {source.name} to {target.name}: there is no link"
        )
    return estimate_durations(
        fleet.users[row].container,
        source=source.factors,
        source_speed=source.speed,
        target=target.factors,
        target_speed=target.speed,
        rate_bps=whole_bps if rate_bps is None else rate_bps,
        delay_s=delay_s,
        handover_s=handover_s,
    )


def handoff_timings(
    fleet: Fleet,
    plan: FleetPlan,
    when: Mapping[str, Coordination],
    variant: Callable[[Durations, Coordination], Timing] = coordinated,
) -> dict[str, Timing]:
    """The triggers of every user that is not where it is to be.

    Migrations that cross one link at the same time share it (`testbed.handoff.contention`).

    Parameters
    ----------
    fleet : Fleet
        Where everybody is now.
    plan : FleetPlan
        Where everybody is to be.
    when : mapping of str to Coordination
        What each user's timing starts from; users without stay untimed.
    variant : callable
        One of `testbed.handoff.timing.VARIANTS`.
    """
    moves = []
    for user in fleet.users:
        placement = plan.placements.get(user.name)
        if placement is None or user.name not in when:
            continue
        if (placement.base_station, placement.server) == (user.base_station, user.server):
            continue
        _, _, to = fleet.numbers(placement)
        at = fleet.server_index[user.server]
        rate_bps = float(fleet.between[0][at, to]) if at != to else math.inf
        estimate = partial(handoff_durations, fleet, placement)
        moves.append(
            Move(user.name, user.server, placement.server, rate_bps, estimate, when[user.name])
        )
    return coordinate_all(moves, variant)
