"""What planners brought about, in plain text."""

from typing import Any

import pandas as pd

from testbed.measurement.summary import human_bytes, render

HEADERS = (
    "user", "planner", "km", "handovers", "migrations", "given up", "sent", "away", "ready",
    "round trip",
)  # fmt: skip


def replay_text(tallies: pd.DataFrame) -> str:
    """A table of `testbed.experiment.replay.replay`: a row per user and planner."""
    tallied: list[Any] = list(tallies.itertuples(index=False))
    rows = [
        (
            row.user,
            row.planner,
            f"{row.way_m / 1e3:.1f}",
            f"{row.handovers}",
            f"{row.migrations}",
            f"{row.given_up}",
            human_bytes(row.sent_bytes),
            f"{row.away_s / row.time_s:.1%}" if row.time_s else "-",
            f"{row.ready:.0%}" if row.migrations else "-",
            f"{row.round_trip_s * 1e3:.0f} ms",
        )
        for row in tallied
    ]
    return render(HEADERS, [[str(cell) for cell in row] for row in rows], right=range(2, 10))
