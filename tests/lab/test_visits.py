"""A service comes back to an edge where it was: what is still there does not travel again."""

import shutil

import pytest
from small_lab import STOP

from testbed.edge.visits import SPARE_SHARE

DISK = shutil.disk_usage("/var")
pytestmark = pytest.mark.skipif(
    DISK.free < 1.5 * SPARE_SHARE * DISK.total, reason="an edge keeps nothing on a disk so full"
)
VISIT = "/var/lib/testbed/visits/guest"
MEMORY_BYTES = 40e6


def move(hosts, steering, target, technique):
    """Move the guest; return how that went and how many bytes it took."""
    movement = hosts.open(steering.server, target, technique, "guest")
    movement.send_ahead(STOP)
    outcome = movement.finish(lambda: steering.lead_to(target) and None)
    assert (outcome.outcome, outcome.reason) == ("moved", "")
    return outcome, outcome.bytes_ahead + outcome.bytes_frozen + outcome.bytes_after


def kept(hosts, edge):
    """How much is kept on an edge of the guest; whatever is being kept is waited for."""
    visits = hosts.lab[edge].call("visits")
    assert "guest" in visits, f"{visits}: kept where a tenth of disk and memory is free"
    return visits["guest"]


@pytest.fixture
def guest(hosts):
    """The guest at the second edge, in use, after a first move; and how many bytes that took."""
    steering = hosts.start("guest")
    before = hosts.checksum("guest")
    hosts.use("guest")

    def begun(technique):
        outcome, size = move(hosts, steering, "edge-2", technique)
        assert outcome.bytes_spared == 0
        assert size > MEMORY_BYTES
        assert kept(hosts, "edge-1") > MEMORY_BYTES
        return steering, size

    yield begun
    said = hosts.ask_user("guest")
    assert (said["status"], said["wrong"], said["lost"], said["reconnects"]) == (0, 0, 0, 0)
    assert hosts.checksum("guest") == before


@pytest.mark.parametrize("technique", ["delta", "pre-copy", "hybrid"])
def test_what_never_changed_is_sent_once(hosts, guest, technique):
    steering, first = guest(technique)
    for target, left in (("edge-1", "edge-2"), ("edge-2", "edge-1")):
        outcome, size = move(hosts, steering, target, technique)
        assert size < first / 4
        assert outcome.bytes_spared > 0.9 * MEMORY_BYTES
        details = " ".join(p.detail for p in outcome.phases if p.phase == "ahead")
        assert "were there from an earlier visit" in details
        assert not any("visit" in p.detail for p in outcome.phases if p.frozen)
        assert kept(hosts, left) > MEMORY_BYTES


DAMAGE = {
    "pages": f"dd if=/dev/urandom of={VISIT}/pages bs=4096 seek=3000 count=500 conv=notrunc",
    "half the pages": f"truncate -s 20000001 {VISIT}/pages",
    "digests": f"dd if=/dev/urandom of={VISIT}/digests bs=16 seek=3000 count=500 conv=notrunc",
    "few digests": f"truncate -s 100 {VISIT}/digests",
    "no pages": f"rm {VISIT}/pages",
}
CASES = [*(("pre-copy", what) for what in DAMAGE), ("delta", "pages"), ("hybrid", "pages")]


@pytest.mark.parametrize(("technique", "what"), CASES)
def test_a_visit_that_was_damaged_costs_bytes_at_most(hosts, guest, technique, what):
    steering, first = guest(technique)
    hosts.on("edge-1", f"{DAMAGE[what]} 2>&1")
    outcome, size = move(hosts, steering, "edge-1", technique)
    assert outcome.bytes_spared < kept(hosts, "edge-2") - 400 * 4096
    assert size < 1.1 * first


def test_a_visit_lasts_until_its_service_is_removed(hosts, guest):
    guest("pre-copy")
    hosts.start("counter")
    hosts.lab["edge-1"].call("remove_service", name="counter")
    assert kept(hosts, "edge-1") > MEMORY_BYTES
    hosts.lab["edge-1"].call("remove_service", name="guest")
    assert hosts.lab["edge-1"].call("visits") == {}
    assert hosts.on("edge-1", "ls /var/lib/testbed/visits") == ""


def test_a_service_finds_what_another_of_its_image_has_left(hosts, guest):
    """Both run Python: its own memory is random, the interpreter's is not all."""
    guest("pre-copy")
    hosts.start("counter", "edge-2")
    movement = hosts.open("edge-2", "edge-1", "pre-copy")
    movement.send_ahead(STOP)
    outcome = movement.finish()
    assert outcome.outcome == "moved"
    assert 0 < outcome.bytes_spared < 16e6
