"""The tiers of sites above the cells: a local site at each base station, regional ones, the cloud.

MSMF (sections 4.2 and 5.1): local servers stand at the base stations; a regional server is
connected to several base stations and serves all their cells; the cloud is above all of them.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from testbed.errors import MapError
from testbed.roads.arrays import Floats, Ints
from testbed.roads.cells import Cells, lattice
from testbed.roads.coverage import Coverage
from testbed.roads.network import RoadMap
from testbed.roads.stations import Station, station_cells
from testbed.scenario import TIERS, Tier

CLOUD = "cloud"


@dataclass(frozen=True, eq=False)
class Tiers:
    """Which site of each tier serves each cell.

    A local site has the name of its cell. There is one cloud, ``"cloud"``, far from everybody.

    Attributes
    ----------
    cells : Cells
        The base stations (C of them), which are the local sites.
    regions : tuple of str
        Names of the regional sites (R of them).
    region_of : numpy.ndarray of int, shape (C,)
        Index of each cell's regional site; every region has at least one cell.
    region_x_m, region_y_m : numpy.ndarray, shape (R,)
        Where the regional sites stand on the map's plane, metres.
    """

    cells: Cells
    regions: tuple[str, ...]
    region_of: Ints
    region_x_m: Floats
    region_y_m: Floats

    def __post_init__(self) -> None:
        """Refuse names that would mean two sites."""
        twice = set(self.cells.names) & {*self.regions, CLOUD} | set(self.regions) & {CLOUD}
        if twice:
            raise MapError(
                f"{', '.join(sorted(twice)[:3])}: a site of another tier has this name already; "
                "cells, regions and the cloud need different names"
            )

    def sites(self, tier: Tier) -> tuple[str, ...]:
        """Names of all sites of a tier, in the order of their indices."""
        return {"local": self.cells.names, "regional": self.regions, "cloud": (CLOUD,)}[tier]

    def site_index(self, tier: Tier) -> Ints:
        """Index into `sites` of each cell's site in a tier, shape (C,)."""
        count = len(self.cells)
        return {
            "local": np.arange(count),
            "regional": self.region_of,
            "cloud": np.zeros(count, dtype=np.int64),
        }[tier]

    def site_of(self, cell: str, tier: Tier) -> str:
        """Name of the site that serves a cell in a tier.

        Raises
        ------
        MapError
            If there is no such cell.
        """
        return self.sites(tier)[int(self.site_index(tier)[self.cells.index(cell)])]

    def by_cell(self, tier: Tier) -> dict[str, str]:
        """Site of every cell in a tier, by the cell's name."""
        sites = self.sites(tier)
        index = self.site_index(tier).tolist()
        return {cell: sites[i] for cell, i in zip(self.cells.names, index, strict=True)}

    @cached_property
    def _region_index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.regions)}

    @cached_property
    def _under_region(self) -> list[tuple[str, ...]]:
        found: list[list[str]] = [[] for _ in self.regions]
        for cell, region in zip(self.cells.names, self.region_of.tolist(), strict=True):
            found[region].append(cell)
        return [tuple(cells) for cells in found]

    def tier_of(self, site: str) -> Tier:
        """Tier of a site.

        Raises
        ------
        MapError
            If there is no such site.
        """
        if site == CLOUD:
            return "cloud"
        if site in self._region_index:
            return "regional"
        self.cells.index(site)
        return "local"

    def cells_under(self, site: str) -> tuple[str, ...]:
        """Cells that a site serves."""
        tier = self.tier_of(site)
        if tier == "cloud":
            return self.cells.names
        return (site,) if tier == "local" else self._under_region[self._region_index[site]]

    def above(self, site: str) -> str | None:
        """The site of the next tier that a site is connected to; ``None`` for the cloud."""
        tier = self.tier_of(site)
        if tier == "cloud":
            return None
        return CLOUD if tier == "regional" else self.site_of(site, "regional")

    def below(self, site: str) -> tuple[str, ...]:
        """Sites of the tier below that are connected to a site; none for a local one."""
        tier = self.tier_of(site)
        if tier == "cloud":
            return self.regions
        return self.cells_under(site) if tier == "regional" else ()

    @cached_property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Every connection as (lower site, upper site): cells to regions, regions to the cloud."""
        up = [
            (cell, self.regions[r])
            for cell, r in zip(self.cells.names, self.region_of.tolist(), strict=True)
        ]
        return (*up, *((region, CLOUD) for region in self.regions))

    def distance_m(self, site: str, x_m: float, y_m: float) -> float:
        """Distance from a point to a site, metres; infinite for the cloud."""
        tier = self.tier_of(site)
        if tier == "cloud":
            return math.inf
        if tier == "local":
            return self.cells.distance_m(site, x_m, y_m)
        index = self._region_index[site]
        return math.hypot(self.region_x_m[index] - x_m, self.region_y_m[index] - y_m)

    def coverage(self, coverage: Coverage, tier: Tier) -> Coverage:
        """Coverage of every road by the sites of a tier: neighbouring stretches are merged.

        Parameters
        ----------
        coverage : Coverage
            That of the cells.
        tier : {"local", "regional", "cloud"}
            Whose sites are wanted.
        """
        return coverage.merged(self.site_index(tier), self.sites(tier))

    def _repr_html_(self) -> str:
        counts = np.bincount(self.region_of, minlength=len(self.regions))
        per_region = f"{counts.min()} to {counts.max()} cells each"
        first = {tier: html.escape(self.sites(tier)[0]) for tier in TIERS}
        rows = [
            ("local", f"{len(self.cells):,}", "one cell each", f"{first['local']}..."),
            ("regional", f"{len(self.regions):,}", per_region, f"{first['regional']}..."),
            ("cloud", "1", "all cells", first["cloud"]),
        ]
        body = "".join("<tr>" + "".join(f"<td>{v}</td>" for v in row) + "</tr>" for row in rows)
        head = "<tr><th>tier</th><th>sites</th><th>serve</th><th>names</th></tr>"
        return f"<table>{head}{body}</table>"


def hexagonal_tiers(roads: RoadMap, cells: Cells, separation_m: float) -> Tiers:
    """Regional sites in a hexagonal layout; each cell belongs to the one nearest to its station.

    The lattice is centred on the map, sites without a cell are left out, and the others are called
    ``region-01``, ``region-02``... row by row from the north-west.

    Parameters
    ----------
    roads : RoadMap
        The map.
    cells : Cells
        The base stations on it.
    separation_m : float
        Distance between neighbouring regional sites, metres.

    Raises
    ------
    MapError
        If the separation is less than that of the base stations, or not positive.
    """
    if len(cells) > 1 and separation_m < cells.separation_m:
        raise MapError(
            f"tiers.regional: separation of {separation_m:g} m is less than the "
            f"{cells.separation_m:g} m between base stations; a regional site is above several"
        )
    x, y = lattice(roads, separation_m)
    kept, region_of = np.unique(_nearest(cells, x, y), return_inverse=True)
    width = max(2, len(str(len(kept))))
    names = tuple(f"region-{number:0{width}d}" for number in range(1, len(kept) + 1))
    return Tiers(cells, names, region_of.astype(np.int64), x[kept], y[kept])


def placed_tiers(
    roads: RoadMap, cells: Cells, sites: Sequence[Station], *, where: str = "tiers.regional"
) -> Tiers:
    """Regional sites at given places; each cell belongs to the one nearest to its station.

    Raises
    ------
    MapError
        If there is none, names or places are not unique, one stands outside the map, or one is
        nearest to no base station.
    """
    placed = station_cells(roads, sites, where=where)
    region_of = _nearest(cells, placed.x_m, placed.y_m)
    idle = sorted(set(range(len(placed))) - set(region_of.tolist()))
    if idle:
        raise MapError(
            f"{where}: {', '.join(placed.names[i] for i in idle[:3])}: no base station is nearest "
            "to it, so it would serve nobody; leave it out or move it"
        )
    return Tiers(cells, placed.names, region_of, placed.x_m, placed.y_m)


def grouped_tiers(cells: Cells, groups: Mapping[str, Sequence[str]]) -> Tiers:
    """Regional sites with listed cells; each stands in the middle of its cells' stations.

    Parameters
    ----------
    cells : Cells
        The base stations.
    groups : mapping of str to sequence of str
        Names of the cells of each regional site; every cell must be in exactly one.

    Raises
    ------
    MapError
        If a cell is unknown, in two groups or in none, or a group is empty.
    """
    where = "tiers.regional.groups"
    region_of = np.full(len(cells), -1, dtype=np.int64)
    names = tuple(groups)
    for region, members in enumerate(groups.values()):
        if not members:
            raise MapError(f"{where}.{names[region]}: has no cell; give at least one")
        for cell in members:
            index = cells.index(cell)
            if region_of[index] >= 0:
                raise MapError(
                    f"{where}.{names[region]}: {cell} is in {names[int(region_of[index])]} "
                    "already; a cell has one regional site"
                )
            region_of[index] = region
    left = np.flatnonzero(region_of < 0)
    if len(left):
        named = ", ".join(cells.names[i] for i in left[:3].tolist())
        raise MapError(
            f"{where}: {len(left)} of {len(cells)} cells are in none: {named}"
            f"{'...' if len(left) > 3 else ''}; put every cell into one"  # noqa: PLR2004
        )
    counts = np.bincount(region_of, minlength=len(names))
    x = np.bincount(region_of, weights=cells.x_m, minlength=len(names)) / counts
    y = np.bincount(region_of, weights=cells.y_m, minlength=len(names)) / counts
    return Tiers(cells, names, region_of, x, y)


def _nearest(cells: Cells, x_m: Floats, y_m: Floats) -> Ints:
    """Index of the place nearest to each base station; the first of equally near ones.

    On lattices many stations lie exactly between places, so what a computer makes of the last
    digits must not decide.
    """
    nearest = min(_EQUALLY_NEAR, len(x_m))
    far, place = cKDTree(np.column_stack((x_m, y_m))).query(
        np.column_stack((cells.x_m, cells.y_m)), k=np.arange(1, nearest + 1)
    )
    tied = far <= far[:, :1] + _TIE_M
    return np.asarray(np.where(tied, place, len(x_m)).min(axis=1), dtype=np.int64)


_EQUALLY_NEAR = 4
_TIE_M = 1e-3
