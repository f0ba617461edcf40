import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.handoff.steps import BY_NAME, STEPS, next_step, order_problems

PAPER = (
    ("s1", "client", "cloud"),
    ("s2", "cloud", "source"),
    ("s3", "source", "target"),
    ("s4", "source", "source"),
    ("s5", "source", "target"),
    ("s6", "source", "target"),
    ("s7", "radio", "source"),
    ("s8", "source", "source"),
    ("s9", "source", "target"),
    ("s10", "target", "client"),
    ("s11", "source", "source"),
)
"""MSMF, figure 3: step, who does it, who gets it."""


def walk(signal_after, rounds_of_waiting=0):
    """Steps one after another; the signal arrives once so many of them are done."""
    seen, waited = [], 0
    while True:
        dirty = 0.0 if waited < rounds_of_waiting and seen and seen[-1] == "s5" else 10.0
        step = next_step(
            seen[-1] if seen else "",
            signalled=len(seen) >= signal_after,
            dirty_bytes=dirty,
            threshold_bytes=10.0,
        )
        if step is None and seen[-1] == "s11":
            return seen
        if step is None:
            waited += 1
            continue
        seen.append(step.name)


def test_steps_are_the_paper_s():
    assert tuple((step.name, step.by, step.to) for step in STEPS) == PAPER


def test_the_service_stands_still_from_the_stop_to_the_restore():
    assert [step.name for step in STEPS if not step.answers] == ["s8", "s9", "s10"]


def test_only_the_changed_memory_is_sent_more_than_once():
    assert [step.name for step in STEPS if step.repeats] == ["s6"]


def test_memory_is_sent_again_until_the_signal():
    seen = walk(signal_after=8)
    assert seen == ["s1", "s2", "s3", "s4", "s5", "s6", "s6", "s6", "s7", "s8", "s9", "s10", "s11"]


@pytest.mark.parametrize("signal_after", range(6))
def test_a_signal_before_the_checkpoint_arrived_waits_for_it(signal_after):
    assert walk(signal_after) == [step.name for step in STEPS if step.name != "s6"]


def test_below_the_threshold_a_round_waits():
    assert next_step("s5", signalled=False, dirty_bytes=9.0, threshold_bytes=10.0) is None
    assert next_step("s6", signalled=False, dirty_bytes=10.0, threshold_bytes=10.0) is BY_NAME["s6"]
    assert next_step("s6", signalled=True, dirty_bytes=9.0, threshold_bytes=10.0) is BY_NAME["s7"]


def test_nothing_follows_the_last_step():
    assert next_step("s11", signalled=True) is None


def test_a_step_that_is_not_the_paper_s_is_refused():
    with pytest.raises(ValueError, match="s12"):
        next_step("s12", signalled=False)


@given(signal_after=st.integers(0, 20), waiting=st.integers(0, 3))
def test_every_walk_is_in_order(signal_after, waiting):
    assert order_problems(walk(signal_after, waiting)) == []


@given(signal_after=st.integers(0, 12), data=st.data())
def test_a_step_left_out_is_noticed(signal_after, data):
    seen = walk(signal_after)
    missing = data.draw(st.sampled_from([n for n in seen[:-1] if n != "s6"]))
    assert order_problems([name for name in seen if name != missing])


@given(signal_after=st.integers(0, 12), data=st.data())
def test_two_steps_that_changed_places_are_noticed(signal_after, data):
    seen = walk(signal_after)
    at = data.draw(st.integers(0, len(seen) - 2))
    if seen[at] != seen[at + 1]:
        seen[at], seen[at + 1] = seen[at + 1], seen[at]
        assert order_problems(seen)


def test_a_step_of_another_protocol_is_noticed():
    assert order_problems(["s1", "s2", "forward"]) == ["'forward' is no step of MSMF"]
