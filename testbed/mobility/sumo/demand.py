"""Who is on the way: traffic in numbers, and the trips, types and routes that SUMO makes of it."""

import gzip
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from testbed.errors import TraceError
from testbed.explain import nearest
from testbed.mobility.sumo.net import edge_lengths_m
from testbed.mobility.sumo.programs import LIMIT_S, run_sumo

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "car": "passenger",
        "bus": "bus",
        "truck": "truck",
        "bicycle": "bicycle",
        "pedestrian": "pedestrian",
    }
)
"""Kinds of users, and what SUMO calls their class."""

_BY_CLASS = {sumo_class: kind for kind, sumo_class in KINDS.items()}
_BY_DEFAULT_TYPE = {
    "DEFAULT_VEHTYPE": "car",
    "DEFAULT_PEDTYPE": "pedestrian",
    "DEFAULT_BIKETYPE": "bicycle",
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Traffic:
    """Traffic in numbers.

    Attributes
    ----------
    counts : mapping of str to int
        How many of each kind (`KINDS`) set out. Without meaning where ``trips`` are given.
    period_s : float
        They set out evenly over this time, from 0 on, seconds.
    duration_s : float
        The simulation ends then, whoever is still on the way, seconds.
    speed_factor : float
        Everybody's wish relative to the speed limits and to their kind's usual speed (MSMF,
        section 5.3.1 and Table 2, drives the same traces at several speeds).
    speed_deviation : float
        How much wishes differ from user to user, as a share of ``speed_factor``; between a fifth
        and twice of it.
    step_s : float
        Time between two fixes and of a simulation step, seconds.
    minimum_distance_m : float
        Straight from where a random trip begins to where it ends at least, metres.
    maximum_distance_m : float or None
        The same at most.
    stuck_s : float
        A vehicle that could not move for so long is taken off the road, and its trace ends, so
        that jams dissolve; SUMO would put it elsewhere. Seconds.
    trips : Path or None
        A file of SUMO trips, flows, routes or persons to be driven, instead of random ones.
        Its own types keep their speeds times ``speed_factor``.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    period_s: float = 300.0
    duration_s: float = 600.0
    speed_factor: float = 1.0
    speed_deviation: float = 0.1
    step_s: float = 1.0
    minimum_distance_m: float = 300.0
    maximum_distance_m: float | None = None
    stuck_s: float = 300.0
    trips: Path | None = None

    def __post_init__(self) -> None:
        """Bring the counts into one order, and refuse what makes no sense."""
        counts = dict(self.counts)
        for kind, count in counts.items():
            if kind not in KINDS:
                raise TraceError(f"traffic of kind {kind!r}: unknown{nearest(kind, KINDS)}")
            if count < 0:
                raise TraceError(f"{count} users of kind {kind!r}: must not be less than none")
        kept = {kind: int(counts[kind]) for kind in KINDS if counts.get(kind)}
        object.__setattr__(self, "counts", kept)
        if not kept and self.trips is None:
            raise TraceError("traffic of nobody: name counts, such as {'car': 100}, or trips")
        for name in ("period_s", "duration_s", "speed_factor", "step_s", "stuck_s"):
            if not getattr(self, name) > 0:
                raise TraceError(f"traffic with {name} {getattr(self, name)}: must be above 0")
        if not 0 <= self.speed_deviation <= 1:
            raise TraceError(
                f"traffic with speed_deviation {self.speed_deviation}: must be from 0 to 1"
            )

    @classmethod
    def at_rates(cls, per_hour: Mapping[str, float], *, period_s: float, **other: Any) -> "Traffic":
        """Traffic by departures per hour of each kind, instead of numbers of users."""
        counts = {kind: round(rate * period_s / 3600.0) for kind, rate in per_hour.items()}
        return cls(counts, period_s=period_s, **other)

    @property
    def users(self) -> int:
        """How many set out, where they are not given in a file."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Planned:
    """What ``duarouter`` found: every user's kind and edges, by name."""

    kinds: dict[str, str] = field(default_factory=dict)
    edges: dict[str, tuple[str, ...]] = field(default_factory=dict)


def write_types(path: Path, traffic: Traffic) -> None:
    """Write the types of all kinds for SUMO to ``path``."""
    factor, spread = traffic.speed_factor, traffic.speed_factor * traffic.speed_deviation
    wish = f"normc({factor:.6g},{spread:.6g},{0.2 * factor:.6g},{2 * factor:.6g})"
    types = (
        f'<vType id="{kind}" vClass="{sumo_class}" speedFactor="{wish}"/>'
        for kind, sumo_class in KINDS.items()
    )
    path.write_text(f"<additional>{''.join(types)}</additional>\n", encoding="utf-8")


def draw_trips(
    net: Path, traffic: Traffic, folder: Path, *, seed: int, types: Path, limit_s: float = LIMIT_S
) -> list[Path]:
    """Let ``randomTrips.py`` draw trips between connected edges, one file for each kind."""
    seeds = np.random.SeedSequence(seed).generate_state(len(KINDS)) % 2**31
    seed_of = dict(zip(KINDS, seeds.tolist(), strict=True))

    def draw(kind: str) -> Path:
        file = folder / f"{kind}.trips.xml"
        own = folder / kind  # the tool leaves a file of one name in the folder it runs in
        own.mkdir()
        options = ["--net-file", str(net), "--additional-files", str(types)]
        options += ["--output-trip-file", str(file), "--seed", str(seed_of[kind])]
        run_sumo(
            "randomTrips.py",
            [*options, *_trip_options(kind, traffic)],
            own,
            limit_s=limit_s,
            remedy=f"Has {net.name} roads for the kind {kind}, and any "
            f"{traffic.minimum_distance_m:g} m apart?",
        )
        return file

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(draw, traffic.counts))


def _trip_options(kind: str, traffic: Traffic) -> list[str]:
    step_s = traffic.period_s / traffic.counts[kind]
    # Half a step before the period's end, so that rounding adds nobody.
    options = ["--begin", "0", "--end", repr(traffic.period_s - step_s / 2)]
    options += ["--period", repr(step_s), "--prefix", f"{kind}-", "--threads", "1"]
    options += ["--edge-permission", KINDS[kind], "--trip-attributes", f'type="{kind}"']
    options += ["--min-distance", repr(traffic.minimum_distance_m)]
    if traffic.maximum_distance_m is not None:
        options += ["--max-distance", repr(traffic.maximum_distance_m)]
    return [*options, "--persons"] if kind == "pedestrian" else options


def read_routes(path: Path, *, rescale: float | None = None) -> Planned:
    """Read what ``duarouter`` wrote; where asked, scale the wishes of the file's own types.

    Parameters
    ----------
    path : Path
        The file; rewritten where wishes are scaled.
    rescale : float, optional
        Speeds wished for are multiplied by it.
    """
    tree = ET.parse(path)  # noqa: S314 - SUMO wrote it just now
    root = tree.getroot()
    kind_of = dict(_BY_DEFAULT_TYPE)
    for own in root.iter("vType"):
        sumo_class = own.get("vClass", "passenger")
        kind_of[own.get("id", "")] = _BY_CLASS.get(sumo_class, sumo_class)
    planned = Planned()
    for one in root:
        if one.tag in {"vehicle", "person"}:
            default = "DEFAULT_VEHTYPE" if one.tag == "vehicle" else "DEFAULT_PEDTYPE"
            name = one.get("id", "")
            planned.kinds[name] = kind_of.get(one.get("type", default), "car")
            steps = [s.get("edges", "") for s in one if s.tag in {"route", "walk"}]
            planned.edges[name] = tuple(" ".join(steps).split())
    if rescale is not None and rescale != 1.0:
        _rescale(root, rescale)
        tree.write(path, encoding="utf-8")
    return planned


def _rescale(root: ET.Element, factor: float) -> None:
    """Multiply the speeds that all types wish for, those that are only implied included."""
    usual = f"normc({factor:.6g},{0.1 * factor:.6g},{0.2 * factor:.6g},{2 * factor:.6g})"
    named = {own.get("id") for own in root.iter("vType")}
    for own in root.iter("vType"):
        wish = own.get("speedFactor")
        scaled = (
            usual if wish is None else _NUMBER.sub(lambda n: f"{float(n[0]) * factor:.6g}", wish)
        )
        own.set("speedFactor", scaled)
    for name, kind in _BY_DEFAULT_TYPE.items():
        if name not in named:
            implied = {"id": name, "vClass": KINDS[kind], "speedFactor": usual}
            root.insert(0, ET.Element("vType", implied))


def check_trips(file: Path, net: Path) -> None:
    """Refuse a file of trips that names edges which the network does not have.

    ``duarouter`` would leave such edges out and drive what remains.

    Raises
    ------
    TraceError
        With the first such edge and who is to use it, or if the file is not XML.
    """
    known = edge_lengths_m(net)
    try:
        for one in _elements(file, {*_ASKING, *_FLOWS}):
            for part in one.iter():
                named = " ".join(part.get(key, "") for key in ("from", "to", "via", "edges"))
                unknown = [edge for edge in named.split() if edge not in known]
                if unknown:
                    raise TraceError(
                        f"{file}: {one.tag} {one.get('id')}: edge {unknown[0]!r} is not in "
                        f"{net.name}. Is the file meant for this network?"
                    )
    except (ET.ParseError, OSError) as error:
        raise TraceError(f"{file}: cannot be read as SUMO's trips or routes ({error})") from error


def count_asked(files: list[Path]) -> int:
    """How many vehicles and persons the trip files ask for; a flow counts its ``number``."""
    return sum(
        int(one.get("number", "0")) if one.tag in _FLOWS else 1
        for file in files
        for one in _elements(file, {*_ASKING, *_FLOWS})
    )


_ASKING = frozenset({"trip", "vehicle", "person"})
_FLOWS = frozenset({"flow", "personFlow"})


def _elements(file: Path, tags: set[str]) -> Iterator[ET.Element]:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        for _, one in ET.iterparse(opened):  # noqa: S314 - a file the user chose
            if one.tag in tags:
                yield one
                one.clear()
