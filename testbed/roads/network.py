"""The road map: directed edges with geometry in metres, and what follows what.

An *edge* is one direction of one piece of road between two junctions; it is named by its index.
Lengths and offsets are metres along its polyline, from its tail to its head.
"""

import html
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from testbed.roads.arrays import Floats, Ints, Texts
from testbed.roads.projection import Projection


@dataclass(frozen=True, eq=False)
class RoadMap:
    """A directed road network over flat arrays (N nodes, E edges, P polyline points).

    Attributes
    ----------
    name : str
        What it was read from.
    projection : Projection
        The plane that all metres lie on.
    node_ids : numpy.ndarray, shape (N,)
        The map's own names of its nodes: OSM numbers (int64) or SUMO junctions (str).
    node_x_m, node_y_m : numpy.ndarray, shape (N,)
        Where the nodes lie, metres.
    tail, head : numpy.ndarray, shape (E,)
        Indices of the nodes where an edge begins and ends.
    edge_ids : numpy.ndarray of str, shape (E,)
        The map's own names of its edges: OSM way numbers or SUMO edges. Not unique in OSM.
    road_class : numpy.ndarray of str, shape (E,)
        OSM's ``highway`` value: ``primary``, ``residential``...
    street : numpy.ndarray of str, shape (E,)
        Street names, empty where the map has none.
    limit_mps : numpy.ndarray, shape (E,)
        Permitted speed, or what is usual for the class, metres per second.
    point_start : numpy.ndarray of int, shape (E + 1,)
        Edge ``e`` has the polyline points ``point_start[e]:point_start[e + 1]``.
    point_x_m, point_y_m : numpy.ndarray, shape (P,)
        The polyline points, metres.
    follower_start, follower : numpy.ndarray of int, shapes (E + 1,) and (S,)
        After edge ``e`` one may drive into ``follower[follower_start[e]:follower_start[e + 1]]``.
    dropped : dict of str to int
        What the source holds that this map leaves out, and how many of each.
    mode : str
        Whose roads these are: ``driving``, ``cycling`` or ``walking``.
    """

    name: str
    projection: Projection
    node_ids: Ints | Texts
    node_x_m: Floats
    node_y_m: Floats
    tail: Ints
    head: Ints
    edge_ids: Texts
    road_class: Texts
    street: Texts
    limit_mps: Floats
    point_start: Ints
    point_x_m: Floats
    point_y_m: Floats
    follower_start: Ints
    follower: Ints
    dropped: dict[str, int] = field(default_factory=dict)
    mode: str = "driving"

    @property
    def node_count(self) -> int:
        """Number of nodes, N."""
        return len(self.node_ids)

    @property
    def edge_count(self) -> int:
        """Number of directed edges, E."""
        return len(self.tail)

    @cached_property
    def segment_edge(self) -> Ints:
        """Edge of the segment from point ``i`` to ``i + 1``, shape (P,); -1 at an edge's end."""
        counts = np.diff(self.point_start)
        owner = np.repeat(np.arange(self.edge_count), counts)
        owner[self.point_start[1:] - 1] = -1
        return owner

    @cached_property
    def point_along_m(self) -> Floats:
        """How far along its edge each polyline point lies, metres, shape (P,)."""
        steps = np.hypot(np.diff(self.point_x_m), np.diff(self.point_y_m))
        steps[self.segment_edge[:-1] < 0] = 0.0
        total = np.concatenate(([0.0], np.cumsum(steps)))
        along = total - np.repeat(total[self.point_start[:-1]], np.diff(self.point_start))
        return np.asarray(along)

    @cached_property
    def length_m(self) -> Floats:
        """Length of each edge's polyline, metres, shape (E,)."""
        return self.point_along_m[self.point_start[1:] - 1]

    @cached_property
    def out_start(self) -> Ints:
        """Where each node's edges begin in `out_edge`, shape (N + 1,)."""
        counts = np.bincount(self.tail, minlength=self.node_count)
        return np.concatenate(([0], np.cumsum(counts)))

    @cached_property
    def out_edge(self) -> Ints:
        """Edges sorted by the node they leave, shape (E,)."""
        return np.argsort(self.tail, kind="stable")

    @cached_property
    def opposite(self) -> Ints:
        """The same piece of road in the other direction, or -1, shape (E,)."""
        found = np.full(self.edge_count, -1)
        x, y = self.positions(np.arange(self.edge_count), self.length_m / 2)
        middles = list(zip(x.tolist(), y.tolist(), strict=True))
        lengths: list[float] = self.length_m.tolist()
        by_ends: dict[tuple[int, int], list[int]] = {}
        for edge, ends in enumerate(zip(self.tail.tolist(), self.head.tolist(), strict=True)):
            by_ends.setdefault(ends, []).append(edge)

        def apart(one: int, other: int) -> float:
            return abs(lengths[one] - lengths[other]) / 2 + math.dist(middles[one], middles[other])

        for (tail, head), edges in by_ends.items():
            others = by_ends.get((head, tail), [])
            for edge in edges:
                best = min(
                    (o for o in others if o != edge), key=lambda o: apart(edge, o), default=-1
                )
                if best >= 0 and apart(edge, best) < _SAME_ROAD_M:
                    found[edge] = best
        return found

    @property
    def closed_turns(self) -> int:
        """Pairs of edges that meet at a node although one may not turn from one into the other."""
        arriving = np.bincount(self.head, minlength=self.node_count)
        leaving = np.bincount(self.tail, minlength=self.node_count)
        return int(arriving @ leaving) - len(self.follower)

    def followers(self, edge: int) -> Ints:
        """Edges that may be driven into at the end of ``edge``."""
        return self.follower[self.follower_start[edge] : self.follower_start[edge + 1]]

    def out_edges(self, node: int) -> Ints:
        """Edges that leave a node, whatever one comes from."""
        return self.out_edge[self.out_start[node] : self.out_start[node + 1]]

    def polyline(self, edge: int) -> tuple[Floats, Floats]:
        """The points of an edge in metres, tail first."""
        here = slice(int(self.point_start[edge]), int(self.point_start[edge + 1]))
        return self.point_x_m[here], self.point_y_m[here]

    @cached_property
    def _edge_base_m(self) -> Floats:
        return np.concatenate(([0.0], np.cumsum(self.length_m)))

    @cached_property
    def _point_global_m(self) -> Floats:
        return self.point_along_m + np.repeat(self._edge_base_m[:-1], np.diff(self.point_start))

    def _segments(self, edge: Ints, offset_m: Floats) -> tuple[Ints, Floats]:
        """Segment (first point) and share of it for offsets along edges, clipped to the edge."""
        offset = np.clip(offset_m, 0.0, self.length_m[edge])
        at = np.searchsorted(self._point_global_m, self._edge_base_m[edge] + offset, side="right")
        first = np.clip(at - 1, self.point_start[edge], self.point_start[edge + 1] - 2)
        start_m = self.point_along_m[first]
        length_m = self.point_along_m[first + 1] - start_m
        share = (offset - start_m) / np.where(length_m > 0, length_m, 1.0)
        return first, np.clip(share, 0.0, 1.0)

    def positions(self, edge: ArrayLike, offset_m: ArrayLike) -> tuple[Floats, Floats]:
        """Where offsets along edges lie.

        Parameters
        ----------
        edge : array_like of int
            Edges.
        offset_m : array_like
            Metres from each edge's tail; beyond its ends the end itself is meant.

        Returns
        -------
        x_m, y_m : numpy.ndarray
            Metres on the map's plane, in the broadcast shape of the arguments.
        """
        edges, offsets = np.broadcast_arrays(np.asarray(edge, int), np.asarray(offset_m, float))
        first, share = self._segments(edges, offsets)
        x = self.point_x_m[first] + share * (self.point_x_m[first + 1] - self.point_x_m[first])
        y = self.point_y_m[first] + share * (self.point_y_m[first + 1] - self.point_y_m[first])
        return np.asarray(x), np.asarray(y)

    def position(self, edge: int, offset_m: float) -> tuple[float, float]:
        """One point of one edge, metres (see `positions`)."""
        x, y = self.positions(edge, offset_m)
        return float(x), float(y)

    def headings_deg(self, edge: ArrayLike, offset_m: ArrayLike) -> Floats:
        """Driving direction at offsets along edges, degrees clockwise from north, [0, 360)."""
        edges, offsets = np.broadcast_arrays(np.asarray(edge, int), np.asarray(offset_m, float))
        first, _ = self._segments(edges, offsets)
        east = self.point_x_m[first + 1] - self.point_x_m[first]
        north = self.point_y_m[first + 1] - self.point_y_m[first]
        return np.asarray(np.degrees(np.arctan2(east, north)) % 360.0)

    def heading_deg(self, edge: int, offset_m: float) -> float:
        """Driving direction at one point, degrees clockwise from north (see `headings_deg`)."""
        return float(self.headings_deg(edge, offset_m))

    @property
    def extent_m(self) -> tuple[float, float, float, float]:
        """West, south, east and north end of all roads, metres."""
        return (
            float(self.point_x_m.min()),
            float(self.point_y_m.min()),
            float(self.point_x_m.max()),
            float(self.point_y_m.max()),
        )

    @property
    def box_deg(self) -> tuple[float, float, float, float]:
        """West, south, east and north end of all roads, degrees."""
        west, south, east, north = self.extent_m
        lat, lon = self.projection.to_latlon([west, west, east, east], [south, north, south, north])
        return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())

    def _repr_html_(self) -> str:
        west, south, east, north = self.extent_m
        classes, counts = np.unique(self.road_class, return_counts=True)
        order = np.argsort(-counts)[:_CLASSES_SHOWN]
        rows = [
            ("edges (directed)", f"{self.edge_count:,}"),
            ("junctions", f"{self.node_count:,}"),
            ("length", f"{self.length_m.sum() / 1000:,.1f} km"),
            ("extent", f"{(east - west) / 1000:.1f} km x {(north - south) / 1000:.1f} km"),
            ("for", self.mode),
            ("turns not allowed", f"{self.closed_turns:,}"),
            ("classes", ", ".join(f"{classes[i]} {counts[i]:,}" for i in order)),
            ("left out", ", ".join(f"{k} {v:,}" for k, v in self.dropped.items()) or "nothing"),
        ]
        body = "".join(
            f"<tr><th>{key}</th><td>{html.escape(value)}</td></tr>" for key, value in rows
        )
        return f"<table><caption>Roads of {html.escape(self.name)}</caption>{body}</table>"


_CLASSES_SHOWN = 5
_SAME_ROAD_M = 15.0
