"""What a predictor's probabilities turned out to mean, per horizon (Platt's scaling)."""

import math
from dataclasses import dataclass

_LEAST = 1e-6


@dataclass(frozen=True)
class Calibration:
    """A logistic correction of probabilities at some horizons; between them it is interpolated.

    Attributes
    ----------
    horizons_s : tuple of float
        Ascending, seconds; empty leaves everything as it is.
    shift, slope : tuple of float
        At each horizon: the log odds ``x`` become ``shift + slope x``.
    """

    horizons_s: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()
    slope: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is not one correction per horizon.

        Raises
        ------
        ValueError
            If the three differ in length, the horizons do not grow or a slope is not positive.
        """
        if not len(self.horizons_s) == len(self.shift) == len(self.slope):
            raise ValueError(
                f"a calibration for {len(self.horizons_s)} horizons with {len(self.shift)} shifts "
                f"and {len(self.slope)} slopes; give one of each per horizon"
            )
        if list(self.horizons_s) != sorted(set(self.horizons_s)) or min(self.slope, default=1) <= 0:
            raise ValueError("a calibration's horizons must grow and its slopes be positive")

    def at(self, horizon_s: float) -> tuple[float, float]:
        """Shift and slope at a horizon."""
        known = self.horizons_s
        if not known:
            return 0.0, 1.0
        last = len(known) - 1
        right = next((i for i, other in enumerate(known) if other >= horizon_s), last)
        left = max(0, right - 1) if known[right] > horizon_s else right
        if left == right:
            return self.shift[right], self.slope[right]
        share = math.log(horizon_s / known[left]) / math.log(known[right] / known[left])
        return (
            (1 - share) * self.shift[left] + share * self.shift[right],
            (1 - share) * self.slope[left] + share * self.slope[right],
        )

    def apply(self, probabilities: list[float], horizon_s: float) -> list[float]:
        """Corrected probabilities of sites that exclude one another; they sum to at most 1."""
        if self.horizons_s:
            shift, slope = self.at(horizon_s)
            probabilities = [_corrected(p, shift, slope) for p in probabilities]
        total = sum(probabilities)
        return [p / total for p in probabilities] if total > 1 else probabilities


def _corrected(probability: float, shift: float, slope: float) -> float:
    if probability <= 0:
        return 0.0
    bounded = min(max(probability, _LEAST), 1 - _LEAST)
    odds = math.exp(shift + slope * math.log(bounded / (1 - bounded)))
    return odds / (1 + odds)


UNCHANGED = Calibration()
