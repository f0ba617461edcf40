"""Charts of roads, cells, coverage and traces: what `testbed.analysis.chart` is to draw of them."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import shapely

from testbed.analysis import style
from testbed.analysis.basemap import Points, view_of
from testbed.analysis.chart import Areas, Chart, Layer, Lines, Spots
from testbed.roads.cells import Cells
from testbed.roads.coverage import Coverage
from testbed.roads.network import RoadMap
from testbed.roads.tiers import Tiers

WIDE = ("motorway", "trunk", "primary")
MIDDLE = ("secondary", "tertiary")
_ROAD_COLOUR = {"wide": "#a9a9a9", "middle": "#c2c2c2", "narrow": "#dddddd"}
_ROAD_PX = {"wide": 2.4, "middle": 1.6, "narrow": 0.8}
_LEAST_PIECE_M = 1.0
_STANDING_GAP_S = 60.0

BoxDeg = tuple[float, float, float, float]
"""West, south, east, north."""


def road_chart(roads: RoadMap, *, box_deg: BoxDeg | None = None, title: str = "") -> Chart:
    """The roads of a map, the wider the more traffic they are made for.

    Parameters
    ----------
    roads : RoadMap
        The map.
    box_deg : tuple, optional
        West, south, east, north of what is shown; the whole map where absent.
    title : str
        Above the printed map.
    """
    west, south, east, north = box_deg or roads.box_deg
    view = view_of(np.array([[west, south], [east, north]]), margin=0.0)
    lines = road_lines(roads)
    kind = np.array([_kind(str(name)) for name in roads.road_class])
    layers = []
    for name in ("narrow", "middle", "wide"):
        here = np.flatnonzero(kind == name).tolist()
        words = tuple(_road_words(roads, edge) for edge in here)
        layers.append(
            Lines(
                {"narrow": "other roads", "middle": "secondary and tertiary roads",
                 "wide": "main roads"}[name],
                tuple(lines[edge] for edge in here), _ROAD_COLOUR[name], _ROAD_PX[name], words,
                ground=True,
            )
        )  # fmt: skip
    return Chart(tuple(layers), view, title)


def road_lines(roads: RoadMap) -> list[Points]:
    """Polyline of each edge, degrees, in the order of the edges."""
    lat, lon = roads.projection.to_latlon(roads.point_x_m, roads.point_y_m)
    points = np.column_stack((lon, lat))
    return [points[a:b] for a, b in itertools.pairwise(roads.point_start.tolist())]


def cell_layers(roads: RoadMap, cells: Cells) -> tuple[Layer, ...]:
    """The area of each base station (every point belongs to the nearest), and the stations."""
    colours = cell_colours(cells)
    rings = _areas(roads, cells)
    stations = np.column_stack((cells.lon_deg, cells.lat_deg))
    return (
        Areas("cell", rings, colours, cells.names),
        Spots("base station", stations, colours, 8.0, "^", cells.names),
    )


def tier_layer(roads: RoadMap, cells: Cells, tiers: Tiers) -> Areas:
    """Cells in the colour of the regional site above them."""
    regions = tiers.by_cell("regional")
    colours = style.colours(list(tiers.sites("regional")))
    words = tuple(f"{name}, below {regions[name]}" for name in cells.names)
    shades = tuple(colours[regions[name]] for name in cells.names)
    return Areas("cell, by its regional site", _areas(roads, cells), shades, words)


def short_layer(roads: RoadMap, stretches: pd.DataFrame) -> Lines:
    """Stretches of short coverage (`testbed.roads.short_coverage.short_coverages`)."""
    rows = stretches.to_dict("records")
    lines = tuple(stretch_line(roads, r["edge"], r["from_m"], r["to_m"]) for r in rows)
    words = tuple(
        f"{r['site']}: {'always short' if r['always'] else 'short on some ways'}" for r in rows
    )
    return Lines("short coverage", lines, style.DOWN, 3.0, words)


def way_layer(roads: RoadMap, way: Sequence[int], label: str = "way") -> Lines:
    """A route along edges."""
    lines = tuple(stretch_line(roads, e, 0.0, float(roads.length_m[e])) for e in way)
    words = tuple(_road_words(roads, e) for e in way)
    return Lines(label, lines, style.AHEAD, 4.0, words)


def candidate_layers(cells: Cells, candidates: pd.DataFrame) -> tuple[Layer, ...]:
    """Where the user may be served next: base stations, the larger the more likely.

    Parameters
    ----------
    cells : Cells
        The base stations; sites that are none of them are left out.
    candidates : pandas.DataFrame
        Rows of one fix (`testbed.prediction.batch.predict_traces`), the next site only.
    """
    layers = []
    for row in candidates.to_dict("records"):
        if row["site"] in cells.names:
            at = cells.index(row["site"])
            words = f"{row['site']}: {row['probability']:.0%} in {row['eta_s']:.0f} s"
            place = np.array([[cells.lon_deg[at], cells.lat_deg[at]]])
            size_px = 8 + 26 * row["probability"]
            layers.append(Spots("", place, style.DOWN, size_px, "^", (words,), named=True))
    return tuple(layers)


def coverage_layer(roads: RoadMap, coverage: Coverage) -> Lines:
    """Every stretch of road in the colour of the base station that covers it."""
    colours = cell_colours(coverage.cells)
    lines, shades, words = [], [], []
    for edge in range(roads.edge_count):
        for stretch in coverage.stretches(edge):
            if stretch.length_m < _LEAST_PIECE_M:
                continue
            lines.append(stretch_line(roads, edge, stretch.from_m, stretch.to_m))
            shades.append(colours[coverage.cells.index(stretch.cell)])
            words.append(
                f"{_road_words(roads, edge)}: {stretch.cell} from {stretch.from_m:.0f} m "
                f"to {stretch.to_m:.0f} m"
            )
    return Lines("road, by the cell that covers it", tuple(lines), tuple(shades), 2.0, tuple(words))


def stretch_line(roads: RoadMap, edge: int, from_m: float, to_m: float) -> Points:
    """A part of one edge as a line in degrees, with all its bends."""
    first, last = int(roads.point_start[edge]), int(roads.point_start[edge + 1])
    along = roads.point_along_m[first:last]
    inside = along[(along > from_m) & (along < to_m)]
    offsets = np.concatenate(([from_m], inside, [to_m]))
    x, y = roads.positions(np.full(len(offsets), edge), offsets)
    lat, lon = roads.projection.to_latlon(x, y)
    return np.column_stack((lon, lat))


def trace_layers(trace: pd.DataFrame, by: str = "user") -> tuple[Layer, ...]:
    """The ways of some users, one layer for each value of a column.

    Parameters
    ----------
    trace : pandas.DataFrame
        A trace (`testbed.mobility.trace`), also with further columns.
    by : str
        Column whose values get a colour each: ``user``, ``mode``...
    """
    values = [str(value) for value in trace[by].unique()]
    colours = style.colours(values)
    layers: list[Layer] = []
    for value in values:
        rows = trace[trace[by].astype(str) == value]
        lines, words = [], []
        for user, way in rows.groupby("user", sort=False):
            for piece in _unbroken(way):
                lines.append(piece)
                words.append(f"user {user}")
        layers.append(Lines(value or "unlabelled", tuple(lines), colours[value], 2.2, tuple(words)))
    return tuple(layers)


def fix_layer(
    fixes: pd.DataFrame, label: str = "fix", colour: str = style.INK, size_px: float = 3.5
) -> Spots:
    """Positions as dots; their time is shown when pointed at."""
    known = fixes.dropna(subset=["lat_deg", "lon_deg"])
    words = tuple(f"{time:.0f} s" for time in known["time_s"])
    return Spots(label, known[["lon_deg", "lat_deg"]].to_numpy(float), colour, size_px, "o", words)


def cell_colours(cells: Cells) -> tuple[str, ...]:
    """A colour for each cell, so that those next to each other differ."""
    near = 1.5 * cells.separation_m
    neighbours: dict[int, set[int]] = {i: set() for i in range(len(cells))}
    for one, other in cells.tree.query_pairs(near):
        neighbours[one].add(other)
        neighbours[other].add(one)
    chosen: dict[int, int] = {}
    for i in range(len(cells)):
        taken = {chosen[n] for n in neighbours[i] if n in chosen}
        chosen[i] = next(n for n in itertools.count() if n not in taken)
    palette = list(style.colours([str(n) for n in range(8)]).values())
    return tuple(palette[chosen[i] % len(palette)] for i in range(len(cells)))


def _areas(roads: RoadMap, cells: Cells) -> tuple[Points, ...]:
    """Voronoi polygons of the stations, cut to the roads' extent, in degrees."""
    west, south, east, north = roads.extent_m
    ground = shapely.box(west, south, east, north)
    stations = shapely.MultiPoint(np.column_stack((cells.x_m, cells.y_m)))
    found: Any = [ground]
    if len(cells) > 1:
        found = shapely.voronoi_polygons(stations, extend_to=ground, ordered=True).geoms
    rings = []
    for area in found:
        x, y = shapely.get_coordinates(area.intersection(ground))[:-1].T
        lat, lon = roads.projection.to_latlon(x, y)
        rings.append(np.column_stack((lon, lat)))
    return tuple(rings)


def _unbroken(way: pd.DataFrame) -> list[Points]:
    """A user's way as lines, cut where there is no fix for long."""
    cuts = np.flatnonzero(np.diff(way["time_s"].to_numpy(float)) > _STANDING_GAP_S) + 1
    points = way[["lon_deg", "lat_deg"]].to_numpy(float)
    return [piece for piece in np.split(points, cuts) if len(piece) > 1]


def _kind(road_class: str) -> str:
    base = road_class.removesuffix("_link")
    return "wide" if base in WIDE else "middle" if base in MIDDLE else "narrow"


def _road_words(roads: RoadMap, edge: int) -> str:
    return f"{roads.street[edge] or roads.edge_ids[edge]} ({roads.road_class[edge]})"
