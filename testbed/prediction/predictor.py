"""The one interface of all predictors: a state of movement in, candidate sites out."""

import difflib
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from testbed.errors import ScenarioError
from testbed.roads.cells import Cells
from testbed.roads.coverage import Coverage
from testbed.roads.network import RoadMap

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "testbed.predictors"
NAN = float("nan")


@dataclass(frozen=True)
class Candidate:
    """A site that may come next.

    Attributes
    ----------
    site : str
        The site.
    probability : float
        That it is the next other site entered within the horizon, 0 to 1.
    eta_s : float
        Expected seconds until then, if it is.
    """

    site: str
    probability: float
    eta_s: float


@dataclass(frozen=True)
class MovementState:
    """What is known of one user's movement.

    Attributes
    ----------
    user : str
        The user's name.
    edge : int
        Edge of the road map, -1 where the user is not on a road.
    offset_m : float
        Metres from the edge's tail.
    speed_mps : float
        Speed now, metres per second.
    match_probability : float
        How sure edge and direction are, 0 to 1.
    serving_site : str
        Where the user is connected now; empty means the site of the cell it is in.
    recent_edges : tuple of int
        Edges driven before, the latest last.
    cruise_mps : float
        Mean speed while moving of late, metres per second; ``nan`` where not known. Tells a car
        that waits from one that parks.
    """

    user: str
    edge: int
    offset_m: float
    speed_mps: float
    match_probability: float = 1.0
    serving_site: str = ""
    recent_edges: tuple[int, ...] = ()
    cruise_mps: float = NAN


class Predictor(Protocol):
    """Says which site comes next.

    A predictor is pure: the same state gives the same candidates. It is made by calling its entry
    point with the keywords ``roads``, ``cells``, ``coverage`` and ``horizon_s``.
    """

    def predict(self, state: MovementState) -> list[Candidate]:
        """Candidates for the next other site, best first; probabilities sum to at most 1."""
        ...


def predictor_names() -> list[str]:
    """Names of all installed predictors, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def make_predictor(
    name: str, *, roads: RoadMap, cells: Cells, coverage: Coverage, horizon_s: float
) -> Predictor:
    """Make the predictor that a scenario names.

    Parameters
    ----------
    name : str
        An entry point of the group ``testbed.predictors``.
    roads, cells, coverage
        The map, its base stations, and which of them covers what.
    horizon_s : float
        How far to look ahead, seconds.

    Raises
    ------
    ScenarioError
        If no predictor has that name.
    """
    for point in entry_points(group=GROUP):
        if point.name == name:
            factory: Callable[..., Predictor] = point.load()
            return factory(roads=roads, cells=cells, coverage=coverage, horizon_s=horizon_s)
    known = predictor_names()
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}"
    raise ScenarioError(
        f"prediction.predictor: there is no predictor {name!r}; {hint}. Your own enters through "
        f"the entry-point group {GROUP!r}"
    )
