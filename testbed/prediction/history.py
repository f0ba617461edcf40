"""Which sites users visited one after the other, and for how long: learnt, stored as a file."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from testbed.errors import ModelError

_KIND = "site history"
_SEPARATOR = " > "

Visit = tuple[str, float]
"""A site and how long it served, seconds."""


@dataclass(frozen=True)
class SiteHistory:
    """Counts of sequences of sites, and logarithms of the times spent in them.

    Attributes
    ----------
    order : int
        Longest context: so many sites before the next one.
    counts : mapping of tuple of str to int
        How often each sequence of two to ``order + 1`` sites was seen.
    dwell : mapping of str to (int, float, float)
        For each site: visits, and sum and sum of squares of the logarithm of their seconds.
    """

    order: int = 2
    counts: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    dwell: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)

    @classmethod
    def fit(cls, journeys: Iterable[Sequence[Visit]], order: int = 2) -> "SiteHistory":
        """Learn from journeys, each the visits of one user in their order.

        The first and the last visit of a journey tell no time: they are cut off.
        """
        counts: Counter[tuple[str, ...]] = Counter()
        dwell: dict[str, tuple[int, float, float]] = {}
        for journey in journeys:
            sites = [site for site, _ in journey]
            for length in range(2, order + 2):
                for begin in range(len(sites) - length + 1):
                    counts[tuple(sites[begin : begin + length])] += 1
            for site, stayed_s in journey[1:-1]:
                n, total, squares = dwell.get(site, (0, 0.0, 0.0))
                logarithm = math.log(max(stayed_s, 1.0))
                dwell[site] = (n + 1, total + logarithm, squares + logarithm**2)
        return cls(order, dict(counts), dwell)

    @cached_property
    def following(self) -> dict[tuple[str, ...], dict[str, int]]:
        """After each context, how often which site came."""
        found: dict[tuple[str, ...], dict[str, int]] = {}
        for sequence, count in self.counts.items():
            found.setdefault(sequence[:-1], {})[sequence[-1]] = count
        return found

    def stay(self, site: str, prior_s: float, prior_spread: float) -> tuple[float, float]:
        """Median seconds of a visit, and the spread of their logarithm.

        Parameters
        ----------
        site : str
            The site.
        prior_s, prior_spread : float
            What is assumed where nothing was seen; counts as much as four visits to any site.
        """
        n, total, squares = (sum(column) for column in zip(*self.dwell.values(), strict=True)) if (
            self.dwell
        ) else (0, 0.0, 0.0)  # fmt: skip
        mean, variance = _blended((n, total, squares), math.log(prior_s), (1.8 * prior_spread) ** 2)
        mean, variance = _blended(self.dwell.get(site, (0, 0.0, 0.0)), mean, variance)
        return math.exp(mean), max(0.1, math.sqrt(variance) / 1.8)

    def to_json(self) -> str:
        """As text, to be stored in a file."""
        return json.dumps(
            {
                "kind": _KIND,
                "order": self.order,
                "counts": {_SEPARATOR.join(k): n for k, n in sorted(self.counts.items())},
                "dwell": {site: list(v) for site, v in sorted(self.dwell.items())},
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "SiteHistory":
        """What `to_json` wrote.

        Raises
        ------
        ModelError
            If it is something else.
        """
        try:
            stored = json.loads(text)
            kind = stored["kind"]
            model = cls(
                int(stored["order"]),
                {tuple(k.split(_SEPARATOR)): int(n) for k, n in stored["counts"].items()},
                {s: (int(n), float(a), float(b)) for s, (n, a, b) in stored["dwell"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"not a site history ({error!r}); SiteHistory.to_json writes them"
            ) from error
        if kind != _KIND:
            raise ModelError(f"this file holds {kind!r}, not {_KIND!r}")
        return model


NOTHING_LEARNT = SiteHistory()
_PRIOR_VISITS = 4.0


def _blended(seen: tuple[int, float, float], mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of logarithms, with some prior visits of the given ones."""
    n, total, squares = seen
    count = n + _PRIOR_VISITS
    new_mean = (total + _PRIOR_VISITS * mean) / count
    second = (squares + _PRIOR_VISITS * (variance + mean**2)) / count
    return new_mean, max(1e-3, second - new_mean**2)
