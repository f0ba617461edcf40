import copy
import os

import pytest

from testbed.errors import LabError, UnsupportedMachineError
from testbed.hosts import doctor
from testbed.hosts.doctor import examine, require

GOOD = {
    "host": "pi",
    "system": "Linux",
    "kernel": "6.12.1",
    "architecture": "aarch64",
    "python": "3.13.5",
    "root": True,
    "memory": {"total_bytes": 8 << 30, "available_bytes": 7 << 30},
    "disk_free_bytes": 50 << 30,
    "capabilities": dict.fromkeys(
        ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_RESOURCE", "CHECKPOINT_RESTORE"), True
    ),
    "criu": {"version": "4.2.1", "problem": ""},
    "runtimes": {"crun": "1.21", "runc": None},
    "tools": {"ip": "/usr/sbin/ip", "tc": "/usr/sbin/tc", "mmdebstrap": "/usr/sbin/mmdebstrap"},
    "routes": [{"dst": "default", "dev": "eth0"}, {"dst": "192.168.1.0/24", "dev": "eth0"}],
    "features": {
        name: {"works": True, "detail": "fine"}
        for name in (
            "namespaces", "netem", "tbf", "tun", "policy_rules", "overlayfs", "cgroup_freeze",
            "cgroup_kill", "soft_dirty", "userfaultfd", "wp_async", "pagemap_scan", "tracker",
            "claim", "lazy_restore",
        )
    },
}  # fmt: skip
NO_SYS_RESOURCE = {**GOOD["capabilities"], "SYS_RESOURCE": False}


def without(*features, **changes):
    facts = copy.deepcopy(GOOD) | changes
    for name in features:
        facts["features"][name] = {"works": False, "detail": f"no {name} here"}
    return facts


def status(diagnosis):
    return {finding.name: finding.status for finding in diagnosis.findings}


@pytest.mark.parametrize("role", ["machine", "edge"])
def test_a_good_host_has_nothing_to_complain_of(role):
    diagnosis = examine(GOOD, role)
    assert set(status(diagnosis).values()) == {"ok"}
    assert diagnosis.techniques == ("cold", "delta", "pre-copy")
    require(diagnosis)


@pytest.mark.parametrize(
    ("facts", "role", "name"),
    [
        ({"system": "Darwin"}, "machine", "system"),
        (without(root=False), "machine", "root"),
        (without("namespaces"), "machine", "namespaces"),
        (without("overlayfs"), "machine", "overlayfs"),
        (without("cgroup_freeze"), "machine", "freezer"),
        (without("cgroup_freeze"), "edge", "freezer"),
        (without("netem", "tun"), "machine", "WAN"),
        (without(tools={}), "machine", "tools"),
        (without(routes=[{"dst": "10.64.0.0/10", "dev": "vpn0"}]), "machine", "addresses"),
        (without(routes=[{"dst": "10.88.0.7", "dev": "cni0"}]), "machine", "addresses"),
        (without(criu={"version": None, "problem": ""}), "edge", "CRIU"),
        (without(criu={"version": "4.1.1", "problem": "TCP"}), "edge", "CRIU"),
        (without(runtimes={"crun": None}), "edge", "runtime"),
        (without(python="3.9.2"), "edge", "Python"),
        (without(capabilities={}), "edge", "capabilities"),
    ],
)
def test_what_blocks_is_refused_in_the_same_words(facts, role, name):
    diagnosis = examine(facts, role)
    assert [finding.name for finding in diagnosis.blocking] == [name]
    assert diagnosis.techniques == ()
    with pytest.raises(UnsupportedMachineError) as refused:
        require(diagnosis)
    finding = diagnosis.blocking[0]
    assert finding.sentence in str(refused.value)
    assert finding.consequence
    assert finding.remedy


@pytest.mark.parametrize(
    ("facts", "role", "name"),
    [
        (without("cgroup_kill"), "edge", "cgroup kill"),
        (without("policy_rules"), "machine", "policy rules"),
        (without("netem"), "edge", "WAN"),
        (without("wp_async", "soft_dirty"), "edge", "dirty pages"),
        (without("tracker"), "edge", "tracker"),
        (without("claim"), "edge", "claimed dump"),
        (without("lazy_restore"), "edge", "lazy restore"),
        (without(architecture="riscv64"), "edge", "architecture"),
        (without(disk_free_bytes=1), "machine", "disk"),
        (without(tools=GOOD["tools"] | {"mmdebstrap": None}), "machine", "mmdebstrap"),
        (without(capabilities=NO_SYS_RESOURCE), "edge", "SYS_RESOURCE"),
        (without(routes=[{"dst": "10.77.0.0/24", "dev": "tb-lab"}]), "machine", "addresses"),
    ],
)  # fmt: skip
def test_what_only_limits_is_told_and_let_pass(facts, role, name):
    diagnosis = examine(facts, role)
    assert status(diagnosis)[name] == "limited"
    require(diagnosis)


def test_a_machine_needs_no_criu_of_its_own():
    require(examine(without(criu={"version": None}, runtimes={}), "machine"))


def test_a_machine_without_netem_takes_the_delay_line():
    diagnosis = examine(without("netem"))
    assert diagnosis.wan_backend == "delay-line"
    assert status(diagnosis)["WAN"] == "ok"


@pytest.mark.parametrize(
    ("lacking", "tracker"),
    [
        ((), "wp-async"),
        (("pagemap_scan",), "soft-dirty"),
        (("tracker", "soft_dirty"), "content"),
        (("wp_async", "soft_dirty"), "content"),
    ],
)
def test_the_best_tracker_is_chosen(lacking, tracker):
    assert examine(without(*lacking)).dirty_tracker == tracker


def test_an_edge_says_ahead_how_services_will_be_moved():
    good = examine(GOOD, "edge").choices
    assert (good["dump"], good["restore"]) == ("without pages", "memory after")
    poor = examine(without("claim", "lazy_restore"), "edge").choices
    assert (poor["dump"], poor["restore"]) == ("with pages", "memory first")
    assert "dump" not in examine(GOOD, "machine").choices


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_root_that_does_not_work_is_told_with_the_remedy(tmp_path):
    with pytest.raises(LabError, match=r"does not work.*the next lab makes it again"):
        doctor.examine_edges(GOOD, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_ranges_can_be_asked_for():
    facts = without(routes=[{"dst": "172.16.0.0/16", "dev": "x"}, {"dst": "fe80::/64"}])
    require(examine(facts))
    assert examine(facts, ranges=["172.16.3.0/24"]).blocking


def test_a_diagnosis_fits_a_terminal_and_a_notebook():
    diagnosis = examine(without("netem", "tun", "overlayfs"), "machine")
    text = str(diagnosis)
    assert max(map(len, text.splitlines())) <= 90
    for finding in diagnosis.blocking:
        assert finding.name in text
    assert "MISSING" in text
    assert "pi cannot be used as machine: overlayfs, WAN" in text
    page = examine(without(host="<pi>"))._repr_html_()
    assert "&lt;pi&gt;" in page
    assert "<pi>" not in page


def test_this_machine_is_probed_before_a_back_end_is_chosen(monkeypatch):
    monkeypatch.setattr(doctor.probe, "facts", lambda: without("netem"))
    assert doctor.choose_backend() == "delay-line"
    monkeypatch.setattr(doctor.probe, "facts", lambda: without("overlayfs"))
    with pytest.raises(UnsupportedMachineError, match="overlayfs: no overlayfs here"):
        doctor.choose_backend()
