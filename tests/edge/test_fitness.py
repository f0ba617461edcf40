import os
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest
from made_programs import elf32

from testbed.edge import fitness
from testbed.edge.spec import runtime_config

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' /proc")


def test_the_class_of_a_program_is_read_from_its_head(tmp_path):
    for content, expected in ((elf32(), 32), (b"\x7fELF\x02", 64), (b"#!/bin/sh", 0), (b"", 0)):
        (tmp_path / "program").write_bytes(content)
        assert fitness.bits(tmp_path / "program") == expected
    assert fitness.bits(tmp_path / "nothing") == 0


class Holder:
    """A holder around processes of this test, in whose mount namespace it lies."""

    def __init__(self, *pids, init=None):
        self.spec = SimpleNamespace(
            name="made", address="10.88.0.11", number=3, root="/", netns="none",
            scratch="/run/none", cgroup="/sys/fs/cgroup/none",
        )  # fmt: skip
        self.pids, self.init = pids, init or os.getpid()

    def processes(self):
        return list(self.pids)

    @property
    def lives(self):
        return bool(self.pids)


@pytest.fixture
def holders(monkeypatch):
    known = {}
    monkeypatch.setattr(fitness.Holder, "load", lambda name: known[name])
    return known


def test_a_task_is_told_with_its_bits_memory_and_namespaces(holders):
    holders["made"] = Holder(os.getpid())
    (task,) = fitness.of_service("made")["tasks"]
    assert task["bits"] == 8 * struct.calcsize("P")
    assert task["private_bytes"] > 1 << 20
    assert task["namespaces"] == []


def test_a_task_that_has_gone_is_no_task(holders):
    gone = subprocess.Popen(["true"])
    gone.wait()
    holders["made"] = Holder(gone.pid)
    assert fitness.of_service("made")["tasks"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_namespaces_and_mounts_of_its_own_are_told(holders):
    script = "mount -t tmpfs none /mnt && echo ready && exec sleep 60"
    own = subprocess.Popen(["unshare", "-mu", "sh", "-c", script], stdout=subprocess.PIPE)
    try:
        assert own.stdout.readline() == b"ready\n"
        holders["made"] = Holder(own.pid)
        (task,) = fitness.of_service("made")["tasks"]
        assert task["namespaces"] == ["mnt", "uts"]
        holders["made"] = Holder(init=own.pid)
        said = fitness.of_service("made")["mounts"]
        assert "/mnt" in said
        expected = {
            mount["destination"] for mount in runtime_config(holders["made"].spec)["mounts"]
        }
        assert not {"/", *expected} & set(said)
    finally:
        own.kill()
        own.wait()
        own.stdout.close()


def test_what_is_taken_on_a_host_is_told(holders, monkeypatch, tmp_path):
    monkeypatch.setattr(fitness.container, "STATE", tmp_path)
    (tmp_path / "made.json").touch()
    (tmp_path / "made.lock").touch()
    holders["made"] = Holder(1, 2)
    told = fitness.of_host()
    assert told["containers"] == [
        {"name": "made", "address": "10.88.0.11", "number": 3, "lives": True}
    ]
    assert told["available_bytes"] > 0
