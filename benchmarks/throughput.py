"""How much of a service's throughput is left while its memory is sent ahead and filled in. Pure.

A user who asks again as soon as the last answer came (a closed loop) gets as many answers as the
service can give. What is counted is how many came per second in each stretch, against the stretches
of the same run before and after, in which nothing moved.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from report import NAN, row

LEAST_SHARE = 0.8
"""The goal: this much of the undisturbed throughput is left."""
FEWEST = 20
"""Where fewer answers than this would be expected, nothing is said."""
SETTLE_S = 0.2
"""So long after the client began, and after everything was there, does the quiet time begin."""
Window = tuple[float, float]


@dataclass(frozen=True)
class Throughput:
    """Answers per second while nothing moved, and the share of it that was left meanwhile.

    ``nan`` where the technique has no such stretch, or it was too short for `FEWEST` answers.
    """

    quiet_per_s: float
    ahead: float
    fill: float


def count_answers(
    answers_s: "np.ndarray[Any, Any]",
    *,
    before_s: float,
    over_s: float,
    ahead: Window | None,
    answered_s: float,
    fill: Window | None,
) -> Throughput:
    """Compare the stretches of one move.

    Parameters
    ----------
    answers_s : array of float
        When answers came, ascending.
    before_s, over_s : float
        Nothing moved before, and nothing after.
    ahead, fill : (start, end), optional
        When memory was sent ahead, and when it was filled in.
    answered_s : float
        When the service was restored; the stretch of filling in begins with the first answer after
        it, since the gap is told elsewhere.
    """
    if answers_s.size == 0:
        return Throughput(NAN, NAN, NAN)
    quiet = [
        (float(answers_s[0]) + SETTLE_S, before_s),
        (over_s + SETTLE_S, float(answers_s[-1])),
    ]
    lasting_s = sum(max(end - start, 0.0) for start, end in quiet)
    if not lasting_s:
        return Throughput(NAN, NAN, NAN)
    quiet_per_s = sum(_within(answers_s, window) for window in quiet) / lasting_s
    if fill is not None:
        later_s = answers_s[answers_s >= answered_s]
        first_s = float(later_s[0]) if later_s.size else fill[1]
        fill = (max(fill[0], first_s), fill[1])
    return Throughput(
        quiet_per_s,
        _share(answers_s, ahead, quiet_per_s),
        _share(answers_s, fill, quiet_per_s),
    )


def _within(answers_s: "np.ndarray[Any, Any]", window: Window) -> int:
    first, last = np.searchsorted(answers_s, window)
    return max(int(last - first), 0)


def _share(answers_s: "np.ndarray[Any, Any]", window: Window | None, quiet_per_s: float) -> float:
    """Answers in a stretch over those that would have come had nothing moved."""
    if window is None:
        return NAN
    expected = quiet_per_s * (window[1] - window[0])
    return _within(answers_s, window) / expected if expected >= FEWEST else NAN


def median(moves: Sequence[Throughput], of: Callable[[Throughput], float]) -> float:
    """Median over the moves that tell it."""
    told = [value for value in map(of, moves) if not math.isnan(value)]
    return statistics.median(told) if told else NAN


def throughput_text(rows: Sequence[tuple[str, str, Sequence[Throughput]]]) -> str:
    """One line per case and technique: answers per second, and what was left of them."""
    lines = []
    for case, how, moves in rows:
        quiet = median(moves, lambda t: t.quiet_per_s)
        shares = (median(moves, lambda t: t.ahead), median(moves, lambda t: t.fill))
        ahead, fill = ("-" if math.isnan(share) else f"{share:.0%}" for share in shares)
        lines.append(
            f"  {case}, {how}: {quiet:,.0f}/s undisturbed, {ahead} while sending ahead, "
            f"{fill} while filling in (n={len(moves)})"
        )
    return "\n".join(lines)


def throughput_rows(
    rows: Sequence[tuple[str, str, Sequence[Throughput]]], judged: str
) -> list[dict[str, Any]]:
    """The same as JSON rows; the goal is for the technique ``judged``."""
    found = []
    stretches: list[tuple[str, Callable[[Throughput], float]]] = [
        ("while sending ahead", lambda t: t.ahead),
        ("while filling in", lambda t: t.fill),
    ]
    for case, how, moves in rows:
        quiet = median(moves, lambda t: t.quiet_per_s)
        for stretch, of in stretches:
            share = median(moves, of)
            if math.isnan(share):
                continue
            found.append(
                row(
                    f"{how}, {case}: throughput {stretch}, median of {len(moves)}",
                    share * 100,
                    "%",
                    peer=f"undisturbed: {quiet:,.0f} answers/s",
                    goal=LEAST_SHARE * 100 if how == judged else None,
                    met=share >= LEAST_SHARE,
                )
            )
    return found
