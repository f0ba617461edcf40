"""The ground of every map: what it shows, roads, scale bar, north, and whose map it is."""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from testbed.analysis import style

M_PER_DEG = 111_320.0
MARGIN = 0.12
"""Share of the shown points' extent that is left free around them."""
WIDEST = 1.9
"""A map is at most this many times as wide as high, and the other way round."""
M_PER_KM = 1000
FURNITURE = [(x, y) for x in (0.03, 0.1, 0.17) for y in (0.04, 0.1)] + [
    (x, 0.03) for x in (0.78, 0.86, 0.94)
] + [(0.975, 0.95), (0.975, 0.88)]  # fmt: skip
"""Where scale bar, attribution and north stand, as shares of the axes."""

Points = NDArray[np.float64]
"""Rows of (lon_deg, lat_deg)."""


class View(NamedTuple):
    """What a map shows, in degrees, and how a degree of longitude is shortened there."""

    west: float
    east: float
    south: float
    north: float
    squeeze: float

    def holds(self, points: Points) -> "NDArray[np.bool_]":
        """Which points lie on the map, shape (K,)."""
        lon, lat = points[:, 0], points[:, 1]
        return (lon >= self.west) & (lon <= self.east) & (lat >= self.south) & (lat <= self.north)

    def touches(self, line: Points) -> bool:
        """Whether the box around a line lies on the map at least in part."""
        low, high = line.min(axis=0), line.max(axis=0)
        return bool(
            low[0] <= self.east
            and high[0] >= self.west
            and low[1] <= self.north
            and high[1] >= self.south
        )

    @property
    def height_in(self) -> float:
        """Height of a figure as wide as a page that shows just this, inches."""
        ratio = (self.north - self.south) / ((self.east - self.west) * self.squeeze)
        return min((style.WIDTH_IN - 0.85) * ratio + 0.6, 8.0)


def view_of(points: Points, margin: float = MARGIN) -> View:
    """The view that shows all of some points, neither too wide nor too high.

    Parameters
    ----------
    points : numpy.ndarray, shape (K, 2)
        Longitude and latitude, degrees; without any, a view of nowhere.
    margin : float
        Share of their extent that is left free on each side.
    """
    if not len(points):
        return View(-1, 1, -1, 1, 1.0)
    (west, south), (east, north) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    squeeze = math.cos(math.radians((south + north) / 2))
    wide = max((east - west) * squeeze, 1e-4) * (1 + 2 * margin)
    high = max(north - south, 1e-4) * (1 + 2 * margin)
    wide, high = max(wide, high / WIDEST * 1.6), max(high, wide / WIDEST)
    lon, lat = (west + east) / 2, (south + north) / 2
    half_lon, half_lat = wide / squeeze / 2, high / 2
    return View(lon - half_lon, lon + half_lon, lat - half_lat, lat + half_lat, squeeze)


def map_axes(view: View, ax: Axes | None = None) -> Axes:
    """Axes that show a view to scale: those given, or those of a new figure."""
    if ax is None:
        ax = style.new_figure(view.height_in).add_subplot()
    ax.set(xlim=(view.west, view.east), ylim=(view.south, view.north))
    ax.set_aspect(1 / view.squeeze)
    return ax


def draw_roads(ax: Axes, lines: list[Points], view: View) -> None:
    """Draw roads as a pale ground."""
    ax.add_collection(
        LineCollection(
            [line for line in lines if view.touches(line)],
            colors=style.PALE,
            linewidths=0.8,
            zorder=1,
        ),
        autolim=False,
    )


def frame(ax: Axes, view: View, *, attributed: bool) -> None:
    """Ticks in degrees, a scale bar, north, and whose map it is."""
    for spine in ("top", "right"):
        ax.spines[spine].set_visible(True)
    ax.locator_params(axis="both", nbins=5)
    ax.xaxis.set_major_formatter(lambda lon, _: f"{abs(lon):.3f}° {'E' if lon >= 0 else 'W'}")
    ax.yaxis.set_major_formatter(lambda lat, _: f"{abs(lat):.3f}° {'N' if lat >= 0 else 'S'}")
    wide_m = (view.east - view.west) * view.squeeze * M_PER_DEG
    bar_m = max(n * 10**p for p in range(7) for n in (1, 2, 5) if n * 10**p <= max(wide_m / 5, 1))
    share, left, low = bar_m / wide_m, 0.03, 0.045
    ends = ([left, left + share], [low, low])
    ax.plot(*ends, color="white", lw=4, transform=ax.transAxes, zorder=8, solid_capstyle="butt")
    ax.plot(*ends, color=style.INK, lw=2, transform=ax.transAxes, zorder=9, solid_capstyle="butt")
    ax.text(
        left + share / 2, low + 0.012, f"{bar_m} m" if bar_m < M_PER_KM else f"{bar_m // 1000} km",
        transform=ax.transAxes, ha="center", va="bottom", path_effects=[style.OUTLINE], zorder=9,
    )  # fmt: skip
    ax.annotate(
        "N", (0.975, 0.96), xytext=(0.975, 0.86), xycoords="axes fraction", ha="center", va="top",
        arrowprops={"arrowstyle": "-|>", "color": style.INK, "lw": 1.0}, zorder=9,
        path_effects=[style.OUTLINE],
    )  # fmt: skip
    if attributed:
        ax.text(
            0.995, 0.01, "© OpenStreetMap contributors", transform=ax.transAxes, ha="right",
            va="bottom", fontsize=6.5, path_effects=[style.OUTLINE], zorder=9,
        )  # fmt: skip
