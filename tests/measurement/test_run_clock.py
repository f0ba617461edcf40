import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from testbed.measurement.clock import RunClock, estimate_offset, run_time_s

seconds = st.floats(0, 1e4)


class Hands:
    """A wall and a monotonic clock that only go when they are told to."""

    def __init__(self):
        self.s = 50.0
        self.stepped_s = 0.0

    def clock(self):
        return RunClock(
            wall=lambda: 1e9 + self.s + self.stepped_s, monotonic=lambda: self.s, sleep=self.sleep
        )

    def sleep(self, duration_s):
        assert duration_s > 0
        self.s += duration_s


def test_a_clock_starts_at_zero_and_goes_with_the_wall():
    hands = Hands()
    clock = hands.clock()
    assert clock.now_s() == 0
    hands.s += 2.5
    assert clock.now_s() == 2.5
    assert clock.epoch_s() == clock.started_epoch_s + 2.5


def test_the_real_clock_sleeps_until_the_time_asked_for():
    clock = RunClock()
    late_s = clock.sleep_until(0.02)
    assert clock.now_s() >= 0.02
    assert 0 <= late_s < 1
    assert clock.sleep_until(0.0) > 0
    assert abs(clock.wall_step_s()) < 1


def test_sleeping_past_a_jump_ends_at_the_time_asked_for():
    hands = Hands()
    clock = hands.clock()
    waited = itertools.count()
    plain_sleep = hands.sleep

    def sleep(duration_s):
        if next(waited) == 2:
            clock.jump(100)
        plain_sleep(duration_s)

    clock._sleep = sleep
    clock.sleep_until(30)
    assert hands.s - 50 < 2
    assert clock.now_s() >= 30


def test_a_jump_backward_is_refused():
    with pytest.raises(ValueError, match="only be skipped forward"):
        RunClock().jump(0)


def test_a_step_of_the_wall_clock_is_noticed_and_does_not_shift_the_run():
    hands = Hands()
    clock = hands.clock()
    hands.s, hands.stepped_s = hands.s + 1, -3.0
    assert clock.now_s() == 1
    assert clock.wall_step_s() == pytest.approx(-3)


@given(steps=st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 1000)), max_size=5))
def test_epoch_times_become_times_of_the_run_again_whatever_was_skipped(steps):
    hands = Hands()
    clock = hands.clock()
    for passed_s, skipped_s in steps:
        hands.s += passed_s
        assert clock.from_epoch_s(clock.epoch_s()) == pytest.approx(clock.now_s(), abs=1e-4)
        clock.jump(skipped_s)
        hands.s += 0.001
        now_s = clock.now_s()
        epoch_s = 1e9 + hands.s
        assert clock.epoch_s() == pytest.approx(epoch_s, abs=1e-4)
        assert run_time_s(epoch_s, 1e9 + 50, clock.clock_jumps()) == pytest.approx(now_s, abs=1e-4)
    assert [jump.skipped_s for jump in clock.jumps] == [skipped_s for _, skipped_s in steps]


@given(
    offset_s=st.floats(-100, 100),
    trips=st.lists(st.tuples(seconds, st.floats(0, 0.1), st.floats(0, 0.1)), min_size=1),
)
def test_an_offset_is_never_further_off_than_it_says(offset_s, trips):
    samples = [(sent, sent + out + offset_s, sent + out + back) for sent, out, back in trips]
    estimate = estimate_offset(samples)
    assert abs(estimate.offset_s - offset_s) <= estimate.uncertainty_s + 1e-9
    assert estimate.uncertainty_s <= min(out + back for _, out, back in trips) / 2 + 1e-9


def test_no_sample_or_an_answer_before_its_question_is_an_error():
    with pytest.raises(ValueError, match="at least once"):
        estimate_offset([])
    with pytest.raises(ValueError, match="the same clock"):
        estimate_offset([(2.0, 5.0, 1.0)])


@given(first=seconds, second=seconds)
def test_time_of_the_run_never_goes_backward(first, second):
    assume(first <= second)
    jumps = [{"at_s": 5.0, "skipped_s": 60.0}, {"at_s": 100.0, "skipped_s": 7.0}]
    assert run_time_s(first, 0, jumps) <= run_time_s(second, 0, jumps)
