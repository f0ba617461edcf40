"""Which roads lie near a point, on a grid (compiled)."""

from typing import Any

import numpy as np

from testbed.roads.matching.compiled import Net, Scratch, compiled


@compiled
def fill_grid(net: Net, counts: Any, segments: Any) -> None:
    """Count the segments of each cell into ``counts``, or list them into ``segments``.

    With an empty ``segments`` it counts; else ``counts`` says where each cell's list goes on.
    """
    west, south, size = net.grid
    rows, columns = net.shape
    for first in range(len(net.point_x_m)):
        if net.segment_edge[first] < 0:
            continue
        xa, xb = net.point_x_m[first], net.point_x_m[first + 1]
        ya, yb = net.point_y_m[first], net.point_y_m[first + 1]
        left = min(max(int((min(xa, xb) - west) // size), 0), columns - 1)
        right = min(max(int((max(xa, xb) - west) // size), 0), columns - 1)
        low = min(max(int((min(ya, yb) - south) // size), 0), rows - 1)
        high = min(max(int((max(ya, yb) - south) // size), 0), rows - 1)
        for row in range(low, high + 1):
            for column in range(left, right + 1):
                cell = row * columns + column
                if len(segments):
                    segments[counts[cell]] = first
                counts[cell] += 1


@compiled
def nearest(
    net: Net, scratch: Scratch, x: float, y: float, radius_m: float, found: Any, places: Any
) -> int:
    """Nearest point of every edge within a radius, nearest first; how many there are.

    ``found`` (M,) takes the edges, ``places`` (M, 2) offset and distance; the M nearest are kept.
    """
    west, south, size = net.grid
    rows, columns = net.shape
    most = len(found)
    scratch.count[0] += 1
    run = scratch.count[0]
    kept = 0
    low = max(int((y - radius_m - south) // size), 0)
    high = min(int((y + radius_m - south) // size), rows - 1)
    left = max(int((x - radius_m - west) // size), 0)
    right = min(int((x + radius_m - west) // size), columns - 1)
    for row in range(low, high + 1):
        for column in range(left, right + 1):
            cell = row * columns + column
            for at in range(net.cell_start[cell], net.cell_start[cell + 1]):
                first = net.cell_segment[at]
                xa, ya = net.point_x_m[first], net.point_y_m[first]
                dx, dy = net.point_x_m[first + 1] - xa, net.point_y_m[first + 1] - ya
                square = dx * dx + dy * dy
                share = 0.0
                if square > 0.0:
                    share = min(max(((x - xa) * dx + (y - ya) * dy) / square, 0.0), 1.0)
                away = np.hypot(xa + share * dx - x, ya + share * dy - y)
                if away > radius_m:
                    continue
                edge = net.segment_edge[first]
                offset = net.point_along_m[first] + share * np.sqrt(square)
                if scratch.seen[edge] == run:
                    where = -1
                    for other in range(kept):
                        if found[other] == edge:
                            where = other
                    if where >= 0:
                        old = places[where, 1]
                        if away > old or (away == old and offset >= places[where, 0]):
                            continue
                        for other in range(where, kept - 1):
                            found[other] = found[other + 1]
                            places[other, 0] = places[other + 1, 0]
                            places[other, 1] = places[other + 1, 1]
                        kept -= 1
                scratch.seen[edge] = run
                if kept == most:
                    last = places[kept - 1, 1]
                    if away > last or (away == last and edge > found[kept - 1]):
                        continue
                    kept -= 1
                where = kept
                while where > 0 and (
                    places[where - 1, 1] > away
                    or (places[where - 1, 1] == away and found[where - 1] > edge)
                ):
                    found[where] = found[where - 1]
                    places[where, 0] = places[where - 1, 0]
                    places[where, 1] = places[where - 1, 1]
                    where -= 1
                found[where] = edge
                places[where, 0] = offset
                places[where, 1] = away
                kept += 1
    return kept
