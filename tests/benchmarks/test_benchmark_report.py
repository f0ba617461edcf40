import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from report import BEST, WIDTH, Case, Measured, Result, floor_s, json_rows, peer_of, table

SLOW = Case("memory", "150 MB, 5 MB/s", "100 Mbit/s", "edge-2", 100e6, 0.002)
UNSHAPED = Case("faces", "face detection", "unshaped", "edge-3", None, 0.05)


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
        accounted_s=gap_s - 0.01,
    )


def results(ours_s=0.3, podman_s=15.0, case=SLOW):
    return [
        Result(case, "podman 5.4.2", 0.02, [moved(podman_s), moved(podman_s + 1), moved(0.1)]),
        Result(case, BEST, 0.02, [moved(ours_s), moved(ours_s + 5), moved(ours_s - 0.1)]),
    ]


def test_the_floor_is_sending_and_a_round_trip():
    assert floor_s(moved(0.3), 100e6, 0.02) == pytest.approx(0.04 + 0.02)
    assert floor_s(moved(0.3), None, 0.001) == pytest.approx(0.001)


def test_medians_leave_out_what_is_not_told_and_keep_outliers():
    _, ours = results()
    assert ours.gap_s == pytest.approx(0.3)
    assert math.isnan(Result(SLOW, "cold", 0.02, []).gap_s)


def test_the_peer_is_podman_in_the_same_case():
    found = [*results(), *results(case=UNSHAPED)]
    assert peer_of(found[1], found) is found[0]
    assert peer_of(found[3], found) is found[2]


@pytest.mark.parametrize(
    ("gaps_s", "podman_s", "met"),
    [
        ([0.05] * 20, 15.0, [True, True, True, True]),
        ([0.05] * 20, 5.0, [True, True, False, True]),
        ([0.05] * 18 + [0.2, 0.2], 15.0, [True, False, True, True]),
        ([0.07] * 20, 18.0, [False, True, True, True]),
    ],
)
def test_median_95th_percentile_and_ratio_are_judged(gaps_s, podman_s, met):
    found = [
        Result(SLOW, "podman 5.4.2", 0.02, [moved(podman_s)]),
        Result(SLOW, BEST, 0.02, [moved(gap_s) for gap_s in gaps_s]),
    ]
    judged = [row for row in json_rows(found) if row["goal"] is not None]
    assert [row["met"] for row in judged] == met
    assert all(
        set(row) == {"name", "value", "unit", "peer", "ratio", "goal", "met"} for row in judged
    )


def test_phases_that_do_not_add_up_to_the_downtime_miss_a_goal():
    move = replace(moved(0.05), accounted_s=0.02)
    (row,) = [r for r in json_rows([Result(SLOW, BEST, 0.02, [move])]) if "explain" in r["name"]]
    assert row["met"] is False


def test_rows_without_a_goal_are_not_judged():
    rows = json_rows(results(case=UNSHAPED))
    assert rows
    assert all(row["goal"] is None for row in rows if "explain" not in row["name"])


def test_the_table_fits_its_width_and_names_every_contender_once():
    text = table(results())
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("150 MB, 5 MB/s") == 1
    assert "podman" in text
    assert BEST in text
