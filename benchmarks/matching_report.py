"""The matching benchmark's table and rows: who is how wrong where, and what is met. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matching_ground import CASES, Case, Results
from matching_measure import Wrong
from matching_worker import TIMED_OUT

from testbed.measurement.summary import render

OURS, UNTOLD, PERFECT = "ours", "ours, untold", "the truth"
SAME = 1e-9
DIGITS = 2
WIDTH = 118
BEST_CASE, BEST_SHARE = Case(1, 5.0), 0.98
FASTEST_PER_S, ONLINE_MEDIAN_S, ONLINE_P99_S = 20_000.0, 2e-3, 10e-3


@dataclass(frozen=True)
class Compared:
    """Everybody on one ground, on the same drives.

    Attributes
    ----------
    ground : str
        Its name.
    drives : int
        How many drives everybody got through in every case.
    results : dict of str to Results
        By contender: `OURS`, `UNTOLD`, `PERFECT`, then the peers.
    """

    ground: str
    drives: int
    results: Mapping[str, Results]

    @property
    def peers(self) -> list[str]:
        """Everybody but us."""
        return [name for name in self.results if name not in {OURS, UNTOLD, PERFECT}]

    def without(self, who: str) -> "Compared":
        """The same less one contender."""
        rest = {name: found for name, found in self.results.items() if name != who}
        return replace(self, results=rest)

    def wrong(self, who: str, case: Case, *, directed: bool = True) -> Wrong:
        """All shared drives of a case together."""
        found = self.results[who][case][: self.drives]
        return sum((one.directed if directed else one.undirected for one in found), Wrong())


@dataclass(frozen=True)
class Speed:
    """How fast on one core, on the largest map at one fix per second.

    Attributes
    ----------
    offline_per_s : float
        Our fixes in a second, whole traces.
    peers_per_s : dict of str to float
        Those of each peer.
    online_median_s, online_p99_s : float
        Our time for one fix, one after the other.
    online_right : float
        Share of these fixes on the right edge.
    """

    offline_per_s: float
    peers_per_s: Mapping[str, float]
    online_median_s: float
    online_p99_s: float
    online_right: float


def table(compared: Sequence[Compared], *, directed: bool) -> str:
    """Missed + added and fixes right, percent, for every ground, case and contender."""
    names = [name for name in compared[0].results if name != PERFECT]
    headers = ["map", "every", "noise"]
    for name in names:
        headers += [name.split()[0] if name != UNTOLD else name, "right"]
    rows = []
    for ground in compared:
        for case in CASES:
            row = [ground.ground, f"{case.step_s} s", f"{case.noise_m:g} m"]
            wrong = {name: ground.wrong(name, case, directed=directed) for name in names}
            peers = [wrong[name] for name in ground.peers]
            for name, one in wrong.items():
                ours = name == OURS
                route = ours and any(
                    one.mismatched > peer.mismatched
                    and not _told_alike(one.mismatched, peer.mismatched)
                    for peer in peers
                )
                fixes = ours and any(one.right_share < peer.right_share for peer in peers)
                row += [
                    f"{one.missed * 100:.1f}+{one.added * 100:.1f}{'!' * route}",
                    f"{one.right_share * 100:.1f}{'!' * fixes}",
                ]
            rows.append(row)
    return render(headers, rows, right=range(1, len(headers)), width=WIDTH)


def failures(compared: Sequence[Compared]) -> list[str]:
    """How many traces each contender had no answer to, where there are such."""
    lines = []
    for ground in compared:
        for name, results in ground.without(PERFECT).results.items():
            all_found = [one for case in CASES for one in results[case][: ground.drives]]
            failed = [one.failure for one in all_found if one.failure]
            if failed:
                late = failed.count(TIMED_OUT)
                lines.append(
                    f"{ground.ground}, {name}: no answer to {len(failed)} of {len(all_found)} "
                    f"traces ({late} took too long); all of their length counts as missed"
                )
    return lines


def json_rows(compared: Sequence[Compared], speed: Speed | None) -> list[dict[str, Any]]:
    """One row for each number and peer; the goals are judged here.

    A row is a tie where both are equal to the precision that is told, or where ours is as right as
    the truth itself and the peer's measure is smaller by rounding only.
    """
    rows = [row for ground in compared for row in _accuracy_rows(ground)]
    return rows + (_speed_rows(speed) if speed else [])


def _accuracy_rows(ground: Compared) -> list[dict[str, Any]]:
    rows = []
    for case in CASES:
        name = f"{ground.ground}, {case.name}"
        for directed in (True, False):
            how = "" if directed else ", either direction"
            ours = ground.wrong(OURS, case, directed=directed)
            if directed and case == BEST_CASE:
                rows += [
                    _row(f"{name}: driven length found", (1 - ours.missed) * 100, "%",
                         goal=BEST_SHARE * 100, met=1 - ours.missed >= BEST_SHARE),
                    _row(f"{name}: 100 % less length added", (1 - ours.added) * 100, "%",
                         goal=BEST_SHARE * 100, met=1 - ours.added >= BEST_SHARE),
                ]  # fmt: skip
            best = ground.wrong(PERFECT, case, directed=directed)
            for peer in ground.peers:
                theirs = ground.wrong(peer, case, directed=directed)
                perfect = ours.mismatched <= best.mismatched + SAME
                rows += [
                    _row(
                        f"{name}: route mismatched{how}, {ground.drives} drives",
                        ours.mismatched * 100,
                        "%",
                        peer=f"{peer}: {theirs.mismatched * 100:.{DIGITS}f}",
                        ratio=theirs.mismatched / ours.mismatched if ours.mismatched else None,
                        goal=1.0,
                        met=ours.mismatched < theirs.mismatched,
                        tie=(perfect and theirs.mismatched <= ours.mismatched)
                        or _told_alike(ours.mismatched, theirs.mismatched),
                    ),
                    _row(
                        f"{name}: fixes on the right edge{how}, {ground.drives} drives",
                        ours.right_share * 100,
                        "%",
                        peer=f"{peer}: {theirs.right_share * 100:.{DIGITS}f}",
                        ratio=ours.right_share / theirs.right_share if theirs.right else None,
                        goal=1.0,
                        met=ours.right_share > theirs.right_share,
                        tie=_told_alike(ours.right_share, theirs.right_share),
                    ),
                ]
            if directed:
                rows += _plain_rows(name, ground, case)
    return rows


def _told_alike(one: float, other: float) -> bool:
    """Whether two shares are the same percentage as they are printed."""
    return f"{one * 100:.{DIGITS}f}" == f"{other * 100:.{DIGITS}f}"


def _plain_rows(name: str, ground: Compared, case: Case) -> list[dict[str, Any]]:
    """Both errors apart, for everybody; not judged."""
    rows = []
    for who in ground.without(PERFECT).results:
        wrong = ground.wrong(who, case)
        rows += [
            _row(f"{name}: length missed, {who}", wrong.missed * 100, "%"),
            _row(f"{name}: length added, {who}", wrong.added * 100, "%"),
        ]
    return rows


def _speed_rows(speed: Speed) -> list[dict[str, Any]]:
    rows = [
        _row(
            "offline on one core, 1 s",
            speed.offline_per_s,
            "fixes/s",
            goal=FASTEST_PER_S,
            met=speed.offline_per_s >= FASTEST_PER_S,
        )
    ]
    rows += [
        _row(
            "offline on one core beside a peer, 1 s",
            speed.offline_per_s,
            "fixes/s",
            peer=f"{peer}: {per_s:,.0f}",
            ratio=speed.offline_per_s / per_s,
        )
        for peer, per_s in speed.peers_per_s.items()
    ]
    return [
        *rows,
        _row("online, one fix, median", speed.online_median_s * 1e3, "ms",
             goal=ONLINE_MEDIAN_S * 1e3, met=speed.online_median_s < ONLINE_MEDIAN_S),
        _row("online, one fix, 99th percentile", speed.online_p99_s * 1e3, "ms",
             goal=ONLINE_P99_S * 1e3, met=speed.online_p99_s < ONLINE_P99_S),
        _row("online, 1 s, 5 m: fixes on the right edge", speed.online_right * 100, "%"),
    ]  # fmt: skip


def _row(
    name: str,
    value: float,
    unit: str,
    *,
    peer: str | None = None,
    ratio: float | None = None,
    goal: float | None = None,
    met: bool = False,
    tie: bool = False,
) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "peer": peer,
        "ratio": None if ratio is None else round(ratio, 2),
        "goal": goal,
        "met": None if goal is None else met and not tie,
        "tie": tie,
    }


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is met and what is not; of the comparisons only those lost, and a count of all."""
    judged = [row for row in rows if row["goal"] is not None]
    lines = []
    for row in judged:
        if row["peer"] and (row["met"] or row["tie"]):
            continue
        aim = f"better than {row['peer']}" if row["peer"] else f"goal {row['goal']:g}"
        word = "met" if row["met"] else "NOT MET"
        lines.append(f"{word}: {row['name']}: {row['value']:g} {row['unit']}, {aim}")
    against = [row for row in judged if row["peer"]]
    if against:
        won, tied = (sum(bool(row[how]) for row in against) for how in ("met", "tie"))
        lines.append(
            f"beside the peers in {len(against)} comparisons: {won} better, {tied} equal, "
            f"{len(against) - won - tied} worse"
        )
    return "\n".join(lines)
