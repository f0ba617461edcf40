"""A run on one screen: what it was, one line per migration, and what was verified."""

import html as markup
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from testbed.measurement.store import Run
    from testbed.records import MigrationRecord

HEADERS = (
    "#",
    "at s",
    "from",
    "to",
    "technique",
    "freeze",
    "event window",
    "client gap (floor)",
    "ahead",
    "frozen",
    "outcome",
)
NONE = "-"
LEGEND = "Durations in ms: frozen by CRIU, from last to first instruction, without a right answer."
_KILO = 1000.0
_FEW = 10.0


class Fact(NamedTuple):
    """One line of a summary: what is told, and what there is to tell."""

    about: str
    value: str


def human_bytes(size_bytes: float) -> str:
    """A number of bytes with three digits at most and a decimal unit: ``1.2 MB``."""
    if not math.isfinite(size_bytes):
        return NONE
    if size_bytes < _KILO:
        return f"{size_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= _KILO
        if size_bytes < _KILO or unit == "GB":
            break
    return f"{size_bytes:.1f} {unit}" if size_bytes < _FEW else f"{size_bytes:.0f} {unit}"


def human_ms(duration_s: float) -> str:
    """A duration in milliseconds without its unit, ``-`` where there was none."""
    if not math.isfinite(duration_s):
        return NONE
    return f"{duration_s * 1e3:.1f}" if duration_s * 1e3 < _FEW else f"{duration_s * 1e3:,.0f}"


def facts(run: "Run") -> list[Fact]:
    """What a reader wants to know first about a run."""
    manifest, requests, links = run.manifest, run.requests, run.links
    right = int(requests["correct"].sum())
    measured = int(links["measured_delay_s"].notna().sum())
    found = [
        Fact("outcome", manifest.outcome),
        Fact("duration", f"{manifest.duration_s:.0f} s, seed {manifest.seed}"),
        Fact("requests", f"{len(requests):,}, {right:,} answered rightly"),
        Fact("handovers", f"{len(run.handovers)} of the radio link, {len(run.migrations)} moves"),
        Fact("hosts", ", ".join(run.hosts["host"]) or NONE),
        Fact("links", f"{measured} of {len(links)} directions measured"),
    ]
    if manifest.clock_jumps:
        skipped_s = sum(jump["skipped_s"] for jump in manifest.clock_jumps)
        found.append(
            Fact("skipped", f"{skipped_s:.0f} s idle in {len(manifest.clock_jumps)} jumps")
        )
    found.append(Fact("folder", str(run.folder)))
    return found


def migration_rows(run: "Run") -> list[tuple[str, ...]]:
    """One row of words per migration under `HEADERS`; durations in ms."""
    migrations: list[MigrationRecord] = run.records("migrations")
    return [
        (
            str(number),
            f"{moment_s(row):.0f}",
            place(row.source_site, row.source),
            place(row.target_site, row.target),
            row.technique,
            human_ms(row.freeze_s),
            human_ms(row.event_window_s),
            f"{human_ms(row.client_gap_s)} ({human_ms(row.client_gap_floor_s)})",
            human_bytes(row.bytes_ahead),
            human_bytes(row.bytes_frozen),
            row.outcome,
        )
        for number, row in enumerate(migrations, start=1)
    ]


def text(run: "Run") -> str:
    """The summary for a terminal, at most 100 columns wide."""
    told = [f"{run.manifest.run} ({run.manifest.scenario})"]
    told += [f"  {fact.about:<10} {fact.value}" for fact in facts(run)]
    headers = ("#", "at s", "from", "to", "how", "freeze", "event", "gap (floor)", *HEADERS[8:])
    rows = migration_rows(run)
    if rows:
        told += ["", render(headers, rows, right=(0, 1, 5, 6, 7, 8, 9)), "", LEGEND]
    return "\n".join(told)


def html(run: "Run") -> str:
    """The summary for a notebook."""
    heading = markup.escape(f"{run.manifest.run} ({run.manifest.scenario})")
    told = "".join(
        f"<tr><th style='text-align:left'>{markup.escape(fact.about)}</th>"
        f"<td style='text-align:left'>{markup.escape(fact.value)}</td></tr>"
        for fact in facts(run)
    )
    head = "".join(f"<th>{markup.escape(name)}</th>" for name in HEADERS)
    body = "".join(
        "<tr>" + "".join(f"<td>{markup.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in migration_rows(run)
    )
    moves = (
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{LEGEND}</p>"
        if body
        else "<p>No migration.</p>"
    )
    return f"<h4>{heading}</h4><table>{told}</table>{moves}"


def render(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    width: int = 100,
) -> str:
    """A table in plain text; the widest columns are cut until it fits.

    Parameters
    ----------
    headers, rows : sequences of str
        What stands in it.
    right : sequence of int
        Columns of numbers, flush right and never cut.
    width : int
        Characters a line may have.
    """
    lines = [list(headers), *[list(row) for row in rows]]
    widths = [max(len(line[at]) for line in lines) for at in range(len(headers))]
    cuttable = [at for at in range(len(headers)) if at not in right]
    while sum(widths) + 2 * (len(widths) - 1) > width and cuttable:
        widest = max(cuttable, key=lambda at: widths[at])
        widths[widest] -= 1
        if widths[widest] <= len(headers[widest]):
            cuttable.remove(widest)
    rule = ["─" * wide for wide in widths]
    return "\n".join(
        "  ".join(
            _cut(cell, wide).rjust(wide) if at in right else _cut(cell, wide).ljust(wide)
            for at, (cell, wide) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [lines[0], rule, *lines[1:]]
    )


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"


def place(site: str, host: str) -> str:
    """A site of the map and the host that plays it, in one word: ``cell-3/local-1``."""
    return f"{site}/{host}" if site and site != host else host


def moment_s(migration: "MigrationRecord") -> float:
    """When a migration froze its service; when it was asked for, where it never froze."""
    frozen_s = migration.frozen_s
    return frozen_s if math.isfinite(frozen_s) else migration.requested_s
