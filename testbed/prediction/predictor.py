"""The one interface of all predictors: a state of movement in, candidate sites out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from testbed import plugins
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
        That it is the ``step``-th other site from now, entered within the horizon, 0 to 1.
    eta_s : float
        Seconds until then, if it is (median).
    step : int
        1 for the next other site, 2 for the one after it...
    """

    site: str
    probability: float
    eta_s: float
    step: int = 1


@dataclass(frozen=True)
class MovementState:
    """What is known of one user's movement; `testbed.prediction.states` gathers it.

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
        Mean speed while moving in the last two minutes, metres per second; ``nan`` where not known.
        Tells a car that waits, though it be a red light long, from one that parks.
    smooth_mps : float
        Speed over the last seconds, metres per second; ``nan`` where not known.
    progress_mps : float
        Speed over the last minute, stops included, metres per second; ``nan`` where not known.
    heading_deg : float
        Direction of the last metres, degrees clockwise from north; ``nan`` where not known.
    fixes : tuple of (float, float, float)
        Recent fixes, the latest last: time in seconds, x and y in metres on the map's plane.
    recent_sites : tuple of (str, float)
        Sites that served of late and since when, seconds; the serving one last.
    recent_rssi : tuple of (float, mapping of str to float)
        Time in seconds, and the strength of each base station heard then, dBm; the latest last.
    """

    user: str
    edge: int
    offset_m: float
    speed_mps: float
    match_probability: float = 1.0
    serving_site: str = ""
    recent_edges: tuple[int, ...] = ()
    cruise_mps: float = NAN
    smooth_mps: float = NAN
    progress_mps: float = NAN
    heading_deg: float = NAN
    fixes: tuple[tuple[float, float, float], ...] = ()
    recent_sites: tuple[tuple[str, float], ...] = ()
    recent_rssi: tuple[tuple[float, Mapping[str, float]], ...] = ()


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
    return plugins.installed(GROUP)


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
    lacking = f"prediction.predictor: there is no predictor {name!r}"
    factory: Callable[..., Predictor] = plugins.load(GROUP, name, lacking)
    return factory(roads=roads, cells=cells, coverage=coverage, horizon_s=horizon_s)
