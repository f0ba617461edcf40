"""Trips that SUMO drives: ``randomTrips.py``, ``duarouter`` and ``sumo`` out of the wheel.

One car alone on the network, with its traffic lights; the same seed gives the same trip. The
programs run in a temporary folder, are given no schema to look for, and never use the network.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from testbed.errors import DataNotFoundError, MapError, TraceError
from testbed.mobility.report import TraceReport
from testbed.mobility.trace import Floats, Trace, make_trace

_LAYOUT = 1
_TRIPS = 60
_LONGEST_DRIVE_S = 7200
_PROGRAM_LIMIT_S = 600
_OFFLINE = ("--xml-validation", "never", "--xml-validation.net", "never", "--no-step-log")


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
    asked = (_LAYOUT, seed, minimum_distance_m, speed_factor, step_s, listed, _version(home))
    digest = hashlib.sha256(net.read_bytes())
    digest.update(repr(asked).encode())
    kept = None if cache is None else Path(cache) / f"trip-{digest.hexdigest()[:16]}.parquet"
    rows = _read_kept(kept)
    if rows is None:
        with tempfile.TemporaryDirectory(prefix="testbed-sumo-") as folder:
            here = Path(folder)
            route, distance_m = _choose(
                home, net, here, seed=seed, minimum_m=minimum_distance_m, on_edges=on_edges
            )
            rows = _simulate(
                home,
                net,
                here,
                seed=seed,
                route=route,
                speed_factor=speed_factor,
                step_s=step_s,
            )
        rows.attrs = {"route": " ".join(route), "distance_m": distance_m}
        _keep(rows, kept)
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


def sumo_home() -> Path:
    """Folder of the SUMO that came with the ``eclipse-sumo`` wheel.

    Raises
    ------
    DataNotFoundError
        If the wheel is not installed.
    """
    try:
        import sumo  # noqa: PLC0415 - only trips need it
    except ImportError as error:
        raise DataNotFoundError(
            "SUMO is not installed, and this trip is driven by it. `pip install eclipse-sumo`"
        ) from error
    return Path(sumo.SUMO_HOME)


def _choose(
    home: Path,
    net: Path,
    folder: Path,
    *,
    seed: int,
    minimum_m: float,
    on_edges: Container[str] | None,
) -> tuple[tuple[str, ...], float]:
    """The first of some random routes that is long enough, and its length in metres."""
    trips, routes = folder / "trips.xml", folder / "routes.xml"
    randomly = [sys.executable, str(home / "tools" / "randomTrips.py")]
    randomly += ["--net-file", str(net), "--output-trip-file", str(trips), "--seed", str(seed)]
    randomly += ["--begin", "0", "--end", str(_TRIPS), "--period", "1"]
    randomly += ["--vehicle-class", "passenger", "--min-distance", str(minimum_m / 2)]
    _run(home, randomly, folder)
    command = [_program(home, "duarouter"), "--net-file", str(net), "--route-files", str(trips)]
    command += ["--output-file", str(routes), "--seed", str(seed), "--ignore-errors"]
    _run(home, [*command, "--no-warnings", *_OFFLINE], folder)
    lengths = _edge_lengths(net)
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


def _edge_lengths(net: Path) -> dict[str, float]:
    lengths: dict[str, float] = {}
    for _, element in ET.iterparse(net):  # noqa: S314 - a file the user chose
        if element.tag == "edge":
            lane = element.find("lane")
            if lane is not None:
                lengths[element.get("id", "")] = float(lane.get("length", "0"))
            element.clear()
    return lengths


def _simulate(
    home: Path,
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
    parquet = "Parquet" in _version(home)
    output = folder / ("fcd.parquet" if parquet else "fcd.xml")
    command = [_program(home, "sumo"), "--net-file", str(net), "--route-files", str(routes)]
    command += ["--fcd-output", str(output), "--seed", str(seed), "--step-length", str(step_s)]
    command += ["--end", str(_LONGEST_DRIVE_S), "--no-warnings", *_OFFLINE]
    _run(home, command, folder)
    rows = _fcd_parquet(output) if parquet else _fcd_xml(output)
    if rows.empty:
        raise TraceError(
            f"{net.name}: SUMO never let the car start (seed {seed}); try another seed"
        )
    lon, lat = _to_degrees(net, rows["x"].to_numpy(), rows["y"].to_numpy())
    return pd.DataFrame(
        {
            "time_s": rows["time"].astype(float),
            "lat_deg": lat,
            "lon_deg": lon,
            "speed_mps": rows["speed"].astype(float).clip(lower=0.0),
            "heading_deg": rows["angle"].astype(float),
            "edge": rows["lane"].astype(str).str.rsplit("_", n=1).str[0],
            "pos_m": rows["pos"].astype(float),
        }
    )


_FCD = ("x", "y", "angle", "speed", "pos", "lane")


def _fcd_parquet(path: Path) -> pd.DataFrame:
    rows = pd.read_parquet(path)
    rows = rows.rename(columns=lambda name: name.removeprefix("vehicle_").removeprefix("timestep_"))
    rows = rows.loc[rows["id"].astype(str) == "car", ["time", *_FCD]]
    return rows.sort_values("time").reset_index(drop=True)


def _fcd_xml(path: Path) -> pd.DataFrame:
    rows: list[dict[str, float | str]] = []
    for _, step in ET.iterparse(path):  # noqa: S314 - SUMO wrote it just now
        if step.tag == "timestep":
            for car in step.iter("vehicle"):
                row: dict[str, float | str] = {"time": float(step.get("time", "nan"))}
                row |= {key: float(car.get(key, "nan")) for key in _FCD[:-1]}
                rows.append({**row, "lane": car.get("lane", "")})
            step.clear()
    return pd.DataFrame(rows, columns=["time", *_FCD])


def _to_degrees(net: Path, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Longitude and latitude of a network's own coordinates."""
    import pyproj  # noqa: PLC0415 - only freshly driven trips need it

    location: Any = None
    for _, element in ET.iterparse(net):  # noqa: S314 - a file the user chose
        if element.tag == "location":
            location = element.attrib
            break
    if location is None or location.get("projParameter", "!") == "!":
        raise MapError(
            f"{net}: has no geographic projection, so the car's position on earth is not known. "
            "Build the network with `netconvert --osm-files ... --proj.utm`"
        )
    east, north = map(float, location["netOffset"].split(","))
    lon, lat = pyproj.Proj(location["projParameter"])(x - east, y - north, inverse=True)
    return np.asarray(lon), np.asarray(lat)


def _program(home: Path, name: str) -> str:
    return str(home / "bin" / (f"{name}.exe" if os.name == "nt" else name))


def _version(home: Path) -> str:
    """SUMO's version and build features, without the details of the machine it was built on."""
    return _run(home, [_program(home, "sumo"), "--version"], home).split("Copyright")[0]


def _run(home: Path, command: list[str], folder: Path) -> str:
    import pyproj  # noqa: PLC0415 - its data folder keeps SUMO's PROJ from complaining

    environment = {
        **os.environ,
        "SUMO_HOME": str(home),
        "PROJ_DATA": pyproj.datadir.get_data_dir(),
        "PROJ_LIB": pyproj.datadir.get_data_dir(),
        "PROJ_NETWORK": "OFF",
    }
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROGRAM_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TraceError(f"{Path(command[0]).name}: could not be run ({error})") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise TraceError(
            f"{' '.join(command[:2])}: ended with {done.returncode}: {' | '.join(said)}. Is the "
            "network whole, and made by a SUMO not newer than the installed one?"
        )
    return done.stdout


def _read_kept(path: Path | None) -> pd.DataFrame | None:
    if path is None or not path.is_file():
        return None
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError):
        return None
    return rows if {"route", "distance_m"} <= rows.attrs.keys() else None


def _keep(rows: pd.DataFrame, path: Path | None) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        rows.to_parquet(unfinished)
        unfinished.replace(path)
