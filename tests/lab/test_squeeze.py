"""What travels in a migration is small, and what is there already does not travel."""

import pytest
from small_lab import STOP


def move(hosts, steering, target, service="counter"):
    movement = hosts.open(steering.server, target, "pre-copy", service)
    movement.send_ahead(STOP)
    outcome = movement.finish(lambda: steering.lead_to(target) and None)
    assert outcome.outcome == "moved", outcome.reason
    return outcome


def details(outcome, name):
    return " ".join(p.detail for p in outcome.phases if p.phase == name)


def test_what_shrinks_is_packed_and_what_does_not_is_not(hosts):
    """The counter's memory is random; the interpreter's and OpenCV's heaps are not."""
    steering = hosts.start()
    said = details(move(hosts, steering, "edge-2"), "ahead")
    assert "MB plain" in said
    assert "zstd" in said or "lz4" in said
    assert "of zeros" in said
    steering = hosts.start("faces")
    outcome = move(hosts, steering, "edge-2", "faces")
    whole = 4096 * int(details(outcome, "fill").split()[0])
    first = next(p for p in outcome.phases if p.phase == "ahead")
    assert first.bytes < 0.6 * whole


@pytest.mark.parametrize("layers", ["all", "the last"])
def test_layers_that_the_target_lacks_come_from_the_source(hosts, layers):
    steering = hosts.start()
    before = hosts.checksum()
    digests = hosts.parts.images["counter"].layers
    lost = [layer.digest for layer in (digests if layers == "all" else digests[-1:])]
    there = "/var/lib/testbed/layers"
    hosts.on("edge-2", "; ".join(f"rm -rf {there}/{d} {there}/{d}.tar.zst" for d in lost))
    hosts.use()
    outcome = move(hosts, steering, "edge-2")
    assert details(outcome, "open") == f"{len(lost)} layers sent"
    assert hosts.ask_user()["wrong"] == 0
    assert hosts.checksum() == before
    assert details(move(hosts, steering, "edge-1"), "open") == ""


def test_a_layer_that_arrives_damaged_ends_the_move_and_the_service_runs_on(hosts):
    hosts.start()
    digest = hosts.parts.images["counter"].layers[-1].digest
    there = f"/var/lib/testbed/layers/{digest}"
    hosts.on("edge-2", f"mv {there} {there}.kept")
    hosts.on(
        "edge-1", f"cp {there}.tar.zst /tmp/kept; tar -cT /dev/null | zstd -q > {there}.tar.zst"
    )
    try:
        with pytest.raises(Exception, match="damaged"):
            hosts.open("edge-1", "edge-2", "pre-copy")
        assert hosts.runs_at() == ["edge-1"]
        assert hosts.on("edge-2", "ls /var/lib/testbed/incoming") == ""
    finally:
        hosts.on("edge-1", f"mv /tmp/kept {there}.tar.zst")
        hosts.on("edge-2", f"mv {there}.kept {there}")
