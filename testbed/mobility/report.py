"""What reading traces found on the way: nothing is mended or left out silently."""

import dataclasses
import html
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class TraceReport:
    """How a trace came about.

    Attributes
    ----------
    source : str
        The file or generator, and which part of it.
    fixes : int
        Fixes in the trace.
    dropped : dict of str to int
        Rule by rule, how many fixes were left out.
    problems : tuple of str
        Malformed lines and the like, each with file and line.
    gaps : tuple of (float, float)
        ``(time_s, length_s)`` of pauses in which there is no fix.
    idle : tuple of (float, float)
        ``(time_s, length_s)`` in which the user hardly moved: candidates for clock jumps. Nothing
        was taken out.
    """

    source: str
    fixes: int
    dropped: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    gaps: tuple[tuple[float, float], ...] = ()
    idle: tuple[tuple[float, float], ...] = ()

    def _repr_html_(self) -> str:
        return html_table(
            self.source,
            [
                ("fixes", str(self.fixes)),
                ("left out", _counts(self.dropped)),
                ("problems", "; ".join(self.problems) or "none"),
                ("gaps", _spans(self.gaps)),
                ("idle", _spans(self.idle)),
            ],
        )


@dataclass(frozen=True)
class ModeSum:
    """How much there is of one mode."""

    segments: int = 0
    fixes: int = 0
    duration_s: float = 0.0
    length_m: float = 0.0

    def __add__(self, other: "ModeSum") -> "ModeSum":
        """Both together."""
        return ModeSum(
            self.segments + other.segments,
            self.fixes + other.fixes,
            self.duration_s + other.duration_s,
            self.length_m + other.length_m,
        )


@dataclass(frozen=True)
class DatasetReport:
    """What is in the traces of one or many users, and what was left out on the way.

    ``lines`` is always ``fixes`` plus everything in ``dropped``.

    Attributes
    ----------
    source : str
        The file or folder.
    users, tracks, fixes : int
        In the table; a track is a recording (a ``.plt`` file) of which anything was kept.
    files, lines : int
        What was read; lines without headers and blank ones.
    dropped : dict of str to int
        Rule by rule, how many lines were left out.
    cuts : dict of str to int
        Rule by rule, at how many places a track was cut in two.
    problems : tuple of str
        Malformed lines and unreadable files, each with file and line.
    labels, unused_labels : int
        Labels read, and those during which there is no fix.
    modes : dict of str to ModeSum
        By mode; the empty text is "not labelled".
    begin_s, end_s : float
        First and last time, as in the table; ``nan`` where it is empty.
    """

    source: str
    users: int = 0
    tracks: int = 0
    fixes: int = 0
    files: int = 0
    lines: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    labels: int = 0
    unused_labels: int = 0
    modes: dict[str, ModeSum] = field(default_factory=dict)
    begin_s: float = float("nan")
    end_s: float = float("nan")

    @property
    def total(self) -> ModeSum:
        """All modes together."""
        return sum(self.modes.values(), ModeSum())

    @classmethod
    def merged(cls, source: str, reports: Iterable["DatasetReport"]) -> "DatasetReport":
        """The sum of several users' reports (each user in one of them)."""
        parts = list(reports)
        modes: dict[str, ModeSum] = {}
        for part in parts:
            for mode, amount in part.modes.items():
                modes[mode] = modes.get(mode, ModeSum()) + amount
        filled = [part for part in parts if part.fixes]
        return cls(
            source=source,
            users=sum(part.users for part in parts),
            tracks=sum(part.tracks for part in parts),
            fixes=sum(part.fixes for part in parts),
            files=sum(part.files for part in parts),
            lines=sum(part.lines for part in parts),
            dropped=_summed(part.dropped for part in parts),
            cuts=_summed(part.cuts for part in parts),
            problems=tuple(problem for part in parts for problem in part.problems),
            labels=sum(part.labels for part in parts),
            unused_labels=sum(part.unused_labels for part in parts),
            modes=dict(sorted(modes.items(), key=lambda item: -item[1].fixes)),
            begin_s=min((part.begin_s for part in filled), default=float("nan")),
            end_s=max((part.end_s for part in filled), default=float("nan")),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "DatasetReport":
        """What `to_json` gave.

        Raises
        ------
        TypeError, KeyError
            If it is something else.
        """
        modes = {mode: ModeSum(**amount) for mode, amount in found["modes"].items()}
        return cls(**{**found, "modes": modes, "problems": tuple(found["problems"])})

    def rows(self) -> list[tuple[str, str]]:
        """What it says, as pairs of a heading and a text."""
        total = self.total
        shown = [*self.problems[:_PROBLEMS_SHOWN]]
        if len(self.problems) > len(shown):
            shown.append(f"and {len(self.problems) - len(shown):,} more")
        return [
            ("users", f"{self.users:,}"),
            ("tracks", f"{self.tracks:,} in {total.segments:,} segments"),
            ("fixes", f"{self.fixes:,} of {self.lines:,} lines in {self.files:,} files"),
            ("time", f"{total.duration_s / 3600:,.1f} h"),
            ("way", f"{total.length_m / 1000:,.1f} km"),
            ("left out", _counts(self.dropped)),
            ("cut at", _counts(self.cuts)),
            ("labels", f"{self.labels:,}, {self.unused_labels:,} of them without a fix"),
            ("problems", "; ".join(shown) or "none"),
        ]

    def __str__(self) -> str:
        """The same as plain text."""
        lines = [self.source, *(f"  {key:<10} {value}" for key, value in self.rows())]
        lines += [
            f"  {mode or 'not labelled':<14} {amount.segments:>9,} segments {amount.fixes:>12,} "
            f"fixes {amount.duration_s / 3600:>10,.1f} h {amount.length_m / 1000:>11,.1f} km"
            for mode, amount in self.modes.items()
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        modes = "".join(
            f"<tr><td>{html.escape(mode) or 'not labelled'}</td><td>{amount.segments:,}</td>"
            f"<td>{amount.fixes:,}</td><td>{amount.duration_s / 3600:,.1f}</td>"
            f"<td>{amount.length_m / 1000:,.1f}</td></tr>"
            for mode, amount in self.modes.items()
        )
        return (
            f"{html_table(self.source, self.rows())}<table><tr><th>mode</th><th>segments</th>"
            f"<th>fixes</th><th>hours</th><th>km</th></tr>{modes}</table>"
        )


def html_table(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    """A small table of headings and texts."""
    body = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows)
    return f"<table><caption>{html.escape(caption)}</caption>{body}</table>"


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{rule} {count:,}" for rule, count in counts.items()) or "nothing"


def _spans(spans: tuple[tuple[float, float], ...]) -> str:
    return ", ".join(f"{length:.0f} s at {time:.0f} s" for time, length in spans) or "none"
