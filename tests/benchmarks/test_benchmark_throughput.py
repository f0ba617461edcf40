import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from throughput import Throughput, count_answers, throughput_rows, throughput_text


def answers(*stretches):
    """Times of answers that came evenly: (start, end, per second) for each stretch."""
    return np.concatenate([np.arange(a, b, 1 / rate) for a, b, rate in stretches])


RUN = answers((0, 1, 1000), (1, 2, 900), (2.5, 3, 500), (3, 5, 1000))
"""Quiet to 1 s, sending ahead to 2 s, away to 2.5 s, filling in to 3 s, quiet to 5 s."""


def counted(content=RUN, **changes):
    told = {
        "before_s": 1.0,
        "over_s": 3.0,
        "ahead": (1.0, 2.0),
        "answered_s": 2.45,
        "fill": (2.4, 3.0),
        **changes,
    }
    return count_answers(content, **told)


def test_what_is_left_is_told_against_the_quiet_times():
    left = counted()
    assert left.quiet_per_s == pytest.approx(1000, rel=0.01)
    assert left.ahead == pytest.approx(0.9, rel=0.01)
    assert left.fill == pytest.approx(0.5, rel=0.02)


def test_the_gap_is_no_part_of_filling_in():
    late = answers((0, 1, 1000), (1, 2, 900), (2.8, 5, 1000))
    assert counted(late).fill == pytest.approx(1, rel=0.02)


def test_a_service_that_stops_while_it_is_filled_in_has_no_throughput_left():
    stuck = answers((0, 2, 1000), (2.5, 2.501, 1000), (3, 5, 1000))
    assert counted(stuck).fill < 0.05


def test_a_technique_without_a_stretch_says_nothing_of_it():
    left = counted(ahead=None, fill=None)
    assert math.isnan(left.ahead)
    assert math.isnan(left.fill)


def test_too_few_answers_say_nothing():
    slow = answers((0, 5, 5))
    assert math.isnan(counted(slow).fill)
    assert math.isnan(counted(np.empty(0)).quiet_per_s)


def test_rows_are_judged_for_one_technique_only():
    flows = [
        ("10 MB", "pre-copy", [Throughput(1000, 0.9, 0.7), Throughput(1000, 0.92, math.nan)]),
        ("10 MB", "delta", [Throughput(1000, 0.5, math.nan)]),
    ]
    rows = throughput_rows(flows, "pre-copy")
    assert [(row["value"], row["goal"], row["met"]) for row in rows] == [
        (91.0, 80.0, True),
        (70.0, 80.0, False),
        (50.0, None, None),
    ]
    assert "91% while sending ahead" in throughput_text(flows)
    assert "- while filling in" in throughput_text(flows)
