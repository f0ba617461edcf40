"""What the compiled inner loops of map matching share: the decorator, and the arrays they read.

The loops know of flat arrays only, not of traces or tables. Each runs in a fixed order with ties
broken by edge index, so results are repeatable bit by bit. Compiled code is kept on disk beside
the modules (or where ``NUMBA_CACHE_DIR`` says).
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from numba import njit

LOOPS = ("chain", "compiled", "kernels", "nearby", "placing", "smoothing")
Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(function: Loop) -> Loop:
    """Compile a function when it is first called, and keep what was compiled on disk."""
    made: Any = njit(cache=True)(function)
    # numba compares the time stamp of the function's own file only, but compiles what the function
    # calls into it: a change in another of these files would go unnoticed.
    made._cache._cache_file._source_stamp = _source()  # noqa: SLF001
    return cast("Loop", made)


@cache
def _source() -> str:
    """Digest of all files with compiled loops."""
    digest = hashlib.sha256()
    for name in LOOPS:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


class Net(NamedTuple):
    """The road map as the kernels read it (E edges, S pairs of followers, P polyline points).

    ``ratio`` is what a metre of an edge counts in a search for routes; ``turn`` is what driving
    from an edge into its follower costs, as a negative log probability. ``grid_*`` and ``cell_*``
    are a square grid over the plane with the segments (by first point) that touch each cell.
    """

    length_m: Any
    ratio: Any
    free_s: Any
    opposite: Any
    follower_start: Any
    follower: Any
    turn: Any
    point_x_m: Any
    point_y_m: Any
    point_along_m: Any
    point_start: Any
    segment_edge: Any
    cell_start: Any
    cell_segment: Any
    grid: Any
    shape: Any


class Scratch(NamedTuple):
    """Memory of the searches; ``count`` stamps what belongs to the search that runs."""

    count: Any
    seen: Any
    done: Any
    wanted: Any
    cost_m: Any
    driven_m: Any
    free_s: Any
    liked_m: Any
    before: Any
    heap_cost: Any
    heap_edge: Any


class Weights(NamedTuple):
    """Parameters of the transition (see `testbed.roads.matching.model.RoadModel`)."""

    beta_m: float
    beta_sigmas: float
    beta_share: float
    slack_betas: float
    top_speed_mps: float
    u_turn: float
    haste: float
