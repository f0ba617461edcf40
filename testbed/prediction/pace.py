"""When a user has come so far: a distribution from its speed now, of late, and while moving.

The way driven until time ``t`` is taken as ``later t + (now - later) relax (1 - exp(-t / relax))``:
the speed now fades into the usual one. The time for a distance is its inverse, and is uncertain
by a log-logistic factor, which stands for junctions, lights, stops and moods.
"""

import math
from dataclasses import dataclass

import numpy as np

from testbed.prediction.compiled import median_times
from testbed.prediction.predictor import MovementState
from testbed.roads.arrays import Floats


@dataclass(frozen=True)
class Pace:
    """How travel time follows from speeds.

    The defaults are the likeliest ones for how far GeoLife's training users (see
    `testbed.prediction.turns.TurnWeights`) came in 5 to 60 s; the spread is the likeliest one for
    which sites they and the SUMO trips came to, and when.

    Attributes
    ----------
    relax_s : float
        Time in which the speed now is forgotten, seconds.
    moving : float
        Weight of the mean speed while moving beside that of the last minute with its stops.
    slowest_mps : float
        A standing user is assumed to move on at this speed at least, metres per second.
    delay : float
        Median time over that of the undisturbed way.
    trigger_s : float
        For about so long the radio waits before it hands over, seconds.
    waiting : float
        Share of the time between fixes that passes until one shows it.
    blur_s : float
        What times are uncertain by however near a border is, seconds.
    spread : float
        Scale of the logarithm of time (log-logistic).
    """

    relax_s: float = 23.4
    moving: float = 0.55
    slowest_mps: float = 1.7
    delay: float = 1.06
    trigger_s: float = 0.8
    waiting: float = 0.75
    blur_s: float = 2.0
    spread: float = 0.36

    def speeds(self, state: MovementState) -> tuple[float, float]:
        """Speed now and later on, metres per second."""
        now = state.speed_mps if math.isnan(state.smooth_mps) else state.smooth_mps
        cruise = now if math.isnan(state.cruise_mps) else state.cruise_mps
        progress = cruise if math.isnan(state.progress_mps) else state.progress_mps
        later = max(self.slowest_mps, self.moving * cruise + (1 - self.moving) * progress)
        return min(now, _FASTEST_NOW * later), later

    def lag_s(self, state: MovementState) -> float:
        """Mean time until the radio has noticed and handed over, by how often there are fixes."""
        latest = state.fixes[-_INTERVALS - 1 :]
        if len(latest) < 2:  # noqa: PLR2004 - an interval has two ends
            return self.trigger_s
        interval_s = (latest[-1][0] - latest[0][0]) / (len(latest) - 1)
        return self.trigger_s + self.waiting * interval_s

    def way_m(self, now_mps: float, later_mps: float, time_s: float) -> float:
        """Median way until a time, metres."""
        undisturbed_s = time_s / self.delay
        faded_s = self.relax_s * (1 - math.exp(-undisturbed_s / self.relax_s))
        return later_mps * undisturbed_s + (now_mps - later_mps) * faded_s

    def times_s(self, way_m: Floats, state: MovementState) -> Floats:
        """Median time for each distance, seconds."""
        now_mps, later_mps = self.speeds(state)
        flat = np.ravel(np.asarray(way_m, dtype=np.float64)).copy()
        median_times(flat, now_mps, later_mps, self.relax_s, self.delay)
        return flat.reshape(np.shape(way_m))


_FASTEST_NOW = 3.0
_INTERVALS = 5
PACE = Pace()
