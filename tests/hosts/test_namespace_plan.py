"""What `testbed.hosts.namespace` decides before it touches the machine."""

import json
import socket
import threading
from pathlib import Path

import pytest

from testbed.errors import LabError, ScenarioError
from testbed.hosts import namespace
from testbed.hosts.namespace import list_netns, read_state, speaks_ssh, ssh_command, take_down
from testbed.hosts.plan import plan_lab
from testbed.scenario import Scenario

PLAN = plan_lab(
    Scenario.model_validate({
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
    }),
    "tbnone",
)  # fmt: skip


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders of this test in the place of the machine's own; commands are only noted."""
    commands = []
    monkeypatch.setattr(namespace, "RUN", tmp_path / "run" / "testbed")
    monkeypatch.setattr(namespace, "DISK", tmp_path / "lib" / "labs")
    monkeypatch.setattr(namespace, "lab_cgroup", lambda name: tmp_path / "cgroup" / name)
    monkeypatch.setattr(namespace, "list_netns", lambda _: [])
    monkeypatch.setattr(namespace.subprocess, "run", lambda c, **_: commands.append(c))
    namespace.RUN.mkdir(parents=True)
    namespace.DISK.mkdir(parents=True)
    return commands


def test_ssh_reaches_a_host_with_the_lab_s_own_key_and_no_questions():
    command = ssh_command(Path("/run/testbed/lab"), "10.77.0.11")
    assert command[0] == "ssh"
    assert command[-1] == "root@10.77.0.11"
    assert command[command.index("-i") + 1] == "/run/testbed/lab/ssh/id"
    assert command[command.index("-F") + 1] == "none"
    options = {command[n + 1] for n, word in enumerate(command) if word == "-o"}
    assert options >= {
        "UserKnownHostsFile=/run/testbed/lab/ssh/known_hosts",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        "BatchMode=yes",
    }


def test_the_state_that_is_saved_is_the_state_that_is_read(places):
    state = namespace.RUN / PLAN.name
    state.mkdir()
    namespace._save(PLAN, state, "netem")
    read = read_state(PLAN.name)
    assert read["backend"] == "netem"
    assert read["hosts"] == {name: h.control_address for name, h in PLAN.hosts.items()}
    assert [tuple(pair) for pair in read["links"]] == PLAN.pairs()


def test_a_lab_that_is_not_up_is_said_so(places):
    with pytest.raises(LabError, match=r"no lab 'other' is up; `testbed lab up` starts one"):
        read_state("other")


def test_mounts_are_found_deepest_first_and_only_the_lab_s_own(monkeypatch):
    mounts = "".join(
        f"x {where} overlay rw 0 0\n"
        for where in ("/", "/labs/one", "/labs/one/a/root", "/labs/one/a", "/labs/onemore/a", "/la")
    )
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: mounts)
    found = namespace._mounts_below(Path("/labs/one"))
    assert found == ["/labs/one/a/root", "/labs/one/a", "/labs/one"]


def test_only_namespaces_of_this_lab_are_listed(tmp_path, monkeypatch):
    for name in ("tb-a-core", "tb-a-edge-1", "tb-ab-core", "tb-b-core", "x-tb-a-core", "tb-a"):
        (tmp_path / name).touch()
    monkeypatch.setattr(namespace, "Path", lambda _: tmp_path)
    assert list_netns("a") == ["tb-a-core", "tb-a-edge-1"]


@pytest.mark.parametrize("file", ["cgroup", "state"])
def test_a_lab_is_not_started_over_another_of_its_name(places, tmp_path, file):
    there = tmp_path / "cgroup" / PLAN.name if file == "cgroup" else namespace.RUN / PLAN.name
    there.mkdir(parents=True)
    with pytest.raises(LabError, match="'tbnone' is up already, or was not taken down"):
        namespace.bring_up(PLAN, cache=tmp_path, backend="netem")
    assert there.exists()
    assert places == []


def test_taking_down_what_never_was_touches_nothing(places):
    (namespace.DISK / "another").mkdir()
    (namespace.RUN / "another").mkdir()
    assert take_down("never") == []
    assert places == []
    assert (namespace.DISK / "another").exists()
    assert (namespace.RUN / "another").exists()


def test_taking_down_removes_the_lab_s_folders_and_no_other_s(places):
    for name in ("mine", "minetoo"):
        (namespace.DISK / name / "edge-1" / "upper").mkdir(parents=True)
        (namespace.RUN / name).mkdir()
        (namespace.RUN / name / "state.json").write_text("{}")
    removed = take_down("mine")
    assert removed == [f"folder {namespace.DISK / 'mine'}", f"folder {namespace.RUN / 'mine'}"]
    assert (namespace.DISK / "minetoo" / "edge-1" / "upper").exists()
    assert (namespace.RUN / "minetoo" / "state.json").exists()
    assert take_down("mine") == []


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", "*"])
def test_a_name_that_is_no_lab_s_name_removes_nothing(places, tmp_path, name):
    bystanders = [
        namespace.DISK / "another" / "file",
        namespace.DISK / "a" / "b" / "file",
        tmp_path / "lib" / "other" / "file",
        tmp_path / "run" / "other" / "file",
        namespace.RUN / "another" / "file",
    ]
    for file in bystanders:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with pytest.raises((LabError, ScenarioError, ValueError)):
        take_down(name)
    assert [file for file in bystanders if not file.exists()] == []


def test_a_host_knows_itself_its_neighbours_and_who_may_log_in(places):
    ssh, upper = namespace.RUN / "ssh", namespace.DISK / "upper"
    ssh.mkdir()
    for key in ("id", "peer", "host-edge-1"):
        (ssh / key).write_text(f"private {key}\n")
        (ssh / f"{key}.pub").write_text(f"public {key}\n")
    namespace._write_identity(PLAN, "edge-1", upper, namespace.RUN)
    hosts = (upper / "etc" / "hosts").read_text().splitlines()
    assert hosts == [
        "127.0.0.1 localhost",
        *(f"{host.control_address} {name}" for name, host in PLAN.hosts.items()),
    ]
    assert (upper / "etc" / "hostname").read_text() == "edge-1\n"
    allowed = upper / "root" / ".ssh" / "authorized_keys"
    assert allowed.read_text() == "public id\npublic peer\n"
    own = upper / "etc" / "ssh" / "ssh_host_ed25519_key"
    assert own.read_text() == "private host-edge-1\n"
    modes = [p.stat().st_mode & 0o777 for p in (own, allowed, allowed.parent, upper / "root")]
    assert modes == [0o600, 0o600, 0o700, 0o700]


def test_a_server_that_does_not_speak_ssh_is_none(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        real = socket.create_connection
        monkeypatch.setattr(
            namespace.socket, "create_connection", lambda _, timeout: real(address, timeout)
        )

        def answer(words):
            connection, _ = server.accept()
            connection.sendall(words)
            connection.close()

        for words, speaks in ((b"SSH-2.0-x\r\n", True), (b"HTTP/1.1 400\r\n", False), (b"", False)):
            thread = threading.Thread(target=answer, args=(words,))
            thread.start()
            assert speaks_ssh("127.0.0.1") is speaks
            thread.join()
    assert not speaks_ssh("127.0.0.1")


def test_a_lab_s_state_is_plain_json(places):
    state = namespace.RUN / PLAN.name
    state.mkdir()
    namespace._save(PLAN, state, "delay-line")
    assert json.loads((state / "state.json").read_text())["lab"] == "tbnone"
