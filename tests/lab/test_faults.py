"""Whatever breaks, and in whatever state of a move: the service answers at exactly one edge.

Before the target was told to restore, that is the source; once a whole service was restored there,
the target. The client counts along all the time. Where a move is to stand still at a state,
`between.py` holds back the message that leads to the next.
"""

import contextlib
import re
import threading
from types import SimpleNamespace

import pytest
import stage as stages
from small_lab import EDGES, STOP
from stage import Stage

from testbed.errors import HostUnreachableError, MigrationError, RemoteCommandError

TROUBLE = (RemoteCommandError, HostUnreachableError, MigrationError)


@pytest.fixture(scope="module")
def theatre(small):
    """Holds the stage, so that a test after one that failed can set up another."""
    held = SimpleNamespace(stage=None)
    yield held
    clear(small, held)


def clear(small, held):
    if held.stage is None:
        return
    stages.heal(held.stage)
    for edge in EDGES:
        small.lab.reach(edge)
        small.lab[edge].call("remove_service", name="counter")
    with contextlib.suppress(RemoteCommandError):
        small.lab["user"].call("stop_program", name="counter")
    held.stage = None


@pytest.fixture
def stage(small, theatre, monkeypatch):
    """The service in use; afterwards it is there, alone, and was never at two places."""
    if theatre.stage is None:
        theatre.stage = Stage(small)
    this, before = theatre.stage, theatre.stage
    theatre.stage = None
    this.break_at = lambda point, deed="pause": this.between(monkeypatch, point, deed)
    try:
        with this.watched():
            yield this
        theatre.stage = before
    finally:
        if theatre.stage is None:
            theatre.stage = before
            clear(small, theatre)


def run(stage, technique, fault, *, at):
    """Move the service and have the fault happen in a state; return the outcome or the error."""
    try:
        movement = stage.open(technique)
        if at == "opened":
            fault(stage)
        if technique != "cold":
            movement.send_ahead(STOP)
        return movement.finish(lambda: stage.steering.lead_to(stage.movement.target) and None)
    except TROUBLE as error:
        with contextlib.suppress(*TROUBLE):
            stage.movement.drop()
        return error


def run_paused(stage, technique, fault):
    said = []
    thread = threading.Thread(
        target=lambda: said.append(run(stage, technique, fault, at="a point"))
    )
    stage.movement = None
    thread.start()
    stages.until("the move was never opened", lambda: stage.movement or said)
    stage.paused()
    fault(stage)
    stage.go_on()
    thread.join(120)
    assert said, "the move does not end"
    return said[0]


AHEAD = [
    ("opened", "half_killed"),
    ("opened", "agent_killed"),
    ("opened", "controller_gone"),
    ("pages?", "line_cut"),
    ("pages?", "disk_full"),
    ("pages?", "controller_gone"),
    ("sync!", "agent_killed"),
]


@pytest.mark.parametrize(("point", "fault"), AHEAD)
def test_what_breaks_before_the_freeze_is_never_noticed(stage, point, fault):
    here, deed = stage.source, getattr(stages, fault)
    if point == "opened":
        said = run(stage, "delta", deed, at="opened")
    else:
        stage.break_at(point)
        said = run_paused(stage, "delta", deed)
    assert getattr(said, "outcome", "rolled back") == "rolled back"
    stage.settled_at(here)


# State of the source, where the move pauses, what breaks there, by which technique, where it ends.
FROZEN = [
    ("frozen", "pages?", "line_cut", "cold", "source"),
    ("frozen", "pages?", "half_killed", "cold", "source"),
    ("frozen", "pages?", "agent_killed", "cold", "source"),
    ("frozen", "pages?", "disk_full", "cold", "source"),
    ("frozen", "pages?", "controller_gone", "cold", "target"),
    ("frozen", "pages?", "stalled", "cold", "source"),
    ("sent", "restore?", "agent_killed", "delta", "source"),
    ("sent", "restore?", "criu_killed", "delta", "source"),
    ("sent", "restore?", "target_dies", "delta", "source"),
    ("sent", "restore!", "line_cut", "delta", "target"),
    ("sent", "restore!", "half_killed", "delta", "target"),
    ("sent", "restore!", "agent_killed", "delta", "target"),
    ("answered", "whole?", "line_cut", "pre-copy", "target"),
    ("answered", "whole?", "half_killed", "pre-copy", "target"),
    ("answered", "whole?", "half_hangs", "delta", "target"),
    ("answered", "whole?", "controller_gone", "pre-copy", "target"),
    ("answered", "whole?", "stalled", "delta", "target"),
    ("undecided", "confirm?", "line_cut", "delta", "target"),
    ("undecided", "confirm!", "half_killed", "delta", "target"),
    ("undecided", "confirm!", "agent_killed", "pre-copy", "target"),
]


@pytest.mark.parametrize("case", FROZEN, ids="-".join)
def test_what_breaks_while_it_stands_still_ends_at_one_edge(stage, case):
    state, point, fault, technique, end = case
    ends = {"source": stage.source, "target": stage.target}
    stage.break_at(point)
    said = run_paused(stage, technique, getattr(stages, fault))
    if not isinstance(said, Exception):
        assert said.outcome == {"source": "rolled back", "target": "moved"}[end], (state, said)
    elif isinstance(said, MigrationError):
        assert said.running_at == ends[end], said
    stages.until("nowhere", stages.answers_at)
    if fault in {"stalled", "target_dies"}:
        assert stages.answers_at() == [ends[end]]
        stages.heal(stage)
        stage.lab.reach(stage.movement.target)
        if end == "source":
            stage.lab[stage.movement.target].call("remove_service", name="counter")
    stage.settled_at(ends[end])


@pytest.mark.parametrize(
    ("point", "deed", "technique", "words"),
    [
        ("pages?", "flip", "delta", "pages.*arrived damaged"),
        ("pages?", "flip", "cold", "pages.*arrived damaged"),
        ("restore?", "flip", "delta", "restore.*arrived damaged"),
        ("restore?", "cut", "delta", "ended"),
        ("restore?", "forge", "delta", "cannot read. Remedy: install the same version"),
    ],
)
def test_images_that_are_damaged_are_never_restored(stage, point, deed, technique, words):
    here = stage.source
    stage.lab[stage.target].call("visits")  # nothing is being kept any more
    stage.hosts.on(stage.target, "rm -rf /var/lib/testbed/visits")  # so that pages are sent
    stage.break_at(point, deed)
    said = run(stage, technique, stages.nothing, at="")
    reason = str(said) if isinstance(said, Exception) else said.reason
    assert re.search(words, reason), reason
    stage.settled_at(here)


def test_a_service_is_moved_by_one_only_and_can_be_asked_to_go_elsewhere(stage):
    here, there = stage.source, "edge-3"
    movement = stage.open("pre-copy")
    movement.send_ahead(STOP)
    with pytest.raises(RemoteCommandError, match="is being moved already; drop that move first"):
        stage.hosts.open(here, there, "delta")
    movement.drop()
    movement.drop()
    elsewhere = stage.hosts.open(here, there, "pre-copy")
    elsewhere.send_ahead(STOP)
    outcome = elsewhere.finish(lambda: stage.steering.lead_to(there) and None)
    assert (outcome.outcome, outcome.reason) == ("moved", "")
    stage.lab[here].call("move_settle", move=elsewhere.migration, moved=False)
    stage.settled_at(there)


def test_what_an_interrupted_move_left_at_the_target_is_in_nobody_s_way(stage):
    stage.open("delta")
    leftover = stage.target
    # Both the half and its guard die: nobody is left to clean up.
    end = "pkill -9 -f 'cgroup[.]kill'; pkill -9 -f '^python3 -m edge[.]target'; true"
    stage.hosts.on(leftover, end)
    stage.movement.drop()
    assert stage.left_behind(leftover, has_service=False)
    outcome = run(stage, "pre-copy", stages.nothing, at="")
    assert outcome.outcome == "moved", outcome
    stage.settled_at(leftover)


def test_every_answer_was_right_to_the_end(stage):
    said = stage.hosts.ask_user()
    assert said["status"] == 0, said
    assert said["wrong"] == said["lost"] == said["reconnects"] == 0
    assert said["answered"] == said["sent"] > 1000
