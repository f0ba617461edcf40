"""Straight ways over the plane, as a fan of directions, and the cells that they cross.

Cells are those of the nearest base station; a border is the bisector of two stations, so crossings
are exact. For users on no road, and for predictors that know no roads.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from testbed.roads.arrays import Floats, Ints
from testbed.roads.cells import Cells

_NEIGHBOURS = 18


@dataclass(frozen=True)
class Fan:
    """Which directions a user may take, relative to that of the last metres.

    Attributes
    ----------
    count : int
        Number of directions.
    narrow_deg, wide_deg : float
        Standard deviations of those who keep their direction, and of those who do not.
    wide : float
        Share of those who do not.
    """

    count: int = 25
    narrow_deg: float = 20.0
    wide_deg: float = 70.0
    wide: float = 0.4

    @cached_property
    def directions(self) -> tuple[Floats, Floats]:
        """Angles to the right of the heading in radians, and their weights; densest ahead."""
        spacing = np.linspace(-1, 1, self.count)
        angle = np.pi * np.sign(spacing) * np.abs(spacing) ** 2 * (1 - 1 / self.count)
        edges = np.concatenate(([-np.pi], (angle[1:] + angle[:-1]) / 2, [np.pi]))
        density = (1 - self.wide) * _bell(angle, self.narrow_deg) + self.wide * _bell(
            angle, self.wide_deg
        )
        weight = density * np.diff(edges)
        return angle, weight / weight.sum()

    @cached_property
    def anywhere(self) -> tuple[Floats, Floats]:
        """The same for a user whose direction is not known."""
        return np.arange(self.count) * 2 * np.pi / self.count, np.full(self.count, 1 / self.count)

    def around(self, heading_deg: float) -> tuple[Floats, Floats]:
        """Directions in radians clockwise from north, and their weights."""
        if math.isnan(heading_deg):
            return self.anywhere
        angle, weight = self.directions
        return angle + math.radians(heading_deg), weight


FAN = Fan()


def _bell(angle: Floats, width_deg: float) -> Floats:
    return np.asarray(np.exp(-0.5 * (np.degrees(angle) / width_deg) ** 2) / math.radians(width_deg))


@dataclass(frozen=True, eq=False)
class Plane:
    """The cells as flat arrays for the compiled core.

    Attributes
    ----------
    cells : Cells
        The base stations.
    site_of_cell : numpy.ndarray of int, shape (C,)
        Number of each cell's site.
    """

    cells: Cells
    site_of_cell: Ints

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """Stations, their neighbours (by number, -1 is none) and their sites."""
        x, y = np.asarray(self.cells.x_m, float), np.asarray(self.cells.y_m, float)
        points = np.column_stack((x, y))
        wanted = range(2, min(_NEIGHBOURS, len(x) - 1) + 2)
        near = np.full((len(x), 1), -1, dtype=np.int64)
        if wanted:
            near = np.asarray(self.cells.tree.query(points, k=wanted)[1], dtype=np.int64)
        return x, y, np.ascontiguousarray(near), np.asarray(self.site_of_cell, dtype=np.int64)

    @cached_property
    def _first_cell(self) -> dict[int, int]:
        """A cell of each site."""
        return {site: cell for cell, site in reversed(list(enumerate(self.site_of_cell.tolist())))}

    def entering(self, cell: int, serving: int, x_m: float, y_m: float) -> tuple[int, float]:
        """The other site that a user is in already (or -1), and how many metres behind the border.

        Where several cells belong to the serving site, the border is not known: 0 metres.
        """
        site = int(self.site_of_cell[cell])
        if site == serving:
            return -1, 0.0
        if len(self._first_cell) < len(self.site_of_cell):
            return site, 0.0
        x, y = self.cells.x_m, self.cells.y_m
        old = self._first_cell[serving]
        apart_m = math.hypot(x[old] - x[cell], y[old] - y[cell])
        squares = (x_m - x[old]) ** 2 + (y_m - y[old]) ** 2
        squares -= (x_m - x[cell]) ** 2 + (y_m - y[cell]) ** 2
        return site, float(max(0.0, squares / (2 * apart_m)))

    def cell(self, x_m: float, y_m: float) -> int:
        """Number of the cell that a point belongs to."""
        return int(self.cells.tree.query((x_m, y_m))[1])
