"""The part of an experiment that exists before any host does: map, cells, traces."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from testbed.errors import ScenarioError
from testbed.hosts.root import default_cache
from testbed.mobility.load import load_trace
from testbed.mobility.radio import HandoverRule, SignalModel
from testbed.mobility.report import TraceReport
from testbed.mobility.trace import Trace
from testbed.prediction.outlook import look_ahead
from testbed.prediction.predictor import Predictor, make_predictor
from testbed.prediction.states import StateBuilder
from testbed.roads.cells import Cells
from testbed.roads.coverage import Coverage, nearest_coverage
from testbed.roads.layout import cells_of, map_of, tiers_of
from testbed.roads.matching.online import OnlineMatcher
from testbed.roads.network import RoadMap
from testbed.roads.tiers import Tiers
from testbed.scenario import Scenario


def environment_paths() -> tuple[Path, ...]:
    """Folders of ``TESTBED_DATA``, and the cache, where imports go without it."""
    named = [Path(p) for p in os.environ.get("TESTBED_DATA", "").split(os.pathsep) if p]
    return (*named, default_cache())


def data_paths(scenario: Scenario) -> tuple[Path, ...]:
    """Folders in which a scenario's maps and data sets are looked for, in this order."""
    beside = [scenario.path.parent] if scenario.path else []
    return (*beside, *environment_paths())


@dataclass(frozen=True)
class Moving:
    """One user's way and what is made of each fix of it."""

    trace: Trace
    report: TraceReport
    matcher: OnlineMatcher
    signal: SignalModel
    handover: HandoverRule


def make_moving(
    scenario: Scenario, roads: RoadMap, cells: Cells, trace: Trace, report: TraceReport
) -> Moving:
    """A user at the beginning of its way; every user meets the same radio field."""
    return Moving(
        trace=trace,
        report=report,
        matcher=OnlineMatcher(roads),
        signal=SignalModel(cells, scenario.radio, scenario.seed),
        handover=HandoverRule.from_radio(scenario.radio),
    )


@dataclass(frozen=True)
class World:
    """Map, cells, coverage and every user's way."""

    scenario: Scenario
    roads: RoadMap
    cells: Cells
    tiers: Tiers
    coverage: Coverage
    predictor: Predictor
    moving: dict[str, Moving]

    @classmethod
    def load(cls, scenario: Scenario, cache: Path) -> "World":
        """Read or make everything the scenario names.

        Raises
        ------
        MapError, TraceError, DataNotFoundError, ScenarioError
            If something is missing or malformed; nothing has been started then.
        """
        if not scenario.users:
            raise ScenarioError(f"{scenario.path}: users: there is none to follow; add one")
        paths = data_paths(scenario)
        roads = map_of(scenario.map, cache=cache / "maps", data_paths=paths)
        cells = cells_of(scenario.cells, roads, paths)
        tiers = tiers_of(scenario.tiers, roads, cells, paths)
        for site in scenario.sites:
            if site not in cells.names:
                raise ScenarioError(
                    f"{scenario.path}: sites.{site}: the map has no such cell; its cells are "
                    f"{cells.names[0]} to {cells.names[-1]}"
                )
        coverage = nearest_coverage(roads, cells)
        predictor = make_predictor(
            scenario.prediction.predictor,
            roads=roads,
            cells=cells,
            coverage=coverage,
            horizon_s=scenario.prediction.horizon,
        )
        moving = {}
        for name, user in scenario.users.items():
            trace, report = load_trace(
                user, scenario, roads, cache / "traces", paths, map_cache=cache / "maps"
            )
            moving[name] = make_moving(scenario, roads, cells, trace, report)
        world = cls(scenario, roads, cells, tiers, coverage, predictor, moving)
        world.ask_once()
        return world

    def ask_once(self) -> None:
        """Ask the predictor about the first fix, so that what it compiles or reads is there."""
        name, moving = next(iter(self.moving.items()))
        lat, lon = moving.trace[["lat_deg", "lon_deg"]].to_numpy(dtype=float)[0].tolist()
        match = OnlineMatcher(self.roads).update(0.0, lat, lon)
        state = StateBuilder(name).update(
            0.0,
            self.roads.projection.point_xy(lat, lon),
            edge=match.edge,
            offset_m=match.offset_m if match.matched else 0.0,
        )
        look_ahead(self.predictor, state)

    def duration_s(self) -> float:
        """How long the run lasts: what the scenario says, or the longest trace."""
        longest = max(float(m.trace["time_s"].iloc[-1]) for m in self.moving.values())
        return min(self.scenario.duration or longest, longest)

    def cells_frame(self) -> pd.DataFrame:
        """The base stations, for figures."""
        return pd.DataFrame(
            {"name": self.cells.names, "lat_deg": self.cells.lat_deg, "lon_deg": self.cells.lon_deg}
        )

    def roads_frame(self) -> pd.DataFrame:
        """Every road's line near the users' ways, for figures."""
        wanted = self._near_the_users()
        parts = []
        for edge in wanted:
            x_m, y_m = self.roads.polyline(int(edge))
            lat, lon = self.roads.projection.to_latlon(x_m, y_m)
            parts.append(pd.DataFrame({"road": int(edge), "lon_deg": lon, "lat_deg": lat}))
        columns = {"road": int, "lon_deg": float, "lat_deg": float}
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns))

    def _near_the_users(
        self, margin_m: float = 600.0
    ) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        lat = np.concatenate([m.trace["lat_deg"].to_numpy(float) for m in self.moving.values()])
        lon = np.concatenate([m.trace["lon_deg"].to_numpy(float) for m in self.moving.values()])
        x_m, y_m = self.roads.projection.to_xy(lat, lon)
        ends = np.array([self.roads.position(e, 0.0) for e in range(self.roads.edge_count)])
        inside = (
            (ends[:, 0] > x_m.min() - margin_m)
            & (ends[:, 0] < x_m.max() + margin_m)
            & (ends[:, 1] > y_m.min() - margin_m)
            & (ends[:, 1] < y_m.max() + margin_m)
        )
        return np.flatnonzero(inside).astype(np.int64)


BEFORE_SKIPPING_S, AFTER_SKIPPING_S = 5.0, 5.0
"""What is left of an idle stretch at either end: preparations settle, predictions warm up."""


def idle_for_all(world: World) -> list[tuple[float, float]]:
    """Stretches (start_s, end_s) in which no user moves and every scenario lets them be skipped."""
    common: list[tuple[float, float]] | None = None
    for name, moving in world.moving.items():
        allowed = getattr(world.scenario.users[name].trace, "skip_idle", None)
        own = [
            (at_s + BEFORE_SKIPPING_S, at_s + length_s - AFTER_SKIPPING_S)
            for at_s, length_s in moving.report.idle
            if allowed
        ]
        common = own if common is None else _overlaps(common, own)
    return sorted(s for s in common or [] if s[1] > s[0])


def _overlaps(
    one: list[tuple[float, float]], other: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    return [(max(a, c), min(b, d)) for a, b in one for c, d in other if min(b, d) > max(a, c)]
