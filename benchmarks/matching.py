"""How right and how fast is the map matcher? Ours beside two others, same traces, same roads.

Known drives (made ones over central Beijing, SUMO's in Berlin) are sensed every 1, 10, 30 and 60 s
with Gaussian noise of 5, 10 and 30 m on each axis and given to everybody. Counted are the length of
route mismatched (missed and added, Newson and Krumm 2009) and the fixes on the right directed edge.
A peer that has several settings is run with the one that was best in the same case on drives of
another seed, never on those that are scored; ours has one setting for all.

    .venv/bin/python benchmarks/matching.py [--quick] [--ours] [--map NAME] [--json FILE]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from matching_ground import CASES, Case, Ground, beijing, berlin
from matching_ours import follow, matcher, model_for, one_core, points_per_s
from matching_peers import PEERS, PeerError, environment, run_peers, shared_drives
from matching_pick import Picks, pick_seed, picked
from matching_report import (
    OURS,
    PERFECT,
    UNTOLD,
    Compared,
    Speed,
    failures,
    json_rows,
    table,
    verdict,
)
from tqdm import tqdm

from testbed.errors import DataNotFoundError, MapError, TraceError
from testbed.hosts.root import default_cache

SPEED_CASE = Case(1, 5.0)
CANNOT = 2
GROUNDS: dict[str, Callable[..., Ground]] = {"beijing": beijing, "berlin": berlin}
NOTES = """\
missed+added: percent of the driven length that an answer lacks, and that it has too much. right:
percent of the fixes on the right edge. ! marks where a peer is better. Told: everybody but `ours,
untold` knows the noise. Each peer runs in each case with that of its settings (three of
leuvenmapmatching, two of mappymatch) which was best on other drives; ours has one for all. Ends of
routes are cut for everyone at the place nearest to the first and the last fix. Equal as printed, or
where ours is the truth itself, is a tie."""


def measure(options: argparse.Namespace) -> tuple[list[Compared], Speed | None, list[str]]:
    """Everybody on every ground; remarks say what was left out."""
    cache, remarks = default_cache(), []
    compared, speed = [], None
    python = None if options.ours else environment(cache, print)
    for name in options.map or GROUNDS:
        begin = partial(tqdm, leave=False, mininterval=0.5, disable=None)
        with begin(total=options.drives, desc=f"{name}: driving", unit="drive") as bar:
            try:
                ground = GROUNDS[name](
                    options.drives, options.seed, cache, bar.update, short=options.quick
                )
            except DataNotFoundError as error:
                remarks.append(f"{name} LEFT OUT: {error}")
                continue
        each = len(ground.drives) * len(CASES)
        results = {PERFECT: ground.perfect()}
        for who, told in ((OURS, True), (UNTOLD, False)):
            with begin(total=each, desc=f"{name}: {who}", unit="trace") as bar:
                results[who] = ground.run(matcher(ground.roads, told=told), bar.update)
        if python:
            picks = picked(name, GROUNDS[name], options.seed, cache, python)
            wanted = {
                package: {case: (setting,) for case, setting in chosen.items()}
                for package, chosen in picks.items()
            }
            with (
                begin(total=each * len(PEERS), desc=f"{name}: peers", unit="trace") as bar,
                tempfile.TemporaryDirectory(prefix="matching-") as folder,
            ):
                answered = run_peers(
                    ground,
                    Path(folder),
                    python,
                    wanted=wanted,
                    budget_s=options.peer_minutes * 60,
                    trace_limit_s=options.trace_limit,
                    done=bar.update,
                )
                for who, by_setting in answered.items():
                    results[who] = {
                        case: found for one in by_setting.values() for case, found in one.items()
                    }
                remarks += told_picks(name, options.seed, picks)
        compared.append(Compared(ground.name, shared_drives(list(results.values())), results))
        if speed is None:
            speed = clocked(ground, compared[-1])
    return compared, speed, remarks


def told_picks(name: str, scored_seed: int, picks: Picks) -> list[str]:
    """Which settings the peers have, a line for each peer."""
    lines = []
    for package, chosen in picks.items():
        cases: dict[str, list[str]] = {}
        for case, setting in chosen.items():
            cases.setdefault(setting, []).append(f"{case.step_s}/{case.noise_m:g}")
        said = "; ".join(f"{setting} at {', '.join(at)}" for setting, at in cases.items())
        lines.append(f"{name}, {package}, picked with seed {pick_seed(scored_seed)} "
                     f"(s/m): {said}")  # fmt: skip
    return lines


def clocked(ground: Ground, here: Compared) -> Speed:
    """Our speed offline and online, and what the peers took for the same kind of trace."""
    traces = [ground.fixes(number, SPEED_CASE) for number in range(len(ground.drives))]
    model = model_for(ground.roads, SPEED_CASE.noise_m)
    took, right, seen = [], 0, 0
    with one_core():
        for number, fixes in enumerate(tqdm(traces, desc="online", leave=False, disable=None)):
            edge, took_s = follow(ground.roads, fixes, model)
            one, other = ground.drives[number].right_edges()
            right += int(((edge == one) | (edge == other)).sum())
            seen += len(edge)
            if number:
                took.append(took_s)
    each_s = np.concatenate(took)
    peers = {
        name: sum(one.directed.fixes for one in here.results[name][SPEED_CASE])
        / sum(one.cpu_s for one in here.results[name][SPEED_CASE])
        for name in here.peers
    }
    return Speed(
        offline_per_s=points_per_s(ground.roads, traces, SPEED_CASE.noise_m),
        peers_per_s=peers,
        online_median_s=float(np.median(each_s)),
        online_p99_s=float(np.percentile(each_s, 99)),
        online_right=right / seen,
    )


def arguments() -> argparse.Namespace:
    """What the user asks for, with the numbers that hang on ``--quick``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few and short drives")
    parser.add_argument("--ours", action="store_true", help="without the peers")
    parser.add_argument("--map", action="append", choices=list(GROUNDS), help="only this one")
    parser.add_argument("--drives", type=int, help="on each map (20; quick: 6)")
    parser.add_argument("--seed", type=int, default=1, help="decides drives and noise")
    parser.add_argument(
        "--peer-minutes", type=float, help="for the peers on each map; then fewer drives are shared"
    )
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    options.drives = max(2, options.drives or (6 if options.quick else 20))
    options.peer_minutes = options.peer_minutes or (1.0 if options.quick else 4.0)
    options.trace_limit = 20.0 if options.quick else 120.0
    return options


def main() -> int:
    """Run the benchmark; 0 where every goal is met, 1 where one is not or something failed."""
    options = arguments()
    began_s = time.monotonic()
    try:
        compared, speed, remarks = measure(options)
    except KeyboardInterrupt:
        print("benchmark: interrupted", file=sys.stderr)
        return 130
    except (PeerError, MapError, TraceError) as error:
        print(f"benchmark FAILED: {error}", file=sys.stderr)
        return 1
    if not compared:
        print("\n".join(remarks), file=sys.stderr)
        return CANNOT
    rows = json_rows(compared, speed)
    print(f"\n{table(compared, directed=True)}\n\n{NOTES}\n")
    if compared[0].peers:
        without = [one.without(UNTOLD) for one in compared]
        print(f"The same where either direction of a street counts as right:\n"
              f"{table(without, directed=False)}\n")  # fmt: skip
    for one in compared:
        remarks.append(f"{one.ground}: {one.drives} drives that everybody got through")
    print("\n".join([*remarks, *failures(compared)]))
    if speed:
        told = ", ".join(f"{name} {per_s:,.0f}" for name, per_s in speed.peers_per_s.items())
        print(f"Speed at 1 s on one core of {compared[0].ground}: {speed.offline_per_s:,.0f} "
              f"fixes/s offline ({told or 'no peers'}), {speed.online_median_s * 1e3:.2f} ms "
              f"(99 %: {speed.online_p99_s * 1e3:.2f} ms) for a fix online")  # fmt: skip
    print(f"\n{verdict(rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"{time.monotonic() - began_s:.0f} s in all")
    return 0 if all(row["met"] or row["tie"] for row in rows if row["goal"] is not None) else 1


if __name__ == "__main__":
    sys.exit(main())
