"""The likeliest way ahead: which sites serve one after another, and for how long each.

What `testbed.roads.short_coverage` says of a known way is here read from predictions, step by step.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from testbed.prediction.predictor import Candidate


@dataclass(frozen=True)
class Stay:
    """A site that is expected to serve, and how long.

    probability : that it comes at all. eta_s : seconds until it does. stay_s : seconds that it then
    does; infinite where nobody knows.
    """

    site: str
    probability: float
    eta_s: float
    stay_s: float = math.inf


def by_site(
    candidates: Sequence[Candidate], site_of: Callable[[str], str]
) -> tuple[Candidate, ...]:
    """Candidates for cells as candidates for the sites that serve them; of each step, best first.

    A site's probability is the sum of its cells', its time that of the likeliest of them.
    """
    found: dict[tuple[int, str], list[Candidate]] = {}
    for one in candidates:
        found.setdefault((one.step, site_of(one.site)), []).append(one)
    merged = [
        Candidate(
            site,
            min(1.0, sum(one.probability for one in several)),
            max(several, key=lambda one: one.probability).eta_s,
            step,
        )
        for (step, site), several in found.items()
    ]
    return tuple(sorted(merged, key=lambda one: (one.step, -one.probability)))


def stays_ahead(candidates: Sequence[Candidate], here: str, certainty: float) -> tuple[Stay, ...]:
    """The sites that come one after another, as far as they are likely enough.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of all steps.
    here : str
        The site that serves now; the first of those that come is another one.
    certainty : float
        Least probability with which a site counts, given that the one before it comes.
    """
    stays: list[Stay] = []
    last, sure = here, 1.0
    for step in sorted({one.step for one in candidates}):
        likely = [
            one
            for one in candidates
            if one.step == step and one.site != last and one.probability >= certainty * sure
        ]
        if not likely:
            continue
        best = max(likely, key=lambda one: one.probability)
        if stays:
            before = stays.pop()
            lasts_s = max(0.0, best.eta_s - before.eta_s)
            stays.append(Stay(before.site, before.probability, before.eta_s, lasts_s))
        stays.append(Stay(best.site, best.probability, best.eta_s))
        last, sure = best.site, best.probability
    return tuple(stays)


def settled(stays: Sequence[Stay], short_stay_s: float) -> tuple[Stay, ...]:
    """The stays without those too short for a migration."""
    return tuple(stay for stay in stays if stay.stay_s >= short_stay_s)
