"""How long is a service away while its container moves? Ours beside four peers', in one run.

For each service and link: moves of ours by every technique, and of the same image over the same
link by podman, by Docker, by runc's post-copy and by checkpoint, rsync and restore, interleaved,
several times. What counts is what the user sees, asking every 2 ms: the longest time without a
right answer around the move. Every answer is checked, and the service's memory; where one is wrong,
lost or repeated by ours the benchmark ends, by a peer its move counts as failed. Then ours move
again while a user asks as fast as answers come, for the throughput that is left meanwhile.

    .venv/bin/python benchmarks/migration.py [--quick] [--runs N] [--json FILE]
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import docker_peer
import lazy_peer
import ours
import peer_steps
import podman_peer
import rsync_peer
from arena import NAME, Arena, arena
from report import BEST, NAN, Case, Measured, Result, json_rows, phases_text, table
from throughput import Throughput, throughput_rows, throughput_text

from testbed.cli import require_root_on_linux
from testbed.errors import (
    HostUnreachableError,
    ImageBuildError,
    LabError,
    LinkNotAsRequestedError,
    MigrationError,
    ProvisioningError,
    RemoteCommandError,
    ServiceError,
    UnsupportedMachineError,
    WrongAnswerError,
)
from testbed.experiment.progress import Steps
from testbed.hosts.root import default_cache

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS, QUICK_RUNS = 10, 3
PEER_EVERY = 5
"""The slower contenders move once for so many moves of the best."""
TECHNIQUES = (BEST, "hybrid", "post-copy", "delta", "cold")
FLOWING = tuple(name for name in TECHNIQUES if name != "cold")
"""Techniques that do something while the service runs."""
PEERS = (podman_peer, docker_peer, lazy_peer, rsync_peer)
UNSHAPED = ("unshaped", "edge-3", None)
SLOW = ("100 Mbit/s", "edge-2", 100e6)
FAR = ("20 Mbit/s", "edge-4", 20e6)
PROBE_S, FACES_PROBE_S = 0.002, 0.05
SERVICES = (
    ("small", "10 MB", PROBE_S, (UNSHAPED,)),
    ("memory", "150 MB, 5 MB/s", PROBE_S, (UNSHAPED, SLOW, FAR)),
    ("storm", "150 MB, 50 MB/s", PROBE_S, (UNSHAPED,)),
    ("large", "600 MB", PROBE_S, (UNSHAPED, SLOW)),
    ("tree", "4 processes, 80 MB", PROBE_S, (UNSHAPED,)),
    ("faces", "face detection", FACES_PROBE_S, (UNSHAPED, SLOW)),
)
CASES = tuple(
    Case(service, title, link, target, rate_bps, interval_s)
    for service, title, interval_s, links in SERVICES
    for link, target, rate_bps in links
)
QUICK = {("small", "unshaped"), ("memory", "unshaped"), ("memory", "100 Mbit/s")}
CANNOT = 2
Flow = tuple[str, str, list[Throughput]]
"""A case's name, a technique, and the throughput during each of its moves."""
FAILURES = (
    HostUnreachableError,
    ImageBuildError,
    LabError,
    MigrationError,
    ProvisioningError,
    RemoteCommandError,
    RuntimeError,
    ServiceError,
    WrongAnswerError,
)
PEER_FAILURES = (MigrationError, RuntimeError, ServiceError, WrongAnswerError)
NOTES = """\
Durations are medians in ms, but for the 95th percentile of the gap. gap: longest time between two
right answers from the order to move until 2 s after it. freeze: CRIU's own. event: last instruction
at the source to first at the target. frozen, ahead: bytes sent while the service stood still, and
before. floor: frozen bytes / rate + round trip; /floor: the gap over it. x best: this gap over
pre-copy's. 100 Mbit/s has 10 ms each way, 20 Mbit/s 50 ms. All peers: TCP kept, network and (but
for podman) container ready at the target, images in memory, SSH open ahead, compressed (zstd) on
shaped links only. runc-lazy: runc's post-copy; its pages come after the gap. rsync-cold: crun."""


def measure(
    here: Arena, cases: list[Case], runs: int, flowing: tuple[str, ...], steps: Steps
) -> tuple[list[Result], list[Flow]]:
    """Every case by every contender, ``runs`` times, interleaved; then the throughput of some."""
    peers = {peer.version(here): peer for peer in PEERS}
    results: list[Result] = []
    flows: list[Flow] = []
    for case in cases:
        contenders: dict[str, Callable[[], Measured]] = {
            **{name: partial(peer.move, here, case) for name, peer in peers.items()},
            **{name: partial(ours.move, here, case, name) for name in TECHNIQUES},
        }
        rtt_s = here.measured_rtt_s(case)
        found = {how: Result(case, how, rtt_s) for how in contenders}
        for number in range(1, runs + 1):
            for how, move in contenders.items():
                if how != BEST and number % PEER_EVERY != 1:
                    continue
                steps.next(f"{case.name}: {how}, {number} of {runs}")
                began_s = time.monotonic()
                try:
                    measured = move()
                except PEER_FAILURES as error:
                    if how not in peers:
                        raise
                    found[how].failures.append(str(error).strip())
                    steps.say(f"    {how} FAILED: {error}")
                    continue
                found[how].moves.append(measured)
                steps.say(
                    f"    client gap {measured.gap_s * 1e3:,.0f} ms "
                    f"({time.monotonic() - began_s:.0f} s in all)"
                )
        results += found.values()
        for technique in flowing:
            moves: list[Throughput] = []
            for number in range(1, runs + 1, PEER_EVERY):
                steps.next(f"{case.name}: throughput by {technique}, {number} of {runs}")
                moves.append(ours.throughput(here, case, technique))
            flows.append((case.name, technique, moves))
    return results, flows


def quiet_gaps(results: list[Result]) -> str:
    """How long answers stay out when nothing moves: what the gaps are to be compared with."""
    control = max((r.median(lambda m: m.control_s) for r in results if r.moves), default=NAN)
    ahead = max((m.ahead_gap_s for r in results for m in r.moves), default=NAN)
    return (
        f"Without a move: longest gap in 0.4 s {control * 1e3:.0f} ms (largest median of a case); "
        f"longest gap before or while sending ahead {ahead * 1e3:.0f} ms."
    )


def run(options: argparse.Namespace) -> tuple[list[Result], list[Flow]]:
    """Start the lab, measure, take it down."""
    cases = [
        case
        for case in CASES
        if (not options.quick or (case.service, case.link) in QUICK)
        and (not options.only or options.only in case.name)
    ]
    runs = options.runs or (QUICK_RUNS if options.quick else RUNS)
    services = list(dict.fromkeys(case.service for case in cases))
    flowing: tuple[str, ...] = (BEST,) if options.quick else FLOWING
    rarely = -(-runs // PEER_EVERY)
    moves = len(cases) * (runs + rarely * (len(TECHNIQUES) - 1 + len(PEERS) + len(flowing)))
    with (
        Steps(6 + len(services) + moves) as steps,
        arena(services, default_cache(), steps) as here,
    ):
        steps.next("measuring every link")
        try:
            here.lab.verify(steps.detail)
        except LinkNotAsRequestedError as error:
            steps.say(f"LINKS NOT AS ASKED FOR, read the figures with care:\n{error}")
        steps.next("giving the peers the same images")
        peer_steps.prepare(here)
        docker_peer.start(here)
        for service in services:
            steps.detail(service)
            podman_peer.prepare(here, service)
            docker_peer.prepare(here, service)
        measured = measure(here, cases, runs, flowing, steps)
        steps.next(f"taking the lab {NAME} down")
    return measured


def main() -> int:
    """Run the benchmark; 0 where every goal is met, 1 where one is not or something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--quick", action="store_true", help="three cases, three runs")
    parser.add_argument("--runs", type=int, help=f"of {BEST} in each case; {RUNS} unless told")
    parser.add_argument("--only", metavar="WORDS", help="cases with these words in their names")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    began_s = time.monotonic()
    try:
        require_root_on_linux()
        results, flows = run(options)
    except UnsupportedMachineError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return CANNOT
    except KeyboardInterrupt:
        print("benchmark: interrupted; the lab was taken down", file=sys.stderr)
        return 130
    except FAILURES as error:
        print(f"benchmark FAILED: {error}\n{getattr(error, 'log', '')}", file=sys.stderr)
        return 1
    rows = [*json_rows(results), *throughput_rows(flows, BEST)]
    print(f"\n{table(results)}\n\n{NOTES}\n{quiet_gaps(results)}\n")
    print(f"Where the frozen time goes (medians):\n{phases_text(results)}\n")
    print(f"Throughput, asking again at once (medians):\n{throughput_text(flows)}\n")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    judged = [row for row in rows if row["goal"] is not None]
    for row in judged:
        print(f"{'met' if row['met'] else 'NOT MET'}: {row['name']}: {row['value']} {row['unit']}, "
              f"ratio {row['ratio']} ({row['peer']}), goal {row['goal']:g}")  # fmt: skip
    print(f"{time.monotonic() - began_s:.0f} s in all")
    return 0 if all(row["met"] for row in judged) else 1


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
