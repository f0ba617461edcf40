"""How fast traces and maps are read and made: GeoLife, SUMO's traffic, a cached road map.

    python benchmarks/traces.py [--quick] [--json FILE]

Each figure stands beside a peer or a limit of the same run: plain ``pandas.read_csv`` without a
single check, SUMO's own XML read by sumolib, and two seconds for a cached map.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sumolib

from testbed.errors import DataNotFoundError
from testbed.experiment.world import environment_paths
from testbed.hosts.root import default_cache
from testbed.mobility.geolife.dataset import read_geolife
from testbed.mobility.geolife.tracks import find_geolife
from testbed.mobility.sumo.demand import Traffic, draw_trips, write_types
from testbed.mobility.sumo.fcd import fcd_options, read_fcd
from testbed.mobility.sumo.programs import OFFLINE, run_sumo
from testbed.roads.load import find_road_map, load_road_map

BEIJING = "osm/beijing-central-2013.osm.pbf"
HEADER_LINES = 6
GOAL_FIXES_PER_S, GOAL_LOAD_S = 500_000.0, 2.0
LOADER = """
import sys, time
from pathlib import Path
from testbed.roads.load import load_road_map
begin = time.perf_counter()
load_road_map(sys.argv[1], cache=Path(sys.argv[2]))
print(time.perf_counter() - begin)
"""

Row = dict[str, Any]


def timed(work: Callable[[], Any], runs: int) -> tuple[float, Any]:
    """Median seconds of some runs, and what the last one gave."""
    took, answer = [], None
    for _ in range(runs):
        begin = time.perf_counter()
        answer = work()
        took.append(time.perf_counter() - begin)
    return statistics.median(took), answer


def row(
    name: str, value: float, unit: str, *, peer: str, ratio: float, goal: float, met: bool
) -> Row:
    return {
        "name": name, "value": round(value, 3), "unit": unit, "peer": peer,
        "ratio": round(ratio, 2), "goal": goal, "met": met,
    }  # fmt: skip


def geolife_row(folder: Path, runs: int) -> Row:
    """The whole data set: cleaned, cut and counted by us; just parsed by pandas."""
    files = sorted(folder.glob("*/Trajectory/*.plt"))

    def plain() -> pd.DataFrame:
        names = ["lat", "lon", "zero", "feet", "days", "date", "time"]
        parts = [pd.read_csv(f, skiprows=HEADER_LINES, header=None, names=names) for f in files]
        found = pd.concat(parts)
        found["epoch"] = pd.to_datetime(found["date"] + " " + found["time"])
        return found

    ours_s, (trace, report) = timed(lambda: read_geolife(folder, progress=False), runs)
    plain_s, parsed = timed(plain, runs)
    rate, peer = report.lines / ours_s, len(parsed) / plain_s
    name = f"GeoLife, {len(files)} tracks, {len(trace):,} fixes kept of {report.lines:,}"
    return row(
        name, rate, "fixes/s", peer=f"pandas.read_csv, no checks: {peer:,.0f} fixes/s",
        ratio=rate / peer, goal=GOAL_FIXES_PER_S, met=rate >= GOAL_FIXES_PER_S,
    )  # fmt: skip


def sumo_row(cars: int, seconds: float) -> Row:
    """The same traffic, written and read as Parquet by us, as XML by SUMO's own library."""
    net = find_road_map("berlin")
    traffic = Traffic({"car": cars}, period_s=seconds / 2, duration_s=seconds)
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as name:
        folder = Path(name)
        types, routes = folder / "types.add.xml", folder / "routes.rou.xml"
        write_types(types, traffic)
        trips = draw_trips(net, traffic, folder, seed=1, types=types)
        asked = ["--net-file", str(net), "--route-files", ",".join(map(str, trips))]
        asked += ["--additional-files", str(types), "--output-file", str(routes)]
        run_sumo("duarouter", [*asked, "--no-warnings", *OFFLINE], folder)

        def drive(output: Path, read: Callable[[Path], int]) -> int:
            driving = ["--net-file", str(net), "--route-files", str(routes), "--end", repr(seconds)]
            driving += [*fcd_options(output, truth=True), "--no-warnings", *OFFLINE]
            run_sumo("sumo", driving, folder)
            return read(output)

        ours_s, ours = timed(lambda: drive(folder / "a.parquet", lambda p: len(read_fcd(p))), 1)
        peer_s, theirs = timed(lambda: drive(folder / "b.xml", _rows_of_xml), 1)
    if ours != theirs:
        raise SystemExit(f"{ours} positions as Parquet, {theirs} as XML: not the same traffic")
    return row(
        f"SUMO, {cars} cars, {seconds:.0f} s simulated, driven and read", ours / ours_s,
        "positions/s", peer=f"XML read by sumolib: {theirs / peer_s:,.0f} positions/s",
        ratio=peer_s / ours_s, goal=1.0, met=peer_s > ours_s,
    )  # fmt: skip


def _rows_of_xml(path: Path) -> int:
    steps = sumolib.xml.parse_fast_nested(
        str(path), "timestep", ["time"], "vehicle", ["id", "x", "y", "angle", "speed", "pos"]
    )
    return int(np.array([[float(v.x), float(v.y), float(v.speed)] for _, v in steps]).shape[0])


def map_row(source: Path, runs: int) -> Row:
    """A cached map in a new process, against reading its source again."""
    cache = default_cache() / "maps"
    fresh_s, _ = timed(lambda: load_road_map(source), 1)
    load_road_map(source, cache=cache)
    command = [sys.executable, "-c", LOADER, str(source), str(cache)]
    took = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(runs)
    ]
    cached_s = statistics.median(took)
    return row(
        f"road map {source.name}, cached, new process", cached_s, "s",
        peer=f"read anew: {fresh_s:.2f} s", ratio=fresh_s / cached_s, goal=GOAL_LOAD_S,
        met=cached_s < GOAL_LOAD_S,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", type=Path, help="write the rows here")
    asked = parser.parse_args()
    runs = 1 if asked.quick else 5
    rows = []
    try:
        rows.append(geolife_row(find_geolife(environment_paths()), runs))
        rows.append(map_row(find_road_map(BEIJING, environment_paths()), runs))
    except DataNotFoundError as error:
        print(f"left out: {error}", file=sys.stderr)
    rows.append(sumo_row(100, 200.0) if asked.quick else sumo_row(500, 600.0))
    for r in rows:
        mark = "met" if r["met"] else "NOT MET"
        print(f"{r['name']}\n  {r['value']:,.3f} {r['unit']}; {r['peer']}; ratio {r['ratio']}; "
              f"goal {r['goal']:,g}: {mark}")  # fmt: skip
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "error")
    main()
