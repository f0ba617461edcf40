import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ResultsError
from testbed.mobility.rates import WifiRates
from testbed.planning.delay import (
    Delay,
    delay_change_s,
    estimate_delay,
    processing_s,
    queueing_s,
    transmission_s,
)
from testbed.planning.fleet import Placement
from testbed.planning.windows import delay_windows, estimate_record
from testbed.records import DelayEstimateRecord

amounts = st.floats(1e-3, 1e3)


def test_processing_goes_by_the_ratio_of_speeds():
    # 0.3 s at 1000 events/s: 0.3 * 1000 / 1500
    assert processing_s(0.3, 1000.0, 1500.0) == pytest.approx(0.2)


def test_transmission_goes_by_the_narrower_link():
    # 8 * 125e3 = 1e6 bits: 0.1 s at 10 Mbit/s, however wide the other one is
    assert transmission_s(125e3, 10e6, 100e6) == pytest.approx(0.1)
    assert transmission_s(125e3, 100e6, 10e6) == pytest.approx(0.1)


def test_without_a_link_a_task_never_arrives():
    assert transmission_s(125e3, 0.0, 100e6) == math.inf
    assert transmission_s(0.0, 0.0, 100e6) == math.inf


def test_the_radio_s_rate_is_that_of_its_strength():
    # 802.11ac, 20 MHz, one stream, long guard, at -70 dBm: 16-QAM 3/4, 52 * 4 * 3/4 bits in 4 us
    # are 39 Mbit/s; 65 % of it 25.35 Mbit/s; 1e6 bits take 39.45 ms
    rate_bps = float(WifiRates().throughput_bps(-70.0))
    assert transmission_s(125e3, rate_bps, 100e6) == pytest.approx(1 / 25.35)


def test_the_whole_delay_is_the_sum_of_four():
    found = estimate_delay(
        measured_processing_s=0.3,
        speed=1000.0,
        other_speed=1500.0,
        task_bytes=125e3,
        radio_rate_bps=10e6,
        wired_rate_bps=100e6,
        rtt_s=0.100,
        queueing_s=0.02,
    )
    assert found == Delay(pytest.approx(0.2), pytest.approx(0.1), 0.100, 0.02)
    assert found.network_s == pytest.approx(0.22)
    assert found.total_s == pytest.approx(0.42)


def test_equation_4_by_hand():
    # Ngo, eq. 4: 0.3 (1 - 1000/1500) + 1e6 (1/10e6 - 1/50e6) + (0.300 - 0.100)
    #           = 0.1 + 0.08 + 0.2
    common = {"measured_processing_s": 0.3, "speed": 1000.0, "task_bytes": 125e3}
    here = estimate_delay(
        **common, other_speed=1000.0, radio_rate_bps=10e6, wired_rate_bps=75e6, rtt_s=0.300
    )
    there = estimate_delay(
        **common, other_speed=1500.0, radio_rate_bps=50e6, wired_rate_bps=100e6, rtt_s=0.100
    )
    assert delay_change_s(here, there) == pytest.approx(0.38)
    assert delay_change_s(there, here) == pytest.approx(-0.38)


@given(d=amounts, c=amounts, other_c=amounts, s=amounts, b=amounts, other_b=amounts, q=amounts)
def test_equation_4_is_the_difference_of_two_delays(d, c, other_c, s, b, other_b, q):  # noqa: PLR0917
    common = {"measured_processing_s": d, "speed": c, "task_bytes": s, "queueing_s": q}
    here = estimate_delay(
        **common, other_speed=c, radio_rate_bps=b, wired_rate_bps=math.inf, rtt_s=0.3
    )
    there = estimate_delay(
        **common, other_speed=other_c, radio_rate_bps=math.inf, wired_rate_bps=other_b, rtt_s=0.1
    )
    formula = d * (1 - c / other_c) + 8 * s * (1 / b - 1 / other_b) + 0.2
    assert delay_change_s(here, there) == pytest.approx(formula, rel=1e-6, abs=1e-6)


def test_queueing_is_what_the_others_do_not_explain():
    explained = Delay(0.2, 0.1, 0.1, queueing_s=9.0)
    assert queueing_s(0.45, explained) == pytest.approx(0.05)
    assert queueing_s(0.35, explained) == 0.0


def requests(*rows):
    columns = ["time_s", "user", "service", "delay_s", "processing_s", "correct"]
    return pd.DataFrame(rows, columns=columns)


def estimates(*rows):
    columns = ["time_s", "user", "processing_s", "transmission_s", "propagation_s", "queueing_s"]
    return pd.DataFrame(rows, columns=columns)


def test_each_window_stands_beside_its_estimate():
    measured = requests(
        (0.5, "u", "yolo", 0.40, 0.20, True),
        (1.5, "u", "yolo", 0.50, 0.30, True),
        (2.5, "u", "yolo", 0.30, 0.10, True),
        (2.6, "u", "yolo", math.nan, math.nan, False),
    )
    estimated = estimates((0.0, "u", 0.2, 0.1, 0.05, 0.05), (1.0, "u", 0.2, 0.2, 0.05, 0.05))
    first, second = delay_windows(measured, estimated, 2.0)
    # First: (0.40 + 0.50) / 2 measured; 0.4 and 0.5 estimated
    assert (first.from_s, first.to_s) == (0.0, 2.0)
    assert (first.requests, first.answered, first.estimated) == (2, 2, 2)
    assert first.measured_s == pytest.approx(0.45)
    assert first.measured_processing_s == pytest.approx(0.25)
    assert first.measured_network_s == pytest.approx(0.20)
    assert first.estimated_s == pytest.approx(0.45)
    assert first.estimated_processing_s == pytest.approx(0.2)
    assert first.estimated_network_s == pytest.approx(0.25)
    assert first.error_s == pytest.approx(0.0)
    # Second: 0.30 measured, 0.5 estimated: 0.2 s too long, two thirds
    assert (second.requests, second.answered) == (2, 1)
    assert second.error_s == pytest.approx(0.2)
    assert second.error_share == pytest.approx(2 / 3)


def test_estimates_are_joined_as_they_were_recorded():
    rows = [
        estimate_record(at_s, Placement("u", "bs-b", "b"), Delay(0.2, at_s / 10, 0.1, 0.05))
        for at_s in (0.0, 1.0)
    ]
    assert rows[1] == DelayEstimateRecord(1.0, "u", "bs-b", "b", 0.2, 0.1, 0.1, 0.05)
    measured = requests((1.5, "u", "yolo", 0.5, 0.2, True))
    (found,) = delay_windows(measured, pd.DataFrame([row.__dict__ for row in rows]), 2.0)
    assert found.estimated_s == pytest.approx(0.45)  # 0.2 + 0.1 + 0.1 + 0.05
    assert found.error_s == pytest.approx(-0.05)


def test_a_window_without_estimate_or_answer_says_nothing_of_its_error():
    measured = requests(
        (0.5, "u", "yolo", 0.4, 0.2, True), (3.0, "u", "yolo", math.nan, math.nan, False)
    )
    early, silent = delay_windows(measured, estimates((2.0, "u", 0.2, 0.1, 0.0, 0.0)), 2.0)
    assert (early.estimated, early.measured_s) == (0, pytest.approx(0.4))
    assert math.isnan(early.error_s)
    assert (silent.answered, silent.estimated) == (0, 0)
    assert math.isnan(silent.measured_s)


def test_a_request_before_the_first_estimate_is_not_compared():
    measured = requests((0.5, "u", "y", 9.0, 0.2, True), (1.5, "u", "y", 0.4, 0.2, True))
    (found,) = delay_windows(measured, estimates((1.0, "u", 0.2, 0.1, 0.1, 0.0)), 5.0)
    assert (found.answered, found.estimated) == (2, 1)
    assert found.measured_s == pytest.approx(0.4)
    assert found.error_s == pytest.approx(0.0)


def test_one_user_s_estimate_is_not_another_s():
    measured = requests((0.5, "u", "y", 0.4, 0.2, True), (0.5, "v", "y", 0.4, 0.2, True))
    found = delay_windows(measured, estimates((0.0, "v", 0.2, 0.1, 0.1, 0.0)), 5.0)
    assert {record.user: record.estimated for record in found} == {"u": 0, "v": 1}


def test_no_requests_no_windows():
    assert delay_windows(requests(), estimates(), 1.0) == []


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(ResultsError, match="no column queueing_s"):
        delay_windows(requests(), estimates().drop(columns="queueing_s"), 1.0)
    with pytest.raises(ResultsError, match="positive"):
        delay_windows(requests(), estimates(), 0.0)
