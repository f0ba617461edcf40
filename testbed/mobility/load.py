"""From what a scenario says about a user's way to the trace of it."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from testbed.errors import TraceError
from testbed.mobility.geolife import find_geolife, read_track
from testbed.mobility.report import TraceReport
from testbed.mobility.sumo import drive_trip
from testbed.mobility.trace import Trace, clip_trace, duration_s, from_zero, idle_stretches
from testbed.roads.load import find_road_map
from testbed.roads.network import RoadMap
from testbed.scenario import GeoLifeTrack, Scenario, SumoTrip, UserSpec

NOTABLE_IDLE_S = 60.0
"""Idle stretches from here on are reported where the scenario names no length."""


def load_trace(
    user: UserSpec,
    scenario: Scenario,
    roads: RoadMap,
    cache: Path | None,
    data_paths: Iterable[Path] = (),
) -> tuple[Trace, TraceReport]:
    """Make the trace a scenario asks for; its time starts at 0, after ``skip``.

    Parameters
    ----------
    user : scenario.UserSpec
        One of the scenario's users.
    scenario : scenario.Scenario
        Gives the map, the seed and the user's name.
    roads : RoadMap
        The scenario's map; trips and tracks stay on it.
    cache : Path or None
        Folder for trips driven before.
    data_paths : iterable of Path
        Folders that hold maps and data sets.

    Raises
    ------
    TraceError
        If there is no such trip or track, or it is not longer than ``skip``.
    DataNotFoundError
        If the map, SUMO or GeoLife is not on this machine.
    """
    data_paths = tuple(data_paths)
    name = next((name for name, spec in scenario.users.items() if spec == user), "user")
    if isinstance(user.trace, SumoTrip):
        trace, report = _sumo(
            user.trace,
            name=name,
            scenario=scenario,
            roads=roads,
            cache=cache,
            data_paths=data_paths,
        )
        shortest_s = NOTABLE_IDLE_S
    else:
        trace, report = _geolife(user.trace, name, roads, data_paths)
        shortest_s = user.trace.skip_idle or NOTABLE_IDLE_S
    if user.skip:
        if user.skip >= duration_s(trace):
            raise TraceError(
                f"users.{name}.skip: {user.skip:g} s of a trace that lasts {duration_s(trace):g} s "
                f"({report.source}). Skip less"
            )
        count = len(trace)
        first_s = float(trace.loc[trace["time_s"] >= user.skip, "time_s"].iloc[0])
        trace = from_zero(clip_trace(trace, user.skip))
        report = dataclasses.replace(
            report,
            fixes=len(trace),
            dropped={**report.dropped, "skipped at the start": count - len(trace)},
            gaps=tuple((t - first_s, length) for t, length in report.gaps if t >= first_s),
        )
    return trace, dataclasses.replace(report, idle=tuple(idle_stretches(trace, shortest_s)))


def _sumo(
    trip: SumoTrip,
    *,
    name: str,
    scenario: Scenario,
    roads: RoadMap,
    cache: Path | None,
    data_paths: tuple[Path, ...],
) -> tuple[Trace, TraceReport]:
    net = find_road_map(scenario.map.source, data_paths)
    if not net.name.endswith((".net.xml", ".net.xml.gz")):
        raise TraceError(
            f"users.{name}.trace: SUMO drives on its own networks, and {net.name} is none. Use "
            f"the map `berlin`, or `netconvert --osm-files {net.stem}.osm --proj.utm -o "
            f"{net.stem}.net.xml` and name that file"
        )
    drive = drive_trip(
        net,
        seed=scenario.seed,
        minimum_distance_m=trip.minimum_distance,
        speed_factor=trip.speed_factor,
        user=name,
        on_edges=frozenset(roads.edge_ids.tolist()),
        cache=cache,
    )
    return drive.trace, drive.report(scenario.seed)


def _geolife(
    track: GeoLifeTrack, name: str, roads: RoadMap, data_paths: tuple[Path, ...]
) -> tuple[Trace, TraceReport]:
    trace, report = read_track(
        find_geolife(data_paths),
        track.user,
        mode=track.mode,
        file=track.file,
        box=roads.box_deg,
    )
    return trace.assign(user=name), report
