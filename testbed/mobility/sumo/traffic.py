"""Whole traffic that SUMO drives: many cars, buses, trucks, bicycles and people on foot at once.

Trips are random (``randomTrips.py``) or given in a file, routed by ``duarouter`` and driven by
``sumo``, which writes where everybody is at every step. The same network, traffic and seed give the
same traces. Nobody jumps: a collided vehicle drives on, a stuck one is taken away.
"""

import functools
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.sumo.demand import Traffic, check_trips, draw_trips, read_routes, write_types
from testbed.mobility.sumo.fcd import fcd_options, read_fcd
from testbed.mobility.sumo.kept import keep, kept_path, read_kept
from testbed.mobility.sumo.net import net_to_degrees
from testbed.mobility.sumo.programs import (
    LIMIT_S,
    OFFLINE,
    run_sumo,
    sumo_home,
    sumo_version,
    writes_parquet,
)
from testbed.mobility.sumo.report import TrafficReport, report_of
from testbed.mobility.trace import Trace, check_trace

_LAYOUT = 1
_SHOWN_FROM = 100
"""Traffic of so many users shows its progress; less is done in two seconds."""

MODES = {"car": "car", "bus": "bus", "truck": "truck", "bicycle": "bike", "pedestrian": "walk"}
"""What a kind is called in a trace's ``mode``, in GeoLife's words."""


@dataclass(frozen=True, eq=False)
class TrafficTrace:
    """What SUMO drove.

    Attributes
    ----------
    trace : Trace
        Every user's positions by user and time, with the label ``mode``; time 0 is the
        simulation's beginning. Headings are against the network's north.
    truth : pandas.DataFrame or None
        Row for row with the trace: ``edge`` (SUMO's; ``:...`` inside junctions) and ``pos_m``
        (along it, of a vehicle's front); only where asked for.
    routes : dict of str to tuple of str
        Each user's edges in order, as planned.
    kinds : dict of str to str
        Each user's kind: car, bus, truck, bicycle, pedestrian.
    report : TrafficReport
        How many of each kind were asked for, left, arrived; what went wrong.
    """

    trace: Trace
    truth: pd.DataFrame | None
    routes: dict[str, tuple[str, ...]]
    kinds: dict[str, str]
    report: TrafficReport

    def of_kind(self, kind: str) -> Trace:
        """The trace of one kind of user.

        Raises
        ------
        TraceError
            If nobody of that kind was on the way.
        """
        users = {user for user, own in self.kinds.items() if own == kind}
        found = self.trace[self.trace["user"].isin(users)]
        if found.empty:
            there = ", ".join(sorted(set(self.kinds.values())))
            raise TraceError(f"nobody of kind {kind!r} was on the way; there are: {there}")
        return found.reset_index(drop=True)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def simulate(
    net: Path,
    traffic: Traffic,
    *,
    seed: int,
    truth: bool = False,
    cache: Path | None = None,
    limit_s: float = LIMIT_S,
) -> TrafficTrace:
    """Let SUMO drive traffic over a network.

    Parameters
    ----------
    net : Path
        A SUMO network (`testbed.mobility.sumo.net.build_net` makes them of OpenStreetMap data).
    traffic : Traffic
        Who is on the way, from when to when, how fast.
    seed : int
        Decides the trips and how everybody behaves.
    truth : bool
        Keep the edge and the place on it for every fix.
    cache : Path, optional
        Folder for traffic driven before, by content hash of everything that decides it.
    limit_s : float
        Each program is ended after so many seconds.

    Raises
    ------
    DataNotFoundError
        If SUMO, the network or the file of trips is not there.
    MapError
        If the network says nothing about where on earth it lies.
    TraceError
        If SUMO fails, takes too long, or nobody could set out.
    """
    home = sumo_home()
    for file, what in ((net, "SUMO network"), (traffic.trips, "file of trips or routes")):
        if file is not None and not Path(file).is_file():
            raise DataNotFoundError(f"{file}: there is no such {what}")
    files = [net] if traffic.trips is None else [net, traffic.trips]
    asked = (_LAYOUT, traffic, seed, truth, sumo_version(home))
    kept = kept_path(cache, "traffic", files, asked)
    rows = read_kept(kept, ("routes", "kinds", "report"))
    if rows is None:
        with tempfile.TemporaryDirectory(prefix="testbed-sumo-") as folder, _bar(traffic) as bar:
            rows = _drive(
                net.resolve(),
                traffic,
                Path(folder),
                seed,
                truth=truth,
                limit_s=limit_s,
                begin=functools.partial(_next, bar),
            )
        keep(rows, kept)
    named = {user: tuple(edges.split()) for user, edges in json.loads(rows.attrs["routes"]).items()}
    return TrafficTrace(
        trace=check_trace(rows),
        truth=rows[["edge", "pos_m"]] if truth else None,
        routes=named,
        kinds=json.loads(rows.attrs["kinds"]),
        report=TrafficReport(**json.loads(rows.attrs["report"])),
    )


def _drive(
    net: Path,
    traffic: Traffic,
    folder: Path,
    seed: int,
    *,
    truth: bool,
    limit_s: float,
    begin: Callable[[str], None],
) -> pd.DataFrame:
    """All fixes of all users, with routes, kinds and report (as JSON) in ``attrs``."""
    types, routes = folder / "types.add.xml", folder / "routes.rou.xml"
    write_types(types, traffic)
    if traffic.trips is None:
        begin("drawing trips")
        trips = draw_trips(net, traffic, folder, seed=seed, types=types, limit_s=limit_s)
    else:
        trips = [traffic.trips.resolve()]
        check_trips(trips[0], net)
    begin("finding routes")
    routing = ["--net-file", str(net), "--route-files", ",".join(map(str, trips))]
    routing += ["--output-file", str(routes), "--seed", str(seed), "--ignore-errors"]
    if traffic.trips is None:
        routing += ["--additional-files", str(types)]
    run_sumo(
        "duarouter",
        [*routing, "--no-warnings", *OFFLINE],
        folder,
        limit_s=limit_s,
        remedy=f"Is {net.name} whole, and are the trips meant for it?",
    )
    planned = read_routes(routes, rescale=traffic.speed_factor if traffic.trips else None)
    begin(f"driving {len(planned.kinds):,} users")
    output = folder / ("fcd.parquet" if writes_parquet(sumo_home()) else "fcd.xml")
    statistics = folder / "statistics.xml"
    driving = ["--net-file", str(net), "--route-files", str(routes), "--seed", str(seed)]
    driving += [*fcd_options(output, truth=truth), "--statistic-output", str(statistics)]
    driving += ["--step-length", repr(traffic.step_s), "--end", repr(traffic.duration_s)]
    driving += ["--time-to-teleport", repr(traffic.stuck_s), "--time-to-teleport.remove"]
    driving += ["--collision.action", "warn"]
    run_sumo("sumo", [*driving, "--no-warnings", *OFFLINE], folder, limit_s=limit_s)
    begin("reading positions")
    found = read_fcd(output)
    if found.empty:
        raise TraceError(
            f"{net.name}: nobody set out within {traffic.duration_s:g} s (seed {seed}). "
            f"{len(planned.kinds)} routes were found; ask for smaller distances, another seed, or "
            "kinds that this network has roads for"
        )
    rows = _rows(net, found, planned.kinds, truth=truth)
    report = report_of(rows, planned, asked=trips, traffic=traffic, statistics=statistics)
    there = set(rows["user"].unique())
    rows.attrs = {
        "routes": json.dumps({u: " ".join(e) for u, e in planned.edges.items() if u in there}),
        "kinds": json.dumps({user: kind for user, kind in planned.kinds.items() if user in there}),
        "report": json.dumps({**report.__dict__, "net": net.name, "seed": seed}),
    }
    return rows


def _rows(net: Path, found: pd.DataFrame, kinds: dict[str, str], *, truth: bool) -> pd.DataFrame:
    user = found["id"].astype("category")
    names = user.cat.categories.to_numpy(dtype=object)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(names)] = np.arange(len(names))
    order = np.lexsort((found["time"].to_numpy(), rank[user.cat.codes.to_numpy()]))
    codes = user.cat.codes.to_numpy()[order]
    lat, lon = net_to_degrees(net, found["x"].to_numpy()[order], found["y"].to_numpy()[order])
    modes = np.array([MODES.get(kinds[name], kinds[name]) for name in names], dtype=object)
    rows = pd.DataFrame(
        {
            "time_s": found["time"].to_numpy(dtype=float)[order],
            "user": pd.array(names[codes], dtype="str"),
            "lat_deg": lat,
            "lon_deg": lon,
            "speed_mps": found["speed"].to_numpy(dtype=float)[order].clip(min=0.0),
            "heading_deg": found["angle"].to_numpy(dtype=float)[order] % 360.0,
            "mode": pd.array(modes[codes], dtype="str"),
        }
    )
    if truth:
        rows["edge"] = found["edge"].astype(str).to_numpy()[order]
        rows["pos_m"] = found["pos"].to_numpy(dtype=float)[order]
    return rows


def _bar(traffic: Traffic) -> Any:
    """A progress bar over the steps of one simulation; silent for little traffic."""
    return tqdm(
        total=4 if traffic.trips is None else 3,
        disable=traffic.trips is None and traffic.users < _SHOWN_FROM,
        leave=False,
        bar_format="{desc} [{n_fmt}/{total_fmt}, {elapsed}]",
    )


def _next(bar: Any, what: str) -> None:
    bar.set_description(f"SUMO: {what}")
    bar.update(1)
