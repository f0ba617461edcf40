"""What a run writes down: one frozen dataclass per row of each results table.

Times are seconds since the start of the run (``*_s``) on the run's clock; the manifest holds the
start as an epoch time. ``nan`` stands for "did not happen", the empty string for "none".
"""

from dataclasses import dataclass, field
from typing import Any

NAN = float("nan")


@dataclass(frozen=True)
class FixRecord:
    """One position of one user, where the map says it was, and which cell served it."""

    time_s: float
    user: str
    lat_deg: float
    lon_deg: float
    speed_mps: float
    heading_deg: float
    edge: int
    offset_m: float
    matched_lat_deg: float
    matched_lon_deg: float
    match_probability: float
    match_reason: str
    cell: str
    serving_cell: str
    rssi_dbm: float


@dataclass(frozen=True)
class PredictionRecord:
    """One candidate of one prediction: the site that may come next, how sure, how soon."""

    time_s: float
    user: str
    rank: int
    site: str
    probability: float
    eta_s: float


@dataclass(frozen=True)
class PlanRecord:
    """One decision: where service and radio should be, and why."""

    time_s: float
    user: str
    action: str
    site: str
    server: str
    base_station: str
    reason: str


@dataclass(frozen=True)
class BindingRecord:
    """A site of the map was given to real hosts (few hosts serve many sites, one after another)."""

    time_s: float
    site: str
    server: str
    base_station: str
    reason: str


@dataclass(frozen=True)
class HandoverRecord:
    """The user's radio link went from one base station to another."""

    user: str
    source_cell: str
    target_cell: str
    source: str
    target: str
    started_s: float
    ended_s: float


@dataclass(frozen=True)
class PhaseRecord:
    """One phase of one migration; ``frozen`` tells whether the service stood still in it."""

    migration: str
    phase: str
    host: str
    start_s: float
    end_s: float
    bytes: int
    frozen: bool
    detail: str = ""


@dataclass(frozen=True)
class MigrationRecord:
    """One migration of one service, with the three downtimes kept apart.

    freeze_s : CRIU's own frozen time.
    event_window_s : last instruction at the source to first at the target.
    client_gap_s : longest gap between right answers at the user around the migration.
    client_gap_floor_s : median such gap with no migration near (the probing interval's noise).
    bytes_spared : memory that was at the target from an earlier visit, and was not sent.
    """

    migration: str
    service: str
    user: str
    source: str
    target: str
    source_site: str
    target_site: str
    technique: str
    outcome: str
    reason: str
    requested_s: float
    prepared_s: float
    frozen_s: float
    answered_s: float
    ended_s: float
    freeze_s: float
    event_window_s: float
    client_gap_s: float
    client_gap_floor_s: float
    rounds: int
    bytes_ahead: int
    bytes_frozen: int
    bytes_spared: int = 0


@dataclass(frozen=True)
class RequestRecord:
    """One request of one user, as the user saw it.

    delay_s is ``answered_s - time_s``; processing_s is what the service says it took of that.
    """

    time_s: float
    user: str
    service: str
    sequence: int
    answered_s: float
    delay_s: float
    processing_s: float
    count: int
    correct: bool
    error: str


@dataclass(frozen=True)
class TriggerRecord:
    """One trigger of a timed handoff: when it was planned, and when it really happened.

    trigger : ``pre-migration``, ``migration`` or ``handover``. variant : how it was timed
    (`testbed.handoff.timing`). error_ms : actual less planned; above 0 means too late.
    """

    user: str
    migration: str
    variant: str
    trigger: str
    planned_s: float
    actual_s: float
    error_ms: float


@dataclass(frozen=True)
class DelayEstimateRecord:
    """The delay that was estimated for a user's tasks, from this time until the next such row."""

    time_s: float
    user: str
    base_station: str
    server: str
    processing_s: float
    transmission_s: float
    propagation_s: float
    queueing_s: float


@dataclass(frozen=True)
class DelayWindowRecord:
    """What a user's requests took in one window, beside what had been estimated for them.

    Means over the window's right answers, seconds; network is all but the processing.
    requests : how many were sent; answered : how many of them count; estimated : of those, how many
    had an estimate. error_share : of the measured delay; above 0 means estimated too long.
    """

    user: str
    service: str
    from_s: float
    to_s: float
    requests: int
    answered: int
    estimated: int
    measured_s: float
    measured_processing_s: float
    measured_network_s: float
    estimated_s: float
    estimated_processing_s: float
    estimated_network_s: float
    error_s: float
    error_share: float


@dataclass(frozen=True)
class LinkRecord:
    """One direction of an emulated path: what was asked for, set and measured.

    A path is shaped in both directions; ``measured_delay_s`` is half the median round trip.
    """

    source: str
    target: str
    requested_rate_bps: float
    requested_delay_s: float
    requested_loss: float
    backend: str
    applied: str
    measured_rate_bps: float
    measured_delay_s: float
    measured_loss: float


@dataclass(frozen=True)
class HostRecord:
    """One host of the lab and its clock against the controller's.

    tracker, dump, restore : how the engine moves a service from and to it, where nothing about the
    service itself stands against that (`testbed.hosts.judgements.engine_ways`).
    """

    host: str
    role: str
    tier: str
    address: str
    architecture: str
    kernel: str
    page_size_bytes: int
    criu: str
    clock_offset_s: float
    clock_uncertainty_s: float
    tracker: str = ""
    dump: str = ""
    restore: str = ""


@dataclass(frozen=True)
class RunManifest:
    """What must be known to trust and repeat a run."""

    run: str
    scenario: str
    scenario_sha256: str
    seed: int
    started_epoch_s: float
    duration_s: float
    versions: dict[str, str]
    machine: dict[str, Any]
    choices: dict[str, str] = field(default_factory=dict)
    clock_jumps: list[dict[str, float]] = field(default_factory=list)
    outcome: str = "running"


TABLES: dict[str, type] = {
    "fixes": FixRecord,
    "predictions": PredictionRecord,
    "plans": PlanRecord,
    "bindings": BindingRecord,
    "handovers": HandoverRecord,
    "migrations": MigrationRecord,
    "phases": PhaseRecord,
    "requests": RequestRecord,
    "links": LinkRecord,
    "hosts": HostRecord,
}
"""Results tables by name; each is stored as ``NAME.parquet``, a column per field."""
