"""leuvenmapmatching as a peer: its `DistanceMatcher` on an in-memory map in metres.

It has three settings: the noise told as it is; those of its documentation's OpenStreetMap example
(for large noise); and a wide search, for sparse fixes, between which it must find its way without
them. Which one is used in a case is picked on other drives (see `matching_pick`).
Roads become straight pieces between shape points, since its states are straight. Where it stops
early the lattice is widened once, as documented, and else it begins anew at the next fix.
"""

import itertools
import logging
from importlib import import_module
from typing import Any

from matching_worker import Found, Match, Network, work

WIDTH, WIDER = 5, 20
ALWAYS = {"non_emitting_states": True, "non_emitting_length_factor": 0.75}


def settings(name: str, noise_m: float) -> dict[str, float]:
    """One of the three settings, metres."""
    if name == "wide":
        return {
            "obs_noise": noise_m,
            "obs_noise_ne": 200.0,
            "dist_noise": max(50.0, noise_m),
            "max_dist": 500.0,
            "max_dist_init": max(25.0, 3 * noise_m),
            "min_prob_norm": 1e-9,
        }
    if name == "documented":
        return {
            "obs_noise": 50.0,
            "obs_noise_ne": 75.0,
            "dist_noise": 50.0,
            "max_dist": 100.0,
            "max_dist_init": 100.0,
            "min_prob_norm": 1e-3,
        }
    return {
        "obs_noise": noise_m,
        "obs_noise_ne": 1.5 * noise_m,
        "dist_noise": noise_m,
        "max_dist": 100.0 + 3 * noise_m,
        "max_dist_init": max(25.0, 3 * noise_m),
        "min_prob_norm": 1e-3,
    }


def graph_of(network: Network) -> tuple[dict[int, Any], dict[tuple[int, int], int]]:
    """Straight pieces with their own inner nodes for every edge, and the edge of each piece."""
    graph: dict[int, Any] = {
        node: ((float(y), float(x)), [])
        for node, (x, y) in enumerate(zip(network.node_x_m, network.node_y_m, strict=True))
    }
    edge_of: dict[tuple[int, int], int] = {}
    for edge, (tail, head) in enumerate(zip(network.tail, network.head, strict=True)):
        inner = []
        for x, y in network.line(edge)[1:-1]:
            inner.append(len(graph))
            graph[len(graph)] = ((float(y), float(x)), [])
        for one, other in itertools.pairwise([int(tail), *inner, int(head)]):
            if one != other and (one, other) not in edge_of:
                graph[one][1].append(other)
                edge_of[one, other] = edge
    return graph, edge_of


def make(network: Network) -> Match:
    """The matcher on this network."""
    logging.getLogger("be.kuleuven.cs.dtai.mapmatching").setLevel(logging.CRITICAL)
    distance = import_module("leuvenmapmatching.matcher.distance")
    graph, edge_of = graph_of(network)
    roads = import_module("leuvenmapmatching.map.inmem").InMemMap(
        "roads", use_latlon=False, use_rtree=True, index_edges=True, graph=graph
    )

    def begin(path: list[tuple[float, float]], chosen: dict[str, float]) -> Any:
        matcher = distance.DistanceMatcher(roads, max_lattice_width=WIDTH, **ALWAYS, **chosen)
        states, last = matcher.match(path)
        if states and last < len(path) - 1:
            states, _ = matcher.increase_max_lattice_width(WIDER)
        return matcher.lattice_best if states else []

    def match(fixes: Any, noise_m: float, setting: str) -> Found:
        path = [(float(y), float(x)) for _, x, y in fixes]
        chosen = settings(setting, noise_m)
        parts, edges, first = [], [-1] * len(path), 0
        while first < len(path):
            best = begin(path[first:], chosen)
            on = [state for state in best if state.obs_ne == 0]
            if not on:
                first += 1
                continue
            for state in on:
                edges[first + state.obs] = edge_of[state.edge_m.l1, state.edge_m.l2]
            driven = [edge_of[state.edge_m.l1, state.edge_m.l2] for state in best]
            last = first + max(state.obs for state in on)
            parts.append(([edge for edge, _ in itertools.groupby(driven)], first, last))
            first = last + 1
        return parts, edges

    return match


if __name__ == "__main__":
    work(make)
