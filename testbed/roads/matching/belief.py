"""What is known of a user at one fix, and how one fix follows from another."""

from dataclasses import dataclass, replace

import numpy as np

from testbed.roads.arrays import Floats, Ints
from testbed.roads.matching import kernels
from testbed.roads.matching.model import RoadModel

TINY = 1e-200
_NEGLIGIBLE = 1e-7


@dataclass(eq=False)
class Belief:
    """What is known at one fix.

    ``arrived`` holds the log probability of each step from the places of ``last`` to these.
    """

    time_s: float
    fix: tuple[float, float]
    at: Floats
    variance: float
    edge: Ints
    offset: Floats
    fit: Floats
    weight: Floats
    reason: str
    last: "Belief | None" = None
    arrived: Floats | None = None

    def away_m(self, other: "Belief") -> float:
        """Distance between both positions, metres."""
        return float(np.hypot(*(self.at - other.at)))


def steps_between(model: RoadModel, last: Belief, new: Belief) -> Floats | None:
    """Log probability of each step between two fixes' places, or ``None`` where none can be."""
    logs = np.empty((len(last.edge), len(new.edge)))
    possible = kernels.transitions(
        model.graph.net,
        model.graph.scratch,
        model.weights,
        (last.edge, last.offset),
        (new.edge, new.offset),
        last.weight > _NEGLIGIBLE,
        (new.away_m(last), new.time_s - last.time_s, last.variance + new.variance),
        logs,
    )
    return logs if possible else None


def filtered(model: RoadModel, last: Belief, new: Belief) -> Belief | None:
    """The new fix given the last, or ``None`` where no route leads to it."""
    logs = steps_between(model, last, new)
    if logs is None:
        return None
    temper = model.temper(new.variance)
    weight = last.weight @ np.exp(temper * logs)
    weight *= np.exp(temper * (new.fit - new.fit.max()))
    total = float(weight.sum())
    if total < TINY:
        return None
    return replace(new, weight=weight / total, last=last, arrived=logs)
