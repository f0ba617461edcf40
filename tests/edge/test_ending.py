import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.edge import ending as ending_module
from testbed.edge.ending import BeingMovedError, Ending, only_move
from testbed.edge.spec import Spec
from testbed.edge.states import TABLE, TOLD, TRUST_S, Progress, State

SPEC = Spec("counter", "10.88.0.1", 1, ("sha256:a",), ("python3",))
under_way = st.sampled_from([state for state in State if TABLE[state].then])
said = st.sampled_from([True, False, None, "told"])
"""It has the service, it has not, it cannot be asked, it was told to keep it and then was gone."""


class Clock:
    """Passes only when somebody rests."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s

    def sleep(self, rest_s):
        assert rest_s >= 0
        self.now_s += rest_s


class Acted(Ending):
    """Ends a move of nothing; the target says what it was told to."""

    def script(self, answers, clock):
        object.__setattr__(self, "left", list(answers))
        object.__setattr__(self, "clock", clock)
        return self

    def ask(self, progress):
        self.clock.now_s += 3.0
        answer = self.left.pop(0) if self.left else False
        if answer in {True, "told"} and progress.state is not State.UNDECIDED:
            progress.to(State.UNDECIDED)
        return None if answer == "told" else answer

    def stay(self, progress):
        progress.to(State.DROPPED)

    def leave(self, progress):
        progress.to(State.MOVED)


def acted(answers, clock):
    return Acted(SPEC, "10.78.0.12", ("true",), "wan-edge-2").script(answers, clock)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(ending_module.container, "STATE", tmp_path)


@given(under_way, st.lists(said, max_size=12))
def test_a_move_ends_where_the_target_says_or_where_it_was_never_told(state, answers):
    clock = Clock()
    hung_up_s = clock.now_s
    this, progress = acted(answers, clock), Progress(state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ending_module, "time", SimpleNamespace(
            monotonic=clock.monotonic, sleep=clock.sleep))  # fmt: skip
        this.settle_alone(progress, hung_up_s)
    asked = answers[: len(answers) - len(this.left)]
    if state not in TOLD:
        assert (progress.state, asked, clock.now_s) == (State.DROPPED, [], hung_up_s)
    elif progress.state is State.MOVED:
        assert asked[-1] is True
    elif "told" in asked or state is State.UNDECIDED:
        assert this.left == answers[len(asked) :]
        assert not asked or asked[-1] is False or not this.left
    else:
        refused = bool(asked) and asked[-1] is False
        assert refused or not this.left or clock.now_s - hung_up_s >= TRUST_S


def test_a_target_that_is_gone_for_good_lets_the_source_go_on_when_trust_is_over(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(ending_module, "time", clock)
    this, progress = acted([None] * 1000, clock), Progress(State.SENT)
    this.settle_alone(progress, clock.now_s)
    assert progress.state is State.DROPPED
    assert TRUST_S <= clock.now_s - 1000.0 < TABLE[State.SENT].limit_s


def test_what_the_target_may_have_been_told_waits_until_it_speaks(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(ending_module, "time", clock)
    this, progress = acted([None] * 1000 + [True], clock), Progress(State.UNDECIDED)
    this.settle_alone(progress, clock.now_s)
    assert progress.state is State.MOVED
    assert clock.now_s - 1000.0 > 3000


def test_the_deputy_gets_what_it_needs():
    ending = Ending(SPEC, "10.78.0.12", ("env", "python3"), "wan-edge-2")
    assert Ending.from_json(json.loads(json.dumps(ending.to_json()))) == ending


def test_a_service_is_moved_by_one_at_a_time():
    with only_move("counter"):
        with pytest.raises(BeingMovedError, match="'counter' is being moved already"):
            only_move("counter").__enter__()
        with only_move("other"):
            pass
    with only_move("counter"):
        pass


def test_what_is_over_stays_over():
    """Told twice, or told otherwise later: no harm."""
    ending = Ending(SPEC, "10.78.0.12", ("true",), "wan-edge-2")
    for state in (State.MOVED, State.DROPPED):
        progress = Progress(state)
        ending.stay(progress)
        ending.leave(progress)
        ending.settle_alone(progress, 0.0)
        assert progress.state is state


@pytest.mark.parametrize("state", [State.OPENED, State.AHEAD, State.FROZEN])
def test_a_service_that_stays_goes_on_whenever_it_was_stopped(state, monkeypatch):
    done = []
    holder = SimpleNamespace(thaw=lambda: done.append("thaw"))
    monkeypatch.setattr(ending_module.Holder, "load", lambda _: holder)
    monkeypatch.setattr(ending_module.netlink, "unsilence", lambda _: done.append("heard"))
    monkeypatch.setattr(ending_module.netlink, "replace_route", lambda *_: done.append("route"))
    progress = Progress(state)
    Ending(SPEC, "10.78.0.12", ("true",), "wan-edge-2").stay(progress)
    # A round stops it, too, for a moment: whoever watches may die in just that.
    assert done == (["heard", "route", "thaw"] if state is State.FROZEN else ["thaw"])
    assert progress.over
