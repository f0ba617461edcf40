"""Which base station covers which stretch of every road (the papers' RMR).

The relation of roads to base stations of MSMF (section 4.1, figures 4 and 5): every directed edge
is cut into ordered stretches with one nearest base station each. Cuts lie exactly where the road
crosses the bisector of two stations; nothing is sampled.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from testbed.roads.arrays import Floats, Ints
from testbed.roads.cells import Cells
from testbed.roads.network import RoadMap
from testbed.roads.stretches import nearest_stretches


@dataclass(frozen=True)
class Stretch:
    """A part of one edge with one site (``cell``), metres from the edge's tail."""

    edge: int
    from_m: float
    to_m: float
    cell: str

    @property
    def length_m(self) -> float:
        """How long it is, metres."""
        return self.to_m - self.from_m


@dataclass(frozen=True, eq=False)
class Coverage:
    """The stretches of every edge of a map, in the order in which they are driven.

    Attributes
    ----------
    cells : Cells
        The base stations that it was computed from.
    start : numpy.ndarray of int, shape (E + 1,)
        Edge ``e`` has the stretches ``start[e]:start[e + 1]``.
    from_m, to_m : numpy.ndarray, shape (S,)
        Where each stretch begins and ends, metres from its edge's tail.
    cell : numpy.ndarray of int, shape (S,)
        Index into ``names``.
    names : tuple of str
        The sites that cover: the cells, or those of a tier above them (`Tiers.coverage`).
    """

    cells: Cells
    start: Ints
    from_m: Floats
    to_m: Floats
    cell: Ints
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Without other names, the cells themselves cover."""
        if not self.names:
            object.__setattr__(self, "names", self.cells.names)

    def stretches(self, edge: int) -> list[Stretch]:
        """The stretches of one edge, tail first."""
        return [self._stretch(edge, i) for i in range(self.start[edge], self.start[edge + 1])]

    def cell_at(self, edge: int, offset_m: float) -> str:
        """Name of the cell at an offset; the one driven into where the offset is a boundary."""
        first, last = int(self.start[edge]), int(self.start[edge + 1])
        at = first + int(np.searchsorted(self.from_m[first:last], offset_m, side="right")) - 1
        return self.names[int(self.cell[max(first, at)])]

    @cached_property
    def rows(self) -> list[list[tuple[float, float, int]]]:
        """``(from_m, to_m, cell index)`` of every edge as plain numbers, for tight loops."""
        flat = list(zip(self.from_m.tolist(), self.to_m.tolist(), self.cell.tolist(), strict=True))
        return [flat[a:b] for a, b in zip(self.start[:-1], self.start[1:], strict=True)]

    @cached_property
    def edge_of(self) -> Ints:
        """Edge of each stretch, shape (S,)."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def merged(self, site: Ints, names: tuple[str, ...]) -> "Coverage":
        """The same coverage by sites that serve several cells each.

        Neighbouring stretches of an edge that get the same site become one.

        Parameters
        ----------
        site : numpy.ndarray of int
            For each of this coverage's ``names``, the index of its site in the new ones.
        names : tuple of str
            Names of the sites.
        """
        new = site[self.cell]
        first = np.ones(len(new), dtype=bool)
        first[1:] = (new[1:] != new[:-1]) | (self.edge_of[1:] != self.edge_of[:-1])
        begins = np.flatnonzero(first)
        ends = np.append(begins[1:], len(new)) - 1
        start = np.searchsorted(self.edge_of[begins], np.arange(len(self.start)))
        return Coverage(self.cells, start, self.from_m[begins], self.to_m[ends], new[begins], names)

    def _stretch(self, edge: int, index: int) -> Stretch:
        return Stretch(
            edge,
            float(self.from_m[index]),
            float(self.to_m[index]),
            self.names[int(self.cell[index])],
        )

    def _repr_html_(self) -> str:
        length_m = self.to_m - self.from_m
        cut = int((np.diff(self.start) > 1).sum())
        rows = [
            ("sites", f"{len(np.unique(self.cell)):,} of {len(self.names):,}"),
            ("edges", f"{len(self.start) - 1:,}, of which {cut:,} have more than one site"),
            ("stretches", f"{len(self.cell):,}"),
            ("median length", f"{np.median(length_m):,.0f} m"),
            ("covered", f"{length_m.sum() / 1000:,.1f} km"),
        ]
        body = "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in rows)
        return f"<table><caption>Which site covers which road</caption>{body}</table>"


def nearest_coverage(roads: RoadMap, cells: Cells) -> Coverage:
    """Coverage of every road by its nearest base station."""
    edge, from_m, to_m, cell = nearest_stretches(roads, cells.tree)
    start = np.searchsorted(edge, np.arange(roads.edge_count + 1))
    return Coverage(cells, start, from_m, to_m, cell)
