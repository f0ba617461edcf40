"""Base stations and what they are called: a hexagonal layout over a road map."""

import html
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from testbed.errors import MapError
from testbed.roads.arrays import Floats, Ints
from testbed.roads.network import RoadMap
from testbed.roads.stretches import nearest_stretches


@dataclass(frozen=True, eq=False)
class Cells:
    """Base stations; a point belongs to the cell of the nearest one.

    Attributes
    ----------
    names : tuple of str
        ``cell-01``, ``cell-02``... row by row from the north-west, or a list's own.
    x_m, y_m : numpy.ndarray, shape (C,)
        Where the base stations stand on the map's plane, metres.
    lat_deg, lon_deg : numpy.ndarray, shape (C,)
        The same in degrees.
    separation_m : float
        Distance between neighbours, metres; the median where they stand irregularly.
    """

    names: tuple[str, ...]
    x_m: Floats
    y_m: Floats
    lat_deg: Floats
    lon_deg: Floats
    separation_m: float

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.names)

    @cached_property
    def tree(self) -> Any:
        """Spatial index (`scipy.spatial.cKDTree`) of the base stations, metres."""
        return cKDTree(np.column_stack((self.x_m, self.y_m)))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Index of a cell by its name.

        Raises
        ------
        MapError
            If there is no such cell.
        """
        if name not in self._index:
            raise MapError(
                f"there is no cell {name!r}; there are {len(self)}, from {self.names[0]} to "
                f"{self.names[-1]}"
            )
        return self._index[name]

    def nearest(self, x_m: float, y_m: float) -> str:
        """Name of the cell that a point belongs to."""
        return self.names[int(self.tree.query((x_m, y_m))[1])]

    def nearest_indices(self, x_m: ArrayLike, y_m: ArrayLike) -> Ints:
        """Index of the cell that each of many points belongs to."""
        points = np.column_stack((np.ravel(x_m), np.ravel(y_m)))
        return np.asarray(self.tree.query(points)[1], dtype=np.int64)

    def distance_m(self, name: str, x_m: float, y_m: float) -> float:
        """Distance from a point to a cell's base station, metres."""
        index = self.index(name)
        return math.hypot(self.x_m[index] - x_m, self.y_m[index] - y_m)

    def distances_m(self, x_m: float, y_m: float) -> dict[str, float]:
        """Distance from a point to every base station, metres."""
        far = np.hypot(self.x_m - x_m, self.y_m - y_m)
        return dict(zip(self.names, far.tolist(), strict=True))

    def _repr_html_(self) -> str:
        shown = ", ".join(self.names[:3])
        return (
            f"<p>{len(self)} cells, base stations {self.separation_m:g} m apart: "
            f"{html.escape(shown)}{'...' if len(self) > 3 else ''}</p>"  # noqa: PLR2004
        )


def hexagonal_cells(roads: RoadMap, separation_m: float) -> Cells:
    """Base stations in a hexagonal layout over all roads of a map (MSMF, section 5.1).

    The lattice is centred on the map's extent, and only cells that some road runs through are
    kept, so the same map and separation always give the same cells with the same names.

    Parameters
    ----------
    roads : RoadMap
        The map to cover.
    separation_m : float
        Distance between neighbouring base stations, metres.

    Raises
    ------
    MapError
        If the separation is not positive, or is so small that cells become uncountable.
    """
    x, y = lattice(roads, separation_m)
    used = cells_on_roads(roads, x, y)
    x, y = x[used], y[used]
    lat, lon = roads.projection.to_latlon(x, y)
    width = max(2, len(str(len(used))))
    names = tuple(f"cell-{number:0{width}d}" for number in range(1, len(used) + 1))
    return Cells(names, x, y, lat, lon, separation_m)


def lattice(roads: RoadMap, separation_m: float) -> tuple[Floats, Floats]:
    """Points of a hexagonal lattice over a map's extent, centred on it, row by row from the north.

    Raises
    ------
    MapError
        If the separation is not positive, or is so small that points become uncountable.
    """
    west, south, east, north = roads.extent_m
    if not 0 < separation_m < math.inf:
        raise MapError(f"separation of {separation_m} m between sites: must be above 0")
    row_m = separation_m * math.sqrt(3) / 2
    rows = math.ceil((north - south) / 2 / row_m) + 1
    columns = math.ceil((east - west) / 2 / separation_m) + 1
    if rows * columns > _MOST_CELLS:
        raise MapError(
            f"separation of {separation_m:g} m gives about {4 * rows * columns:,} sites on "
            f"{roads.name}; use a larger separation or a smaller box"
        )
    row, column = (
        grid.ravel()
        for grid in np.meshgrid(
            np.arange(rows, -rows - 1, -1), np.arange(-columns, columns + 1), indexing="ij"
        )
    )
    x = (west + east) / 2 + (column + 0.5 * (row % 2)) * separation_m
    return np.asarray(x), np.asarray((south + north) / 2 + row * row_m)


def cells_on_roads(roads: RoadMap, x_m: Floats, y_m: Floats) -> Ints:
    """Indices of the base stations that are the nearest one somewhere on a road, ascending."""
    tree = cKDTree(np.column_stack((x_m, y_m)))
    _, _, _, cell = nearest_stretches(roads, tree)
    return np.unique(cell)


_MOST_CELLS = 250_000
