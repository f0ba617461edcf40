import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from report import (
    BEST,
    PEERS,
    WIDTH,
    Case,
    Measured,
    Result,
    floor_s,
    is_peer,
    json_rows,
    of_case,
    phases_text,
    table,
)

SLOW = Case("memory", "150 MB, 5 MB/s", "100 Mbit/s", "edge-2", 100e6, 0.002)
QUICK = Case("memory", "150 MB, 5 MB/s", "unshaped", "edge-3", None, 0.002)
SMALL = Case("small", "10 MB", "unshaped", "edge-3", None, 0.002)
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


def test_another_contender_is_found_in_the_same_case_if_it_moved_anything():
    found = [*results(), *results(case=UNSHAPED)]
    assert of_case(found[1], found, "podman") is found[0]
    assert of_case(found[3], found, "podman") is found[2]
    assert of_case(found[3], found, "docker") is None
    found[2].moves.clear()
    assert of_case(found[3], found, "podman") is None


def test_every_peer_is_known_and_no_technique_of_ours_is_taken_for_one():
    assert all(is_peer(Result(SLOW, f"{peer} 1.2.3", 0.02)) for peer in PEERS)
    assert not any(is_peer(Result(SLOW, how, 0.02)) for how in (BEST, "cold", "post-copy"))


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
    times, *ours = judged
    assert [row["met"] for row in [*ours[:2], times, *ours[2:]]] == met
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


@pytest.mark.parametrize(("docker_s", "met"), [(5.5, True), (4.5, False)])
def test_each_peer_is_held_against_its_own_goal(docker_s, met):
    found = [
        Result(QUICK, "podman 5.4.2", 0.001, [moved(2.1)]),
        Result(QUICK, "docker 26.1.5", 0.001, [moved(docker_s)]),
        Result(QUICK, "runc-lazy 1.3.6", 0.001, [moved(0.4)]),
        Result(QUICK, BEST, 0.001, [moved(0.025)]),
    ]
    rows = {row["name"].split()[0]: row for row in json_rows(found) if row["unit"] == "times"}
    assert (rows["podman"]["goal"], rows["podman"]["met"]) == (80, True)
    assert (rows["docker"]["goal"], rows["docker"]["met"]) == (200, met)
    assert (rows["runc-lazy"]["goal"], rows["runc-lazy"]["met"]) == (None, None)
    assert rows["runc-lazy"]["value"] == pytest.approx(16)


def test_a_peer_that_failed_is_told_and_is_no_ratio():
    found = [
        Result(QUICK, "docker 26.1.5", 0.001, failures=["criu failed: type RESTORE"] * 2),
        Result(QUICK, BEST, 0.001, [moved(0.025)]),
    ]
    assert "failed" in table(found)
    assert phases_text(found).count("criu failed: type RESTORE") == 1
    (row,) = [r for r in json_rows(found) if r["name"].startswith("docker")]
    assert (row["name"].endswith("failed 2 times"), row["value"]) == (True, None)
    assert not [r for r in json_rows(found) if r["unit"] == "times"]


@pytest.mark.parametrize(("frozen_bytes", "met"), [(47_000, True), (48_000, False)])
def test_bytes_while_frozen_are_held_against_the_paper(frozen_bytes, met):
    found = [Result(SMALL, BEST, 0.001, [moved(0.015, frozen_bytes=frozen_bytes)])]
    (row,) = [r for r in json_rows(found) if "bytes while frozen" in r["name"] and r["goal"]]
    assert row["met"] is met


def test_the_table_tells_how_many_times_longer_than_the_best():
    (peer, best) = table(results(ours_s=0.3, podman_s=15.0)).splitlines()[-2:]
    assert peer.split()[-1] == "50.0"
    assert best.split()[-1] == "-"
