"""Estimated delays beside measured ones, window by window."""

import math

import pandas as pd

from testbed.errors import ResultsError
from testbed.planning.delay import Delay
from testbed.planning.fleet import Placement
from testbed.records import NAN, DelayEstimateRecord, DelayWindowRecord

ESTIMATES = ("time_s", "user", "processing_s", "transmission_s", "propagation_s", "queueing_s")
"""What is needed of a table of `DelayEstimateRecord`."""
_REQUESTS = ("time_s", "user", "service", "delay_s", "processing_s", "correct")


def estimate_record(time_s: float, placement: Placement, delay: Delay) -> DelayEstimateRecord:
    """A row that says what was expected of a placement, from a time of the run on, seconds."""
    return DelayEstimateRecord(
        time_s=time_s,
        user=placement.user,
        base_station=placement.base_station,
        server=placement.server,
        processing_s=delay.processing_s,
        transmission_s=delay.transmission_s,
        propagation_s=delay.propagation_s,
        queueing_s=delay.queueing_s,
    )


def delay_windows(
    requests: pd.DataFrame, estimates: pd.DataFrame, window_s: float
) -> list[DelayWindowRecord]:
    """Each window of each user: what its requests took, and what had been estimated.

    A request belongs to the window in which it was sent, and to the estimate that held then. Only
    right answers count; requests before a user's first estimate are measured without one.

    Parameters
    ----------
    requests : pandas.DataFrame
        As `testbed.records.RequestRecord` (`Run.requests`).
    estimates : pandas.DataFrame
        As `testbed.records.DelayEstimateRecord`; at least the columns `ESTIMATES`.
    window_s : float
        How long a window is, seconds; the first begins at 0.

    Raises
    ------
    ResultsError
        If a column is missing, or the window is not positive.
    """
    _require(requests, _REQUESTS, "requests")
    _require(estimates, ESTIMATES, "estimates")
    if not window_s > 0:
        raise ResultsError(f"windows of {window_s:g} s; they need a positive width")
    if requests.empty:
        return []
    sent = requests[list(_REQUESTS)].assign(answered=requests["correct"].astype(bool))
    sent["answered"] &= requests["delay_s"].notna()
    held = estimates[list(ESTIMATES)].rename(columns={"processing_s": "estimated_processing_s"})
    held["estimated_network_s"] = held[["transmission_s", "propagation_s", "queueing_s"]].sum(
        axis=1
    )
    joined = pd.merge_asof(
        sent.sort_values("time_s", kind="stable"),
        held.sort_values("time_s", kind="stable").astype({"time_s": float}),
        on="time_s",
        by="user",
    )
    joined["window"] = (joined["time_s"] // window_s).astype(int)
    grouped = joined.groupby(["user", "service", "window"], sort=True)
    return [
        _record(str(user), str(service), int(str(window)), window_s, rows)
        for (user, service, window), rows in grouped
    ]


def _record(
    user: str, service: str, window: int, window_s: float, rows: pd.DataFrame
) -> DelayWindowRecord:
    """Estimate and measurement are compared over the requests that have both."""
    answered = rows[rows["answered"]]
    known = answered[answered["estimated_processing_s"].notna()]
    measured = answered if known.empty else known
    measured_s = float(measured["delay_s"].mean())
    processing_s = float(measured["processing_s"].mean())
    estimated_processing_s = float(known["estimated_processing_s"].mean())
    estimated_network_s = float(known["estimated_network_s"].mean())
    estimated_s = estimated_processing_s + estimated_network_s
    error_s = estimated_s - measured_s
    return DelayWindowRecord(
        user=user,
        service=service,
        from_s=window * window_s,
        to_s=(window + 1) * window_s,
        requests=len(rows),
        answered=len(answered),
        estimated=len(known),
        measured_s=measured_s,
        measured_processing_s=processing_s,
        measured_network_s=measured_s - processing_s,
        estimated_s=estimated_s,
        estimated_processing_s=estimated_processing_s,
        estimated_network_s=estimated_network_s,
        error_s=error_s,
        error_share=error_s / measured_s if measured_s > 0 and not math.isnan(error_s) else NAN,
    )


def _require(frame: pd.DataFrame, columns: tuple[str, ...], what: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ResultsError(
            f"{what}: no column {', '.join(missing)}; there must be {', '.join(columns)}"
        )
