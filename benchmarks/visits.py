"""What does a service cost that comes back? Bytes and time of a return beside a first move's.

Each service is moved from one edge to another, back, and out again, by the fastest technique, while
a user asks all the time; every answer is checked, and the service's memory. The edge that it left
keeps its pages, so that what did not change in between is not sent again.

    .venv/bin/python benchmarks/visits.py [--quick] [--runs N] [--json FILE]
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena import SOURCE, Arena, arena
from migration import FACES_PROBE_S, FAILURES, FAR, PROBE_S, SLOW, UNSHAPED
from ours import STOP
from report import BEST, Case, row

from testbed.cli import require_root_on_linux
from testbed.errors import MigrationError, UnsupportedMachineError
from testbed.experiment.prepare import spec_json
from testbed.experiment.progress import Steps
from testbed.experiment.steering import Steering
from testbed.hosts.root import default_cache
from testbed.measurement.summary import human_bytes, render
from testbed.migration.technique import find_technique

RUNS, CANNOT = 3, 2
MOVES = FIRST, BACK, OUT = ("first", "back", "out again")
SHARE = 0.25
"""The goal for a service that changes little: so much of the first move's bytes, at most."""
HEADERS = ("service", "link", "move", "sent", "spared", "ready s", "frozen", "gap ms")
SERVICES = (
    ("quiet", "40 MB", PROBE_S, (UNSHAPED, SLOW, FAR)),
    ("faces", "face detection", FACES_PROBE_S, (SLOW,)),
    ("memory", "150 MB, 5 MB/s", PROBE_S, (UNSHAPED, SLOW)),
    ("large", "600 MB, 5 MB/s", PROBE_S, (SLOW,)),
)
QUICK = {("quiet", "unshaped"), ("quiet", "100 Mbit/s"), ("faces", "100 Mbit/s")}
LITTLE = {"quiet"}
"""Services that change little between two moves."""
CASES = [
    Case(service, title, link, target, rate_bps, interval_s)
    for service, title, interval_s, links in SERVICES
    for link, target, rate_bps in links
]


@dataclass(frozen=True)
class Trip:
    """One move.

    sent_bytes, spared_bytes : what went over the line, and what memory did not have to.
    ready_s : until all that could be sent ahead had been, from the opening of the line on.
    frozen_bytes, gap_s : what was sent while the service stood still, and the user's longest wait.
    """

    sent_bytes: int
    spared_bytes: int
    ready_s: float
    frozen_bytes: int
    gap_s: float


def to_and_fro(arena: Arena, case: Case) -> list[Trip]:
    """Start a service at `SOURCE`, move it out, back and out again, remove it."""
    try:
        arena.lab[SOURCE].call("start_service", spec=spec_json(arena.spec(case.service)))
        steering = arena.steer(case.service)
        arena.await_service(case.service)
        return [
            trip(arena, case, steering, target) for target in (case.target, SOURCE, case.target)
        ]
    finally:
        for edge in (SOURCE, case.target):
            arena.lab[edge].call("remove_service", name=case.service)


def trip(arena: Arena, case: Case, steering: Steering, target: str) -> Trip:
    """Move a service from where it is under its user's eyes.

    Raises
    ------
    MigrationError
        If it was rolled back.
    """
    source, took_s = steering.server, 0.0
    movement = arena.mover.open(case.service, source, target, find_technique(BEST))

    def ahead() -> None:
        nonlocal took_s
        began_s = time.monotonic()
        movement.send_ahead(STOP)
        took_s = time.monotonic() - began_s

    def redirect() -> None:
        steering.lead_to(target)

    done = []
    seen = arena.watched(case, ahead=ahead, move=lambda: done.append(movement.finish(redirect)))
    (outcome,) = done
    if outcome.outcome != "moved":
        raise MigrationError(f"{case.name}: {outcome.outcome}: {outcome.reason}\n{outcome.log}")
    arena.lab[source].call("visits")  # waits until it is kept
    return Trip(
        sent_bytes=outcome.bytes_ahead + outcome.bytes_frozen + outcome.bytes_after,
        spared_bytes=outcome.bytes_spared,
        ready_s=took_s + sum(p.end_s - p.start_s for p in outcome.phases if p.phase == "open"),
        frozen_bytes=outcome.bytes_frozen,
        gap_s=seen.gap_s,
    )


def median(trips: list[list[Trip]], move: str, what: str) -> float:
    """Of all runs of a case, for its first, second or third move."""
    return float(statistics.median(getattr(run[MOVES.index(move)], what) for run in trips))


def table(results: dict[Case, list[list[Trip]]]) -> str:
    """Medians of all cases."""
    rows = [
        (
            *((case.title, case.link) if move == FIRST else ("", "")),
            move,
            human_bytes(median(trips, move, "sent_bytes")),
            human_bytes(median(trips, move, "spared_bytes")),
            f"{median(trips, move, 'ready_s'):.2f}",
            human_bytes(median(trips, move, "frozen_bytes")),
            f"{median(trips, move, 'gap_s') * 1e3:.0f}",
        )
        for case, trips in results.items()
        for move in MOVES
    ]
    return render(HEADERS, rows, right=range(3, len(HEADERS)))


def json_rows(results: dict[Case, list[list[Trip]]]) -> list[dict[str, Any]]:
    """Bytes and time of each return beside those of the first move."""
    rows = []
    for case, trips in results.items():
        first_bytes, first_s = (median(trips, FIRST, what) for what in ("sent_bytes", "ready_s"))
        for move in (BACK, OUT):
            named = f"{case.name}, {move}, median of {len(trips)}"
            size, took_s = (median(trips, move, what) for what in ("sent_bytes", "ready_s"))
            goal = SHARE * first_bytes if case.service in LITTLE else None
            beside = f"first move: {human_bytes(first_bytes)}"
            ratio, met = first_bytes / size, goal is not None and size <= goal
            name = f"{named}: bytes sent"
            rows.append(row(name, size, "byte", peer=beside, ratio=ratio, goal=goal, met=met))
            name, beside = f"{named}: ready to move after", f"first move: {first_s:.2f} s"
            rows.append(row(name, took_s * 1e3, "ms", peer=beside, ratio=first_s / took_s))
    return rows


def run(options: argparse.Namespace) -> dict[Case, list[list[Trip]]]:
    """Measure all cases, interleaved."""
    cases = [c for c in CASES if not options.quick or (c.service, c.link) in QUICK]
    results: dict[Case, list[list[Trip]]] = {case: [] for case in cases}
    runs = options.runs or (1 if options.quick else RUNS)
    with (
        Steps(9 + runs * len(cases)) as steps,
        arena(list(dict.fromkeys(c.service for c in cases)), default_cache(), steps) as ground,
    ):
        for number in range(runs):
            for case in cases:
                steps.next(f"{case.name}, {number + 1} of {runs}")
                results[case].append(to_and_fro(ground, case))
    return results


def main() -> int:
    """Run the benchmark; 0 where every goal is met, 1 where one is not or something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--quick", action="store_true", help="three cases, once")
    parser.add_argument("--runs", type=int, help=f"of each case; {RUNS} unless told")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    try:
        require_root_on_linux()
        results = run(options)
    except UnsupportedMachineError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return CANNOT
    except KeyboardInterrupt:
        print("benchmark: interrupted; the lab was taken down", file=sys.stderr)
        return 130
    except FAILURES as error:
        print(f"benchmark FAILED: {error}\n{getattr(error, 'log', '')}", file=sys.stderr)
        return 1
    rows = json_rows(results)
    print(f"\n{table(results)}\n")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    judged = [told for told in rows if told["goal"] is not None]
    for told in judged:
        word = "met" if told["met"] else "NOT MET"
        print(f"{word}: {told['name']}: {told['value']:.0f}, goal {told['goal']:.0f}")
    return 0 if all(told["met"] for told in judged) else 1


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
