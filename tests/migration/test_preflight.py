import copy
from dataclasses import replace

import pytest
from facts_of_edges import CONTAINER, FACTS, ROOM
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import MigrationError, PreflightError
from testbed.migration.preflight import Move, needed_flags, reasons, require

FINE = Move("counter", "edge-1", "edge-2", FACTS, FACTS, CONTAINER, ROOM)


def at_target(**changes):
    return replace(FINE, target_facts={**FACTS, **changes})


def flags(*names):
    return {**FACTS["cpu"], "flags": list(names)}


def task(**changes):
    return replace(FINE, container={**CONTAINER, "tasks": [{**CONTAINER["tasks"][0], **changes}]})


def criu(**changes):
    return {**FACTS["criu"], **changes}


def other(**changes):
    there = {"name": "other", "address": "10.88.0.12", "number": 2, "lives": True, **changes}
    return replace(FINE, room={**ROOM, "containers": [there]})


def unfrozen():
    facts = copy.deepcopy(FACTS)
    facts["features"]["cgroup_freeze"] = {"works": False, "detail": "no cgroup2"}
    return replace(FINE, source_facts=facts)


def test_edges_that_suit_one_another_are_let_through():
    assert list(reasons(FINE)) == []
    require(FINE)


@pytest.mark.parametrize(
    ("move", "said"),
    [
        (at_target(architecture="aarch64"), "never goes to another architecture; choose a target"),
        (at_target(page_size_bytes=16384), "4096 bytes at edge-1, 16384 at edge-2.*start both"),
        (at_target(cpu=flags("sse4_2")), "processor of edge-2 lacks avx2.*choose a target"),
        (at_target(criu=criu(version=None)), "edge-2: CRIU: not installed.*Install CRIU"),
        (
            at_target(criu=criu(version="4.1.1")),
            "CRIU 4.2.1 of edge-1 writes.*4.1.1 of edge-2.*ins",
        ),
        (at_target(criu=criu(problem="fails on TCP")), "edge-2: CRIU: fails on TCP"),
        (at_target(capabilities={}), "edge-2: capabilities: lacks SYS_ADMIN"),
        (at_target(runtimes={}), "edge-2: runtime: neither crun nor runc"),
        (unfrozen(), "edge-1: freezer: no cgroup2"),
        (task(namespaces=["user", "net"]), r"task 1000 \(python3\) lives in.*own \(user, net\)"),
        (replace(FINE, container={**CONTAINER, "mounts": ["/data"]}), "/data was mounted.*unmount"),
        (
            other(address="10.88.0.11"),
            "10.88.0.11, where the ports of counter are.*other at edge-2",
        ),
        (other(number=1), "other at edge-2 has the network device of counter"),
        (other(name="counter"), "counter runs at edge-2 already"),
        (replace(FINE, room={**ROOM, "available_bytes": 50 << 20}), "20 MiB.*50 MiB left"),
    ],
)
def test_what_cannot_succeed_is_refused_with_the_reason_and_the_remedy(move, said):
    with pytest.raises(PreflightError, match=said) as refused:
        require(move)
    assert isinstance(refused.value, MigrationError)
    assert len(refused.value.reasons) == 1
    assert refused.value.running_at == "edge-1"


@pytest.mark.parametrize("where", ["source_facts", "target_facts"])
def test_a_32_bit_task_moves_only_where_criu_says_so_at_both_ends(where):
    old = task(bits=32)
    require(old)
    host = {"source_facts": "edge-1", "target_facts": "edge-2"}[where]
    unable = replace(old, **{where: {**FACTS, "criu": criu(moves_32_bits=False)}})
    with pytest.raises(PreflightError, match=f"in 32 bits, and CRIU at {host} moves tasks of 64"):
        require(unable)
    require(replace(unable, container=CONTAINER))


def test_every_reason_is_told_at_once():
    move = replace(
        at_target(page_size_bytes=65536, cpu=flags()),
        container={**CONTAINER, "mounts": ["/data"]},
    )
    with pytest.raises(PreflightError) as refused:
        require(move)
    assert len(refused.value.reasons) == 3
    assert all(reason in str(refused.value) for reason in refused.value.reasons)


@pytest.mark.parametrize(
    "move",
    [
        at_target(cpu=flags("avx2", "sse4_2", "avx512f")),
        at_target(criu=criu(version="4.2.2")),
        at_target(criu=criu(version="4.3")),
        at_target(kernel="6.6.1"),
        other(),
        other(name="counter", lives=False),
    ],
)  # fmt: skip
def test_what_is_merely_different_is_no_reason(move):
    require(move)


some_flags = st.sets(
    st.sampled_from(["avx2", "sse", "xsaves", "constant_tsc", "hypervisor", "nopl"])
)


@given(some_flags, some_flags)
def test_only_instructions_that_programs_use_count(here, there):
    move = replace(at_target(cpu=flags(*there)), source_facts={**FACTS, "cpu": flags(*here)})
    lacks = (here - there) & {"avx2", "sse", "xsaves"}
    assert bool(list(reasons(move))) == bool(lacks)


def test_every_flag_of_an_arm_processor_counts():
    arm = {**FACTS, "architecture": "aarch64", "cpu": flags("fp", "asimd", "atomics")}
    assert needed_flags(arm) == {"fp", "asimd", "atomics"}
