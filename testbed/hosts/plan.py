"""Which host has which name, address and devices: the lab as it will be, before anything is made.

Three networks, never mixed: *control* (SSH, Ansible; never shaped), *data* (one point-to-point
device ``wan-PEER`` per link, shaped) and *service* (addresses that move with the containers).
"""

import re
import zlib
from dataclasses import dataclass
from ipaddress import IPv4Network

from testbed.errors import ScenarioError
from testbed.scenario import HostSpec, Link, Scenario

CONTROL = IPv4Network("10.77.0.0/24")
DATA = IPv4Network("10.78.0.0/24")
SERVICE = IPv4Network("10.88.0.0/24")
FIRST_HOST = 11
MAX_LAB_NAME = 10
LAB_NAME = re.compile(rf"[A-Za-z0-9]{{1,{MAX_LAB_NAME}}}")
DEFAULT_LAB = "lab"
RESERVED = ("core", "delay-line")
"""Names inside a lab that are no host's: the control switch, the process that joins hosts."""


@dataclass(frozen=True)
class HostPlan:
    """One host: its place in the scenario and its addresses.

    control_address : where SSH answers; never shaped.
    data_address : where other hosts reach it over the emulated WAN.
    peers : hosts at the other end of its links.
    """

    name: str
    spec: HostSpec
    control_address: str
    data_address: str
    peers: tuple[str, ...]

    @property
    def tier(self) -> str:
        """The server's tier; empty for other roles."""
        return self.spec.tier or ""


@dataclass(frozen=True)
class LabPlan:
    """A lab, whole: hosts, links and service addresses."""

    name: str
    hosts: dict[str, HostPlan]
    links: tuple[Link, ...]
    service_addresses: dict[str, str]
    control: IPv4Network = CONTROL

    def netns(self, host: str) -> str:
        """Name of the host's network namespace on this machine."""
        return f"tb-{self.name}-{host}"

    @property
    def core(self) -> str:
        """Name of the network namespace that holds the control switch."""
        return f"tb-{self.name}-core"

    @property
    def cable(self) -> str:
        """The machine's own end of the control network."""
        return f"tb-{self.name}"

    def pairs(self) -> list[tuple[str, str]]:
        """Every linked pair of hosts, once."""
        return sorted({tuple(sorted((link.source, link.target))) for link in self.links})  # type: ignore[misc]


def control_network(name: str) -> IPv4Network:
    """The control network of a lab: the machine is in it, so each lab has one of its own."""
    if name == DEFAULT_LAB:
        return CONTROL
    number = 1 + zlib.crc32(name.encode()) % 254
    return IPv4Network((int(CONTROL.network_address) + 256 * number, CONTROL.prefixlen))


def device(peer: str) -> str:
    """The data device that leads to ``peer``."""
    return f"wan-{peer}"


def check_lab_name(name: str) -> None:
    """Refuse a name that cannot be part of interfaces, namespaces and folders.

    Raises
    ------
    ScenarioError
        If it is too long, or anything but letters (a to z) and digits.
    """
    if not LAB_NAME.fullmatch(name):
        raise ScenarioError(
            f"lab name {name!r}: at most {MAX_LAB_NAME} letters and digits (it is part of "
            "interface names)"
        )


def plan_lab(scenario: Scenario, name: str = DEFAULT_LAB) -> LabPlan:
    """Give every host of the scenario its addresses.

    Raises
    ------
    ScenarioError
        If the lab's name is too long, or there are more hosts or services than addresses.
    """
    check_lab_name(name)
    for host in scenario.hosts:
        if host in {name, *RESERVED}:
            raise ScenarioError(f"hosts.{host}: a lab uses this name itself; give the host another")
    if len(scenario.services) > SERVICE.num_addresses - 2:
        raise ScenarioError(
            f"{len(scenario.services)} services; there are {SERVICE.num_addresses - 2} addresses"
        )
    most = CONTROL.num_addresses - FIRST_HOST - 2
    if len(scenario.hosts) > most:
        raise ScenarioError(f"{len(scenario.hosts)} hosts; a lab has room for {most}")
    links = tuple(scenario.directed_links())
    control = control_network(name)
    hosts = {
        host: HostPlan(
            name=host,
            spec=spec,
            control_address=str(control[FIRST_HOST + number]),
            data_address=str(DATA[FIRST_HOST + number]),
            peers=tuple(link.target for link in links if link.source == host),
        )
        for number, (host, spec) in enumerate(scenario.hosts.items())
    }
    services = {name: str(SERVICE[1 + number]) for number, name in enumerate(scenario.services)}
    return LabPlan(name, hosts, links, services, control)


def plan_switch(plan: LabPlan) -> list[str]:
    """``ip -batch`` lines that make the control switch in the core namespace."""
    return [
        "link set lo up",
        "link add br0 type bridge",
        "link set br0 up",
        f"addr add {plan.control[1]}/{plan.control.prefixlen} dev br0",
        f"link set v-{plan.name} master br0 up",
    ]


def plan_addresses(plan: LabPlan, host: str) -> list[str]:
    """``ip -batch`` lines for the host's own control and data addresses."""
    this = plan.hosts[host]
    return [
        "link set lo up",
        f"addr add {this.data_address}/32 dev lo",
        "link set eth0 up",
        f"addr add {this.control_address}/{plan.control.prefixlen} dev eth0",
    ]


def plan_routes(plan: LabPlan, host: str) -> list[str]:
    """``ip -batch`` lines that lead to each neighbour over its own device."""
    this = plan.hosts[host]
    return [
        f"route replace {plan.hosts[peer].data_address}/32 dev {device(peer)} "
        f"src {this.data_address}"
        for peer in this.peers
    ]
