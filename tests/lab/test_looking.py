"""Looking into real checkpoints, and knowing before a move what it will be like."""

import json
from dataclasses import asdict, replace

import pytest
from made_programs import elf32
from small_lab import EDGES, NAME, STOP

from testbed.checkpoints.checkpoint import Checkpoint
from testbed.checkpoints.take import take
from testbed.errors import CheckpointError, PreflightError
from testbed.experiment.prepare import container_spec

OWN_NAMESPACE = (
    "import os, time\n"
    "os.unshare(os.CLONE_NEWUSER)\n"
    "open('/run/ready', 'w').close()\n"
    "time.sleep(1000)"
)
IN_32_BITS = (
    "import os\n"
    f"open('/tmp/old', 'wb').write({elf32()!r})\n"
    "os.chmod('/tmp/old', 0o755)\n"
    "os.execv('/tmp/old', ['old'])"
)


def start_python(hosts, code):
    """A service of its own making in place of the lab's counter."""
    spec = container_spec(hosts.scenario, hosts.lab.plan, hosts.parts, "counter")
    spec = replace(spec, command=("python3", "-c", code))
    hosts.lab["edge-1"].call("start_service", spec=json.loads(json.dumps(asdict(spec))))


def wait_for(hosts, condition):
    """Wait until a condition of the shell holds on the service's edge; half a minute at most."""
    hosts.on("edge-1", f"timeout 30 sh -c 'until {condition}; do sleep 0.1; done'")


def test_a_running_service_is_looked_into_and_goes_on(hosts, tmp_path):
    hosts.start()
    hosts.use()
    before = Checkpoint.open(take(NAME, "edge-1", "counter", tmp_path / "1.tar"))
    after = Checkpoint.open(take(NAME, "edge-1", "counter", tmp_path / "2.tar"))
    said = hosts.ask_user()
    assert said["status"] == 0, said
    (process,) = after.processes.to_dict("records")
    assert "/app/server.py --port 8000" in process["command"]
    assert process["held_bytes"] > 16e6
    address = hosts.lab.plan.service_addresses["counter"]
    assert set(after.sockets["state"]) == {"listening", "established"}
    established = after.sockets[after.sockets["state"] == "established"]
    assert established["local"].tolist() == [f"{address}:8000"]
    assert after.mappings["held_bytes"].sum() == after.images["size_bytes"].max()
    difference = after.difference(before)
    assert 0 < difference.changed_bytes < process["held_bytes"]
    changed = difference.mappings.sort_values("changed_bytes").iloc[-1]
    assert (changed["kind"], changed["pages"] > 3000) == ("anonymous", True)
    assert hosts.on("edge-1", "ls /run/testbed/scratch/counter").split() == []


def test_where_there_is_nothing_to_look_into_it_is_said(hosts, tmp_path):
    for host, service, said in (
        ("edge-1", "counter", "edge-1: no checkpoint of counter.*holds no container"),
        ("edge-9", "counter", "has no host 'edge-9'; it has: edge-1"),
    ):
        with pytest.raises(CheckpointError, match=said):
            take(NAME, host, service, tmp_path / "x.tar")
    assert list(tmp_path.iterdir()) == []


def test_what_an_edge_says_of_its_ways_is_what_a_move_takes(hosts):
    ways = {record.host: record for record in hosts.lab.describe_hosts()}
    hosts.start()
    movement = hosts.open("edge-1", "edge-2", "pre-copy")
    movement.send_ahead(STOP)
    outcome = movement.finish()
    assert outcome.outcome == "moved", outcome.reason
    assert (outcome.tracker == "write-protect") == (ways["edge-1"].tracker == "wp-async")
    by_pages = [note for note in outcome.notes if "CRIU writes pages" in note]
    assert bool(by_pages) == (ways["edge-1"].dump == "with pages")
    at_once = [note for note in outcome.notes if "before the service goes on" in note]
    assert bool(at_once) == (ways["edge-2"].restore == "memory first")
    assert hosts.open("edge-2", "edge-1", "cold").finish().outcome == "moved"
    told = []
    hosts.lab.tell_ways(list(ways.values()), told.append)
    assert len(told) == 1
    assert told[0].startswith(f"{', '.join(EDGES)}: pages by ")


def test_a_service_that_could_not_be_restored_is_refused_before_anything_is_touched(hosts):
    start_python(hosts, OWN_NAMESPACE)
    wait_for(hosts, "crun exec testbed-counter test -e /run/ready")
    with pytest.raises(PreflightError, match=r"namespaces of its own \(user\)") as refused:
        hosts.open("edge-1", "edge-2", "cold")
    assert refused.value.running_at == "edge-1"
    assert hosts.runs_at() == ["edge-1"]
    assert hosts.lab["edge-2"].call("room")["containers"] == []


def test_a_32_bit_task_moves_where_criu_can_and_is_refused_where_it_cannot(hosts, monkeypatch):
    start_python(hosts, IN_32_BITS)
    program = "/proc/$(head -n 1 /sys/fs/cgroup/testbed/counter/cgroup.procs)/exe"
    wait_for(hosts, f"readlink {program} | grep -q /tmp/old")
    assert hosts.lab["edge-1"].call("service_facts", name="counter")["tasks"][0]["bits"] == 32
    facts = {edge: hosts.lab[edge].call("facts") for edge in ("edge-1", "edge-2")}
    unable = {**facts["edge-2"], "criu": {**facts["edge-2"]["criu"], "moves_32_bits": False}}
    monkeypatch.setattr(hosts.mover, "_facts", {**facts, "edge-2": unable})
    with pytest.raises(PreflightError, match=r"task 1000 \(old\) runs in 32 bits.*edge-2"):
        hosts.open("edge-1", "edge-2", "cold")
    assert hosts.runs_at() == ["edge-1"]
    monkeypatch.setattr(hosts.mover, "_facts", dict(facts))
    if facts["edge-2"]["criu"]["moves_32_bits"]:
        outcome = hosts.open("edge-1", "edge-2", "cold").finish()
        assert outcome.outcome == "moved", outcome.reason + outcome.log
        assert hosts.runs_at() == ["edge-2"]
