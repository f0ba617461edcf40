import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from report import WIDTH, Case, Measured, Result, floor_s, json_rows, peer_of, table

SLOW = Case("memory", "150 MB process", "100 Mbit/s", "edge-2", 100e6, 0.005)
UNSHAPED = Case("memory", "150 MB process", "unshaped", "edge-3", None, 0.005)


def moved(gap_s, frozen_bytes=500_000, restore_s=0.1):
    return Measured(
        gap_s=gap_s,
        control_s=0.007,
        ahead_gap_s=0.01,
        freeze_s=0.08,
        event_window_s=gap_s - 0.01,
        frozen_bytes=frozen_bytes,
        ahead_bytes=150e6,
        restore_s=restore_s,
        phases={"restore": restore_s},
    )


def results(delta_s=0.3, podman_s=15.0, case=SLOW):
    return [
        Result(case, "podman 5.4.2", 0.02, [moved(podman_s), moved(podman_s + 1), moved(0.1)]),
        Result(case, "delta", 0.02, [moved(delta_s), moved(delta_s + 5), moved(delta_s - 0.1)]),
    ]


def test_the_floor_is_sending_a_round_trip_the_freeze_and_the_restore():
    assert floor_s(moved(0.3), 100e6, 0.02) == pytest.approx(0.04 + 0.02 + 0.08 + 0.1)
    assert floor_s(moved(0.3), None, 0.001) == pytest.approx(0.001 + 0.08 + 0.1)


def test_medians_leave_out_what_is_not_told_and_keep_outliers():
    _, delta = results()
    assert delta.gap_s == pytest.approx(0.3)
    assert math.isnan(Result(SLOW, "cold", 0.02, []).gap_s)


def test_the_peer_is_podman_in_the_same_case():
    found = [*results(), *results(case=UNSHAPED)]
    assert peer_of(found[1], found) is found[0]
    assert peer_of(found[3], found) is found[2]


@pytest.mark.parametrize(
    ("delta_s", "podman_s", "met"),
    [(0.3, 15.0, [True, True]), (0.3, 2.9, [False, True]), (1.2, 15.0, [True, False])],
)
def test_both_goals_are_judged_for_the_150_mb_process_on_the_slow_link(delta_s, podman_s, met):
    judged = [row for row in json_rows(results(delta_s, podman_s)) if row["goal"] is not None]
    assert [row["met"] for row in judged] == met
    assert all(
        set(row) == {"name", "value", "unit", "peer", "ratio", "goal", "met"} for row in judged
    )


def test_rows_without_a_goal_are_not_judged():
    rows = json_rows(results(case=UNSHAPED))
    assert rows
    assert all(row["goal"] is None and row["met"] is None for row in rows)


def test_the_table_fits_its_width_and_names_every_contender_once():
    text = table(results())
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("150 MB process") == 1
    assert "podman" in text
    assert "delta" in text
