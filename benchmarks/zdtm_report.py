"""What became of CRIU's own test programs, counted and told: a table, a list, JSON rows. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.measurement.summary import render

PASSED, REFUSED, ROLLED_BACK = "passed", "refused", "rolled back"
FAILED, LOST = "FAILED", "LOST"
OUTCOMES = (PASSED, REFUSED, ROLLED_BACK, FAILED, LOST)
WRONG = (FAILED, LOST)
"""What must never happen: the program found something changed, or runs nowhere."""
COLD, FAST = "cold", "pre-copy"
FAST_GOAL = 0.85
BY_KERNEL = "write-protect"
USELESS = re.compile(
    r"(Dumping|Restoring) FAILED|Killing processes because|failed with -1|No parent image found"
)
WIDTH = 118
REASON_LENGTH = 150


@dataclass(frozen=True)
class Moved:
    """What became of one program by one technique.

    reason : why it did not pass, or was not moved. tracker : how written pages were found. notes :
    what was done otherwise than planned.
    """

    outcome: str
    reason: str = ""
    tracker: str = ""
    notes: tuple[str, ...] = ()

    @property
    def by_fast_path(self) -> bool:
        """Whether it passed and the kernel told which pages were written, for every task."""
        return self.outcome == PASSED and self.tracker == BY_KERNEL


@dataclass(frozen=True)
class Tried:
    """One program: what it was left out for, what plain CRIU did, and what became of it by ours.

    not_up : why it does not come up in a container, or does not pass even if nobody touches it.
    plain : empty where plain CRIU dumped and restored it and it passed, else why not.
    """

    name: str
    left_out: str = ""
    not_up: str = ""
    plain: str = ""
    moves: dict[str, Moved] = field(default_factory=dict)


def judged(outcome: str, reason: str, verdict: str, said: str) -> tuple[str, str]:
    """Outcome and reason of one try.

    Parameters
    ----------
    outcome : str
        What the engine says: ``moved``, ``rolled back`` or ``refused``.
    reason : str
        Why it did not move the program.
    verdict, said : str
        What the program said where it should be: ``passed``, ``failed``, ``hangs`` or ``gone``.
    """
    where = "" if outcome == "moved" else f" at the source, after {outcome}: {reason}"
    if verdict in {"gone", "hangs"}:
        return LOST, f"{verdict}{where}: {said}"
    if verdict != PASSED:
        return FAILED, f"{said}{where}"
    return (PASSED, "") if outcome == "moved" else (outcome, reason)


def passes(tried: Iterable[Tried]) -> list[Tried]:
    """Those that plain CRIU passes."""
    return [t for t in tried if not (t.left_out or t.not_up or t.plain)]


def fails(tried: Iterable[Tried]) -> list[Tried]:
    """Those that come up, but plain CRIU does not carry."""
    return [t for t in tried if t.plain and not t.not_up]


def table(tried: Sequence[Tried], techniques: Sequence[str]) -> str:
    """Counts by technique, of those that plain CRIU passes and of those that it does not."""
    rows = []
    for title, some in (("that plain CRIU passes", passes(tried)),
                        ("that plain CRIU does not carry", fails(tried))):  # fmt: skip
        for name in techniques:
            moves = [t.moves[name] for t in some if name in t.moves]
            count = Counter(m.outcome for m in moves)
            fast = sum(m.by_fast_path for m in moves)
            rows.append(
                [f"{len(some)} {title}", name, *(str(count[o]) for o in OUTCOMES[:1]), str(fast)]
                + [str(count[o]) for o in OUTCOMES[1:]]
            )
    headers = ["programs", "technique", PASSED, "fast path", *OUTCOMES[1:]]
    return render(headers, rows, right=range(2, len(headers)), width=WIDTH)


def left_out_text(tried: Iterable[Tried]) -> str:
    """How many were not tried, or did not come up, and why."""
    counted = Counter(t.left_out for t in tried if t.left_out)
    return "\n".join(f"  {count:3} {why}" for why, count in counted.most_common())


def reasons_text(tried: Iterable[Tried]) -> str:
    """Every program that was not moved by the fast way, or did not pass, with the reason."""
    lines = []
    for t in tried:
        if t.not_up:
            lines.append(f"{t.name}: not in a container: {_short(t.not_up)}")
        elif t.plain:
            lines.append(f"{t.name}: plain CRIU: {_short(t.plain)}")
        for technique, moved in t.moves.items():
            if moved.outcome != PASSED:
                why = f"{moved.outcome}: {_short(moved.reason)}"
            elif technique == FAST and not moved.by_fast_path:
                why = f"passed, not by the fast path: {_short('; '.join(moved.notes))}"
            else:
                continue
            lines.append(f"{t.name}: {technique}: {why}")
    return "\n".join(lines)


def telling(log: str) -> str:
    """The first line of a CRIU log that names a cause, without its place in the source."""
    errors = re.findall(r"Error \([^)]*\): (.*)", log)
    causes = [words for words in errors if not USELESS.search(words)]
    return next(iter(causes or errors), "").strip()


def _short(reason: str) -> str:
    words = " ".join(reason.split())
    return words if len(words) <= REASON_LENGTH else f"{words[:40]} ... {words[-REASON_LENGTH:]}"


def json_rows(
    tried: Sequence[Tried], techniques: Sequence[str], version: str
) -> list[dict[str, Any]]:
    """Shares and counts with their goals."""
    some, rows = passes(tried), []
    peer = f"plain CRIU {version}: {len(some)}"
    for name in techniques:
        moves = [t.moves[name] for t in some if name in t.moves]
        everything = [t.moves[name] for t in tried if name in t.moves]
        good = sum(m.outcome not in WRONG for m in moves)
        of = f"of {len(moves)} that plain CRIU passes"
        passed = sum(m.outcome == PASSED for m in moves)
        rows += [
            _row(f"{name}: passed {of}", passed, peer, passed / max(1, len(moves))),
            _row(f"{name}: passed or refused with a reason {of}", good, peer,
                 good / max(1, len(moves)), goal=len(moves), met=good == len(moves) > 0),
        ]  # fmt: skip
        lost = sum(m.outcome == LOST for m in everything)
        rows.append(
            _row(
                f"{name}: lost of all {len(everything)}",
                lost,
                None,
                None,
                goal=0,
                met=lost == 0 < len(everything),
            )
        )
        if name == FAST:
            fast = sum(m.by_fast_path for m in moves)
            share = fast / max(1, len(moves))
            rows.append(
                _row(f"{name}: passed by the fast path {of}", round(share * 100, 1), peer, share,
                     unit="%", goal=FAST_GOAL * 100, met=share >= FAST_GOAL)
            )  # fmt: skip
    return rows


def _row(
    name: str,
    value: float,
    peer: str | None,
    ratio: float | None,
    *,
    unit: str = "programs",
    goal: float | None = None,
    met: bool | None = None,
) -> dict[str, Any]:
    return {
        "name": f"CRIU's own test programs, {name}",
        "value": value,
        "unit": unit,
        "peer": peer,
        "ratio": None if ratio is None else round(ratio, 3),
        "goal": goal,
        "met": met,
    }
