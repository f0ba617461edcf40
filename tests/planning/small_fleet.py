"""Fleets small enough to work out by hand, or by trying everything."""

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from testbed.handoff.durations import ContainerSize, HostFactors
from testbed.planning.checks import violations
from testbed.planning.fleet import (
    UNLIMITED,
    BaseStation,
    Fleet,
    FleetPlan,
    FleetUser,
    Heard,
    Placement,
    Resources,
    Server,
    Work,
)
from testbed.scenario import Link

STILL = HostFactors(0.0, 0.0)
WEAK, FAIR, GOOD = -90.0, -75.0, -60.0


@dataclass(frozen=True)
class Steps:
    """10 Mbit/s from -80 dBm on, 50 Mbit/s from -70 dBm on."""

    lowest_dbm: float = -80.0

    def throughput_bps(self, rssi_dbm):
        level = np.asarray(rssi_dbm, dtype=float)
        return np.where(level >= -70, 50e6, np.where(level >= -80, 10e6, 0.0))


def both_ways(one, other, rate_bps, delay_s):
    return [
        Link(source=a, target=b, rate_bps=rate_bps, delay_s=delay_s)
        for a, b in ((one, other), (other, one))
    ]


def ngo_links(stations=("bs-a", "bs-b"), servers=("a", "b"), cloud="cloud"):
    """Ngo, V.A: 100 Mbit/s and 50 ms between edges, 75 Mbit/s and 150 ms to the cloud."""
    links = []
    for station, server in itertools.product(stations, servers):
        near = station == f"bs-{server}"
        links += both_ways(station, server, 1e9 if near else 100e6, 0.0 if near else 0.050)
    for place in (*stations, *servers):
        links += both_ways(place, cloud, 75e6, 0.150)
    for one, other in itertools.combinations(servers, 2):
        links += both_ways(one, other, 100e6, 0.050)
    return tuple(links)


def user(name="u", *, tasks=10.0, heard=None, station="bs-a", server="a", **known):
    """At edge a, on its way to base station b; its tasks have 125 kB and take 200 ms."""
    return FleetUser(
        name,
        station,
        server,
        Work(tasks=tasks, task_bytes=125e3, processing_s=0.2),
        ContainerSize(0.0, 50e6, 2.5e6),
        heard or {"bs-a": Heard(GOOD, FAIR), "bs-b": Heard(FAIR, GOOD)},
        **known,
    )


def fleet(*users, stations=2, servers=None, links=None, handover_s=0.5):
    """Two edges of speed 1000 and a cloud of speed 2000, each edge beside a base station."""
    if isinstance(stations, int):
        stations = (BaseStation("bs-a", stations), BaseStation("bs-b", stations))
    servers = servers or (
        Server("a", 1000.0, x_m=0.0, y_m=0.0),
        Server("b", 1000.0, x_m=100.0, y_m=0.0),
        Server("cloud", 2000.0, cloud=True),
    )
    return Fleet(users or (user(),), stations, servers, links or ngo_links(), Steps(), handover_s)


def every_plan(of):
    """All plans there are that meet the constraints."""
    places = list(
        itertools.product((b.name for b in of.base_stations), (s.name for s in of.servers))
    )
    for chosen in itertools.product(places, repeat=len(of.users)):
        plan = FleetPlan(
            {
                u.name: Placement(u.name, station, server)
                for u, (station, server) in zip(of.users, chosen, strict=True)
            }
        )
        if not violations(of, plan):
            yield plan


@st.composite
def fleets(draw, *, feasible=False):
    """Up to three users, two base stations and three servers, of any room and any links.

    Feasible ones have a way for everybody into the cloud, and room for all there.
    """
    server_names, station_names = ("a", "b", "cloud"), ("bs-a", "bs-b")
    few = st.integers(0, 3)
    servers = tuple(
        Server(
            name,
            draw(st.sampled_from([500.0, 1000.0, 2000.0])),
            UNLIMITED
            if feasible and name == "cloud"
            else Resources(float(draw(few)), 100.0 * draw(few), 1e9, 1e12),
            HostFactors(draw(st.floats(0, 1e-4)), draw(st.floats(0, 1e-4))),
            cloud=name == "cloud",
        )
        for name in server_names
    )
    stations = tuple(
        BaseStation(name, draw(st.integers(2, 3) if feasible else few)) for name in station_names
    )
    links = tuple(
        link
        for link in ngo_links()
        if (feasible and "cloud" in {link.source, link.target}) or draw(st.integers(0, 9)) > 0
    )
    level = st.sampled_from([FAIR, GOOD] if feasible else [WEAK, FAIR, GOOD])
    users = tuple(
        FleetUser(
            f"u{number}",
            draw(st.sampled_from(station_names)),
            draw(st.sampled_from(server_names)),
            Work(
                draw(st.floats(0, 50)), draw(st.floats(0, 1e6)), draw(st.floats(0, 2)),
                draw(st.floats(0, 1)),
            ),
            ContainerSize(draw(st.floats(0, 1e3)), 50e6, draw(st.floats(0, 1e7))),
            {name: Heard(draw(level), draw(level)) for name in station_names},
            Resources(float(draw(st.integers(0, 2))), 50.0 * draw(few)),
        )
        for number in range(draw(st.integers(1, 3)))
    )  # fmt: skip
    return Fleet(users, stations, servers, links, Steps(), draw(st.sampled_from([0.0, 0.5])))
