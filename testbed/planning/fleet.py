"""What a planner for all users at once sees, and what it says (Ngo, IV.A).

Ngo's sets U, B and S are the users, the base stations and the servers (the cloud's included, which
differ by their resources only). Now is the paper's t, *then* its t': the moment planned for.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from testbed.errors import ScenarioError
from testbed.handoff.durations import ContainerSize, HostFactors
from testbed.mobility.rates import RateTable
from testbed.planning.planner import Plan
from testbed.roads.arrays import Bools, Floats, Ints
from testbed.scenario import Link

NAN = float("nan")
RESOURCES = ("cores", "memory_mb", "storage_mb", "network_bps")


@dataclass(frozen=True)
class Resources:
    """What a container takes of a server, or what a server has: Ngo's ``Res``.

    cores : of processors, busy. memory_mb, storage_mb : megabytes. network_bps : bits per second in
    and out.
    """

    cores: float = 0.0
    memory_mb: float = 0.0
    storage_mb: float = 0.0
    network_bps: float = 0.0


UNLIMITED = Resources(math.inf, math.inf, math.inf, math.inf)
INSTANT = HostFactors(0.0, 0.0)


@dataclass(frozen=True)
class BaseStation:
    """A base station. users_at_most : how many it serves at once, N_b."""

    name: str
    users_at_most: int = 1_000_000


@dataclass(frozen=True)
class Server:
    """A machine that can hold containers.

    Attributes
    ----------
    name : str
        Its name.
    speed : float
        Computational power C_s, as a benchmark measured it: events per second, say. Only ratios
        between servers matter.
    capacity : Resources
        What it has for containers.
    factors : HostFactors
        psi and rho, learnt from its own migrations (`testbed.handoff.durations.learn_factors`).
    x_m, y_m : float
        Where it stands on the map's plane, metres; ``nan`` for far from everybody.
    cloud : bool
        Whether it is the cloud's.
    """

    name: str
    speed: float = 1.0
    capacity: Resources = UNLIMITED
    factors: HostFactors = INSTANT
    x_m: float = NAN
    y_m: float = NAN
    cloud: bool = False


@dataclass(frozen=True)
class Heard:
    """How strong a user hears a base station now, and how strong it is expected to then, dBm."""

    rssi_dbm: float
    expected_dbm: float


@dataclass(frozen=True)
class Work:
    """What a user offloads.

    Attributes
    ----------
    tasks : float
        How many tasks it will offload until it is planned for again, n. The paper's sum needs a
        number and names no time for it.
    task_bytes : float
        Size of one task, S_u; results are taken to be much smaller.
    processing_s : float
        What one takes at the present server, measured, seconds.
    queueing_s : float
        What one waits, seconds, wherever it is offloaded to
        (`testbed.planning.delay.queueing_s`).
    """

    tasks: float
    task_bytes: float
    processing_s: float
    queueing_s: float = 0.0


@dataclass(frozen=True)
class FleetUser:
    """One user.

    Attributes
    ----------
    name : str
        Its name.
    base_station, server : str
        Where its radio and its container are now.
    work : Work
        What it offloads.
    container : ContainerSize
        How large its container is.
    heard : mapping of str to Heard
        The base stations it hears.
    needs : Resources
        What its container takes.
    serving : str
        The base station that the rule for handovers names now; empty for the present one. The
        planners that do not coordinate follow it.
    x_m, y_m : float
        Where it is on the map's plane, metres.
    """

    name: str
    base_station: str
    server: str
    work: Work
    container: ContainerSize
    heard: Mapping[str, Heard]
    needs: Resources = Resources()
    serving: str = ""
    x_m: float = NAN
    y_m: float = NAN


@dataclass(frozen=True, eq=False)
class Fleet:
    """All users, base stations and servers, and what lies between them.

    Attributes
    ----------
    users, base_stations, servers : tuples
        Each with unique names. A base station and a server of one name stand side by side: between
        them nothing is lost and no time passes, unless there is a link.
    links : tuple of Link
        Directed paths from base stations to servers and back, and from server to server, as
        `Scenario.directed_links` has them. Where there is none, nothing is reached.
    rates : RateTable
        What a radio link carries by its strength; its lowest level is the paper's least RSSI.
    handover_s : float
        How long a handover leaves a user without a link, seconds (Ngo, V.A: 500 ms).

    Raises
    ------
    ScenarioError
        If a name stands twice, a server does nothing, or a user is where nothing is.
    """

    users: tuple[FleetUser, ...]
    base_stations: tuple[BaseStation, ...]
    servers: tuple[Server, ...]
    links: tuple[Link, ...]
    rates: RateTable
    handover_s: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be planned for."""
        for kind, named in (
            ("users", self.users),
            ("base stations", self.base_stations),
            ("servers", self.servers),
        ):
            twice = [name for name, count in Counter(n.name for n in named).items() if count > 1]
            if twice:
                raise ScenarioError(f"{kind}: {', '.join(twice[:3])} twice; names must be unique")
        for server in self.servers:
            if not server.speed > 0:
                raise ScenarioError(f"{server.name} has a speed of {server.speed:g}: above 0")
        for user in self.users:
            if user.server not in self.server_index:
                raise ScenarioError(f"{user.name} has its service at {user.server!r}: no server")
            if user.base_station not in self.station_index:
                raise ScenarioError(
                    f"{user.name} is connected to {user.base_station!r}: no base station"
                )

    @cached_property
    def station_index(self) -> dict[str, int]:
        """Number of each base station, by name."""
        return {station.name: number for number, station in enumerate(self.base_stations)}

    @cached_property
    def server_index(self) -> dict[str, int]:
        """Number of each server, by name."""
        return {server.name: number for number, server in enumerate(self.servers)}

    @cached_property
    def user_index(self) -> dict[str, int]:
        """Number of each user, by name."""
        return {user.name: number for number, user in enumerate(self.users)}

    def numbers(self, placement: "Placement") -> tuple[int, int, int]:
        """Numbers of a placement's user, base station and server.

        Raises
        ------
        ScenarioError
            If one of them is not of this fleet.
        """
        for kind, name, known in (
            ("user", placement.user, self.user_index),
            ("base station", placement.base_station, self.station_index),
            ("server", placement.server, self.server_index),
        ):
            if name not in known:
                raise ScenarioError(f"a plan for {placement.user!r}: no {kind} {name!r} is known")
        return (
            self.user_index[placement.user],
            self.station_index[placement.base_station],
            self.server_index[placement.server],
        )

    @cached_property
    def present(self) -> tuple[Ints, Ints]:
        """Numbers of the base station and of the server that each user has now, shape (U,)."""
        stations = [self.station_index[user.base_station] for user in self.users]
        servers = [self.server_index[user.server] for user in self.users]
        return np.array(stations, dtype=np.int64), np.array(servers, dtype=np.int64)

    @cached_property
    def wired(self) -> tuple[Floats, Floats]:
        """From each base station to each server: bits per second, round trip in seconds; (B, S).

        Where there is no way, the rate is 0 and the round trip infinite.
        """
        shape = (len(self.base_stations), len(self.servers))
        rate_bps, rtt_s = np.zeros(shape), np.full(shape, math.inf)
        for name, station in self.station_index.items():
            if name in self.server_index:
                rate_bps[station, self.server_index[name]] = math.inf
                rtt_s[station, self.server_index[name]] = 0.0
        back_s = {(link.source, link.target): link.delay_s for link in self.links}
        for link in self.links:
            at, to = self.station_index.get(link.source), self.server_index.get(link.target)
            if at is not None and to is not None and link.source != link.target:
                rate_bps[at, to] = link.rate_bps or math.inf
                rtt_s[at, to] = link.delay_s + back_s.get((link.target, link.source), math.inf)
        return rate_bps, rtt_s

    @cached_property
    def between(self) -> tuple[Floats, Floats]:
        """From server to server: bits per second, and one-way delay in seconds; shape (S, S)."""
        count = len(self.servers)
        rate_bps, delay_s = np.zeros((count, count)), np.full((count, count), math.inf)
        np.fill_diagonal(rate_bps, math.inf)
        np.fill_diagonal(delay_s, 0.0)
        for link in self.links:
            at, to = self.server_index.get(link.source), self.server_index.get(link.target)
            if at is not None and to is not None and at != to:
                rate_bps[at, to] = link.rate_bps or math.inf
                delay_s[at, to] = link.delay_s
        return rate_bps, delay_s

    @cached_property
    def radio(self) -> tuple[Floats, Bools]:
        """What each user's radio carries then, bits per second, and what it reaches; (U, B).

        A base station is reached if it is strong enough both now and then (Ngo, eq. 3d).
        """
        shape = (len(self.users), len(self.base_stations))
        now_dbm, then_dbm = np.full(shape, -math.inf), np.full(shape, -math.inf)
        for row, user in enumerate(self.users):
            for name, heard in user.heard.items():
                column = self.station_index.get(name)
                if column is not None:
                    now_dbm[row, column] = heard.rssi_dbm
                    then_dbm[row, column] = heard.expected_dbm
        least = self.rates.lowest_dbm
        return self.rates.throughput_bps(then_dbm), (now_dbm >= least) & (then_dbm >= least)


@dataclass(frozen=True)
class Placement:
    """Where one user's radio and container are to be, and why."""

    user: str
    base_station: str
    server: str
    reason: str = ""

    @property
    def plan(self) -> Plan:
        """The same for the loop that follows one user."""
        return Plan(self.server, self.base_station, "", self.reason)


@dataclass(frozen=True)
class FleetPlan:
    """Where everybody is to be.

    Attributes
    ----------
    placements : mapping of str to Placement
        By user.
    outcome : str
        ``optimal``: nothing is better; ``feasible``: time ran out over a plan that may not be the
        best; ``kept``: none was found and the last one stays; ``simple``: a rule was followed that
        does not look for the best.
    reason : str
        Why, for a plan that is not optimal.
    profit_s : float
        G - C of equation 3a, seconds; ``nan`` where it was not worked out.
    """

    placements: Mapping[str, Placement] = field(default_factory=dict)
    outcome: Literal["optimal", "feasible", "kept", "simple"] = "simple"
    reason: str = ""
    profit_s: float = NAN

    def __getitem__(self, user: str) -> Placement:
        """Where a user is to be."""
        return self.placements[user]


def stay(user: FleetUser, reason: str) -> Placement:
    """A user stays where it is."""
    return Placement(user.name, user.base_station, user.server, reason)
