"""CRIU is really made to complain: the service goes on, and the record says why, and the remedy."""

import json
from dataclasses import asdict, replace

import pytest

from testbed.experiment.prepare import container_spec

SERVICE = """
import ctypes, os, select, socket, stat, sys, time
libc = ctypes.CDLL(None, use_errno=True)
{setting}
while True:
    time.sleep(0.05)
"""
DEVICE = """
os.mknod("/tmp/fuse", stat.S_IFCHR | 0o666, os.makedev(10, 229))
held = os.open("/tmp/fuse", os.O_RDWR)
"""
IN_FLIGHT = """
listener = socket.create_server(("127.0.0.1", 7000))
client = socket.create_connection(("127.0.0.1", 7000))
"""
QUEUE = 'held = libc.mq_open(b"/queue", os.O_RDWR | os.O_CREAT, 0o600, None); assert held >= 0'
FAMILY = "held = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)"
RING = "held = libc.syscall(425, 4, ctypes.create_string_buffer(120)); assert held >= 0"


def start(hosts, setting):
    """A service that does what CRIU does not like."""
    spec = container_spec(hosts.scenario, hosts.lab.plan, hosts.parts, "counter")
    spec = replace(spec, command=("python3", "-c", SERVICE.format(setting=setting)))
    hosts.lab["edge-1"].call("start_service", spec=json.loads(json.dumps(asdict(spec))))


def moved_in_vain(hosts, technique="cold", *, before_finish=lambda: None):
    movement = hosts.open("edge-1", "edge-2", technique)
    before_finish()
    outcome = movement.finish()
    assert outcome.outcome == "rolled back"
    assert hosts.runs_at() == ["edge-1"]
    assert "Remedy: " in outcome.reason
    assert "Error" in outcome.log
    return outcome.reason


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (DEVICE, "has a device open (miscellaneous device 10:229"),
        (IN_FLIGHT, "was just being made and not accepted yet"),
        (QUEUE, "POSIX message queues cannot move"),
        (FAMILY, "a family or protocol that CRIU cannot save"),
        (RING, "such as an io_uring"),
    ],
    ids=["device", "in flight", "message queue", "socket family", "io_uring"],
)
def test_what_criu_cannot_save_is_named(hosts, setting, words):
    start(hosts, setting)
    assert words in moved_in_vain(hosts)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("rm /usr/bin/python3*", "which is not in the container at the target"),
        ("for f in /usr/local/bin/python3.* /usr/bin/python3.*; do echo x >> $f; done; true",
         "is another one at the target (its size differs)"),
    ],
    ids=["missing", "changed"],
)  # fmt: skip
def test_a_file_that_differs_at_the_target_is_named(hosts, change, words):
    start(hosts, "")
    reason = moved_in_vain(hosts, before_finish=lambda: hosts.inside("edge-2", change))
    assert words in reason


def test_a_full_edge_is_named(hosts):
    start(hosts, "")
    full = "mount -o remount,size=64k /run/testbed/scratch/counter"
    reason = moved_in_vain(hosts, before_finish=lambda: hosts.on("edge-1", full))
    assert "memory for images is full" in reason
