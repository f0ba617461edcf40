"""Made drives over the grid, and a matcher that follows them."""

import numpy as np
import pandas as pd

ROUTE = ["0-1", "1-101", "101-201", "201-202", "202-203", "203-303"]


def drive(grid, edge_named, *, speed_mps=10.0, noise_m=0.0, seed=1, route=ROUTE, step_s=1.0):
    """A trace along grid edges with Gaussian noise, and the true edge of each fix."""
    edges = [edge_named(name) for name in route]
    ends = np.cumsum(grid.length_m[edges])
    time = np.arange(0.0, (ends[-1] - 40.0) / speed_mps, step_s)  # 20 m off the first and last node
    along = 20.0 + time * speed_mps
    which = np.searchsorted(ends, along, side="right")
    true = np.array(edges)[which]
    offset = along - np.concatenate(([0.0], ends))[which]
    x, y = grid.positions(true, offset)
    noise = np.random.default_rng(seed).normal(scale=noise_m, size=(2, len(time)))
    lat, lon = grid.projection.to_latlon(x + noise[0], y + noise[1])
    return pd.DataFrame({"time_s": time, "lat_deg": lat, "lon_deg": lon}), true


def follow(matcher, trace):
    return [
        matcher.update(row.time_s, row.lat_deg, row.lon_deg)
        for row in trace.itertuples(index=False)
    ]
