"""One trip that SUMO drives: ``randomTrips.py``, ``duarouter`` and ``sumo`` out of the wheel.

One car alone on the network, with its traffic lights; the same seed gives the same trip. The
programs run in a temporary folder, are given no schema to look for, and never use the network.
Whole traffic is the matter of `testbed.mobility.sumo.traffic`.
"""

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.report import TraceReport
from testbed.mobility.sumo.fcd import fcd_options, read_fcd
from testbed.mobility.sumo.kept import keep, kept_path, read_kept
from testbed.mobility.sumo.net import edge_lengths_m, net_to_degrees
from testbed.mobility.sumo.programs import (
    OFFLINE,
    run_sumo,
    sumo_home,
    sumo_version,
    writes_parquet,
)
from testbed.mobility.trace import Floats, Trace, make_trace

_LAYOUT = 1
_TRIPS = 60
_LONGEST_DRIVE_S = 7200


@dataclass(frozen=True)
class Drive:
    """One trip as SUMO drove it.

    Attributes
    ----------
    trace : Trace
        The car's positions; time starts at 0.
    route : tuple of str
        SUMO's edges, in the order in which they are driven.
    edge : tuple of str
        SUMO's edge at each fix; ``:...`` inside junctions.
    pos_m : numpy.ndarray
        How far along its lane the car's front is at each fix, metres.
    distance_m : float
        Length of the route's edges, metres.
    """

    trace: Trace
    route: tuple[str, ...]
    edge: tuple[str, ...]
    pos_m: Floats
    distance_m: float

    def report(self, seed: int) -> TraceReport:
        """How the trace came about."""
        return TraceReport(
            source=f"SUMO trip with seed {seed}, {self.distance_m:.0f} m over "
            f"{len(self.route)} edges",
            fixes=len(self.trace),
        )


def drive_trip(
    net: Path,
    *,
    seed: int,
    minimum_distance_m: float,
    speed_factor: float = 1.0,
    step_s: float = 1.0,
    user: str = "car",
    on_edges: Container[str] | None = None,
    cache: Path | None = None,
) -> Drive:
    """Let SUMO drive one car.

    Parameters
    ----------
    net : Path
        A SUMO network.
    seed : int
        Decides where the trip goes and how the driver behaves.
    minimum_distance_m : float
        The first random trip with at least this length is driven, metres.
    speed_factor : float
        The driver's wish relative to the speed limits.
    step_s : float
        Time between fixes, seconds.
    user : str
        The name in the trace.
    on_edges : container of str, optional
        Only routes wholly on these edges count (a map's ``edge_ids``).
    cache : Path, optional
        Folder for trips driven before, by content hash of everything that decides them.

    Raises
    ------
    DataNotFoundError
        If SUMO or the network is not there.
    MapError
        If the network is unsuitable.
    TraceError
        If no trip is long enough, or SUMO fails.
    """
    home = sumo_home()
    if not net.is_file():
        raise DataNotFoundError(f"{net}: there is no such SUMO network. `netconvert` makes them")
    listed = sorted(on_edges) if isinstance(on_edges, set | frozenset) else ()
    asked = (_LAYOUT, seed, minimum_distance_m, speed_factor, step_s, listed, sumo_version(home))
    kept = kept_path(cache, "trip", [net], asked)
    rows = read_kept(kept, ("route", "distance_m"))
    if rows is None:
        with tempfile.TemporaryDirectory(prefix="testbed-sumo-") as folder:
            here = Path(folder)
            route, distance_m = _choose(
                net, here, seed=seed, minimum_m=minimum_distance_m, on_edges=on_edges
            )
            rows = _simulate(
                net, here, seed=seed, route=route, speed_factor=speed_factor, step_s=step_s
            )
        rows.attrs = {"route": " ".join(route), "distance_m": distance_m}
        keep(rows, kept)
    trace = make_trace(
        user,
        rows["time_s"].to_numpy() - rows["time_s"].iloc[0],
        rows["lat_deg"].to_numpy(),
        rows["lon_deg"].to_numpy(),
        speed_mps=rows["speed_mps"].to_numpy(),
        heading_deg=rows["heading_deg"].to_numpy() % 360.0,
    )
    return Drive(
        trace,
        tuple(rows.attrs["route"].split()),
        tuple(rows["edge"]),
        rows["pos_m"].to_numpy(dtype=float),
        float(rows.attrs["distance_m"]),
    )


def _choose(
    net: Path,
    folder: Path,
    *,
    seed: int,
    minimum_m: float,
    on_edges: Container[str] | None,
) -> tuple[tuple[str, ...], float]:
    """The first of some random routes that is long enough, and its length in metres."""
    trips, routes = folder / "trips.xml", folder / "routes.xml"
    randomly = ["--net-file", str(net), "--output-trip-file", str(trips), "--seed", str(seed)]
    randomly += ["--begin", "0", "--end", str(_TRIPS), "--period", "1"]
    randomly += ["--vehicle-class", "passenger", "--min-distance", str(minimum_m / 2)]
    run_sumo("randomTrips.py", randomly, folder)
    routing = ["--net-file", str(net), "--route-files", str(trips), "--output-file", str(routes)]
    routing += ["--seed", str(seed), "--ignore-errors", "--no-warnings", *OFFLINE]
    run_sumo("duarouter", routing, folder)
    lengths = edge_lengths_m(net)
    longest_m = 0.0
    for element in ET.parse(routes).getroot().iter("route"):  # noqa: S314 - SUMO wrote it just now
        edges = tuple(element.get("edges", "").split())
        if not edges or (on_edges is not None and any(edge not in on_edges for edge in edges)):
            continue
        length_m = sum(lengths[edge] for edge in edges)
        if length_m >= minimum_m:
            return edges, length_m
        longest_m = max(longest_m, length_m)
    raise TraceError(
        f"{net.name}: none of {_TRIPS} random trips with seed {seed} is {minimum_m:g} m long (the "
        f"longest is {longest_m:.0f} m). Ask for a smaller minimum_distance or take another seed"
    )


def _simulate(
    net: Path,
    folder: Path,
    *,
    seed: int,
    route: tuple[str, ...],
    speed_factor: float,
    step_s: float,
) -> pd.DataFrame:
    routes = folder / "one.xml"
    routes.write_text(
        f'<routes><vType id="driver" vClass="passenger" speedFactor="{speed_factor!r}" '
        'speedDev="0"/><vehicle id="car" type="driver" depart="0">'
        f'<route edges="{" ".join(route)}"/></vehicle></routes>\n',
        encoding="utf-8",
    )
    output = folder / ("fcd.parquet" if writes_parquet(sumo_home()) else "fcd.xml")
    driving = ["--net-file", str(net), "--route-files", str(routes), "--seed", str(seed)]
    driving += [*fcd_options(output, truth=True), "--step-length", str(step_s)]
    driving += ["--end", str(_LONGEST_DRIVE_S), "--no-warnings", *OFFLINE]
    run_sumo("sumo", driving, folder)
    rows = read_fcd(output)
    if rows.empty:
        raise TraceError(
            f"{net.name}: SUMO never let the car start (seed {seed}); try another seed"
        )
    lat, lon = net_to_degrees(net, rows["x"].to_numpy(), rows["y"].to_numpy())
    return pd.DataFrame(
        {
            "time_s": rows["time"].astype(float),
            "lat_deg": lat,
            "lon_deg": lon,
            "speed_mps": rows["speed"].astype(float).clip(lower=0.0),
            "heading_deg": rows["angle"].astype(float),
            "edge": rows["edge"].astype(str),
            "pos_m": rows["pos"].astype(float),
        }
    )
