import json
import re
from dataclasses import asdict, replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.edge import container, netlink
from testbed.edge.container import Holder
from testbed.edge.spec import CAPABILITIES, GATEWAY, Spec, network_commands, runtime_config

SPEC = Spec(
    name="counter",
    address="10.88.0.3",
    number=3,
    layers=("sha256-a", "sha256-b"),
    command=("python3", "/app/server.py"),
    environment=("A=1",),
    directory="/app",
    user="33:33",
)
words = st.text(max_size=10)
several = st.lists(words, max_size=4).map(tuple)
specs = st.builds(
    Spec,
    name=st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True),
    address=st.integers(1, 254).map(lambda n: f"10.88.0.{n}"),
    number=st.integers(1, 254),
    layers=several,
    command=several,
    environment=several,
    directory=words,
    user=words,
)


@given(specs)
def test_a_specification_survives_its_way_over_the_network(spec):
    assert Spec.from_json(json.loads(json.dumps(asdict(spec)))) == spec


def test_a_holder_has_namespaces_of_its_own_but_no_cgroup_namespace():
    # A cgroup namespace would have to be dumped and rebuilt in the frozen path.
    kinds = {n["type"]: n.get("path") for n in runtime_config(SPEC)["linux"]["namespaces"]}
    assert set(kinds) == {"pid", "ipc", "uts", "mount", "network"}
    assert kinds["network"] == "/run/netns/testbed-counter"
    assert [kind for kind, path in kinds.items() if path] == ["network"]


def test_there_is_nothing_in_a_holder_but_an_init():
    config = runtime_config(SPEC)
    process = config["process"]
    assert process["args"] == ["/.testbed/init", "-P"]
    assert (process["cwd"], process["terminal"]) == ("/", False)
    assert process["user"] == {"uid": 0, "gid": 0}
    assert "server.py" not in json.dumps(config)
    (init,) = [m for m in config["mounts"] if m["destination"] == "/.testbed/init"]
    assert (init["source"], init["options"]) == ("/usr/bin/catatonit", ["bind", "ro"])


def test_a_holder_may_do_what_docker_s_containers_may_and_no_more():
    process = runtime_config(SPEC)["process"]
    assert set(process["capabilities"]) == {"bounding", "effective", "permitted", "inheritable"}
    for granted in process["capabilities"].values():
        assert granted == CAPABILITIES
    assert process["noNewPrivileges"] is True
    for dangerous in ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_MODULE", "CHECKPOINT_RESTORE"):
        assert f"CAP_{dangerous}" not in CAPABILITIES


def test_the_edge_s_own_things_are_seen_inside_where_criu_looks_for_them():
    mounts = {m["destination"]: m for m in runtime_config(SPEC)["mounts"]}
    assert mounts["/.testbed/edge"]["options"] == ["bind", "ro"]
    assert mounts["/.testbed/scratch"]["source"] == "/run/testbed/scratch/counter"
    assert mounts["/.testbed/cgroup"]["source"] == "/sys/fs/cgroup/testbed/counter"
    assert [mounts[m]["type"] for m in ("/tmp", "/run", "/dev/shm")] == ["tmpfs"] * 3  # noqa: S108
    assert "size" not in " ".join(mounts["/tmp"]["options"])  # noqa: S108


def test_init_and_service_are_in_different_cgroups_so_that_only_one_is_frozen():
    path = runtime_config(SPEC)["linux"]["cgroupsPath"]
    assert path == "/testbed/counter.init"
    assert SPEC.cgroup == Path("/sys/fs/cgroup/testbed/counter")


@given(specs)
def test_a_configuration_can_be_written_down(spec):
    config = runtime_config(spec)
    assert json.loads(json.dumps(config)) == config
    assert config["root"] == {"path": str(spec.root), "readonly": False}
    assert config["hostname"] == spec.name


def test_the_network_is_made_step_by_step():
    commands = [" ".join(command) for command in network_commands(SPEC)]
    inside = "ip -n testbed-counter"
    assert commands == [
        "ip netns add testbed-counter",
        "ip link add svc-3 type veth peer name eth0 netns testbed-counter",
        "ip link set svc-3 address 02:00:0a:58:01:03 up",
        f"ip addr replace {GATEWAY}/32 dev svc-3",
        "ip neigh replace 10.88.0.3 lladdr 02:00:0a:58:00:03 dev svc-3 nud permanent",
        f"{inside} link set lo up",
        f"{inside} link set eth0 address 02:00:0a:58:00:03 up",
        f"{inside} addr add 10.88.0.3/32 dev eth0",
        f"{inside} route add {GATEWAY} dev eth0",
        f"{inside} route add default via {GATEWAY}",
        f"{inside} neigh replace {GATEWAY} lladdr 02:00:0a:58:01:03 dev eth0 nud permanent",
    ]


@given(st.integers(1, 254))
def test_numbers_make_devices_and_addresses_that_are_good_and_each_s_own(number):
    mine, next_one = (replace(SPEC, number=n) for n in (number, number % 254 + 1))
    hardware = re.findall(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", str(network_commands(mine)))
    others = re.findall(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", str(network_commands(next_one)))
    assert len(hardware) == 4
    assert len(set(hardware)) == 2
    assert not set(hardware) & set(others)
    assert all(int(address[:2], 16) & 3 == 2 for address in hardware)  # local, for one receiver
    assert len(mine.device) <= 15
    assert mine.device != next_one.device


def test_the_same_addresses_stand_on_every_edge():
    # Both ends' hardware addresses move with the container: what is restored finds its neighbour.
    assert network_commands(SPEC) == network_commands(Spec.from_json(asdict(SPEC)))
    assert IPv4Address(GATEWAY).is_link_local


# -- holders, written down


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "STATE", tmp_path / "state")
    return tmp_path / "state"


def test_a_holder_is_found_again_as_it_was_saved(state):
    Holder(SPEC, init=4242, service=1000).save()
    assert Holder.load("counter") == Holder(SPEC, init=4242, service=1000)
    assert [p.name for p in state.iterdir()] == ["counter.json"]


def test_a_later_save_replaces_an_earlier_one(state):
    holder = Holder(SPEC, init=4242)
    holder.save()
    holder.service = 1000
    holder.save()
    assert Holder.load("counter").service == 1000


def test_a_holder_that_is_not_there_is_said_so(state):
    with pytest.raises(KeyError, match="holds no container for service 'counter'"):
        Holder.load("counter")


@pytest.mark.parametrize(
    ("service", "waiting", "pids", "lives"),
    [(1000, False, "7\n", True), (1000, True, "7\n", False), (0, False, "7\n", False),
     (1000, False, "", False)],
)  # fmt: skip
def test_what_a_move_left_is_not_taken_for_a_service(tmp_path, service, waiting, pids, lives):
    """CRIU waits in an empty holder; a service on trust waits until it is asked for."""
    (tmp_path / "cgroup.procs").write_text(pids)
    holder = Holder(SimpleNamespace(cgroup=tmp_path), 4242, service, waiting)
    assert holder.lives is lives
    for frozen in (False, True):
        (tmp_path / "cgroup.freeze").write_text(f"{frozen:d}\n")
        assert holder.runs is (lives and not frozen)


def test_a_layer_that_is_missing_is_noticed_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "LAYERS", tmp_path)
    monkeypatch.setattr(container, "destroy", lambda *_, **__: pytest.fail("changed something"))
    (tmp_path / "sha256-a").mkdir()
    with pytest.raises(RuntimeError, match="1 of 2 layers of counter are not on this edge"):
        container.create(SPEC)


def test_a_service_is_not_started_twice(state):
    Holder(SPEC, init=4242, service=1000).save()
    with pytest.raises(RuntimeError, match="'counter' runs here already"):
        container.start("counter")


def test_removing_what_never_was_changes_nothing(state, monkeypatch):
    for owner, name in ((container.subprocess, "run"), (netlink, "unsilence")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("changed something"))
    container.destroy("counter")


def test_a_program_that_fails_is_named_with_what_it_said():
    with pytest.raises(RuntimeError, match=r"sh -c echo oops.*\.\.\.: oops"):
        container.run(["sh", "-c", "echo oops >&2; exit 3"])
    assert container.run(["echo", "well"]) == "well\n"
