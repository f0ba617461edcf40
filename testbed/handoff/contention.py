"""Handoffs whose migrations cross one link at once: each gets its share, and begins sooner.

Ngo's equation 5 gives every migration the whole link. Here those that are under way together on one
link, in one direction, share its rate equally, as TCP connections with equal round trips do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from testbed.handoff.durations import Durations
from testbed.handoff.timing import Coordination, Timing, coordinated

Estimate = Callable[[float], Durations]


@dataclass(frozen=True)
class Move:
    """One handoff that is to be timed together with others.

    Attributes
    ----------
    user : str
        Whose it is.
    source, target : str
        Servers between which its container goes.
    rate_bps : float
        Of the link from source to target, bits per second.
    estimate : callable
        Durations at a rate in bits per second (`estimate_durations` with everything else given).
    when : Coordination
        What its timing starts from.
    """

    user: str
    source: str
    target: str
    rate_bps: float
    estimate: Estimate
    when: Coordination


def coordinate_all(
    moves: Sequence[Move],
    variant: Callable[[Durations, Coordination], Timing] = coordinated,
) -> dict[str, Timing]:
    """Time all handoffs, each with the share of its link that the others leave it.

    A migration counts as under way from its pre-migration's trigger to its end. All that are under
    way at any time of another's on its link are taken to be so all that time: a share is never
    taken for larger than it will be. Shares only get smaller while this is worked out, so it ends.

    Returns
    -------
    dict of str to Timing
        By user, in the order of `moves`.
    """
    sharing = [1] * len(moves)
    while True:
        timings = [
            variant(move.estimate(move.rate_bps / among), move.when)
            for move, among in zip(moves, sharing, strict=True)
        ]
        found = [
            max(among, sum(_meet(moves, timings, one, other) for other in range(len(moves))))
            for one, among in enumerate(sharing)
        ]
        if found == sharing:
            return {move.user: timing for move, timing in zip(moves, timings, strict=True)}
        sharing = found


def _meet(moves: Sequence[Move], timings: Sequence[Timing], one: int, other: int) -> bool:
    """Whether two migrations are under way on the same link at the same time; one meets itself."""
    if one == other:
        return True
    if (moves[one].source, moves[one].target) != (moves[other].source, moves[other].target):
        return False
    mine, others = timings[one], timings[other]
    return mine.pre_migrate_at_s < _end_s(others) and others.pre_migrate_at_s < _end_s(mine)


def _end_s(timing: Timing) -> float:
    return timing.migrate_at_s + timing.durations.migration_s
