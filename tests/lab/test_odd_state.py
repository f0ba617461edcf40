"""State that is seldom thought of: it goes along, or the service stays where it is."""

from pathlib import Path

import pytest
from small_lab import STOP
from test_hard_cases import Hard

from testbed.errors import RemoteCommandError

SERVICE = Path(__file__).with_name("odd_service.py").read_text(encoding="utf-8")


@pytest.fixture
def odd(hosts):
    return Hard(hosts, service=SERVICE)


@pytest.mark.parametrize("technique", ["cold", "pre-copy"])
def test_odd_state_goes_along(odd, technique):
    odd.ask("sysv")
    odd.check()
    for _ in range(2):
        outcome = odd.move(technique)
        assert outcome.tracker == {"cold": "content", "pre-copy": "write-protect"}[technique]
        assert not [note for note in outcome.notes if "by content" in note]
        odd.check()


def test_a_process_that_left_the_tree_makes_a_move_refused_before_anything_happens(odd):
    odd.ask("daemon")
    with pytest.raises(RemoteCommandError, match="does not descend"):
        odd.hosts.open("edge-1", "edge-2", "pre-copy")
    assert odd.hosts.runs_at() == ["edge-1"]
    odd.check()
    odd.ask("bury")
    odd.move("pre-copy")
    odd.check()


@pytest.mark.parametrize(
    ("done", "reason", "undone"), [("daemon", "descend", "bury"), ("sysv", "System V", "check")]
)
def test_what_appears_after_the_preflight_lets_the_service_go_on_at_the_source(
    odd, done, reason, undone
):
    movement = odd.hosts.open("edge-1", "edge-2", "pre-copy")
    movement.send_ahead(STOP)
    odd.ask(done)
    outcome = movement.finish()
    assert outcome.outcome == "rolled back"
    assert reason in outcome.reason
    assert odd.hosts.runs_at() == ["edge-1"]
    odd.check()
    odd.ask(undone)
    odd.count += undone == "check"
    odd.move("pre-copy")
    odd.check()


def test_a_service_cannot_change_what_would_stay_behind_with_its_network(odd):
    script = "echo 1 > /proc/sys/net/ipv4/ip_forward && echo changed || true"
    assert odd.hosts.inside("edge-1", script) == ""
