"""Journeys for the prediction benchmark: real and simulated ways, put on the road fix by fix.

GeoLife's labelled segments on the map of Beijing, and SUMO's trips in Berlin. Every fix passes
through the online matcher and the radio as in a live run. Shadowing is off, so that a handoff goes
to the nearest base station, as MSMF assumes (section 5.1); it comes when the hysteresis rule says.
What was matched is kept on disk, by content of everything that decides it.
"""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import testbed.roads
from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.geolife.tracks import find_geolife, segments
from testbed.mobility.radio import HandoverRule, SignalModel
from testbed.mobility.sumo.trip import drive_trip
from testbed.mobility.trace import make_trace
from testbed.movement import Radio
from testbed.prediction.predictor import MovementState
from testbed.prediction.states import StateBuilder
from testbed.roads.cells import Cells, hexagonal_cells
from testbed.roads.coverage import Coverage, nearest_coverage
from testbed.roads.load import load_road_map
from testbed.roads.matching.model import RoadModel
from testbed.roads.matching.online import OnlineMatcher
from testbed.roads.network import RoadMap
from testbed.roads.sources.sumonet import berlin_net

BEIJING = "osm/beijing-central-2013.osm.pbf"
SEPARATION_M = 500.0
MODES = ("walk", "bike", "bus", "car", "taxi")
SUMO = "sumo car"
RADIO = Radio(shadowing=0.0)
LONGEST_GAP_S = 30.0
SHORTEST_S = 120.0
SUMO_TRAIN, SUMO_TEST = range(1, 141), range(1001, 1151)
SUMO_DISTANCE_M = 1500.0
QUICK_SEEDS, QUICK_JOURNEYS, QUICK_FIXES = 6, 5, 900
_LAYOUT = 1


@dataclass(frozen=True, eq=False)
class World:
    """A map with its cells."""

    roads: RoadMap
    cells: Cells
    coverage: Coverage

    @classmethod
    def on(cls, roads: RoadMap) -> "World":
        """Hexagonal cells over a map."""
        cells = hexagonal_cells(roads, SEPARATION_M)
        return cls(roads, cells, nearest_coverage(roads, cells))

    @cached_property
    def signal(self) -> SignalModel:
        """Strength of the base stations, without shadowing."""
        return SignalModel(self.cells, RADIO, 0)


@dataclass(frozen=True, eq=False)
class Journey:
    """One way of one user, as the predictors see it: one row of every array per fix.

    training : whether it may be learnt from; else it is only tested on.
    edge, offset_m, probability : the online match; edge -1 where there is none.
    serving : index of the serving cell, by the hysteresis rule.
    """

    user: str
    mode: str
    training: bool
    time_s: np.ndarray
    x_m: np.ndarray
    y_m: np.ndarray
    speed_mps: np.ndarray
    edge: np.ndarray
    offset_m: np.ndarray
    probability: np.ndarray
    serving: np.ndarray

    @cached_property
    def handoffs(self) -> np.ndarray:
        """Rows at which another cell serves than one row before."""
        return np.flatnonzero(np.diff(self.serving)) + 1

    def states(self, world: World) -> list[MovementState]:
        """What a predictor is asked at every fix."""
        names = world.cells.names
        builder = StateBuilder(self.user)
        found = []
        for i, time_s in enumerate(self.time_s.tolist()):
            x_m, y_m = float(self.x_m[i]), float(self.y_m[i])
            found.append(
                builder.update(
                    time_s,
                    (x_m, y_m),
                    speed_mps=float(self.speed_mps[i]),
                    edge=int(self.edge[i]),
                    offset_m=float(self.offset_m[i]),
                    match_probability=float(self.probability[i]),
                    serving_site=names[int(self.serving[i])],
                    rssi_dbm=world.signal.measure(x_m, y_m),
                )
            )
        return found


def is_training_user(user: str, users: list[str]) -> bool:
    """Every second user of GeoLife, in order of their numbers, is learnt from."""
    return sorted(users).index(user) % 2 == 1


def follow(world: World, model: RoadModel, trace: pd.DataFrame, **about: object) -> Journey:
    """Put a trace on the road, fix by fix, and hand its user over, as in a live run."""
    matcher = OnlineMatcher(world.roads, model=model)
    handover = HandoverRule.from_radio(RADIO)
    x_m, y_m = world.roads.projection.to_xy(
        trace["lat_deg"].to_numpy(float), trace["lon_deg"].to_numpy(float)
    )
    rows = []
    columns = ("time_s", "lat_deg", "lon_deg")
    for i, row in enumerate(zip(*(trace[c].tolist() for c in columns), strict=True)):
        match = matcher.update(*row)
        serving = handover.update(row[0], world.signal.measure(float(x_m[i]), float(y_m[i])))
        offset_m = match.offset_m if match.matched else 0.0
        rows.append((match.edge, offset_m, match.probability, world.cells.index(serving)))
    edge, offset, probability, serving_index = np.array(rows).T
    return Journey(
        time_s=trace["time_s"].to_numpy(float),
        x_m=np.asarray(x_m),
        y_m=np.asarray(y_m),
        speed_mps=trace["speed_mps"].to_numpy(float),
        edge=edge.astype(int),
        offset_m=offset,
        probability=probability,
        serving=serving_index.astype(int),
        **about,  # type: ignore[arg-type]
    )


def kept(path: Path, make: Callable[[], list[Journey]]) -> list[Journey]:
    """What was made before, or is made now."""
    if path.is_file():
        with path.open("rb") as file:
            found: list[Journey] = pickle.load(file)  # noqa: S301 - this benchmark wrote it
        return found
    found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        pickle.dump(found, file)
    unfinished.replace(path)
    return found


def _digest(*parts: object) -> str:
    """Names a kept file: changes with the matcher's and the reader's source, and with ``parts``."""
    digest = hashlib.sha256(repr((_LAYOUT, *parts)).encode())
    folder = Path(testbed.roads.__file__).parent
    for source in sorted(folder.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def geolife(data: Path, cache: Path, *, quick: bool) -> tuple[World, list[Journey]]:
    """All labelled journeys on the map of Beijing.

    Raises
    ------
    DataNotFoundError
        If GeoLife or the map is not on this machine; says where it was looked for.
    """
    folder = find_geolife([data])
    roads = load_road_map(BEIJING, cache=cache / "maps", data_paths=[data])
    world = World.on(roads)
    path = cache / "prediction" / f"geolife-{_digest(str(folder), quick)}.pickle"
    return world, kept(path, lambda: _geolife(folder, world, quick=quick))


def _geolife(folder: Path, world: World, *, quick: bool) -> list[Journey]:
    users = sorted(path.name for path in folder.iterdir() if path.is_dir())
    model = RoadModel(world.roads)
    found = []
    pieces = list(_pieces(folder, users, world.roads.box_deg, quick=quick))
    for user, mode, trace in tqdm(pieces, desc="matching GeoLife", unit="journey", leave=False):
        training = is_training_user(user, users)
        found.append(follow(world, model, trace, user=user, mode=mode, training=training))
    return found


def _pieces(
    folder: Path, users: list[str], box: tuple[float, float, float, float], *, quick: bool
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Unbroken parts of labelled segments, wholly on the map and long enough."""
    west, south, east, north = box
    taken = dict.fromkeys(MODES, 0)
    for user in users:
        if quick and is_training_user(user, users):
            continue
        for segment in segments(folder, user):
            if segment.mode not in MODES:
                continue
            fixes = segment.fixes
            lat, lon = fixes.lat_deg, fixes.lon_deg
            inside = (lat >= south) & (lat <= north) & (lon >= west) & (lon <= east)
            breaks = np.flatnonzero((np.diff(fixes.epoch_s) > LONGEST_GAP_S) | ~inside[1:]) + 1
            for part in np.split(np.arange(len(lat)), breaks):
                here = part[inside[part]]
                if len(here) < 2 or np.ptp(fixes.epoch_s[here]) < SHORTEST_S:  # noqa: PLR2004
                    continue
                if quick and taken[segment.mode] >= QUICK_JOURNEYS:
                    continue
                taken[segment.mode] += 1
                here = here[:QUICK_FIXES] if quick else here
                time_s = fixes.epoch_s[here] - fixes.epoch_s[here[0]]
                yield user, segment.mode, make_trace(user, time_s, lat[here], lon[here])


def sumo(cache: Path, *, quick: bool) -> tuple[World, list[Journey]]:
    """Trips of single cars in Berlin, one per seed."""
    world = World.on(load_road_map("berlin"))
    tests = list(SUMO_TEST)[:QUICK_SEEDS] if quick else list(SUMO_TEST)
    seeds = tests if quick else [*SUMO_TRAIN, *tests]
    path = cache / "prediction" / f"sumo-{_digest(seeds, SUMO_DISTANCE_M)}.pickle"
    return world, kept(path, lambda: _sumo(world, seeds, cache))


def _sumo(world: World, seeds: list[int], cache: Path) -> list[Journey]:
    on_edges = frozenset(world.roads.edge_ids.tolist())
    model = RoadModel(world.roads)
    found = []
    for seed in tqdm(seeds, desc="driving in Berlin", unit="trip", leave=False):
        try:
            drive = drive_trip(
                berlin_net(),
                seed=seed,
                minimum_distance_m=SUMO_DISTANCE_M,
                on_edges=on_edges,
                cache=cache / "traces",
            )
        except TraceError:  # no trip of this seed is long enough
            continue
        about = {"user": f"seed {seed}", "mode": SUMO, "training": seed in SUMO_TRAIN}
        found.append(follow(world, model, drive.trace, **about))
    return found


__all__ = ["DataNotFoundError", "Journey", "World", "geolife", "sumo"]
