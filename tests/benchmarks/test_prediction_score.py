import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from prediction import REACH_S, json_rows, table, visits
from prediction_data import Journey, World, is_training_user
from prediction_score import HORIZONS_S, Score, score, total

from testbed.prediction.outlook import Foreseeing, Outlook, nothing_ahead

NOT_TRAINING = False


@pytest.fixture(scope="module")
def world(berlin):
    return World.on(berlin)


@pytest.fixture(scope="module")
def journey():
    """Five minutes in cells 0, 1 and 2; handoffs after 103 and 203 s."""
    time_s = np.arange(300.0)
    zeros = np.zeros(300)
    serving = np.repeat([0, 1, 2], [103, 100, 97])
    return Journey("u", "car", NOT_TRAINING, time_s, zeros, zeros, zeros, zeros.astype(int), zeros,
                   zeros + 1, serving)  # fmt: skip


class Foretold(Foreseeing):
    """Knows the journey; what it says is true with a certain probability."""

    def __init__(self, world, *, probability=1.0, wrong=False):
        self.horizon_s, self.probability, self.wrong = REACH_S, probability, wrong
        self.names = world.cells.names

    def outlook(self, state):
        now_s = state.fixes[-1][0]
        ahead = [(site, at - now_s) for site, at in ((1, 103), (2, 203)) if at > now_s]
        if not ahead:
            return nothing_ahead(state.serving_site)
        sites, times = zip(*ahead, strict=True)
        return Outlook(
            state.serving_site, self.names, np.array([self.probability]),
            np.array([sites]) + 2 * self.wrong, np.array([times], dtype=float),
        )  # fmt: skip


def scored(world, journey, *predictors):
    named = {f"p{i}": p for i, p in enumerate(predictors)}
    return score(named, world, [journey], "test")


def test_who_knows_the_future_is_right_every_time(world, journey):
    found = scored(world, journey, Foretold(world))["p0"]
    for horizon_s, result in total(found, ["car"]).items():
        assert result.handoffs == 2
        assert (result.top1, result.top3, result.mean_brier) == (1.0, 1.0, 0.0)
        assert result.calibration_error == 0.0
        assert result.false_alarms == 0.0
        assert horizon_s in HORIZONS_S
    assert found["car", 60.0].lead_s == [53.0, 53.0]


def test_who_is_always_wrong_is_told_so(world, journey):
    result = scored(world, journey, Foretold(world, wrong=True))["p0"]["car", 30.0]
    assert (result.top1, result.top3, result.false_alarms, result.calibration_error) == (0, 0, 1, 1)
    assert result.mean_brier > 0.3


def test_doubt_where_there_is_none_is_a_calibration_error(world, journey):
    result = scored(world, journey, Foretold(world, probability=0.7))["p0"]["car", 60.0]
    assert result.calibration_error == pytest.approx(0.3)
    assert result.reliability() == [(pytest.approx(0.7), 1.0, len(result.named))]


def test_calibration_error_is_weighted_by_how_often_a_probability_is_said():
    said = [(0.9, True)] * 9 + [(0.9, False)] + [(0.2, True)] * 10
    result = Score(named=[*said, *[(0.01, False)] * 20])
    assert result.calibration_error_of_likely == pytest.approx(0.4)
    assert result.calibration_error == pytest.approx((20 * 0.4 + 20 * 0.01) / 40)


def test_goals_are_judged_against_the_best_other_predictor(world, journey):
    scores = scored(world, journey, Foretold(world), Foretold(world, wrong=True))
    named = {"map-based": scores["p0"], "rssi": scores["p1"]}
    rows = json_rows("made", named, ["car"], judged=True)
    judged = [row for row in rows if row["goal"] is not None]
    assert len(judged) == 2 * len(HORIZONS_S)
    assert all(row["met"] for row in judged)
    swapped = json_rows("made", {"map-based": scores["p1"], "rssi": scores["p0"]}, ["car"],
                        judged=True)  # fmt: skip
    assert not any(row["met"] for row in swapped if row["goal"] is not None)
    assert not any(row["goal"] for row in json_rows("made", named, ["car"], judged=False))
    text = table(named, ["car"])
    assert "100.0%" in text
    assert max(map(len, text.splitlines())) <= 100


def test_users_are_learnt_from_or_tested_on_and_visits_are_told_in_order(world, journey):
    users = [f"{n:03d}" for n in range(20)]
    learnt = [user for user in users if is_training_user(user, users)]
    assert len(learnt) == 10
    assert not math.isnan(sum(s for _, s in visits(world, journey)))
    assert visits(world, journey) == [
        (world.cells.names[0], 103.0), (world.cells.names[1], 100.0), (world.cells.names[2], 96.0)
    ]  # fmt: skip
