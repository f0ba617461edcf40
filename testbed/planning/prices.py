"""Which choices can be in a best plan at all: bounds from the prices of what is scarce.

With a price on each scarce resource and each crowded base station, every user looks after itself:
it takes what is worth most after paying. What all users get then, and the worth of all there is at
these prices, is a bound on the profit that no plan exceeds, whatever the prices are (Lagrange;
Geoffrion 1974). If a user takes another choice, the bound falls by what it gives up; where it
falls below a plan that is known already, that choice is in no better plan.
"""

from dataclasses import dataclass

import numpy as np

from testbed.planning.choices import Choices
from testbed.roads.arrays import Bools, Floats


@dataclass(frozen=True, eq=False)
class Priced:
    """Choices under prices.

    Attributes
    ----------
    choices : Choices
        At least one for every user.
    bound_s : float
        What no plan's profit exceeds, seconds.
    given_up_s : numpy.ndarray, shape (N,)
        What each choice is worth below its user's best, after paying, seconds.
    """

    choices: Choices
    bound_s: float
    given_up_s: Floats

    def promising(self, per_user: int) -> Bools:
        """So many choices for each user, on average: those that give up least."""
        wanted = per_user * len(self.choices.fleet.users)
        if wanted >= len(self.choices):
            return np.ones(len(self.choices), dtype=bool)
        limit_s = np.partition(self.given_up_s, wanted)[wanted]
        return np.asarray(self.given_up_s <= limit_s)

    def needed(self, known_s: float) -> Bools:
        """The choices that a plan better than a known profit, in seconds, may have."""
        return np.asarray(self.bound_s - self.given_up_s > known_s)


def price(choices: Choices, resources: Floats, stations: Floats) -> Priced:
    """What choices are worth under prices.

    Parameters
    ----------
    choices : Choices
        At least one for every user.
    resources : numpy.ndarray, shape (S, R)
        Price of one unit of each resource of each server, seconds; 0 or more, and 0 where it cannot
        run out.
    stations : numpy.ndarray, shape (B,)
        Price of a place at each base station, seconds; the same holds.
    """
    paid_s = (choices.needs[choices.user] * resources[choices.server]).sum(axis=1)
    worth_s = choices.profit_s - paid_s - stations[choices.base_station]
    starts = np.flatnonzero(np.diff(choices.user, prepend=-1))
    best_s = np.maximum.reduceat(worth_s, starts)
    most = np.array([station.users_at_most for station in choices.fleet.base_stations])
    stock = resources[resources > 0] @ choices.capacity[resources > 0] + stations @ most
    given_up_s = np.repeat(best_s, np.diff(starts, append=len(choices))) - worth_s
    return Priced(choices, float(best_s.sum() + stock), given_up_s)
