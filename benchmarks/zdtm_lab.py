"""Where CRIU's own test programs are started, moved and judged: two edges, several slots each.

A slot is a service's name with its address; a program takes one, is tried in every way one after
the other, each time in a new container, and gives it back.
"""

import json
import queue
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zdtm_programs import Program, left_out, programs_image
from zdtm_report import Moved, Tried, judged, telling

from testbed.edge.spec import Spec
from testbed.errors import HostUnreachableError, LabError, MigrationError, RemoteCommandError
from testbed.experiment.prepare import Parts, provision_lab, spec_json, start_lab
from testbed.experiment.progress import Steps
from testbed.hosts.lab import Lab
from testbed.hosts.namespace import ssh_command, take_down
from testbed.hosts.remote import EDGE_FOLDER
from testbed.images.image import Image
from testbed.migration.mover import Mover, Stop
from testbed.migration.technique import find_technique
from testbed.scenario import Scenario

NAME = "zdtm"
SOURCE, TARGET = "edge-1", "edge-2"
SLOTS = ("slot-1", "slot-2")
SCENARIO: dict[str, Any] = {
    "name": "criu-tests",
    "map": {"source": "berlin"},
    "hosts": {
        SOURCE: {"role": "server", "tier": "local"},
        TARGET: {"role": "server", "tier": "local"},
        "bs-1": {"role": "base-station"},
        "user": {"role": "user"},
    },
    "links": [{"between": [SOURCE, TARGET]}, {"between": ["bs-1", "*"]}],
    "services": {slot: {"kind": "simple"} for slot in SLOTS},
    "users": {},
}
ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=/tmp")
EDGE_CODE = Path(__file__).with_name("zdtm_edge.py")
STOP = Stop(rounds=3)


class Driver:
    """`zdtm_edge` running on one edge, at the other end of an SSH session."""

    def __init__(self, ssh: list[str], host: str) -> None:
        self._host = host
        code = EDGE_CODE.read_text(encoding="utf-8").replace("from testbed.edge", "from edge")
        self._process = subprocess.Popen(
            [*ssh, f"env PYTHONPATH={EDGE_FOLDER} python3 -c {shlex.quote(code)}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, call: str, **arguments: Any) -> Any:
        """Have it do something.

        Raises
        ------
        RemoteCommandError
            If that fails.
        HostUnreachableError
            If it is gone.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise HostUnreachableError(f"{self._host}: no pipe")  # pragma: no cover
        self._process.stdin.write(json.dumps({"call": call, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise HostUnreachableError(f"{self._host}: what starts and judges programs is gone")
        answer = json.loads(line)
        if "error" in answer:
            raise RemoteCommandError(f"{self._host}: {answer['error']}", host=self._host, log="")
        return answer["result"]

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@dataclass
class Ground:
    """The lab with its slots."""

    scenario: Scenario
    lab: Lab
    image: Image
    mover: Mover
    _free: "queue.Queue[str]" = field(default_factory=queue.Queue)
    _drivers: dict[tuple[str, str], Driver] = field(default_factory=dict)

    def open(self) -> None:
        """Start what starts and judges programs, for every slot and edge."""
        for slot in self.scenario.services:
            for edge in (SOURCE, TARGET):
                ssh = ssh_command(self.lab.state, self.lab.plan.hosts[edge].control_address)
                self._drivers[slot, edge] = Driver(ssh, edge)
            self._free.put(slot)

    def close(self) -> None:
        """End it."""
        for driver in self._drivers.values():
            driver.close()

    def spec(self, slot: str) -> Spec:
        """How an edge holds a program in this slot."""
        return Spec(
            name=slot,
            address=self.lab.plan.service_addresses[slot],
            number=list(self.scenario.services).index(slot) + 1,
            layers=tuple(layer.digest for layer in self.image.layers),
            command=(),
            environment=ENVIRONMENT,
        )

    def run(self, program: Program, techniques: Sequence[str]) -> Tried:
        """Try one program: by plain CRIU where it is, then by every technique."""
        why = left_out(program)
        if why:
            return Tried(program.name, left_out=why)
        slot = self._free.get()
        try:
            tried = self._plain(slot, program)
            if tried.plain:
                tried = replace(tried, not_up=self._unmoved(slot, program))
            if not tried.not_up:
                for technique in techniques:
                    tried.moves[technique] = self._moved(slot, program, technique)
            return tried
        finally:
            self._free.put(slot)

    @contextmanager
    def _started(self, slot: str, program: Program) -> Iterator[str]:
        """Start the program in a new container, gone afterwards; say why it did not come up."""
        try:
            yield self._drivers[slot, SOURCE].call(
                "start",
                spec=spec_json(self.spec(slot)),
                program=program.name,
                suid=program.suid,
            )
        finally:
            for edge in (SOURCE, TARGET):
                self.lab[edge].call("remove_service", name=slot)

    def _judge(self, slot: str, edge: str, program: Program) -> tuple[str, str]:
        said = self._drivers[slot, edge].call(
            "judge", name=slot, program=program.name, timeout_s=program.timeout_s
        )
        return said["verdict"], said["said"]

    def _plain(self, slot: str, program: Program) -> Tried:
        tried = Tried(program.name)
        with self._started(slot, program) as not_up:
            if not_up:
                return replace(tried, not_up=not_up)
            options = {"dump": list(program.dump), "restore": list(program.restore)}
            log = self._drivers[slot, SOURCE].call("plain", name=slot, **options)
            if log:
                return replace(tried, plain=f"{log.split(':')[0]}: {telling(log) or log}")
            verdict, said = self._judge(slot, SOURCE, program)
        return tried if verdict == "passed" else replace(tried, plain=f"{verdict}: {said}")

    def _unmoved(self, slot: str, program: Program) -> str:
        """Why a program does not pass where nobody touches it; empty where it does."""
        with self._started(slot, program) as not_up:
            if not_up:
                return not_up
            verdict, said = self._judge(slot, SOURCE, program)
        return "" if verdict == "passed" else f"{verdict}, untouched: {said}"

    def _moved(self, slot: str, program: Program, technique: str) -> Moved:
        tracker, notes = "", tuple[str, ...]()
        with self._started(slot, program) as why:
            if why:
                return Moved(*judged("refused", "it did not come up again", "failed", why))
            try:
                movement = self.mover.open(slot, SOURCE, TARGET, find_technique(technique))
                movement.send_ahead(STOP)
            except RemoteCommandError as error:
                outcome, reason = "refused", str(error)
            else:
                try:
                    record = movement.finish()
                except (MigrationError, RemoteCommandError) as error:
                    outcome, reason = "rolled back", str(error)
                else:
                    outcome, tracker, notes = record.outcome, record.tracker, record.notes
                    reason = telling(record.log) or record.reason
            edge = TARGET if outcome == "moved" else SOURCE
            verdict = self._judge(slot, edge, program)
        return Moved(*judged(outcome, reason, *verdict), tracker, notes)

    def criu_version(self) -> str:
        """The CRIU that everybody uses here."""
        return str(self.lab[SOURCE].call("facts")["criu"]["version"])


@contextmanager
def ground(archive: Path, cache: Path, steps: Steps) -> Iterator[Ground]:
    """The lab, up and provisioned with the programs; gone when the block ends."""
    scenario = Scenario.model_validate(SCENARIO)
    take_down(NAME)  # what an interrupted benchmark may have left
    steps.next("an image of CRIU's own test programs")
    image = programs_image(archive, cache, steps.detail)
    parts = Parts({}, {"programs": image})
    lab = start_lab(scenario, NAME, cache, steps)
    try:
        steps.next("provisioning with Ansible over SSH")
        provision_lab(lab, parts, cache, steps)
        made = Ground(scenario, lab, image, Mover(lab))
        made.open()
        try:
            yield made
        finally:
            made.close()
    finally:
        lab.down()


UNUSABLE = (HostUnreachableError, LabError, RemoteCommandError)
