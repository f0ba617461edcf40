"""Services tried one by one in a small lab: what they answer, how fast, and what moving them costs.

This is how Ngo's Table I comes about here, and the figures of each service's ``memory.json``.
"""

import io
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from testbed.edge import pages
from testbed.errors import RemoteCommandError, WrongAnswerError
from testbed.experiment.prepare import (
    Parts,
    build_parts,
    client_folder,
    container_spec,
    provision_lab,
    spec_json,
    start_lab,
)
from testbed.experiment.progress import Steps
from testbed.experiment.steering import Steering
from testbed.hosts.plan import check_lab_name
from testbed.hosts.root import default_cache
from testbed.images.image import Image
from testbed.migration.mover import Mover, Outcome, Stop
from testbed.migration.technique import find_technique
from testbed.scenario import Scenario
from testbed.services.memory import Changes, MemoryBehaviour
from testbed.services.service import Value, find_service

EDGES = ("edge-1", "edge-2")
PATIENCE_S = 180.0


@dataclass(frozen=True)
class ServiceTrial:
    """What one service did.

    image : its layers. memory : as measured here. answers : everything it said. requests : one row
    per request, as the client wrote it. moves : a cold move and a delta move, by technique.
    """

    service: str
    image: Image
    memory: MemoryBehaviour
    answers: tuple[Mapping[str, Any], ...]
    requests: pd.DataFrame
    moves: Mapping[str, Outcome]

    def phase_s(self, technique: str, phase: str) -> float:
        """How long a phase of a move took, all its parts together."""
        parts = [p for p in self.moves[technique].phases if p.phase == phase]
        return sum(part.end_s - part.start_s for part in parts)


class ServiceTrials:
    """A lab with two edges and one user, for the services named.

    Use it as a context manager; `try_out` one service after another.

    Parameters
    ----------
    services : mapping of str to mapping
        Kind of service, and its options where they are not the usual ones.
    name : str
        The lab's.
    quiet : bool
        Say nothing.
    """

    def __init__(
        self,
        services: Mapping[str, Mapping[str, Value]],
        *,
        name: str = "trials",
        quiet: bool = False,
    ) -> None:
        check_lab_name(name)
        self._scenario = Scenario.model_validate(_scenario(services))
        self._name, self._quiet = name, quiet
        self._stack = ExitStack()
        self._uses = 0

    def __enter__(self) -> Self:
        """Build images, start and provision the lab.

        Raises
        ------
        ServiceError, ImageBuildError, LabError, UnsupportedMachineError
            As the steps do.
        """
        cache = default_cache()
        with ExitStack() as stack, Steps(len(self._scenario.services) + 3, quiet=self._quiet) as s:
            self.parts: Parts = build_parts(self._scenario, cache, s)
            self._lab = start_lab(self._scenario, self._name, cache, s)
            stack.callback(self._lab.down)
            s.next("provisioning with Ansible over SSH")
            provision_lab(self._lab, self.parts, cache, s)
            self._stack = stack.pop_all()
        self._mover = Mover(self._lab)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the lab down."""
        self._stack.close()

    def try_out(
        self,
        service: str,
        *,
        requests: int = 20,
        intervals_s: Iterable[float] = (0.5, 1.0, 2.0),
        samples: int = 3,
    ) -> ServiceTrial:
        """Start a service, watch its memory idle and in use, move it twice, end it.

        Parameters
        ----------
        requests : int
            How many right answers to wait for before the first move.
        intervals_s : iterable of float
            For which the change of memory is measured, ascending.
        samples : int
            Times each is measured; the median counts.

        Raises
        ------
        WrongAnswerError
            If the service answered wrongly, or lost or repeated a count.
        """
        intervals = tuple(intervals_s)
        try:
            steering = self._start(service)
            self._wait_until_it_answers(service)
            idle = self._changes(service, intervals, samples)
            self._use(service)
            self._wait_for_answers(requests)
            load = self._changes(service, intervals, samples)
            memory = self._memory(service, idle, load)
            moves = {
                technique: self._move(service, steering, target, technique)
                for technique, target in zip(("cold", "delta"), EDGES[::-1], strict=True)
            }
            self._wait_for_answers(self._answered() + 2)
            rows, answers = self._end_use(service)
        finally:
            for edge in EDGES:
                self._lab[edge].call("remove_service", name=service)
        return ServiceTrial(service, self.parts.images[service], memory, answers, rows, moves)

    # -- the service and its user

    def _start(self, service: str) -> Steering:
        spec = container_spec(self._scenario, self._lab.plan, self.parts, service)
        self._lab[EDGES[0]].call("start_service", spec=spec_json(spec))
        steering = Steering(self._lab, "user", spec.address, EDGES, server=EDGES[0])
        steering.connect("bs-1")
        return steering

    def _command(self, service: str) -> list[str]:
        kind = self.parts.kinds[service]
        options = self._scenario.services[service].options
        address = self._lab.plan.service_addresses[service]
        return kind.client_command(address, kind.port, kind.interval_s, options)

    def _use(self, service: str, *more: str) -> None:
        self._uses += 1
        files = ["--output", self._file("rows"), "--answers", self._file("answers")]
        command = [*self._command(service), *files, *more]
        folder = client_folder(self.parts.kinds[service])
        self._lab["user"].call("start_program", name=service, command=command, directory=folder)

    def _file(self, kind: str) -> str:
        return f"/tmp/{kind}-{self._uses}"  # noqa: S108 - on the user's host

    def _wait_until_it_answers(self, service: str) -> None:
        """Use it once: what was loaded at the first request is no idle change."""
        self._use(service, "--requests", "8")
        # It ends by itself, and a signal in its last moment would end it otherwise.
        deadline_s = time.monotonic() + PATIENCE_S
        while self._lab["user"].call("program_state", name=service) is None:
            if time.monotonic() > deadline_s:
                raise WrongAnswerError(f"only {self._answered()} of 8 answers came")
            time.sleep(0.1)
        self._end_use(service)

    def _answered(self) -> int:
        try:
            return str(self._lab["user"].call("read", path=self._file("rows"))).count("\n") - 1
        except RemoteCommandError:  # not written yet
            return 0

    def _wait_for_answers(self, wanted: int) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while self._answered() < wanted:
            if time.monotonic() > deadline_s:
                raise WrongAnswerError(f"only {self._answered()} of {wanted} answers came")
            time.sleep(0.1)

    def _end_use(self, service: str) -> tuple[pd.DataFrame, tuple[Mapping[str, Any], ...]]:
        said = self._lab["user"].call("stop_program", name=service)
        rows, answers = (
            str(self._lab["user"].call("read", path=self._file(kind)))
            for kind in ("rows", "answers")
        )
        if said["status"]:
            wrong = [line for line in rows.splitlines()[1:] if not line.endswith(",1,")]
            raise WrongAnswerError(f"{service}: {said['output']}{said['errors']}; {wrong[:3]}")
        table = pd.read_csv(io.StringIO(rows))
        return table, tuple(json.loads(line) for line in answers.splitlines())

    def _move(self, service: str, steering: Steering, target: str, technique: str) -> Outcome:
        movement = self._mover.open(service, steering.server, target, find_technique(technique))
        movement.send_ahead(Stop())

        def lead() -> None:
            steering.lead_to(target)

        outcome = movement.finish(lead)
        if outcome.outcome != "moved":
            raise WrongAnswerError(f"{service}: {technique}: {outcome.reason}\n{outcome.log}")
        return outcome

    # -- its memory

    def _processes(self, service: str) -> list[int]:
        """The service's processes, as this machine numbers them."""
        ending = f"/testbed/{service}"
        found = []
        for path in Path("/proc").glob("[0-9]*/cgroup"):
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except OSError:
                continue
            if any(f"testbed-{self._name}/" in line and line.endswith(ending) for line in lines):
                found.append(int(path.parent.name))
        return sorted(found)

    @contextmanager
    def _standing_still(self, service: str) -> Any:
        processes = self._processes(service)
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield processes
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def _changes(self, service: str, intervals: tuple[float, ...], samples: int) -> Changes:
        """Median of what differs after each interval, read while the service stands still."""
        changed: dict[float, list[float]] = {interval: [] for interval in intervals}
        with tempfile.TemporaryDirectory() as folder:
            for interval in intervals:
                copies: dict[int, pages.Copy] = {}
                for _ in range(samples + 1):
                    sizes = 0
                    with self._standing_still(service) as processes:
                        for process in processes:
                            if process not in copies:
                                copies[process] = pages.Copy(Path(folder) / f"{process}")
                            for start, data in pages.read_task(process):
                                spans = copies[process].update(start, data)
                                sizes += sum(end - begin for begin, end in spans)
                    changed[interval].append(sizes / 1e6)
                    time.sleep(interval)
                for copy in copies.values():
                    copy.close()
        medians = tuple(round(statistics.median(changed[i][1:]), 3) for i in intervals)
        return Changes(intervals, medians)

    def _memory(self, service: str, idle: Changes, load: Changes) -> MemoryBehaviour:
        private, packed, resident = 0, 0, 0
        with self._standing_still(service) as processes:
            for process in processes:
                status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
                line = next(x for x in status.splitlines() if x.startswith("VmRSS"))
                resident += int(line.split()[1]) * 1024
                content = b"".join(data for _, data in pages.read_task(process))
                private += len(content)
                done = subprocess.run(
                    ["zstd", "-1", "-c", "-q"], input=content, capture_output=True, check=True
                )
                packed += len(done.stdout)
        return MemoryBehaviour(
            resident_mb=round(resident / 1e6, 1),
            private_mb=round(private / 1e6, 1),
            compressed_share=round(packed / private, 3),
            idle=idle,
            load=load,
            load_interval_s=self.parts.kinds[service].interval_s,
            how="in a namespace edge, read from outside while it stood still",
        )


def _scenario(services: Mapping[str, Mapping[str, Value]]) -> dict[str, Any]:
    """A scenario with every service under its kind's name, and links that are not shaped."""
    names = [find_service(kind).name for kind in services]
    return {
        "name": "trials",
        "map": {"source": "berlin"},
        "hosts": {
            **{edge: {"role": "server", "tier": "local"} for edge in EDGES},
            "bs-1": {"role": "base-station"},
            "user": {"role": "user"},
        },
        "links": [
            {"between": ["user", "bs-1"]},
            {"between": ["bs-1", "edge-*"]},
            {"between": list(EDGES)},
        ],
        "services": {name: {"kind": name, "options": dict(services[name])} for name in names},
        "users": {"someone": {"host": "user", "service": names[0], "trace": {"source": "sumo"}}},
    }
