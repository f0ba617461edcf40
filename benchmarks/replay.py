"""How much traffic does each planner bring about? MSMF's five beside each other, without a lab.

GeoLife's ways in Beijing by mode (MSMF, section 5.4: ten each of walk, bike, bus and car), and
SUMO's trips in Berlin at several speeds (section 5.3, figure 7 and table 2). Map, cells, tiers,
links and service are those of data/scenarios/msmf.yml; every way goes through radio, road match,
prediction and planner as in a live run, and the moving itself is made up: bytes over 100 Mbit/s.

    .venv/bin/python benchmarks/replay.py [--quick] [--only geolife|sumo] [--json FILE]
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from testbed.errors import DataNotFoundError, TraceError
from testbed.experiment.replay import Cargo, replay, watch_all
from testbed.experiment.world import World, make_moving
from testbed.geography import MapSource
from testbed.hosts.root import default_cache
from testbed.measurement.summary import render
from testbed.mobility.geolife.tracks import BoxDeg, find_geolife, segments, user_folders
from testbed.mobility.report import TraceReport
from testbed.mobility.sumo.trip import drive_trip
from testbed.mobility.trace import Trace, distances_m, make_trace
from testbed.movement import SumoTrip
from testbed.roads.sources.sumonet import berlin_net
from testbed.scenario import read_scenario
from testbed.services.service import find_service

ROOT = Path(__file__).parents[1]
PLANNERS = ("nearest", "pm", "pm-op", "pm-tier", "pm-op-tier")
MODES = ("walk", "bike", "bus", "car")
WAYS, QUICK_WAYS = 10, 3
SHORTEST_M, LONGEST_GAP_S = 1000.0, 30.0
FASTEST_KMH = {"walk": 8.0, "bike": 25.0, "bus": 60.0, "car": 120.0}
"""Mean speed above which a way's label is taken for wrong: some walks are driven at 48 km/h."""
FASTEST_KMH = {"walk": 8.0, "bike": 25.0, "bus": 60.0, "car": 120.0}
"""Mean speed above which a way's label is taken for wrong (a walk at 48 km/h is none)."""
SPEED_FACTORS, QUICK_FACTORS = (0.25, 0.5, 1.0, 2.0, 3.0), (0.5, 2.0)
SEEDS = range(1001, 1041)
SUMO_DISTANCE_M = 1500.0
LIMITS_MS = (50.0, 250.0)
"""What the task tolerates: one that only the local tier serves, and one for which regional does."""
ALL = "all modes"
GOAL_LESS = 0.65
"""MSMF, abstract: the system reduces network traffic by 65 % while meeting delay requirements."""
IMAGE_CARGO = Cargo(ahead_bytes=800e6, frozen_bytes=1e6)
MEMORY_CARGO = Cargo(ahead_bytes=100e6, frozen_bytes=1e6)
"""MSMF, section 5.4.1, face detection: a container of 700 MB, and 100 MB of memory."""
NOTES = """\
less: traffic against Nearest's on the same ways. away: share of time in which the service's site
did not serve the user's cell (with -op on purpose: short stays are forwarded). ready: migrations
for which all had been sent when the radio moved. RTT: to the nearest server of the tier that the
service was on. given up: sent ahead to a site, and not moved there.
Why less than the paper's where it is: 800 MB take 64 s at 100 Mbit/s, longer than a car stays in a
cell, so that Nearest is late for good, makes only some of the moves that are due, and so sends less
than it should. And of a service whose packed memory is small, keeping a prepared target fresh sends
more than the memory itself, which Nearest sends once, so predictive planners begin far behind it.
The paper: "65 %" less (abstract), "more than 70 %" for the multitier planners (5.3.2), and fewer
bytes with -op than without; its figures 7 and 8 have no numbers in the text."""


def ways_of(folder: Path, box: BoxDeg, most: int) -> Iterator[tuple[str, Trace]]:
    """The longest ways of each mode that lie on the map and have no gap, as (mode, trace)."""
    west, south, east, north = box
    found: dict[str, list[tuple[float, str, Trace]]] = {mode: [] for mode in MODES}
    for user in user_folders(folder):
        for segment in segments(folder, user):
            if segment.mode not in MODES:
                continue
            fixes = segment.fixes
            lat, lon = fixes.lat_deg, fixes.lon_deg
            inside = (lat >= south) & (lat <= north) & (lon >= west) & (lon <= east)
            breaks = np.flatnonzero((np.diff(fixes.epoch_s) > LONGEST_GAP_S) | ~inside[1:]) + 1
            for part in np.split(np.arange(len(lat)), breaks):
                here = part[inside[part]]
                way_m = float(distances_m(lat[here], lon[here]).sum()) if len(here) > 1 else 0.0
                took_s = float(np.ptp(fixes.epoch_s[here])) if len(here) else 0.0
                if SHORTEST_M <= way_m <= FASTEST_KMH[segment.mode] / 3.6 * took_s:
                    name = f"{segment.mode} {user} {segment.file} {here[0]}"
                    time_s = fixes.epoch_s[here] - fixes.epoch_s[here[0]]
                    trace = make_trace(name, time_s, lat[here], lon[here])
                    found[segment.mode].append((way_m, name, trace))
    for mode, ways in found.items():
        for _, _, trace in sorted(ways, key=lambda way: (-way[0], way[1]))[:most]:
            yield mode, trace


def along(world: World, ways: list[tuple[str, Trace]]) -> tuple[World, dict[str, str]]:
    """The world with these users in place of the scenario's; and the group of each user."""
    groups = {str(trace["user"].iloc[0]): group for group, trace in ways}
    moving = {
        str(trace["user"].iloc[0]): make_moving(
            world.scenario, world.roads, world.cells, trace, TraceReport(group, len(trace))
        )
        for group, trace in ways
    }
    return dataclasses.replace(world, moving=moving), groups


def tolerating(world: World, most_ms: float) -> World:
    """The same world, whose services tolerate another delay."""
    scenario = world.scenario
    services = {
        name: spec.model_copy(update={"max_delay": most_ms / 1e3})
        for name, spec in scenario.services.items()
    }
    changed = scenario.model_copy(update={"services": services})
    return dataclasses.replace(world, scenario=changed)


def measure(world: World, ways: list[tuple[str, Trace]], cargos: dict[str, Cargo]) -> pd.DataFrame:
    """Every planner on every way, for each cargo and limit of delay; sums by group."""
    placed, groups = along(world, ways)
    seen = {user: watch_all(placed, user) for user in placed.moving}
    frames = []
    for limit_ms in LIMITS_MS:
        strict = limit_ms == LIMITS_MS[0]
        for cargo_name, cargo in list(cargos.items())[: 1 if strict else None]:
            rows = replay(tolerating(placed, limit_ms), cargo, PLANNERS, sightings=seen)
            frames.append(rows.assign(cargo=cargo_name, limit_ms=limit_ms))
    rows = pd.concat(frames, ignore_index=True)
    rows["group"] = rows["user"].map(groups)
    rows["late_s"] = rows["round_trip_s"] * rows["time_s"]
    rows["ready_moves"] = (rows["ready"] * rows["migrations"]).fillna(0.0)
    if set(groups.values()) == set(MODES):
        rows = pd.concat([rows, rows.assign(group=ALL)], ignore_index=True)
    keys = ["limit_ms", "cargo", "group", "planner"]
    sums = rows.groupby(keys, sort=False).sum(numeric_only=True).reset_index()
    nearest = sums[sums["planner"] == "nearest"].set_index(keys[:3])["sent_bytes"]
    sums["less"] = 1 - sums["sent_bytes"].to_numpy() / nearest.loc[
        list(sums[keys[:3]].itertuples(index=False, name=None))
    ].to_numpy()  # fmt: skip
    return pd.DataFrame(sums)


def show(title: str, sums: pd.DataFrame) -> str:
    """One table for each cargo and limit of delay."""
    headers = (
        "ways", "planner", "km", "km/h", "handovers", "moves", "given up", "GB", "less", "away",
        "ready", "RTT ms",
    )  # fmt: skip
    tables = []
    for (limit_ms, cargo), part in sums.groupby(["limit_ms", "cargo"], sort=False):
        rows: list[Any] = list(part.itertuples())
        lines = [
            [
                str(row.group) if row.planner == PLANNERS[0] else "",
                str(row.planner),
                f"{row.way_m / 1e3:.1f}",
                f"{row.way_m / row.time_s * 3.6:.0f}",
                f"{row.handovers:.0f}",
                f"{row.migrations:.0f}",
                f"{row.given_up:.0f}",
                f"{row.sent_bytes / 1e9:.1f}",
                f"{row.less:.0%}",
                f"{row.away_s / row.time_s:.0%}",
                f"{row.ready_moves / row.migrations:.0%}" if row.migrations else "-",
                f"{row.late_s / row.time_s * 1e3:.0f}",
            ]
            for row in rows
        ]
        table = render(headers, lines, right=range(2, len(headers)))
        tables.append(f"\n{title}; tolerates {limit_ms:.0f} ms; {cargo}\n{table}")
    return "\n".join(tables)


def geolife(data: Path, cache: Path, *, quick: bool) -> tuple[World, list[tuple[str, Trace]]]:
    """The scenario's world, and real ways in it.

    Raises
    ------
    DataNotFoundError
        If GeoLife or the map of Beijing is not on this machine.
    """
    os.environ["TESTBED_DATA"] = str(data)
    scenario = read_scenario(ROOT / "data" / "scenarios" / "msmf.yml")
    world = World.load(scenario.model_copy(update={"duration": None}), cache)
    most = QUICK_WAYS if quick else WAYS
    return world, list(ways_of(find_geolife([data]), world.roads.box_deg, most))


def sumo(cache: Path, *, quick: bool) -> tuple[World, list[tuple[str, Trace]]]:
    """The same scenario in Berlin, and trips at several speeds."""
    scenario = read_scenario(ROOT / "data" / "scenarios" / "msmf.yml")
    users = {
        name: user.model_copy(update={"trace": SumoTrip(source="sumo"), "skip": 0.0})
        for name, user in scenario.users.items()
    }
    berlin = scenario.model_copy(
        update={"map": MapSource(source="berlin"), "users": users, "duration": None}
    )
    world = World.load(berlin, cache)
    on_edges = frozenset(world.roads.edge_ids.tolist())
    ways = []
    for factor in QUICK_FACTORS if quick else SPEED_FACTORS:
        taken = 0
        for seed in SEEDS:
            if taken == (QUICK_WAYS if quick else WAYS):
                break
            try:
                drive = drive_trip(
                    berlin_net(),
                    seed=seed,
                    minimum_distance_m=SUMO_DISTANCE_M,
                    speed_factor=factor,
                    user=f"seed {seed} speed {factor:g}",
                    on_edges=on_edges,
                    cache=cache / "traces",
                )
            except TraceError:  # no trip of this seed is long enough
                continue
            ways.append((f"speed x {factor:g}", drive.trace))
            taken += 1
    return world, ways


def goals(sums: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each multitier planner, group and cargo; the paper's claim is about all ways."""
    tolerant = sums[sums["limit_ms"] == LIMITS_MS[-1]]
    tiered: list[Any] = list(tolerant[tolerant["planner"].isin(PLANNERS[3:])].itertuples())
    return [
        {
            "name": f"GeoLife, {row.group}, {row.planner}, {row.cargo}: less traffic",
            "value": round(float(row.less) * 100, 1),
            "unit": "%",
            "peer": "nearest on the same ways",
            "ratio": None,
            "goal": GOAL_LESS * 100 if row.group == ALL else None,
            "met": bool(row.less >= GOAL_LESS) if row.group == ALL else None,
        }
        for row in tiered
    ]


def main() -> int:
    """Run the benchmark; 0 where every goal is met, 1 where one is not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few ways and speeds")
    parser.add_argument("--only", choices=("geolife", "sumo"), help="one of the two")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="what is kept on disk")
    options = parser.parse_args()
    data = Path(os.environ.get("TESTBED_DATA", "").split(os.pathsep)[0] or "data")
    cargos = {
        "100 MB of memory": MEMORY_CARGO,
        "800 MB: image and memory": IMAGE_CARGO,
        "this engine, packed memory kept fresh": Cargo.of(find_service("face-detection").memory),
    }
    began_s = time.monotonic()
    rows = []
    try:
        for title, where in (("GeoLife in Beijing", "geolife"), ("SUMO in Berlin", "sumo")):
            if options.only not in {None, where}:
                continue
            world, ways = (
                geolife(data, options.cache, quick=options.quick)
                if where == "geolife"
                else sumo(options.cache, quick=options.quick)
            )
            sums = measure(world, ways, cargos)
            print(show(title, sums))
            rows += goals(sums) if where == "geolife" else []
    except DataNotFoundError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    print(f"\n{NOTES}\n")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    judged = [row for row in rows if row["goal"] is not None]
    for row in judged:
        met = "met" if row["met"] else "NOT MET"
        print(f"{met}: {row['name']}: {row['value']} %, goal {row['goal']:g}")
    print(f"{time.monotonic() - began_s:.0f} s in all")
    return 0 if all(row["met"] for row in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
