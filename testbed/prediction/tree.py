"""Unroll the roads ahead into a tree of ways and read from the coverage which sites come.

MSMF, section 4.1: road and direction give the next servers along it; here the way is followed on
through the network. The compiled core works on flat arrays; `RoadTree` prepares them.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from testbed.prediction.compiled import MOST_WAYS
from testbed.prediction.sites import Sites
from testbed.prediction.turns import TurnModel
from testbed.roads.arrays import Floats, Ints
from testbed.roads.coverage import Coverage
from testbed.roads.network import RoadMap


@dataclass(frozen=True, eq=False)
class RoadTree:
    """The network, its turns and its coverage as flat arrays.

    Attributes
    ----------
    roads, coverage
        The map, and which base station covers what of it.
    turns : TurnModel
        What is driven into after each edge.
    sites : Sites
        The sites behind the cells.
    shallow_m : float
        See `Unrolling.shallow_m`.
    """

    roads: RoadMap
    coverage: Coverage
    turns: TurnModel
    sites: Sites
    shallow_m: float = 0.0

    @cached_property
    def _site_of_stretch(self) -> Ints:
        """Number of each stretch's site, -1 where it is too shallow to change anything."""
        coverage, tree = self.coverage, self.sites.cells.tree
        found = np.asarray(self.sites.of_cell[coverage.cell], dtype=np.int64)
        near = min(_NEIGHBOURS, len(self.sites.of_cell))
        edge = np.repeat(np.arange(self.roads.edge_count), np.diff(coverage.start))
        deep = np.full(len(found), self.shallow_m <= 0)
        for share in np.linspace(0, 1, _DEPTHS):
            along_m = coverage.from_m + share * (coverage.to_m - coverage.from_m)
            points = np.column_stack(self.roads.positions(edge, along_m))
            distance_m, cell = tree.query(points, k=range(1, near + 1))
            other = self.sites.of_cell[cell] != found[:, None]
            further_m = np.where(other, distance_m, np.inf).min(axis=1)
            own_m = np.where(other, np.inf, distance_m).min(axis=1)
            deep |= further_m - own_m >= self.shallow_m
        return np.where(deep, found, -1)

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """Everything that the compiled core reads of the map, in its order."""
        roads = self.roads
        edge = np.arange(roads.edge_count)
        x0, y0 = roads.positions(edge, np.zeros(roads.edge_count))
        x1, y1 = roads.positions(edge, roads.length_m)
        chord = np.maximum(np.hypot(x1 - x0, y1 - y0), 1e-9)
        return tuple(
            np.ascontiguousarray(array)
            for array in (
                roads.follower_start.astype(np.int64),
                roads.follower.astype(np.int64),
                self.turns.shares,
                roads.opposite.astype(np.int64),
                roads.length_m.astype(np.float64),
                (x1 - x0) / chord,
                (y1 - y0) / chord,
                self.coverage.start.astype(np.int64),
                self.coverage.from_m.astype(np.float64),
                self.coverage.to_m.astype(np.float64),
                self._site_of_stretch,
            )
        )


@dataclass(frozen=True)
class Unrolling:
    """How far and how finely roads are unrolled.

    Attributes
    ----------
    settle_m : float
        Which site follows shows so far outside the serving one; shorter visits are passed over
        (MSMF's short coverage, figure 5), metres.
    shallow_m : float
        Stretches on which another station is nowhere so much further than the nearest one change
        nothing: the radio's hysteresis passes over them, however long they are, metres.
    early_m : float
        The radio is handed over so much before that, metres.
    least : float
        Turns that would make a way less likely than this are left out of it.
    purpose : float
        How much roads are preferred that lead on in the direction of the last minute.
    purpose_m : float
        Way in that direction at which half of the preference is reached, metres.
    """

    settle_m: float = 50.0
    shallow_m: float = 40.0
    early_m: float = 15.0
    least: float = 0.01
    purpose: float = 2.5
    purpose_m: float = 100.0

    def __post_init__(self) -> None:
        """Refuse ways so unlikely that there is no room for them.

        Raises
        ------
        ValueError
            If ``least`` is below one in `MOST_WAYS`.
        """
        if not self.least * MOST_WAYS >= 1:
            raise ValueError(f"least is {self.least}; it must be at least {1 / MOST_WAYS:.4f}")


UNROLLING = Unrolling()
_DEPTHS, _NEIGHBOURS = 9, 8
MOST_FOLLOWERS = 64


def make_stack(steps: int) -> tuple[Any, ...]:
    """Room for the branches of `unroll` that wait."""
    return (
        np.empty(MOST_WAYS, np.int64),
        np.empty(MOST_WAYS),
        np.empty(MOST_WAYS),
        np.empty(MOST_WAYS, np.int64),
        np.empty(MOST_WAYS, np.int64),
        np.empty(MOST_WAYS, np.int64),
        np.empty(MOST_WAYS),
        np.empty((MOST_WAYS, steps), np.int64),
        np.empty((MOST_WAYS + 1, max(steps, MOST_FOLLOWERS))),
    )


def heading_pull(rules: Unrolling, east_m: float, north_m: float) -> Floats:
    """How strongly the way of the last minute pulls, as a vector (see `Unrolling.purpose`)."""
    moved_m = math.hypot(east_m, north_m)
    pull = rules.purpose / (moved_m + rules.purpose_m)
    return np.array([east_m * pull, north_m * pull])
