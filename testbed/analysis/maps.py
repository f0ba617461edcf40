"""The map of a run: where the user was, which cell served, and where the service was moved."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from testbed.analysis import style
from testbed.analysis.basemap import (
    FURNITURE,
    Points,
    View,
    draw_roads,
    frame,
    map_axes,
    view_of,
)
from testbed.analysis.labels import Room
from testbed.analysis.tables import migration_table
from testbed.measurement.summary import human_ms

if TYPE_CHECKING:
    from testbed.measurement.store import Run


def map_figure(
    run: "Run",
    roads: Iterable[Sequence[tuple[float, float]]] | None = None,
    cells: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the users' paths, the cells that served them and where the service was moved.

    Parameters
    ----------
    run : Run
        What to draw.
    roads : iterable of polylines of (lon_deg, lat_deg), optional
        The road map; the run's own ``roads`` table where absent.
    cells : DataFrame with name, lat_deg, lon_deg, optional
        Centres of a hexagonal layout; the run's own ``cells`` table where absent.
    ax : Axes, optional
        Where to draw; a new figure where absent.
    """
    cells = run.frame("cells") if cells is None else cells
    lines = _roads_of(run) if roads is None else [np.asarray(road, float) for road in roads]
    with style.paper():
        fixes = run.fixes
        view = view_of(fixes[["lon_deg", "lat_deg"]].to_numpy(float))
        ax = map_axes(view, ax)
        colours = style.colours([cell for cell in fixes["serving_cell"] if cell])
        draw_roads(ax, lines, view)
        if cells is not None:
            _draw_cells(ax, cells, colours, view)
        taken = [_draw_path(ax, path, colours) for _, path in fixes.groupby("user", sort=False)]
        frame(ax, view, attributed=bool(lines))
        _legend(ax, run, cells is not None)
        drawn = style.figure_of(ax)
        drawn.draw_without_rendering()  # labels are placed on the final layout
        room = Room(ax)
        room.take(np.array(FURNITURE), in_axes=True)
        for points in taken:
            room.take(points)
        if cells is not None:
            for name, centre in _serving(ax, cells, colours):
                ax.plot(
                    *centre, marker="^", ms=5, mfc=colours[name], mec="white", mew=0.6, zorder=5
                )
                room.take(centre[None, :])
        _mark_moves(ax, run, room)
        if cells is not None:
            _name_cells(ax, cells, colours, room)
    return drawn


def hexagon(centre: Points, neighbour: Points, squeeze: float) -> Points:
    """Corners of the cell around ``centre`` in a hexagonal layout.

    Parameters
    ----------
    centre, neighbour : (lon_deg, lat_deg)
        A centre and any of those next to it.
    squeeze : float
        Cosine of the latitude.
    """
    east, north = (neighbour - centre) * (squeeze, 1.0)
    radius, bearing = math.hypot(east, north) / math.sqrt(3), math.atan2(north, east)
    angles = bearing + np.radians(np.arange(30.0, 390.0, 60.0))
    return centre + radius * np.column_stack([np.cos(angles) / squeeze, np.sin(angles)])


def _roads_of(run: "Run") -> list[Points]:
    frame = run.frame("roads")
    if frame is None:
        return []
    return [
        road[["lon_deg", "lat_deg"]].to_numpy(float)
        for _, road in frame.groupby("road", sort=False)
    ]


def _draw_cells(ax: Axes, cells: pd.DataFrame, colours: dict[str, str], view: View) -> None:
    centres = cells[["lon_deg", "lat_deg"]].to_numpy(float)
    if len(centres) > 1:
        away = np.hypot(*((centres - centres[0]) * (view.squeeze, 1.0)).T)
        neighbour = centres[int(np.argsort(away)[1])] - centres[0]
        corners = [hexagon(centre, centre + neighbour, view.squeeze) for centre in centres]
        shown = [colours.get(name) for name in cells["name"]]
        for serves, edge, order in ((False, "#bdbdbd", 2), (True, "#7d7d7d", 2.1)):
            chosen = [at for at, colour in enumerate(shown) if (colour is not None) == serves]
            ax.add_collection(
                PolyCollection(
                    [corners[at] for at in chosen],
                    facecolors=[f"{shown[at]}2e" for at in chosen] if serves else "none",
                    edgecolors=edge,
                    linewidths=0.9 if serves else 0.6,
                    linestyles="solid" if serves else (0, (4, 3)),
                    zorder=order,
                ),
                autolim=False,
            )


def _name_cells(ax: Axes, cells: pd.DataFrame, colours: dict[str, str], room: Room) -> None:
    """Name the base stations that served where nothing else is drawn."""
    for name, centre in _serving(ax, cells, colours):
        offset = room.place(name, centre, (18.0, 10.0))
        ax.annotate(
            name, _pair(centre), xytext=offset, textcoords="offset points", ha="center",
            va="center", fontsize=7.5, color=style.INK, path_effects=[style.OUTLINE], zorder=6,
        )  # fmt: skip


def _serving(ax: Axes, cells: pd.DataFrame, colours: dict[str, str]) -> list[tuple[str, Points]]:
    """Name and place of the base stations on the map that served."""
    (west, east), (south, north) = ax.get_xlim(), ax.get_ylim()
    return [
        (str(cell["name"]), np.array([cell["lon_deg"], cell["lat_deg"]], dtype=float))
        for cell in cells.to_dict("records")
        if cell["name"] in colours
        and west < cell["lon_deg"] < east
        and south < cell["lat_deg"] < north
    ]


def _draw_path(ax: Axes, path: pd.DataFrame, colours: dict[str, str]) -> Points:
    """Draw one user's way, in the colours of the cells that served it, and return its points."""
    raw = path[["lon_deg", "lat_deg"]].to_numpy(float)
    matched = path[["matched_lon_deg", "matched_lat_deg"]].to_numpy(float)
    points = np.where(np.isnan(matched), raw, matched)
    pieces = np.stack([points[:-1], points[1:]], axis=1)
    shades = [colours.get(cell, style.GREY) for cell in path["serving_cell"][:-1]]
    ax.add_collection(LineCollection(
        list(pieces), colors="white", linewidths=4.6, capstyle="round", zorder=3,
    ), autolim=False)  # fmt: skip
    ax.add_collection(LineCollection(
        list(pieces), colors=shades, linewidths=2.8, capstyle="round", zorder=3.1,
    ), autolim=False)  # fmt: skip
    ax.scatter(raw[:, 0], raw[:, 1], s=3.5, color=style.INK, alpha=0.55, linewidths=0, zorder=4)
    if len(points):
        start, end = points[0], points[-1]
        ax.plot(*start, marker="o", ms=6, mfc="white", mec=style.INK, mew=1.1, zorder=6)
        ax.plot(*end, marker="s", ms=5.5, mfc=style.INK, mec="white", mew=0.8, zorder=6)
    return points


def _mark_moves(ax: Axes, run: "Run", room: Room) -> None:
    """Draw an arrow along the way where the service was moved, labelled where there is room."""
    fixes, table = run.fixes, migration_table(run)
    for move, user in zip(table.to_dict("records"), run.migrations["user"], strict=True):
        way = fixes[fixes["user"] == user]
        if way.empty:
            continue
        here, ahead = (_position(way, move["at_s"] + later_s) for later_s in (0.0, 3.0))
        behind = _position(way, move["at_s"] - 3.0)
        along = (ahead - behind) * 0.12
        ax.annotate(
            "", xy=_pair(here + along), xytext=_pair(here - along), zorder=7, arrowprops={
                "arrowstyle": "-|>,head_width=0.34,head_length=0.6", "color": style.DOWN,
                "lw": 0, "mutation_scale": 15, "shrinkA": 0, "shrinkB": 0, "ec": "white",
            },
        )  # fmt: skip
        words = f"{move['number']}"
        if math.isfinite(move["client_gap_ms"]):
            words += f": {human_ms(move['client_gap_ms'] / 1e3)} ms"
        offset = room.place(words, here, (32.0, 20.0))
        ax.annotate(
            words, _pair(here), xytext=offset, textcoords="offset points", ha="center", va="center",
            fontsize=8, zorder=8,
            bbox={"boxstyle": "round,pad=0.22", "fc": "white", "ec": style.DOWN, "lw": 0.8},
            arrowprops={"arrowstyle": "-", "color": style.DOWN, "lw": 0.8, "shrinkB": 3},
        )  # fmt: skip


def _pair(point: Points) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _position(way: pd.DataFrame, time_s: float) -> Points:
    lon = way["matched_lon_deg"].fillna(way["lon_deg"])
    lat = way["matched_lat_deg"].fillna(way["lat_deg"])
    return np.array([np.interp(time_s, way["time_s"], lon), np.interp(time_s, way["time_s"], lat)])


def _legend(ax: Axes, run: "Run", with_cells: bool) -> None:  # noqa: FBT001
    """What the marks mean, above the map."""
    ink = style.INK
    marks = [
        Line2D([], [], color=style.AHEAD, lw=2.8, label="on the road, by serving cell"),
        Line2D([], [], ls="", marker="o", ms=2.5, mfc=ink, mec="none", label="raw fix"),
    ]
    if with_cells:
        marks.append(
            Line2D([], [], ls="", marker="^", ms=5, mfc=style.GREY, mec="none", label="station")
        )
    marks += [
        Line2D([], [], ls="", marker="o", ms=5.5, mfc="white", mec=ink, label="start"),
        Line2D([], [], ls="", marker="s", ms=5, mfc=ink, mec="none", label="end"),
    ]
    if len(run.migrations):
        marks.append(
            Line2D(
                [], [], ls="", marker=">", ms=6, mfc=style.DOWN, mec="none",
                label="move: no., gap at the user",
            )
        )  # fmt: skip
    ax.legend(
        handles=marks, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(marks),
        borderaxespad=0.3, columnspacing=1.0, handletextpad=0.4, handlelength=1.3, fontsize=7.5,
    )  # fmt: skip
