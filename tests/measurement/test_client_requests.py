from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import ask

from testbed.errors import ResultsError, WrongAnswerError
from testbed.measurement.requests import (
    COLUMNS,
    check_counts,
    gap_floor_s,
    gap_window,
    longest_gap,
    longest_gap_s,
    measure_client_gaps,
    read_requests,
    right_answers_s,
)
from testbed.records import NAN

answer_times = st.lists(st.floats(0, 100), max_size=60).map(sorted)
windows = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted)


def sound(count=40):
    return ask(np.random.default_rng(1), count, [])


def log(path, *lines):
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return path


def read(path, **more):
    return read_requests(path, user="alice", service="counter", started_epoch_s=1000.0, **more)


def test_a_clients_log_becomes_records_on_the_runs_clock(tmp_path):
    path = log(
        tmp_path / "alice.csv",
        "0,1000.5,1000.53,0.03,0.001,1,True,",
        "1,1000.51,,,,,False,timeout",
        "2,1012.0,1012.1,0.1,,3,1,",
    )
    jumps = [{"at_s": 5.0, "skipped_s": 60.0}]
    first, second, third = read(path, clock_jumps=jumps, clock_offset_s=0.25)
    assert first.time_s == pytest.approx(0.25)
    assert first.answered_s == pytest.approx(0.28)
    assert (first.count, first.correct, first.processing_s) == (1, True, 0.001)
    assert (second.count, second.correct, second.error) == (-1, False, "timeout")
    assert np.isnan([second.answered_s, second.delay_s, second.processing_s]).all()
    assert third.time_s == pytest.approx(71.75)
    assert third.answered_s - third.time_s == pytest.approx(third.delay_s)


@pytest.mark.parametrize(
    ("line", "match"),
    [("0,1000.5,1000.53,0.03,0.001,1,perhaps,", "line 2"), ("0,10", "line 2"), ("x", "line 2")],
)
def test_an_unreadable_line_is_named(tmp_path, line, match):
    with pytest.raises(ResultsError, match=match):
        read(log(tmp_path / "alice.csv", line))


def test_a_missing_log_or_other_columns_are_named(tmp_path):
    with pytest.raises(ResultsError, match="Did the client start"):
        read(tmp_path / "none.csv")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ResultsError, match=r"other\.csv: the columns are"):
        read(other)


def test_the_gap_of_a_frozen_service_is_found():
    answers_s = [0.0, 0.1, 0.2, 0.9, 1.0, 1.1]
    assert longest_gap(answers_s, 0.3, 0.5) == (0.2, 0.9)
    assert longest_gap_s(answers_s, 0.95, 1.05) == pytest.approx(0.1)


def test_a_service_that_never_came_back_is_gone_until_the_windows_end():
    assert longest_gap_s([0.0, 1.0], 0.5, 4.0) == 3.0
    assert longest_gap_s([], 1.0, 4.0) == 3.0
    assert longest_gap_s([9.0], 1.0, 4.0) == 8.0


@given(answers_s=answer_times, window=windows)
def test_a_gap_overlaps_its_window_and_holds_no_answer(answers_s, window):
    begin_s, end_s = longest_gap(answers_s, *window)
    assert begin_s <= end_s
    assert begin_s <= window[1]
    assert end_s >= window[0]
    assert not any(begin_s < answer < end_s for answer in answers_s)


@given(answers_s=answer_times, window=windows, more=st.floats(0, 100))
def test_one_more_answer_never_lengthens_a_gap_in_an_answered_run(answers_s, window, more):
    answered = sorted([0.0, *answers_s, 100.0])
    longer = longest_gap_s(answered, *window)
    assert longest_gap_s(sorted([*answered, more]), *window) <= longer


@given(answers_s=answer_times, window=windows, wider_s=st.floats(0, 50))
def test_a_wider_window_never_finds_a_shorter_gap(answers_s, window, wider_s):
    answered = sorted([-100.0, *answers_s, 200.0])
    start_s, end_s = window
    assert longest_gap_s(answered, start_s - wider_s, end_s + wider_s) >= longest_gap_s(
        answered, start_s, end_s
    )


def test_a_window_the_wrong_way_round_is_an_error():
    with pytest.raises(ValueError, match="swap its ends"):
        longest_gap_s([1.0], 2.0, 1.0)


def test_the_floor_is_the_interval_of_probing_and_migrations_do_not_count():
    answers_s = np.arange(0, 20, 0.01)
    answers_s = answers_s[(answers_s < 7) | (answers_s > 8)]
    assert gap_floor_s(answers_s, [(6.9, 8.1)], 0.5) == pytest.approx(0.01)
    assert longest_gap_s(answers_s, 6.9, 8.1) > 0.99


def test_without_room_for_a_control_window_there_is_no_floor():
    assert np.isnan(gap_floor_s([], [], 1.0))
    assert np.isnan(gap_floor_s([0.0, 1.0, 2.0], [(0.5, 1.5)], 1.0))
    with pytest.raises(ValueError, match="positive width"):
        gap_floor_s([1.0], [], 0)


@given(answers_s=answer_times, busy=st.lists(windows, max_size=4), width_s=st.floats(0.5, 20))
def test_a_floor_lies_within_the_gaps_that_there_are(answers_s, busy, width_s):
    floor_s = gap_floor_s(answers_s, busy, width_s)
    if not np.isnan(floor_s):
        assert 0 <= floor_s <= np.diff(answers_s).max()


def test_every_migration_of_a_run_has_a_gap_above_its_floor(run):
    migrations = run.migrations
    assert len(migrations) == 5
    assert (migrations["client_gap_s"] > 2 * migrations["client_gap_floor_s"]).all()
    assert migrations["client_gap_floor_s"].between(0.009, 0.02).all()
    assert (migrations["client_gap_s"] >= migrations["event_window_s"] - 0.01).all()


def test_a_migration_without_requests_or_end_has_no_gap(run):
    migration = run.records("migrations")[0]
    assert np.isnan(measure_client_gaps([migration], [])[0].client_gap_s)
    endless = replace(migration, answered_s=NAN, ended_s=NAN)
    assert np.isnan(measure_client_gaps([endless], run.requests)[0].client_gap_s)
    never_frozen = replace(migration, frozen_s=NAN, answered_s=NAN)
    assert gap_window(never_frozen) == (migration.requested_s, migration.ended_s + 0.5)


def test_sound_counts_pass_wherever_they_start(run):
    check_counts(run.requests)
    check_counts([])
    check_counts([replace(r, count=r.count + 100) for r in sound()])


@given(at=st.integers(1, 38), fault=st.sampled_from(["lost", "wrong", "double", "skip", "log"]))
def test_any_lost_repeated_skipped_or_wrong_answer_fails_the_run(at, fault):
    requests = sound()
    if fault == "lost":
        requests[at] = replace(requests[at], answered_s=NAN, delay_s=NAN, count=-1, correct=False)
    elif fault == "wrong":
        requests[at] = replace(requests[at], correct=False)
    elif fault == "double":
        requests[at] = replace(requests[at], count=requests[at].count - 1)
    elif fault == "skip":
        requests[at:] = [replace(r, count=r.count + 1) for r in requests[at:]]
    else:
        del requests[at]
    with pytest.raises(WrongAnswerError, match=r"alice → counter: .* cannot be trusted"):
        check_counts(requests)


def test_the_first_lost_request_is_named():
    requests = sound()
    requests[17] = replace(requests[17], answered_s=NAN, correct=False, count=-1, error="reset")
    with pytest.raises(WrongAnswerError, match=r"1 requests were lost: request 17 at 0\.170 s: re"):
        check_counts(requests)


def test_a_long_list_of_faults_is_cut():
    with pytest.raises(WrongAnswerError, match="and 35 more"):
        check_counts([replace(r, correct=False) for r in sound()])


def test_only_right_answers_end_a_gap():
    requests = sound(3)
    requests[1] = replace(requests[1], correct=False)
    assert right_answers_s(requests).size == 2
