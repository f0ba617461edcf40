"""What a user's client saw: its log, the gaps in its right answers, and whether it was cheated.

The client logs one line per request. A service that was moved must have answered every request
once and counted it once; a gap in the right answers is the downtime that the user felt.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from testbed.errors import ResultsError, WrongAnswerError
from testbed.measurement.clock import run_time_s
from testbed.records import NAN, HandoverRecord, MigrationRecord, RequestRecord

COLUMNS = (
    "sequence",
    "sent_epoch_s",
    "answered_epoch_s",
    "delay_s",
    "processing_s",
    "count",
    "correct",
    "error",
)
NOT_COUNTED = -1
"""The count of a request that was never answered."""
AROUND_S = 0.5
"""How long after the target's first answer a gap is still looked for: paths and TCP recover."""
SHOWN = 5
EVENT = "event: "
"""How a client's remarks between requests begin (`testbed.services.probe`)."""
_FIELDS = fields(RequestRecord)
_TRUTHS = {"1": True, "true": True, "0": False, "false": False, "": False}


def read_requests(
    path: str | Path,
    *,
    user: str,
    service: str,
    started_epoch_s: float,
    clock_jumps: Sequence[Mapping[str, float]] = (),
    clock_offset_s: float = 0.0,
) -> list[RequestRecord]:
    """Read a client's log into records on the run's clock.

    Parameters
    ----------
    path : str or Path
        CSV with the columns `COLUMNS`; an unanswered request leaves the later ones empty.
    user, service : str
        Whose log it is.
    started_epoch_s : float
        When the run started.
    clock_jumps : sequence of mappings
        The run clock's jumps.
    clock_offset_s : float
        How far the user's clock is ahead of the controller's, seconds.

    Raises
    ------
    ResultsError
        With file and line if the log is missing, has other columns or an unreadable line.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ResultsError(
                    f"{path}: the columns are {reader.fieldnames}, a client's log has "
                    f"{', '.join(COLUMNS)}. Was it written by another version of the client?"
                )
            rows = [row for row in reader if not str(row["error"]).startswith(EVENT)]
    except OSError as error:
        raise ResultsError(
            f"{path}: the client's log cannot be read ({error.strerror}). Did the client start?"
        ) from error
    records = []
    for line, row in enumerate(rows, start=2):
        try:
            sent_epoch_s = float(row["sent_epoch_s"]) - clock_offset_s
            time_s = run_time_s(sent_epoch_s, started_epoch_s, clock_jumps)
            delay_s = _number(row["delay_s"]) if row["answered_epoch_s"] else NAN
            record = RequestRecord(
                time_s=time_s,
                user=user,
                service=service,
                sequence=int(row["sequence"]),
                answered_s=time_s + delay_s,
                delay_s=delay_s,
                processing_s=_number(row["processing_s"]),
                count=int(row["count"]) if row["count"] else NOT_COUNTED,
                correct=_truth(row["correct"]),
                error=row["error"] or "",
            )
        except (ValueError, TypeError) as error:
            raise ResultsError(
                f"{path}, line {line}: not a request ({error}). If the client was killed while "
                "writing, take this last line out"
            ) from error
        records.append(record)
    return records


def right_answers_s(requests: Iterable[RequestRecord] | pd.DataFrame) -> np.ndarray:
    """When right answers reached the user, seconds of the run, ascending."""
    frame = _frame(requests)
    right = frame["correct"].to_numpy(bool) & np.isfinite(frame["answered_s"].to_numpy(float))
    return np.sort(frame["answered_s"].to_numpy(float)[right])


def longest_gap(answers_s: ArrayLike, start_s: float, end_s: float) -> tuple[float, float]:
    """Where the longest stretch without an answer lies that overlaps a window.

    A gap reaches beyond the window to the answers on either side. Where there is no answer on a
    side (the service never came back), the gap ends at the window's edge: a lower bound.

    Parameters
    ----------
    answers_s : array of float
        Times of right answers, ascending.
    start_s, end_s : float
        The window.

    Raises
    ------
    ValueError
        If the window ends before it starts.
    """
    if not start_s <= end_s:
        raise ValueError(f"the window from {start_s} s to {end_s} s is empty; swap its ends")
    answers = np.asarray(answers_s, dtype=float)
    first = int(np.searchsorted(answers, start_s, side="right"))
    last = int(np.searchsorted(answers, end_s, side="left"))
    before = answers[first - 1] if first > 0 else start_s
    after = answers[last] if last < answers.size else end_s
    edges = np.concatenate(([before], answers[first:last], [after]))
    widest = int(np.argmax(np.diff(edges)))
    return float(edges[widest]), float(edges[widest + 1])


def longest_gap_s(answers_s: ArrayLike, start_s: float, end_s: float) -> float:
    """How long the longest stretch without an answer is that overlaps a window, seconds."""
    begin_s, finish_s = longest_gap(answers_s, start_s, end_s)
    return finish_s - begin_s


def gap_floor_s(answers_s: ArrayLike, busy: Iterable[tuple[float, float]], width_s: float) -> float:
    """What `longest_gap_s` typically finds where nothing happened: the noise of the measurement.

    The time between first and last answer is cut into control windows of the given width that
    keep clear of every busy stretch; the median of their longest gaps is returned, ``nan`` where
    no such window fits.

    Parameters
    ----------
    answers_s : array of float
        Times of right answers, ascending.
    busy : iterable of (start_s, end_s)
        Migrations and handovers.
    width_s : float
        How long the windows are: as long as the one the floor is compared with.

    Raises
    ------
    ValueError
        If the width is not positive.
    """
    if not width_s > 0:
        raise ValueError(f"control windows of {width_s} s; they need a positive width")
    answers = np.asarray(answers_s, dtype=float)
    if answers.size == 0:
        return NAN
    gaps: list[float] = []
    at_s, last_s = float(answers[0]), float(answers[-1])
    for start_s, end_s in [*sorted(busy), (last_s, math.inf)]:
        while at_s + width_s <= min(start_s, last_s):
            gaps.append(longest_gap_s(answers, at_s, at_s + width_s))
            at_s += width_s
        at_s = max(at_s, end_s)
    return float(np.median(gaps)) if gaps else NAN


def gap_window(migration: MigrationRecord, around_s: float = AROUND_S) -> tuple[float, float]:
    """The stretch of the run in which a migration can have held up answers, seconds.

    From the freeze (the request where it never froze) until `around_s` after the target answered
    (after its end where it never did).
    """
    start_s = migration.requested_s if math.isnan(migration.frozen_s) else migration.frozen_s
    end_s = migration.ended_s if math.isnan(migration.answered_s) else migration.answered_s
    return start_s, end_s + around_s


def measure_client_gaps(
    migrations: Iterable[MigrationRecord],
    requests: Iterable[RequestRecord] | pd.DataFrame,
    handovers: Iterable[HandoverRecord] = (),
    jumps: Iterable[Mapping[str, float]] = (),
) -> list[MigrationRecord]:
    """Give each migration the gap its user saw and the floor to compare it with.

    ``nan`` stands where the user sent no request or the migration has no end.
    """
    frame = _frame(requests)
    answers = {
        key: right_answers_s(group) for key, group in frame.groupby(["user", "service"], sort=False)
    }
    migrations, handovers = list(migrations), list(handovers)
    skipped = [(j["at_s"] - AROUND_S, j["at_s"] + j["skipped_s"] + AROUND_S) for j in jumps]
    windows = {m.migration: gap_window(m) for m in migrations}
    measured = []
    for migration in migrations:
        answers_s = answers.get((migration.user, migration.service), np.empty(0))
        start_s, end_s = windows[migration.migration]
        if answers_s.size == 0 or math.isnan(start_s) or math.isnan(end_s):
            measured.append(replace(migration, client_gap_s=NAN, client_gap_floor_s=NAN))
            continue
        busy = [windows[m.migration] for m in migrations if m.user == migration.user] + skipped
        busy += [(h.started_s, h.ended_s + AROUND_S) for h in handovers if h.user == migration.user]
        measured.append(
            replace(
                migration,
                client_gap_s=longest_gap_s(answers_s, start_s, end_s),
                client_gap_floor_s=gap_floor_s(
                    answers_s, [b for b in busy if not math.isnan(sum(b))], end_s - start_s
                ),
            )
        )
    return measured


def check_counts(requests: Iterable[RequestRecord] | pd.DataFrame) -> None:
    """Make sure that every request was answered rightly and counted exactly once.

    Within one user's requests to one service, in order of sending, no sequence number may be
    missing or double, each must be answered rightly, and the service's count must go up by one.

    Raises
    ------
    WrongAnswerError
        Naming the kind of fault and the first rows that show it.
    """
    for (user, service), group in _frame(requests).groupby(["user", "service"], sort=False):
        rows = group.sort_values(["sequence", "time_s"], kind="stable")
        steps = rows["count"].diff().fillna(1)
        faults = {
            "are missing from the client's log": rows["sequence"].diff().fillna(1) > 1,
            "stand twice in the client's log": rows["sequence"].diff().fillna(1) < 1,
            "were lost": rows["answered_s"].isna(),
            "were answered wrongly": ~rows["correct"].astype(bool) | (rows["error"] != ""),
            "were counted twice or out of order": steps < 1,
            "follow a count that was skipped": steps > 1,
        }
        for fault, wrong in faults.items():
            if wrong.any():
                raise WrongAnswerError(_fault(str(user), str(service), fault, rows[wrong]))


def _fault(user: str, service: str, fault: str, rows: pd.DataFrame) -> str:
    shown = "; ".join(
        f"request {row['sequence']} at {row['time_s']:.3f} s"
        + (f" (count {row['count']})" if row["count"] != NOT_COUNTED else "")
        + (f": {row['error']}" if row["error"] else "")
        for row in rows.head(SHOWN).to_dict("records")
    )
    more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return (
        f"{user} → {service}: {len(rows)} requests {fault}: {shown}{more}. The results cannot be "
        "trusted; compare the times with run.migrations and run.phases to see what was going on"
    )


def _frame(requests: Iterable[RequestRecord] | pd.DataFrame) -> pd.DataFrame:
    if isinstance(requests, pd.DataFrame):
        return requests
    rows = list(requests)
    return pd.DataFrame({f.name: [getattr(row, f.name) for row in rows] for f in _FIELDS})


def _number(text: str) -> float:
    return float(text) if text else NAN


def _truth(text: str | None) -> bool:
    if text is None:
        raise ValueError("the line ends early")
    truth = _TRUTHS.get(text.strip().lower())
    if truth is None:
        raise ValueError(f"correct is {text!r}, which is neither true nor false")
    return truth
