import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.edge.channel import PATIENCE_S
from testbed.edge.states import (
    OVER,
    SOON_S,
    STILL,
    TABLE,
    TOLD,
    TRUST_S,
    IllegalTransitionError,
    Progress,
    State,
    as_table,
)

DOCS = Path(__file__).parents[2] / "docs" / "architecture.md"
states = st.sampled_from(list(State))


def test_the_documentation_shows_the_table_that_the_code_obeys():
    assert as_table() in DOCS.read_text(encoding="utf-8")


def test_every_state_has_a_row_and_can_be_reached():
    assert set(TABLE) == set(State)
    reached = {State.NEW}
    for _ in State:
        reached |= set(itertools.chain.from_iterable(TABLE[state].then for state in reached))
    assert reached == set(State)


@given(states, states)
def test_what_the_table_does_not_name_is_refused_and_changes_nothing(before, after):
    told = []
    progress = Progress(before, told.append)
    if after in TABLE[before].then:
        progress.to(after)
        assert (progress.state, told) == (after, [after])
    else:
        with pytest.raises(IllegalTransitionError, match=f"become {after} while it is {before}"):
            progress.to(after)
        assert (progress.state, told) == (before, [])


def test_from_every_state_that_is_not_over_the_service_can_go_on_at_the_source():
    for state in set(State) - OVER:
        assert State.DROPPED in TABLE[state].then
    assert all(TABLE[state].then == () for state in OVER)


def test_the_target_keeps_the_service_only_after_it_was_told_so_and_the_source_asked():
    before_moved = {state for state in State if State.MOVED in TABLE[state].then}
    assert before_moved == {State.UNDECIDED}
    assert TOLD < STILL
    assert {State.FROZEN} == STILL - TOLD


def test_a_move_that_is_over_never_begins_again():
    for state in OVER:
        progress = Progress(state)
        assert progress.over
        for other in State:
            with pytest.raises(IllegalTransitionError):
                progress.to(other)


def test_a_service_on_trust_has_stopped_before_the_source_goes_on():
    """It may be let in `SOON_S` after the last beat, and then waits `PATIENCE_S` for the next."""
    assert SOON_S + PATIENCE_S < TRUST_S


def test_only_what_nobody_but_the_target_knows_may_take_without_end():
    assert {state for state, row in TABLE.items() if row.limit_s == float("inf")} == {
        State.UNDECIDED
    }
    assert all(TABLE[state].limit_s > 0 for state in STILL)
    assert all(TABLE[state].limit_s == 0 for state in set(State) - STILL)
