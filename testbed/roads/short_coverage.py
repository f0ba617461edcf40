"""Coverages that are too short to be worth a migration (MSMF's PM-OP).

MSMF (section 4.1, figure 5): base stations cover roads over very different distances. Where a user
leaves a cell soon after entering it, moving the service there and away again costs more than
serving the user from the cell before or after. A coverage is *short* if it is shorter than
``theta_m`` metres along the way, or is left in less than ``theta_s`` seconds at the speed driven.
A coverage may span several edges; where it ends depends on the way.
"""

import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from testbed.errors import MapError
from testbed.roads.arrays import Bools, Floats, Ints
from testbed.roads.coverage import Coverage
from testbed.roads.network import RoadMap


@dataclass(frozen=True)
class Visit:
    """One coverage on a way: from entering a site's area to leaving it.

    Attributes
    ----------
    site : str
        Whose area it is.
    from_m, to_m : float
        Where it begins and ends, metres along the way.
    entered_s, left_s : float
        When, seconds after the way's beginning, at the speed expected.
    short : bool
        It is shorter than theta. The first and the last are not judged: the user has been in the
        one before, and may stay in the other.
    """

    site: str
    from_m: float
    to_m: float
    entered_s: float
    left_s: float
    short: bool

    @property
    def length_m(self) -> float:
        """Length along the way, metres."""
        return self.to_m - self.from_m

    @property
    def stay_s(self) -> float:
        """Expected time in it, seconds."""
        return self.left_s - self.entered_s


@dataclass(frozen=True)
class Passage:
    """The coverages that a way leads through, in order; neighbours have different sites."""

    visits: tuple[Visit, ...]

    def settled(self) -> tuple[Visit, ...]:
        """Visits that a service should follow: short ones are passed over.

        The time and length of what is passed over goes to the visit before it (whose site serves
        on), and what then are neighbours with the same site become one.
        """
        kept: list[Visit] = []
        for visit in self.visits:
            if kept and (visit.short or visit.site == kept[-1].site):
                last = kept[-1]
                kept[-1] = Visit(
                    last.site, last.from_m, visit.to_m, last.entered_s, visit.left_s, last.short
                )
            else:
                kept.append(visit)
        return tuple(kept)

    def table(self) -> pd.DataFrame:
        """One row per visit: ``site, from_m, to_m, length_m, entered_s, stay_s, short``."""
        rows = [
            (v.site, v.from_m, v.to_m, v.length_m, v.entered_s, v.stay_s, v.short)
            for v in self.visits
        ]
        columns = ["site", "from_m", "to_m", "length_m", "entered_s", "stay_s", "short"]
        return pd.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(v.site)}</td><td>{v.length_m:,.0f} m</td>"
            f"<td>{v.stay_s:,.1f} s</td><td>{'short' if v.short else ''}</td></tr>"
            for v in self.visits
        )
        return (
            "<table><tr><th>site</th><th>length</th><th>time</th><th></th></tr>" + rows + "</table>"
        )


def passage(
    roads: RoadMap,
    coverage: Coverage,
    way: Sequence[int],
    *,
    offset_m: float = 0.0,
    end_m: float = math.inf,
    speed_mps: float = math.inf,
    theta_m: float = 0.0,
    theta_s: float = 0.0,
) -> Passage:
    """The coverages along a way through the network, with length, expected time and shortness.

    Parameters
    ----------
    roads, coverage
        The map and what covers it (`Tiers.coverage` for the sites of a tier).
    way : sequence of int
        Edges in the order in which they are driven: a whole route, or the edge of a position and
        those ahead.
    offset_m, end_m : float
        Where the way begins on its first edge and ends on its last, metres from their tails.
    speed_mps : float
        Expected speed; on each edge the permitted speed is not exceeded. Without one it is kept.
    theta_m, theta_s : float
        A coverage shorter than either is short.

    Raises
    ------
    MapError
        If an edge does not exist or does not begin where the one before ends, or the speed is not
        positive.
    """
    edges = [int(edge) for edge in way]
    _check_way(roads, edges, speed_mps)
    visits: list[Visit] = []
    at_m = at_s = 0.0
    for number, edge in enumerate(edges):
        begin = min(max(0.0, offset_m), float(roads.length_m[edge])) if number == 0 else 0.0
        end = end_m if number == len(edges) - 1 else math.inf
        mps = min(speed_mps, float(roads.limit_mps[edge]))
        for from_m, to_m, cell in coverage.rows[edge]:
            length = min(to_m, end) - max(from_m, begin)
            if length <= 0:
                continue
            site = coverage.names[cell]
            if visits and visits[-1].site == site:
                before = visits.pop()
            else:
                before = Visit(site, at_m, at_m, at_s, at_s, short=False)
            at_m += length
            at_s += length / mps
            visits.append(Visit(site, before.from_m, at_m, before.entered_s, at_s, short=False))
    inner = range(1, len(visits) - 1)
    return Passage(
        tuple(
            Visit(
                v.site, v.from_m, v.to_m, v.entered_s, v.left_s,
                short=i in inner and (v.length_m < theta_m or v.stay_s < theta_s),
            )
            for i, v in enumerate(visits)
        )
    )  # fmt: skip


def _check_way(roads: RoadMap, edges: Sequence[int], speed_mps: float) -> None:
    if not speed_mps > 0:
        raise MapError(f"expected speed of {speed_mps} m/s: must be above 0")
    for edge in edges:
        if not 0 <= edge < roads.edge_count:
            raise MapError(f"way: {roads.name} has no edge {edge}; it has {roads.edge_count:,}")
    for before, after in itertools.pairwise(edges):
        if roads.head[before] != roads.tail[after]:
            raise MapError(
                f"way: edge {after} does not begin where edge {before} ends; give every edge driven"
            )


def short_coverages(
    roads: RoadMap,
    coverage: Coverage,
    *,
    theta_m: float | None = None,
    theta_s: float | None = None,
) -> pd.DataFrame:
    """Every stretch of a map whose coverage is short, whichever edges it spans.

    How long a coverage is depends on where a user comes from and goes on to. For each stretch the
    shortest and the longest are found over all ways through the network that do not turn round;
    a way that ends within the site's area is not short.

    Parameters
    ----------
    roads, coverage
        The map and what covers it.
    theta_m, theta_s : float
        Threshold in metres, or in seconds at the permitted speed; one of the two.

    Returns
    -------
    pandas.DataFrame
        One row per stretch that is part of a coverage shorter than theta on some way: ``edge,
        from_m, to_m, site``, ``shortest`` and ``longest`` (metres or seconds, as theta; infinite
        where it is at least theta), and ``always``: it is short on every way.

    Raises
    ------
    MapError
        If not exactly one positive threshold is given.
    """
    theta = theta_m if theta_s is None else theta_s
    if (theta_m is None) == (theta_s is None) or theta is None or not 0 < theta < math.inf:
        raise MapError("short coverage: give theta_m (metres) or theta_s (seconds), above 0")
    edge = coverage.edge_of
    size = coverage.to_m - coverage.from_m
    if theta_m is None:
        size = size / roads.limit_mps[edge]
    is_first = np.append(True, edge[1:] != edge[:-1])
    is_last = np.append(edge[1:] != edge[:-1], True)
    source, target = _onward(roads)
    leaving, entered = np.flatnonzero(is_last)[source], np.flatnonzero(is_first)[target]
    found = {}
    for name, longest in (("shortest", False), ("longest", True)):
        onward = _Onward(coverage.cell, size, theta, longest)
        found[name] = size + onward.reach(leaving, entered, is_last)
        found[name] += onward.reach(entered, leaving, is_first)
    short = found["shortest"] < theta
    table = pd.DataFrame(
        {
            "edge": edge,
            "from_m": coverage.from_m,
            "to_m": coverage.to_m,
            "site": np.array(coverage.names, dtype=object)[coverage.cell],
            **{name: np.where(value < theta, value, np.inf) for name, value in found.items()},
            "always": found["longest"] < theta,
        }
    )
    return table[short].reset_index(drop=True)


def _onward(roads: RoadMap) -> tuple[Ints, Ints]:
    """All turns as edges before and after, without those that turn round."""
    source = np.repeat(np.arange(roads.edge_count), np.diff(roads.follower_start))
    target = roads.follower
    round_ = roads.opposite[source] == target
    return source[~round_], target[~round_]


@dataclass(frozen=True)
class _Onward:
    """How far coverages go on beyond the end of their edge, at most about theta."""

    cell: Ints
    size: Floats
    theta: float
    longest: bool

    def reach(self, here: Ints, there: Ints, at_end: Bools) -> Floats:
        """Shortest or longest continuation of each stretch over all ways; 0 inside an edge.

        ``here[i]`` and ``there[i]`` are stretches that meet at a turn. The coverage goes on there
        if both have the same site; where no turn leads on it does not end. This is the least
        solution of ``reach = min or max over turns of (0 or size + reach)``, capped at theta,
        found by repeating it from 0 upwards.
        """
        same = self.cell[here] == self.cell[there]
        no_turn = at_end.copy()
        no_turn[here] = False
        gather = np.maximum if self.longest else np.minimum
        reach = np.zeros(len(self.size))
        while True:
            goes_on = np.minimum(self.theta, self.size[there] + reach[there])
            new = np.where(at_end & ~no_turn & (not self.longest), np.inf, 0.0)
            gather.at(new, here, np.where(same, goes_on, 0.0))
            new[no_turn] = self.theta
            if np.array_equal(new, reach):
                return reach
            reach = new
