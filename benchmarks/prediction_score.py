"""How good predictions are: what was named before each handoff, and what probabilities meant.

Pure: journeys and outlooks in, counts and figures out.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from prediction_data import Journey, World
from tqdm import tqdm

from testbed.prediction.outlook import STEPS, Foreseeing
from testbed.prediction.predictor import MovementState

HORIZONS_S = (5.0, 10.0, 20.0, 30.0, 60.0)
EVERY_S = 10.0
STALE_S = 4.0
ALARM = 0.5
BINS = 10
SHOWN = 0.05
DRAWS = 50


@dataclass
class Score:
    """One predictor on some journeys at one horizon.

    first, third, handoffs : handoffs whose target was named first, or among three; all of them.
    named : per state with a candidate: its probability, and whether it came true.
    brier : sums of squared errors over all sites and staying, per state.
    """

    first: int = 0
    third: int = 0
    handoffs: int = 0
    named: list[tuple[float, bool]] = field(default_factory=list)
    brier: list[float] = field(default_factory=list)
    lead_s: list[float] = field(default_factory=list)

    def add(self, other: "Score") -> None:
        """Count another's journeys too."""
        self.first += other.first
        self.third += other.third
        self.handoffs += other.handoffs
        self.named += other.named
        self.brier += other.brier
        self.lead_s += other.lead_s

    @property
    def top1(self) -> float:
        """Share of handoffs whose target was named first."""
        return self.first / self.handoffs if self.handoffs else math.nan

    @property
    def top3(self) -> float:
        """Share of handoffs whose target was among the first three."""
        return self.third / self.handoffs if self.handoffs else math.nan

    @property
    def mean_brier(self) -> float:
        """Mean Brier score over all states: 0 is perfect, 2 is worst."""
        return float(np.mean(self.brier)) if self.brier else math.nan

    @property
    def false_alarms(self) -> float:
        """Share of the sites named with at least `ALARM` that were not entered in time."""
        loud = [hit for probability, hit in self.named if probability >= ALARM]
        return 1 - sum(loud) / len(loud) if loud else math.nan

    @property
    def lead(self) -> float:
        """Median seconds for which a handoff's target was named first without a break."""
        return float(np.median(self.lead_s)) if self.lead_s else math.nan

    def reliability(self, least: float = 0.0) -> list[tuple[float, float, int]]:
        """Mean probability, share that came true and number of states, in equal-width bins."""
        rows = np.array([(p, hit) for p, hit in self.named if p >= least])
        if not len(rows):
            return []
        which = np.minimum((rows[:, 0] * BINS).astype(int), BINS - 1)
        return [
            (float(rows[which == b, 0].mean()), float(rows[which == b, 1].mean()),
             int((which == b).sum()))
            for b in range(BINS)
            if (which == b).any()
        ]  # fmt: skip

    @property
    def calibration_floor(self) -> float:
        """Mean calibration error of as many exact probabilities: what chance alone makes of it."""
        said = np.array([p for p, _ in self.named])
        if not len(said):
            return math.nan
        which = np.minimum((said * BINS).astype(int), BINS - 1)
        came = np.random.default_rng(1).random((DRAWS, len(said))) < said
        gaps = np.array([(came - said)[:, which == b].sum(axis=1) for b in range(BINS)])
        return float(np.abs(gaps).sum(axis=0).mean() / len(said))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the best candidate, over all states that have one."""
        return _expected_error(self.reliability())

    @property
    def calibration_error_of_likely(self) -> float:
        """The same over states whose best candidate has at least `SHOWN`: without the easy ones."""
        return _expected_error(self.reliability(SHOWN))


def _expected_error(rows: list[tuple[float, float, int]]) -> float:
    total = sum(n for _, _, n in rows)
    return sum(n * abs(p - true) for p, true, n in rows) / total if total else math.nan


Scores = dict[tuple[str, float], Score]
"""By mode and horizon."""


def score(
    predictors: dict[str, Foreseeing], world: World, journeys: Sequence[Journey], what: str
) -> dict[str, Scores]:
    """Ask all predictors along all journeys."""
    found: dict[str, Scores] = {name: defaultdict(Score) for name in predictors}
    for journey in tqdm(journeys, desc=f"predicting {what}", unit="journey", leave=False):
        states = journey.states(world)
        for name, predictor in predictors.items():
            for horizon_s in HORIZONS_S:
                asked = _handoffs(predictor, world, journey, states, horizon_s)
                found[name][journey.mode, horizon_s].add(asked)
            _states(predictor, world, journey, states, found[name])
    return found


def _handoffs(
    predictor: Foreseeing,
    world: World,
    journey: Journey,
    states: list[MovementState],
    horizon_s: float,
) -> Score:
    """Whether each handoff's target was named so long before, as the site so many steps ahead."""
    result = Score()
    for handoff in journey.handoffs.tolist():
        ask_s = journey.time_s[handoff] - horizon_s
        at = int(np.searchsorted(journey.time_s, ask_s, side="right")) - 1
        if at < 0 or ask_s - journey.time_s[at] > STALE_S:
            continue
        step = int(((journey.handoffs > at) & (journey.handoffs <= handoff)).sum())
        if step > STEPS:
            continue
        target = world.cells.names[int(journey.serving[handoff])]
        named = [c.site for c in predictor.outlook(states[at]).candidates(2 * horizon_s, step)]
        result.handoffs += 1
        result.first += named[:1] == [target]
        result.third += target in named[:3]
    return result


def _states(
    predictor: Foreseeing,
    world: World,
    journey: Journey,
    states: list[MovementState],
    found: Scores,
) -> None:
    """What the probabilities of the next site meant, and since when it was named."""
    longest_s = HORIZONS_S[-1]
    asked_s = -math.inf
    since_s = math.nan
    naming = ""
    handoffs = iter([*journey.handoffs.tolist(), -1])
    coming = next(handoffs)
    for at, state in enumerate(states):
        now_s = float(journey.time_s[at])
        while 0 <= coming <= at:
            target = world.cells.names[int(journey.serving[coming])]
            lead_s = float(journey.time_s[coming]) - since_s if naming == target else 0.0
            found[journey.mode, longest_s].lead_s.append(lead_s)
            naming, since_s = "", math.nan
            coming = next(handoffs)
        if now_s - asked_s < EVERY_S:
            continue
        asked_s = now_s
        outlook = predictor.outlook(state)
        left_s = float(journey.time_s[-1]) - now_s
        for horizon_s in HORIZONS_S:
            candidates = outlook.candidates(horizon_s)
            if horizon_s == longest_s:
                best = (
                    candidates[0].site if candidates and candidates[0].probability >= ALARM else ""
                )
                if best != naming:
                    naming, since_s = best, now_s
            if left_s < horizon_s:
                continue
            in_time = coming >= 0 and journey.time_s[coming] - now_s <= horizon_s
            truth = world.cells.names[int(journey.serving[coming])] if in_time else ""
            said = {c.site: c.probability for c in candidates}
            said[""] = 1 - sum(said.values())
            error = sum((p - (site == truth)) ** 2 for site, p in said.items())
            result = found[journey.mode, horizon_s]
            result.brier.append(error + (truth not in said))
            if candidates:
                result.named.append((candidates[0].probability, candidates[0].site == truth))


def total(scores: Scores, modes: Sequence[str]) -> dict[float, Score]:
    """All modes together, by horizon."""
    found = {}
    for horizon_s in HORIZONS_S:
        found[horizon_s] = Score()
        for mode in modes:
            if (mode, horizon_s) in scores:
                found[horizon_s].add(scores[mode, horizon_s])
    return found
