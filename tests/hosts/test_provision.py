import io
import random
import sys
import tarfile
import types
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ProvisioningError
from testbed.hosts import provision as provisioning
from testbed.hosts.plan import plan_lab
from testbed.hosts.provision import (
    REPOSITORY,
    ClientFolder,
    LayerArchive,
    Provisioned,
    archive,
    inventory,
    provision,
)
from testbed.hosts.remote import edge_files
from testbed.scenario import Scenario

STATE = Path("/run/testbed/lab")
SCENARIO = Scenario.model_validate({
    "name": "made",
    "map": {"source": "berlin"},
    "hosts": {
        "edge-1": {"role": "server", "tier": "local"},
        "edge-2": {"role": "server", "tier": "local"},
        "bs-1": {"role": "base-station"},
        "car": {"role": "user"},
    },
    "links": [{"between": ["*", "*"]}],
    "services": {"counter": {"kind": "simple"}},
    "users": {"u": {"host": "car", "service": "counter", "trace": {"source": "sumo"}}},
})  # fmt: skip
PLAN = plan_lab(SCENARIO)
WAN = {name: {"host": name, "devices": []} for name in PLAN.hosts}
contents = st.dictionaries(
    st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True), st.binary(max_size=600), max_size=6
)


def unpacked(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


# -- what Ansible is given


def test_every_host_is_in_the_group_of_its_role_with_the_way_to_it():
    groups = inventory(PLAN, STATE, WAN)["all"]["children"]
    assert {group: list(content["hosts"]) for group, content in groups.items()} == {
        "servers": ["edge-1", "edge-2"],
        "base_stations": ["bs-1"],
        "users": ["car"],
    }
    host = groups["base_stations"]["hosts"]["bs-1"]
    assert host["ansible_host"] == PLAN.hosts["bs-1"].control_address
    assert host["ansible_ssh_private_key_file"] == "/run/testbed/lab/ssh/id"
    assert host["wan_plan"] == WAN["bs-1"]
    words = host["ansible_ssh_common_args"].split()
    assert "UserKnownHostsFile=/run/testbed/lab/ssh/known_hosts" in words
    assert words[-2:] == ["-F", "none"]


def test_a_host_s_key_is_always_checked():
    said = yaml.safe_dump(inventory(PLAN, STATE, WAN))
    assert "StrictHostKeyChecking=no" not in said
    assert "/dev/null" not in said


def test_the_groups_are_those_that_the_playbooks_speak_of():
    groups = set(inventory(PLAN, STATE, WAN)["all"]["children"])
    plays = yaml.safe_load((REPOSITORY / "playbooks" / "site.yml").read_text(encoding="utf-8"))
    named = {group for play in plays for group in str(play["hosts"]).replace(":", ",").split(",")}
    assert {name.strip() for name in named} - {"all"} <= groups


@given(contents)
def test_an_archive_holds_what_it_was_given(content):
    assert unpacked(archive(content)) == content


@given(contents, st.randoms(use_true_random=False))
def test_an_archive_is_the_same_whenever_its_content_is(content, order):
    items = list(content.items())
    order.shuffle(items)
    assert archive(dict(items)) == archive(content)


def test_an_archive_says_nothing_of_who_made_it_when():
    with tarfile.open(fileobj=io.BytesIO(archive({"a": b"x"}))) as tar:
        (member,) = tar
    assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)


def test_the_edge_s_code_is_all_of_it_and_nothing_else():
    files = edge_files()
    assert {"agent.py", "target.py", "__init__.py", "tracker.c", "userfaultfd.h"} <= set(files)
    assert {Path(name).suffix for name in files} == {".py", ".c", ".h"}
    assert files["agent.py"] == (REPOSITORY / "testbed" / "edge" / "agent.py").read_bytes()


# -- a run of the playbooks, with something else in Ansible's place


class Ansible:
    """In the place of `ansible_runner`: keeps what it is given, tells the events it is told."""

    def __init__(self, events=(), status="successful", stdout=""):
        self.events, self.status, self.stdout = events, status, io.StringIO(stdout)
        self.stats = {"changed": {"edge-1": 3, "car": 1}, "ok": {"edge-1": 9}}
        self.asked = {}
        self.inventory = {}
        self.archives = {}

    def run(self, **asked):
        self.asked = asked
        self.inventory = yaml.safe_load(Path(asked["inventory"][1]).read_text(encoding="utf-8"))
        variables = asked["extravars"]
        clients = [client["archive"] for client in variables["user_clients"]]
        names = [variables["agent_code_archive"], *clients]
        self.archives = {Path(name).name: unpacked(Path(name).read_bytes()) for name in names}
        for event in self.events:
            assert asked["event_handler"](event) is False
        return self


@pytest.fixture
def state(tmp_path):
    """The folder of a lab that is up."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def run(monkeypatch, state):
    """Provision with a stand-in for Ansible; what was said, and what was raised if anything."""

    def provision_with(ansible, *, layers=(), clients=()):
        module = types.ModuleType("ansible_runner")
        module.run = ansible.run
        monkeypatch.setitem(sys.modules, "ansible_runner", module)
        said = []
        done = provision(
            PLAN,
            state,
            wan_plans=WAN,
            layers=list(layers),
            clients=list(clients),
            progress=said.append,
        )
        return done, said

    return provision_with


def failed(host="edge-1", task="Install CRIU", kind="runner_on_failed", **res):
    return {"event": kind, "event_data": {"host": host, "task": task, "res": res}}


def test_what_was_done_is_counted_and_each_task_is_told(run):
    events = [
        {"event": "playbook_on_start"},
        {"event": "playbook_on_task_start", "event_data": {"task": "Install CRIU"}},
        {"event": "runner_on_ok", "event_data": {"host": "edge-1", "task": "Install CRIU"}},
    ]
    done, said = run(Ansible(events))
    assert done == Provisioned(changed={"edge-1": 3, "car": 1}, ok={"edge-1": 9})
    assert done.changes == 4
    assert said == ["Install CRIU"]


def test_hosts_code_layers_and_clients_are_staged(run, tmp_path, state):
    client = tmp_path / "client"
    (client / "inputs" / "__pycache__").mkdir(parents=True)
    (client / "client.py").write_text("print()")
    (client / "inputs" / "face.jpg").write_bytes(b"jpg")
    (client / "inputs" / "__pycache__" / "x.pyc").write_bytes(b"old")
    ansible = Ansible()
    run(
        ansible,
        layers=[LayerArchive("sha-1", Path("/cache/sha-1.tar.zst"))],
        clients=[ClientFolder(client, "/opt/testbed/clients/simple/")],
    )
    variables = ansible.asked["extravars"]
    assert ansible.inventory == inventory(PLAN, state, WAN)
    assert variables["images_layers"] == [{"digest": "sha-1", "archive": "/cache/sha-1.tar.zst"}]
    assert variables["edge_peer_key"] == str(state / "ssh" / "peer")
    assert variables["user_clients"][0]["folder"] == "/"
    assert ansible.archives["client-0.tar"] == {
        "opt/testbed/clients/simple/client.py": b"print()",
        "opt/testbed/clients/simple/inputs/face.jpg": b"jpg",
    }
    code = ansible.archives["edge.tar"]
    assert code == {f"edge/{name}": data for name, data in edge_files().items()}
    assert Path(ansible.asked["private_data_dir"]).parent == state  # goes with the lab
    assert list(state.iterdir()) == []  # nothing is left behind


def test_a_failing_task_is_said_with_host_task_and_its_own_words(run):
    events = [
        failed(stderr="E: no such package\n", msg="non-zero return code"),
        failed(host="car", task="Copy the client", msg="No space left on device"),
        failed(host="bs-1", task="Odd", rc=3),
    ]
    with pytest.raises(ProvisioningError) as refused:
        run(Ansible(events, "failed"))
    assert str(refused.value).splitlines() == [
        "provisioning failed:",
        "edge-1: Install CRIU: E: no such package",
        "car: Copy the client: No space left on device",
        'bs-1: Odd: {"rc": 3}',
    ]


def test_a_host_that_cannot_be_reached_is_said_so(run):
    event = failed(kind="runner_on_unreachable", msg="Connection refused\n")
    with pytest.raises(ProvisioningError, match="edge-1: cannot be reached over SSH: Connection"):
        run(Ansible([event], "failed"))


def test_a_failure_that_is_ignored_is_not_said(run):
    event = failed(msg="never mind")
    event["event_data"]["ignore_errors"] = True
    done, _ = run(Ansible([event]))
    assert done.changes == 4
    with pytest.raises(ProvisioningError) as refused:
        run(Ansible([event], "failed", stdout="the end of the log"))
    assert "never mind" not in str(refused.value)


def test_the_same_failure_on_a_host_is_said_once(run):
    with pytest.raises(ProvisioningError) as refused:
        run(Ansible([failed(msg="no"), failed(msg="no")], "failed"))
    assert str(refused.value).count("edge-1") == 1


def test_a_failure_without_a_task_shows_the_end_of_what_ansible_said(run):
    with pytest.raises(ProvisioningError, match="ERROR! the playbook could not be found"):
        run(Ansible((), "failed", stdout="x" * 5000 + "ERROR! the playbook could not be found"))
    with pytest.raises(ProvisioningError, match="ended with status timeout"):
        run(Ansible((), "timeout"))


def test_an_item_of_a_loop_that_failed_is_said_in_its_own_words(run):
    items = [
        {"item": "sha-1", "failed": False, "msg": ""},
        {"item": "sha-2", "failed": True, "msg": "layer sha-2 arrived damaged"},
    ]
    with pytest.raises(ProvisioningError, match="layer sha-2 arrived damaged"):
        run(Ansible([failed(msg="One or more items failed", results=items)], "failed"))


def test_words_that_are_no_text_do_not_hide_a_failure(run):
    with pytest.raises(ProvisioningError, match=r"edge-1: Install CRIU: .*two"):
        run(Ansible([failed(msg=["one", "two"])], "failed"))


def test_nothing_depends_on_the_order_of_files_on_disk(tmp_path, run):
    names = [f"f{n}" for n in range(20)]
    archives = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for name in random.Random(seed).sample(names, len(names)):
            (folder / name).write_text(name)
        ansible = Ansible()
        run(ansible, clients=[ClientFolder(folder, "/opt/x")])
        archives.append(list(ansible.archives["client-0.tar"].items()))
    assert archives[0] == archives[1]
    assert provisioning.FORKS > 1
