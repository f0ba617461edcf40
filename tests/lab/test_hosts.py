import pytest
from small_lab import NAME

from testbed.errors import LabError, LinkNotAsRequestedError, RemoteCommandError
from testbed.experiment.prepare import provision_lab, start_lab
from testbed.experiment.progress import Steps
from testbed.hosts.root import default_cache


def test_every_host_is_one_of_its_own(small):
    ask = "hostname; readlink /proc/1/ns/pid /proc/1/ns/net /proc/1/ns/mnt /proc/1/ns/ipc"
    seen = {host: small.on(host, ask).split() for host in small.lab.plan.hosts}
    assert [words[0] for words in seen.values()] == list(small.lab.plan.hosts)
    for namespace in zip(*[words[1:] for words in seen.values()], strict=True):
        assert len(set(namespace)) == len(seen)


def test_a_second_provisioning_changes_nothing(small):
    changed = []
    with Steps(1, quiet=True) as steps:
        steps.detail = changed.append
        provision_lab(small.lab, small.parts, default_cache(), steps)
    assert changed[-1] == f"0 changes on {len(small.lab.plan.hosts)} hosts"


def test_nothing_listens_on_an_edge_but_sshd(small):
    listening = small.on(
        "edge-1", "cat /proc/net/tcp /proc/net/tcp6 | awk '$4==\"0A\" {print $2}'"
    ).split()
    assert {int(where.rsplit(":", 1)[1], 16) for where in listening} == {22}


def test_every_link_is_as_the_scenario_asks(small):
    records = small.lab.verify(lambda _: None)
    assert {(r.source, r.target) for r in records} == {
        (link.source, link.target) for link in small.lab.plan.links
    }
    assert all(r.measured_rate_bps > 0 and r.applied for r in records)


def test_a_link_that_is_not_as_asked_is_refused(small):
    shaped = (
        "tc qdisc replace dev wan-edge-2 root handle 77: tbf rate 20mbit burst 15000 limit 90000"
    )
    small.on("edge-1", shaped)
    try:
        with pytest.raises(LinkNotAsRequestedError, match=r"edge-1.*edge-2"):
            small.lab.verify(lambda _: None)
    finally:
        with Steps(1, quiet=True) as steps:
            provision_lab(small.lab, small.parts, default_cache(), steps)
    small.lab.verify(lambda _: None)


def test_a_second_lab_of_the_same_name_is_refused_and_the_first_goes_on(small):
    with Steps(2, quiet=True) as steps, pytest.raises(LabError, match="up already"):
        start_lab(small.scenario, NAME, default_cache(), steps)
    assert small.on("edge-1", "hostname").strip() == "edge-1"


def test_a_call_that_fails_on_a_host_says_where_and_why(small):
    with pytest.raises(RemoteCommandError, match=r"edge-1.*nowhere"):
        small.lab["edge-1"].call("read", path="/nowhere")


def test_clocks_and_facts_of_every_host_are_known(small):
    hosts = small.lab.describe_hosts()
    assert [h.host for h in hosts] == list(small.lab.plan.hosts)
    assert all(abs(h.clock_offset_s) <= h.clock_uncertainty_s + 1e-3 for h in hosts)
    assert all(h.criu and h.page_size_bytes for h in hosts)
