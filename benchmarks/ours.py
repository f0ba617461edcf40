"""Our contender: the testbed's own move of a service from one holder to another."""

from arena import SOURCE, Arena
from report import NAN, Case, Measured

from testbed.errors import MigrationError
from testbed.experiment.prepare import spec_json
from testbed.migration.mover import Outcome, Stop
from testbed.migration.technique import find_technique

OUTSIDE = {"freeze", "release"}
"""Phases before and after the event window."""
STOP = Stop()
"""When enough was sent ahead: as in a scenario that says nothing about it."""


def move(arena: Arena, case: Case, technique: str) -> Measured:
    """Start the service at `SOURCE`, move it to the case's target under a user's eyes, remove it.

    Raises
    ------
    MigrationError
        If it was rolled back.
    ServiceError, WrongAnswerError
        If the user got a wrong answer, or none.
    """
    done: list[Outcome] = []
    try:
        arena.lab[SOURCE].call("start_service", spec=spec_json(arena.spec(case.service)))
        steering = arena.steer(case.service)
        arena.await_service(case.service)
        movement = arena.mover.open(case.service, SOURCE, case.target, find_technique(technique))

        def redirect() -> None:
            steering.lead_to(case.target)

        seen = arena.watched(
            case,
            ahead=lambda: movement.send_ahead(STOP),
            move=lambda: done.append(movement.finish(redirect)),
        )
    finally:
        for edge in (SOURCE, case.target):
            arena.lab[edge].call("remove_service", name=case.service)
    (outcome,) = done
    if outcome.outcome != "moved":
        raise MigrationError(f"{case.name}: {outcome.outcome}: {outcome.reason}\n{outcome.log}")
    lengths_s = {p.phase: p.end_s - p.start_s for p in outcome.phases if p.frozen}
    within = [p for p in outcome.phases if p.frozen and p.phase not in OUTSIDE]
    fills_s = [p.end_s - p.start_s for p in outcome.phases if p.phase == "fill"]
    return Measured(
        gap_s=seen.gap_s,
        control_s=seen.control_s,
        ahead_gap_s=seen.ahead_gap_s,
        freeze_s=outcome.freeze_s,
        event_window_s=outcome.event_window_s,
        frozen_bytes=outcome.bytes_frozen,
        ahead_bytes=outcome.bytes_ahead,
        restore_s=lengths_s["restore"],
        phases=lengths_s,
        accounted_s=sum(p.end_s - p.start_s for p in within),
        fill_s=max(fills_s, default=NAN),
        after_bytes=outcome.bytes_after,
    )
