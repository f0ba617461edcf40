"""What reading a trace found on the way: nothing is mended or left out silently."""

import html
from dataclasses import dataclass, field


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
        left_out = ", ".join(f"{rule} {count}" for rule, count in self.dropped.items())
        rows = [
            ("fixes", str(self.fixes)),
            ("left out", left_out or "nothing"),
            ("problems", "; ".join(self.problems) or "none"),
            ("gaps", _spans(self.gaps)),
            ("idle", _spans(self.idle)),
        ]
        body = "".join(f"<tr><th>{k}</th><td>{html.escape(v)}</td></tr>" for k, v in rows)
        return f"<table><caption>{html.escape(self.source)}</caption>{body}</table>"


def _spans(spans: tuple[tuple[float, float], ...]) -> str:
    return ", ".join(f"{length:.0f} s at {time:.0f} s" for time, length in spans) or "none"
