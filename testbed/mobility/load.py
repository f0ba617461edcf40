"""From what a scenario says about a user's way to the trace of it."""

import dataclasses
import tempfile
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from testbed.errors import TraceError
from testbed.mobility.geolife.tracks import find_geolife, read_track
from testbed.mobility.made import make_movement
from testbed.mobility.report import TraceReport
from testbed.mobility.sumo.net import NET_ENDINGS, build_net
from testbed.mobility.sumo.trip import drive_trip
from testbed.mobility.trace import Trace, clip_trace, duration_s, from_zero, idle_stretches
from testbed.movement import GeoLifeTrack, SumoTrip
from testbed.roads.layout import map_file
from testbed.roads.network import RoadMap
from testbed.scenario import Scenario, UserSpec

NOTABLE_IDLE_S = 60.0
"""Idle stretches from here on are reported where the scenario names no length."""


def load_trace(
    user: UserSpec,
    scenario: Scenario,
    roads: RoadMap,
    cache: Path | None,
    data_paths: Iterable[Path] = (),
    *,
    map_cache: Path | None = None,
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
    map_cache : Path, optional
        Folder for maps read, downloaded or made before (the road map's own); ``cache`` where none
        is named.

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
            map_cache=map_cache or cache,
        )
        shortest_s = NOTABLE_IDLE_S
    elif isinstance(user.trace, GeoLifeTrack):
        trace, report = _geolife(user.trace, name, roads, data_paths)
        shortest_s = user.trace.skip_idle or NOTABLE_IDLE_S
    else:
        trace, report = make_movement(user.trace, name, scenario, roads, extra_s=user.skip)
        shortest_s = NOTABLE_IDLE_S
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
    map_cache: Path | None,
) -> tuple[Trace, TraceReport]:
    source = map_file(scenario.map, cache=map_cache, data_paths=data_paths)
    ids = frozenset(roads.edge_ids.tolist())
    seed = scenario.seed if trip.seed is None else trip.seed
    with tempfile.TemporaryDirectory(prefix="testbed-net-") as folder:
        net, on_edges = source, cast("Container[str]", ids)
        if not source.name.endswith(NET_ENDINGS):
            box = scenario.map.box
            net = build_net(
                source,
                map_cache or Path(folder),
                box=(box.west, box.south, box.east, box.north) if box else None,
            )
            on_edges = _OnWays(ids)
        drive = drive_trip(
            net,
            seed=seed,
            minimum_distance_m=trip.minimum_distance,
            speed_factor=trip.speed_factor,
            user=name,
            on_edges=on_edges,
            cache=cache,
        )
    return drive.trace, drive.report(seed)


@dataclass(frozen=True)
class _OnWays:
    """SUMO's edges on OpenStreetMap ways: ``-123#4`` is one of way 123."""

    ways: frozenset[str]

    def __contains__(self, edge: object) -> bool:
        return str(edge).removeprefix("-").split("#")[0] in self.ways


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
