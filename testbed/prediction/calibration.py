"""What a predictor's probabilities turned out to mean, per horizon (beta calibration)."""

import math
from dataclasses import dataclass

_LEAST = 1e-6


@dataclass(frozen=True)
class Calibration:
    """A monotone correction of probabilities at some horizons; between them it is interpolated.

    Attributes
    ----------
    horizons_s : tuple of float
        Ascending, seconds; empty leaves everything as it is.
    shift, rise, fall : tuple of float
        At each horizon: the log odds become ``shift + rise ln p - fall ln(1 - p)`` (Kull, Silva
        Filho and Flach 2017, beta calibration, equation 4). Equal ``rise`` and ``fall`` are
        Platt's scaling; different ones correct the unlikely otherwise than the nearly sure.
    """

    horizons_s: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()
    rise: tuple[float, ...] = ()
    fall: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is not one correction per horizon.

        Raises
        ------
        ValueError
            If they differ in length, the horizons do not grow or a rise or fall is not positive.
        """
        given = {len(self.horizons_s), len(self.shift), len(self.rise), len(self.fall)}
        if len(given) != 1:
            raise ValueError(
                f"a calibration for {len(self.horizons_s)} horizons with {len(self.shift)} shifts, "
                f"{len(self.rise)} rises and {len(self.fall)} falls; give one of each per horizon"
            )
        if list(self.horizons_s) != sorted(set(self.horizons_s)) or (
            min(self.rise + self.fall, default=1) <= 0
        ):
            raise ValueError("a calibration's horizons must grow, its rise and fall be positive")

    def at(self, horizon_s: float) -> tuple[float, float, float]:
        """Shift, rise and fall at a horizon."""
        known = self.horizons_s
        if not known:
            return 0.0, 1.0, 1.0
        last = len(known) - 1
        right = next((i for i, other in enumerate(known) if other >= horizon_s), last)
        left = max(0, right - 1) if known[right] > horizon_s else right
        share = 1.0
        if left != right:
            share = math.log(horizon_s / known[left]) / math.log(known[right] / known[left])
        shift, rise, fall = (
            (1 - share) * values[left] + share * values[right]
            for values in (self.shift, self.rise, self.fall)
        )
        return shift, rise, fall

    def apply(self, probabilities: list[float], horizon_s: float) -> list[float]:
        """Corrected probabilities of sites that exclude one another; they sum to at most 1."""
        if self.horizons_s:
            curve = self.at(horizon_s)
            probabilities = [_corrected(p, *curve) for p in probabilities]
        total = sum(probabilities)
        return [p / total for p in probabilities] if total > 1 else probabilities


def _corrected(probability: float, shift: float, rise: float, fall: float) -> float:
    if probability <= 0:
        return 0.0
    bounded = min(max(probability, _LEAST), 1 - _LEAST)
    odds = math.exp(shift + rise * math.log(bounded) - fall * math.log(1 - bounded))
    return odds / (1 + odds)


UNCHANGED = Calibration()
