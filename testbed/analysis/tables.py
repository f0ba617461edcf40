"""Tables of a run: its migrations, what they cost, what the user waited, what the links did."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from testbed.measurement.requests import gap_window
from testbed.measurement.summary import human_bytes, human_ms, moment_s, place, render
from testbed.records import NAN, MigrationRecord, PhaseRecord

if TYPE_CHECKING:
    from testbed.measurement.store import Run

TOTAL = "all"
PRINTED = {
    "number": "#",
    "from": "from",
    "to": "to",
    "technique": "how",
    "freeze_ms": "freeze",
    "event_window_ms": "event",
    "client_gap_ms": "gap",
    "ahead_bytes": "ahead",
    "frozen_bytes": "frozen",
    "spared_bytes": "spared",
    "rounds": "rnd",
    "lead_s": "lead s",
    "outcome": "outcome",
}
COLUMNS = (
    "number",
    "at_s",
    "from",
    "to",
    "technique",
    "freeze_ms",
    "event_window_ms",
    "client_gap_ms",
    "client_gap_floor_ms",
    "ahead_bytes",
    "frozen_bytes",
    "spared_bytes",
    "rounds",
    "lead_s",
    "outcome",
)
"""Columns of `migration_table`."""
_WORDS = ("from", "to", "technique", "outcome")


def migration_table(run: "Run") -> pd.DataFrame:
    """One row per migration, in the order of the run.

    The columns end in their units. ``lead_s`` is how long before the freeze the target was first
    predicted as the likeliest next site, ``nan`` where it never was.
    """
    rows = []
    migrations: list[MigrationRecord] = run.records("migrations")
    before_s: dict[str, float] = {}
    for number, migration in enumerate(migrations, start=1):
        at_s = moment_s(migration)
        rows.append(
            {
                "number": number,
                "at_s": at_s,
                "from": place(migration.source_site, migration.source),
                "to": place(migration.target_site, migration.target),
                "technique": migration.technique,
                "freeze_ms": migration.freeze_s * 1e3,
                "event_window_ms": migration.event_window_s * 1e3,
                "client_gap_ms": migration.client_gap_s * 1e3,
                "client_gap_floor_ms": migration.client_gap_floor_s * 1e3,
                "ahead_bytes": migration.bytes_ahead,
                "frozen_bytes": migration.bytes_frozen,
                "spared_bytes": migration.bytes_spared,
                "rounds": migration.rounds,
                "lead_s": _lead_s(run, migration, before_s.get(migration.user, -np.inf)),
                "outcome": migration.outcome,
            }
        )
        before_s[migration.user] = at_s
    return pd.DataFrame(rows, columns=list(COLUMNS))


def migrations_text(run: "Run", width: int = 100) -> str:
    """The table of migrations for a terminal, at most ``width`` characters wide."""
    table = migration_table(run)
    if table.empty:
        return "No migration."
    rows = [
        [_printed(column, row[column]) for column in PRINTED] for row in table.to_dict("records")
    ]
    headers = list(PRINTED.values())
    right = [at for at, column in enumerate(PRINTED) if column not in _WORDS]
    floor_ms = human_ms(float(table["client_gap_floor_ms"].median()) / 1e3)
    return (
        f"{render(headers, rows, right=right, width=width)}\n\n"
        "freeze, event, gap: ms by CRIU's clock, from last to first instruction, and without a\n"
        f"right answer at the user, where {floor_ms} ms is the longest gap with nothing going on"
    )


def downtime_summary(run: "Run") -> pd.DataFrame:
    """The three downtimes and the gap without migration, in ms: how many, median and extremes.

    No outlier is left out.
    """
    columns = {
        "freeze": "freeze_s",
        "event window": "event_window_s",
        "client gap": "client_gap_s",
        "client gap without migration": "client_gap_floor_s",
    }
    return pd.DataFrame(
        {name: _spread(run.migrations[column] * 1e3) for name, column in columns.items()}
    ).T.astype({"n": int})


def phase_bytes(run: "Run") -> pd.DataFrame:
    """Bytes by migration and phase, those sent ahead apart from those sent while frozen.

    Columns ``number`` (of the migration, from 1), ``phase``, ``frozen``, ``bytes``; the phases of
    a migration stand in the order in which they first began, and only if they sent something.
    """
    number = {name: at for at, name in enumerate(run.migrations["migration"], start=1)}
    phases = run.phases[(run.phases["bytes"] > 0) & run.phases["migration"].isin(list(number))]
    phases = phases.sort_values("start_s", kind="stable")
    phases = phases.assign(number=phases["migration"].map(number).astype("int64"))
    summed = phases.groupby(["number", "phase", "frozen"], sort=False)["bytes"].sum()
    return summed.reset_index().sort_values("number", kind="stable", ignore_index=True)


def phase_table(run: "Run", migration: str) -> pd.DataFrame:
    """The phases of one migration: from the freeze in ms, how long, how many bytes."""
    phases: list[PhaseRecord] = [p for p in run.records("phases") if p.migration == migration]
    chosen: list[MigrationRecord] = [
        m for m in run.records("migrations") if m.migration == migration
    ]
    origin_s = moment_s(chosen[0]) if chosen else NAN
    rows = [
        {
            "phase": phase.phase,
            "host": phase.host,
            "start_ms": (phase.start_s - origin_s) * 1e3,
            "duration_ms": (phase.end_s - phase.start_s) * 1e3,
            "bytes": phase.bytes,
            "frozen": phase.frozen,
        }
        for phase in sorted(phases, key=lambda phase: phase.start_s)
    ]
    return pd.DataFrame(
        rows, columns=["phase", "host", "start_ms", "duration_ms", "bytes", "frozen"]
    )


def delay_summary(run: "Run") -> pd.DataFrame:
    """What the users waited for answers, in ms: between migrations, during them, over all.

    A request counts as sent during a migration from the freeze until shortly after the target's
    first answer (`testbed.measurement.requests.AROUND_S`).
    """
    requests = run.requests
    sent_s = requests["time_s"].to_numpy()
    moving = np.zeros(len(requests), dtype=bool)
    for migration in run.records("migrations"):
        start_s, end_s = gap_window(migration)
        user = (requests["user"] == migration.user).to_numpy()
        moving |= user & (sent_s >= start_s) & (sent_s <= end_s)
    delays_ms = requests["delay_s"] * 1e3
    spreads = {
        "between migrations": _spread(delays_ms[~moving]),
        "during migrations": _spread(delays_ms[moving]),
        TOTAL: _spread(delays_ms),
    }
    return pd.DataFrame(spreads).T.astype({"n": int})


def link_table(run: "Run") -> pd.DataFrame:
    """Every direction of every path: what was asked for, what was set, what was measured."""
    links = run.links
    return pd.DataFrame(
        {
            "path": links["source"] + " → " + links["target"],
            "asked_mbps": links["requested_rate_bps"] / 1e6,
            "measured_mbps": links["measured_rate_bps"] / 1e6,
            "asked_ms": links["requested_delay_s"] * 1e3,
            "measured_ms": links["measured_delay_s"] * 1e3,
            "asked_loss": links["requested_loss"],
            "measured_loss": links["measured_loss"],
            "backend": links["backend"],
            "applied": links["applied"],
        }
    )


def _lead_s(run: "Run", migration: MigrationRecord, since_s: float) -> float:
    """How long before its freeze a migration's target was first predicted as the likeliest."""
    predictions, until_s = run.predictions, moment_s(migration)
    if predictions.empty:
        return NAN
    likeliest = predictions.loc[
        predictions.groupby(["user", "time_s"])["probability"].idxmax().to_numpy()
    ]
    chosen = likeliest[
        (likeliest["user"] == migration.user)
        & (likeliest["site"] == migration.target_site)
        & (likeliest["time_s"] > since_s)
        & (likeliest["time_s"] <= until_s)
    ]
    return NAN if chosen.empty else until_s - float(chosen["time_s"].min())


def _spread(values: "pd.Series[float]") -> "pd.Series[float]":
    known = values.dropna()
    return pd.Series(
        {
            "n": float(known.size),
            "median": float(known.median()) if known.size else NAN,
            "p95": float(known.quantile(0.95)) if known.size else NAN,
            "p99": float(known.quantile(0.99)) if known.size else NAN,
            "max": float(known.max()) if known.size else NAN,
        }
    )


def _printed(column: str, value: float | str) -> str:
    if isinstance(value, str):
        return value
    if column.endswith("_ms"):
        return human_ms(value / 1e3)
    if column.endswith("_bytes"):
        return human_bytes(value)
    if column == "lead_s":
        return "-" if np.isnan(value) else f"{value:.1f}"
    return str(int(value))
