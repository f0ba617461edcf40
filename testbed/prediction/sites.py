"""Sites by number: each cell is one, unless a site serves several (regional servers)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from testbed.prediction.outlook import Foreseeing
from testbed.roads.arrays import Ints
from testbed.roads.cells import Cells
from testbed.roads.coverage import Coverage
from testbed.roads.network import RoadMap


@dataclass(frozen=True, eq=False)
class Sites:
    """The sites behind some cells.

    Attributes
    ----------
    cells : Cells
        The base stations.
    by_cell : mapping of str to str
        Site of each cell; a cell that it lacks is a site of its own.
    """

    cells: Cells
    by_cell: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the sites; their places are their numbers."""
        return tuple(dict.fromkeys(self.by_cell.get(name, name) for name in self.cells.names))

    @cached_property
    def index(self) -> dict[str, int]:
        """Number of each site."""
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def of_cell(self) -> Ints:
        """Number of the site of each cell, shape (C,)."""
        named = (self.by_cell.get(name, name) for name in self.cells.names)
        return np.array([self.index[name] for name in named], dtype=np.int64)

    def serving(self, name: str, cell: int) -> int:
        """Number of the site that serves: the named one, else that of the cell."""
        return self.index.get(name, int(self.of_cell[cell]))


@dataclass(frozen=True, eq=False)
class SitePredictor(Foreseeing):
    """What every predictor of the testbed is made with.

    Attributes
    ----------
    roads, cells, coverage
        The map, its base stations, and which of them covers what.
    horizon_s : float
        Sites entered later are not looked for, seconds.
    sites : mapping of str to str, optional
        Site of each cell, where a site serves several (regional servers); else each cell is one.
    """

    roads: RoadMap
    cells: Cells
    coverage: Coverage
    horizon_s: float = 30.0
    sites: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _sites(self) -> Sites:
        return Sites(self.cells, self.sites)
