"""A plausible run made from the record classes: a car, five moves, 10,000 requests, no lab."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from testbed.measurement.requests import measure_client_gaps
from testbed.measurement.store import ResultsWriter, Run
from testbed.records import (
    NAN,
    BindingRecord,
    FixRecord,
    HandoverRecord,
    HostRecord,
    LinkRecord,
    MigrationRecord,
    PhaseRecord,
    PlanRecord,
    PredictionRecord,
    RequestRecord,
    RunManifest,
)

LAT0, LON0 = 52.512, 13.370
M_PER_DEG = 111_320.0
SEPARATION_M = 300.0
INTERVAL_S = 0.01
# corners of the car's way, metres east and north of the origin
WAY_M = np.array(
    [(-115, -300), (150, -330), (330, -60), (420, 220), (700, 330), (1120, 250)], dtype=float
)
# phases of a move: name, host, seconds from the freeze to start and end, bytes, frozen
PHASES = (
    ("connect", "source", -11.0, -10.6, 2_400, False),
    ("send ahead", "source", -10.6, -4.5, 15_200_000, False),
    ("send ahead", "source", -4.5, -3.9, 1_310_000, False),
    ("send ahead", "source", -3.9, -3.7, 402_000, False),
    ("rebuild", "target", -3.7, -3.2, 0, False),
    ("freeze", "source", 0.0, 0.0009, 0, True),
    ("scan", "source", 0.0009, 0.0022, 0, True),
    ("dump", "source", 0.0022, 0.0181, 0, True),
    ("send delta", "source", 0.0105, 0.0402, 236_000, True),
    ("restore", "target", 0.0402, 0.0491, 0, True),
    ("redirect", "target", 0.0491, 0.0519, 300, True),
    ("fill memory", "target", 0.06, 0.9, 0, False),
    ("end source", "source", 0.07, 0.11, 120, False),
)
SERVERS = ("local-1", "local-2")
STATIONS = ("bs-1", "bs-2")


def degrees(points_m):
    """Metres east and north of the origin as (lat_deg, lon_deg)."""
    east, north = np.asarray(points_m, float).T
    return LAT0 + north / M_PER_DEG, LON0 + east / (M_PER_DEG * math.cos(math.radians(LAT0)))


def cells_m():
    """Centres of a hexagonal layout by name, metres."""
    rows = [
        (column * SEPARATION_M + (row % 2) * SEPARATION_M / 2, row * SEPARATION_M * math.sqrt(0.75))
        for row in range(-3, 4)
        for column in range(-2, 6)
    ]
    return {f"cell-{number}": np.array(centre) for number, centre in enumerate(rows, start=1)}


def way_at(times_s, duration_s):
    """Where the car is, metres, at even speed along `WAY_M`."""
    lengths = np.r_[0, np.cumsum(np.hypot(*np.diff(WAY_M, axis=0).T))]
    done = np.asarray(times_s, float) / duration_s * lengths[-1]
    return np.column_stack([np.interp(done, lengths, WAY_M[:, axis]) for axis in (0, 1)])


def synthetic_run(folder: Path, seed: int = 7, requests: int = 10_000) -> Run:
    """Write a run's folder and open it; the same seed gives the same run."""
    rng = np.random.default_rng(seed)
    duration_s = requests * INTERVAL_S
    writer = ResultsWriter(folder, manifest(seed, duration_s))
    for record in [*hosts(), *links(rng)]:
        writer.add(record)
    fixes = drive(rng, duration_s)
    for fix in fixes:
        writer.add(fix)
    moves = []
    for number, (before, after) in enumerate(
        [(a, b) for a, b in pairwise(fixes) if a.serving_cell != b.serving_cell], start=1
    ):
        moves.append(move(writer, rng, number, before, after))
    answers = ask(rng, requests, moves)
    for request in answers:
        writer.add(request)
    writer.replace("migrations", measure_client_gaps(moves, answers, writer.records("handovers")))
    cells = cells_m()
    lat, lon = degrees(list(cells.values()))
    writer.add_frame("cells", pd.DataFrame({"name": list(cells), "lat_deg": lat, "lon_deg": lon}))
    writer.add_frame("roads", roads())
    return writer.close()


def manifest(seed=7, duration_s=100.0):
    return RunManifest(
        run="berlin-synthetic",
        scenario="berlin",
        scenario_sha256="0" * 64,
        seed=seed,
        started_epoch_s=1_760_000_000.0,
        duration_s=duration_s,
        versions={"testbed": "0.1.0"},
        machine={"kernel": "6.12"},
        choices={"technique": "delta"},
    )


def hosts():
    roles = {**dict.fromkeys(SERVERS, "server"), **dict.fromkeys(STATIONS, "base-station")}
    return [
        HostRecord(
            host=name,
            role=role,
            tier="local" if role == "server" else "",
            address=f"10.0.0.{number}",
            architecture="x86_64",
            kernel="6.12",
            page_size_bytes=4096,
            criu="4.1.1",
            clock_offset_s=0.0,
            clock_uncertainty_s=2e-5,
        )
        for number, (name, role) in enumerate({**roles, "car": "user"}.items(), start=1)
    ]


def links(rng):
    asked = {("bs-1", "local-1"): 1e-3, ("bs-1", "local-2"): 15e-3, ("car", "bs-1"): 5e-3}
    return [
        LinkRecord(
            source=source,
            target=target,
            requested_rate_bps=100e6,
            requested_delay_s=delay_s,
            requested_loss=0.0,
            backend="netem",
            applied=f"netem delay {delay_s * 1e3:.0f}ms rate 100mbit",
            measured_rate_bps=100e6 * rng.uniform(0.96, 0.98),
            measured_delay_s=delay_s + rng.uniform(0, 1e-4),
            measured_loss=0.0,
        )
        for (one, other), delay_s in asked.items()
        for source, target in ((one, other), (other, one))
    ]


def drive(rng, duration_s):
    """One fix per second with 4 m of noise; the nearest cell serves, a second late."""
    times_s = np.arange(0.0, duration_s)
    true_m = way_at(times_s, duration_s)
    raw = np.column_stack(degrees(true_m + rng.normal(0, 4, true_m.shape)))
    matched = np.column_stack(degrees(true_m))
    names, centres = list(cells_m()), np.array(list(cells_m().values()))
    nearest = [names[int(np.argmin(np.hypot(*(centres - at).T)))] for at in true_m]
    return [
        FixRecord(
            time_s=float(time_s),
            user="alice",
            lat_deg=raw[at, 0],
            lon_deg=raw[at, 1],
            speed_mps=13.5,
            heading_deg=45.0,
            edge=at // 10,
            offset_m=13.5 * (at % 10),
            matched_lat_deg=matched[at, 0] if at % 33 else NAN,
            matched_lon_deg=matched[at, 1] if at % 33 else NAN,
            match_probability=0.97,
            match_reason="shape",
            cell=nearest[at],
            serving_cell=nearest[max(at - 1, 0)],
            rssi_dbm=float(rng.normal(-90, 4)),
        )
        for at, time_s in enumerate(times_s)
    ]


def move(writer, rng, number, before, after):
    """Add everything one handoff leaves behind; the client's gap comes later."""
    source, target = SERVERS[(number + 1) % 2], SERVERS[number % 2]
    name, frozen_s = f"m{number}", after.time_s + float(rng.uniform(-0.4, 0.4))
    slow = float(rng.uniform(0.8, 1.6))
    for rank, probability in ((1, 0.8), (2, 0.15)):
        site = after.serving_cell if rank == 1 else before.serving_cell
        writer.add(PredictionRecord(frozen_s - 12, "alice", rank, site, probability, 12.0))
    writer.add(PlanRecord(frozen_s - 11, "alice", "prepare", after.serving_cell, target, "", "p"))
    writer.add(BindingRecord(frozen_s - 11, after.serving_cell, target, STATIONS[number % 2], "f"))
    writer.add(
        HandoverRecord(
            user="alice",
            source_cell=before.serving_cell,
            target_cell=after.serving_cell,
            source=STATIONS[(number + 1) % 2],
            target=STATIONS[number % 2],
            started_s=frozen_s + 0.12,
            ended_s=frozen_s + 0.14,
        )
    )
    for phase, host, start_s, end_s, size_bytes, frozen in PHASES:
        stretch = slow if frozen else 1.0
        writer.add(
            PhaseRecord(
                migration=name,
                phase=phase,
                host=source if host == "source" else target,
                start_s=frozen_s + start_s * stretch,
                end_s=frozen_s + end_s * stretch,
                bytes=int(size_bytes * (slow if frozen else 1 + 0.1 * number)),
                frozen=frozen,
            )
        )
    done = [p for p in writer.records("phases") if p.migration == name]
    record = MigrationRecord(
        migration=name,
        service="counter",
        user="alice",
        source=source,
        target=target,
        source_site=before.serving_cell,
        target_site=after.serving_cell,
        technique="delta",
        outcome="done",
        reason="predicted",
        requested_s=frozen_s - 11,
        prepared_s=frozen_s - 3.2,
        frozen_s=frozen_s,
        answered_s=frozen_s + 0.0519 * slow,
        ended_s=frozen_s + 0.9,
        freeze_s=0.031 * slow,
        event_window_s=0.0491 * slow,
        client_gap_s=NAN,
        client_gap_floor_s=NAN,
        rounds=3,
        bytes_ahead=sum(p.bytes for p in done if not p.frozen),
        bytes_frozen=sum(p.bytes for p in done if p.frozen),
        bytes_spared=4096,
    )
    writer.add(record)
    return record


def ask(rng, requests, moves):
    """A request every 10 ms; what reaches a frozen service is answered by the target."""
    records, last_s = [], 0.0
    for sequence in range(requests):
        time_s = sequence * INTERVAL_S
        arrives_s = time_s + 0.006 + float(rng.gamma(2.0, 2e-4))
        for moved in moves:
            if moved.frozen_s <= arrives_s < moved.answered_s:
                arrives_s = moved.answered_s
        detour_s = sum(
            0.028 for m in moves if m.answered_s <= arrives_s < m.answered_s + 0.09
        )  # until the handover, the new server is reached through the old base station
        answered_s = max(arrives_s + 0.006 + detour_s + float(rng.gamma(2.0, 2e-4)), last_s + 1e-6)
        last_s = answered_s
        records.append(
            RequestRecord(
                time_s=time_s,
                user="alice",
                service="counter",
                sequence=sequence,
                answered_s=answered_s,
                delay_s=answered_s - time_s,
                processing_s=4e-5,
                count=sequence + 1,
                correct=True,
                error="",
            )
        )
    return records


def roads():
    """A street grid and the car's own way, as polylines."""
    lines = [np.array([(-700, north), (1700, north + 90)]) for north in range(-700, 800, 130)]
    lines += [np.array([(east, -800), (east - 60, 800)]) for east in range(-650, 1700, 150)]
    frames = []
    for number, line in enumerate([*lines, WAY_M]):
        lat, lon = degrees(line)
        frames.append(pd.DataFrame({"road": number, "lon_deg": lon, "lat_deg": lat}))
    return pd.concat(frames, ignore_index=True)
