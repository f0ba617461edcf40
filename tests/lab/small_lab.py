"""A small lab, and what tests do in it."""

import json
import os
import shlex
import subprocess
import time
from dataclasses import asdict, dataclass
from typing import Any

from testbed.experiment.prepare import Parts, client_folder, container_spec
from testbed.experiment.steering import Steering
from testbed.hosts.lab import Lab
from testbed.hosts.namespace import ssh_command
from testbed.migration.mover import Mover, Stop
from testbed.migration.technique import find_technique
from testbed.scenario import Scenario

EDGES = ("edge-1", "edge-2", "edge-3")
ROWS = "/tmp/rows.csv"  # noqa: S108
NAME = os.environ.get("TESTBED_TEST_LAB", "test")
"""Checkouts on one machine that are tested at once give their labs names of their own."""
SCENARIO = """
name: small
map: {source: berlin}
hosts:
  edge-1: {role: server, tier: local}
  edge-2: {role: server, tier: local}
  edge-3: {role: server, tier: local}
  bs-1: {role: base-station}
  user: {role: user}
links:
  - {between: [user, bs-1], rate: 200 Mbit/s, delay: 2 ms}
  - {between: [bs-1, "edge-*"], rate: 200 Mbit/s, delay: 3 ms}
  - {between: ["edge-*", "edge-*"], rate: 100 Mbit/s, delay: 10 ms}
services:
  counter: {kind: simple, tier: local, options: {memory_mb: 16, rewrite_mb_per_s: 1}}
  faces: {kind: face-detection, tier: local}
  guest: {kind: simple, tier: local, options: {memory_mb: 40, rewrite_mb_per_s: 0.05}}
users:
  someone: {host: user, service: counter, interval: 5 ms, trace: {source: sumo}}
"""


@dataclass
class Small:
    """The lab with everything a test needs to start, use and move a service."""

    scenario: Scenario
    lab: Lab
    parts: Parts
    mover: Mover

    @property
    def edges(self) -> tuple[str, ...]:
        """Every host that may hold a service."""
        return tuple(self.scenario.hosts_with("server"))

    def start(self, service: str = "counter", host: str = "edge-1") -> Steering:
        """Start a service and lead the user to it."""
        spec = container_spec(self.scenario, self.lab.plan, self.parts, service)
        self.lab[host].call("start_service", spec=json.loads(json.dumps(asdict(spec))))
        address = self.lab.plan.service_addresses[service]
        steering = Steering(self.lab, "user", address, self.edges, server=host)
        steering.connect("bs-1")
        return steering

    def command(self, service: str, interval_s: float) -> list[str]:
        """How the service's client is started."""
        kind = self.parts.kinds[service]
        options = self.scenario.services[service].options
        address = self.lab.plan.service_addresses[service]
        return kind.client_command(address, kind.port, interval_s, options)

    def use(self, service: str = "counter", interval_s: float = 0.005) -> None:
        """Have the user send requests until `ask_user`."""
        self.lab["user"].call(
            "start_program",
            name=service,
            command=[*self.command(service, interval_s), "--output", ROWS],
            directory=client_folder(self.parts.kinds[service]),
        )
        time.sleep(0.7)

    def ask_user(self, service: str = "counter") -> dict[str, Any]:
        """End the client; return its exit status and its own summary."""
        time.sleep(0.5)
        said = self.lab["user"].call("stop_program", name=service)
        assert said["output"], said["errors"]
        return {"status": said["status"], **json.loads(said["output"])}

    def checksum(self, service: str = "counter") -> str:
        """What the service says of the memory that it never rewrites, once it answers."""
        command = [*self.command(service, 0.01), "--checksum"]
        folder = client_folder(self.parts.kinds[service])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.lab["user"].call("start_program", name="sum", command=command, directory=folder)
            while self.lab["user"].call("program_state", name="sum") is None:
                time.sleep(0.02)
            said = str(self.lab["user"].call("stop_program", name="sum")["output"])
            if said:
                return said
        raise TimeoutError("the service does not answer")

    def open(self, source: str, target: str, technique: str = "delta", service: str = "counter"):
        """Open a migration."""
        return self.mover.open(service, source, target, find_technique(technique))

    def on(self, host: str, script: str) -> str:
        """What a shell script prints on a host."""
        ssh = ssh_command(self.lab.state, self.lab.plan.hosts[host].control_address)
        done = subprocess.run([*ssh, script], capture_output=True, text=True, check=True)
        return done.stdout

    def inside(self, edge: str, script: str) -> str:
        """What a shell script prints in the counter's holder, be the service in it or not."""
        return self.on(edge, f"crun exec testbed-counter sh -c {shlex.quote(script)}")

    def runs_at(self, service: str = "counter") -> list[str]:
        """Every edge on which the service has processes."""
        return [e for e in self.edges if self.lab[e].call("runs", name=service)]


STOP = Stop(small_enough_bytes=200_000, rounds=5)
