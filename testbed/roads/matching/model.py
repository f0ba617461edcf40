"""The hidden-Markov model behind map matching (Newson and Krumm 2009, section 3).

Hidden state: which edge, and where on it. A fix lies a Gaussian distance off its road; between two
fixes the driven distance differs from the straight one by an exponentially distributed amount.
Beyond the paper: turns, turning round and slow roads cost something, and a drive faster than the
limits allow is unlikely.
"""

from dataclasses import dataclass
from functools import cached_property

from testbed.roads.matching.compiled import Weights
from testbed.roads.matching.graph import U_TURN, RoadGraph, graph_of
from testbed.roads.network import RoadMap


@dataclass(frozen=True, eq=False)
class RoadModel:
    """Emission and transition of the hidden-Markov model on one map.

    Attributes
    ----------
    roads : RoadMap
        The map.
    sigma_m : float, optional
        Standard deviation of a fix's noise on each axis, metres; ``None`` estimates it from the
        trace itself.
    radius_m : float
        How far from a fix roads are considered at least, metres; farther where the noise is more.
    map_error_m : float
        What the map's lines are off the lanes that one drives on, metres.
    beta_m, beta_sigmas, beta_share : float
        The mean difference of driven and straight distance between fixes is ``beta_m`` metres,
        and ``beta_sigmas`` times the fixes' noise, and ``beta_share`` of the straight distance.
    step_sigmas, least_step_m : float
        Fixes count in the search when the user moved so many standard deviations, and metres.
    unrest : float
        Spectral density of the user's acceleration, m²/s³: how far noise may be smoothed out.
    top_speed_mps : float
        Nobody drives faster than this.
    haste : float
        What it costs to be as late again as the limits allow, as a negative log probability.
    slack_betas : float
        Routes are searched up to the straight distance and so many times its ``beta``.
    radius_sigmas : float
        Roads are considered up to so many standard deviations from a fix.
    end_cost : float
        What it costs a fix to lie beyond a road's end, as a negative log probability: at most
        half of a Gaussian along the road lies on a road that ends there, so about ``log(2)``.
    most_candidates : int
        Edges considered per fix.
    longest_gap_s : float
        After so long without a fix nothing is known any more, seconds.
    alike_m : float
        Where more uncertainty than this is left of a fix, the errors of fixes in a row are alike,
        and each counts less in probabilities, metres.
    """

    roads: RoadMap
    sigma_m: float | None = None
    radius_m: float = 50.0
    map_error_m: float = 4.0
    beta_m: float = 4.0
    beta_sigmas: float = 0.75
    beta_share: float = 0.1
    step_sigmas: float = 3.0
    least_step_m: float = 15.0
    unrest: float = 4.0
    top_speed_mps: float = 60.0
    haste: float = 20.0
    slack_betas: float = 14.0
    radius_sigmas: float = 4.0
    end_cost: float = 0.7
    most_candidates: int = 32
    longest_gap_s: float = 300.0
    alike_m: float = 6.0

    def temper(self, variance: float) -> float:
        """Weight of one fix's evidence in probabilities, 0 to 1.

        The exponent is fitted to drives with known truth (the reliability of ``probability``).
        """
        return float(min(1.0, (self.alike_m / variance**0.5) ** _ALIKE_POWER))

    @property
    def graph(self) -> RoadGraph:
        """The map as the kernels read it."""
        return graph_of(self.roads)

    @cached_property
    def weights(self) -> Weights:
        """The transition's parameters as the kernels read them."""
        return Weights(
            beta_m=self.beta_m,
            beta_sigmas=self.beta_sigmas,
            beta_share=self.beta_share,
            slack_betas=self.slack_betas,
            top_speed_mps=self.top_speed_mps,
            u_turn=U_TURN,
            haste=self.haste,
        )


_ALIKE_POWER = 0.35
