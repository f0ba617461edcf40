"""The grounds that are measured on: a map, known drives over it, and twelve ways to sense them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from matching_measure import Answer, Part, Wrong, judge
from matching_truth import LONG_M, SHORT_M, Fixes, Truth, made_drives, receive, sumo_drives

from testbed.roads.load import BERLIN, load_road_map
from testbed.roads.network import RoadMap
from testbed.roads.sources.sumonet import berlin_net

STEPS_S = (1, 10, 30, 60)
NOISES_M = (5.0, 10.0, 30.0)
BEIJING_FILE = "osm/beijing-central-2013.osm.pbf"


@dataclass(frozen=True)
class Case:
    """How a drive is sensed: one fix in ``step_s``, Gaussian noise of ``noise_m`` on each axis."""

    step_s: int
    noise_m: float

    @property
    def name(self) -> str:
        """Both in words."""
        return f"{self.step_s} s, {self.noise_m:g} m"


CASES = tuple(Case(step_s, noise_m) for step_s in STEPS_S for noise_m in NOISES_M)


@dataclass(frozen=True)
class Judged:
    """One answer, judged with directions and without.

    cpu_s : what it took. failure : why there is none, else empty.
    """

    directed: Wrong
    undirected: Wrong
    cpu_s: float
    failure: str = ""


Results = dict[Case, list[Judged]]


@dataclass(frozen=True, eq=False)
class Ground:
    """A map and the drives over it.

    Attributes
    ----------
    name : str
        What the rows call it.
    roads : RoadMap
        The map.
    drives : tuple of Truth
        What was really driven.
    seed : int
        Decides the noise.
    """

    name: str
    roads: RoadMap
    drives: tuple[Truth, ...]
    seed: int

    @cached_property
    def length_m(self) -> float:
        """Metres driven in all."""
        return float(sum(self.roads.length_m[drive.route].sum() for drive in self.drives))

    def fixes(self, number: int, case: Case) -> Fixes:
        """What the receiver tells about one of the drives."""
        drive = self.drives[number]
        return receive(self.roads, drive, case.step_s, case.noise_m, self.seed * 100_003 + number)

    def judge(self, number: int, case: Case, answer: Answer) -> Judged:
        """How wrong an answer is."""
        truth = self.drives[number].sampled(case.step_s)
        directed, undirected = judge(self.roads, truth, self.fixes(number, case), answer)
        return Judged(directed, undirected, answer.cpu_s, answer.failure)

    def perfect(self, done: Callable[[], object] = lambda: None) -> Results:
        """The driven routes themselves as answers: nobody can be better than that."""
        results: Results = {case: [] for case in CASES}
        for case, found in results.items():
            for number, drive in enumerate(self.drives):
                truth = drive.sampled(case.step_s)
                driven = tuple(truth.route[truth.leg[0] : truth.leg[-1] + 1].tolist())
                part = Part(driven, 0, len(truth.time_s) - 1)
                found.append(self.judge(number, case, Answer((part,), truth.right_edges()[0], 0.0)))
                done()
        return results

    def run(
        self,
        match: Callable[[Fixes, float], Answer],
        done: Callable[[], object] = lambda: None,
    ) -> Results:
        """Every drive in every case through one matcher."""
        results: Results = {case: [] for case in CASES}
        for case, found in results.items():
            for number in range(len(self.drives)):
                answer = match(self.fixes(number, case), case.noise_m)
                found.append(self.judge(number, case, answer))
                done()
        return results


def data_paths() -> tuple[Path, ...]:
    """Folders with maps: ``TESTBED_DATA``, else ``shared/data`` beside the checkout."""
    named = [Path(p) for p in os.environ.get("TESTBED_DATA", "").split(os.pathsep) if p]
    return tuple(named) or (Path(__file__).resolve().parents[2] / "shared" / "data",)


def beijing(
    count: int, seed: int, cache: Path, done: Callable[[], object], *, short: bool = False
) -> Ground:
    """Made drives over all of central Beijing.

    Raises
    ------
    DataNotFoundError
        If the map is not on this machine.
    """
    roads = load_road_map(BEIJING_FILE, cache=cache / "maps", data_paths=data_paths())
    drives = made_drives(roads, count, seed, SHORT_M if short else LONG_M, done)
    return Ground("Beijing", roads, tuple(drives), seed)


def berlin(
    count: int, seed: int, cache: Path, done: Callable[[], object], *, short: bool = False
) -> Ground:
    """SUMO's trips over its Berlin network, which is so small that all of them are short."""
    del short
    roads = load_road_map(BERLIN, cache=cache / "maps")
    drives = sumo_drives(roads, berlin_net(), count, seed, cache=cache / "traces", done=done)
    return Ground("Berlin", roads, tuple(drives), seed)
