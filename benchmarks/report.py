"""What was measured, and how it is told: medians, floors, ratios, a table, JSON rows. Pure."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from testbed.measurement.summary import human_bytes, render

NAN = math.nan
BEST = "pre-copy"
"""The technique that the goals are for."""
PEERS = ("podman", "docker", "runc-lazy", "rsync-cold")
"""First words of what the peers are called."""


@dataclass(frozen=True)
class Goal:
    """What a case is to reach: median and 95th percentile of the gap, milliseconds.

    above_floor : whether both are meant above the floor. times : how many times longer a peer's gap
    is to be at least, by the peer. frozen_bytes : most that may be sent while the service stands
    still.
    """

    median_ms: float
    p95_ms: float
    above_floor: bool = False
    times: Mapping[str, float] = field(default_factory=dict)
    frozen_bytes: float | None = None


DUMB_SERVER_BYTES, YOLO_BYTES = 47_700, 5_600_000
"""Ngo, Table I: what a migration sends of a service of 11 MB, and of one of 585 MB."""

GOALS = {
    ("10 MB", "unshaped"): Goal(20, 40, times={"podman": 40}, frozen_bytes=DUMB_SERVER_BYTES),
    ("150 MB, 5 MB/s", "unshaped"): Goal(25, 50, times={"podman": 80, "docker": 200}),
    ("150 MB, 5 MB/s", "100 Mbit/s"): Goal(55, 90, times={"podman": 250}),
    ("150 MB, 5 MB/s", "20 Mbit/s"): Goal(40, 100, above_floor=True),
    ("150 MB, 50 MB/s", "unshaped"): Goal(30, 80),
    ("600 MB", "unshaped"): Goal(40, 90, frozen_bytes=YOLO_BYTES),
    ("600 MB", "100 Mbit/s"): Goal(80, 140, frozen_bytes=YOLO_BYTES),
    ("4 processes, 80 MB", "unshaped"): Goal(60, 120),
}
WIDTH = 124
HEADERS = (
    "service",
    "link",
    "how",
    "gap ms (range)",
    "95 %",
    "freeze",
    "event",
    "frozen",
    "ahead",
    "floor",
    "/floor",
    "x best",
)


@dataclass(frozen=True)
class Case:
    """One service on one link.

    title : what a reader calls the service. target : the edge at the far end of the link.
    rate_bps : the link's rate, ``None`` where it is unshaped. interval_s : between two requests.
    """

    service: str
    title: str
    link: str
    target: str
    rate_bps: float | None
    interval_s: float

    @property
    def name(self) -> str:
        """Service and link."""
        return f"{self.title}, {self.link}"


@dataclass(frozen=True)
class Measured:
    """One move; seconds and bytes, ``nan`` for what the contender does not tell.

    gap_s, control_s, ahead_gap_s : what the user saw (`arena.Seen`).
    freeze_s : CRIU's own frozen time.
    event_window_s : last instruction at the source to first at the target.
    frozen_bytes, ahead_bytes : sent while the service stood still, and before.
    restore_s : how long the restore took. phases : where the frozen time went, seconds by name.
    accounted_s : phases within the event window, together. fill_s : until all memory was there.
    after_bytes : sent to fill it in.
    """

    gap_s: float
    control_s: float
    ahead_gap_s: float
    freeze_s: float
    event_window_s: float
    frozen_bytes: float
    ahead_bytes: float
    restore_s: float
    phases: dict[str, float] = field(default_factory=dict)
    accounted_s: float = NAN
    fill_s: float = NAN
    after_bytes: float = NAN


@dataclass
class Result:
    """All moves of one case by one contender.

    failures : of a peer that could not do it, what was said. One of ours ends the benchmark.
    """

    case: Case
    how: str
    rtt_s: float
    moves: list[Measured] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def median(self, of: Callable[[Measured], float]) -> float:
        """Median over the moves that tell it."""
        told = [value for value in map(of, self.moves) if not math.isnan(value)]
        return statistics.median(told) if told else NAN

    @property
    def gap_s(self) -> float:
        """Median client-visible downtime."""
        return self.median(lambda m: m.gap_s)

    @property
    def floor_s(self) -> float:
        """Median of each move's own floor."""
        return self.median(lambda m: floor_s(m, self.case.rate_bps, self.rtt_s))

    @property
    def p95_s(self) -> float:
        """95th percentile of client-visible downtime."""
        gaps = [move.gap_s for move in self.moves]
        return float(np.percentile(gaps, 95)) if gaps else NAN

    @property
    def accounted(self) -> float:
        """Median share of the event window that the phases explain."""
        return self.median(lambda m: m.accounted_s / m.event_window_s)

    def phases(self) -> dict[str, float]:
        """Median of every phase, in the order in which they come."""
        names = dict.fromkeys(name for move in self.moves for name in move.phases)
        return {n: statistics.median(m.phases.get(n, 0.0) for m in self.moves) for n in names}


def floor_s(move: Measured, rate_bps: float | None, rtt_s: float) -> float:
    """What no engine can undercut: frozen bytes at the link's rate, and one round trip."""
    sending_s = move.frozen_bytes * 8 / rate_bps if rate_bps else 0.0
    return sending_s + rtt_s


def is_peer(result: Result) -> bool:
    """Whether it is not one of our own techniques."""
    return result.how.split()[0] in PEERS


def of_case(result: Result, results: Iterable[Result], first_word: str) -> Result | None:
    """Another contender's result in the same case, by the first word of its name; with moves."""
    return next(
        (
            r
            for r in results
            if r.case == result.case and r.how.split()[0] == first_word and r.moves
        ),
        None,
    )


def table(results: Sequence[Result]) -> str:
    """All results, at most `WIDTH` columns wide; durations in ms."""
    rows, last = [], ("", "")
    for result in results:
        case, gaps = result.case, [move.gap_s for move in result.moves]
        head = (case.title, case.link)
        shown = ("", "") if head == last else head
        last = head
        best = of_case(result, results, BEST)
        is_best = result.how == BEST
        spread = f"{_ms(result.gap_s)} ({_ms(min(gaps))}-{_ms(max(gaps))})" if gaps else "failed"
        rows.append((
            *shown,
            result.how.split()[0],
            spread,
            _ms(result.p95_s),
            _ms(result.median(lambda m: m.freeze_s)),
            _ms(result.median(lambda m: m.event_window_s)),
            human_bytes(result.median(lambda m: m.frozen_bytes)),
            human_bytes(result.median(lambda m: m.ahead_bytes)),
            _ms(result.floor_s) if is_best else "-",
            f"{result.gap_s / result.floor_s:.2f}" if is_best else "-",
            f"{result.gap_s / best.gap_s:.1f}" if best and gaps and not is_best else "-",
        ))  # fmt: skip
    return render(HEADERS, rows, right=range(3, len(HEADERS)), width=WIDTH)


def json_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row for each number, with podman's beside it; the goals are judged here."""
    rows: list[dict[str, Any]] = []
    for result in results:
        if is_peer(result):
            rows += _peer_rows(result, of_case(result, results, BEST))
            continue
        peer = of_case(result, results, PEERS[0])
        what = f"{result.how}, {result.case.name}"
        count = f"median of {len(result.moves)}"
        goal = GOALS.get((result.case.title, result.case.link)) if result.how == BEST else None
        ratio = peer.gap_s / result.gap_s if peer else NAN
        beside = f"{peer.how}: {_ms(peer.gap_s)}" if peer else None
        floor_ms = result.floor_s * 1e3
        above_ms = floor_ms if goal and goal.above_floor else 0.0
        for which, value_s, limit_ms in (
            ("median", result.gap_s, goal.median_ms + above_ms if goal else None),
            ("95th percentile", result.p95_s, goal.p95_ms + above_ms if goal else None),
        ):
            name = f"{what}: client-visible downtime, {which} of {len(result.moves)}"
            met = limit_ms is not None and value_s * 1e3 <= limit_ms
            rows.append(
                row(name, value_s * 1e3, "ms", peer=beside, ratio=ratio, goal=limit_ms, met=met)
            )
        if result.how == BEST:
            name, peer_is = f"{what}: floor, {count}", "bytes while frozen / rate + round trip"
            over = result.gap_s * 1e3 / floor_ms
            rows.append(row(name, floor_ms, "ms", peer=peer_is, ratio=over))
            share = result.accounted
            name = f"{what}: share of the event window that the phases explain, {count}"
            good = abs(share - 1) <= ACCOUNTED
            rows.append(row(name, share * 100, "%", peer=None, goal=95, met=good))
        for name, unit, scale, of in _MORE:
            value, peers = result.median(of), peer.median(of) if peer else NAN
            most = goal.frozen_bytes if goal and name == FROZEN else None
            rows.append(
                row(
                    f"{what}: {name}, {count}",
                    value * scale,
                    unit,
                    peer=None if math.isnan(peers) else f"podman: {peers * scale:,.0f}",
                    goal=most,
                    met=most is not None and value <= most,
                )
            )
    return rows


def _peer_rows(peer: Result, best: Result | None) -> list[dict[str, Any]]:
    """How long a peer's user went without, and how many times longer than ours."""
    what, count = f"{peer.how}, {peer.case.name}", f"median of {len(peer.moves)}"
    if not peer.moves:
        return [row(f"{what}: failed {len(peer.failures)} times", NAN, "ms", peer=None)]
    rows = [row(f"{what}: client-visible downtime, {count}", peer.gap_s * 1e3, "ms", peer=None)]
    if best:
        times = peer.gap_s / best.gap_s
        goal = GOALS.get((peer.case.title, peer.case.link))
        least = goal.times.get(peer.how.split()[0]) if goal else None
        name = f"{what}: times longer than {best.how}, {count} and of {len(best.moves)}"
        met = least is not None and times >= least
        beside = f"{best.how}: {_ms(best.gap_s)}"
        rows.append(row(name, times, "times", peer=beside, ratio=times, goal=least, met=met))
    return rows


FROZEN = "bytes while frozen"
ACCOUNTED = 0.05
_MORE: list[tuple[str, str, float, Callable[[Measured], float]]] = [
    ("freeze", "ms", 1e3, lambda m: m.freeze_s),
    ("event window", "ms", 1e3, lambda m: m.event_window_s),
    (FROZEN, "byte", 1, lambda m: m.frozen_bytes),
    ("bytes ahead", "byte", 1, lambda m: m.ahead_bytes),
    ("bytes after", "byte", 1, lambda m: m.after_bytes),
    ("memory filled in after", "ms", 1e3, lambda m: m.fill_s),
    ("longest gap while memory was sent ahead", "ms", 1e3, lambda m: m.ahead_gap_s),
]


def row(
    name: str,
    value: float,
    unit: str,
    *,
    peer: str | None,
    ratio: float = NAN,
    goal: float | None = None,
    met: bool = False,
) -> dict[str, Any]:
    """One number as the JSON has it."""
    return {
        "name": name,
        "value": None if math.isnan(value) else round(value, 1),
        "unit": unit,
        "peer": peer,
        "ratio": None if math.isnan(ratio) else round(ratio, 2),
        "goal": goal,
        "met": None if goal is None else met,
    }


def phases_text(results: Iterable[Result]) -> str:
    """Where the frozen time of every contender went, medians in ms; what peers failed with."""
    lines = []
    for result in results:
        told = ", ".join(f"{name} {_ms(length_s)}" for name, length_s in result.phases().items())
        lines.append(f"  {result.case.name}, {result.how}: {told or 'failed'}")
        lines += [f"    FAILED: {failure}" for failure in dict.fromkeys(result.failures)]
    return "\n".join(lines)


def _ms(duration_s: float) -> str:
    if math.isnan(duration_s):
        return "-"
    return f"{duration_s * 1e3:.1f}" if duration_s < 0.01 else f"{duration_s * 1e3:.0f}"  # noqa: PLR2004
