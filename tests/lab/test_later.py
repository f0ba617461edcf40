"""Memory that follows its service: post-copy and hybrid, and what becomes of them half-way."""

import time
from dataclasses import replace

import pytest
from test_migration import KILL_AFTER_RESTORE, RESTORED, assert_all_right, move

from testbed.errors import RemoteCommandError
from testbed.migration.technique import find_technique

both = pytest.mark.parametrize("technique", ["post-copy", "hybrid"])
MEMORY_BYTES = 16e6


@both
def test_the_counter_is_exact_though_memory_follows_it(hosts, technique):
    steering = hosts.start()
    before = hosts.checksum()
    hosts.use()
    for target in ("edge-2", "edge-1", "edge-2"):
        outcome = move(hosts, steering, target, technique)
        assert (outcome.outcome, outcome.reason, outcome.notes) == ("moved", "", ())
        assert hosts.runs_at() == [target]
        time.sleep(0.3)
    assert_all_right(hosts.ask_user())
    assert hosts.checksum() == before


def test_post_copy_sends_memory_once_and_after_the_service(hosts):
    steering = hosts.start()
    outcome = move(hosts, steering, "edge-2", "post-copy")
    assert outcome.bytes_ahead < 10_000
    assert outcome.bytes_frozen < MEMORY_BYTES / 16
    assert MEMORY_BYTES < outcome.bytes_after < 1.6 * MEMORY_BYTES
    (fill,) = (p for p in outcome.phases if p.phase == "fill")
    assert fill.start_s <= outcome.answered_s < fill.end_s < outcome.ended_s


def test_hybrid_sends_again_only_what_was_written_since(hosts):
    steering = hosts.start()
    outcome = move(hosts, steering, "edge-2", "hybrid")
    assert outcome.rounds > 1
    assert outcome.bytes_ahead > MEMORY_BYTES
    assert 0 < outcome.bytes_after < MEMORY_BYTES / 8
    assert outcome.bytes_frozen < MEMORY_BYTES / 16


@pytest.mark.parametrize("way", ["claim", "fill"])
@both
def test_what_a_host_cannot_do_is_refused_before_anything_stands_still(hosts, technique, way):
    hosts.start()
    hosts.use()
    without = replace(find_technique(technique), **{way: False})
    said = f"{technique} cannot be done here.*nearest that can is 'pre-copy'"
    with pytest.raises(RemoteCommandError, match=said):
        hosts.mover.open("counter", "edge-1", "edge-2", without)
    assert hosts.runs_at() == ["edge-1"]
    assert_all_right(hosts.ask_user())


MEND = "ip rule del priority 40; true"
BREAKS = {
    "the line stalls": "ip rule add priority 40 to 10.78.0.11 blackhole",
    "ssh dies": "kill -9 $(ps -o ppid= -p $half)",
    "the target's half hangs up": "kill -TERM $half",
}


@pytest.mark.parametrize("what", BREAKS)
def test_memory_that_does_not_come_ends_at_the_source_alone(hosts, what):
    """What was done at the target meanwhile is lost; nothing wrong is ever answered."""
    steering = hosts.start()
    before = hosts.checksum()
    movement = hosts.open("edge-1", "edge-2", "post-copy")
    hosts.on("edge-2", f"({RESTORED}\n{BREAKS[what]}\n) </dev/null >/dev/null 2>&1 &")
    try:
        outcome = movement.finish(lambda: steering.lead_to("edge-2") and None)
    finally:
        hosts.on("edge-2", MEND)
    assert outcome.outcome == "rolled back"
    assert outcome.reason
    assert hosts.runs_at() == ["edge-1"]
    steering.lead_to("edge-1")
    assert hosts.checksum() == before
    assert move(hosts, steering, "edge-2", "post-copy").outcome == "moved"


def test_who_fills_memory_and_dies_leaves_no_half_a_service(hosts):
    steering = hosts.start()
    before = hosts.checksum()
    movement = hosts.open("edge-1", "edge-2", "post-copy")
    hosts.on("edge-2", KILL_AFTER_RESTORE)
    assert movement.finish().outcome == "rolled back"
    assert hosts.runs_at() == ["edge-1"]
    steering.lead_to("edge-1")
    assert hosts.checksum() == before
