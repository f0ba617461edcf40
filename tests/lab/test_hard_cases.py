"""A service that does its worst while it is moved, and checks every page of its memory after."""

import json
import shlex
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from small_lab import STOP

from testbed.experiment.prepare import container_spec

SERVICE = Path(__file__).with_name("hard_service.py").read_text(encoding="utf-8")
ASK = """
import socket, sys, time
for _ in range(150):
    try:
        socket.create_connection((sys.argv[1], 8000), timeout=30).close()
        break
    except OSError:
        time.sleep(0.1)
with socket.create_connection((sys.argv[1], 8000), timeout=30) as c:
    c.sendall(sys.argv[2].encode() + b"\\n")
    print(c.makefile().readline())
"""


class Hard:
    """The service that checks itself, in place of the lab's counter."""

    def __init__(self, hosts, pause_s=0.002, service=SERVICE):
        self.hosts, self.count = hosts, 0
        self.steering = hosts.start()
        hosts.lab["edge-1"].call("remove_service", name="counter")
        spec = container_spec(hosts.scenario, hosts.lab.plan, hosts.parts, "counter")
        spec = replace(spec, command=("python3", "-c", service, str(pause_s)))
        hosts.lab["edge-1"].call("start_service", spec=json.loads(json.dumps(asdict(spec))))

    def ask(self, word):
        """Say something to the service; return the words of its answer, the first being ok."""
        address = self.hosts.lab.plan.service_addresses["counter"]
        said = self.hosts.on("user", f"python3 -c {shlex.quote(ASK)} {address} {word}").split()
        assert said[0] == "ok", " ".join(said)
        return said

    def check(self):
        """Ask the service whether everything is right."""
        said = self.ask("check")
        self.count += 1
        assert int(said[1]) == self.count

    def move(self, technique):
        """Move it to the other edge."""
        target = "edge-2" if self.steering.server == "edge-1" else "edge-1"
        movement = self.hosts.open(self.steering.server, target, technique)
        movement.send_ahead(STOP)
        outcome = movement.finish(lambda: self.steering.lead_to(target) and None)
        assert outcome.outcome == "moved", outcome.reason + outcome.log
        assert self.hosts.runs_at() == [target]
        return outcome


@pytest.mark.parametrize(
    ("technique", "pause_s", "moves"),
    [
        ("delta", 0.002, 2),
        ("pre-copy", 0.002, 4),
        ("pre-copy", 0.0, 2),
        ("post-copy", 0.002, 4),
        ("post-copy", 0.0, 2),
        ("hybrid", 0.002, 4),
        ("hybrid", 0.0, 2),
    ],
)
def test_no_page_is_lost_whatever_a_tree_of_tasks_does_meanwhile(hosts, technique, pause_s, moves):
    hard = Hard(hosts, pause_s)
    hard.check()
    for _ in range(moves):
        outcome = hard.move(technique)
        assert outcome.tracker == ("content" if technique == "delta" else "write-protect")
        hard.check()
        time.sleep(0.3)
        hard.check()
