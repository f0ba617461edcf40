"""Where all contenders move the same service: four edges, three kinds of link, one user.

The user's client, its route and the way a gap is taken are the same for everybody; who moves the
container and how is the contenders' own affair (`ours`, `podman_peer` and the like).
"""

import contextlib
import json
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from peer_root import peer_cache
from report import Case

from testbed.edge.spec import Spec
from testbed.errors import ServiceError
from testbed.experiment.prepare import (
    Parts,
    build_parts,
    client_folder,
    container_spec,
    provision_lab,
    start_lab,
)
from testbed.experiment.progress import Steps
from testbed.experiment.steering import Steering
from testbed.hosts.lab import Lab
from testbed.hosts.namespace import ssh_command, take_down
from testbed.hosts.plan import device
from testbed.measurement.requests import (
    check_counts,
    gap_floor_s,
    longest_gap_s,
    read_requests,
    right_answers_s,
)
from testbed.migration.mover import Mover
from testbed.scenario import Scenario

NAME = "bench"
USER, STATION = "user", "bs-1"
SOURCE = "edge-1"
SCENARIO: dict[str, Any] = {
    "name": "migration-benchmark",
    "map": {"source": "berlin"},
    "hosts": {
        "edge-1": {"role": "server", "tier": "local"},
        "edge-2": {"role": "server", "tier": "local"},
        "edge-3": {"role": "server", "tier": "local"},
        "edge-4": {"role": "server", "tier": "local"},
        STATION: {"role": "base-station"},
        USER: {"role": "user"},
    },
    "links": [
        {"between": [USER, STATION]},
        {"between": [STATION, "edge-*"]},
        {"between": ["edge-*", "edge-*"]},
        {"between": ["edge-1", "edge-2"], "rate": "100 Mbit/s", "delay": "10 ms"},
        {"between": ["edge-1", "edge-4"], "rate": "20 Mbit/s", "delay": "50 ms"},
    ],
    "services": {
        "small": {"kind": "simple", "options": {"memory_mb": 5}},
        "memory": {"kind": "simple", "options": {"memory_mb": 150, "rewrite_mb_per_s": 5}},
        "storm": {"kind": "simple", "options": {"memory_mb": 150, "rewrite_mb_per_s": 50}},
        "large": {"kind": "simple", "options": {"memory_mb": 600, "rewrite_mb_per_s": 5}},
        "tree": {"kind": "simple", "options": {"memory_mb": 20, "rewrite_mb_per_s": 1}},
        "faces": {"kind": "face-detection"},
        "quiet": {"kind": "simple", "options": {"memory_mb": 40}},
    },
    "users": {},
}
TREE = """
import os, sys, time
sys.path.insert(0, "/app")
import server
for _ in range(3):
    if os.fork() == 0:
        memory = server.Memory(20, 1)
        while True:
            memory.rewrite()
            time.sleep(server.TICK_S)
server.main()
"""
"""A parent and three children of 20 MB each, which all rewrite their memory."""
WARM_S, TAIL_S = 1.0, 2.0
"""How long the client is used before a move is ordered, and after it is over."""
CONTROL_S = 0.4
START_S = 30.0


AGAIN_S = 120.0
"""How long a user's connection may take to recover."""


def _rows(service: str) -> str:
    """Where the client that watches a move writes its log, on the user's host."""
    return f"/tmp/rows-{service}.csv"  # noqa: S108


@dataclass(frozen=True)
class Seen:
    """What a user saw of one move.

    gap_s : longest time between two right answers from the order to move until `TAIL_S` after it
        was over. control_s : the like before the move, in windows of `CONTROL_S` (their median).
    ahead_gap_s : the longest before the move, while memory was sent ahead.
    ahead_s : when sending ahead began, time of day. ordered_s : when the move was ordered.
    answers_s : when right answers came.
    """

    gap_s: float
    control_s: float
    ahead_gap_s: float
    ahead_s: float
    ordered_s: float
    answers_s: "np.ndarray[Any, Any]"


@dataclass
class Arena:
    """The lab with what is needed to start, use and move its services."""

    scenario: Scenario
    lab: Lab
    parts: Parts
    mover: Mover
    _masters: list[list[str]] = field(default_factory=list)

    def spec(self, service: str) -> Spec:
        """How an edge holds a service; the tree is its simple service with three children."""
        spec = container_spec(self.scenario, self.lab.plan, self.parts, service)
        if service == "tree":
            spec = replace(spec, command=("python3", "-c", TREE, *spec.command[2:]))
        return spec

    def steer(self, service: str) -> Steering:
        """Lead the user to the service, which is at `SOURCE`."""
        edges = tuple(self.scenario.hosts_with("server"))
        address = self.lab.plan.service_addresses[service]
        steering = Steering(self.lab, USER, address, edges, server=SOURCE)
        steering.connect(STATION)
        return steering

    def shell(self, host: str, *options: str) -> list[str]:
        """The beginning of a command line that runs a script on a host.

        All go through one SSH connection per host, opened when it is first used.
        """
        ssh = ssh_command(self.lab.state, self.lab.plan.hosts[host].control_address)
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=600"]
        shared += ["-o", f"ControlPath={self.lab.state}/mux-{host}"]
        master = [ssh[0], *shared, *ssh[1:]]
        if master not in self._masters:
            self._masters.append(master)
        return [*master[:-1], *options, master[-1]]

    def on(self, host: str, script: str) -> str:
        """Run a shell script on a host; return what it printed.

        Raises
        ------
        RuntimeError
            With its last words, if it fails.
        """
        done = subprocess.run(
            [*self.shell(host), f"sh -ec {shlex.quote(script)}"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise RuntimeError(f"{host}: {script[:80]}...: {(done.stderr or done.stdout)[-800:]}")
        return done.stdout

    def hang_up(self) -> None:
        """Close the shared SSH connections."""
        for master in self._masters:
            subprocess.run(
                [*master[:-1], "-O", "exit", master[-1]], check=False, capture_output=True
            )

    def measured_rtt_s(self, case: Case) -> float:
        """Median round trip between the case's edges, seconds."""
        address = self.lab.plan.hosts[case.target].data_address
        said = self.lab[SOURCE].call("measure_delay", address=address, count=15)
        return float(said["rtt_median_s"])

    # -- the user

    def await_service(self, service: str) -> None:
        """Wait until the service answers a first request.

        Raises
        ------
        ServiceError
            If it does not.
        """
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            said = self._run_client(service, ["--requests", "1", "--connect-s", "2"])
            if said["status"] == 0:
                return
        raise ServiceError(f"{service} does not answer: {said['errors'].strip()[-300:]}")

    def await_answers(self, service: str) -> None:
        """Wait until the watching client is answered again.

        After a long outage its TCP may take as long again to ask.

        Raises
        ------
        ServiceError
            If it is not.
        """
        since_s = time.time()
        fresh = f"tail -n 1 {_rows(service)} | awk -F, '{{print ($3 + 0 > {since_s:.3f})}}'"
        while time.time() < since_s + AGAIN_S:
            if self.on(USER, fresh).strip() == "1":
                return
            time.sleep(0.1)
        raise ServiceError(f"{service}: its user has no answer {AGAIN_S:.0f} s after the move")

    def checksum(self, service: str) -> str:
        """What the service says of the memory that it never rewrites; empty for face detection."""
        if self.parts.kinds[service].name != "simple":
            return ""
        said = self._run_client(service, ["--checksum"])
        if said["status"]:
            raise ServiceError(f"{service} gives no checksum: {said['errors'].strip()[-300:]}")
        return str(said["output"]).strip()

    def _run_client(self, service: str, more: list[str]) -> dict[str, Any]:
        self._start_client(f"once-{service}", service, more)
        while self.lab[USER].call("program_state", name=f"once-{service}") is None:
            time.sleep(0.02)
        said: dict[str, Any] = self.lab[USER].call("stop_program", name=f"once-{service}")
        return said

    def _start_client(
        self, program: str, service: str, more: list[str], every_s: float = 1.0
    ) -> None:
        kind = self.parts.kinds[service]
        address = self.lab.plan.service_addresses[service]
        options = self.scenario.services[service].options
        command = [*kind.client_command(address, kind.port, every_s, options), *more]
        self.lab[USER].call(
            "start_program", name=program, command=command, directory=client_folder(kind)
        )

    def watched(
        self,
        case: Case,
        *,
        move: Callable[[], None],
        ahead: Callable[[], None] = lambda: None,
        at_once: bool = False,
    ) -> Seen:
        """Do ``ahead``, then ``move``, while the user's client asks all the time.

        at_once : ask again as soon as an answer came (a closed loop) instead of every interval.

        Raises
        ------
        ServiceError
            If the client found an answer wrong, lost or repeated, or lost its connection, or the
            service's memory changed.
        """
        before = self.checksum(case.service)
        rows = _rows(case.service)
        more = ["--output", rows, *(("--most-outstanding", "1") if at_once else ())]
        every_s = 0.0 if at_once else case.interval_s
        self._start_client(case.service, case.service, more, every_s)
        try:
            time.sleep(WARM_S)
            ahead_s = time.time()
            ahead()
            ordered_s = time.time()
            move()
            over_s = time.time()
            time.sleep(TAIL_S)
        finally:
            said = self.lab[USER].call("stop_program", name=case.service, timeout_s=15.0)
        summary = json.loads(said["output"] or "{}")
        if said["status"] or summary["wrong"] or summary["lost"] or summary["reconnects"]:
            raise ServiceError(f"{case.name}: the user was cheated: {said}")
        after = self.checksum(case.service)
        if before != after:
            raise ServiceError(f"{case.name}: checksum {before} before, {after} after the move")
        answers_s = self._answers_s(case, rows)
        quiet_s = answers_s[answers_s < ordered_s]
        return Seen(
            gap_s=longest_gap_s(answers_s, ordered_s, over_s + TAIL_S),
            control_s=gap_floor_s(answers_s, [(ordered_s, over_s + TAIL_S)], CONTROL_S),
            ahead_gap_s=float(np.diff(quiet_s).max(initial=0.0)),
            ahead_s=ahead_s,
            ordered_s=ordered_s,
            answers_s=answers_s,
        )

    def _answers_s(self, case: Case, rows: str) -> "np.ndarray[Any, Any]":
        """Times of day of the right answers, after all counts were found right."""
        local = self.lab.state / f"rows-{case.service}.csv"
        local.write_text(self.lab[USER].call("read", path=rows), encoding="utf-8")
        requests = read_requests(local, user=USER, service=case.service, started_epoch_s=0.0)
        check_counts(requests)
        return right_answers_s(requests)

    # -- routes

    def lead_to(self, service: str, edge: str) -> None:
        """Lead the user's packets for a service to an edge; return when it is so."""
        address = self.lab.plan.service_addresses[service]
        self.lab[STATION].call("route", destination=address, device=device(edge))


@contextmanager
def kept_signals() -> Iterator[None]:
    """Give Ctrl-C and SIGTERM back their meaning: ansible-runner takes both and keeps them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def arena(services: list[str], cache: Path, steps: Steps) -> Iterator[Arena]:
    """The lab, up, shaped and provisioned with the services asked for; gone when the block ends."""
    content = {**SCENARIO, "services": {n: SCENARIO["services"][n] for n in services}}
    scenario = Scenario.model_validate(content)
    take_down(NAME)  # what an interrupted benchmark may have left
    parts = build_parts(scenario, cache, steps)
    steps.next("an edge root file system that has the peers")
    with_peers = peer_cache(cache, steps.say)
    lab = start_lab(scenario, NAME, with_peers, steps)
    made = Arena(scenario, lab, parts, Mover(lab))
    try:
        steps.next("provisioning with Ansible over SSH")
        with kept_signals():
            provision_lab(lab, parts, cache, steps)
        yield made
    finally:
        with contextlib.suppress(OSError):
            made.hang_up()
        lab.down()
