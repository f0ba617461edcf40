"""Fleets that are drawn: base stations on a grid, users among them, Ngo's services and links."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from testbed.handoff.durations import ContainerSize, HostFactors
from testbed.mobility.radio import received_dbm
from testbed.mobility.rates import WifiRates
from testbed.movement import Radio
from testbed.planning.fleet import (
    UNLIMITED,
    BaseStation,
    Fleet,
    FleetUser,
    Heard,
    Resources,
    Server,
    Work,
)
from testbed.scenario import Link

APART_M = 20.0
MOVED_M = 8.0
SHADOWING_DB = 2.0
HEARD_DBM = -95.0
CROWD = 1.5
"""Users a base station serves, as a multiple of its share."""
FACTORS = HostFactors(checkpoint=2e-7, restore=1e-7)
EDGE_BPS, EDGE_S = 100e6, 0.050
CLOUD_BPS, CLOUD_S = 75e6, 0.150
CLOUD = "cloud"

Place = tuple[float, float]


class Kind(NamedTuple):
    """A service: sizes by Ngo's Table I; what a task takes, and a container needs, is assumed."""

    size: ContainerSize
    processing_s: float
    task_bytes: float
    needs: Resources


KINDS = (
    Kind(ContainerSize(1.86e9, 196.8e6, 7.94e6), 0.3, 150e3, Resources(1.0, 250.0)),
    Kind(ContainerSize(792e6, 584.8e6, 5.6e6), 0.8, 200e3, Resources(2.0, 700.0)),
    Kind(ContainerSize(74.2e6, 11.29e6, 47.7e3), 0.0, 1e3, Resources(0.1, 20.0)),
)


def draw_fleet(seed: int, users: int, stations: int, servers: int, *, room: float) -> Fleet:
    """A fleet; the same seed draws the same.

    Parameters
    ----------
    seed : int
        Decides everything.
    users, stations, servers : int
        How many; the last server is the cloud's.
    room : float
        What all edges have together, as a multiple of what all containers need.
    """
    chance = np.random.default_rng(seed)
    wide = math.ceil(math.sqrt(stations))
    places = [(APART_M * (n % wide), APART_M * (n // wide)) for n in range(stations)]
    beside = [places[n] for n in chance.choice(stations, size=servers - 1, replace=False).tolist()]
    kinds = [KINDS[n] for n in chance.integers(len(KINDS), size=users).tolist()]
    share = room / (servers - 1)
    capacity = Resources(
        cores=share * sum(kind.needs.cores for kind in kinds),
        memory_mb=share * sum(kind.needs.memory_mb for kind in kinds),
        storage_mb=math.inf,
        network_bps=math.inf,
    )
    edges = [
        Server(f"edge-{n}", chance.uniform(800, 1200), capacity, FACTORS, *place)
        for n, place in enumerate(beside)
    ]
    cloud = Server(CLOUD, 2000.0, UNLIMITED, FACTORS, cloud=True)
    crowd = math.ceil(CROWD * users / stations)
    return Fleet(
        users=tuple(
            _user(f"user-{n}", kind, places, edges, chance) for n, kind in enumerate(kinds)
        ),
        base_stations=tuple(BaseStation(f"bs-{n}", crowd) for n in range(stations)),
        servers=(*edges, cloud),
        links=tuple(_links(places, edges)),
        rates=WifiRates(),
    )


def _user(
    name: str,
    kind: Kind,
    places: Sequence[Place],
    edges: Sequence[Server],
    chance: np.random.Generator,
) -> FleetUser:
    """Somewhere on the grid, then a few metres away; the rule for handovers names the strongest."""
    corner = np.max(places, axis=0)
    now = chance.uniform((0.0, 0.0), corner)
    then = np.clip(now + chance.normal(0.0, MOVED_M, 2), 0.0, corner)
    heard = {}
    for number, place in enumerate(places):
        levels = [
            received_dbm(Radio(), math.dist(place, at)) + chance.normal(0.0, SHADOWING_DB)
            for at in (now, then)
        ]
        if max(levels) > HEARD_DBM:
            heard[f"bs-{number}"] = Heard(*levels)
    strongest = sorted(heard, key=lambda station: heard[station].rssi_dbm)
    return FleetUser(
        name,
        base_station=strongest[-2],
        server=edges[int(chance.integers(len(edges)))].name,
        work=Work(chance.uniform(5, 60), kind.task_bytes, kind.processing_s),
        container=kind.size,
        heard=heard,
        needs=kind.needs,
        serving=strongest[-1],
        x_m=float(now[0]),
        y_m=float(now[1]),
    )


def _links(places: Sequence[Place], edges: Sequence[Server]) -> list[Link]:
    """From every base station to every server, and between all servers."""
    found = []
    for number, place in enumerate(places):
        station = f"bs-{number}"
        for edge in edges:
            hops = min(3.0, math.dist(place, (edge.x_m, edge.y_m)) / APART_M)
            found += _both(station, edge.name, EDGE_BPS if hops else None, EDGE_S * hops)
        found += _both(station, CLOUD, CLOUD_BPS, CLOUD_S)
    for one, other in itertools.combinations(edges, 2):
        found += _both(one.name, other.name, EDGE_BPS, EDGE_S)
    for edge in edges:
        found += _both(edge.name, CLOUD, CLOUD_BPS, CLOUD_S)
    return found


def _both(one: str, other: str, rate_bps: float | None, delay_s: float) -> list[Link]:
    return [
        Link(source=a, target=b, rate_bps=rate_bps, delay_s=delay_s)
        for a, b in ((one, other), (other, one))
    ]
