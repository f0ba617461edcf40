"""What a peer's worker does whichever peer it is; runs in the peers' own environment.

It reads ``network.npz``, ``fixes.npz`` and its own jobs (drive, case and setting) from its folder,
matches them in order and writes a line of JSON for each to standard output. A trace that takes too
long is given up.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Found: TypeAlias = tuple[list[tuple[list[int], int, int]], list[int]]
"""Unbroken parts (edges, first and last fix), and the edge of each fix (-1 for none)."""
Match: TypeAlias = Callable[[Any, float, str], Found]
TIMED_OUT = "took too long"


@dataclass(frozen=True)
class Network:
    """The benchmark's road map as plain arrays; see `testbed.roads.network.RoadMap`."""

    tail: Any
    head: Any
    limit_mps: Any
    length_m: Any
    point_start: Any
    point_x_m: Any
    point_y_m: Any
    node_x_m: Any
    node_y_m: Any
    opposite: Any

    def line(self, edge: int) -> Any:
        """Polyline of an edge, shape (points, 2), metres."""
        here = slice(int(self.point_start[edge]), int(self.point_start[edge + 1]))
        return np.column_stack((self.point_x_m[here], self.point_y_m[here]))


class TooLongError(Exception):
    """The time for one trace is over."""


def _ring(_number: int, _frame: Any) -> None:
    raise TooLongError


def work(make: Callable[[Network], Match]) -> None:
    """Serve one folder: ``WORKER FOLDER JOBS BUDGET_S TRACE_LIMIT_S CORE``.

    The budget is wall time for matching; a drive that is begun is finished in every case.
    """
    folder, budget_s, limit_s = Path(sys.argv[1]), float(sys.argv[3]), float(sys.argv[4])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[5])})
    with np.load(folder / "network.npz") as stored:
        match = make(Network(**{name: stored[name] for name in stored.files}))
    with np.load(folder / "fixes.npz") as stored:
        traces = {name: stored[name] for name in stored.files}
    signal.signal(signal.SIGPROF, _ring)
    jobs = json.loads((folder / sys.argv[2]).read_text("utf-8"))
    number, step_s, noise_m, setting = jobs[0]
    _one(match, traces[f"{number}|{step_s}|{noise_m}"][:120], (noise_m, setting), limit_s)
    began_s, drive = time.monotonic(), number
    for number, step_s, noise_m, setting in jobs:
        if number != drive and time.monotonic() - began_s > budget_s:
            break
        drive = number
        trace = traces[f"{number}|{step_s}|{noise_m}"]
        found = _one(match, trace, (noise_m, setting), limit_s)
        row = {"number": number, "step_s": step_s, "noise_m": noise_m, "setting": setting}
        print(json.dumps(row | found), flush=True)


def _one(match: Match, fixes: Any, told: tuple[float, str], limit_s: float) -> dict[str, Any]:
    """One trace with (noise, setting): what was found, the time it took and what went wrong."""
    parts: list[tuple[list[int], int, int]] = []
    edges, failure = [-1] * len(fixes), ""
    began_s = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        parts, edges = match(fixes, *told)
    except TooLongError:
        failure = TIMED_OUT
    except Exception as error:  # noqa: BLE001 - whatever a peer fails with is its answer
        failure = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {
        "parts": parts,
        "fix_edge": edges,
        "cpu_s": time.process_time() - began_s,
        "failure": failure,
    }
