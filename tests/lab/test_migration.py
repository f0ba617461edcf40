"""Real containers, moved by CRIU while a user's connection is open; every count must be right."""

import math
import time
from dataclasses import replace

import pytest
from small_lab import STOP

from testbed.errors import MigrationError, RemoteCommandError
from testbed.experiment.prepare import container_spec
from testbed.migration.technique import find_technique

AHEAD = ["delta", "pre-copy"]
SECOND_WAYS = [{"claim": False}, {"fill": False}, {"claim": False, "fill": False}]
ahead_of_the_freeze = pytest.mark.parametrize("technique", AHEAD)


def move(hosts, steering, target, technique="delta", service="counter"):
    movement = hosts.open(steering.server, target, technique, service)
    movement.send_ahead(STOP)
    return movement.finish(lambda: steering.lead_to(target) and None)


def assert_all_right(said):
    assert said["status"] == 0, said
    assert said["wrong"] == said["lost"] == said["reconnects"] == 0
    assert said["answered"] == said["sent"] > 100


@pytest.mark.parametrize("technique", ["cold", *AHEAD])
def test_the_counter_is_exact_after_moves_to_and_fro(hosts, technique):
    steering = hosts.start()
    before = hosts.checksum()
    hosts.use()
    for target in ("edge-2", "edge-1", "edge-2"):
        outcome = move(hosts, steering, target, technique)
        assert (outcome.outcome, outcome.reason) == ("moved", "")
        assert hosts.runs_at() == [target]
        time.sleep(0.3)
    assert_all_right(hosts.ask_user())
    assert hosts.checksum() == before


@ahead_of_the_freeze
def test_face_detection_moves_with_its_open_connection(hosts, technique):
    steering = hosts.start("faces")
    hosts.use("faces", interval_s=0.1)
    outcome = move(hosts, steering, "edge-2", technique, service="faces")
    assert outcome.outcome == "moved", outcome.reason
    time.sleep(1.0)
    said = hosts.ask_user("faces")
    assert said["status"] == 0, said
    assert said["answered"] == said["sent"] > 5


@pytest.mark.parametrize("technique", ["cold", *AHEAD])
def test_the_service_queues_for_the_processor_as_it_did(hosts, technique):
    steering = hosts.start()
    cgroup = container_spec(hosts.scenario, hosts.lab.plan, hosts.parts, "counter").cgroup
    tasks = f"$(cat {cgroup}/cgroup.procs)"
    hosts.on("edge-1", f"renice -n 5 -p {tasks}")
    assert move(hosts, steering, "edge-2", technique).outcome == "moved"
    queues = hosts.on("edge-2", f"ps -L -o cls=,rtprio=,ni= -p {tasks}")
    assert {tuple(line.split()) for line in queues.splitlines()} == {("TS", "-", "5")}


@ahead_of_the_freeze
def test_the_record_accounts_for_the_frozen_time(hosts, technique):
    steering = hosts.start()
    outcome = move(hosts, steering, "edge-2", technique)
    frozen = [p for p in outcome.phases if p.frozen]
    assert {p.phase for p in frozen} >= {"freeze", "dump", "pages", "images", "restore"}
    assert outcome.tracker == {"delta": "content", "pre-copy": "write-protect"}[technique]
    assert outcome.notes == ()
    assert outcome.frozen_s < outcome.answered_s < outcome.ended_s
    after_freeze = [p for p in frozen if p.phase not in {"freeze", "release"}]
    accounted = sum(p.end_s - p.start_s for p in after_freeze)
    assert accounted == pytest.approx(outcome.event_window_s, rel=0.25, abs=0.02)
    assert 0 < outcome.freeze_s < outcome.event_window_s
    assert outcome.bytes_frozen == sum(p.bytes for p in frozen)


@ahead_of_the_freeze
def test_little_is_sent_while_frozen_and_everything_by_a_cold_move(hosts, technique):
    steering = hosts.start()
    ahead = move(hosts, steering, "edge-2", technique)
    cold = move(hosts, steering, "edge-1", "cold")
    assert cold.bytes_frozen > 16e6
    assert ahead.bytes_frozen < cold.bytes_frozen / 5
    assert ahead.bytes_ahead > 16e6


@ahead_of_the_freeze
def test_files_the_service_wrote_are_there_after_the_move(hosts, technique):
    steering = hosts.start()
    write = "echo kept > /var/tmp/disk; echo kept > /tmp/memory; rm /etc/debian_version"
    hosts.inside("edge-1", write)
    assert move(hosts, steering, "edge-2", technique).outcome == "moved"
    seen = hosts.inside(
        "edge-2", "cat /var/tmp/disk /tmp/memory; ls /etc/debian_version 2>&1; true"
    )
    assert seen.split()[:2] == ["kept", "kept"]
    assert "No such file" in seen


@ahead_of_the_freeze
def test_a_restore_that_fails_leaves_the_service_at_the_source(hosts, technique):
    steering = hosts.start()
    hosts.use()
    movement = hosts.open("edge-1", "edge-2", technique)
    movement.send_ahead(STOP)
    # The program the images refer to is missing at the target: CRIU cannot restore.
    hosts.inside("edge-2", "rm -f /usr/bin/python3*")
    outcome = movement.finish()
    assert outcome.outcome == "rolled back"
    assert "python3" in outcome.reason + outcome.log
    assert hosts.runs_at() == ["edge-1"]
    assert math.isnan(outcome.answered_s)
    assert_all_right(hosts.ask_user())
    # Nothing in the way of the next try.
    assert move(hosts, steering, "edge-2", technique).outcome == "moved"


@ahead_of_the_freeze
@pytest.mark.parametrize("moment", ["prepared", "ahead"])
def test_a_target_that_dies_before_the_freeze_costs_nothing(hosts, moment, technique):
    hosts.start()
    hosts.use()
    movement = hosts.open("edge-1", "edge-2", technique)
    if moment == "ahead":
        movement.send_ahead(STOP)
    kill_target_half(hosts)
    if moment == "prepared":
        with pytest.raises(RemoteCommandError, match="edge"):
            movement.send_ahead(STOP)
        movement.drop()
    else:
        assert movement.finish().outcome == "rolled back"
    assert hosts.runs_at() == ["edge-1"]
    assert_all_right(hosts.ask_user())


@ahead_of_the_freeze
def test_a_line_that_breaks_after_the_restore_ends_at_the_target_alone(hosts, technique):
    steering = hosts.start()
    hosts.use()
    movement = hosts.open("edge-1", "edge-2", technique)
    movement.send_ahead(STOP)
    # As if the source's half never heard the answer: the target's half loses its line.
    hosts.on("edge-2", BREAK_AFTER_RESTORE)
    outcome = movement.finish(lambda: steering.lead_to("edge-2") and None)
    assert outcome.outcome == "moved", outcome.reason
    assert hosts.runs_at() == ["edge-2"]
    said = hosts.ask_user()
    assert said["wrong"] == 0
    assert said["answered"] == said["sent"]


@pytest.mark.parametrize(
    "way", [{"claim": False}, {"fill": False}, {"claim": False, "fill": False}]
)
def test_the_second_ways_are_as_exact_and_the_record_names_them(hosts, way):
    steering = hosts.start()
    before = hosts.checksum()
    hosts.use()
    technique = replace(find_technique("pre-copy"), **way)
    for target in ("edge-2", "edge-1"):
        movement = hosts.mover.open("counter", steering.server, target, technique)
        movement.send_ahead(STOP)
        outcome = movement.finish(lambda target=target: steering.lead_to(target) and None)
        assert (outcome.outcome, outcome.tracker) == ("moved", "write-protect")
        assert len(outcome.notes) == len(way)
    assert_all_right(hosts.ask_user())
    assert hosts.checksum() == before


def test_who_fills_memory_and_dies_leaves_no_half_a_service(hosts):
    """Missing pages would read as zeros: the service is whole at the source, or nowhere wrong."""
    steering = hosts.start()
    before = hosts.checksum()
    movement = hosts.open("edge-1", "edge-2", "pre-copy")
    movement.send_ahead(STOP)
    hosts.on("edge-2", KILL_AFTER_RESTORE)
    outcome = movement.finish()
    assert hosts.runs_at() == [{"moved": "edge-2", "rolled back": "edge-1"}[outcome.outcome]]
    steering.lead_to("edge-2" if outcome.outcome == "moved" else "edge-1")
    assert hosts.checksum() == before
    assert outcome.outcome == "rolled back"


@ahead_of_the_freeze
def test_a_dropped_preparation_leaves_nothing_at_the_target(hosts, technique):
    hosts.start()
    movement = hosts.open("edge-1", "edge-2", technique)
    movement.send_ahead(STOP)
    movement.drop()
    deadline = time.monotonic() + 10
    while hosts.on("edge-2", "ip netns list; ls /run/testbed/scratch").strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert hosts.runs_at() == ["edge-1"]


def test_source_and_target_must_differ_and_be_linked(hosts):
    hosts.start()
    with pytest.raises(MigrationError, match="both edge-1"):
        hosts.open("edge-1", "edge-1")
    with pytest.raises(MigrationError, match="no link"):
        hosts.open("edge-1", "user")


# While CRIU restores a task it bears CRIU's name; at the end it gets its own.
RESTORED = """
cd /sys/fs/cgroup/testbed/counter
half=$(pgrep -f '^python3 -m edge.target')
until grep -qs python3 $(sed 's|.*|/proc/&/comm|' cgroup.procs); do :; done
"""
# As soon as the service is restored, the line of the target's half is cut.
BREAK_AFTER_RESTORE = f"""
({RESTORED}
 kill -STOP $half
 session=$(ps -o ppid= -p $half)
 kill -9 $(ps -o ppid= -p $session) $session
 sleep 0.2
 kill -CONT $half
) </dev/null >/dev/null 2>&1 &
"""
# As soon as the service is restored, whoever fills its memory dies.
KILL_AFTER_RESTORE = f"""
({RESTORED}
 kill -9 $half
) </dev/null >/dev/null 2>&1 &
"""


def kill_target_half(hosts):
    hosts.on("edge-2", "pkill -9 -f '^python3 -m edge.target'; true")
