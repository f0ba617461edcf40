"""Our contender: the testbed's own move of a service from one holder to another."""

from arena import SOURCE, Arena, Seen
from report import NAN, Case, Measured
from throughput import Throughput, count_answers

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
    seen, outcome = _move(arena, case, technique)
    lengths_s = {p.phase: p.end_s - p.start_s for p in outcome.phases if p.frozen}
    within = [p for p in outcome.phases if p.frozen and p.phase not in OUTSIDE]
    fill = _fill(outcome)
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
        fill_s=fill[1] - fill[0] if fill else NAN,
        after_bytes=outcome.bytes_after,
    )


def throughput(arena: Arena, case: Case, technique: str) -> Throughput:
    """Move the service while a user asks again at once, and count the answers.

    Raises
    ------
    MigrationError, ServiceError, WrongAnswerError
        As `move`.
    """
    seen, outcome = _move(arena, case, technique, at_once=True)
    fill = _fill(outcome)
    over_s = fill[1] if fill else outcome.answered_s
    ahead = (seen.ahead_s, seen.ordered_s) if outcome.bytes_ahead else None
    return count_answers(seen.answers_s, before_s=seen.ahead_s, over_s=over_s, ahead=ahead,
                         answered_s=outcome.answered_s, fill=fill)  # fmt: skip


def _fill(outcome: Outcome) -> tuple[float, float] | None:
    """From when to when memory was filled in, after the service answered."""
    times = [(p.start_s, p.end_s) for p in outcome.phases if p.phase == "fill"]
    return (min(a for a, _ in times), max(b for _, b in times)) if times else None


def _move(
    arena: Arena, case: Case, technique: str, *, at_once: bool = False
) -> tuple[Seen, Outcome]:
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
            at_once=at_once,
        )
    finally:
        for edge in (SOURCE, case.target):
            arena.lab[edge].call("remove_service", name=case.service)
    (outcome,) = done
    if outcome.outcome != "moved":
        raise MigrationError(f"{case.name}: {outcome.outcome}: {outcome.reason}\n{outcome.log}")
    return seen, outcome
