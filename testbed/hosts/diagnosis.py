"""What a doctor says: findings, the choices that follow, and how both look on a screen."""

import html
import textwrap
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["machine", "edge"]
Status = Literal["ok", "limited", "missing"]

_WIDTH = 90
_MARKS: dict[Status, str] = {"ok": "ok", "limited": "limited", "missing": "MISSING"}
_COLOURS: dict[Status, str] = {"ok": "#2a7", "limited": "#b70", "missing": "#c22"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    consequence, remedy : what does not work, and what to do about it; empty where all is well.
    blocks : without it the host cannot take its role at all.
    """

    name: str
    status: Status
    what: str
    consequence: str = ""
    remedy: str = ""
    blocks: bool = False

    @property
    def sentence(self) -> str:
        """What was found, what follows from it and the remedy, on one line."""
        return "; ".join(part for part in (self.what, self.consequence, self.remedy) if part)


@dataclass(frozen=True)
class Diagnosis:
    """All findings on one host, and what was chosen because of them.

    wan_backend : ``netem``, ``delay-line`` or ``none``.
    dirty_tracker : ``wp-async``, ``soft-dirty`` or ``content``, for the delta technique.
    techniques : ways to move a service that are possible here.
    ways : how an edge's services are dumped and restored; empty for a machine, which has none.
    """

    host: str
    role: Role
    findings: tuple[Finding, ...]
    wan_backend: str
    dirty_tracker: str
    techniques: tuple[str, ...]
    ways: dict[str, str] = field(default_factory=dict)

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """What stands in the way of this role."""
        return tuple(finding for finding in self.findings if finding.blocks)

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen, for the run's manifest."""
        return {
            "wan backend": self.wan_backend,
            "pages can be tracked by": self.dirty_tracker,
            "techniques": ", ".join(self.techniques) or "none",
            **{way: words for way, words in self.ways.items() if way != "tracker"},
        }

    @property
    def verdict(self) -> str:
        """One line: whether the host can take its role."""
        if self.blocking:
            names = ", ".join(finding.name for finding in self.blocking)
            return f"{self.host} cannot be used as {self.role}: {names}"
        return f"{self.host} can be used as {self.role}"

    def __str__(self) -> str:
        """A table of 90 columns, then the choices and the verdict."""
        names = [*self.choices, *(finding.name for finding in self.findings)]
        margin = max(map(len, names)) + 2
        lines = []
        for finding in self.findings:
            start = f"{finding.name:<{margin}}{_MARKS[finding.status]:<9}"
            lines += textwrap.wrap(
                finding.sentence,
                _WIDTH,
                initial_indent=start,
                subsequent_indent=" " * len(start),
                break_on_hyphens=False,
            ) or [start]
        lines += ["", *(f"{name:<{margin}}{value}" for name, value in self.choices.items())]
        return "\n".join([*lines, "", self.verdict])

    def _repr_html_(self) -> str:
        """The same as a table for a notebook."""
        rows = [
            f"<tr><td>{html.escape(finding.name)}</td>"
            f'<td style="color:{_COLOURS[finding.status]}">{_MARKS[finding.status]}</td>'
            f'<td style="text-align:left">{html.escape(finding.sentence)}</td></tr>'
            for finding in self.findings
        ]
        rows += [
            f'<tr><th>{html.escape(name)}</th><td></td><td style="text-align:left">'
            f"{html.escape(value)}</td></tr>"
            for name, value in self.choices.items()
        ]
        caption = html.escape(self.verdict)
        return f"<table><caption>{caption}</caption>{''.join(rows)}</table>"
