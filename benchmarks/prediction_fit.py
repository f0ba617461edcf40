"""Fit the defaults of the predictors, on training users and seeds only.

Prints what stands in ``testbed/prediction/fitted.py`` (calibration), the weights of turns and the
pace. What is learnt from is what `prediction_data` calls training: every second of GeoLife's
labelled users, and SUMO's trips in Berlin with the seeds that are not tested on.

    .venv/bin/python benchmarks/prediction_fit.py [--cache DIR]
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prediction import contenders, data_folder
from prediction_data import MODES, SUMO, Journey, World, geolife, sumo
from prediction_score import HORIZONS_S, score, total
from scipy.optimize import minimize
from scipy.special import expit
from tqdm import tqdm

from testbed.hosts.root import default_cache
from testbed.prediction.calibration import Calibration
from testbed.prediction.turns import TurnModel, TurnWeights
from testbed.roads.matching.model import RoadModel
from testbed.roads.matching.offline import match_trace

DRIVEN = {"car", "taxi", "bus", SUMO}
WEIGHTS = ("spread_deg", "sharp", "u_turn", "class_step", "same_street", "driven_before")
LOWEST, HIGHEST = 1e-3, 200.0
LEAST = 0.02


def routes(world: World, journeys: Sequence[Journey]) -> list[tuple[int, ...]]:
    """The driven roads of journeys, matched with hindsight."""
    model = RoadModel(world.roads)
    found: list[tuple[int, ...]] = []
    for journey in tqdm(journeys, desc="matching", unit="journey", leave=False):
        lat, lon = world.roads.projection.to_latlon(journey.x_m, journey.y_m)
        trace = pd.DataFrame({"time_s": journey.time_s, "lat_deg": lat, "lon_deg": lon})
        found += match_trace(world.roads, trace, model=model).routes
    return found


def fit_turns(driven: list[tuple[World, list[tuple[int, ...]]]]) -> tuple[TurnWeights, int]:
    """Weights under which the turns taken are likeliest; and how many turns there were.

    Each map counts as much as the other.
    """
    taken = []
    for world, ways in driven:
        roads = world.roads
        for way in ways:
            for at in range(1, len(way)):
                followers = roads.followers(way[at - 1])
                if len(followers) > 1 and way[at] in followers:
                    taken.append((world, way[max(0, at - 9) : at - 1], way[at - 1], way[at]))

    turns = Counter(id(world) for world, *_ in taken)
    share = [1 / turns[id(world)] for world, *_ in taken]

    def cost(logarithms: np.ndarray) -> float:
        values = np.clip(np.exp(logarithms), LOWEST, HIGHEST).tolist()
        weights = TurnWeights(**dict(zip(WEIGHTS, values, strict=True)))
        models = {id(world): TurnModel(world.roads, weights) for world, _ in driven}
        for world, _ in driven:
            models[id(world)].__dict__["headings"] = headings[id(world)]
        logs = [
            math.log(max(1e-9, dict(models[id(world)].turns(before, recent)).get(after, 0.0)))
            for world, recent, before, after in taken
        ]
        return -float(np.average(logs, weights=share))

    headings: dict[int, Any] = {id(w): TurnModel(w.roads).headings for w, _ in driven}
    start = TurnWeights()
    begin = np.log([getattr(start, name) for name in WEIGHTS])
    best = minimize(cost, begin, method="Nelder-Mead", options={"maxfev": 150, "xatol": 0.02})
    values = np.exp(best.x).round(3).tolist()
    return TurnWeights(**dict(zip(WEIGHTS, values, strict=True))), len(taken)


def fit_calibration(said: dict[float, list[list[tuple[float, bool]]]]) -> Calibration:
    """Shift, rise and fall of the log odds at each horizon, by likelihood.

    Each data set counts as much as the other, however long it is.
    """
    curves = []
    for horizon_s in HORIZONS_S:
        parts = said[horizon_s]
        rows = np.array([row for part in parts for row in part], dtype=float)
        weight = np.concatenate([np.full(len(part), 1 / max(1, len(part))) for part in parts])
        bounded = np.clip(rows[:, 0], 1e-6, 1 - 1e-6)
        terms = np.column_stack((np.ones(len(rows)), np.log(bounded), -np.log(1 - bounded)))
        bounds = [(None, None), (LEAST, None), (LEAST, None)]
        cost = _likelihood(terms, rows[:, 1], weight / weight.sum())
        best = minimize(cost, [0.0, 1.0, 1.0], jac=True, bounds=bounds, method="L-BFGS-B")
        curves.append([round(float(value), 2) for value in best.x])
    return Calibration(HORIZONS_S, *zip(*curves, strict=True))


def _likelihood(
    terms: np.ndarray, hit: np.ndarray, weight: np.ndarray
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Mean negative log likelihood of a logistic regression, and its gradient."""

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        line = terms @ values
        wrong = np.logaddexp(0, -line) * hit + np.logaddexp(0, line) * (1 - hit)
        return float(weight @ wrong), terms.T @ (weight * (expit(line) - hit))

    return cost


def main() -> int:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--only", nargs="*", help="names of predictors; all unless told")
    parser.add_argument("--turns", action="store_true", help="fit the weights of turns as well")
    options = parser.parse_args()
    parts = [geolife(data_folder(), options.cache, quick=False), sumo(options.cache, quick=False)]
    learnt = [(world, [j for j in journeys if j.training]) for world, journeys in parts]
    if options.turns:
        driven = [
            (world, routes(world, [j for j in journeys if j.mode in DRIVEN]))
            for world, journeys in learnt
        ]
        weights, count = fit_turns(driven)
        print(f"{weights}  # {count:,} turns")
    said: dict[str, dict[float, list[list[tuple[float, bool]]]]] = {}
    for world, journeys in learnt:
        asked = {
            name: replace(predictor, calibration=Calibration())  # type: ignore[type-var]
            for name, predictor in contenders(world, journeys).items()
            if hasattr(predictor, "calibration") and name in (options.only or [name])
        }
        for name, scores in score(asked, world, journeys, "training journeys").items():
            for horizon_s, result in total(scores, (*MODES, SUMO)).items():
                said.setdefault(name, {}).setdefault(horizon_s, []).append(result.named)
    for name, rows in said.items():
        print(f"{name}: {fit_calibration(rows)}")
    return 0


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
