"""A lab that is up: its hosts, the sessions to them, and the links between them.

``start`` makes the hosts, ``provision`` brings them into shape with Ansible, ``connect`` opens a
session to each, ``verify`` measures every link, ``down`` removes all of it.
"""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from testbed.errors import LinkNotAsRequestedError
from testbed.hosts import namespace, wan
from testbed.hosts.judgements import engine_ways
from testbed.hosts.plan import LabPlan
from testbed.hosts.provision import ClientFolder, LayerArchive, Provisioned, provision
from testbed.hosts.remote import EventHandler, Remote
from testbed.measurement.clock import estimate_offset
from testbed.records import HostRecord, LinkRecord

Progress = Callable[[str], None]
Ends = tuple[str, str]
"""Source and target of a link."""
PROBES = 25
RATE_PROBE_S = 0.4
RATE_PORT = 5201
CLOCK_SAMPLES = 8
TRIES = 3
"""A link is measured again before it is refused: this machine has other work, too."""


class Lab:
    """The hosts of one plan, up and reachable.

    Parameters
    ----------
    plan : LabPlan
        What was started.
    state : Path
        The lab's folder under ``/run``.
    backend : str
        How links get their delay: ``netem`` or ``delay-line``.
    """

    def __init__(self, plan: LabPlan, state: Path, backend: wan.Backend) -> None:
        self.plan = plan
        self.state = state
        self.backend = backend
        self.remotes: dict[str, Remote] = {}
        self._listeners: list[EventHandler] = []

    @classmethod
    def start(
        cls, plan: LabPlan, *, cache: Path, backend: wan.Backend, progress: Progress
    ) -> "Lab":
        """Start every host (`testbed.hosts.namespace.bring_up`)."""
        state = namespace.bring_up(plan, cache=cache, backend=backend, progress=progress)
        return cls(plan, state, backend)

    @classmethod
    def attach(cls, plan: LabPlan) -> "Lab":
        """A lab that was started before, by another process.

        Raises
        ------
        LabError
            If no such lab is up.
        """
        content = namespace.read_state(plan.name)
        return cls(plan, namespace.RUN / plan.name, cast("wan.Backend", content["backend"]))

    def provision(
        self, layers: list[LayerArchive], clients: list[ClientFolder], progress: Progress
    ) -> Provisioned:
        """Run the playbooks on every host."""
        plans = wan.plan_wan(self.plan.links, self.backend)
        wanted = {name: plans[name].to_json() for name in self.plan.hosts}
        return provision(
            self.plan,
            self.state,
            wan_plans=wanted,
            layers=layers,
            clients=clients,
            progress=progress,
        )

    def connect(self) -> None:
        """Open a session to every host's agent."""
        for name in self.plan.hosts:
            if name not in self.remotes:
                self.remotes[name] = self._call(name)
        for remote in self.remotes.values():
            remote.wait_ready()

    def reach(self, host: str) -> None:
        """Open a fresh session to a host where the old one has ended.

        Raises
        ------
        HostUnreachableError
            If the host does not answer.
        """
        if self.remotes[host].ended:
            self.remotes[host].close()
            self.remotes[host] = self._call(host)
        self.remotes[host].wait_ready()

    def _call(self, host: str) -> Remote:
        ssh = namespace.ssh_command(self.state, self.plan.hosts[host].control_address)
        return Remote(host, ssh, self._hear)

    def __getitem__(self, host: str) -> Remote:
        """The session to a host."""
        return self.remotes[host]

    def listen(self, listener: EventHandler) -> None:
        """Have ``listener`` told of every event on any host."""
        self._listeners.append(listener)

    def verify(self, progress: Progress) -> list[LinkRecord]:
        """Measure every link and hold it against the plan.

        Raises
        ------
        LinkNotAsRequestedError
            With one line per link that is not what the scenario asks for.
        """
        links = {(link.source, link.target): link for link in self.plan.links}
        plans = {
            (p.link.source, p.link.target): p
            for host in wan.plan_wan(self.plan.links, self.backend).values()
            for p in host.links
        }
        delays = self._in_rounds(self.plan.pairs(), self._measure_delay, progress, "delays")
        shaped = [ends for ends, link in links.items() if link.rate_bps]
        rates = self._in_rounds(shaped, self._measure_rate, progress, "rates", at_once=3)
        problems, records = [], []
        for ends, link in links.items():
            delay, rate = delays.get(ends) or delays[ends[::-1]], rates.get(ends)
            for left in reversed(range(TRIES)):
                measured = wan.measurement(delay, rate, self.backend)
                try:
                    wan.verify(link, measured, links.get(ends[::-1]))
                    break
                except LinkNotAsRequestedError as error:
                    if not left:
                        problems.append(str(error))
                        break
                delay = self._measure_delay(ends)
                rate = self._measure_rate(ends) if link.rate_bps else None
            records.append(wan.to_record(plans[ends], measured))
        if problems:
            raise LinkNotAsRequestedError("\n".join(problems))
        return records

    def describe_hosts(self) -> list[HostRecord]:
        """Facts and clock of every host."""
        with ThreadPoolExecutor(len(self.remotes)) as pool:
            return list(pool.map(self._describe, self.plan.hosts))

    def tell_ways(self, hosts: list[HostRecord], say: Progress) -> None:
        """Say how the engine moves services between the hosts that hold them."""
        servers: dict[tuple[str, str, str], list[str]] = {}
        for host in hosts:
            if host.role == "server":
                servers.setdefault((host.tracker, host.dump, host.restore), []).append(host.host)
        for (tracker, dump, restore), names in servers.items():
            say(f"{', '.join(names)}: pages by {tracker}, dump {dump}, {restore} the service")

    def close(self) -> None:
        """End the sessions; the hosts stay up."""
        with ThreadPoolExecutor(max(1, len(self.remotes))) as pool:
            list(pool.map(Remote.close, self.remotes.values()))
        self.remotes = {}

    def down(self, progress: Progress = namespace.silent) -> None:
        """End the sessions and remove everything the lab made."""
        with contextlib.suppress(OSError):
            self.close()
        namespace.take_down(self.plan.name, progress)

    def __enter__(self) -> Self:
        """Open the sessions."""
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the lab down."""
        self.down()

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{h.name}</td><td>{h.spec.role}</td><td>{h.tier}</td>"
            f"<td>{h.control_address}</td><td>{', '.join(h.peers)}</td></tr>"
            for h in self.plan.hosts.values()
        )
        head = "<tr><th>host</th><th>role</th><th>tier</th><th>address</th><th>links to</th></tr>"
        return f"<b>Lab {self.plan.name}</b> ({self.backend})<table>{head}{rows}</table>"

    def _hear(self, event: dict[str, Any]) -> None:
        for listener in self._listeners:
            listener(event)

    def _in_rounds(
        self,
        wanted: list[Ends],
        measure: Callable[[Ends], Any],
        progress: Progress,
        what: str,
        at_once: int = 99,
    ) -> dict[Ends, Any]:
        """Measure several links at once, but no host in two measurements at the same time."""
        left, found = list(wanted), dict[Ends, Any]()
        while left:
            progress(f"measuring {what}: {len(found)} of {len(wanted)}")
            busy: set[str] = set()
            now: list[Ends] = []
            for ends in left:
                if not busy & set(ends) and len(now) < at_once:
                    busy |= set(ends)
                    now.append(ends)
            left = [ends for ends in left if ends not in now]
            with ThreadPoolExecutor(len(now)) as pool:
                found |= dict(zip(now, pool.map(measure, now), strict=True))
        return found

    def _measure_delay(self, ends: Ends) -> Any:
        address = self.plan.hosts[ends[1]].data_address
        return self[ends[0]].call("measure_delay", address=address, count=PROBES)

    def _measure_rate(self, ends: Ends) -> Any:
        source, target = ends
        address = self.plan.hosts[target].data_address
        link = next(x for x in self.plan.links if (x.source, x.target) == ends)
        receiving = self[target].start("measure_receive", address=address, port=RATE_PORT)
        self[source].call(
            "measure_send",
            address=address,
            port=RATE_PORT,
            rate_bps=link.rate_bps,
            duration_s=RATE_PROBE_S,
        )
        return receiving.result(30)

    def _describe(self, name: str) -> HostRecord:
        host = self.plan.hosts[name]
        facts = self[name].call("facts")
        samples = []
        for _ in range(CLOCK_SAMPLES):
            before = time.time()
            samples.append((before, self[name].call("clock"), time.time()))
        offset_s, uncertainty_s = estimate_offset(samples)
        return HostRecord(
            host=name,
            role=host.spec.role,
            tier=host.tier,
            address=host.control_address,
            architecture=str(facts.get("architecture", "")),
            kernel=str(facts.get("kernel", "")),
            page_size_bytes=int(facts.get("page_size_bytes", 0)),
            criu=str(facts["criu"]["version"] or ""),
            clock_offset_s=offset_s,
            clock_uncertainty_s=uncertainty_s,
            **engine_ways(facts),
        )
