"""mappymatch as a peer: its `LCSSMatcher` as it comes, or with more tolerance for more noise.

The graph is built as its own reader does from osmnx: directed, with geometry, travel times, and
only the largest part in which every place can be reached from every other.
"""

import itertools
from importlib import import_module
from typing import Any

from matching_worker import Found, Match, Network, work

USUAL_M = 50.0


def make(network: Network) -> Match:
    """The matcher on this network."""
    nx, shapely = import_module("networkx"), import_module("shapely")
    geopandas, pyproj = import_module("geopandas"), import_module("pyproj")
    plane = pyproj.CRS("+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +ellps=WGS84 +units=m")
    graph = nx.MultiDiGraph(
        crs=plane, distance_weight="kilometers", time_weight="travel_time", geometry_key="geometry"
    )
    for edge, (tail, head) in enumerate(zip(network.tail, network.head, strict=True)):
        graph.add_edge(
            int(tail),
            int(head),
            key=edge,
            geometry=shapely.LineString(network.line(edge)),
            kilometers=float(network.length_m[edge]) / 1000.0,
            travel_time=float(network.length_m[edge] / network.limit_mps[edge]),
        )
    largest = max(nx.strongly_connected_components(graph), key=len)
    graph = nx.MultiDiGraph(graph.subgraph(largest))
    roads = import_module("mappymatch.maps.nx.nx_map").NxMap(graph)
    lcss = import_module("mappymatch.matchers.lcss.lcss")
    trace = import_module("mappymatch.constructs.trace").Trace

    def match(fixes: Any, noise_m: float, setting: str) -> Found:
        tolerance_m = max(USUAL_M, 3 * noise_m) if setting == "tolerant" else USUAL_M
        matcher = lcss.LCSSMatcher(roads, distance_epsilon=tolerance_m)
        points = geopandas.points_from_xy(fixes[:, 1], fixes[:, 2])
        found = matcher.match_trace(trace(geopandas.GeoDataFrame(geometry=points, crs=plane)))
        edges = [-1] * len(fixes)
        for row in found.matches:
            if row.road is not None:
                edges[row.coordinate.coordinate_id] = row.road.road_id.key
        driven = [road.road_id.key for road in found.path or []]
        parts = [([edge for edge, _ in itertools.groupby(driven)], 0, len(fixes) - 1)]
        return (parts if driven else []), edges

    return match


if __name__ == "__main__":
    work(make)
