"""Our own matcher as the benchmark runs it: offline for the answers, and both for the clock."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from matching_measure import NO_EDGE, Answer, Part
from matching_truth import Fixes

from testbed.roads.arrays import Floats
from testbed.roads.matching.model import RoadModel
from testbed.roads.matching.offline import MatchedTrace, match_trace
from testbed.roads.matching.online import OnlineMatcher
from testbed.roads.network import RoadMap

REACH_SIGMAS = 4.0


def model_for(roads: RoadMap, noise_m: float | None) -> RoadModel:
    """The model for a noise that is told, or as it comes out of the box."""
    usual = RoadModel(roads)
    if noise_m is None:
        return usual
    return RoadModel(roads, sigma_m=noise_m, radius_m=max(usual.radius_m, REACH_SIGMAS * noise_m))


def matcher(roads: RoadMap, *, told: bool) -> Callable[[Fixes, float], Answer]:
    """Our offline matcher; one model for each noise, so that it may remember routes."""
    models: dict[float | None, RoadModel] = {}

    def match(fixes: Fixes, noise_m: float) -> Answer:
        known = noise_m if told else None
        if known not in models:
            models[known] = model_for(roads, known)
        trace = frame(fixes)
        began_s = time.process_time()
        matched = match_trace(roads, trace, model=models[known])
        return as_answer(matched, time.process_time() - began_s)

    return match


def as_answer(matched: MatchedTrace, cpu_s: float) -> Answer:
    """Routes with the fixes at their ends; a new part begins at a matched fix with a reason."""
    edge = np.array([fix.edge for fix in matched.fixes])
    on = np.flatnonzero(edge >= 0)
    begins = [int(i) for i in on if i == on[0] or matched.fixes[i].reason]
    if len(begins) != len(matched.routes):
        raise AssertionError(
            f"{len(matched.routes)} routes, but {len(begins)} fixes at which one begins"
        )
    ends = [int(on[on < begin][-1]) for begin in begins[1:]] + [int(i) for i in on[-1:]]
    parts = tuple(
        Part(route, first, last)
        for route, first, last in zip(matched.routes, begins, ends, strict=True)
    )
    return Answer(parts, edge, cpu_s)


def follow(roads: RoadMap, fixes: Fixes, model: RoadModel) -> tuple[np.ndarray, Floats]:
    """Edges that the online matcher gives fix by fix, and the seconds each fix took."""
    online = OnlineMatcher(roads, model=model)
    edge, took_s = np.full(len(fixes.time_s), NO_EDGE), np.zeros(len(fixes.time_s))
    rows = zip(fixes.time_s.tolist(), fixes.lat_deg.tolist(), fixes.lon_deg.tolist(), strict=True)
    for number, row in enumerate(rows):
        began_s = time.perf_counter()
        edge[number] = online.update(*row).edge
        took_s[number] = time.perf_counter() - began_s
    return edge, took_s


def points_per_s(roads: RoadMap, traces: Sequence[Fixes], noise_m: float) -> float:
    """Fixes matched offline in a second of one core's time; the first trace is a warm-up."""
    match = matcher(roads, told=True)
    with one_core():
        match(traces[0], noise_m)
        spent_s = sum(match(fixes, noise_m).cpu_s for fixes in traces[1:])
    return sum(len(fixes.time_s) for fixes in traces[1:]) / spent_s


@contextmanager
def one_core() -> Iterator[None]:
    """Only one core for this process while it lasts, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def frame(fixes: Fixes) -> pd.DataFrame:
    """The fixes as `match_trace` takes them."""
    return pd.DataFrame(
        {"time_s": fixes.time_s, "lat_deg": fixes.lat_deg, "lon_deg": fixes.lon_deg}
    )
